//! What a provider says of pushed, signed and bound messages, beside the settings that ask for them.
//!
//! Rows of the one table (`advertised.rs`), judged as sign-ins judge them: what they would refuse is a
//! failure here, and what is offered and not asked for is no more than a hint. Nothing is tried here.

use coatroom_core::config::{PushedRequests, ResponseMode};
use coatroom_core::oauth::JwkSet;

use super::{Asked, Member, Verdict, failed, good, hint, unclear, warning};

/// Sign-ins refuse a mode that is not in a list that is there, but for the one that needs no asking.
pub(super) fn response_modes(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let mode = asked.provider.authorization.response_mode;
    let offers = |wanted| member.has(wanted);
    let name = mode.parameter().unwrap_or("query");
    let is_offered = match mode {
        ResponseMode::Jwt => offers("jwt")? || offers("query.jwt")?,
        ResponseMode::Query | ResponseMode::QueryJwt | ResponseMode::FormPost => offers(name)?,
    };
    match (is_offered, mode) {
        (true, ResponseMode::Query) => good("`query` is offered"),
        (true, _) => good(format!("`{name}` is offered, as configured")),
        (false, ResponseMode::Query) => warning(
            "`query` is not among `response_modes_supported`",
            "see whether the provider takes it all the same, under `redirect URI` below; else set `provider.response_mode`",
        ),
        (false, _) => failed(
            format!(
                "`{name}` is configured, and not among `response_modes_supported`: sign-ins refuse to begin"
            ),
            "change or remove `provider.response_mode`, or turn it on at the provider",
        ),
    }
}

pub(super) fn pushed_requests(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let is_offered = asked.has("pushed_authorization_request_endpoint");
    match (asked.provider.authorization.pushed, member.is_true(), is_offered) {
        (PushedRequests::Never, true, _) => failed(
            "the provider takes pushed authorization requests only (RFC 9126), and none is pushed",
            "remove `pushed_authorization_requests: never` from `provider`",
        ),
        (PushedRequests::Auto, true, false) => failed(
            "the provider takes pushed authorization requests only, and names no `pushed_authorization_request_endpoint`",
            "turn pushed authorization requests on at the provider, or take its requirement back",
        ),
        (PushedRequests::Required, _, false) => failed(
            "pushed requests are configured, and there is no `pushed_authorization_request_endpoint`",
            "turn pushed authorization requests on at the provider, or remove `provider.pushed_authorization_requests`",
        ),
        (PushedRequests::Never, false, true) => good("offered, and not used, as configured"),
        (PushedRequests::Auto | PushedRequests::Required, _, true) => {
            good("offered, and used: each request is pushed (RFC 9126)")
        }
        (PushedRequests::Never | PushedRequests::Auto, false, false) => None,
    }
}

pub(super) fn request_objects(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let Some(key) = &asked.provider.authorization.request_object else {
        return match member.is_true() {
            true => failed(
                "the provider takes signed request objects only (RFC 9101), and none is configured",
                "set `provider.request_object`, or take the requirement back for this client at the provider",
            ),
            false => None,
        };
    };
    let alg = key.alg();
    let listed = asked.member("request_object_signing_alg_values_supported");
    // RFC 9864 has a new name for what RFC 8037 calls EdDSA
    let is_listed = listed
        .has(alg)
        .map(|is_listed| is_listed || (alg == "EdDSA" && listed.has("Ed25519") == Some(true)));
    match is_listed {
        Some(false) => failed(
            format!(
                "`request_object` signs with {alg}, which is not among `request_object_signing_alg_values_supported`: \
                 sign-ins refuse to begin"
            ),
            "use a key or `algorithm` in `provider.request_object` that the provider takes",
        ),
        Some(true) => good(format!("signed with {alg}, as configured, and {alg} is offered")),
        None if asked.member("request_parameter_supported").is_false() => warning(
            "`request_object` is configured, and the provider says that it takes none (`request_parameter_supported`)",
            "see `redirect URI` below, which tries it; else remove `provider.request_object`, or turn them on there",
        ),
        None => good(format!(
            "signed with {alg}, as configured; the provider does not say what it takes"
        )),
    }
}

pub(super) fn dpop(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let offers_any = member.values().is_some_and(|offered| !offered.is_empty());
    match asked.provider.dpop {
        None if offers_any => hint(
            "offered, and not configured: tokens are bearer tokens",
            "`provider.dpop: true` binds them to a key of each session, if the APIs support it as well",
        ),
        None => None,
        Some(algorithm) => {
            let alg = algorithm.alg();
            match member.has(alg) {
                Some(true) => good(format!("{alg}, as configured")),
                Some(false) => failed(
                    format!(
                        "{alg} is configured, and not among `dpop_signing_alg_values_supported`: sign-ins refuse to begin"
                    ),
                    "set `provider.dpop.algorithm` to one that the provider takes (ES256 or EdDSA), or remove `provider.dpop`",
                ),
                None => unclear(
                    format!("{alg} is configured, and the provider does not say whether it knows DPoP"),
                    "see `client` below, which sends a proof; then try a sign-in",
                ),
            }
        }
    }
}

