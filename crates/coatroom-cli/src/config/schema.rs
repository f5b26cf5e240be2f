//! The configuration file as written: one type for each mapping, one field for each key.
//!
//! Unknown keys are refused everywhere, and so is a documented key that this build does not have:
//! a key that is accepted and ignored would be a lie. Values are checked by `application.rs` and the
//! core; here is only their shape.

use std::path::PathBuf;

use serde::Deserialize;

use super::secret::Reference;
use super::values::{Interval, Listen, Named, NotYet, Size, WholeSeconds, Written, written};

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The public listener; default `127.0.0.1:8080`.
    pub(crate) listen: Option<Listen>,
    /// The admin listener: health, readiness, metrics; default `127.0.0.1:9090`.
    pub(crate) admin: Option<Listen>,
    /// Allows an admin listener that other machines reach. It tells everybody how the service fares.
    #[serde(default)]
    pub(crate) danger_public_admin: bool,
    /// TLS on the public listener.
    pub(crate) tls: Option<Tls>,
    /// The keys that seal cookies: the first seals, all open.
    pub(crate) keys: Vec<Reference>,
    /// The applications, by id.
    pub(crate) apps: Named<App>,
    /// The log.
    #[serde(default)]
    pub(crate) log: Log,
    /// How many data cores; default: those of the machine.
    pub(crate) workers: Option<u16>,
    #[serde(rename = "forward_auth")]
    _forward_auth: Option<NotYet>,
}

/// TLS on the public listener: two PEM files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// The certificate chain, the server's own first.
    pub(crate) certificate: Reference,
    /// Its private key.
    pub(crate) key: Reference,
}

/// The log.
#[derive(Deserialize, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// How a line looks.
    pub(crate) format: Format,
    /// What is worth a line.
    pub(crate) level: Level,
}

/// How a log line looks.
#[derive(Deserialize, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// What is worth a log line.
#[derive(Deserialize, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Somebody must look.
    Error,
    /// Somebody should look.
    Warn,
    /// Worth counting.
    #[default]
    Info,
    /// Everyday.
    Debug,
    /// Everything.
    Trace,
}

/// One application.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    pub(crate) url: String,
    pub(crate) app_url: Option<String>,
    pub(crate) origins: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    pub(crate) base_path: Option<String>,
    #[serde(default)]
    pub(crate) login: Login,
    pub(crate) provider: Provider,
    #[serde(default)]
    pub(crate) session: Session,
    pub(crate) csrf_header: Option<String>,
    pub(crate) routes: Named<Route>,
    #[serde(default)]
    pub(crate) danger_insecure_http: bool,
}

/// Sign-in.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Login {
    /// `agent`, or the SPA's page that posts `login/end`.
    pub(crate) callback: Option<String>,
}

/// The OpenID Provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provider {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: Reference,
    #[serde(default)]
    pub(crate) client_auth: ClientAuth,
    pub(crate) scopes: Option<Vec<String>>,
    /// Fixed extra authorization parameters.
    pub(crate) parameters: Option<Named<String>>,
    #[serde(default)]
    pub(crate) allowed_parameters: Vec<String>,
    pub(crate) leeway: Option<WholeSeconds>,
    pub(crate) timeout: Option<Interval>,
    #[serde(default, rename = "response_mode")]
    _response_mode: ResponseMode,
    #[serde(rename = "profile")]
    _profile: Option<NotYet>,
    #[serde(rename = "ca")]
    _ca: Option<NotYet>,
}

/// `client_auth`: how the client secret is sent, by the core's name; none: what the metadata offers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAuth(pub(crate) Option<&'static str>);

/// `response_mode`: only `query` in this build.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResponseMode;

/// A session's limits and claims.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Session {
    #[serde(rename = "store")]
    _store: Store,
    pub(crate) idle: Option<WholeSeconds>,
    pub(crate) absolute: Option<WholeSeconds>,
    pub(crate) default_token_life: Option<WholeSeconds>,
    pub(crate) claims: Option<Vec<String>>,
    #[serde(rename = "revocable")]
    _revocable: Option<NotYet>,
}

/// `store`: only `cookie` in this build.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Store;

