//! Refresh without a store: nobody is signed out who should not be, nobody signed in who should not.

use http::{Method, StatusCode};

use crate::support::Rig;
use crate::support::browser::Site;
use crate::support::provider::{Fault, Rotation};

#[tokio::test]
async fn an_expired_token_is_refreshed() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    rig.advance(300);
    let answer = browser.fetch(Method::GET, "/api/orders", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "access_token_expired")
    );
    assert_eq!(answer.headers["token-handler-error"], "access_token_expired");
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.json()["access_token_expires_in"], 300);
    assert_eq!(
        browser.fetch(Method::GET, "/api/orders", "").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn twenty_parallel_refreshes_are_one() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    rig.advance(300);
    let calls = (0..20).map(|_| browser.fetch_late(Method::POST, "/auth/refresh", ""));
    let answers = futures_util::future::join_all(calls).await;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
    assert_eq!(rig.provider.count("refresh_token", 400), 0);
    // whichever answer is stored last
    for answer in answers.iter().rev() {
        browser.store(&answer.headers);
    }
    rig.advance(300);
    assert_eq!(
        browser.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::OK
    );
    assert_eq!(rig.provider.count("refresh_token", 400), 0);
}

#[tokio::test]
async fn a_late_duplicate_gets_the_newest_successor() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let old = browser.clone();
    for _ in 0..3 {
        rig.advance(10);
        assert_eq!(
            browser.fetch(Method::POST, "/auth/refresh", "").await.status,
            StatusCode::OK
        );
    }
    assert_eq!(rig.provider.count("refresh_token", 200), 3);
    let mut late = old.clone();
    let answer = late.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(
        rig.provider.count("refresh_token", 200),
        3,
        "served from the memory"
    );
    // what it got is the newest: it can be refreshed
    rig.advance(300);
    assert_eq!(
        late.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::OK
    );
    assert_eq!(rig.provider.count("refresh_token", 400), 0);
}

#[tokio::test]
async fn a_late_duplicate_of_a_stale_chain_refreshes_at_its_end() {
    let rig = Rig::new().await;
    rig.provider.script().expires_in = Some(20);
    let mut browser = rig.signed_in().await;
    let mut late = browser.clone();
    assert_eq!(
        browser.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::OK
    );
    rig.advance(30);
    let answer = late.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(rig.provider.count("refresh_token", 200), 2);
    assert_eq!(rig.provider.count("refresh_token", 400), 0);
}

#[tokio::test]
async fn only_invalid_grant_ends_a_session_and_the_loser_clears_nothing() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let mut thief = browser.clone();
    browser.fetch(Method::POST, "/auth/refresh", "").await;
    rig.advance(120);
    let answer = thief.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "session_expired")
    );
    let set: Vec<_> = answer
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|line| line.to_str().expect("ASCII"))
        .collect();
    assert_eq!(set.len(), 1, "{set:?}");
    assert!(set[0].starts_with("__Secure-shop-refused="), "{set:?}");
    assert!(!thief.is_signed_in().await);
    // asked again, the provider is not
    let before = rig.provider.script().token_requests.len();
    thief.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(rig.provider.script().token_requests.len(), before);
}

