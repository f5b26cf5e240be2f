//! Tokens of other shapes: encrypted ID tokens (RFC 7516), and userinfo (OpenID Connect Core §5.3).

use coatroom_core::assurance::DemandsConfig;
use coatroom_core::config::{ApplicationConfig, PrivateKeyPem, SessionStorage};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::browser::{Answer, Browser, Site};
use crate::support::provider::shapes::{Userinfo, client_key, encrypt};
use crate::support::{Rig, provider_of, route, store_settings};

/// A service with each kind of storage, before the provider is told anything.
async fn worlds(change: impl Fn(&mut ApplicationConfig)) -> Vec<(&'static str, Rig)> {
    let stored = SessionStorage::Store(Box::new(store_settings()));
    let base = Rig::with(&change).await;
    vec![
        ("cookies", base.replica_with(base.storage(), &change)),
        ("store", base.replica_with(stored, &change)),
    ]
}

async fn refresh(browser: &mut Browser) -> Answer {
    browser.fetch(Method::POST, "/auth/refresh", "").await
}

/// A sign-in that comes to nothing: what `login/end` says.
async fn refused(browser: &mut Browser, rig: &Rig) -> Answer {
    let callback = browser.start(&rig.provider, "alice").await;
    let query = callback.split_once('?').expect("a query").1.to_owned();
    let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
    assert!(!browser.is_signed_in().await);
    answer
}

fn name(session: &Value) -> &Value {
    &session["id_token_claims"]["name"]
}

#[tokio::test]
async fn an_encrypted_id_token_signs_in_and_what_is_kept_is_the_one_inside() {
    let (old, new) = (client_key(), client_key());
    let keys = [&new.0, &old.0].map(|pem| PrivateKeyPem::new(pem.clone()));
    let set = |config: &mut ApplicationConfig| {
        provider_of(config).id_token_decryption_keys = keys.to_vec();
    };
    for (world, rig) in worlds(set).await {
        for point in [&old.1, &new.1] {
            rig.provider.script().shapes.encrypt_to = Some((point.clone(), json!({})));
            let mut browser = rig.browser();
            browser.sign_in(&rig.provider, "alice").await;
            assert_eq!(name(&browser.session().await), "Alice Example", "{world}");
            let answer = refresh(&mut browser).await;
            assert_eq!(answer.status, StatusCode::OK, "{world}: {}", answer.body);
            assert_eq!(name(&browser.session().await), "Alice Example", "{world}");
            // the hint is what the provider signed (RP-Initiated Logout §2)
            let out = browser.fetch(Method::POST, "/auth/logout", "").await;
            let url = out.json()["logout_url"].as_str().unwrap_or_default().to_owned();
            if let Some((_, hint)) = url.split_once("id_token_hint=") {
                let hint = hint.split('&').next().unwrap_or_default();
                assert_eq!(hint.matches('.').count(), 2, "{world}");
            }
            rig.advance(60);
        }
    }
}

#[tokio::test]
async fn an_id_token_that_does_not_open_signs_nobody_in() {
    let (ours, theirs) = (client_key(), client_key());
    let pem = ours.0.clone();
    let rig = Rig::with(|config| {
        provider_of(config).id_token_decryption_keys = vec![PrivateKeyPem::new(pem)];
    })
    .await;
    let to_us = |members: Value| Some((ours.1.clone(), members));
    for (case, encrypt_to, good) in [
        ("to us", to_us(json!({})), true),
        ("not encrypted", None, false),
        ("to somebody else", Some((theirs.1.clone(), json!({}))), false),
        ("compressed", to_us(json!({"zip": "DEF"})), false),
        ("an extension", to_us(json!({"crit": ["exp"], "exp": 1})), false),
        ("another algorithm", to_us(json!({"alg": "RSA-OAEP-256"})), false),
        ("no algorithm", to_us(json!({"alg": "none"})), false),
        ("CBC", to_us(json!({"enc": "A256CBC-HS512"})), false),
    ] {
        rig.provider.script().shapes.encrypt_to = encrypt_to;
        let mut browser = rig.browser();
        if good {
            browser.sign_in(&rig.provider, "alice").await;
            continue;
        }
        let answer = refused(&mut browser, &rig).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{case}");
        assert_eq!(answer.error_code(), "provider_error", "{case}");
        rig.advance(60);
    }
    // anybody can encrypt to a public key: what is inside has to be signed
    rig.provider.script().shapes.encrypt_to = None;
    let part = |value: Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let claims = json!({
        "iss": rig.provider.issuer, "aud": "shop", "sub": "alice", "exp": rig.now() + 60, "iat": rig.now(),
    });
    let unsigned = format!("{}.{}.", part(json!({"alg": "none"})), part(claims));
    let forged = encrypt(&ours.1, &json!({}), &unsigned);
    rig.provider.script().token_members = json!({"id_token": forged});
    let answer = refused(&mut rig.browser(), &rig).await;
    assert_eq!(answer.error_code(), "provider_error");
}

