//! Sessions in Redis or Valkey: one server, a cluster, or behind Sentinels.
//!
//! Each record, mark, lease and entry is one string with a life that the server ends by itself; an
//! index is a sorted set of the names of records. What has to be atomic is a script of one key, so the
//! same commands run in a cluster. `docs/stores.md` has the keys, and what each outage looks like.
//!
//! An index is written before its record and its entries live twice as long, so that a record is never
//! without one, even if the call that extends them fails once; what is over goes when the index is next
//! written to, and lists pass it over. Nothing here reads a clock but the server's, and no secret comes
//! this far: records are sealed, names are digests.

mod address;
mod connection;
mod ended;
mod facts;
mod failure;
mod record;
mod scripts;

use std::collections::HashMap;
use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, Value, cmd};
use coatroom_core::config::StoreSettings;
use coatroom_core::rng::Rng as _;
use coatroom_core::store::{
    Ended, EntryKey, Holder, IndexKey, Lease, Mark, MarkKey, NewRecord, Record, RecordKey, RecordVersion,
    Replaced,
};
use coatroom_core::time::UnixTime;
use futures_util::future::{join_all, try_join_all};

use self::connection::{Connections, Link};
use self::ended::{KEPT, Place};
use self::failure::Failure;
use super::{Cursor, SessionStore, StoreError, StoreFacts, StoreFuture, unreadable};
use crate::clock::SystemRng;

/// Sessions in Redis or Valkey.
pub struct RedisStore {
    connections: Connections,
    prefix: String,
}

impl RedisStore {
    /// A store at an address; connects when it is first asked.
    ///
    /// # Errors
    /// The address or the authorities cannot be used.
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        Ok(Self {
            connections: Connections::new(settings)?,
            prefix: settings.prefix.clone(),
        })
    }

    fn record(&self, key: &RecordKey) -> String {
        format!("{}s:{}", self.prefix, key.to_hex())
    }

    fn index(&self, key: &IndexKey) -> String {
        format!("{}i:{}", self.prefix, key.to_hex())
    }

    fn mark_name(&self, key: &MarkKey) -> String {
        format!("{}m:{}", self.prefix, key.to_hex())
    }

    /// Leases, values and claims may have the same [`EntryKey`].
    fn entry(&self, kind: char, key: &EntryKey) -> String {
        format!("{}{kind}:{}", self.prefix, key.to_hex())
    }

    fn ended(&self) -> String {
        format!("{}ended", self.prefix)
    }

    /// Puts a record into indexes, or has its entries there live on.
    async fn index_all(
        &self,
        link: &Link,
        indexes: &[IndexKey],
        key: &RecordKey,
        life: Duration,
    ) -> Result<(), Failure> {
        let life = milliseconds(life.saturating_mul(2));
        try_join_all(indexes.iter().map(|index| {
            let (mut link, name, life) = (link.clone(), self.index(index), life.as_bytes());
            async move {
                scripts::INDEX
                    .run::<Value>(&mut link, &name, &[&key.0, life])
                    .await
            }
        }))
        .await?;
        Ok(())
    }
}

impl SessionStore for RedisStore {
    fn load<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, Option<Record>> {
        Box::pin(async move {
            let mut get = cmd("GET");
            get.arg(self.record(key));
            let value: Option<Vec<u8>> = self.connections.run("load", |link, _| query(link, &get)).await?;
            value
                .map(|value| {
                    record::unpack(&value).ok_or_else(|| StoreError::Unreadable(format!("load: {NOT_OURS}")))
                })
                .transpose()
        })
    }

