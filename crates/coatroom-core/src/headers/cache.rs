//! Keeps shared caches away from answers to a token (RFC 9111 §3.5, §5.2.2).
//!
//! A cache in front of us no longer sees `Authorization`, so the protection that header gives is
//! written into the answer. Nothing is taken away from the browser's own cache.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{remove_where, vary};

/// Adds `private` and a `Vary` with the header that carries the credential, takes `public` and `s-maxage` away, unless the answer is not
/// stored anyway. A `Cache-Control` that cannot be read becomes `no-store`.
pub(super) fn keep_private(headers: &mut HeaderMap, differs_by: &HeaderName) {
    remove_where(headers, is_for_shared_caches);
    match rewritten(headers) {
        Rewritten::NotStored => return,
        Rewritten::Value(value) => {
            headers.insert(header::CACHE_CONTROL, value);
        }
    }
    let spelled = match *differs_by {
        header::AUTHORIZATION => "Authorization",
        _ => "Cookie",
    };
    vary(headers, differs_by.as_str(), HeaderValue::from_static(spelled));
}

enum Rewritten {
    NotStored,
    Value(HeaderValue),
}

fn rewritten(headers: &HeaderMap) -> Rewritten {
    if !headers.contains_key(header::CACHE_CONTROL) {
        return Rewritten::Value(HeaderValue::from_static("private"));
    }
    let mut kept = vec![&b"private"[..]];
    let mut no_store = false;
    let mut must_understand = false;
    for line in headers.get_all(header::CACHE_CONTROL) {
        let Some(directives) = directives(line.as_bytes()) else {
            return Rewritten::Value(HeaderValue::from_static("no-store"));
        };
        for directive in directives {
            let name = directive
                .split(|b| *b == b'=')
                .next()
                .unwrap_or_default()
                .trim_ascii_end();
            let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
            no_store |= directive.eq_ignore_ascii_case(b"no-store");
            must_understand |= is(b"must-understand");
            // A qualified `private="field"` would be stronger than ours in no cache.
            if !is(b"private") && !is(b"public") && !is(b"s-maxage") && !directive.is_empty() {
                kept.push(directive);
            }
        }
    }
    // With must-understand a cache may ignore no-store (RFC 9111 §5.2.2.3).
    if no_store && !must_understand {
        return Rewritten::NotStored;
    }
    Rewritten::Value(
        HeaderValue::from_bytes(&kept.join(&b", "[..]))
            .unwrap_or_else(|_| HeaderValue::from_static("no-store")),
    )
}

/// The directives of one line; commas inside quotes separate nothing. None if a quote stays open.
fn directives(line: &[u8]) -> Option<Vec<&[u8]>> {
    let mut quoted = false;
    let mut escaped = false;
    let directives = line
        .split(|byte| {
            let was_escaped = std::mem::take(&mut escaped);
            match byte {
                b'\\' if quoted && !was_escaped => escaped = true,
                b'"' if !was_escaped => quoted = !quoted,
                b',' if !quoted => return true,
                _ => {}
            }
            false
        })
        .map(<[u8]>::trim_ascii)
        .collect();
    (!quoted).then_some(directives)
}

/// Instructions that content delivery networks obey before `Cache-Control` (RFC 9213 and kin).
fn is_for_shared_caches(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.ends_with("cdn-cache-control")
        || matches!(
            name,
            "surrogate-control" | "edge-control" | "akamai-cache-control" | "x-accel-expires"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_a_token_is_private() {
        let rows: &[(&[&str], &str, bool)] = &[
            // Cache-Control lines, what becomes of them, whether Vary: Cookie is added
            (&[], "private", true),
            (&[""], "private", true),
            (&["public, max-age=60"], "private, max-age=60", true),
            (&["max-age=60", "Public"], "private, max-age=60", true),
            (&["s-maxage=600, max-age=60"], "private, max-age=60", true),
            (&["S-MaxAge = 600"], "private", true),
            (&["private"], "private", true),
            (&["private, max-age=5"], "private, max-age=5", true),
            (
                &["private=\"set-cookie, x\", max-age=5"],
                "private, max-age=5",
                true,
            ),
            (&["no-cache"], "private, no-cache", true),
            (
                &["no-cache=\"a, no-store\""],
                "private, no-cache=\"a, no-store\"",
                true,
            ),
            (&["x=\"\\\", no-store\""], "private, x=\"\\\", no-store\"", true),
            (&["no-store"], "no-store", false),
            (&["public, No-Store"], "public, No-Store", false),
            (
                &["no-store, must-understand"],
                "private, no-store, must-understand",
                true,
            ),
            (&["no-store=\"x\""], "private, no-store=\"x\"", true),
            (&["public, x=\"open"], "no-store", true),
            (&["max-age=1, , immutable"], "private, max-age=1, immutable", true),
        ];
        for (lines, expected, varies) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::EXPIRES,
                HeaderValue::from_static("Thu, 01 Jan 2099 00:00:00 GMT"),
            );
            for line in *lines {
                headers.append(header::CACHE_CONTROL, line.parse().expect("a value"));
            }
            keep_private(&mut headers, &header::COOKIE);
            let now: Vec<&str> = headers
                .get_all(header::CACHE_CONTROL)
                .iter()
                .map(|value| value.to_str().expect("ascii"))
                .collect();
            assert_eq!(now.join(", "), *expected, "{lines:?}");
            assert_eq!(headers.contains_key(header::VARY), *varies, "{lines:?}");
        }
    }

    #[test]
    fn instructions_for_shared_caches_are_taken_away_even_beside_no_store() {
        for control in ["no-store", "max-age=1"] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(control));
            for name in [
                "cdn-cache-control",
                "cloudflare-cdn-cache-control",
                "surrogate-control",
                "edge-control",
                "x-accel-expires",
            ] {
                headers.insert(name, HeaderValue::from_static("max-age=600"));
            }
            keep_private(&mut headers, &header::COOKIE);
            let others = headers
                .keys()
                .filter(|name| **name != header::CACHE_CONTROL && **name != header::VARY);
            assert_eq!(others.count(), 0);
        }
    }

    #[test]
    fn vary_is_extended_once() {
        for (there, expected) in [
            ("Accept-Encoding", "Accept-Encoding|Cookie"),
            ("accept, COOKIE", "accept, COOKIE"),
            ("*", "*"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::VARY, HeaderValue::from_static(there));
            keep_private(&mut headers, &header::COOKIE);
            let now: Vec<&str> = headers
                .get_all(header::VARY)
                .iter()
                .map(|value| value.to_str().expect("ascii"))
                .collect();
            assert_eq!(now.join("|"), expected);
        }
    }
}
