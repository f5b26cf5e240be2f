//! Writing cookies: the `Set-Cookie` lines (RFC 6265 §4.1) that set a sealed value and clear what it
//! replaces.
//!
//! Setting and clearing go through one function for name, path and attributes, so that every clear
//! is of the cookie that was set. What the reader would refuse is an error here, with the sizes,
//! never a cookie that vanishes in the browser. A line never has a `Domain`, and the order in which
//! a browser applies the lines never matters.

use std::time::Duration;

use ::cookie::time::{Duration as MaxAge, OffsetDateTime};
use ::cookie::{Cookie, CookieBuilder};
use base64::Engine as _;
use http::HeaderValue;

use super::{CHUNK_HEADER_LEN, Cookies, Jar, Kind, MAX_CHUNKS, MAX_PAIR, Row, WriteHeader};
use crate::error::Error;
use crate::rng::{Rng, random};
use crate::seal::{Associated, KeyRing, sealed_len};

impl Cookies {
    /// Seals a value and sets it: whole if name and value fit into one cookie, else in chunks.
    ///
    /// The lines also clear the cookies of this kind that the jar shows, or that the browser may
    /// hold unseen (see [`Jar::hiding_strict`]), and that are not overwritten: stale chunks, or the
    /// whole one when this write is in chunks.
    ///
    /// # Errors
    /// [`Error::CookieTooLarge`] when the value needs more chunks than the reader takes.
    pub fn seal(
        &self,
        kind: Kind,
        plaintext: &[u8],
        max_age: Duration,
        keys: &KeyRing,
        jar: &Jar<'_>,
        rng: &mut dyn Rng,
    ) -> Result<Vec<HeaderValue>, Error> {
        let row = self.row(kind);
        let encoded_len = base64::encoded_len(sealed_len(plaintext.len()), false).unwrap_or(usize::MAX);
        let mut lines = Vec::new();
        let written = if row.name.len().saturating_add(encoded_len) <= MAX_PAIR {
            let sealed = keys.seal(row.purpose, &self.associated(&row, &[]), plaintext, rng);
            lines.push(row.set(&row.name, self.base64url.encode(sealed), max_age));
            0..=0
        } else {
            let room = row.bytes_per_chunk();
            let count = sealed_len(plaintext.len()).div_ceil(room);
            let Some(count) = u8::try_from(count).ok().filter(|count| *count <= MAX_CHUNKS) else {
                return Err(Error::CookieTooLarge {
                    cookie: row.name.into_owned(),
                    bytes: encoded_len,
                    bound: room / 3 * 4 * usize::from(MAX_CHUNKS),
                });
            };
            let header = write_header(count, rng);
            let sealed = keys.seal(row.purpose, &self.associated(&row, &header), plaintext, rng);
            for (index, part) in (1..=count).zip(sealed.chunks(room)) {
                let mut value = chunk_header(&header, index);
                self.base64url.encode_string(part, &mut value);
                lines.push(row.set(&row.part(index), value, max_age));
            }
            1..=count
        };
        row.clear_where(&mut lines, |index, name| {
            !written.contains(&index)
                && (jar.present(name) || (index <= MAX_CHUNKS && jar.may_hide(row.same_site)))
        });
        Ok(lines)
    }

    /// Clears the cookie of a kind, seen or not, and every chunk of it that the jar shows or that
    /// the browser may hold unseen.
    pub fn clear(&self, kind: Kind, jar: &Jar<'_>) -> Vec<HeaderValue> {
        let row = self.row(kind);
        let mut lines = Vec::new();
        row.clear_where(&mut lines, |index, name| {
            index == 0 || jar.present(name) || (index <= MAX_CHUNKS && jar.may_hide(row.same_site))
        });
        lines
    }

    /// Clears the session in this browser: the anchor, the session cookie and those of APIs, whole and
    /// in chunks, whether seen or not.
    ///
    /// A sign-out must not depend on what the browser chose to send with it. Pending sign-ins, a
    /// logout under way and the tombstones stay.
    pub fn clear_everything(&self, jar: &Jar<'_>) -> Vec<HeaderValue> {
        let mut lines = Vec::new();
        for kind in [Kind::Access, Kind::Session].into_iter().chain(self.of_apis()) {
            self.row(kind)
                .clear_where(&mut lines, |index, name| index <= MAX_CHUNKS || jar.present(name));
        }
        lines
    }

    fn associated<'a>(&'a self, row: &'a Row<'_>, chunk_header: &'a [u8]) -> Associated<'a> {
        Associated {
            application: &self.application,
            name: &row.name,
            chunk_header,
        }
    }
}

