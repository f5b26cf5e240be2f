//! The JSON Schema (draft 2020-12) of the configuration file, made from the types of `schema.rs`.
//!
//! Descriptions are the comments of the fields, defaults the constants that the code uses. A schema
//! knows shapes only: that an origin is listed twice, or that a secret cannot be had, is for `check`.
//! Settings that this build does not have are not in it.

use std::borrow::Cow;

use coatroom_core::config::defaults::MAX_UPSTREAMS;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use super::client_auth::{ClientAuth, ClientAuthSetting};
use super::schema::{File, RouteAuth};
use super::schema_dpop::{Dpop, DpopAlgorithm, DpopSetting};
use super::schema_tls::{Certificate, Hsts, HstsSetting, Tls, TlsSetting, TlsVersion};
use super::secret::Reference;
use super::store::{COOKIE, Store, StoreAddress, StoreSetting};
use super::upstream::Addresses;
use super::values::{Interval, Listen, Mode, Named, Size, WholeSeconds};

/// The schema of the whole file.
pub(crate) fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<File>().to_value();
    tidy(&mut schema);
    if let Value::Object(root) = &mut schema {
        root.insert("$id".to_owned(), Value::from(ID));
        root.insert("title".to_owned(), Value::from("Coatroom configuration"));
    }
    schema
}

/// The schema as the file that editors read.
pub(crate) fn text() -> String {
    format!("{:#}\n", schema())
}

/// What a `$ref` of this schema stands for, or the schema itself.
pub(crate) fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| root.pointer(reference.strip_prefix('#')?))
        .unwrap_or(schema)
}

/// The keys that a mapping of this schema may have, if it has names of its own.
pub(crate) fn properties<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s Map<String, Value>> {
    let schema = resolved(root, schema);
    let own = schema.get("properties").and_then(Value::as_object);
    // A mapping that something shorter can stand for.
    own.or_else(|| {
        let choices = schema.get("oneOf")?.as_array()?;
        choices
            .iter()
            .find_map(|choice| resolved(root, choice).get("properties")?.as_object())
    })
}

/// Takes out what Rust's types say and the file does not: no key may be `null`, comments are
/// paragraphs and not lines, and the width of an integer is its range.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(object) => {
            object.values_mut().for_each(tidy);
            without_null(object);
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if object
                .get("format")
                .is_some_and(|format| format.as_str().is_some_and(|text| text.starts_with("uint")))
            {
                object.remove("format");
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                let paragraphs: Vec<String> = text
                    .split("\n\n")
                    .map(|paragraph| paragraph.replace('\n', " "))
                    .collect();
                *text = paragraphs.join("\n\n");
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn without_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    let null = serde_json::json!({"type": "null"});
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| *choice != null);
        if let [Value::Object(only)] = choices.as_mut_slice() {
            let only = std::mem::take(only);
            object.remove("anyOf");
            for (key, value) in only {
                // What a field says of itself goes before what its type says.
                object.entry(key).or_insert(value);
            }
        }
    }
}

const ID: &str = "urn:coatroom:configuration";

/// Whole numbers with units, the larger first, each once.
const DURATION: &str = "^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// The same, where milliseconds make whole seconds.
const WHOLE_SECONDS: &str = "^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]*000ms|0+ms)?$";

const SIZE: &str = "^[0-9]+( ?(B|kB|KB|KiB|MB|MiB|GB|GiB))?$";

const UPSTREAM: &str = r"^(https?://[^?#@\s]+|unix:.+)$";

/// The address of a store, without a password: that is for a reference.
const STORE: &str = r"^(memory|sqlite:[^:?].*|postgres(ql)?://([^:@/\s]+@)?[^@\s]+|rediss?(\+(cluster|sentinel))?://[^@?#\s]+)$";

const LISTEN: &str = r"^(unix:.+|systemd(:[!-9;-~]+)?|localhost:[0-9]{1,5}|[0-9]{1,3}(\.[0-9]{1,3}){3}:[0-9]{1,5}|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]:[0-9]{1,5})$";

impl JsonSchema for Interval {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"title": "duration", "type": "string", "pattern": DURATION, "examples": ["10s", "1h30m", "1500ms"]})
    }
}

