//! Sign-in, both ways of coming back, and everything that can go wrong on the way.

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::Rig;
use crate::support::browser::Site;
use crate::support::provider::Fault;

#[tokio::test]
async fn a_user_signs_in_and_calls_the_api() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    assert_eq!(
        browser.session().await,
        json!({"is_logged_in": false, "id_token_claims": null, "access_token_expires_in": null, "session": null})
    );
    let answer = browser.sign_in(&rig.provider, "alice").await;
    assert_eq!(answer.location(), "https://shop.example/");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let session = browser.session().await;
    assert_eq!(session["is_logged_in"], true);
    assert_eq!(session["id_token_claims"]["sub"], "alice");
    assert_eq!(session["access_token_expires_in"], 300);
    assert_eq!(session["session"]["idle_expires_in"], 1800);
    assert_eq!(session["session"]["expires_in"], 43_200);
    let answer = browser.fetch(Method::GET, "/api/orders?page=2", "").await;
    assert_eq!(answer.status, StatusCode::OK);
    let seen = rig.api.seen.lock().expect("no panic");
    assert_eq!(seen[0].uri, "/orders?page=2");
    assert!(
        seen[0].headers["authorization"]
            .to_str()
            .expect("ASCII")
            .starts_with("Bearer canary-access-")
    );
    assert!(seen[0].headers.get("cookie").is_none());
}

#[tokio::test]
async fn a_deep_link_with_its_fragment_survives() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let started = browser
        .fetch(
            Method::POST,
            "/auth/login/start",
            "return_to=%2Fdeep%3Fx%3D1%23frag",
        )
        .await;
    let json = started.json();
    let callback = rig
        .provider
        .approve(json["authorization_url"].as_str().expect("a URL"), "alice");
    let answer = browser
        .navigate(&format!("/auth/callback?{callback}"), Site::Cross)
        .await;
    assert_eq!(answer.location(), "https://shop.example/deep?x=1#frag");
}

#[tokio::test]
async fn a_link_to_login_signs_in() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let answer = browser.navigate("/auth/login?return_to=/deep", Site::Same).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let callback = rig.provider.approve(answer.location(), "alice");
    let answer = browser
        .navigate(&format!("/auth/callback?{callback}"), Site::Cross)
        .await;
    assert_eq!(answer.location(), "https://shop.example/deep");
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn a_foreign_page_chooses_neither_scopes_nor_prompt_nor_user() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let target = "/auth/login?prompt=none&scope=openid&login_hint=mallory&ui_locales=de&return_to=/x";
    let answer = browser.navigate(target, Site::Cross).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let url = answer.location();
    assert!(!url.contains("prompt") && !url.contains("mallory"), "{url}");
    assert!(
        url.contains("ui_locales=de") && url.contains("scope=openid+profile"),
        "{url}"
    );
}

#[tokio::test]
async fn an_spa_page_as_callback_posts_login_end() {
    let rig = Rig::with(|config| config.login_callback = Some("/signed-in".to_owned())).await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    assert!(browser.jar.iter().all(|cookie| cookie.same_site == "Strict"));
    let query = callback.split_once('?').expect("a query").1.to_owned();
    let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.json()["is_logged_in"], true);
    assert_eq!(answer.json()["return_to"], "https://shop.example/");
    // a reload posts it again
    let again = browser.fetch(Method::POST, "/auth/login/end", &query).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.body);
    assert_eq!(again.json()["session"]["id"], answer.json()["session"]["id"]);
    assert_eq!(rig.provider.count("authorization_code", 200), 1);
    assert_eq!(rig.provider.count("authorization_code", 400), 0);
}

