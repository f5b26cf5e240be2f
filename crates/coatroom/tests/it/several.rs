//! Several providers of one application: each session is at one of them from the first request to the
//! last, and no other ever sees a token of it.

use coatroom::{StoredSessions, Whose};
use coatroom_core::assurance::DemandsConfig;
use coatroom_core::config::{ApplicationConfig, RouteConfig, SessionStorage};
use coatroom_core::session::metadata::PublicSessionId;
use http::{Method, Request, StatusCode, header};
use serde_json::json;

use std::sync::Arc;

use crate::support::browser::{Answer, Browser, Site};
use crate::support::provider::ScriptedProvider;
use crate::support::{OLD_KEY, Rig, checked, config, ring, route, store_settings};

/// An application with two providers, `corp` and `google`; `corp` is the default.
pub(crate) struct Two {
    pub(crate) rig: Rig,
    pub(crate) google: ScriptedProvider,
}

impl Two {
    pub(crate) async fn with(storage: SessionStorage, change: impl FnOnce(&mut ApplicationConfig)) -> Self {
        let base = Rig::new().await;
        let google = ScriptedProvider::start().await;
        google.set_clock(base.clock.clone());
        // no token of one is called as one of the other
        google.script().counter = 1_000;
        let rig = base.replica_with(storage, |config| {
            several(config, &google.issuer);
            change(config);
        });
        Self { rig, google }
    }

    /// With sessions in cookies, with their ends in a store besides, and with all of them in a store.
    async fn worlds() -> Vec<(&'static str, Self)> {
        let settings = || Box::new(store_settings());
        vec![
            ("cookies", Self::with(SessionStorage::Cookie, |_| {}).await),
            (
                "revocations",
                Self::with(SessionStorage::CookieWithRevocations(settings()), |_| {}).await,
            ),
            (
                "store",
                Self::with(SessionStorage::Store(settings()), |_| {}).await,
            ),
        ]
    }

    pub(crate) fn corp(&self) -> &ScriptedProvider {
        &self.rig.provider
    }

