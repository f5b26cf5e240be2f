//! Cookie tampering through the whole service: from valid cookies of several sessions, users and
//! applications come thousands of others, and none of them is anybody's but whole and untouched.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;

use crate::chance::{Chance, cases, report};
use crate::support::Rig;
use crate::support::browser::{Answer, Browser};

const ACCESS: &str = "__Host-Http-shop-access";
const SESSION: &str = "__Secure-shop-session";
const ENDED: &str = "__Host-Http-shop-ended";

type Pair = (String, String);

/// A session with everything that may and may not be had of it.
struct Owner {
    public_id: String,
    bearer: String,
    access: Vec<Pair>,
    session: Vec<Pair>,
    /// The tombstone cookie, once it is signed out.
    ended: Option<Pair>,
}

impl Owner {
    /// Whether this header gives the API call.
    fn may_call(&self, pairs: &[Pair]) -> bool {
        self.access.iter().all(|pair| pairs.contains(pair)) && !self.is_over(pairs)
    }

    /// Whether this header gives the whole session.
    fn may_show(&self, pairs: &[Pair]) -> bool {
        self.may_call(pairs) && self.session.iter().all(|pair| pairs.contains(pair))
    }

    fn is_over(&self, pairs: &[Pair]) -> bool {
        self.ended.as_ref().is_some_and(|ended| pairs.contains(ended))
    }

    fn pairs(&self) -> Vec<Pair> {
        let own = self.access.iter().chain(&self.session).chain(&self.ended);
        own.cloned().collect()
    }
}

fn pairs_of(browser: &Browser, name: &str) -> Vec<Pair> {
    browser
        .jar
        .iter()
        .filter(|cookie| cookie.name == name || cookie.name.starts_with(&format!("{name}.")))
        .map(|cookie| (cookie.name.clone(), cookie.value.clone()))
        .collect()
}

async fn ask(rig: &Rig, path: &str, method: Method, cookies: &[u8]) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "shop.example")
        .header("origin", "https://shop.example")
        .header("sec-fetch-site", "same-origin")
        .header("token-handler-version", "1")
        .body(Full::default())
        .expect("a request");
    if let Ok(value) = HeaderValue::from_bytes(cookies) {
        request.headers_mut().insert(header::COOKIE, value);
    }
    rig.browser().send(request).await
}

fn bearer(rig: &Rig) -> Option<String> {
    let seen: Vec<_> = rig.api.seen.lock().expect("no panic").drain(..).collect();
    assert!(seen.len() < 2);
    seen.first()
        .map(|parts| parts.headers["authorization"].to_str().expect("ASCII").to_owned())
}

async fn owner(rig: &Rig, user: &str) -> (Owner, Browser) {
    let mut browser = rig.browser();
    browser.sign_in(&rig.provider, user).await;
    let (access, session) = (pairs_of(&browser, ACCESS), pairs_of(&browser, SESSION));
    browser.fetch(Method::GET, "/api/x", "").await;
    let owner = Owner {
        public_id: browser.session().await["session"]["id"]
            .as_str()
            .expect("an id")
            .to_owned(),
        bearer: bearer(rig).expect("a token went along"),
        access,
        session,
        ended: None,
    };
    (owner, browser)
}

/// Two sessions of one user, one of another, one in chunks, one that was signed out, and cookies of
/// another application and of pending sign-ins and sign-outs.
async fn cast(rig: &Rig) -> (Vec<Owner>, Vec<Pair>) {
    let mut owners = Vec::new();
    let (mut stray, other) = (
        Vec::new(),
        Rig::with(|config| config.id = "other".to_owned()).await,
    );
    let mut elsewhere = other.browser();
    elsewhere.sign_in(&other.provider, "alice").await;
    for cookie in &elsewhere.jar {
        stray.push((cookie.name.clone(), cookie.value.clone()));
        stray.push((cookie.name.replace("other", "shop"), cookie.value.clone()));
    }
    for user in ["alice", "alice", "bob"] {
        owners.push(owner(rig, user).await.0);
    }
    for user in ["carol", "dave"] {
        rig.provider.script().padding = 5_000;
        owners.push(owner(rig, user).await.0);
        rig.provider.script().padding = 0;
    }
    for user in ["erin", "bob"] {
        let (mut signed_out, mut browser) = owner(rig, user).await;
        browser.fetch(Method::POST, "/auth/logout", "").await;
        signed_out.ended = pairs_of(&browser, ENDED).pop();
        assert!(signed_out.ended.is_some());
        stray.extend(
            browser
                .jar
                .iter()
                .map(|cookie| (cookie.name.clone(), cookie.value.clone())),
        );
        owners.push(signed_out);
    }
    let mut pending = rig.browser();
    pending.start(&rig.provider, "alice").await;
    stray.extend(
        pending
            .jar
            .iter()
            .map(|cookie| (cookie.name.clone(), cookie.value.clone())),
    );
    // a tombstone counts only where it was set
    stray.retain(|(name, _)| name != ENDED);
    (owners, stray)
}