#[tokio::test]
async fn a_refresh_with_an_id_token_that_does_not_open_ends_nothing() {
    let (ours, theirs) = (client_key(), client_key());
    let pem = ours.0.clone();
    let rig = Rig::with(|config| {
        provider_of(config).id_token_decryption_keys = vec![PrivateKeyPem::new(pem)];
    })
    .await;
    rig.provider.script().shapes.encrypt_to = Some((ours.1, json!({})));
    let mut browser = rig.browser();
    browser.sign_in(&rig.provider, "alice").await;
    rig.provider.script().shapes.encrypt_to = Some((theirs.1, json!({})));
    assert_eq!(refresh(&mut browser).await.error_code(), "provider_error");
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn a_logout_token_may_be_encrypted_and_need_not() {
    for encrypted in [true, false] {
        let (pem, point) = client_key();
        let stored = SessionStorage::Store(Box::new(store_settings()));
        let set = |config: &mut ApplicationConfig| {
            provider_of(config).id_token_decryption_keys = vec![PrivateKeyPem::new(pem)];
        };
        let rig = Rig::with(|_| {}).await.replica_with(stored, set);
        rig.provider.script().shapes.encrypt_to = Some((point, json!({})));
        let mut browser = rig.browser();
        browser.sign_in(&rig.provider, "alice").await;
        if !encrypted {
            rig.provider.script().shapes.encrypt_to = None;
        }
        let token = rig.provider.logout_token(&json!({}));
        let body = format!("logout_token={token}");
        let mut provider = rig.browser();
        let answer = provider.post_form("/auth/backchannel-logout", &body, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{encrypted}: {}", answer.body);
        assert!(!browser.is_signed_in().await, "{encrypted}");
        // without the browser's cookie nobody can open the record and show its tokens
        assert!(rig.provider.script().revoked.is_empty(), "{encrypted}");
    }
}

fn with_userinfo(config: &mut ApplicationConfig) {
    provider_of(config).userinfo = Some("always".to_owned());
    let mut admin = route("/admin/");
    admin.require = Some(DemandsConfig {
        claims: vec![("role".to_owned(), vec!["admin".to_owned()])],
        ..DemandsConfig::default()
    });
    config.routes.push(admin);
}

#[tokio::test]
async fn claims_of_userinfo_are_shown_and_routes_see_them() {
    for (world, rig) in worlds(with_userinfo).await {
        for signed in [false, true] {
            let claims = json!({
                "sub": "alice", "role": "admin", "name": "Somebody", "acr": "gold", "sid": "forged",
            });
            rig.provider.script().shapes.userinfo = match signed {
                true => Userinfo::Signed("JWT", claims),
                false => Userinfo::Json(claims),
            };
            let mut browser = rig.browser();
            browser.sign_in(&rig.provider, "alice").await;
            let session = browser.session().await;
            let shown = &session["id_token_claims"];
            assert_eq!(shown["role"], "admin", "{world}");
            assert_eq!(shown["name"], "Alice Example", "{world}: the ID token wins");
            // only the ID token says how the user signed in
            assert_eq!(shown["acr"], Value::Null, "{world}");
            assert_eq!(shown["sid"], "provider-session", "{world}");
            let answer = browser.fetch(Method::GET, "/admin/x", "").await;
            assert_eq!(answer.status, StatusCode::OK, "{world}");

            // at a refresh it is asked again
            rig.provider.script().shapes.userinfo = Userinfo::Json(json!({"sub": "alice", "role": "guest"}));
            assert_eq!(refresh(&mut browser).await.status, StatusCode::OK, "{world}");
            // what a core remembers of a stored session has to be too old
            rig.advance(5);
            assert_eq!(
                browser.session().await["id_token_claims"]["role"],
                "guest",
                "{world}"
            );
            let answer = browser.fetch(Method::GET, "/admin/x", "").await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{world}");
        }
    }
}

#[tokio::test]
async fn userinfo_that_is_not_this_users_signs_nobody_in() {
    let rig = Rig::with(with_userinfo).await;
    let json_of = |claims: Value| Userinfo::Json(claims);
    let signed = |changes: Value| Userinfo::Signed("JWT", changes);
    let long = "x".repeat(4100);
    let cases = [
        ("another user", json_of(json!({"sub": "bob"})), 502),
        ("another user, signed", signed(json!({"sub": "bob"})), 502),
        ("no sub", json_of(json!({"name": "Alice"})), 502),
        ("a sub that is no text", json_of(json!({"sub": ["alice"]})), 502),
        ("too much", json_of(json!({"sub": "alice", "x": long})), 502),
        (
            "another issuer",
            signed(json!({"sub": "alice", "iss": "https://evil.example"})),
            502,
        ),
        ("no issuer", signed(json!({"sub": "alice", "iss": null})), 502),
        (
            "another audience",
            signed(json!({"sub": "alice", "aud": "other"})),
            502,
        ),
        ("expired", signed(json!({"sub": "alice", "exp": 5})), 502),
        ("an id token", signed(json!({"sub": "alice", "nonce": "n"})), 502),
        (
            "an access token",
            Userinfo::Signed("at+jwt", json!({"sub": "alice"})),
            502,
        ),
        (
            "html",
            Userinfo::Answer(200, "text/html", "<p>canary".to_owned()),
            502,
        ),
        (
            "json as html",
            Userinfo::Answer(200, "text/html", r#"{"sub":"alice"}"#.to_owned()),
            502,
        ),
        (
            "no json",
            Userinfo::Answer(200, "application/json", "canary".to_owned()),
            502,
        ),
        (
            "a member twice",
            Userinfo::Answer(
                200,
                "application/json",
                r#"{"sub":"bob","sub":"alice"}"#.to_owned(),
            ),
            502,
        ),
        (
            "none",
            Userinfo::Answer(
                200,
                "application/jwt",
                "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.".to_owned(),
            ),
            502,
        ),
        (
            "encrypted",
            Userinfo::Answer(200, "application/jwt", "a.b.c.d.e".to_owned()),
            502,
        ),
        (
            "redirected",
            Userinfo::Answer(302, "text/html", String::new()),
            502,
        ),
        (
            "refused",
            Userinfo::Answer(401, "application/json", "{}".to_owned()),
            502,
        ),
        (
            "forbidden",
            Userinfo::Answer(403, "application/json", "{}".to_owned()),
            502,
        ),
        ("away", Userinfo::Answer(503, "text/plain", String::new()), 503),
        ("busy", Userinfo::Answer(429, "text/plain", String::new()), 503),
    ];
    for (case, userinfo, status) in cases {
        rig.provider.script().shapes.userinfo = userinfo;
        let answer = refused(&mut rig.browser(), &rig).await;
        assert_eq!(answer.status.as_u16(), status, "{case}: {}", answer.body);
        let code = if status == 503 {
            "provider_unavailable"
        } else {
            "provider_error"
        };
        assert_eq!(answer.error_code(), code, "{case}");
        assert!(!answer.body.contains("canary"), "{case}");
        rig.advance(60);
    }
}

#[tokio::test]
async fn a_refresh_without_userinfo_keeps_the_claims_and_the_session() {
    for (world, rig) in worlds(with_userinfo).await {
        rig.provider.script().shapes.userinfo = Userinfo::Json(json!({"sub": "alice", "role": "admin"}));
        let mut browser = rig.browser();
        browser.sign_in(&rig.provider, "alice").await;
        for userinfo in [
            Userinfo::Answer(503, "text/plain", String::new()),
            Userinfo::Json(json!({"sub": "bob", "role": "owner"})),
            Userinfo::Answer(401, "text/plain", String::new()),
        ] {
            rig.provider.script().shapes.userinfo = userinfo;
            let answer = refresh(&mut browser).await;
            assert_eq!(answer.status, StatusCode::OK, "{world}: {}", answer.body);
            assert_eq!(
                browser.session().await["id_token_claims"]["role"],
                "admin",
                "{world}"
            );
            rig.advance(120);
        }
        // the tokens are the new ones all the same
        assert!(rig.provider.count("refresh_token", 200) >= 3, "{world}");
    }
}

#[tokio::test]
async fn userinfo_is_asked_with_a_proof_and_once_more_with_the_nonce_it_wants() {
    let rig = Rig::with(|config| {
        with_userinfo(config);
        provider_of(config).dpop = Some("ES256".to_owned());
        for route in &mut config.routes {
            route.public_url = Some("https://api.example.com".to_owned());
        }
    })
    .await;
    {
        let mut script = rig.provider.script();
        script.dpop = true;
        script.shapes.nonces.demanded = true;
        script.shapes.userinfo = Userinfo::Json(json!({"sub": "alice", "role": "admin"}));
    }
    let mut browser = rig.browser();
    browser.sign_in(&rig.provider, "alice").await;
    assert_eq!(browser.session().await["id_token_claims"]["role"], "admin");
    assert_eq!(rig.provider.script().shapes.asked, 2);
    // for ever the wrong nonce: asked twice and no more
    rig.provider.script().shapes.userinfo = Userinfo::Answer(401, "text/plain", String::new());
    let answer = refused(&mut rig.browser(), &rig).await;
    assert_eq!(answer.error_code(), "provider_error");
    assert_eq!(rig.provider.script().shapes.asked, 4);
}

#[tokio::test]
async fn without_an_endpoint_userinfo_is_an_error_that_says_so_and_by_default_nobody_asks() {
    let rig = Rig::with(with_userinfo).await;
    rig.provider.script().metadata = json!({"userinfo_endpoint": null});
    let answer = refused(&mut rig.browser(), &rig).await;
    assert_eq!(answer.error_code(), "provider_error");
    let rig = Rig::with(|_| {}).await;
    rig.signed_in().await.navigate("/auth/session", Site::Same).await;
    assert_eq!(rig.provider.script().shapes.asked, 0);
}
