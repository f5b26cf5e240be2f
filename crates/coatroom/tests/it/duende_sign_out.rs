//! `compatibility: duende`, sign-out by a link: what the link has to name, and where it leads.

use coatroom_core::config::{RateLimitConfig, SessionStorage};
use http::{Method, Request, StatusCode, header};
use serde_json::json;

use crate::duende::{duende, fetch, follow, link, logout_url, rig, sign_in, signed_in, stored, user};
use crate::redirects::{Site as Pages, payloads};
use crate::support::Rig;
use crate::support::browser::{Browser, Site};
use crate::support::faulty_store::FaultyStore;
use crate::support::provider::Fault;

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
                // slowly enough for the limit of links
                rig.advance(1);
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
    for path in ["/bff/logout?sid=x&sid=x", "/bff/logout?sid=x&SID=y"] {
        let answer = browser.navigate(path, Site::Cross).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
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
    let mut logout = logout_url(&mut browser).await;
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
    for (number, input) in known
        .iter()
        .copied()
        .chain(lists.iter().step_by(9).map(String::as_str))
        .enumerate()
    {
        // one session has so many links at once
        if number % 9 == 0 {
            browser = signed_in(&rig).await;
            logout = logout_url(&mut browser).await;
        }
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
    rig.advance(60);
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

/// How a session came to be over although its anchor is still there.
#[derive(Clone, Copy, Debug)]
enum Over {
    /// The idle limit, by so many seconds.
    Idle(u64),
    EndedByTheProvider,
    GrantRefused,
    CookieLost,
}

#[tokio::test]
async fn a_page_that_is_told_of_nobody_signs_out_without_a_sid() {
    for (over, kept, at_provider) in [
        // in cookies the ID token is still there
        (Over::Idle(0), "cookies", true),
        (Over::Idle(3600), "cookies", true),
        (Over::Idle(0), "marks", true),
        (Over::EndedByTheProvider, "marks", true),
        (Over::GrantRefused, "cookies", true),
        (Over::CookieLost, "cookies", false),
        // a record stays for two minutes
        (Over::Idle(0), "store", true),
        (Over::Idle(3600), "store", false),
        (Over::EndedByTheProvider, "store", false),
    ] {
        for sid in ["", "sid=another&", "its own"] {
            let name = format!("{over:?}, {kept}, {sid}");
            let rig = match kept {
                "cookies" => rig().await,
                "marks" => {
                    let rig = Rig::with_revocations().await;
                    rig.replica_with(rig.storage(), duende)
                }
                _ => stored().await,
            };
            let mut browser = signed_in(&rig).await;
            let path = match sid {
                "its own" => format!("{}&returnUrl=/bye", logout_url(&mut browser).await),
                _ => format!("/bff/logout?{sid}returnUrl=/bye"),
            };
            end(&rig, &mut browser, over).await;
            assert!(shows_anchor(&browser), "{name}");
            assert_eq!(
                user(&mut browser).await.status,
                StatusCode::UNAUTHORIZED,
                "{name}"
            );

            // what another site leads to shows no anchor and changes nothing
            let jar = browser.jar.clone();
            let foreign = browser.navigate(&path, Site::Cross).await;
            assert_eq!(foreign.location(), "https://shop.example/bye", "{name}");
            // neither does a parameter that is there twice
            let twice = browser.navigate(&format!("{path}&sid=a&SID=b"), Site::Same).await;
            assert_eq!(twice.status, StatusCode::BAD_REQUEST, "{name}");
            assert_eq!(browser.jar, jar, "{name}");

            let out = browser.navigate(&path, Site::Same).await;
            assert_eq!(out.status, StatusCode::SEE_OTHER, "{name}: {}", out.body);
            let landed = match at_provider {
                true => follow(&rig, &mut browser, &out).await,
                false => out.location().to_owned(),
            };
            assert_eq!(landed, "https://shop.example/bye", "{name}");
            assert!(!shows_anchor(&browser), "{name}: nothing is left of it");
            assert_eq!(user(&mut browser).await.status, StatusCode::UNAUTHORIZED);
        }
    }
}

async fn end(rig: &Rig, browser: &mut Browser, over: Over) {
    match over {
        Over::Idle(beyond) => rig.advance(1800 + beyond),
        Over::EndedByTheProvider => {
            let token = rig.provider.logout_token(&json!({}));
            let request = Request::post("/bff/backchannel")
                .header(header::HOST, "shop.example")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(format!("logout_token={token}").into())
                .expect("a good request");
            assert_eq!(browser.send(request).await.status, StatusCode::OK);
        }
        Over::GrantRefused => {
            let refusal = Fault::Answer(400, "application/json", r#"{"error":"invalid_grant"}"#);
            rig.provider.script().token_fault = Some(refusal);
            rig.advance(300);
            let refused = fetch(browser, Method::POST, "/bff/refresh").await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        }
        Over::CookieLost => browser.jar.retain(|cookie| cookie.path == "/"),
    }
}

fn shows_anchor(browser: &Browser) -> bool {
    let mut names = browser.jar.iter().map(|cookie| cookie.name.as_str());
    names.any(|name| name.contains("-access"))
}

#[tokio::test]
async fn where_nobody_can_say_that_a_session_is_over_a_link_needs_its_sid() {
    // two sessions at once: one of them is somebody's
    let two = rig().await;
    let mut browser = signed_in(&two).await;
    browser.jar.extend(signed_in(&two).await.jar);
    let answer = link(&browser, "/bff/logout", &[]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    // a store that is away: what is idle, and what is gone
    for kept in ["marks", "store"] {
        let rig = match kept {
            "marks" => Rig::with_revocations().await,
            _ => Rig::stored().await,
        };
        let store = FaultyStore::before(rig.store.clone());
        let watched = rig.replica_behind(store.clone(), duende);
        let browser = signed_in(&watched).await;
        rig.advance(1800);
        store.set_away(true);
        let answer = link(&browser, "/bff/logout", &[]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{kept}");
        assert!(answer.headers.get(header::SET_COOKIE).is_none(), "{kept}");
        store.set_away(false);
        let answer = link(&browser, "/bff/logout", &[]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{kept}");
    }
}

#[tokio::test]
async fn links_count_against_a_limit_of_their_own() {
    let rig = rig().await;
    let mut browser = signed_in(&rig).await;
    let own = logout_url(&mut browser).await;
    // a page that polled too much still signs out
    let mut polls = browser.clone();
    while user(&mut polls).await.status == StatusCode::OK {}
    assert_eq!(user(&mut polls).await.error_code(), "rate_limited");
    let copied = browser.clone();
    let out = polls.navigate(&own, Site::Same).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER, "{}", out.body);
    // and a copy of the cookies does not have tokens revoked without end
    let mut outcomes = Vec::new();
    for _ in 0..11 {
        outcomes.push(link(&copied, &own, &[]).await.status);
    }
    assert_eq!(outcomes[..9], [StatusCode::SEE_OTHER; 9]);
    assert_eq!(outcomes[9..], [StatusCode::TOO_MANY_REQUESTS; 2]);

    // what is refused takes nothing from `user`, `refresh` and `POST logout`
    let mut browser = signed_in(&rig).await;
    let mut refused = Vec::new();
    for _ in 0..120 {
        let image = [("sec-fetch-dest", "image"), ("sec-fetch-mode", "no-cors")];
        refused.push(link(&browser, "/bff/logout", &image).await.status);
    }
    assert_eq!(refused, [StatusCode::FORBIDDEN; 120], "counted nowhere");
    for _ in 0..120 {
        refused.push(link(&browser, "/bff/logout?sid=guess", &[]).await.status);
    }
    assert_eq!(refused[120..130], [StatusCode::FORBIDDEN; 10]);
    assert_eq!(refused[130..], [StatusCode::TOO_MANY_REQUESTS; 110]);
    for (method, path) in [
        (Method::GET, "/bff/user"),
        (Method::POST, "/bff/refresh"),
        (Method::POST, "/bff/logout"),
    ] {
        let answer = fetch(&mut browser, method, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    }
}
