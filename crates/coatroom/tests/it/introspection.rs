//! Routes whose calls wait for what the provider says of their token: the API sees that and no more.

use std::time::Duration;

use coatroom_core::assurance::DemandsConfig;
use coatroom_core::config::{
    ApplicationConfig, ExchangeConfig, IntrospectionConfig, RateLimitConfig, RouteConfig, RouteLimitConfig,
    SessionStorage, TokenConfig,
};
use http::{Method, StatusCode};
use serde_json::json;

use crate::support::browser::{Answer, Browser};
use crate::support::provider::{Rotation, ScriptedProvider};
use crate::support::{OLD_KEY, Rig, checked, config, provider_of, ring, route, store_settings};

const JWT: &str = "/jwt/1";
const PHANTOM: &str = "/phantom/1";
const JSON: &str = "/json/1";
const FORMS: [(&str, &str); 3] = [(JWT, "jwt"), (PHANTOM, "phantom_token"), (JSON, "json")];

fn routes(config: &mut ApplicationConfig) {
    let introspected = |path: &str, response: &str| RouteConfig {
        token: Some(TokenConfig {
            introspection: Some(IntrospectionConfig {
                response: Some(response.to_owned()),
                ..IntrospectionConfig::default()
            }),
            ..TokenConfig::default()
        }),
        ..route(path)
    };
    config.routes.push(introspected("/jwt/", "jwt"));
    config.routes.push(introspected("/phantom/", "phantom_token"));
    config.routes.push(introspected("/json/", "json"));
    config.routes.push(RouteConfig {
        auth: Some("optional".to_owned()),
        ..introspected("/perhaps/", "jwt")
    });
}

async fn rigs() -> [Rig; 2] {
    let first = Rig::with(routes).await;
    let storage = SessionStorage::Store(Box::new(store_settings()));
    let second = Rig::new().await.replica_with(storage, routes);
    [first, second]
}

/// What an API was sent, or the error.
async fn call(rig: &Rig, browser: &mut Browser, path: &str) -> Result<String, Answer> {
    let answer = browser.fetch(Method::GET, path, "").await;
    if answer.status != StatusCode::OK {
        assert!(rig.api.seen.lock().expect("no panic").is_empty());
        return Err(answer);
    }
    let request = rig.api.last();
    assert!(!request.headers().contains_key("cookie"));
    let value = &request.headers()["authorization"];
    assert!(value.is_sensitive());
    let value = value.to_str().expect("ASCII");
    Ok(value.strip_prefix("Bearer ").expect("a bearer token").to_owned())
}

async fn passes(rig: &Rig, browser: &mut Browser, path: &str) -> String {
    let token = call(rig, browser, path).await;
    token.unwrap_or_else(|answer| panic!("{path}: {}", answer.body))
}

async fn refused(rig: &Rig, browser: &mut Browser, path: &str) -> (u16, String) {
    match call(rig, browser, path).await {
        Ok(_) => (200, String::new()),
        Err(answer) => (answer.status.as_u16(), answer.error_code()),
    }
}

fn asked(rig: &Rig) -> usize {
    rig.provider.script().introspection.asked.len()
}

async fn still_signed_in(browser: &mut Browser) {
    let session = browser.fetch(Method::GET, "/auth/session", "").await.json();
    assert_eq!(session["is_logged_in"], true, "{session}");
}

