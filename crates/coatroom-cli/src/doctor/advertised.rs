//! What a provider says that it can do, beside what the configuration asks for.
//!
//! One table, keyed by the member of the metadata document (RFC 8414, OpenID Connect Discovery §3 and
//! what registers further members). A member that is missing says nothing, unless a default is
//! registered for it. Each row is judged alone; nothing of the document is shown but what we know by
//! name ourselves.

use coatroom_core::config::{Application, ClientAuth, ClientAuthMethod, Provider};
use coatroom_core::oauth::JwkSet;
use serde_json::{Map, Value};

use super::network::Place;
use super::sheet::{Finding, Sheet, State};

mod introspection;
mod profile;

/// What a row is judged by.
pub(super) struct Asked<'a> {
    pub(super) application: &'a Application,
    pub(super) provider: &'a Provider,
    pub(super) document: &'a Map<String, Value>,
}

impl<'a> Asked<'a> {
    /// A member of the document; null is as good as none.
    fn member(&self, name: &str) -> Member<'a> {
        Member(self.document.get(name).filter(|value| !value.is_null()))
    }

    fn has(&self, name: &str) -> bool {
        self.member(name).is_there()
    }
}

/// One row: what is looked at, under which member, and how it is judged; none is nothing to say.
struct Row {
    check: &'static str,
    member: &'static str,
    judge: fn(&Member<'_>, &Asked<'_>) -> Option<Verdict>,
}

type Verdict = (State, String, String);

/// Judges every row.
pub(super) fn examine(sheet: &Sheet, asked: &Asked<'_>) {
    let is_plain = asked.provider.plain.is_some();
    for row in ROWS {
        if is_plain && OF_OPENID.contains(&row.member) {
            continue;
        }
        let member = asked.member(row.member);
        if let Some((state, found, todo)) = (row.judge)(&member, asked) {
            sheet.push(Finding {
                state,
                check: row.check,
                found,
                todo,
            });
        }
    }
}

const ROWS: &[Row] = &[
    Row {
        check: "endpoints",
        member: "issuer",
        judge: endpoints,
    },
    Row {
        check: "authorization code",
        member: "response_types_supported",
        judge: response_types,
    },
    Row {
        check: "response mode",
        member: "response_modes_supported",
        judge: profile::response_modes,
    },
    Row {
        check: "grants",
        member: "grant_types_supported",
        judge: grants,
    },
    Row {
        check: "PKCE",
        member: "code_challenge_methods_supported",
        judge: pkce,
    },
    Row {
        check: "client_auth",
        member: "token_endpoint_auth_methods_supported",
        judge: client_auth,
    },
    Row {
        check: "ID token algorithms",
        member: "id_token_signing_alg_values_supported",
        judge: id_token_algorithms,
    },
    Row {
        check: "scopes",
        member: "scopes_supported",
        judge: scopes,
    },
    Row {
        check: "claims",
        member: "claims_supported",
        judge: claims,
    },
    Row {
        check: "iss in the answer",
        member: "authorization_response_iss_parameter_supported",
        judge: iss,
    },
    Row {
        check: "pushed requests",
        member: "require_pushed_authorization_requests",
        judge: profile::pushed_requests,
    },
    Row {
        check: "request objects",
        member: "require_signed_request_object",
        judge: profile::request_objects,
    },
    Row {
        check: "sign-out there",
        member: "end_session_endpoint",
        judge: profile::end_session,
    },
    Row {
        check: "revocation",
        member: "revocation_endpoint",
        judge: revocation,
    },
    Row {
        check: "logout from there",
        member: "backchannel_logout_supported",
        judge: provider_logout,
    },
    Row {
        check: "userinfo",
        member: "userinfo_endpoint",
        judge: userinfo,
    },
    Row {
        check: "introspection",
        member: "introspection_endpoint",
        judge: introspection::endpoint,
    },
    Row {
        check: "signed introspection",
        member: "introspection_signing_alg_values_supported",
        judge: introspection::algorithms,
    },
    Row {
        check: "DPoP",
        member: "dpop_signing_alg_values_supported",
        judge: profile::dpop,
    },
    Row {
        check: "mutual TLS",
        member: "tls_client_certificate_bound_access_tokens",
        judge: profile::bound_tokens,
    },
    Row {
        check: "mutual TLS",
        member: "mtls_endpoint_aliases",
        judge: profile::mtls_aliases,
    },
    Row {
        check: "JARM",
        member: "authorization_signing_alg_values_supported",
        judge: profile::jarm,
    },
];

