//! The reference page of the configuration file, made from its JSON Schema.
//!
//! One table for each mapping, in the order of the types in `schema.rs`, an anchor for each key.
//! It holds no text of its own about any setting: what there is to say stands at the field.

use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::authorization::RequestObject;
use super::client_auth::ClientAuth;
use super::json_schema::{resolved, schema};
use super::mask::REFERENCES;
use super::schema::{
    App, ClientCredentials, Connections, Endpoints, File, Log, Login, Provider, ProviderLogout, RateLimit,
    RateLimits, Require, Route, RouteLimit, RouteToken, Session, TokenExchange, TokenIntrospection, User,
};
use super::schema_dpop::Dpop;
use super::schema_tls::{Certificate, Hsts, Tls};
use super::store::Store;
use super::upstream::{HealthCheck, UpstreamTls};

/// The page.
pub(crate) fn markdown() -> String {
    let schema = schema();
    let mut out = String::from(HEAD);
    for section in sections() {
        write_section(&mut out, &schema, &section);
    }
    out
}

/// One mapping of the file.
struct Section {
    heading: &'static str,
    /// The name of its type in the schema; empty for the file itself.
    definition: &'static str,
    /// Where it stands in the file.
    place: &'static str,
    /// What its keys are called on this page, in front.
    prefix: &'static str,
    /// What the anchors of its keys begin with.
    anchor: &'static str,
    keys: Vec<&'static str>,
}

fn sections() -> Vec<Section> {
    let section = |heading, definition, place, prefix, anchor, keys| Section {
        heading,
        definition,
        place,
        prefix,
        anchor,
        keys,
    };
    vec![
        section(
            "The process",
            "",
            "At the top of the file.",
            "",
            "process-",
            keys_of::<File>(),
        ),
        section("TLS", "Tls", "Below `tls`.", "tls.", "tls-", keys_of::<Tls>()),
        section(
            "Certificate",
            "Certificate",
            "An item of `tls`, where that is a list, or of `tls.certificates`.",
            "",
            "certificate-",
            keys_of::<Certificate>(),
        ),
        section(
            "Connections",
            "Connections",
            "Below `connections`.",
            "connections.",
            "connections-",
            keys_of::<Connections>(),
        ),
        section("Log", "Log", "Below `log`.", "log.", "log-", keys_of::<Log>()),
        section(
            "An application",
            "App",
            "Below `apps`, then the application's id.",
            "",
            "app-",
            keys_of::<App>(),
        ),
        section(
            "DPoP",
            "Dpop",
            "Below `provider.dpop`.",
            "dpop.",
            "dpop-",
            keys_of::<Dpop>(),
        ),
        section(
            "HSTS",
            "Hsts",
            "Below an application's `hsts`.",
            "hsts.",
            "hsts-",
            keys_of::<Hsts>(),
        ),
        section(
            "Login",
            "Login",
            "Below an application's `login`.",
            "login.",
            "login-",
            keys_of::<Login>(),
        ),
        section(
            "Provider",
            "Provider",
            "Below an application's `provider`, or below each name of its `providers`.",
            "provider.",
            "provider-",
            keys_of::<Provider>(),
        ),
        section(
            "Sign-out at the provider",
            "ProviderLogout",
            "Below `logout` of an application's `provider`.",
            "provider.logout.",
            "provider-logout-",
            keys_of::<ProviderLogout>(),
        ),
        section(
            "Endpoints",
            "Endpoints",
            "Below `endpoints` of an application's `provider`.",
            "provider.endpoints.",
            "provider-endpoints-",
            keys_of::<Endpoints>(),
        ),
        section(
            "User",
            "User",
            "Below `user` of an application's `provider`.",
            "provider.user.",
            "provider-user-",
            keys_of::<User>(),
        ),
        section(
            "Request object",
            "RequestObject",
            "Below `request_object` of an application's `provider`.",
            "request_object.",
            "request-object-",
            keys_of::<RequestObject>(),
        ),
        section(
            "Client authentication",
            "ClientAuth",
            "Below `client_auth` of a provider, where that is a mapping.",
            "client_auth.",
            "client-auth-",
            keys_of::<ClientAuth>(),
        ),
        section(
            "Session",
            "Session",
            "Below an application's `session`.",
            "session.",
            "session-",
            keys_of::<Session>(),
        ),
        section(
            "Store",
            "Store",
            "Below `store` or `revocation_store` of an application's `session`.",
            "store.",
            "store-",
            keys_of::<Store>(),
        ),
        section(
            "Rate limits",
            "RateLimits",
            "Below an application's `rate_limits`.",
            "rate_limits.",
            "rate-limits-",
            keys_of::<RateLimits>(),
        ),
        section(
            "Rate limit",
            "RateLimit",
            "Below `address` or `session` of `rate_limits`.",
            "",
            "rate-limit-",
            keys_of::<RateLimit>(),
        ),
        section(
            "Route",
            "Route",
            "Below an application's `routes`, then the path prefix.",
            "",
            "route-",
            keys_of::<Route>(),
        ),
        section(
            "Route token",
            "RouteToken",
            "Below a route's `token`.",
            "token.",
            "route-token-",
            keys_of::<RouteToken>(),
        ),
        section(
            "Token exchange",
            "TokenExchange",
            "Below `exchange` of a route's `token`.",
            "token.exchange.",
            "token-exchange-",
            keys_of::<TokenExchange>(),
        ),
        section(
            "Client credentials",
            "ClientCredentials",
            "Below `client_credentials` of a route's `token`.",
            "token.client_credentials.",
            "client-credentials-",
            keys_of::<ClientCredentials>(),
        ),
        section(
            "Token introspection",
            "TokenIntrospection",
            "Below `introspection` of a route's `token`.",
            "token.introspection.",
            "token-introspection-",
            keys_of::<TokenIntrospection>(),
        ),
        section(
            "Health check",
            "HealthCheck",
            "Below a route's `health_check`.",
            "health_check.",
            "health-check-",
            keys_of::<HealthCheck>(),
        ),
        section(
            "TLS to an upstream",
            "UpstreamTls",
            "Below a route's `upstream_tls`.",
            "upstream_tls.",
            "upstream-tls-",
            keys_of::<UpstreamTls>(),
        ),
        section(
            "Route limit",
            "RouteLimit",
            "Below a route's `rate_limit`.",
            "rate_limit.",
            "route-limit-",
            keys_of::<RouteLimit>(),
        ),
        section(
            "Demands of a route",
            "Require",
            "Below a route's `require`.",
            "require.",
            "require-",
            keys_of::<Require>(),
        ),
        section(
            "Reference",
            "Reference",
            "In place of a secret.",
            "",
            "reference-",
            REFERENCES.to_vec(),
        ),
    ]
}

