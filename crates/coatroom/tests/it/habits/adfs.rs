//! AD FS: an issuer with a path, `resource`, access tokens of another issuer, refresh tokens that are not
//! renewed, an access token whose `auth_time` is text.

use http::{Method, StatusCode};
use serde_json::json;

use super::{asked, refresh, script, sign_in, sign_out, with_preset};
use crate::support::provider::Rotation;
use crate::support::{Rig, provider_of};

const RESOURCE: &str = "https://api.example.com/orders";

async fn rig() -> Rig {
    let rig = with_preset("adfs", |config| {
        let provider = provider_of(config);
        provider.issuer.push_str("/adfs");
        provider.authorization_parameters = vec![("resource".to_owned(), RESOURCE.to_owned())];
    })
    .await;
    script(&rig, |script, origin| {
        script.metadata = json!({
            "issuer": format!("{origin}/adfs"),
            "access_token_issuer": format!("{origin}/adfs/services/trust"),
            "authorization_response_iss_parameter_supported": null,
            "revocation_endpoint": null,
            "token_endpoint_auth_methods_supported": [
                "client_secret_post", "client_secret_basic", "private_key_jwt", "windows_client_authentication",
            ],
            "code_challenge_methods_supported": null,
        });
        script.claims = json!({
            "iss": format!("{origin}/adfs"), "auth_time": 1000, "upn": "alice@corp.example", "unique_name": "CORP\\alice",
        });
        script.refresh = Rotation::Keep;
        script.token_members = json!({
            "resource": RESOURCE, "refresh_token_expires_in": 28_799, "scope": "openid", "token_type": "bearer",
            // what Coatroom never reads: another issuer, an auth_time that is text
            "access_token": "eyJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwOi8vYWRmcy9hZGZzL3NlcnZpY2VzL3RydXN0IiwiYXV0aF90aW1lIjoiMjAyMC0wMy0xNFQxODo1MjowMS4xODBaIn0.c2ln",
        });
    });
    rig
}

#[tokio::test]
async fn the_resource_is_asked_for_and_its_token_passed_on_unread() {
    let rig = rig().await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "domain_hint=corp.example", None).await;
    let asked = asked(&rig);
    assert_eq!((&*asked["resource"], &*asked["scope"]), (RESOURCE, "openid"));
    assert_eq!(asked["domain_hint"], "corp.example");
    let answer = browser.fetch(Method::GET, "/api/orders", "").await;
    assert_eq!(answer.status, StatusCode::OK);
    let sent = rig.api.last().headers()["authorization"].clone();
    assert!(
        sent.to_str()
            .expect("ASCII")
            .starts_with("Bearer eyJ0eXAiOiJKV1QifQ.")
    );
    let json = refresh(&mut browser).await;
    assert_eq!(json["session"]["provider_expires_in"], 28_799);
    let (page, told) = sign_out(&mut browser).await;
    assert_eq!(page, format!("{}/end", rig.provider.issuer));
    assert!(told.contains_key("post_logout_redirect_uri"));
}

#[tokio::test]
async fn the_spa_cannot_ask_for_another_resource() {
    let rig = rig().await;
    let answer = rig
        .browser()
        .fetch(Method::POST, "/auth/login/start", "resource=urn%3Aother")
        .await;
    assert_eq!(answer.error_code(), "invalid_request");
}

#[tokio::test]
async fn the_issuer_of_access_tokens_signs_nobody_in() {
    let rig = rig().await;
    let trust = format!("{}/adfs/services/trust", rig.provider.issuer);
    rig.provider.script().claims["iss"] = trust.into();
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    assert!(!browser.is_signed_in().await);
}