/// A member of the document, if it is there.
struct Member<'a>(Option<&'a Value>);

impl Member<'_> {
    fn is_there(&self) -> bool {
        self.0.is_some()
    }

    fn is_true(&self) -> bool {
        self.0 == Some(&Value::Bool(true))
    }

    fn is_false(&self) -> bool {
        self.0 == Some(&Value::Bool(false))
    }

    /// Its values, if it is a list.
    fn values(&self) -> Option<Vec<&str>> {
        let values = self.0?.as_array()?;
        Some(values.iter().filter_map(Value::as_str).collect())
    }

    /// Whether a list that is there has this; none where there is no list.
    fn has(&self, wanted: &str) -> Option<bool> {
        Some(self.values()?.contains(&wanted))
    }
}

fn good(found: impl Into<String>) -> Option<Verdict> {
    Some((State::Good, found.into(), String::new()))
}

/// As it should be, and there would be more.
fn hint(found: impl Into<String>, todo: impl Into<String>) -> Option<Verdict> {
    Some((State::Good, found.into(), todo.into()))
}

fn unclear(found: impl Into<String>, todo: impl Into<String>) -> Option<Verdict> {
    Some((State::Unclear, found.into(), todo.into()))
}

fn warning(found: impl Into<String>, todo: impl Into<String>) -> Option<Verdict> {
    Some((State::Warning, found.into(), todo.into()))
}

fn failed(found: impl Into<String>, todo: impl Into<String>) -> Option<Verdict> {
    Some((State::Failed, found.into(), todo.into()))
}

/// All of them, also those that no sign-in needs: plain http off this machine is a slip there.
fn endpoints(_: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let is_endpoint = |name: &str| name.ends_with("_endpoint") || name == "jwks_uri";
    let endpoints: Vec<(&str, &str)> = asked
        .document
        .iter()
        .filter(|(name, _)| is_endpoint(name))
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
        .collect();
    let plain = endpoints.iter().filter(|(_, url)| {
        url.starts_with("http://") && !Place::of(url).is_some_and(|place| place.is_here())
    });
    // names of members are the document's own words, but for those that we know
    let known: Vec<&str> = plain
        .map(|(name, _)| {
            ENDPOINTS
                .into_iter()
                .find(|known| known == name)
                .unwrap_or("another one")
        })
        .collect();
    if known.is_empty() {
        return good(format!(
            "{} named, none in plain http off this machine",
            endpoints.len()
        ));
    }
    failed(
        format!("in plain http: {}", known.join(", ")),
        "tell the provider its public https address (its issuer or front-end URL setting, or the forwarding headers of \
         the proxy in front of it)",
    )
}

fn response_types(member: &Member<'_>, _: &Asked<'_>) -> Option<Verdict> {
    match member.has("code") {
        None => None,
        Some(true) => good("`response_type=code` is offered"),
        Some(false) => failed(
            "`response_type=code` is not among `response_types_supported`",
            "allow the authorization code flow for this client at the provider",
        ),
    }
}

