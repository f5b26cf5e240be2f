//! What the two stores that speak SQL have in common: the operations, and what rows mean.
//!
//! [`Sql`] has the statements, a [`Database`] runs them, and every [`Database`] is a [`SessionStore`].
//! Nothing here connects to anything, and nothing is decided by the clock of this machine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use coatroom_core::session::SessionId;
use coatroom_core::store::{
    Ended, EntryKey, Holder, IndexKey, Lease, Mark, MarkKey, NewRecord, Record, RecordKey, RecordVersion,
    Replaced,
};
use coatroom_core::time::UnixTime;

use super::statements::{
    ANNOUNCE, FORMAT, MARK, MARKS, Query, RECALL, Sql, Value, bytes, life, placeholders, seconds, version,
};
use super::{Cursor, SessionStore, StoreError, StoreFacts, StoreFuture, unreadable};

/// What may be done with statements when a connection breaks under them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// They change nothing.
    Read,
    /// They change something, and may be repeated without harm.
    Write,
    /// Repeated, they would answer differently.
    Once,
}

/// Runs statements.
pub(super) trait Database: Send + Sync + 'static {
    /// Its statements.
    fn sql(&self) -> &Sql;

    /// Runs them, several as one transaction, in time; the rows of the first.
    fn run(&self, kind: Kind, queries: Vec<Query>) -> StoreFuture<'_, Vec<Vec<Value>>>;

    /// A statement that answers one row: its clock in seconds, and its version as bytes.
    fn clock_and_version(&self) -> &'static str;
}

/// Rows that one purge takes of each table.
const AT_MOST: usize = 10_000;

/// Marks or announcements of one statement.
const AT_ONCE: usize = 1000;

/// How long what was announced is kept.
const ANNOUNCED: Duration = Duration::from_secs(300);

/// For how long it is known that a lease's holder died.
const DEAD: Duration = Duration::from_secs(24 * 3600);

impl<D: Database> SessionStore for D {
    fn load<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, Option<Record>> {
        Box::pin(async move {
            let rows = run(self, Kind::Read, &self.sql().load, vec![bytes(key.0)]).await?;
            let found = rows.into_iter().next().map(record).transpose()?;
            Ok(found.map(|(_, record)| record))
        })
    }

