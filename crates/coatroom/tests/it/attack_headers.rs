//! Header smuggling through the whole service: whatever a client says about identity, credentials,
//! its address or the connection, the API sees what we say, once.

use std::net::{IpAddr, Ipv4Addr};

use coatroom::Peer;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use crate::chance::{Chance, cases, report};
use crate::support::browser::Browser;
use crate::support::{Rig, route};

/// Stands in every value that must not arrive.
const MARK: &str = "mallory";

/// The address that the connection comes from.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

/// By which proxies, gateways and frameworks tell who somebody is, where they are, or what they
/// asked for; collected from their documentation, not from our list.
const NAMES: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy",
    "proxy-host",
    "proxy-connection",
    "cookie2",
    "dpop",
    "x-authorization",
    "x-access-token",
    "x-id-token",
    "x-jwt-assertion",
    "x-jwt-payload",
    "x-userinfo",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-forwarded-url",
    "x-forwarded-method",
    "x-forwarded-path",
    "x-forwarded-by",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    "x-forwarded-client-ip",
    "x-forward-for",
    "forwarded",
    "forwarded-for",
    "forwarded-for-ip",
    "x-real-ip",
    "real-ip",
    "client-ip",
    "true-client-ip",
    "cluster-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-originating-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-remote-user",
    "x-remote-groups",
    "remote-user",
    "remote-groups",
    "remote-email",
    "remote-name",
    "x-proxyuser-ip",
    "x-custom-ip-authorization",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-original-method",
    "x-original-remote-addr",
    "x-original-forwarded-for",
    "x-rewrite-url",
    "x-override-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-http-host-override",
    "x-http-destinationurl",
    "x-host",
    "x-scheme",
    "x-proto",
    "x-url-scheme",
    "front-end-https",
    "x-auth-request-user",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x-auth-request-access-token",
    "x-auth-user",
    "x-auth-username",
    "x-auth-roles",
    "x-auth-token",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-authentik-username",
    "x-authentik-groups",
    "x-webauth-user",
    "x-webauth-email",
    "x-user",
    "x-user-id",
    "x-user-email",
    "x-username",
    "x-vouch-user",
    "x-vouch-idp-accesstoken",
    "x-token-subject",
    "x-token-user-name",
    "x-token-user-roles",
    "x-consumer-id",
    "x-consumer-username",
    "x-consumer-custom-id",
    "x-credential-identifier",
    "x-anonymous-consumer",
    "x-pomerium-jwt-assertion",
    "x-pomerium-claim-email",
    "x-goog-iap-jwt-assertion",
    "x-goog-authenticated-user-email",
    "x-goog-authenticated-user-id",
    "x-endpoint-api-userinfo",
    "x-appengine-user-email",
    "x-appengine-inbound-appid",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    "x-amzn-oidc-accesstoken",
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-client-principal-name",
    "x-ms-token-aad-access-token",
    "x-arr-clientcert",
    "x-azure-clientip",
    "cf-connecting-ip",
    "cf-ipcountry",
    "cf-access-jwt-assertion",
    "cf-access-authenticated-user-email",
    "fastly-client-ip",
    "akamai-origin-hop",
    "ali-cdn-real-ip",
    "cdn-real-ip",
    "cloudfront-viewer-address",
    "oidc-claim-sub",
    "oidc-claim-email",
    "oidc-access-token",
    "tailscale-user-login",
    "tailscale-user-name",
    "iv-user",
    "iv-groups",
    "iv-creds",
    "sm-user",
    "sm-serversessionid",
    "shib-session-id",
    "mellon-name-id",
    "ssl-client-cert",
    "ssl-client-verify",
    "ssl-client-s-dn",
    "x-ssl-client-dn",
    "x-ssl-client-cert",
    "x-ssl-client-verify",
    "x-client-cert",
    "x-client-dn",
    "x-client-verify",
    "x-tls-client-cn",
    "client-cert",
    "client-cert-chain",
    "x-envoy-original-path",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-upstream-rq-timeout-ms",
    "wl-proxy-client-ip",
    "wl-proxy-client-cert",
    "x-middleware-subrequest",
    "http2-settings",
    "keep-alive",
    "token-handler-version",
];

/// A name as sent, by a client that hopes for a reader which folds it.
fn spelled(name: &str, chance: &mut Chance) -> String {
    match chance.below(9) {
        0 => name.to_uppercase(),
        1 => name.replace('-', "_"),
        2 => name.replacen('-', "_", 1),
        3 => name.replace('-', "."),
        4 => format!("{name}_"),
        5 => format!("_{name}"),
        6 => name
            .chars()
            .map(|c| {
                if chance.once_in(2) {
                    c.to_ascii_uppercase()
                } else {
                    c
                }
            })
            .collect(),
        7 => format!(
            "{name}{}",
            chance.pick(&["!", "~", "'", "|", "+", "^", "`", "*", "%", "$", "&", "#"])
        ),
        _ => name.to_owned(),
    }
}

