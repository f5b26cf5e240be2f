//! The proxy: who gets a token, what reaches the API, what comes back.

use coatroom_core::config::HstsConfig;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use crate::support::browser::Site;
use crate::support::{Rig, route};

#[tokio::test]
async fn routes_ask_for_what_they_say() {
    struct Case {
        name: &'static str,
        path: &'static str,
        signed_in: bool,
        status: StatusCode,
        token: bool,
    }
    let cases = [
        Case {
            name: "required, signed in",
            path: "/api/x",
            signed_in: true,
            status: StatusCode::OK,
            token: true,
        },
        Case {
            name: "required, signed out",
            path: "/api/x",
            signed_in: false,
            status: StatusCode::UNAUTHORIZED,
            token: false,
        },
        Case {
            name: "optional, signed in",
            path: "/maybe/x",
            signed_in: true,
            status: StatusCode::OK,
            token: true,
        },
        Case {
            name: "optional, signed out",
            path: "/maybe/x",
            signed_in: false,
            status: StatusCode::OK,
            token: false,
        },
        Case {
            name: "none, signed in",
            path: "/public/x",
            signed_in: true,
            status: StatusCode::OK,
            token: false,
        },
        Case {
            name: "none, signed out",
            path: "/public/x",
            signed_in: false,
            status: StatusCode::OK,
            token: false,
        },
        Case {
            name: "no such route",
            path: "/elsewhere",
            signed_in: true,
            status: StatusCode::NOT_FOUND,
            token: false,
        },
        Case {
            name: "no such endpoint",
            path: "/auth/unheard-of",
            signed_in: true,
            status: StatusCode::NOT_FOUND,
            token: false,
        },
    ];
    for case in cases {
        let rig = Rig::new().await;
        let mut browser = if case.signed_in {
            rig.signed_in().await
        } else {
            rig.browser()
        };
        let answer = browser.fetch(Method::GET, case.path, "").await;
        assert_eq!(answer.status, case.status, "{}: {}", case.name, answer.body);
        let seen = rig.api.seen.lock().expect("no panic");
        let token = seen
            .first()
            .is_some_and(|parts| parts.headers.contains_key(header::AUTHORIZATION));
        assert_eq!(token, case.token, "{}", case.name);
    }
}

#[tokio::test]
async fn an_expired_session_is_never_silently_anonymous() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    rig.advance(300);
    let answer = browser.fetch(Method::GET, "/maybe/x", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "access_token_expired")
    );
    let request = browser.fetch_request(&Method::GET, "/maybe/x", "");
    let (mut parts, body) = request.into_parts();
    parts.headers.remove("token-handler-version");
    let answer = browser.send(http::Request::from_parts(parts, body)).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::FORBIDDEN, "csrf_rejected")
    );
}

