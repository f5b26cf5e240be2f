//! Tombstones: what is dead in this browser although its cookies may come back.
//!
//! A late answer may write old cookies back after a sign-out, a new sign-in or a refused refresh
//! token. Digests of at most eight of them, newest first, keep them dead. Holds no token and no
//! session id, only truncated digests, and never decides what has ended.

use minicbor::bytes::ByteArray;
use zeroize::Zeroizing;

use crate::seal::digest8;
use crate::secret::Secret;
use crate::session::{SessionId, encode};

/// Tombstones: what was signed out or replaced in this browser, newest first.
///
/// A late answer may write old cookies back; the tombstone, which refresh never writes over,
/// keeps them dead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tombstones(Vec<[u8; 8]>);

impl Tombstones {
    /// How many are kept: the oldest goes.
    pub(crate) const MAX: usize = 8;

    pub(crate) fn decode(plaintext: &[u8]) -> Option<Self> {
        let entries: Vec<ByteArray<8>> = minicbor::decode(plaintext).ok()?;
        Some(Self::from_record(&entries))
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        encode(&self.record())
    }

    pub(crate) fn record(&self) -> Vec<ByteArray<8>> {
        self.0.iter().map(|entry| ByteArray::from(*entry)).collect()
    }

    pub(crate) fn from_record(entries: &[ByteArray<8>]) -> Self {
        Self(entries.iter().take(Self::MAX).map(|entry| **entry).collect())
    }

    pub(crate) fn add_session(&mut self, id: SessionId) {
        self.add(digest8("ended session", &id.0));
    }

    pub(crate) fn has_session(&self, id: SessionId) -> bool {
        // nearly always there is none, and then nothing is hashed
        !self.0.is_empty() && self.0.contains(&digest8("ended session", &id.0))
    }

    pub(crate) fn add_refresh_token(&mut self, token: &Secret) {
        self.add(digest8("ended refresh token", token.expose().as_bytes()));
    }

    pub(crate) fn has_refresh_token(&self, token: &Secret) -> bool {
        self.0
            .contains(&digest8("ended refresh token", token.expose().as_bytes()))
    }

    /// Adds the entries of another list that are missing here (several cookies of the name).
    pub(crate) fn merge(&mut self, other: &Self) {
        for entry in other.0.iter().rev() {
            if !self.0.contains(entry) {
                self.add(*entry);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, entry: [u8; 8]) {
        self.0.retain(|known| *known != entry);
        self.0.insert(0, entry);
        self.0.truncate(Self::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_keep_the_newest_eight() {
        let mut tombstones = Tombstones::default();
        for n in 0..10 {
            tombstones.add_session(SessionId([n; 16]));
        }
        let again = Tombstones::decode(&tombstones.encode()).expect("decodes");
        assert_eq!(again, tombstones);
        assert!(!again.has_session(SessionId([1; 16])));
        assert!(again.has_session(SessionId([2; 16])));
        assert!(again.has_session(SessionId([9; 16])));
        assert!(!again.has_refresh_token(&Secret::new("r")));
    }

    #[test]
    fn garbage_is_no_tombstone() {
        for garbage in [&b""[..], b"\x84", b"\xff\xff\xff", &[0x9f; 64]] {
            assert!(Tombstones::decode(garbage).is_none());
        }
    }
}
