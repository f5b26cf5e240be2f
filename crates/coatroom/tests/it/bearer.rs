//! Routes of tokens (`auth: bearer`): a client's own token goes on, and nothing else counts.

use bytes::Bytes;
use coatroom_core::config::RouteConfig;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;

use crate::support::{Rig, route};

const TOKEN: &str = "Bearer canary-access-of-the-client";
const PROOF: &str = "eyJh.eyJi.c2ln";

async fn rig() -> Rig {
    Rig::with(|config| {
        config.origins = Some(vec![
            "https://shop.example".to_owned(),
            "https://www.example".to_owned(),
        ]);
        config.routes.push(RouteConfig {
            auth: Some("bearer".to_owned()),
            ..route("/clients/")
        });
    })
    .await
}

fn call(method: &Method, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri("/clients/x")
        .header(header::HOST, "shop.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).expect("a good request")
}

#[tokio::test]
async fn a_clients_own_token_goes_on_and_no_proof_of_a_session_is_needed() {
    let rig = rig().await;
    let browser = rig.browser();
    for (headers, authorization, proof) in [
        (&[("authorization", TOKEN)][..], TOKEN, None),
        (
            &[("authorization", "dpop abc"), ("dpop", PROOF)],
            "DPoP abc",
            Some(PROOF),
        ),
        // nobody has our tokens removed on the way
        (
            &[("authorization", TOKEN), ("connection", "authorization, dpop")],
            TOKEN,
            None,
        ),
    ] {
        let mut headers = headers.to_vec();
        headers.extend([("cookie", "theme=dark"), ("x-forwarded-user", "mallory")]);
        let answer = browser.send(call(&Method::POST, &headers)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.headers[header::CACHE_CONTROL], "private");
        let vary: Vec<_> = answer.headers.get_all(header::VARY).iter().collect();
        assert!(
            vary.contains(&&HeaderValue::from_static("Authorization")),
            "{vary:?}"
        );
        let seen = rig.api.last();
        assert_eq!(seen.headers()[header::AUTHORIZATION], authorization);
        assert_eq!(
            seen.headers().get("dpop").map(|v| v.to_str().expect("ASCII")),
            proof
        );
        assert!(!seen.headers().contains_key(header::COOKIE));
        assert!(!seen.headers().contains_key("x-forwarded-user"));
    }
}

#[tokio::test]
async fn what_is_not_one_readable_token_never_reaches_the_api() {
    let rig = rig().await;
    let browser = rig.browser();
    type Row = (&'static [(&'static str, &'static str)], u16, &'static str);
    let rows: &[Row] = &[
        (&[], 401, "unauthorized"),
        (&[("authorization", "Basic YTpi")], 401, "unauthorized"),
        (&[("authorization", "Negotiate abc")], 401, "unauthorized"),
        (&[("dpop", PROOF)], 401, "unauthorized"),
        (&[("authorization", "Bearer a b")], 400, "invalid_request"),
        (&[("authorization", "Bearer")], 400, "invalid_request"),
        (&[("authorization", "DPoP a")], 400, "invalid_request"),
        (
            &[("authorization", TOKEN), ("dpop", PROOF)],
            400,
            "invalid_request",
        ),
        (
            &[("authorization", TOKEN), ("authorization", TOKEN)],
            400,
            "invalid_request",
        ),
        (
            &[
                ("authorization", TOKEN),
                ("upgrade", "h2c"),
                ("connection", "upgrade"),
            ],
            400,
            "invalid_request",
        ),
    ];
    for (headers, status, code) in rows {
        let answer = browser.send(call(&Method::GET, headers)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error_code().as_str()),
            (*status, *code),
            "{headers:?}"
        );
        let challenge = answer.headers.get(header::WWW_AUTHENTICATE);
        assert_eq!(challenge.is_some_and(|value| value == "Bearer"), *status == 401);
        assert!(!answer.body.contains("canary"));
    }
    assert!(rig.api.seen.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_session_is_no_token_and_both_at_once_are_neither() {
    let rig = rig().await;
    let mut browser = rig.signed_in().await;
    let answer = browser.fetch(Method::GET, "/clients/x", "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error_code().as_str()),
        (401, "unauthorized")
    );
    let (mut parts, body) = browser.fetch_request(&Method::GET, "/clients/x", "").into_parts();
    parts
        .headers
        .insert(header::AUTHORIZATION, HeaderValue::from_static(TOKEN));
    let both = browser.send(Request::from_parts(parts, body)).await;
    assert_eq!(
        (both.status.as_u16(), both.error_code().as_str()),
        (400, "invalid_request")
    );
    assert!(rig.api.seen.lock().expect("no panic").is_empty());
    // and nobody is signed out by it
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn a_page_of_a_listed_origin_calls_with_a_token_and_without_credentials() {
    let rig = rig().await;
    let browser = rig.browser();
    *rig.api.answer.lock().expect("no panic") = vec![
        (
            HeaderName::from_static("dpop-nonce"),
            HeaderValue::from_static("n-1"),
        ),
        (
            HeaderName::from_static("access-control-allow-credentials"),
            HeaderValue::from_static("true"),
        ),
    ];
    let preflight = browser
        .send(call(
            &Method::OPTIONS,
            &[
                ("origin", "https://www.example"),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "authorization, dpop"),
            ],
        ))
        .await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT);
    assert_eq!(
        preflight.headers["access-control-allow-headers"],
        "authorization, dpop"
    );
    let called = browser
        .send(call(
            &Method::POST,
            &[
                ("origin", "https://www.example"),
                ("authorization", "DPoP abc"),
                ("dpop", PROOF),
            ],
        ))
        .await;
    assert_eq!(called.headers["dpop-nonce"], "n-1");
    let exposed = called.headers["access-control-expose-headers"]
        .to_str()
        .expect("ASCII");
    assert!(exposed.contains("DPoP-Nonce"), "{exposed}");
    let refused = browser
        .send(call(&Method::POST, &[("origin", "https://www.example")]))
        .await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    for answer in [&preflight, &called, &refused] {
        assert_eq!(
            answer.headers["access-control-allow-origin"],
            "https://www.example"
        );
        assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    }
    // a nonce between us and an API stays there
    let mut signed_in = rig.signed_in().await;
    let answer = signed_in.fetch(Method::GET, "/api/x", "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!answer.headers.contains_key("dpop-nonce"));
}

#[tokio::test]
async fn a_proxy_without_an_agent_passes_tokens_on_as_well() {
    let rig = rig().await;
    let proxy = rig.proxy_only_with(|config| {
        config.routes.push(RouteConfig {
            auth: Some("bearer".to_owned()),
            ..route("/clients/")
        });
    });
    let answer = proxy
        .browser()
        .send(call(&Method::GET, &[("authorization", TOKEN)]))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(proxy.api.last().headers()[header::AUTHORIZATION], TOKEN);
}
