//! Step-up (RFC 9470): routes that demand a stronger or a later sign-in, and sign-ins that are held
//! to what was asked.

use std::time::Duration;

use coatroom::clock::Clock as _;
use coatroom_core::assurance::DemandsConfig;
use coatroom_core::config::{ApplicationConfig, RouteConfig, RouteTargetConfig, SessionStorage};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::browser::{Answer, Browser, Site};
use crate::support::{Rig, START, store_settings};

/// An API of which parts demand more.
fn demanding(config: &mut ApplicationConfig) {
    let route = |path: &str, require: DemandsConfig| {
        let mut route = RouteConfig::new(path, RouteTargetConfig::Inner);
        route.require = Some(require);
        route
    };
    let acr = vec!["gold".to_owned()];
    config.routes.extend([
        route(
            "/gold/",
            DemandsConfig {
                acr,
                ..DemandsConfig::default()
            },
        ),
        route(
            "/lately/",
            DemandsConfig {
                max_age: Some(Duration::from_secs(120)),
                ..DemandsConfig::default()
            },
        ),
        route(
            "/admin/",
            DemandsConfig {
                claims: vec![("role".to_owned(), vec!["admin".to_owned()])],
                ..DemandsConfig::default()
            },
        ),
        route(
            "/write/",
            DemandsConfig {
                scopes: vec!["write".to_owned()],
                ..DemandsConfig::default()
            },
        ),
    ]);
}

async fn worlds() -> Vec<(&'static str, Rig)> {
    let stored = SessionStorage::Store(Box::new(store_settings()));
    let base = Rig::with(|_| {}).await;
    vec![
        ("cookies", base.replica_with(base.storage(), demanding)),
        ("store", base.replica_with(stored, demanding)),
    ]
}

async fn call(browser: &mut Browser, path: &str) -> Answer {
    browser.fetch(Method::GET, path, "").await
}

fn challenge(answer: &Answer) -> &str {
    answer.headers["www-authenticate"].to_str().expect("ASCII")
}

/// Signs in with these parameters; the answer of the callback.
async fn step_up(browser: &mut Browser, rig: &Rig, parameters: &str, user: &str) -> Answer {
    let started = browser.fetch(Method::POST, "/auth/login/start", parameters).await;
    let url = started.json()["authorization_url"]
        .as_str()
        .expect("a URL")
        .to_owned();
    let query = rig.provider.approve(&url, user);
    browser
        .navigate(&format!("/auth/callback?{query}"), Site::Cross)
        .await
}

#[tokio::test]
async fn a_route_demands_more_and_a_step_up_gives_it() {
    for (world, rig) in worlds().await {
        let now = rig.clock.now().0;
        let mut browser = rig.browser();
        rig.provider.script().claims = json!({"acr": "bronze", "auth_time": now - 600});
        browser.sign_in(&rig.provider, "alice").await;
        assert_eq!(
            call(&mut browser, "/api/x").await.status,
            StatusCode::OK,
            "{world}"
        );
        let refused = call(&mut browser, "/gold/x").await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{world}");
        assert_eq!(refused.error_code(), "insufficient_user_authentication");
        assert_eq!(
            challenge(&refused),
            "Bearer error=\"insufficient_user_authentication\", acr_values=\"gold\""
        );
        let refused = call(&mut browser, "/lately/x").await;
        assert_eq!(
            challenge(&refused),
            "Bearer error=\"insufficient_user_authentication\", max_age=\"120\""
        );
        rig.provider.script().claims = json!({"acr": "gold", "auth_time": now});
        let answer = step_up(&mut browser, &rig, "acr_values=gold&max_age=120", "alice").await;
        assert_eq!(answer.location(), "https://shop.example/", "{world}");
        for path in ["/gold/x", "/lately/x"] {
            assert_eq!(
                call(&mut browser, path).await.status,
                StatusCode::OK,
                "{world} {path}"
            );
        }
        // a refreshed ID token that says nothing of it changes nothing, and time goes on
        rig.provider.script().claims = json!({});
        rig.clock.advance(Duration::from_secs(100));
        let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(refreshed.status, StatusCode::OK, "{world}");
        assert_eq!(
            call(&mut browser, "/gold/x").await.status,
            StatusCode::OK,
            "{world}"
        );
        assert_eq!(
            call(&mut browser, "/lately/x").await.status,
            StatusCode::OK,
            "{world}"
        );
        rig.clock.advance(Duration::from_secs(21));
        assert_eq!(
            call(&mut browser, "/lately/x").await.error_code(),
            "insufficient_user_authentication",
            "{world}"
        );
        assert!(browser.is_signed_in().await, "{world}");
    }
}

