//! Cookies as browsers see them: the table of names and attributes, clears that match, bounds.

use http::{Method, StatusCode};

use crate::support::Rig;
use crate::support::browser::Site;

#[tokio::test]
async fn every_cookie_is_as_the_table_says() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    let login = browser.jar[0].clone();
    assert!(login.name.starts_with("__Host-Http-shop-login-"));
    assert_eq!((login.path.as_str(), login.same_site.as_str()), ("/", "Lax"));
    assert_eq!(login.expires_at - rig.now(), 600);
    browser.navigate(&callback, Site::Cross).await;
    let mut table: Vec<_> = browser
        .jar
        .iter()
        .map(|cookie| {
            let life = cookie.expires_at - rig.now();
            (
                cookie.name.as_str(),
                cookie.path.as_str(),
                cookie.same_site.as_str(),
                life,
            )
        })
        .collect();
    table.sort_unstable();
    assert_eq!(
        table,
        [
            ("__Host-Http-shop-access", "/", "Strict", 43_200),
            ("__Secure-shop-session", "/auth", "Strict", 43_200),
        ]
    );
    browser.fetch(Method::POST, "/auth/logout", "").await;
    let mut table: Vec<_> = browser
        .jar
        .iter()
        .map(|cookie| {
            (
                cookie.name.as_str(),
                cookie.path.as_str(),
                cookie.same_site.as_str(),
            )
        })
        .collect();
    table.sort_unstable();
    assert_eq!(
        table,
        [
            ("__Host-Http-shop-ended", "/", "Strict"),
            ("__Host-Http-shop-logout", "/", "Lax")
        ]
    );
}

#[tokio::test]
async fn large_tokens_are_chunked_and_shrink_without_leftovers() {
    let rig = Rig::new().await;
    rig.provider.script().padding = 9_000;
    let mut browser = rig.signed_in().await;
    let chunks = |browser: &crate::support::browser::Browser| {
        browser
            .jar
            .iter()
            .filter(|cookie| cookie.name.starts_with("__Host-Http-shop-access"))
            .count()
    };
    assert!(chunks(&browser) > 1);
    assert_eq!(
        browser.fetch(Method::GET, "/api/x", "").await.status,
        StatusCode::OK
    );
    rig.provider.script().padding = 0;
    browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(chunks(&browser), 1);
    assert_eq!(
        browser.fetch(Method::GET, "/api/x", "").await.status,
        StatusCode::OK
    );
    rig.provider.script().padding = 9_000;
    browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert!(browser.is_signed_in().await);
    browser.fetch(Method::POST, "/auth/logout", "").await;
    assert_eq!(chunks(&browser), 0, "every chunk is cleared");
}

#[tokio::test]
async fn a_token_that_fits_no_cookie_is_an_error_when_it_is_written() {
    let rig = Rig::new().await;
    rig.provider.script().padding = 60_000;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert_eq!(
        answer.location(),
        "https://shop.example/?login_error=server_error"
    );
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn tampered_cookies_open_nothing() {
    let rig = Rig::new().await;
    let browser = rig.signed_in().await;
    for name in ["__Host-Http-shop-access", "__Secure-shop-session"] {
        for position in [0, 1, 5, 20, 60] {
            let mut tampered = browser.clone();
            let cookie = tampered
                .jar
                .iter_mut()
                .find(|cookie| cookie.name == name)
                .expect("it is there");
            let mut bytes = cookie.value.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            cookie.value = String::from_utf8(bytes).expect("ASCII");
            assert!(!tampered.is_signed_in().await, "{name} {position}");
        }
    }
}

#[tokio::test]
async fn a_session_cookie_tossed_from_another_session_opens_nothing() {
    let rig = Rig::new().await;
    let mut victim = rig.signed_in().await;
    let mallory = rig.signed_in().await;
    let tossed = mallory
        .jar
        .iter()
        .find(|cookie| cookie.name == "__Secure-shop-session")
        .expect("it is there")
        .clone();
    // the sibling's comes first and with a longer path
    let mut both = victim.clone();
    both.jar.insert(0, tossed.clone());
    assert!(both.is_signed_in().await, "the one that matches the anchor wins");
    victim.jar.retain(|cookie| cookie.name != "__Secure-shop-session");
    victim.jar.push(tossed);
    assert!(!victim.is_signed_in().await);
}

#[tokio::test]
async fn two_anchors_of_different_sessions_open_nothing() {
    let rig = Rig::new().await;
    let mut victim = rig.signed_in().await;
    let mallory = rig.signed_in().await;
    victim.jar.extend(mallory.jar);
    assert!(!victim.is_signed_in().await);
    let answer = victim.fetch(Method::GET, "/api/x", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "unauthorized")
    );
}

#[tokio::test]
async fn sixty_large_cookies_are_survived() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let own = browser.jar.clone();
    for n in 0..60 {
        let mut junk = own[0].clone();
        junk.name = if n % 2 == 0 {
            format!("junk{n}")
        } else {
            format!("__Host-Http-shop-access.{n}")
        };
        junk.value = "A".repeat(3_900);
        browser.jar.insert(0, junk);
    }
    let answer = browser.fetch(Method::GET, "/api/x", "").await;
    assert!(
        answer.status == StatusCode::OK || answer.status == StatusCode::UNAUTHORIZED,
        "{}",
        answer.status
    );
    browser.jar = own;
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn of_two_anchors_of_one_session_the_one_that_lasts_longer_counts() {
    for old_first in [true, false] {
        let rig = Rig::new().await;
        let mut browser = rig.signed_in().await;
        let old = browser.jar.clone();
        rig.advance(200);
        browser.fetch(Method::POST, "/auth/refresh", "").await;
        let new = browser.jar.clone();
        browser.jar = match old_first {
            true => old.into_iter().chain(new).collect(),
            false => new.into_iter().chain(old).collect(),
        };
        rig.advance(150);
        let answer = browser.fetch(Method::GET, "/api/x", "").await;
        assert_eq!(answer.status, StatusCode::OK, "old first: {old_first}");
        assert!(browser.is_signed_in().await);
    }
}

#[tokio::test]
async fn two_anchors_of_different_sessions_are_cleared_and_a_new_sign_in_repairs_it() {
    let rig = Rig::new().await;
    let mut victim = rig.signed_in().await;
    let mallory = rig.signed_in().await;
    let tossed = mallory.jar.clone();
    victim.jar.extend(tossed.clone());
    let answer = victim.fetch_late(Method::GET, "/auth/session", "").await;
    assert!(
        answer.headers.get_all("set-cookie").iter().count() >= 2,
        "cleared"
    );
    // a browser where the tossed one cannot be cleared
    let mut stubborn = victim.clone();
    stubborn.sign_in(&rig.provider, "alice").await;
    stubborn.jar.extend(tossed);
    assert!(
        stubborn.is_signed_in().await,
        "what was visible at the start is dead for good"
    );
}
