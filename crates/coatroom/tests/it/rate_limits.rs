//! Rate limits through the whole service: who is refused, with what answer, and what a refusal does
//! not do. Beside them the peers that may say for whom they ask.

use std::time::Duration;

use coatroom::peers::{PeerHeader, TrustedPeers};
use coatroom::{Peer, TokenHandler};
use coatroom_core::config::{AgentLimitsConfig, ApplicationConfig, RateLimitConfig, RouteLimitConfig};
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use tower::Layer as _;

use crate::support::browser::{Answer, Browser};
use crate::support::{Api, Rig, checked, config, keys, route};

fn limit(requests: u32, burst: u32) -> RateLimitConfig {
    RateLimitConfig {
        requests,
        per: Duration::from_secs(1),
        burst: Some(burst),
    }
}

/// The agent limited to this many at once.
fn agent(address: u32, session: u32) -> impl FnOnce(&mut ApplicationConfig) {
    move |config| {
        config.rate_limits = AgentLimitsConfig {
            address: Some(limit(1, address)),
            session: Some(limit(1, session)),
        };
    }
}

/// Another handler for the same application, which believes these peers.
fn believing(rig: &Rig, change: impl FnOnce(&mut ApplicationConfig), peers: TrustedPeers) -> (Browser, Api) {
    let mut config = config(&rig.provider.issuer);
    change(&mut config);
    let handler = TokenHandler::builder(vec![checked(config)], keys())
        .clock(rig.clock.clone())
        .trusted_peers(peers)
        .build()
        .expect("the handler builds");
    let api = Api::default();
    let service = handler.layer().layer(api.clone());
    (Browser::new(service, rig.clock.clone()), api)
}

fn proxies() -> TrustedPeers {
    TrustedPeers::parse(&["10.0.0.0/8"], PeerHeader::XForwardedFor).expect("a list")
}

/// What `fetch` sends, over a connection from `peer`, saying that it is for somebody else.
fn from(
    browser: &Browser,
    peer: &str,
    says: Option<&str>,
    method: &Method,
    path: &str,
) -> Request<Full<bytes::Bytes>> {
    let mut request = browser.fetch_request(method, path, "");
    request.extensions_mut().insert(Peer {
        address: Some(peer.parse().expect("an address")),
        tls: true,
    });
    if let Some(says) = says {
        let value = says.parse().expect("a value");
        request.headers_mut().insert("x-forwarded-for", value);
    }
    request
}

async fn session(browser: &Browser, peer: &str, says: Option<&str>) -> StatusCode {
    let request = from(browser, peer, says, &Method::GET, "/auth/session");
    browser.send(request).await.status
}

fn assert_limited(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.error_code(), "rate_limited");
    let wait = answer.headers[header::RETRY_AFTER].to_str().expect("text");
    assert!(wait.parse::<u32>().expect("seconds") >= 1);
    assert!(
        !answer.headers.contains_key(header::SET_COOKIE),
        "nobody is signed out"
    );
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_refused_for_a_while_and_others_are_not() {
    let rig = Rig::with(agent(3, 100)).await;
    let browser = rig.browser();
    for _ in 0..3 {
        assert_eq!(session(&browser, "203.0.113.1", None).await, StatusCode::OK);
    }
    let refused = browser
        .send(from(&browser, "203.0.113.1", None, &Method::GET, "/auth/session"))
        .await;
    assert_limited(&refused);
    assert_eq!(session(&browser, "203.0.113.2", None).await, StatusCode::OK);
    rig.advance(1);
    assert_eq!(session(&browser, "203.0.113.1", None).await, StatusCode::OK);
}

#[tokio::test]
async fn a_spoofed_address_frees_nobody_and_burdens_nobody() {
    let rig = Rig::with(agent(3, 100)).await;
    let browser = rig.browser();
    let mut outcomes = Vec::new();
    for number in 0..6 {
        let says = format!("198.51.100.{number}");
        outcomes.push(session(&browser, "203.0.113.1", Some(&says)).await);
    }
    assert_eq!(outcomes[..3], [StatusCode::OK; 3]);
    assert_eq!(outcomes[3..], [StatusCode::TOO_MANY_REQUESTS; 3]);
    assert_eq!(session(&browser, "198.51.100.0", None).await, StatusCode::OK);
}

