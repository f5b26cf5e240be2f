//! Keycloak: `refresh_expires_in: 0` of offline sessions, members that nobody asked for, logout tokens
//! with `sid`, and without `exp` before version 23.0.4; metadata behind an internal address.

use std::time::Duration;

use coatroom::clock::Clock as _;
use coatroom_core::assurance::DemandsConfig;
use coatroom_core::config::{RouteConfig, SessionStorage};
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use super::{asked, login_error, refresh, script, sign_in, sign_out, with_preset};
use crate::support::browser::Browser;
use crate::support::{Rig, provider_of, route};

fn fake(rig: &Rig) {
    script(rig, |script, _| {
        script.token_members = json!({
            "not-before-policy": 0, "session_state": "6a1c-…", "scope": "openid profile",
        });
        script.claims = json!({"typ": "ID", "azp": "shop", "auth_time": 1000, "acr": "1"});
        script.refresh_expires_in = Some(1800);
    });
}

async fn rig() -> Rig {
    let rig = with_preset("keycloak", |_| {}).await;
    fake(&rig);
    rig
}

async fn logout(rig: &Rig, browser: &Browser, changes: &Value) -> StatusCode {
    let token = rig.provider.logout_token(changes);
    let request = Request::post("/auth/backchannel-logout")
        .header(header::HOST, "shop.example")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(format!("logout_token={token}").into())
        .expect("a good request");
    browser.send(request).await.status
}

#[tokio::test]
async fn a_user_signs_in_refreshes_and_signs_out() {
    let rig = rig().await;
    let issuer = rig.provider.issuer.clone();
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "kc_idp_hint=corporate", Some(&issuer)).await;
    assert_eq!(asked(&rig)["kc_idp_hint"], "corporate");
    let json = refresh(&mut browser).await;
    assert_eq!(json["session"]["provider_expires_in"], 1800);
    let (page, told) = sign_out(&mut browser).await;
    assert_eq!(page, format!("{issuer}/end"));
    assert!(told.contains_key("id_token_hint") && told.contains_key("post_logout_redirect_uri"));
    // it announces `iss`, so that an answer without one is somebody else's
    let answer = sign_in(&rig, &mut rig.browser(), "", None).await;
    assert!(!login_error(&answer).is_empty());
}

#[tokio::test]
async fn an_offline_session_without_an_end_is_not_one_that_is_over() {
    let rig = rig().await;
    rig.provider.script().refresh_expires_in = Some(0);
    let issuer = rig.provider.issuer.clone();
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", Some(&issuer)).await;
    assert!(browser.is_signed_in().await);
    rig.advance(600);
    let json = refresh(&mut browser).await;
    assert_eq!(json["session"]["provider_expires_in"], Value::Null);
}

#[tokio::test]
async fn a_user_who_signed_in_anew_elsewhere_stays_signed_in_here() {
    let rig = rig().await;
    let issuer = rig.provider.issuer.clone();
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", Some(&issuer)).await;
    // another application asked for a new sign-in in the same session at the provider
    rig.provider.script().claims["auth_time"] = 5000.into();
    refresh(&mut browser).await;
    assert_eq!(browser.session().await["id_token_claims"]["auth_time"], 1000);
}

