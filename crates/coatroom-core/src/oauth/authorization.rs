//! The authorization request and response (RFC 6749 §4.1.1 and §4.1.2, OIDC Core §3.1.2, RFC 9207).
//!
//! The request's parameters are ours, then the operator's, then those of the caller that are on an
//! allow-list: nobody else sets a protocol parameter, and none appears twice. The response is read
//! with every known parameter at most once. An error is believed to be no more than a registered
//! code; its description is never read. What belongs to which sign-in (`state`) is not decided here.

use url::form_urlencoded;

use super::metadata::Metadata;
use super::pkce;
use crate::config::Provider;
use crate::error::Error;
use crate::secret::Secret;
use crate::session::LoginTransaction;

// ------------------------------------------------------------------ request

/// Who asks for authorization parameters, which decides what happens to those that don't belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The SPA, by `fetch`: what it may not set is refused, so that the mistake is seen.
    Fetch,
    /// A navigation of our own site: what it may not set is left out (`utm_source` and the like).
    Navigation,
    /// A navigation from another site, or of unknown origin: only harmless parameters count.
    CrossSiteNavigation,
}

/// Authorization parameters that a caller asked for and may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedParameters(Vec<(String, String)>);

impl RequestedParameters {
    /// Checks what a caller asked for. Parameters of the endpoint itself, such as `return_to`, must
    /// have been taken out before. A parameter without a value counts as omitted (RFC 6749 §3.1).
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a duplicate or malformed parameter and, from `fetch`, for one
    /// that may not be set. From another site only a harmless parameter can be at fault.
    pub(crate) fn parse<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
        provider: &Provider,
        caller: Caller,
    ) -> Result<Self, Error> {
        let mut accepted = Self::default();
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            match (caller, may_be_set(name, provider)) {
                (Caller::Fetch | Caller::Navigation, Ok(())) => {}
                (Caller::CrossSiteNavigation, Ok(())) if HARMLESS.contains(&name) => {}
                (Caller::CrossSiteNavigation, _) | (Caller::Navigation, Err(_)) => continue,
                (Caller::Fetch, Err(why)) => return Err(Error::InvalidRequest(why)),
            }
            if accepted.get(name).is_some() {
                return Err(Error::InvalidRequest("an authorization parameter appears twice"));
            }
            // Kept although empty until the end, so that its duplicates are seen.
            accepted
                .0
                .push((name.to_owned(), checked_value(name, value, provider)?));
        }
        accepted.0.retain(|(_, value)| !value.is_empty());
        Ok(accepted)
    }

    /// What a sign-in that begins anew has to ask for again, so that nothing weaker comes of it.
    pub(crate) fn again(transaction: &LoginTransaction) -> Self {
        let max_age = transaction.max_age.map(|seconds| seconds.to_string());
        let asked = [
            ("acr_values", transaction.acr_values.clone()),
            ("max_age", max_age),
            ("scope", transaction.scope.clone()),
        ];
        let asked = asked
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Self(asked.collect())
    }

    /// The names of what changes the outcome of a sign-in.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.0.iter().map(|(name, _)| name.as_str());
        names.filter(|name| !HARMLESS.contains(name))
    }

    /// The scopes that a request with these asks for: the caller's, or the configured ones.
    pub(crate) fn scope(&self, provider: &Provider) -> String {
        self.get("scope")
            .map_or_else(|| provider.scopes.join(" "), str::to_owned)
    }

    /// The value of one parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(set, _)| set == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What [`RequestedParameters::again`] asks for again.
pub(crate) const ASKED_AGAIN: [&str; 3] = ["acr_values", "max_age", "scope"];

/// Whether only this process sets a parameter of that name. The configuration's own parameters are
/// held to this as well.
pub(crate) fn is_protocol_parameter(name: &str) -> bool {
    PROTOCOL.contains(&name)
}

/// Whether this is one scope (RFC 6749 §3.3).
pub(crate) fn is_scope_token(scope: &str) -> bool {
    let good = |b: u8| b.is_ascii_graphic() && !b"\"\\".contains(&b);
    !scope.is_empty() && scope.bytes().all(good)
}

