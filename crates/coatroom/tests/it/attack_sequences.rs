//! Attacks that are a sequence of steps: sign-outs that do not stick, claims that do not change, users
//! who get each other's tokens, pages and redirects that say more than they should.

use std::collections::{HashMap, HashSet};

use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde_json::json;

use crate::support::Rig;
use crate::support::browser::{Browser, Site, StoredCookie};

fn session_cookies(browser: &Browser) -> Vec<StoredCookie> {
    let of_session = |name: &str| name.contains("-access") || name.contains("-session");
    browser
        .jar
        .iter()
        .filter(|cookie| of_session(&cookie.name))
        .cloned()
        .collect()
}

/// A browser in which a late answer has written these cookies over the present ones.
fn with_late_cookies(browser: &Browser, late: &[StoredCookie]) -> Browser {
    let mut browser = browser.clone();
    browser
        .jar
        .retain(|cookie| !late.iter().any(|old| old.name == cookie.name));
    browser.jar.extend(late.iter().cloned());
    browser
}

#[tokio::test]
async fn a_callback_keeps_the_tombstones_of_before() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let first = session_cookies(&browser);
    browser.fetch(Method::POST, "/auth/logout", "").await;
    // the callback is a navigation from another site: the tombstones are not sent along
    browser.sign_in(&rig.provider, "alice").await;
    let second = session_cookies(&browser);
    browser.sign_in(&rig.provider, "bob").await;
    assert!(browser.is_signed_in().await);
    for late in [&first, &second] {
        let mut late = with_late_cookies(&browser, late);
        assert!(!late.is_signed_in().await, "a late answer brings no session back");
        let answer = late.fetch(Method::GET, "/api/x", "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_second_state_at_the_return_from_sign_out_counts_as_none() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    browser.fetch(Method::POST, "/auth/logout", "").await;
    let onward = browser.navigate("/auth/logout/continue", Site::Same).await;
    let url = url::Url::parse(onward.location()).expect("a URL");
    let (_, state) = url
        .query_pairs()
        .find(|(name, _)| name == "state")
        .expect("a state");
    let pending = |browser: &Browser| browser.jar.iter().any(|cookie| cookie.name.contains("-logout"));
    for query in [
        format!("state={state}&state={state}"),
        format!("state={state}&state=x"),
        format!("state=x&state={state}"),
        "state=".to_owned(),
        "state".to_owned(),
        "&".to_owned(),
        String::new(),
    ] {
        let answer = browser
            .navigate(&format!("/auth/logout/callback?{query}"), Site::Cross)
            .await;
        assert_eq!(answer.location(), "https://shop.example/", "{query}");
        assert!(pending(&browser), "{query} cleared the pending sign-out");
    }
    browser
        .navigate(&format!("/auth/logout/callback?state={state}"), Site::Cross)
        .await;
    assert!(!pending(&browser));
}

#[tokio::test]
async fn claims_that_change_at_the_provider_are_shown_after_a_refresh() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    assert_eq!(
        browser.session().await["id_token_claims"]["name"],
        "Alice Example"
    );
    rig.provider.script().claims = json!({"name": "Alice Renamed", "sid": null, "groups": ["staff"]});
    browser.fetch(Method::POST, "/auth/refresh", "").await;
    let claims = browser.session().await["id_token_claims"].clone();
    assert_eq!(claims["name"], "Alice Renamed");
    assert_eq!(claims["groups"], json!(["staff"]));
    assert_eq!(
        claims.get("sid"),
        None,
        "what is gone at the provider is gone here"
    );
    // a refresh without an ID token leaves the last ones
    rig.provider.script().refreshed_id_token = false;
    rig.provider.script().claims = json!({"name": "Nobody"});
    browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(
        browser.session().await["id_token_claims"]["name"],
        "Alice Renamed"
    );
}