fn write_section(out: &mut String, schema: &Value, section: &Section) {
    let definition = match section.definition {
        "" => schema,
        name => schema.pointer(&format!("/$defs/{name}")).unwrap_or(&Value::Null),
    };
    let required: Vec<&str> = definition
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    // The file's own description is the head of the page.
    let about = if section.definition.is_empty() {
        ""
    } else {
        text(definition, "description")
    };
    let _ = write!(
        out,
        "\n## {}\n\n{}{about}\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
        section.heading,
        if about.is_empty() {
            section.place.to_owned()
        } else {
            format!("{}\n", section.place)
        }
    );
    for key in &section.keys {
        // What this build does not have is not in the schema.
        let Some(property) = definition.get("properties").and_then(|all| all.get(*key)) else {
            continue;
        };
        let (meaning, said) = split_default(text(property, "description"));
        let default = match property.get("default") {
            _ if required.contains(key) => "required".to_owned(),
            Some(Value::Array(items)) if items.is_empty() => "none".to_owned(),
            Some(Value::Array(items)) => {
                let items: Vec<_> = items.iter().map(plain).collect();
                format!("`[{}]`", items.join(", "))
            }
            Some(value) => format!("`{}`", plain(value)),
            None => said.unwrap_or("–").to_owned(),
        };
        let words = words(property);
        let meaning = match words.is_empty() {
            true => meaning.to_owned(),
            false => format!("{meaning} {}", words.join(" ")),
        };
        let _ = writeln!(
            out,
            "| <a id=\"{}{key}\"></a>`{}{key}` | {} | {} | {} |",
            section.anchor,
            section.prefix,
            cell(&value(schema, property)),
            cell(&default),
            cell(&meaning)
        );
    }
}

/// `Default: …` at the end of a description, and what stands before it.
fn split_default(description: &str) -> (&str, Option<&str>) {
    match description.rsplit_once("Default: ") {
        Some((before, default)) => (before.trim_end(), Some(default.trim_end_matches('.'))),
        None => (description, None),
    }
}

/// What may be written.
fn value(schema: &Value, property: &Value) -> String {
    if let Some(choices) = property.get("oneOf").and_then(Value::as_array) {
        let choices: Vec<_> = choices
            .iter()
            .filter_map(|choice| Some(format!("`{}`", choice.get("const")?.as_str()?)))
            .collect();
        return choices.join(", ");
    }
    if let Some(name) = property.get("$ref").and_then(Value::as_str) {
        let name = name.rsplit('/').next().unwrap_or_default();
        let what = match text(resolved(schema, property), "title") {
            "" => "mapping",
            title => title,
        };
        return match sections().iter().find(|section| section.definition == name) {
            Some(section) => format!("[{what}](#{})", section.heading.to_lowercase().replace(' ', "-")),
            None => what.to_owned(),
        };
    }
    match text(property, "title") {
        "" => {}
        kind => return kind.to_owned(),
    }
    let bound = |key: &str| property.get(key).map(plain);
    match property.get("type") {
        Some(Value::String(kind)) => match kind.as_str() {
            "boolean" => "`true` or `false`".to_owned(),
            "integer" => match (bound("minimum"), bound("maximum")) {
                (Some(least), Some(most)) => format!("whole number, {least} to {most}"),
                _ => "whole number".to_owned(),
            },
            "array" => match property.get("items") {
                Some(items) => format!("list: {}", value(schema, items)),
                None => "list".to_owned(),
            },
            "object" => match property.get("additionalProperties") {
                Some(of) if of.is_object() => format!("mapping of names to: {}", value(schema, of)),
                _ => "mapping".to_owned(),
            },
            _ => "text".to_owned(),
        },
        _ => match property.pointer("/type/0").and_then(Value::as_str) {
            Some("array") => "list, or words between blanks".to_owned(),
            _ => "text".to_owned(),
        },
    }
}