    fn insert<'a>(&'a self, key: &'a RecordKey, new: &'a NewRecord) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let rows = self.run(Kind::Write, self.sql().insert(*key, new)).await?;
            if rows.is_empty() {
                return Err(StoreError::Unavailable(
                    "another record has this name already".into(),
                ));
            }
            Ok(())
        })
    }

    fn replace<'a>(
        &'a self,
        key: &'a RecordKey,
        expected: RecordVersion,
        next: &'a NewRecord,
    ) -> StoreFuture<'a, Replaced> {
        Box::pin(async move {
            let mut values = vec![bytes(key.0), version(expected), version(next.record.version)];
            values.push(seconds(next.record.last_active));
            values.extend([life(next.life), Value::Integer(FORMAT)]);
            for part in [&next.record.metadata, &next.record.access, &next.record.agent] {
                values.push(Value::Bytes(part.clone()));
            }
            let replaced = run(self, Kind::Write, &self.sql().replace, values).await?;
            if !replaced.is_empty() {
                return Ok(Replaced::Yes);
            }
            let rows = run(self, Kind::Read, &self.sql().version, vec![bytes(key.0)]).await?;
            Ok(match rows.first().map(|row| integer(row, 0)).transpose()? {
                None => Replaced::Gone,
                Some(now) if now.cast_unsigned() == next.record.version.0 => Replaced::Yes,
                Some(_) => Replaced::Changed,
            })
        })
    }

    fn touch<'a>(&'a self, key: &'a RecordKey, last_active: UnixTime, for_: Duration) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let values = vec![bytes(key.0), seconds(last_active), life(for_)];
            run(self, Kind::Write, &self.sql().touch, values).await.map(drop)
        })
    }

    fn delete<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let rows = run(self, Kind::Once, &self.sql().delete, vec![bytes(key.0)]).await?;
            Ok(rows.first().map(|row| integer(row, 0)).transpose()? == Some(1))
        })
    }

    fn delete_at<'a>(&'a self, key: &'a RecordKey, expected: RecordVersion) -> StoreFuture<'a, Replaced> {
        Box::pin(async move {
            let values = vec![bytes(key.0), version(expected)];
            if !run(self, Kind::Once, &self.sql().delete_at, values)
                .await?
                .is_empty()
            {
                return Ok(Replaced::Yes);
            }
            let rows = run(self, Kind::Read, &self.sql().version, vec![bytes(key.0)]).await?;
            Ok(match rows.is_empty() {
                true => Replaced::Gone,
                false => Replaced::Changed,
            })
        })
    }

    fn list<'a>(&'a self, index: &'a IndexKey) -> StoreFuture<'a, Vec<(RecordKey, Record)>> {
        Box::pin(async move {
            let rows = run(self, Kind::Read, &self.sql().list, vec![bytes(index.0)]).await?;
            let of_key = |row: &[Value]| match row.first() {
                Some(Value::Bytes(key)) => key.as_slice().try_into().ok().map(RecordKey),
                _ => None,
            };
            let readable = |row: Vec<Value>| {
                let key = of_key(&row);
                match (record(row), key) {
                    (Err(_), Some(key)) => Ok((key, unreadable())),
                    (outcome, _) => outcome,
                }
            };
            rows.into_iter().map(readable).collect()
        })
    }

    fn mark<'a>(&'a self, marks: &'a [Mark]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            // One row for each name, and all writers in one order, so that no two wait for each other.
            let mut merged: BTreeMap<MarkKey, (UnixTime, Duration)> = BTreeMap::new();
            for mark in marks {
                let entry = merged.entry(mark.key).or_insert((mark.at, mark.life));
                *entry = (entry.0.max(mark.at), entry.1.max(mark.life));
            }
            let merged: Vec<_> = merged.into_iter().collect();
            for some in merged.chunks(AT_ONCE) {
                let rows = placeholders(0, some.len(), &["$", "$", "{now} + $"]);
                let values = some
                    .iter()
                    .flat_map(|(key, (at, for_))| [bytes(key.0), seconds(*at), life(*for_)])
                    .collect();
                let query = self.sql().query(&MARK.replace("{rows}", &rows), values);
                self.run(Kind::Write, vec![query]).await?;
            }
            Ok(())
        })
    }

    fn marks<'a>(&'a self, keys: &'a [MarkKey]) -> StoreFuture<'a, Vec<Option<UnixTime>>> {
        Box::pin(async move {
            let found = find(self, MARKS, keys.iter().map(|key| key.0)).await?;
            let at = |key: &MarkKey| match found.get(&key.0) {
                None => Ok(None),
                Some(Value::Integer(at)) => Ok(Some(UnixTime(at.cast_unsigned()))),
                Some(_) => Err(misread()),
            };
            keys.iter().map(at).collect()
        })
    }

    fn announce<'a>(&'a self, ended: &'a [Ended]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            for some in ended.chunks(AT_ONCE) {
                let rows = placeholders(0, some.len(), &["{position}, $", "$", "{now} + $"]);
                let values = some.iter().flat_map(|ended| {
                    let (kind, name) = match ended {
                        Ended::Session(id) => (SESSION, id.0.to_vec()),
                        Ended::Marked(key) => (MARKED, key.0.to_vec()),
                    };
                    [Value::Integer(kind), Value::Bytes(name), life(ANNOUNCED)]
                });
                let query = self
                    .sql()
                    .query(&ANNOUNCE.replace("{rows}", &rows), values.collect());
                self.run(Kind::Write, vec![query]).await?;
            }
            Ok(())
        })
    }

    fn ended_since<'a>(&'a self, cursor: Option<&'a Cursor>) -> StoreFuture<'a, (Cursor, Vec<Ended>)> {
        Box::pin(async move {
            let rows = match cursor {
                None => run(self, Kind::Read, &self.sql().beginning, Vec::new()).await?,
                Some(Cursor(cursor)) => {
                    // what is no cursor of ours is as good as one of another server
                    let since = Value::Integer(cursor.parse().unwrap_or(0));
                    run(self, Kind::Read, &self.sql().ended, vec![since]).await?
                }
            };
            let next = integer(rows.first().ok_or_else(misread)?, 0)?;
            let ended = rows.into_iter().filter_map(|row| match row.as_slice() {
                // what a newer version announces may be of a kind that this one does not know
                [_, Value::Integer(kind @ (SESSION | MARKED)), Value::Bytes(name)] => {
                    Some(ended(*kind, name))
                }
                _ => None,
            });
            Ok((Cursor(next.to_string()), ended.collect::<Result<_, _>>()?))
        })
    }

    fn acquire<'a>(&'a self, key: &'a EntryKey, holder: Holder, for_: Duration) -> StoreFuture<'a, Lease> {
        Box::pin(async move {
            let values = [
                bytes(key.0),
                bytes(holder.0),
                life(for_),
                life(for_.saturating_add(DEAD)),
            ];
            // Whoever had it may give it back between the two statements: then it is there to be had.
            for _ in 0..3 {
                let rows = run(self, Kind::Write, &self.sql().acquire, values.to_vec()).await?;
                if let Some(row) = rows.first() {
                    let after_death = integer(row, 0)? == 1;
                    return Ok(Lease::Acquired { after_death });
                }
                let rows = run(self, Kind::Read, &self.sql().lease, vec![bytes(key.0)]).await?;
                let Some(row) = rows.first() else { continue };
                let (held, resting) = (integer(row, 0)?, integer(row, 1)?);
                let left = |left: i64| Duration::from_millis(left.cast_unsigned());
                match (held > 0, resting > 0) {
                    (_, true) => return Ok(Lease::Resting { left: left(resting) }),
                    (true, _) => return Ok(Lease::Held { left: left(held) }),
                    (false, false) => {}
                }
            }
            Ok(Lease::Held { left: Duration::ZERO })
        })
    }

    fn release<'a>(&'a self, key: &'a EntryKey, holder: Holder, rest: Duration) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let (text, mut values) = (self.sql(), vec![bytes(key.0), bytes(holder.0)]);
            let text = if rest.is_zero() {
                &text.give_back
            } else {
                values.push(life(rest));
                &text.rest
            };
            run(self, Kind::Write, text, values).await.map(drop)
        })
    }

    fn remember<'a>(&'a self, key: &'a EntryKey, value: &'a [u8], for_: Duration) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let values = vec![bytes(key.0), Value::Bytes(value.to_vec()), life(for_)];
            run(self, Kind::Write, &self.sql().remember, values)
                .await
                .map(drop)
        })
    }

    fn recall<'a>(&'a self, keys: &'a [EntryKey]) -> StoreFuture<'a, Vec<Option<Vec<u8>>>> {
        Box::pin(async move {
            let found = find(self, RECALL, keys.iter().map(|key| key.0)).await?;
            let value = |key: &EntryKey| match found.get(&key.0) {
                None => Ok(None),
                Some(Value::Bytes(value)) => Ok(Some(value.clone())),
                Some(_) => Err(misread()),
            };
            keys.iter().map(value).collect()
        })
    }

    fn claim<'a>(&'a self, key: &'a EntryKey, for_: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let values = vec![bytes(key.0), Value::Bytes(Vec::new()), life(for_)];
            let rows = run(self, Kind::Once, &self.sql().claim, values).await?;
            Ok(!rows.is_empty())
        })
    }

    fn purge(&self) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let mut sessions = 0;
            for (table, batch) in self.sql().purge.iter().enumerate() {
                for _ in 0..AT_MOST / self.sql().batch() {
                    let gone = run(self, Kind::Write, batch, Vec::new()).await?.len();
                    if table == 0 {
                        sessions += gone as u64;
                    }
                    if gone < self.sql().batch() {
                        break;
                    }
                }
            }
            Ok(sessions)
        })
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        // Deletes nothing, and may do so only where deleting is allowed.
        Box::pin(async move {
            let nothing = vec![Value::Bytes(Vec::new())];
            run(self, Kind::Write, &self.sql().ping, nothing).await.map(drop)
        })
    }

    fn facts(&self) -> StoreFuture<'_, StoreFacts> {
        Box::pin(async move {
            let rows = run(self, Kind::Read, &self.clock_and_version().into(), Vec::new()).await?;
            let mut columns = rows.into_iter().next().unwrap_or_default().into_iter();
            let now = match columns.next() {
                Some(Value::Integer(seconds)) => u64::try_from(seconds).ok().map(UnixTime),
                _ => None,
            };
            let version = match columns.next() {
                Some(Value::Bytes(version)) => super::plain_version(&version),
                _ => None,
            };
            Ok(StoreFacts {
                version,
                now,
                evicts: Some(false),
                persists: Some(true),
            })
        })
    }
}

