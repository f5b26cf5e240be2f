//! Google: a refresh token for `access_type=offline` with consent alone, no sign-out, an `iss` that once
//! had no scheme.

use http::Method;
use serde_json::json;

use super::{asked, login_error, refresh, script, sign_in, with_preset};
use crate::support::Rig;
use crate::support::provider::Rotation;

fn fake(rig: &Rig) {
    script(rig, |script, _| {
        script.metadata = json!({
            "end_session_endpoint": null,
            "authorization_response_iss_parameter_supported": null,
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        });
        script.refresh = Rotation::Keep;
        script.refresh_wants = Some(("access_type", "offline"));
        script.expires_in = Some(3599);
        script.claims = json!({"azp": "shop", "sid": null, "email_verified": true, "hd": "example.com"});
        script.token_members = json!({"scope": "openid https://www.googleapis.com/auth/userinfo.email"});
    });
}

#[tokio::test]
async fn a_session_outlives_its_first_access_token() {
    let rig = with_preset("google", |_| {}).await;
    fake(&rig);
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    let asked = asked(&rig);
    assert_eq!(
        (&*asked["access_type"], &*asked["prompt"]),
        ("offline", "consent")
    );
    assert!(
        !asked["scope"].contains("offline_access"),
        "Google refuses a scope that it does not know"
    );
    // the answer to a refresh has no refresh token: the first stays
    for _ in 0..2 {
        rig.advance(1700);
        refresh(&mut browser).await;
    }
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn without_the_preset_it_ends_with_the_access_token() {
    let rig = Rig::new().await;
    fake(&rig);
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    let session = browser.session().await["session"].clone();
    assert!(session["expires_in"].as_u64() <= Some(3599), "{session}");
}

#[tokio::test]
async fn an_issuer_without_its_scheme_is_another_issuer() {
    let rig = with_preset("google", |_| {}).await;
    fake(&rig);
    let bare = rig.provider.issuer.trim_start_matches("http://").to_owned();
    rig.provider.script().claims["iss"] = bare.into();
    let mut browser = rig.browser();
    let answer = sign_in(&rig, &mut browser, "", None).await;
    assert_eq!(login_error(&answer), "provider_error");
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn sign_out_ends_here_and_revokes() {
    let rig = with_preset("google", |_| {}).await;
    fake(&rig);
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    // the metadata are known by now, and name no page to go on to
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.json(), json!({}));
    rig.until(|| rig.provider.script().revoked.len() == 2).await;
}
