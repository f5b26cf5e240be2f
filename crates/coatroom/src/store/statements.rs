//! The statements of the SQL stores, in the words of each server.
//!
//! All times that a store decides by are the server's, in milliseconds, so that the clocks of replicas
//! do not matter. No value is ever part of a statement's text: only the configured prefix is, which
//! [`Sql::new`] checks.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use coatroom_core::store::{NewRecord, RecordKey, RecordVersion};
use coatroom_core::time::UnixTime;

use super::StoreError;

/// A column's value, on its way in or out.
#[derive(Clone)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Bytes(Vec<u8>),
}

/// A statement and its parameters.
pub(super) struct Query {
    pub(super) text: Arc<str>,
    pub(super) values: Vec<Value>,
}

/// How two servers say the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    #[cfg(feature = "postgres")]
    Postgres,
    #[cfg(feature = "sqlite")]
    Sqlite,
}

impl Dialect {
    /// Fills in a statement.
    fn text(self, template: &str, prefix: &str) -> String {
        let (now, greatest, row, batch_open, batch_close, position, next) = match self {
            // not `now()`, which is the beginning of the transaction, before it waited for a row
            #[cfg(feature = "postgres")]
            Self::Postgres => (
                "cast(extract(epoch from clock_timestamp()) * 1000 as bigint)",
                "greatest",
                "ctid",
                "= any(array(",
                " for update skip locked))",
                "cast(cast(pg_current_xact_id() as text) as bigint)",
                // Whatever was begun before this position is committed and seen, or never will be.
                "select cast(cast(pg_snapshot_xmin(pg_current_snapshot()) as text) as bigint) as next",
            ),
            #[cfg(feature = "sqlite")]
            Self::Sqlite => (
                "cast(unixepoch('subsec') * 1000 as integer)",
                "max",
                "rowid",
                "in (",
                ")",
                "null",
                "select coalesce(max(seq), 0) + 1 as next from sqlite_sequence where name = '{p}ended'",
            ),
        };
        template
            .replace("{next}", next)
            .replace("{position}", position)
            .replace("{in batch}", batch_open)
            .replace("{end batch}", batch_close)
            .replace("{now}", now)
            .replace("{greatest}", greatest)
            .replace("{row}", row)
            .replace("{p}", prefix)
    }

    /// How many rows one statement of a purge takes. SQLite lets nobody else write meanwhile.
    fn batch(self) -> usize {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres => 1000,
            #[cfg(feature = "sqlite")]
            Self::Sqlite => 100,
        }
    }
}

/// The statements of one store.
pub(super) struct Sql {
    dialect: Dialect,
    prefix: String,
    pub(super) load: Arc<str>,
    pub(super) replace: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) touch: Arc<str>,
    pub(super) delete: Arc<str>,
    pub(super) delete_at: Arc<str>,
    pub(super) list: Arc<str>,
    pub(super) beginning: Arc<str>,
    pub(super) ended: Arc<str>,
    pub(super) acquire: Arc<str>,
    pub(super) lease: Arc<str>,
    pub(super) give_back: Arc<str>,
    pub(super) rest: Arc<str>,
    pub(super) remember: Arc<str>,
    pub(super) claim: Arc<str>,
    pub(super) purge: [Arc<str>; 5],
    pub(super) ping: Arc<str>,
}

impl Sql {
    /// The statements for tables with this prefix, in which `:` becomes `_`.
    ///
    /// # Errors
    ///
    /// A prefix that is not `[a-z_][a-z0-9_]*` of at most 32 characters then.
    pub(super) fn new(dialect: Dialect, prefix: &str) -> Result<Self, StoreError> {
        let prefix = prefix.replace(':', "_");
        let good = |byte: u8| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let starts_with_digit = prefix.starts_with(|first: char| first.is_ascii_digit());
        if starts_with_digit || prefix.is_empty() || prefix.len() > 32 || !prefix.bytes().all(good) {
            return Err(StoreError::Unavailable(
                "`prefix` becomes part of the names of tables: expected at most 32 of a-z, 0-9, `_` and \
                 `:`, not beginning with a digit"
                    .into(),
            ));
        }
        let text = |template: &str| Arc::from(dialect.text(template, &prefix));
        let batch = dialect.batch().to_string();
        let batch = |table: &str| text(&PURGE.replace("{table}", table).replace("{batch}", &batch));
        Ok(Self {
            dialect,
            load: text(LOAD),
            replace: text(REPLACE),
            version: text(VERSION),
            touch: text(TOUCH),
            delete: text(DELETE),
            delete_at: text(DELETE_AT),
            list: text(LIST),
            beginning: text("{next}"),
            ended: text(ENDED),
            acquire: text(ACQUIRE),
            lease: text(LEASE),
            give_back: text("delete from {p}leases where key = $1 and holder = $2"),
            rest: text(REST),
            remember: text(REMEMBER),
            claim: text(CLAIM),
            purge: ["sessions", "marks", "leases", "entries", "ended"].map(batch),
            ping: text("delete from {p}entries where key = $1"),
            prefix,
        })
    }