/// One route.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    pub(crate) upstream: Option<String>,
    #[serde(rename = "static")]
    pub(crate) folder: Option<PathBuf>,
    #[serde(default)]
    pub(crate) strip_prefix: bool,
    pub(crate) auth: Option<RouteAuth>,
    pub(crate) methods: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) resources: bool,
    pub(crate) cache: Option<Cache>,
    #[serde(default)]
    pub(crate) cookies: Vec<String>,
    pub(crate) body_limit: Option<Size>,
    pub(crate) timeout: Option<Interval>,
    pub(crate) connect_timeout: Option<Interval>,
    #[serde(rename = "token")]
    _token: Option<NotYet>,
    #[serde(rename = "dev_server")]
    _dev_server: Option<NotYet>,
}

/// A route's `auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteAuth(pub(crate) &'static str);

/// A route's `cache`.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cache {
    /// Answers to token requests stay with the browser.
    Private,
    /// A shared cache may keep them.
    Public,
}

impl Written for ClientAuth {
    const EXPECTED: &'static str = "a method of client authentication";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "basic" => Ok(Self(Some("client_secret_basic"))),
            "basic_raw" => Ok(Self(Some("client_secret_basic_raw"))),
            "post" => Ok(Self(Some("client_secret_post"))),
            "private_key_jwt" | "tls_client_auth" | "self_signed_tls_client_auth" => {
                Err(KEY_BASED.to_owned())
            }
            "client_secret_basic" => Err(client_auth_hint("basic")),
            "client_secret_post" => Err(client_auth_hint("post")),
            _ => Err("expected one of `basic`, `basic_raw` and `post`\n\
                      remove `client_auth`: then the provider's metadata decides"
                .to_owned()),
        }
    }

    fn mapping() -> Option<&'static str> {
        Some(KEY_BASED)
    }
}

fn client_auth_hint(name: &str) -> String {
    format!("expected one of `basic`, `basic_raw` and `post`\nwrite `client_auth: {name}`")
}

const KEY_BASED: &str = "this build has no key-based client authentication yet (`private_key_jwt`, mutual TLS)\n\
                         register the client with a secret, and write `client_secret: {env: NAME}`";

impl Written for ResponseMode {
    const EXPECTED: &'static str = "a response mode";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "query" => Ok(Self),
            "jwt" | "query.jwt" | "form_post" | "form_post.jwt" => Err(
                "this build has only the response mode `query` yet\nwrite `response_mode: query`".to_owned(),
            ),
            _ => Err("expected the response mode `query`\nwrite `response_mode: query`".to_owned()),
        }
    }
}

impl Written for Store {
    const EXPECTED: &'static str = "a session store";

    fn from_text(text: &str) -> Result<Self, String> {
        let name = text.split(':').next().unwrap_or(text);
        match name {
            "cookie" if text == "cookie" => Ok(Self),
            "memory" | "sqlite" | "postgres" | "postgresql" | "redis" | "rediss" | "redis+cluster"
            | "redis+sentinel" => Err(NO_STORE.to_owned()),
            _ => Err(
                "expected the session store `cookie`\nwrite `store: cookie`, or remove the key".to_owned(),
            ),
        }
    }

    fn mapping() -> Option<&'static str> {
        Some(NO_STORE)
    }
}

const NO_STORE: &str =
    "this build has no server-side session store yet: sessions live in sealed cookies\nwrite `store: cookie`";

impl Written for RouteAuth {
    const EXPECTED: &'static str = "who may call the route";

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "required" => Ok(Self("required")),
            "optional" => Ok(Self("optional")),
            "none" => Ok(Self("none")),
            "bearer" => Err(
                "this build does not pass a client's own bearer tokens through yet\n\
                             write `auth: required`, `auth: optional` or `auth: none`"
                    .to_owned(),
            ),
            _ => Err("expected one of `required`, `optional` and `none`\n\
                      write `auth: required`, or remove the key: that is the default"
                .to_owned()),
        }
    }
}

impl<'d> Deserialize<'d> for ClientAuth {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl<'d> Deserialize<'d> for ResponseMode {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl<'d> Deserialize<'d> for Store {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl<'d> Deserialize<'d> for RouteAuth {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer)
    }
}

impl Cache {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

impl Format {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Level {
    /// As it is written, which is also how `tracing` names it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{deserialize, document};
    use super::*;

    fn errors(source: &str) -> Vec<(String, String, String)> {
        let root = document::parse(source).unwrap_or_else(|error| panic!("{}", error.message));
        match deserialize::read::<File>(&root, &mut Vec::new()) {
            Ok(_) => Vec::new(),
            Err(found) => found
                .into_iter()
                .map(|d| (document::dotted(&d.path), d.message, d.hint))
                .collect(),
        }
    }

