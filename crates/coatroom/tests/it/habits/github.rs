//! GitHub: no ID tokens, no metadata, refusals with status 200, scopes between commas, access tokens that
//! never end and that nothing renews, a number for a user.

use coatroom_core::config::{ApplicationConfig, UserConfig};
use http::{Method, StatusCode};
use serde_json::json;

use super::{asked, login_error, refresh, script, sign_in, with_preset};
use crate::support::browser::Browser;
use crate::support::provider::shapes::Userinfo;
use crate::support::provider::{Fault, Rotation};
use crate::support::{Rig, provider_of};

fn configure(config: &mut ApplicationConfig) {
    let provider = provider_of(config);
    let issuer = provider.issuer.clone();
    provider.scopes = Some(vec!["repo".to_owned(), "gist".to_owned()]);
    provider.plain.user = Some(UserConfig {
        endpoint: Some(format!("{issuer}/userinfo")),
        ..UserConfig::default()
    });
    // the scripted provider's own places
    provider.plain.endpoints = Some(coatroom_core::config::EndpointsConfig {
        authorization: format!("{issuer}/authorize"),
        token: format!("{issuer}/token"),
        ..Default::default()
    });
    config.session.claims = Some(["sub", "login"].map(str::to_owned).to_vec());
    let mut repositories = crate::support::route("/repos/");
    repositories.require = Some(coatroom_core::assurance::DemandsConfig {
        scopes: vec!["gist".to_owned()],
        ..Default::default()
    });
    config.routes.push(repositories);
}

fn fake(rig: &Rig) {
    script(rig, |script, _| {
        script.discovery_down = true;
        // client_id and client_secret are parameters
        script.credentials = Some(Box::new(|headers, form| {
            !headers.contains_key("authorization")
                && headers
                    .get("accept")
                    .is_some_and(|accept| accept == "application/json")
                && form.get("client_id").is_some_and(|id| id == "shop")
                && form
                    .get("client_secret")
                    .is_some_and(|secret| secret == crate::support::CLIENT_SECRET)
        }));
        script.expires_in = None;
        script.refresh = Rotation::Never;
        script.token_members = json!({"id_token": null, "token_type": "bearer", "scope": "gist,repo"});
        let bio = "x".repeat(8000);
        script.shapes.userinfo = Userinfo::Json(json!({
            "login": "octocat", "id": 583_231, "node_id": "MDQ6", "type": "User", "site_admin": false,
            "name": "monalisa octocat", "bio": bio, "plan": {"name": "pro"},
        }));
    });
}

async fn rig() -> Rig {
    let rig = with_preset("github", configure).await;
    fake(&rig);
    rig
}

/// GitHub answers without `iss`.
async fn signed_in(rig: &Rig) -> Browser {
    let mut browser = rig.browser();
    let answer = sign_in(rig, &mut browser, "", None).await;
    assert_eq!(login_error(&answer), "");
    browser
}

#[tokio::test]
async fn a_session_lasts_without_a_refresh_token_and_knows_its_user_by_number() {
    let rig = rig().await;
    let mut browser = signed_in(&rig).await;
    assert!(!asked(&rig).contains_key("nonce"));
    let session = browser.session().await;
    let claims = &session["id_token_claims"];
    assert_eq!(claims, &json!({"sub": "583231", "login": "octocat"}));
    assert_eq!(session["session"]["expires_in"], 12 * 60 * 60);
    // the scopes that were granted stand between commas
    let answer = browser.fetch(Method::GET, "/repos/x", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    // a user who is there stays signed in: nothing is redeemed, only the clock starts anew
    for _ in 0..20 {
        rig.advance(25 * 60);
        refresh(&mut browser).await;
    }
    assert_eq!(
        browser.fetch(Method::GET, "/api/x", "").await.status,
        StatusCode::OK
    );
    assert_eq!(rig.provider.count("refresh_token", 200), 0);
    rig.advance(4 * 60 * 60);
    assert!(!browser.is_signed_in().await, "its absolute limit");
}

#[tokio::test]
async fn a_code_that_is_refused_with_200_is_a_code_that_is_refused() {
    let rig = rig().await;
    let answers = [
        (
            r#"{"error":"bad_verification_code","error_description":"canary"}"#,
            "login_state_invalid",
        ),
        (r#"{"error":"incorrect_client_credentials"}"#, "provider_error"),
        (r#"{"error":"redirect_uri_mismatch"}"#, "provider_error"),
    ];
    for (body, code) in answers {
        rig.provider.script().token_fault = Some(Fault::Answer(200, "application/json", body));
        let mut browser = rig.browser();
        let start = browser.start(&rig.provider, "alice").await;
        let query = start.split_once('?').expect("a query").1.to_owned();
        let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
        assert_eq!(answer.error_code(), code, "{body}");
        assert!(!answer.body.contains("canary"));
        assert!(!browser.is_signed_in().await);
    }
}

#[tokio::test]
async fn an_app_with_tokens_that_expire_is_refreshed_until_its_refresh_token_is_refused() {
    let rig = rig().await;
    script(&rig, |script, _| {
        script.refresh = Rotation::Rotate;
        script.expires_in = Some(28_800);
        script.token_members["refresh_token_expires_in"] = 15_897_600.into();
    });
    let mut browser = signed_in(&rig).await;
    refresh(&mut browser).await;
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
    rig.advance(120);
    let refused = r#"{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect or expired."}"#;
    rig.provider.script().token_fault = Some(Fault::Answer(200, "application/json", refused));
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "session_expired");
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn sign_out_ends_here_and_nothing_can_be_revoked() {
    let rig = rig().await;
    let mut browser = signed_in(&rig).await;
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.json(), json!({}));
    assert!(!browser.is_signed_in().await);
    rig.settle().await;
    assert!(rig.provider.script().revoked.is_empty());
}