    /// How many rows one statement of a purge takes.
    pub(super) fn batch(&self) -> usize {
        self.dialect.batch()
    }

    /// What stands in front of the tables' names.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A statement that is as long as what it is about.
    pub(super) fn query(&self, template: &str, values: Vec<Value>) -> Query {
        Query {
            text: self.dialect.text(template, &self.prefix).into(),
            values,
        }
    }

    /// A new record and its index entries: at once, or for none.
    pub(super) fn insert(&self, key: RecordKey, new: &NewRecord) -> Vec<Query> {
        let mut record = vec![bytes(key.0), version(new.record.version)];
        record.push(seconds(new.record.last_active));
        record.push(life(new.life));
        record.push(Value::Integer(FORMAT));
        for part in [&new.record.metadata, &new.record.access, &new.record.agent] {
            record.push(Value::Bytes(part.clone()));
        }
        let names: Vec<Value> = new.indexes.iter().map(|index| bytes(index.0)).collect();
        if names.is_empty() {
            return vec![self.query(&format!("{INSERT} returning cast(1 as bigint)"), record)];
        }
        match self.dialect {
            #[cfg(feature = "postgres")]
            Dialect::Postgres => {
                let template = format!(
                    "with made as ({INSERT} returning key), indexed as (insert into {{p}}indexes (name, \
                     session) select i.name, made.key from made, (values {}) as i (name) on conflict do \
                     nothing) select cast(1 as bigint) from made",
                    placeholders(record.len(), names.len(), &["$"])
                );
                record.extend(names);
                vec![self.query(&template, record)]
            }
            #[cfg(feature = "sqlite")]
            Dialect::Sqlite => {
                let template = format!(
                    "insert into {{p}}indexes (name, session) select i.column1, $1 from (values {}) as i where \
                     exists (select 1 from {{p}}sessions where key = $1 and version = $2) on conflict do \
                     nothing",
                    placeholders(2, names.len(), &["$"])
                );
                let mut entries = vec![bytes(key.0), version(new.record.version)];
                entries.extend(names);
                let insert = self.query(&format!("{INSERT} returning cast(1 as bigint)"), record);
                vec![insert, self.query(&template, entries)]
            }
        }
    }
}

/// `count` rows of parameters in parentheses; a `$` in a column becomes its number, after `before`.
pub(super) fn placeholders(before: usize, count: usize, columns: &[&str]) -> String {
    let mut text = String::new();
    let mut parameter = before;
    for row in 0..count {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for (column, template) in columns.iter().enumerate() {
            parameter += 1;
            let comma = if column == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{template}{parameter}");
        }
        text.push(')');
    }
    text
}

pub(super) fn bytes<const N: usize>(name: [u8; N]) -> Value {
    Value::Bytes(name.to_vec())
}

pub(super) fn version(version: RecordVersion) -> Value {
    Value::Integer(version.0.cast_signed())
}

/// Saturating: a provider may say anything.
pub(super) fn seconds(time: UnixTime) -> Value {
    Value::Integer(i64::try_from(time.0).unwrap_or(i64::MAX))
}

/// Milliseconds, rounded up.
pub(super) fn life(life: Duration) -> Value {
    let millis = life.as_nanos().div_ceil(1_000_000).min(u128::from(CENTURY));
    Value::Integer(i64::try_from(millis).unwrap_or(i64::MAX))
}

const LOAD: &str = "select key, version, last_active, format, metadata, access, agent from {p}sessions \
     where key = $1 and expires_at > {now}";

// The same record again finds itself.
const INSERT: &str = "insert into {p}sessions (key, version, last_active, expires_at, format, metadata, \
     access, agent) values ($1, $2, $3, {now} + $4, $5, $6, $7, $8) on conflict (key) do update set version \
     = excluded.version where {p}sessions.version = excluded.version";

// A touch in between changed no version, and must not be lost.
const REPLACE: &str = "update {p}sessions set version = $3, last_active = {greatest}(last_active, $4), \
     expires_at = {now} + $5, format = $6, metadata = $7, access = $8, agent = $9 where key = $1 and version \
     = $2 and expires_at > {now} returning cast(1 as bigint)";

const VERSION: &str = "select version from {p}sessions where key = $1 and expires_at > {now}";

const TOUCH: &str = "update {p}sessions set last_active = {greatest}(last_active, $2), expires_at = \
     {greatest}(expires_at, {now} + $3) where key = $1 and expires_at > {now}";

const DELETE: &str = "delete from {p}sessions where key = $1 returning cast(case when expires_at > {now} then \
     1 else 0 end as bigint)";

const DELETE_AT: &str = "delete from {p}sessions where key = $1 and version = $2 and expires_at > {now} \
     returning cast(1 as bigint)";

const LIST: &str = "select s.key, s.version, s.last_active, s.format, s.metadata, s.access, s.agent from \
     {p}indexes i join {p}sessions s on s.key = i.session where i.name = $1 and s.expires_at > {now} order \
     by s.key";

