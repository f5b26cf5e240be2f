//! What the tests of reading and writing share: a table, keys, and a browser that keeps cookies.
//!
//! The browser knows names, values and clears. It knows no paths, sites or time.

use std::time::Duration;

use ::cookie::Cookie;
use http::HeaderValue;

use super::{Cookies, Jar, Kind, LoginTag};
use crate::config::{ApiCookie, ApiId, AppId, Callback};
use crate::rng::testing::Counter;
use crate::seal::{KeyRing, MasterKey};

/// The most plaintext that the anchor of `shop` holds in one cookie.
pub(crate) const WHOLE: usize = 3021;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn cookies_of(application: &str) -> Cookies {
    let id = AppId::parse(application).expect("a good id");
    let table = Cookies::new(&id, "/auth", &Callback::Agent).expect("a good path");
    table.with_apis(&[ApiCookie {
        id: "orders".to_owned(),
        path: "/orders".to_owned(),
        api: ApiId([1; 8]),
    }])
}

pub(crate) fn shop() -> Cookies {
    cookies_of("shop")
}

pub(crate) fn kinds() -> [Kind; 7] {
    [
        Kind::Access,
        Kind::Session,
        Kind::Login(LoginTag::of("state")),
        Kind::Logout,
        Kind::Ended,
        Kind::Refused,
        Kind::Api(0),
    ]
}

/// A ring of the keys whose 43 characters start with these.
pub(crate) fn keys(of: &str) -> KeyRing {
    let key = |first| MasterKey::parse(&format!("coatroom-key-1:{first}{}", "A".repeat(42)));
    KeyRing::new(of.chars().map(|c| key(c).expect("a key")).collect()).expect("distinct keys")
}

pub(crate) fn plaintext(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// The plaintexts that open, in order.
pub(crate) fn open(table: &Cookies, kind: Kind, header: &str, keys: &KeyRing) -> Vec<Vec<u8>> {
    let jar = Jar::new([header.as_bytes()]);
    table
        .open(kind, &jar, keys)
        .map(|opened| opened.plaintext().to_vec())
        .collect()
}

/// Keeps what it is told, in the order of first setting.
#[derive(Default, Clone)]
pub(crate) struct Browser(pub(super) Vec<(String, String)>);

impl Browser {
    pub(crate) fn with(lines: &[HeaderValue]) -> Self {
        let mut browser = Self::default();
        browser.keep(lines);
        browser
    }

    pub(crate) fn keep(&mut self, lines: &[HeaderValue]) {
        for line in lines {
            let cookie = parse(line);
            let (name, value) = cookie.name_value();
            let kept = self.0.iter_mut().find(|(n, _)| n == name);
            match (cookie.max_age().is_some_and(|age| age.is_zero()), kept) {
                (true, _) => self.0.retain(|(n, _)| n != name),
                (false, Some((_, old))) => value.clone_into(old),
                (false, None) => self.0.push((name.to_owned(), value.to_owned())),
            }
        }
    }

    pub(crate) fn header(&self) -> String {
        let pairs: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn seal(&mut self, table: &Cookies, kind: Kind, plaintext: &[u8], keys: &KeyRing, seed: u64) {
        let header = self.header();
        let jar = Jar::new([header.as_bytes()]);
        let lines = table.seal(kind, plaintext, HOUR, keys, &jar, &mut Counter(seed));
        self.keep(&lines.expect("it fits"));
    }
}

pub(crate) fn parse(line: &HeaderValue) -> Cookie<'_> {
    Cookie::parse(line.to_str().expect("visible ASCII")).expect("a cookie")
}
