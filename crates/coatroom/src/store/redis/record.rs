//! How a record is one value of Redis: a head of fixed width, the names of its indexes, three parts.
//!
//! One string costs less memory than a hash, is read by one plain `GET`, and lets a script look at the
//! head alone. Versions and times are hexadecimal digits, so that scripts compare them. Never reads a
//! value of a format that it does not know as something else.

use coatroom_core::store::{IndexKey, Record, RecordVersion};
use coatroom_core::time::UnixTime;

/// What a value begins with.
const FORMAT: &str = "1";

/// Format (1), version (16), last sign of a user (16), lengths of metadata and access (8 each).
const BEFORE_COUNT: usize = 49;

/// How many indexes follow: two digits.
const HEAD: usize = BEFORE_COUNT + 2;

/// More indexes than a record has: a user's, a session's at the provider, an application's.
const MOST_INDEXES: usize = 16;

/// A version as scripts compare it.
pub(super) fn version(version: RecordVersion) -> String {
    format!("{:016x}", version.0)
}

/// A time as scripts compare it.
pub(super) fn time(time: UnixTime) -> String {
    format!("{:016x}", time.0)
}

/// The head without the indexes; none if a part is longer than its field.
pub(super) fn head(record: &Record) -> Option<String> {
    Some(format!(
        "{FORMAT}{}{}{:08x}{:08x}",
        version(record.version),
        time(record.last_active),
        u32::try_from(record.metadata.len()).ok()?,
        u32::try_from(record.access.len()).ok()?,
    ))
}

/// What follows the indexes.
pub(super) fn body(record: &Record) -> Vec<u8> {
    [&*record.metadata, &*record.access, &*record.agent].concat()
}

/// A whole value; none if it does not fit the format.
pub(super) fn pack(record: &Record, indexes: &[IndexKey]) -> Option<Vec<u8>> {
    if indexes.len() > MOST_INDEXES {
        return None;
    }
    let mut value = head(record)?.into_bytes();
    value.extend(format!("{:02x}", indexes.len()).into_bytes());
    value.extend(indexes.iter().flat_map(|index| index.0));
    value.extend(body(record));
    Some(value)
}

/// A value, taken apart; none if it is not one of ours.
pub(super) fn unpack(value: &[u8]) -> Option<Record> {
    let (head, rest) = value.split_at_checked(HEAD)?;
    let head = std::str::from_utf8(head).ok()?.strip_prefix(FORMAT)?;
    let number = |from: usize, to: usize| u64::from_str_radix(head.get(from..to)?, 16).ok();
    let length = |from: usize, to: usize| usize::try_from(number(from, to)?).ok();
    let indexes = length(48, 50)?.checked_mul(32)?;
    let (_, rest) = rest.split_at_checked(indexes)?;
    let (metadata, rest) = rest.split_at_checked(length(32, 40)?)?;
    let (access, agent) = rest.split_at_checked(length(40, 48)?)?;
    Some(Record {
        version: RecordVersion(number(0, 16)?),
        last_active: UnixTime(number(16, 32)?),
        metadata: metadata.to_vec(),
        access: access.to_vec(),
        agent: agent.to_vec(),
    })
}

/// The names of indexes as scripts answer them.
pub(super) fn indexes(bytes: &[u8]) -> Vec<IndexKey> {
    bytes
        .chunks_exact(32)
        .filter_map(|name| Some(IndexKey(name.try_into().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            version: RecordVersion(u64::MAX - 1),
            last_active: UnixTime(1_800_000_000),
            metadata: b"who".to_vec(),
            access: b"token".to_vec(),
            agent: Vec::new(),
        }
    }

    #[test]
    fn a_record_comes_back_whatever_it_is_under() {
        for indexes in [vec![], vec![IndexKey([7; 32])], vec![IndexKey([0; 32]); 16]] {
            let value = pack(&record(), &indexes).expect("it fits");
            assert!(unpack(&value) == Some(record()));
            assert_eq!(value.len(), HEAD + indexes.len() * 32 + 8);
        }
        assert!(pack(&record(), &[IndexKey([0; 32]); 17]).is_none());
    }

    #[test]
    fn what_is_no_record_is_none() {
        let value = pack(&record(), &[IndexKey([7; 32])]).expect("it fits");
        for length in 0..HEAD + 32 + 8 {
            assert!(unpack(&value[..length]).is_none(), "{length}");
        }
        let mut other = value.clone();
        other[0] = b'2';
        assert!(unpack(&other).is_none(), "another format");
        let mut other = value;
        other[20] = 0xff;
        assert!(unpack(&other).is_none(), "no digits");
    }
}