#[tokio::test]
async fn roles_change_and_the_time_of_the_sign_in_stays_where_auth_time_moves() {
    let bare = Rig::stored().await;
    for storage in [bare.storage(), SessionStorage::Cookie] {
        let rig = bare.replica_with(storage, |config| {
            provider_of(config).habits.preset = Some("keycloak".to_owned());
            let demanding = |path: &str, demands: DemandsConfig| RouteConfig {
                require: Some(demands),
                ..route(path)
            };
            let claim = |name: &str, value: &str| vec![(name.to_owned(), vec![value.to_owned()])];
            let of_claims = |claims| DemandsConfig {
                claims,
                ..DemandsConfig::default()
            };
            config.routes.extend([
                demanding(
                    "/gold/",
                    DemandsConfig {
                        acr: vec!["gold".to_owned()],
                        ..DemandsConfig::default()
                    },
                ),
                demanding("/golden/", of_claims(claim("acr", "gold"))),
                demanding("/otp/", of_claims(claim("amr", "otp"))),
                demanding("/admin/", of_claims(claim("role", "admin"))),
                demanding(
                    "/lately/",
                    DemandsConfig {
                        max_age: Some(Duration::from_secs(60)),
                        ..DemandsConfig::default()
                    },
                ),
            ]);
        });
        fake(&rig);
        let issuer = rig.provider.issuer.clone();
        let mut browser = rig.browser();
        let now = rig.clock.now().0;
        sign_in(&rig, &mut browser, "", Some(&issuer)).await;
        // a sign-in elsewhere: stronger, later, and meanwhile the user is an administrator
        let elsewhere = json!({"auth_time": now, "acr": "gold", "amr": ["otp"], "role": ["admin"]});
        rig.provider.script().claims = elsewhere;
        for _ in 0..2 {
            refresh(&mut browser).await;
            // for so long a core believes what a store said
            rig.advance(2);
            let claims = browser.session().await["id_token_claims"].take();
            assert_eq!(claims["role"], json!(["admin"]));
            assert_eq!(
                (&claims["auth_time"], &claims["acr"]),
                (&json!(1000), &json!("1"))
            );
            assert_eq!(claims.get("amr"), None);
            for (path, good) in [
                ("/admin/x", true),
                ("/gold/x", false),
                ("/golden/x", false),
                ("/otp/x", false),
                ("/lately/x", false),
            ] {
                let answer = browser.fetch(Method::GET, path, "").await;
                assert_eq!(answer.status == StatusCode::OK, good, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_logout_token_ends_the_session_of_its_sid() {
    for (without_exp, changes, status) in [
        (false, json!({"typ": "Logout"}), StatusCode::OK),
        (false, json!({"exp": null}), StatusCode::BAD_REQUEST),
        (true, json!({"exp": null}), StatusCode::OK),
        (true, json!({"sid": "another"}), StatusCode::OK),
    ] {
        let bare = Rig::stored().await;
        let rig = bare.replica_with(bare.storage(), |config| {
            let provider = provider_of(config);
            provider.habits.preset = Some("keycloak".to_owned());
            provider.logout_token_without_exp = without_exp;
        });
        fake(&rig);
        let issuer = rig.provider.issuer.clone();
        let mut browser = rig.browser();
        sign_in(&rig, &mut browser, "", Some(&issuer)).await;
        assert_eq!(logout(&rig, &browser, &changes).await, status, "{changes}");
        let ended = status == StatusCode::OK && changes.get("sid").is_none();
        assert_eq!(browser.is_signed_in().await, !ended, "{changes}");
    }
}

#[tokio::test]
async fn metadata_at_an_internal_address_are_those_of_the_issuer_and_of_nobody_else() {
    for (place, named, good) in [
        ("/internal/openid-configuration", "/realms/shop", true),
        ("/internal/openid-configuration", "/realms/other", false),
        ("/internal/nothing", "/realms/shop", false),
    ] {
        let rig = with_preset("keycloak", |config| {
            let provider = provider_of(config);
            provider.habits.discovery = Some(format!("{}{place}", provider.issuer));
            provider.issuer.push_str("/realms/shop");
        })
        .await;
        fake(&rig);
        script(&rig, |script, origin| {
            script.metadata = json!({"issuer": format!("{origin}{named}")});
            script.claims["iss"] = format!("{origin}/realms/shop").into();
        });
        let mut browser = rig.browser();
        if good {
            let issuer = format!("{}/realms/shop", rig.provider.issuer);
            sign_in(&rig, &mut browser, "", Some(&issuer)).await;
            assert!(browser.is_signed_in().await);
        } else {
            let answer = browser.fetch(Method::POST, "/auth/login/start", "").await;
            assert_eq!(answer.error_code(), "provider_error", "{place} {named}");
        }
    }
}
