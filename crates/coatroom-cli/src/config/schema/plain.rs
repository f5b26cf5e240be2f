//! A provider without ID tokens, as it is written. What it leads to, and what cannot work, is the core's.

use coatroom_core::config::{EndpointsConfig, PlainConfig, UserConfig};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Provider;

/// Whether the provider gives ID tokens.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Protocol {
    /// An OpenID Provider: an ID token says who the user is.
    #[default]
    Openid,
    /// An authorization server of OAuth 2.0 alone: `user` says how to know who the user is.
    Oauth2,
}

impl Protocol {
    /// As it is written, which is also the core's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Openid => "openid",
            Self::Oauth2 => "oauth2",
        }
    }
}

/// The endpoints of a provider without metadata. All are `https`, or `http` on loopback with an issuer
/// there.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoints {
    /// Where users sign in (RFC 6749 §3.1).
    #[schemars(regex(pattern = r"^https?://[^#@\s]+$"))]
    pub(crate) authorization: String,
    /// Where codes and refresh tokens are redeemed (RFC 6749 §3.2).
    #[schemars(regex(pattern = r"^https?://[^#@\s]+$"))]
    pub(crate) token: String,
    /// Where tokens are revoked (RFC 7009). Default: nowhere; then a sign-out revokes none.
    #[schemars(regex(pattern = r"^https?://[^#@\s]+$"))]
    pub(crate) revocation: Option<String>,
    /// Where tokens are introspected (RFC 7662). Default: nowhere.
    #[schemars(regex(pattern = r"^https?://[^#@\s]+$"))]
    pub(crate) introspection: Option<String>,
}

/// How it is known who the user is, where no ID token says it.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct User {
    /// What answers, with the access token (RFC 6750 §2.1), who its user is: a JSON object. Default:
    /// `userinfo_endpoint` of the metadata.
    #[schemars(regex(pattern = r"^https?://[^#@\s]+$"), example = &"https://api.github.com/user")]
    pub(crate) endpoint: Option<String>,
    /// The member of that answer that names the user for good: a string or an integer, which becomes
    /// `sub`. `none`: nobody asks, and nobody knows whose a session is. Default: none, it has to be
    /// written, unless `preset` says otherwise.
    #[schemars(length(min = 1), example = &"id")]
    pub(crate) subject: Option<String>,
    /// Whether it is asked at each refresh again. Then a refresh that brings another user's token
    /// ends the session; an answer that does not say who the user is ends none.
    #[schemars(extend("default" = AtRefresh::default().as_str()))]
    pub(crate) at_refresh: Option<AtRefresh>,
}

/// Whether somebody is asked at each refresh again.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum AtRefresh {
    /// Each time.
    #[default]
    Always,
    /// At a sign-in alone.
    Never,
}

impl AtRefresh {
    fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// What of it is written.
pub(crate) fn config(written: &Provider) -> PlainConfig {
    PlainConfig {
        protocol: written.protocol.map(|protocol| protocol.as_str().to_owned()),
        endpoints: written.endpoints.as_ref().map(|endpoints| EndpointsConfig {
            authorization: endpoints.authorization.clone(),
            token: endpoints.token.clone(),
            revocation: endpoints.revocation.clone(),
            introspection: endpoints.introspection.clone(),
        }),
        user: written.user.as_ref().map(|user| UserConfig {
            endpoint: user.endpoint.clone(),
            subject: user.subject.clone(),
            at_refresh: user.at_refresh.map(|at| at.as_str().to_owned()),
        }),
        token_errors_with_200: written.token_errors_with_200,
        scopes_with_commas: written.scopes_with_commas,
    }
}
