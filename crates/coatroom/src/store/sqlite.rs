//! Sessions in a file of this machine, for one instance or several on it; they survive a restart.
//!
//! The file is opened when it is first asked for, and made if it was never there, for its owner
//! alone. What was answered is on the disk. A file that is deleted, moved or replaced while it is in
//! use makes every operation fail until somebody puts it back or restarts: an empty one in its place
//! would sign everybody out. What the statements are is in [`statements`](super::statements).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coatroom_core::config::{StoreKind, StoreSettings};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use sqlx::{SqliteConnection, SqlitePool, TypeInfo as _, ValueRef as _};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::migrations;
use super::sql::{Database, Kind};
use super::statements::{Dialect, Query, Sql, Value};
use super::{StoreError, StoreFuture};

/// A store in an SQLite file; clones share its connections.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    sql: Sql,
    path: PathBuf,
    timeout: Duration,
    pages: Option<u32>,
    open: OnceCell<Open>,
}

/// The file in use.
struct Open {
    identity: Identity,
    /// One connection: SQLite has one writer at a time.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// A store by its settings; does not touch the file yet.
    ///
    /// # Errors
    ///
    /// A `prefix` that cannot be part of a table's name.
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let StoreKind::Sqlite(path) = &settings.kind else {
            return Err(StoreError::Unavailable("expected `sqlite:FILE`".into()));
        };
        Ok(Self(Arc::new(Inner {
            sql: Sql::new(Dialect::Sqlite, &settings.prefix)?,
            path: path.clone(),
            timeout: settings.timeout,
            pages: None,
            open: OnceCell::new(),
        })))
    }

    /// The same store with a file of at most this many pages of 8192 bytes: what would make it larger
    /// fails, everything else works. Does nothing to a store that others share already.
    #[must_use]
    pub fn limit_pages(mut self, pages: u32) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.pages = Some(pages);
        }
        self
    }
}

impl Database for SqliteStore {
    fn sql(&self) -> &Sql {
        &self.0.sql
    }

    fn clock_and_version(&self) -> &'static str {
        "select cast(strftime('%s', 'now') as integer), cast(sqlite_version() as blob)"
    }

    fn run(&self, kind: Kind, queries: Vec<Query>) -> StoreFuture<'_, Vec<Vec<Value>>> {
        Box::pin(async move {
            let deadline = Instant::now() + self.0.timeout;
            match timeout_at(deadline, self.0.run(kind, &queries)).await {
                Ok(answer) => answer,
                Err(_) => Err(StoreError::Unavailable(format!(
                    "SQLite did not answer within {:?}: the file is locked, or the disk is slow",
                    self.0.timeout
                ))),
            }
        })
    }
}

impl Inner {
    async fn run(&self, kind: Kind, queries: &[Query]) -> Result<Vec<Vec<Value>>, StoreError> {
        let open = self.open.get_or_try_init(|| self.open()).await?;
        match identity(&self.path) {
            Ok(identity) if identity == open.identity => {}
            Ok(_) => return Err(self.gone("replaced")),
            Err(_) => return Err(self.gone("deleted or moved")),
        }
        let pool = match kind {
            Kind::Read => &open.readers,
            Kind::Write | Kind::Once => &open.writer,
        };
        let mut connection = pool.acquire().await.map_err(|error| said(&error))?;
        let rows = run_all(&mut connection, queries).await;
        rows.map_err(|error| said(&error))
    }

    fn gone(&self, how: &str) -> StoreError {
        StoreError::Unavailable(format!(
            "{} was {how} while it was in use: put it back, or restart",
            self.path.display()
        ))
    }