/// What nobody may have by this header; none if all is well.
async fn judge(rig: &Rig, owners: &[Owner], pairs: &[Pair], cookies: &[u8]) -> Option<String> {
    let began = Instant::now();
    let answer = ask(rig, "/auth/session", Method::GET, cookies).await;
    if answer.status != StatusCode::OK {
        return Some(format!("session: {} {}", answer.status, answer.body));
    }
    let json = answer.json();
    if json["is_logged_in"] == true {
        let id = json["session"]["id"].as_str().unwrap_or_default();
        match owners.iter().find(|owner| owner.public_id == id) {
            Some(owner) if owner.may_show(pairs) => {}
            Some(_) => return Some(format!("session {} without its cookies", json["id_token_claims"])),
            None => return Some("a session that nobody made".to_owned()),
        }
    }
    let answer = ask(rig, "/api/x", Method::GET, cookies).await;
    match (answer.status, bearer(rig)) {
        (StatusCode::UNAUTHORIZED, None) => {}
        (StatusCode::OK, Some(token)) => match owners.iter().find(|owner| owner.bearer == token) {
            Some(owner) if owner.may_call(pairs) => {}
            Some(owner) => return Some(format!("the token of session {}", owner.public_id)),
            None => return Some("a token that nobody has".to_owned()),
        },
        (status, token) => return Some(format!("api: {status}, a token: {}", token.is_some())),
    }
    let took = began.elapsed();
    (took > Duration::from_secs(5)).then(|| format!("took {took:?}"))
}

const NAMES: &[&str] = &[
    "__Host-Http-shop-access",
    "__Secure-shop-session",
    "__Host-Http-shop-logout",
    "__Host-Http-shop-login-abcdefgh",
    "__Secure-shop-refused",
    "__Host-Http-other-access",
    "__Secure-other-session",
    "__host-http-shop-access",
    "__Host-Http-shop-access.1",
    "__Host-Http-shop-access.2",
    "__Host-Http-shop-access.3",
    "__Host-Http-shop-access.0",
    "__Host-Http-shop-access.01",
    "__Host-Http-shop-access.10",
    "__Host-Http-shop-access.",
    "__Secure-shop-session.1",
    "__Secure-shop-session.2",
    "__Secure-shop-session.3",
    "__Secure-shop-api-x",
    "__Host-shop-access",
    "shop-access",
    "",
];

