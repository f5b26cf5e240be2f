//! Answers of one provider where another's are expected (mix-up, RFC 9700 §4.4): refused, and nothing of
//! the sign-in that they belong to is lost.

use coatroom_core::config::SessionStorage;
use http::{Method, StatusCode};
use serde_json::json;

use crate::several::{Two, one_page, start};
use crate::support::browser::Site;
use crate::support::store_settings;

/// Without `iss`, as providers answer that do not know RFC 9207.
fn without_iss(query: &str) -> String {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let mut kept = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.filter(|(name, _)| name != "iss") {
        kept.append_pair(&name, &value);
    }
    kept.finish()
}

/// How many token requests either has seen.
fn asked(two: &Two) -> usize {
    two.corp().script().token_requests.len() + two.google.script().token_requests.len()
}

#[tokio::test]
async fn an_answer_at_another_providers_redirect_uri_is_refused() {
    for storage in [
        SessionStorage::Cookie,
        SessionStorage::Store(Box::new(store_settings())),
    ] {
        let two = Two::with(storage, |_| {}).await;
        for provider in [two.corp(), &two.google] {
            provider.script().metadata = json!({"authorization_response_iss_parameter_supported": false});
        }
        for (own, other) in [("corp", "google"), ("google", "corp")] {
            let mut browser = two.rig.browser();
            let url = start(&mut browser, &format!("provider={own}")).await;
            let provider = if own == "corp" { two.corp() } else { &two.google };
            let query = without_iss(&provider.approve(&url, "alice"));
            let before = asked(&two);
            let answer = browser
                .navigate(&format!("/auth/callback/{other}?{query}"), Site::Cross)
                .await;
            assert_eq!(
                answer.location(),
                "https://shop.example/?login_error=login_state_invalid",
                "{own}"
            );
            assert_eq!(asked(&two), before, "{own}: nobody is shown the code");
            assert!(!browser.is_signed_in().await, "{own}");
            // an error that somebody made up ends it no more than that
            let state = query
                .split('&')
                .find(|pair| pair.starts_with("state="))
                .expect("a state");
            let made_up = format!("/auth/callback/{other}?error=access_denied&{state}");
            let answer = browser.navigate(&made_up, Site::Cross).await;
            assert!(answer.location().contains("login_error"), "{own}");
            for nowhere in ["/auth/callback", "/auth/callback/evil", "/auth/callback/"] {
                let answer = browser.navigate(&format!("{nowhere}?{query}"), Site::Cross).await;
                assert_ne!(answer.status, StatusCode::OK, "{nowhere}");
                assert_eq!(asked(&two), before, "{nowhere}");
            }
            // where it belongs it can still be finished
            let answer = browser
                .navigate(&format!("/auth/callback/{own}?{query}"), Site::Cross)
                .await;
            assert_eq!(answer.location(), "https://shop.example/", "{own}");
            assert_eq!(browser.session().await["provider"], own);
        }
    }
}

#[tokio::test]
async fn another_issuer_is_refused_at_the_right_redirect_uri() {
    let two = Two::with(SessionStorage::Cookie, |_| {}).await;
    let mut browser = two.rig.browser();
    let url = start(&mut browser, "provider=corp").await;
    let query = without_iss(&two.corp().approve(&url, "alice"));
    let google: String = url::form_urlencoded::byte_serialize(two.google.issuer.as_bytes()).collect();
    let target = format!("/auth/callback/corp?{query}&iss={google}");
    let answer = browser.navigate(&target, Site::Cross).await;
    assert!(answer.location().contains("login_error"), "{}", answer.location());
    assert_eq!(asked(&two), 0);
}

#[tokio::test]
async fn at_one_page_for_all_an_answer_has_to_say_whose_it_is() {
    let two = Two::with(SessionStorage::Cookie, one_page).await;
    for name in ["corp", "google"] {
        let (own, other) = match name {
            "corp" => (two.corp(), &two.google),
            _ => (&two.google, two.corp()),
        };
        let other: String = url::form_urlencoded::byte_serialize(other.issuer.as_bytes()).collect();
        for (case, iss, code) in [
            ("no iss", None, "login_state_invalid"),
            ("another's iss", Some(other.as_str()), "login_state_invalid"),
        ] {
            let mut browser = two.rig.browser();
            let url = start(&mut browser, &format!("provider={name}")).await;
            let mut query = without_iss(&own.approve(&url, "alice"));
            if let Some(iss) = iss {
                query = format!("{query}&iss={iss}");
            }
            let before = asked(&two);
            let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
            assert_eq!(answer.error_code(), code, "{name}: {case}");
            assert_eq!(asked(&two), before, "{name}: {case}");
        }
        let mut browser = two.rig.browser();
        let url = start(&mut browser, &format!("provider={name}")).await;
        let query = own.approve(&url, "alice");
        let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
        assert_eq!(answer.status, StatusCode::OK, "{name}: {}", answer.body);
        assert_eq!(answer.json()["provider"], name);
        // a reload of the page, or effects that run twice
        let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
        assert_eq!(answer.json()["provider"], name, "{}", answer.body);
    }
}

#[tokio::test]
async fn who_does_not_say_iss_begins_no_sign_in_at_one_page_for_all() {
    let two = Two::with(SessionStorage::Cookie, one_page).await;
    two.google.script().metadata = json!({"authorization_response_iss_parameter_supported": false});
    let mut browser = two.rig.browser();
    let answer = browser
        .fetch(Method::POST, "/auth/login/start", "provider=google")
        .await;
    assert_eq!(answer.error_code(), "provider_error");
    let answer = browser.navigate("/auth/login?provider=google", Site::Same).await;
    assert_eq!(
        answer.location(),
        "https://shop.example/?login_error=provider_error"
    );
    drop(start(&mut browser, "provider=corp").await);
}

#[tokio::test]
async fn signed_answers_lead_to_their_provider() {
    let two = Two::with(SessionStorage::Cookie, |config| {
        config.login_callback = Some("/signed-in".to_owned());
        for (_, provider) in config.providers.as_mut().expect("several") {
            provider.authorization.response_mode = Some("jwt".to_owned());
        }
    })
    .await;
    for provider in [two.corp(), &two.google] {
        provider.script().metadata = json!({"authorization_response_iss_parameter_supported": false});
    }
    let mut browser = two.rig.browser();
    let url = start(&mut browser, "provider=google").await;
    let query = two.google.approve(&url, "alice");
    let requested = two.google.script().front.requested.clone();
    let forged = two
        .corp()
        .signed_response(&json!({"code": "c", "state": requested["state"]}));
    let answer = browser
        .fetch(Method::POST, "/auth/login/end", &format!("response={forged}"))
        .await;
    assert!(answer.status.is_client_error(), "{}", answer.body);
    assert_eq!(asked(&two), 0);
    let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.json()["provider"], "google");
}

/// Any page may link to a callback: that chooses for nobody as whom they are here.
#[tokio::test]
async fn a_link_to_a_callback_chooses_no_provider() {
    let two = Two::with(SessionStorage::Cookie, |_| {}).await;
    let link = |name: &str| format!("/auth/callback/{name}?code=made-up&state=0made-up");
    let mut browser = two.rig.browser();
    let answer = browser.navigate(&link("google"), Site::Cross).await;
    assert_eq!(
        answer.location(),
        "https://shop.example/?login_error=login_state_invalid"
    );
    let answer = browser.navigate(&link("corp"), Site::Cross).await;
    assert!(answer.location().starts_with(&two.corp().issuer));
    assert_eq!(asked(&two), 0);
}