    /// The providers with their names.
    fn both(&self) -> [(&'static str, &ScriptedProvider, &ScriptedProvider); 2] {
        [
            ("corp", self.corp(), &self.google),
            ("google", &self.google, self.corp()),
        ]
    }

    pub(crate) async fn signed_in(&self, name: &str) -> Browser {
        let mut browser = self.rig.browser();
        let answer = self.sign_in(&mut browser, name).await;
        assert_eq!(answer.location(), "https://shop.example/", "{name}");
        browser
    }

    pub(crate) async fn sign_in(&self, browser: &mut Browser, name: &str) -> Answer {
        let url = start(browser, &format!("provider={name}")).await;
        let provider = match name {
            "corp" => self.corp(),
            _ => &self.google,
        };
        let query = provider.approve(&url, "alice");
        browser
            .navigate(&format!("/auth/callback/{name}?{query}"), Site::Cross)
            .await
    }

    /// Serves something else from now on.
    fn reload(&self, change: impl FnOnce(&mut ApplicationConfig)) {
        let mut config = config(&self.corp().issuer);
        config.session.storage = self.rig.storage();
        change(&mut config);
        self.rig
            .handler
            .reload(vec![checked(config)], ring(&[OLD_KEY]))
            .expect("a good configuration");
    }
}

/// All providers return to one page.
pub(crate) fn one_page(config: &mut ApplicationConfig) {
    config.login_callback = Some("/signed-in".to_owned());
    for (_, provider) in config.providers.as_mut().expect("several") {
        provider.authorization.require_iss = true;
    }
}

/// `corp` is the provider that was there, `google` another.
fn several(config: &mut ApplicationConfig, google: &str) {
    let corp = config.provider.take().expect("the usual application has one");
    let mut other = corp.clone();
    google.clone_into(&mut other.issuer);
    config.providers = Some(vec![("corp".to_owned(), corp), ("google".to_owned(), other)]);
}

/// The authorization URL that a sign-in with these parameters gets.
pub(crate) async fn start(browser: &mut Browser, body: &str) -> String {
    let answer = browser.fetch(Method::POST, "/auth/login/start", body).await;
    assert_eq!(answer.status, StatusCode::OK, "{body}: {}", answer.body);
    let url = answer.json()["authorization_url"].as_str().map(str::to_owned);
    url.expect("an authorization URL")
}

/// What a provider has been shown so far: token requests, and what was to be revoked.
fn shown(provider: &ScriptedProvider) -> Vec<String> {
    let script = provider.script();
    let forms = script.token_forms.iter().flat_map(|form| form.values().cloned());
    forms.chain(script.revoked.iter().cloned()).collect()
}

/// Nothing that one of them issued was ever shown to the other.
fn assert_apart(two: &Two, name: &str) {
    for (issuer, own, other) in two.both() {
        let issued = own.script().issued.clone();
        let leaked = shown(other).into_iter().find(|value| issued.contains(value));
        assert_eq!(leaked, None, "{name}: of {issuer}");
    }
}

#[tokio::test]
async fn a_session_stays_at_the_provider_where_it_began() {
    for (world, two) in Two::worlds().await {
        for (name, own, other) in two.both() {
            let at = format!("{world}, {name}");
            let untouched = shown(other).len();
            let mut browser = two.signed_in(name).await;
            let redirect_uri = own.script().requests.last().expect("one")["redirect_uri"].clone();
            assert_eq!(
                redirect_uri,
                format!("https://shop.example/auth/callback/{name}"),
                "{at}"
            );
            let session = browser.session().await;
            assert_eq!(session["provider"], name, "{at}");
            assert_eq!(session["id_token_claims"]["iss"], own.issuer.as_str(), "{at}");

            two.rig.advance(61);
            let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
            assert_eq!(answer.status, StatusCode::OK, "{at}: {}", answer.body);
            assert_eq!(answer.json()["provider"], name, "{at}");
            assert_eq!(own.count("refresh_token", 200), 1, "{at}");

            // expired: with a store the call itself renews it
            two.rig.advance(301);
            let call = browser.fetch(Method::GET, "/api/orders", "").await;
            let renewed = if world == "store" {
                StatusCode::OK
            } else {
                StatusCode::UNAUTHORIZED
            };
            assert_eq!(call.status, renewed, "{at}");
            let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
            assert_eq!(answer.status, StatusCode::OK, "{at}");
            assert_eq!(own.count("refresh_token", 200), 2, "{at}");

            let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
            let onward = answer.json()["logout_url"].as_str().map(str::to_owned);
            let onward = onward.expect("the provider has a page for it");
            let path = onward.strip_prefix("https://shop.example").expect("ours");
            let answer = browser.navigate(path, Site::Same).await;
            assert!(
                answer.location().starts_with(&format!("{}/end?", own.issuer)),
                "{at}: {}",
                answer.location()
            );
            let (_, query) = answer.location().split_once('?').expect("a query");
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            let state = pairs.find(|(name, _)| name == "state").expect("a state").1;
            let back = format!("/auth/logout/callback?state={state}");
            let answer = browser.navigate(&back, Site::Cross).await;
            assert_eq!(answer.location(), "https://shop.example/", "{at}");
            assert!(
                answer.headers.contains_key(header::SET_COOKIE),
                "{at}: the sign-out is finished"
            );
            two.rig.until(|| own.script().revoked.len() == 2).await;
            assert!(!browser.is_signed_in().await, "{at}");
            assert_eq!(shown(other).len(), untouched, "{at}");
            assert_apart(&two, &at);
        }
    }
}

#[tokio::test]
async fn a_sign_in_is_where_it_says_and_else_where_the_session_is_or_at_the_default() {
    for (world, two) in Two::worlds().await {
        let mut browser = two.rig.browser();
        let corp = two.corp().issuer.clone();
        assert!(start(&mut browser, "").await.starts_with(&corp), "{world}");
        assert!(
            start(&mut browser, "provider=").await.starts_with(&corp),
            "{world}"
        );
        let mut browser = two.signed_in("google").await;
        let google = two.google.issuer.clone();
        for body in ["", "acr_values=gold", "max_age=60", "provider=google"] {
            assert!(
                start(&mut browser, body).await.starts_with(&google),
                "{world}: {body}"
            );
        }
        assert!(
            start(&mut browser, "provider=corp").await.starts_with(&corp),
            "{world}"
        );
        for (target, from, issuer) in [
            ("/auth/login?provider=corp", Site::Same, &corp),
            ("/auth/login", Site::Same, &google),
            // another site chooses nothing, and shows no session
            ("/auth/login?provider=google", Site::Cross, &corp),
        ] {
            let answer = browser.navigate(target, from).await;
            assert!(
                answer.location().starts_with(issuer.as_str()),
                "{world}: {target}: {}",
                answer.location()
            );
        }
        for body in [
            "provider=evil",
            "provider=Google",
            "provider=corp&provider=google",
            "provider=../corp",
        ] {
            let answer = browser.fetch(Method::POST, "/auth/login/start", body).await;
            assert_eq!(answer.error_code(), "invalid_request", "{world}: {body}");
            let answer = browser.navigate(&format!("/auth/login?{body}"), Site::Same).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{world}: {body}");
        }
    }
}

#[tokio::test]
async fn an_application_with_one_provider_knows_no_names() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    assert_eq!(browser.session().await.get("provider"), None);
    let answer = browser
        .fetch(Method::POST, "/auth/login/start", "provider=corp")
        .await;
    assert_eq!(answer.error_code(), "invalid_request");
    let answer = browser.navigate("/auth/callback/corp", Site::Cross).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_sign_in_elsewhere_takes_the_session_over_and_its_tokens_are_revoked_where_they_came_from() {
    for storage in [
        SessionStorage::Cookie,
        SessionStorage::Store(Box::new(store_settings())),
    ] {
        // at a page of the SPA the session that is replaced is there to be seen
        let two = Two::with(storage, one_page).await;
        let mut browser = two.rig.browser();
        for (name, own, _) in two.both() {
            let url = start(&mut browser, &format!("provider={name}")).await;
            let query = own.approve(&url, "alice");
            let answer = browser.fetch(Method::POST, "/auth/login/end", &query).await;
            assert_eq!(answer.status, StatusCode::OK, "{name}: {}", answer.body);
        }
        assert_eq!(browser.session().await["provider"], "google");
        // another person, as far as anybody knows: all of the first session's tokens go
        two.rig.until(|| two.corp().script().revoked.len() == 2).await;
        assert_eq!(two.google.script().revoked.len(), 0);
        assert_apart(&two, "taken over");
    }
}

#[tokio::test]
async fn a_step_up_is_for_the_same_user_at_the_same_provider() {
    let two = Two::with(SessionStorage::Cookie, |_| {}).await;
    let mut browser = two.signed_in("google").await;
    let url = start(&mut browser, "acr_values=gold").await;
    two.google.script().claims = json!({"acr": "gold"});
    let query = two.google.approve(&url, "mallory");
    let answer = browser
        .navigate(&format!("/auth/callback/google?{query}"), Site::Cross)
        .await;
    assert!(answer.location().contains("login_error"), "{}", answer.location());
    let url = start(&mut browser, "acr_values=gold").await;
    let query = two.google.approve(&url, "alice");
    let answer = browser
        .navigate(&format!("/auth/callback/google?{query}"), Site::Cross)
        .await;
    assert_eq!(answer.location(), "https://shop.example/");
    assert_eq!(browser.session().await["id_token_claims"]["acr"], "gold");
    assert_apart(&two, "step-up");
}

/// A provider's own call.
async fn call(browser: &Browser, method: Method, target: &str, body: String) -> StatusCode {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "shop.example")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let request = request.body(body.into()).expect("a good request");
    browser.send(request).await.status
}