/// One act of tampering. `others` are the cookies of everybody.
fn tamper(pairs: &mut Vec<Pair>, others: &[Pair], chance: &mut Chance) {
    if pairs.is_empty() {
        pairs.push(others[chance.below(others.len())].clone());
    }
    let at = chance.below(pairs.len());
    let other = others[chance.below(others.len())].clone();
    if pairs[at].0 == ENDED {
        return;
    }
    let value = pairs[at].1.clone().into_bytes();
    let place = chance.below(value.len().max(1));
    let changed = |with: Vec<u8>| String::from_utf8_lossy(&with).into_owned();
    match chance.below(18) {
        0 => {
            let mut value = value;
            if let Some(byte) = value.get_mut(place) {
                *byte = *b"ABCDabcd0129-_"
                    .iter()
                    .find(|new| *new != byte)
                    .expect("another letter");
            }
            pairs[at].1 = changed(value);
        }
        1 => pairs[at].1 = changed(value[..place].to_vec()),
        2 => pairs[at].1 += chance.pick(&["A", "=", "==", ".", "AAAA", " ", "%", "\"", ";x", "\t"]),
        3 => {
            let place = chance.below(pairs.len());
            pairs.swap(at, place);
        }
        4 => {
            let pair = pairs[at].clone();
            pairs.insert(chance.below(pairs.len() + 1), pair);
        }
        5 => {
            pairs.remove(at);
        }
        6 => pairs[at].0 = chance.pick(NAMES).to_owned(),
        7 => pairs[at].1 = other.1,
        8 => pairs.insert(at, other),
        9 => {
            let mut value = value;
            value.truncate(place);
            value.extend(other.1.bytes().skip(place));
            pairs[at].1 = changed(value);
        }
        10 => {
            // a byte of the envelope: version, key id, nonce and all that follows
            if let Ok(mut bytes) = URL_SAFE_NO_PAD.decode(&value)
                && !bytes.is_empty()
            {
                let place = if chance.once_in(2) {
                    chance.below(bytes.len().min(16))
                } else {
                    chance.below(bytes.len())
                };
                bytes[place] ^= 1 << chance.below(8);
                pairs[at].1 = URL_SAFE_NO_PAD.encode(bytes);
            }
        }
        11 => {
            // the same bytes, spelled in a way that we never write
            let mut value = value;
            if let Some(last) = value.last_mut() {
                *last = last.wrapping_add(1);
            }
            pairs[at].1 = changed(value);
        }
        12 => pairs[at].1 = format!("\"{}\"", pairs[at].1),
        13 => pairs[at].1 = pairs[at].1.replace('-', "+").replace('_', "/") + "=",
        14 => {
            // a chunk's header: write id, index, count
            let mut value = value;
            if let Some(byte) = value.get_mut(chance.below(10)) {
                *byte = b"0123456789ABz"[chance.below(13)];
            }
            pairs[at].1 = changed(value);
        }
        15 => {
            let mut value = value;
            if let (Some(head), Some(theirs)) = (value.get_mut(..10), other.1.as_bytes().get(..10)) {
                head.copy_from_slice(theirs);
            }
            pairs[at].1 = changed(value);
        }
        16 => {
            pairs[at].0 = format!(
                "{}{}",
                pairs[at].0,
                chance.pick(&[" ", "\t", ".", "\0", "%20", ".1"])
            )
        }
        _ => {
            for number in 0..60 {
                let junk = format!(
                    "{}{number}",
                    chance.pick(&["junk", "__Host-Http-shop-access.", "__Secure-x"])
                );
                pairs.insert(0, (junk, "A".repeat(1_000)));
            }
        }
    }
}

fn header_of(pairs: &[Pair]) -> Vec<u8> {
    let text: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    text.join("; ").into_bytes()
}