/// One statement.
async fn run(
    database: &impl Database,
    kind: Kind,
    text: &Arc<str>,
    values: Vec<Value>,
) -> Result<Vec<Vec<Value>>, StoreError> {
    let text = Arc::clone(text);
    database.run(kind, vec![Query { text, values }]).await
}

/// The second column of the rows under these names.
async fn find(
    database: &impl Database,
    template: &str,
    names: impl Iterator<Item = [u8; 32]> + Send,
) -> Result<HashMap<[u8; 32], Value>, StoreError> {
    let values: Vec<Value> = names.map(bytes).collect();
    if values.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<String> = (1..=values.len()).map(|index| format!("${index}")).collect();
    let query = database
        .sql()
        .query(&template.replace("{keys}", &keys.join(", ")), values);
    let rows = database.run(Kind::Read, vec![query]).await?;
    let pair = |row: Vec<Value>| match <[Value; 2]>::try_from(row) {
        Ok([Value::Bytes(key), value]) => Ok((key.try_into().map_err(|_| misread())?, value)),
        _ => Err(misread()),
    };
    rows.into_iter().map(pair).collect()
}

fn integer(row: &[Value], column: usize) -> Result<i64, StoreError> {
    match row.get(column) {
        Some(Value::Integer(integer)) => Ok(*integer),
        _ => Err(misread()),
    }
}