fn may_be_set(name: &str, provider: &Provider) -> Result<(), &'static str> {
    if is_protocol_parameter(name) {
        return Err("a parameter of the protocol itself cannot be set");
    }
    let fixed = provider
        .authorization_parameters
        .iter()
        .any(|(fixed, _)| fixed == name);
    if fixed || provider.authorization.fixes(name) {
        return Err("an authorization parameter is fixed by the configuration");
    }
    if provider.plain.is_some() && OF_OPENID.contains(&name) {
        return Err("`acr_values` and `max_age` need an ID token, and this provider has none");
    }
    let listed = ALLOWED.contains(&name) || provider.allowed_parameters.iter().any(|allowed| allowed == name);
    listed.then_some(()).ok_or(
        "unknown parameter; expected prompt, login_hint, acr_values, max_age, ui_locales, scope or one of \
         `allowed_parameters`",
    )
}

fn checked_value(name: &str, value: &str, provider: &Provider) -> Result<String, Error> {
    if value.len() > MAX_REQUESTED_VALUE {
        return Err(Error::InvalidRequest(
            "an authorization parameter is longer than 2048 bytes",
        ));
    }
    if value.chars().any(char::is_control) {
        return Err(Error::InvalidRequest(
            "an authorization parameter contains a control character",
        ));
    }
    if value.is_empty() {
        return Ok(String::new());
    }
    let refuse = |good: bool, why| {
        if good {
            Ok(value.to_owned())
        } else {
            Err(Error::InvalidRequest(why))
        }
    };
    match name {
        "max_age" => refuse(
            value.len() <= 10 && value.bytes().all(|b| b.is_ascii_digit()),
            "`max_age` is not a number of seconds",
        ),
        "prompt" => {
            let prompts = || value.split(' ').filter(|prompt| !prompt.is_empty());
            let alone = !prompts().any(|prompt| prompt == "none") || prompts().count() == 1;
            refuse(
                alone && is_token_list(value),
                "`prompt` is malformed; `none` stands alone",
            )
        }
        "ui_locales" => refuse(
            value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b' '),
            "`ui_locales` is not a list of language tags",
        ),
        "acr_values" => refuse(
            is_token_list(value),
            "`acr_values` is not a list of visible ascii values",
        ),
        "scope" => checked_scope(value, provider),
        _ => Ok(value.to_owned()),
    }
}

/// A subset of the configured scopes that keeps `openid` (OIDC Core §3.1.2.1), where there are ID tokens.
fn checked_scope(value: &str, provider: &Provider) -> Result<String, Error> {
    let scopes: Vec<_> = value.split(' ').filter(|scope| !scope.is_empty()).collect();
    if !scopes
        .iter()
        .all(|scope| provider.scopes.iter().any(|configured| configured == scope))
    {
        return Err(Error::InvalidRequest(
            "`scope` names a scope that is not among the configured `scopes`",
        ));
    }
    if provider.plain.is_none() && !scopes.contains(&"openid") {
        return Err(Error::InvalidRequest("`scope` does not contain openid"));
    }
    Ok(scopes.join(" "))
}

fn is_token_list(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// One authorization request.
pub(crate) struct AuthorizationRequest<'a> {
    /// Where the provider returns to; the token request repeats it exactly.
    pub(crate) redirect_uri: &'a str,
    /// Binds the response to this browser's sign-in.
    pub(crate) state: &'a str,
    /// Binds the ID token to it (OIDC Core §15.5.2).
    pub(crate) nonce: &'a str,
    /// Binds the code to it (RFC 7636).
    pub(crate) code_challenge: &'a str,
    /// Binds the code to the key that redeems it (RFC 9449 §10), if there is one.
    pub(crate) dpop_jkt: Option<&'a str>,
    /// What the caller asked for.
    pub(crate) requested: &'a RequestedParameters,
}

