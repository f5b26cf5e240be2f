//! The Layer where embedders put it: under axum, on per-core runtimes with an `Rc` inside, under
//! `lambda_http`.

use std::convert::Infallible;
use std::rc::Rc;

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer as _, Service as _, ServiceExt as _};

use crate::support::{START, checked, config, keys};

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
