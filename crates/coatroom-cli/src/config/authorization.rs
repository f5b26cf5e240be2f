//! `provider`'s settings of the authorization request and response, as written.
//!
//! Here is only their shape, and the fetching of the key that signs; what they mean, and what is wrong
//! with them, the core says.

use std::fmt;
use std::path::Path;

use coatroom_core::config::{AuthorizationConfig, PrivateKeyPem, RequestObjectConfig};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::deserialize::{AS_JSON, HIDDEN};
use super::findings::Findings;
use super::secret::Reference;

/// Whether authorization requests are pushed to the provider before the browser goes there.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum PushedRequests {
    /// Where the provider's metadata has `pushed_authorization_request_endpoint`.
    #[default]
    Auto,
    /// Always: without that endpoint nobody signs in.
    Required,
    /// Never: where the provider insists nobody signs in.
    Never,
}

/// How authorization responses come back.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub(crate) enum ResponseMode {
    /// In the query of the redirect URI.
    #[default]
    #[serde(rename = "query")]
    Query,
    /// Signed (JARM), in the query of the redirect URI: `response_mode=jwt`.
    #[serde(rename = "jwt")]
    Jwt,
    /// The same under its full name, for providers that list only that: `response_mode=query.jwt`.
    #[serde(rename = "query.jwt")]
    QueryJwt,
    /// As a form that the provider's page posts to `callback`. The login cookie is `SameSite=None` then.
    #[serde(rename = "form_post")]
    FormPost,
}

/// A profile of FAPI 2.0.
#[derive(Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum ProfileSetting {
    /// The Security Profile: requests are pushed, the client authenticates by a key or a certificate, access
    /// tokens are bound (by DPoP unless `certificate_bound_access_tokens`).
    Fapi2,
    /// The same with Message Signing: requests and responses are signed.
    Fapi2MessageSigning,
}

impl ProfileSetting {
    /// As it is written, which is also the core's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fapi2 => "fapi2",
            Self::Fapi2MessageSigning => "fapi2-message-signing",
        }
    }
}

/// `request_object`: `true`, or a mapping.
pub(crate) enum RequestObjectSetting {
    /// The key of `client_auth` signs.
    ClientKey,
    /// A key of its own does.
    Own(RequestObject),
}

/// The key that signs authorization requests. Where it is the one of `client_auth`, `true` stands in
/// place of this mapping.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestObject {
    /// Its private half in PEM (PKCS#8, for RSA also PKCS#1): P-256, P-384, Ed25519, or RSA with 2048
    /// bits at least.
    pub(crate) key: Reference,
    /// The algorithm (RFC 7518 §3.1). Default: `ES256`, `ES384`, `EdDSA` or `PS256`, by the kind of key.
    pub(crate) algorithm: Option<String>,
    /// The id of the key among those that the provider has of this client. Default: its thumbprint
    /// (RFC 7638), as `coatroom keygen --jwks` prints it.
    #[schemars(extend("minLength" = 1))]
    pub(crate) kid: Option<String>,
}

/// The `claims` parameter: JSON, written as YAML.
pub(crate) struct Claims(Value);

/// What `provider` says of it.
pub(crate) struct Written {
    pub(crate) pushed: Option<PushedRequests>,
    pub(crate) request_object: Option<RequestObjectSetting>,
    pub(crate) response_mode: Option<ResponseMode>,
    pub(crate) claims: Option<Claims>,
    pub(crate) resource: Vec<String>,
    pub(crate) require_iss: bool,
}

/// The settings, the key fetched. `at` is the provider's place.
pub(crate) fn config(
    written: Written,
    at: &[String],
    folder: &Path,
    findings: &mut Findings<'_>,
) -> AuthorizationConfig {
    let signed_by_client_key = matches!(written.request_object, Some(RequestObjectSetting::ClientKey));
    let request_object = written.request_object.and_then(|object| {
        let RequestObjectSetting::Own(object) = object else {
            return None;
        };
        let place = ["request_object", "key"].map(str::to_owned);
        let place = at.iter().cloned().chain(place).collect();
        // without it the application is refused in the end, and nothing more has to be said of the key
        let key = findings.secret(&object.key, place, folder)?;
        Some(RequestObjectConfig {
            key: PrivateKeyPem::new(key),
            algorithm: object.algorithm,
            kid: object.kid,
        })
    });
    AuthorizationConfig {
        pushed_authorization_requests: written.pushed.map(|pushed| pushed.as_str().to_owned()),
        request_object,
        signed_by_client_key,
        response_mode: written.response_mode.map(|mode| mode.as_str().to_owned()),
        claims: written.claims.map(|Claims(claims)| claims),
        resource: written.resource,
        require_iss: written.require_iss,
    }
}

impl PushedRequests {
    /// As it is written, which is also the core's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Required => "required",
            Self::Never => "never",
        }
    }
}

impl ResponseMode {
    /// As it is written, which is also the core's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Jwt => "jwt",
            Self::QueryJwt => "query.jwt",
            Self::FormPost => "form_post",
        }
    }
}

impl<'d> Deserialize<'d> for RequestObjectSetting {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct TrueOrMapping;

        impl<'d> Visitor<'d> for TrueOrMapping {
            type Value = RequestObjectSetting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true` or a key")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RequestObjectSetting, E> {
                match text {
                    "true" => Ok(RequestObjectSetting::ClientKey),
                    "false" => Err(E::custom(
                        "requests are not signed where nothing is said\nremove `request_object`",
                    )),
                    _ => Err(E::custom(
                        "expected `true`, for the key of `client_auth`, or a key\n\
                         write `request_object: {key: {file: request-object.pem}}`",
                    )),
                }
            }

            fn visit_seq<A: SeqAccess<'d>>(self, _: A) -> Result<RequestObjectSetting, A::Error> {
                Err(A::Error::custom(
                    "expected `true` or a key, found a list\n\
                     write `request_object: {key: {file: request-object.pem}}`",
                ))
            }

            fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<RequestObjectSetting, A::Error> {
                RequestObject::deserialize(MapAccessDeserializer::new(map)).map(RequestObjectSetting::Own)
            }
        }

        deserializer.deserialize_newtype_struct(HIDDEN, TrueOrMapping)
    }
}

impl JsonSchema for RequestObjectSetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "request_object".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mapping = generator.subschema_for::<RequestObject>().to_value();
        json_schema!({"title": "true, or a mapping", "anyOf": [{"type": "boolean", "const": true}, mapping]})
    }
}

impl<'d> Deserialize<'d> for Claims {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Claims, E> {
                let value = serde_json::from_str(text);
                value.map(Claims).map_err(|_| {
                    E::custom("expected a mapping that can be written as JSON\nwrite fewer levels")
                })
            }
        }

        deserializer.deserialize_newtype_struct(AS_JSON, Text)
    }
}

impl JsonSchema for Claims {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "claims".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let requests = || {
            serde_json::json!({
                "type": "object",
                // an object or null
                "additionalProperties": {"not": {"type": ["string", "number", "boolean", "array"]}},
            })
        };
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": 2,
            "additionalProperties": false,
            "properties": {"id_token": requests(), "userinfo": requests()},
        })
    }
}