async fn refresh(browser: &mut Browser) {
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn the_api_sees_the_jwt_and_never_the_opaque_token() {
    for rig in rigs().await {
        let mut browser = rig.signed_in().await;
        for (path, _) in &FORMS[..2] {
            let sent = passes(&rig, &mut browser, path).await;
            let script = rig.provider.script();
            assert_eq!(script.introspection.answered.last(), Some(&sent), "{path}");
            assert!(!script.issued.contains(&sent), "{path}");
        }
        let token = passes(&rig, &mut browser, JSON).await;
        assert!(token.starts_with("canary-access-"), "{token}");
        let asked = rig.provider.script().introspection.asked.clone();
        let accepts: Vec<&str> = asked.iter().map(|(_, accepts)| accepts.as_str()).collect();
        assert_eq!(
            accepts,
            [
                "application/token-introspection+jwt, application/jwt",
                "application/jwt",
                "application/json"
            ]
        );
        assert!(asked.iter().all(|(about, _)| *about == token));
        // a route without one asks nothing, and one that nobody signed in for neither
        assert_eq!(passes(&rig, &mut browser, "/api/1").await, token);
        let mut nobody = rig.browser();
        let answer = nobody.fetch(Method::GET, "/perhaps/1", "").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!rig.api.last().headers().contains_key("authorization"));
        assert_eq!(
            refused(&rig, &mut nobody, JWT).await,
            (401, "unauthorized".to_owned())
        );
        assert_eq!(rig.provider.script().introspection.asked.len(), 3);
    }
}

#[tokio::test]
async fn an_answer_is_asked_for_once_until_it_is_over() {
    for rig in rigs().await {
        let mut browser = rig.signed_in().await;
        let mut before = 0;
        // the provider's tokens live for 300 s, and are attached for a little less
        for (path, life) in [(JSON, 60), (JWT, 200), (PHANTOM, 200)] {
            rig.provider.script().introspection.members = json!({"exp": rig.now() + life.max(200)});
            let first = passes(&rig, &mut browser, path).await;
            for _ in 0..3 {
                assert_eq!(passes(&rig, &mut browser, path).await, first);
            }
            assert_eq!(asked(&rig), before + 1, "{path}");
            rig.advance(life - 1);
            assert_eq!(passes(&rig, &mut browser, path).await, first);
            assert_eq!(asked(&rig), before + 1, "{path}");
            rig.advance(1);
            rig.provider.script().introspection.members = json!({});
            passes(&rig, &mut browser, path).await;
            assert_eq!(asked(&rig), before + 2, "{path}");
            // another token is another question
            refresh(&mut browser).await;
            // what a core was told of a stored session counts for a moment
            rig.advance(2);
            passes(&rig, &mut browser, path).await;
            assert_eq!(asked(&rig), before + 3, "{path}");
            before = asked(&rig);
        }
    }
}

#[tokio::test]
async fn with_no_time_each_call_asks() {
    let rig = Rig::with(|config| {
        routes(config);
        for route in &mut config.routes {
            let token = route.token.as_mut();
            if let Some(introspection) = token.and_then(|token| token.introspection.as_mut()) {
                introspection.cache = Some(Duration::ZERO);
            }
        }
    })
    .await;
    let mut browser = rig.signed_in().await;
    for (index, (path, _)) in FORMS.iter().enumerate() {
        passes(&rig, &mut browser, path).await;
        passes(&rig, &mut browser, path).await;
        assert_eq!(asked(&rig), index * 2 + 2, "{path}");
    }
}

#[tokio::test]
async fn a_revoked_token_is_an_expired_one_and_the_session_lives() {
    for rig in rigs().await {
        for (path, _) in FORMS {
            let mut browser = rig.signed_in().await;
            passes(&rig, &mut browser, path).await;
            let token = rig
                .provider
                .script()
                .introspection
                .asked
                .last()
                .expect("one")
                .0
                .clone();
            rig.provider.script().introspection.ended.push(token);
            let before = asked(&rig);
            // what was said still counts, for a minute at most with `json`
            passes(&rig, &mut browser, path).await;
            let life = if path == JSON { 60 } else { 295 };
            rig.advance(life);
            let expired = (401, "access_token_expired".to_owned());
            if path == JSON {
                for _ in 0..3 {
                    assert_eq!(refused(&rig, &mut browser, path).await, expired);
                }
                // nobody has the provider asked at each call
                assert_eq!(asked(&rig), before + 1);
                rig.advance(5);
                assert_eq!(refused(&rig, &mut browser, path).await, expired);
                assert_eq!(asked(&rig), before + 2);
            }
            still_signed_in(&mut browser).await;
            refresh(&mut browser).await;
            passes(&rig, &mut browser, path).await;
        }
    }
}