impl AuthorizationRequest<'_> {
    /// Everything that is asked, each name once but `resource`. Which way it takes to the provider is
    /// decided elsewhere: nothing is sent or signed here.
    pub(super) fn parameters(&self, provider: &Provider) -> Vec<(String, String)> {
        let scope = self.requested.scope(provider);
        let settings = &provider.authorization;
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", &provider.client_id),
            ("redirect_uri", self.redirect_uri),
            ("scope", &scope),
            ("state", self.state),
            ("nonce", self.nonce),
            ("code_challenge", self.code_challenge),
            ("code_challenge_method", pkce::METHOD),
        ];
        if provider.plain.is_some() {
            // no ID token that it could be in; and no scope is a scope to ask for (RFC 6749 §3.3)
            parameters.retain(|(name, value)| *name != "nonce" && !(*name == "scope" && value.is_empty()));
        }
        parameters.extend(self.dpop_jkt.map(|jkt| ("dpop_jkt", jkt)));
        parameters.extend(
            settings
                .response_mode
                .parameter()
                .map(|mode| ("response_mode", mode)),
        );
        parameters.extend(settings.claims.as_deref().map(|claims| ("claims", claims)));
        // what the configuration fixes by a setting of its own, nobody else adds to
        let fixes_resource = !settings.resource.is_empty();
        parameters.extend(
            settings
                .resource
                .iter()
                .map(|resource| ("resource", resource.as_str())),
        );
        for (name, value) in provider.authorization_parameters.iter().chain(&self.requested.0) {
            // several audiences are several parameters (RFC 8707 §2)
            let may_repeat = name == "resource" && !fixes_resource;
            let taken = !may_repeat && parameters.iter().any(|(set, _)| set == name);
            if !taken && !is_protocol_parameter(name) {
                parameters.push((name, value));
            }
        }
        parameters
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

// ------------------------------------------------------------------ response

/// What came back through the browser. Nothing in it is proven yet.
pub(crate) enum AuthorizationResponse {
    /// RFC 6749 §4.1.2.
    Code {
        /// The authorization code.
        code: Secret,
        /// Names the sign-in it claims to belong to.
        state: String,
        /// Who claims to have answered (RFC 9207).
        iss: Option<String>,
    },
    /// RFC 6749 §4.1.2.1.
    Refused {
        /// The error code, if it is a registered one.
        error: Option<&'static str>,
        /// Names the sign-in it claims to belong to.
        state: String,
        /// Who claims to have answered (RFC 9207).
        iss: Option<String>,
    },
}

impl AuthorizationResponse {
    /// Whether it brings a code; else it is a refusal.
    pub(crate) fn has_code(&self) -> bool {
        matches!(self, Self::Code { .. })
    }

    /// Reads a query (without `?`) or a form body.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when it is too long, repeats a known parameter, or is neither a
    /// code nor an error; [`Error::LoginStateInvalid`] when it has no `state`.
    #[cfg(test)]
    pub(crate) fn parse(query_or_form: &str) -> Result<Self, Error> {
        Self::from_pairs(response_pairs(query_or_form)?)
    }