#[tokio::test]
async fn each_provider_ends_its_own_sessions_and_no_others() {
    for (world, two) in Two::worlds().await.into_iter().skip(1) {
        for (name, own, other) in two.both() {
            let at = format!("{world}, {name}");
            // a session there that has ended never comes back
            let named = |number: u8| json!({"sid": format!("{name}-{number}")});
            own.script().claims = named(1);
            other.script().claims = named(1);
            let mut mine = two.signed_in(name).await;
            let elsewhere = if name == "corp" { "google" } else { "corp" };
            let mut theirs = two.signed_in(elsewhere).await;
            let caller = two.rig.browser();
            let back = |name: &str| format!("/auth/backchannel-logout{name}");
            let by =
                |provider: &ScriptedProvider| format!("logout_token={}", provider.logout_token(&named(1)));
            // nobody's token at another's address, and none at an address that is nobody's
            for (target, token, status) in [
                (back(&format!("/{name}")), by(other), StatusCode::BAD_REQUEST),
                (back(""), by(own), StatusCode::NOT_FOUND),
                (back("/evil"), by(own), StatusCode::NOT_FOUND),
            ] {
                let outcome = call(&caller, Method::POST, &target, token).await;
                assert_eq!(outcome, status, "{at}: {target}");
            }
            assert!(mine.is_signed_in().await, "{at}");
            let outcome = call(&caller, Method::POST, &back(&format!("/{name}")), by(own)).await;
            assert_eq!(outcome, StatusCode::OK, "{at}");
            assert!(!mine.is_signed_in().await, "{at}");
            assert!(theirs.is_signed_in().await, "{at}");

            own.script().claims = named(2);
            let mut mine = two.signed_in(name).await;
            let issuer: String = url::form_urlencoded::byte_serialize(own.issuer.as_bytes()).collect();
            let front = |at: &str| format!("/auth/frontchannel-logout/{at}?iss={issuer}&sid={name}-2");
            let outcome = call(&caller, Method::GET, &front(elsewhere), String::new()).await;
            assert_eq!(outcome, StatusCode::BAD_REQUEST, "{at}");
            assert!(mine.is_signed_in().await, "{at}");
            let outcome = call(&caller, Method::GET, &front(name), String::new()).await;
            assert_eq!(outcome, StatusCode::OK, "{at}");
            assert!(!mine.is_signed_in().await, "{at}");
            assert!(theirs.is_signed_in().await, "{at}");
        }
        assert_apart(&two, world);
    }
}