impl Row<'_> {
    /// The name of the whole cookie (0) or of a chunk.
    fn part(&self, index: u8) -> String {
        match index {
            0 => self.name.clone().into_owned(),
            _ => format!("{}.{index}", self.name),
        }
    }

    /// How much of an envelope one chunk holds: whole groups of 3 bytes, which are 4 characters.
    fn bytes_per_chunk(&self) -> usize {
        let around = self.part(1).len().saturating_add(CHUNK_HEADER_LEN);
        MAX_PAIR.saturating_sub(around) / 4 * 3
    }

    /// Clears the forms of this cookie, by index and name, for which `wanted` holds.
    fn clear_where(&self, lines: &mut Vec<HeaderValue>, wanted: impl Fn(u8, &str) -> bool) {
        for index in 0..=HIGHEST_INDEX {
            let name = self.part(index);
            if wanted(index, &name) {
                lines.push(self.unset(&name));
            }
        }
    }

    fn set(&self, name: &str, value: String, max_age: Duration) -> HeaderValue {
        let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
        let mut line = line(self.attributes(name, value).max_age(MaxAge::seconds(seconds)));
        // Kept out of logs, and out of HPACK's tables (RFC 7541 §7.1.3).
        line.set_sensitive(true);
        line
    }

    fn unset(&self, name: &str) -> HeaderValue {
        let empty = self.attributes(name, String::new());
        line(empty.max_age(MaxAge::ZERO).expires(OffsetDateTime::UNIX_EPOCH))
    }

    /// What setting and clearing have in common: all but the value and its life.
    fn attributes<'c>(&'c self, name: &'c str, value: String) -> CookieBuilder<'c> {
        Cookie::build((name, value))
            .path(self.path)
            .secure(true)
            .http_only(true)
            .same_site(self.same_site)
    }
}

fn line(cookie: CookieBuilder<'_>) -> HeaderValue {
    HeaderValue::try_from(cookie.build().to_string())
        .expect("name, value, path and attributes are visible ASCII")
}

/// A fresh write id and the count.
fn write_header(count: u8, rng: &mut dyn Rng) -> WriteHeader {
    let mut header = [0; 9];
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode_slice(random::<6>(rng), &mut header)
        .expect("6 bytes are 8 characters");
    let [.., last] = &mut header;
    *last = ascii_digit(count);
    header
}

/// Write id, index and count as a chunk's value starts with them.
fn chunk_header(header: &WriteHeader, index: u8) -> String {
    let [write_id @ .., count] = header;
    let mut text = String::with_capacity(MAX_PAIR);
    text.extend(write_id.iter().copied().map(char::from));
    text.push(char::from(ascii_digit(index)));
    text.push(char::from(*count));
    text
}

fn ascii_digit(number: u8) -> u8 {
    b'0'.saturating_add(number)
}

/// The highest chunk number that is cleared when it is seen: another version may write more chunks
/// than this one.
const HIGHEST_INDEX: u8 = 9;

#[cfg(test)]
mod tests {
    use ::cookie::SameSite;

    use super::super::testing::{Browser, HOUR, WHOLE, keys, kinds, open, parse, plaintext, shop};
    use super::super::{is_ours, sets_ours};
    use super::*;
    use crate::rng::testing::Counter;

    /// What three chunks of the anchor hold.
    const FULL_CHUNK: usize = 3042;
    const ENVELOPE: usize = 31;

    fn seal(kind: Kind, length: usize, jar: &Jar<'_>) -> Vec<HeaderValue> {
        let lines = shop().seal(kind, &plaintext(length), HOUR, &keys("a"), jar, &mut Counter(1));
        lines.expect("it fits")
    }

    fn names(lines: &[HeaderValue]) -> Vec<String> {
        lines.iter().map(|line| parse(line).name().to_owned()).collect()
    }

