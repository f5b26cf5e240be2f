//! Amazon Cognito: endpoints on another host than the issuer, a logout page with `logout_uri` that its
//! metadata announce as `end_session_endpoint`, no PKCE in the metadata, no rotation unless it is
//! switched on, and then an `auth_time` that moves.

use serde_json::json;

use super::{asked, refresh, script, sign_in, sign_out, with_preset};
use crate::support::Rig;
use crate::support::provider::Rotation;

fn fake(rig: &Rig) {
    script(rig, |script, origin| {
        script.metadata = json!({
            "issuer": format!("{origin}/eu-central-1_AbC"),
            // the hosted pages have a domain of their own
            "end_session_endpoint": format!("{}/logout", origin.replace("127.0.0.1", "localhost")),
            "authorization_response_iss_parameter_supported": null,
            "code_challenge_methods_supported": null,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        });
        script.claims = json!({
            "iss": format!("{origin}/eu-central-1_AbC"), "auth_time": 1000, "token_use": "id", "sid": null,
            "cognito:username": "alice", "origin_jti": "x",
        });
        script.refresh = Rotation::Keep;
        script.expires_in = Some(3600);
    });
}

async fn rig(preset: &str) -> Rig {
    let rig = with_preset(preset, |config| {
        crate::support::provider_of(config)
            .issuer
            .push_str("/eu-central-1_AbC");
    })
    .await;
    fake(&rig);
    rig
}

#[tokio::test]
async fn a_user_signs_in_with_pkce_and_out_by_logout_uri() {
    let rig = rig("cognito").await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "identity_provider=Corporate", None).await;
    let asked = asked(&rig);
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_eq!(asked["identity_provider"], "Corporate");
    let (page, told) = sign_out(&mut browser).await;
    assert!(
        page.starts_with("http://localhost:") && page.ends_with("/logout"),
        "{page}"
    );
    assert_eq!(told["logout_uri"], "https://shop.example/auth/logout/callback");
    assert_eq!(told["client_id"], "shop");
    assert_eq!(told.len(), 2, "neither the ID token nor a state");
}

#[tokio::test]
async fn the_refresh_token_stays_while_nothing_rotates() {
    let rig = rig("cognito").await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    for _ in 0..2 {
        rig.advance(1000);
        refresh(&mut browser).await;
    }
    assert_eq!(rig.provider.count("refresh_token", 200), 2);
}

#[tokio::test]
async fn an_auth_time_that_moves_costs_no_session_and_proves_no_new_sign_in() {
    let rig = rig("cognito").await;
    rig.provider.script().refresh = Rotation::Rotate;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    rig.provider.script().claims["auth_time"] = 2000.into();
    refresh(&mut browser).await;
    refresh(&mut browser).await;
    assert_eq!(browser.session().await["id_token_claims"]["auth_time"], 1000);
    // what else differs is as bad as ever
    for (name, value) in [
        ("sub", json!("bob")),
        ("aud", json!(["shop", "other"])),
        ("azp", json!("other")),
    ] {
        let mut changed = rig.provider.script().claims.clone();
        changed[name] = value;
        let good = std::mem::replace(&mut rig.provider.script().claims, changed);
        let answer = browser.fetch(http::Method::POST, "/auth/refresh", "").await;
        assert_eq!(answer.error_code(), "provider_error", "{name}");
        rig.provider.script().claims = good;
        // the refused answer had the only good refresh token
        browser = rig.browser();
        rig.provider.script().claims["auth_time"] = 1000.into();
        sign_in(&rig, &mut browser, "", None).await;
        rig.provider.script().claims["auth_time"] = 2000.into();
    }
}
