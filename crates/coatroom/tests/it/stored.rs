//! Sessions in a store: the same service, whose cookie holds a handle and nothing else.
//!
//! Replicas share a store in memory, so that clock and outages are the test's.

use std::time::Duration;

use http::{Method, StatusCode, header};

use crate::support::Rig;
use crate::support::browser::{Answer, Browser, Site};
use crate::support::faulty_store::FaultyStore;
use crate::support::provider::{Fault, Rotation};

fn outcome(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.error_code())
}

async fn call(browser: &mut Browser) -> (u16, String) {
    let answer = browser.fetch(Method::GET, "/api/orders", "").await;
    match answer.status {
        StatusCode::OK => (200, String::new()),
        _ => outcome(&answer),
    }
}

fn passed() -> (u16, String) {
    (200, String::new())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// The same browser in front of another replica.
fn moved(browser: &Browser, to: &Rig) -> Browser {
    browser.clone().at(to.service.clone())
}

#[tokio::test]
async fn the_cookie_is_a_handle_and_the_api_gets_the_token() {
    let rig = Rig::stored().await;
    let mut browser = rig.signed_in().await;
    let names: Vec<&str> = browser.jar.iter().map(|cookie| cookie.name.as_str()).collect();
    assert_eq!(names, ["__Host-Http-shop-access"]);
    assert!(browser.jar[0].value.len() < 200, "{}", browser.jar[0].value.len());
    assert_eq!(call(&mut browser).await, passed());
    let seen = rig.api.last();
    let authorization = seen.headers()[header::AUTHORIZATION].to_str().expect("ASCII");
    let issued = rig.provider.script().issued.clone();
    assert!(
        issued
            .iter()
            .any(|token| authorization == format!("Bearer {token}"))
    );
    let session = browser.session().await;
    assert_eq!(session["is_logged_in"], true);
    assert_eq!(session["id_token_claims"]["sub"], "alice");
    assert_eq!(session["access_token_expires_in"], 300);
}

#[tokio::test]
async fn an_expired_token_is_renewed_within_the_call_and_once_for_all() {
    let rig = Rig::stored().await;
    let browser = rig.signed_in().await;
    let other = rig.replica();
    rig.advance(300);
    let here = (0..20).map(|_| browser.fetch_late(Method::GET, "/api/orders", ""));
    let elsewhere = moved(&browser, &other);
    let there = (0..20).map(|_| elsewhere.fetch_late(Method::GET, "/api/orders", ""));
    let (here, there) = futures_util::future::join(
        futures_util::future::join_all(here),
        futures_util::future::join_all(there),
    )
    .await;
    for answer in here.iter().chain(&there) {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
    assert_eq!(rig.provider.count("refresh_token", 400), 0);
}

#[tokio::test]
async fn a_token_that_nears_its_end_is_renewed_beside_the_call() {
    let rig = Rig::stored().await;
    let mut browser = rig.signed_in().await;
    rig.provider.hold_tokens();
    // the window is a quarter of the life and at most a minute, less a jitter of at most a half
    rig.advance(275);
    assert_eq!(
        call(&mut browser).await,
        passed(),
        "nobody waits for the provider"
    );
    rig.provider.release_tokens();
    rig.until(|| rig.provider.count("refresh_token", 200) == 1).await;
    for _ in 0..5 {
        assert_eq!(call(&mut browser).await, passed());
    }
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
}

#[tokio::test]
async fn a_hot_call_asks_nobody_and_writes_nothing() {
    let rig = Rig::stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let mut browser = watched.signed_in().await;
    let before = store.writes();
    for _ in 0..50 {
        assert_eq!(call(&mut browser).await, passed());
    }
    assert_eq!(store.loads(), 1, "one round trip, then the core remembers");
    assert_eq!(store.writes(), before);
    // every call of a quarter of an hour: as coarse as the idle limit allows
    for _ in 0..90 {
        rig.advance(10);
        browser.fetch(Method::GET, "/api/orders", "").await;
    }
    rig.settle().await;
    let touches = store.writes() - before;
    // half an hour's tenth is three minutes; a renewal is an insert of its own (lease, replace, release)
    let renewals = rig.provider.count("refresh_token", 200);
    assert!(
        touches <= 90 * 10 / 180 + 1 + renewals * 4,
        "{touches} writes, {renewals} renewals"
    );
}

#[tokio::test]
async fn who_knows_old_tokens_takes_the_new_ones_and_renews_nothing() {
    let rig = Rig::stored().await;
    let browser = rig.signed_in().await;
    let store = FaultyStore::before(rig.store.clone());
    let other = rig.behind(store.clone());
    rig.advance(300);
    store.set_leases_away(true);
    let mut elsewhere = moved(&browser, &other);
    assert_eq!(call(&mut elsewhere).await, refused(503, "store_unavailable"));
    store.set_leases_away(false);
    let mut here = browser.clone();
    assert_eq!(call(&mut here).await, passed());
    assert_eq!(call(&mut elsewhere).await, passed());
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
}

#[tokio::test]
async fn calls_at_the_same_time_ask_the_store_once() {
    let rig = Rig::stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let browser = watched.signed_in().await;
    let calls = || {
        futures_util::future::join_all((0..20).map(|_| browser.fetch_late(Method::GET, "/api/orders", "")))
    };
    for answer in calls().await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
    assert_eq!(store.loads(), 1);
    rig.advance(300);
    for answer in calls().await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
    assert_eq!(
        store.loads(),
        1 + 2,
        "what there is, and what there is under the lease"
    );
}

#[tokio::test]
async fn what_was_read_before_a_sign_out_serves_nobody_who_comes_after_it() {
    let rig = Rig::stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let mut browser = watched.signed_in().await;
    let mut copied = browser.clone();
    let early = browser.clone();
    let late = store.hold_next_load();
    let mut early = Box::pin(early.fetch_late(Method::GET, "/api/orders", ""));
    assert!(futures_util::poll!(&mut early).is_pending());
    watched.until(|| store.loads() == 1).await;
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let after = tokio::time::timeout(Duration::from_secs(10), call(&mut copied)).await;
    assert_eq!(after, Ok(refused(401, "session_expired")));
    late.notify_one();
    early.await;
    assert_eq!(call(&mut copied).await, refused(401, "session_expired"));
}

#[tokio::test]
async fn a_sign_out_holds_here_at_once_and_elsewhere_within_two_seconds() {
    let rig = Rig::stored().await;
    let other = rig.replica();
    let mut browser = rig.signed_in().await;
    let mut copied = browser.clone();
    let mut copied_elsewhere = moved(&browser, &other);
    assert_eq!(call(&mut copied).await, passed());
    assert_eq!(call(&mut copied_elsewhere).await, passed());
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(call(&mut copied).await, refused(401, "session_expired"));
    rig.advance(2);
    assert_eq!(call(&mut copied_elsewhere).await, refused(401, "session_expired"));
    assert!(!copied.is_signed_in().await);
    let answer = copied.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(outcome(&answer), refused(401, "session_expired"));
    rig.until(|| !rig.provider.script().revoked.is_empty()).await;
    assert_eq!(rig.provider.count("refresh_token", 200), 0);
}

#[tokio::test]
async fn calls_are_activity_and_polling_is_not() {
    let rig = Rig::stored().await;
    let mut browser = rig.signed_in().await;
    for _ in 0..8 {
        rig.advance(600);
        assert_eq!(call(&mut browser).await, passed());
        rig.settle().await;
    }
    for _ in 0..4 {
        rig.advance(600);
        browser.session().await;
    }
    assert_eq!(call(&mut browser).await, refused(401, "session_expired"));
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn the_absolute_limit_ends_a_session_that_is_used() {
    let rig = Rig::stored().await;
    let mut browser = rig.signed_in().await;
    for _ in 0..71 {
        rig.advance(600);
        assert_eq!(call(&mut browser).await, passed());
        rig.settle().await;
    }
    rig.advance(600);
    let (status, _) = call(&mut browser).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_store_that_is_away_is_an_outage_and_ends_nothing() {
    let rig = Rig::stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let mut browser = watched.signed_in().await;
    let cookies = browser.jar.clone();
    assert_eq!(call(&mut browser).await, passed());
    store.set_away(true);
    assert_eq!(call(&mut browser).await, passed(), "remembered for a moment");
    rig.advance(2);
    for (method, path) in [
        (Method::GET, "/api/orders"),
        (Method::GET, "/maybe/orders"),
        (Method::GET, "/auth/session"),
        (Method::POST, "/auth/refresh"),
        (Method::POST, "/auth/login/start"),
        (Method::GET, "/auth/sessions"),
    ] {
        let answer = browser.fetch(method, path, "").await;
        assert_eq!(outcome(&answer), refused(503, "store_unavailable"), "{path}");
        assert!(answer.headers.contains_key(header::RETRY_AFTER), "{path}");
        assert!(!answer.headers.contains_key(header::SET_COOKIE), "{path}");
    }
    let public = browser.fetch(Method::GET, "/public/orders", "").await;
    assert_eq!(public.status, StatusCode::OK);
    assert_eq!(browser.jar, cookies);
    store.set_away(false);
    // a store that failed several times is let alone for a second
    rig.advance(2);
    assert_eq!(call(&mut browser).await, passed());
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn a_sign_in_while_the_store_is_away_can_be_tried_again() {
    let rig = Rig::stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let mut browser = watched.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    store.set_away(true);
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert!(
        answer.location().contains("login_error=store_unavailable"),
        "{}",
        answer.location()
    );
    assert_eq!(call(&mut browser).await, refused(401, "unauthorized"));
    store.set_away(false);
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert!(
        !answer.location().contains("login_error"),
        "{}",
        answer.location()
    );
    assert_eq!(call(&mut browser).await, passed());
    assert_eq!(rig.provider.count("authorization_code", 200), 1);
}

#[tokio::test]
async fn signing_out_needs_no_store() {
    let rig = Rig::stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let mut browser = watched.signed_in().await;
    let mut copied = browser.clone();
    store.set_away(true);
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(
        browser.jar.iter().all(|cookie| cookie.name.contains("-ended")),
        "{:?}",
        browser.jar
    );
    assert_eq!(call(&mut browser).await, refused(401, "unauthorized"));
    let (status, _) = call(&mut copied).await;
    assert_eq!(status, 503, "nobody can say yet");
}

/// While replicas are updated, an old one cannot read what a new one wrote.
#[tokio::test]
async fn signing_out_removes_a_record_that_cannot_be_read() {
    let rig = Rig::stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let old = rig.behind(store.clone());
    let mut browser = old.signed_in().await;
    let mut copied = moved(&browser, &rig);
    store.set_unreadable();
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(call(&mut copied).await, refused(401, "session_expired"));
}

#[tokio::test]
async fn a_sign_of_the_user_that_cannot_be_written_is_not_tried_again() {
    let rig = Rig::stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let mut browser = watched.signed_in().await;
    rig.advance(300);
    assert_eq!(call(&mut browser).await, passed(), "with new tokens");
    rig.advance(1);
    store.set_read_only();
    let before = store.writes();
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(store.writes() > before, "the touch");
    // or it would wait for ten minutes
    let finished = tokio::time::timeout(Duration::from_secs(2), watched.handler.finished());
    finished.await.expect("nothing is left to do");
}

/// At many providers a refresh token takes along everything of the same sign-in there, so also the
/// session of a user who is back by then.
#[tokio::test]
async fn a_sign_out_that_is_finished_late_revokes_the_access_token_alone() {
    let rig = Rig::stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let mut browser = watched.signed_in().await;
    let mut copied = browser.clone();
    store.set_away(true);
    let answer = browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    store.set_away(false);
    let revoked = || rig.provider.script().revoked.clone();
    rig.until(|| !revoked().is_empty()).await;
    assert_eq!(call(&mut copied).await, refused(401, "session_expired"));
    watched.handler.finished().await;
    assert_eq!(revoked().len(), 1, "{:?}", revoked());
    assert!(
        revoked().iter().all(|token| token.starts_with("canary-access-")),
        "{:?}",
        revoked()
    );
}

#[tokio::test]
async fn only_invalid_grant_ends_a_stored_session() {
    let rig = Rig::stored().await;
    let mut browser = rig.signed_in().await;
    rig.advance(300);
    rig.provider.script().token_fault = Some(Fault::Answer(503, "text/html", "<html>"));
    assert_eq!(call(&mut browser).await, refused(503, "provider_unavailable"));
    rig.provider.script().token_fault = Some(Fault::Answer(400, "application/json", ""));
    rig.advance(60);
    let (status, _) = call(&mut browser).await;
    assert!(matches!(status, 502 | 503), "{status}");
    assert!(browser.is_signed_in().await);
    rig.provider.script().token_fault = None;
    rig.advance(120);
    assert_eq!(call(&mut browser).await, passed());
    rig.advance(300);
    let invalid = r#"{"error": "invalid_grant"}"#;
    rig.provider.script().token_fault = Some(Fault::Answer(400, "application/json", invalid));
    assert_eq!(call(&mut browser).await, refused(401, "session_expired"));
    rig.provider.script().token_fault = None;
    assert!(!browser.is_signed_in().await);
    assert_eq!(call(&mut browser).await, refused(401, "session_expired"));
}

#[tokio::test]
async fn signing_in_again_ends_the_session_before() {
    let rig = Rig::stored().await;
    let mut browser = rig.signed_in().await;
    let mut before = browser.clone();
    browser.sign_in(&rig.provider, "alice").await;
    assert_eq!(call(&mut browser).await, passed());
    assert_eq!(call(&mut before).await, refused(401, "session_expired"));
}

#[tokio::test]
async fn a_refresh_answers_with_the_clocks_and_no_cookie() {
    let rig = Rig::stored().await;
    let mut browser = rig.signed_in().await;
    rig.advance(100);
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.json()["access_token_expires_in"], 300);
    assert_eq!(answer.json()["session"]["idle_expires_in"], 1800);
    assert!(!answer.headers.contains_key(header::SET_COOKIE));
    rig.advance(100);
    let answer = browser
        .fetch(Method::POST, "/auth/refresh", "background=true")
        .await;
    assert_eq!(answer.json()["session"]["idle_expires_in"], 1700);
    assert_eq!(rig.provider.count("refresh_token", 200), 2);
}

#[tokio::test]
async fn a_session_without_a_refresh_token_ends_with_its_access_token() {
    let rig = Rig::stored().await;
    rig.provider.script().refresh = Rotation::Never;
    let mut browser = rig.signed_in().await;
    assert_eq!(call(&mut browser).await, passed());
    rig.advance(300);
    assert_eq!(call(&mut browser).await, refused(401, "session_expired"));
}

#[tokio::test]
async fn sessions_are_listed_and_ended_one_by_one() {
    let rig = Rig::stored().await;
    let mut laptop = rig.signed_in().await;
    rig.advance(10);
    let mut phone = rig.signed_in().await;
    let mut bob = rig.browser();
    bob.sign_in(&rig.provider, "bob").await;
    let answer = laptop.fetch(Method::GET, "/auth/sessions", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let listed = answer.json()["sessions"].as_array().expect("a list").clone();
    assert_eq!(listed.len(), 2);
    let mine: Vec<_> = listed
        .iter()
        .filter(|session| session["current"] == true)
        .collect();
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0]["id"], laptop.session().await["session"]["id"]);
    let of_phone = phone.session().await["session"]["id"].clone();
    let of_bob = bob.session().await["session"]["id"].clone();
    assert!(listed.iter().all(|session| session["id"] != of_bob));
    // somebody else's is as good as not there
    let path = format!("/auth/sessions/{}", of_bob.as_str().expect("an id"));
    assert_eq!(
        laptop.fetch(Method::DELETE, &path, "").await.status,
        StatusCode::OK
    );
    assert_eq!(call(&mut bob).await, passed());
    let path = format!("/auth/sessions/{}", of_phone.as_str().expect("an id"));
    assert_eq!(
        laptop.fetch(Method::DELETE, &path, "").await.status,
        StatusCode::OK
    );
    assert_eq!(call(&mut phone).await, refused(401, "session_expired"));
    assert_eq!(call(&mut laptop).await, passed());
}

#[tokio::test]
async fn everywhere_means_everywhere_and_nobody_else() {
    let rig = Rig::stored().await;
    let other = rig.replica();
    let mut laptop = rig.signed_in().await;
    let mut phone = moved(&rig.signed_in().await, &other);
    let mut bob = rig.browser();
    bob.sign_in(&rig.provider, "bob").await;
    rig.advance(1);
    let answer = laptop
        .fetch(Method::POST, "/auth/logout", "everywhere=true")
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(call(&mut phone).await, refused(401, "session_expired"));
    assert_eq!(call(&mut bob).await, passed());
    rig.advance(1);
    let mut again = rig.signed_in().await;
    assert_eq!(call(&mut again).await, passed());
}

#[tokio::test]
async fn an_instance_that_only_forwards_reads_the_store_and_never_renews() {
    let rig = Rig::stored().await;
    let proxy = rig.proxy_only();
    let mut browser = rig.signed_in().await;
    let mut through = moved(&browser, &proxy);
    assert_eq!(call(&mut through).await, passed());
    rig.advance(300);
    assert_eq!(call(&mut through).await, refused(401, "access_token_expired"));
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(call(&mut through).await, passed());
}

#[tokio::test]
async fn a_refresh_that_the_store_cannot_take_is_not_lost() {
    let rig = Rig::stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let mut browser = watched.signed_in().await;
    rig.advance(300);
    rig.provider.hold_tokens();
    let waiting = browser.clone();
    let waiting = tokio::spawn(async move { waiting.fetch_late(Method::GET, "/api/orders", "").await });
    rig.until(|| rig.provider.count("refresh_token", 200) == 1).await;
    store.set_away(true);
    let before = store.writes();
    rig.provider.release_tokens();
    rig.until(|| store.writes() > before).await;
    store.set_away(false);
    let answer = waiting.await.expect("no panic");
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(call(&mut browser).await, passed());
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
}

#[tokio::test]
async fn an_instance_that_only_forwards_keeps_to_the_agents_idle_limit() {
    let rig = Rig::stored().await;
    let rig = rig.replica_with(rig.storage(), |config| {
        config.session.idle = Some(Duration::from_secs(8 * 3600));
    });
    rig.provider.script().expires_in = Some(6 * 3600);
    let proxy = rig.proxy_only();
    let browser = rig.signed_in().await;
    let mut through = moved(&browser, &proxy);
    assert_eq!(call(&mut through).await, passed());
    // longer than the limit that an instance without an agent would have by itself
    rig.advance(5 * 3600);
    assert_eq!(call(&mut through).await, passed());
    rig.settle().await;
    rig.advance(3600 / 2);
    assert_eq!(call(&mut through).await, passed());
}