#[tokio::test]
async fn a_session_whose_provider_is_gone_has_ended() {
    for (world, two) in Two::worlds().await {
        let mut browser = two.signed_in("google").await;
        let (at_corp, at_google) = (shown(two.corp()).len(), shown(&two.google).len());
        // the same name, but somebody else; and the name gone altogether
        let corp = two.corp().issuer.clone();
        for (case, renamed) in [("somebody else", "google"), ("gone", "partner")] {
            two.reload(|config| {
                several(config, "https://other.example");
                let providers = config.providers.as_mut().expect("two");
                providers[1].0 = renamed.to_owned();
            });
            let session = browser.fetch_late(Method::GET, "/auth/session", "").await;
            assert_eq!(session.json()["is_logged_in"], false, "{world}: {case}");
            let writes = |answer: &Answer| answer.headers.contains_key(header::SET_COOKIE);
            assert!(
                !writes(&session),
                "{world}: {case}: another replica may know better"
            );
            // what a cookie holds is for the API, until it ends by itself
            let call = browser.fetch_late(Method::GET, "/api/orders", "").await;
            let expected = match world {
                "store" => StatusCode::UNAUTHORIZED,
                _ => StatusCode::OK,
            };
            assert_eq!(call.status, expected, "{world}: {case}");
            let answer = browser.fetch_late(Method::POST, "/auth/refresh", "").await;
            assert_eq!(answer.error_code(), "session_expired", "{world}: {case}");
            assert!(
                !writes(&answer),
                "{world}: {case}: another replica may know better"
            );
        }
        // back: nothing was lost on the way
        two.reload(|config| {
            several(config, &two.google.issuer);
            config.default_provider = Some("google".to_owned());
        });
        let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{world}: {}", answer.body);
        assert_eq!(
            shown(two.corp()).len(),
            at_corp,
            "{world}: {corp} is asked nothing"
        );
        assert!(shown(&two.google).len() > at_google, "{world}");
        // a sign-out needs no provider: what was stored is gone for good
        let mut copied = browser.clone();
        two.reload(|_| {});
        let answer = copied.clone().fetch(Method::POST, "/auth/logout", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{world}");
        two.reload(|config| several(config, &two.google.issuer));
        assert_eq!(copied.is_signed_in().await, world == "cookies", "{world}");
        // of one provider without a name nothing is known that was sealed under one
        two.reload(|config| {
            let provider = config.provider.as_mut().expect("one");
            provider.issuer.clone_from(&two.google.issuer);
        });
        assert!(!browser.is_signed_in().await, "{world}");
        assert_apart(&two, world);
    }
}

#[tokio::test]
async fn sessions_from_before_there_were_several_go_on_at_the_provider_that_made_them() {
    for storage in [
        SessionStorage::Cookie,
        SessionStorage::Store(Box::new(store_settings())),
    ] {
        let stateful = matches!(storage, SessionStorage::Store(_));
        let two = Two::with(storage, |_| {}).await;
        two.reload(|_| {});
        let mut browser = two.rig.signed_in().await;
        let mut other = browser.clone();
        // the default is another: it is the issuer that tells whose it is
        two.reload(|config| {
            several(config, &two.google.issuer);
            config.default_provider = Some("google".to_owned());
        });
        two.rig.advance(61);
        let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.json()["provider"], "corp");
        assert_eq!(browser.session().await["provider"], "corp");
        assert_eq!(two.corp().count("refresh_token", 200), 1);
        assert_apart(&two, "moved");
        // two at this issuer: nobody can say which, so it is neither's
        two.reload(|config| {
            let issuer = config.provider.as_ref().expect("one").issuer.clone();
            several(config, &issuer);
            let providers = config.providers.as_mut().expect("two");
            "shop-2".clone_into(&mut providers[1].1.client_id);
        });
        assert!(stateful || !other.is_signed_in().await);
    }
}

