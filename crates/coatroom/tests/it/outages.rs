//! The provider away: Coatroom starts, says so, ends nothing, and recovers by itself.

use http::{Method, StatusCode};

use crate::support::Rig;
use crate::support::browser::Site;

#[tokio::test]
async fn it_starts_while_the_provider_is_down_and_recovers() {
    let rig = Rig::new().await;
    rig.provider.script().discovery_down = true;
    let mut browser = rig.browser();
    let answer = browser.fetch(Method::POST, "/auth/login/start", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable")
    );
    assert!(
        answer.headers["retry-after"]
            .to_str()
            .expect("ASCII")
            .parse::<u32>()
            .expect("seconds")
            >= 1
    );
    let page = browser.navigate("/auth/login", Site::Same).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        page.headers["content-type"]
            .to_str()
            .expect("ASCII")
            .starts_with("text/html")
    );
    assert!(!browser.is_signed_in().await, "`session` needs no provider");
    rig.provider.script().discovery_down = false;
    rig.advance(60);
    browser.sign_in(&rig.provider, "alice").await;
}

#[tokio::test]
async fn a_provider_that_is_down_is_not_hammered() {
    let rig = Rig::new().await;
    rig.provider.script().discovery_down = true;
    let mut browser = rig.browser();
    for _ in 0..20 {
        browser.fetch(Method::POST, "/auth/login/start", "").await;
    }
    let asked = rig.provider.script().discovery_requests;
    assert!(asked <= 2, "asked {asked} times");
}

#[tokio::test]
async fn sign_out_works_while_the_provider_is_down() {
    let rig = Rig::new().await;
    let signed_in = rig.signed_in().await;
    // another replica, started while the provider is down
    let away = rig.replica();
    away.provider.script().discovery_down = true;
    let mut browser = away.browser();
    browser.jar = signed_in.jar;
    assert!(
        browser.is_signed_in().await,
        "equal keys open each other's cookies"
    );
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!browser.is_signed_in().await);
    let onward = browser.navigate("/auth/logout/continue", Site::Same).await;
    assert_eq!(
        (onward.status, onward.location()),
        (StatusCode::SEE_OTHER, "https://shop.example/")
    );
}

#[tokio::test]
async fn sign_out_does_not_wait_for_a_provider_that_hangs() {
    let rig = Rig::new().await;
    let signed_in = rig.signed_in().await;
    // another replica, for which the provider takes connections and says nothing
    let away = rig.replica();
    rig.provider.script().discovery_silent = true;
    let mut browser = away.browser();
    browser.jar = signed_in.jar;
    let sign_out = browser.fetch(Method::POST, "/auth/logout", "");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(5), sign_out).await;
    assert_eq!(answer.expect("at once").status, StatusCode::OK);
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn metadata_of_another_issuer_is_refused() {
    let rig = Rig::new().await;
    rig.provider.script().metadata = serde_json::json!({"issuer": "https://evil.example"});
    let answer = rig.browser().fetch(Method::POST, "/auth/login/start", "").await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    assert!(!answer.body.contains("evil.example"));
}
