//! Several APIs with audiences of their own from one sign-in: each sees its own token and no other,
//! and what goes wrong with one costs that one.

use std::collections::HashMap;
use std::sync::Arc;

use coatroom_core::config::{ApplicationConfig, ExchangeConfig, RouteConfig, SessionStorage, TokenConfig};
use http::{Method, StatusCode};
use serde_json::json;

use crate::support::browser::{Answer, Browser};
use crate::support::provider::{Fault, Rotation};
use crate::support::{Rig, config, route, store_settings};

const BASE: &str = "https://base.example";

const ORDERS: &str = "https://orders.example";

/// Three APIs, each with an audience of its own, and one that gets the session's own token.
fn mixed(config: &mut ApplicationConfig) {
    only_own(config);
    config.routes.push(route("/base/"));
    if let Some(provider) = &mut config.provider {
        provider.authorization.resource = vec![BASE.to_owned()];
    }
}

/// Three APIs, each with an audience of its own.
fn only_own(config: &mut ApplicationConfig) {
    let token = |path: &str, token: TokenConfig| RouteConfig {
        token: Some(token),
        ..route(path)
    };
    let scopes = |scope: &str| Some(vec![scope.to_owned()]);
    config.routes = vec![
        token(
            "/orders/",
            TokenConfig {
                resource: Some(ORDERS.to_owned()),
                scopes: scopes("orders:read"),
                ..TokenConfig::default()
            },
        ),
        token(
            "/stock/",
            TokenConfig {
                audience: Some("stock".to_owned()),
                ..TokenConfig::default()
            },
        ),
        token(
            "/pay/",
            TokenConfig {
                exchange: Some(ExchangeConfig {
                    audience: Some("pay".to_owned()),
                    scopes: scopes("pay"),
                    ..ExchangeConfig::default()
                }),
                ..TokenConfig::default()
            },
        ),
    ];
}

const APIS: [(&str, &str); 3] = [("/orders/1", ORDERS), ("/stock/1", "stock"), ("/pay/1", "pay")];

async fn call(rig: &Rig, browser: &mut Browser, path: &str) -> Result<String, Answer> {
    let answer = browser.fetch(Method::GET, path, "").await;
    if answer.status != StatusCode::OK {
        return Err(answer);
    }
    let request = rig.api.last();
    assert!(!request.headers().contains_key("cookie"));
    let value = request.headers()["authorization"].to_str().expect("ASCII");
    Ok(value.strip_prefix("Bearer ").expect("a bearer token").to_owned())
}

async fn refused(rig: &Rig, browser: &mut Browser, path: &str) -> String {
    match call(rig, browser, path).await {
        Ok(_) => "passed".to_owned(),
        Err(answer) => answer.error_code(),
    }
}

/// Every API gets its own token.
async fn each_gets_its_own(rig: &Rig, browser: &mut Browser) {
    for (path, target) in APIS {
        let token = call(rig, browser, path).await;
        let token = token.unwrap_or_else(|answer| panic!("{path}: {}", answer.body));
        assert!(
            token.starts_with(&format!("canary-access-{target}-")),
            "{path}: {token}"
        );
    }
}

async fn refresh(browser: &mut Browser) -> serde_json::Value {
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.json()
}