    /// Reads decoded parameters of a response that is not signed: one with a signed `response` would
    /// be a provider's that answers in another way than it was asked to.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when it repeats a known parameter, or is neither a code nor an error;
    /// [`Error::LoginStateInvalid`] when it has no `state`.
    pub(crate) fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error> {
        let mut known = [const { None::<Secret> }; KNOWN.len()];
        let mut length = 0_usize;
        for (count, (name, value)) in pairs.into_iter().enumerate() {
            let pair = name.as_ref().len().saturating_add(value.as_ref().len());
            length = length.saturating_add(pair);
            if length > MAX_RESPONSE_LENGTH {
                return Err(TOO_LONG);
            }
            if count >= MAX_RESPONSE_PARAMETERS {
                return Err(Error::InvalidRequest(
                    "the authorization response has more than 64 parameters",
                ));
            }
            let Some(position) = KNOWN.iter().position(|known| *known == name.as_ref()) else {
                continue;
            };
            let Some(place) = known.get_mut(position) else {
                continue;
            };
            if place.replace(Secret::new(value.as_ref())).is_some() {
                return Err(Error::InvalidRequest(
                    "a parameter of the authorization response appears twice",
                ));
            }
        }
        let [code, state, iss, error, _, _, response, ..] = known;
        if response.is_some() {
            return Err(Error::InvalidRequest(
                "the authorization response has a signed `response`, which `response_mode` does not ask for",
            ));
        }
        // An empty `iss` stays: somebody claims to be nobody, and no issuer is called that.
        let iss = match iss {
            Some(iss) => Some(bounded(&iss, MAX_ISS, "`iss` is malformed")?),
            None => None,
        };
        let code = code.filter(|code| !code.is_empty());
        let error = error.filter(|error| !error.is_empty());
        let state = match state.filter(|state| !state.is_empty()) {
            Some(state) => Ok(bounded(&state, MAX_STATE, "`state` is malformed")?),
            None => Err(Error::LoginStateInvalid("`state` is missing")),
        };
        match (code, error) {
            (Some(code), None) => {
                bounded(&code, MAX_CODE, "`code` is malformed")?;
                Ok(Self::Code {
                    code,
                    state: state?,
                    iss,
                })
            }
            (None, Some(error)) => Ok(Self::Refused {
                error: registered_error(error.expose()),
                state: state?,
                iss,
            }),
            (Some(_), Some(_)) => Err(Error::InvalidRequest(
                "the authorization response has both `code` and `error`",
            )),
            (None, None) => Err(Error::InvalidRequest(
                "the authorization response has no `code` and no `error`",
            )),
        }
    }

    /// The `state` it carries, whatever it says.
    pub(crate) fn state(&self) -> &str {
        match self {
            Self::Code { state, .. } | Self::Refused { state, .. } => state,
        }
    }

    /// The `iss` it carries, whatever it says.
    pub(crate) fn iss(&self) -> Option<&str> {
        match self {
            Self::Code { iss, .. } | Self::Refused { iss, .. } => iss.as_deref(),
        }
    }
}

/// The parameters of a query (without `?`) or a form body that is meant to be a response.
///
/// # Errors
/// [`Error::InvalidRequest`] when it is longer than 16 KiB.
pub(crate) fn response_pairs(query_or_form: &str) -> Result<form_urlencoded::Parse<'_>, Error> {
    if query_or_form.len() > MAX_RESPONSE_LENGTH {
        return Err(Error::InvalidRequest(
            "the authorization response is longer than 16 kib",
        ));
    }
    Ok(form_urlencoded::parse(query_or_form.as_bytes()))
}

/// Whether the configured issuer answered (RFC 9207 §2.4): `iss` must equal the issuer as a string,
/// and must be there if the provider says that it always is.
pub(crate) fn issuer_matches(iss: Option<&str>, metadata: &Metadata) -> bool {
    match iss {
        Some(iss) => metadata.is_issuer(iss),
        None => !metadata.authorization_response_iss_parameter_supported,
    }
}

/// The registered form of an error code; nothing of the front channel's own text survives.
pub(crate) fn registered_error(code: &str) -> Option<&'static str> {
    REGISTERED_ERRORS
        .iter()
        .find(|registered| **registered == code)
        .copied()
}

fn bounded(value: &Secret, longest: usize, why: &'static str) -> Result<String, Error> {
    let text = value.expose();
    // VSCHAR, RFC 6749 appendix A.
    if text.len() <= longest && text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        Ok(text.to_owned())
    } else {
        Err(Error::InvalidRequest(why))
    }
}

// ------------------------------------------------------------------ tables

/// What the SPA may ask for, beside the configuration's `allowed_parameters`.
const ALLOWED: [&str; 6] = [
    "prompt",
    "login_hint",
    "acr_values",
    "max_age",
    "ui_locales",
    "scope",
];

/// What means nothing without an ID token.
const OF_OPENID: [&str; 2] = ["acr_values", "max_age"];

/// What a foreign site may choose too.
const HARMLESS: [&str; 1] = ["ui_locales"];