#[tokio::test]
async fn an_outage_is_none_of_the_sessions_and_ends_nothing() {
    for rig in rigs().await {
        for (path, _) in FORMS {
            let mut browser = rig.signed_in().await;
            rig.provider.script().introspection.fault = Some((503, "text/plain", ""));
            let before = asked(&rig);
            for _ in 0..3 {
                let answer = call(&rig, &mut browser, path).await.expect_err("an outage");
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
                assert_eq!(answer.error_code(), "provider_unavailable");
                assert_eq!(answer.headers["retry-after"], "2");
            }
            assert_eq!(asked(&rig), before + 1, "{path}");
            still_signed_in(&mut browser).await;
            assert!(
                passes(&rig, &mut browser, "/api/1")
                    .await
                    .starts_with("canary-access-")
            );
            rig.provider.script().introspection.fault = None;
            rig.advance(2);
            passes(&rig, &mut browser, path).await;
            // what is known counts through an outage
            rig.provider.script().introspection.fault = Some((503, "text/plain", ""));
            rig.advance(30);
            passes(&rig, &mut browser, path).await;
            rig.provider.script().introspection.fault = None;
        }
    }
}

#[tokio::test]
async fn an_unusable_answer_lets_nothing_pass_and_ends_nothing() {
    for rig in rigs().await {
        let mut browser = rig.signed_in().await;
        for (path, _) in FORMS {
            for (members, fault) in [
                (json!({"client_id": "other"}), None),
                (json!({"iss": "https://evil.example"}), None),
                (json!({}), Some((200, "text/html", "<html>"))),
                (json!({}), Some((302, "text/plain", ""))),
                (json!({}), Some((403, "text/plain", ""))),
            ] {
                rig.provider.script().introspection.members = members;
                rig.provider.script().introspection.fault = fault;
                let before = asked(&rig);
                for _ in 0..2 {
                    let (status, code) = refused(&rig, &mut browser, path).await;
                    assert_eq!(
                        (status, code.as_str()),
                        (502, "provider_error"),
                        "{path}: {fault:?}"
                    );
                }
                assert_eq!(asked(&rig), before + 1);
                rig.advance(5);
            }
        }
        rig.provider.script().introspection.members = json!({});
        rig.provider.script().introspection.fault = None;
        still_signed_in(&mut browser).await;
        passes(&rig, &mut browser, JWT).await;
    }
}

#[tokio::test]
async fn calls_with_one_token_wait_for_one_request() {
    for rig in rigs().await {
        for (path, _) in FORMS {
            let browser = rig.signed_in().await;
            rig.provider.hold_tokens();
            let before = asked(&rig);
            let calls: Vec<_> = (0..20)
                .map(|_| {
                    let browser = &browser;
                    async move { browser.send(browser.fetch_request(&Method::GET, path, "")).await }
                })
                .collect();
            let all = futures_util::future::join_all(calls);
            let release = async {
                rig.until(|| asked(&rig) > before).await;
                rig.settle().await;
                rig.provider.release_tokens();
            };
            let (answers, ()) = tokio::join!(all, release);
            assert!(
                answers.iter().all(|answer| answer.status == StatusCode::OK),
                "{path}"
            );
            assert_eq!(asked(&rig), before + 1, "{path}");
            rig.api.seen.lock().expect("no panic").clear();
        }
    }
}

