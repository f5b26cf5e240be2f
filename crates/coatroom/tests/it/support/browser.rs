//! A browser as far as cookies and Fetch Metadata go: keeps a jar with paths and attributes, sends
//! what a browser would send, and refuses a `Set-Cookie` that browsers refuse.

use std::sync::Arc;

use bytes::Bytes;
use coatroom::TokenHandlerService;
use coatroom::clock::{Clock as _, ManualClock};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tower::ServiceExt as _;

use super::Api;
use super::provider::ScriptedProvider;

/// One browser with its jar.
#[derive(Clone)]
pub(crate) struct Browser {
    service: TokenHandlerService<Api>,
    clock: Arc<ManualClock>,
    pub(crate) jar: Vec<StoredCookie>,
    pub(crate) origin: String,
}

/// A cookie as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredCookie {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) path: String,
    pub(crate) same_site: String,
    pub(crate) expires_at: u64,
}

/// Which site a request comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// The SPA itself.
    Same,
    /// Another site, by a top-level navigation.
    Cross,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON; the test fails if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    /// The `error_code` of an error of ours.
    pub(crate) fn error_code(&self) -> String {
        self.json()["error_code"].as_str().unwrap_or_default().to_owned()
    }

    /// What holds for every answer of ours: a 2xx of the agent is JSON, an error is one of the
    /// table's with the same code in header and body, and what sets a cookie is not stored.
    fn check_form(&self, path: &str) {
        let header = |name: &str| self.headers.get(name).map(|value| value.to_str().expect("ASCII"));
        let set_cookie = self.headers.contains_key(header::SET_COOKIE);
        if path.starts_with("/auth/") || path.starts_with("/bff/") {
            assert_eq!(
                header("cache-control"),
                Some("no-store").filter(|_| self.status != 204),
                "{path}"
            );
            if self.status == StatusCode::OK && !path.starts_with("/auth/frontchannel-logout") {
                assert_eq!(header("content-type"), Some("application/json"), "{path}");
                self.json();
            }
            assert!(self.status == StatusCode::OK || self.status != StatusCode::NO_CONTENT || !set_cookie);
        }
        let Some(code) = header("token-handler-error") else {
            assert!(
                self.status.as_u16() < 400,
                "{path}: {} without a code: {}",
                self.status,
                self.body
            );
            return;
        };
        let known = ERRORS.iter().find(|(known, _)| *known == code);
        let (_, status) = known.unwrap_or_else(|| panic!("{code} is not in the table"));
        assert_eq!(self.status.as_u16(), *status, "{code}");
        if header("content-type") == Some("application/json") {
            let json = self.json();
            assert_eq!(json["error_code"], code);
            assert!(
                json["detailed_error"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
            );
        } else {
            assert_eq!(header("content-type"), Some("text/html; charset=utf-8"));
            assert!(self.body.contains(code));
        }
    }

    /// Where a redirect leads.
    pub(crate) fn location(&self) -> &str {
        self.headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl Browser {
    pub(crate) fn new(service: TokenHandlerService<Api>, clock: Arc<ManualClock>) -> Self {
        Self {
            service,
            clock,
            jar: Vec::new(),
            origin: "https://shop.example".to_owned(),
        }
    }

    /// The same browser with another service behind its origin: another replica.
    pub(crate) fn at(self, service: TokenHandlerService<Api>) -> Self {
        Self { service, ..self }
    }

    /// `fetch` from the SPA, with the custom header.
    pub(crate) async fn fetch(&mut self, method: Method, path: &str, body: &str) -> Answer {
        let answer = self.send(self.fetch_request(&method, path, body)).await;
        self.store(&answer.headers);
        answer
    }

    /// The same, but the answer's cookies are not stored yet: it is still on its way.
    pub(crate) async fn fetch_late(&self, method: Method, path: &str, body: &str) -> Answer {
        self.send(self.fetch_request(&method, path, body)).await
    }

    /// What `fetch` sends.
    pub(crate) fn fetch_request(&self, method: &Method, path: &str, body: &str) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(header::HOST, "shop.example")
            .header("token-handler-version", "1")
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-dest", "empty");
        if *method != Method::GET && *method != Method::HEAD {
            request = request.header(header::ORIGIN, &self.origin);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        request = self.with_cookies(request, path, Site::Same, false);
        request.body(Full::from(body.to_owned())).expect("a good request")
    }

    /// A top-level navigation.
    pub(crate) async fn navigate(&mut self, path: &str, from: Site) -> Answer {
        let site = match from {
            Site::Same => "same-origin",
            Site::Cross => "cross-site",
        };
        let request = Request::builder()
            .uri(path)
            .header(header::HOST, "shop.example")
            .header("sec-fetch-site", site)
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header(header::ACCEPT, "text/html");
        let request = self.with_cookies(request, path, from, true);
        let answer = self
            .send(request.body(Full::default()).expect("a good request"))
            .await;
        self.store(&answer.headers);
        answer
    }

    /// A form that a page of another site posts to the top-level window.
    pub(crate) async fn post_form(&mut self, path: &str, body: &str, origin: Option<&str>) -> Answer {
        let request = self.form_request(path, body, origin);
        let answer = self.send(request).await;
        self.store(&answer.headers);
        answer
    }

    /// What such a form sends.
    pub(crate) fn form_request(&self, path: &str, body: &str, origin: Option<&str>) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "shop.example")
            .header("sec-fetch-site", "cross-site")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "text/html");
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        // a form is no navigation that Lax cookies come with
        let request = self.with_cookies(request, path, Site::Cross, false);
        request.body(Full::from(body.to_owned())).expect("a good request")
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let path = request.uri().path().to_owned();
        let response: Response<_> = self
            .service
            .clone()
            .oneshot(request)
            .await
            .expect("the service never fails");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("the body ends well").to_bytes();
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).expect("UTF-8"),
        };
        answer.check_form(&path);
        answer
    }

    /// Signs a user in by `login/start`, the provider and `callback`.
    pub(crate) async fn sign_in(&mut self, provider: &ScriptedProvider, user: &str) -> Answer {
        let callback = self.start(provider, user).await;
        let answer = self.navigate(&callback, Site::Cross).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        assert!(
            !answer.location().contains("login_error"),
            "{}",
            answer.location()
        );
        answer
    }

    /// Starts a sign-in and lets the provider approve it; gives the path of the callback.
    pub(crate) async fn start(&mut self, provider: &ScriptedProvider, user: &str) -> String {
        let started = self.fetch(Method::POST, "/auth/login/start", "").await;
        assert_eq!(started.status, StatusCode::OK, "{}", started.body);
        let json = started.json();
        let url = json["authorization_url"].as_str().expect("an authorization URL");
        format!("/auth/callback?{}", provider.approve(url, user))
    }

    /// The session JSON.
    pub(crate) async fn session(&mut self) -> Value {
        let answer = self.fetch(Method::GET, "/auth/session", "").await;
        assert_eq!(answer.status, StatusCode::OK);
        answer.json()
    }

    /// Whether `session` says signed in.
    pub(crate) async fn is_signed_in(&mut self) -> bool {
        self.session().await["is_logged_in"] == true
    }

    fn with_cookies(
        &self,
        request: http::request::Builder,
        target: &str,
        from: Site,
        navigation: bool,
    ) -> http::request::Builder {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let now = self.clock.now().0;
        let sent: Vec<String> = self
            .jar
            .iter()
            .filter(|cookie| cookie.expires_at > now)
            .filter(|cookie| {
                cookie.path == "/" || path == cookie.path || path.starts_with(&format!("{}/", cookie.path))
            })
            .filter(|cookie| match (from, cookie.same_site.as_str()) {
                (Site::Same, _) => true,
                (Site::Cross, "Lax") => navigation,
                (Site::Cross, "None") => true,
                (Site::Cross, _) => false,
            })
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        match sent.is_empty() {
            true => request,
            false => request.header(header::COOKIE, sent.join("; ")),
        }
    }

    /// Stores what an answer sets, by the rules of browsers.
    pub(crate) fn store(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(header::SET_COOKIE) {
            let line = line.to_str().expect("cookies are ASCII");
            let cookie = StoredCookie::parse(line, self.clock.now().0);
            self.jar
                .retain(|known| (&known.name, &known.path) != (&cookie.name, &cookie.path));
            if cookie.expires_at > self.clock.now().0 {
                self.jar.push(cookie);
            }
        }
    }
}

