//! Conditional requests and ranges: RFC 9110 §13 and §14.
//!
//! Of the validators the entity tag is the one that counts: modification times go backwards when
//! a release is rolled back, and are all the same where a build makes them reproducible. So
//! `If-Modified-Since` means "exactly that time", and a range continues an earlier answer only
//! under its entity tag. Several ranges at once, other units and malformed ones are ignored, which
//! answers the whole (RFC 9110 §14.2). Nothing here reads a file or the clock.

use std::time::{Duration, SystemTime};

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderName, Method};

/// What the preconditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answer it.
    Perform,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Which part of a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// From the first to the last byte, both included.
    Part {
        /// The first byte.
        first: u64,
        /// The last byte.
        last: u64,
    },
    /// 416.
    Unsatisfiable,
}

/// Weighs the preconditions in the order of RFC 9110 §13.2.2.
pub(super) fn weigh(headers: &HeaderMap, tag: &str, modified: Option<SystemTime>) -> Verdict {
    if headers.contains_key(IF_MATCH) {
        if !names_tag(headers, &IF_MATCH, tag, Comparison::Strong) {
            return Verdict::Failed;
        }
    } else if let (Some(since), Some(modified)) = (date(headers, &IF_UNMODIFIED_SINCE), modified)
        && modified > since
    {
        return Verdict::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if names_tag(headers, &IF_NONE_MATCH, tag, Comparison::Weak) {
            return Verdict::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (date(headers, &IF_MODIFIED_SINCE), modified)
        && modified == since
    {
        return Verdict::NotModified;
    }
    Verdict::Perform
}

/// The part of `length` bytes that a request asks for.
pub(super) fn extent(method: &Method, headers: &HeaderMap, tag: &str, length: u64) -> Extent {
    if method != Method::GET {
        return Extent::Whole;
    }
    let continues = match single(headers, &IF_RANGE) {
        Some(known) => known == tag,
        None => !headers.contains_key(IF_RANGE),
    };
    match single(headers, &RANGE) {
        Some(range) if continues => parse_range(range, length).unwrap_or(Extent::Whole),
        _ => Extent::Whole,
    }
}

/// A time in whole seconds, which is all that HTTP can say; nothing where it cannot say that.
pub(super) fn seconds(time: SystemTime) -> Option<SystemTime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    (since < YEAR_10000).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(since))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags names this one (RFC 9110 §8.8.3.2). `*` names every one.
fn names_tag(headers: &HeaderMap, name: &HeaderName, tag: &str, comparison: Comparison) -> bool {
    headers.get_all(name).iter().any(|value| {
        let Ok(mut rest) = value.to_str() else {
            return false;
        };
        if rest.trim() == "*" {
            return true;
        }
        // A tag may hold a comma, so the list is read tag by tag.
        while let Some((before, after)) = rest.split_once('"') {
            let Some((opaque, next)) = after.split_once('"') else {
                return false;
            };
            let weak = before.ends_with("W/");
            let same = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(opaque);
            if same && (comparison == Comparison::Weak || !weak) {
                return true;
            }
            rest = next;
        }
        false
    })
}

fn parse_range(range: &str, length: u64) -> Option<Extent> {
    let (unit, range) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = match (first, last) {
        ("", suffix) => match number(suffix)? {
            0 => return Some(Extent::Unsatisfiable),
            suffix => (length.saturating_sub(suffix), u64::MAX),
        },
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            // Invalid, which is not the same as unsatisfiable (RFC 9110 §14.1.1).
            if last < first {
                return None;
            }
            (first, last)
        }
    };
    if first >= length {
        return Some(Extent::Unsatisfiable);
    }
    let last = last.min(length.saturating_sub(1));
    Some(Extent::Part { first, last })
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(single(headers, name)?).ok()
}

/// The only value of a header.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim())
}