/// The words that may be written, each with its meaning, where there is a choice.
fn words(property: &Value) -> Vec<String> {
    let choices = property.get("oneOf").and_then(Value::as_array);
    let choices = choices.filter(|choices| choices.len() > 1);
    choices
        .into_iter()
        .flatten()
        .filter_map(|choice| {
            let word = choice.get("const")?.as_str()?;
            let mut meaning = text(choice, "description").chars();
            let first = meaning.next().map(|first| first.to_ascii_lowercase());
            let meaning: String = first.into_iter().chain(meaning).collect();
            Some(format!("`{word}`: {meaning}"))
        })
        .collect()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace("\n\n", "<br>")
}

/// The keys of a mapping's type in the order of its declaration, which the schema does not keep.
fn keys_of<'d, T: Deserialize<'d>>() -> Vec<&'static str> {
    struct Keys<'k>(&'k mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for Keys<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            visitor.visit_unit()
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend_from_slice(fields);
            Err(Self::Error::custom("only the names of the fields were wanted"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut keys = Vec::new();
    // It always fails: no value is there to be read.
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

const HEAD: &str = "# Configuration reference

Every setting of the configuration file, made from the types that read it by `coatroom schema --markdown`: do not edit this page.
[configuration.md](configuration.md) is the guide, [coatroom.schema.json](coatroom.schema.json) the same for editors.

| value | how it is written |
|---|---|
| duration | whole numbers with the units `d`, `h`, `m`, `s`, `ms`, the larger first: `30m`, `12h`, `1h30m`, `1500ms` |
| size | bytes, or with a unit: `4096`, `10MiB`, `1 MB` (`kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`) |
| address | an IP address and a port, `localhost:PORT`, or `unix:PATH` |
| store | `cookie`, an address, or a mapping: [store](#store) |
| text | one value; quoted where YAML would read something else |
| reference | where a secret is: [reference](#reference) |

Relative paths start at the folder of the configuration file.
Any key that takes one value or a list can also be set by an [environment variable](configuration.md#settings-from-the-environment).
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mapping_and_every_key_of_the_schema_is_on_the_page() {
        let (schema, page) = (schema(), markdown());
        let definitions = schema["$defs"].as_object().expect("definitions");
        for name in definitions.keys() {
            assert!(
                sections().iter().any(|section| section.definition == name),
                "{name} has no section"
            );
        }
        for section in sections() {
            let definition = match section.definition {
                "" => &schema,
                name => &definitions[name],
            };
            for (key, property) in definition["properties"].as_object().expect("keys") {
                let anchor = format!("<a id=\"{}{key}\"></a>", section.anchor);
                assert_eq!(page.matches(&anchor).count(), 1, "{anchor}");
                assert!(
                    text(property, "description").ends_with('.'),
                    "{anchor} has no description"
                );
            }
        }
    }

    #[test]
    fn what_this_build_does_not_have_is_in_neither_schema_nor_page_nor_hint() {
        let (schema, page) = (schema(), markdown());
        for section in sections() {
            let definition = match section.definition {
                "" => &schema,
                name => &schema["$defs"][name],
            };
            for key in section.keys.iter().copied() {
                let has = definition["properties"].get(key).is_some();
                let refused = super::super::schema::is_not_yet(key);
                assert_eq!(has, !refused, "{} {key}", section.heading);
            }
        }
        for key in super::super::schema::NOT_YET {
            assert!(!page.contains(&format!("`{key}`")), "{key}");
        }
    }

    #[test]
    fn every_required_key_has_an_example_for_its_hint() {
        let schema = schema();
        for section in sections() {
            let definition = match section.definition {
                "" => &schema,
                name => &schema["$defs"][name],
            };
            for key in definition["required"].as_array().into_iter().flatten() {
                let examples = super::super::schema::EXAMPLES;
                assert!(examples.iter().any(|(name, _)| key == name), "{key}");
            }
        }
    }

    #[test]
    fn defaults_that_no_constant_says_are_split_off() {
        assert_eq!(split_default("Where. Default: `url`."), ("Where.", Some("`url`")));
        assert_eq!(split_default("Where."), ("Where.", None));
    }
}
