//! CSRF and CORS: the guard's table, seen from outside.

use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};

use crate::support::Rig;
use crate::support::browser::{Answer, Browser};

/// Sends the browser's own request with some headers changed (an empty value removes one).
async fn send(
    browser: &Browser,
    method: Method,
    path: &str,
    changes: &[(&'static str, &'static str)],
) -> Answer {
    let (mut parts, body) = browser.fetch_request(&method, path, "").into_parts();
    for (name, value) in changes {
        parts.headers.remove(*name);
        if !value.is_empty() {
            parts
                .headers
                .append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
    browser.send(Request::from_parts(parts, body)).await
}

#[tokio::test]
async fn the_guard_refuses_what_is_not_the_spa() {
    struct Case {
        name: &'static str,
        method: Method,
        path: &'static str,
        changes: &'static [(&'static str, &'static str)],
        code: &'static str,
    }
    let cases = [
        Case {
            name: "no custom header",
            method: Method::GET,
            path: "/api/x",
            changes: &[("token-handler-version", "")],
            code: "csrf_rejected",
        },
        Case {
            name: "no custom header on session",
            method: Method::GET,
            path: "/auth/session",
            changes: &[("token-handler-version", "")],
            code: "csrf_rejected",
        },
        Case {
            name: "cross-site",
            method: Method::GET,
            path: "/api/x",
            changes: &[("sec-fetch-site", "cross-site")],
            code: "csrf_rejected",
        },
        Case {
            name: "a sibling without a listed origin",
            method: Method::GET,
            path: "/api/x",
            changes: &[("sec-fetch-site", "same-site")],
            code: "csrf_rejected",
        },
        Case {
            name: "a sibling's origin",
            method: Method::POST,
            path: "/api/x",
            changes: &[("origin", "https://evil.shop.example")],
            code: "origin_not_allowed",
        },
        Case {
            name: "a longer origin",
            method: Method::POST,
            path: "/auth/logout",
            changes: &[("origin", "https://shop.example.evil.example")],
            code: "origin_not_allowed",
        },
        Case {
            name: "another scheme",
            method: Method::POST,
            path: "/auth/logout",
            changes: &[("origin", "http://shop.example")],
            code: "origin_not_allowed",
        },
        Case {
            name: "origin null",
            method: Method::POST,
            path: "/auth/logout",
            changes: &[("origin", "null")],
            code: "origin_not_allowed",
        },
        Case {
            name: "an unsafe method without origin",
            method: Method::POST,
            path: "/auth/refresh",
            changes: &[("origin", "")],
            code: "csrf_rejected",
        },
        Case {
            name: "resources still refuse cross-site",
            method: Method::GET,
            path: "/media/x",
            changes: &[("token-handler-version", ""), ("sec-fetch-site", "cross-site")],
            code: "csrf_rejected",
        },
        Case {
            name: "resources without Fetch Metadata",
            method: Method::GET,
            path: "/media/x",
            changes: &[
                ("token-handler-version", ""),
                ("sec-fetch-site", ""),
                ("sec-fetch-mode", ""),
                ("sec-fetch-dest", ""),
            ],
            code: "csrf_rejected",
        },
        Case {
            name: "resources do not excuse a POST",
            method: Method::POST,
            path: "/media/x",
            changes: &[("token-handler-version", "")],
            code: "csrf_rejected",
        },
        Case {
            name: "a websocket without origin",
            method: Method::GET,
            path: "/api/x",
            changes: &[
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("token-handler-version", ""),
                ("origin", ""),
            ],
            code: "csrf_rejected",
        },
    ];
    let rig = Rig::new().await;
    let browser = rig.signed_in().await;
    for case in cases {
        let answer = send(&browser, case.method, case.path, case.changes).await;
        assert_eq!(
            answer.status,
            StatusCode::FORBIDDEN,
            "{}: {}",
            case.name,
            answer.body
        );
        assert_eq!(answer.error_code(), case.code, "{}", case.name);
        assert!(!answer.headers.contains_key("set-cookie"), "{}", case.name);
        assert!(
            !answer.headers.contains_key("access-control-allow-origin"),
            "{}",
            case.name
        );
    }
    assert!(rig.api.seen.lock().expect("no panic").is_empty());
    assert!(browser.clone().is_signed_in().await);
}

#[tokio::test]
async fn images_and_downloads_pass_where_a_route_says_so() {
    let rig = Rig::new().await;
    let browser = rig.signed_in().await;
    let changes = [
        ("token-handler-version", ""),
        ("sec-fetch-mode", "no-cors"),
        ("sec-fetch-dest", "image"),
    ];
    assert_eq!(
        send(&browser, Method::GET, "/media/photo", &changes).await.status,
        StatusCode::OK
    );
    assert_eq!(
        send(&browser, Method::GET, "/api/photo", &changes).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn the_navigation_endpoints_take_navigations_only() {
    let rig = Rig::new().await;
    let browser = rig.signed_in().await;
    for path in [
        "/auth/login",
        "/auth/callback?state=x&code=y",
        "/auth/logout/continue",
        "/auth/logout/callback",
    ] {
        for changes in [
            &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")][..],
            &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
            &[
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
                ("sec-purpose", "prefetch"),
            ],
        ] {
            let answer = send(&browser, Method::GET, path, changes).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {changes:?}");
            assert!(!answer.headers.contains_key("set-cookie"), "{path}");
            // of the guard's refusals too: the address may have a code in it
            assert_eq!(answer.headers["referrer-policy"], "no-referrer", "{path}");
        }
    }
}

#[tokio::test]
async fn a_listed_sibling_speaks_cors_and_nobody_else() {
    let rig = Rig::with(|config| {
        config.url = "https://shop.example".to_owned();
        config.app_url = Some("https://www.shop.example".to_owned());
    })
    .await;
    let mut browser = rig.browser();
    browser.origin = "https://www.shop.example".to_owned();
    let preflight = |origin: &'static str, path: &'static str| {
        Request::builder()
            .method(Method::OPTIONS)
            .uri(path)
            .header(header::HOST, "shop.example")
            .header(header::ORIGIN, origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "token-handler-version")
            .body(http_body_util::Full::default())
            .expect("a good request")
    };
    for path in ["/auth/login/start", "/api/x"] {
        let answer = browser.send(preflight("https://www.shop.example", path)).await;
        assert!(answer.status.is_success(), "{path}");
        assert_eq!(
            answer.headers["access-control-allow-origin"],
            "https://www.shop.example"
        );
        assert_eq!(answer.headers["access-control-allow-credentials"], "true");
        assert!(
            answer
                .headers
                .get_all("vary")
                .iter()
                .any(|value| value.to_str().expect("ASCII").contains("Origin"))
        );
        let answer = browser.send(preflight("https://evil.example", path)).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (StatusCode::FORBIDDEN, "origin_not_allowed")
        );
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    // errors of ours are readable too
    let answer = send(
        &browser,
        Method::POST,
        "/api/x",
        &[
            ("sec-fetch-site", "same-site"),
            ("origin", "https://www.shop.example"),
        ],
    )
    .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        answer.headers["access-control-allow-origin"],
        "https://www.shop.example"
    );
    assert!(
        answer.headers["access-control-expose-headers"]
            .to_str()
            .expect("ASCII")
            .contains("token-handler-error")
    );
    // and the whole sign-in works from there
    browser.sign_in(&rig.provider, "alice").await;
    assert!(browser.is_signed_in().await);
}