    /// The smallest file with one more line in the provider, the session, or the route.
    fn file(provider: &str, session: &str, route: &str) -> String {
        format!(
            "keys: [{{file: k}}]\napps:\n  shop:\n    url: https://a\n    provider:\n      issuer: https://b\n      \
             client_id: c\n      client_secret: {{env: S}}\n      {provider}\n    session: {{{session}}}\n    \
             routes:\n      /: {{{route}}}\n"
        )
    }

    #[test]
    fn every_key_of_the_schema_is_read() {
        let source = "
listen: 127.0.0.1:8080
admin: unix:/run/admin.sock
danger_public_admin: true
tls: {certificate: {file: c}, key: {credential: k}}
keys: [{file: a}, {command: [b, c]}]
log: {format: json, level: debug}
workers: 4
apps:
  shop:
    url: https://a
    app_url: https://b
    origins: [https://b]
    hosts: [internal]
    base_path: /auth
    login: {callback: /signed-in}
    csrf_header: x-csrf
    danger_insecure_http: false
    provider:
      issuer: https://i
      client_id: 12345
      client_secret: {env: S}
      client_auth: basic_raw
      scopes: [openid]
      response_mode: query
      parameters: {audience: x}
      allowed_parameters: [organization]
      leeway: 5s
      timeout: 1500ms
    session: {store: cookie, idle: 30m, absolute: 12h, default_token_life: 5m, claims: [sub]}
    routes:
      /api/: {upstream: http://127.0.0.1, strip_prefix: true, auth: optional, methods: [GET], resources: true,
              cache: public, cookies: [a], body_limit: 1 MB, timeout: 1s, connect_timeout: 1s}
      /: {static: dist}
";
        assert_eq!(errors(source), []);
    }

    #[test]
    fn documented_settings_that_this_build_does_not_have_are_errors() {
        let later = "this build does not have this setting yet";
        for (source, path, message) in [
            (
                file("profile: fapi2", "", "static: a"),
                "apps.shop.provider.profile",
                later,
            ),
            (
                file("ca: {file: a}", "", "static: a"),
                "apps.shop.provider.ca",
                later,
            ),
            (
                file("response_mode: jwt", "", "static: a"),
                "apps.shop.provider.response_mode",
                "this build has only the response mode `query` yet",
            ),
            (
                file(
                    "client_auth: {method: private_key_jwt, key: {file: a}}",
                    "",
                    "static: a",
                ),
                "apps.shop.provider.client_auth",
                "this build has no key-based client authentication yet (`private_key_jwt`, mutual TLS)",
            ),
            (
                file("client_auth: private_key_jwt", "", "static: a"),
                "apps.shop.provider.client_auth",
                "this build has no key-based client authentication yet (`private_key_jwt`, mutual TLS)",
            ),
            (
                file("", "revocable: true", "static: a"),
                "apps.shop.session.revocable",
                later,
            ),
            (
                file("", "", "upstream: a, token: {resource: b}"),
                "apps.shop.routes[/].token",
                later,
            ),
            (
                file("", "", "dev_server: a"),
                "apps.shop.routes[/].dev_server",
                later,
            ),
            (
                file("", "", "upstream: a, auth: bearer"),
                "apps.shop.routes[/].auth",
                "this build does not pass a client's own bearer tokens through yet",
            ),
            (
                format!("forward_auth: {{listen: a}}\n{}", file("", "", "static: a")),
                "forward_auth",
                later,
            ),
        ] {
            let found = errors(&source);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].0.as_str(), found[0].1.as_str()), (path, message));
            assert!(!found[0].2.is_empty(), "{path} has a hint");
        }
    }

    #[test]
    fn every_store_but_cookie_is_refused() {
        let known = "this build has no server-side session store yet: sessions live in sealed cookies";
        for (store, message) in [
            ("memory", known),
            ("sqlite:a.db", known),
            ("postgres://u:hunter2@h/d", known),
            ("redis://h", known),
            ("rediss://h", known),
            ("redis+cluster://h", known),
            ("redis+sentinel://h", known),
            ("{url: {env: REDIS_URL}}", known),
            ("cookies", "expected the session store `cookie`"),
            ("cookie:x", "expected the session store `cookie`"),
        ] {
            let found = errors(&file(
                "",
                &format!("store: '{store}'").replace("'{", "{").replace("}'", "}"),
                "static: a",
            ));
            assert_eq!(found.len(), 1, "{store}: {found:?}");
            assert_eq!(found[0].1, message, "{store}");
        }
    }
}
