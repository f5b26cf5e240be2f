//! Providers' habits: for each provider a fake that has them, and what Coatroom makes of it. Each fake is
//! the scripted provider with the metadata, claims and answers of the real one; docs/providers.md has
//! the sources.

mod adfs;
mod auth0;
mod cognito;
mod entra;
mod github;
mod gitlab;
mod google;
mod keycloak;
mod okta;

use std::collections::HashMap;

use coatroom_core::config::ApplicationConfig;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::support::browser::{Answer, Browser, Site};
use crate::support::{Rig, provider_of};

/// An application with a preset, and nothing else that another one would not have.
async fn with_preset(name: &str, change: impl FnOnce(&mut ApplicationConfig)) -> Rig {
    Rig::with(|config| {
        let provider = provider_of(config);
        provider.scopes = None;
        provider.habits.preset = Some(name.to_owned());
        change(config);
    })
    .await
}

/// Changes what the provider does and says.
fn script(rig: &Rig, change: impl FnOnce(&mut crate::support::provider::Script, &str)) {
    change(&mut rig.provider.script(), &rig.provider.issuer);
}

/// Starts a sign-in with these parameters, lets the user approve, and comes back with this `iss`.
async fn sign_in(rig: &Rig, browser: &mut Browser, asked: &str, iss: Option<&str>) -> Answer {
    let started = browser.fetch(Method::POST, "/auth/login/start", asked).await;
    assert_eq!(started.status, StatusCode::OK, "{}", started.body);
    let json = started.json();
    let url = json["authorization_url"].as_str().expect("an authorization URL");
    let query = rig.provider.approve(url, "alice");
    let mut answer = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name != "iss" {
            answer.append_pair(&name, &value);
        }
    }
    if let Some(iss) = iss {
        answer.append_pair("iss", iss);
    }
    browser
        .navigate(&format!("/auth/callback?{}", answer.finish()), Site::Cross)
        .await
}

/// What a sign-in that failed says to the SPA; empty for one that did not.
fn login_error(answer: &Answer) -> String {
    let url = url::Url::parse(answer.location()).expect("a URL");
    url.query_pairs()
        .find(|(name, _)| name == "login_error")
        .map_or_else(String::new, |(_, code)| code.into_owned())
}

/// The parameters of the last authorization request.
fn asked(rig: &Rig) -> HashMap<String, String> {
    rig.provider.script().requests.last().expect("a sign-in").clone()
}

/// Refreshes, which must go well.
async fn refresh(browser: &mut Browser) -> Value {
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.json()
}

/// Signs out as far as the page of the provider: where that is, and what it is told.
async fn sign_out(browser: &mut Browser) -> (String, HashMap<String, String>) {
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert!(answer.json()["logout_url"].is_string(), "{}", answer.body);
    assert!(!browser.is_signed_in().await);
    let onward = browser.navigate("/auth/logout/continue", Site::Same).await;
    let mut url = url::Url::parse(onward.location()).expect("a URL");
    let told = url.query_pairs().into_owned().collect();
    url.set_query(None);
    (url.into(), told)
}