#[tokio::test]
async fn a_code_posted_twice_at_once_is_redeemed_once() {
    let rig = Rig::with(|config| config.login_callback = Some("/signed-in".to_owned())).await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    let query = callback.split_once('?').expect("a query").1.to_owned();
    let (one, two) = tokio::join!(
        browser.fetch_late(Method::POST, "/auth/login/end", &query),
        browser.fetch_late(Method::POST, "/auth/login/end", &query)
    );
    assert_eq!((one.status, two.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(one.json()["session"]["id"], two.json()["session"]["id"]);
    assert_eq!(rig.provider.count("authorization_code", 200), 1);
    assert_eq!(rig.provider.count("authorization_code", 400), 0);
    // and a third time, before the browser stored anything
    let late = browser.fetch_late(Method::POST, "/auth/login/end", &query).await;
    assert_eq!(late.status, StatusCode::OK);
    browser.store(&two.headers);
    browser.store(&one.headers);
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn callback_with_another_browsers_state_is_refused() {
    let rig = Rig::with(|config| config.login_callback = Some("/signed-in".to_owned())).await;
    let callback = rig.browser().start(&rig.provider, "mallory").await;
    let query = callback.split_once('?').expect("a query").1.to_owned();
    let mut victim = rig.browser();
    let answer = victim.fetch(Method::POST, "/auth/login/end", &query).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::BAD_REQUEST, "login_state_invalid")
    );
    assert!(!victim.is_signed_in().await);
    assert_eq!(
        rig.provider.count("authorization_code", 200),
        0,
        "the code was not even sent"
    );
}

#[tokio::test]
async fn a_lost_sign_in_restarts_once_and_then_gives_up() {
    let rig = Rig::new().await;
    let callback = rig.browser().start(&rig.provider, "alice").await;
    let mut without_cookies = rig.browser();
    let restarted = without_cookies.navigate(&callback, Site::Cross).await;
    assert!(
        restarted.location().starts_with(&rig.provider.issuer),
        "{}",
        restarted.location()
    );
    let callback = rig.provider.approve(restarted.location(), "alice");
    without_cookies.jar.clear();
    let given_up = without_cookies
        .navigate(&format!("/auth/callback?{callback}"), Site::Cross)
        .await;
    assert_eq!(
        given_up.location(),
        "https://shop.example/?login_error=login_state_invalid"
    );
}

#[tokio::test]
async fn the_back_button_on_the_callback_leads_into_the_app() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    browser.navigate(&callback, Site::Cross).await;
    let again = browser.navigate(&callback, Site::Same).await;
    assert_eq!(again.location(), "https://shop.example/");
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn two_tabs_sign_in_and_both_finish() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let first = browser.start(&rig.provider, "alice").await;
    let second = browser.start(&rig.provider, "alice").await;
    for callback in [second, first] {
        let answer = browser.navigate(&callback, Site::Cross).await;
        assert_eq!(answer.location(), "https://shop.example/");
        assert!(browser.is_signed_in().await);
    }
}

#[tokio::test]
async fn at_most_five_sign_ins_are_pending_and_the_oldest_goes() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let oldest = browser.start(&rig.provider, "alice").await;
    for _ in 0..5 {
        rig.advance(1);
        browser.start(&rig.provider, "alice").await;
    }
    let pending = browser
        .jar
        .iter()
        .filter(|cookie| cookie.name.contains("-login-"))
        .count();
    assert_eq!(pending, 5);
    let answer = browser.navigate(&oldest, Site::Cross).await;
    assert!(
        answer.location().starts_with(&rig.provider.issuer),
        "restarted: {}",
        answer.location()
    );
}

#[tokio::test]
async fn a_sign_in_older_than_ten_minutes_starts_afresh() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    // a browser that ignores Max-Age
    for cookie in &mut browser.jar {
        cookie.expires_at += 100_000;
    }
    rig.advance(600);
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert!(
        answer.location().starts_with(&rig.provider.issuer),
        "{}",
        answer.location()
    );
    assert_eq!(rig.provider.count("authorization_code", 200), 0);
}

