//! The Layer where embedders put it: under axum, on per-core runtimes with an `Rc` inside, under
//! `lambda_http`.

use std::convert::Infallible;
use std::rc::Rc;

use coatroom::Session;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, Service as _, ServiceExt as _};

use crate::support::{Rig, START, checked, config, keys};

#[expect(dead_code, reason = "`main` is for whoever runs the example")]
#[path = "../../examples/axum.rs"]
mod axum_example;
#[expect(dead_code, reason = "`main` is for whoever runs the example")]
#[path = "../../examples/lambda.rs"]
mod lambda_example;
#[expect(dead_code, reason = "`main` is for whoever runs the example")]
#[path = "../../examples/tower.rs"]
mod tower_example;

fn handler() -> coatroom::TokenHandler {
    coatroom::TokenHandler::builder(vec![checked(config("http://127.0.0.1:1"))], keys())
        .clock(std::sync::Arc::new(coatroom::clock::ManualClock::new(START)))
        .build()
        .expect("builds")
}

#[tokio::test]
async fn under_axum() {
    let router = axum::Router::new()
        .route("/orders", axum::routing::get(|| async { "orders" }))
        .route("/public/status", axum::routing::get(|| async { "fine" }));
    // a Layer that changes paths wraps the router: routing happens behind it
    let service = handler().layer().layer(router);
    for (path, status) in [
        ("/api/orders", StatusCode::UNAUTHORIZED),
        ("/public/status", StatusCode::OK),
        ("/nowhere", StatusCode::NOT_FOUND),
    ] {
        let request = Request::builder()
            .uri(path)
            .header("host", "shop.example")
            .header("token-handler-version", "1")
            .body(axum::body::Body::empty())
            .expect("a request");
        let response = service.clone().oneshot(request).await.expect("never fails");
        assert_eq!(response.status(), status, "{path}");
    }
}

#[test]
fn on_a_per_core_runtime_with_an_rc_inside() {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("runs");
    let handler = control.block_on(async { handler() });
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let pool = Rc::new(std::cell::Cell::new(0));
            let inner = tower::service_fn(move |_: Request<Full<bytes::Bytes>>| {
                let pool = Rc::clone(&pool);
                async move {
                    pool.set(pool.get() + 1);
                    Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from("inner")))
                }
            });
            let mut service = handler.layer().layer(inner);
            for (path, status) in [("/public/x", StatusCode::OK), ("/auth/session", StatusCode::OK)] {
                let request = Request::builder()
                    .uri(path)
                    .header("host", "shop.example")
                    .header("token-handler-version", "1")
                    .header("sec-fetch-site", "same-origin")
                    .body(Full::default())
                    .expect("a request");
                let response = service
                    .ready()
                    .await
                    .expect("ready")
                    .call(request)
                    .await
                    .expect("never fails");
                assert_eq!(response.status(), status, "{path}");
            }
        });
    })
    .join()
    .expect("the core's thread ends well");
}

#[tokio::test]
async fn under_lambda_http() {
    let event = r#"{
        "version": "2.0", "routeKey": "$default", "rawPath": "/auth/session", "rawQueryString": "",
        "headers": {"host": "shop.example", "token-handler-version": "1", "sec-fetch-site": "same-origin"},
        "requestContext": {"http": {"method": "GET", "path": "/auth/session", "protocol": "HTTP/1.1",
            "sourceIp": "192.0.2.1", "userAgent": "test"}, "domainName": "shop.example", "stage": "$default",
            "accountId": "1", "apiId": "1", "requestId": "1", "routeKey": "$default", "time": "x", "timeEpoch": 1},
        "isBase64Encoded": false
    }"#;
    let request = lambda_http::request::from_str(event).expect("an API Gateway event");
    let inner = tower::service_fn(|_: Request<lambda_http::Body>| async {
        Ok::<_, Infallible>(Response::new(lambda_http::Body::from("inner")))
    });
    let service = handler().layer().layer(inner);
    let response = service.oneshot(request).await.expect("never fails");
    assert_eq!(response.status(), StatusCode::OK);
    // what `lambda_http::run` needs of a service's answer
    let response = lambda_http::IntoResponse::into_response(response).await;
    assert_eq!(response.headers()["content-type"], "application/json");
}

/// The examples have `/api/` as it is.
async fn example_rig() -> Rig {
    Rig::with(|config| config.routes[0].strip_prefix = false).await
}

/// What a service of an example says to a browser that is signed in, and to one that is not.
async fn check_example<S, B, R>(rig: &Rig, service: S, body: fn(Full<bytes::Bytes>) -> B)
where
    S: tower::Service<Request<B>, Response = Response<R>, Error = Infallible> + Clone,
    R: http_body::Body<Error: std::fmt::Debug>,
{
    for (browser, status, says) in [
        (rig.browser(), StatusCode::UNAUTHORIZED, "unauthorized"),
        (rig.signed_in().await, StatusCode::OK, "token: true"),
    ] {
        let request = browser.fetch_request(&http::Method::GET, "/api/orders", "");
        let response = service
            .clone()
            .oneshot(request.map(body))
            .await
            .expect("never fails");
        assert_eq!(response.status(), status);
        let text = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(text.to_vec()).expect("text");
        assert!(text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn the_example_for_axum_does_what_it_says() {
    let rig = example_rig().await;
    check_example(&rig, axum_example::service(&rig.handler), axum::body::Body::new).await;
}

#[tokio::test]
async fn the_example_for_tower_does_what_it_says() {
    let rig = example_rig().await;
    let service = rig
        .handler
        .layer()
        .layer(tower::service_fn(tower_example::orders));
    check_example(&rig, service, |body| body).await;
}

#[tokio::test]
async fn the_example_for_lambda_does_what_it_says() {
    let rig = example_rig().await;
    let service = rig
        .handler
        .layer()
        .layer(tower::service_fn(lambda_example::orders));
    check_example(&rig, service, |_| lambda_http::Body::Empty).await;
}

#[test]
fn each_example_has_forty_lines_at_most() {
    for (name, text) in [
        ("axum", include_str!("../../examples/axum.rs")),
        ("tower", include_str!("../../examples/tower.rs")),
        ("lambda", include_str!("../../examples/lambda.rs")),
    ] {
        assert!(text.lines().count() <= 40, "{name}");
    }
}

#[tokio::test]
async fn a_wrapped_service_is_told_the_session_and_when_it_ends() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    let session = browser.fetch(http::Method::GET, "/auth/session", "").await.json()["session"].clone();
    browser.fetch(http::Method::GET, "/api/x", "").await;
    browser.fetch(http::Method::GET, "/public/x", "").await;
    let seen = rig.api.seen.lock().expect("no panic");
    let told = seen[0].extensions.get::<Session>().expect("a session");
    assert_eq!(session["id"], told.id.public());
    let left = |at: coatroom_core::time::UnixTime| at.0.saturating_sub(rig.now());
    assert_eq!(session["expires_in"], left(told.ends_at));
    assert!(left(told.honoured_until) > 0 && told.honoured_until <= told.ends_at);
    let matched = seen[0].extensions.get::<coatroom::Matched>().expect("a route");
    let route = matched.route().prefix.as_str();
    assert_eq!((matched.application.id.as_str(), route), ("shop", "/api"));
    assert_eq!(seen[1].extensions.get::<Session>(), None, "no token, no session");
}
