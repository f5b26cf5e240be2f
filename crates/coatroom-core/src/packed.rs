//! Packing of tokens, so that a sealed cookie is hardly longer than the token in it.
//!
//! A JWT (RFC 7519) is base64url segments joined by dots, and a cookie's value is base64url again:
//! the bytes under the segments take three quarters of the room. A packed token is one format byte
//! and what it says:
//!
//! ```text
//! 0        the token's text as it is
//! 1 … 255  that many segments: each but the last as its length (LEB128, minimal) and bytes,
//!          the last as the bytes that remain
//! ```
//!
//! A token is packed as segments only when unpacking gives back exactly the same text; nothing is
//! guessed from the content when reading. This never looks into a token, and never shows one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::cookie::base64url;
use crate::secret::Secret;

/// A token in as few bytes as give it back unchanged.
pub(crate) fn pack(token: &Secret) -> Zeroizing<Vec<u8>> {
    let text = token.expose();
    if let Some(packed) = segments(text)
        && unpack(&packed).is_some_and(|again| again == *token)
    {
        return packed;
    }
    let mut raw = Zeroizing::new(Vec::with_capacity(text.len().saturating_add(1)));
    raw.push(RAW);
    raw.extend_from_slice(text.as_bytes());
    raw
}

/// The token that was packed, if these bytes are one.
pub(crate) fn unpack(packed: &[u8]) -> Option<Secret> {
    let mut text = unpack_behind(b"", packed)?;
    // Moved out, not copied.
    String::from_utf8(std::mem::take(&mut *text))
        .ok()
        .map(Secret::new)
}

/// The bytes of the token behind a prefix, in one buffer and without a copy.
pub(crate) fn unpack_behind(prefix: &[u8], packed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (&format, mut rest) = packed.split_first()?;
    // Room for the longest text these bytes can make: a buffer that grows leaves copies behind.
    let room = rest.len().div_ceil(3).checked_mul(4)?;
    let room = room.checked_add(usize::from(format).checked_mul(4)?)?;
    let mut text = Zeroizing::new(Vec::with_capacity(prefix.len().checked_add(room)?));
    text.extend_from_slice(prefix);
    if format == RAW {
        text.extend_from_slice(rest);
        return Some(text);
    }
    let mut end = text.len();
    let capacity = text.capacity();
    text.resize(capacity, 0);
    let engine = base64url();
    for remaining in (0..format).rev() {
        let segment = if remaining == 0 {
            std::mem::take(&mut rest)
        } else {
            let length = take_length(&mut rest)?;
            let (segment, after) = rest.split_at_checked(length)?;
            rest = after;
            segment
        };
        let written = engine.encode_slice(segment, text.get_mut(end..)?).ok()?;
        end = end.checked_add(written)?;
        if remaining > 0 {
            *text.get_mut(end)? = b'.';
            end = end.checked_add(1)?;
        }
    }
    text.truncate(end);
    Some(text)
}

/// The segments of a token, if every one is base64url.
fn segments(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let count = text.split('.').count();
    let mut packed = Zeroizing::new(Vec::with_capacity(text.len().saturating_add(1)));
    packed.push(u8::try_from(count).ok()?);
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    for (position, segment) in text.split('.').enumerate() {
        bytes.clear();
        URL_SAFE_NO_PAD.decode_vec(segment, &mut bytes).ok()?;
        if position.saturating_add(1) < count {
            push_length(bytes.len(), &mut packed);
        }
        packed.extend_from_slice(&bytes);
    }
    Some(packed)
}

/// Writes a length as LEB128: seven bits to a byte, the lowest first, the high bit on all but the
/// last.
fn push_length(mut length: usize, to: &mut Vec<u8>) {
    while length >= 0x80 {
        to.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    to.push(length as u8);
}

/// Reads a length that [`push_length`] wrote; any longer spelling of it is refused.
fn take_length(from: &mut &[u8]) -> Option<usize> {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let (&byte, after) = from.split_first()?;
        *from = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (byte != 0 || shift == 0).then_some(length);
        }
    }
    None
}