#[tokio::test]
async fn what_no_sign_in_changes_is_forbidden() {
    for (world, rig) in worlds().await {
        let mut browser = rig.browser();
        rig.provider.script().claims = json!({"role": ["user"]});
        browser.sign_in(&rig.provider, "alice").await;
        let refused = call(&mut browser, "/admin/x").await;
        assert_eq!(
            (refused.status, refused.error_code()),
            (StatusCode::FORBIDDEN, "forbidden".to_owned()),
            "{world}"
        );
        let refused = call(&mut browser, "/write/x").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{world}");
        assert_eq!(
            challenge(&refused),
            "Bearer error=\"insufficient_scope\", scope=\"write\""
        );
        rig.provider.script().claims = json!({"role": ["user", "admin"]});
        let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
        // for so long a core believes what a store said
        rig.clock.advance(Duration::from_secs(2));
        assert_eq!(refreshed.status, StatusCode::OK, "{world}");
        assert_eq!(
            call(&mut browser, "/admin/x").await.status,
            StatusCode::OK,
            "{world}: a change of roles counts"
        );
        assert!(
            rig.api
                .seen
                .lock()
                .expect("no panic")
                .iter()
                .all(|seen| seen.uri.path() != "/write/x")
        );
    }
}

#[tokio::test]
async fn a_sign_in_is_held_to_what_was_asked() {
    let cases: [(&str, Value, bool); 9] = [
        ("acr_values=gold", json!({"acr": "gold"}), true),
        ("acr_values=silver+gold", json!({"acr": "gold"}), true),
        ("acr_values=gold", json!({"acr": "silver"}), false),
        ("acr_values=gold", json!({"acr": "gold plated"}), false),
        ("acr_values=gold", json!({}), false),
        ("max_age=60", json!({"auth_time": START.0 - 60}), true),
        ("max_age=60", json!({"auth_time": START.0 - 71}), false),
        ("max_age=0", json!({}), false),
        ("max_age=60", json!({"auth_time": START.0 + 60}), false),
    ];
    for (parameters, claims, good) in cases {
        for (world, rig) in worlds().await {
            let mut browser = rig.browser();
            browser.sign_in(&rig.provider, "alice").await;
            rig.provider.script().claims = claims.clone();
            let answer = step_up(&mut browser, &rig, parameters, "alice").await;
            let expected = match good {
                true => "https://shop.example/",
                false => "https://shop.example/?login_error=unmet_authentication_requirements",
            };
            assert_eq!(answer.location(), expected, "{world} {parameters} {claims}");
            // whatever came of it, whoever was signed in still is
            assert_eq!(
                call(&mut browser, "/api/x").await.status,
                StatusCode::OK,
                "{world}"
            );
            let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
            assert_eq!(refreshed.status, StatusCode::OK, "{world} {parameters}");
        }
    }
}

