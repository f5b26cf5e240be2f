//! The tables of the SQL stores, version by version: forward only, run by whoever connects first.
//!
//! The files in `migrations/` are never changed once they were released, only followed by further
//! ones, and each leaves tables that the version before can still use, so that instances can be
//! replaced one by one. Tables of a later version are left alone and refused.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use super::StoreError;
use super::statements::Dialect;

/// What brings tables with this prefix to the newest version.
pub(super) fn migrator(dialect: Dialect, prefix: &str) -> Migrator {
    let files: [(&'static str, &str); NEWEST as usize] = match dialect {
        #[cfg(feature = "postgres")]
        Dialect::Postgres => [(
            "sessions",
            include_str!("../../migrations/postgres/1_sessions.sql"),
        )],
        #[cfg(feature = "sqlite")]
        Dialect::Sqlite => [("sessions", include_str!("../../migrations/sqlite/1_sessions.sql"))],
    };
    let migrations = (1..).zip(files).map(|(version, (name, text))| {
        let text = AssertSqlSafe(text.replace("{p}", prefix)).into_sql_str();
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, text, false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(format!("{prefix}migrations"));
    // the stores lock in their own way, which survives poolers and ends with a connection
    migrator.set_locking(false);
    migrator
}

/// The statement that tells the version of the tables.
pub(super) fn applied(prefix: &str) -> String {
    format!("select max(version) from {prefix}migrations where success")
}

/// Whether tables of this version need nothing.
///
/// # Errors
///
/// They are of a later version of Coatroom.
pub(super) fn is_current(applied: Option<i64>) -> Result<bool, StoreError> {
    match applied {
        Some(applied) if applied > NEWEST => Err(newer(applied)),
        applied => Ok(applied == Some(NEWEST)),
    }
}

/// What may be said of a migration that failed.
pub(super) fn said(error: &MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(applied) => newer(*applied),
        error => StoreError::Unavailable(format!(
            "the tables could not be brought to version {NEWEST}: {error}"
        )),
    }
}

fn newer(applied: i64) -> StoreError {
    StoreError::Unavailable(format!(
        "its tables have version {applied}, and this version of Coatroom knows {NEWEST}: a newer one made \
         them, use that"
    ))
}

const NEWEST: i64 = 1;
