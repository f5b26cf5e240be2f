//! Rows of token introspection (RFC 7662, RFC 9701), judged by what the routes ask for.
//!
//! Whether this client may introspect, and is registered for signed answers, no metadata says.

use coatroom_core::config::IntrospectionResponse;
use coatroom_core::oauth::JwkSet;

use super::{Asked, Member, Verdict, failed, good, unclear};

/// The endpoint.
pub(super) fn endpoint(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let routes = asked.application.routes.iter();
    let many = routes.filter(|route| route.introspection.is_some()).count();
    match (many, member.is_there()) {
        (0, _) => None,
        (1, true) => good("offered, and asked about the tokens of one route"),
        (_, true) => good(format!("offered, and asked about the tokens of {many} routes")),
        (_, false) => failed(
            "not offered, and each call of a route with `token.introspection` needs it",
            "enable introspection for this client at the provider, or remove `token.introspection`",
        ),
    }
}

/// What its signed answers are signed with.
pub(super) fn algorithms(member: &Member<'_>, asked: &Asked<'_>) -> Option<Verdict> {
    let mut routes = asked.application.routes.iter();
    let is_signed = routes.any(|route| {
        let introspection = route.introspection.as_deref();
        introspection.is_some_and(|asked| asked.response == IntrospectionResponse::Jwt)
    });
    if !is_signed {
        return None;
    }
    let Some(offered) = member.values() else {
        return unclear(
            "the provider does not say that it signs answers about tokens (RFC 9701)",
            "if calls are answered `provider_error`: `introspection: {response: phantom_token}`, or `json`",
        );
    };
    let accepted: Vec<&str> = offered.into_iter().filter(|name| JwkSet::accepts(name)).collect();
    match accepted.is_empty() {
        false => good(format!("{} would be accepted", accepted.join(", "))),
        true => failed(
            "none of `introspection_signing_alg_values_supported` is accepted: they must be signed with a private key",
            "register the client with `introspection_signed_response_alg` ES256, PS256, RS256 or EdDSA",
        ),
    }
}

#[cfg(test)]
mod tests {
    use coatroom_core::config::{IntrospectionConfig, RouteConfig, RouteTargetConfig, TokenConfig};
    use serde_json::{Value, json};

    use super::super::State;
    use super::super::tests::judged_as;

    #[test]
    fn what_routes_ask_about_their_tokens_has_to_be_offered() {
        use State::{Failed, Unclear};
        let endpoint = json!("https://login.example.com/introspect");
        let (not_there, algorithms) = (("introspection", Failed), "signed introspection");
        for (response, endpoint, offered, expected) in [
            (None, Value::Null, Value::Null, vec![]),
            (Some("json"), endpoint.clone(), Value::Null, vec![]),
            (Some("json"), Value::Null, Value::Null, vec![not_there]),
            (Some("phantom_token"), endpoint.clone(), Value::Null, vec![]),
            (
                Some("jwt"),
                endpoint.clone(),
                Value::Null,
                vec![(algorithms, Unclear)],
            ),
            (Some("jwt"), endpoint.clone(), json!(["ES256"]), vec![]),
            (
                Some("jwt"),
                endpoint.clone(),
                json!(["HS256"]),
                vec![(algorithms, Failed)],
            ),
            (Some("jwt"), Value::Null, json!(["ES256"]), vec![not_there]),
        ] {
            let members = [
                ("introspection_endpoint", endpoint.clone()),
                ("introspection_signing_alg_values_supported", offered.clone()),
            ];
            let found = judged_as(
                |config| {
                    let target = RouteTargetConfig::Upstream("http://127.0.0.1:5000".to_owned());
                    config.routes.push(RouteConfig {
                        token: response.map(|response| TokenConfig {
                            introspection: Some(IntrospectionConfig {
                                response: Some(response.to_owned()),
                                ..IntrospectionConfig::default()
                            }),
                            ..TokenConfig::default()
                        }),
                        ..RouteConfig::new("/api", target)
                    });
                },
                &members,
            );
            assert_eq!(found, expected, "{response:?} {endpoint} {offered}");
        }
    }
}