impl JsonSchema for WholeSeconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "whole_seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"title": "duration", "type": "string", "pattern": WHOLE_SECONDS, "examples": ["30m", "12h"]})
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "size", "type": ["string", "integer"], "pattern": SIZE, "minimum": 0,
            "examples": ["10MiB", "1 MB", 4096]
        })
    }
}

impl JsonSchema for Mode {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "mode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "permissions", "type": ["string", "integer"], "pattern": "^0?o?[0-7]{3}$", "examples": ["660"]
        })
    }
}

impl JsonSchema for TlsSetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "tls".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let list = generator.subschema_for::<Vec<Certificate>>();
        json_schema!({"oneOf": [generator.subschema_for::<Tls>(), list]})
    }
}

impl JsonSchema for TlsVersion {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "tls_version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": ["1.2", "1.3", 1.2, 1.3]})
    }
}

impl JsonSchema for HstsSetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "hsts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // What YAML 1.1, which editors may read, takes the word for.
        let off = serde_json::json!({"enum": ["off", false]});
        json_schema!({"oneOf": [generator.subschema_for::<Hsts>(), off]})
    }
}

impl JsonSchema for DpopSetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "dpop".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let flag = serde_json::json!({"type": "boolean"});
        json_schema!({"oneOf": [generator.subschema_for::<Dpop>(), flag]})
    }
}

impl JsonSchema for DpopAlgorithm {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "dpop_algorithm".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": ["ES256", "EdDSA"]})
    }
}

impl JsonSchema for Listen {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "address", "type": "string", "pattern": LISTEN,
            "examples": ["0.0.0.0:8080", "[::]:8080", "unix:/run/coatroom.sock"]
        })
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "additionalProperties": generator.subschema_for::<T>()})
    }
}

impl JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "reference",
            "description": "Where a secret is: exactly one place, never the secret itself. It is UTF-8 text of at most 64 KiB; one line feed at its end is dropped.",
            "type": "object",
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
            "properties": {
                "file": {
                    "type": "string",
                    "description": "In a file. One that its group or others can access is a warning: mode 600 is right."
                },
                "env": {"type": "string", "pattern": "^[^=]+$", "description": "In an environment variable."},
                "credential": {
                    "type": "string",
                    "pattern": "^[^/.][^/]*$",
                    "description": "In a systemd credential (`LoadCredential=`)."
                },
                "command": {
                    "type": ["array", "string"],
                    "items": {"type": ["string", "integer"]},
                    "minItems": 1,
                    "description": "What a command prints. It runs in the folder of the configuration file, without a shell and without input, and has 10 s."
                }
            },
            "examples": [{"env": "SHOP_CLIENT_SECRET"}, {"file": "coatroom.key"}, {"command": ["pass", "show", "shop"]}]
        })
    }
}

/// Words, each with its meaning.
fn words(choices: &[(&str, &str)]) -> Schema {
    let choices: Vec<_> = choices
        .iter()
        .map(|(word, meaning)| serde_json::json!({"const": word, "type": "string", "description": meaning}))
        .collect();
    json_schema!({"oneOf": choices})
}

impl JsonSchema for ClientAuthSetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "client_auth".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = words(&[
            (
                "basic",
                "In the `Authorization` header, id and secret form-encoded first.",
            ),
            (
                "basic_raw",
                "In the `Authorization` header without the encoding, for providers that do not decode.",
            ),
            ("post", "In the body."),
            (
                "client_secret_jwt",
                "Not at all: it signs an assertion for each request (RFC 7523), and needs 32 bytes.",
            ),
        ]);
        let mapping = generator.subschema_for::<ClientAuth>().to_value();
        if let Some(Value::Array(choices)) = schema.get_mut("oneOf") {
            choices.push(serde_json::json!({"type": "object"}));
        }
        // apart from the words: a variable of the environment sets it as one value
        schema.insert(
            "anyOf".to_owned(),
            serde_json::json!([{"type": "string"}, mapping]),
        );
        schema
    }
}

