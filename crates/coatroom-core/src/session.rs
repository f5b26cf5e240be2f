//! The session and what the cookies hold of it: five records with compact, versioned encodings.
//!
//! Each record is a CBOR array whose fields are numbered: a later version appends fields, and an
//! older record still opens. Times inside are enforced even if a browser ignores `Max-Age`. This
//! file never seals, reads a cookie header or decides who may call what; it knows the clocks.

use std::time::Duration;

use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::{CborLen, Decode, Encode};
use zeroize::Zeroizing;

use crate::assurance::{Assurance, Authentication};
use crate::config::{AppId, Habits, ProviderName, SessionLimits};
use crate::headers::Authorization;
use crate::oauth::userinfo::UserinfoClaims;
use crate::packed::{pack, unpack};
use crate::rng::{Rng, random};
use crate::seal::{Handle, PROOF_KEY, ProofKey, digest8};
use crate::secret::Secret;
use crate::store::{MarkKey, RecordKey, RecordVersion};
use crate::time::UnixTime;

mod apis;
pub mod metadata;
mod tokens;
mod transactions;

pub use apis::NoToken;
pub(crate) use apis::{ApiCookie, ApiCredential, ApiState, ApiToken};

pub(crate) use tokens::{TokenPlace, Tokens, decode_tokens, encode_tokens};
use tokens::{name_of, userinfo_bytes};
pub(crate) use transactions::{LoginTransaction, LogoutTransaction};

/// How long one sign-in may take, and one sign-out round trip.
pub const TRANSACTION_LIFE: Duration = Duration::from_secs(600);

/// A session's id. It changes at sign-in, never at refresh, and opens nothing by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// A new, unpredictable id.
    pub(crate) fn generate(rng: &mut dyn Rng) -> Self {
        Self(random(rng))
    }

    /// The id that is shown to the SPA: a digest, never the id itself.
    pub fn public(&self) -> String {
        metadata::PublicSessionId::of(*self).to_string()
    }
}

/// A session: the sum of what the anchor and the session cookie hold.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) created_at: UnixTime,
    /// The last sign of a user: sign-in, or a refresh that was not a timer's.
    pub(crate) last_active: UnixTime,
    /// When its tokens were last written; the newest of several written records wins.
    pub(crate) written_at: UnixTime,
    /// Digest of the `state` that made it: posting `login/end` again is answered with it.
    pub(crate) login_state: [u8; 8],
    pub(crate) tokens: Tokens,
    /// How and when the user authenticated, as far as the provider ever said.
    pub(crate) authentication: Authentication,
    /// What its access tokens are bound to; none where they are bearer tokens. It never changes.
    pub(crate) proof_key: Option<ProofKey>,
    /// Where it is kept, if that is a store.
    pub(crate) kept: Option<Kept>,
}

/// How a session that is kept in a store is found there, and which state of it this is.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) handle: Handle,
    pub(crate) version: RecordVersion,
    /// How often its tokens were renewed: tells newer ones from older ones without a clock.
    pub(crate) renewals: u64,
}

impl Kept {
    /// A new handle, and a first version.
    pub(crate) fn generate(rng: &mut dyn Rng) -> Self {
        Self {
            handle: Handle::generate(rng),
            version: RecordVersion(u64::from_be_bytes(random(rng))),
            renewals: 0,
        }
    }
}

/// What a sealed cookie says of its session so that it can be ended without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) created_at: UnixTime,
    /// Names its user's sessions.
    pub(crate) user: MarkKey,
    /// Names it at the provider, where that gives its sessions names.
    pub(crate) at_provider: Option<MarkKey>,
}

impl Session {
    /// When the session ends whatever the user does: the absolute limit, or when its tokens can no
    /// longer be had, whichever comes first.
    pub(crate) fn ends_at(&self, limits: &SessionLimits) -> UnixTime {
        let absolute = self.created_at.plus(limits.absolute);
        let Tokens {
            access_expires_at,
            refresh_token,
            refresh_expires_at,
            ..
        } = &self.tokens;
        match (refresh_token, refresh_expires_at) {
            (Some(_), None) => absolute,
            (Some(_), Some(refreshable)) => absolute.min(*refreshable.max(access_expires_at)),
            (None, _) => absolute.min(*access_expires_at),
        }
    }

    /// The same session with newer tokens. Where `auth_time` may move it may be that of a sign-in
    /// elsewhere: then this session's authentication stays as it was.
    #[must_use]
    pub(crate) fn with_tokens(&self, tokens: Tokens, habits: &Habits) -> Self {
        let claims = crate::flow::claims_of(&tokens.id_token).unwrap_or_default();
        let told = Authentication::of(&claims);
        let is_elsewhere = habits.auth_time_may_change && told.auth_time != self.authentication.auth_time;
        Self {
            authentication: match is_elsewhere {
                true => self.authentication.clone(),
                false => told.or(&self.authentication),
            },
            tokens: Tokens {
                // a refresh may have begun before the configuration named the provider
                issued_by: self.tokens.issued_by.clone(),
                ..tokens
            },
            ..self.clone()
        }
    }

