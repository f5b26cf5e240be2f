//! The configuration file as written: `dpop`, which has a short form beside the mapping.
//!
//! As in `schema.rs`, the comments of the fields are for users, and only shapes are read here.

use coatroom_core::config::defaults;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};

use super::values::{Written, written};

/// `dpop` as it is written: a mapping, `true`, or `false`.
pub(crate) struct DpopSetting(pub(crate) Option<Dpop>);

/// Tokens that are bound to a key.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Dpop {
    /// What proofs are signed with (RFC 9449 §4.2); the provider and each API have to take it.
    #[schemars(extend("default" = defaults::DPOP_ALGORITHM))]
    pub(crate) algorithm: Option<DpopAlgorithm>,
}

/// `algorithm`, by the core's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DpopAlgorithm(pub(crate) &'static str);

impl Written for DpopAlgorithm {
    const EXPECTED: &'static str = "an algorithm";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "ES256" => Ok(Self("ES256")),
            "EdDSA" => Ok(Self("EdDSA")),
            _ => Err("expected one of `ES256` and `EdDSA`\nwrite `dpop: true`, which is ES256".to_owned()),
        }
    }
}

impl<'d> Deserialize<'d> for DpopAlgorithm {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl<'d> Deserialize<'d> for DpopSetting {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct MappingOrFlag;

        impl<'d> Visitor<'d> for MappingOrFlag {
            type Value = Option<Dpop>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`true`, `false` or a mapping")
            }

            fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<Option<Dpop>, A::Error> {
                Dpop::deserialize(MapAccessDeserializer::new(map)).map(Some)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Option<Dpop>, E> {
                match text {
                    "true" => Ok(Some(Dpop::default())),
                    "false" => Ok(None),
                    _ => Err(E::custom(
                        "expected `true`, `false` or a mapping\nwrite `dpop: true`, or `dpop: {algorithm: EdDSA}`",
                    )),
                }
            }
        }

        deserializer.deserialize_any(MappingOrFlag).map(Self)
    }
}