fn grants(member: &Member<'_>, _: &Asked<'_>) -> Option<Verdict> {
    // RFC 8414 §2: omitted means authorization_code and implicit, and nobody means that
    match (member.has("authorization_code")?, member.has("refresh_token")?) {
        (false, _) => failed(
            "`authorization_code` is not among `grant_types_supported`",
            "allow the authorization code flow for this client at the provider",
        ),
        (true, false) => warning(
            "`refresh_token` is not among `grant_types_supported`",
            "allow refresh tokens for this client, and ask for them (often `scopes: [openid, offline_access]`): without one \
             a session ends with its access token",
        ),
        (true, true) => good("authorization_code and refresh_token"),
    }
}

fn pkce(member: &Member<'_>, _: &Asked<'_>) -> Option<Verdict> {
    match member.has("S256") {
        Some(true) => good("S256"),
        Some(false) => failed(
            "S256 is not among `code_challenge_methods_supported`",
            "turn PKCE with S256 on at the provider: it is always sent",
        ),
        None => warning(
            "the provider does not say that it knows PKCE; S256 is sent in any case",
            "turn PKCE on (or \"required\") for this client at the provider, if it has such a switch",
        ),
    }
}

fn client_auth(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    // RFC 8414 §2: omitted means client_secret_basic
    let offers = |method| member.has(method).unwrap_or(method == "client_secret_basic");
    let secret = match &asked.provider.client_auth {
        ClientAuth::Secret(method, _) => Some(*method),
        _ => None,
    };
    let wanted = match secret {
        Some(ClientAuthMethod::FromMetadata) if offers("client_secret_basic") => {
            return good("client_secret_basic, as the provider offers it");
        }
        Some(ClientAuthMethod::FromMetadata) if offers("client_secret_post") => {
            return good("client_secret_post, as the provider offers it");
        }
        Some(ClientAuthMethod::FromMetadata) => {
            return failed(
                "neither client_secret_basic nor client_secret_post is among `token_endpoint_auth_methods_supported`",
                "set `provider.client_auth`, if the provider takes a secret all the same; else allow it there",
            );
        }
        // somebody else's assertion goes by the name of a key's
        _ => asked.provider.client_auth.name().unwrap_or("private_key_jwt"),
    };
    match offers(wanted) {
        true => good(format!("{wanted}, as configured")),
        false => warning(
            format!("{wanted} is configured, and not among `token_endpoint_auth_methods_supported`"),
            "see `client` below, which tries it; else change `provider.client_auth`",
        ),
    }
}

fn id_token_algorithms(member: &Member<'_>, _: &Asked<'_>) -> Option<Verdict> {
    let offered = member.values()?;
    let accepted: Vec<&str> = offered.into_iter().filter(|name| JwkSet::accepts(name)).collect();
    match accepted.is_empty() {
        false => good(format!("{} would be accepted", accepted.join(", "))),
        true => failed(
            "none of `id_token_signing_alg_values_supported` is accepted: they must be signed with a private key",
            "have the provider sign this client's ID tokens with RS256, PS256, ES256 or EdDSA",
        ),
    }
}

fn scopes(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let offered = member.values()?;
    let unknown = asked
        .provider
        .scopes
        .iter()
        .filter(|scope| !offered.contains(&scope.as_str()));
    let unknown: Vec<&str> = unknown.map(String::as_str).collect();
    match unknown.is_empty() {
        true => good(format!("{} are offered", asked.provider.scopes.join(" "))),
        false => warning(
            format!("not among `scopes_supported`: {}", unknown.join(" ")),
            "correct `provider.scopes`, or allow them for this client; not every provider names all of its scopes",
        ),
    }
}

fn claims(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let offered = member.values()?;
    let wanted = asked.application.session.claims.as_ref()?;
    let unknown = wanted.iter().filter(|claim| !offered.contains(&claim.as_str()));
    let unknown: Vec<&str> = unknown.map(String::as_str).collect();
    match unknown.is_empty() {
        true => good("those of `session.claims` are offered"),
        false => warning(
            format!("not among `claims_supported`: {}", unknown.join(" ")),
            "correct `session.claims`, or have the provider put them into ID tokens",
        ),
    }
}

