//! What the provider gave for a session, and how the short memory keeps it.
//!
//! Newest state only. Nothing here is sealed, and nothing decides which token a call carries.

use minicbor::bytes::ByteSlice;
use minicbor::{CborLen, Decode, Encode};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{ApiToken, apis, bytes, encode};
use crate::config::{ApiId, ProviderName};
use crate::oauth::userinfo::UserinfoClaims;
use crate::packed::{pack, unpack};
use crate::secret::Secret;
use crate::time::UnixTime;

/// What the provider gave for this session, newest state.
#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) access_token: Secret,
    /// The token's own expiry.
    pub(crate) access_expires_at: UnixTime,
    pub(crate) refresh_token: Option<Secret>,
    /// When that refresh token expires, if the provider says.
    pub(crate) refresh_expires_at: Option<UnixTime>,
    /// Verified; its claims are what `session` answers.
    pub(crate) id_token: Secret,
    /// The scopes that were granted, if the provider says (RFC 6749 §5.1).
    pub(crate) scope: Option<String>,
    /// Those of APIs that have their own.
    pub(crate) apis: Vec<ApiToken>,
    /// Claims of userinfo, where it is asked.
    pub(crate) userinfo: Option<UserinfoClaims>,
    /// Which of several providers gave them: nobody else is ever shown them.
    pub(crate) issued_by: Option<ProviderName>,
}

/// Where the session's own access token is, while sessions are in cookies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenPlace {
    /// In the anchor: some route's calls carry it.
    Anchor,
    /// In the session cookie, for the agent alone: every route has a token of its own.
    Session,
}

impl Tokens {
    /// When the first of them expires.
    pub(crate) fn first_expires_at(&self) -> UnixTime {
        let apis = self.apis.iter().filter(|token| token.is_there());
        let apis = apis.map(|token| token.expires_at).min();
        apis.map_or(self.access_expires_at, |first| first.min(self.access_expires_at))
    }

    /// What is known of one API's.
    pub(crate) fn of_api(&self, api: ApiId) -> Option<&ApiToken> {
        self.apis.iter().find(|token| token.api == api)
    }

    /// What is known of the user: the claims of the ID token, and of userinfo those that it has not.
    pub(crate) fn claims(&self) -> Map<String, Value> {
        let mut claims = self
            .userinfo
            .as_ref()
            .map(UserinfoClaims::claims)
            .unwrap_or_default();
        claims.extend(crate::flow::claims_of(&self.id_token).unwrap_or_default());
        claims
    }
}

/// What the short memory of a refresh or a redemption holds, under its own seal.
pub(crate) fn encode_tokens(tokens: &Tokens) -> Zeroizing<Vec<u8>> {
    let access_token = pack(&tokens.access_token);
    let refresh_token = tokens.refresh_token.as_ref().map(pack);
    let id_token = pack(&tokens.id_token);
    let apis = apis::Packed::all(&tokens.apis);
    encode(&TokensRecord {
        access_token: bytes(&access_token),
        access_expires_at: tokens.access_expires_at.0,
        refresh_token: refresh_token.as_ref().map(|packed| bytes(packed)),
        id_token: bytes(&id_token),
        refresh_expires_at: tokens.refresh_expires_at.map(|at| at.0),
        scope: tokens.scope.clone(),
        apis: apis.records(),
        userinfo: userinfo_bytes(tokens),
        issued_by: tokens.issued_by.as_ref().map(ProviderName::as_str),
    })
}

/// The reverse of [`encode_tokens`].
pub(crate) fn decode_tokens(plaintext: &[u8]) -> Option<Tokens> {
    let record: TokensRecord<'_> = minicbor::decode(plaintext).ok()?;
    Some(Tokens {
        access_token: unpack(record.access_token)?,
        access_expires_at: UnixTime(record.access_expires_at),
        refresh_token: match record.refresh_token {
            Some(packed) => Some(unpack(packed)?),
            None => None,
        },
        refresh_expires_at: record.refresh_expires_at.map(UnixTime),
        id_token: unpack(record.id_token)?,
        scope: record.scope,
        apis: apis::tokens_of(record.apis),
        userinfo: record.userinfo.map(|known| UserinfoClaims::from_bytes(known)),
        issued_by: name_of(record.issued_by)?,
    })
}

/// The provider that is named inside a seal, if one is; none where that is no name at all.
#[expect(clippy::option_option, reason = "no name is one answer, a broken one another")]
pub(super) fn name_of(sealed: Option<&str>) -> Option<Option<ProviderName>> {
    match sealed {
        None => Some(None),
        Some(name) => ProviderName::parse(name).map(Some),
    }
}

pub(super) fn userinfo_bytes(tokens: &Tokens) -> Option<&ByteSlice> {
    tokens.userinfo.as_ref().map(|claims| bytes(claims.bytes()))
}

#[derive(Encode, Decode, CborLen)]
struct TokensRecord<'a> {
    #[b(0)]
    access_token: &'a ByteSlice,
    #[n(1)]
    access_expires_at: u64,
    #[b(2)]
    refresh_token: Option<&'a ByteSlice>,
    #[b(3)]
    id_token: &'a ByteSlice,
    #[n(4)]
    refresh_expires_at: Option<u64>,
    #[n(5)]
    scope: Option<String>,
    #[b(6)]
    apis: Option<Vec<apis::ApiTokenRecord<'a>>>,
    #[b(7)]
    userinfo: Option<&'a ByteSlice>,
    #[b(9)]
    issued_by: Option<&'a str>,
}
