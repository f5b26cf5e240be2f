//! Routes for anonymous callers that carry the client's own token: who gets it, who never does, how it
//! is had once for everybody, and what callers see while it cannot be had.

use coatroom_core::config::{
    ApplicationConfig, ClientCredentialsConfig, RouteConfig, SessionStorage, TokenConfig,
};
use coatroom_core::secret::Secret;
use futures_util::future::join_all;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use serde_json::json;
use tower::ServiceExt as _;

use crate::support::browser::{Answer, Browser};
use crate::support::dpop::proof;
use crate::support::provider::Fault;
use crate::support::{
    CLIENT_SECRET, OLD_KEY, Rig, checked, config, provider_of, ring, route, store_settings,
};

const STOCK: &str = "https://stock.example";

fn ours(path: &str, grant: ClientCredentialsConfig) -> RouteConfig {
    RouteConfig {
        auth: Some("none".to_owned()),
        token: Some(TokenConfig {
            client_credentials: Some(grant),
            ..TokenConfig::default()
        }),
        ..route(path)
    }
}

fn scoped() -> ClientCredentialsConfig {
    ClientCredentialsConfig {
        scopes: Some(vec!["catalogue:read".to_owned()]),
        ..ClientCredentialsConfig::default()
    }
}

/// Beside the usual routes: two that carry one token, and one with a token for its own API.
fn routes(config: &mut ApplicationConfig) {
    config.routes.push(ours("/catalogue/", scoped()));
    config.routes.push(ours("/prices/", scoped()));
    config.routes.push(ours(
        "/stock/",
        ClientCredentialsConfig {
            resource: Some(STOCK.to_owned()),
            ..ClientCredentialsConfig::default()
        },
    ));
}

/// The token that the API got with the last call.
fn carried(rig: &Rig) -> String {
    let request = rig.api.last();
    assert!(!request.headers().contains_key("cookie"), "no cookie goes along");
    assert!(request.extensions().get::<coatroom::Session>().is_none());
    let value = request.headers()[header::AUTHORIZATION].to_str().expect("ASCII");
    value.strip_prefix("Bearer ").expect("a bearer token").to_owned()
}

async fn get(browser: &mut Browser, path: &str) -> Answer {
    browser.fetch(Method::GET, path, "").await
}

