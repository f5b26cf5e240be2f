//! Authorization responses that are signed (JARM), or posted as a form: and everything that somebody may
//! send in their place.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::support::browser::{Browser, Site};
use crate::support::{CLIENT_SECRET, Rig, provider_of};

async fn answering(mode: &'static str) -> Rig {
    Rig::with(|config| provider_of(config).authorization.response_mode = Some(mode.to_owned())).await
}

/// The value of one parameter.
fn value(query: &str, name: &str) -> String {
    let query = query.split_once('?').map_or(query, |(_, query)| query);
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let found = pairs.into_iter().find(|(known, _)| known == name);
    found.expect("it is there").1.into_owned()
}

/// The claims of a JWT, whoever signed it.
fn claims(jwt: &str) -> Value {
    let payload = jwt.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

fn encoded(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

// ------------------------------------------------------------------ JARM

#[tokio::test]
async fn a_signed_response_signs_in_by_navigation_and_through_the_spa() {
    for mode in ["jwt", "query.jwt"] {
        let rig = answering(mode).await;
        let mut browser = rig.browser();
        let callback = browser.start(&rig.provider, "alice").await;
        assert_eq!(rig.provider.script().front.requested["response_mode"], mode);
        assert!(!callback.contains("code="), "{callback}");
        let answer = browser.navigate(&callback, Site::Cross).await;
        assert_eq!(answer.location(), "https://shop.example/");
        assert!(browser.is_signed_in().await);
        // the back button
        let again = browser.navigate(&callback, Site::Same).await;
        assert_eq!(again.location(), "https://shop.example/");
    }
    let rig = Rig::with(|config| {
        config.login_callback = Some("/signed-in".to_owned());
        provider_of(config).authorization.response_mode = Some("jwt".to_owned());
    })
    .await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    let query = callback.split_once('?').expect("a query").1;
    for _ in 0..2 {
        let answer = browser.fetch(Method::POST, "/auth/login/end", query).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.json()["is_logged_in"], true);
    }
    assert_eq!(rig.provider.count("authorization_code", 200), 1);
}

#[tokio::test]
async fn a_signed_response_works_with_a_store_and_beside_pushed_requests() {
    let rig = Rig::stored().await;
    let rig = rig.replica_with(rig.storage(), |config| {
        provider_of(config).authorization.response_mode = Some("jwt".to_owned());
    });
    rig.provider.offer_par(true);
    let mut browser = rig.signed_in().await;
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn a_key_that_is_new_at_the_provider_is_fetched_for_a_response_once() {
    let rig = answering("jwt").await;
    let mut browser = rig.browser();
    browser.sign_in(&rig.provider, "alice").await;
    let before = rig.provider.script().jwks_requests;
    rig.provider.script().kid = "key-2".to_owned();
    browser.sign_in(&rig.provider, "alice").await;
    assert_eq!(rig.provider.script().jwks_requests, before + 1);
    // one that nobody publishes
    rig.provider.script().kid = "key-3".to_owned();
    rig.provider.script().jwks_kid = Some("key-2".to_owned());
    let mut other = rig.browser();
    let callback = other.start(&rig.provider, "alice").await;
    let answer = other.navigate(&callback, Site::Cross).await;
    assert_eq!(
        answer.location(),
        "https://shop.example/?login_error=invalid_request"
    );
    assert_eq!(rig.provider.script().jwks_requests, before + 2);
}

#[tokio::test]
async fn an_error_inside_a_signed_response_is_reduced_to_its_registered_code() {
    let rig = answering("jwt").await;
    let mut browser = rig.browser();
    for (error, shown) in [
        ("access_denied", "access_denied"),
        ("<script>", "authorization_failed"),
    ] {
        let callback = browser.start(&rig.provider, "alice").await;
        let state = claims(&value(&callback, "response"))["state"].clone();
        let response = rig
            .provider
            .signed_response(&json!({"error": error, "error_description": "evil", "state": state}));
        let answer = browser
            .navigate(&format!("/auth/callback?response={response}"), Site::Cross)
            .await;
        assert_eq!(
            answer.location(),
            format!("https://shop.example/?login_error={shown}")
        );
    }
}

#[tokio::test]
async fn what_stands_in_for_a_signed_response_signs_nobody_in() {
    struct Case {
        name: &'static str,
        /// From the good response and the issuer to the callback's query.
        change: fn(&str, &Rig) -> String,
    }
    fn with(good: &str, rig: &Rig, changes: &Value) -> String {
        let mut all = claims(good);
        for (name, value) in changes.as_object().expect("an object") {
            all[name] = value.clone();
        }
        format!("response={}", rig.provider.signed_response(&all))
    }
    fn plain(good: &str) -> String {
        let claims = claims(good);
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("code", claims["code"].as_str().expect("a code"))
            .append_pair("state", claims["state"].as_str().expect("a state"))
            .append_pair("iss", claims["iss"].as_str().expect("an issuer"))
            .finish()
    }
    let cases = [
        Case {
            name: "the same without a signature, as an ordinary response",
            change: |good, _| plain(good),
        },
        Case {
            name: "of another client",
            change: |good, rig| with(good, rig, &json!({"aud": "other"})),
        },
        Case {
            name: "of another issuer",
            change: |good, rig| with(good, rig, &json!({"iss": "https://evil.example"})),
        },
        Case {
            name: "expired",
            change: |good, rig| with(good, rig, &json!({"exp": rig.now() - 11})),
        },
        Case {
            name: "for ever",
            change: |good, rig| with(good, rig, &json!({"exp": rig.now() + 1_000_000})),
        },
        Case {
            name: "without an end",
            change: |good, rig| with(good, rig, &json!({"exp": null})),
        },
        Case {
            name: "alg none",
            change: |good, _| {
                let claims = claims(good);
                format!(
                    "response={}.{}.",
                    encoded(&json!({"alg": "none"})),
                    encoded(&claims)
                )
            },
        },
        Case {
            name: "HS256 with the client secret",
            change: |good, _| {
                let header = encoded(&json!({"alg": "HS256", "kid": "key-1"}));
                let message = format!("{header}.{}", encoded(&claims(good)));
                let key = hmac::Key::new(hmac::HMAC_SHA256, CLIENT_SECRET.as_bytes());
                let mac = hmac::sign(&key, message.as_bytes());
                format!("response={message}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()))
            },
        },
        Case {
            name: "another code under the signature",
            change: |good, _| {
                let mut all = claims(good);
                all["code"] = json!("evil");
                let mut parts = good.split('.');
                let (header, signature) = (parts.next().expect("1"), parts.nth(1).expect("3"));
                format!("response={header}.{}.{signature}", encoded(&all))
            },
        },
        Case {
            name: "twice",
            change: |good, _| format!("response={good}&response={good}"),
        },
        Case {
            name: "encrypted",
            change: |good, _| format!("response={good}.x.y"),
        },
        Case {
            name: "beside 16 kib of anything",
            change: |good, _| format!("response={good}&x={}", "x".repeat(16 * 1024)),
        },
        Case {
            name: "nothing",
            change: |_, _| String::new(),
        },
    ];
    for case in cases {
        let rig = answering("jwt").await;
        let mut browser = rig.browser();
        let callback = browser.start(&rig.provider, "alice").await;
        let query = (case.change)(&value(&callback, "response"), &rig);
        let answer = browser
            .navigate(&format!("/auth/callback?{query}"), Site::Cross)
            .await;
        assert_eq!(
            answer.location(),
            "https://shop.example/?login_error=invalid_request",
            "{}",
            case.name
        );
        assert!(!browser.is_signed_in().await, "{}", case.name);
        assert!(
            rig.provider.script().token_requests.is_empty(),
            "{}: the code was not even sent",
            case.name
        );
        // and the good one still works
        browser.navigate(&callback, Site::Cross).await;
        assert!(browser.is_signed_in().await, "{}", case.name);
    }
}

#[tokio::test]
async fn beside_a_signed_response_nothing_counts() {
    let rig = answering("jwt").await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    let mixed = format!("{callback}&code=evil&state=evil&iss=evil&error=access_denied");
    let answer = browser.navigate(&mixed, Site::Cross).await;
    assert_eq!(answer.location(), "https://shop.example/");
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn a_signed_response_that_was_not_asked_for_is_refused() {
    for beside in ["", "&code=c&state=s"] {
        let rig = Rig::new().await;
        let mut browser = rig.browser();
        let callback = browser.start(&rig.provider, "alice").await;
        let response = rig
            .provider
            .signed_response(&json!({"code": value(&callback, "code"), "state": value(&callback, "state")}));
        let answer = browser
            .navigate(
                &format!("/auth/callback?response={response}{beside}"),
                Site::Cross,
            )
            .await;
        assert_eq!(
            answer.location(),
            "https://shop.example/?login_error=invalid_request"
        );
        assert!(rig.provider.script().token_requests.is_empty());
    }
}

#[tokio::test]
async fn a_signed_response_of_somebody_elses_sign_in_is_worth_nothing_here() {
    let rig = answering("jwt").await;
    let callback = rig.browser().start(&rig.provider, "mallory").await;
    // login CSRF: the victim has no sign-in with this state
    let mut victim = rig.browser();
    let answer = victim.navigate(&callback, Site::Cross).await;
    assert!(
        answer.location().starts_with(&rig.provider.issuer),
        "a fresh start"
    );
    assert!(!victim.is_signed_in().await);
    assert!(rig.provider.script().token_requests.is_empty());
}

#[tokio::test]
async fn a_replayed_response_makes_no_second_session() {
    let rig = answering("jwt").await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    let mut thief = browser.clone();
    thief.jar.clear();
    browser.navigate(&callback, Site::Cross).await;
    thief.navigate(&callback, Site::Cross).await;
    assert!(!thief.is_signed_in().await);
    assert_eq!(rig.provider.count("authorization_code", 200), 1);
    assert_eq!(rig.provider.count("authorization_code", 400), 0);
}

// ------------------------------------------------------------------ form_post

/// A sign-in on its way; the body of the form that the provider's page will post.
async fn form(rig: &Rig, browser: &mut Browser, user: &str) -> String {
    let started = browser.fetch(Method::POST, "/auth/login/start", "").await;
    let json = started.json();
    let url = json["authorization_url"].as_str().expect("a URL");
    rig.provider.approve(url, user)
}

#[tokio::test]
async fn a_form_of_the_providers_page_signs_in() {
    let stored = Rig::stored().await;
    let stored = stored.replica_with(stored.storage(), |config| {
        provider_of(config).authorization.response_mode = Some("form_post".to_owned());
    });
    for rig in [answering("form_post").await, stored] {
        let issuer = rig.provider.issuer.clone();
        for origin in [Some(issuer.as_str()), Some("null"), None] {
            let mut browser = rig.browser();
            let body = form(&rig, &mut browser, "alice").await;
            let pending: Vec<_> = browser
                .jar
                .iter()
                .map(|cookie| (cookie.name.contains("-login-"), cookie.same_site.as_str()))
                .collect();
            assert_eq!(pending, [(true, "None")]);
            assert_eq!(
                rig.provider.script().front.requested["response_mode"],
                "form_post"
            );
            let answer = browser.post_form("/auth/callback", &body, origin).await;
            assert_eq!(
                (answer.status, answer.location()),
                (StatusCode::SEE_OTHER, "https://shop.example/")
            );
            assert!(browser.is_signed_in().await);
            let left: Vec<_> = browser
                .jar
                .iter()
                .map(|cookie| cookie.same_site.as_str())
                .collect();
            assert!(left.iter().all(|same_site| *same_site == "Strict"), "{left:?}");
        }
    }
}

#[tokio::test]
async fn a_form_without_the_sign_in_it_belongs_to_starts_afresh_once() {
    let rig = answering("form_post").await;
    let issuer = rig.provider.issuer.clone();
    let mut mallory = rig.browser();
    let body = form(&rig, &mut mallory, "mallory").await;
    // login CSRF: the victim's browser has no such sign-in
    let mut victim = rig.browser();
    let answer = victim.post_form("/auth/callback", &body, Some(&issuer)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert!(answer.location().starts_with(&issuer), "{}", answer.location());
    assert!(!victim.is_signed_in().await);
    assert!(rig.provider.script().token_requests.is_empty());
    // blocked cookies cannot make a loop
    let body = rig.provider.approve(answer.location(), "alice");
    victim.jar.clear();
    let answer = victim.post_form("/auth/callback", &body, Some(&issuer)).await;
    assert_eq!(
        answer.location(),
        "https://shop.example/?login_error=login_state_invalid"
    );
}

#[tokio::test]
async fn a_form_of_a_foreign_page_is_refused_even_with_the_right_state() {
    let rig = answering("form_post").await;
    let mut browser = rig.browser();
    let body = form(&rig, &mut browser, "alice").await;
    let state = value(&body, "state");
    let stolen = format!("code=mallorys&state={state}&iss={}", rig.provider.issuer);
    let other_port = "http://127.0.0.1:1";
    for origin in [
        "https://evil.example",
        "https://shop.example",
        other_port,
        "null, null",
    ] {
        let answer = browser.post_form("/auth/callback", &stolen, Some(origin)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin}");
        assert!(answer.body.contains("csrf_rejected"), "{origin}");
    }
    assert!(rig.provider.script().token_requests.is_empty());
    // the sign-in that was attacked goes on
    let issuer = rig.provider.issuer.clone();
    let answer = browser.post_form("/auth/callback", &body, Some(&issuer)).await;
    assert_eq!(answer.location(), "https://shop.example/");
}

#[tokio::test]
async fn a_form_with_somebody_elses_code_does_not_pass_the_provider() {
    // a page that hides its origin, and knows the state of a sign-in that is on its way
    let rig = answering("form_post").await;
    let mut mallory = rig.browser();
    let code = value(&form(&rig, &mut mallory, "mallory").await, "code");
    let mut victim = rig.browser();
    let state = value(&form(&rig, &mut victim, "alice").await, "state");
    let mixed = format!("code={code}&state={state}&iss={}", rig.provider.issuer);
    let answer = victim.post_form("/auth/callback", &mixed, Some("null")).await;
    assert!(
        answer.location().starts_with(&rig.provider.issuer),
        "a fresh start"
    );
    assert!(!victim.is_signed_in().await, "PKCE binds the code to its sign-in");
    assert_eq!(rig.provider.count("authorization_code", 200), 0);
}

#[tokio::test]
async fn only_a_form_in_the_top_level_window_is_taken() {
    let rig = answering("form_post").await;
    let issuer = rig.provider.issuer.clone();
    let mut browser = rig.browser();
    let body = form(&rig, &mut browser, "alice").await;
    let changed = |name: &'static str, value: &'static str| {
        let request = browser.form_request("/auth/callback", &body, Some(&issuer));
        let (mut parts, body) = request.into_parts();
        parts.headers.insert(name, HeaderValue::from_static(value));
        Request::from_parts(parts, body)
    };
    for (name, value, status) in [
        ("sec-fetch-dest", "iframe", StatusCode::FORBIDDEN),
        ("sec-fetch-mode", "cors", StatusCode::FORBIDDEN),
        ("sec-fetch-mode", "no-cors", StatusCode::FORBIDDEN),
        ("content-type", "text/plain", StatusCode::BAD_REQUEST),
        ("content-type", "application/json", StatusCode::BAD_REQUEST),
        (
            "content-type",
            "multipart/form-data; boundary=x",
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let answer = browser.send(changed(name, value)).await;
        assert_eq!(answer.status, status, "{name}: {value}");
        assert!(
            !answer.headers.contains_key(header::SET_COOKIE),
            "{name}: {value}"
        );
    }
    for (name, body) in [
        ("twice", format!("{body}&code=x")),
        ("signed", format!("{body}&response=a.b.c")),
        ("long", format!("{body}&x={}", "x".repeat(16 * 1024))),
        ("nothing", String::new()),
    ] {
        let mut other = browser.clone();
        let answer = other.post_form("/auth/callback", &body, Some(&issuer)).await;
        assert_eq!(
            answer.location(),
            "https://shop.example/?login_error=invalid_request",
            "{name}"
        );
    }
    let huge = format!("{body}&x={}", "x".repeat(64 * 1024));
    let answer = browser
        .clone()
        .post_form("/auth/callback", &huge, Some(&issuer))
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(rig.provider.script().token_requests.is_empty());
}

#[tokio::test]
async fn a_redirect_in_place_of_the_form_is_refused() {
    let rig = answering("form_post").await;
    let mut browser = rig.browser();
    let body = form(&rig, &mut browser, "alice").await;
    let answer = browser
        .navigate(&format!("/auth/callback?{body}"), Site::Cross)
        .await;
    assert_eq!(
        answer.location(),
        "https://shop.example/?login_error=invalid_request"
    );
    assert!(rig.provider.script().token_requests.is_empty());
}

#[tokio::test]
async fn without_the_setting_nobody_posts_to_the_callback() {
    for mode in ["query", "jwt"] {
        let rig = answering(mode).await;
        let mut browser = rig.browser();
        let callback = browser.start(&rig.provider, "alice").await;
        let body = callback.split_once('?').expect("a query").1;
        let issuer = rig.provider.issuer.clone();
        let answer = browser.post_form("/auth/callback", body, Some(&issuer)).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{mode}");
        assert_eq!(answer.headers[header::ALLOW], "GET");
        assert!(browser.jar.iter().all(|cookie| cookie.same_site != "None"));
    }
}