/// `tls_client_certificate_bound_access_tokens` (RFC 8705 §3.3), which is false where it is missing.
pub(super) fn bound_tokens(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let has_certificate = asked.provider.client_certificate.is_some();
    match (
        asked.provider.certificate_bound_access_tokens,
        member.is_true(),
        has_certificate,
    ) {
        (true, true, _) => good("access tokens are bound to the client certificate, as configured"),
        (true, false, _) => warning(
            "`certificate_bound_access_tokens` is configured, and the provider does not say that it binds tokens",
            "have the provider bind this client's access tokens to its certificate, or remove \
             `provider.certificate_bound_access_tokens`",
        ),
        (false, true, true) => hint(
            "bound access tokens are offered, and not configured",
            "`provider.certificate_bound_access_tokens: true`, where the provider binds this client's: APIs then have to see \
             the certificate",
        ),
        (false, true, false) => good("offered, and no client certificate is configured"),
        (false, false, _) => None,
    }
}

/// `mtls_endpoint_aliases` (RFC 8705 §5).
pub(super) fn mtls_aliases(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    asked.provider.client_certificate.as_ref()?;
    let aliases = member.0.and_then(serde_json::Value::as_object);
    match aliases.is_some_and(|aliases| aliases.contains_key("token_endpoint")) {
        true => good("the client certificate is shown at `mtls_endpoint_aliases`"),
        false => good(
            "there is no alias of the token endpoint: the client certificate is shown at the endpoint itself",
        ),
    }
}

/// `authorization_signing_alg_values_supported` (JARM §4).
pub(super) fn jarm(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let accepted = member
        .values()
        .map(|offered| offered.into_iter().any(JwkSet::accepts));
    match (asked.provider.authorization.response_mode.is_signed(), accepted) {
        (false, Some(true)) => hint(
            "signed answers are offered, and not configured",
            "`provider.response_mode: jwt` has the provider sign its answers",
        ),
        (false, _) => None,
        (true, Some(true)) => good("signed answers are offered, as configured"),
        (true, Some(false)) => failed(
            "signed answers are configured, and none of `authorization_signing_alg_values_supported` is accepted",
            "have the provider sign this client's answers with RS256, PS256, ES256 or EdDSA, or remove \
             `provider.response_mode`",
        ),
        (true, None) => {
            let modes = asked.member("response_modes_supported");
            let is_named = ["jwt", "query.jwt"]
                .into_iter()
                .any(|mode| modes.has(mode) == Some(true));
            match is_named {
                true => good("signed answers are offered, as configured"),
                false => failed(
                    "signed answers are configured, and nothing in the metadata offers them",
                    "turn JARM on for this client at the provider, or remove `provider.response_mode`",
                ),
            }
        }
    }
}