/// The first second that an HTTP date cannot say.
const YEAR_10000: u64 = 253_402_300_800;

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const TAG: &str = "\"abc\"";
    const THEN: &str = "Thu, 01 Oct 2026 10:00:00 GMT";
    const BEFORE: &str = "Thu, 01 Oct 2026 09:59:59 GMT";
    const AFTER: &str = "Thu, 01 Oct 2026 10:00:01 GMT";

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn preconditions_are_weighed_in_their_order() {
        use Verdict::{Failed, NotModified, Perform};
        let rows: &[(&[(&'static str, &'static str)], Verdict)] = &[
            (&[], Perform),
            (&[("if-none-match", "\"abc\"")], NotModified),
            (&[("if-none-match", "W/\"abc\"")], NotModified),
            (&[("if-none-match", "\"x\", \"abc\"")], NotModified),
            (&[("if-none-match", "\"x,\", W/\"y\",\"abc\"")], NotModified),
            (
                &[("if-none-match", "\"x\""), ("if-none-match", "\"abc\"")],
                NotModified,
            ),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"x\"")], Perform),
            (&[("if-none-match", "abc")], Perform),
            (&[("if-none-match", "\"abc")], Perform),
            (&[("if-none-match", "")], Perform),
            (
                &[("if-none-match", "\"x\""), ("if-modified-since", THEN)],
                Perform,
            ),
            (&[("if-modified-since", THEN)], NotModified),
            (&[("if-modified-since", AFTER)], Perform),
            (&[("if-modified-since", BEFORE)], Perform),
            (&[("if-modified-since", "yesterday")], Perform),
            (&[("if-match", "\"abc\"")], Perform),
            (&[("if-match", "*")], Perform),
            (&[("if-match", "W/\"abc\"")], Failed),
            (&[("if-match", "\"x\"")], Failed),
            (&[("if-match", "\"x\""), ("if-none-match", "\"abc\"")], Failed),
            (
                &[("if-match", "\"abc\""), ("if-none-match", "\"abc\"")],
                NotModified,
            ),
            (&[("if-unmodified-since", THEN)], Perform),
            (&[("if-unmodified-since", BEFORE)], Failed),
            (
                &[("if-match", "\"abc\""), ("if-unmodified-since", BEFORE)],
                Perform,
            ),
        ];
        let then = httpdate::parse_http_date(THEN).ok();
        for (headers, verdict) in rows {
            assert_eq!(weigh(&map(headers), TAG, then), *verdict, "{headers:?}");
        }
        assert_eq!(
            weigh(&map(&[("if-unmodified-since", BEFORE)]), TAG, None),
            Perform
        );
        assert_eq!(weigh(&map(&[("if-modified-since", THEN)]), TAG, None), Perform);
    }

    #[test]
    fn a_range_is_one_part_of_a_known_file_or_none() {
        use Extent::{Unsatisfiable, Whole};
        let part = |first, last| Extent::Part { first, last };
        for (range, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=0-", part(0, 9)),
            ("bytes=3-5", part(3, 5)),
            ("bytes=3-99", part(3, 9)),
            ("BYTES=3-5", part(3, 5)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=0-99999999999999999999", part(0, 9)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=99999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-3", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            let headers = map(&[("range", range)]);
            assert_eq!(extent(&Method::GET, &headers, TAG, 10), expected, "{range}");
        }
        assert_eq!(
            extent(&Method::GET, &map(&[("range", "bytes=0-")]), TAG, 0),
            Unsatisfiable
        );
        assert_eq!(
            extent(&Method::HEAD, &map(&[("range", "bytes=0-1")]), TAG, 10),
            Whole
        );
        let twice = map(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]);
        assert_eq!(extent(&Method::GET, &twice, TAG, 10), Whole);
    }

    #[test]
    fn a_range_continues_only_the_same_content() {
        let part = Extent::Part { first: 1, last: 2 };
        for (known, expected) in [
            ("\"abc\"", part),
            ("W/\"abc\"", Extent::Whole),
            ("\"x\"", Extent::Whole),
            (THEN, Extent::Whole),
            ("", Extent::Whole),
        ] {
            let headers = map(&[("range", "bytes=1-2"), ("if-range", known)]);
            assert_eq!(extent(&Method::GET, &headers, TAG, 10), expected, "{known}");
        }
    }

    #[test]
    fn times_that_http_cannot_say_are_not_said() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(
            seconds(epoch + Duration::from_millis(1999)),
            Some(epoch + Duration::from_secs(1))
        );
        assert_eq!(seconds(epoch - Duration::from_secs(1)), None);
        assert_eq!(seconds(epoch + Duration::from_secs(YEAR_10000)), None);
    }
}