#[tokio::test]
async fn three_apis_with_three_audiences_each_see_their_own_token_only() {
    for stored in [false, true] {
        let storage = match stored {
            true => SessionStorage::Store(Box::new(store_settings())),
            false => SessionStorage::Cookie,
        };
        let rig = Rig::new().await.replica_with(storage, mixed);
        let mut browser = rig.signed_in().await;
        each_gets_its_own(&rig, &mut browser).await;
        let base = call(&rig, &mut browser, "/base/1").await.unwrap_or_default();
        assert_eq!(base, "canary-access-2-");
        // one redemption of the code, one request for each API, each with the newest refresh token
        assert_eq!(rig.provider.count("refresh_token", 200), 2, "stored: {stored}");
        let forms = rig.provider.script().token_forms.clone();
        let asked = |target: &str| {
            let is_it =
                |name: &str, form: &HashMap<String, String>| form.get(name).is_some_and(|it| it == target);
            let mut forms = forms.iter();
            let form = forms.find(|form| is_it("resource", form) || is_it("audience", form));
            form.expect("it was asked for")
        };
        let (orders, stock, pay) = (asked(ORDERS), asked("stock"), asked("pay"));
        assert_eq!(
            (&orders["resource"][..], &orders["scope"][..]),
            (ORDERS, "orders:read")
        );
        assert_eq!((&stock["audience"][..], stock.get("scope")), ("stock", None));
        assert_eq!((&pay["audience"][..], &pay["scope"][..]), ("pay", "pay"));
        assert_eq!(pay["subject_token"], base);
        assert_ne!(orders["refresh_token"], stock["refresh_token"]);

        // the rotation chain goes on over refreshes, and the reuse of an old one would end it
        for _ in 0..3 {
            rig.advance(300);
            if !stored {
                assert_eq!(
                    refused(&rig, &mut browser, "/stock/1").await,
                    "access_token_expired"
                );
                refresh(&mut browser).await;
            }
            each_gets_its_own(&rig, &mut browser).await;
        }
        assert_eq!(rig.provider.count("refresh_token", 400), 0);
        assert_eq!(
            rig.provider.count("refresh_token", 200),
            2 + 3 * 3,
            "stored: {stored}"
        );
    }
}

#[tokio::test]
async fn the_sign_in_asks_for_what_the_apis_will_need() {
    let rig = Rig::with(only_own).await;
    let mut browser = rig.browser();
    let started = browser.fetch(Method::POST, "/auth/login/start", "").await.json();
    let url = url::Url::parse(started["authorization_url"].as_str().expect("a URL")).expect("a URL");
    let values = |wanted: &str| -> Vec<String> {
        let pairs = url.query_pairs().filter(|(name, _)| name == wanted);
        pairs.map(|(_, value)| value.into_owned()).collect()
    };
    assert_eq!(values("resource"), [ORDERS]);
    assert_eq!(values("scope"), ["openid profile orders:read"]);
    assert!(values("audience").is_empty());
}

/// RFC 8707 §2.2: who does not say for which of the granted resources a token is may get one for all.
#[tokio::test]
async fn the_sessions_own_token_is_asked_for_its_own_resource_alone() {
    for (routes, expected) in [
        (mixed as fn(&mut ApplicationConfig), Some(BASE)),
        // nobody but the provider is shown it
        (only_own, None),
    ] {
        let rig = Rig::with(routes).await;
        let mut browser = rig.signed_in().await;
        refresh(&mut browser).await;
        let forms = rig.provider.script().token_forms.clone();
        let own = |form: &&HashMap<String, String>| {
            let target = form.get("resource").or_else(|| form.get("audience"));
            target.is_none_or(|target| target == BASE)
        };
        let own: Vec<_> = forms.iter().filter(own).collect();
        let found: Vec<_> = own
            .iter()
            .map(|form| {
                (
                    form["grant_type"].as_str(),
                    form.get("resource").map(String::as_str),
                )
            })
            .collect();
        assert_eq!(
            found,
            [("authorization_code", expected), ("refresh_token", expected)]
        );
    }
}

#[tokio::test]
async fn each_request_carries_its_own_apis_cookie_within_four_kilobytes() {
    let rig = Rig::with(only_own).await;
    rig.provider.script().padding = 1_200;
    let browser = rig.signed_in().await;
    for (path, _) in APIS {
        let request = browser.fetch_request(&Method::GET, path, "");
        let own = path.trim_matches(|c: char| c == '/' || c.is_ascii_digit());
        let cookies = request.headers()["cookie"].to_str().expect("ASCII");
        for (other, _) in APIS {
            let other = other.trim_matches(|c: char| c == '/' || c.is_ascii_digit());
            assert_eq!(
                cookies.contains(&format!("__Secure-shop-api-{other}=")),
                other == own,
                "{path}"
            );
        }
        let size: usize = request
            .headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        assert!(size <= 4096, "{path}: {size}");
        // the anchor has no token where no route needs the session's own
        assert!(cookies.len() < 2_100, "{path}: {}", cookies.len());
    }
    let to_agent = browser.fetch_request(&Method::GET, "/auth/session", "");
    assert!(
        !to_agent.headers()["cookie"]
            .to_str()
            .expect("ASCII")
            .contains("-api-")
    );
}