fn iss(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let authorization = &asked.provider.authorization;
    let is_wanted = authorization.require_iss && !authorization.response_mode.is_signed();
    match member.is_true() {
        false if is_wanted => failed(
            "not offered, and `require_iss` begins no sign-in without it",
            "have the provider sign its answers, `response_mode: jwt`, or have it return to the agent: remove \
             `login.callback` and `require_iss`",
        ),
        true => good("every answer names its issuer, and one that does not is refused (RFC 9207)"),
        false => good("not offered; an answer that names another issuer is refused all the same"),
    }
}

fn revocation(member: &Member<'_>, _: &Asked<'_>) -> Option<Verdict> {
    match member.is_there() {
        true => good("offered: a sign-out revokes the tokens"),
        false => warning(
            "there is no `revocation_endpoint`: tokens of who signed out live until they are over",
            "give access tokens a short life at the provider",
        ),
    }
}

fn provider_logout(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let front = asked.document.get("frontchannel_logout_supported") == Some(&Value::Bool(true));
    let can_be_told = asked.application.session.storage.settings().is_some();
    let base = format!(
        "{}{}",
        asked.application.url.as_str(),
        asked.application.base_path
    );
    match (can_be_told, member.is_true(), front) {
        (true, true, _) => good(format!(
            "back-channel logout; its URI is {base}/backchannel-logout"
        )),
        (true, false, true) => good(format!(
            "front-channel logout; its URI is {base}/frontchannel-logout"
        )),
        (true, false, false) => warning(
            "the provider cannot tell that a session ended there",
            "give `session` limits that you can live with: until then a session goes on here",
        ),
        (false, true, _) | (false, false, true) => {
            good("offered, and of use with a store only (`session.store`)")
        }
        (false, false, false) => None,
    }
}

fn userinfo(member: &Member<'_>, _: &Asked<'_>) -> Option<Verdict> {
    match member.is_there() {
        true => good("offered"),
        false => good("not offered; a sign-in does not ask it"),
    }
}

/// What says something of ID tokens, which a provider of plain OAuth 2.0 does not give.
const OF_OPENID: [&str; 5] = [
    "id_token_signing_alg_values_supported",
    "claims_supported",
    "end_session_endpoint",
    "backchannel_logout_supported",
    "userinfo_endpoint",
];

/// The endpoints that may be named in a finding.
const ENDPOINTS: [&str; 10] = [
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "end_session_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "registration_endpoint",
    "pushed_authorization_request_endpoint",
    "device_authorization_endpoint",
];

#[cfg(test)]
mod tests {
    use coatroom_core::config::{ApplicationConfig, ClientAuthConfig, ProviderConfig};
    use coatroom_core::secret::Secret;
    use serde_json::json;

    use super::*;

    /// How a document comes out: check and state of everything that is not good.
    pub(super) fn judged(
        change: impl FnOnce(&mut ProviderConfig),
        members: &[(&str, Value)],
    ) -> Vec<(&'static str, State)> {
        let has_provider = |config: &mut ApplicationConfig| {
            change(config.provider.as_mut().expect("an agent"));
        };
        judged_as(has_provider, members)
    }

    /// The same for another application.
    pub(super) fn judged_as(
        change: impl FnOnce(&mut ApplicationConfig),
        members: &[(&str, Value)],
    ) -> Vec<(&'static str, State)> {
        let config = ProviderConfig::new("https://login.example.com", "shop", Secret::new("hush"));
        let mut config = ApplicationConfig::new("shop", "https://shop.example.com", config);
        change(&mut config);
        config.session.claims = Some(vec!["email".to_owned()]);
        let application = config.check().unwrap_or_else(|problems| panic!("{problems:?}"));
        let mut document = json!({
            "issuer": "https://login.example.com",
            "token_endpoint": "https://login.example.com/token",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "end_session_endpoint": "https://login.example.com/logout",
            "revocation_endpoint": "https://login.example.com/revoke",
        });
        for (name, value) in members {
            document[*name] = value.clone();
        }
        let sheet = Sheet::new(None, "provider");
        let asked = Asked {
            application: &application,
            provider: application.provider.as_ref().expect("an agent"),
            document: document.as_object().expect("an object"),
        };
        examine(&sheet, &asked);
        let findings = sheet.findings().into_iter();
        findings
            .filter(|finding| finding.state != State::Good)
            .inspect(|finding| {
                assert!(!finding.todo.is_empty(), "{finding:?}");
                assert!(!finding.found.contains("hunter2"), "{finding:?}");
            })
            .map(|finding| (finding.check, finding.state))
            .collect()
    }

