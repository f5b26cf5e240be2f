//! Other keys and other settings while it serves: nothing is dropped, nobody is signed out.

use coatroom_core::config::ApplicationConfig;
use coatroom_core::secret::Secret;
use http::{Method, StatusCode};

use crate::support::browser::{Browser, Site};
use crate::support::{NEW_KEY, OLD_KEY, Rig, checked, config, provider_of, ring, route};

impl Rig {
    /// The same application under these keys, the first one seals.
    fn reload_keys(&self, keys: &[&str]) {
        self.reload(keys, |_| {});
    }

    fn reload(&self, keys: &[&str], change: impl FnOnce(&mut ApplicationConfig)) {
        let mut config = config(&self.provider.issuer);
        change(&mut config);
        self.handler
            .reload(vec![checked(config)], ring(keys))
            .expect("a good configuration");
    }
}

async fn works(browser: &mut Browser) -> bool {
    let answer = browser.fetch(Method::GET, "/api/orders", "").await;
    answer.status == StatusCode::OK && browser.is_signed_in().await
}

async fn refresh(browser: &mut Browser) -> StatusCode {
    browser.fetch(Method::POST, "/auth/refresh", "").await.status
}

#[tokio::test]
async fn a_rotation_in_two_steps_signs_nobody_out() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    for keys in [&[OLD_KEY, NEW_KEY][..], &[NEW_KEY, OLD_KEY]] {
        rig.reload_keys(keys);
        assert!(works(&mut browser).await, "before a refresh");
        assert_eq!(refresh(&mut browser).await, StatusCode::OK);
        assert!(works(&mut browser).await, "after a refresh");
    }
    // what was refreshed since the new key sealed does not need the old one
    rig.reload_keys(&[NEW_KEY]);
    assert!(works(&mut browser).await);
    assert_eq!(refresh(&mut browser).await, StatusCode::OK);
    assert_eq!(rig.provider.count("authorization_code", 200), 1);
}

#[tokio::test]
async fn a_key_that_is_taken_away_too_early_ends_what_it_sealed_and_nothing_else() {
    let rig = Rig::new().await;
    let mut old = rig.signed_in().await;
    rig.reload_keys(&[NEW_KEY, OLD_KEY]);
    let mut new = rig.signed_in().await;
    rig.reload_keys(&[NEW_KEY]);
    assert!(!old.is_signed_in().await);
    let answer = old.fetch(Method::GET, "/api/orders", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "unauthorized")
    );
    assert!(works(&mut new).await);
}

#[tokio::test]
async fn replicas_in_different_steps_of_a_rotation_open_each_others_cookies() {
    let first = Rig::new().await;
    let second = first.replica();
    let mut browser = first.signed_in().await;
    for (ahead, behind) in [
        (&[OLD_KEY, NEW_KEY][..], &[OLD_KEY][..]),
        (&[NEW_KEY, OLD_KEY], &[OLD_KEY, NEW_KEY]),
    ] {
        first.reload_keys(ahead);
        second.reload_keys(behind);
        for rig in [&second, &first, &second] {
            let mut there = browser_at(rig, &browser);
            assert!(works(&mut there).await);
            rig.advance(61);
            assert_eq!(refresh(&mut there).await, StatusCode::OK);
            browser.jar = there.jar;
        }
    }
    // the step that may not be left out: sealing with a key that the others do not have yet
    first.reload_keys(&[NEW_KEY, OLD_KEY]);
    second.reload_keys(&[OLD_KEY]);
    let mut ahead = browser_at(&first, &browser);
    assert_eq!(refresh(&mut ahead).await, StatusCode::OK);
    assert!(works(&mut ahead).await);
    assert!(!works(&mut browser_at(&second, &ahead)).await);
}

fn browser_at(rig: &Rig, browser: &Browser) -> Browser {
    let mut there = rig.browser();
    there.jar = browser.jar.clone();
    there
}

#[tokio::test]
async fn refreshes_with_one_token_find_each_other_across_a_rotation() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let mut late = browser.clone();
    rig.provider.hold_tokens();
    let before = {
        let browser = browser.clone();
        tokio::spawn(async move { browser.fetch_late(Method::POST, "/auth/refresh", "").await })
    };
    while rig.provider.count("refresh_token", 200) == 0 {
        tokio::task::yield_now().await;
    }
    rig.reload_keys(&[NEW_KEY, OLD_KEY]);
    let after = {
        let browser = browser.clone();
        tokio::spawn(async move { browser.fetch_late(Method::POST, "/auth/refresh", "").await })
    };
    // whether the second one is on its way by then or comes late, there is only one request
    tokio::task::yield_now().await;
    rig.provider.release_tokens();
    for answer in [before.await, after.await] {
        let answer = answer.expect("no panic");
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        browser.store(&answer.headers);
    }
    assert!(works(&mut browser).await);
    // and the memory of it outlives another change of keys
    rig.reload_keys(&[NEW_KEY]);
    rig.reload_keys(&[NEW_KEY, OLD_KEY]);
    assert_eq!(refresh(&mut late).await, StatusCode::OK);
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
    assert_eq!(rig.provider.count("refresh_token", 400), 0);
}

