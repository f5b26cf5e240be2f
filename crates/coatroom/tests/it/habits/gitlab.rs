//! GitLab: refresh tokens that are good once, access tokens that end with them, an `auth_time` of the
//! user's last sign-in anywhere, no sign-out.

use http::Method;
use serde_json::json;

use super::{asked, refresh, script, sign_in, with_preset};
use crate::support::Rig;
use crate::support::provider::Rotation;

async fn rig() -> Rig {
    let rig = with_preset("gitlab", |_| {}).await;
    script(&rig, |script, _| {
        script.metadata = json!({
            "end_session_endpoint": null,
            "authorization_response_iss_parameter_supported": null,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        });
        script.refresh = Rotation::Rotate;
        script.expires_in = Some(7200);
        script.token_members = json!({"created_at": 1_607_635_748, "token_type": "bearer"});
        script.claims = json!({"auth_time": 1000, "sid": null, "groups_direct": ["a", "b"]});
    });
    rig
}

#[tokio::test]
async fn a_refresh_token_is_sent_once_however_many_ask() {
    let rig = rig().await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    assert_eq!(asked(&rig)["scope"], "openid profile email");
    rig.advance(600);
    let late = browser.clone();
    let (one, two, three) = tokio::join!(
        late.fetch_late(Method::POST, "/auth/refresh", ""),
        late.fetch_late(Method::POST, "/auth/refresh", ""),
        late.fetch_late(Method::POST, "/auth/refresh", ""),
    );
    for answer in [&one, &two, &three] {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
    browser.store(&one.headers);
    refresh(&mut browser).await;
    assert_eq!(rig.provider.count("refresh_token", 400), 0);
}

#[tokio::test]
async fn a_refresh_token_that_was_used_before_ends_the_session() {
    let rig = rig().await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    // somebody else redeems a copy of the cookies; this browser comes later than any memory of it
    let mut copy = browser.clone();
    refresh(&mut copy).await;
    rig.advance(120);
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "session_expired");
    // the provider has ended both
    let answer = copy.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "session_expired");
}

#[tokio::test]
async fn a_sign_in_at_gitlab_from_elsewhere_costs_no_session() {
    let rig = rig().await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    rig.provider.script().claims["auth_time"] = 9000.into();
    refresh(&mut browser).await;
    refresh(&mut browser).await;
    assert_eq!(browser.session().await["id_token_claims"]["auth_time"], 1000);
}

#[tokio::test]
async fn without_the_preset_such_a_token_is_refused() {
    let rig = Rig::new().await;
    rig.provider.script().claims = json!({"auth_time": 1000});
    let mut browser = rig.signed_in().await;
    rig.provider.script().claims = json!({"auth_time": 9000});
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "provider_error");
}