#[tokio::test]
async fn a_provider_that_is_given_a_name_is_not_sent_a_redeemed_refresh_token_again() {
    for (world, storage) in [
        ("cookies", SessionStorage::Cookie),
        (
            "revocations",
            SessionStorage::CookieWithRevocations(Box::new(store_settings())),
        ),
    ] {
        let two = Two::with(storage, |_| {}).await;
        two.reload(|_| {});
        let mut browser = two.rig.signed_in().await;
        let mut late = browser.clone();
        two.rig.advance(61);
        let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{world}: {}", answer.body);
        // another tab, with the cookies from before, once the provider has its name
        two.reload(|config| several(config, &two.google.issuer));
        let answer = late.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{world}: {}", answer.body);
        assert_eq!(answer.json()["provider"], "corp", "{world}");
        assert_eq!(two.corp().count("refresh_token", 400), 0, "{world}");
        assert_eq!(two.corp().count("refresh_token", 200), 1, "{world}");
        assert_apart(&two, world);
    }
}

#[tokio::test]
async fn a_refresh_under_way_while_its_provider_is_given_a_name_is_shared() {
    let two = Two::with(SessionStorage::Cookie, |_| {}).await;
    two.reload(|_| {});
    let mut browser = two.rig.signed_in().await;
    two.corp().hold_tokens();
    let refresh = || {
        let browser = browser.clone();
        tokio::spawn(async move { browser.fetch_late(Method::POST, "/auth/refresh", "").await })
    };
    let before = refresh();
    two.rig
        .until(|| two.corp().count("refresh_token", 200) == 1)
        .await;
    two.reload(|config| several(config, &two.google.issuer));
    let after = refresh();
    tokio::task::yield_now().await;
    two.corp().release_tokens();
    for answer in [before.await, after.await] {
        let answer = answer.expect("no panic");
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        browser.store(&answer.headers);
    }
    assert_eq!(two.corp().count("refresh_token", 200), 1);
    assert_eq!(two.corp().count("refresh_token", 400), 0);
    assert_eq!(browser.session().await["provider"], "corp");
}