    /// When the session ends if the user does nothing more.
    pub(crate) fn idle_ends_at(&self, limits: &SessionLimits) -> UnixTime {
        self.last_active.plus(limits.idle).min(self.ends_at(limits))
    }

    /// Until when API calls are served before a refresh is demanded. API calls write nothing, so
    /// the access cookie is honoured for half the idle time after the last sign of a user: the
    /// refresh this forces is the next sign.
    pub(crate) fn honoured_until(&self, limits: &SessionLimits) -> UnixTime {
        self.tokens.first_expires_at().min(self.without_token(limits))
    }

    /// The same for a cookie without a token.
    fn without_token(&self, limits: &SessionLimits) -> UnixTime {
        let half_idle = self.last_active.plus(limits.idle / 2);
        half_idle.min(self.ends_at(limits))
    }

    /// The anchor's plaintext: with the access token, or with the handle of a session that is kept in
    /// a store. A proxied answer never writes a cookie, so what may move there is not in it.
    pub(crate) fn encode_anchor(
        &self,
        limits: &SessionLimits,
        facts: Option<&Facts>,
        assurance: Option<&Assurance>,
        place: TokenPlace,
    ) -> Zeroizing<Vec<u8>> {
        // of a stored session it is in the record, which a refresh writes
        let assurance = assurance.filter(|_| self.kept.is_none()).map(Assurance::encode);
        let absolute = self.created_at.plus(limits.absolute);
        let without_token = self.without_token(limits);
        let (ends_at, honoured_until, access_token) = match (&self.kept, place) {
            (Some(_), _) => (absolute, absolute, Zeroizing::new(Vec::new())),
            (None, TokenPlace::Anchor) => (
                self.ends_at(limits),
                self.tokens.access_expires_at.min(without_token),
                pack(&self.tokens.access_token),
            ),
            (None, TokenPlace::Session) => (self.ends_at(limits), without_token, Zeroizing::new(Vec::new())),
        };
        encode(&AnchorRecord {
            id: ByteArray::from(self.id.0),
            ends_at: ends_at.0,
            honoured_until: honoured_until.0,
            access_token: bytes(&access_token),
            handle: self
                .kept
                .as_ref()
                .map(|kept| ByteArray::from(*kept.handle.bytes())),
            created_at: facts.map(|facts| facts.created_at.0),
            user: facts.map(|facts| ByteArray::from(facts.user.0)),
            at_provider: facts
                .and_then(|facts| facts.at_provider)
                .map(|key| ByteArray::from(key.0)),
            assurance: assurance.as_deref().map(bytes),
            // beside the token only: a stored session's is beside its token, too
            proof_key: self.kept.is_none().then(|| self.proof_key_bytes()).flatten(),
            // of a stored session the record says it
            is_last: (self.kept.is_none() && self.tokens.refresh_token.is_none()).then_some(true),
        })
    }

    /// From when on it is worth new tokens: a quarter of the access token's life before its end, at
    /// most a minute, and half of that differs from session to session, so that those that began
    /// together do not all ask together.
    pub(crate) fn refresh_at(&self) -> UnixTime {
        if self.tokens.refresh_token.is_none() {
            return UnixTime(u64::MAX);
        }
        let expires_at = self.tokens.first_expires_at();
        let window = (expires_at.seconds_from(self.written_at) / 4).min(60);
        let [first, ..] = digest8(
            "refresh jitter",
            &[self.id.0.as_slice(), &expires_at.0.to_be_bytes()].concat(),
        );
        let jitter = window * u64::from(first) / 512;
        expires_at.minus(Duration::from_secs(window.saturating_sub(jitter)))
    }

    /// The plaintext of a stored session's part for API calls.
    pub(crate) fn encode_access_part(
        &self,
        limits: &SessionLimits,
        assurance: Option<&Assurance>,
    ) -> Zeroizing<Vec<u8>> {
        let access_token = pack(&self.tokens.access_token);
        let assurance = assurance.map(Assurance::encode);
        let apis = apis::Packed::all(&self.tokens.apis);
        encode(&AccessPartRecord {
            id: ByteArray::from(self.id.0),
            ends_at: self.ends_at(limits).0,
            access_expires_at: self.tokens.access_expires_at.0,
            refresh_at: self.refresh_at().0,
            access_token: bytes(&access_token),
            renewals: self.kept.as_ref().map_or(0, |kept| kept.renewals),
            idle: limits.idle.as_secs(),
            assurance: assurance.as_deref().map(bytes),
            proof_key: self.proof_key_bytes(),
            apis: apis.records(),
        })
    }

