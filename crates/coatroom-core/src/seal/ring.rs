//! The key ring: what seals, what opens, and the keyed hash.
//!
//! A sealed value is an envelope:
//!
//! ```text
//! format version, 1 byte = 1 · key id, 2 bytes · nonce, 12 bytes · ciphertext · tag, 16 bytes
//! ```
//!
//! sealed by AES-256-GCM-SIV (RFC 8452) under the sub-key of its [`Purpose`] (HKDF-SHA256, RFC 5869),
//! with version, key id, purpose, application, name and chunk header as associated data, each with
//! its length in front. So a value opens for exactly what it was sealed for. There is no way to
//! open one without authentication, no second algorithm to fall back to, and no reason given for a
//! refusal. Expiry is not looked at here: it is inside the plaintext, and the session's business.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use zeroize::Zeroizing;

use super::record::{Handle, Part, RecordKeys, open_part};
use super::{KeyError, MasterKey, length_prefix};
use crate::config::AppId;
use crate::rng::{Rng, random};
use crate::secret::wipe;

/// The keys of a deployment: the first seals, every one opens.
///
/// Rotation without a sign-out takes two steps: add the new key behind the old one everywhere, then
/// put it first; drop the old one when the longest session is over. No `Debug`; the sub-keys are
/// wiped when the ring is dropped.
///
/// # How many values one key may seal
///
/// Nonces are random. AES-GCM-SIV derives fresh AES keys from each nonce and survives repeated ones:
/// a repetition shows no more than whether two plaintexts with equal associated data are equal
/// (RFC 8452 §9). That section recommends that one nonce occur at most 2^8 times under a key, which
/// random nonces keep to with overwhelming probability until 2^102 values. We hold ourselves to 2^48
/// values per master key and purpose, where two equal nonces are only just becoming likely: a million
/// values a second for nine years. (AES-256-GCM with random nonces would have to stop at 2^32:
/// NIST SP 800-38D §8.3.)
pub struct KeyRing {
    first: SubKeys,
    older: Vec<SubKeys>,
}

/// What a sealed value is for. Each has its own sub-key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The anchor, read on every API call.
    Access,
    /// The refresh token and what belongs to it, read by the agent alone.
    Session,
    /// A pending sign-in.
    Login,
    /// A logout on its way through the provider.
    Logout,
    /// Tombstones of ended sessions.
    Ended,
    /// The agent's short memory of redeemed codes and rotated refresh tokens.
    Memory,
    /// What a stored session is listed by.
    Metadata,
}

/// What a sealed value is bound to beside its purpose: the associated data.
#[derive(Clone, Copy)]
pub struct Associated<'a> {
    /// The application.
    pub application: &'a AppId,
    /// The cookie's name (of a chunked cookie: without the chunk's number), or a store's key.
    pub name: &'a str,
    /// What stands in the clear in front of each chunk; empty when the value is whole.
    pub chunk_header: &'a [u8],
}

/// A plaintext whose seal was good. No `Debug`; zeroed when dropped.
pub struct Opened {
    plaintext: Wiped,
    under_old_key: bool,
}

impl KeyRing {
    /// Derives every sub-key once.
    ///
    /// # Errors
    /// [`KeyError::NoKeys`] for an empty list, [`KeyError::Duplicate`] when a key is in it twice.
    pub fn new(keys: Vec<MasterKey>) -> Result<Self, KeyError> {
        for (second, key) in keys.iter().enumerate() {
            let first = keys.iter().take(second).position(|k| k.bytes() == key.bytes());
            if let Some(first) = first {
                return Err(KeyError::Duplicate {
                    first: first.saturating_add(1),
                    second: second.saturating_add(1),
                });
            }
        }
        // The list is consumed: nobody keeps a master key for longer than the derivation takes.
        let mut derived = keys.into_iter().map(|key| SubKeys::derive(&key));
        Ok(Self {
            first: derived.next().ok_or(KeyError::NoKeys)?,
            older: derived.collect(),
        })
    }