async fn passes(rig: &Rig, browser: &mut Browser, path: &str) -> String {
    let answer = get(browser, path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    assert!(
        !answer.headers.contains_key(header::SET_COOKIE),
        "nobody gets a session of it"
    );
    assert_eq!(answer.headers[header::CACHE_CONTROL], "private", "{path}");
    carried(rig)
}

fn asked(rig: &Rig) -> usize {
    rig.provider.count("client_credentials", 200)
}

#[tokio::test]
async fn anonymous_callers_and_users_get_the_clients_token_and_nobody_a_users() {
    for storage in [
        SessionStorage::Cookie,
        SessionStorage::CookieWithRevocations(Box::new(store_settings())),
        SessionStorage::Store(Box::new(store_settings())),
    ] {
        let rig = Rig::new().await.replica_with(storage, routes);
        let mut nobody = rig.browser();
        let token = passes(&rig, &mut nobody, "/catalogue/1").await;
        assert!(token.starts_with("canary-access-client-"), "{token}");
        assert!(nobody.jar.is_empty());
        let mut alice = rig.signed_in().await;
        assert_eq!(passes(&rig, &mut alice, "/catalogue/1").await, token);
        assert_eq!(
            passes(&rig, &mut alice, "/prices/1").await,
            token,
            "routes share it"
        );
        let stock = passes(&rig, &mut alice, "/stock/1").await;
        assert!(stock.starts_with(&format!("canary-access-{STOCK}-")), "{stock}");
        // hers is hers
        assert_eq!(get(&mut alice, "/api/1").await.status, StatusCode::OK);
        let hers = rig.api.last().headers()[header::AUTHORIZATION].clone();
        assert!(hers != *format!("Bearer {token}") && hers != *format!("Bearer {stock}"));
        let forms = rig.provider.script().token_forms.clone();
        let mut own = forms
            .iter()
            .filter(|form| form["grant_type"] == "client_credentials");
        let (first, second) = (own.next().expect("asked"), own.next().expect("asked"));
        assert_eq!((&first["scope"][..], first.len()), ("catalogue:read", 2));
        assert_eq!((&second["resource"][..], second.len()), (STOCK, 2));
        assert!(own.next().is_none());
    }
}

/// A14: what a user's route refuses stays refused, although there is a token that would do.
#[tokio::test]
async fn a_users_route_never_falls_back_to_the_clients_token() {
    let rig = Rig::with(routes).await;
    passes(&rig, &mut rig.browser(), "/catalogue/1").await;
    let mut alice = rig.signed_in().await;
    let mut signed_out = alice.clone();
    signed_out.fetch(Method::POST, "/auth/logout", "").await;
    for (name, browser, code) in [
        ("nobody", &mut rig.browser(), "unauthorized"),
        ("signed out", &mut signed_out, "unauthorized"),
    ] {
        assert_eq!(get(browser, "/api/1").await.error_code(), code, "{name}");
    }
    rig.advance(299);
    passes(&rig, &mut alice, "/catalogue/1").await;
    rig.advance(2);
    assert_eq!(
        get(&mut alice, "/api/1").await.error_code(),
        "access_token_expired"
    );
    assert_eq!(
        get(&mut alice, "/maybe/1").await.error_code(),
        "access_token_expired"
    );
    rig.advance(3600);
    assert_eq!(get(&mut alice, "/api/1").await.status, StatusCode::UNAUTHORIZED);
    assert!(
        rig.api.seen.lock().expect("no panic").is_empty(),
        "none of that went on"
    );
    // who is nobody on an optional route carries nothing
    let mut nobody = rig.browser();
    assert_eq!(get(&mut nobody, "/maybe/1").await.status, StatusCode::OK);
    assert!(!rig.api.last().headers().contains_key(header::AUTHORIZATION));
    assert_eq!(get(&mut nobody, "/public/1").await.status, StatusCode::OK);
    assert!(!rig.api.last().headers().contains_key(header::AUTHORIZATION));
}

#[tokio::test]
async fn what_a_client_brings_itself_never_takes_the_tokens_place() {
    let rig = Rig::with(routes).await;
    let alice = rig.signed_in().await;
    let mut request = alice.fetch_request(&Method::GET, "/catalogue/1", "");
    request
        .headers_mut()
        .insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer mine"));
    assert_eq!(alice.send(request).await.status, StatusCode::OK);
    assert!(carried(&rig).starts_with("canary-access-client-"));
}

#[tokio::test]
async fn many_first_calls_are_one_request() {
    let rig = Rig::with(routes).await;
    rig.provider.hold_tokens();
    let calls = join_all((0..50).map(|_| {
        let mut browser = rig.browser();
        async move { get(&mut browser, "/catalogue/1").await.status }
    }));
    let released = async {
        rig.until(|| asked(&rig) > 0).await;
        rig.settle().await;
        rig.provider.release_tokens();
    };
    let (statuses, ()) = tokio::join!(calls, released);
    assert!(
        statuses.iter().all(|status| *status == StatusCode::OK),
        "{statuses:?}"
    );
    assert_eq!(asked(&rig), 1);
}

#[tokio::test]
async fn a_token_is_renewed_beside_the_calls_and_never_used_to_its_end() {
    let rig = Rig::with(routes).await;
    let mut browser = rig.browser();
    let first = passes(&rig, &mut browser, "/catalogue/1").await;
    rig.advance(215);
    assert_eq!(passes(&rig, &mut browser, "/catalogue/1").await, first);
    rig.settle().await;
    assert_eq!(asked(&rig), 1, "it is not time yet");
    rig.advance(1);
    rig.provider.hold_tokens();
    for _ in 0..20 {
        assert_eq!(
            passes(&rig, &mut browser, "/catalogue/1").await,
            first,
            "nobody waits"
        );
    }
    rig.until(|| asked(&rig) == 2).await;
    rig.provider.release_tokens();
    let mut second = first.clone();
    for _ in 0..5_000 {
        second = passes(&rig, &mut browser, "/catalogue/1").await;
        if second != first {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_ne!(second, first);
    assert_eq!(asked(&rig), 2);
    // nobody came for a while: who comes then waits for another
    rig.advance(270);
    let third = passes(&rig, &mut browser, "/catalogue/1").await;
    assert!(third != second && asked(&rig) == 3);
    // and so it goes on
    rig.advance(220);
    passes(&rig, &mut browser, "/catalogue/1").await;
    rig.until(|| asked(&rig) == 4).await;
}

#[tokio::test]
async fn a_provider_that_is_away_is_503_for_a_while_and_no_call_waits_for_it_meanwhile() {
    for (name, discovery) in [
        ("it does not answer at all", true),
        ("its token endpoint is broken", false),
    ] {
        let rig = Rig::with(routes).await;
        let mut browser = rig.browser();
        {
            let mut script = rig.provider.script();
            script.discovery_down = discovery;
            script.token_fault = Some(Fault::Answer(503, "text/plain", "canary"));
        }
        for _ in 0..3 {
            let answer = get(&mut browser, "/catalogue/1").await;
            assert_eq!(answer.error_code(), "provider_unavailable", "{name}");
            assert_eq!(answer.headers[header::RETRY_AFTER], "1", "{name}");
            assert!(
                !answer.body.contains("canary") && !answer.body.contains("token"),
                "{name}"
            );
        }
        let attempts = |rig: &Rig| {
            let script = rig.provider.script();
            script.token_forms.len() + script.discovery_requests
        };
        let before = attempts(&rig);
        assert!(before <= 2, "{name}: {before}");
        // nobody else is concerned
        assert_eq!(get(&mut browser, "/public/1").await.status, StatusCode::OK);
        rig.advance(40);
        {
            let mut script = rig.provider.script();
            script.discovery_down = false;
            script.token_fault = None;
        }
        passes(&rig, &mut browser, "/catalogue/1").await;
    }
}

#[tokio::test]
async fn while_a_renewal_fails_the_token_that_is_there_goes_on() {
    let rig = Rig::with(routes).await;
    let mut browser = rig.browser();
    let first = passes(&rig, &mut browser, "/catalogue/1").await;
    rig.provider.script().token_fault = Some(Fault::Answer(500, "text/plain", "oops"));
    for (second, status) in [(220, 200), (269, 200), (270, 503)] {
        rig.clock.advance(std::time::Duration::from_secs(
            second - (rig.now() - crate::support::START.0),
        ));
        let answer = get(&mut browser, "/catalogue/1").await;
        assert_eq!(answer.status.as_u16(), status, "{second}");
        if status == 200 {
            assert_eq!(carried(&rig), first);
        }
        rig.settle().await;
    }
}

#[tokio::test]
async fn what_the_provider_refuses_for_good_is_502_and_rests_for_longer() {
    const INVALID_SCOPE: &str = r#"{"error":"invalid_scope","error_description":"canary"}"#;
    let more = json!({"scope": "catalogue:read catalogue:write"});
    for (name, fault, members) in [
        (
            "an error",
            Some(Fault::Answer(400, "application/json", INVALID_SCOPE)),
            json!({}),
        ),
        (
            "not our client",
            Some(Fault::Answer(
                401,
                "application/json",
                r#"{"error":"invalid_client"}"#,
            )),
            json!({}),
        ),
        ("more than was asked for", None, more),
        ("another type of token", None, json!({"token_type": "N_A"})),
        ("a token that is over", None, json!({"expires_in": 0})),
        ("no token", None, json!({"access_token": null})),
    ] {
        let rig = Rig::with(routes).await;
        let mut browser = rig.browser();
        {
            let mut script = rig.provider.script();
            script.token_fault = fault;
            script.token_members = members;
        }
        for _ in 0..5 {
            let answer = get(&mut browser, "/catalogue/1").await;
            assert_eq!(answer.error_code(), "provider_error", "{name}");
            assert!(
                !answer.body.contains("canary") && !answer.body.contains("scope"),
                "{name}"
            );
            rig.advance(1);
        }
        assert_eq!(rig.provider.script().token_forms.len(), 1, "{name}");
        {
            let mut script = rig.provider.script();
            script.token_fault = None;
            script.token_members = json!({});
        }
        rig.advance(15);
        passes(&rig, &mut browser, "/catalogue/1").await;
        assert!(
            rig.api.seen.lock().expect("no panic").is_empty(),
            "{name}: nothing else went on"
        );
    }
}

#[tokio::test]
async fn another_site_gets_nothing_done_with_the_clients_token() {
    let rig = Rig::with(|config| {
        routes(config);
        config.app_url = Some("https://www.example/".to_owned());
        config.origins = Some(vec!["https://www.example".to_owned()]);
    })
    .await;
    let browser = rig.browser();
    let send = async |method: Method, changes: &[(&'static str, &'static str)]| {
        let mut request = browser.fetch_request(&method, "/catalogue/1", "");
        for (name, value) in changes {
            let name = HeaderName::from_static(name);
            request.headers_mut().remove(&name);
            if !value.is_empty() {
                request
                    .headers_mut()
                    .insert(name, HeaderValue::from_static(value));
            }
        }
        browser.send(request).await
    };
    const SPA: (&str, &str) = ("origin", "https://www.example");
    const SIBLING: (&str, &str) = ("sec-fetch-site", "same-site");
    for (name, method, changes, code) in [
        (
            "no header",
            Method::GET,
            &[("token-handler-version", "")][..],
            "csrf_rejected",
        ),
        (
            "another site",
            Method::GET,
            &[("sec-fetch-site", "cross-site")],
            "csrf_rejected",
        ),
        (
            "its origin",
            Method::GET,
            &[("origin", "https://evil.example")],
            "origin_not_allowed",
        ),
        (
            "a navigation",
            Method::GET,
            &[("sec-fetch-site", "none"), ("token-handler-version", "")],
            "csrf_rejected",
        ),
        (
            "a form",
            Method::POST,
            &[SPA, SIBLING, ("token-handler-version", "")],
            "csrf_rejected",
        ),
        ("no origin", Method::POST, &[("origin", "")], "csrf_rejected"),
    ] {
        let answer = send(method, changes).await;
        assert_eq!(answer.error_code(), code, "{name}");
    }
    assert!(rig.api.seen.lock().expect("no panic").is_empty());
    assert_eq!(asked(&rig), 0, "nor is a token asked for");
    let answer = send(Method::POST, &[SPA, SIBLING]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN],
        "https://www.example"
    );

    let preflight = |origin: &'static str| {
        let request = Request::builder()
            .method(Method::OPTIONS)
            .uri("/catalogue/1")
            .header(header::HOST, "shop.example")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "token-handler-version");
        browser.send(
            request
                .body(http_body_util::Full::default())
                .expect("a good request"),
        )
    };
    assert_eq!(
        preflight("https://www.example").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        preflight("https://evil.example").await.error_code(),
        "origin_not_allowed"
    );
}

