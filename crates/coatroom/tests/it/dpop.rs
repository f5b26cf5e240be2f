//! Tokens that are bound to a key (RFC 9449), from the sign-in to the API: provider and API check every
//! proof, and demand nonces.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use coatroom::clock::Clock as _;
use coatroom::timer::CoarseTimer;
use coatroom::upstream::{Connector, Upstream};
use coatroom::{DpopSigner, TokenHandlerService};
use coatroom_core::config::{ApplicationConfig, RouteConfig, RouteTargetConfig, UserConfig};
use coatroom_core::flow::Input;
use coatroom_core::handler::Handler;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, ServiceExt as _};

use crate::support::browser::{Browser, Site};
use crate::support::dpop::{ProvingApi, proof};
use crate::support::provider::Rotation;
use crate::support::{Api, Rig, checked, config, keys, provider_of};

type Proxy = TokenHandlerService<Upstream<Full<Bytes>>>;

/// An application whose sessions have keys, an API that wants proofs, and the proxy between them.
struct Bound {
    rig: Rig,
    api: ProvingApi,
    proxy: Proxy,
}

fn on(config: &mut ApplicationConfig) {
    provider_of(config).dpop = Some("ES256".to_owned());
}

impl Bound {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut ApplicationConfig)) -> Self {
        let api = ProvingApi::start().await;
        let url = api.url.clone();
        let rig = Rig::with(|config| {
            on(config);
            config.routes.push(RouteConfig {
                strip_prefix: true,
                ..RouteConfig::new("/up/", RouteTargetConfig::Upstream(format!("{url}/v1")))
            });
            change(config);
        })
        .await;
        Self::of(rig, api)
    }

    fn of(rig: Rig, api: ProvingApi) -> Self {
        rig.provider.script().dpop = true;
        api.trust(&rig.provider);
        api.call_itself(&api.url);
        let proxy = proxy(&rig);
        Self { rig, api, proxy }
    }

    async fn call(&self, browser: &Browser, method: Method, body: &str) -> (StatusCode, HeaderMap, String) {
        send(
            &self.proxy,
            browser.fetch_request(&method, "/up/orders?page=2", body),
        )
        .await
    }

    /// A call that the API takes.
    async fn good(&self, browser: &Browser) {
        let (status, headers, body) = self.call(browser, Method::GET, "").await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "{\"from\":\"api\"}"));
        assert!(
            !headers.contains_key("dpop-nonce"),
            "it is between the API and us"
        );
    }
}

fn proxy(rig: &Rig) -> Proxy {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let ends = rig.handler.session_ends().clone();
    let upstream = Upstream::new(Connector::with_tls(tls), CoarseTimer::new(), ends);
    rig.handler.layer().layer(upstream)
}

async fn send(proxy: &Proxy, request: Request<Full<Bytes>>) -> (StatusCode, HeaderMap, String) {
    let response: Response<_> = proxy.clone().oneshot(request).await.expect("it never fails");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("it ends well").to_bytes();
    let body = String::from_utf8(body.to_vec()).expect("UTF-8");
    (parts.status, parts.headers, body)
}

/// What the service behind the Layer got: scheme of the credentials, and the proof's claims and key.
fn got(api: &Api) -> (String, serde_json::Value, String) {
    let request = api.last();
    let authorization = request.headers()[header::AUTHORIZATION]
        .to_str()
        .expect("ASCII")
        .to_owned();
    let proof = proof(request.headers()).expect("a good proof");
    (authorization, proof.claims, proof.jkt)
}

#[tokio::test(flavor = "local")]
async fn a_session_signs_in_calls_and_refreshes_with_one_key() {
    for algorithm in ["ES256", "EdDSA"] {
        let bound = Bound::with(|config| provider_of(config).dpop = Some(algorithm.to_owned())).await;
        let mut browser = bound.rig.signed_in().await;
        bound.good(&browser).await;
        bound.good(&browser).await;
        bound.rig.advance(200);
        let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.body);
        bound.good(&browser).await;
        let book = bound.api.book();
        assert_eq!(book.answered, [200, 200, 200]);
        assert!(
            book.keys.iter().all(|key| *key == book.keys[0]),
            "the session's key"
        );
        assert_eq!(bound.rig.provider.count("refresh_token", 200), 1);
    }
}

