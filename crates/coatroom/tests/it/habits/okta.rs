//! Okta: a custom authorization server below the organization, `offline_access`, a sign-out that
//! insists on the ID token.

use http::Method;
use serde_json::json;

use super::{asked, login_error, refresh, script, sign_in, sign_out, with_preset};
use crate::support::{Rig, provider_of};

async fn rig() -> Rig {
    let rig = with_preset("okta", |config| {
        provider_of(config).issuer.push_str("/oauth2/default");
    })
    .await;
    script(&rig, |script, origin| {
        let issuer = format!("{origin}/oauth2/default");
        script.metadata = json!({
            "issuer": issuer,
            "authorization_response_iss_parameter_supported": null,
            "token_endpoint_auth_methods_supported": [
                "client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none",
            ],
            "code_challenge_methods_supported": ["S256"],
        });
        script.claims = json!({"iss": issuer, "auth_time": 1000, "idp": "00o1", "amr": ["pwd"], "ver": 1});
        script.refresh_wants = Some(("scope", "offline_access"));
        script.expires_in = Some(3600);
    });
    rig
}

#[tokio::test]
async fn a_user_of_a_custom_authorization_server_signs_in_refreshes_and_signs_out() {
    let rig = rig().await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "idp=0oa1", None).await;
    let asked = asked(&rig);
    assert_eq!(asked["scope"], "openid profile offline_access");
    assert_eq!(asked["idp"], "0oa1");
    rig.advance(900);
    refresh(&mut browser).await;
    let (_, told) = sign_out(&mut browser).await;
    assert_eq!(
        told["id_token_hint"].split('.').count(),
        3,
        "Okta refuses a sign-out without it"
    );
}

#[tokio::test]
async fn the_organizations_own_server_is_another_issuer() {
    let rig = rig().await;
    let organization = rig.provider.issuer.clone();
    rig.provider.script().claims["iss"] = organization.clone().into();
    let mut browser = rig.browser();
    let answer = sign_in(&rig, &mut browser, "", None).await;
    assert_eq!(login_error(&answer), "provider_error");
    // nor may its metadata stand in for those of the custom one
    let rig = with_preset("okta", |config| {
        provider_of(config).issuer.push_str("/oauth2/default");
    })
    .await;
    let answer = rig.browser().fetch(Method::POST, "/auth/login/start", "").await;
    assert_eq!(answer.error_code(), "provider_error");
}
