//! Sessions that operators list and end in the store itself, beside whoever serves them.

use std::sync::Arc;

use coatroom::clock::Clock as _;
use coatroom::{StoredSessions, StoredSessionsError, Whose};
use coatroom_core::config::SessionStorage;
use coatroom_core::session::metadata::PublicSessionId;
use coatroom_core::store::Ended;
use http::{Method, StatusCode};

use crate::support::browser::Browser;
use crate::support::faulty_store::FaultyStore;
use crate::support::{NEW_KEY, OLD_KEY, Rig, START, checked, config, ring, store_settings};

/// The operator of an application beside this process, with these keys.
fn operator(rig: &Rig, storage: &str, id: &str, keys: &[&str]) -> StoredSessions {
    let settings = Box::new(store_settings());
    let mut config = config(&rig.provider.issuer);
    config.session.storage = match storage {
        "store" => SessionStorage::Store(settings),
        _ => SessionStorage::CookieWithRevocations(settings),
    };
    config.id = id.to_owned();
    let application = Arc::new(checked(config));
    StoredSessions::new(application, Arc::new(ring(keys)), rig.store.clone()).expect("an agent's application")
}

/// A browser that signed in, and the public id of its session.
async fn signed_in(rig: &Rig, user: &str) -> (Browser, PublicSessionId) {
    let mut browser = rig.browser();
    browser.sign_in(&rig.provider, user).await;
    let session = browser.session().await;
    let id = session["session"]["id"].as_str().expect("a public id");
    let id = PublicSessionId::parse(id).expect("a public id");
    assert_eq!(call(&mut browser).await, "200");
    (browser, id)
}

/// How an API call goes.
async fn call(browser: &mut Browser) -> String {
    let answer = browser.fetch(Method::GET, "/api/orders", "").await;
    match answer.status {
        StatusCode::OK => "200".to_owned(),
        status => format!("{} {}", status.as_u16(), answer.error_code()),
    }
}

async fn found(operator: &StoredSessions, whose: Whose<'_>) -> Vec<PublicSessionId> {
    let found = operator.list(whose).await.expect("the store is well");
    found
        .iter()
        .map(|session| PublicSessionId::of(session.id))
        .collect()
}

fn sorted(mut ids: Vec<PublicSessionId>) -> Vec<String> {
    ids.sort_by_key(ToString::to_string);
    ids.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn an_operator_lists_a_users_sessions_and_ends_one_of_them() {
    let rig = Rig::stored().await;
    let operator = operator(&rig, "store", "shop", &[OLD_KEY]);
    let (mut here, first) = signed_in(&rig, "alice").await;
    let (mut there, second) = signed_in(&rig, "alice").await;
    let (_, other) = signed_in(&rig, "bob").await;
    let (cursor, _) = rig.store.ended_since(None).await.expect("a cursor");

    assert_eq!(
        sorted(found(&operator, Whose::User("alice")).await),
        sorted(vec![first, second])
    );
    assert_eq!(found(&operator, Whose::User("bob")).await, [other]);
    assert_eq!(found(&operator, Whose::User("carol")).await, []);
    assert_eq!(
        found(&operator, Whose::ProviderSession("provider-session"))
            .await
            .len(),
        3
    );
    assert_eq!(found(&operator, Whose::Session(second)).await, [second]);

    let now = rig.clock.now();
    let ended = operator
        .end(Whose::Session(second), now)
        .await
        .expect("the store is well");
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].created_at, ended[0].last_active), (START, START));
    let (_, announced) = rig
        .store
        .ended_since(Some(&cursor))
        .await
        .expect("the store is well");
    assert_eq!(announced, [Ended::Session(ended[0].id)]);
    assert_eq!(found(&operator, Whose::Session(second)).await, []);
    assert_eq!(found(&operator, Whose::User("alice")).await, [first]);

    // what this process remembers of a session is two seconds old at most
    rig.advance(3);
    assert_eq!(call(&mut there).await, "401 session_expired");
    assert_eq!(call(&mut here).await, "200");
    assert!(
        operator
            .end(Whose::Session(second), now)
            .await
            .expect("again")
            .is_empty()
    );
}