#[tokio::test]
async fn users_who_refresh_at_the_same_time_get_their_own_tokens() {
    const USERS: usize = 12;
    let rig = Rig::new().await;
    let mut browsers = Vec::new();
    for user in 0..USERS {
        let mut browser = rig.browser();
        browser.sign_in(&rig.provider, &format!("user-{user}")).await;
        browsers.push(browser);
    }
    let mut owners: HashMap<String, usize> = HashMap::new();
    for _ in 0..3 {
        let mut calls = tokio::task::JoinSet::new();
        // three tabs each, all mixed
        for tab in 0..3 * USERS {
            let browser = browsers[tab % USERS].clone();
            calls.spawn(async move {
                let answer = browser.fetch_late(Method::POST, "/auth/refresh", "").await;
                (tab % USERS, answer)
            });
        }
        for (user, answer) in calls.join_all().await {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            let browser = &mut browsers[user];
            browser.store(&answer.headers);
            let claims = browser.session().await["id_token_claims"].clone();
            assert_eq!(claims["sub"], format!("user-{user}"));
            assert_eq!(
                browser.fetch(Method::GET, "/api/x", "").await.status,
                StatusCode::OK
            );
            let parts = rig.api.seen.lock().expect("no panic").pop().expect("it arrived");
            let token = parts.headers["authorization"].to_str().expect("ASCII").to_owned();
            assert_eq!(*owners.entry(token).or_insert(user), user, "a token of two users");
        }
    }
    let tokens_of = |user: usize| owners.iter().filter(|(_, owner)| **owner == user).count();
    assert!(
        (0..USERS).all(|user| tokens_of(user) == 3),
        "one new token for each user and round"
    );
}

#[tokio::test]
async fn a_page_of_ours_runs_nothing_and_repeats_nothing() {
    let rig = Rig::new().await;
    rig.provider.script().discovery_down = true;
    let marks = ["<script>", "mallory", "javascript:"];
    for query in [
        "return_to=/mallory",
        "ui_locales=%3Cscript%3Emallory%3C/script%3E",
        "return_to=javascript:mallory",
        "mallory=%22%3E%3Cscript%3E",
    ] {
        let answer = rig
            .browser()
            .navigate(&format!("/auth/login?{query}"), Site::Same)
            .await;
        assert!(answer.status.as_u16() >= 400, "{query}: {}", answer.status);
        assert_eq!(
            answer.headers["content-type"], "text/html; charset=utf-8",
            "{query}"
        );
        assert_eq!(
            answer.headers["content-security-policy"],
            "default-src 'none'; frame-ancestors 'none'"
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        for mark in marks {
            assert!(!answer.body.contains(mark), "{query}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_to_scripts_without_their_own_words() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    for (method, path, body) in [
        (Method::POST, "/auth/login/start", "return_to=//mallory"),
        (Method::POST, "/auth/login/start", "mallory=1"),
        (Method::POST, "/auth/login/end", "state=mallory&code=mallory"),
        (
            Method::POST,
            "/auth/login/end",
            "state=mallory&error=mallory&error_description=mallory",
        ),
        (Method::GET, "/api/..%2fmallory", ""),
        (Method::GET, "/mallory", ""),
        (Method::GET, "/auth/mallory", ""),
    ] {
        let answer = browser.fetch(method, path, body).await;
        assert!(answer.status.as_u16() >= 400, "{path}");
        let headers = format!("{:?}", answer.headers);
        assert!(
            !answer.body.contains("mallory") && !headers.contains("mallory"),
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn no_redirect_of_ours_has_a_body_or_a_type() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    let mut kinds = HashSet::new();
    let paths = [
        "/auth/login",
        callback.as_str(),
        "/auth/callback?state=0x&code=y",
        "/auth/logout/callback",
    ];
    for path in paths.into_iter().chain(["/auth/logout/continue"]) {
        if path.ends_with("continue") {
            browser.fetch(Method::POST, "/auth/logout", "").await;
        }
        let answer = browser.navigate(path, Site::Cross).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert_eq!(answer.body, "", "{path}");
        assert!(!answer.headers.contains_key(header::CONTENT_TYPE), "{path}");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer", "{path}");
        kinds.insert(
            answer
                .location()
                .split(['?', '#'])
                .next()
                .unwrap_or_default()
                .to_owned(),
        );
    }
    assert_eq!(
        kinds.len(),
        3,
        "to the provider twice over, and to the app: {kinds:?}"
    );
}

#[tokio::test]
async fn nobody_without_a_session_reaches_the_api_by_any_method() {
    let rig = Rig::new().await;
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "MALLORY", "TRACE", "CONNECT",
    ] {
        let request = Request::builder()
            .method(method)
            .uri("/api/x")
            .header("host", "shop.example")
            .header("origin", "https://shop.example")
            .header("token-handler-version", "1")
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "token-handler-version")
            .body(Full::default())
            .expect("a request");
        let answer = rig.browser().send(request).await;
        assert!(
            matches!(answer.status.as_u16(), 204 | 401 | 403 | 405),
            "{method}: {}",
            answer.status
        );
        assert!(rig.api.seen.lock().expect("no panic").is_empty(), "{method}");
    }
}