#[tokio::test(flavor = "local")]
async fn each_session_has_a_key_of_its_own() {
    let bound = Bound::new().await;
    let (one, other) = (bound.rig.signed_in().await, bound.rig.signed_in().await);
    bound.good(&one).await;
    bound.good(&other).await;
    let again = bound.rig.signed_in().await;
    bound.good(&again).await;
    let book = bound.api.book();
    assert!(book.keys[0] != book.keys[1] && book.keys[1] != book.keys[2] && book.keys[0] != book.keys[2]);
}

#[tokio::test(flavor = "local")]
async fn nonces_of_both_sides_are_learned_and_kept_apart() {
    let bound = Bound::new().await;
    bound.rig.provider.script().nonces.demanded = true;
    bound.api.book().nonces.demanded = true;
    // the first sign-in meets the demand, the second knows the nonce
    let mut browser = bound.rig.signed_in().await;
    bound.rig.signed_in().await;
    assert_eq!(bound.rig.provider.count("authorization_code", 400), 1);
    assert_eq!(bound.rig.provider.count("authorization_code", 200), 2);
    for _ in 0..3 {
        bound.good(&browser).await;
    }
    assert_eq!(
        bound.api.book().answered,
        [401, 200, 200, 200],
        "asked once, never shown"
    );
    // each answer has the next one: nobody is asked twice
    bound.rig.provider.script().nonces.rotates = true;
    bound.api.book().nonces.rotates = true;
    for _ in 0..3 {
        bound.good(&browser).await;
        bound.rig.advance(200);
        let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.body);
    }
    assert_eq!(bound.api.book().answered, [401, 200, 200, 200, 200, 200, 200]);
    assert_eq!(bound.rig.provider.count("refresh_token", 400), 0);
    // one that changed behind our back costs one refusal
    bound.rig.provider.script().nonces.next();
    bound.api.book().nonces.next();
    bound.good(&browser).await;
    let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.body);
    assert_eq!(bound.rig.provider.count("refresh_token", 400), 1);
}

#[tokio::test(flavor = "local")]
async fn a_small_body_is_sent_again_and_a_large_one_is_the_clients_to_send() {
    for (name, length, hasty, http2, sent_again) in [
        ("small", 1_000, false, false, true),
        ("as large as is kept", 64 * 1024, false, false, true),
        ("larger", 64 * 1024 + 1, false, false, false),
        ("small, refused at its head", 1_000, true, false, true),
        ("small, over HTTP/2", 1_000, false, true, true),
        ("larger, over HTTP/2", 64 * 1024 + 1, false, true, false),
    ] {
        let bound = Bound::with(|config| {
            let route = config.routes.iter_mut().find(|route| route.path == "/up/");
            route.expect("it is there").upstream.http2 = http2.then_some(true);
        })
        .await;
        bound.api.book().nonces.demanded = true;
        bound.api.book().hasty = hasty;
        let browser = bound.rig.signed_in().await;
        let body = "x".repeat(length);
        let (status, headers, answer) = bound.call(&browser, Method::POST, &body).await;
        if !sent_again {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{name}: {answer}");
            assert_eq!(headers["token-handler-error"], "upstream_retry", "{name}");
            assert_eq!(headers["retry-after"], "1", "{name}");
            assert!(!headers.contains_key("www-authenticate"), "{name}");
            let (status, _, answer) = bound.call(&browser, Method::POST, &body).await;
            assert_eq!(status, StatusCode::OK, "{name}: the nonce is known now: {answer}");
        } else {
            assert_eq!(status, StatusCode::OK, "{name}: {answer}");
        }
        let book = bound.api.book();
        assert_eq!(book.answered, [401, 200], "{name}");
        assert_eq!(book.bodies, [length], "{name}: whole, and once");
    }
}