    fn proof_key_bytes(&self) -> Option<ByteArray<PROOF_KEY>> {
        self.proof_key.as_ref().map(|key| ByteArray::from(*key.bytes()))
    }

    /// The session cookie's plaintext: everything but the access tokens that other cookies have.
    pub(crate) fn encode_session(&self, place: TokenPlace) -> Zeroizing<Vec<u8>> {
        let access_token = (place == TokenPlace::Session).then(|| pack(&self.tokens.access_token));
        // a record has them in its other part
        let apis = match &self.kept {
            Some(_) => apis::Packed::all(&[]),
            None => apis::Packed::short(&self.tokens.apis),
        };
        let refresh_token = self.tokens.refresh_token.as_ref().map(pack);
        let id_token = pack(&self.tokens.id_token);
        encode(&SessionRecord {
            id: ByteArray::from(self.id.0),
            created_at: self.created_at.0,
            last_active: self.last_active.0,
            written_at: self.written_at.0,
            login_state: ByteArray::from(self.login_state),
            access_expires_at: self.tokens.access_expires_at.0,
            refresh_token: refresh_token.as_ref().map(|packed| bytes(packed)),
            id_token: bytes(&id_token),
            refresh_expires_at: self.tokens.refresh_expires_at.map(|at| at.0),
            proof_key: self.proof_key_bytes(),
            scope: self.tokens.scope.clone(),
            acr: self.authentication.acr.clone(),
            auth_time: self.authentication.auth_time.map(|at| at.0),
            access_token: access_token.as_ref().map(|packed| bytes(packed)),
            apis: apis.records(),
            userinfo: userinfo_bytes(&self.tokens),
            provider: self.tokens.issued_by.as_ref().map(ProviderName::as_str),
        })
    }

    /// Puts a session together from its two halves; none unless the ids are equal.
    pub(crate) fn join(anchor: &Anchor, session: &[u8]) -> Option<Self> {
        match &anchor.holds {
            Holds::Token(access_token) => Self::assemble(anchor.id, Some(access_token), session),
            Holds::Nothing => Self::assemble(anchor.id, None, session),
            Holds::Handle(_) => None,
        }
    }

    /// Puts a stored session together from its two parts; none unless all ids are equal.
    pub(crate) fn of_parts(id: SessionId, access: &[u8], agent: &[u8], kept: Option<Kept>) -> Option<Self> {
        let record: AccessPartRecord<'_> = minicbor::decode(access).ok()?;
        let access_token = unpack(record.access_token)?;
        let mut session =
            Self::assemble(id, Some(&access_token), agent).filter(|session| *record.id == session.id.0)?;
        session.tokens.apis = apis::tokens_of(record.apis);
        let renewals = record.renewals;
        let kept = kept.map(|kept| Kept { renewals, ..kept });
        Some(Self { kept, ..session })
    }

    fn assemble(id: SessionId, access_token: Option<&Secret>, session: &[u8]) -> Option<Self> {
        let record: SessionRecord<'_> = minicbor::decode(session).ok()?;
        if *record.id != id.0 {
            return None;
        }
        let refresh_token = match record.refresh_token {
            Some(packed) => Some(unpack(packed)?),
            None => None,
        };
        Some(Self {
            id,
            kept: None,
            created_at: UnixTime(record.created_at),
            last_active: UnixTime(record.last_active),
            written_at: UnixTime(record.written_at),
            login_state: *record.login_state,
            tokens: Tokens {
                access_token: match (access_token, record.access_token) {
                    (Some(access_token), _) => access_token.clone(),
                    (None, packed) => unpack(packed?)?,
                },
                access_expires_at: UnixTime(record.access_expires_at),
                refresh_token,
                refresh_expires_at: record.refresh_expires_at.map(UnixTime),
                id_token: unpack(record.id_token)?,
                scope: record.scope,
                apis: apis::tokens_of(record.apis),
                userinfo: record.userinfo.map(|known| UserinfoClaims::from_bytes(known)),
                issued_by: name_of(record.provider)?,
            },
            authentication: Authentication {
                acr: record.acr,
                auth_time: record.auth_time.map(UnixTime),
            },
            proof_key: record.proof_key.map(|key| ProofKey::from_bytes(*key)),
        })
    }
}

/// What an agent call needs: the anchor, opened.
#[derive(Clone)]
pub(crate) struct Anchor {
    pub(crate) id: SessionId,
    pub(crate) ends_at: UnixTime,
    pub(crate) honoured_until: UnixTime,
    pub(crate) holds: Holds<Secret>,
    pub(crate) facts: Option<Facts>,
}

/// The same for the proxy, which does nothing with the token but send it.
#[derive(Clone)]
pub(crate) struct ApiAnchor {
    pub(crate) id: SessionId,
    pub(crate) ends_at: UnixTime,
    pub(crate) honoured_until: UnixTime,
    pub(crate) holds: Holds<Authorization>,
    pub(crate) facts: Option<Box<Facts>>,
    /// No refresh brings another token: there is no refresh token.
    pub(crate) is_last: bool,
    pub(crate) assurance: Option<Box<Assurance>>,
}