#[tokio::test]
async fn a_late_answer_starts_nothing_that_asks_for_less_and_a_no_stays_one() {
    let rig = Rig::with(|config| {
        let provider = config.provider.as_mut().expect("an agent");
        provider.allowed_parameters = vec!["tenant".to_owned()];
    })
    .await;
    let failed = |code: &str| format!("https://shop.example/?login_error={code}");
    let lost = failed("login_state_invalid");
    // (what was asked for, whether the sign-in can still be read, whether the provider said no)
    for (asked, is_there, refused, expected) in [
        ("", true, false, None),
        ("", false, false, None),
        ("ui_locales=de", false, false, None),
        ("", true, true, Some(&failed("access_denied"))),
        ("", false, true, Some(&lost)),
        ("prompt=login", true, false, Some(&lost)),
        ("prompt=login", false, false, Some(&lost)),
        ("prompt=login", true, true, Some(&failed("access_denied"))),
        ("prompt=login", false, true, Some(&lost)),
        ("login_hint=bob", true, false, Some(&lost)),
        ("tenant=blue", true, false, Some(&lost)),
        ("scope=openid&tenant=blue", false, false, Some(&lost)),
        ("scope=openid", true, false, None),
        ("scope=openid", false, false, Some(&lost)),
        ("acr_values=gold", true, false, None),
        ("acr_values=gold", false, false, Some(&lost)),
        ("max_age=60", false, false, Some(&lost)),
    ] {
        let case = format!("{asked:?}, there: {is_there}, refused: {refused}");
        let mut browser = rig.browser();
        let started = browser.fetch(Method::POST, "/auth/login/start", asked).await;
        let url = started.json()["authorization_url"].as_str().map(str::to_owned);
        let mut query = rig.provider.approve(&url.expect("a URL"), "alice");
        if refused {
            let mut pairs: Vec<_> = query.split('&').map(str::to_owned).collect();
            for pair in pairs.iter_mut().filter(|pair| pair.starts_with("code=")) {
                "error=access_denied".clone_into(pair);
            }
            query = pairs.join("&");
        }
        // a browser that ignores Max-Age, or one that does not
        for cookie in &mut browser.jar {
            cookie.expires_at += if is_there { 100_000 } else { 0 };
        }
        rig.advance(660);
        let answer = browser
            .navigate(&format!("/auth/callback?{query}"), Site::Cross)
            .await;
        match expected {
            Some(expected) => assert_eq!(answer.location(), expected, "{case}"),
            None => {
                let onward = answer.location();
                assert!(onward.starts_with(&rig.provider.issuer), "{case}: {onward}");
                let kept = asked.is_empty() || asked.starts_with("ui_locales") || onward.contains(asked);
                assert!(kept, "{case}: {onward}");
            }
        }
    }
}

#[tokio::test]
async fn a_sign_in_from_before_the_clock_was_set_back_starts_afresh() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    rig.advance(600);
    let callback = browser.start(&rig.provider, "alice").await;
    rig.clock.set(crate::support::START);
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert!(
        answer.location().starts_with(&rig.provider.issuer),
        "{}",
        answer.location()
    );
    assert_eq!(rig.provider.count("authorization_code", 200), 0);
    // a replica whose clock is a little behind finishes what another began
    rig.advance(5);
    let callback = browser.start(&rig.provider, "alice").await;
    rig.clock.set(crate::support::START);
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert_eq!(answer.location(), "https://shop.example/");
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_make_the_memory_last() {
    let rig = Rig::new().await;
    rig.advance(3600);
    rig.signed_in().await;
    rig.clock.set(crate::support::START);
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "bob").await;
    let mut late = browser.clone();
    browser.navigate(&callback, Site::Cross).await;
    assert_eq!(rig.provider.count("authorization_code", 200), 2);
    rig.advance(120);
    let answer = late.navigate(&callback, Site::Cross).await;
    assert!(
        answer.location().starts_with(&rig.provider.issuer),
        "{}",
        answer.location()
    );
}

