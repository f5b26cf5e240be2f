//! Sessions in cookies whose ends are in a store: real sign-out, and one refresh for all replicas.

use coatroom_core::config::SessionStorage;
use http::{Method, StatusCode};

use crate::support::Rig;
use crate::support::browser::Browser;
use crate::support::faulty_store::FaultyStore;

async fn call(browser: &mut Browser) -> (u16, String) {
    let answer = browser.fetch(Method::GET, "/api/orders", "").await;
    match answer.status {
        StatusCode::OK => (200, String::new()),
        _ => (answer.status.as_u16(), answer.error_code()),
    }
}

fn passed() -> (u16, String) {
    (200, String::new())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn moved(browser: &Browser, to: &Rig) -> Browser {
    browser.clone().at(to.service.clone())
}

#[tokio::test]
async fn a_copied_cookie_is_dead_after_the_sign_out_on_every_replica() {
    let rig = Rig::with_revocations().await;
    let other = rig.replica();
    let mut browser = rig.signed_in().await;
    let mut copied = browser.clone();
    let mut elsewhere = moved(&browser, &other);
    assert_eq!(call(&mut copied).await, passed());
    assert_eq!(call(&mut elsewhere).await, passed());
    browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(call(&mut copied).await, refused(401, "session_expired"));
    rig.advance(2);
    assert_eq!(call(&mut elsewhere).await, refused(401, "session_expired"));
    assert!(!elsewhere.is_signed_in().await);
    let answer = elsewhere.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "session_expired");
    assert_eq!(rig.provider.count("refresh_token", 200), 0);
}

#[tokio::test]
async fn replicas_without_sticky_sessions_redeem_a_refresh_token_once() {
    let rig = Rig::with_revocations().await;
    let other = rig.replica();
    let browser = rig.signed_in().await;
    rig.advance(300);
    let elsewhere = moved(&browser, &other);
    let here = (0..10).map(|_| browser.fetch_late(Method::POST, "/auth/refresh", ""));
    let there = (0..10).map(|_| elsewhere.fetch_late(Method::POST, "/auth/refresh", ""));
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
    // a late duplicate, at the other replica, is answered from the memory that they share
    let answer = elsewhere.fetch_late(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
}

#[tokio::test]
async fn everywhere_ends_the_sessions_of_other_browsers() {
    let rig = Rig::with_revocations().await;
    let mut laptop = rig.signed_in().await;
    let mut phone = rig.signed_in().await;
    let mut bob = rig.browser();
    bob.sign_in(&rig.provider, "bob").await;
    assert_eq!(call(&mut phone).await, passed());
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
async fn without_its_revocation_store_nobody_can_say_and_nobody_is_signed_out() {
    let rig = Rig::with_revocations().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let mut browser = watched.signed_in().await;
    let cookies = browser.jar.clone();
    store.set_away(true);
    assert_eq!(call(&mut browser).await, refused(503, "store_unavailable"));
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "store_unavailable");
    assert_eq!(browser.jar, cookies);
    store.set_away(false);
    assert_eq!(call(&mut browser).await, passed());
}

#[tokio::test]
async fn a_hot_call_asks_once_in_two_seconds() {
    let rig = Rig::with_revocations().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.behind(store.clone());
    let mut browser = watched.signed_in().await;
    let before = store.writes();
    assert_eq!(call(&mut browser).await, passed());
    store.set_away(true);
    for _ in 0..20 {
        assert_eq!(call(&mut browser).await, passed());
    }
    store.set_away(false);
    assert_eq!(store.writes(), before);
}

#[tokio::test]
async fn a_store_that_is_not_configured_any_more_has_no_say() {
    let rig = Rig::with_revocations().await;
    let mut browser = rig.signed_in().await;
    let without = rig.replica_with(SessionStorage::Cookie, |_| {});
    let mut moved = moved(&browser, &without);
    assert_eq!(call(&mut moved).await, passed());
    assert_eq!(call(&mut browser).await, passed());
}

#[tokio::test]
async fn a_users_refresh_that_joins_a_timers_is_still_a_users() {
    let rig = Rig::with_revocations().await;
    let mut browser = rig.signed_in().await;
    rig.advance(200);
    rig.provider.hold_tokens();
    let (timer, user) = (browser.clone(), browser.clone());
    let timer = tokio::spawn(async move {
        timer
            .fetch_late(Method::POST, "/auth/refresh", "background=true")
            .await
    });
    rig.until(|| rig.provider.count("refresh_token", 200) == 1).await;
    let user = tokio::spawn(async move { user.fetch_late(Method::POST, "/auth/refresh", "").await });
    rig.settle().await;
    rig.provider.release_tokens();
    let timer = timer.await.expect("no panic");
    let user = user.await.expect("no panic");
    assert_eq!(timer.json()["session"]["idle_expires_in"], 1600);
    assert_eq!(user.json()["session"]["idle_expires_in"], 1800);
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
    browser.store(&user.headers);
    assert_eq!(call(&mut browser).await, passed());
}
