//! Authorization requests that are pushed, signed, or both: every way into the provider takes them.

use coatroom_core::config::{AuthorizationConfig, PrivateKeyPem, RequestObjectConfig};
use http::{Method, StatusCode};
use serde_json::json;

use crate::support::browser::{Browser, Site};
use crate::support::provider::Fault;
use crate::support::provider::front::client_key_pem;
use crate::support::{Rig, START, provider_of};

async fn rig(change: impl FnOnce(&mut AuthorizationConfig)) -> Rig {
    Rig::with(|config| change(&mut provider_of(config).authorization)).await
}

/// At a provider that takes pushed requests only.
async fn pushing() -> Rig {
    let rig = rig(|_| {}).await;
    rig.provider.offer_par(true);
    rig
}

fn signing(config: &mut AuthorizationConfig) {
    config.request_object = Some(RequestObjectConfig {
        key: PrivateKeyPem::new(client_key_pem()),
        algorithm: None,
        kid: Some("client-key".to_owned()),
    });
}

fn pending(browser: &Browser) -> usize {
    let names = browser.jar.iter().map(|cookie| &cookie.name);
    names.filter(|name| name.contains("-login-")).count()
}

fn names(url: &str) -> Vec<String> {
    let url = url::Url::parse(url).expect("a URL");
    url.query_pairs().map(|(name, _)| name.into_owned()).collect()
}

#[tokio::test]
async fn what_is_pushed_signs_in_by_fetch_and_by_navigation_and_shows_the_browser_nothing() {
    let in_cookies = pushing().await;
    let in_a_store = Rig::stored().await;
    in_a_store.provider.offer_par(true);
    for rig in [in_cookies, in_a_store] {
        let mut browser = rig.browser();
        let started = browser.fetch(Method::POST, "/auth/login/start", "").await;
        let json = started.json();
        let url = json["authorization_url"].as_str().expect("a URL");
        assert_eq!(names(url), ["client_id", "request_uri"]);
        let callback = rig.provider.approve(url, "alice");
        let answer = browser
            .navigate(&format!("/auth/callback?{callback}"), Site::Cross)
            .await;
        assert_eq!(answer.location(), "https://shop.example/");
        assert!(browser.is_signed_in().await);

        let mut other = rig.browser();
        let answer = other.navigate("/auth/login?return_to=/deep", Site::Same).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert_eq!(names(answer.location()), ["client_id", "request_uri"]);
        let callback = rig.provider.approve(answer.location(), "bob");
        let answer = other
            .navigate(&format!("/auth/callback?{callback}"), Site::Cross)
            .await;
        assert_eq!(answer.location(), "https://shop.example/deep");
        assert!(other.is_signed_in().await);
        assert_eq!(rig.provider.script().front.par_requests, [201, 201]);
    }
}

#[tokio::test]
async fn a_request_uri_works_once_and_nobody_else_sets_one() {
    let rig = pushing().await;
    let mut browser = rig.browser();
    let started = browser.fetch(Method::POST, "/auth/login/start", "").await;
    let json = started.json();
    let url = json["authorization_url"].as_str().expect("a URL");
    rig.provider.approve(url, "alice");
    assert!(rig.provider.requested(url).is_err(), "the provider takes it once");
    for parameter in ["request_uri=urn:evil", "request=a.b.c", "client_id=evil"] {
        let refused = browser.fetch(Method::POST, "/auth/login/start", parameter).await;
        assert_eq!(refused.error_code(), "invalid_request", "{parameter}");
        let target = format!("/auth/login?{parameter}");
        let linked = browser.navigate(&target, Site::Same).await;
        assert!(!linked.location().contains("evil"), "{parameter}");
        assert!(rig.provider.requested(linked.location()).is_ok(), "{parameter}");
    }
}