    fn no_cookies() -> Jar<'static> {
        Jar::new([])
    }

    #[test]
    fn a_set_and_its_clear_read_as_published() {
        let set = seal(Kind::Session, 0, &no_cookies());
        let set = set[0].to_str().expect("ASCII");
        let (pair, attributes) = set.split_once("; ").expect("attributes");
        assert!(pair.starts_with("__Secure-shop-session=A"));
        assert_eq!(
            attributes,
            "HttpOnly; SameSite=Strict; Secure; Path=/auth; Max-Age=3600"
        );
        assert_eq!(
            shop().clear(Kind::Session, &no_cookies()),
            [
                "__Secure-shop-session=; HttpOnly; SameSite=Strict; Secure; Path=/auth; Max-Age=0; \
              Expires=Thu, 01 Jan 1970 00:00:00 GMT"
            ]
        );
    }

    #[test]
    fn every_set_has_a_clear_of_the_same_name_path_and_attributes() {
        let table = shop();
        for kind in kinds() {
            for length in [10, 9000] {
                let set = seal(kind, length, &no_cookies());
                let browser = Browser::with(&set);
                let header = browser.header();
                let clear = table.clear(kind, &Jar::new([header.as_bytes()]));
                let same_site = match kind {
                    Kind::Login(_) | Kind::Logout => SameSite::Lax,
                    Kind::Access | Kind::Session | Kind::Ended | Kind::Refused | Kind::Api(_) => {
                        SameSite::Strict
                    }
                };
                for set in &set {
                    let set = parse(set);
                    let clear = clear.iter().map(parse).find(|clear| clear.name() == set.name());
                    let clear = clear.expect("a clear of the same name");
                    for cookie in [&set, &clear] {
                        assert_eq!(
                            cookie.path(),
                            Some(match kind {
                                Kind::Session | Kind::Refused => "/auth",
                                Kind::Api(_) => "/orders",
                                Kind::Access | Kind::Login(_) | Kind::Logout | Kind::Ended => "/",
                            })
                        );
                        assert_eq!(cookie.same_site(), Some(same_site));
                        assert_eq!((cookie.secure(), cookie.http_only()), (Some(true), Some(true)));
                        assert_eq!((cookie.domain(), cookie.partitioned()), (None, None));
                    }
                    assert_eq!(set.max_age(), Some(MaxAge::seconds(3600)));
                    assert_eq!(set.expires(), None);
                    assert_eq!((clear.value(), clear.max_age()), ("", Some(MaxAge::ZERO)));
                    assert_eq!(clear.expires_datetime(), Some(OffsetDateTime::UNIX_EPOCH));
                }
                let mut cleared = browser.clone();
                cleared.keep(&clear);
                assert!(cleared.0.is_empty(), "{kind:?}");
                assert!(set.iter().chain(&clear).all(|line| sets_ours(line.as_bytes())));
            }
        }
    }

    #[test]
    fn values_are_kept_out_of_logs() {
        let lines = seal(Kind::Access, 9000, &no_cookies());
        assert!(lines.iter().all(HeaderValue::is_sensitive));
        assert_eq!(format!("{:?}", lines[0]), "Sensitive");
    }

    #[test]
    fn chunks_start_where_one_cookie_is_full_and_none_is_ever_empty() {
        struct Case {
            length: usize,
            cookies: usize,
        }
        let case = |length, cookies| Case { length, cookies };
        let chunks = |n: usize| n * FULL_CHUNK - ENVELOPE;
        for Case { length, cookies } in [
            case(0, 1),
            case(WHOLE, 1),
            case(WHOLE + 1, 2),
            case(chunks(2) - 1, 2),
            case(chunks(2), 2),
            case(chunks(2) + 1, 3),
            case(chunks(3), 3),
            case(chunks(4), 4),
            case(chunks(5) - 1, 5),
            case(chunks(5), 5),
        ] {
            let lines = seal(Kind::Access, length, &no_cookies());
            assert_eq!(lines.len(), cookies, "{length}");
            for line in &lines {
                let cookie = parse(line);
                let pair = cookie.name().len() + cookie.value().len();
                assert!(pair <= MAX_PAIR, "{length}: {pair}");
                assert!(
                    cookies == 1 || cookie.value().len() > CHUNK_HEADER_LEN,
                    "{length}"
                );
            }
            let header = Browser::with(&lines).header();
            assert_eq!(
                open(&shop(), Kind::Access, &header, &keys("a")),
                [plaintext(length)],
                "{length}"
            );
        }
    }

    #[test]
    fn a_value_over_five_chunks_is_an_error_that_names_cookie_and_sizes() {
        let length = 5 * FULL_CHUNK - ENVELOPE + 1;
        let lines = shop().seal(
            Kind::Access,
            &plaintext(length),
            HOUR,
            &keys("a"),
            &no_cookies(),
            &mut Counter(1),
        );
        let error = lines.expect_err("too large");
        assert_eq!(
            error,
            Error::CookieTooLarge {
                cookie: "__Host-Http-shop-access".to_owned(),
                bytes: 20282,
                bound: 20280,
            }
        );
    }

    #[test]
    fn a_write_clears_what_the_jar_shows_and_it_does_not_overwrite() {
        let table = shop();
        let name = table.name(Kind::Access).into_owned();
        let chunk = |i: u8| format!("{name}.{i}");
        struct Case {
            name: &'static str,
            seen: Vec<String>,
            length: usize,
            cleared: Vec<String>,
        }
        let case = |name, seen, length, cleared| Case {
            name,
            seen,
            length,
            cleared,
        };
        for Case {
            name,
            seen,
            length,
            cleared,
        } in [
            case("first write", vec![], 10, vec![]),
            case("whole over whole", vec![name.clone()], 10, vec![]),
            case(
                "whole over chunks",
                vec![chunk(1), chunk(2)],
                10,
                vec![chunk(1), chunk(2)],
            ),
            case("chunks over whole", vec![name.clone()], 5000, vec![name.clone()]),
            case(
                "chunks over more",
                vec![chunk(1), chunk(2), chunk(3), chunk(4)],
                5000,
                vec![chunk(3), chunk(4)],
            ),
            case("chunks over fewer", vec![chunk(1), chunk(2)], 9000, vec![]),
            case("another version's chunk", vec![chunk(9)], 10, vec![chunk(9)]),
            case(
                "other names",
                vec![chunk(0), format!("{name}.x"), format!("{name}.10")],
                10,
                vec![],
            ),
            case(
                "another kind's chunk",
                vec!["__Secure-shop-session.1".to_owned()],
                10,
                vec![],
            ),
            case(
                "another application's",
                vec!["__Host-Http-shop2-access.1".to_owned()],
                10,
                vec![],
            ),
        ] {
            let header: String = seen.iter().map(|n| format!("{n}=x; ")).collect();
            let lines = seal(Kind::Access, length, &Jar::new([header.as_bytes()]));
            let (clears, sets): (Vec<_>, Vec<_>) = lines
                .into_iter()
                .partition(|line| parse(line).max_age() == Some(MaxAge::ZERO));
            assert_eq!(names(&clears), cleared, "{name}");
            assert!(names(&sets).iter().all(|set| !cleared.contains(set)), "{name}");
        }
    }

    #[test]
    fn shrinking_and_growing_leaves_one_value_behind_each_time() {
        let (table, keys) = (shop(), keys("a"));
        let mut browser = Browser::default();
        for (seed, length) in (1..).zip([10, 9000, 14_000, 5000, 10, 9000, 10]) {
            browser.seal(&table, Kind::Session, &plaintext(length), &keys, seed);
            assert_eq!(
                open(&table, Kind::Session, &browser.header(), &keys),
                [plaintext(length)]
            );
        }
        assert_eq!(browser.names(), ["__Secure-shop-session"]);
    }

    #[test]
    fn a_write_that_cannot_see_strict_cookies_leaves_none_of_them_behind() {
        let (table, keys) = (shop(), keys("a"));
        for (old, new) in [(9000, 10), (14_000, 5000), (10, 9000)] {
            for kind in [Kind::Access, Kind::Session] {
                let mut browser = Browser::default();
                browser.seal(&table, kind, &plaintext(old), &keys, 1);
                browser.keep(&seal(kind, new, &no_cookies().hiding_strict()));
                assert_eq!(open(&table, kind, &browser.header(), &keys), [plaintext(new)]);

                browser.keep(&table.clear(kind, &no_cookies().hiding_strict()));
                assert!(browser.0.is_empty());
            }
        }
        // A Lax cookie would have been sent.
        assert_eq!(seal(Kind::Logout, 10, &no_cookies().hiding_strict()).len(), 1);
    }

    #[test]
    fn a_sign_out_clears_the_session_seen_or_not_and_nothing_else() {
        let (table, keys) = (shop(), keys("a"));
        let mut browser = Browser::default();
        for (seed, kind) in (1..).zip(kinds()) {
            browser.seal(&table, kind, &plaintext(9000), &keys, seed);
        }
        browser
            .0
            .push(("__Secure-shop-session.9".to_owned(), "x".to_owned()));
        let header = browser.header();
        browser.keep(&table.clear_everything(&Jar::new([header.as_bytes()])));
        let left = [
            &*table.name(kinds()[2]),
            "__Host-Http-shop-logout",
            "__Host-Http-shop-ended",
            "__Secure-shop-refused",
        ];
        assert!(
            browser
                .names()
                .iter()
                .all(|name| left.iter().any(|l| name.starts_with(l)))
        );
        assert_eq!(browser.0.len(), 12);

        let unseen = names(&table.clear_everything(&no_cookies()));
        assert_eq!(unseen.len(), 18);
        assert!(unseen.iter().all(|name| is_ours(name.as_bytes())));
    }

    #[test]
    fn a_life_longer_than_any_clock_does_not_overflow() {
        let lines = shop().seal(
            Kind::Ended,
            b"",
            Duration::MAX,
            &keys("a"),
            &no_cookies(),
            &mut Counter(1),
        );
        let lines = lines.expect("it fits");
        assert!(
            lines[0]
                .to_str()
                .expect("ASCII")
                .ends_with("Max-Age=9223372036854775807")
        );
    }
}