/// What leads from an anchor to the access token.
#[derive(Clone)]
pub(crate) enum Holds<T> {
    /// The token itself.
    Token(T),
    /// Nothing: every route has a token of its own.
    Nothing,
    /// The handle of a stored session.
    Handle(Handle),
}

impl ApiAnchor {
    pub(crate) fn decode(plaintext: &[u8]) -> Option<Self> {
        let record: AnchorRecord<'_> = minicbor::decode(plaintext).ok()?;
        Some(Self {
            id: SessionId(*record.id),
            ends_at: UnixTime(record.ends_at),
            honoured_until: UnixTime(record.honoured_until),
            holds: match record.handle {
                Some(handle) => Holds::Handle(Handle::from_bytes(*handle)),
                None if record.access_token.is_empty() => Holds::Nothing,
                None => Holds::Token(authorization(record.access_token, record.proof_key)?),
            },
            assurance: record
                .assurance
                .and_then(|known| Assurance::decode(known))
                .map(Box::new),
            facts: record.facts().map(Box::new),
            is_last: record.is_last.unwrap_or_default(),
        })
    }
}

impl Anchor {
    /// The name of its record, where it is kept in a store.
    pub(crate) fn record_key(&self, application: &AppId) -> Option<RecordKey> {
        match &self.holds {
            Holds::Token(_) | Holds::Nothing => None,
            Holds::Handle(handle) => Some(handle.record_key(application)),
        }
    }

    pub(crate) fn decode(plaintext: &[u8]) -> Option<Self> {
        let record: AnchorRecord<'_> = minicbor::decode(plaintext).ok()?;
        Some(Self {
            id: SessionId(*record.id),
            ends_at: UnixTime(record.ends_at),
            honoured_until: UnixTime(record.honoured_until),
            holds: match record.handle {
                Some(handle) => Holds::Handle(Handle::from_bytes(*handle)),
                None if record.access_token.is_empty() => Holds::Nothing,
                None => Holds::Token(unpack(record.access_token)?),
            },
            facts: record.facts(),
        })
    }
}

/// A stored session's part for API calls, opened.
pub(crate) struct AccessPart {
    pub(crate) id: SessionId,
    pub(crate) ends_at: UnixTime,
    pub(crate) access_expires_at: UnixTime,
    pub(crate) refresh_at: UnixTime,
    pub(crate) authorization: Authorization,
    /// The idle limit: an instance that only forwards is not told of it otherwise.
    pub(crate) idle: Duration,
    pub(crate) assurance: Option<Assurance>,
    /// The tokens of APIs that have their own.
    pub(crate) apis: Vec<ApiCredential>,
}

impl AccessPart {
    pub(crate) fn decode(plaintext: &[u8]) -> Option<Self> {
        let record: AccessPartRecord<'_> = minicbor::decode(plaintext).ok()?;
        Some(Self {
            id: SessionId(*record.id),
            ends_at: UnixTime(record.ends_at),
            access_expires_at: UnixTime(record.access_expires_at),
            refresh_at: UnixTime(record.refresh_at),
            authorization: authorization(record.access_token, record.proof_key)?,
            idle: Duration::from_secs(record.idle),
            assurance: record.assurance.and_then(|known| Assurance::decode(known)),
            apis: apis::credentials_of(record.apis, record.proof_key),
        })
    }
}

/// The credentials of a packed token, with the key that it is bound to, if it is.
fn authorization(packed: &[u8], key: Option<ByteArray<PROOF_KEY>>) -> Option<Authorization> {
    match key {
        None => Authorization::unpack(packed),
        Some(key) => Authorization::unpack_bound(packed, &ProofKey::from_bytes(*key)),
    }
}

pub(crate) fn bytes(packed: &[u8]) -> &ByteSlice {
    packed.into()
}

/// Encodes into a buffer of the right size, so that growing leaves no copy of a token behind.
pub(crate) fn encode<T: Encode<()> + CborLen<()>>(record: &T) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(minicbor::len(record)));
    minicbor::encode(record, &mut *out).expect("writing into a vector cannot fail");
    out
}

#[derive(Encode, Decode, CborLen)]
struct AnchorRecord<'a> {
    #[n(0)]
    id: ByteArray<16>,
    #[n(1)]
    ends_at: u64,
    #[n(2)]
    honoured_until: u64,
    #[b(3)]
    access_token: &'a ByteSlice,
    #[n(4)]
    handle: Option<ByteArray<32>>,
    #[n(5)]
    created_at: Option<u64>,
    #[n(6)]
    user: Option<ByteArray<32>>,
    #[n(7)]
    at_provider: Option<ByteArray<32>>,
    #[b(8)]
    assurance: Option<&'a ByteSlice>,
    #[n(11)]
    proof_key: Option<ByteArray<PROOF_KEY>>,
    #[n(12)]
    is_last: Option<bool>,
}

