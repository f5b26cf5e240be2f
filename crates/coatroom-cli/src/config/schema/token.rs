//! A route's `token` as written: for whom its access tokens are.
//!
//! Shape and comments only; what may be asked for is the core's to check.

use schemars::JsonSchema;
use serde::Deserialize;

/// For whom a route's access token is: either `resource`, `audience`, `exchange` or
/// `client_credentials`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["resource"]}, {"required": ["audience"]}, {"required": ["exchange"]}, {"required": ["client_credentials"]}]))]
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
