//! Sign-out: here at once, at the provider as far as it answers.

use std::time::Duration;

use coatroom::clock::Clock as _;
use http::{Method, StatusCode};

use crate::support::Rig;
use crate::support::browser::Site;
use crate::support::faulty_store::FaultyStore;
use crate::support::provider::Fault;

#[tokio::test]
async fn a_user_signs_out_here_and_at_the_provider() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(
        answer.json()["logout_url"],
        "https://shop.example/auth/logout/continue"
    );
    assert!(!browser.is_signed_in().await);
    let mut names: Vec<_> = browser.jar.iter().map(|cookie| cookie.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["__Host-Http-shop-ended", "__Host-Http-shop-logout"]);
    let onward = browser.navigate("/auth/logout/continue", Site::Same).await;
    let url = url::Url::parse(onward.location()).expect("a URL");
    assert!(
        onward
            .location()
            .starts_with(&format!("{}/end?", rig.provider.issuer))
    );
    let parameter = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    assert!(parameter("id_token_hint").is_some());
    assert_eq!(parameter("client_id").as_deref(), Some("shop"));
    assert_eq!(
        parameter("post_logout_redirect_uri").as_deref(),
        Some("https://shop.example/auth/logout/callback")
    );
    let state = parameter("state").expect("a state");
    // a wrong state changes nothing
    let twice = format!("/auth/logout/callback?state={state}&state=wrong");
    browser.navigate(&twice, Site::Cross).await;
    let wrong = browser
        .navigate("/auth/logout/callback?state=wrong", Site::Cross)
        .await;
    assert_eq!(wrong.location(), "https://shop.example/");
    assert!(browser.jar.iter().any(|cookie| cookie.name.ends_with("-logout")));
    let back = browser
        .navigate(&format!("/auth/logout/callback?state={state}"), Site::Cross)
        .await;
    assert_eq!(
        (back.status, back.location()),
        (StatusCode::SEE_OTHER, "https://shop.example/")
    );
    assert!(!browser.jar.iter().any(|cookie| cookie.name.ends_with("-logout")));
    while rig.provider.script().revoked.len() < 2 {
        tokio::task::yield_now().await;
    }
    let revoked = rig.provider.script().revoked.clone();
    assert!(
        revoked[0].starts_with("canary-refresh"),
        "the refresh token first"
    );
}

#[tokio::test]
async fn sign_out_needs_no_session() {
    let rig = Rig::new().await;
    let answer = rig.browser().fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "{}"));
}

#[tokio::test]
async fn a_provider_without_end_session_gets_no_logout_url() {
    let rig = Rig::new().await;
    rig.provider.script().metadata =
        serde_json::json!({"end_session_endpoint": null, "revocation_endpoint": null});
    let mut browser = rig.signed_in().await;
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "{}"));
    assert!(!browser.is_signed_in().await);
    let onward = browser.navigate("/auth/logout/continue", Site::Same).await;
    assert_eq!(onward.location(), "https://shop.example/");
}

#[tokio::test]
async fn continue_without_a_pending_logout_leads_to_the_app() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let onward = browser.navigate("/auth/logout/continue", Site::Cross).await;
    assert_eq!(
        (onward.status, onward.location()),
        (StatusCode::SEE_OTHER, "https://shop.example/")
    );
    assert!(browser.is_signed_in().await, "a foreign page signs nobody out");
}

#[tokio::test]
async fn an_expired_session_can_still_be_signed_out() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    for cookie in &mut browser.jar {
        cookie.expires_at += 100_000;
    }
    rig.advance(50_000);
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.json()["logout_url"].is_string());
}

#[tokio::test]
async fn signing_out_in_one_browser_leaves_the_other_alone() {
    let rig = Rig::new().await;
    let mut one = rig.signed_in().await;
    let mut other = rig.signed_in().await;
    one.fetch(Method::POST, "/auth/logout", "").await;
    assert!(other.is_signed_in().await);
    assert_eq!(
        other.fetch(Method::GET, "/api/orders", "").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn ending_a_session_wakes_its_streams_before_the_answer() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    browser.fetch(Method::GET, "/api/orders", "").await;
    let session = rig.api.seen.lock().expect("no panic")[0]
        .extensions
        .get::<coatroom::Session>()
        .copied()
        .expect("the session is an extension");
    assert_eq!(
        session.ends_at,
        rig.clock.now().plus(Duration::from_secs(12 * 60 * 60)),
        "the absolute limit"
    );
    let id = session.id.0;
    let stream = rig.handler.session_ends().subscribe(id);
    assert!(!stream.is_ended());
    browser.fetch(Method::POST, "/auth/logout", "").await;
    assert!(stream.is_ended());
}

#[tokio::test]
async fn what_was_remembered_of_a_session_is_for_nobody_once_it_is_signed_out() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let copies = browser.clone();
    for _ in 0..2 {
        rig.advance(5);
        assert_eq!(
            browser.fetch(Method::POST, "/auth/refresh", "").await.status,
            StatusCode::OK
        );
    }
    browser.fetch(Method::POST, "/auth/logout", "").await;
    // cookies from before the refreshes, without this browser's tombstones
    let mut copies = copies;
    let answer = copies.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "session_expired")
    );
    assert_eq!(rig.provider.count("refresh_token", 200), 2);
}

