//! Providers of plain OAuth 2.0: no ID token says who the user is, an endpoint does, or nobody.

use coatroom_core::assurance::DemandsConfig;
use coatroom_core::config::{ApplicationConfig, EndpointsConfig, PlainConfig, SessionStorage, UserConfig};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::browser::{Answer, Browser};
use crate::support::provider::shapes::Userinfo;
use crate::support::{Rig, provider_of, route, store_settings};

fn plain(config: &mut ApplicationConfig) {
    let provider = provider_of(config);
    provider.scopes = Some(vec!["orders".to_owned()]);
    provider.plain = PlainConfig {
        protocol: Some("oauth2".to_owned()),
        user: Some(UserConfig {
            subject: Some("id".to_owned()),
            ..UserConfig::default()
        }),
        ..PlainConfig::default()
    };
    let mut orders = route("/orders/");
    orders.require = Some(DemandsConfig {
        scopes: vec!["orders".to_owned()],
        claims: vec![("role".to_owned(), vec!["admin".to_owned()])],
        ..DemandsConfig::default()
    });
    config.routes.push(orders);
}

fn anonymous(config: &mut ApplicationConfig) {
    plain(config);
    let user = UserConfig {
        subject: Some("none".to_owned()),
        ..UserConfig::default()
    };
    provider_of(config).plain.user = Some(user);
    config.routes.retain(|route| route.path != "/orders/");
}

/// A service with each kind of storage, at a provider of plain OAuth.
async fn worlds(change: impl Fn(&mut ApplicationConfig)) -> Vec<(&'static str, Rig)> {
    let settings = || Box::new(store_settings());
    let mut worlds = Vec::new();
    for (name, storage) in [
        ("cookies", SessionStorage::Cookie),
        ("store", SessionStorage::Store(settings())),
        ("revocations", SessionStorage::CookieWithRevocations(settings())),
    ] {
        let rig = Rig::new().await.replica_with(storage, &change);
        be(&rig, json!({"id": 583_231, "login": "alice", "role": "admin"}));
        rig.provider.script().metadata =
            json!({"jwks_uri": null, "userinfo_signing_alg_values_supported": null});
        rig.provider.script().token_members = json!({"id_token": null});
        worlds.push((name, rig));
    }
    worlds
}

/// The user's endpoint answers this from now on.
fn be(rig: &Rig, answer: Value) {
    rig.provider.script().shapes.userinfo = Userinfo::Json(answer);
}

async fn refresh(browser: &mut Browser) -> Answer {
    browser.fetch(Method::POST, "/auth/refresh", "").await
}

/// A sign-in that comes to nothing: what `login/end` says.
async fn refused(rig: &Rig) -> Answer {
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    let query = callback.split_once('?').expect("a query").1.to_owned();
    let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
    assert!(!browser.is_signed_in().await);
    answer
}