#[tokio::test]
async fn outages_of_the_provider_end_nothing() {
    let faults = [
        (
            Fault::Answer(503, "text/html", "<html>"),
            StatusCode::SERVICE_UNAVAILABLE,
            "provider_unavailable",
        ),
        (
            Fault::Answer(500, "application/json", "{}"),
            StatusCode::SERVICE_UNAVAILABLE,
            "provider_unavailable",
        ),
        (
            Fault::Answer(400, "application/json", ""),
            StatusCode::BAD_GATEWAY,
            "provider_error",
        ),
        (
            Fault::Answer(200, "text/html", "<html>"),
            StatusCode::BAD_GATEWAY,
            "provider_error",
        ),
        (
            Fault::Answer(400, "application/json", r#"{"error":"invalid_request"}"#),
            StatusCode::BAD_GATEWAY,
            "provider_error",
        ),
    ];
    for (fault, status, code) in faults {
        let rig = Rig::new().await;
        let mut browser = rig.signed_in().await;
        let before = browser.jar.clone();
        rig.provider.script().token_fault = Some(fault);
        let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code));
        assert_eq!(
            answer.headers.contains_key("retry-after"),
            status == StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(browser.jar, before, "no cookie was touched");
        rig.provider.script().token_fault = None;
        assert_eq!(
            browser.fetch(Method::POST, "/auth/refresh", "").await.status,
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn sign_out_during_a_refresh_in_another_tab_holds() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    rig.provider.hold_tokens();
    let refreshing = {
        let tab = browser.clone();
        tokio::spawn(async move { tab.fetch_late(Method::POST, "/auth/refresh", "").await })
    };
    // the provider has rotated; its answer is still on the way
    while rig.provider.count("refresh_token", 200) == 0 {
        tokio::task::yield_now().await;
    }
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.status, StatusCode::OK);
    rig.provider.release_tokens();
    let late = refreshing.await.expect("the tab lives");
    assert_eq!(
        (late.status, late.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "session_expired")
    );
    browser.store(&late.headers);
    assert!(!browser.is_signed_in().await);
    assert_eq!(
        browser.fetch(Method::GET, "/api/orders", "").await.status,
        StatusCode::UNAUTHORIZED
    );
    // the token that came after the sign-out dies as well
    let newest = rig
        .provider
        .script()
        .issued
        .iter()
        .rfind(|token| token.starts_with("canary-refresh"))
        .cloned();
    let newest = newest.expect("a refresh token was issued");
    while !rig.provider.script().revoked.contains(&newest) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_that_arrives_after_sign_out_writes_dead_cookies() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    // this answer was complete before the sign-out, but reaches the browser after it
    let late = browser.fetch_late(Method::POST, "/auth/refresh", "").await;
    assert_eq!(late.status, StatusCode::OK);
    browser.fetch(Method::POST, "/auth/logout", "").await;
    browser.store(&late.headers);
    assert!(!browser.is_signed_in().await);
    let answer = browser.fetch(Method::GET, "/api/orders", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "session_expired")
    );
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "session_expired")
    );
    // and a new sign-in is not hurt by them
    browser.sign_in(&rig.provider, "bob").await;
    assert_eq!(browser.session().await["id_token_claims"]["sub"], "bob");
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_lose_the_refresh() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    rig.provider.hold_tokens();
    let gone = {
        let tab = browser.clone();
        tokio::spawn(async move { tab.fetch_late(Method::POST, "/auth/refresh", "").await })
    };
    while rig.provider.count("refresh_token", 200) == 0 {
        tokio::task::yield_now().await;
    }
    gone.abort();
    rig.provider.release_tokens();
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
    assert_eq!(rig.provider.count("refresh_token", 400), 0);
}

#[tokio::test]
async fn providers_that_do_not_rotate_keep_the_old_refresh_token() {
    let rig = Rig::new().await;
    rig.provider.script().refresh = Rotation::Keep;
    rig.provider.script().refreshed_id_token = false;
    let mut browser = rig.signed_in().await;
    for _ in 0..3 {
        rig.advance(300);
        let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.json()["id_token_claims"]["sub"], "alice");
    }
    assert_eq!(rig.provider.count("refresh_token", 200), 3);
}

#[tokio::test]
async fn without_a_refresh_token_the_session_ends_with_the_access_token() {
    let rig = Rig::new().await;
    rig.provider.script().refresh = Rotation::Never;
    let mut browser = rig.signed_in().await;
    assert_eq!(browser.session().await["session"]["expires_in"], 300);
    assert_eq!(
        browser.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::OK
    );
    for cookie in &mut browser.jar {
        cookie.expires_at += 100_000;
    }
    rig.advance(300);
    let answer = browser.fetch(Method::GET, "/api/orders", "").await;
    assert_eq!(answer.error_code(), "session_expired");
}

#[tokio::test]
async fn idle_is_measured_by_refreshes_that_a_user_caused() {
    let rig = Rig::with(|config| config.session.idle = Some(std::time::Duration::from_secs(600))).await;
    rig.provider.script().expires_in = Some(3600);
    let mut browser = rig.signed_in().await;
    assert_eq!(
        browser.session().await["access_token_expires_in"],
        300,
        "half the idle time"
    );
    rig.advance(250);
    browser
        .fetch(Method::POST, "/auth/refresh", "background=true")
        .await;
    assert_eq!(
        browser.session().await["session"]["idle_expires_in"],
        350,
        "a timer is no user"
    );
    rig.advance(50);
    assert_eq!(
        browser.fetch(Method::GET, "/api/orders", "").await.error_code(),
        "access_token_expired"
    );
    browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(browser.session().await["session"]["idle_expires_in"], 600);
    assert_eq!(
        browser.fetch(Method::GET, "/api/orders", "").await.status,
        StatusCode::OK
    );
    rig.advance(600);
    for cookie in &mut browser.jar {
        cookie.expires_at += 100_000;
    }
    assert!(!browser.is_signed_in().await);
    assert_eq!(
        browser
            .fetch(Method::POST, "/auth/refresh", "")
            .await
            .error_code(),
        "session_expired"
    );
}