#[tokio::test]
async fn what_the_front_channel_says_is_judged_by_state_and_issuer() {
    struct Case {
        name: &'static str,
        change: fn(&str, &str) -> String,
        code: &'static str,
    }
    let cases = [
        Case {
            name: "the provider refuses",
            change: |state, issuer| format!("error=access_denied&state={state}&iss={issuer}"),
            code: "login_error=access_denied",
        },
        Case {
            name: "an error that nobody registered is not repeated",
            change: |state, issuer| format!("error=%3Cscript%3E&state={state}&iss={issuer}"),
            code: "login_error=authorization_failed",
        },
        Case {
            name: "two codes",
            change: |state, issuer| format!("code=a&code=b&state={state}&iss={issuer}"),
            code: "login_error=invalid_request",
        },
        Case {
            name: "a code of another issuer (mix-up)",
            change: |state, _| format!("code=a&state={state}&iss=https%3A%2F%2Fevil.example"),
            code: "login_error=login_state_invalid",
        },
        Case {
            name: "no issuer although the provider promised one",
            change: |state, _| format!("code=a&state={state}"),
            code: "login_error=login_state_invalid",
        },
    ];
    for case in cases {
        let rig = Rig::new().await;
        let mut browser = rig.signed_in().await;
        let callback = browser.start(&rig.provider, "alice").await;
        let query = callback.split_once('?').expect("a query").1;
        let state = url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "state")
            .expect("a state")
            .1
            .into_owned();
        let answer = browser
            .navigate(
                &format!("/auth/callback?{}", (case.change)(&state, &rig.provider.issuer)),
                Site::Cross,
            )
            .await;
        assert!(
            answer.location().contains(case.code),
            "{}: {}",
            case.name,
            answer.location()
        );
        assert!(
            answer
                .location()
                .starts_with("https://shop.example/?login_error="),
            "{}",
            case.name
        );
        assert!(
            browser.is_signed_in().await,
            "{}: the session that existed is untouched",
            case.name
        );
        assert_eq!(rig.provider.count("authorization_code", 200), 1, "{}", case.name);
    }
}

