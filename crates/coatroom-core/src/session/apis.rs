//! What a session knows of the tokens of its APIs, and the records that hold it.
//!
//! Where sessions are in cookies, a token is in a cookie that only its API's path gets: the session
//! cookie has what the agent must know of it, and the token itself only where it is short enough to
//! be carried along for its revocation. Nothing here decides which token a call carries.

use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::{CborLen, Decode, Encode};
use zeroize::Zeroizing;

use super::{PROOF_KEY, Session, SessionId, authorization, bytes, encode};
use crate::config::ApiId;
use crate::error::Error;
use crate::headers::Authorization;
use crate::packed::{pack, unpack};
use crate::secret::Secret;
use crate::time::UnixTime;

/// An API's token, or why there is none.
#[derive(Clone)]
pub(crate) struct ApiToken {
    pub(crate) api: ApiId,
    /// The token's own expiry; without one, when it is worth asking again.
    pub(crate) expires_at: UnixTime,
    pub(crate) state: ApiState,
}

/// Where an API's token is.
#[derive(Clone)]
pub(crate) enum ApiState {
    /// Here.
    Token(Secret),
    /// In the API's cookie, which the agent is not sent.
    InBrowser,
    /// Nowhere.
    Missing(NoToken),
}

/// Why an API has no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoToken {
    /// The provider does not give one.
    Refused,
    /// It could not be asked.
    Unavailable,
}

impl NoToken {
    /// What a call gets that would need the token.
    pub(crate) fn error(self, again_at: UnixTime, now: UnixTime) -> Error {
        match self {
            Self::Refused => Error::Provider("it gave no access token for this route's API".to_owned()),
            Self::Unavailable => Error::ProviderUnavailable {
                reason: "no access token for this route's API could be had".to_owned(),
                retry_after: u32::try_from(again_at.seconds_from(now))
                    .unwrap_or(u32::MAX)
                    .max(1),
            },
        }
    }
}

impl ApiToken {
    /// Whether there is a token, here or in the browser.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self.state, ApiState::Missing(_))
    }
}

impl Session {
    /// The plaintext of the cookie that has an API's token; none where the token is in the browser
    /// already. It counts beside the anchor only, which knows the session's clocks: they move on where
    /// this cookie stays as it is.
    pub(crate) fn encode_api_cookie(&self, token: &ApiToken) -> Option<Zeroizing<Vec<u8>>> {
        let (state, packed) = match &token.state {
            ApiState::InBrowser => return None,
            ApiState::Token(token) => (THERE, pack(token)),
            ApiState::Missing(why) => (code(*why), Zeroizing::default()),
        };
        Some(encode(&ApiCookieRecord {
            session: ByteArray::from(self.id.0),
            api: ByteArray::from(token.api.0),
            honoured_until: token.expires_at.0,
            state,
            token: bytes(&packed),
            proof_key: self.proof_key_bytes(),
        }))
    }
}

/// What an API call reads from its API's cookie.
#[derive(Clone)]
pub(crate) struct ApiCookie {
    pub(crate) session: SessionId,
    pub(crate) credential: ApiCredential,
}

/// An API's token as calls carry it.
#[derive(Clone)]
pub(crate) struct ApiCredential {
    pub(crate) api: ApiId,
    pub(crate) honoured_until: UnixTime,
    pub(crate) authorization: Result<Authorization, NoToken>,
}

impl ApiCookie {
    pub(crate) fn decode(plaintext: &[u8]) -> Option<Self> {
        let record: ApiCookieRecord<'_> = minicbor::decode(plaintext).ok()?;
        Some(Self {
            session: SessionId(*record.session),
            credential: ApiCredential {
                api: ApiId(*record.api),
                honoured_until: UnixTime(record.honoured_until),
                authorization: match missing(record.state)? {
                    Some(why) => Err(why),
                    None => Ok(authorization(record.token, record.proof_key)?),
                },
            },
        })
    }
}

/// One API's token in another record.
#[derive(Encode, Decode, CborLen)]
pub(super) struct ApiTokenRecord<'a> {
    #[n(0)]
    api: ByteArray<8>,
    #[n(1)]
    expires_at: u64,
    #[n(2)]
    state: u8,
    #[b(3)]
    token: Option<&'a ByteSlice>,
}