#[tokio::test]
async fn cookies_of_other_sessions_routes_and_users_open_nothing() {
    let rig = Rig::with(mixed).await;
    let mut browser = rig.signed_in().await;
    let mut other = rig.browser();
    other.sign_in(&rig.provider, "mallory").await;
    let named = |browser: &Browser, name: &str| {
        let name = format!("__Secure-shop-api-{name}");
        browser
            .jar
            .iter()
            .find(|cookie| cookie.name == name)
            .cloned()
            .expect("a cookie")
    };
    // fill the memo, so that nothing depends on who opened what before
    each_gets_its_own(&rig, &mut browser).await;
    each_gets_its_own(&rig, &mut other).await;
    let own = browser.jar.clone();
    for (name, tossed) in [
        ("another user's", named(&other, "orders")),
        ("another route's", {
            let mut cookie = named(&browser, "stock");
            cookie.name = "__Secure-shop-api-orders".to_owned();
            cookie.path = "/orders".to_owned();
            cookie
        }),
        ("garbage", {
            let mut cookie = named(&browser, "orders");
            let other = if cookie.value.as_bytes()[50] == b'a' {
                "b"
            } else {
                "a"
            };
            cookie.value.replace_range(50..=50, other);
            cookie
        }),
    ] {
        browser.jar = own.clone();
        browser.jar.retain(|cookie| cookie.name != tossed.name);
        browser.jar.push(tossed.clone());
        assert_eq!(
            refused(&rig, &mut browser, "/orders/1").await,
            "access_token_expired",
            "{name}"
        );
        // beside the right one, in front of it as a narrower path would put it
        browser.jar = own.clone();
        browser.jar.insert(0, tossed);
        let token = call(&rig, &mut browser, "/orders/1").await.unwrap_or_default();
        assert!(
            token.starts_with("canary-access-https://orders.example-"),
            "{name}: {token}"
        );
    }
    // nor does a cookie alone
    browser.jar = vec![named(&other, "orders")];
    assert_eq!(refused(&rig, &mut browser, "/orders/1").await, "unauthorized");
    // and who lost one gets it back
    browser.jar = own;
    browser.jar.retain(|cookie| !cookie.name.contains("-api-"));
    assert_eq!(
        refused(&rig, &mut browser, "/orders/1").await,
        "access_token_expired"
    );
    refresh(&mut browser).await;
    each_gets_its_own(&rig, &mut browser).await;
}

#[tokio::test]
async fn a_token_is_not_sent_to_the_api_that_took_its_routes_place() {
    let rig = Rig::with(only_own).await;
    let mut browser = rig.signed_in().await;
    let later = rig.replica_with(SessionStorage::Cookie, |config| {
        only_own(config);
        let stock = config.routes[1].token.as_mut().expect("a token");
        stock.audience = Some("warehouse".to_owned());
    });
    browser = browser.at(later.service.clone());
    assert_eq!(
        refused(&later, &mut browser, "/stock/1").await,
        "access_token_expired"
    );
    assert!(call(&later, &mut browser, "/pay/1").await.is_ok());
    refresh(&mut browser).await;
    let token = call(&later, &mut browser, "/stock/1").await.unwrap_or_default();
    assert!(token.starts_with("canary-access-warehouse-"), "{token}");
}