    fn insert<'a>(&'a self, key: &'a RecordKey, new: &'a NewRecord) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let name = self.record(key);
            let value = record::pack(&new.record, &new.indexes)
                .ok_or_else(|| StoreError::Unavailable("insert: a record that is too large".to_owned()))?;
            let version = record::version(new.record.version);
            let life = milliseconds(new.life);
            let (name, arguments) = (&name, [&*value, version.as_bytes(), life.as_bytes()]);
            self.connections
                .run("insert", |mut link, _| async move {
                    self.index_all(&link, &new.indexes, key, new.life).await?;
                    match scripts::INSERT.run::<i64>(&mut link, name, &arguments).await? {
                        1 => Ok(()),
                        _ => Err(Failure::ours("the name is taken")),
                    }
                })
                .await
        })
    }

    fn replace<'a>(
        &'a self,
        key: &'a RecordKey,
        expected: RecordVersion,
        next: &'a NewRecord,
    ) -> StoreFuture<'a, Replaced> {
        Box::pin(async move {
            let name = self.record(key);
            let head = record::head(&next.record)
                .ok_or_else(|| StoreError::Unavailable("replace: a record that is too large".to_owned()))?;
            let body = record::body(&next.record);
            let (old, new) = (record::version(expected), record::version(next.record.version));
            let life = milliseconds(next.life);
            let (name, arguments) = (
                &name,
                [
                    old.as_bytes(),
                    new.as_bytes(),
                    head.as_bytes(),
                    &*body,
                    life.as_bytes(),
                ],
            );
            self.connections
                .run("replace", |mut link, _| async move {
                    match scripts::REPLACE.run::<Value>(&mut link, name, &arguments).await? {
                        Value::Int(0) => Ok(Replaced::Gone),
                        Value::Int(_) => Ok(Replaced::Changed),
                        Value::BulkString(indexes) => {
                            let indexes = record::indexes(&indexes);
                            self.index_all(&link, &indexes, key, next.life).await?;
                            Ok(Replaced::Yes)
                        }
                        _ => Err(Failure::ours(NOT_OURS)),
                    }
                })
                .await
        })
    }

    fn touch<'a>(&'a self, key: &'a RecordKey, last_active: UnixTime, life: Duration) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let name = self.record(key);
            let (time, milliseconds) = (record::time(last_active), milliseconds(life));
            let (name, arguments) = (&name, [time.as_bytes(), milliseconds.as_bytes()]);
            self.connections
                .run("touch", |mut link, _| async move {
                    let indexes: Option<Vec<u8>> = scripts::TOUCH.run(&mut link, name, &arguments).await?;
                    let indexes = record::indexes(&indexes.unwrap_or_default());
                    self.index_all(&link, &indexes, key, life).await
                })
                .await
        })
    }

    fn delete<'a>(&'a self, key: &'a RecordKey) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let name = &self.record(key);
            let indexes: Option<Vec<u8>> = self
                .connections
                .run("delete", |mut link, _| async move {
                    Ok(scripts::DELETE.run(&mut link, name, &[]).await?)
                })
                .await?;
            let Some(indexes) = indexes else {
                return Ok(false);
            };
            // It is deleted; an entry that stays behind leads to nothing and goes with its life.
            let indexes = record::indexes(&indexes);
            let _ = self
                .connections
                .run("delete", |link, _| {
                    let removals = indexes.iter().map(|index| {
                        let mut remove = cmd("ZREM");
                        remove.arg(self.index(index)).arg(&key.0);
                        let link = link.clone();
                        async move { query::<Value>(link, &remove).await }
                    });
                    let removals = join_all(removals);
                    async move { removals.await.into_iter().collect::<Result<Vec<_>, _>>() }
                })
                .await;
            Ok(true)
        })
    }

    fn delete_at<'a>(&'a self, key: &'a RecordKey, expected: RecordVersion) -> StoreFuture<'a, Replaced> {
        Box::pin(async move {
            let (name, version) = (self.record(key), record::version(expected));
            let (name, arguments) = (&name, [version.as_bytes()]);
            self.connections
                .run("delete", |mut link, _| async move {
                    // entries of the indexes stay behind: they lead to nothing and go with their life
                    match scripts::DELETE_AT
                        .run::<Value>(&mut link, name, &arguments)
                        .await?
                    {
                        Value::Int(0) => Ok(Replaced::Gone),
                        Value::Int(_) => Ok(Replaced::Changed),
                        Value::BulkString(_) => Ok(Replaced::Yes),
                        _ => Err(Failure::ours(NOT_OURS)),
                    }
                })
                .await
        })
    }

    fn list<'a>(&'a self, index: &'a IndexKey) -> StoreFuture<'a, Vec<(RecordKey, Record)>> {
        Box::pin(async move {
            let mut members = cmd("ZRANGE");
            members.arg(self.index(index)).arg(0).arg(-1);
            let members = &members;
            self.connections
                .run("list", |link, _| async move {
                    let names: Vec<Vec<u8>> = query(link.clone(), members).await?;
                    let keys: Vec<RecordKey> = names
                        .iter()
                        .filter_map(|name| Some(RecordKey(name.as_slice().try_into().ok()?)))
                        .collect();
                    let mut found = Vec::with_capacity(keys.len());
                    for some in keys.chunks(AT_ONCE) {
                        let names = some.iter().map(|key| self.record(key));
                        let values: Vec<Option<Vec<u8>>> = query(link.clone(), &all_of(names)).await?;
                        for (key, value) in some.iter().zip(values) {
                            let Some(value) = value else { continue };
                            found.push((*key, record::unpack(&value).unwrap_or_else(unreadable)));
                        }
                    }
                    Ok(found)
                })
                .await
        })
    }

    fn mark<'a>(&'a self, marks: &'a [Mark]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.connections
                .run("mark", |link, _| async move {
                    try_join_all(marks.iter().map(|mark| {
                        let (mut link, name) = (link.clone(), self.mark_name(&mark.key));
                        async move {
                            let (at, life) = (record::time(mark.at), milliseconds(mark.life));
                            scripts::MARK
                                .run::<Value>(&mut link, &name, &[at.as_bytes(), life.as_bytes()])
                                .await
                        }
                    }))
                    .await?;
                    Ok(())
                })
                .await
        })
    }

    fn marks<'a>(&'a self, keys: &'a [MarkKey]) -> StoreFuture<'a, Vec<Option<UnixTime>>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let get = all_of(keys.iter().map(|key| self.mark_name(key)));
            let values: Vec<Option<String>> =
                self.connections.run("marks", |link, _| query(link, &get)).await?;
            values
                .into_iter()
                .map(
                    |value| match value.map(|digits| u64::from_str_radix(&digits, 16)) {
                        None => Ok(None),
                        Some(Ok(at)) => Ok(Some(UnixTime(at))),
                        Some(Err(_)) => Err(StoreError::Unreadable(format!("marks: {NOT_OURS}"))),
                    },
                )
                .collect()
        })
    }

    fn announce<'a>(&'a self, ended: &'a [Ended]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let (name, kept) = (&self.ended(), milliseconds(KEPT));
            let kept = kept.as_bytes();
            self.connections
                .run("announce", |mut link, _| async move {
                    for some in ended.chunks(AT_ONCE) {
                        let announced: Vec<u8> = some.iter().flat_map(ended::announcement).collect();
                        scripts::ANNOUNCE
                            .run::<Value>(&mut link, name, &[&announced, kept])
                            .await?;
                    }
                    Ok(())
                })
                .await
        })
    }

    fn ended_since<'a>(&'a self, cursor: Option<&'a Cursor>) -> StoreFuture<'a, (Cursor, Vec<Ended>)> {
        Box::pin(async move {
            let place = cursor
                .map(|cursor| Place::read(cursor).ok_or(StoreError::CursorTooOld))
                .transpose()?;
            let name = &self.ended();
            let read = self
                .connections
                .run("ended_since", |link, generation| async move {
                    ended::read(link, name, generation, place).await
                })
                .await?;
            read.ok_or(StoreError::CursorTooOld)
        })
    }

    fn acquire<'a>(&'a self, key: &'a EntryKey, holder: Holder, life: Duration) -> StoreFuture<'a, Lease> {
        Box::pin(async move {
            let (name, holder) = (&self.entry('l', key), digits(&holder.0));
            let (life, remembered) = (milliseconds(life), milliseconds(DEATHS_REMEMBERED));
            let arguments = [holder.as_bytes(), life.as_bytes(), remembered.as_bytes()];
            let (state, value): (i64, u64) = self
                .connections
                .run("acquire", |mut link, _| async move {
                    Ok(scripts::ACQUIRE.run(&mut link, name, &arguments).await?)
                })
                .await?;
            let left = Duration::from_millis(value);
            Ok(match state {
                0 => Lease::Acquired {
                    after_death: value == 1,
                },
                1 => Lease::Held { left },
                _ => Lease::Resting { left },
            })
        })
    }

    fn release<'a>(&'a self, key: &'a EntryKey, holder: Holder, rest: Duration) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let (name, holder) = (&self.entry('l', key), digits(&holder.0));
            let rest = match rest {
                Duration::ZERO => "0".to_owned(),
                rest => milliseconds(rest),
            };
            let arguments = [holder.as_bytes(), rest.as_bytes()];
            self.connections
                .run("release", |mut link, _| async move {
                    scripts::RELEASE.run::<Value>(&mut link, name, &arguments).await?;
                    Ok(())
                })
                .await
        })
    }

    fn remember<'a>(&'a self, key: &'a EntryKey, value: &'a [u8], life: Duration) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut set = cmd("SET");
            set.arg(self.entry('e', key))
                .arg(value)
                .arg("PX")
                .arg(milliseconds(life));
            self.connections
                .run("remember", |link, _| query(link, &set))
                .await
        })
    }

    fn recall<'a>(&'a self, keys: &'a [EntryKey]) -> StoreFuture<'a, Vec<Option<Vec<u8>>>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let get = all_of(keys.iter().map(|key| self.entry('e', key)));
            self.connections.run("recall", |link, _| query(link, &get)).await
        })
    }

    fn claim<'a>(&'a self, key: &'a EntryKey, life: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let (name, life) = (&self.entry('c', key), milliseconds(life));
            // so that an attempt whose answer was lost is known for the caller's own
            let mut claimant = [0; 16];
            SystemRng.fill(&mut claimant);
            let arguments: [&[u8]; 2] = [&claimant, life.as_bytes()];
            let claimed: i64 = self
                .connections
                .run("claim", |mut link, _| async move {
                    Ok(scripts::CLAIM.run(&mut link, name, &arguments).await?)
                })
                .await?;
            Ok(claimed == 1)
        })
    }

    /// Nothing to do: the server forgets by itself.
    fn purge(&self) -> StoreFuture<'_, u64> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut set = cmd("SET");
            set.arg(format!("{}ping", self.prefix)).arg(1).arg("PX").arg(1000);
            self.connections.run("ping", |link, _| query(link, &set)).await
        })
    }

    fn facts(&self) -> StoreFuture<'_, StoreFacts> {
        Box::pin(async move {
            let mut save = cmd("CONFIG");
            save.arg("GET").arg("save");
            let (time, info) = (cmd("TIME"), cmd("INFO"));
            // what the ACL of this user does not allow is not known; a cluster answers for each node
            let ask = |command| {
                self.connections
                    .run("facts", move |link, _| query::<Value>(link, command))
            };
            let time = ask(&time)
                .await
                .ok()
                .and_then(|time| Vec::<String>::from_redis_value(time).ok());
            let now = time.and_then(|time| time.first()?.parse().ok()).map(UnixTime);
            let info = ask(&info)
                .await
                .ok()
                .and_then(|info| String::from_redis_value(info).ok());
            let save = ask(&save).await.ok();
            let save = save.and_then(|save| HashMap::<String, String>::from_redis_value(save).ok());
            let save = save.as_ref().and_then(|save| save.get("save"));
            let facts = info.map(|info| facts::of(&info, save.map(String::as_str)));
            Ok(facts.unwrap_or_default().at(now))
        })
    }
}

async fn query<T: FromRedisValue>(mut link: Link, command: &Cmd) -> Result<T, Failure> {
    Ok(command.query_async(&mut link).await?)
}

/// The values of several names by one command.
fn all_of(names: impl Iterator<Item = String>) -> Cmd {
    let mut get = cmd("MGET");
    for name in names {
        get.arg(name);
    }
    get
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A life as the server takes it: no nothing, which it refuses, and no more than it can count.
fn milliseconds(life: Duration) -> String {
    life.as_millis().clamp(1, TEN_YEARS.as_millis()).to_string()
}

const NOT_OURS: &str = "a value that this version of Coatroom cannot read";

/// How many names go into one command, and how many ends into one announcement.
const AT_ONCE: usize = 100;

/// How long it is remembered that a lease was never given back.
const DEATHS_REMEMBERED: Duration = Duration::from_secs(600);

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_what_a_server_takes() {
        let cases = [
            (Duration::ZERO, "1"),
            (Duration::from_micros(1), "1"),
            (Duration::from_secs(60), "60000"),
            (Duration::MAX, "315360000000"),
        ];
        for (life, expected) in cases {
            assert_eq!(milliseconds(life), expected);
        }
    }
}
