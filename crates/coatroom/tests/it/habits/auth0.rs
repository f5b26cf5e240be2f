//! Auth0: an issuer that ends with a slash, `audience`, refresh tokens that overlap, 403 for a dead one,
//! a logout page from before there was a specification.

use http::Method;
use serde_json::json;

use super::{asked, login_error, refresh, script, sign_in, sign_out, with_preset};
use crate::support::browser::Site;
use crate::support::provider::{Fault, Rotation};
use crate::support::{Rig, provider_of};

const AUDIENCE: &str = "https://api.example.com";

fn fake(rig: &Rig) {
    script(rig, |script, origin| {
        script.metadata = json!({
            "issuer": format!("{origin}/"),
            "end_session_endpoint": null,
            "authorization_response_iss_parameter_supported": null,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        });
        script.claims = json!({"iss": format!("{origin}/")});
        script.refresh = Rotation::Overlap;
        script.refresh_wants = Some(("scope", "offline_access"));
        script.expires_in = Some(86_400);
    });
}

async fn rig() -> Rig {
    let rig = with_preset("auth0", |config| {
        let provider = provider_of(config);
        provider.issuer.push('/');
        provider.authorization_parameters = vec![("audience".to_owned(), AUDIENCE.to_owned())];
        provider.habits.logout_endpoint = Some(format!("{}v2/logout", provider.issuer));
        provider.habits.logout_return_parameter = Some("returnTo".to_owned());
    })
    .await;
    fake(&rig);
    rig
}

#[tokio::test]
async fn the_issuer_keeps_its_slash_and_the_audience_is_asked_for() {
    let rig = rig().await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "organization=org_1", None).await;
    let asked = asked(&rig);
    assert_eq!(
        (&*asked["audience"], &*asked["organization"]),
        (AUDIENCE, "org_1")
    );
    refresh(&mut browser).await;
    assert!(browser.is_signed_in().await);
    // without the slash it is somebody else
    let origin = rig.provider.issuer.clone();
    rig.provider.script().claims = json!({"iss": origin});
    let answer = sign_in(&rig, &mut rig.browser(), "", None).await;
    assert_eq!(login_error(&answer), "provider_error");
}

#[tokio::test]
async fn the_spa_cannot_ask_for_another_audience() {
    let rig = rig().await;
    let body = "audience=https%3A%2F%2Fadmin.example.com";
    let answer = rig.browser().fetch(Method::POST, "/auth/login/start", body).await;
    assert_eq!(answer.error_code(), "invalid_request");
}

#[tokio::test]
async fn the_logout_page_is_told_where_to_return_to_and_no_token() {
    let rig = rig().await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    let (page, told) = sign_out(&mut browser).await;
    assert_eq!(page, format!("{}/v2/logout", rig.provider.issuer));
    let mut names: Vec<_> = told.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["client_id", "returnTo"]);
    assert_eq!(told["returnTo"], "https://shop.example/auth/logout/callback");
    // no `state` comes back: the browser's own cookie is enough, and a foreign one finishes nothing
    let pending = |browser: &crate::support::browser::Browser| {
        browser.jar.iter().any(|cookie| cookie.name.ends_with("-logout"))
    };
    browser
        .navigate("/auth/logout/callback?state=x", Site::Cross)
        .await;
    assert!(pending(&browser));
    let back = browser.navigate("/auth/logout/callback", Site::Cross).await;
    assert_eq!(back.location(), "https://shop.example/");
    assert!(!pending(&browser));
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_goes_through_within_the_overlap() {
    let rig = rig().await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    // its cookies never arrive, and the memory of it is over
    browser.fetch_late(Method::POST, "/auth/refresh", "").await;
    rig.advance(90);
    refresh(&mut browser).await;
    assert_eq!(rig.provider.count("refresh_token", 200), 2);
}

#[tokio::test]
async fn a_dead_refresh_token_is_one_whatever_its_status() {
    let rig = rig().await;
    let mut browser = rig.browser();
    sign_in(&rig, &mut browser, "", None).await;
    rig.provider.script().token_fault = Some(Fault::Answer(
        403,
        "application/json",
        r#"{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}"#,
    ));
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "session_expired");
    assert!(!browser.is_signed_in().await);
}