#[tokio::test]
async fn a_replica_that_does_not_know_a_provider_yet_signs_nobody_out() {
    for (world, two) in Two::worlds().await {
        let mut browser = two.signed_in("google").await;
        // the one that has not heard of `google`
        let behind = |duende: bool| {
            two.reload(|config| {
                several(config, &two.google.issuer);
                config.providers.as_mut().expect("two").truncate(1);
                if duende {
                    crate::duende::duende(config);
                    config.base_path = Some("/auth".to_owned());
                }
            });
        };
        behind(false);
        assert!(!browser.is_signed_in().await, "{world}");
        let refresh = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(refresh.error_code(), "session_expired", "{world}");
        behind(true);
        let user = crate::duende::fetch(&mut browser, Method::GET, "/auth/user").await;
        assert_eq!(user.error_code(), "session_expired", "{world}");
        for answer in [refresh, user] {
            assert!(!answer.headers.contains_key(header::SET_COOKIE), "{world}");
        }
        // and the one that has
        two.reload(|config| several(config, &two.google.issuer));
        assert!(browser.is_signed_in().await, "{world}");
        let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{world}: {}", answer.body);
        // a sign-in takes the place of what is left, and a sign-out clears it
        behind(false);
        let mut left = browser.clone();
        two.sign_in(&mut browser, "corp").await;
        assert_eq!(browser.session().await["provider"], "corp", "{world}");
        let answer = left.fetch(Method::POST, "/auth/logout", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{world}");
        assert!(answer.headers.contains_key(header::SET_COOKIE), "{world}");
        two.reload(|config| several(config, &two.google.issuer));
        assert!(!left.is_signed_in().await, "{world}");
        assert_eq!(browser.session().await["provider"], "corp", "{world}");
        assert_apart(&two, world);
    }
}

#[tokio::test]
async fn a_sign_out_link_goes_on_at_the_sessions_provider_whoever_follows_it() {
    let two = Two::with(SessionStorage::Cookie, |config| {
        crate::duende::duende(config);
        config.base_path = Some("/auth".to_owned());
    })
    .await;
    let mut start = two.rig.browser();
    let asked = start.navigate("/auth/login?provider=google", Site::Same).await;
    let query = two.google.approve(asked.location(), "alice");
    start
        .navigate(&format!("/auth/callback/google?{query}"), Site::Cross)
        .await;
    let user = crate::duende::fetch(&mut start, Method::GET, "/auth/user")
        .await
        .json();
    let mut entries = user.as_array().expect("a list").iter();
    let entry = entries.find(|entry| entry["type"] == "bff:logout_url");
    let path = entry.expect("a link")["value"].as_str().expect("text").to_owned();
    // a browser that says nothing of where the link was
    let mut browser = start.clone();
    let unlabelled = ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"].map(|name| (name, ""));
    let answer = crate::duende::link(&browser, &path, &unlabelled).await;
    assert_eq!(answer.location(), "https://shop.example/auth/logout/continue");
    browser.store(&answer.headers);
    let onward = browser.navigate("/auth/logout/continue", Site::Same).await;
    let end = format!("{}/end?", two.google.issuer);
    assert!(onward.location().starts_with(&end), "{}", onward.location());
    two.rig.until(|| two.google.script().revoked.len() == 2).await;
    assert_apart(&two, "link");
}

#[tokio::test]
async fn operators_say_at_which_provider() {
    let two = Two::with(SessionStorage::Store(Box::new(store_settings())), |_| {}).await;
    let mut corp = two.signed_in("corp").await;
    let mut google = two.signed_in("google").await;
    let mut config = config(&two.corp().issuer);
    config.session.storage = two.rig.storage();
    several(&mut config, &two.google.issuer);
    let application = Arc::new(checked(config));
    let keys = Arc::new(ring(&[OLD_KEY]));
    let operator = StoredSessions::new(application, keys, two.rig.store.clone()).expect("an agent's");
    let mut ids = Vec::new();
    for browser in [&mut corp, &mut google] {
        let session = browser.session().await;
        ids.push(PublicSessionId::parse(session["session"]["id"].as_str().expect("an id")).expect("an id"));
    }
    for (whose, expected) in [
        ("alice", vec![ids[0], ids[1]]),
        ("corp/alice", vec![ids[0]]),
        ("google/alice", vec![ids[1]]),
        ("partner/alice", vec![]),
        ("google/bob", vec![]),
    ] {
        for whose in [Whose::User(whose)] {
            let found = operator.list(whose).await.expect("the store is well");
            let found: Vec<_> = found.iter().map(|known| PublicSessionId::of(known.id)).collect();
            assert_eq!(found, expected);
        }
    }
    let now = coatroom::clock::Clock::now(&*two.rig.clock);
    let ended = operator.end(Whose::User("google/alice"), now).await;
    assert_eq!(ended.expect("the store is well").len(), 1);
    assert!(!google.is_signed_in().await);
    assert!(corp.is_signed_in().await);
}

#[tokio::test]
async fn each_providers_health_is_told() {
    let two = Two::with(SessionStorage::Cookie, |_| {}).await;
    drop(two.signed_in("google").await);
    let health = two.rig.handler.health();
    let ready: Vec<_> = health
        .iter()
        .map(|(id, health)| (id.as_str(), health.ready))
        .collect();
    assert_eq!(ready, [("shop/corp", false), ("shop/google", true)]);
    // a reload forgets nothing that it need not
    let asked = two.google.script().discovery_requests;
    two.reload(|config| several(config, &two.google.issuer));
    drop(two.signed_in("google").await);
    assert_eq!(two.google.script().discovery_requests, asked);
}

/// Users choose among the providers: a gate that is meant for one of them says so.
#[tokio::test]
async fn a_route_can_demand_the_word_of_one_provider() {
    for storage in [
        SessionStorage::Cookie,
        SessionStorage::Store(Box::new(store_settings())),
    ] {
        let two = Two::with(storage, |config| {
            let providers = config.providers.as_ref().expect("two");
            let corp = providers[0].1.issuer.clone();
            for (path, claims) in [
                ("/anybodys/", vec![]),
                ("/corps/", vec![("iss".to_owned(), vec![corp])]),
            ] {
                let alice = ("sub".to_owned(), vec!["alice".to_owned()]);
                config.routes.push(RouteConfig {
                    require: Some(DemandsConfig {
                        claims: claims.into_iter().chain([alice]).collect(),
                        ..DemandsConfig::default()
                    }),
                    ..route(path)
                });
            }
        })
        .await;
        for (name, expected) in [("corp", StatusCode::OK), ("google", StatusCode::FORBIDDEN)] {
            let mut browser = two.signed_in(name).await;
            let anybodys = browser.fetch(Method::GET, "/anybodys/1", "").await;
            assert_eq!(anybodys.status, StatusCode::OK, "{name}");
            let corps = browser.fetch(Method::GET, "/corps/1", "").await;
            assert_eq!(corps.status, expected, "{name}");
        }
    }
}
