//! `compatibility: duende`: pages that were written for Duende BFF, and what other pages make of it.

use coatroom_core::config::{ApplicationConfig, SessionStorage};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::support::Rig;
use crate::support::browser::{Answer, Browser, Site};

pub(crate) fn duende(config: &mut ApplicationConfig) {
    config.compatibility = Some("duende".to_owned());
}

/// With its sessions in cookies.
pub(crate) async fn rig() -> Rig {
    Rig::with(duende).await
}

/// With its sessions in a store.
pub(crate) async fn stored() -> Rig {
    let rig = Rig::stored().await;
    rig.replica_with(rig.storage(), duende)
}

/// What such a page's `fetch` sends, with some headers changed (an empty value removes one).
fn request(
    browser: &Browser,
    method: &Method,
    path: &str,
    changes: &[(&'static str, &'static str)],
) -> Request<http_body_util::Full<bytes::Bytes>> {
    let (mut parts, body) = browser.fetch_request(method, path, "").into_parts();
    parts.headers.remove("token-handler-version");
    parts.headers.insert("x-csrf", HeaderValue::from_static("1"));
    for (name, value) in changes {
        parts.headers.remove(*name);
        if !value.is_empty() {
            let value = HeaderValue::from_static(value);
            parts.headers.append(HeaderName::from_static(name), value);
        }
    }
    Request::from_parts(parts, body)
}

pub(crate) async fn fetch(browser: &mut Browser, method: Method, path: &str) -> Answer {
    let answer = browser.send(request(browser, &method, path, &[])).await;
    browser.store(&answer.headers);
    answer
}

pub(crate) async fn user(browser: &mut Browser) -> Answer {
    fetch(browser, Method::GET, "/bff/user?slide=false").await
}

/// The values of one type.
fn values<'a>(user: &'a Value, of: &str) -> Vec<&'a Value> {
    let entries = user.as_array().expect("a list").iter();
    entries
        .filter(|entry| entry["type"] == of)
        .map(|entry| &entry["value"])
        .collect()
}

pub(crate) async fn logout_url(browser: &mut Browser) -> String {
    let user = user(browser).await.json();
    let urls = values(&user, "bff:logout_url");
    assert_eq!(urls.len(), 1);
    urls[0].as_str().expect("text").to_owned()
}

pub(crate) async fn signed_in(rig: &Rig) -> Browser {
    let mut browser = rig.browser();
    sign_in(rig, &mut browser, "/bff/login").await;
    browser
}

/// Signs in by the link; gives where the browser is then.
pub(crate) async fn sign_in(rig: &Rig, browser: &mut Browser, link: &str) -> String {
    let start = browser.navigate(link, Site::Same).await;
    assert_eq!(start.status, StatusCode::SEE_OTHER, "{}", start.body);
    let callback = format!(
        "/bff/callback?{}",
        rig.provider.approve(start.location(), "alice")
    );
    let back = browser.navigate(&callback, Site::Cross).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER, "{}", back.body);
    back.location().to_owned()
}

/// Follows a sign-out through the provider; gives where the browser is in the end.
pub(crate) async fn follow(rig: &Rig, browser: &mut Browser, first: &Answer) -> String {
    assert_eq!(first.location(), "https://shop.example/bff/logout/continue");
    let onward = browser.navigate("/bff/logout/continue", Site::Same).await;
    let end = url::Url::parse(onward.location()).expect("a URL");
    let address = format!("{}/end?", rig.provider.issuer);
    assert!(onward.location().starts_with(&address), "{}", onward.location());
    let (_, state) = end
        .query_pairs()
        .find(|(name, _)| name == "state")
        .expect("a state");
    let back = format!("/bff/logout/callback?state={state}");
    let back = browser.navigate(&back, Site::Cross).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER);
    back.location().to_owned()
}

/// A top-level navigation of some other site's making, or something else that is none.
pub(crate) async fn link(browser: &Browser, path: &str, changes: &[(&'static str, &'static str)]) -> Answer {
    let (mut parts, body) = browser.fetch_request(&Method::GET, path, "").into_parts();
    parts.headers.remove("token-handler-version");
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ]
    .iter()
    .chain(changes)
    {
        parts.headers.remove(*name);
        if !value.is_empty() {
            let value = HeaderValue::from_static(value);
            parts.headers.append(HeaderName::from_static(name), value);
        }
    }
    browser.send(Request::from_parts(parts, body)).await
}

