//! Sign-ins under the FAPI 2.0 Security Profile: what it asks of the browser's side.

use coatroom_core::config::{ApplicationConfig, ClientAuthConfig, PrivateKeyJwtConfig, PrivateKeyPem};
use http::StatusCode;

use crate::support::browser::Site;
use crate::support::provider::front::client_key_pem;
use crate::support::{Rig, provider_of};

async fn rig() -> Rig {
    let rig = Rig::with(|config: &mut ApplicationConfig| {
        let provider = provider_of(config);
        provider.client_secret = None;
        provider.client_auth = ClientAuthConfig::PrivateKeyJwt(PrivateKeyJwtConfig {
            key: PrivateKeyPem::new(client_key_pem()),
            algorithm: None,
            kid: Some("client-key".to_owned()),
            audience: None,
        });
        provider.profile = Some("fapi2".to_owned());
    })
    .await;
    rig.provider.offer_par(true);
    {
        let mut script = rig.provider.script();
        script.dpop = true;
        script.credentials = Some(Box::new(|_, form| form.contains_key("client_assertion")));
    }
    rig
}

/// FAPI 2.0 Security Profile §5.3.3.1: nobody begins a sign-in but the user, in the application. Neither
/// does a callback that belongs to no sign-in, which elsewhere begins one afresh.
#[tokio::test]
async fn no_other_site_begins_a_sign_in() {
    let rig = rig().await;
    let mut browser = rig.browser();
    let linked = browser.navigate("/auth/login", Site::Cross).await;
    assert_eq!(linked.status, StatusCode::FORBIDDEN);
    assert_eq!(linked.headers["token-handler-error"], "csrf_rejected");
    for state in ["0x", "1x"] {
        let target = format!("/auth/callback?code=c&state={state}&iss={}", rig.provider.issuer);
        let answer = browser.navigate(&target, Site::Cross).await;
        assert_eq!(
            answer.location(),
            "https://shop.example/?login_error=login_state_invalid",
            "{state}"
        );
    }
    assert!(browser.jar.is_empty(), "nothing is pending");
    assert!(rig.provider.script().front.par_requests.is_empty());
    // the application does
    let own = browser.navigate("/auth/login", Site::Same).await;
    assert!(own.location().starts_with(&rig.provider.issuer));
    browser.sign_in(&rig.provider, "alice").await;
    // what was pushed names the key that redeems the code (RFC 9449 §10.1)
    assert_eq!(rig.provider.script().front.requested["dpop_jkt"].len(), 43);
    assert!(browser.is_signed_in().await);
}
