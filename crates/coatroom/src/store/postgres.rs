//! Sessions in PostgreSQL, for any number of instances.
//!
//! It connects when it is first asked, and by itself again after a failure: a statement that found
//! its connection dead is sent again over another, within the time that one operation has in all.
//! The tables are made and migrated by whoever comes first. No password and no value is ever part of
//! an error. What the statements are is in [`statements`](super::statements).

use std::io;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coatroom_core::config::{StoreKind, StoreSettings};
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow, PgSslMode, Postgres};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Executor as _, Row as _};
use sqlx::{PgConnection, PgPool, TypeInfo as _};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::StoreError;
use super::migrations;
use super::sql::{Database, Kind};
use super::statements::{Dialect, Query, Sql, Value};
use crate::store::StoreFuture;

/// A store in PostgreSQL 13 or later; clones share its connections.
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    sql: Sql,
    options: PgConnectOptions,
    timeout: Duration,
    /// Made with the first operation, because it belongs to a runtime.
    pool: OnceLock<PgPool>,
    /// Whether the tables are known to be as this version needs them.
    ready: AtomicBool,
    migrating: Arc<Mutex<()>>,
}

impl PostgresStore {
    /// A store by its settings; connects to nothing yet.
    ///
    /// Without `sslmode` in the address a server that is neither on loopback nor a socket has to show
    /// a certificate for its name (`verify-full`), and so has every server where `ca` is given.
    ///
    /// # Errors
    ///
    /// An address that is none, or has parameters that nobody knows; a `prefix` that cannot be part of a
    /// table's name.
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        if settings.kind != StoreKind::Postgres {
            return Err(StoreError::Unavailable("expected `postgres://…`".into()));
        }
        Ok(Self(Arc::new(Inner {
            sql: Sql::new(Dialect::Postgres, &settings.prefix)?,
            options: options(settings)?,
            timeout: settings.timeout,
            pool: OnceLock::new(),
            ready: AtomicBool::new(false),
            migrating: Arc::default(),
        })))
    }
}

impl Database for PostgresStore {
    fn sql(&self) -> &Sql {
        &self.0.sql
    }

    fn clock_and_version(&self) -> &'static str {
        "select extract(epoch from clock_timestamp())::int8, \
         convert_to(current_setting('server_version'), 'UTF8')"
    }

    fn run(&self, kind: Kind, queries: Vec<Query>) -> StoreFuture<'_, Vec<Vec<Value>>> {
        Box::pin(async move {
            let deadline = Instant::now() + self.0.timeout;
            match timeout_at(deadline, self.0.run(kind, &queries)).await {
                Ok(answer) => answer,
                Err(_) => Err(StoreError::Unavailable(format!(
                    "PostgreSQL did not answer within {:?}",
                    self.0.timeout
                ))),
            }
        })
    }
}

impl Inner {
    fn pool(&self) -> &PgPool {
        self.pool.get_or_init(|| {
            let millis = self.timeout.as_millis().clamp(1, i32::MAX as u128);
            // What waits for a lock is given up by the server too. Every statement relies on seeing
            // what others committed before it.
            let session = format!(
                "set statement_timeout = {millis}; set idle_in_transaction_session_timeout = {millis}; \
                 set default_transaction_isolation = 'read committed'"
            );
            PgPoolOptions::new()
                .max_connections(CONNECTIONS)
                .acquire_timeout(self.timeout)
                // `run` finds out itself, without a round trip for each operation
                .test_before_acquire(false)
                .after_connect(move |connection, _| {
                    let session = AssertSqlSafe(session.clone());
                    Box::pin(async move { connection.execute(session).await.map(drop) })
                })
                .connect_lazy_with(self.options.clone())
        })
    }

    async fn run(self: &Arc<Self>, kind: Kind, queries: &[Query]) -> Result<Vec<Vec<Value>>, StoreError> {
        self.migrate_once().await?;
        // A restart of the server leaves every connection of the pool dead.
        for _ in 0..CONNECTIONS {
            let mut borrowed = Borrowed(Some(self.acquire().await?));
            if kind == Kind::Once && borrowed.connection().ping().await.is_err() {
                continue;
            }
            match run_all(borrowed.connection(), queries).await {
                Ok(rows) => {
                    borrowed.give_back();
                    return Ok(rows);
                }
                Err(error) if is_lost(&error) && kind != Kind::Once => {}
                Err(error) => {
                    match code(&error).as_deref() {
                        Some(UNDEFINED_TABLE) => self.ready.store(false, Ordering::Release),
                        // After a failover the name may lead elsewhere: the next one connects again.
                        Some(READ_ONLY) => return Err(said(&error)),
                        _ => {}
                    }
                    if !is_lost(&error) {
                        borrowed.give_back();
                    }
                    return Err(said(&error));
                }
            }
        }
        let mut borrowed = Borrowed(Some(self.acquire().await?));
        let rows = run_all(borrowed.connection(), queries).await;
        let rows = rows.map_err(|error| said(&error))?;
        borrowed.give_back();
        Ok(rows)
    }