#[tokio::test]
async fn a_sign_in_that_begins_anew_asks_for_no_less() {
    for (world, rig) in worlds().await {
        let mut browser = rig.browser();
        let parameters = "acr_values=gold&max_age=60&scope=openid";
        let started = browser.fetch(Method::POST, "/auth/login/start", parameters).await;
        let url = started.json()["authorization_url"].as_str().map(str::to_owned);
        let query = rig.provider.approve(&url.expect("a URL"), "alice");
        let refused = query.replace("canary-code", "canary-no-code");
        let restarted = browser
            .navigate(&format!("/auth/callback?{refused}"), Site::Cross)
            .await;
        let location = restarted.location().to_owned();
        for asked in ["acr_values=gold&", "max_age=60&", "scope=openid&"] {
            assert!(
                format!("{location}&").contains(asked),
                "{world} {asked}: {location}"
            );
        }
        rig.provider.script().claims = json!({"acr": "silver", "auth_time": rig.clock.now().0});
        let query = rig.provider.approve(&location, "alice");
        let answer = browser
            .navigate(&format!("/auth/callback?{query}"), Site::Cross)
            .await;
        assert_eq!(
            answer.location(),
            "https://shop.example/?login_error=unmet_authentication_requirements",
            "{world}"
        );
        // nobody was signed in: no session is to be spared, and everything of this one goes
        rig.until(|| rig.provider.script().revoked.len() == 2).await;
        let revoked = rig.provider.script().revoked.clone();
        assert!(
            revoked.iter().any(|token| token.contains("refresh")),
            "{world}: {revoked:?}"
        );
        rig.provider.script().revoked.clear();
    }
}

/// A browser's clock may be behind: its cookie is there after the sign-in's ten minutes.
#[tokio::test]
async fn a_sign_in_that_comes_late_begins_anew_with_what_was_asked() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let late = async |browser: &mut Browser, url: &str| {
        let query = rig.provider.approve(url, "alice");
        rig.advance(601);
        for cookie in &mut browser.jar {
            cookie.expires_at += 10_000;
        }
        let callback = format!("/auth/callback?{query}");
        let answer = browser.navigate(&callback, Site::Cross).await;
        answer.location().to_owned()
    };
    let parameters = "acr_values=gold&max_age=60&scope=openid&return_to=%2Forders";
    let started = browser.fetch(Method::POST, "/auth/login/start", parameters).await;
    let url = started.json()["authorization_url"].as_str().map(str::to_owned);
    let again = late(&mut browser, &url.expect("a URL")).await;
    for asked in ["acr_values=gold&", "max_age=60&", "scope=openid&"] {
        assert!(format!("{again}&").contains(asked), "{asked}: {again}");
    }
    // in time, and it leads where it was to lead
    let saved = browser.jar.clone();
    rig.provider.script().claims = json!({"acr": "gold", "auth_time": rig.now()});
    let query = rig.provider.approve(&again, "alice");
    let callback = format!("/auth/callback?{query}");
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert_eq!(answer.location(), "https://shop.example/orders");
    // late again, and that is the end of it
    browser.jar = saved;
    assert_eq!(
        late(&mut browser, &again).await,
        "https://shop.example/?login_error=login_state_invalid"
    );
    // a step-up is for its user, and never begins anew by itself
    let mut browser = rig.signed_in().await;
    let started = browser
        .fetch(Method::POST, "/auth/login/start", "acr_values=gold")
        .await;
    let url = started.json()["authorization_url"].as_str().map(str::to_owned);
    let answer = late(&mut browser, &url.expect("a URL")).await;
    assert_eq!(answer, "https://shop.example/?login_error=login_state_invalid");
}

#[tokio::test]
async fn sessions_from_before_a_rule_are_judged_by_it() {
    for (number, (world, rig)) in worlds().await.into_iter().enumerate() {
        let before = rig.replica_with(rig.storage(), |_| {});
        let mut browser = before.browser();
        rig.provider.script().claims = json!({"acr": "gold", "role": "admin"});
        browser.sign_in(&rig.provider, "alice").await;
        let mut browser = browser.at(rig.service.clone());
        let first = call(&mut browser, "/gold/x").await;
        if world == "cookies" {
            // a refresh writes it anew, as the client does by itself
            assert_eq!(first.error_code(), "access_token_expired");
            let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
            assert_eq!(refreshed.status, StatusCode::OK);
            assert_eq!(call(&mut browser, "/gold/x").await.status, StatusCode::OK);
        } else {
            assert_eq!(first.status, StatusCode::OK, "{world}: {}", first.body);
        }
        assert_eq!(
            call(&mut browser, "/admin/x").await.status,
            StatusCode::OK,
            "{world}"
        );
        assert_eq!(rig.provider.count("refresh_token", 200), number + 1, "{world}");
        assert_eq!(rig.provider.count("refresh_token", 400), 0, "{world}");
    }
}

