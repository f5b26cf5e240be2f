//! The parts of a stored session: sealed under a key that needs both the cookie's handle and ours.
//!
//! Whoever reads the store has neither; whoever steals a key ring has no handle; whoever steals a
//! cookie needs us. The part for API calls opens with the key that a proxy has, the other one with
//! the agent's alone (HKDF-SHA256 over the sub-key, with the handle as its info, RFC 5869 §3.2). The
//! record's name is a digest of the handle: it opens nothing and tells nothing.

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use aws_lc_rs::{digest, hkdf};
use zeroize::Zeroizing;

use super::length_prefix;
use super::ring::{Associated, HEADER_LEN, Opened, Purpose, open_under};
use crate::config::AppId;
use crate::rng::{Rng, random};
use crate::store::RecordKey;

/// What only a session's cookie knows: finds its record and helps to open it. No `Debug`; zeroed
/// when dropped.
#[derive(Clone)]
pub(crate) struct Handle(Zeroizing<[u8; 32]>);

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What an API call needs.
    Access,
    /// Everything else.
    Agent,
}

impl Handle {
    pub(crate) fn generate(rng: &mut dyn Rng) -> Self {
        Self(Zeroizing::new(random(rng)))
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it is the other one, in a time that tells nothing about either.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_slice(), other.0.as_slice()).is_ok()
    }

    /// The name of the record.
    pub(crate) fn record_key(&self, application: &AppId) -> RecordKey {
        RecordKey(digest_of(
            "session record",
            &[application.as_str().as_bytes(), self.0.as_slice()],
        ))
    }
}

impl Part {
    pub(super) fn purpose(self) -> Purpose {
        match self {
            Self::Access => Purpose::Access,
            Self::Agent => Purpose::Session,
        }
    }

    /// Its name in associated data and key derivation. Never changes.
    fn label(self) -> &'static str {
        match self {
            Self::Access => "record access",
            Self::Agent => "record agent",
        }
    }

    pub(super) fn associated<'a>(self, application: &'a AppId, key: &'a RecordKey) -> Associated<'a> {
        Associated {
            application,
            name: self.label(),
            chunk_header: &key.0,
        }
    }
}

/// From which the keys of records are derived: a sub-key of one purpose.
pub(super) struct RecordKeys(hkdf::Prk);

impl RecordKeys {
    pub(super) fn new(sub_key: &[u8]) -> Self {
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, b"coatroom-record-1").extract(sub_key))
    }

    pub(super) fn of(&self, part: Part, handle: &Handle) -> LessSafeKey {
        let mut key = Zeroizing::new([0; 32]);
        self.0
            .expand(&[part.label().as_bytes(), handle.0.as_slice()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(key.as_mut_slice()))
            .expect("one block of HKDF output is within its bound");
        UnboundKey::new(&AES_256_GCM_SIV, key.as_slice())
            .map(LessSafeKey::new)
            .expect("32 bytes are what AES-256 takes")
    }
}

/// Opens a part under whichever of these keys (id, keys, whether it is old) sealed it.
pub(super) fn open_part<'k>(
    keys: impl Iterator<Item = ([u8; 2], &'k RecordKeys, bool)>,
    part: Part,
    handle: &Handle,
    application: &AppId,
    sealed: &[u8],
) -> Option<Opened> {
    let id = <[u8; 2]>::try_from(sealed.get(1..HEADER_LEN)?).ok()?;
    let matching: Vec<([u8; 2], LessSafeKey, bool)> = keys
        .filter(|(known, ..)| *known == id)
        .map(|(id, keys, is_old)| (id, keys.of(part, handle), is_old))
        .collect();
    let keys = matching.iter().map(|(id, key, is_old)| (*id, key, *is_old));
    let record = handle.record_key(application);
    open_under(
        keys,
        part.purpose(),
        &part.associated(application, &record),
        sealed.to_vec(),
    )
}