/// What only this process sets: RFC 6749, 7521, 7636, 9101, 9126, 9449, OIDC Core §3.1.2.1.
const PROTOCOL: [&str; 22] = [
    "access_token",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "dpop_jkt",
    "error",
    "grant_type",
    "id_token",
    "iss",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response",
    "response_mode",
    "response_type",
    "state",
];

/// The parameters of a response that may appear once at most; the order is used by `from_pairs`.
const KNOWN: [&str; 9] = [
    "code",
    "state",
    "iss",
    "error",
    "error_description",
    "error_uri",
    "response",
    "id_token",
    "access_token",
];

/// RFC 6749 §4.1.2.1, OIDC Core §3.1.2.6, RFC 8707 §2, RFC 9101 §7, RFC 9396 §5, RFC 9470 and the
/// OIDC extensions for `prompt=create` and unmet requirements.
const REGISTERED_ERRORS: [&str; 19] = [
    "access_denied",
    "account_selection_required",
    "consent_required",
    "interaction_required",
    "invalid_authorization_details",
    "invalid_request",
    "invalid_request_object",
    "invalid_request_uri",
    "invalid_scope",
    "invalid_target",
    "login_required",
    "registration_not_supported",
    "request_not_supported",
    "request_uri_not_supported",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unmet_authentication_requirements",
    "unsupported_response_type",
];