#[tokio::test]
async fn scopes_that_the_provider_took_away_are_missed() {
    let rig = Rig::with(|config| {
        routes(config);
        let json = config.routes.iter_mut().find(|route| route.path == "/json/");
        json.expect("a route").require = Some(DemandsConfig {
            scopes: vec!["profile".to_owned()],
            ..DemandsConfig::default()
        });
    })
    .await;
    let mut browser = rig.signed_in().await;
    passes(&rig, &mut browser, JSON).await;
    rig.advance(60);
    rig.provider.script().introspection.members = json!({"scope": "openid profiles"});
    let (status, code) = refused(&rig, &mut browser, JSON).await;
    assert_eq!((status, code.as_str()), (403, "forbidden"));
    still_signed_in(&mut browser).await;
}

#[tokio::test]
async fn an_apis_own_token_is_asked_about_like_the_sessions() {
    let rig = Rig::with(|config| {
        routes(config);
        let jwt = config.routes.iter_mut().find(|route| route.path == "/jwt/");
        let token = jwt.and_then(|route| route.token.as_mut()).expect("a token");
        token.audience = Some("orders".to_owned());
    })
    .await;
    let mut browser = rig.signed_in().await;
    let sent = passes(&rig, &mut browser, JWT).await;
    let (about, _) = rig
        .provider
        .script()
        .introspection
        .asked
        .last()
        .expect("one")
        .clone();
    assert!(about.starts_with("canary-access-orders-"), "{about}");
    assert_eq!(rig.provider.script().introspection.answered.last(), Some(&sent));
}

/// Nothing could bring such a session another token: its client would refresh for ever.
#[tokio::test]
async fn without_a_refresh_token_a_revoked_token_is_the_sessions_end() {
    for rig in rigs().await {
        rig.provider.script().refresh = Rotation::Never;
        for (path, _) in FORMS {
            let mut browser = rig.signed_in().await;
            passes(&rig, &mut browser, "/api/1").await;
            let token = passes(&rig, &mut browser, "/api/1").await;
            rig.provider.script().introspection.ended.push(token);
            let over = (401, "session_expired".to_owned());
            assert_eq!(refused(&rig, &mut browser, path).await, over, "{path}");
        }
    }
}

/// The same application under other settings.
fn reload(rig: &Rig, change: impl FnOnce(&mut ApplicationConfig)) {
    let mut config = config(&rig.provider.issuer);
    config.session.storage = rig.storage();
    change(&mut config);
    rig.handler
        .reload(vec![checked(config)], ring(&[OLD_KEY]))
        .expect("a good configuration");
}

#[tokio::test]
async fn no_provider_is_asked_about_a_token_of_another() {
    for rig in rigs().await {
        let other = ScriptedProvider::start().await;
        other.set_clock(rig.clock.clone());
        let introspected = rig.signed_in().await;
        reload(&rig, |_| {});
        let plain = rig.signed_in().await;
        // the one provider is another one from now on, with and without a name
        for named in [false, true] {
            reload(&rig, |config| {
                routes(config);
                provider_of(config).issuer.clone_from(&other.issuer);
                if named {
                    let provider = config.provider.take().expect("one");
                    config.providers = Some(vec![("corp".to_owned(), provider)]);
                }
            });
            for before in [&introspected, &plain] {
                for (path, _) in FORMS {
                    let (status, _) = refused(&rig, &mut before.clone(), path).await;
                    assert_eq!(status, 401, "{path}");
                }
            }
        }
        let asked_elsewhere = &other.script().introspection.asked;
        assert!(asked_elsewhere.is_empty(), "{asked_elsewhere:?}");
        assert_eq!(asked(&rig), 0);
    }
}