impl JsonSchema for StoreSetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "store".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let store = generator.subschema_for::<Store>();
        let word = serde_json::json!({"const": COOKIE});
        let address = serde_json::json!({"type": "string", "pattern": STORE});
        json_schema!({
            "title": "store", "anyOf": [word, address, store],
            "examples": [COOKIE, "sqlite:sessions.db", {"url": {"env": "REDIS_URL"}}]
        })
    }
}

impl JsonSchema for StoreAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "store_address".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let reference = generator.subschema_for::<Reference>();
        let address = serde_json::json!({"type": "string", "pattern": STORE});
        json_schema!({
            "title": "address of a store", "anyOf": [address, reference],
            "examples": ["redis://127.0.0.1", {"env": "REDIS_URL"}]
        })
    }
}

impl JsonSchema for Addresses {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "upstream".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "address", "type": ["string", "array"], "pattern": UPSTREAM,
            "items": {"type": "string", "pattern": UPSTREAM},
            "minItems": 1, "maxItems": MAX_UPSTREAMS, "uniqueItems": true,
            "examples": [
                "http://127.0.0.1:5000", ["https://a.internal", "https://b.internal"], "unix:/run/api.sock"
            ]
        })
    }
}

impl JsonSchema for RouteAuth {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "auth".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        words(&[
            (
                "required",
                "A session is needed, and its access token is attached.",
            ),
            (
                "optional",
                "With a session its access token is attached, without one the call is anonymous.",
            ),
            ("none", "Everybody may call it, and no token is attached."),
            (
                "bearer",
                "The client's own access token is passed on, not verified here; no cookie is looked at.",
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::{Written as _, shown, size_shown};
    use super::*;

    const SMALLEST: &str =
        "keys: [{command: [echo, coatroom-key-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA]}]
apps:
  shop:
    url: https://shop.example.com
    provider: {issuer: https://login.example.com, client_id: shop, client_secret: {command: [echo, x]}}
    routes: {/api/: {upstream: http://127.0.0.1:5000, health_check: {path: /}}}
";

    #[test]
    fn the_defaults_of_the_schema_are_those_of_the_smallest_file() {
        let loaded = super::super::read_and_check(
            "f".to_owned(),
            SMALLEST.to_owned(),
            std::path::Path::new("/"),
            &[],
        )
        .unwrap_or_else(|report| panic!("{report}"));
        let app = loaded.applications.first().expect("one application");
        let provider = app.provider.as_ref().expect("an agent has one");
        let session = &app.session;
        let route = app.routes.first().expect("one route");
        let check = match &route.target {
            coatroom_core::config::RouteTarget::Upstream(upstreams) => upstreams.health_check.clone(),
            other => panic!("{other:?}"),
        };
        let check = check.expect("the file has a health check");
        let store = coatroom_core::config::StoreConfig::new(coatroom_core::secret::Secret::new("memory"));
        let store = store.check().unwrap_or_else(|problems| panic!("{problems:?}"));
        let text = |value: &str| Value::from(value);
        let rows = [
            ("/properties/listen", text(&loaded.listen.to_string())),
            ("/properties/admin", text(&loaded.admin.to_string())),
            ("/properties/replicas", Value::from(loaded.summary.replicas)),
            ("/properties/danger_public_admin", Value::from(false)),
            ("/properties/trusted_peers", serde_json::json!([])),
            ("/properties/peer_header", text("x-forwarded-for")),
            (
                "/properties/proxy_protocol",
                Value::from(loaded.connections.proxy_protocol),
            ),
            (
                "/$defs/Connections/properties/write_timeout",
                text(&shown(loaded.connections.write_timeout)),
            ),
            (
                "/$defs/Connections/properties/body_timeout",
                text(&shown(loaded.connections.body_timeout)),
            ),
            (
                "/$defs/RateLimits/properties/address",
                serde_json::json!({
                    "requests": app.rate_limits.address.requests,
                    "per": shown(app.rate_limits.address.per),
                    "burst": app.rate_limits.address.burst,
                }),
            ),
            (
                "/$defs/RateLimits/properties/session",
                serde_json::json!({
                    "requests": app.rate_limits.session.requests,
                    "per": shown(app.rate_limits.session.per),
                    "burst": app.rate_limits.session.burst,
                }),
            ),
            ("/$defs/Route/properties/forwarded", Value::from(route.forwarded)),
            ("/$defs/Log/properties/format", text(loaded.log.format.as_str())),
            ("/$defs/Log/properties/level", text(loaded.log.level.as_str())),
            ("/$defs/App/properties/base_path", text(&app.base_path)),
            (
                "/$defs/App/properties/csrf_header",
                text(app.csrf_header.as_str()),
            ),
            ("/$defs/App/properties/hosts", serde_json::json!([])),
            (
                "/$defs/Tls/properties/minimum",
                text(TlsVersion::default().as_str()),
            ),
            (
                "/$defs/Hsts/properties/max_age",
                text(match &app.hsts {
                    coatroom_core::config::Hsts::Written(value) if value == "max-age=31536000" => "365d",
                    _ => "something else",
                }),
            ),
            ("/$defs/Hsts/properties/include_subdomains", Value::from(false)),
            ("/$defs/Hsts/properties/preload", Value::from(false)),
            ("/$defs/App/properties/danger_insecure_http", Value::from(false)),
            (
                "/$defs/Login/properties/callback",
                text(match &app.callback {
                    coatroom_core::config::Callback::Agent => "agent",
                    coatroom_core::config::Callback::Spa(_) => "a page",
                }),
            ),
            (
                "/$defs/Provider/properties/pushed_authorization_requests",
                text(match provider.authorization.pushed {
                    coatroom_core::config::PushedRequests::Auto => "auto",
                    _ => "something else",
                }),
            ),
            ("/$defs/Provider/properties/resource", serde_json::json!([])),
            (
                "/$defs/Provider/properties/scopes",
                Value::from(provider.scopes.clone()),
            ),
            (
                "/$defs/Provider/properties/allowed_parameters",
                Value::from(provider.allowed_parameters.clone()),
            ),
            ("/$defs/Provider/properties/leeway", text(&shown(provider.leeway))),
            (
                "/$defs/Provider/properties/timeout",
                text(&shown(provider.timeout)),
            ),
            (
                "/$defs/Provider/properties/certificate_bound_access_tokens",
                Value::from(provider.certificate_bound_access_tokens),
            ),
            (
                "/$defs/Provider/properties/logout_token_without_exp",
                Value::from(provider.logout_token_without_exp),
            ),
            (
                "/$defs/Provider/properties/require_iss",
                Value::from(provider.authorization.require_iss),
            ),
            (
                "/$defs/Provider/properties/allowed_tenants",
                serde_json::json!([]),
            ),
            ("/$defs/Provider/properties/danger_any_tenant", Value::from(false)),
            (
                "/$defs/HealthCheck/properties/interval",
                text(&shown(check.interval)),
            ),
            (
                "/$defs/HealthCheck/properties/timeout",
                text(&shown(check.timeout)),
            ),
            (
                "/$defs/HealthCheck/properties/healthy_threshold",
                Value::from(check.healthy_threshold),
            ),
            (
                "/$defs/HealthCheck/properties/unhealthy_threshold",
                Value::from(check.unhealthy_threshold),
            ),
            (
                "/$defs/Dpop/properties/algorithm",
                text(coatroom_core::config::defaults::DPOP_ALGORITHM),
            ),
            ("/$defs/Provider/properties/response_mode", text("query")),
            ("/$defs/TokenIntrospection/properties/response", text("jwt")),
            (
                "/$defs/Provider/properties/userinfo",
                text(match provider.userinfo {
                    coatroom_core::config::Userinfo::Never => "never",
                    coatroom_core::config::Userinfo::Always => "always",
                }),
            ),
            (
                "/$defs/Provider/properties/protocol",
                text(if provider.plain.is_some() {
                    "oauth2"
                } else {
                    "openid"
                }),
            ),
            ("/$defs/User/properties/at_refresh", text("always")),
            ("/$defs/Session/properties/store", text("cookie")),
            ("/$defs/Store/properties/prefix", text(&store.prefix)),
            ("/$defs/Store/properties/timeout", text(&shown(store.timeout))),
            ("/$defs/Session/properties/idle", text(&shown(session.idle))),
            (
                "/$defs/Session/properties/absolute",
                text(&shown(session.absolute)),
            ),
            (
                "/$defs/Session/properties/default_token_life",
                text(&shown(session.default_token_life)),
            ),
            (
                "/$defs/Route/properties/auth",
                text(match route.auth {
                    coatroom_core::config::Auth::Required => "required",
                    coatroom_core::config::Auth::Optional => "optional",
                    coatroom_core::config::Auth::None => "none",
                    coatroom_core::config::Auth::Bearer => "bearer",
                }),
            ),
            (
                "/$defs/Route/properties/strip_prefix",
                Value::from(route.strip_prefix),
            ),
            ("/$defs/Route/properties/resources", Value::from(route.resources)),
            (
                "/$defs/Route/properties/cookies",
                Value::from(route.cookies.clone()),
            ),
            (
                "/$defs/Route/properties/danger_no_content_security_policy",
                Value::from(false),
            ),
            (
                "/$defs/Route/properties/cache",
                text(if route.cache_public { "public" } else { "private" }),
            ),
            (
                "/$defs/Route/properties/body_limit",
                text(&size_shown(route.body_limit)),
            ),
            ("/$defs/Route/properties/timeout", text(&shown(route.timeout))),
            (
                "/$defs/Route/properties/connect_timeout",
                text(&shown(route.connect_timeout)),
            ),
        ];
        let schema = schema();
        for (pointer, expected) in &rows {
            let property = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
            assert_eq!(property.get("default"), Some(expected), "{pointer}");
        }
        let mut all = Vec::new();
        defaults_of(&schema, "", &mut all);
        all.retain(|pointer| !rows.iter().any(|(row, _)| row == pointer));
        assert!(all.is_empty(), "defaults without a row: {all:?}");
    }

    /// Where a schema says `default`.
    fn defaults_of(schema: &Value, pointer: &str, into: &mut Vec<String>) {
        let Some(object) = schema.as_object() else { return };
        if object.contains_key("default") && !pointer.ends_with("/properties") {
            into.push(pointer.to_owned());
        }
        for (key, value) in object {
            defaults_of(value, &format!("{pointer}/{key}"), into);
        }
    }

    #[test]
    fn every_pattern_takes_what_the_types_take_and_refuses_what_they_refuse() {
        let of = |pattern: &str| {
            jsonschema::validator_for(&serde_json::json!({"type": "string", "pattern": pattern}))
                .expect("a good pattern")
        };
        let (duration, seconds, size, listen) = (of(DURATION), of(WHOLE_SECONDS), of(SIZE), of(LISTEN));
        for text in [
            "30m",
            "12h",
            "1h30m",
            "1500ms",
            "2000ms",
            "1d1h1m1s1ms",
            "0s",
            "7d",
            "",
            "30",
            "m",
            "300x",
            "30 m",
            "-1s",
            "0.5h",
            "1m1h",
            "1m1m",
            "1s1",
            "30M",
            "4096",
            "10B",
            "1 KiB",
            "1 MB",
            "10MiB",
            "1  MB",
            "1mb",
            "1TB",
            "1.5MB",
            "127.0.0.1:8080",
            "localhost:9090",
            "[::1]:80",
            "[::]:443",
            "unix:/run/x.sock",
            "unix:",
            "8080",
            ":8080",
            "127.0.0.1",
            "127.0.0.1:",
            "example.com:80",
        ] {
            let value = Value::from(text);
            assert_eq!(
                duration.is_valid(&value),
                Interval::from_text(text).is_ok(),
                "duration {text}"
            );
            assert_eq!(
                seconds.is_valid(&value),
                WholeSeconds::from_text(text).is_ok(),
                "seconds {text}"
            );
            assert_eq!(
                size.is_valid(&value),
                Size::from_text(text).is_ok(),
                "size {text}"
            );
            assert_eq!(
                listen.is_valid(&value),
                Listen::from_text(text).is_ok(),
                "listen {text}"
            );
        }
    }
}