    async fn acquire(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        self.pool().acquire().await.map_err(|error| said(&error))
    }

    /// Sees to the tables, once. A migration may take longer than the operation that began it, so it
    /// is a task of its own.
    async fn migrate_once(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let alone = Arc::clone(&self.migrating).lock_owned().await;
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let this = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _alone = alone;
            let mut borrowed = Borrowed(Some(this.acquire().await?));
            migrate(borrowed.connection(), this.sql.prefix()).await?;
            borrowed.give_back();
            this.ready.store(true, Ordering::Release);
            Ok(())
        });
        task.await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("the migration was interrupted".into())))
    }
}

/// A connection that goes back into the pool only when its last answer was read: else it is closed,
/// so that nobody gets an answer that is not his, or waits behind a statement that hangs.
struct Borrowed(Option<PoolConnection<Postgres>>);

impl Borrowed {
    fn connection(&mut self) -> &mut PgConnection {
        self.0
            .as_mut()
            .expect("it is given back by value or by dropping only")
    }

    fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

async fn run_all(connection: &mut PgConnection, queries: &[Query]) -> Result<Vec<Vec<Value>>, sqlx::Error> {
    let [query] = queries else {
        let mut transaction = connection.begin().await?;
        let mut first = None;
        for query in queries {
            let rows = run_one(&mut transaction, query).await?;
            first.get_or_insert(rows);
        }
        transaction.commit().await?;
        return Ok(first.unwrap_or_default());
    };
    run_one(connection, query).await
}

async fn run_one(connection: &mut PgConnection, query: &Query) -> Result<Vec<Vec<Value>>, sqlx::Error> {
    let mut statement = sqlx::query(AssertSqlSafe(Arc::clone(&query.text)));
    for value in &query.values {
        statement = match value {
            Value::Null => statement.bind(None::<Vec<u8>>),
            Value::Integer(integer) => statement.bind(*integer),
            Value::Bytes(bytes) => statement.bind(bytes.as_slice()),
        };
    }
    let rows = statement.fetch_all(connection).await?;
    rows.iter().map(values).collect()
}

fn values(row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
    let value = |column: &sqlx::postgres::PgColumn| {
        let at = column.ordinal();
        Ok(match column.type_info().name() {
            "BYTEA" => row.try_get::<Option<Vec<u8>>, _>(at)?.map(Value::Bytes),
            _ => row.try_get::<Option<i64>, _>(at)?.map(Value::Integer),
        }
        .unwrap_or(Value::Null))
    };
    row.columns().iter().map(value).collect()
}

/// Brings the tables to this version, if they are not there yet.
async fn migrate(connection: &mut PgConnection, prefix: &str) -> Result<(), StoreError> {
    let migrator: Migrator = migrations::migrator(Dialect::Postgres, prefix);
    let applied = sqlx::query_scalar::<_, Option<i64>>(AssertSqlSafe(migrations::applied(prefix)))
        .fetch_one(&mut *connection)
        .await;
    // Looking first: who may not create tables, or not write at all, can still use what is there.
    match applied {
        Ok(applied) if migrations::is_current(applied)? => return Ok(()),
        Ok(_) => {}
        Err(error) if code(&error).as_deref() == Some(UNDEFINED_TABLE) => {}
        Err(error) => return Err(said(&error)),
    }
    let mut transaction = connection.begin().await.map_err(|error| said(&error))?;
    // One at a time in the whole database; ends with the transaction, through any pooler.
    let lock = AssertSqlSafe(format!(
        "set local statement_timeout = 0; \
         select pg_advisory_xact_lock(hashtextextended('coatroom migrations {prefix}', 0))"
    ));
    transaction.execute(lock).await.map_err(|error| said(&error))?;
    let migrated = migrator.run_direct(None, &mut *transaction, false).await;
    migrated.map_err(|error| migrations::said(&error))?;
    transaction.commit().await.map_err(|error| said(&error))
}

/// How to connect, by the address.
fn options(settings: &StoreSettings) -> Result<PgConnectOptions, StoreError> {
    let no_address = || StoreError::Unavailable("expected `postgres://USER@HOST/DATABASE`".into());
    let url = url::Url::parse(settings.address()).map_err(|_| no_address())?;
    if !["postgres", "postgresql"].contains(&url.scheme()) {
        return Err(no_address());
    }
    let mut says_mode = false;
    for (name, _) in url.query_pairs() {
        if !PARAMETERS.contains(&&*name) {
            // the client would log the value, which may be a misspelt password
            return Err(StoreError::Unavailable(format!(
                "the address has an unknown parameter, expected one of {PARAMETERS:?}"
            )));
        }
        says_mode |= name == "sslmode";
    }
    let mut options = PgConnectOptions::from_str(settings.address())
        .map_err(|_| no_address())?
        .disable_statement_logging();
    if options.get_application_name().is_none() {
        options = options.application_name("coatroom");
    }
    let is_near = options.get_socket().is_some() || is_loopback(options.get_host());
    options = match (&settings.ca, says_mode) {
        (Some(_), true) if !verifies(options.get_ssl_mode()) => {
            return Err(StoreError::Unavailable(
                "`ca` is given, and `sslmode` verifies nothing: expected `verify-full` or `verify-ca`".into(),
            ));
        }
        (Some(_), false) => options.ssl_mode(PgSslMode::VerifyFull),
        (None, false) if is_near => options.ssl_mode(PgSslMode::Prefer),
        (None, false) => options.ssl_mode(PgSslMode::VerifyFull),
        (_, true) => options,
    };
    Ok(match &settings.ca {
        Some(ca) => options.ssl_root_cert_from_pem(ca.clone()),
        None => options,
    })
}

fn verifies(mode: PgSslMode) -> bool {
    matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull)
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
        || host.starts_with('/')
}