#[tokio::test]
async fn a_revoked_token_of_an_exchange_is_exchanged_for_anew() {
    let rig = Rig::with(|config| {
        routes(config);
        let json = config.routes.iter_mut().find(|route| route.path == "/json/");
        let token = json.and_then(|route| route.token.as_mut()).expect("a token");
        token.exchange = Some(ExchangeConfig {
            audience: Some("pay".to_owned()),
            ..ExchangeConfig::default()
        });
    })
    .await;
    rig.provider.script().refresh = Rotation::Never;
    let mut browser = rig.signed_in().await;
    let before = passes(&rig, &mut browser, JSON).await;
    rig.provider.script().introspection.ended.push(before.clone());
    rig.advance(60);
    let expired = (401, "access_token_expired".to_owned());
    assert_eq!(refused(&rig, &mut browser, JSON).await, expired);
    refresh(&mut browser).await;
    let after = passes(&rig, &mut browser, JSON).await;
    assert!(
        after.starts_with("canary-access-pay-") && after != before,
        "{after}"
    );
}

/// A provider that is slower than what a store said counts: each answer is for the call that asked.
#[tokio::test]
async fn a_slow_provider_is_asked_once_by_a_call_whose_answers_are_not_kept() {
    let storage = SessionStorage::Store(Box::new(store_settings()));
    let rig = Rig::new().await.replica_with(storage, |config| {
        routes(config);
        let json = config.routes.iter_mut().find(|route| route.path == "/json/");
        let token = json.and_then(|route| route.token.as_mut()).expect("a token");
        token.introspection.as_mut().expect("one").cache = Some(Duration::ZERO);
    });
    // within the leeway, and so over as soon as it came
    for (path, members) in [(JSON, json!({})), (JWT, json!({"exp": rig.now()}))] {
        let browser = rig.signed_in().await;
        rig.provider.script().introspection.members = members;
        let before = asked(&rig);
        rig.provider.hold_tokens();
        let slow = async {
            rig.until(|| asked(&rig) > before).await;
            rig.advance(3);
            rig.provider.release_tokens();
        };
        let call = browser.send(browser.fetch_request(&Method::GET, path, ""));
        let (answer, ()) = tokio::join!(call, slow);
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(asked(&rig), before + 1, "{path}");
    }
}

/// Also where what is asked is asked again and again: the limit is what keeps it from the provider.
#[tokio::test]
async fn a_routes_limit_counts_a_call_once_and_before_the_provider_is_asked() {
    let limited = |config: &mut ApplicationConfig| {
        routes(config);
        let json = config.routes.iter_mut().find(|route| route.path == "/json/");
        let json = json.expect("a route");
        json.rate_limit = Some(RouteLimitConfig {
            limit: RateLimitConfig {
                requests: 1,
                per: Duration::from_secs(600),
                burst: Some(2),
            },
            by: None,
        });
        let token = json.token.as_mut().expect("a token");
        token.introspection.as_mut().expect("one").cache = Some(Duration::ZERO);
    };
    let first = Rig::with(limited).await;
    let storage = SessionStorage::Store(Box::new(store_settings()));
    let second = Rig::new().await.replica_with(storage, limited);
    for rig in [first, second] {
        let mut browser = rig.signed_in().await;
        for _ in 0..2 {
            passes(&rig, &mut browser, JSON).await;
        }
        let before = asked(&rig);
        rig.api.seen.lock().expect("no panic").clear();
        let (status, code) = refused(&rig, &mut browser, JSON).await;
        assert_eq!((status, code.as_str()), (429, "rate_limited"));
        assert_eq!(asked(&rig), before);
    }
}

#[tokio::test]
async fn sessions_from_before_a_route_asked_go_on_after_one_refresh() {
    for rig in rigs().await {
        reload(&rig, |_| {});
        let mut browser = rig.signed_in().await;
        reload(&rig, routes);
        rig.advance(61);
        if rig.storage() == SessionStorage::Cookie {
            let expired = (401, "access_token_expired".to_owned());
            assert_eq!(refused(&rig, &mut browser, JWT).await, expired);
            assert_eq!(asked(&rig), 0);
            refresh(&mut browser).await;
        }
        for (path, _) in FORMS {
            passes(&rig, &mut browser, path).await;
        }
        assert_eq!(rig.provider.count("refresh_token", 200), 1);
    }
}