fn value(chance: &mut Chance) -> String {
    match chance.below(8) {
        0 => format!("Bearer {MARK}"),
        1 => format!("Basic {MARK}"),
        2 => format!("  {MARK}\t"),
        3 => format!("for={MARK};proto=https"),
        4 => format!("{MARK}, {MARK}"),
        5 => format!("\"{MARK}\""),
        6 => format!("\u{ff3f}{MARK}"),
        _ => MARK.to_owned(),
    }
}

/// The client's additions to a request.
fn additions(chance: &mut Chance) -> Vec<(HeaderName, HeaderValue)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut named = Vec::new();
    for _ in 0..1 + chance.below(8) {
        let name = spelled(chance.pick(NAMES), chance);
        for _ in 0..1 + chance.below(2) {
            lines.push((name.clone(), value(chance)));
        }
        named.push(name);
    }
    if chance.once_in(2) {
        // have removed what we write, or have ours kept
        named.extend(
            [
                "authorization",
                "x-forwarded-for",
                "x-forwarded-proto",
                "host",
                "cookie",
                "close",
                "content-length",
            ]
            .into_iter()
            .filter(|_| chance.once_in(3))
            .map(str::to_owned),
        );
        let separator = *chance.pick(&[&", ", &",", &" ,\t", &",,"]);
        lines.push(("connection".to_owned(), named.join(separator)));
    }
    if chance.once_in(4) {
        let te = chance.pick(&[
            "trailers",
            "trailers, deflate;q=0.5",
            "gzip",
            "chunked",
            "mallory",
        ]);
        lines.push(("te".to_owned(), te.to_owned()));
    }
    if chance.once_in(6) {
        let coding = chance.pick(&[
            "chunked",
            "identity",
            "chunked, chunked",
            "mallory",
            "\u{b}chunked",
        ]);
        lines.push(("transfer-encoding".to_owned(), coding.to_owned()));
    }
    if chance.once_in(6) {
        lines.push(("trailer".to_owned(), "x-forwarded-user".to_owned()));
    }
    if chance.once_in(3) {
        lines.push(("cookie".to_owned(), cookies(chance)));
    }
    lines
        .into_iter()
        .filter_map(|(name, value)| {
            Some((
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_bytes(value.as_bytes()).ok()?,
            ))
        })
        .collect()
}

/// Cookies that are not the one that the route names, ours in odd spellings among them.
fn cookies(chance: &mut Chance) -> String {
    let spellings = [
        "__Host-Http-shop-access",
        "__host-http-shop-access",
        "__HOST-HTTP-SHOP-ACCESS",
        "__Secure-shop-session",
        "__secure-shop-session.1",
        " __Host-Http-shop-ended",
        "__Host-Http-shop-login-abcdefgh",
        "sid",
        "Theme",
        "theme ;x",
        "themes",
        "the\u{ff4d}e",
        "",
        "$Version",
        "__Host-theme",
    ];
    (0..1 + chance.below(4))
        .map(|_| format!("{}={MARK}", chance.pick(&spellings)))
        .collect::<Vec<_>>()
        .join(chance.pick(&["; ", ";", " ; ", ";;"]))
}

/// What is wrong with a request as the API got it.
fn wrong(parts: &http::request::Parts, token: bool) -> Option<String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    for (name, value) in &parts.headers {
        if text(value).contains(MARK) {
            return Some(format!("{name}: {} arrived", text(value)));
        }
        if name.as_str().contains(['_', '.', '!', '~']) {
            return Some(format!("{name} arrived"));
        }
    }
    let values = |name: &str| parts.headers.get_all(name).iter().map(text).collect::<Vec<_>>();
    let bearer = values("authorization");
    let good = match token {
        true => bearer.len() == 1 && bearer[0].starts_with("Bearer canary-access"),
        false => bearer.is_empty(),
    };
    if !good {
        return Some(format!("authorization: {bearer:?}"));
    }
    for (name, expected) in [
        ("x-forwarded-for", &["198.51.100.7"][..]),
        ("x-forwarded-proto", &["https"]),
        ("x-forwarded-host", &["shop.example"]),
        ("connection", &[]),
        ("transfer-encoding", &[]),
        ("upgrade", &[]),
        ("keep-alive", &[]),
        ("token-handler-version", &[]),
        ("proxy-authorization", &[]),
    ] {
        if values(name) != expected {
            return Some(format!("{name}: {:?}", values(name)));
        }
    }
    if !matches!(values("te").as_slice(), [] | [_]) || values("te").iter().any(|te| te != "trailers") {
        return Some(format!("te: {:?}", values("te")));
    }
    if !matches!(values("cookie").as_slice(), [] | [_]) || values("cookie").iter().any(|c| c != "theme=dark")
    {
        return Some(format!("cookie: {:?}", values("cookie")));
    }
    (values("x-request-id").len() != 1).then(|| "x-request-id".to_owned())
}

