//! `compatibility: duende`, sign-out by a link: what the link has to name, and where it leads.

use coatroom_core::config::{RateLimitConfig, SessionStorage};
use http::{Method, StatusCode, header};
use serde_json::json;

use crate::duende::{duende, fetch, follow, link, logout_url, rig, sign_in, signed_in, stored, user};
use crate::redirects::{Site as Pages, payloads};
use crate::support::Rig;
use crate::support::browser::Site;
use crate::support::faulty_store::FaultyStore;

#[tokio::test]
async fn a_link_without_the_sessions_sid_signs_nobody_out() {
    for rig in [rig().await, stored().await] {
        let mut browser = signed_in(&rig).await;
        let mut other = signed_in(&rig).await;
        let session = fetch(&mut browser, Method::GET, "/bff/session").await.json();
        let public = session["session"]["id"].as_str().expect("an id").to_owned();
        let own = logout_url(&mut browser).await;
        let others = logout_url(&mut other).await;
        let shorter = &own[..own.len() - 1];
        let longer = format!("{own}A");
        let twice = format!("{own}&sid=x");
        let twice_in_another_case = format!("{own}&SID=x");
        for (name, path, status) in [
            ("no sid", "/bff/logout", 403),
            ("an empty sid", "/bff/logout?sid=", 403),
            ("a guess", "/bff/logout?sid=AAAA", 403),
            ("the provider's", "/bff/logout?sid=provider-session", 403),
            (
                "that of logs and lists",
                &format!("/bff/logout?sid={public}"),
                403,
            ),
            ("another session's of the same user", &others, 403),
            ("a part of it", shorter, 403),
            ("more than it", &longer, 403),
            ("twice", &twice, 400),
            ("twice, once in upper case", &twice_in_another_case, 400),
        ] {
            for (site, label) in [
                ("cross-site", "cross"),
                ("same-origin", "same"),
                ("", "unlabelled"),
            ] {
                let changes: &[(&'static str, &'static str)] = match site {
                    "" => &[
                        ("sec-fetch-site", ""),
                        ("sec-fetch-mode", ""),
                        ("sec-fetch-dest", ""),
                    ],
                    "same-origin" => &[("sec-fetch-site", "same-origin")],
                    _ => &[],
                };
                let answer = link(&browser, path, changes).await;
                assert_eq!(answer.status.as_u16(), status, "{name}, {label}");
                assert!(
                    answer.headers.get(header::SET_COOKIE).is_none(),
                    "{name}, {label}"
                );
                assert!(
                    !answer.body.contains("sid="),
                    "nothing of the request is repeated"
                );
            }
        }
        // the right one is for a navigation, and not for what a page can load
        for changes in [
            &[("sec-fetch-dest", "iframe")][..],
            &[("sec-fetch-dest", "image"), ("sec-fetch-mode", "no-cors")],
            &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
            &[("sec-purpose", "prefetch;prerender")],
        ] {
            let answer = link(&browser, &own, changes).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{changes:?}");
        }
        for browser in [&mut browser, &mut other] {
            assert_eq!(user(browser).await.status, StatusCode::OK, "still signed in");
            let call = fetch(browser, Method::GET, "/api/x").await;
            assert_eq!(call.status, StatusCode::OK);
        }
        assert!(rig.provider.script().revoked.is_empty());
        let out = browser.navigate(&own, Site::Same).await;
        assert_eq!(out.status, StatusCode::SEE_OTHER);
        assert_eq!(user(&mut other).await.status, StatusCode::OK, "and only the one");
        // after another sign-in the old link is another session's
        sign_in(&rig, &mut browser, "/bff/login").await;
        let stale = browser.navigate(&own, Site::Same).await;
        assert_eq!(stale.status, StatusCode::FORBIDDEN);
        assert_eq!(user(&mut browser).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn without_a_session_a_sign_out_link_leads_to_the_app_and_changes_nothing() {
    let rig = rig().await;
    let mut browser = rig.browser();
    for (path, expected) in [
        ("/bff/logout", "https://shop.example/"),
        ("/bff/logout?sid=x&returnUrl=/bye", "https://shop.example/bye"),
    ] {
        let answer = browser.navigate(path, Site::Cross).await;
        assert_eq!(
            (answer.status, answer.location()),
            (StatusCode::SEE_OTHER, expected)
        );
        assert!(answer.headers.get(header::SET_COOKIE).is_none());
    }
}

#[tokio::test]
async fn no_return_url_leads_off_the_spa_neither_at_sign_in_nor_at_sign_out() {
    const PAGES: Pages<'static> = Pages {
        agent: "https://shop.example",
        listed: &["https://shop.example"],
        no_pages: &["/bff", "/api", "/maybe", "/public", "/media"],
        lenient_pages: false,
    };
    let rig = Rig::with(|config| {
        duende(config);
        config.rate_limits.session = Some(RateLimitConfig {
            requests: 1_000_000,
            per: std::time::Duration::from_millis(1),
            burst: None,
        });
    })
    .await;
    let mut browser = signed_in(&rig).await;
    let logout = logout_url(&mut browser).await;
    let known = [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "~/",
        "javascript:alert(1)",
        "https://shop.example.evil.example/",
        "https://shop.example@evil.example/",
        "/bff/logout",
        "/api/orders",
        "/%09/evil.example",
    ];
    let lists = payloads("shop.example");
    let (mut accepted, mut refused) = (0, 0);
    for input in known
        .iter()
        .copied()
        .chain(lists.iter().step_by(9).map(String::as_str))
    {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("returnUrl", input)
            .finish();
        let start = browser
            .clone()
            .navigate(&format!("/bff/login?{query}"), Site::Cross)
            .await;
        let mut leaving = browser.clone();
        let out = leaving.navigate(&format!("{logout}&{query}"), Site::Same).await;
        // both judge it alike, and a sign-out that is refused has not happened
        assert_eq!(start.status, out.status, "{input:?}");
        match out.status {
            StatusCode::BAD_REQUEST => {
                refused += 1;
                assert!(out.headers.get(header::SET_COOKIE).is_none(), "{input:?}");
                assert!(start.headers.get(header::SET_COOKIE).is_none(), "{input:?}");
            }
            _ => {
                accepted += 1;
                let landed = follow(&rig, &mut leaving, &out).await;
                assert_eq!(PAGES.escape(&landed), None, "{input:?} leads to {landed}");
            }
        }
    }
    assert!(accepted > 0 && refused >= known.len(), "{accepted} {refused}");
    // an empty one is none, as these clients know it
    let mut leaving = browser.clone();
    let out = leaving
        .navigate(&format!("{logout}&returnUrl="), Site::Same)
        .await;
    assert_eq!(follow(&rig, &mut leaving, &out).await, "https://shop.example/");
    let mut arriving = rig.browser();
    let landed = sign_in(&rig, &mut arriving, "/bff/login?returnUrl=").await;
    assert_eq!(landed, "https://shop.example/");
    for (twice, status) in [
        ("returnUrl=/a&returnUrl=/b", 400),
        ("returnUrl=/a&ReturnUrl=/b", 400),
        ("ReturnURL=/a", 303),
    ] {
        let out = browser
            .clone()
            .navigate(&format!("{logout}&{twice}"), Site::Same)
            .await;
        assert_eq!(out.status.as_u16(), status, "{twice}");
    }
    for (twice, status) in [
        ("returnUrl=/a&return_to=/b", 400),
        ("returnurl=/a&RETURNURL=/b", 400),
        ("return_to=/a", 303),
    ] {
        let start = browser
            .clone()
            .navigate(&format!("/bff/login?{twice}"), Site::Same)
            .await;
        assert_eq!(start.status.as_u16(), status, "{twice}");
    }
}

#[tokio::test]
async fn a_page_that_is_none_any_more_is_not_where_a_sign_out_ends() {
    let rig = rig().await;
    let mut browser = signed_in(&rig).await;
    let logout = logout_url(&mut browser).await;
    let first = browser
        .navigate(&format!("{logout}&returnUrl=/later"), Site::Same)
        .await;
    let changed = rig.replica_with(SessionStorage::Cookie, |config| {
        duende(config);
        config.routes.push(crate::support::route("/later/"));
    });
    let mut elsewhere = browser.at(changed.service.clone());
    assert_eq!(
        follow(&rig, &mut elsewhere, &first).await,
        "https://shop.example/"
    );
}

#[tokio::test]
async fn a_provider_without_end_session_leads_straight_to_the_return_url() {
    let rig = rig().await;
    rig.provider.script().metadata = json!({"end_session_endpoint": null});
    let mut browser = signed_in(&rig).await;
    let logout = logout_url(&mut browser).await;
    let out = browser
        .navigate(&format!("{logout}&returnUrl=/bye"), Site::Same)
        .await;
    assert_eq!(out.location(), "https://shop.example/bye");
    assert_eq!(user(&mut browser).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn while_the_store_is_away_only_the_right_link_signs_out() {
    let rig = stored().await;
    let store = FaultyStore::before(rig.store.clone());
    let watched = rig.replica_behind(store.clone(), duende);
    let mut browser = signed_in(&watched).await;
    let logout = logout_url(&mut browser).await;
    store.set_away(true);
    assert_eq!(user(&mut browser).await.error_code(), "store_unavailable");
    for path in ["/bff/logout", "/bff/logout?sid=x"] {
        let answer = link(&browser, path, &[]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.headers.get(header::SET_COOKIE).is_none());
    }
    let out = browser.navigate(&logout, Site::Same).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER, "{}", out.body);
    store.set_away(false);
    assert_eq!(user(&mut browser).await.status, StatusCode::UNAUTHORIZED);
}
