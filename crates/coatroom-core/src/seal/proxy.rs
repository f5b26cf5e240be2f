//! The proxy's key: what an instance needs that only forwards API calls.
//!
//! It holds the sub-keys of [`Purpose::Access`] and [`Purpose::Ended`] of one master key, and
//! nothing from which another could be derived. Whoever steals it can open and make access cookies
//! and tombstones: use the access tokens of cookies that pass by, and end sessions in browsers into
//! which cookies can be put. It opens no refresh token, no ID token and no sign-in, and the agent
//! takes nothing that it made for a session. A [`ProxyRing`] only opens: a proxy seals nothing.

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::key::only_line;
use super::record::{Handle, Part, RecordKeys, open_part};
use super::ring::{Derivation, Opens, open_under};
use super::{Associated, KeyError, MasterKey, Opened, Purpose};
use crate::config::AppId;

/// Two sub-keys of a master key. No `Debug`, zeroed when dropped.
pub struct ProxyKey(Zeroizing<[u8; LENGTH]>);

/// The keys of an instance that only forwards API calls; every one opens.
pub struct ProxyRing {
    keys: Vec<SubKeys>,
}

struct SubKeys {
    id: [u8; 2],
    access: LessSafeKey,
    ended: LessSafeKey,
    access_records: RecordKeys,
}

impl MasterKey {
    /// The proxy's part of it.
    pub fn proxy_key(&self) -> ProxyKey {
        let derivation = Derivation::of(self);
        let mut bytes = Zeroizing::new([0; LENGTH]);
        let (id, keys) = bytes.split_at_mut(ID);
        id.copy_from_slice(&derivation.id());
        let (access, ended) = keys.split_at_mut(SUB_KEY);
        access.copy_from_slice(derivation.sub_key(Purpose::Access).as_slice());
        ended.copy_from_slice(derivation.sub_key(Purpose::Ended).as_slice());
        ProxyKey(bytes)
    }
}