#[tokio::test]
async fn a_document_navigation_to_an_api_is_401_never_a_redirect() {
    let rig = Rig::new().await;
    let answer = rig.browser().navigate("/api/orders", Site::Same).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::UNAUTHORIZED, "unauthorized")
    );
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[tokio::test]
async fn what_a_client_says_of_itself_never_reaches_the_api() {
    let rig = Rig::new().await;
    let browser = rig.signed_in().await;
    let (mut parts, body) = browser.fetch_request(&Method::GET, "/api/x", "").into_parts();
    for (name, value) in [
        ("authorization", "Bearer mine"),
        ("proxy-authorization", "Basic mine"),
        ("x-forwarded-user", "mallory"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "gopher"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("remote-user", "mallory"),
        ("x-auth-request-user", "mallory"),
        ("x.forwarded.user", "mallory"),
        ("x-webauth-user", "mallory"),
        ("dpop", "proof"),
        ("connection", "authorization, x-forwarded-for, x-mine"),
        ("x-mine", "hop"),
        ("te", "trailers, deflate"),
        ("accept-language", "de"),
    ] {
        parts
            .headers
            .append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let cookies = parts.headers[header::COOKIE].to_str().expect("ASCII").to_owned() + "; other=1";
    parts
        .headers
        .insert(header::COOKIE, cookies.parse().expect("a value"));
    let answer = browser.send(http::Request::from_parts(parts, body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let seen = rig.api.seen.lock().expect("no panic");
    let headers = &seen[0].headers;
    let values = |name: &str| {
        headers
            .get_all(name)
            .iter()
            .map(|v| v.to_str().expect("ASCII"))
            .collect::<Vec<_>>()
    };
    assert_eq!(values("authorization").len(), 1);
    assert!(values("authorization")[0].starts_with("Bearer canary-access"));
    assert_eq!(values("accept-language"), ["de"]);
    assert_eq!(values("x-forwarded-proto"), ["https"]);
    assert_eq!(values("x-forwarded-host"), ["shop.example"]);
    for name in [
        "proxy-authorization",
        "x-forwarded-user",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "remote-user",
        "x-auth-request-user",
        "x.forwarded.user",
        "x-webauth-user",
        "dpop",
        "x-mine",
        "cookie",
        "connection",
        "token-handler-version",
    ] {
        assert!(values(name).is_empty(), "{name}: {:?}", values(name));
    }
    assert!(
        headers
            .values()
            .all(|value| !value.to_str().unwrap_or_default().contains("6.6.6.6"))
    );
}

#[tokio::test]
async fn a_header_name_with_an_underscore_is_refused_and_the_connection_closed() {
    let rig = Rig::new().await;
    let browser = rig.signed_in().await;
    for name in ["x_forwarded_user", "content_length", "x_a"] {
        let (mut parts, body) = browser.fetch_request(&Method::GET, "/api/x", "").into_parts();
        parts
            .headers
            .insert(HeaderName::from_static(name), HeaderValue::from_static("5"));
        let answer = browser.send(http::Request::from_parts(parts, body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
        assert_eq!(answer.headers["token-handler-error"], "invalid_request");
        assert_eq!(answer.headers["connection"], "close");
    }
    assert!(rig.api.seen.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_route_passes_the_cookies_it_names_and_no_other() {
    let rig = Rig::with(|config| config.routes[0].cookies = vec!["theme".to_owned()]).await;
    let mut browser = rig.signed_in().await;
    let (mut parts, body) = browser.fetch_request(&Method::GET, "/api/x", "").into_parts();
    let cookies = parts.headers[header::COOKIE].to_str().expect("ASCII").to_owned() + "; theme=dark; other=1";
    parts
        .headers
        .insert(header::COOKIE, cookies.parse().expect("a value"));
    browser.send(http::Request::from_parts(parts, body)).await;
    assert_eq!(
        rig.api.seen.lock().expect("no panic")[0].headers["cookie"],
        "theme=dark"
    );
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn what_an_api_must_not_say_never_reaches_the_browser() {
    let rig = Rig::new().await;
    let browser = rig.signed_in().await;
    for (name, value) in [
        (
            "set-cookie",
            "__Host-Http-shop-access=tossed; Path=/; Secure; HttpOnly",
        ),
        (
            "set-cookie",
            "__secure-other-session.2=tossed; Path=/auth; Secure",
        ),
        ("set-cookie", "theme=dark; Path=/"),
        ("clear-site-data", "\"cookies\""),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("token-handler-error", "session_expired"),
        ("x-api", "kept"),
        // an API's own demand for a stronger sign-in is the SPA's to read (RFC 9470 §3)
        (
            "www-authenticate",
            "Bearer error=\"insufficient_user_authentication\", acr_values=\"gold\"",
        ),
    ] {
        let pair = (HeaderName::from_static(name), HeaderValue::from_static(value));
        rig.api.answer.lock().expect("no panic").push(pair);
    }
    let answer = browser.fetch_late(Method::GET, "/api/x", "").await;
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["theme=dark; Path=/"]);
    for name in [
        "clear-site-data",
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "x-hop",
        "token-handler-error",
    ] {
        assert!(!answer.headers.contains_key(name), "{name}");
    }
    assert_eq!(answer.headers["x-api"], "kept");
    assert!(
        answer.headers["www-authenticate"]
            .to_str()
            .is_ok_and(|challenge| challenge.ends_with("acr_values=\"gold\""))
    );
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn answers_to_tokens_are_private_to_caches() {
    struct Case {
        said: &'static str,
        path: &'static str,
        want: &'static str,
    }
    let cases = [
        Case {
            said: "",
            path: "/api/x",
            want: "private",
        },
        Case {
            said: "public, max-age=60, s-maxage=600",
            path: "/api/x",
            want: "private",
        },
        Case {
            said: "no-store",
            path: "/api/x",
            want: "no-store",
        },
        Case {
            said: "public, s-maxage=600",
            path: "/shared/x",
            want: "public, s-maxage=600",
        },
        Case {
            said: "public, s-maxage=600",
            path: "/public/x",
            want: "public, s-maxage=600",
        },
    ];
    for case in cases {
        let rig = Rig::with(|config| {
            let mut shared = route("/shared/");
            shared.cache = Some("public".to_owned());
            config.routes.push(shared);
        })
        .await;
        let mut browser = rig.signed_in().await;
        if !case.said.is_empty() {
            let pair = (header::CACHE_CONTROL, HeaderValue::from_static(case.said));
            rig.api.answer.lock().expect("no panic").push(pair);
        }
        let answer = browser.fetch(Method::GET, case.path, "").await;
        let got = answer.headers["cache-control"].to_str().expect("ASCII");
        assert!(got.contains(case.want), "{}: {got}", case.path);
        if case.want == "private" {
            assert!(!got.contains("public") && !got.contains("s-maxage"), "{got}");
            let vary: Vec<_> = answer.headers.get_all("vary").iter().collect();
            assert!(
                vary.iter()
                    .any(|value| value.to_str().expect("ASCII").contains("Cookie")),
                "{vary:?}"
            );
        }
    }
}

#[tokio::test]
async fn paths_with_two_readings_are_refused() {
    for path in [
        "/api/../public/x",
        "/api/%2e%2e/public/x",
        "/api/%2E./x",
        "/public/..%2fapi/x",
        "/public%2fx",
        "/public/%5c..%5capi/x",
        "/public/..;/api/x",
        "/public//x",
        "/public/%252e%252e/api/x",
        "/public/%00",
        "/public/%zz",
        "/public/%c0%ae%c0%ae/x",
    ] {
        let rig = Rig::new().await;
        let mut browser = rig.signed_in().await;
        let answer = browser.fetch(Method::GET, path, "").await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (StatusCode::BAD_REQUEST, "invalid_request"),
            "{path}"
        );
        assert!(rig.api.seen.lock().expect("no panic").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn unknown_hosts_are_misdirected() {
    let rig = Rig::new().await;
    let browser = rig.signed_in().await;
    for hosts in [
        &[][..],
        &["evil.example"],
        &["shop.example."],
        &["shop.example:8443"],
    ] {
        let (mut parts, body) = browser.fetch_request(&Method::GET, "/api/x", "").into_parts();
        parts.headers.remove(header::HOST);
        for host in hosts {
            parts.headers.append(header::HOST, HeaderValue::from_static(host));
        }
        let answer = browser.send(http::Request::from_parts(parts, body)).await;
        let got = (answer.status, answer.error_code());
        assert_eq!(
            got,
            (StatusCode::MISDIRECTED_REQUEST, "misdirected_request".to_owned()),
            "{hosts:?}"
        );
    }
    for host in ["shop.example", "evil.example"] {
        let (mut parts, body) = browser.fetch_request(&Method::GET, "/api/x", "").into_parts();
        parts.headers.append(header::HOST, HeaderValue::from_static(host));
        let answer = browser.send(http::Request::from_parts(parts, body)).await;
        let got = (answer.status, answer.error_code());
        let expected = (StatusCode::BAD_REQUEST, "invalid_request".to_owned());
        assert_eq!(got, expected, "a second host, {host}");
        assert_eq!(answer.headers["connection"], "close");
    }
    for host in ["SHOP.example", "shop.example:443"] {
        let (mut parts, body) = browser.fetch_request(&Method::GET, "/api/x", "").into_parts();
        parts.headers.insert(header::HOST, HeaderValue::from_static(host));
        let answer = browser.send(http::Request::from_parts(parts, body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
}

#[tokio::test]
async fn methods_are_checked() {
    let rig = Rig::with(|config| config.routes[0].methods = Some(vec!["GET".to_owned()])).await;
    let mut browser = rig.signed_in().await;
    let answer = browser.fetch(Method::POST, "/api/x", "").await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
    );
    assert!(answer.headers["allow"].to_str().expect("ASCII").contains("GET"));
    let answer = browser.fetch(Method::GET, "/auth/logout", "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn every_answer_over_tls_says_strict_transport_security_and_an_api_does_not_say_it_for_us() {
    for (setting, expected) in [
        (HstsConfig::Default, Some("max-age=31536000")),
        (HstsConfig::Off, None),
    ] {
        let name = format!("{setting:?}");
        let rig = Rig::with(|config| config.hsts = setting.clone()).await;
        let said = "max-age=1; includeSubDomains";
        let pair = (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(said));
        rig.api.answer.lock().expect("no panic").push(pair);
        let mut browser = rig.browser();
        for (path, status) in [
            ("/auth/session", StatusCode::OK),
            ("/auth/nothing", StatusCode::NOT_FOUND),
            ("/api/x", StatusCode::UNAUTHORIZED),
            ("/public/x", StatusCode::OK),
        ] {
            let answer = browser.fetch(Method::GET, path, "").await;
            assert_eq!(answer.status, status, "{name} {path}");
            let values = answer.headers.get_all(header::STRICT_TRANSPORT_SECURITY);
            let values: Vec<_> = values
                .iter()
                .map(|value| value.to_str().expect("ASCII"))
                .collect();
            let is_apis = setting == HstsConfig::Off && path == "/public/x";
            let expected: Vec<&str> = if is_apis {
                vec![said]
            } else {
                expected.into_iter().collect()
            };
            assert_eq!(values, expected, "{name} {path}");
        }
    }
}

#[tokio::test]
async fn behind_a_websocket_that_is_not_to_be_the_connection_ends_whatever_the_answer() {
    let rig = Rig::new().await;
    let mut browser = rig.signed_in().await;
    assert_eq!(
        browser
            .fetch(Method::GET, "/api/x", "")
            .await
            .headers
            .get(header::CONNECTION),
        None
    );
    let mut request = browser.fetch_request(&Method::GET, "/api/x", "");
    for (name, value) in [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("origin", "https://shop.example"),
    ] {
        request
            .headers_mut()
            .insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // the API knows no WebSockets and answers like any other call
    let answer = browser.send(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers[header::CONNECTION], "close");
}