    #[test]
    fn what_a_provider_says_is_compared_with_what_is_configured() {
        use State::{Failed, Warning};
        for (member, value, expected) in [
            ("jwks_uri", json!("https://login.example.com/jwks"), vec![]),
            (
                "userinfo_endpoint",
                json!("http://login.example.com/u"),
                vec![("endpoints", Failed)],
            ),
            (
                "hunter2_endpoint",
                json!("http://login.example.com/u"),
                vec![("endpoints", Failed)],
            ),
            ("userinfo_endpoint", json!("http://127.0.0.1/u"), vec![]),
            (
                "response_types_supported",
                json!(["id_token"]),
                vec![("authorization code", Failed)],
            ),
            ("response_types_supported", json!("code"), vec![]),
            (
                "response_modes_supported",
                json!(["form_post"]),
                vec![("response mode", Warning)],
            ),
            (
                "grant_types_supported",
                json!(["implicit"]),
                vec![("grants", Failed)],
            ),
            (
                "grant_types_supported",
                json!(["authorization_code"]),
                vec![("grants", Warning)],
            ),
            (
                "code_challenge_methods_supported",
                json!(["plain"]),
                vec![("PKCE", Failed)],
            ),
            (
                "code_challenge_methods_supported",
                Value::Null,
                vec![("PKCE", Warning)],
            ),
            (
                "token_endpoint_auth_methods_supported",
                json!(["client_secret_post"]),
                vec![],
            ),
            (
                "token_endpoint_auth_methods_supported",
                json!(["private_key_jwt"]),
                vec![("client_auth", Failed)],
            ),
            (
                "id_token_signing_alg_values_supported",
                json!(["HS256", "none"]),
                vec![("ID token algorithms", Failed)],
            ),
            (
                "id_token_signing_alg_values_supported",
                json!(["hunter2", "ES256"]),
                vec![],
            ),
            ("scopes_supported", json!(["profile"]), vec![("scopes", Warning)]),
            ("claims_supported", json!(["sub"]), vec![("claims", Warning)]),
            (
                "require_pushed_authorization_requests",
                json!(true),
                vec![("pushed requests", Failed)],
            ),
            (
                "require_signed_request_object",
                json!(true),
                vec![("request objects", Failed)],
            ),
            (
                "end_session_endpoint",
                Value::Null,
                vec![("sign-out there", Warning)],
            ),
            ("revocation_endpoint", Value::Null, vec![("revocation", Warning)]),
        ] {
            assert_eq!(
                judged(|_| {}, &[(member, value.clone())]),
                expected,
                "{member}: {value}"
            );
        }
    }

    #[test]
    fn a_method_that_is_configured_and_not_offered_deserves_a_look() {
        let post = |config: &mut ProviderConfig| {
            config.client_auth = ClientAuthConfig::ClientSecret("client_secret_post".to_owned())
        };
        let offered = |methods| [("token_endpoint_auth_methods_supported", methods)];
        let wrong = vec![("client_auth", State::Warning)];
        assert_eq!(judged(post, &offered(json!(["client_secret_basic"]))), wrong);
        assert_eq!(judged(post, &offered(Value::Null)), wrong);
        assert_eq!(judged(post, &offered(json!(["client_secret_post"]))), []);
    }
}