#[tokio::test]
async fn a_user_signs_in_calls_refreshes_and_signs_out_without_an_id_token() {
    for (world, rig) in worlds(plain).await {
        let mut browser = rig.signed_in().await;
        {
            let script = rig.provider.script();
            let asked = script.requests.last().expect("one request");
            assert!(!asked.contains_key("nonce"), "{world}");
            assert_eq!(
                (&*asked["scope"], &*asked["code_challenge_method"]),
                ("orders", "S256"),
                "{world}"
            );
            assert_eq!(script.jwks_requests, 0, "{world}: nobody needs keys");
        }
        let claims = browser.session().await["id_token_claims"].clone();
        let issuer = rig.provider.issuer.as_str();
        let expected =
            json!({"iss": issuer, "sub": "583231", "id": 583_231, "login": "alice", "role": "admin"});
        assert_eq!(claims, expected, "{world}");
        // scopes are those that were asked for, claims those of the endpoint
        let answer = browser.fetch(Method::GET, "/orders/1", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{world}: {}", answer.body);
        let passed = rig.api.last();
        let credentials = passed.headers()["authorization"].to_str().expect("ascii");
        assert!(credentials.starts_with("Bearer canary-access-"), "{world}");

        be(&rig, json!({"id": 583_231, "login": "alice", "role": "guest"}));
        let answer = refresh(&mut browser).await;
        assert_eq!(answer.status, StatusCode::OK, "{world}: {}", answer.body);
        rig.advance(5);
        assert_eq!(
            browser.session().await["id_token_claims"]["role"],
            "guest",
            "{world}"
        );
        let answer = browser.fetch(Method::GET, "/orders/1", "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{world}");

        // the provider has a page for it, and what stands for an ID token is sent to nobody
        let out = browser.fetch(Method::POST, "/auth/logout", "").await;
        assert_eq!(out.json(), json!({}), "{world}");
        assert!(!browser.is_signed_in().await, "{world}");
        rig.until(|| rig.provider.script().revoked.len() == 2).await;
    }
}

#[tokio::test]
async fn an_answer_that_names_nobody_signs_nobody_in() {
    for (world, rig) in worlds(plain).await {
        for (name, answer, status, code) in [
            (
                "no member",
                Userinfo::Json(json!({"login": "alice"})),
                502,
                "provider_error",
            ),
            ("null", Userinfo::Json(json!({"id": null})), 502, "provider_error"),
            (
                "a fraction",
                Userinfo::Json(json!({"id": 1.5})),
                502,
                "provider_error",
            ),
            (
                "a jwt",
                Userinfo::Signed("JWT", json!({"id": 1})),
                502,
                "provider_error",
            ),
            (
                "a page",
                Userinfo::Answer(200, "text/html", "{\"id\":1}".to_owned()),
                502,
                "provider_error",
            ),
            (
                "refused",
                Userinfo::Answer(401, "application/json", "{\"id\":1}".to_owned()),
                502,
                "provider_error",
            ),
            (
                "away",
                Userinfo::Answer(503, "text/plain", String::new()),
                503,
                "provider_unavailable",
            ),
        ] {
            rig.provider.script().shapes.userinfo = answer;
            let answer = refused(&rig).await;
            assert_eq!(
                (answer.status.as_u16(), answer.error_code().as_str()),
                (status, code),
                "{world}: {name}"
            );
            rig.advance(60);
        }
    }
}

#[tokio::test]
async fn a_refresh_that_is_another_users_ends_the_session_and_what_came_is_revoked() {
    for (name, other) in [
        ("another user", json!({"id": 5, "login": "mallory"})),
        // nobody is taken for the same because the rest of the answer is of no use
        ("with long claims", json!({"id": 5, "bio": "x".repeat(5000)})),
    ] {
        for (world, rig) in worlds(plain).await {
            let mut browser = rig.signed_in().await;
            be(&rig, other.clone());
            let before = rig.provider.script().issued.len();
            let answer = refresh(&mut browser).await;
            assert_eq!(answer.error_code(), "session_expired", "{world}: {name}");
            assert!(!browser.is_signed_in().await, "{world}: {name}");
            rig.until(|| rig.provider.script().revoked.len() == 2).await;
            {
                let script = rig.provider.script();
                let newest = &script.issued[before..];
                for token in &script.revoked {
                    assert!(newest.contains(token), "{world}: {name}: {token}");
                }
            }
            // and it stays over, whoever answers now
            be(&rig, json!({"id": 583_231}));
            rig.advance(120);
            assert_eq!(refresh(&mut browser).await.status, StatusCode::UNAUTHORIZED);
            assert_eq!(rig.provider.count("refresh_token", 200), 1, "{world}: {name}");
        }
    }
}

#[tokio::test]
async fn a_refresh_whose_question_is_not_answered_loses_nothing() {
    let answer = |status, content_type, body: &str| Userinfo::Answer(status, content_type, body.to_owned());
    for (world, rig) in worlds(plain).await {
        // a spent refresh token ends the session
        let mut browser = rig.signed_in().await;
        let refused = r#"{"message":"API rate limit exceeded"}"#;
        for (count, (name, answer)) in [
            ("away", answer(503, "text/plain", "")),
            ("a limit", answer(403, "application/json", refused)),
            ("not there", answer(404, "application/json", "{}")),
            ("elsewhere", answer(302, "text/html", "")),
            ("a page", answer(200, "text/html", "<html>")),
            ("nobody", Userinfo::Json(json!({"login": "mallory"}))),
            (
                "long claims",
                Userinfo::Json(json!({"id": 583_231, "bio": "x".repeat(5000)})),
            ),
        ]
        .into_iter()
        .enumerate()
        {
            rig.provider.script().shapes.userinfo = answer;
            let answer = refresh(&mut browser).await;
            assert_eq!(answer.status, StatusCode::OK, "{world}: {name}: {}", answer.body);
            let claims = browser.session().await["id_token_claims"].clone();
            assert_eq!(
                (&claims["sub"], &claims["login"], &claims["role"]),
                (&json!("583231"), &json!("alice"), &json!("admin")),
                "{world}: {name}"
            );
            let answer = browser.fetch(Method::GET, "/orders/1", "").await;
            assert_eq!(answer.status, StatusCode::OK, "{world}: {name}: {}", answer.body);
            let redeemed = rig.provider.count("refresh_token", 200);
            assert_eq!(redeemed, count + 1, "{world}: {name}");
            rig.advance(120);
        }
        be(&rig, json!({"id": 583_231, "login": "alice", "role": "guest"}));
        assert_eq!(refresh(&mut browser).await.status, StatusCode::OK, "{world}");
        assert_eq!(
            browser.session().await["id_token_claims"]["role"],
            "guest",
            "{world}"
        );
        assert!(rig.provider.script().revoked.is_empty(), "{world}");
    }
}

#[tokio::test]
async fn a_refresh_without_anybody_to_ask_loses_nothing() {
    let rig = worlds(plain).await.remove(0).1;
    let browser = rig.signed_in().await;
    rig.provider.script().metadata["userinfo_endpoint"] = Value::Null;
    let later = rig.replica_with(SessionStorage::Cookie, plain);
    let mut browser = browser.at(later.service.clone());
    for _ in 0..2 {
        let answer = refresh(&mut browser).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(browser.session().await["id_token_claims"]["login"], "alice");
        rig.advance(120);
    }
    assert_eq!(rig.provider.count("refresh_token", 200), 2);
}

#[tokio::test]
async fn who_is_not_asked_again_stays_who_it_was() {
    let never = |config: &mut ApplicationConfig| {
        plain(config);
        let user = provider_of(config).plain.user.as_mut().expect("just set");
        user.at_refresh = Some("never".to_owned());
    };
    for (world, rig) in worlds(never).await {
        let mut browser = rig.signed_in().await;
        be(&rig, json!({"id": 5}));
        assert_eq!(refresh(&mut browser).await.status, StatusCode::OK, "{world}");
        assert_eq!(
            browser.session().await["id_token_claims"]["login"],
            "alice",
            "{world}"
        );
        assert_eq!(rig.provider.script().shapes.asked, 1, "{world}");
    }
}

#[tokio::test]
async fn an_id_token_that_comes_all_the_same_says_nothing() {
    for (world, rig) in worlds(plain).await {
        // signed, of somebody else, and with a nonce that nobody sent
        rig.provider.script().token_members = json!({});
        rig.provider.script().claims = json!({"sub": "mallory", "role": "owner", "acr": "gold", "sid": "s"});
        let mut browser = rig.signed_in().await;
        assert_eq!(refresh(&mut browser).await.status, StatusCode::OK, "{world}");
        let claims = browser.session().await["id_token_claims"].clone();
        assert_eq!(claims["sub"], "583231", "{world}");
        assert_eq!(claims["role"], "admin", "{world}");
        assert!(claims["acr"].is_null() && claims["sid"].is_null(), "{world}");
    }
}

#[tokio::test]
async fn a_session_of_nobody_works_and_is_nobody_elses() {
    for (world, rig) in worlds(anonymous).await {
        let mut browser = rig.signed_in().await;
        let mut other = rig.signed_in().await;
        assert_eq!(rig.provider.script().shapes.asked, 0, "{world}");
        let session = browser.session().await;
        assert_eq!(session["is_logged_in"], true, "{world}");
        assert_eq!(
            session["id_token_claims"],
            json!({"iss": rig.provider.issuer}),
            "{world}"
        );
        assert_eq!(
            browser.fetch(Method::GET, "/api/x", "").await.status,
            StatusCode::OK,
            "{world}"
        );
        assert_eq!(refresh(&mut browser).await.status, StatusCode::OK, "{world}");
        if world != "cookies" {
            let out = browser
                .fetch(Method::POST, "/auth/logout", "everywhere=true")
                .await;
            assert_eq!(out.status, StatusCode::OK, "{world}: {}", out.body);
        } else {
            browser.fetch(Method::POST, "/auth/logout", "").await;
        }
        assert!(!browser.is_signed_in().await, "{world}");
        rig.advance(5);
        assert!(other.is_signed_in().await, "{world}: that is another stranger");
        if world == "store" {
            let listed = other.fetch(Method::GET, "/auth/sessions", "").await;
            assert_eq!(
                listed.json()["sessions"].as_array().map(Vec::len),
                Some(1),
                "{world}"
            );
        }
    }
}

#[tokio::test]
async fn what_only_an_id_token_could_answer_is_not_asked_for() {
    let rig = worlds(plain).await.remove(0).1;
    let mut browser = rig.browser();
    for asked in ["max_age=60", "acr_values=gold"] {
        let answer = browser.fetch(Method::POST, "/auth/login/start", asked).await;
        assert_eq!(answer.error_code(), "invalid_request", "{asked}");
    }
    let answer = browser
        .fetch(Method::POST, "/auth/login/start", "scope=orders")
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn a_logout_token_finds_no_keys_and_ends_nothing() {
    for (world, rig) in worlds(plain).await {
        if world == "cookies" {
            continue;
        }
        let mut browser = rig.signed_in().await;
        let token = rig.provider.logout_token(&json!({"sub": "583231"}));
        let mut provider = rig.browser();
        let body = format!("logout_token={token}");
        let answer = provider.post_form("/auth/backchannel-logout", &body, None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{world}: {}", answer.body);
        rig.advance(5);
        assert!(browser.is_signed_in().await, "{world}");
    }
}

#[tokio::test]
async fn with_endpoints_no_metadata_are_fetched_and_iss_counts_where_it_is() {
    let rig = Rig::with(|config| {
        plain(config);
        let issuer = provider_of(config).issuer.clone();
        provider_of(config).plain.endpoints = Some(EndpointsConfig {
            authorization: format!("{issuer}/authorize"),
            token: format!("{issuer}/token"),
            revocation: Some(format!("{issuer}/revoke")),
            introspection: None,
        });
        let user = provider_of(config).plain.user.as_mut().expect("just set");
        user.endpoint = Some(format!("{issuer}/userinfo"));
    })
    .await;
    be(&rig, json!({"id": "alice"}));
    rig.provider.script().token_members = json!({"id_token": null});
    rig.provider.script().discovery_down = true;
    let mut browser = rig.signed_in().await;
    assert_eq!(browser.session().await["id_token_claims"]["sub"], "alice");
    assert_eq!(refresh(&mut browser).await.status, StatusCode::OK);
    assert_eq!(rig.provider.script().discovery_requests, 0);
    browser.fetch(Method::POST, "/auth/logout", "").await;
    rig.until(|| rig.provider.script().revoked.len() == 2).await;

    let callback = browser.start(&rig.provider, "alice").await;
    let query = callback.split_once('?').expect("a query").1;
    let other: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.starts_with("iss="))
        .collect();
    let other = format!("{}&iss=https%3A%2F%2Fevil.example", other.join("&"));
    let answer = browser.fetch(Method::POST, "/auth/login/end", &other).await;
    assert!(
        answer.body.contains("does not come from the configured provider"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn a_session_of_an_id_token_does_not_send_what_stands_for_one() {
    // the configuration changes from plain OAuth to OpenID Connect while somebody is signed in
    let rig = worlds(plain).await.remove(0).1;
    let browser = rig.signed_in().await;
    rig.provider.script().metadata = json!({});
    let openid = rig.replica_with(SessionStorage::Cookie, |_| {});
    let mut browser = browser.at(openid.service.clone());
    assert!(browser.is_signed_in().await);
    let out = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert!(out.json()["logout_url"].is_string(), "{}", out.body);
    let onward = browser
        .navigate("/auth/logout/continue", crate::support::browser::Site::Same)
        .await;
    assert!(onward.location().contains("/end?"), "{}", onward.location());
    assert!(
        !onward.location().contains("id_token_hint"),
        "{}",
        onward.location()
    );
}