#[tokio::test(flavor = "local")]
async fn an_api_that_is_never_content_ends_no_session() {
    for (challenge, demanded, status, code) in [
        // again and again: once more is all it gets
        (
            r#"DPoP error="use_dpop_nonce""#,
            true,
            503,
            Some("upstream_retry"),
        ),
        (
            r#"DPoP error="use_dpop_nonce""#,
            false,
            502,
            Some("upstream_unavailable"),
        ),
        // what is the API's own to say is passed on
        (r#"DPoP error="invalid_token""#, true, 401, None),
        (r#"Bearer error="use_dpop_nonce""#, true, 401, None),
    ] {
        let bound = Bound::new().await;
        bound.api.book().always = Some(challenge);
        bound.api.book().nonces.demanded = demanded;
        let mut browser = bound.rig.signed_in().await;
        let (answered, headers, _) = bound.call(&browser, Method::GET, "").await;
        assert_eq!(answered.as_u16(), status, "{challenge}");
        let said = headers
            .get("token-handler-error")
            .map(|code| code.to_str().expect("ASCII"));
        assert_eq!(said, code, "{challenge}");
        assert!(!headers.contains_key("dpop-nonce"), "{challenge}");
        let calls = bound.api.book().answered.len();
        assert_eq!(calls, if status == 503 { 2 } else { 1 }, "{challenge}");
        assert!(browser.is_signed_in().await);
    }
}

#[tokio::test(flavor = "local")]
async fn an_api_behind_several_addresses_is_named() {
    let api = ProvingApi::start().await;
    let urls = vec![
        format!("{}/v1", api.url),
        format!("{}/v1", api.url.replace("127.0.0.1", "localhost")),
    ];
    let rig = Rig::with(|config| {
        on(config);
        config.routes.push(RouteConfig {
            strip_prefix: true,
            public_url: Some("https://API.example.com:443/v1/".to_owned()),
            ..RouteConfig::new("/up/", RouteTargetConfig::Upstreams(urls))
        });
    })
    .await;
    let bound = Bound::of(rig, api);
    bound.api.call_itself("https://api.example.com");
    let browser = bound.rig.signed_in().await;
    for _ in 0..4 {
        bound.good(&browser).await;
    }
}

#[tokio::test]
async fn a_service_behind_the_layer_gets_a_proof_and_may_ask_for_another() {
    let rig = Rig::with(on).await;
    rig.provider.script().dpop = true;
    let mut browser = rig.signed_in().await;
    // what the client says is not asked for
    let mut request = browser.fetch_request(&Method::POST, "/api/orders?a=b", "x=1");
    request
        .headers_mut()
        .insert("dpop", HeaderValue::from_static("forged"));
    assert_eq!(browser.send(request).await.status, StatusCode::OK);
    let seen = rig.api.last();
    let proved = proof(seen.headers()).expect("one good proof");
    assert_eq!(proved.claims["htm"], "POST");
    assert_eq!(
        proved.claims["htu"], "https://shop.example/orders",
        "as it is forwarded, without a query"
    );
    let token = seen.headers()[header::AUTHORIZATION].to_str().expect("ASCII");
    let token = token.strip_prefix("DPoP ").expect("its scheme");
    assert_eq!(rig.provider.key_of(token), Some(proved.jkt.clone()));
    let signer = seen
        .extensions()
        .get::<DpopSigner>()
        .expect("for services that send it on");
    let mut headers = HeaderMap::new();
    headers.insert("dpop-nonce", HeaderValue::from_static("canary-nonce-1"));
    assert!(!signer.wants_another_proof(StatusCode::OK, &headers));
    headers.insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("DPoP error=\"use_dpop_nonce\""),
    );
    assert!(signer.wants_another_proof(StatusCode::UNAUTHORIZED, &headers));
    let mut again = HeaderMap::new();
    again.insert("dpop", signer.proof(&Method::PUT).expect("it signs"));
    let again = proof(&again).expect("a good proof");
    assert_eq!(
        (&again.claims["htm"], &again.claims["nonce"]),
        (&"PUT".into(), &"canary-nonce-1".into())
    );
    assert_eq!(
        (again.jkt, &again.claims["ath"]),
        (proved.jkt, &proved.claims["ath"])
    );
    assert_ne!(again.claims["jti"], proved.claims["jti"]);
    // the next call of this route knows the nonce, that of another does not
    browser.fetch(Method::GET, "/api/x", "").await;
    assert_eq!(got(&rig.api).1["nonce"], "canary-nonce-1");
    browser.fetch(Method::GET, "/maybe/x", "").await;
    assert!(got(&rig.api).1.get("nonce").is_none());
    // one that only answers still teaches it
    rig.api.answer.lock().expect("no test panicked here").push((
        header::HeaderName::from_static("dpop-nonce"),
        HeaderValue::from_static("canary-nonce-2"),
    ));
    let answer = browser.fetch(Method::GET, "/maybe/x", "").await;
    assert!(!answer.headers.contains_key("dpop-nonce"));
    rig.api.last();
    browser.fetch(Method::GET, "/maybe/x", "").await;
    assert_eq!(got(&rig.api).1["nonce"], "canary-nonce-2");
    // where nobody is signed in there is nothing to prove
    rig.browser().fetch(Method::GET, "/maybe/x", "").await;
    assert!(!rig.api.last().headers().contains_key("dpop"));
}

#[tokio::test]
async fn a_websocket_is_proved_as_a_get() {
    let rig = Rig::with(on).await;
    rig.provider.script().dpop = true;
    let browser = rig.signed_in().await;
    let mut request = browser.fetch_request(&Method::GET, "/api/socket", "");
    let origin = HeaderValue::from_static("https://shop.example");
    for (name, value) in [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::ORIGIN, origin),
    ] {
        request.headers_mut().insert(name, value);
    }
    assert_eq!(browser.send(request).await.status, StatusCode::OK);
    let (authorization, claims, _) = got(&rig.api);
    assert!(authorization.starts_with("DPoP "));
    assert_eq!(
        (&claims["htm"], &claims["htu"]),
        (&"GET".into(), &"https://shop.example/socket".into())
    );
}

