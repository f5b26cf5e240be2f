//! A route's `token` as written: for whom its access tokens are.
//!
//! Shape and comments only; what may be asked for is the core's to check.

use coatroom_core::config::defaults;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::{Interval, shown};

/// For whom a route's access token is: either `resource`, `audience`, `exchange` or `client_credentials`,
/// or none of them with `introspection` of the session's own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["resource"]}, {"required": ["audience"]}, {"required": ["exchange"]},
    {"required": ["client_credentials"], "properties": {"introspection": false}},
    {"required": ["introspection"],
     "properties": {"resource": false, "audience": false, "exchange": false, "client_credentials": false}}
]))]
pub(crate) struct RouteToken {
    /// The API's resource indicator (RFC 8707 §2): an absolute URI without a fragment.
    #[schemars(example = "https://api.example.com")]
    pub(crate) resource: Option<String>,
    /// The same as a name, for providers that have an `audience` parameter instead.
    #[schemars(extend("minLength" = 1))]
    pub(crate) audience: Option<String>,
    /// The scopes that the API may see. A token with any other is not used. Default: none are named,
    /// and the provider decides.
    #[schemars(extend("items" = {"type": "string", "pattern": r"^[!#-\[\]-~]+$"}))]
    pub(crate) scopes: Option<Vec<String>>,
    /// Gets the token by exchanging the session's own (RFC 8693). Default: by refresh.
    pub(crate) exchange: Option<TokenExchange>,
    /// The application's own token (RFC 6749 §4.4), for a route with `auth: none`: whoever reaches it acts
    /// with the application's authority. It never stands in for a user's. `{}` asks for what the provider
    /// gives.
    pub(crate) client_credentials: Option<ClientCredentials>,
    /// Asks the provider about the token before a call passes (RFC 7662): the API gets a signed JWT in
    /// place of an opaque token, or a revoked token does not pass. Default: the token goes on as it is.
    pub(crate) introspection: Option<TokenIntrospection>,
}

/// A token of the application's own (RFC 6749 §4.4): for whom it is, at most one of `resource` and `audience`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = {"required": ["resource", "audience"]}))]
pub(crate) struct ClientCredentials {
    /// The API's resource indicator (RFC 8707 §2): an absolute URI without a fragment.
    pub(crate) resource: Option<String>,
    /// The same as a name, for providers that have an `audience` parameter instead.
    #[schemars(extend("minLength" = 1))]
    pub(crate) audience: Option<String>,
    /// The scopes that the API may see. A token with any other is not used. Default: none are named,
    /// and the provider decides.
    #[schemars(extend("items" = {"type": "string", "pattern": r"^[!#-\[\]-~]+$"}))]
    pub(crate) scopes: Option<Vec<String>>,
}

/// What the provider is asked about a route's access token, and what the API gets of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenIntrospection {
    /// What is asked for. Not with `dpop` or `certificate_bound_access_tokens`, unless it is `json`.
    #[schemars(extend("default" = IntrospectionResponse::default().as_str()))]
    pub(crate) response: Option<IntrospectionResponse>,
    /// Whom the JWT has to name in `aud`. Default: with `jwt` this client's `client_id`, with
    /// `phantom_token` anybody.
    #[schemars(extend("minLength" = 1), example = "https://api.example.com")]
    pub(crate) audience: Option<String>,
    /// For how long an answer counts, at most: an hour. It never counts longer than the token. Default:
    /// with `json` 60s, else until the token ends.
    #[schemars(extend("examples" = [shown(defaults::INTROSPECTION_CACHE)]))]
    pub(crate) cache: Option<Interval>,
}

/// What an introspection answers.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum IntrospectionResponse {
    /// A signed answer about the token (RFC 9701): the API gets that in the token's place.
    #[default]
    Jwt,
    /// The access token as a JWT, as Curity answers it: the API gets that in the token's place.
    PhantomToken,
    /// An answer about the token (RFC 7662): the API gets the token itself, while it is active.
    Json,
}

impl IntrospectionResponse {
    /// As it is written, which is also the core's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::PhantomToken => "phantom_token",
            Self::Json => "json",
        }
    }
}

/// A token exchange (RFC 8693): for whom the token is, either `resource` or `audience`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["resource"]}, {"required": ["audience"]}]))]
pub(crate) struct TokenExchange {
    /// Where the token will be used (RFC 8693 §2.1): an absolute URI without a fragment.
    pub(crate) resource: Option<String>,
    /// The same as a name.
    #[schemars(extend("minLength" = 1))]
    pub(crate) audience: Option<String>,
    /// The scopes that the API may see. A token with any other is not used. Default: none are named,
    /// and the provider decides.
    #[schemars(extend("items" = {"type": "string", "pattern": r"^[!#-\[\]-~]+$"}))]
    pub(crate) scopes: Option<Vec<String>>,
    /// The kind of token that is asked for (RFC 8693 §3). Default: not said.
    #[schemars(extend("enum" = TOKEN_TYPES))]
    pub(crate) requested_token_type: Option<String>,
}

/// The kinds of token that an API may be sent (RFC 8693 §3).
const TOKEN_TYPES: [&str; 2] = [
    "urn:ietf:params:oauth:token-type:access_token",
    "urn:ietf:params:oauth:token-type:jwt",
];