#[tokio::test]
async fn when_a_request_cannot_be_pushed_nobody_is_signed_out_and_nothing_is_pending() {
    struct Case {
        name: &'static str,
        fault: Fault,
        status: u16,
        code: &'static str,
    }
    let json = "application/json";
    let unavailable = (503, "provider_unavailable");
    let unusable = (502, "provider_error");
    let case = |name, fault, (status, code)| Case {
        name,
        fault,
        status,
        code,
    };
    let cases = [
        case("it is down", Fault::Answer(503, "text/html", "<h1>"), unavailable),
        case("it is slow", Fault::Answer(429, json, "{}"), unavailable),
        case(
            "the client is refused",
            Fault::Answer(401, json, r#"{"error":"invalid_client"}"#),
            unusable,
        ),
        case(
            "the request is refused",
            Fault::Answer(400, json, r#"{"error":"invalid_request"}"#),
            unusable,
        ),
        case("nonsense", Fault::Answer(201, "text/html", "<h1>"), unusable),
        case("a redirect", Fault::Answer(302, json, ""), unusable),
    ];
    let rig = pushing().await;
    let mut browser = rig.signed_in().await;
    for case in cases {
        rig.provider.script().front.par_fault = Some(case.fault);
        let answer = browser.fetch(Method::POST, "/auth/login/start", "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.error_code().as_str()),
            (case.status, case.code),
            "{}",
            case.name
        );
        assert_eq!(
            answer.headers.contains_key("retry-after"),
            case.status == 503,
            "{}",
            case.name
        );
        let answer = browser.navigate("/auth/login", Site::Same).await;
        assert_eq!(
            answer.location(),
            format!("https://shop.example/?login_error={}", case.code),
            "{}",
            case.name
        );
        assert_eq!(pending(&browser), 0, "{}", case.name);
        assert!(browser.is_signed_in().await, "{}", case.name);
    }
    rig.provider.script().front.par_fault = None;
    browser.sign_in(&rig.provider, "alice").await;
}

#[tokio::test]
async fn what_metadata_and_configuration_disagree_about_signs_nobody_in() {
    let word = |word: &'static str| {
        move |config: &mut AuthorizationConfig| config.pushed_authorization_requests = Some(word.to_owned())
    };
    let required_without_endpoint = rig(word("required")).await;
    let never = rig(word("never")).await;
    never.provider.offer_par(true);
    let unsigned = rig(|_| {}).await;
    unsigned.provider.script().metadata = json!({"require_signed_request_object": true});
    let another_mode = rig(|config| config.response_mode = Some("jwt".to_owned())).await;
    another_mode.provider.script().metadata = json!({"response_modes_supported": ["query"]});
    for rig in [required_without_endpoint, never, unsigned, another_mode] {
        let mut browser = rig.browser();
        let answer = browser.fetch(Method::POST, "/auth/login/start", "").await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (StatusCode::BAD_GATEWAY, "provider_error")
        );
        let answer = browser.navigate("/auth/login", Site::Same).await;
        assert_eq!(
            answer.location(),
            "https://shop.example/?login_error=provider_error"
        );
        assert_eq!(pending(&browser), 0);
    }
    let willing = rig(word("never")).await;
    willing.provider.offer_par(false);
    willing.browser().sign_in(&willing.provider, "alice").await;
    assert!(willing.provider.script().front.par_requests.is_empty());
}