    /// Opens the file and brings its tables to this version.
    async fn open(&self) -> Result<Open, StoreError> {
        prepare(&self.path)?;
        let mut options = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // three sessions of the usual size; with half of it one, and a third of the file for nothing
            .page_size(8192)
            // 32 MB: what a purge deletes is all over the file
            .pragma("cache_size", "-32768")
            // shorter than an operation, so that it ends with SQLite's own answer
            .busy_timeout(self.timeout * 3 / 4)
            .disable_statement_logging();
        if let Some(pages) = self.pages {
            options = options.pragma("max_page_count", pages.to_string());
        }
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(self.timeout)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let writer = pool(1).connect_lazy_with(options.clone());
        let mut connection = loop {
            match writer.acquire().await {
                // Turning a new file into one with a write-ahead log does not wait for others.
                Err(error) if is_busy(&error) => tokio::time::sleep(Duration::from_millis(10)).await,
                connection => break connection.map_err(|error| said(&error))?,
            }
        };
        migrate(&mut connection, self.sql.prefix()).await?;
        let readers = pool(READERS).connect_lazy_with(options.pragma("query_only", "on"));
        let identity = identity(&self.path).map_err(|error| unusable(&self.path, &error))?;
        Ok(Open {
            identity,
            writer,
            readers,
        })
    }
}

/// Makes the file for its owner alone, or looks whether it is one.
fn prepare(path: &Path) -> Result<(), StoreError> {
    let mut options = fs::OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|error| unusable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unusable(path, &error))?;
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::mode(&metadata) & 0o007 != 0 {
        return Err(StoreError::Unavailable(format!(
            "{path} is open to everybody on this machine: chmod 600 {path}",
            path = path.display()
        )));
    }
    if !metadata.is_file() {
        return Err(StoreError::Unavailable(format!(
            "{} is not a file",
            path.display()
        )));
    }
    Ok(())
}

fn unusable(path: &Path, error: &io::Error) -> StoreError {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    StoreError::Unavailable(match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => format!("the folder {} is not there", folder.display()),
        None => format!("{} cannot be used: {error}", path.display()),
    })
}

/// Tells one file from another under the same name.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|_| (0, 0))
}

async fn run_all(
    connection: &mut SqliteConnection,
    queries: &[Query],
) -> Result<Vec<Vec<Value>>, sqlx::Error> {
    let [query] = queries else {
        let mut transaction = connection.begin_with("begin immediate").await?;
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

async fn run_one(connection: &mut SqliteConnection, query: &Query) -> Result<Vec<Vec<Value>>, sqlx::Error> {
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

fn values(row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    let value = |at: usize| {
        let raw = row.try_get_raw(at)?;
        Ok(match raw.type_info().name() {
            _ if raw.is_null() => Value::Null,
            "BLOB" => Value::Bytes(row.try_get_unchecked(at)?),
            _ => Value::Integer(row.try_get_unchecked(at)?),
        })
    };
    (0..row.len()).map(value).collect()
}

/// Brings the tables to this version, if they are not there yet.
async fn migrate(connection: &mut SqliteConnection, prefix: &str) -> Result<(), StoreError> {
    let version = AssertSqlSafe(migrations::applied(prefix));
    let applied = sqlx::query_scalar::<_, Option<i64>>(version).fetch_one(&mut *connection);
    // An error here is that of a file without tables, or comes again.
    if let Ok(applied) = applied.await
        && migrations::is_current(applied)?
    {
        return Ok(());
    }
    // One process at a time.
    let transaction = connection.begin_with("begin immediate").await;
    let mut transaction = transaction.map_err(|error| said(&error))?;
    let migrator = migrations::migrator(Dialect::Sqlite, prefix);
    let migrated = migrator.run_direct(None, &mut *transaction, false).await;
    migrated.map_err(|error| migrations::said(&error))?;
    transaction.commit().await.map_err(|error| said(&error))
}

fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    // the lower byte of an extended code is the code: SQLITE_BUSY
    let code = code.and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

/// What may be said of a failure: parameters are never part of what SQLite says.
fn said(error: &sqlx::Error) -> StoreError {
    StoreError::Unavailable(match error {
        sqlx::Error::Database(said) => format!("SQLite says {}", said.message()),
        sqlx::Error::Io(error) => format!("the file failed: {error}"),
        sqlx::Error::PoolTimedOut => "all connections are in use".into(),
        _ => "the client of SQLite failed".into(),
    })
}

/// How many statements read at once.
const READERS: u32 = 4;
