//! Open redirects through the whole service: whatever a link, a form, a provider's answer or a header
//! asks for, every `Location` leads to the provider or to a page of the SPA.

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;

use crate::chance::{Chance, cases, report};
use crate::redirects::{Site, generate, payloads};
use crate::support::Rig;
use crate::support::browser::{Answer, Browser, Site as From};

const SITE: Site<'static> = Site {
    agent: "https://shop.example",
    listed: &["https://shop.example"],
    no_pages: &["/auth", "/api", "/maybe", "/public", "/media"],
    lenient_pages: false,
};

fn query(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

/// How an answer leads anywhere but to the provider or the SPA.
fn judge(rig: &Rig, answer: &Answer) -> Option<String> {
    if answer.status != StatusCode::SEE_OTHER {
        assert!(!answer.headers.contains_key(header::LOCATION));
        return (!matches!(answer.status.as_u16(), 200 | 400 | 403))
            .then(|| format!("{} {}", answer.status, answer.body));
    }
    assert_eq!(answer.body, "", "a redirect has no body");
    let location = answer.location();
    if location.starts_with(&format!("{}/authorize?", rig.provider.issuer)) {
        return to_provider(location);
    }
    if location.starts_with(&format!("{}/end?", rig.provider.issuer)) {
        return None;
    }
    SITE.escape(location)
}

/// What is wrong with an authorization URL.
fn to_provider(location: &str) -> Option<String> {
    let url = url::Url::parse(location).expect("a URL");
    for (name, expected) in [
        ("redirect_uri", "https://shop.example/auth/callback"),
        ("client_id", "shop"),
        ("response_type", "code"),
    ] {
        let values: Vec<_> = url.query_pairs().filter(|(key, _)| key == name).collect();
        if values.len() != 1 || values[0].1 != expected {
            return Some(format!("{name} is {values:?}"));
        }
    }
    None
}

/// Finishes a sign-in that was accepted and judges where it leads.
async fn finish(rig: &Rig, mut browser: Browser, authorization_url: &str) -> Option<String> {
    let callback = format!(
        "/auth/callback?{}",
        rig.provider.approve(authorization_url, "alice")
    );
    let answer = browser.navigate(&callback, From::Cross).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    judge(rig, &answer)
}

async fn by_navigation(rig: &Rig, input: &str, from: From, finished: &mut usize) -> Option<String> {
    let mut browser = rig.browser();
    let path = format!("/auth/login?{}", query(&[("return_to", input)]));
    let answer = browser.navigate(&path, from).await;
    let escape = judge(rig, &answer);
    if escape.is_some() || answer.status != StatusCode::SEE_OTHER {
        return escape;
    }
    *finished += 1;
    finish(rig, browser, answer.location()).await
}

async fn by_fetch(rig: &Rig, input: &str, finished: &mut usize) -> Option<String> {
    let mut browser = rig.browser();
    let answer = browser
        .fetch(Method::POST, "/auth/login/start", &query(&[("return_to", input)]))
        .await;
    if answer.status != StatusCode::OK {
        return judge(rig, &answer);
    }
    *finished += 1;
    let json = answer.json();
    let url = json["authorization_url"].as_str().expect("a URL");
    match to_provider(url) {
        Some(escape) => Some(escape),
        None => finish(rig, browser, url).await,
    }
}

/// Everything else that redirects, with the input wherever somebody could put it.
async fn elsewhere(rig: &Rig, input: &str, browser: &Browser) -> Option<String> {
    let everything = query(&[
        ("return_to", input),
        ("post_logout_redirect_uri", input),
        ("redirect_uri", input),
        ("state", input),
        ("iss", input),
        ("error", input),
        ("error_description", input),
        ("error_uri", input),
    ]);
    for path in [
        format!("/auth/callback?{everything}"),
        format!("/auth/logout/continue?{everything}"),
        format!("/auth/logout/callback?{everything}"),
        format!("/auth/callback?{}&{everything}", query(&[("code", input)])),
    ] {
        let answer = browser.clone().navigate(&path, From::Cross).await;
        if let Some(escape) = judge(rig, &answer) {
            return Some(format!("{path}: {escape}"));
        }
    }
    None
}

/// An error that the provider reports for a sign-in that did begin here.
async fn refused_by_the_provider(rig: &Rig, input: &str) -> Option<String> {
    let mut browser = rig.browser();
    let started = browser.fetch(Method::POST, "/auth/login/start", "").await.json();
    let url = url::Url::parse(started["authorization_url"].as_str().expect("a URL")).expect("a URL");
    let (_, state) = url
        .query_pairs()
        .find(|(name, _)| name == "state")
        .expect("a state");
    let path = format!(
        "/auth/callback?{}",
        query(&[
            ("error", input),
            ("error_description", input),
            ("error_uri", input),
            ("state", &state),
            ("iss", &rig.provider.issuer),
        ])
    );
    let answer = browser.navigate(&path, From::Cross).await;
    assert!(
        answer.status != StatusCode::SEE_OTHER || answer.location().contains("login_error="),
        "{}",
        answer.location()
    );
    judge(rig, &answer)
}

#[tokio::test]
async fn no_return_url_leads_off_the_spa_through_the_service() {
    let rig = Rig::new().await;
    let mut chance = Chance::new(0x00c0_a70b);
    let (mut escapes, mut finished, mut tried) = (Vec::new(), 0, 0);
    let lists = payloads("shop.example");
    let cases = cases(2_400);
    for number in 0..cases {
        // every family of the lists comes up, and as many inputs of the grammar
        let input = match number % 2 {
            0 => lists[chance.below(lists.len())].clone(),
            _ => generate(&mut chance, "shop.example"),
        };
        let from = if number % 4 < 2 { From::Same } else { From::Cross };
        let escape = match number % 3 {
            0 => by_fetch(&rig, &input, &mut finished).await,
            _ => by_navigation(&rig, &input, from, &mut finished).await,
        };
        tried += 1;
        escapes.extend(escape.map(|escape| format!("{input:?}: {escape}")));
    }
    report("open redirect, whole service", tried, &escapes);
    assert!(finished > 0, "no sign-in was finished: nothing was judged");
}

#[tokio::test]
async fn no_answer_and_no_sign_out_leads_off_the_spa() {
    let rig = Rig::new().await;
    let mut signed_out = rig.signed_in().await;
    signed_out.fetch(Method::POST, "/auth/logout", "").await;
    let stranger = rig.browser();
    let mut chance = Chance::new(0x00c0_a70c);
    let lists = payloads("shop.example");
    let (mut escapes, cases) = (Vec::new(), cases(400));
    for number in 0..cases {
        let input = match number % 2 {
            0 => lists[chance.below(lists.len())].clone(),
            _ => generate(&mut chance, "shop.example"),
        };
        let escape = match number % 3 {
            0 => elsewhere(&rig, &input, &signed_out).await,
            1 => elsewhere(&rig, &input, &stranger).await,
            _ => refused_by_the_provider(&rig, &input).await,
        };
        escapes.extend(escape.map(|escape| format!("{input:?}: {escape}")));
    }
    report("open redirect, answers and sign-out", cases, &escapes);
}

#[tokio::test]
async fn no_header_moves_a_redirect() {
    let rig = Rig::new().await;
    let mut escapes = Vec::new();
    let mut tried = 0;
    for path in [
        "/auth/login",
        "/auth/logout/continue",
        "/auth/logout/callback",
        "/auth/callback",
    ] {
        for name in [
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "forwarded",
            "x-host",
            "x-original-url",
            "x-rewrite-url",
            "referer",
            "origin",
            "x-forwarded-scheme",
        ] {
            for value in [
                "evil.example",
                "https://evil.example/",
                "//evil.example",
                "host=evil.example;proto=http",
            ] {
                let request = Request::builder()
                    .uri(path)
                    .header("host", "shop.example")
                    .header("sec-fetch-mode", "navigate")
                    .header(name, HeaderValue::from_static(value))
                    .body(Full::default())
                    .expect("a request");
                let answer = rig.browser().send(request).await;
                tried += 1;
                assert_eq!(
                    answer.status,
                    StatusCode::SEE_OTHER,
                    "{path} {name}: {}",
                    answer.body
                );
                escapes.extend(judge(&rig, &answer).map(|escape| format!("{path} {name}: {escape}")));
            }
        }
    }
    report("open redirect, headers", tried, &escapes);
}