/// The format byte of text as it is.
const RAW: u8 = 0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(token: &str) -> Vec<u8> {
        pack(&Secret::new(token)).to_vec()
    }

    fn text(packed: &[u8]) -> Option<String> {
        unpack(packed).map(|token| token.expose().to_owned())
    }

    #[test]
    fn every_token_comes_back_exactly_and_is_packed_where_that_is_possible() {
        struct Case {
            name: &'static str,
            token: String,
            packed: usize,
        }
        let case = |name, token: &str, packed| Case {
            name,
            token: token.to_owned(),
            packed,
        };
        let long = "A".repeat(172); // 129 bytes
        let dots = ".".repeat(254);
        for Case { name, token, packed } in [
            case("empty", "", 1),
            case("one segment", "AAAA", 1 + 3),
            case("43 opaque characters", &"A".repeat(43), 1 + 32),
            case(
                "JWT",
                "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln",
                1 + (1 + 14) + (1 + 11) + 3,
            ),
            case("JWT without signature", "AAAA.BBBB.", 1 + 4 + 4),
            case(
                "JWE with direct encryption",
                "AAAA..BBBB.CCCC.DDDD",
                1 + 4 + 1 + 4 + 4 + 3,
            ),
            case("two-byte length", &format!("{long}.{long}"), 1 + 2 + 129 + 129),
            case("dots only", "..", 3),
            case("255 segments", &dots, 255),
            case("256 segments, raw", &format!("{dots}."), 256),
            case("impossible length, raw", "AAAAA", 6),
            case("trailing bits, raw", "AB", 3),
            case("padding, raw", "AA==", 5),
            case("standard alphabet, raw", "AA+/", 5),
            case("one bad segment, raw", "AAAA.B!BB.CCCC", 15),
            case("space, raw", "AAAA AAA", 9),
            case("not ascii, raw", "\u{e9}\u{1f511}", 7),
        ] {
            let got = bytes(&token);
            assert_eq!(got.len(), packed, "{name}");
            assert_eq!(text(&got), Some(token), "{name}");
        }
    }

    #[test]
    fn bytes_that_are_no_packed_token_are_refused() {
        for (name, packed) in [
            ("nothing", b"".as_slice()),
            ("raw, not UTF-8", b"\x00\xff"),
            ("no length", b"\x02"),
            ("length over the end", b"\x02\x05abc"),
            ("length without end", b"\x02\x80"),
            ("length spelt longer", b"\x02\x81\x00a"),
            ("zero spelt longer", b"\x02\x80\x00a"),
            ("length of five bytes", b"\x02\x80\x80\x80\x80\x01"),
            ("huge length", b"\x02\xff\xff\xff\x7f"),
            ("too few segments", b"\x03\x01a\x01"),
        ] {
            assert!(unpack(packed).is_none(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(token in any::<String>()) {
            let packed = bytes(&token);
            prop_assert!(packed.len() <= token.len() + 1);
            prop_assert_eq!(text(&packed), Some(token));
        }

        #[test]
        fn any_base64url_and_dots_survive(token in "[A-Za-z0-9_-]{0,300}(\\.[A-Za-z0-9_-]{0,200}){0,6}") {
            let packed = bytes(&token);
            prop_assert!(packed.len() <= token.len() + 1);
            prop_assert_eq!(text(&packed), Some(token));
        }

        #[test]
        fn any_segments_are_packed_with_a_byte_or_two_each(
            segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1000), 1..8)
        ) {
            let token = segments.iter().map(|s| URL_SAFE_NO_PAD.encode(s)).collect::<Vec<_>>().join(".");
            let packed = bytes(&token);
            let size: usize = segments.iter().map(Vec::len).sum();
            prop_assert!(packed.len() <= 1 + size + 2 * (segments.len() - 1));
            prop_assert_eq!(text(&packed), Some(token));
        }

        #[test]
        fn any_bytes_are_unpacked_or_refused_without_a_panic(packed in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(token) = unpack(&packed) {
                // What unpacks packs to something that unpacks to the same.
                prop_assert!(unpack(&pack(&token)).is_some_and(|again| again == token));
            }
        }
    }
}