#[tokio::test]
async fn calls_that_demand_nothing_do_not_wait_until_another_routes_demands_are_judged() {
    let (_, rig) = worlds().await.pop().expect("the one with a store");
    let before = rig.replica_with(rig.storage(), |_| {});
    let mut browser = before.browser();
    rig.provider.script().claims = json!({"acr": "gold"});
    browser.sign_in(&rig.provider, "alice").await;
    let mut browser = browser.at(rig.service.clone());
    rig.provider.hold_tokens();
    let judged = browser.clone();
    let judged = tokio::spawn(async move { judged.fetch_late(Method::GET, "/gold/x", "").await });
    rig.until(|| rig.provider.count("refresh_token", 200) == 1).await;
    let plain = tokio::time::timeout(Duration::from_secs(5), call(&mut browser, "/api/x")).await;
    assert_eq!(plain.expect("it waits for nobody").status, StatusCode::OK);
    rig.provider.release_tokens();
    let judged = judged.await.expect("no panic");
    assert_eq!(judged.status, StatusCode::OK, "{}", judged.body);
}

#[tokio::test]
async fn a_narrower_sign_in_grants_no_more() {
    let base = Rig::with(|_| {}).await;
    let rig = base.replica_with(base.storage(), |config| {
        demanding(config);
        let provider = config.provider.as_mut().expect("an agent");
        provider.scopes = Some(vec!["openid".to_owned(), "write".to_owned()]);
    });
    let mut browser = rig.browser();
    step_up(&mut browser, &rig, "scope=openid", "alice").await;
    assert_eq!(call(&mut browser, "/write/x").await.status, StatusCode::FORBIDDEN);
    let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(refreshed.status, StatusCode::OK);
    assert_eq!(call(&mut browser, "/write/x").await.status, StatusCode::FORBIDDEN);
    step_up(&mut browser, &rig, "", "alice").await;
    assert_eq!(call(&mut browser, "/write/x").await.status, StatusCode::OK);
}

/// RFC 6749 §5.1: where the provider does not say, what was asked for at that sign-in is granted, and
/// not what the configuration asks for by now.
#[tokio::test]
async fn what_a_later_configuration_asks_for_was_not_granted() {
    for storage in [
        SessionStorage::Cookie,
        SessionStorage::Store(Box::new(store_settings())),
    ] {
        let base = Rig::with(|_| {}).await;
        let asking = |scopes: &'static str| {
            move |config: &mut ApplicationConfig| {
                demanding(config);
                let provider = config.provider.as_mut().expect("an agent");
                provider.scopes = Some(scopes.split(' ').map(str::to_owned).collect());
            }
        };
        let before = base.replica_with(storage.clone(), asking("openid"));
        let after = base.replica_with(storage, asking("openid write"));
        let mut browser = before.browser();
        browser.sign_in(&base.provider, "alice").await;
        let mut there = browser.at(after.service.clone());
        for _ in 0..2 {
            assert_eq!(call(&mut there, "/write/x").await.status, StatusCode::FORBIDDEN);
            let refreshed = there.fetch(Method::POST, "/auth/refresh", "").await;
            assert_eq!(refreshed.status, StatusCode::OK);
            after.advance(10);
        }
        // begun before, finished after
        let mut late = before.browser();
        let started = late.fetch(Method::POST, "/auth/login/start", "").await;
        let url = started.json()["authorization_url"].as_str().map(str::to_owned);
        let query = base.provider.approve(&url.expect("a URL"), "bob");
        let mut late = late.at(after.service.clone());
        late.navigate(&format!("/auth/callback?{query}"), Site::Cross)
            .await;
        assert_eq!(call(&mut late, "/write/x").await.status, StatusCode::FORBIDDEN);
        step_up(&mut there, &after, "", "alice").await;
        assert_eq!(call(&mut there, "/write/x").await.status, StatusCode::OK);
        // and the other way round: it was granted, whatever is asked for now
        let mut back = there.at(before.service.clone());
        assert_eq!(call(&mut back, "/write/x").await.status, StatusCode::OK);
        let refreshed = back.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(refreshed.status, StatusCode::OK);
        before.advance(10);
        assert_eq!(call(&mut back, "/write/x").await.status, StatusCode::OK);
    }
}