#[tokio::test]
async fn what_an_operator_ends_of_a_user_is_over_and_a_later_sign_in_is_not() {
    for whose in [Whose::User("alice"), Whose::ProviderSession("provider-session")] {
        let rig = Rig::stored().await;
        let operator = operator(&rig, "store", "shop", &[OLD_KEY]);
        let (mut browser, id) = signed_in(&rig, "alice").await;
        let ended = operator
            .end(whose, rig.clock.now())
            .await
            .expect("the store is well");
        let ended: Vec<_> = ended
            .iter()
            .map(|session| PublicSessionId::of(session.id))
            .collect();
        assert_eq!(ended, [id]);
        assert_eq!(found(&operator, whose).await, []);
        rig.advance(3);
        assert_eq!(call(&mut browser).await, "401 session_expired");
        signed_in(&rig, "alice").await;
        assert_eq!(found(&operator, whose).await.len(), 1);
    }
}

#[tokio::test]
async fn an_operator_finds_sessions_from_before_a_rotation_and_none_of_other_keys_or_applications() {
    let rig = Rig::stored().await;
    let (_, id) = signed_in(&rig, "alice").await;
    for (name, application, keys, expected) in [
        ("rotated", "shop", &[NEW_KEY, OLD_KEY][..], 1),
        ("other keys", "shop", &[NEW_KEY], 0),
        ("another application", "orders", &[OLD_KEY], 0),
    ] {
        let operator = operator(&rig, "store", application, keys);
        for whose in [
            Whose::User("alice"),
            Whose::ProviderSession("provider-session"),
            Whose::Session(id),
        ] {
            assert_eq!(found(&operator, whose).await.len(), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn sessions_in_cookies_are_ended_by_whose_they_are_and_not_listed() {
    let rig = Rig::with_revocations().await;
    let operator = operator(&rig, "cookies", "shop", &[OLD_KEY]);
    let (mut alice, id) = signed_in(&rig, "alice").await;
    let (mut bob, _) = signed_in(&rig, "bob").await;
    let now = rig.clock.now();
    let in_cookies = |outcome| matches!(outcome, Err(StoredSessionsError::InCookies));
    assert!(in_cookies(operator.list(Whose::User("alice")).await));
    assert!(in_cookies(operator.list(Whose::Session(id)).await));
    assert!(in_cookies(operator.end(Whose::Session(id), now).await));

    // nobody can tell what that was
    assert!(
        operator
            .end(Whose::User("alice"), now)
            .await
            .expect("noted")
            .is_empty()
    );
    rig.advance(3);
    assert_eq!(call(&mut alice).await, "401 session_expired");
    assert_eq!(call(&mut bob).await, "200");
}

#[tokio::test]
async fn an_operator_whose_store_is_away_is_told_and_ends_nothing() {
    let rig = Rig::stored().await;
    let (mut browser, id) = signed_in(&rig, "alice").await;
    let store = FaultyStore::before(rig.store.clone());
    let beside = rig.behind(store.clone());
    let operator = operator(&beside, "store", "shop", &[OLD_KEY]);
    store.set_away(true);
    for whose in [Whose::User("alice"), Whose::Session(id)] {
        for outcome in [
            operator.list(whose).await,
            operator.end(whose, rig.clock.now()).await,
        ] {
            let error = outcome.expect_err("it is away");
            assert!(matches!(error, StoredSessionsError::Store(_)), "{error}");
        }
    }
    store.set_away(false);
    assert_eq!(found(&operator, Whose::User("alice")).await, [id]);
    rig.advance(3);
    assert_eq!(call(&mut browser).await, "200");
}