/// SHA-256 over a label and fields, each with its length in front, for names of unguessable things.
pub(crate) fn digest_of(label: &str, fields: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"coatroom-digest-2");
    for field in std::iter::once(label.as_bytes()).chain(fields.iter().copied()) {
        context.update(&length_prefix(field.len()));
        context.update(field);
    }
    *context
        .finish()
        .as_ref()
        .first_chunk()
        .expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::testing::Counter;
    use crate::seal::{KeyRing, MasterKey, Opens as _, ProxyRing};

    fn app(id: &str) -> AppId {
        AppId::parse(id).expect("a good id")
    }

    fn key(text: &str) -> MasterKey {
        MasterKey::parse(text).expect("a good key")
    }

    const ONE: &str = "coatroom-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    const TWO: &str = "coatroom-key-1:_wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn a_part_opens_with_its_handle_its_keys_and_its_application_alone() {
        let rng = &mut Counter(0);
        let ring = KeyRing::new(vec![key(ONE)]).expect("one key");
        let handle = Handle::generate(rng);
        for part in [Part::Access, Part::Agent] {
            let sealed = ring.seal_part(part, &handle, &app("shop"), b"plain", rng);
            let open = |ring: &KeyRing, part, handle: &Handle, id: &str| {
                ring.open_part(part, handle, &app(id), &sealed)
                    .map(|opened| opened.plaintext().to_vec())
            };
            assert_eq!(open(&ring, part, &handle, "shop").as_deref(), Some(&b"plain"[..]));
            let other = match part {
                Part::Access => Part::Agent,
                Part::Agent => Part::Access,
            };
            assert!(open(&ring, other, &handle, "shop").is_none());
            assert!(open(&ring, part, &Handle::generate(rng), "shop").is_none());
            assert!(open(&ring, part, &handle, "desk").is_none());
            let foreign = KeyRing::new(vec![key(TWO)]).expect("one key");
            assert!(open(&foreign, part, &handle, "shop").is_none());
            let rotated = KeyRing::new(vec![key(TWO), key(ONE)]).expect("two keys");
            let opened = rotated.open_part(part, &handle, &app("shop"), &sealed);
            assert!(opened.expect("an old key opens").under_old_key());
            for length in 0..sealed.len() {
                let cut = ring.open_part(part, &handle, &app("shop"), &sealed[..length]);
                assert!(cut.is_none(), "{length}");
            }
        }
    }

    #[test]
    fn a_proxy_opens_the_part_for_calls_and_not_the_other() {
        let rng = &mut Counter(0);
        let ring = KeyRing::new(vec![key(ONE)]).expect("one key");
        let proxy = ProxyRing::new(vec![key(ONE).proxy_key()]).expect("one key");
        let handle = Handle::generate(rng);
        let access = ring.seal_part(Part::Access, &handle, &app("shop"), b"a", rng);
        let agent = ring.seal_part(Part::Agent, &handle, &app("shop"), b"b", rng);
        assert!(
            proxy
                .open_part(Part::Access, &handle, &app("shop"), &access)
                .is_some()
        );
        assert!(
            proxy
                .open_part(Part::Agent, &handle, &app("shop"), &agent)
                .is_none()
        );
        assert!(
            proxy
                .open_part(Part::Access, &handle, &app("shop"), &agent)
                .is_none()
        );
    }

    /// Stored records outlive a version of ours: these never change.
    #[test]
    fn names_and_keys_are_published() {
        let handle = Handle::from_bytes([7; 32]);
        let hex = handle.record_key(&app("shop")).to_hex();
        // sha256("coatroom-digest-2" + "session record", "shop" and 07…07, each behind its length in 8 bytes)
        let published = "f04015dc13249db22d920dd35c90d02226f5b02adc7a6e85b53e73288854d56b";
        assert_eq!(hex, published);
        assert_ne!(hex, handle.record_key(&app("desk")).to_hex());
        // by an independent implementation: `plain` under the key of this file, nonce 00…00
        let ring = KeyRing::new(vec![key(ONE)]).expect("one key");
        for (part, published) in [
            (
                Part::Access,
                "012816000000000000000000000000174a3061c4b44795a04bb242c6435a7d0e957162c2",
            ),
            (
                Part::Agent,
                "012816000000000000000000000000a7682b8e4b6fc560febe2439b6c8a62d5b7d706313",
            ),
        ] {
            let sealed = ring.seal_part(part, &handle, &app("shop"), b"plain", &mut Zeros);
            let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, published, "{part:?}");
        }
    }

    /// The nonce of the published values.
    struct Zeros;

    impl Rng for Zeros {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(0);
        }
    }
}