#[derive(Encode, Decode, CborLen)]
struct ApiCookieRecord<'a> {
    #[n(0)]
    session: ByteArray<16>,
    #[n(1)]
    api: ByteArray<8>,
    #[n(2)]
    honoured_until: u64,
    #[n(3)]
    state: u8,
    #[b(4)]
    token: &'a ByteSlice,
    /// What it is bound to, if it is.
    #[n(5)]
    proof_key: Option<ByteArray<PROOF_KEY>>,
}

/// The tokens of a session, packed, on their way into a record.
pub(super) struct Packed<'a>(Vec<(&'a ApiToken, Option<Zeroizing<Vec<u8>>>)>);

impl<'a> Packed<'a> {
    /// With every token that is here.
    pub(super) fn all(tokens: &'a [ApiToken]) -> Self {
        Self::up_to(tokens, usize::MAX)
    }

    /// With those that are short: long ones are JWTs, which are not revoked one by one.
    pub(super) fn short(tokens: &'a [ApiToken]) -> Self {
        Self::up_to(tokens, SHORT)
    }

    fn up_to(tokens: &'a [ApiToken], length: usize) -> Self {
        let packed = tokens.iter().map(|token| match &token.state {
            ApiState::Token(secret) if secret.len() <= length => (token, Some(pack(secret))),
            ApiState::Token(_) | ApiState::InBrowser | ApiState::Missing(_) => (token, None),
        });
        Self(packed.collect())
    }

    /// As they are written; nothing where there are none.
    pub(super) fn records(&self) -> Option<Vec<ApiTokenRecord<'_>>> {
        let records = self.0.iter().map(|(token, packed)| ApiTokenRecord {
            api: ByteArray::from(token.api.0),
            expires_at: token.expires_at.0,
            state: match &token.state {
                ApiState::Token(_) | ApiState::InBrowser => THERE,
                ApiState::Missing(why) => code(*why),
            },
            token: packed.as_ref().map(|packed| bytes(packed)),
        });
        (!self.0.is_empty()).then(|| records.collect())
    }
}

/// Reads them again; what this version does not know is left out, and asked for again.
pub(super) fn tokens_of(records: Option<Vec<ApiTokenRecord<'_>>>) -> Vec<ApiToken> {
    let records = records.unwrap_or_default().into_iter();
    let tokens = records.filter_map(|record| {
        let state = match (missing(record.state)?, record.token) {
            (Some(why), _) => ApiState::Missing(why),
            (None, None) => ApiState::InBrowser,
            (None, Some(packed)) => ApiState::Token(unpack(packed)?),
        };
        Some(ApiToken {
            api: ApiId(*record.api),
            expires_at: UnixTime(record.expires_at),
            state,
        })
    });
    tokens.collect()
}

/// The same for calls.
pub(super) fn credentials_of(
    records: Option<Vec<ApiTokenRecord<'_>>>,
    proof_key: Option<ByteArray<PROOF_KEY>>,
) -> Vec<ApiCredential> {
    let records = records.unwrap_or_default().into_iter();
    let credentials = records.filter_map(|record| {
        Some(ApiCredential {
            api: ApiId(*record.api),
            honoured_until: UnixTime(record.expires_at),
            authorization: match (missing(record.state)?, record.token) {
                (Some(why), _) => Err(why),
                (None, packed) => Ok(authorization(packed?, proof_key)?),
            },
        })
    });
    credentials.collect()
}

fn code(why: NoToken) -> u8 {
    match why {
        NoToken::Refused => REFUSED,
        NoToken::Unavailable => UNAVAILABLE,
    }
}

/// Why there is no token, if there is none; nothing for a code that is not known.
fn missing(state: u8) -> Option<Option<NoToken>> {
    match state {
        THERE => Some(None),
        REFUSED => Some(Some(NoToken::Refused)),
        UNAVAILABLE => Some(Some(NoToken::Unavailable)),
        _ => None,
    }
}

const THERE: u8 = 0;
const REFUSED: u8 = 1;
const UNAVAILABLE: u8 = 2;

/// The longest token that the session cookie carries along, in bytes.
const SHORT: usize = 128;