#[tokio::test]
async fn behind_a_listed_peer_each_client_has_a_limit_of_its_own() {
    let rig = Rig::new().await;
    let (browser, _) = believing(&rig, agent(2, 100), proxies());
    for _ in 0..2 {
        assert_eq!(
            session(&browser, "10.0.0.1", Some("203.0.113.1")).await,
            StatusCode::OK
        );
    }
    for spoof in [
        "203.0.113.1",
        "198.51.100.7, 203.0.113.1",
        "10.0.0.9, 203.0.113.1",
    ] {
        assert_eq!(
            session(&browser, "10.0.0.1", Some(spoof)).await,
            StatusCode::TOO_MANY_REQUESTS,
            "{spoof}"
        );
    }
    assert_eq!(
        session(&browser, "10.0.0.1", Some("203.0.113.2")).await,
        StatusCode::OK
    );
    for _ in 0..10 {
        // the proxy's own checks
        assert_eq!(session(&browser, "10.0.0.1", None).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_office_of_five_hundred_signs_in_at_nine_o_clock() {
    let rig = Rig::new().await;
    let browser = rig.browser();
    for _ in 0..500 {
        for (method, path) in [
            (Method::GET, "/auth/session"),
            (Method::POST, "/auth/login/start"),
            (Method::GET, "/auth/session"),
        ] {
            let answer = browser
                .send(from(&browser, "203.0.113.1", None, &method, path))
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
        }
    }
}

#[tokio::test]
async fn by_default_an_address_behind_which_everybody_may_be_is_not_counted() {
    let rig = Rig::new().await;
    let browser = rig.browser();
    for peer in ["127.0.0.1", "10.1.2.3", "203.0.113.1"] {
        let mut refused = false;
        for _ in 0..5_100 {
            refused |= session(&browser, peer, None).await == StatusCode::TOO_MANY_REQUESTS;
        }
        assert_eq!(refused, peer == "203.0.113.1", "{peer}");
    }
}

#[tokio::test]
async fn a_session_that_asks_too_often_is_refused_from_wherever_it_asks_and_stays_a_session() {
    let rig = Rig::with(agent(100, 4)).await;
    let mut browser = rig.signed_in().await;
    // a while later
    rig.advance(60);
    let jar = browser.jar.clone();
    let mut outcomes = Vec::new();
    for number in 0..8 {
        outcomes.push(session(&browser, &format!("203.0.113.{number}"), None).await);
    }
    assert_eq!(outcomes[..4], [StatusCode::OK; 4]);
    assert_eq!(outcomes[4..], [StatusCode::TOO_MANY_REQUESTS; 4]);
    let refused = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_limited(&refused);
    assert_eq!(browser.jar, jar);
    let other = rig.browser();
    assert_eq!(session(&other, "203.0.113.0", None).await, StatusCode::OK);
    rig.advance(2);
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn who_may_not_ask_any_more_can_still_sign_out() {
    let rig = Rig::with(agent(1, 1)).await;
    let mut browser = rig.browser();
    // each call of the sign-in in a second of its own
    let callback = browser.start(&rig.provider, "alice").await;
    rig.advance(2);
    browser
        .navigate(&callback, crate::support::browser::Site::Cross)
        .await;
    rig.advance(2);
    while session(&browser, "203.0.113.1", None).await == StatusCode::OK {}
    let request = from(&browser, "203.0.113.1", None, &Method::POST, "/auth/logout");
    let answer = browser.send(request).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    browser.store(&answer.headers);
    let next = answer.json()["logout_url"].as_str().map(str::to_owned);
    let next = next.expect("the provider has a logout");
    let next = next.strip_prefix("https://shop.example").expect("ours");
    let answer = browser.navigate(next, crate::support::browser::Site::Same).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    rig.advance(2);
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn a_session_cannot_have_tokens_revoked_without_end() {
    let rig = Rig::new().await;
    let browser = rig.signed_in().await;
    let mut outcomes = Vec::new();
    for _ in 0..12 {
        let answer = browser.fetch_late(Method::POST, "/auth/logout", "").await;
        outcomes.push(answer.status);
    }
    assert_eq!(outcomes[..10], [StatusCode::OK; 10]);
    assert_eq!(outcomes[10..], [StatusCode::TOO_MANY_REQUESTS; 2]);
}

#[tokio::test]
async fn another_site_cannot_use_up_a_users_requests() {
    let rig = Rig::with(agent(3, 3)).await;
    let browser = rig.signed_in().await;
    rig.advance(60);
    for _ in 0..10 {
        let mut request = from(&browser, "203.0.113.1", None, &Method::GET, "/auth/session");
        let foreign = "cross-site".parse().expect("a value");
        request.headers_mut().insert("sec-fetch-site", foreign);
        assert_eq!(browser.send(request).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(session(&browser, "203.0.113.1", None).await, StatusCode::OK);
}

#[tokio::test]
async fn another_site_cannot_use_up_what_an_address_may_ask_of_a_route() {
    let rig = Rig::with(routes(Some("address"))).await;
    let browser = rig.signed_in().await;
    for _ in 0..10 {
        let mut request = from(&browser, "203.0.113.1", None, &Method::GET, "/api/x");
        let foreign = "cross-site".parse().expect("a value");
        request.headers_mut().insert("sec-fetch-site", foreign);
        assert_eq!(browser.send(request).await.status, StatusCode::FORBIDDEN);
    }
    let request = from(&browser, "203.0.113.1", None, &Method::GET, "/api/x");
    assert_eq!(browser.send(request).await.status, StatusCode::OK);
}

fn routes(by: Option<&'static str>) -> impl FnOnce(&mut ApplicationConfig) {
    move |config| {
        for one in &mut config.routes {
            one.rate_limit = (one.path != "/media/").then(|| RouteLimitConfig {
                limit: limit(1, 2),
                by: by
                    .map(str::to_owned)
                    .filter(|by| by == "address" || one.path != "/public/"),
            });
        }
    }
}

#[tokio::test]
async fn a_route_is_limited_as_written_and_its_neighbours_are_not() {
    for (by, path, signed_in, ends_by_session) in [
        (None, "/api/x", true, true),
        (Some("address"), "/api/x", true, false),
        (Some("session"), "/maybe/x", true, true),
        (Some("session"), "/maybe/x", false, false),
        (None, "/public/x", true, false),
    ] {
        let rig = Rig::with(routes(by)).await;
        let browser = if signed_in {
            rig.signed_in().await
        } else {
            rig.browser()
        };
        let mut outcomes = Vec::new();
        for _ in 0..4 {
            let request = from(&browser, "203.0.113.1", None, &Method::GET, path);
            outcomes.push(browser.send(request).await);
        }
        for answer in &outcomes[..2] {
            assert_eq!(answer.status, StatusCode::OK, "{by:?} {path}");
        }
        for answer in &outcomes[2..] {
            assert_limited(answer);
        }
        assert_eq!(rig.api.seen.lock().expect("no panic").len(), 2, "{by:?} {path}");
        let elsewhere = from(&browser, "203.0.113.2", None, &Method::GET, path);
        let status = browser.send(elsewhere).await.status;
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(limited, ends_by_session, "{by:?} {path} from elsewhere");
        for _ in 0..10 {
            let free = from(&browser, "203.0.113.1", None, &Method::GET, "/media/x");
            let status = browser.send(free).await.status;
            assert_ne!(status, StatusCode::TOO_MANY_REQUESTS);
        }
    }
}

#[tokio::test]
async fn the_spa_of_another_origin_can_read_that_it_asks_too_often() {
    let rig = Rig::with(|config| {
        agent(1, 100)(config);
        routes(Some("address"))(config);
        config.app_url = Some("https://www.example".to_owned());
    })
    .await;
    let browser = rig.browser();
    for path in ["/auth/session", "/public/x"] {
        let mut answers = Vec::new();
        for _ in 0..3 {
            let mut request = from(&browser, "203.0.113.1", None, &Method::GET, path);
            let origin = "https://www.example".parse().expect("a value");
            request.headers_mut().insert(header::ORIGIN, origin);
            let site = "same-site".parse().expect("a value");
            request.headers_mut().insert("sec-fetch-site", site);
            answers.push(browser.send(request).await);
        }
        let refused = answers.last().expect("three");
        assert_limited(refused);
        let allowed = &refused.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN];
        assert_eq!(allowed, "https://www.example", "{path}");
        let exposed = refused.headers[header::ACCESS_CONTROL_EXPOSE_HEADERS]
            .to_str()
            .expect("text");
        assert!(exposed.to_ascii_lowercase().contains("retry-after"), "{exposed}");
    }
}

#[tokio::test]
async fn refusals_are_counted() {
    let rig = Rig::with(agent(1, 100)).await;
    let browser = rig.browser();
    for _ in 0..3 {
        session(&browser, "203.0.113.1", None).await;
    }
    let mut text = rig.handler.telemetry().render();
    rig.handler.render_rate_limits(&mut text);
    for line in [
        "coatroom_rate_limited_total{application=\"shop\",route=\"agent\",limit=\"address\"} 2\n",
        "coatroom_agent_answers_total{application=\"shop\",endpoint=\"session\",error_code=\"rate_limited\"} 2\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[tokio::test]
async fn a_reload_frees_nobody_unless_the_limit_changed() {
    let rig = Rig::with(agent(1, 100)).await;
    let browser = rig.browser();
    for (name, address, status) in [
        ("first", 1, StatusCode::OK),
        ("the same limit", 1, StatusCode::TOO_MANY_REQUESTS),
        ("another limit", 2, StatusCode::OK),
    ] {
        let mut config = config(&rig.provider.issuer);
        agent(address, 100)(&mut config);
        rig.handler
            .reload(vec![checked(config)], keys())
            .expect("a good configuration");
        assert_eq!(session(&browser, "203.0.113.1", None).await, status, "{name}");
    }
}

#[tokio::test]
async fn an_upstream_is_told_the_client_that_a_listed_peer_names() {
    let rig = Rig::new().await;
    let forwarded = |config: &mut ApplicationConfig| {
        config.routes = vec![coatroom_core::config::RouteConfig {
            auth: Some("none".to_owned()),
            forwarded: true,
            ..route("/public/")
        }];
    };
    for (name, peers, peer, says, client, node) in [
        (
            "listed",
            proxies(),
            "10.0.0.1",
            "127.0.0.1, 2001:db8::7",
            "2001:db8::7",
            "\"[2001:db8::7]\"",
        ),
        (
            "unlisted",
            proxies(),
            "203.0.113.1",
            "127.0.0.1",
            "203.0.113.1",
            "203.0.113.1",
        ),
        (
            "nobody is listed",
            TrustedPeers::nobody(),
            "10.0.0.1",
            "127.0.0.1",
            "10.0.0.1",
            "10.0.0.1",
        ),
    ] {
        let (browser, api) = believing(&rig, forwarded, peers);
        let mut request = from(&browser, peer, Some(says), &Method::GET, "/public/x");
        for (header, value) in [
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1;host=evil.example"),
        ] {
            request
                .headers_mut()
                .insert(header, value.parse().expect("a value"));
        }
        assert_eq!(browser.send(request).await.status, StatusCode::OK, "{name}");
        let seen = api.seen.lock().expect("no panic");
        let headers = &seen.first().expect("one call").headers;
        for (header, value) in [
            ("x-forwarded-for", client),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "https"),
            (
                "forwarded",
                &format!("for={node};host=\"shop.example\";proto=https"),
            ),
        ] {
            let values: Vec<_> = headers.get_all(header).iter().collect();
            assert_eq!(values, [value], "{name} {header}");
        }
        assert!(!headers.contains_key("x-real-ip") && !headers.contains_key("x-forwarded-port"));
    }
}

#[tokio::test]
async fn a_malformed_forwarded_of_a_listed_peer_is_refused() {
    let rig = Rig::new().await;
    let peers = TrustedPeers::parse(&["10.0.0.0/8"], PeerHeader::Forwarded).expect("a list");
    let (browser, api) = believing(&rig, |_| {}, peers);
    for path in ["/auth/session", "/public/x"] {
        for (peer, status) in [
            ("10.0.0.1", StatusCode::BAD_REQUEST),
            ("203.0.113.1", StatusCode::OK),
        ] {
            let mut request = from(&browser, peer, None, &Method::GET, path);
            let value = "for=\"x, for=192.0.2.7".parse().expect("a value");
            request.headers_mut().insert("forwarded", value);
            assert_eq!(browser.send(request).await.status, status, "{path} {peer}");
        }
    }
    assert_eq!(api.seen.lock().expect("no panic").len(), 1);
}

#[tokio::test]
async fn the_application_is_found_by_host_and_never_by_what_a_peer_says() {
    let rig = Rig::new().await;
    let (browser, _) = believing(&rig, |_| {}, proxies());
    let mut request = from(&browser, "10.0.0.1", None, &Method::GET, "/auth/session");
    request
        .headers_mut()
        .insert(header::HOST, "other.example".parse().expect("a value"));
    request
        .headers_mut()
        .insert("x-forwarded-host", "shop.example".parse().expect("a value"));
    assert_eq!(
        browser.send(request).await.status,
        StatusCode::MISDIRECTED_REQUEST
    );
}