    /// The keys' public ids, the first key's first: four hexadecimal digits that say nothing about
    /// the key and stand in front of everything that it seals.
    pub fn ids(&self) -> impl Iterator<Item = String> {
        let keys = std::iter::once(&self.first).chain(&self.older);
        keys.map(|key| {
            let [first, second] = key.id;
            format!("{first:02x}{second:02x}")
        })
    }

    /// Seals under the first key.
    pub fn seal(
        &self,
        purpose: Purpose,
        associated: &Associated<'_>,
        plaintext: &[u8],
        rng: &mut dyn Rng,
    ) -> Vec<u8> {
        let key = &self.first;
        seal_under(key.id, key.of(purpose), purpose, associated, plaintext, rng)
    }

    /// Seals a part of a stored session, under the first key and its handle.
    pub(crate) fn seal_part(
        &self,
        part: Part,
        handle: &Handle,
        application: &AppId,
        plaintext: &[u8],
        rng: &mut dyn Rng,
    ) -> Vec<u8> {
        let (purpose, record) = (part.purpose(), handle.record_key(application));
        let key = self.first.records(part).of(part, handle);
        let associated = part.associated(application, &record);
        seal_under(self.first.id, &key, purpose, &associated, plaintext, rng)
    }

    /// Opens a value under whichever key sealed it. `None` is all there is to say about any other.
    pub fn open(&self, purpose: Purpose, associated: &Associated<'_>, sealed: &[u8]) -> Option<Opened> {
        self.open_owned(purpose, associated, sealed.to_vec())
    }

    /// A keyed hash (HMAC-SHA256, RFC 2104) of `data` for one use, named by `label`, under the first
    /// key. It changes when another key becomes the first: see [`KeyRing::fingerprints`].
    pub fn fingerprint(&self, label: &str, data: &[u8]) -> [u8; 32] {
        self.first.fingerprint(label, data)
    }

    /// The keyed hash under every key, the first key's first: what to look for, since what was
    /// stored before a rotation was hashed under an older key.
    pub fn fingerprints<'a>(&'a self, label: &'a str, data: &'a [u8]) -> impl Iterator<Item = [u8; 32]> + 'a {
        std::iter::once(&self.first)
            .chain(&self.older)
            .map(|key| key.fingerprint(label, data))
    }
}

/// Something that opens sealed values.
pub(crate) trait Opens {
    /// Opens a value under whichever key sealed it, in the buffer that holds it, without a second
    /// allocation. `None` is all there is to say about any other.
    fn open_owned(&self, purpose: Purpose, associated: &Associated<'_>, sealed: Vec<u8>) -> Option<Opened>;

    /// Opens a part of a stored session.
    fn open_part(&self, part: Part, handle: &Handle, application: &AppId, sealed: &[u8]) -> Option<Opened>;
}

impl<T: Opens> Opens for std::sync::Arc<T> {
    fn open_owned(&self, purpose: Purpose, associated: &Associated<'_>, sealed: Vec<u8>) -> Option<Opened> {
        T::open_owned(self, purpose, associated, sealed)
    }

    fn open_part(&self, part: Part, handle: &Handle, application: &AppId, sealed: &[u8]) -> Option<Opened> {
        T::open_part(self, part, handle, application, sealed)
    }
}

impl Opens for KeyRing {
    fn open_owned(&self, purpose: Purpose, associated: &Associated<'_>, sealed: Vec<u8>) -> Option<Opened> {
        let first = std::iter::once((&self.first, false));
        let older = self.older.iter().map(|key| (key, true));
        let keys = first
            .chain(older)
            .map(|(key, is_old)| (key.id, key.of(purpose), is_old));
        open_under(keys, purpose, associated, sealed)
    }