#[tokio::test]
async fn an_id_token_that_does_not_pass_signs_nobody_in() {
    let cases = [
        ("another nonce", json!({"nonce": "other"})),
        ("no nonce", json!({"nonce": null})),
        ("another issuer", json!({"iss": "https://evil.example"})),
        ("another audience", json!({"aud": "other"})),
        ("a second audience without azp", json!({"aud": ["shop", "other"]})),
        ("a foreign azp", json!({"azp": "other"})),
        ("expired", json!({"exp": 1_799_999_000})),
        ("issued in the future", json!({"iat": 1_800_001_000})),
        ("not yet valid", json!({"nbf": 1_800_001_000})),
        ("no subject", json!({"sub": null})),
        ("a number as subject", json!({"sub": 7})),
        ("a foreign at_hash", json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"})),
    ];
    for (name, claims) in cases {
        let rig = Rig::new().await;
        rig.provider.script().claims = claims;
        let mut browser = rig.browser();
        let callback = browser.start(&rig.provider, "alice").await;
        let answer = browser.navigate(&callback, Site::Cross).await;
        assert_eq!(
            answer.location(),
            "https://shop.example/?login_error=provider_error",
            "{name}"
        );
        assert!(!browser.is_signed_in().await, "{name}");
    }
}

#[tokio::test]
async fn keys_that_were_rotated_are_fetched_again_with_a_throttle() {
    let rig = Rig::new().await;
    rig.signed_in().await;
    assert_eq!(rig.provider.script().jwks_requests, 1);
    rig.provider.script().kid = "key-2".to_owned();
    rig.advance(60);
    rig.signed_in().await;
    assert_eq!(
        rig.provider.script().jwks_requests,
        2,
        "an unknown `kid` fetches the keys again"
    );
    // a flood of unknown keys reaches the provider a few times only, and then nobody gets in
    let mut refused = 0;
    for n in 3..13 {
        rig.provider.script().kid = format!("key-{n}");
        let mut browser = rig.browser();
        let callback = browser.start(&rig.provider, "alice").await;
        let answer = browser.navigate(&callback, Site::Cross).await;
        refused += usize::from(answer.location() == "https://shop.example/?login_error=provider_error");
    }
    assert_eq!(rig.provider.script().jwks_requests, 4, "three in half a minute");
    assert_eq!(refused, 8);
    rig.advance(60);
    rig.signed_in().await;
    assert_eq!(rig.provider.script().jwks_requests, 5);
}

#[tokio::test]
async fn token_answers_that_are_nonsense_sign_nobody_in() {
    let cases = [
        (
            "HTML with 200",
            Fault::Answer(200, "text/html", "<html>"),
            "provider_error",
        ),
        (
            "empty 400",
            Fault::Answer(400, "application/json", ""),
            "provider_error",
        ),
        (
            "a redirect",
            Fault::Answer(302, "text/plain", ""),
            "provider_error",
        ),
        (
            "5xx",
            Fault::Answer(503, "text/plain", "later"),
            "provider_unavailable",
        ),
        (
            "a token with a line break",
            Fault::Answer(
                200,
                "application/json",
                r#"{"access_token":"a\r\nX: y","token_type":"Bearer"}"#,
            ),
            "provider_error",
        ),
        (
            "a foreign token type",
            Fault::Answer(
                200,
                "application/json",
                r#"{"access_token":"a","token_type":"mac","id_token":"x"}"#,
            ),
            "provider_error",
        ),
        (
            "our client is refused",
            Fault::Answer(401, "application/json", r#"{"error":"invalid_client"}"#),
            "provider_error",
        ),
    ];
    for (name, fault, code) in cases {
        let rig = Rig::new().await;
        rig.provider.script().token_fault = Some(fault);
        let mut browser = rig.browser();
        let callback = browser.start(&rig.provider, "alice").await;
        let answer = browser.navigate(&callback, Site::Cross).await;
        assert_eq!(
            answer.location(),
            format!("https://shop.example/?login_error={code}"),
            "{name}"
        );
        assert!(!browser.is_signed_in().await, "{name}");
        let counted = format!("endpoint=\"callback\",error_code=\"{code}\"}} 1");
        assert!(
            rig.handler.telemetry().render().contains(&counted),
            "{name}: a redirect hides no failure"
        );
    }
}

#[tokio::test]
async fn signing_in_again_ends_the_old_session() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let old = browser.clone();
    browser.sign_in(&rig.provider, "bob").await;
    assert_eq!(browser.session().await["id_token_claims"]["sub"], "bob");
    // a late answer writes the old anchor back: the tombstone keeps it dead
    let mut tossed = browser.clone();
    tossed.jar.retain(|cookie| cookie.name.contains("ended"));
    tossed.jar.extend(old.jar);
    assert!(!tossed.is_signed_in().await);
    let answer = tossed.fetch(Method::GET, "/api/orders", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "session_expired")
    );
}

#[tokio::test]
async fn a_step_up_finished_by_another_user_is_refused() {
    let rig = Rig::with(|config| config.login_callback = Some("/signed-in".to_owned())).await;
    rig.provider.script().claims = json!({"acr": "gold"});
    let mut browser = rig.browser();
    for (user, status) in [("alice", StatusCode::OK), ("bob", StatusCode::BAD_REQUEST)] {
        let started = browser
            .fetch(Method::POST, "/auth/login/start", "acr_values=gold")
            .await;
        let json = started.json();
        let query = rig
            .provider
            .approve(json["authorization_url"].as_str().expect("a URL"), user);
        let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
        assert_eq!(answer.status, status, "{user}: {}", answer.body);
    }
    assert_eq!(browser.session().await["id_token_claims"]["sub"], "alice");
}