#[tokio::test]
async fn a_refresh_under_way_is_not_joined_once_its_session_is_signed_out() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let mut copies = browser.clone();
    rig.provider.hold_tokens();
    let refreshing = {
        let tab = browser.clone();
        tokio::spawn(async move { tab.fetch_late(Method::POST, "/auth/refresh", "").await })
    };
    while rig.provider.count("refresh_token", 200) == 0 {
        tokio::task::yield_now().await;
    }
    browser.fetch(Method::POST, "/auth/logout", "").await;
    let answer = copies.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.body);
    rig.provider.release_tokens();
    let late = refreshing.await.expect("the tab lives");
    assert_eq!(late.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        copies.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::UNAUTHORIZED,
        "nor when it has landed"
    );
}

#[tokio::test]
async fn a_callback_repeated_after_sign_out_does_not_bring_the_session_back() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    let mut copies = browser.clone();
    browser.navigate(&callback, Site::Cross).await;
    browser.fetch(Method::POST, "/auth/logout", "").await;
    let answer = copies.navigate(&callback, Site::Cross).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert!(
        answer.location().starts_with(&rig.provider.issuer),
        "a fresh start: {}",
        answer.location()
    );
    assert!(!copies.is_signed_in().await);
    assert_eq!(
        copies.fetch(Method::GET, "/api/orders", "").await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn cookies_that_come_back_after_sign_out_have_their_tokens_revoked_again() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let old = browser.jar.clone();
    browser.fetch(Method::POST, "/auth/logout", "").await;
    while rig.provider.script().revoked.len() < 2 {
        tokio::task::yield_now().await;
    }
    browser.jar.extend(old);
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "session_expired");
    while rig.provider.script().revoked.len() < 4 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_sign_out_that_nobody_finished_ends_with_the_next_sign_in() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    browser.fetch(Method::POST, "/auth/logout", "").await;
    browser.sign_in(&rig.provider, "alice").await;
    let onward = browser.navigate("/auth/logout/continue", Site::Cross).await;
    assert_eq!(
        onward.location(),
        "https://shop.example/",
        "no foreign page finishes it"
    );
}

#[tokio::test]
async fn a_late_refusal_of_a_refresh_does_not_unearth_what_was_signed_out() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let before = browser.clone();
    // on another replica, so that this process remembers nothing
    let other = rig.replica();
    let mut there = other.browser();
    there.jar = before.jar.clone();
    rig.provider.script().token_fault = Some(Fault::Answer(
        400,
        "application/json",
        r#"{"error":"invalid_grant"}"#,
    ));
    let late = there.fetch_late(Method::POST, "/auth/refresh", "").await;
    assert_eq!(late.error_code(), "session_expired");
    rig.provider.script().token_fault = None;
    browser.fetch(Method::POST, "/auth/logout", "").await;
    browser.store(&late.headers);
    browser.jar.extend(before.jar);
    assert!(!browser.is_signed_in().await);
    assert_eq!(
        browser.fetch(Method::GET, "/api/x", "").await.error_code(),
        "session_expired"
    );
}

#[tokio::test]
async fn after_the_provider_ended_the_session_sign_out_still_leads_through_it() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let thief = browser.clone();
    browser.fetch(Method::POST, "/auth/refresh", "").await;
    rig.advance(120);
    let mut thief = thief;
    assert_eq!(
        thief.fetch(Method::POST, "/auth/refresh", "").await.error_code(),
        "session_expired"
    );
    let answer = thief.fetch(Method::POST, "/auth/logout", "").await;
    assert!(answer.json()["logout_url"].is_string(), "{}", answer.body);
}

#[tokio::test]
async fn a_sign_out_everywhere_that_cannot_be_done_is_refused_and_ends_nothing() {
    for rig in [Rig::stored().await, Rig::with_revocations().await] {
        let store = FaultyStore::before(rig.store.clone());
        let watched = rig.behind(store.clone());
        let mut browser = watched.signed_in().await;
        let cookies = browser.jar.clone();
        store.set_away(true);
        let answer = browser
            .fetch(Method::POST, "/auth/logout", "everywhere=true")
            .await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.error_code(), "store_unavailable");
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(browser.jar, cookies);
        store.set_away(false);
        assert!(browser.is_signed_in().await);
        let answer = browser
            .fetch(Method::POST, "/auth/logout", "everywhere=true")
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert!(!browser.is_signed_in().await);
    }
}