    fn open_part(&self, part: Part, handle: &Handle, application: &AppId, sealed: &[u8]) -> Option<Opened> {
        let first = std::iter::once((&self.first, false));
        let older = self.older.iter().map(|key| (key, true));
        let keys = first
            .chain(older)
            .map(|(key, is_old)| (key.id, key.records(part), is_old));
        open_part(keys, part, handle, application, sealed)
    }
}

/// Seals under one key.
fn seal_under(
    id: [u8; 2],
    key: &LessSafeKey,
    purpose: Purpose,
    associated: &Associated<'_>,
    plaintext: &[u8],
    rng: &mut dyn Rng,
) -> Vec<u8> {
    let header = header(id);
    let nonce: [u8; NONCE_LEN] = random(rng);

    let mut sealed = Vec::with_capacity(sealed_len(plaintext.len()));
    sealed.extend_from_slice(&header);
    sealed.extend_from_slice(&nonce);
    sealed.resize(sealed_len(plaintext.len()), 0);
    let (ciphertext, tag) = sealed
        .get_mut(header.len() + NONCE_LEN..)
        .and_then(|body| body.split_at_mut_checked(plaintext.len()))
        .expect("the buffer was sized for header, nonce, ciphertext and tag");
    associated
        .encoded(&header, purpose, |aad| {
            key.seal_out_of_place_scatter(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                plaintext,
                ciphertext,
                &[],
                tag,
            )
        })
        .expect("a plaintext in memory is below the 2^36 bytes of RFC 8452 §6");
    sealed
}

/// Opens under the one of these keys (id, key, whether it is old) that sealed the value.
pub(super) fn open_under<'k>(
    keys: impl Iterator<Item = ([u8; 2], &'k LessSafeKey, bool)>,
    purpose: Purpose,
    associated: &Associated<'_>,
    sealed: Vec<u8>,
) -> Option<Opened> {
    // What a failed attempt leaves behind is wiped as well.
    let mut sealed = Wiped(sealed);
    let (header, rest) = sealed.0.split_first_chunk::<HEADER_LEN>()?;
    let header = *header;
    let nonce = *rest.first_chunk::<NONCE_LEN>()?;

    // Two keys may share an id, by an accident of one in 65,536.
    let mut candidates = keys
        .filter(move |(id, ..)| self::header(*id) == header)
        .peekable();
    while let Some((_, key, under_old_key)) = candidates.next() {
        let mut plaintext = if candidates.peek().is_some() {
            sealed.clone()
        } else {
            std::mem::take(&mut sealed)
        };
        let opened = associated.encoded(&header, purpose, |aad| {
            key.open_within(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut plaintext.0,
                HEADER_LEN + NONCE_LEN..,
            )
            .map(|opened| opened.len())
        });
        if let Ok(length) = opened {
            plaintext.0.truncate(length);
            return Some(Opened {
                plaintext,
                under_old_key,
            });
        }
    }
    None
}

/// The clear start of what the key with this id seals.
fn header([first, second]: [u8; 2]) -> [u8; HEADER_LEN] {
    [VERSION, first, second]
}

impl Opened {
    /// The plaintext.
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext.0
    }

    /// Whether another key than the first had sealed it, so that the next write re-seals it.
    pub fn under_old_key(&self) -> bool {
        self.under_old_key
    }
}

/// A buffer that is zeroed when dropped: opening in place leaves bytes behind the plaintext.
#[derive(Clone, Default)]
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// How long the envelope of a plaintext of this length is.
pub(crate) const fn sealed_len(plaintext: usize) -> usize {
    plaintext.saturating_add(HEADER_LEN + NONCE_LEN + TAG_LEN)
}

/// What is derived from one master key.
struct SubKeys {
    id: [u8; 2],
    access: LessSafeKey,
    session: LessSafeKey,
    login: LessSafeKey,
    logout: LessSafeKey,
    ended: LessSafeKey,
    memory: LessSafeKey,
    metadata: LessSafeKey,
    access_records: RecordKeys,
    agent_records: RecordKeys,
    fingerprint: hmac::Key,
}