/// The pairs that a header says, by the grammar of RFC 6265 and nothing more.
fn said(cookies: &[u8]) -> Vec<Pair> {
    String::from_utf8_lossy(cookies)
        .split(';')
        .filter_map(|pair| pair.trim_start_matches([' ', '\t']).split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[tokio::test]
async fn tampering_never_gives_a_session_that_is_not_whole() {
    let rig = Rig::unlimited().await;
    let (owners, stray) = cast(&rig).await;
    let everything: Vec<Pair> = owners
        .iter()
        .flat_map(|owner| owner.access.iter().chain(&owner.session).cloned())
        .chain(stray)
        .collect();
    for owner in &owners {
        let cookies = header_of(&owner.pairs());
        let answer = ask(&rig, "/auth/session", Method::GET, &cookies).await.json();
        assert_eq!(answer["is_logged_in"], owner.ended.is_none());
    }
    let mut chance = Chance::new(0x00c0_a70e);
    let (mut escapes, mut whole, cases) = (Vec::new(), 0, cases(6_000));
    for number in 0..cases {
        let mut pairs = owners[number % owners.len()].pairs();
        for _ in 0..=chance.below(3) {
            tamper(&mut pairs, &everything, &mut chance);
        }
        let cookies = header_of(&pairs);
        let pairs = said(&cookies);
        whole += usize::from(owners.iter().any(|owner| owner.may_show(&pairs)));
        if let Some(escape) = judge(&rig, &owners, &pairs, &cookies).await {
            let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
            escapes.push(format!("case {number}: {escape} {names:?}"));
        }
    }
    report("cookie tampering", cases, &escapes);
    assert!(
        whole > 0 && whole < cases / 2,
        "{whole} of {cases} were left whole"
    );
}

#[tokio::test]
async fn no_bit_of_an_anchor_can_be_changed() {
    let rig = Rig::unlimited().await;
    let (owner, _) = owner(&rig, "alice").await;
    let (mut escapes, mut tried) = (Vec::new(), 0);
    for of_session in [false, true] {
        let (name, value) = if of_session {
            &owner.session[0]
        } else {
            &owner.access[0]
        };
        let bytes = URL_SAFE_NO_PAD.decode(value).expect("base64url");
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << (place % 8);
            let changed = (name.clone(), URL_SAFE_NO_PAD.encode(changed));
            let pairs = if of_session {
                [owner.access[0].clone(), changed]
            } else {
                [changed, owner.session[0].clone()]
            };
            tried += 1;
            let cookies = header_of(&pairs);
            let escape = judge(&rig, std::slice::from_ref(&owner), &pairs, &cookies).await;
            escapes.extend(escape.map(|escape| format!("byte {place}: {escape}")));
        }
    }
    report("cookie bits", tried, &escapes);
    assert!(tried > 300, "{tried}");
}

#[tokio::test]
async fn a_cookie_header_of_any_size_is_answered() {
    let rig = Rig::unlimited().await;
    let (owner, _) = owner(&rig, "alice").await;
    let name = ACCESS;
    let own = String::from_utf8(header_of(&owner.pairs())).expect("ASCII");
    let value = &owner.access[0].1;
    let chunk =
        |index: usize, count: usize| format!("{name}.{index}=aaaaaaaa{index}{count}{}; ", "A".repeat(60));
    for (shape, junk) in [
        (
            "64 KB in one cookie",
            format!("{name}={}; ", "A".repeat(64 * 1024)),
        ),
        (
            "300 KB in one cookie",
            format!("{name}={}; ", "A".repeat(300 * 1024)),
        ),
        ("60 cookies of one name", format!("{name}={value}x; ").repeat(60)),
        ("20,000 empty pairs", ";".repeat(20_000)),
        ("20,000 pairs without a name", "=;".repeat(20_000)),
        ("10,000 chunks that begin a value", chunk(1, 5).repeat(700)),
        (
            "chunks of every number",
            (0..10).flat_map(|i| (0..10).map(move |n| chunk(i, n))).collect(),
        ),
        ("semicolons and blanks", " ; \t;".repeat(10_000)),
        ("quotes", format!("{name}=\"{value}\"; ").repeat(30)),
        (
            "bytes beyond ASCII",
            format!("{name}=\u{ff}\u{fe}; ").repeat(1_000),
        ),
    ] {
        for cookies in [format!("{junk}{own}"), format!("{own}; {junk}"), junk.clone()] {
            let cookies = cookies.into_bytes();
            let pairs = said(&cookies);
            let escape = judge(&rig, std::slice::from_ref(&owner), &pairs, &cookies).await;
            assert_eq!(escape, None, "{shape}");
        }
    }
}

#[tokio::test]
async fn cookies_put_back_after_sign_out_give_nothing_and_refresh_nothing() {
    let rig = Rig::unlimited().await;
    let (owner, mut browser) = owner(&rig, "alice").await;
    browser.fetch(Method::POST, "/auth/logout", "").await;
    let ended = pairs_of(&browser, ENDED);
    let tokens = rig.provider.count("refresh_token", 200);
    for pairs in [
        [owner.pairs(), ended.clone()].concat(),
        [ended.clone(), owner.pairs()].concat(),
        [
            owner.access.clone(),
            ended.clone(),
            owner.session.clone(),
            owner.access.clone(),
        ]
        .concat(),
    ] {
        let cookies = header_of(&pairs);
        let json = ask(&rig, "/auth/session", Method::GET, &cookies).await.json();
        assert_eq!(json["is_logged_in"], false);
        for (method, path) in [(Method::GET, "/api/x"), (Method::POST, "/auth/refresh")] {
            let answer = ask(&rig, path, method, &cookies).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        }
        assert_eq!(bearer(&rig), None);
        // signed out is anonymous, where that is allowed
        let answer = ask(&rig, "/maybe/x", Method::GET, &cookies).await;
        assert_eq!(answer.status, StatusCode::OK);
        let seen = rig.api.seen.lock().expect("no panic").pop().expect("it arrived");
        assert!(!seen.headers.contains_key(header::AUTHORIZATION));
    }
    // without the tombstone this process still knows, and the provider revoked
    let answer = ask(&rig, "/auth/refresh", Method::POST, &header_of(&owner.pairs())).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(rig.provider.count("refresh_token", 200), tokens);
}
