//! What has ended, as every replica hears of it: a stream that is as old as it is allowed to get.
//!
//! Bounded by time and never by number, so that a burst of sign-outs drops nobody's. A reader whose
//! place is older than what is kept is told so, and never quietly given the rest.

use std::time::Duration;

use coatroom_core::session::SessionId;
use coatroom_core::store::{Ended, MarkKey};

use super::connection::Link;
use super::failure::Failure;
use super::scripts;
use crate::store::Cursor;

/// Where a reader of the ends has got to: over which connection, and behind which entry of the stream.
#[derive(Clone, Copy)]
pub(super) struct Place {
    generation: u64,
    entry: (u64, u64),
}

impl Place {
    pub(super) fn read(cursor: &Cursor) -> Option<Self> {
        let (generation, entry) = cursor.0.split_once('/')?;
        Some(Self {
            generation: generation.parse().ok()?,
            entry: entry_id(entry)?,
        })
    }

    fn cursor(self) -> Cursor {
        let Self {
            generation,
            entry: (time, number),
        } = self;
        Cursor(format!("{generation}/{time}-{number}"))
    }
}

fn entry_id(text: &str) -> Option<(u64, u64)> {
    let (time, number) = text.split_once('-')?;
    Some((time.parse().ok()?, number.parse().ok()?))
}

/// An entry of the stream: its id, and fields and values.
type Entry = (String, Vec<Vec<u8>>);

/// What is in the stream behind a place; none if something there may have been dropped already.
///
/// Entries are named by the clock of the server that took them. Another connection may lead to another
/// server, whose clock is behind: then everything that is kept is read once more.
pub(super) async fn read(
    link: Link,
    name: &str,
    generation: u64,
    place: Option<Place>,
) -> Result<Option<(Cursor, Vec<Ended>)>, Failure> {
    let count = ENTRIES_AT_ONCE.to_string();
    let same_server = place.filter(|place| place.generation == generation);
    let mut from = match (place, same_server) {
        (None, _) => String::new(),
        (Some(_), None) => "-".to_owned(),
        (
            _,
            Some(Place {
                entry: (time, number),
                ..
            }),
        ) => format!("({time}-{number}"),
    };
    let ask = |mut link: Link, from: String| {
        let count = &count;
        async move {
            let arguments = [from.as_bytes(), count.as_bytes()];
            scripts::ENDED
                .run::<(u64, Vec<Entry>)>(&mut link, name, &arguments)
                .await
        }
    };
    let (mut now, mut entries) = ask(link.clone(), from.clone()).await?;
    if place.is_some_and(|place| place.entry.0 > now) {
        from = "-".to_owned();
        (now, entries) = ask(link.clone(), from.clone()).await?;
    }
    let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
    if place.is_some_and(|place| now.saturating_sub(place.entry.0) > kept) {
        return Ok(None);
    }
    let last = entries.last().and_then(|(id, _)| entry_id(id));
    // A quiet stream: the reader keeps up with the clock, well behind what another one may say.
    let quiet = (now.saturating_sub(CLOCKS_DIFFER), 0);
    let so_far = same_server.filter(|_| from != "-").map(|place| place.entry);
    let entry = match last {
        Some(last) if entries.len() == ENTRIES_AT_ONCE => last,
        last => quiet
            .max(last.unwrap_or_default())
            .max(so_far.unwrap_or_default()),
    };
    let ended = match place {
        None => Vec::new(),
        Some(_) => entries
            .iter()
            .flat_map(|(_, fields)| fields.get(1).map(|bytes| announced(bytes)).unwrap_or_default())
            .collect(),
    };
    Ok(Some((Place { generation, entry }.cursor(), ended)))
}

/// One thing that has ended, as bytes: what it is, and its name.
pub(super) fn announcement(ended: &Ended) -> Vec<u8> {
    match ended {
        Ended::Session(id) => [&b"s"[..], &id.0].concat(),
        Ended::Marked(key) => [&b"m"[..], &key.0].concat(),
    }
}

/// The reverse, for many: as far as it can be read.
fn announced(mut bytes: &[u8]) -> Vec<Ended> {
    let mut found = Vec::new();
    loop {
        match bytes {
            [b's', rest @ ..] if let Some((id, rest)) = rest.split_first_chunk() => {
                found.push(Ended::Session(SessionId(*id)));
                bytes = rest;
            }
            [b'm', rest @ ..] if let Some((key, rest)) = rest.split_first_chunk() => {
                found.push(Ended::Marked(MarkKey(*key)));
                bytes = rest;
            }
            _ => return found,
        }
    }
}

/// How many announcements are read at once.
const ENTRIES_AT_ONCE: usize = 1000;

/// How long announcements are kept.
pub(super) const KEPT: Duration = Duration::from_secs(600);

/// How much the clocks of servers that follow each other may differ, in milliseconds.
const CLOCKS_DIFFER: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_come_back() {
        let ended = [
            Ended::Session(SessionId([1; 16])),
            Ended::Marked(MarkKey([2; 32])),
            Ended::Session(SessionId([3; 16])),
        ];
        let bytes: Vec<u8> = ended.iter().flat_map(announcement).collect();
        assert_eq!(announced(&bytes), ended);
        assert_eq!(announced(&bytes[..bytes.len() - 1]), ended[..2]);
        assert_eq!(announced(b"x"), []);
    }

    #[test]
    fn a_cursor_comes_back_and_another_stores_does_not() {
        let cursor = Cursor("3/1800000000000-7".to_owned());
        assert_eq!(Place::read(&cursor).expect("ours").cursor(), cursor);
        for other in ["", "3", "3/", "a/1-1", "17", "3/1"] {
            assert!(Place::read(&Cursor(other.to_owned())).is_none(), "{other}");
        }
    }
}