#[tokio::test]
async fn what_is_refused_for_one_api_costs_that_one() {
    let refusal = |body| Fault::Answer(400, "application/json", body);
    for stored in [false, true] {
        for (name, fault, answer) in [
            (
                "unknown",
                Some(refusal(r#"{"error":"invalid_target"}"#)),
                json!({}),
            ),
            ("scope", Some(refusal(r#"{"error":"invalid_scope"}"#)), json!({})),
            ("grant", Some(refusal(r#"{"error":"invalid_grant"}"#)), json!({})),
            ("empty", Some(refusal("")), json!({})),
            ("a superset", None, json!({"scope": "orders:read orders:write"})),
            ("another type", None, json!({"token_type": "mac"})),
        ] {
            let storage = match stored {
                true => SessionStorage::Store(Box::new(store_settings())),
                false => SessionStorage::Cookie,
            };
            let rig = Rig::new().await.replica_with(storage, only_own);
            {
                let mut script = rig.provider.script();
                script
                    .target_faults
                    .extend(fault.map(|fault| (ORDERS.to_owned(), fault)));
                script.target_answers.insert(ORDERS.to_owned(), answer);
            }
            let mut browser = rig.signed_in().await;
            assert_eq!(
                refused(&rig, &mut browser, "/orders/1").await,
                "provider_error",
                "{name}"
            );
            for path in ["/stock/1", "/pay/1"] {
                assert!(
                    call(&rig, &mut browser, path).await.is_ok(),
                    "{name} {path}, stored: {stored}"
                );
            }
            assert!(browser.is_signed_in().await);
            // once it is put right, the next refresh has the token
            rig.provider.script().target_faults.clear();
            rig.provider.script().target_answers.clear();
            rig.advance(300);
            if !stored {
                refresh(&mut browser).await;
            }
            each_gets_its_own(&rig, &mut browser).await;
        }
    }
}

#[tokio::test]
async fn an_outage_in_the_middle_loses_neither_the_session_nor_its_newest_refresh_token() {
    for stored in [false, true] {
        let storage = match stored {
            true => SessionStorage::Store(Box::new(store_settings())),
            false => SessionStorage::Cookie,
        };
        let rig = Rig::new().await.replica_with(storage, only_own);
        let mut browser = rig.signed_in().await;
        rig.advance(300);
        let away = Fault::Answer(503, "text/plain", "later");
        rig.provider
            .script()
            .target_faults
            .insert("stock".to_owned(), away);
        if !stored {
            refresh(&mut browser).await;
        }
        assert!(call(&rig, &mut browser, "/orders/1").await.is_ok());
        let answer = call(&rig, &mut browser, "/stock/1").await.expect_err("no token");
        assert_eq!(answer.error_code(), "provider_unavailable");
        assert!(answer.headers.contains_key("retry-after"));
        assert!(call(&rig, &mut browser, "/pay/1").await.is_ok());
        rig.provider.script().target_faults.clear();
        rig.advance(30);
        if !stored {
            // it is worth asking again, and the call says so
            assert_eq!(
                refused(&rig, &mut browser, "/stock/1").await,
                "access_token_expired"
            );
            refresh(&mut browser).await;
        }
        each_gets_its_own(&rig, &mut browser).await;
        assert_eq!(rig.provider.count("refresh_token", 400), 0, "stored: {stored}");
    }
}

#[tokio::test]
async fn a_token_that_is_still_good_outlives_a_failed_renewal() {
    let rig = Rig::with(only_own).await;
    rig.provider
        .script()
        .target_answers
        .insert(ORDERS.to_owned(), json!({"expires_in": 800}));
    let mut browser = rig.signed_in().await;
    let before = call(&rig, &mut browser, "/orders/1").await.unwrap_or_default();
    let away = Fault::Answer(503, "text/plain", "later");
    rig.provider
        .script()
        .target_faults
        .insert(ORDERS.to_owned(), away);
    rig.advance(300);
    refresh(&mut browser).await;
    assert_eq!(
        call(&rig, &mut browser, "/orders/1").await.unwrap_or_default(),
        before
    );
    rig.provider.script().target_faults.clear();
    refresh(&mut browser).await;
    assert_ne!(
        call(&rig, &mut browser, "/orders/1").await.unwrap_or_default(),
        before
    );
}

#[tokio::test]
async fn the_clock_that_the_spa_sees_is_the_first_tokens() {
    let rig = Rig::with(mixed).await;
    rig.provider
        .script()
        .target_answers
        .insert("stock".to_owned(), json!({"expires_in": 60}));
    let mut browser = rig.signed_in().await;
    assert_eq!(browser.session().await["access_token_expires_in"], 60);
    rig.advance(60);
    assert_eq!(
        refused(&rig, &mut browser, "/stock/1").await,
        "access_token_expired"
    );
    assert!(call(&rig, &mut browser, "/orders/1").await.is_ok());
    assert_eq!(refresh(&mut browser).await["access_token_expires_in"], 60);
    each_gets_its_own(&rig, &mut browser).await;
}

#[tokio::test]
async fn a_sign_out_clears_every_cookie_and_revokes_every_token() {
    for stored in [false, true] {
        let storage = match stored {
            true => SessionStorage::Store(Box::new(store_settings())),
            false => SessionStorage::Cookie,
        };
        let rig = Rig::new().await.replica_with(storage, only_own);
        let mut browser = rig.signed_in().await;
        let mut tokens = Vec::new();
        for (path, _) in APIS {
            tokens.push(call(&rig, &mut browser, path).await.unwrap_or_default());
        }
        let late = browser.jar.clone();
        browser.fetch(Method::POST, "/auth/logout", "").await;
        let left: Vec<_> = browser.jar.iter().map(|cookie| cookie.name.as_str()).collect();
        assert!(
            left.iter()
                .all(|name| !name.contains("-api-") && !name.contains("access")),
            "{left:?}"
        );
        // a refresh token, the session's own token and three of APIs
        rig.until(|| rig.provider.script().revoked.len() == 5).await;
        let revoked = rig.provider.script().revoked.clone();
        assert!(tokens.iter().all(|token| revoked.contains(token)), "{revoked:?}");
        // what a late answer writes back opens nothing
        browser.jar.extend(late);
        assert_eq!(refused(&rig, &mut browser, "/orders/1").await, "session_expired");
    }
}

#[tokio::test]
async fn the_next_users_sign_in_leaves_no_cookie_of_the_last_one() {
    let rig = Rig::with(only_own).await;
    rig.provider.script().padding = 5_000;
    let mut browser = rig.signed_in().await;
    let chunks = |browser: &Browser| {
        browser
            .jar
            .iter()
            .filter(|cookie| cookie.name.contains("-api-"))
            .count()
    };
    assert_eq!(chunks(&browser), 6);
    rig.provider.script().padding = 0;
    browser.sign_in(&rig.provider, "bob").await;
    assert_eq!(chunks(&browser), 3);
    each_gets_its_own(&rig, &mut browser).await;
}

#[tokio::test]
async fn tokens_that_grow_and_shrink_between_refreshes_stay_usable() {
    let rig = Rig::with(only_own).await;
    let mut browser = rig.signed_in().await;
    for padding in [5_000, 0, 9_000, 1_000] {
        rig.provider.script().padding = padding;
        rig.advance(300);
        refresh(&mut browser).await;
        for (path, _) in APIS {
            let token = call(&rig, &mut browser, path).await.unwrap_or_default();
            assert!(token.len() > padding && token.len() < padding + 100, "{path}");
        }
    }
    // one that fits into no cookies costs its route alone
    rig.provider
        .script()
        .target_answers
        .insert("stock".to_owned(), json!({"access_token": "x".repeat(16_000)}));
    rig.advance(300);
    refresh(&mut browser).await;
    assert_eq!(refused(&rig, &mut browser, "/stock/1").await, "provider_error");
    assert!(call(&rig, &mut browser, "/orders/1").await.is_ok());
}

#[tokio::test]
async fn without_a_refresh_token_an_exchange_is_all_there_is() {
    let rig = Rig::with(only_own).await;
    rig.provider.script().refresh = Rotation::Never;
    let mut browser = rig.signed_in().await;
    assert!(call(&rig, &mut browser, "/pay/1").await.is_ok());
    for path in ["/orders/1", "/stock/1"] {
        assert_eq!(refused(&rig, &mut browser, path).await, "provider_error");
    }
}

/// An exchange needs the session's own access token and nothing else.
#[tokio::test]
async fn without_a_refresh_token_an_exchanged_token_is_had_again_while_the_sessions_own_lives() {
    for storage in [
        SessionStorage::Cookie,
        SessionStorage::CookieWithRevocations(Box::new(store_settings())),
    ] {
        let rig = Rig::new().await.replica_with(storage, only_own);
        {
            let mut script = rig.provider.script();
            script.refresh = Rotation::Never;
            script.expires_in = Some(3600);
            script
                .target_answers
                .insert("pay".to_owned(), json!({"expires_in": 60}));
        }
        let mut browser = rig.signed_in().await;
        let exchanges = || {
            rig.provider
                .count("urn:ietf:params:oauth:grant-type:token-exchange", 200)
        };
        let mut before = call(&rig, &mut browser, "/pay/1").await.unwrap_or_default();
        for round in 1..=5 {
            rig.advance(61);
            assert_eq!(
                refused(&rig, &mut browser, "/pay/1").await,
                "access_token_expired"
            );
            refresh(&mut browser).await;
            let after = call(&rig, &mut browser, "/pay/1").await.unwrap_or_default();
            assert!(
                after.starts_with("canary-access-pay-") && after != before,
                "{after}"
            );
            assert_eq!(exchanges(), 1 + round);
            before = after;
            // who asks again gets nothing newer
            refresh(&mut browser).await;
            assert_eq!(exchanges(), 1 + round);
        }
        // those that cannot be had say so again, and not that a refresh would help
        for path in ["/orders/1", "/stock/1"] {
            assert_eq!(
                refused(&rig, &mut browser, path).await,
                "provider_error",
                "{path}"
            );
        }
        // a provider that does not exchange it any more costs that API alone
        rig.advance(61);
        rig.provider.script().target_faults.insert(
            "pay".to_owned(),
            Fault::Answer(400, "application/json", r#"{"error":"invalid_target"}"#),
        );
        refresh(&mut browser).await;
        assert_eq!(refused(&rig, &mut browser, "/pay/1").await, "provider_error");
        assert!(browser.is_signed_in().await);
        // and the session ends with its own token
        rig.advance(3600);
        assert_eq!(
            browser.fetch(Method::POST, "/auth/refresh", "").await.status,
            StatusCode::UNAUTHORIZED
        );
    }
}

/// A long token stays where it is: the agent does not see it, and cannot write it anew.
#[tokio::test]
async fn a_token_in_the_browser_lives_as_long_as_users_do_something() {
    let rig = Rig::with(only_own).await;
    {
        let mut script = rig.provider.script();
        script.refresh = Rotation::Never;
        script.expires_in = Some(36_000);
        script.padding = 400;
    }
    let mut browser = rig.signed_in().await;
    let first = call(&rig, &mut browser, "/pay/1").await.unwrap_or_default();
    // half the idle time is 15 minutes
    for _ in 0..8 {
        rig.advance(901);
        assert_eq!(
            refused(&rig, &mut browser, "/pay/1").await,
            "access_token_expired"
        );
        refresh(&mut browser).await;
        let token = call(&rig, &mut browser, "/pay/1").await.unwrap_or_default();
        assert_eq!(token, first);
    }
    assert_eq!(
        rig.provider
            .count("urn:ietf:params:oauth:grant-type:token-exchange", 200),
        1
    );
    // who does nothing is signed out all the same
    rig.advance(1801);
    assert_ne!(refused(&rig, &mut browser, "/pay/1").await, "passed");
}

#[tokio::test]
async fn without_a_refresh_token_one_apis_end_is_not_the_sessions() {
    let base = Rig::with(mixed).await;
    base.provider.script().refresh = Rotation::Never;
    base.provider.script().expires_in = Some(3600);
    let storage = SessionStorage::Store(Box::new(store_settings()));
    let rig = base.replica_with(storage, mixed);
    let mut browser = rig.signed_in().await;
    // beyond the time at which it would be worth asking again
    rig.clock.advance(std::time::Duration::from_secs(301));
    assert_eq!(refused(&rig, &mut browser, "/orders/1").await, "provider_error");
    assert!(call(&rig, &mut browser, "/base/1").await.is_ok());
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn the_session_ends_with_its_own_refresh_token_only() {
    let rig = Rig::with(only_own).await;
    let mut browser = rig.signed_in().await;
    rig.advance(300);
    rig.provider.script().token_fault = Some(Fault::Answer(
        400,
        "application/json",
        r#"{"error":"invalid_grant"}"#,
    ));
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "session_expired");
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn tabs_that_refresh_at_once_get_one_round_of_requests() {
    let rig = Rig::with(mixed).await;
    let browser = rig.signed_in().await;
    rig.advance(300);
    let tabs: Vec<_> = (0..3).map(|_| browser.clone()).collect();
    let answers = futures_util::future::join_all(
        tabs.iter()
            .map(|tab| tab.fetch_late(Method::POST, "/auth/refresh", "")),
    );
    for (mut tab, answer) in tabs.clone().into_iter().zip(answers.await) {
        assert_eq!(answer.status, StatusCode::OK);
        tab.store(&answer.headers);
        each_gets_its_own(&rig, &mut tab).await;
    }
    // one that comes late has the answer of the first, each API's token with it
    let mut late = browser.clone();
    refresh(&mut late).await;
    each_gets_its_own(&rig, &mut late).await;
    assert_eq!(rig.provider.count("refresh_token", 200), 2 + 3);
}

#[tokio::test]
async fn a_proxy_beside_the_agent_attaches_the_same_tokens() {
    for stored in [false, true] {
        let storage = match stored {
            true => SessionStorage::Store(Box::new(store_settings())),
            false => SessionStorage::Cookie,
        };
        let agent = Rig::new().await.replica_with(storage, mixed);
        let proxy = agent.proxy_only_with(mixed);
        let mut there = agent.signed_in().await.at(proxy.service.clone());
        each_gets_its_own(&proxy, &mut there).await;
        assert!(call(&proxy, &mut there, "/base/1").await.is_ok());
        agent.advance(300);
        assert_eq!(
            refused(&proxy, &mut there, "/orders/1").await,
            "access_token_expired"
        );
    }
}

#[tokio::test]
async fn replicas_that_share_a_memory_hand_on_every_apis_token() {
    let storage = SessionStorage::CookieWithRevocations(Box::new(store_settings()));
    let rig = Rig::new().await.replica_with(storage, mixed);
    let other = rig.replica_with(rig.storage(), mixed);
    let mut browser = rig.signed_in().await;
    let mut late = browser.clone().at(other.service.clone());
    rig.advance(300);
    refresh(&mut browser).await;
    refresh(&mut late).await;
    each_gets_its_own(&rig, &mut browser).await;
    each_gets_its_own(&other, &mut late).await;
    assert_eq!(rig.provider.count("refresh_token", 200), 2 + 3);
}

#[tokio::test]
async fn a_session_from_before_its_routes_had_tokens_gets_them_by_a_refresh() {
    let before = Rig::with(|config| config.routes = vec![route("/orders/"), route("/base/")]).await;
    let mut browser = before.signed_in().await;
    let rig = before.replica_with(SessionStorage::Cookie, only_own);
    browser = browser.at(rig.service.clone());
    assert_eq!(
        refused(&rig, &mut browser, "/orders/1").await,
        "access_token_expired"
    );
    refresh(&mut browser).await;
    each_gets_its_own(&rig, &mut browser).await;
    // and back: the anchor has no token then, the agent has
    browser = browser.at(before.service.clone());
    assert_eq!(
        refused(&before, &mut browser, "/base/1").await,
        "access_token_expired"
    );
    refresh(&mut browser).await;
    assert!(call(&before, &mut browser, "/base/1").await.is_ok());
}

#[test]
fn the_usual_application_sends_the_sessions_own_token() {
    let application = Arc::new(crate::support::checked(config("http://127.0.0.1:1")));
    assert!(application.sends_session_token() && application.apis.list.is_empty());
}