async fn rig() -> Rig {
    Rig::with(|config| {
        config.routes[0].cookies = vec!["theme".to_owned()];
        let mut open = route("/open/");
        open.auth = Some("none".to_owned());
        open.cookies = vec!["theme".to_owned()];
        config.routes.push(open);
    })
    .await
}

/// Sends one request with additions; what is wrong with what arrived, and whether any did.
async fn send(
    rig: &Rig,
    browser: &Browser,
    method: &Method,
    path: &str,
    additions: Vec<(HeaderName, HeaderValue)>,
    token: bool,
) -> (Option<String>, bool) {
    let (mut parts, body) = browser.fetch_request(method, path, "").into_parts();
    parts.extensions.insert(Peer {
        address: Some(PEER),
        tls: true,
    });
    for (name, value) in additions {
        parts.headers.append(name, value);
    }
    parts
        .headers
        .append(header::COOKIE, HeaderValue::from_static("theme=dark"));
    let answer = browser.send(http::Request::from_parts(parts, body)).await;
    let mut seen = rig.api.seen.lock().expect("no panic");
    let arrived = !seen.is_empty();
    let wrong = match seen.drain(..).collect::<Vec<_>>().as_slice() {
        [parts] => wrong(parts, token),
        [] if matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN) => None,
        [] => Some(format!("{}: {}", answer.status, answer.body)),
        _ => Some("one request became several".to_owned()),
    };
    (wrong, arrived)
}

#[tokio::test]
async fn nothing_that_a_client_says_of_itself_arrives_on_any_route() {
    let rig = rig().await;
    let (signed_in, stranger) = (rig.signed_in().await, rig.browser());
    let mut chance = Chance::new(0x00c0_a70d);
    let (mut escapes, mut arrived, cases) = (Vec::new(), 0, cases(6_000));
    for number in 0..cases {
        let (browser, path, token) = match number % 5 {
            0 | 1 => (&signed_in, "/api/x", true),
            2 => (&signed_in, "/maybe/x", true),
            // identity headers also go where nobody is asked who they are
            3 => (&signed_in, "/open/x", false),
            _ => (&stranger, "/open/x", false),
        };
        let method = chance.pick(&[&Method::GET, &Method::POST, &Method::OPTIONS, &Method::DELETE]);
        let lines = additions(&mut chance);
        let shown = format!("{method} {path} {lines:?}");
        let (wrong, came) = send(&rig, browser, method, path, lines, token).await;
        arrived += usize::from(came);
        escapes.extend(wrong.map(|wrong| format!("{wrong} from {shown}")));
    }
    report("header smuggling", cases, &escapes);
    assert!(arrived > cases / 4, "only {arrived} arrived: nothing was judged");
}

#[tokio::test]
async fn each_identity_header_is_taken_off_a_route_without_authentication() {
    let rig = rig().await;
    let browser = rig.browser();
    for name in NAMES {
        for spelling in [name.to_uppercase(), name.replace('-', "_"), (*name).to_owned()] {
            let line = (
                HeaderName::from_bytes(spelling.as_bytes()).expect("a name"),
                HeaderValue::from_static(MARK),
            );
            let (wrong, arrived) = send(&rig, &browser, &Method::GET, "/open/x", vec![line], false).await;
            assert_eq!(wrong, None, "{spelling}");
            // with an underscore it is refused as a whole
            assert_eq!(arrived, !spelling.contains('_'), "{spelling}");
        }
    }
}

#[tokio::test]
async fn no_value_of_a_client_stands_in_for_a_session() {
    let rig = rig().await;
    let browser = rig.browser();
    for (name, value) in [
        ("user-agent", "GoogleHC/1.0"),
        ("user-agent", "kube-probe/1.30"),
        ("user-agent", "ELB-HealthChecker/2.0"),
        ("user-agent", "Envoy/HC"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("authorization", "Bearer anything"),
        ("x-health-check", "true"),
        ("x-envoy-internal", "true"),
        ("x-original-method", "OPTIONS"),
        ("x-forwarded-method", "OPTIONS"),
        ("x-http-method-override", "OPTIONS"),
        ("x-original-url", "/open/x"),
        ("x-forwarded-uri", "/open/x"),
        ("x-middleware-subrequest", "middleware"),
    ] {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST] {
            let (mut parts, body) = browser.fetch_request(&method, "/api/x", "").into_parts();
            parts.headers.insert(name, HeaderValue::from_static(value));
            let answer = browser.send(http::Request::from_parts(parts, body)).await;
            assert_eq!(
                answer.status,
                StatusCode::UNAUTHORIZED,
                "{method} {name}: {value}"
            );
            assert!(rig.api.seen.lock().expect("no panic").is_empty(), "{name}");
        }
    }
}