#[tokio::test]
async fn a_sign_in_begun_before_ends_well_after() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    rig.reload(&[NEW_KEY, OLD_KEY], |config| {
        config.routes.push(route("/new/"));
    });
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert_eq!(answer.location(), "https://shop.example/");
    assert!(works(&mut browser).await);
    assert_eq!(
        browser.fetch(Method::GET, "/new/", "").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn who_signed_out_before_stays_signed_out_after() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let mut copy = browser.clone();
    browser.fetch(Method::POST, "/auth/logout", "").await;
    rig.reload_keys(&[NEW_KEY, OLD_KEY]);
    let answer = copy.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "session_expired");
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn routes_come_and_go_and_the_counters_stay() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    assert!(works(&mut browser).await);
    let counted = |labels: &str| -> u64 {
        let text = rig.handler.telemetry().render();
        let series = format!("coatroom_requests_total{{application=\"shop\",{labels}}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&series)?.parse().ok())
            .unwrap_or_default()
    };
    let before = counted("route=\"/api\",status=\"2xx\"");
    assert!(before > 0);
    for step in 1..=3 {
        // each time other labels
        rig.reload(&[OLD_KEY], |config| {
            config.routes.retain(|route| route.path != "/public/");
            config.routes.insert(0, route(&format!("/step{step}/")));
        });
        assert!(works(&mut browser).await);
        assert_eq!(
            counted("route=\"/api\",status=\"2xx\""),
            before + step,
            "step {step}"
        );
        assert_eq!(
            browser.fetch(Method::GET, "/public/x", "").await.status,
            StatusCode::NOT_FOUND
        );
    }
}

#[tokio::test]
async fn the_provider_is_asked_again_only_if_its_settings_changed() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let asked = || rig.provider.script().discovery_requests;
    let before = asked();
    rig.reload(&[OLD_KEY], |config| {
        provider_of(config).scopes = Some(vec!["openid".to_owned()])
    });
    assert_eq!(refresh(&mut browser).await, StatusCode::OK);
    assert_eq!(asked(), before);
    rig.reload(&[OLD_KEY], |config| {
        provider_of(config).timeout = Some(std::time::Duration::from_secs(3));
    });
    assert_eq!(refresh(&mut browser).await, StatusCode::OK);
    assert_eq!(asked(), before, "another client, and the same provider");
}

#[tokio::test]
async fn no_token_of_one_issuer_reaches_another() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let other = Rig::new().await;
    rig.reload(&[OLD_KEY], |config| {
        provider_of(config).issuer = other.provider.issuer.clone();
    });
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "unauthorized")
    );
    assert!(!browser.is_signed_in().await);
    // API calls ask no provider: the access token is good until it runs out
    assert_eq!(
        browser.fetch(Method::GET, "/api/orders", "").await.status,
        StatusCode::OK
    );
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.body, "{}", "no ID token for the other one either");
    browser.sign_in(&other.provider, "alice").await;
    let script = other.provider.script();
    assert_eq!(script.token_requests.len(), 1, "{:?}", script.token_requests);
    assert!(script.revoked.is_empty());
}

#[tokio::test]
async fn a_new_client_secret_is_sent_from_the_reload_on() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    rig.reload(&[OLD_KEY], |config| {
        provider_of(config).client_secret = Some(Secret::new("another"));
    });
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(
        answer.error_code(),
        "provider_error",
        "the provider does not know it"
    );
    assert!(browser.is_signed_in().await, "and that ends nothing");
    rig.reload_keys(&[OLD_KEY]);
    assert_eq!(refresh(&mut browser).await, StatusCode::OK);
}

#[tokio::test]
async fn a_sign_in_begun_at_one_provider_is_never_finished_at_another() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    // a provider that does not say who it is
    rig.provider.script().metadata =
        serde_json::json!({"authorization_response_iss_parameter_supported": false});
    let callback = browser.start(&rig.provider, "alice").await;
    let callback = without_iss(&callback);
    let other = Rig::new().await;
    other.provider.script().metadata =
        serde_json::json!({"authorization_response_iss_parameter_supported": false});
    rig.reload(&[OLD_KEY], |config| {
        provider_of(config).issuer = other.provider.issuer.clone();
    });
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert!(
        answer.location().starts_with(&other.provider.issuer),
        "one fresh start: {}",
        answer.location()
    );
    assert!(other.provider.script().token_requests.is_empty());
    assert!(rig.provider.script().token_requests.is_empty());
}

fn without_iss(callback: &str) -> String {
    let (path, query) = callback.split_once('?').expect("a query");
    let rest: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.starts_with("iss="))
        .collect();
    format!("{path}?{}", rest.join("&"))
}