impl AnchorRecord<'_> {
    fn facts(&self) -> Option<Facts> {
        Some(Facts {
            created_at: UnixTime(self.created_at?),
            user: MarkKey(*self.user?),
            at_provider: self.at_provider.map(|key| MarkKey(*key)),
        })
    }
}

#[derive(Encode, Decode, CborLen)]
struct AccessPartRecord<'a> {
    #[n(0)]
    id: ByteArray<16>,
    #[n(1)]
    ends_at: u64,
    #[n(2)]
    access_expires_at: u64,
    #[n(3)]
    refresh_at: u64,
    #[b(4)]
    access_token: &'a ByteSlice,
    #[n(5)]
    renewals: u64,
    #[n(6)]
    idle: u64,
    #[n(7)]
    proof_key: Option<ByteArray<PROOF_KEY>>,
    #[b(8)]
    assurance: Option<&'a ByteSlice>,
    #[b(9)]
    apis: Option<Vec<apis::ApiTokenRecord<'a>>>,
}

#[derive(Encode, Decode, CborLen)]
struct SessionRecord<'a> {
    #[n(0)]
    id: ByteArray<16>,
    #[n(1)]
    created_at: u64,
    #[n(2)]
    last_active: u64,
    #[n(3)]
    written_at: u64,
    #[n(4)]
    login_state: ByteArray<8>,
    #[n(5)]
    access_expires_at: u64,
    #[b(6)]
    refresh_token: Option<&'a ByteSlice>,
    #[b(7)]
    id_token: &'a ByteSlice,
    #[n(8)]
    refresh_expires_at: Option<u64>,
    #[n(9)]
    proof_key: Option<ByteArray<PROOF_KEY>>,
    #[n(10)]
    scope: Option<String>,
    #[n(11)]
    acr: Option<String>,
    #[n(12)]
    auth_time: Option<u64>,
    #[b(13)]
    access_token: Option<&'a ByteSlice>,
    #[b(14)]
    apis: Option<Vec<apis::ApiTokenRecord<'a>>>,
    #[b(15)]
    userinfo: Option<&'a ByteSlice>,
    #[b(17)]
    provider: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tombstones::Tombstones;

    fn limits() -> SessionLimits {
        SessionLimits {
            idle: Duration::from_secs(1800),
            absolute: Duration::from_secs(43_200),
            default_token_life: Duration::from_secs(300),
            claims: None,
            storage: crate::config::SessionStorage::Cookie,
        }
    }

    fn session(refresh_token: Option<&str>) -> Session {
        Session {
            id: SessionId([7; 16]),
            created_at: UnixTime(1_000_000),
            last_active: UnixTime(1_000_000),
            written_at: UnixTime(1_000_000),
            login_state: [3; 8],
            authentication: Authentication::default(),
            tokens: Tokens {
                access_token: Secret::new("opaque-access"),
                access_expires_at: UnixTime(1_000_300),
                refresh_token: refresh_token.map(Secret::new),
                refresh_expires_at: Some(UnixTime(1_086_400)),
                id_token: Secret::new("aGVhZA.Ym9keQ.c2ln"),
                scope: None,
                apis: Vec::new(),
                userinfo: None,
                issued_by: None,
            },
            proof_key: None,
            kept: None,
        }
    }

    #[test]
    fn how_the_user_signed_in_is_kept() {
        let mut before = session(Some("refresh"));
        before.tokens.scope = Some("openid orders".to_owned());
        before.authentication = Authentication {
            acr: Some("gold".to_owned()),
            auth_time: Some(UnixTime(7)),
        };
        let anchor = Anchor::decode(&before.encode_anchor(&limits(), None, None, TokenPlace::Anchor))
            .expect("decodes");
        let after = Session::join(&anchor, &before.encode_session(TokenPlace::Anchor)).expect("one session");
        assert_eq!(after.authentication, before.authentication);
        assert_eq!(after.tokens.scope, before.tokens.scope);
        let begun = LoginTransaction {
            acr_values: Some("gold silver".to_owned()),
            max_age: Some(60),
            scope: Some("openid".to_owned()),
            asked_scope: Some("openid write".to_owned()),
            ..login()
        };
        let opened = LoginTransaction::decode(&begun.encode()).expect("decodes");
        assert_eq!(opened.acr_values, begun.acr_values);
        assert_eq!((opened.max_age, opened.scope), (begun.max_age, begun.scope));
        assert_eq!(opened.asked_scope, begun.asked_scope);
        let tokens = decode_tokens(&encode_tokens(&before.tokens)).expect("decodes");
        assert_eq!(tokens.scope, before.tokens.scope);
    }

    #[test]
    fn the_two_halves_make_the_session_again() {
        let session = session(Some("refresh"));
        let anchor = Anchor::decode(&session.encode_anchor(&limits(), None, None, TokenPlace::Anchor))
            .expect("decodes");
        let joined = Session::join(&anchor, &session.encode_session(TokenPlace::Anchor)).expect("joins");
        assert!(joined.tokens.refresh_token == Some(Secret::new("refresh")));
        assert!(joined.tokens.access_token == Secret::new("opaque-access"));
        assert!(joined.tokens.id_token == session.tokens.id_token);
        assert_eq!(joined.tokens.refresh_expires_at, Some(UnixTime(1_086_400)));
        assert_eq!(joined.login_state, [3; 8]);
    }

    fn login() -> LoginTransaction {
        LoginTransaction {
            state: Secret::new("0state"),
            nonce: Secret::new("nonce"),
            verifier: Secret::new("verifier"),
            return_to: "https://shop.example.com/x".to_owned(),
            started_at: UnixTime(1_000_000),
            replaces: vec![SessionId([9; 16])],
            ends: vec![SessionId([9; 16])],
            expected_sub: Some("alice".to_owned()),
            tombstones: Tombstones::default(),
            issuer: Some([4; 8]),
            acr_values: None,
            max_age: None,
            scope: None,
            asked_scope: None,
            records: Vec::new(),
            proof_key: None,
            provider: None,
        }
    }

    /// What this version writes. A field that is added later makes a row here a row of
    /// `records_of_earlier_versions_decode`.
    #[test]
    fn the_published_records_decode_and_are_what_encoding_makes() {
        let session = session(Some("refresh"));
        let logout = LogoutTransaction {
            state: Secret::new("state"),
            id_token_hint: Some(Secret::new("aGVhZA.Ym9keQ.c2ln")),
            started_at: UnixTime(1_000_000),
            return_to: Some("https://shop.example.com/x".to_owned()),
            provider: None,
        };
        for (name, encoded, published) in [
            (
                "anchor",
                session.encode_anchor(&limits(), None, None, TokenPlace::Anchor),
                "8450070707070707070707070707070707071a000feb001a000f436c4e006f70617175652d616363657373",
            ),
            (
                "session",
                session.encode_session(TokenPlace::Anchor),
                "8950070707070707070707070707070707071a000f42401a000f42401a000f42404803030303030303031a000f436c4800726566726573684e03046865616404626f64797369671a001093c0",
            ),
            (
                "login",
                login().encode(),
                "8b66307374617465656e6f6e6365687665726966696572781a68747470733a2f2f73686f702e6578616d706c652e636f6d2f781a000f424081500909090909090909090909090909090965616c6963658081500909090909090909090909090909090948040404040404040480",
            ),
            (
                "logout",
                logout.encode(),
                "846573746174654e03046865616404626f64797369671a000f4240781a68747470733a2f2f73686f702e6578616d706c652e636f6d2f78",
            ),
            (
                "tokens",
                encode_tokens(&session.tokens),
                "854e006f70617175652d6163636573731a000f436c4800726566726573684e03046865616404626f64797369671a001093c0",
            ),
        ] {
            let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, published, "{name}");
        }
        let anchor = Anchor::decode(&session.encode_anchor(&limits(), None, None, TokenPlace::Anchor))
            .expect("an anchor");
        assert_eq!((anchor.id, anchor.ends_at), (session.id, UnixTime(1_043_200)));
        let decoded = LoginTransaction::decode(&login().encode()).expect("a sign-in");
        assert_eq!(decoded.replaces, [SessionId([9; 16])]);
        assert!(LogoutTransaction::decode(&logout.encode()).is_some());
    }

    /// What this version writes where an application gives names to its providers: the name is behind all
    /// that is written without one.
    #[test]
    fn the_name_of_a_provider_is_behind_everything_else() {
        let corp = || ProviderName::parse("corp");
        let mut named = session(Some("refresh"));
        named.tokens.issued_by = corp();
        let logout = LogoutTransaction {
            state: Secret::new("state"),
            id_token_hint: None,
            started_at: UnixTime(1_000_000),
            return_to: None,
            provider: corp(),
        };
        let login = LoginTransaction {
            provider: corp(),
            ..login()
        };
        for (name, encoded, first, nulls) in [
            ("session", named.encode_session(TokenPlace::Anchor), 0x92, 8),
            ("login", login.encode(), 0x91, 5),
            ("logout", logout.encode(), 0x86, 2),
            ("tokens", encode_tokens(&named.tokens), 0x8a, 4),
        ] {
            assert_eq!(encoded.first(), Some(&first), "{name}");
            let mut last = vec![0xf6; nulls];
            last.extend(b"\x64corp");
            assert!(encoded.ends_with(&last), "{name}: {encoded:02x?}");
        }
        let anchor = named.encode_anchor(&limits(), None, None, TokenPlace::Anchor);
        let bare = session(Some("refresh"));
        assert_eq!(
            *anchor,
            *bare.encode_anchor(&limits(), None, None, TokenPlace::Anchor)
        );
        let anchor = Anchor::decode(&anchor).expect("decodes");
        let joined = Session::join(&anchor, &named.encode_session(TokenPlace::Anchor)).expect("joins");
        assert_eq!(joined.tokens.issued_by, corp());
    }

    /// What an earlier version sealed is opened by every later one: a row is never changed.
    #[test]
    fn records_of_earlier_versions_decode() {
        let bytes = |hex: &str| -> Vec<u8> {
            let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
            let pairs = digits.chunks_exact(2);
            pairs
                .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte"))
                .collect()
        };
        let anchor = Anchor::decode(&session(None).encode_anchor(&limits(), None, None, TokenPlace::Anchor))
            .expect("decodes");
        // before the provider's limit was kept
        let record = "8850070707070707070707070707070707071a000f42401a000f42401a000f42404803030303030303031a000f436c48007\
                      26566726573684e03046865616404626f6479736967";
        let joined = Session::join(&anchor, &bytes(record)).expect("joins");
        assert_eq!(joined.tokens.refresh_expires_at, None);
        assert!(joined.tokens.refresh_token == Some(Secret::new("refresh")));
        let record =
            "844e006f70617175652d6163636573731a000f436c4800726566726573684e03046865616404626f6479736967";
        let tokens = decode_tokens(&bytes(record)).expect("decodes");
        assert_eq!(tokens.refresh_expires_at, None);
        assert!(tokens.access_token == Secret::new("opaque-access"));
        // before a sign-in knew which of the sessions before it were proved
        let record = "8866307374617465656e6f6e6365687665726966696572781a68747470733a2f2f73686f702e6578616d706c652e636f6d2f\
                      781a000f424081500909090909090909090909090909090965616c69636580";
        let login = LoginTransaction::decode(&bytes(record)).expect("decodes");
        assert_eq!(login.replaces, [SessionId([9; 16])]);
        assert_eq!(login.ends, []);
        assert_eq!(login.issuer, None);
        // before sessions could be kept in a store
        let record = "8a66307374617465656e6f6e6365687665726966696572781a68747470733a2f2f73686f702e6578616d706c652e636f6d2f\
                      781a000f424081500909090909090909090909090909090965616c69636580815009090909090909090909090909090909480404040404040404";
        let login = LoginTransaction::decode(&bytes(record)).expect("decodes");
        assert_eq!((login.issuer, login.records), (Some([4; 8]), Vec::new()));
        // before a sign-out could lead to another page than the SPA's address
        let record = "836573746174654e03046865616404626f64797369671a000f4240";
        let logout = LogoutTransaction::decode(&bytes(record)).expect("decodes");
        assert_eq!(
            (logout.started_at, &logout.return_to),
            (UnixTime(1_000_000), &None)
        );
        // and one that leads there is written as it was
        assert_eq!(*logout.encode(), bytes(record));
    }

    /// What this version writes of sessions with a key. Those without one are as they were.
    #[test]
    fn a_sessions_key_is_beside_its_token_and_beside_its_refresh_token() {
        let key = || ProofKey::from_bytes(*b"\x02the seed of a key for the tests.");
        let bound = Session {
            proof_key: Some(key()),
            ..session(Some("refresh"))
        };
        let hex = |encoded: &[u8]| -> String { encoded.iter().map(|byte| format!("{byte:02x}")).collect() };
        let tail = "5821027468652073656564206f662061206b657920666f72207468652074657374732e";
        for (name, encoded, published) in [
            (
                "anchor",
                bound.encode_anchor(&limits(), None, None, TokenPlace::Anchor),
                "8c50070707070707070707070707070707071a000feb001a000f436c4e006f70617175652d616363657373f6f6f6f6f6f6f6",
            ),
            (
                "session",
                bound.encode_session(TokenPlace::Anchor),
                "8a50070707070707070707070707070707071a000f42401a000f42401a000f42404803030303030303031a000f436c4800726566726573684e03046865616404626f64797369671a001093c0",
            ),
        ] {
            assert_eq!(hex(&encoded), [published, tail].concat(), "{name}");
        }
        let anchor =
            Anchor::decode(&bound.encode_anchor(&limits(), None, None, TokenPlace::Anchor)).expect("decodes");
        let joined = Session::join(&anchor, &bound.encode_session(TokenPlace::Anchor)).expect("joins");
        assert_eq!(joined.proof_key.expect("a key").bytes(), key().bytes());
        // whoever only has a proxy's key can put another into an anchor, and the agent does not look at it
        let joined = Session::join(
            &anchor,
            &session(Some("refresh")).encode_session(TokenPlace::Anchor),
        )
        .expect("joins");
        assert!(joined.proof_key.is_none());
        let plain = session(None);
        assert!(matches!(
            ApiAnchor::decode(&plain.encode_anchor(&limits(), None, None, TokenPlace::Anchor)).expect("decodes").holds,
            Holds::Token(authorization) if authorization.proofs().is_none()
        ));
        assert!(matches!(
            ApiAnchor::decode(&bound.encode_anchor(&limits(), None, None, TokenPlace::Anchor)).expect("decodes").holds,
            Holds::Token(authorization) if authorization.proofs().is_some()
        ));
        let part = AccessPart::decode(&bound.encode_access_part(&limits(), None)).expect("decodes");
        assert!(part.authorization.proofs().is_some());
        let login = LoginTransaction {
            proof_key: Some(key()),
            ..login()
        };
        let decoded = LoginTransaction::decode(&login.encode()).expect("a sign-in");
        assert_eq!(decoded.proof_key.expect("a key").bytes(), key().bytes());
    }

    #[test]
    fn a_stored_sessions_anchor_has_no_key() {
        let kept = Session {
            proof_key: ProofKey::generate(crate::config::DpopAlgorithm::Es256).ok(),
            kept: Some(Kept {
                handle: Handle::from_bytes([5; 32]),
                version: RecordVersion(1),
                renewals: 0,
            }),
            ..session(None)
        };
        let without = Session {
            proof_key: None,
            ..kept.clone()
        };
        assert_eq!(
            kept.encode_anchor(&limits(), None, None, TokenPlace::Anchor),
            without.encode_anchor(&limits(), None, None, TokenPlace::Anchor)
        );
    }

    #[test]
    fn halves_of_two_sessions_never_join() {
        let one = session(Some("refresh"));
        let other = Session {
            id: SessionId([8; 16]),
            ..session(Some("refresh"))
        };
        let anchor =
            Anchor::decode(&one.encode_anchor(&limits(), None, None, TokenPlace::Anchor)).expect("decodes");
        assert!(Session::join(&anchor, &other.encode_session(TokenPlace::Anchor)).is_none());
    }

    #[test]
    fn clocks_table() {
        struct Case {
            name: &'static str,
            refresh_token: Option<&'static str>,
            refreshable: Option<u64>,
            token_life: u64,
            active_after: u64,
            ends: u64,
            idle_ends: u64,
            honoured: u64,
        }
        let cases = [
            Case {
                name: "short token",
                refresh_token: Some("r"),
                refreshable: None,
                token_life: 300,
                active_after: 0,
                ends: 43_200,
                idle_ends: 1800,
                honoured: 300,
            },
            Case {
                name: "long token: half the idle time",
                refresh_token: Some("r"),
                refreshable: Some(90_000),
                token_life: 3600,
                active_after: 0,
                ends: 43_200,
                idle_ends: 1800,
                honoured: 900,
            },
            Case {
                name: "no refresh token: ends with the access token",
                refresh_token: None,
                refreshable: Some(9_000),
                token_life: 600,
                active_after: 0,
                ends: 600,
                idle_ends: 600,
                honoured: 600,
            },
            Case {
                name: "the provider's limit comes first",
                refresh_token: Some("r"),
                refreshable: Some(1200),
                token_life: 300,
                active_after: 0,
                ends: 1200,
                idle_ends: 1200,
                honoured: 300,
            },
            Case {
                name: "an access token that outlives its refresh token is still good",
                refresh_token: Some("r"),
                refreshable: Some(100),
                token_life: 300,
                active_after: 0,
                ends: 300,
                idle_ends: 300,
                honoured: 300,
            },
            Case {
                name: "near the absolute limit",
                refresh_token: Some("r"),
                refreshable: None,
                token_life: 90_000,
                active_after: 43_000,
                ends: 43_200,
                idle_ends: 43_200,
                honoured: 43_200,
            },
        ];
        for case in cases {
            let mut session = session(case.refresh_token);
            let start = session.created_at.0;
            session.tokens.access_expires_at = UnixTime(start + case.token_life);
            session.tokens.refresh_expires_at = case.refreshable.map(|life| UnixTime(start + life));
            session.last_active = UnixTime(start + case.active_after);
            assert_eq!(session.ends_at(&limits()).0 - start, case.ends, "{}", case.name);
            assert_eq!(
                session.idle_ends_at(&limits()).0 - start,
                case.idle_ends,
                "{}",
                case.name
            );
            assert_eq!(
                session.honoured_until(&limits()).0 - start,
                case.honoured,
                "{}",
                case.name
            );
        }
    }

    #[test]
    fn garbage_decodes_to_nothing() {
        for garbage in [&b""[..], b"\x84", b"\xff\xff\xff", &[0x9f; 64], b"\x84\x50"] {
            assert!(Anchor::decode(garbage).is_none());
            assert!(LoginTransaction::decode(garbage).is_none());
            assert!(LogoutTransaction::decode(garbage).is_none());
            assert!(decode_tokens(garbage).is_none());
        }
    }
}
