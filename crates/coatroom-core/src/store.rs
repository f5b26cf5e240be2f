//! What a session store keeps, as data: names of entries, records, marks.
//!
//! A record is opaque to the store: three sealed parts beside two clocks. Its name is a digest of the
//! handle that only the cookie holds, so that whoever reads the store can neither open a record nor
//! call for one. An index leads from a keyed hash of a user, or of a session at the provider, to
//! records; a mark says that whatever carries a keyed hash has ended at a time. Nothing here does
//! I/O; sealing and meaning are in `session` and `flow`, the stores in the shell.

use std::fmt;
use std::time::Duration;

use crate::session::SessionId;
use crate::time::UnixTime;

/// Names a session's record: a digest of its handle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(pub [u8; 32]);

/// Names the sessions of one user, or of one session at the provider: a keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey(pub [u8; 32]);

/// Names what may have ended (a session, a user's sessions, a session at the provider): a digest, or
/// a keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkKey(pub [u8; 32]);

/// Names a small entry that expires: a remembered outcome, a lease, a token's id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey(pub [u8; 32]);

macro_rules! hexadecimal {
    ($($name:ident),*) => {$(
        impl $name {
            /// The name in 64 hexadecimal digits.
            pub fn to_hex(self) -> String {
                use fmt::Write as _;
                self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                })
            }

            /// The reverse of [`to_hex`](Self::to_hex).
            pub fn from_hex(hex: &str) -> Option<Self> {
                let mut bytes = [0; 32];
                let digits = hex.as_bytes();
                if digits.len() != 64 {
                    return None;
                }
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    let pair = std::str::from_utf8(pair).ok()?;
                    if pair.starts_with('+') {
                        return None;
                    }
                    *byte = u8::from_str_radix(pair, 16).ok()?;
                }
                Some(Self(bytes))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(out, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}…)"), a, b, c, d)
            }
        }
    )*};
}

hexadecimal!(RecordKey, IndexKey, MarkKey, EntryKey);

/// Tells one state of a record from another: random, chosen by whoever writes, so that a write that
/// is repeated because its answer was lost is seen to have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordVersion(pub u64);

/// A session's record as a store keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is this time.
    pub version: RecordVersion,
    /// The last sign of a user. In the clear, so that a plain call can move it without a new version.
    pub last_active: UnixTime,
    /// When and where it began, whose it is: under a key of the server's alone, for lists.
    pub metadata: Vec<u8>,
    /// What an API call needs: opens with the cookie's handle and the key for access.
    pub access: Vec<u8>,
    /// Everything else: opens with the cookie's handle and the agent's key.
    pub agent: Vec<u8>,
}

/// A record on its way into a store.
#[derive(Clone)]
pub struct NewRecord {
    /// The record.
    pub record: Record,
    /// Under which names it can be found without its handle.
    pub indexes: Vec<IndexKey>,
    /// After how long the store may forget it, if nobody uses it.
    pub life: Duration,
}

/// Whether a record took a new state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It did, or had already.
    Yes,
    /// Somebody else wrote since.
    Changed,
    /// There is none (any more): a deletion wins.
    Gone,
}

/// A mark to set: what carries this name and began at or before the time has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose.
    pub key: MarkKey,
    /// Since when.
    pub at: UnixTime,
    /// For how long it has to be kept: as long as anything older may live.
    pub life: Duration,
}

/// Something that has ended, as every replica hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// One session.
    Session(SessionId),
    /// Whatever carries this name.
    Marked(MarkKey),
}

/// How asking for a lease went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It is the caller's. `after_death`: its last holder neither released nor extended it, so what
    /// that one began may or may not have happened.
    Acquired {
        /// Whether the last holder died with it.
        after_death: bool,
    },
    /// Somebody else has it, for this long unless extended.
    Held {
        /// What is left of it.
        left: Duration,
    },
    /// What it is for failed a moment ago, and is not to be tried for this long.
    Resting {
        /// What is left of the rest.
        left: Duration,
    },
}

/// Who holds a lease: random for each attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(pub [u8; 16]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hexadecimal_and_come_back() {
        let key = RecordKey(std::array::from_fn(|index| {
            u8::try_from(index * 7).expect("small")
        }));
        let hex = key.to_hex();
        assert_eq!((hex.len(), &hex[..6]), (64, "00070e"));
        assert_eq!(RecordKey::from_hex(&hex), Some(key));
        for wrong in ["", "00", &hex[..63], &format!("{hex}0"), &hex.replace("07", "+7")] {
            assert_eq!(RecordKey::from_hex(wrong), None, "{wrong}");
        }
    }
}