#[tokio::test]
async fn a_downgrade_to_bearer_tokens_is_refused() {
    let rig = Rig::with(on).await;
    rig.provider.script().dpop = true;
    let mut browser = rig.signed_in().await;
    rig.provider.script().downgrades = true;
    rig.advance(200);
    let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(refreshed.status, StatusCode::BAD_GATEWAY);
    assert_eq!(refreshed.error_code(), "provider_error");
    assert!(browser.is_signed_in().await, "it ends nothing");
    let mut other = rig.browser();
    let callback = other.start(&rig.provider, "alice").await;
    let answer = other.navigate(&callback, Site::Cross).await;
    assert!(
        answer.location().contains("login_error=provider_error"),
        "{}",
        answer.location()
    );
    // and a bound token is refused where none was asked for
    rig.provider.script().downgrades = false;
    let plain = rig.replica_with(rig.storage(), |_| {});
    let mut other = plain.browser();
    let callback = other.start(&rig.provider, "alice").await;
    let answer = other.navigate(&callback, Site::Cross).await;
    assert!(
        answer.location().contains("login_error=provider_error"),
        "{}",
        answer.location()
    );
}

#[tokio::test]
async fn a_provider_that_demands_nonces_for_ever_ends_no_session() {
    let rig = Rig::with(on).await;
    rig.provider.script().dpop = true;
    let mut browser = rig.signed_in().await;
    rig.advance(200);
    {
        let mut script = rig.provider.script();
        script.nonces.demanded = true;
        script.token_fault = Some(crate::support::provider::Fault::Answer(
            400,
            "application/json",
            r#"{"error":"use_dpop_nonce"}"#,
        ));
    }
    let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(refreshed.status, StatusCode::BAD_GATEWAY);
    assert_eq!(rig.provider.count("refresh_token", 400), 2, "asked twice");
    rig.provider.script().token_fault = None;
    rig.advance(10);
    let refreshed = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.body);
}

#[tokio::test]
async fn a_provider_that_does_not_take_the_algorithm_is_asked_for_nothing() {
    let rig = Rig::with(on).await;
    rig.provider.script().metadata =
        serde_json::json!({"dpop_signing_alg_values_supported": ["PS256", "EdDSA"]});
    let started = rig.browser().fetch(Method::POST, "/auth/login/start", "").await;
    assert_eq!(started.status, StatusCode::BAD_GATEWAY);
    assert_eq!(started.error_code(), "provider_error");
}

