//! How a provider is made to misbehave: a change to what it would have done.
//!
//! A twist changes one thing that the correct provider has just made, and knows the facts of the run.
//! It never does anything by itself.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::answer::Answer;
use crate::jwt::{Jwt, Keys};

/// One change.
#[derive(Clone, Copy)]
pub(crate) enum Twist {
    /// None.
    Nothing,
    /// The metadata document's members.
    Metadata(fn(&Facts, &mut Map<String, Value>)),
    /// The answer with the metadata document.
    MetadataAnswer(fn(&Facts, Answer) -> Answer),
    /// The keys that are published.
    Keys(fn(&Facts, &mut Vec<Value>)),
    /// The answer with the JWK set.
    KeysAnswer(fn(&Facts, Answer) -> Answer),
    /// The parameters with which the browser comes back.
    AuthorizationResponse(fn(&Facts, &mut Vec<(String, String)>)),
    /// The code is another sign-in's.
    CodeOfAnotherSignIn,
    /// The token endpoint does not look at PKCE.
    NoPkce,
    /// The members of a token response.
    TokenResponse(fn(&Facts, &mut Map<String, Value>)),
    /// The answer of the token endpoint.
    TokenAnswer(fn(&Facts, Answer) -> Answer),
    /// The ID token.
    IdToken(fn(&Facts, &mut Jwt)),
    /// The compact form of the ID token.
    Envelope(fn(&Facts, String) -> String),
    /// The answer of the userinfo endpoint.
    UserinfoAnswer(fn(&Facts, Answer) -> Answer),
    /// The signed answer about an access token.
    Introspection(fn(&Facts, &mut Jwt)),
    /// The answer of the introspection endpoint.
    IntrospectionAnswer(fn(&Facts, Answer) -> Answer),
    /// The logout token.
    LogoutToken(fn(&Facts, &mut Jwt)),
    /// The whole back-channel logout request, made from the logout token.
    LogoutRequest(fn(&Facts, &str) -> String),
    /// The logout request is the last one that was made while the provider was correct.
    LogoutReplayed,
    /// The answer of the revocation endpoint.
    RevocationAnswer(fn(&Facts, Answer) -> Answer),
}

/// What a twist may know.
#[derive(Clone)]
pub(crate) struct Facts {
    /// The issuer identifier.
    pub(crate) issuer: String,
    /// Text that nobody may repeat.
    pub(crate) canary: String,
    /// The origin that nobody may be led to.
    pub(crate) trap: String,
    /// Seconds since 1970.
    pub(crate) now: u64,
    /// How often this endpoint was asked before, since the misbehaviour began.
    pub(crate) asked: usize,
    /// Our keys, and another's.
    pub(crate) keys: Arc<Keys>,
}

impl Facts {
    /// The canary as a number.
    pub(crate) const NUMBER: u64 = 918_273_645;
}