impl StoredCookie {
    /// A `Set-Cookie` line; the test fails if a browser would refuse it.
    pub(crate) fn parse(line: &str, now: u64) -> Self {
        let mut parts = line.split(';').map(str::trim);
        let (name, value) = parts
            .next()
            .and_then(|pair| pair.split_once('='))
            .expect("name=value");
        let mut cookie = Self {
            name: name.to_owned(),
            value: value.to_owned(),
            path: String::new(),
            same_site: String::new(),
            expires_at: 0,
        };
        let (mut secure, mut http_only) = (false, false);
        for attribute in parts {
            match attribute.split_once('=').unwrap_or((attribute, "")) {
                ("Path", path) => path.clone_into(&mut cookie.path),
                ("SameSite", value) => value.clone_into(&mut cookie.same_site),
                ("Max-Age", seconds) => cookie.expires_at = now + seconds.parse::<u64>().expect("a number"),
                ("Expires", _) => {}
                ("Secure", _) => secure = true,
                ("HttpOnly", _) => http_only = true,
                (other, _) => panic!("an attribute that nobody asked for: {other}"),
            }
        }
        assert!(secure && http_only, "{name} lacks Secure or HttpOnly");
        assert!(
            !name.starts_with("__Host-") || cookie.path == "/",
            "{name} would be dropped"
        );
        assert!(
            name.len() + value.len() <= 4096,
            "{name} would be dropped: too large"
        );
        assert!(
            matches!(cookie.same_site.as_str(), "Strict" | "Lax")
                || (cookie.same_site == "None" && name.contains("-login-")),
            "{name}: SameSite"
        );
        cookie
    }
}

/// The table of the interface: code and status.
const ERRORS: [(&str, u16); 23] = [
    ("insufficient_user_authentication", 401),
    ("invalid_request", 400),
    ("login_state_invalid", 400),
    ("authorization_failed", 400),
    ("unauthorized", 401),
    ("access_token_expired", 401),
    ("session_expired", 401),
    ("csrf_rejected", 403),
    ("origin_not_allowed", 403),
    ("forbidden", 403),
    ("misdirected_request", 421),
    ("not_found", 404),
    ("method_not_allowed", 405),
    ("payload_too_large", 413),
    ("rate_limited", 429),
    ("provider_error", 502),
    ("upstream_unavailable", 502),
    ("provider_unavailable", 503),
    ("store_unavailable", 503),
    ("upstream_busy", 503),
    ("upstream_retry", 503),
    ("upstream_timeout", 504),
    ("server_error", 500),
];
