//! What can go wrong, by whose fault it is, and the one table to status, code and log level.
//!
//! The variants carry text for the log that is ours alone: never input, never a token. What the
//! caller gets is the [`Answer`] of the table (`http-api`: "Errors"), whose sentence is one of our
//! own too. No other place maps an error to a status.

use std::borrow::Cow;

use http::{Method, StatusCode};

/// Everything a step or a decision can refuse with, grouped by who is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    // ---- the browser, or whoever speaks in its place
    /// Malformed input. The text names the parameter or header and what was expected.
    #[error("invalid request: {0}")]
    InvalidRequest(&'static str),
    /// No, foreign, expired or used sign-in transaction.
    #[error("sign-in transaction not usable: {0}")]
    LoginStateInvalid(&'static str),
    /// Whoever answered is not the configured issuer (RFC 9207), so a restart would meet them again.
    #[error("the authorization response's `iss` is missing or not the configured `issuer`")]
    IssuerMismatch,
    /// A step-up came back with another user, so a restart would sign that user in.
    #[error("another user came back than the one who was signed in")]
    AnotherUser,
    /// The provider said no; only a registered error code is kept.
    #[error("the provider refused the authorization request: {}", provider_error.unwrap_or("an unregistered error"))]
    AuthorizationFailed {
        /// The registered code (RFC 6749 §4.1.2.1, OIDC Core §3.1.2.6), if it was one.
        provider_error: Option<&'static str>,
    },
    /// The user came back without having authenticated as was asked (OIDC Core §3.1.2.1, RFC 9470 §5).
    #[error("the user did not authenticate as was asked: {0}")]
    StepUpUnmet(&'static str),
    /// A signed authorization response (JARM §2.4) that is not accepted.
    #[error("the signed authorization response is not accepted: {0}")]
    ResponseInvalid(&'static str),
    /// A logout token (OpenID Connect Back-Channel Logout §2.6) that is not accepted.
    #[error("the logout token is not accepted: {0}")]
    LogoutTokenInvalid(&'static str),
    /// There is no session.
    #[error("no session: {0}")]
    Unauthorized(&'static str),
    /// A route of tokens was called without one (RFC 6750 §3).
    #[error("no access token in the Authorization header: {0}")]
    TokenRequired(&'static str),
    /// Stateless: the access token ran out (or half the idle time did); `refresh` helps.
    #[error("the access token is expired, a refresh is needed")]
    AccessTokenExpired,
    /// The session is over: idle, absolute, revoked, or the provider ended it.
    #[error("the session has ended: {0}")]
    SessionExpired(&'static str),
    /// The provider no longer takes the session's refresh token, or gave another user's tokens for it:
    /// the one failure of a refresh that ends a session.
    #[error("the provider refused the refresh token (invalid_grant)")]
    GrantEnded,
    /// A cross-site request, or one that cannot prove it is not.
    #[error("cross-site request refused: {0}")]
    CsrfRejected(&'static str),
    /// An `Origin` that is not in the application's list.
    #[error("the request's Origin is not in the application's `origins`")]
    OriginNotAllowed,
    /// A route demands a stronger or a later authentication (RFC 9470 §3).
    #[error("the route demands a stronger or a later authentication")]
    StepUpRequired {
        /// What to ask for: one of these authentication context classes.
        acr_values: Option<String>,
        /// What to ask for: how long ago the user may have authenticated, in seconds.
        max_age: Option<u64>,
    },
    /// A route demands scopes that were not granted (RFC 6750 §3.1).
    #[error("the route demands scopes that were not granted: {scope}")]
    InsufficientScope {
        /// The scopes that the route demands, as configured.
        scope: String,
    },
    /// A route's rule refuses this user.
    #[error("forbidden by the route's rule: {0}")]
    Forbidden(&'static str),
    /// Unknown, missing or contradicting host.
    #[error("misdirected request: {0}")]
    Misdirected(&'static str),
    /// Nothing is there.
    #[error("no such endpoint or route")]
    NotFound,
    /// The endpoint or route does not take this method.
    #[error("method not allowed")]
    MethodNotAllowed {
        /// What it does take, for the `Allow` header.
        allow: Vec<Method>,
    },
    /// The body is over the limit.
    #[error("request body over the limit")]
    PayloadTooLarge,
    /// Too many requests.
    #[error("rate limited")]
    RateLimited {
        /// Seconds until a retry makes sense.
        retry_after: u32,
    },

    // ---- the authorization server
    /// It answered, and the answer is unusable. The text says what was wrong, without the input.
    #[error("the provider's answer is unusable: {0}")]
    Provider(String),
    /// It did not answer, or with a 5xx.
    #[error("the provider is unavailable: {reason}")]
    ProviderUnavailable {
        /// What failed.
        reason: String,
        /// Seconds until a retry makes sense.
        retry_after: u32,
    },

    // ---- the session store
    /// It cannot be read or written now. The text has no address, key or value in it.
    #[error("the session store is unavailable: {reason}")]
    StoreUnavailable {
        /// What failed.
        reason: String,
        /// Seconds until a retry makes sense.
        retry_after: u32,
    },

    // ---- the upstream
    /// It could not be reached, or broke off before answering.
    #[error("the upstream is unavailable: {0}")]
    UpstreamUnavailable(String),
    /// It did not answer in time.
    #[error("the upstream did not answer in time")]
    UpstreamTimeout,
    /// The route has as many calls under way as it may have (`max_concurrent`).
    #[error("the route has `max_concurrent` calls under way")]
    UpstreamBusy,
    /// It wants another nonce in the proof of a call that cannot be sent once more (RFC 9449 §9). The
    /// next call has it.
    #[error("the upstream wants a new dpop nonce, and the call cannot be sent once more")]
    UpstreamNonce,
    /// The folder with the application's files cannot be read.
    #[error("the folder of `static` cannot be read: {0}")]
    FilesUnavailable(String),
    /// The development server is not running, or broke off.
    #[error("the development server at {address} is unavailable: {reason}")]
    DevServerUnavailable {
        /// Its origin, as configured.
        address: String,
        /// What failed.
        reason: String,
    },

    // ---- the operator
    /// A sealed value does not fit into its cookie's bound.
    #[error(
        "cookie `{cookie}` would need {bytes} bytes, the bound is {bound}; ask the provider for smaller tokens \
         (fewer claims or scopes, opaque tokens)"
    )]
    CookieTooLarge {
        /// The cookie's name.
        cookie: String,
        /// What it would need.
        bytes: usize,
        /// What is allowed.
        bound: usize,
    },

    // ---- us
    /// A state that our own code should have ruled out.
    #[error("internal error: {0}")]
    Bug(&'static str),
}

impl Error {
    /// The registered error code of the authorization endpoint that says the same, if there is one.
    pub fn provider_error(&self) -> Option<&'static str> {
        match self {
            Self::AuthorizationFailed { provider_error } => *provider_error,
            // OpenID Connect Core Unmet Authentication Requirements 1.0
            Self::StepUpUnmet(_) => Some("unmet_authentication_requirements"),
            _ => None,
        }
    }

    /// What `WWW-Authenticate` says of it (RFC 6750 §3, RFC 9470 §3).
    pub fn challenge(&self) -> Option<String> {
        let quoted = |name: &str, value: &str| {
            let value: String = value.chars().filter(|c| !"\"\\".contains(*c)).collect();
            format!(", {name}=\"{value}\"")
        };
        match self {
            Self::StepUpRequired { acr_values, max_age } => {
                let mut challenge = "Bearer error=\"insufficient_user_authentication\"".to_owned();
                if let Some(values) = acr_values {
                    challenge.push_str(&quoted("acr_values", values));
                }
                if let Some(seconds) = max_age {
                    challenge.push_str(&quoted("max_age", &seconds.to_string()));
                }
                Some(challenge)
            }
            Self::InsufficientScope { scope } => Some(format!(
                "Bearer error=\"insufficient_scope\"{}",
                quoted("scope", scope)
            )),
            // without credentials no error code (RFC 6750 §3.1)
            Self::TokenRequired(_) => Some("Bearer".to_owned()),
            _ => None,
        }
    }
}

/// How loud a failure is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Everyday: an expired token.
    Debug,
    /// Worth counting: a refused request.
    Info,
    /// Somebody should look: the provider answered nonsense.
    Warn,
    /// Somebody must look.
    Error,
}

/// What the caller gets to see of an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable `error_code`.
    pub code: &'static str,
    /// Our own sentence for developers, the `detailed_error`.
    pub detail: Cow<'static, str>,
    /// The log level.
    pub level: Level,
    /// The `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
}

impl Error {
    /// The one table from error to status, code and log level.
    pub fn answer(&self) -> Answer {
        use Level::{Debug, Error as Err, Info, Warn};
        let answer = |status, code, detail, level| Answer {
            status,
            code,
            detail: Cow::Borrowed(detail),
            level,
            retry_after: None,
        };
        match self {
            Self::InvalidRequest(detail) => answer(StatusCode::BAD_REQUEST, "invalid_request", detail, Info),
            Self::LoginStateInvalid(detail) => {
                answer(StatusCode::BAD_REQUEST, "login_state_invalid", detail, Info)
            }
            Self::IssuerMismatch => answer(
                StatusCode::BAD_REQUEST,
                "login_state_invalid",
                "the answer does not come from the configured provider",
                Warn,
            ),
            Self::AnotherUser => answer(
                StatusCode::BAD_REQUEST,
                "login_state_invalid",
                "another user came back than the one who was signed in",
                Info,
            ),
            Self::AuthorizationFailed { .. } => answer(
                StatusCode::BAD_REQUEST,
                "authorization_failed",
                "the provider refused to sign the user in",
                Info,
            ),
            Self::StepUpUnmet(_) => answer(
                StatusCode::BAD_REQUEST,
                "authorization_failed",
                "the user did not sign in as strongly or as lately as was asked",
                Info,
            ),
            Self::ResponseInvalid(why) => Answer {
                detail: Cow::Owned(format!(
                    "the signed authorization response is not accepted: {why}"
                )),
                ..answer(StatusCode::BAD_REQUEST, "invalid_request", "", Info)
            },
            Self::LogoutTokenInvalid(why) => Answer {
                detail: Cow::Owned(format!("the logout token is not accepted: {why}")),
                ..answer(StatusCode::BAD_REQUEST, "invalid_request", "", Info)
            },
            Self::Unauthorized(_) => answer(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "there is no session; sign in",
                Debug,
            ),
            Self::TokenRequired(_) => answer(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "this needs an access token in the Authorization header: Bearer or DPoP",
                Debug,
            ),
            Self::AccessTokenExpired => answer(
                StatusCode::UNAUTHORIZED,
                "access_token_expired",
                "the access token has expired; call refresh and try again",
                Debug,
            ),
            Self::GrantEnded => answer(
                StatusCode::UNAUTHORIZED,
                "session_expired",
                "the session has ended; sign in again",
                Info,
            ),
            Self::SessionExpired(_) => answer(
                StatusCode::UNAUTHORIZED,
                "session_expired",
                "the session has ended; sign in again",
                Debug,
            ),
            Self::CsrfRejected(detail) => answer(StatusCode::FORBIDDEN, "csrf_rejected", detail, Info),
            Self::OriginNotAllowed => answer(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "this origin is not in the application's `origins`",
                Info,
            ),
            Self::StepUpRequired { .. } => answer(
                StatusCode::UNAUTHORIZED,
                "insufficient_user_authentication",
                "this needs a stronger or a more recent sign-in; see `WWW-Authenticate`",
                Debug,
            ),
            Self::InsufficientScope { .. } => answer(
                StatusCode::FORBIDDEN,
                "forbidden",
                "this needs scopes that were not granted; see `WWW-Authenticate`",
                Info,
            ),
            Self::Forbidden(detail) => answer(StatusCode::FORBIDDEN, "forbidden", detail, Info),
            Self::Misdirected(detail) => answer(
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected_request",
                detail,
                Debug,
            ),
            Self::NotFound => answer(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is nothing at this path",
                Debug,
            ),
            Self::MethodNotAllowed { .. } => answer(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not take this method",
                Debug,
            ),
            Self::PayloadTooLarge => answer(
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                "the request body is over the limit",
                Info,
            ),
            Self::RateLimited { retry_after } => Answer {
                retry_after: Some(*retry_after),
                ..answer(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limited",
                    "too many requests",
                    Info,
                )
            },
            Self::Provider(_) => answer(
                StatusCode::BAD_GATEWAY,
                "provider_error",
                "the provider gave an answer that cannot be used",
                Warn,
            ),
            Self::ProviderUnavailable { retry_after, .. } => Answer {
                retry_after: Some(*retry_after),
                ..answer(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "provider_unavailable",
                    "the provider cannot be reached; nobody is signed out by this",
                    Warn,
                )
            },
            Self::StoreUnavailable { retry_after, .. } => Answer {
                retry_after: Some(*retry_after),
                ..answer(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store_unavailable",
                    "sessions cannot be looked up now; nobody is signed out by this",
                    Warn,
                )
            },
            Self::UpstreamUnavailable(_) => answer(
                StatusCode::BAD_GATEWAY,
                "upstream_unavailable",
                "the API cannot be reached",
                Warn,
            ),
            Self::UpstreamTimeout => answer(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_timeout",
                "the API did not answer in time",
                Warn,
            ),
            Self::UpstreamBusy => Answer {
                retry_after: Some(BUSY_RETRY_AFTER),
                ..answer(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "upstream_busy",
                    "too many calls of this API are under way",
                    Info,
                )
            },
            Self::UpstreamNonce => Answer {
                retry_after: Some(BUSY_RETRY_AFTER),
                ..answer(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "upstream_retry",
                    "the API took nothing of this call and wants it once more",
                    Debug,
                )
            },
            Self::FilesUnavailable(_) => answer(
                StatusCode::BAD_GATEWAY,
                "upstream_unavailable",
                "the folder with the application's files cannot be read; build the application",
                Warn,
            ),
            Self::DevServerUnavailable { address, .. } => Answer {
                // the address is the configuration's, and whoever reads this has to know which server
                detail: Cow::Owned(format!(
                    "nothing answers at {address}; start the development server there, for example with `npm run dev`"
                )),
                ..answer(StatusCode::BAD_GATEWAY, "upstream_unavailable", "", Warn)
            },
            Self::CookieTooLarge { .. } => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "the session does not fit into cookies; see the server's log",
                Err,
            ),
            Self::Bug(_) => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "an internal error",
                Err,
            ),
        }
    }
}

/// After how many seconds a call that met a full route is worth another try: calls are short.
const BUSY_RETRY_AFTER: u32 = 1;

impl From<std::convert::Infallible> for Error {
    /// So that a wrapped service that never fails needs no adapter.
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