/// Sub-keys of one master key (HKDF-SHA256).
pub(super) struct Derivation(hkdf::Prk);

impl Derivation {
    pub(super) fn of(key: &MasterKey) -> Self {
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, b"coatroom-key-1").extract(key.bytes()))
    }

    /// What encrypts for one purpose.
    pub(super) fn sub_key(&self, purpose: Purpose) -> Zeroizing<[u8; 32]> {
        self.expand("coatroom-seal-1/", purpose.label())
    }

    /// The public id.
    pub(super) fn id(&self) -> [u8; 2] {
        let [first, second, ..] = *self.expand("coatroom-key-id-1", "");
        [first, second]
    }

    fn expand(&self, info: &str, label: &str) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        self.0
            .expand(&[info.as_bytes(), label.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(out.as_mut_slice()))
            .expect("one block of HKDF output is within its bound");
        out
    }
}

impl SubKeys {
    fn derive(key: &MasterKey) -> Self {
        let derivation = Derivation::of(key);
        let aead = |purpose: Purpose| {
            UnboundKey::new(&AES_256_GCM_SIV, derivation.sub_key(purpose).as_slice())
                .map(LessSafeKey::new)
                .expect("32 bytes are what AES-256 takes")
        };
        let fingerprint = derivation.expand("coatroom-fingerprint-1", "");
        Self {
            id: derivation.id(),
            access: aead(Purpose::Access),
            session: aead(Purpose::Session),
            login: aead(Purpose::Login),
            logout: aead(Purpose::Logout),
            ended: aead(Purpose::Ended),
            memory: aead(Purpose::Memory),
            metadata: aead(Purpose::Metadata),
            access_records: RecordKeys::new(derivation.sub_key(Purpose::Access).as_slice()),
            agent_records: RecordKeys::new(derivation.sub_key(Purpose::Session).as_slice()),
            fingerprint: hmac::Key::new(hmac::HMAC_SHA256, fingerprint.as_slice()),
        }
    }

    fn of(&self, purpose: Purpose) -> &LessSafeKey {
        match purpose {
            Purpose::Access => &self.access,
            Purpose::Session => &self.session,
            Purpose::Login => &self.login,
            Purpose::Logout => &self.logout,
            Purpose::Ended => &self.ended,
            Purpose::Memory => &self.memory,
            Purpose::Metadata => &self.metadata,
        }
    }

    fn records(&self, part: Part) -> &RecordKeys {
        match part {
            Part::Access => &self.access_records,
            Part::Agent => &self.agent_records,
        }
    }

    fn fingerprint(&self, label: &str, data: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.fingerprint);
        context.update(&length_prefix(label.len()));
        context.update(label.as_bytes());
        context.update(data);
        *context
            .sign()
            .as_ref()
            .first_chunk()
            .expect("HMAC-SHA256 has 32 bytes")
    }
}

impl Purpose {
    /// Its name in key derivation and associated data. Never changes.
    fn label(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Session => "session",
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Ended => "ended",
            Self::Memory => "memory",
            Self::Metadata => "metadata",
        }
    }
}

impl Associated<'_> {
    /// The associated data of an envelope, on the stack unless a name is oddly long.
    fn encoded<T>(&self, header: &[u8], purpose: Purpose, with: impl FnOnce(&[u8]) -> T) -> T {
        let fields = [
            header,
            purpose.label().as_bytes(),
            self.application.as_str().as_bytes(),
            self.name.as_bytes(),
            self.chunk_header,
        ];
        let length = fields
            .iter()
            .map(|field| length_prefix(field.len()).len() + field.len())
            .sum();
        let mut stack = [0; 192];
        let mut heap = Vec::new();
        let encoded = match stack.get_mut(..length) {
            Some(encoded) => encoded,
            None => {
                heap.resize(length, 0);
                heap.as_mut_slice()
            }
        };
        let mut rest = &mut *encoded;
        for field in fields {
            for part in [length_prefix(field.len()).as_slice(), field] {
                let (here, after) = rest
                    .split_at_mut_checked(part.len())
                    .expect("the buffer was sized for the sum of its parts");
                here.copy_from_slice(part);
                rest = after;
            }
        }
        with(encoded)
    }
}