fn record(row: Vec<Value>) -> Result<(RecordKey, Record), StoreError> {
    use Value::{Bytes, Integer};
    let Ok(
        [
            Bytes(key),
            Integer(version),
            Integer(last_active),
            Integer(format),
            Bytes(metadata),
            Bytes(access),
            Bytes(agent),
        ],
    ) = <[Value; 7]>::try_from(row)
    else {
        return Err(misread());
    };
    if format != FORMAT {
        return Err(StoreError::Unreadable(format!(
            "a record has format {format}, and this version of Coatroom knows {FORMAT}: a newer one wrote it"
        )));
    }
    let record = Record {
        version: RecordVersion(version.cast_unsigned()),
        last_active: UnixTime(last_active.cast_unsigned()),
        metadata,
        access,
        agent,
    };
    Ok((RecordKey(key.try_into().map_err(|_| misread())?), record))
}

fn ended(kind: i64, name: &[u8]) -> Result<Ended, StoreError> {
    match kind {
        SESSION => Ok(Ended::Session(SessionId(name.try_into().map_err(|_| misread())?))),
        MARKED => Ok(Ended::Marked(MarkKey(name.try_into().map_err(|_| misread())?))),
        _ => Err(misread()),
    }
}

const SESSION: i64 = 1;
const MARKED: i64 = 2;

fn misread() -> StoreError {
    StoreError::Unreadable("a row is not as Coatroom writes it".into())
}
