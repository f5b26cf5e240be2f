//! Back-channel and front-channel logout, and the list of sessions: where they are, who may call
//! them, and what is refused before a store is asked anything.

use std::time::Duration;

use coatroom_core::config::{SessionStorage, StoreKind, StoreSettings};
use coatroom_core::secret::Secret;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::support::browser::{Answer, Browser};
use crate::support::faulty_store::FaultyStore;
use crate::support::{CLIENT_SECRET, Rig};

const BACK: &str = "/auth/backchannel-logout";
const FRONT: &str = "/auth/frontchannel-logout";
const FORM: &str = "application/x-www-form-urlencoded";

/// The settings of a store.
fn memory() -> Box<StoreSettings> {
    Box::new(StoreSettings {
        kind: StoreKind::Memory,
        url: Secret::new("memory"),
        ca: None,
        prefix: "coatroom:".to_owned(),
        timeout: Duration::from_secs(2),
    })
}

/// An application whose sessions are in cookies, and ended ones in a store.
async fn revocable() -> Rig {
    Rig::with(|config| config.session.storage = SessionStorage::CookieWithRevocations(memory())).await
}

/// A call that no browser of ours makes: no custom header, no Origin, and a `Host`.
async fn call(
    browser: &Browser,
    method: &Method,
    target: &str,
    lines: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = Request::builder()
        .method(method.clone())
        .uri(target)
        .header(header::HOST, "shop.example");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    let request = request.body(body.to_owned().into()).expect("a good request");
    browser.send(request).await
}

async fn post(browser: &Browser, body: &str) -> Answer {
    call(browser, &Method::POST, BACK, &[("content-type", FORM)], body).await
}