#[tokio::test]
async fn a_page_of_duende_bff_signs_in_calls_apis_and_signs_out() {
    for rig in [rig().await, stored().await] {
        rig.provider.script().claims = json!({
            "role": ["reader", "writer"], "email_verified": true, "bff:logout_url": "https://evil.example/",
        });
        let mut browser = rig.browser();
        let early = user(&mut browser).await;
        assert_eq!(
            (early.status.as_u16(), early.error_code().as_str()),
            (401, "unauthorized")
        );
        let landed = sign_in(&rig, &mut browser, "/bff/login?returnUrl=/deep/link%3Fq=1%23top").await;
        assert_eq!(landed, "https://shop.example/deep/link?q=1#top");

        let user = user(&mut browser).await.json();
        for (name, expected) in [
            ("sub", json!(["alice"])),
            ("name", json!(["Alice Example"])),
            ("role", json!(["reader", "writer"])),
            ("email_verified", json!(["true"])),
            ("bff:session_expires_in", json!([1800])),
            ("nonce", json!([])),
            ("bff:session_state", json!([])),
        ] {
            assert_eq!(json!(values(&user, name)), expected, "{name}");
        }
        let sid = values(&user, "sid");
        assert_ne!(
            sid[0], "provider-session",
            "other clients of the provider know that one"
        );
        let logout = format!("/bff/logout?sid={}", sid[0].as_str().expect("text"));
        assert_eq!(json!(values(&user, "bff:logout_url")), json!([logout]));

        let call = fetch(&mut browser, Method::GET, "/api/orders").await;
        assert_eq!(call.status, StatusCode::OK, "{}", call.body);
        let seen = rig.api.last();
        assert!(!seen.headers().contains_key("cookie"));
        assert!(
            seen.headers()[header::AUTHORIZATION]
                .to_str()
                .is_ok_and(|value| value.starts_with("Bearer canary-access"))
        );

        let mut replay = browser.clone();
        let first = browser
            .navigate(&format!("{logout}&returnUrl=/signed-out%23bye"), Site::Same)
            .await;
        assert_eq!(first.status, StatusCode::SEE_OTHER, "{}", first.body);
        assert_eq!(self::user(&mut browser).await.status, StatusCode::UNAUTHORIZED);
        let landed = follow(&rig, &mut browser, &first).await;
        assert_eq!(landed, "https://shop.example/signed-out#bye");
        assert!(browser.jar.iter().all(|cookie| cookie.name.ends_with("-ended")));
        // the link once more ends nothing more, and the session does not come back
        let again = browser.navigate(&logout, Site::Same).await;
        assert_eq!(again.location(), "https://shop.example/");
        assert_eq!(self::user(&mut browser).await.status, StatusCode::UNAUTHORIZED);
        rig.until(|| rig.provider.script().revoked.len() >= 2).await;
        if rig.storage().is_stateful() {
            let copied = self::user(&mut replay).await;
            assert_eq!(copied.status, StatusCode::UNAUTHORIZED, "gone from the store");
        }
    }
}

