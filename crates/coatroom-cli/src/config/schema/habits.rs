//! What one provider does and others don't, as it is written. What it leads to is the core's.

use coatroom_core::config::Preset;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::{Written, written};

/// Where sign-out goes on at the provider.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProviderLogout {
    /// The page that ends the session at the provider. `https`, on loopback also `http`. Default:
    /// `end_session_endpoint` of the metadata; where there is none, sign-out ends here.
    #[schemars(regex(pattern = r"^https?://[^#@\s]+$"))]
    pub(crate) endpoint: Option<String>,
    /// The parameter in which that page is told where to return to. With another one than
    /// `post_logout_redirect_uri` it is sent with `client_id` alone, without the ID token and `state`.
    /// Default: `post_logout_redirect_uri`, unless `preset` says otherwise.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"), example = &"logout_uri")]
    pub(crate) return_parameter: Option<String>,
}

/// `preset`: a kind of provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PresetSetting(pub(crate) &'static str);

impl Written for PresetSetting {
    const EXPECTED: &'static str = "a kind of provider";

    fn from_text(text: &str) -> Result<Self, String> {
        match Preset::named(text) {
            Some(preset) => Ok(Self(preset.name)),
            None => {
                let names: Vec<_> = Preset::names().map(|name| format!("`{name}`")).collect();
                let names = names.join(", ");
                Err(format!(
                    "expected one of {names}\nremove `preset`: then nothing is filled in"
                ))
            }
        }
    }
}

impl<'d> Deserialize<'d> for PresetSetting {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl JsonSchema for PresetSetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "preset".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"enum": Preset::names().collect::<Vec<_>>()})
    }
}