#[tokio::test]
async fn the_absolute_limit_holds_even_if_the_browser_ignores_max_age() {
    let rig = Rig::new().await;
    rig.provider.script().expires_in = Some(100_000);
    let mut browser = rig.signed_in().await;
    for _ in 0..43 {
        rig.advance(1000);
        assert_eq!(
            browser.fetch(Method::POST, "/auth/refresh", "").await.status,
            StatusCode::OK
        );
    }
    for cookie in &mut browser.jar {
        cookie.expires_at += 100_000;
    }
    rig.advance(200);
    assert_eq!(
        browser.fetch(Method::GET, "/api/orders", "").await.error_code(),
        "session_expired"
    );
    assert_eq!(
        browser
            .fetch(Method::POST, "/auth/refresh", "")
            .await
            .error_code(),
        "session_expired"
    );
}

#[tokio::test]
async fn a_refreshed_id_token_of_another_user_is_refused() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    rig.provider.script().claims = serde_json::json!({"sub": "mallory"});
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::BAD_GATEWAY, "provider_error")
    );
    assert_eq!(browser.session().await["id_token_claims"]["sub"], "alice");
}

#[tokio::test]
async fn refresh_without_a_session_is_unauthorized() {
    let rig = Rig::new().await;
    let answer = rig.browser().fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "unauthorized")
    );
}

#[tokio::test]
async fn a_refreshed_id_token_by_an_unknown_key_costs_no_session() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    rig.provider.script().kid = "key-2".to_owned();
    rig.provider.script().jwks_kid = Some("key-1".to_owned());
    for _ in 0..3 {
        rig.advance(300);
        let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.json()["id_token_claims"]["sub"], "alice");
    }
    assert_eq!(rig.provider.count("refresh_token", 400), 0);
}

#[tokio::test]
async fn a_late_duplicate_follows_a_long_chain_and_never_spins() {
    let rig = Rig::new().await;
    rig.provider.script().expires_in = Some(1);
    let mut browser = rig.signed_in().await;
    let mut late = browser.clone();
    for _ in 0..50 {
        assert_eq!(
            browser.fetch(Method::POST, "/auth/refresh", "").await.status,
            StatusCode::OK
        );
    }
    let answer = late.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(rig.provider.count("refresh_token", 200), 51);
    assert_eq!(rig.provider.count("refresh_token", 400), 0);
}

#[tokio::test]
async fn the_providers_own_limit_is_the_fourth_clock() {
    let rig = Rig::new().await;
    rig.provider.script().refresh_expires_in = Some(1200);
    let mut browser = rig.signed_in().await;
    let session = browser.session().await;
    assert_eq!(session["session"]["provider_expires_in"], 1200);
    assert_eq!(session["session"]["expires_in"], 1200);
    rig.advance(290);
    assert_eq!(browser.session().await["session"]["provider_expires_in"], 910);
    // each refresh token has a life of its own
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.json()["session"]["provider_expires_in"], 1200);
    // a provider that stops telling takes the limit back
    rig.provider.script().refresh_expires_in = None;
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert!(answer.json()["session"]["provider_expires_in"].is_null());
    assert_eq!(answer.json()["session"]["expires_in"], 43_200 - 290);
}

#[tokio::test]
async fn a_refresh_token_that_stays_keeps_its_limit() {
    let rig = Rig::new().await;
    rig.provider.script().refresh = Rotation::Keep;
    rig.provider.script().refresh_expires_in = Some(1200);
    let mut browser = rig.signed_in().await;
    rig.provider.script().refresh_expires_in = None;
    rig.advance(200);
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.json()["session"]["provider_expires_in"], 1000);
    rig.advance(1000);
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn failing_sign_ins_of_strangers_never_hold_up_a_refresh() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    rig.provider.script().token_fault = Some(Fault::Answer(503, "text/plain", ""));
    for _ in 0..5 {
        let mut stranger = rig.browser();
        let callback = stranger.start(&rig.provider, "mallory").await;
        let answer = stranger.navigate(&callback, Site::Cross).await;
        assert!(answer.location().contains("provider_unavailable"));
    }
    rig.provider.script().token_fault = None;
    assert_eq!(
        browser.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_token_endpoint_that_fails_refreshes_in_a_row_is_left_alone_for_a_while() {
    let rig = Rig::new().await;
    let mut browsers = Vec::new();
    for _ in 0..6 {
        browsers.push(rig.signed_in().await);
    }
    rig.provider.script().token_fault = Some(Fault::Answer(503, "text/plain", ""));
    let refused = || rig.provider.count("refresh_token", 503);
    for _ in 0..10 {
        for browser in &mut browsers {
            let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
            assert_eq!(answer.error_code(), "provider_unavailable");
            assert!(answer.headers.contains_key("retry-after"));
            assert!(!answer.headers.contains_key("set-cookie"));
        }
    }
    assert_eq!(refused(), 3);
    rig.advance(1);
    for browser in &mut browsers {
        browser.fetch(Method::POST, "/auth/refresh", "").await;
    }
    assert_eq!(refused(), 4, "one asks after the rest");
    rig.provider.script().token_fault = None;
    rig.advance(10);
    for browser in &mut browsers {
        let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
}