#[tokio::test]
async fn a_step_up_finished_by_another_user_by_navigation_signs_nobody_in() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let started = browser
        .fetch(Method::POST, "/auth/login/start", "acr_values=gold")
        .await;
    let json = started.json();
    let query = rig
        .provider
        .approve(json["authorization_url"].as_str().expect("a URL"), "bob");
    let answer = browser
        .navigate(&format!("/auth/callback?{query}"), Site::Cross)
        .await;
    assert_eq!(
        answer.location(),
        "https://shop.example/?login_error=login_state_invalid"
    );
    assert_eq!(browser.session().await["id_token_claims"]["sub"], "alice");
}

#[tokio::test]
async fn parameters_off_the_allow_list_are_refused() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let bodies = [
        "redirect_uri=https%3A%2F%2Fevil.example",
        "client_id=other",
        "state=mine",
        "nonce=mine",
        "response_type=token",
        "scope=openid+admin",
        "prompt=login&prompt=none",
        "return_to=%2Fa&return_to=%2Fb",
        "return_to=https%3A%2F%2Fevil.example",
        "return_to=%2F%2Fevil.example",
        "return_to=%2Fauth%2Flogout%2Fcontinue",
        "return_to=%2Fapi%2Forders",
        "unheard_of=1",
    ];
    for body in bodies {
        let answer = browser.fetch(Method::POST, "/auth/login/start", body).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (StatusCode::BAD_REQUEST, "invalid_request"),
            "{body}"
        );
    }
    assert!(browser.jar.is_empty());
}

#[tokio::test]
async fn a_code_that_is_refused_restarts_once_for_the_same_page() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let started = browser
        .fetch(Method::POST, "/auth/login/start", "return_to=%2Fdeep")
        .await;
    let json = started.json();
    let query = rig
        .provider
        .approve(json["authorization_url"].as_str().expect("a URL"), "alice");
    let refused = query.replace("canary-code", "canary-no-code");
    let restarted = browser
        .navigate(&format!("/auth/callback?{refused}"), Site::Cross)
        .await;
    assert!(
        restarted.location().starts_with(&rig.provider.issuer),
        "{}",
        restarted.location()
    );
    let query = rig.provider.approve(restarted.location(), "alice");
    let answer = browser
        .navigate(&format!("/auth/callback?{query}"), Site::Cross)
        .await;
    assert_eq!(answer.location(), "https://shop.example/deep");
}

#[tokio::test]
async fn signing_in_again_as_the_same_user_keeps_the_providers_session() {
    let rig = Rig::with(|config| config.login_callback = Some("/signed-in".to_owned())).await;
    let mut browser = rig.browser();
    for (user, revoked) in [("alice", 0), ("alice", 1), ("bob", 3)] {
        let callback = browser.start(&rig.provider, user).await;
        let query = callback.split_once('?').expect("a query").1.to_owned();
        let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
        assert_eq!(answer.status, StatusCode::OK);
        while rig.provider.script().revoked.len() < revoked {
            tokio::task::yield_now().await;
        }
    }
    // a refresh token of the same user may carry the session that was just made; another user's goes
    let revoked = rig.provider.script().revoked.clone();
    assert!(revoked[0].starts_with("canary-access"), "{revoked:?}");
    assert!(
        revoked[1].starts_with("canary-refresh") && revoked[2].starts_with("canary-access"),
        "{revoked:?}"
    );
}

#[tokio::test]
async fn a_bookmark_of_the_callback_leads_into_the_app() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    for path in [
        "/auth/callback",
        "/auth/callback?state=old&code=old",
        "/auth/callback?&",
    ] {
        let answer = browser.navigate(path, Site::Same).await;
        assert_eq!(answer.location(), "https://shop.example/", "{path}");
    }
}