#[tokio::test]
async fn nobody_is_401_or_null_as_the_application_says() {
    let plain = rig().await;
    let null = plain.replica_with(SessionStorage::Cookie, |config| {
        config.compatibility = Some("duende-200".to_owned());
    });
    let mut browser = signed_in(&plain).await;
    let mut elsewhere = browser.clone().at(null.service.clone());
    assert_eq!(user(&mut browser).await.status, StatusCode::OK);
    assert!(user(&mut elsewhere).await.json().is_array());
    let (mut nobody, mut null_nobody) = (plain.browser(), null.browser());
    assert_eq!(user(&mut nobody).await.status, StatusCode::UNAUTHORIZED);
    let answer = user(&mut null_nobody).await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "null"));
    // a session that ran out is nobody's, and says why where there is a place for it
    for cookie in browser.jar.iter_mut().chain(&mut elsewhere.jar) {
        cookie.expires_at += 100_000;
    }
    plain.advance(1800);
    let answer = user(&mut browser).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error_code().as_str()),
        (401, "session_expired")
    );
    assert_eq!(user(&mut elsewhere).await.body, "null");
    // an API call is refused either way
    for browser in [&mut nobody, &mut null_nobody] {
        let call = fetch(browser, Method::GET, "/api/x").await;
        assert_eq!(call.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn the_user_is_told_to_pages_of_the_application_only() {
    let rig = rig().await;
    let browser = signed_in(&rig).await;
    for (name, changes, status, code) in [
        ("as it is", &[][..], 200, ""),
        (
            "another value is as good: only a preflight lets it pass",
            &[("x-csrf", "0")],
            200,
            "",
        ),
        ("no header", &[("x-csrf", "")], 403, "csrf_rejected"),
        (
            "our own header's name is another application's",
            &[("x-csrf", ""), ("token-handler-version", "1")],
            403,
            "csrf_rejected",
        ),
        (
            "another site",
            &[("sec-fetch-site", "cross-site")],
            403,
            "csrf_rejected",
        ),
        (
            "the address bar has no header",
            &[
                ("x-csrf", ""),
                ("sec-fetch-site", "none"),
                ("sec-fetch-mode", "navigate"),
            ],
            403,
            "csrf_rejected",
        ),
        (
            "a foreign origin",
            &[("origin", "https://evil.example")],
            403,
            "origin_not_allowed",
        ),
        ("no origin", &[("origin", "null")], 403, "origin_not_allowed"),
    ] {
        let answer = browser
            .send(request(&browser, &Method::GET, "/bff/user", changes))
            .await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {}", answer.body);
        match status {
            200 => assert!(answer.json().is_array()),
            _ => assert_eq!(answer.error_code(), code, "{name}"),
        }
        let told = answer.body.contains("alice");
        assert_eq!(told, status == 200, "{name}");
        assert!(!answer.body.contains("canary"), "no token is in any answer");
    }
    let twice = browser
        .send(request(
            &browser,
            &Method::GET,
            "/bff/user?slide=false&Slide=true",
            &[],
        ))
        .await;
    assert_eq!(twice.error_code(), "invalid_request");
}

#[tokio::test]
async fn asking_for_the_user_slides_a_stored_session_and_no_other() {
    let expires_in = |user: &Value| {
        values(user, "bff:session_expires_in")[0]
            .as_u64()
            .expect("a number")
    };
    for (rig, slides) in [(rig().await, false), (stored().await, true)] {
        let mut browser = signed_in(&rig).await;
        let cookies = browser.jar.clone();
        rig.advance(900);
        for (path, expected) in [
            ("/bff/user?slide=false", 900),
            ("/bff/user?Slide=FALSE", 900),
            ("/bff/user", if slides { 1800 } else { 900 }),
            ("/bff/user?slide=false", if slides { 1800 } else { 900 }),
        ] {
            let answer = fetch(&mut browser, Method::GET, path).await;
            assert_eq!(expires_in(&answer.json()), expected, "{path}");
            assert!(answer.headers.get(header::SET_COOKIE).is_none());
        }
        assert_eq!(browser.jar, cookies);
        rig.advance(1000);
        let answer = user(&mut browser).await;
        assert_eq!(answer.status == StatusCode::OK, slides, "{}", answer.body);
        // however often it is asked, the absolute limit holds
        for _ in 0..30 {
            rig.advance(1500);
            fetch(&mut browser, Method::GET, "/bff/user").await;
        }
        assert_eq!(user(&mut browser).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn with_sessions_in_cookies_the_user_refreshes_nothing_and_the_page_has_to() {
    let rig = rig().await;
    let mut browser = signed_in(&rig).await;
    rig.advance(300);
    assert_eq!(
        fetch(&mut browser, Method::GET, "/bff/user").await.status,
        StatusCode::OK
    );
    let call = fetch(&mut browser, Method::GET, "/api/x").await;
    assert_eq!(call.error_code(), "access_token_expired");
    assert_eq!(rig.provider.count("refresh_token", 200), 0);
    let refreshed = fetch(&mut browser, Method::POST, "/bff/refresh").await;
    assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.body);
    assert_eq!(
        fetch(&mut browser, Method::GET, "/api/x").await.status,
        StatusCode::OK
    );
    let stored = stored().await;
    let mut browser = signed_in(&stored).await;
    stored.advance(300);
    let call = fetch(&mut browser, Method::GET, "/api/x").await;
    assert_eq!(
        call.status,
        StatusCode::OK,
        "with a store the call renews the token"
    );
}

#[tokio::test]
async fn the_provider_ends_sessions_at_the_address_that_duende_bff_has() {
    let rig = stored().await;
    let mut browser = signed_in(&rig).await;
    for (token, status) in [
        ("not-a-token".to_owned(), 400),
        (rig.provider.logout_token(&json!({})), 200),
    ] {
        let request = Request::post("/bff/backchannel")
            .header(header::HOST, "shop.example")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("logout_token={token}").into())
            .expect("a good request");
        assert_eq!(browser.send(request).await.status.as_u16(), status);
    }
    assert_eq!(user(&mut browser).await.status, StatusCode::UNAUTHORIZED);
    let cookies = self::rig().await;
    let mut nobody = cookies.browser();
    let missing = fetch(&mut nobody, Method::POST, "/bff/backchannel").await;
    assert_eq!(missing.error_code(), "not_found");
}

#[tokio::test]
async fn without_the_setting_nothing_of_it_is_there() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    for (path, status) in [
        ("/auth/user", 404),
        ("/auth/logout", 405),
        ("/auth/backchannel", 404),
        ("/bff/user", 404),
        ("/bff/logout", 404),
    ] {
        let answer = browser.fetch(Method::GET, path, "").await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
    }
    // another name of the return URL is one more unknown parameter
    let start = browser
        .navigate("/auth/login?returnUrl=//evil.example", Site::Same)
        .await;
    assert_eq!(start.status, StatusCode::SEE_OTHER);
    assert!(browser.is_signed_in().await);
    // and with it no address shows a token or opens a frame
    let with = self::rig().await;
    let mut nobody = with.browser();
    for path in [
        "/bff/silent-login",
        "/bff/silent-login-callback",
        "/bff/diagnostics",
    ] {
        let answer = fetch(&mut nobody, Method::GET, path).await;
        assert_eq!(answer.error_code(), "not_found", "{path}");
    }
}

#[tokio::test]
async fn a_proxy_beside_such_an_agent_takes_its_header_and_signs_nobody_out() {
    let rig = stored().await;
    let browser = signed_in(&rig).await;
    let proxy = rig.proxy_only_with(duende);
    let mut beside = browser.at(proxy.service.clone());
    let call = fetch(&mut beside, Method::GET, "/api/x").await;
    assert_eq!(call.status, StatusCode::OK, "{}", call.body);
    for path in ["/bff/user", "/bff/logout?sid=x"] {
        assert_eq!(
            fetch(&mut beside, Method::GET, path).await.error_code(),
            "not_found"
        );
    }
}

#[tokio::test]
async fn an_spa_on_a_sibling_origin_asks_and_signs_out_and_no_other_does() {
    let rig = Rig::with(|config| {
        duende(config);
        config.app_url = Some("https://www.shop.example".to_owned());
    })
    .await;
    let mut browser = rig.browser();
    let landed = sign_in(&rig, &mut browser, "/bff/login?returnUrl=/deep").await;
    assert_eq!(landed, "https://www.shop.example/deep");
    for (origin, asked, passes) in [
        ("https://www.shop.example", "GET", true),
        ("https://evil.shop.example", "GET", false),
        ("null", "GET", false),
    ] {
        let preflight = Request::builder()
            .method(Method::OPTIONS)
            .uri("/bff/user")
            .header(header::HOST, "shop.example")
            .header(header::ORIGIN, origin)
            .header("access-control-request-method", asked)
            .header("access-control-request-headers", "x-csrf")
            .body(http_body_util::Full::default())
            .expect("a good request");
        let answer = browser.send(preflight).await;
        assert_eq!(answer.status.is_success(), passes, "{origin} {asked}");
        let told = answer.headers.get("access-control-allow-origin");
        assert_eq!(
            told.is_some_and(|told| told == "https://www.shop.example"),
            passes
        );
    }
    let sibling = [
        ("origin", "https://www.shop.example"),
        ("sec-fetch-site", "same-site"),
    ];
    let answer = browser
        .send(request(&browser, &Method::GET, "/bff/user", &sibling))
        .await;
    let user = answer.json();
    let logout = values(&user, "bff:logout_url")[0].as_str().expect("text");
    assert!(logout.starts_with("/bff/logout?sid="), "below the agent's origin");
    let out = link(
        &browser,
        &format!("{logout}&returnUrl=/bye"),
        &[("sec-fetch-site", "same-site")],
    )
    .await;
    browser.store(&out.headers);
    assert_eq!(
        follow(&rig, &mut browser, &out).await,
        "https://www.shop.example/bye"
    );
}