impl ProxyKey {
    /// Whether a key file holds one of these.
    pub fn is_one(text: &str) -> bool {
        only_line(text).is_ok_and(|line| line.starts_with(PREFIX))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyError::Missing`], [`KeyError::Several`], [`KeyError::UnknownFormat`] or
    /// [`KeyError::MalformedProxy`]; none of them carries any of the text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let encoded = only_line(text)?
            .strip_prefix(PREFIX)
            .ok_or(KeyError::UnknownFormat)?;
        if encoded.len() != ENCODED {
            return Err(KeyError::MalformedProxy);
        }
        let mut bytes = Zeroizing::new([0; LENGTH]);
        match URL_SAFE_NO_PAD.decode_slice(encoded, bytes.as_mut_slice()) {
            Ok(LENGTH) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(KeyError::MalformedProxy),
        }
    }

    /// The key file's text, ending with a line feed.
    pub fn to_text(&self) -> Zeroizing<String> {
        // Sized in advance: growing would leave copies of the key behind.
        let mut text = Zeroizing::new(String::with_capacity(COMMENT.len() + PREFIX.len() + ENCODED + 1));
        text.push_str(COMMENT);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(self.0.as_slice(), &mut text);
        text.push('\n');
        text
    }

    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let (id, keys) = self.0.split_at(ID);
        let (access, ended) = keys.split_at(SUB_KEY);
        (id, access, ended)
    }
}

impl ProxyRing {
    /// A ring of these keys.
    ///
    /// # Errors
    /// [`KeyError::NoKeys`] for an empty list, [`KeyError::Duplicate`] when a key is in it twice.
    pub fn new(keys: Vec<ProxyKey>) -> Result<Self, KeyError> {
        if keys.is_empty() {
            return Err(KeyError::NoKeys);
        }
        for (second, key) in keys.iter().enumerate() {
            let first = keys.iter().take(second).position(|k| *k.0 == *key.0);
            if let Some(first) = first {
                return Err(KeyError::Duplicate {
                    first: first.saturating_add(1),
                    second: second.saturating_add(1),
                });
            }
        }
        let aead = |key: &[u8]| {
            UnboundKey::new(&AES_256_GCM_SIV, key)
                .map(LessSafeKey::new)
                .expect("32 bytes are what AES-256 takes")
        };
        // the list is consumed, and zeroed with it
        let keys = keys.into_iter().map(|key| {
            let (id, access, ended) = key.parts();
            SubKeys {
                id: *id.first_chunk().expect("the id has its two bytes"),
                access_records: RecordKeys::new(access),
                access: aead(access),
                ended: aead(ended),
            }
        });
        Ok(Self { keys: keys.collect() })
    }

    /// Opens a value that is for a proxy's eyes. `None` is all there is to say about any other.
    pub fn open(&self, purpose: Purpose, associated: &Associated<'_>, sealed: &[u8]) -> Option<Opened> {
        self.open_owned(purpose, associated, sealed.to_vec())
    }

    /// The keys' public ids, in their order: those of the master keys they come from.
    pub fn ids(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(
            |SubKeys {
                 id: [first, second], ..
             }| format!("{first:02x}{second:02x}"),
        )
    }
}

impl Opens for ProxyRing {
    fn open_owned(&self, purpose: Purpose, associated: &Associated<'_>, sealed: Vec<u8>) -> Option<Opened> {
        let of: fn(&SubKeys) -> &LessSafeKey = match purpose {
            Purpose::Access => |keys| &keys.access,
            Purpose::Ended => |keys| &keys.ended,
            Purpose::Session | Purpose::Login | Purpose::Logout | Purpose::Memory | Purpose::Metadata => {
                return None;
            }
        };
        // which key is the first one matters to those who seal
        let keys = self.keys.iter().map(|keys| (keys.id, of(keys), false));
        open_under(keys, purpose, associated, sealed)
    }

    fn open_part(&self, part: Part, handle: &Handle, application: &AppId, sealed: &[u8]) -> Option<Opened> {
        match part {
            Part::Access => {
                let keys = self
                    .keys
                    .iter()
                    .map(|keys| (keys.id, &keys.access_records, false));
                open_part(keys, part, handle, application, sealed)
            }
            Part::Agent => None,
        }
    }
}

const COMMENT: &str = "# coatroom's key for a proxy: opens access cookies; keep it secret\n";
const PREFIX: &str = "coatroom-proxy-key-1:";

const ID: usize = 2;
const SUB_KEY: usize = 32;
const LENGTH: usize = ID + 2 * SUB_KEY;

/// 66 bytes in base64url without padding.
const ENCODED: usize = 88;

#[cfg(test)]
mod tests {
    use super::*;

    use crate::rng::testing::Counter;
    use crate::seal::KeyRing;

    const MASTER: &str = "coatroom-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn master() -> MasterKey {
        MasterKey::parse(MASTER).expect("a good key")
    }

    fn proxy_ring() -> ProxyRing {
        ProxyRing::new(vec![master().proxy_key()]).expect("one key")
    }

    #[test]
    fn it_opens_access_cookies_and_tombstones_and_nothing_else() {
        let (all, proxy) = (KeyRing::new(vec![master()]).expect("one key"), proxy_ring());
        let shop = AppId::parse("shop").expect("a good id");
        let to = Associated {
            application: &shop,
            name: "name",
            chunk_header: b"",
        };
        for (purpose, opens) in [
            (Purpose::Access, true),
            (Purpose::Ended, true),
            (Purpose::Session, false),
            (Purpose::Login, false),
            (Purpose::Logout, false),
            (Purpose::Memory, false),
        ] {
            let sealed = all.seal(purpose, &to, b"plaintext", &mut Counter(7));
            let opened = proxy.open(purpose, &to, &sealed);
            assert_eq!(opened.is_some(), opens, "{purpose:?}");
            // nor under the two keys it has, taken for another purpose
            for other in [Purpose::Access, Purpose::Ended] {
                let opened = proxy.open(other, &to, &sealed);
                assert_eq!(opened.is_some(), opens && other == purpose, "{purpose:?}");
            }
        }
    }

    #[test]
    fn a_key_file_is_read_back_and_anything_else_refused() {
        let text = master().proxy_key().to_text();
        assert!(ProxyKey::is_one(&text) && !ProxyKey::is_one(MASTER));
        let ring = ProxyRing::new(vec![ProxyKey::parse(&text).expect("just written")]).expect("one key");
        assert_eq!(ring.ids().collect::<Vec<_>>(), ["2816"], "the master key's id");
        let line = text.lines().last().expect("a line").to_owned();
        for (text, error) in [
            (String::new(), KeyError::Missing),
            (format!("{line}\n{line}\n"), KeyError::Several),
            (MASTER.to_owned(), KeyError::UnknownFormat),
            ("coatroom-proxy-key-1:AAAA".to_owned(), KeyError::MalformedProxy),
            (
                line.replace(PREFIX, "coatroom-proxy-key-1: "),
                KeyError::MalformedProxy,
            ),
            (
                line.get(..line.len() - 1).unwrap_or_default().to_owned() + "!",
                KeyError::MalformedProxy,
            ),
        ] {
            assert_eq!(ProxyKey::parse(&text).map(drop), Err(error));
        }
    }

    #[test]
    fn an_empty_ring_and_a_key_twice_are_refused() {
        assert_eq!(ProxyRing::new(Vec::new()).map(drop), Err(KeyError::NoKeys));
        let twice = vec![master().proxy_key(), master().proxy_key()];
        let error = KeyError::Duplicate { first: 1, second: 2 };
        assert_eq!(ProxyRing::new(twice).map(drop), Err(error));
    }

    #[test]
    fn its_text_holds_none_of_the_master_key() {
        let master_line = MASTER.trim_start_matches("coatroom-key-1:");
        let text = master().proxy_key().to_text();
        let windows = master_line.as_bytes().windows(8);
        for window in windows {
            let window = std::str::from_utf8(window).expect("ASCII");
            assert!(!text.contains(window));
        }
    }
}