/// A deployment that changes what one route demands, while both configurations serve.
#[tokio::test]
async fn a_changed_demand_costs_its_own_route_alone() {
    for storage in [
        SessionStorage::Cookie,
        SessionStorage::Store(Box::new(store_settings())),
    ] {
        let base = Rig::with(|_| {}).await;
        let before = base.replica_with(storage.clone(), demanding);
        let after = base.replica_with(storage, |config| {
            demanding(config);
            for route in config.routes.iter_mut().filter(|route| route.path == "/admin/") {
                let claims = &mut route.require.as_mut().expect("it demands").claims;
                claims[0].1.push("owner".to_owned());
            }
        });
        base.provider.script().claims = json!({"acr": "gold", "auth_time": START.0, "role": "owner"});
        let mut browser = before.browser();
        browser.sign_in(&base.provider, "alice").await;
        let mut there = browser.at(after.service.clone());
        for path in ["/api/x", "/gold/x", "/lately/x"] {
            assert_eq!(call(&mut there, path).await.status, StatusCode::OK, "{path}");
        }
        assert_eq!(base.provider.count("refresh_token", 200), 0);
        let first = call(&mut there, "/admin/x").await;
        if first.status != StatusCode::OK {
            assert_eq!(first.error_code(), "access_token_expired");
            there.fetch(Method::POST, "/auth/refresh", "").await;
            assert_eq!(call(&mut there, "/admin/x").await.status, StatusCode::OK);
        }
        assert_eq!(base.provider.count("refresh_token", 200), 1);
    }
}

/// An instance beside the agent that has some of its routes, and one that the agent does not know.
#[tokio::test]
async fn an_instance_with_some_of_the_routes_judges_by_what_the_agent_judged() {
    for storage in [
        SessionStorage::Cookie,
        SessionStorage::Store(Box::new(store_settings())),
    ] {
        let base = Rig::with(|_| {}).await;
        let agent = base.replica_with(storage, demanding);
        let proxy = agent.proxy_only_with(|config| {
            demanding(config);
            config
                .routes
                .retain(|route| !["/gold/", "/write/"].contains(&route.path.as_str()));
            let unknown = config.routes.iter_mut().find(|route| route.path == "/media/");
            unknown.expect("a route").require = Some(DemandsConfig {
                acr: vec!["platinum".to_owned()],
                ..DemandsConfig::default()
            });
        });
        base.provider.script().claims = json!({"acr": "gold", "auth_time": START.0, "role": "user"});
        let browser = agent.signed_in().await;
        let mut there = browser.at(proxy.service.clone());
        for path in ["/api/x", "/lately/x", "/maybe/x"] {
            assert_eq!(call(&mut there, path).await.status, StatusCode::OK, "{path}");
        }
        assert_eq!(call(&mut there, "/admin/x").await.error_code(), "forbidden");
        // fails closed, and no other route pays for it
        assert_ne!(call(&mut there, "/media/x").await.status, StatusCode::OK);
        assert_eq!(call(&mut there, "/api/x").await.status, StatusCode::OK);
        assert_eq!(base.provider.count("refresh_token", 200), 0);
    }
}