/// The only format there is. A later one is another byte, and this one still opens.
const VERSION: u8 = 1;

/// Version and key id.
pub(super) const HEADER_LEN: usize = 3;

/// The tag of AES-GCM-SIV (RFC 8452 §4).
const TAG_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::Value;

    use super::*;
    use crate::rng::testing::Counter;

    const PURPOSES: [Purpose; 7] = [
        Purpose::Metadata,
        Purpose::Access,
        Purpose::Session,
        Purpose::Login,
        Purpose::Logout,
        Purpose::Ended,
        Purpose::Memory,
    ];

    fn key(number: u64) -> MasterKey {
        let text = URL_SAFE_NO_PAD.encode(random::<32>(&mut Counter(number)));
        MasterKey::parse(&format!("coatroom-key-1:{text}")).expect("a well-formed key")
    }

    fn ring(numbers: &[u64]) -> KeyRing {
        KeyRing::new(numbers.iter().copied().map(key).collect()).expect("distinct keys")
    }

    fn app(id: &str) -> AppId {
        AppId::parse(id).expect("a good id")
    }

    fn associated<'a>(application: &'a AppId, name: &'a str, chunk_header: &'a [u8]) -> Associated<'a> {
        Associated {
            application,
            name,
            chunk_header,
        }
    }

    #[test]
    fn a_keys_id_is_what_its_envelopes_begin_with() {
        let texts = [
            "coatroom-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "coatroom-key-1:__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA",
        ];
        let keys = texts.map(|text| MasterKey::parse(text).expect("a good key"));
        let ring = KeyRing::new(keys.into()).expect("good keys");
        // as in the published vectors, behind the version
        assert_eq!(ring.ids().collect::<Vec<_>>(), ["2816", "7f71"]);
    }

    #[test]
    fn a_key_ring_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<KeyRing>();
    }

    #[test]
    fn an_empty_ring_and_a_key_twice_are_refused() {
        assert_eq!(KeyRing::new(Vec::new()).map(drop), Err(KeyError::NoKeys));
        let error = KeyError::Duplicate { first: 2, second: 3 };
        assert_eq!(KeyRing::new(vec![key(1), key(2), key(2)]).map(drop), Err(error));
        assert_eq!(error.to_string(), "`keys`: number 3 is the same key as number 2");
    }

    #[test]
    fn what_was_sealed_opens_for_every_purpose_and_length() {
        let (keys, shop) = (ring(&[1]), app("shop"));
        let to = associated(&shop, "name", b"");
        let mut rng = Counter(7);
        for purpose in PURPOSES {
            for length in [0, 1, 15, 16, 17, 4096, 100_000] {
                let plaintext = vec![0xa5; length];
                let sealed = keys.seal(purpose, &to, &plaintext, &mut rng);
                assert_eq!(sealed.len(), sealed_len(length));
                let opened = keys.open(purpose, &to, &sealed).expect("just sealed");
                assert_eq!(opened.plaintext(), plaintext);
                assert!(!opened.under_old_key());
            }
        }
    }

    #[test]
    fn a_value_opens_only_for_what_it_was_sealed_for() {
        let (keys, shop, other) = (ring(&[1]), app("shop"), app("shop2"));
        let sealed = keys.seal(
            Purpose::Session,
            &associated(&shop, "cookie", b"abcdefgh2"),
            b"secret",
            &mut Counter(7),
        );
        struct Case<'a> {
            name: &'static str,
            purpose: Purpose,
            to: Associated<'a>,
        }
        let case = |name, purpose, to| Case { name, purpose, to };
        for Case { name, purpose, to } in [
            case(
                "application",
                Purpose::Session,
                associated(&other, "cookie", b"abcdefgh2"),
            ),
            case(
                "name",
                Purpose::Session,
                associated(&shop, "cookies", b"abcdefgh2"),
            ),
            case(
                "write id",
                Purpose::Session,
                associated(&shop, "cookie", b"abcdefgx2"),
            ),
            case(
                "chunk count",
                Purpose::Session,
                associated(&shop, "cookie", b"abcdefgh3"),
            ),
            case(
                "no chunk header",
                Purpose::Session,
                associated(&shop, "cookie", b""),
            ),
            case(
                "field boundary",
                Purpose::Session,
                associated(&shop, "cookiea", b"bcdefgh2"),
            ),
            case(
                "purpose",
                Purpose::Access,
                associated(&shop, "cookie", b"abcdefgh2"),
            ),
        ] {
            assert!(keys.open(purpose, &to, &sealed).is_none(), "{name}");
        }
        for purpose in PURPOSES
            .into_iter()
            .filter(|purpose| *purpose != Purpose::Session)
        {
            let to = associated(&shop, "cookie", b"abcdefgh2");
            assert!(keys.open(purpose, &to, &sealed).is_none(), "{purpose:?}");
        }
    }

    #[test]
    fn a_value_with_any_bit_flipped_or_byte_missing_does_not_open() {
        let (keys, shop) = (ring(&[1, 2]), app("shop"));
        let to = associated(&shop, "name", b"");
        let sealed = keys.seal(Purpose::Access, &to, b"a short plaintext", &mut Counter(7));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open(Purpose::Access, &to, &flipped).is_none(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(
                keys.open(Purpose::Access, &to, &sealed[..length]).is_none(),
                "{length}"
            );
            assert!(
                keys.open(Purpose::Access, &to, &sealed[sealed.len() - length..])
                    .is_none()
            );
        }
        let mut longer = sealed.clone();
        longer.push(0);
        assert!(keys.open(Purpose::Access, &to, &longer).is_none());
        assert!(keys.open(Purpose::Access, &to, &sealed).is_some());
    }

    #[test]
    fn equal_plaintexts_are_sealed_differently_each_time() {
        let (keys, shop) = (ring(&[1]), app("shop"));
        let to = associated(&shop, "name", b"");
        let mut rng = Counter(7);
        let mut seal = || keys.seal(Purpose::Access, &to, b"plaintext", &mut rng);
        assert_ne!(seal(), seal());
    }

    #[test]
    fn rotation_takes_two_steps_and_signs_nobody_out() {
        let shop = app("shop");
        let to = associated(&shop, "name", b"");
        let mut rng = Counter(7);
        let steps = [ring(&[1]), ring(&[1, 2]), ring(&[2, 1])];
        // While a step is rolled out, every replica of one step opens what one of the next seals.
        for pair in steps.windows(2) {
            for (sealer, opener) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                let sealed = sealer.seal(Purpose::Session, &to, b"x", &mut rng);
                assert!(opener.open(Purpose::Session, &to, &sealed).is_some());
            }
        }
        let sealed = steps[0].seal(Purpose::Session, &to, b"x", &mut rng);
        let opened = steps[2]
            .open(Purpose::Session, &to, &sealed)
            .expect("the old key opens");
        assert!(opened.under_old_key());
        let resealed = steps[2].seal(Purpose::Session, &to, opened.plaintext(), &mut rng);
        let end = ring(&[2]);
        assert!(
            end.open(Purpose::Session, &to, &sealed).is_none(),
            "the old key is gone"
        );
        assert!(
            !end.open(Purpose::Session, &to, &resealed)
                .expect("re-sealed")
                .under_old_key()
        );
    }

    #[test]
    fn two_keys_with_the_same_id_both_open() {
        let mut seen = std::collections::HashMap::new();
        let (one, two) = (1..)
            .find_map(|number| Some((seen.insert(SubKeys::derive(&key(number)).id, number)?, number)))
            .expect("ids have 16 bits");
        let (keys, shop) = (ring(&[one, two]), app("shop"));
        let to = associated(&shop, "name", b"");
        for (number, old) in [(one, false), (two, true)] {
            let sealed = ring(&[number]).seal(Purpose::Login, &to, b"x", &mut Counter(7));
            let opened = keys
                .open(Purpose::Login, &to, &sealed)
                .expect("one of the two keys");
            assert_eq!(
                (opened.plaintext(), opened.under_old_key()),
                (b"x".as_slice(), old)
            );
        }
    }

    #[test]
    fn names_longer_than_the_stack_buffer_are_bound_as_well() {
        let (keys, shop) = (ring(&[1]), app("shop"));
        let (one, two) = ("n".repeat(1000), "n".repeat(999) + "m");
        let sealed = keys.seal(
            Purpose::Memory,
            &associated(&shop, &one, b""),
            b"x",
            &mut Counter(7),
        );
        assert!(
            keys.open(Purpose::Memory, &associated(&shop, &one, b""), &sealed)
                .is_some()
        );
        assert!(
            keys.open(Purpose::Memory, &associated(&shop, &two, b""), &sealed)
                .is_none()
        );
    }

    #[test]
    fn fingerprints_are_separated_by_label_and_follow_the_keys() {
        let keys = ring(&[2, 1]);
        assert_eq!(keys.fingerprint("sid", b"x"), keys.fingerprint("sid", b"x"));
        assert_ne!(keys.fingerprint("sid", b"x"), keys.fingerprint("sub", b"x"));
        assert_ne!(keys.fingerprint("ab", b"c"), keys.fingerprint("a", b"bc"));
        assert_eq!(
            keys.fingerprints("sid", b"x").collect::<Vec<_>>(),
            [
                ring(&[2]).fingerprint("sid", b"x"),
                ring(&[1]).fingerprint("sid", b"x")
            ]
        );
    }

    /// Replays one nonce.
    struct Fixed(Vec<u8>);

    impl Rng for Fixed {
        fn fill(&mut self, out: &mut [u8]) {
            out.copy_from_slice(&self.0);
        }
    }

    #[test]
    fn the_published_vectors_open_and_are_what_sealing_makes() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/sealed-v1.json"))
            .expect("the file is JSON");
        let field = |vector: &Value, name: &str| vector[name].as_str().expect(name).to_owned();
        let bytes = |vector: &Value, name: &str| URL_SAFE_NO_PAD.decode(field(vector, name)).expect(name);
        let mut tried = Vec::new();
        for vector in vectors["sealed"].as_array().expect("a list") {
            let keys =
                KeyRing::new(vec![MasterKey::parse(&field(vector, "key")).expect("a key")]).expect("one key");
            let label = field(vector, "purpose");
            let purpose = PURPOSES
                .into_iter()
                .find(|p| p.label() == label)
                .expect("a purpose");
            let (application, name) = (app(&field(vector, "application")), field(vector, "name"));
            let chunk_header = field(vector, "chunk_header");
            let to = associated(&application, &name, chunk_header.as_bytes());
            let (plaintext, sealed) = (bytes(vector, "plaintext"), bytes(vector, "sealed"));

            let opened = keys.open(purpose, &to, &sealed).expect(&label);
            assert_eq!(opened.plaintext(), plaintext, "{label}");
            let again = keys.seal(purpose, &to, &plaintext, &mut Fixed(bytes(vector, "nonce")));
            assert_eq!(again, sealed, "{label}");
            tried.push(purpose);
        }
        assert!(
            PURPOSES.iter().all(|purpose| tried.contains(purpose)),
            "{tried:?}"
        );

        let vector = &vectors["fingerprint"];
        let keys =
            KeyRing::new(vec![MasterKey::parse(&field(vector, "key")).expect("a key")]).expect("one key");
        let fingerprint = keys.fingerprint(&field(vector, "label"), &bytes(vector, "data"));
        assert_eq!(fingerprint.as_slice(), bytes(vector, "fingerprint"));
    }
}
