//! What a route demands of a session, as it is written.
//!
//! Shapes only: what can be met is checked by the core.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Named, WholeSeconds};

/// What a route demands of a session. All of it has to be met.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Require {
    /// One of these authentication context classes (`acr` of the ID token). Else the answer is 401 with
    /// the challenge of RFC 9470, and the SPA signs in again with these `acr_values`.
    #[schemars(extend("minItems" = 1))]
    pub(crate) acr: Option<Vec<String>>,
    /// How long ago the user may have authenticated at the provider (`auth_time` of the ID token). Else
    /// 401, as for `acr`. A provider that says no `auth_time` is asked for it by `max_age`.
    pub(crate) max_age: Option<WholeSeconds>,
    /// Scopes that were granted at sign-in, all of them. Else 403 with the challenge of RFC 6750.
    #[schemars(extend("minItems" = 1))]
    pub(crate) scopes: Option<Vec<String>>,
    /// Claims of the ID token, each with one of these values, such as `{role: [admin, editor]}`; of a
    /// claim that is a list one member has to be among them. Numbers and truth values are written as
    /// texts: `{email_verified: ["true"]}`. Else 403.
    pub(crate) claims: Option<Named<Vec<String>>>,
}
