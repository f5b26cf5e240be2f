//! The configuration file as written: `tls` and `hsts`, which have a short form beside the mapping.
//!
//! As in `schema.rs`, the comments of the fields are for users, and only shapes are read here.

use coatroom_core::config::defaults;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};

use super::secret::Reference;
use super::values::{NotYet, WholeSeconds, Written, shown, written};

/// `tls` as it is written: a mapping, or a list of certificates alone.
pub(crate) struct TlsSetting(pub(crate) Tls);

/// TLS on the public listener. A list of certificates alone can stand in place of this mapping:
/// `tls: [{certificate: …, key: …}, …]`.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend(
    "anyOf" = [{"required": ["certificate"]}, {"required": ["certificates"]}],
    "dependentRequired" = {"certificate": ["key"], "key": ["certificate"]}
))]
pub(crate) struct Tls {
    /// The certificate chain in PEM, the server's own certificate first. It is what a client gets
    /// that asks for no name, or for one that no certificate has.
    pub(crate) certificate: Option<Reference>,
    /// Its unencrypted private key in PEM: ECDSA, RSA or Ed25519.
    pub(crate) key: Option<Reference>,
    /// Further certificates, chosen by the name that a client asks for (SNI, RFC 6066 §3): exact
    /// names before wildcards, and of two for one name the first. Without `certificate` the first of
    /// these is the one for all other names. Default: none.
    pub(crate) certificates: Option<Vec<Certificate>>,
    /// The oldest version of TLS.
    #[schemars(extend("default" = TlsVersion::default().as_str()))]
    pub(crate) minimum: TlsVersion,
    #[serde(rename = "acme")]
    #[schemars(skip)]
    _acme: Option<NotYet>,
}

/// One certificate: two PEM files that belong together.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    /// The certificate chain in PEM, the server's own certificate first.
    pub(crate) certificate: Reference,
    /// Its unencrypted private key in PEM: ECDSA, RSA or Ed25519.
    pub(crate) key: Reference,
}

/// A version of TLS.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    /// RFC 5246, with the ciphers of today.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// `hsts` as it is written: a mapping, or `off`.
pub(crate) struct HstsSetting(pub(crate) Option<Hsts>);

/// `Strict-Transport-Security`.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Hsts {
    /// How long browsers remember it. `0s` makes them forget.
    #[schemars(extend("default" = shown(defaults::HSTS_MAX_AGE)))]
    pub(crate) max_age: Option<WholeSeconds>,
    /// Whether it holds for every subdomain, too. Nobody here can know whether all of them have TLS.
    pub(crate) include_subdomains: bool,
    /// Consent to the preload lists that browsers ship; needs `include_subdomains` and a `max_age` of
    /// `365d` at least. It is hard to take back.
    pub(crate) preload: bool,
}

impl Written for TlsVersion {
    const EXPECTED: &'static str = "a version of TLS";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => {
                Err("expected one of `1.2` and `1.3`\nwrite `minimum: \"1.3\"`, or remove the key".to_owned())
            }
        }
    }
}

impl TlsVersion {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

impl<'d> Deserialize<'d> for TlsVersion {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl<'d> Deserialize<'d> for TlsSetting {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct MappingOrList;

        impl<'d> Visitor<'d> for MappingOrList {
            type Value = Tls;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a certificate with its key, or a list of them")
            }

            fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<Tls, A::Error> {
                Tls::deserialize(MapAccessDeserializer::new(map))
            }

            fn visit_seq<A: SeqAccess<'d>>(self, list: A) -> Result<Tls, A::Error> {
                let certificates = Vec::<Certificate>::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(Tls {
                    certificates: Some(certificates),
                    ..Tls::default()
                })
            }

            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Tls, E> {
                Err(E::custom(
                    "expected a certificate with its key, or a list of them\n\
                     write `tls: {certificate: {file: tls.crt}, key: {file: tls.key}}`",
                ))
            }
        }

        deserializer.deserialize_any(MappingOrList).map(Self)
    }
}

impl<'d> Deserialize<'d> for HstsSetting {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct MappingOrOff;

        impl<'d> Visitor<'d> for MappingOrOff {
            type Value = Option<Hsts>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mapping, or `off`")
            }

            fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<Option<Hsts>, A::Error> {
                Hsts::deserialize(MapAccessDeserializer::new(map)).map(Some)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Option<Hsts>, E> {
                match text {
                    "off" | "false" => Ok(None),
                    _ => Err(E::custom(
                        "expected a mapping, or `off`\nwrite for example `hsts: {max_age: 365d}`, or `hsts: off`",
                    )),
                }
            }
        }

        deserializer.deserialize_any(MappingOrOff).map(Self)
    }
}