const TOO_LONG: Error = Error::InvalidRequest("the authorization response is longer than 16 kib");
const MAX_REQUESTED_VALUE: usize = 2048;
pub(super) const MAX_RESPONSE_LENGTH: usize = 16 * 1024;
pub(super) const MAX_RESPONSE_PARAMETERS: usize = 64;
const MAX_CODE: usize = 8 * 1024;
const MAX_STATE: usize = 512;
const MAX_ISS: usize = 2048;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use url::Url;

    use super::*;
    use crate::config::ResponseMode;
    use crate::oauth::testing::{ISSUER, metadata, metadata_with, provider, with_context};
    use crate::step::Step;

    fn requested(pairs: &[(&str, &str)], caller: Caller) -> Result<RequestedParameters, Error> {
        let mut provider = provider();
        provider.allowed_parameters = vec!["resource".to_owned(), "redirect_uri".to_owned()];
        provider.authorization_parameters = vec![("audience".to_owned(), "orders".to_owned())];
        RequestedParameters::parse(pairs.iter().copied(), &provider, caller)
    }

    #[test]
    fn the_listed_parameters_pass_from_a_fetch() {
        let cases: &[(&str, &str, &str)] = &[
            ("prompt", "login consent", "login consent"),
            ("prompt", "none", "none"),
            ("login_hint", "ann@example.com", "ann@example.com"),
            ("login_hint", "Ännchen & Söhne", "Ännchen & Söhne"),
            ("acr_values", "urn:mace:silver phr", "urn:mace:silver phr"),
            ("max_age", "0", "0"),
            ("max_age", "3600", "3600"),
            ("ui_locales", "fr-CA fr en", "fr-CA fr en"),
            ("scope", "openid", "openid"),
            ("scope", " orders  openid ", "orders openid"),
            ("resource", "https://api.example.com", "https://api.example.com"),
        ];
        for (name, value, kept) in cases {
            let parameters = requested(&[(name, value)], Caller::Fetch).unwrap();
            assert_eq!(parameters.get(name), Some(*kept), "{name}={value}");
        }
    }

    #[test]
    fn what_may_not_be_set_is_refused_from_a_fetch() {
        let long = "a".repeat(2049);
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("unknown", &[("colour", "red")]),
            ("unknown by case", &[("Prompt", "login")]),
            ("fixed by the configuration", &[("audience", "other")]),
            ("twice", &[("prompt", "login"), ("prompt", "login")]),
            ("twice, once empty", &[("prompt", ""), ("prompt", "login")]),
            ("too long", &[("login_hint", &long)]),
            ("line end", &[("login_hint", "a\r\nb")]),
            ("null byte", &[("acr_values", "a\0")]),
            ("none beside another prompt", &[("prompt", "none login")]),
            ("negative age", &[("max_age", "-1")]),
            ("age in words", &[("max_age", "1h")]),
            ("age out of bounds", &[("max_age", "99999999999")]),
            ("locales with markup", &[("ui_locales", "en<script>")]),
            ("a scope that is not configured", &[("scope", "openid admin")]),
            ("scopes without openid", &[("scope", "profile")]),
        ];
        for (name, pairs) in cases {
            assert!(
                matches!(requested(pairs, Caller::Fetch), Err(Error::InvalidRequest(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_protocol_parameter_can_be_set_by_nobody() {
        for name in PROTOCOL {
            let refused = requested(&[(name, "x")], Caller::Fetch);
            assert!(matches!(refused, Err(Error::InvalidRequest(_))), "{name}");
            for caller in [Caller::Navigation, Caller::CrossSiteNavigation] {
                assert!(requested(&[(name, "x")], caller).unwrap().0.is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn a_navigation_leaves_out_what_it_does_not_know() {
        let pairs = [
            ("utm_source", "mail"),
            ("prompt", "login"),
            ("client_id", "evil"),
            ("audience", "x"),
        ];
        let parameters = requested(&pairs, Caller::Navigation).unwrap();
        assert_eq!(parameters.0, [("prompt".to_owned(), "login".to_owned())]);
        let twice = requested(&[("prompt", "login"), ("prompt", "none")], Caller::Navigation);
        assert!(matches!(twice, Err(Error::InvalidRequest(_))));
    }

    #[test]
    fn another_site_chooses_the_language_and_nothing_else() {
        let pairs = [
            ("scope", "openid orders"),
            ("prompt", "none"),
            ("prompt", "none login"),
            ("login_hint", "victim"),
            ("resource", "x"),
            ("ui_locales", "de"),
        ];
        let parameters = requested(&pairs, Caller::CrossSiteNavigation).unwrap();
        assert_eq!(parameters.0, [("ui_locales".to_owned(), "de".to_owned())]);
    }

    #[test]
    fn parameters_without_a_value_count_as_omitted() {
        assert_eq!(
            requested(&[("prompt", ""), ("scope", "")], Caller::Fetch)
                .unwrap()
                .0,
            []
        );
    }

    fn url(provider: Provider, metadata: Metadata, requested: &RequestedParameters) -> Url {
        let request = AuthorizationRequest {
            redirect_uri: "https://shop.example.com/auth/callback",
            state: "st&te",
            nonce: "n=nce",
            code_challenge: "challenge",
            dpop_jkt: None,
            requested,
        };
        with_context(metadata, |context| {
            match request.begin(&std::sync::Arc::new(provider), context) {
                Ok(Step::Done(url)) => url,
                _ => panic!("it needs no conversation"),
            }
        })
    }

    #[test]
    fn the_request_carries_every_parameter_of_the_code_flow_once() {
        let url = url(provider(), metadata(), &RequestedParameters::default());
        assert_eq!(
            url.as_str(),
            "https://login.example.com/authorize?response_type=code&client_id=shop\
             &redirect_uri=https%3A%2F%2Fshop.example.com%2Fauth%2Fcallback&scope=openid+profile+orders\
             &state=st%26te&nonce=n%3Dnce&code_challenge=challenge&code_challenge_method=S256"
        );
    }

    #[test]
    fn nobody_adds_a_second_value_to_a_parameter_of_ours() {
        let mut provider = provider();
        provider.authorization_parameters = vec![
            ("redirect_uri".to_owned(), "https://evil.example.com".to_owned()),
            ("response_mode".to_owned(), "fragment".to_owned()),
            ("scope".to_owned(), "openid admin".to_owned()),
            ("audience".to_owned(), "orders".to_owned()),
        ];
        let metadata = metadata_with(&[(
            "authorization_endpoint",
            json!("https://login.example.com/authorize?p=policy&state=fixed&client_id=x&p=second"),
        )]);
        // Built by hand: no constructor lets the first two through.
        let requested = RequestedParameters(vec![
            ("state".to_owned(), "evil".to_owned()),
            ("audience".to_owned(), "evil".to_owned()),
            (
                "login_hint".to_owned(),
                "a&redirect_uri=https://evil.example.com".to_owned(),
            ),
            ("scope".to_owned(), "openid".to_owned()),
        ]);
        let url = url(provider, metadata, &requested);
        let mut counts = HashMap::new();
        for (name, value) in url.query_pairs() {
            counts
                .entry(name.into_owned())
                .or_insert_with(Vec::new)
                .push(value.into_owned());
        }
        assert_eq!(counts["redirect_uri"], ["https://shop.example.com/auth/callback"]);
        assert_eq!(counts["client_id"], ["shop"]);
        assert_eq!(counts["state"], ["st&te"]);
        assert_eq!(counts["scope"], ["openid"]);
        assert_eq!(counts["audience"], ["orders"]);
        assert_eq!(counts["login_hint"], ["a&redirect_uri=https://evil.example.com"]);
        assert_eq!(
            counts["p"],
            ["policy", "second"],
            "the endpoint's own query is kept"
        );
        assert!(!counts.contains_key("response_mode"));
        assert_eq!(url.fragment(), None);
    }

    #[test]
    fn settings_of_their_own_go_into_the_request_and_nobody_adds_to_them() {
        let mut provider = provider();
        provider.authorization.response_mode = ResponseMode::QueryJwt;
        provider.authorization.claims = Some(r#"{"id_token":{"acr":null}}"#.to_owned());
        provider.authorization.resource =
            vec!["https://a.example".to_owned(), "https://b.example".to_owned()];
        provider.allowed_parameters = vec!["resource".to_owned(), "claims".to_owned()];
        for name in ["resource", "claims", "response_mode"] {
            let refused = RequestedParameters::parse([(name, "x")], &provider, Caller::Fetch);
            assert!(matches!(refused, Err(Error::InvalidRequest(_))), "{name}");
        }
        // Built by hand: no constructor lets these through.
        let requested = RequestedParameters(vec![
            ("resource".to_owned(), "https://evil.example".to_owned()),
            ("claims".to_owned(), "{}".to_owned()),
        ]);
        let url = url(provider, metadata(), &requested);
        let values = |wanted: &str| -> Vec<String> {
            url.query_pairs()
                .filter(|(name, _)| name == wanted)
                .map(|(_, value)| value.into_owned())
                .collect()
        };
        assert_eq!(values("response_mode"), ["query.jwt"]);
        assert_eq!(values("claims"), [r#"{"id_token":{"acr":null}}"#]);
        assert_eq!(values("resource"), ["https://a.example", "https://b.example"]);
    }

    #[test]
    fn a_code_is_read_with_its_state_and_issuer() {
        let cases = [
            (
                "code=a%2Bb&state=s&iss=https%3A%2F%2Flogin.example.com",
                "a+b",
                Some(ISSUER),
            ),
            ("state=s&code=a+b", "a b", None),
            (
                "&&state=s&&code=abc&session_state=x&session_state=y&authuser=0&=&x",
                "abc",
                None,
            ),
            ("code=abc&state=s&error=", "abc", None),
            ("code=abc&state=s&iss=", "abc", Some("")),
        ];
        for (query, expected, issuer) in cases {
            let response = AuthorizationResponse::parse(query).expect(query);
            assert_eq!((response.state(), response.iss()), ("s", issuer), "{query}");
            let AuthorizationResponse::Code { code, .. } = response else {
                panic!("{query}")
            };
            assert_eq!(code.expose(), expected, "{query}");
        }
    }

    #[test]
    fn an_error_is_reduced_to_its_registered_code() {
        let cases = [
            ("error=access_denied&state=s", Some("access_denied")),
            (
                "error=login_required&state=s&error_description=%3Cscript%3E",
                Some("login_required"),
            ),
            ("error=Access_Denied&state=s", None),
            ("error=%3Cscript%3E&state=s", None),
            ("error=access_denied%00&state=s&code=", None),
        ];
        for (query, expected) in cases {
            match AuthorizationResponse::parse(query) {
                Ok(AuthorizationResponse::Refused {
                    error,
                    state,
                    iss: None,
                }) => {
                    assert_eq!((error, state.as_str()), (expected, "s"), "{query}");
                }
                _ => panic!("{query}"),
            }
        }
    }

    #[test]
    fn ambiguous_and_malformed_responses_are_refused() {
        let many = format!("code=a&state=s{}", "&x=1".repeat(63));
        let long = format!("code=a&state=s&x={}", "a".repeat(16 * 1024));
        let long_state = format!("code=a&state={}", "s".repeat(513));
        let long_code = format!("state=s&code={}", "c".repeat(8 * 1024 + 1));
        let cases = [
            ("nothing", ""),
            ("only separators", "&"),
            ("more separators", "&&==&=&"),
            ("state alone", "state=s"),
            ("both code and error", "code=a&error=access_denied&state=s"),
            ("code twice", "code=a&code=a&state=s"),
            ("code twice by encoding", "code=a&c%6fde=b&state=s"),
            ("state twice", "code=a&state=s&state=s"),
            ("state twice, once empty", "code=a&state=&state=s"),
            ("iss twice", "code=a&state=s&iss=a&iss=b"),
            ("error twice", "error=a&error=b&state=s"),
            (
                "error_description twice",
                "error=a&error_description=b&error_description=b&state=s",
            ),
            ("error_uri twice", "error=a&error_uri=b&error_uri=b&state=s"),
            ("response twice", "code=a&state=s&response=a&response=b"),
            ("a signed response beside a code", "code=a&state=s&response=a"),
            ("a signed response alone", "response=a.b.c"),
            ("an empty one beside a code", "code=a&state=s&response="),
            ("id_token twice", "code=a&state=s&id_token=a&id_token=b"),
            (
                "access_token twice",
                "code=a&state=s&access_token=a&access_token=b",
            ),
            ("a line end in code", "code=a%0d%0ab&state=s"),
            ("state not ascii", "code=a&state=%ff"),
            ("iss with a null byte", "code=a&state=s&iss=%00"),
            ("too many parameters", &many),
            ("too long", &long),
            ("state too long", &long_state),
            ("code too long", &long_code),
        ];
        for (name, query) in cases {
            assert!(
                matches!(AuthorizationResponse::parse(query), Err(Error::InvalidRequest(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_response_that_a_page_hands_on_has_the_same_bound() {
        for (length, good) in [(16_000, true), (17_000, false)] {
            let padding = "x".repeat(length);
            let response = AuthorizationResponse::from_pairs([
                ("code", "a"),
                ("state", "s"),
                ("session_state", &padding),
            ]);
            assert_eq!(response.is_ok(), good, "{length}");
        }
    }

    #[test]
    fn a_response_without_state_belongs_to_no_sign_in() {
        for query in [
            "code=a",
            "code=a&state=",
            "error=access_denied",
            "error=access_denied&state=",
        ] {
            let refused = AuthorizationResponse::parse(query);
            assert!(matches!(refused, Err(Error::LoginStateInvalid(_))), "{query}");
        }
    }

    #[test]
    fn the_issuer_must_match_and_be_there_where_announced() {
        let announced = metadata();
        let silent = metadata_with(&[("authorization_response_iss_parameter_supported", json!(false))]);
        let cases = [
            ("equal", Some(ISSUER), &announced, true),
            ("equal, not announced", Some(ISSUER), &silent, true),
            ("missing, announced", None, &announced, false),
            ("missing, not announced", None, &silent, true),
            ("wrong", Some("https://evil.example.com"), &announced, false),
            (
                "wrong, not announced",
                Some("https://evil.example.com"),
                &silent,
                false,
            ),
            (
                "trailing slash",
                Some("https://login.example.com/"),
                &silent,
                false,
            ),
            ("case", Some("https://Login.example.com"), &silent, false),
            ("prefix", Some("https://login.example"), &silent, false),
            ("empty", Some(""), &silent, false),
        ];
        for (name, iss, metadata, good) in cases {
            assert_eq!(issuer_matches(iss, metadata), good, "{name}");
        }
    }
}