#[tokio::test]
async fn without_a_store_nobody_lists_or_ends_sessions_from_outside() {
    for (rig, there) in [(Rig::new().await, false), (revocable().await, true)] {
        let browser = rig.signed_in().await;
        for (method, path, with_revocations) in [
            (Method::POST, BACK, true),
            (Method::GET, BACK, true),
            (Method::GET, FRONT, true),
            (Method::GET, "/auth/sessions", false),
            (Method::DELETE, "/auth/sessions", false),
            (Method::DELETE, "/auth/sessions/AAAAAAAAAAA", false),
            (Method::DELETE, "/auth/sessions/short", false),
        ] {
            let answer = browser.send(browser.fetch_request(&method, path, "")).await;
            let missing =
                (answer.status, answer.error_code().as_str()) == (StatusCode::NOT_FOUND, "not_found");
            assert_eq!(missing, !(there && with_revocations), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_providers_endpoints_take_one_method_each() {
    let rig = revocable().await;
    let browser = rig.browser();
    for (path, method, other) in [(BACK, "POST", Method::GET), (FRONT, "GET", Method::POST)] {
        for wrong in [other, Method::HEAD, Method::PUT, Method::OPTIONS] {
            let answer = call(&browser, &wrong, path, &[], "").await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{wrong} {path}");
            assert_eq!(answer.headers["allow"], method, "{wrong} {path}");
        }
    }
}

#[tokio::test]
async fn the_providers_calls_need_no_header_no_origin_and_no_cookie() {
    let rig = revocable().await;
    let signed_in = rig.signed_in().await;
    let cookies: Vec<String> = signed_in
        .jar
        .iter()
        .map(|cookie| format!("{}={}", cookie.name, cookie.value))
        .collect();
    let cookies = cookies.join("; ");
    // as a server calls, as a frame of the provider's does, and with cookies that nobody reads
    let callers: [&[(&str, &str)]; 4] = [
        &[],
        &[
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "iframe"),
        ],
        &[
            ("origin", "https://login.example"),
            ("sec-fetch-site", "cross-site"),
        ],
        &[("cookie", &cookies)],
    ];
    for caller in callers {
        let mut lines = vec![("content-type", FORM)];
        lines.extend_from_slice(caller);
        let back = call(&signed_in, &Method::POST, BACK, &lines, "logout_token=x.y.z").await;
        let front = call(&signed_in, &Method::GET, FRONT, caller, "").await;
        for answer in [back, front] {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{caller:?}");
            assert_eq!(answer.error_code(), "invalid_request", "{caller:?}");
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert!(!answer.headers.contains_key("set-cookie"));
            assert!(!answer.headers.contains_key("access-control-allow-origin"));
        }
    }
    assert!(
        signed_in.clone().is_signed_in().await,
        "nobody was signed out by this"
    );
}

#[tokio::test]
async fn a_forged_or_foreign_logout_token_is_refused_with_its_reason() {
    let rig = revocable().await;
    let browser = rig.browser();
    let token = |changes: Value| rig.provider.logout_token(&changes);
    let good = token(json!({}));
    let (signed, _) = good.rsplit_once('.').expect("three parts");
    let cases = [
        ("no parameter", String::new(), "`logout_token` is missing"),
        (
            "twice",
            format!("logout_token={good}&logout_token={good}"),
            "a parameter occurs more than once",
        ),
        (
            "without its signature",
            format!("logout_token={signed}."),
            "its signature is wrong",
        ),
        (
            "of another issuer",
            format!("logout_token={}", token(json!({"iss": "https://evil.example"}))),
            "`iss` is not the issuer",
        ),
        (
            "for another client",
            format!("logout_token={}", token(json!({"aud": "other"}))),
            "`aud` does not contain `client_id`",
        ),
        (
            "expired",
            format!("logout_token={}", token(json!({"exp": 1_000}))),
            "it has expired (`exp`)",
        ),
        (
            "an ID token",
            format!("logout_token={}", token(json!({"events": null, "nonce": "n"}))),
            "`events` is missing",
        ),
        (
            "with a nonce",
            format!("logout_token={}", token(json!({"nonce": "n"}))),
            "`nonce` is forbidden",
        ),
        (
            "nobody's",
            format!("logout_token={}", token(json!({"sub": null, "sid": null}))),
            "neither `sub` nor `sid`",
        ),
    ];
    for (name, body, why) in cases {
        let answer = post(&browser, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
        let detail = answer.json()["detailed_error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(detail.contains(why), "{name}: {detail}");
        for secret in [CLIENT_SECRET, "alice", "provider-session", "evil"] {
            assert!(!answer.body.contains(secret), "{name}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_flood_of_forged_logout_tokens_fetches_keys_no_more_than_three_times() {
    let rig = revocable().await;
    let browser = rig.signed_in().await;
    let before = rig.provider.script().jwks_requests;
    {
        let mut script = rig.provider.script();
        script.jwks_kid = Some(script.kid.clone());
        script.kid = "nobody-knows".to_owned();
    }
    for _ in 0..50 {
        let token = rig.provider.logout_token(&json!({}));
        let answer = post(&browser, &format!("logout_token={token}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(
            answer.body.contains("no key of the provider's jwk set"),
            "{}",
            answer.body
        );
    }
    let fetched = rig.provider.script().jwks_requests - before;
    assert!((1..=3).contains(&fetched), "{fetched}");
}

#[tokio::test]
async fn an_outage_of_the_provider_is_no_fault_of_a_logout_token() {
    let rig = revocable().await;
    let token = rig.provider.logout_token(&json!({}));
    rig.provider.script().discovery_down = true;
    let answer = post(&rig.browser(), &format!("logout_token={token}")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.error_code(), "provider_unavailable");
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn while_the_store_is_away_a_logout_token_is_to_come_again() {
    for rig in [Rig::stored().await, Rig::with_revocations().await] {
        let store = FaultyStore::before(rig.store.clone());
        let rig = rig.behind(store.clone());
        let mut browser = rig.signed_in().await;
        let body = format!("logout_token={}", rig.provider.logout_token(&json!({})));
        store.set_away(true);
        let answer = post(&browser, &body).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.error_code(), "store_unavailable");
        assert!(answer.headers.contains_key("retry-after"));
        store.set_away(false);
        assert!(browser.is_signed_in().await, "nothing happened");
        // the same token, which was not used yet
        assert_eq!(post(&browser, &body).await.status, StatusCode::OK);
        assert!(!browser.is_signed_in().await);
    }
}

#[tokio::test]
async fn a_front_channel_call_without_issuer_and_session_is_refused() {
    let rig = revocable().await;
    let browser = rig.signed_in().await;
    let issuer = rig.provider.issuer.clone();
    for query in [
        "?sid=provider-session".to_owned(),
        format!("?iss={issuer}"),
        format!("?iss={issuer}/&sid=provider-session"),
        format!("?iss={issuer}&sid=provider-session&sid=other"),
        "?iss=https://evil.example&sid=provider-session".to_owned(),
    ] {
        let answer = call(&browser, &Method::GET, &format!("{FRONT}{query}"), &[], "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(!answer.headers.contains_key("set-cookie"), "{query}");
    }
    assert!(browser.clone().is_signed_in().await);
    assert!(rig.provider.script().revoked.is_empty());
}