// What is over does not count, even if nobody has forgotten it yet.
pub(super) const MARK: &str = "insert into {p}marks (key, at, expires_at) values {rows} on conflict (key) do update set \
     at = case when {p}marks.expires_at <= {now} then excluded.at else {greatest}({p}marks.at, excluded.at) \
     end, expires_at = {greatest}({p}marks.expires_at, excluded.expires_at)";

pub(super) const MARKS: &str = "select key, at from {p}marks where key in ({keys}) and expires_at > {now}";

pub(super) const ANNOUNCE: &str = "insert into {p}ended (position, kind, name, expires_at) values {rows}";

// A cursor that is ahead of the server is of another one: everything again rather than nothing.
const ENDED: &str = "with here as ({next}) select here.next, e.kind, e.name from here left join {p}ended e on \
     e.position >= case when $1 > here.next then 0 else $1 end";

const ACQUIRE: &str = "insert into {p}leases (key, holder, held_until, rest_until, after_death, expires_at) \
     values ($1, $2, {now} + $3, 0, 0, {now} + $4) on conflict (key) do update set after_death = case when \
     {p}leases.holder = excluded.holder then {p}leases.after_death when {p}leases.holder is null then 0 else \
     1 end, holder = excluded.holder, held_until = excluded.held_until, rest_until = 0, expires_at = \
     excluded.expires_at where {p}leases.rest_until <= {now} and ({p}leases.holder is null or \
     {p}leases.holder = excluded.holder or {p}leases.held_until <= {now}) returning after_death";

const LEASE: &str = "select case when holder is null then 0 else held_until - {now} end, rest_until - {now} \
     from {p}leases where key = $1";

const REST: &str = "update {p}leases set holder = null, held_until = 0, after_death = 0, rest_until = {now} + \
     $3, expires_at = {now} + $3 where key = $1 and holder = $2";

const REMEMBER: &str = "insert into {p}entries (key, value, expires_at) values ($1, $2, {now} + $3) on \
     conflict (key) do update set value = excluded.value, expires_at = excluded.expires_at";

pub(super) const RECALL: &str =
    "select key, value from {p}entries where key in ({keys}) and expires_at > {now}";

const CLAIM: &str = "insert into {p}entries (key, value, expires_at) values ($1, $2, {now} + $3) on conflict \
     (key) do update set value = excluded.value, expires_at = excluded.expires_at where \
     {p}entries.expires_at <= {now} returning cast(1 as bigint)";

const PURGE: &str = "delete from {p}{table} where {row} {in batch}select {row} from {p}{table} where \
     expires_at <= (select {now}) order by expires_at limit {batch}{end batch} returning cast(1 as bigint)";

/// How a row of a record is to be read. A later format has a later number.
pub(super) const FORMAT: i64 = 1;

/// The longest life: a century. Nothing overflows.
const CENTURY: u64 = 100 * 365 * 24 * 3600 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "postgres")]
    const ANY: Dialect = Dialect::Postgres;
    #[cfg(not(feature = "postgres"))]
    const ANY: Dialect = Dialect::Sqlite;

    #[test]
    fn a_prefix_that_is_not_part_of_a_name_is_refused() {
        let cases = [
            ("coatroom:", Some("coatroom_")),
            ("a", Some("a")),
            ("_x9", Some("_x9")),
            ("a:b:", Some("a_b_")),
            ("", None),
            ("9a", None),
            ("A", None),
            ("a-b", None),
            ("a;drop table x", None),
            ("a\"", None),
            ("ä", None),
            ("abcdefghijabcdefghijabcdefghijabc", None),
        ];
        for (prefix, expected) in cases {
            let sql = Sql::new(ANY, prefix).ok();
            assert_eq!(sql.as_ref().map(Sql::prefix), expected, "{prefix}");
        }
    }

    #[test]
    fn no_statement_keeps_a_placeholder_of_its_template() {
        for dialect in [
            #[cfg(feature = "postgres")]
            Dialect::Postgres,
            #[cfg(feature = "sqlite")]
            Dialect::Sqlite,
        ] {
            let sql = Sql::new(dialect, "coatroom:").expect("a good prefix");
            let all = [
                &sql.load,
                &sql.replace,
                &sql.version,
                &sql.touch,
                &sql.delete,
                &sql.delete_at,
                &sql.list,
                &sql.beginning,
                &sql.ended,
                &sql.acquire,
                &sql.lease,
                &sql.give_back,
                &sql.rest,
                &sql.remember,
                &sql.claim,
                &sql.ping,
            ];
            for text in all.into_iter().chain(&sql.purge) {
                assert!(!text.contains(['{', '}']), "{text}");
            }
        }
    }

    #[test]
    fn lives_are_whole_milliseconds_and_at_most_a_century() {
        let cases = [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(5), 5),
            (Duration::MAX, 3_153_600_000_000),
        ];
        for (given, expected) in cases {
            let Value::Integer(millis) = life(given) else {
                panic!("a life is a number")
            };
            assert_eq!(millis, expected, "{given:?}");
        }
    }

    #[test]
    fn rows_of_parameters_are_numbered_through() {
        assert_eq!(
            placeholders(2, 2, &["$", "{now} + $"]),
            "($3, {now} + $4), ($5, {now} + $6)"
        );
    }
}