#[tokio::test]
async fn every_restart_is_pushed_too() {
    let rig = pushing().await;
    // a sign-in that nobody knows
    let callback = rig.browser().start(&rig.provider, "alice").await;
    let mut browser = rig.browser();
    let restarted = browser.navigate(&callback, Site::Cross).await;
    assert_eq!(names(restarted.location()), ["client_id", "request_uri"]);
    // one that took too long
    let callback = rig.provider.approve(restarted.location(), "alice");
    browser.jar.clear();
    let given_up = browser
        .navigate(&format!("/auth/callback?{callback}"), Site::Cross)
        .await;
    assert!(given_up.location().contains("login_error=login_state_invalid"));
    // a code that the provider does not take
    let callback = browser.start(&rig.provider, "alice").await;
    rig.provider.script().token_fault = Some(Fault::Answer(
        400,
        "application/json",
        r#"{"error":"invalid_grant"}"#,
    ));
    let restarted = browser.navigate(&callback, Site::Cross).await;
    assert_eq!(names(restarted.location()), ["client_id", "request_uri"]);
    assert_eq!(pending(&browser), 1, "the one that failed is gone");
    rig.provider.script().token_fault = None;
    let callback = rig.provider.approve(restarted.location(), "alice");
    let answer = browser
        .navigate(&format!("/auth/callback?{callback}"), Site::Cross)
        .await;
    assert_eq!(answer.location(), "https://shop.example/");
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn a_restart_that_cannot_be_pushed_ends_in_the_app_and_clears_what_was_pending() {
    let rig = pushing().await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    rig.provider.script().token_fault = Some(Fault::Answer(
        400,
        "application/json",
        r#"{"error":"invalid_grant"}"#,
    ));
    rig.provider.script().front.par_fault = Some(Fault::Answer(503, "text/plain", ""));
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert_eq!(
        answer.location(),
        "https://shop.example/?login_error=provider_unavailable"
    );
    assert_eq!(pending(&browser), 0);
}

#[tokio::test]
async fn a_step_up_is_pushed_with_what_it_asks_for_and_is_still_for_its_user() {
    let rig = pushing().await;
    let mut browser = rig.signed_in().await;
    for (user, stepped_up) in [("mallory", false), ("alice", true)] {
        let started = browser
            .fetch(Method::POST, "/auth/login/start", "acr_values=phr&max_age=0")
            .await;
        let json = started.json();
        let url = json["authorization_url"].as_str().expect("a URL");
        assert_eq!(names(url), ["client_id", "request_uri"]);
        let callback = rig.provider.approve(url, user);
        {
            let mut script = rig.provider.script();
            script.claims = json!({"acr": "phr", "auth_time": START.0});
            assert_eq!(script.front.requested["acr_values"], "phr");
            assert_eq!(script.front.requested["max_age"], "0");
        }
        let answer = browser
            .navigate(&format!("/auth/callback?{callback}"), Site::Cross)
            .await;
        assert_eq!(!answer.location().contains("login_error"), stepped_up, "{user}");
        assert_eq!(browser.session().await["id_token_claims"]["sub"], "alice");
    }
}

#[tokio::test]
async fn a_signed_request_is_understood_in_the_url_and_pushed() {
    for pushed in [false, true] {
        let rig = rig(|config| {
            signing(config);
            config.claims = Some(json!({"id_token": {"acr": {"essential": true}}}));
            config.resource = vec!["https://a.example".to_owned(), "https://b.example".to_owned()];
        })
        .await;
        if pushed {
            rig.provider.offer_par(true);
        }
        let mut browser = rig.browser();
        let body = "max_age=60&login_hint=%22%3C%C3%A4";
        let started = browser.fetch(Method::POST, "/auth/login/start", body).await;
        let json = started.json();
        let url = json["authorization_url"].as_str().expect("a URL");
        let second = if pushed { "request_uri" } else { "request" };
        assert_eq!(names(url), ["client_id", second]);
        let callback = rig.provider.approve(url, "alice");
        {
            let mut script = rig.provider.script();
            script.claims = json!({"auth_time": START.0});
            let requested = &script.front.requested;
            assert_eq!(requested["login_hint"], "\"<ä");
            assert_eq!(requested["max_age"], "60");
            assert_eq!(requested["claims"], r#"{"id_token":{"acr":{"essential":true}}}"#);
            assert_eq!(
                requested["resource"],
                r#"["https://a.example","https://b.example"]"#
            );
        }
        let answer = browser
            .navigate(&format!("/auth/callback?{callback}"), Site::Cross)
            .await;
        assert_eq!(answer.location(), "https://shop.example/");
        assert!(browser.is_signed_in().await);
    }
}

#[tokio::test]
async fn what_the_operator_fixes_is_asked_for_in_every_way() {
    for pushed in [false, true] {
        let rig = Rig::with(|config| {
            let provider = provider_of(config);
            provider.authorization_parameters = vec![
                ("acr_values".to_owned(), "silver".to_owned()),
                ("max_age".to_owned(), "3600".to_owned()),
            ];
            provider.authorization.claims = Some(json!({"userinfo": {"email": null}}));
            provider.authorization.resource =
                vec!["https://a.example".to_owned(), "https://b.example".to_owned()];
        })
        .await;
        if pushed {
            rig.provider.offer_par(false);
        }
        let mut browser = rig.browser();
        browser.start(&rig.provider, "alice").await;
        {
            let script = rig.provider.script();
            let requested = &script.front.requested;
            assert_eq!(requested["acr_values"], "silver");
            assert_eq!(requested["max_age"], "3600");
            assert_eq!(requested["claims"], r#"{"userinfo":{"email":null}}"#);
            assert_eq!(requested["resource"], "https://a.example https://b.example");
        }
        for body in [
            "acr_values=bronze",
            "max_age=9",
            "claims={}",
            "resource=https://evil",
        ] {
            let refused = browser.fetch(Method::POST, "/auth/login/start", body).await;
            assert_eq!(refused.error_code(), "invalid_request", "{body}");
        }
    }
}