/// Whether the connection is gone, or about to be, and nothing is wrong with the statement.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        _ => code(error).is_some_and(|code| code.starts_with("08") || SHUTDOWN.contains(&&*code)),
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// What may be said of a failure: parameters are never part of what the server says.
fn said(error: &sqlx::Error) -> StoreError {
    StoreError::Unavailable(match error {
        sqlx::Error::Database(said) => match said.code() {
            Some(code) => format!("PostgreSQL says {} ({code})", said.message()),
            None => format!("PostgreSQL says {}", said.message()),
        },
        // this is how a handshake fails
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            format!("TLS with PostgreSQL failed: {error}")
        }
        sqlx::Error::Io(error) => format!("the connection to PostgreSQL failed: {}", error.kind()),
        sqlx::Error::Tls(error) => format!("TLS with PostgreSQL failed: {error}"),
        sqlx::Error::PoolTimedOut => "PostgreSQL cannot be reached, or all connections are in use".into(),
        sqlx::Error::Protocol(_) => "PostgreSQL broke off, or does not speak its protocol".into(),
        _ => "the client of PostgreSQL failed".into(),
    })
}

/// How many connections one instance has at most.
const CONNECTIONS: u32 = 16;

/// What the address may say.
const PARAMETERS: [&str; 11] = [
    "application_name",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "statement-cache-capacity",
    "user",
];

const UNDEFINED_TABLE: &str = "42P01";
const READ_ONLY: &str = "25006";

/// admin_shutdown, crash_shutdown, cannot_connect_now
const SHUTDOWN: [&str; 3] = ["57P01", "57P02", "57P03"];

#[cfg(test)]
mod tests {
    use coatroom_core::secret::Secret;

    use super::*;

    fn settings(url: &str, ca: bool) -> StoreSettings {
        StoreSettings {
            kind: StoreKind::Postgres,
            url: Secret::new(url),
            ca: ca.then(|| b"-----BEGIN CERTIFICATE-----".to_vec()),
            prefix: "coatroom:".into(),
            timeout: Duration::from_secs(2),
        }
    }

    #[test]
    fn a_server_elsewhere_has_to_show_its_certificate_unless_the_address_says_otherwise() {
        let cases = [
            ("postgres://u@db.example.com/d", false, Some("VerifyFull")),
            ("postgres://u@db.example.com/d", true, Some("VerifyFull")),
            ("postgres://u@127.0.0.1/d", false, Some("Prefer")),
            ("postgres://u@localhost/d", false, Some("Prefer")),
            ("postgres://u@[::1]/d", false, Some("Prefer")),
            ("postgres://u@%2Frun%2Fpostgresql/d", false, Some("Prefer")),
            ("postgres://u@127.0.0.1/d", true, Some("VerifyFull")),
            (
                "postgres://u@db.example.com/d?sslmode=disable",
                false,
                Some("Disable"),
            ),
            (
                "postgres://u@db.example.com/d?sslmode=require",
                false,
                Some("Require"),
            ),
            (
                "postgres://u@db.example.com/d?sslmode=verify-ca",
                true,
                Some("VerifyCa"),
            ),
            ("postgres://u@db.example.com/d?sslmode=require", true, None),
            ("postgres://u@db.example.com/d?sslmode=disable", true, None),
            ("postgres://u@db.example.com/d?sslmode=none", false, None),
            ("mysql://u@db.example.com/d", false, None),
            ("db.example.com", false, None),
        ];
        for (url, ca, expected) in cases {
            let mode = options(&settings(url, ca)).map(|options| format!("{:?}", options.get_ssl_mode()));
            assert_eq!(mode.ok().as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn no_error_about_an_address_shows_what_is_in_it() {
        for url in [
            "postgres://u:canary@db.example.com/d?passwd=canary",
            "postgres://u:canary@db.example.com:99999/d",
            "mysql://u:canary@db.example.com/d",
        ] {
            let refused = options(&settings(url, false)).expect_err(url);
            assert!(!refused.to_string().contains("canary"), "{refused}");
        }
    }
}