#[tokio::test]
async fn a_code_that_is_redeemed_twice_at_once_is_bound_to_one_key() {
    let rig = Rig::with(|config| {
        on(config);
        config.login_callback = Some("/signed-in".to_owned());
    })
    .await;
    rig.provider.script().dpop = true;
    rig.provider.script().nonces.demanded = true;
    let mut browser = rig.browser();
    let callback = browser.start(&rig.provider, "alice").await;
    let query = callback.split_once('?').expect("a query").1.to_owned();
    let (one, two) = tokio::join!(
        browser.fetch_late(Method::POST, "/auth/login/end", &query),
        browser.fetch_late(Method::POST, "/auth/login/end", &query)
    );
    assert_eq!(
        (one.status, two.status),
        (StatusCode::OK, StatusCode::OK),
        "{}",
        one.body
    );
    // a third comes before the browser has stored anything: its session is restored from the memory
    let late = browser.fetch_late(Method::POST, "/auth/login/end", &query).await;
    assert_eq!(rig.provider.count("authorization_code", 200), 1);
    let mut keys = Vec::new();
    for answer in [one, two, late] {
        let mut tab = browser.clone();
        tab.store(&answer.headers);
        assert_eq!(tab.fetch(Method::GET, "/api/x", "").await.status, StatusCode::OK);
        let (authorization, _, jkt) = got(&rig.api);
        let token = authorization.strip_prefix("DPoP ").expect("its scheme");
        assert_eq!(rig.provider.key_of(token), Some(jkt.clone()));
        keys.push(jkt);
    }
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_have_one_key_and_one_redemption() {
    let rig = Rig::with(on).await;
    rig.provider.script().dpop = true;
    let mut browser = rig.signed_in().await;
    browser.fetch(Method::GET, "/api/x", "").await;
    let (_, _, key) = got(&rig.api);
    rig.advance(200);
    let (one, two) = tokio::join!(
        browser.fetch_late(Method::POST, "/auth/refresh", ""),
        browser.fetch_late(Method::POST, "/auth/refresh", "")
    );
    for answer in [one, two] {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        browser.store(&answer.headers);
        browser.fetch(Method::GET, "/api/x", "").await;
        let (authorization, _, jkt) = got(&rig.api);
        let token = authorization.strip_prefix("DPoP ").expect("its scheme");
        assert_eq!((rig.provider.key_of(token), &jkt), (Some(key.clone()), &key));
    }
    assert_eq!(rig.provider.count("refresh_token", 200), 1);
}

#[tokio::test]
async fn a_stored_session_keeps_its_key_in_its_record() {
    let stored = Rig::stored().await;
    let rig = stored.replica_with(stored.storage(), on);
    rig.provider.script().dpop = true;
    rig.provider.script().refresh = Rotation::Rotate;
    let mut browser = rig.signed_in().await;
    assert_eq!(
        browser.fetch(Method::GET, "/api/x", "").await.status,
        StatusCode::OK
    );
    let (_, _, key) = got(&rig.api);
    // its token runs out: the call renews it, at another replica
    rig.advance(400);
    let other = rig.replica_with(rig.storage(), on);
    let mut elsewhere = browser.at(other.service.clone());
    assert_eq!(
        elsewhere.fetch(Method::GET, "/api/x", "").await.status,
        StatusCode::OK
    );
    let (authorization, _, jkt) = got(&other.api);
    let token = authorization.strip_prefix("DPoP ").expect("its scheme");
    assert_eq!((other.provider.key_of(token), &jkt), (Some(key.clone()), &key));
    assert_eq!(other.provider.count("refresh_token", 200), 1);
    // an instance that only forwards calls has no provider, and proves all the same
    let proxy = rig.proxy_only();
    let mut beside = elsewhere.at(proxy.service.clone());
    assert_eq!(
        beside.fetch(Method::GET, "/api/x", "").await.status,
        StatusCode::OK
    );
    assert_eq!(got(&proxy.api).2, key);
}

#[tokio::test]
async fn sessions_from_before_the_setting_changed_live_on_as_they_began() {
    let plain = Rig::new().await;
    let bound = plain.replica_with(plain.storage(), on);
    let browser = plain.signed_in().await;
    // switched on: bearer until its end
    let mut moved = browser.at(bound.service.clone());
    moved.fetch(Method::GET, "/api/x", "").await;
    let seen = bound.api.last();
    assert!(
        seen.headers()[header::AUTHORIZATION]
            .as_bytes()
            .starts_with(b"Bearer ")
    );
    assert!(!seen.headers().contains_key("dpop") && seen.extensions().get::<DpopSigner>().is_none());
    bound.advance(200);
    assert_eq!(
        moved.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::OK
    );
    moved.fetch(Method::GET, "/api/x", "").await;
    assert!(
        bound.api.last().headers()[header::AUTHORIZATION]
            .as_bytes()
            .starts_with(b"Bearer ")
    );
    // a new sign-in has a key, and keeps it when the setting is switched off again
    bound.provider.script().dpop = true;
    let browser = bound.signed_in().await;
    let mut back = browser.at(plain.service.clone());
    plain.advance(200);
    assert_eq!(
        back.fetch(Method::POST, "/auth/refresh", "").await.status,
        StatusCode::OK
    );
    back.fetch(Method::GET, "/api/x", "").await;
    let (authorization, _, jkt) = got(&plain.api);
    let token = authorization.strip_prefix("DPoP ").expect("its scheme");
    assert_eq!(plain.provider.key_of(token), Some(jkt));
}

/// A key is the session's: what a refresh may take goes by it, and not by the setting of now.
#[tokio::test]
async fn a_refresh_may_take_as_long_as_the_sessions_key_needs() {
    let plain = Rig::new().await;
    let bound = plain.replica_with(plain.storage(), on);
    let asked: fn(&mut ApplicationConfig) = |config| {
        let provider = provider_of(config);
        provider.scopes = None;
        provider.plain.protocol = Some("oauth2".to_owned());
        provider.plain.user = Some(UserConfig {
            subject: Some("id".to_owned()),
            ..UserConfig::default()
        });
    };
    let not_asked: fn(&mut ApplicationConfig) = |config| {
        let provider = provider_of(config);
        provider.scopes = None;
        provider.plain.protocol = Some("oauth2".to_owned());
        provider.plain.user = Some(UserConfig {
            subject: Some("id".to_owned()),
            at_refresh: Some("never".to_owned()),
            ..UserConfig::default()
        });
    };
    for (rig, tries) in [(&plain, 1), (&bound, 2)] {
        plain.provider.script().dpop = tries == 2;
        let browser = rig.signed_in().await;
        let request = browser.fetch_request(&Method::POST, "/auth/refresh", "");
        for (change, each) in [
            (on as fn(&mut ApplicationConfig), 1),
            (|_| {}, 1),
            // who the user is, is asked as well
            (asked, 2),
            (not_asked, 1),
        ] {
            let mut config = config(&rig.provider.issuer);
            change(&mut config);
            let handler = Handler::new(Arc::new(checked(config)), Arc::new(keys())).expect("it is checked");
            let refresh = handler.refresh(
                request.headers(),
                &Input::form(b"").expect("a form"),
                rig.clock.now(),
            );
            let refresh = refresh.ok().expect("it is signed in");
            assert_eq!(handler.requests_of_refresh(&refresh), tries * each);
        }
    }
}

#[tokio::test]
async fn a_callback_with_another_sign_ins_key_gets_nothing() {
    let rig = Rig::with(on).await;
    rig.provider.script().dpop = true;
    let mut browser = rig.browser();
    let started = browser.fetch(Method::POST, "/auth/login/start", "").await.json();
    let url = url::Url::parse(started["authorization_url"].as_str().expect("a URL")).expect("a URL");
    let parameters: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(
        URL_SAFE_NO_PAD
            .decode(&parameters["dpop_jkt"])
            .expect("base64url")
            .len(),
        32
    );
    // somebody put their own key into the request
    let swapped = url.as_str().replace(&parameters["dpop_jkt"], &"A".repeat(43));
    let callback = format!("/auth/callback?{}", rig.provider.approve(&swapped, "alice"));
    let answer = browser.navigate(&callback, Site::Cross).await;
    assert!(!browser.is_signed_in().await, "{}", answer.location());
}