pub(super) fn end_session(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    match (&asked.provider.habits.logout_endpoint, member.is_there()) {
        (Some(_), _) => good("a sign-out here goes on at `provider.logout.endpoint`, as configured"),
        (None, true) => good("offered: a sign-out here ends the session at the provider as well"),
        (None, false) => warning(
            "there is no `end_session_endpoint`: who signs out here stays signed in at the provider",
            "turn RP-initiated logout on at the provider, or name its page for signing out in `provider.logout.endpoint`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use coatroom_core::config::{ClientCertificate, PrivateKeyPem, ProviderConfig, RequestObjectConfig};
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::{Value, json};

    use super::super::State;
    use super::super::tests::judged;

    type Change = fn(&mut ProviderConfig);

    /// Its name, the settings, the members of the document, and what is not good.
    type Case = (
        &'static str,
        Change,
        Vec<(&'static str, Value)>,
        &'static [(&'static str, State)],
    );

    fn key() -> PrivateKeyPem {
        PrivateKeyPem::new(KeyPair::generate().expect("a key").serialize_pem())
    }

    fn mode(config: &mut ProviderConfig, mode: &str) {
        config.authorization.response_mode = Some(mode.to_owned());
    }

    fn pushed(config: &mut ProviderConfig, pushed: &str) {
        config.authorization.pushed_authorization_requests = Some(pushed.to_owned());
    }

    fn signed(config: &mut ProviderConfig) {
        config.authorization.request_object = Some(RequestObjectConfig {
            key: key(),
            algorithm: None,
            kid: None,
        });
    }

    fn certificate(config: &mut ProviderConfig) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["shop.example.com".to_owned()]).expect("a name");
        config.client_certificate = Some(ClientCertificate {
            chain: params.self_signed(&key).expect("a certificate").pem(),
            key: PrivateKeyPem::new(key.serialize_pem()),
        });
    }

    fn bound(config: &mut ProviderConfig) {
        certificate(config);
        config.certificate_bound_access_tokens = true;
    }

    #[test]
    fn rows_are_judged_by_what_is_configured() {
        use State::{Failed, Unclear, Warning};
        const PAR: &str = "pushed_authorization_request_endpoint";
        const PAR_ONLY: &str = "require_pushed_authorization_requests";
        const SIGNED_ONLY: &str = "require_signed_request_object";
        const MODES: &str = "response_modes_supported";
        const JARM: &str = "authorization_signing_alg_values_supported";
        const ISS: &str = "authorization_response_iss_parameter_supported";
        const DPOP: &str = "dpop_signing_alg_values_supported";
        const BOUND: &str = "tls_client_certificate_bound_access_tokens";
        let endpoint = || (PAR, json!("https://login.example.com/par"));
        let bare: Change = |_| {};
        let jwt: Change = |config| mode(config, "jwt");
        let says_iss: Change = |config| config.authorization.require_iss = true;
        let es256: Change = |config| config.dpop = Some("ES256".to_owned());
        let cases: Vec<Case> = vec![
            (
                "pushed by itself",
                bare,
                vec![endpoint(), (PAR_ONLY, json!(true))],
                &[],
            ),
            (
                "no endpoint",
                bare,
                vec![(PAR_ONLY, json!(true))],
                &[("pushed requests", Failed)],
            ),
            (
                "a null",
                bare,
                vec![(PAR_ONLY, json!(true)), (PAR, Value::Null)],
                &[("pushed requests", Failed)],
            ),
            (
                "never",
                |config| pushed(config, "never"),
                vec![endpoint(), (PAR_ONLY, json!(true))],
                &[("pushed requests", Failed)],
            ),
            (
                "never, and fine",
                |config| pushed(config, "never"),
                vec![endpoint()],
                &[],
            ),
            (
                "required",
                |config| pushed(config, "required"),
                vec![endpoint()],
                &[],
            ),
            (
                "required, no endpoint",
                |config| pushed(config, "required"),
                vec![],
                &[("pushed requests", Failed)],
            ),
            (
                "signed, as it has to be",
                signed,
                vec![(SIGNED_ONLY, json!(true))],
                &[],
            ),
            (
                "not signed",
                bare,
                vec![(SIGNED_ONLY, json!(true))],
                &[("request objects", Failed)],
            ),
            (
                "another algorithm",
                signed,
                vec![("request_object_signing_alg_values_supported", json!(["RS256"]))],
                &[("request objects", Failed)],
            ),
            (
                "this algorithm",
                signed,
                vec![("request_object_signing_alg_values_supported", json!(["ES256"]))],
                &[],
            ),
            (
                "takes none",
                signed,
                vec![("request_parameter_supported", json!(false))],
                &[("request objects", Warning)],
            ),
            (
                "form_post",
                |config| mode(config, "form_post"),
                vec![(MODES, json!(["form_post"]))],
                &[],
            ),
            (
                "no form_post",
                |config| mode(config, "form_post"),
                vec![(MODES, json!(["query"]))],
                &[("response mode", Failed)],
            ),
            (
                "jwt by its long name",
                jwt,
                vec![(MODES, json!(["query.jwt"]))],
                &[],
            ),
            ("jwt, by its algorithms", jwt, vec![(JARM, json!(["ES256"]))], &[]),
            ("jwt, in no words", jwt, vec![], &[("JARM", Failed)]),
            (
                "jwt by a secret",
                jwt,
                vec![(JARM, json!(["HS256"]))],
                &[("JARM", Failed)],
            ),
            (
                "no jwt",
                jwt,
                vec![(MODES, json!(["query"])), (JARM, json!(["ES256"]))],
                &[("response mode", Failed)],
            ),
            ("iss, said", says_iss, vec![(ISS, json!(true))], &[]),
            (
                "iss, not said",
                says_iss,
                vec![],
                &[("iss in the answer", Failed)],
            ),
            ("proofs", es256, vec![(DPOP, json!(["ES256"]))], &[]),
            (
                "other proofs",
                es256,
                vec![(DPOP, json!(["RS256"]))],
                &[("DPoP", Failed)],
            ),
            ("proofs, in no words", es256, vec![], &[("DPoP", Unclear)]),
            ("bound", bound, vec![(BOUND, json!(true))], &[]),
            ("not bound", bound, vec![], &[("mutual TLS", Warning)]),
            (
                "a certificate",
                certificate,
                vec![
                    (BOUND, json!(true)),
                    (
                        "mtls_endpoint_aliases",
                        json!({"token_endpoint": "https://m.example.com/token"}),
                    ),
                ],
                &[],
            ),
            (
                "a page of its own",
                |config| config.habits.logout_endpoint = Some("https://login.example.com/out".to_owned()),
                vec![("end_session_endpoint", Value::Null)],
                &[],
            ),
            (
                "offered",
                bare,
                vec![
                    (DPOP, json!(["ES256"])),
                    (JARM, json!(["ES256"])),
                    (BOUND, json!(true)),
                ],
                &[],
            ),
        ];
        for (name, change, members, expected) in cases {
            assert_eq!(judged(change, &members), expected, "{name}");
        }
    }
}