/// Answers of an API that does not take the token.
async fn refused_by_api(rig: &Rig, challenge: &'static str) -> (StatusCode, String) {
    let got = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let seen = std::sync::Arc::clone(&got);
    let api = tower::service_fn(move |request: Request<http_body_util::Full<bytes::Bytes>>| {
        let value = request.headers()[header::AUTHORIZATION].to_str().expect("ASCII");
        value.clone_into(&mut seen.lock().expect("no panic"));
        let mut response = http::Response::new(http_body_util::Full::<bytes::Bytes>::default());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    let service = tower::Layer::layer(&rig.handler.layer(), api);
    let request = rig.browser().fetch_request(&Method::GET, "/catalogue/1", "");
    let status = service.oneshot(request).await.expect("it never fails").status();
    let got = got.lock().expect("no panic").clone();
    (status, got)
}

#[tokio::test]
async fn a_token_that_an_api_calls_invalid_is_forgotten_once_in_ten_seconds() {
    const INVALID: &str = r#"Bearer error="invalid_token""#;
    let rig = Rig::with(routes).await;
    let (status, first) = refused_by_api(&rig, r#"Bearer error="insufficient_scope""#).await;
    assert_eq!((status, asked(&rig)), (StatusCode::UNAUTHORIZED, 1));
    let (status, token) = refused_by_api(&rig, INVALID).await;
    assert!(
        status == StatusCode::UNAUTHORIZED && token == first,
        "the call itself stays as it is"
    );
    assert_eq!(asked(&rig), 1);
    // the next one has another
    let (_, second) = refused_by_api(&rig, INVALID).await;
    assert!(second != first && asked(&rig) == 2);
    // and an api that refuses every token does not have one issued for every call
    for _ in 0..10 {
        let (_, token) = refused_by_api(&rig, INVALID).await;
        assert_eq!((token.as_str(), asked(&rig)), (second.as_str(), 2));
    }
    rig.advance(10);
    refused_by_api(&rig, INVALID).await;
    let (_, third) = refused_by_api(&rig, INVALID).await;
    assert!(third != second && asked(&rig) == 3);
    let mut text = String::new();
    rig.handler.render_client_tokens(&mut text);
    for line in [
        "coatroom_client_token_requests_total{application=\"shop\",outcome=\"issued\"} 3\n",
        "coatroom_client_token_requests_total{application=\"shop\",outcome=\"refused\"} 0\n",
        "coatroom_client_tokens_forgotten_total{application=\"shop\"} 2\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    for part in ["canary", CLIENT_SECRET] {
        assert!(!text.contains(part));
    }
}

#[tokio::test]
async fn without_such_routes_nothing_is_counted() {
    let rig = Rig::new().await;
    let mut text = String::new();
    rig.handler.render_client_tokens(&mut text);
    assert!(text.is_empty());
}

#[tokio::test]
async fn bound_tokens_have_a_key_of_their_own_and_a_proof_for_each_call() {
    let rig = Rig::with(|config| {
        routes(config);
        provider_of(config).dpop = Some("ES256".to_owned());
    })
    .await;
    {
        let mut script = rig.provider.script();
        script.dpop = true;
        script.nonces.demanded = true;
    }
    let mut browser = rig.signed_in().await;
    let call = async |browser: &mut Browser, path: &str| {
        let answer = get(browser, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        let request = rig.api.last();
        let value = request.headers()[header::AUTHORIZATION]
            .to_str()
            .expect("ASCII")
            .to_owned();
        let token = value.strip_prefix("DPoP ").expect("a bound token").to_owned();
        let proof = proof(request.headers()).expect("a good proof");
        assert_eq!(rig.provider.key_of(&token).as_ref(), Some(&proof.jkt), "{path}");
        (token, proof.jkt, proof.claims["jti"].to_string())
    };
    let (token, key, one) = call(&mut browser, "/catalogue/1").await;
    let (again, same, other) = call(&mut browser, "/prices/1").await;
    assert!(token == again && key == same && one != other);
    let (_, users, _) = call(&mut browser, "/api/1").await;
    let (_, stock, _) = call(&mut browser, "/stock/1").await;
    assert!(users != key && stock != key && stock != users);
    // a bearer token in its place is a downgrade
    rig.provider.script().downgrades = true;
    rig.advance(280);
    assert_eq!(
        get(&mut browser, "/catalogue/1").await.error_code(),
        "provider_error"
    );
}

#[tokio::test]
async fn a_reload_asks_at_once_again_for_what_failed_before() {
    let rig = Rig::with(routes).await;
    let mut browser = rig.browser();
    rig.provider.script().token_fault = Some(Fault::Answer(
        400,
        "application/json",
        r#"{"error":"invalid_scope"}"#,
    ));
    assert_eq!(
        get(&mut browser, "/catalogue/1").await.error_code(),
        "provider_error"
    );
    // somebody allows it at the provider, and reloads
    rig.provider.script().token_fault = None;
    assert_eq!(
        get(&mut browser, "/catalogue/1").await.error_code(),
        "provider_error"
    );
    let mut config = config(&rig.provider.issuer);
    routes(&mut config);
    rig.handler
        .reload(vec![checked(config)], ring(&[OLD_KEY]))
        .expect("a good configuration");
    passes(&rig, &mut browser, "/catalogue/1").await;
}

#[tokio::test]
async fn a_reload_keeps_the_tokens_of_the_same_client_and_drops_those_of_another() {
    let rig = Rig::with(routes).await;
    let mut browser = rig.browser();
    let first = passes(&rig, &mut browser, "/catalogue/1").await;
    let reload = |change: &dyn Fn(&mut ApplicationConfig)| {
        let mut config = config(&rig.provider.issuer);
        change(&mut config);
        rig.handler
            .reload(vec![checked(config)], ring(&[OLD_KEY]))
            .expect("a good configuration");
    };
    reload(&|config| {
        routes(config);
        config
            .routes
            .push(ours("/more/", ClientCredentialsConfig::default()));
    });
    assert_eq!(passes(&rig, &mut browser, "/catalogue/1").await, first);
    reload(&|config| {
        let grant = ClientCredentialsConfig {
            scopes: Some(vec!["catalogue:all".to_owned()]),
            ..ClientCredentialsConfig::default()
        };
        config.routes.push(ours("/catalogue/", grant));
    });
    let second = passes(&rig, &mut browser, "/catalogue/1").await;
    assert_ne!(second, first, "other scopes");
    reload(&routes);
    let third = passes(&rig, &mut browser, "/catalogue/1").await;
    assert!(third != first && third != second, "it was gone");
    rig.provider.script().credentials = Some(Box::new(|_, _| true));
    reload(&|config| {
        routes(config);
        provider_of(config).client_secret = Some(Secret::new("another"));
    });
    let fourth = passes(&rig, &mut browser, "/catalogue/1").await;
    assert_ne!(fourth, third, "another client");
    let mut text = String::new();
    rig.handler.render_client_tokens(&mut text);
    assert!(text.contains("outcome=\"issued\"} 4\n"), "counted on: {text}");
}
