//! Precompressed variants: which of them a client takes (RFC 9110 §12.5.3).
//!
//! A variant is a file beside the file, with one more ending. Nothing is ever compressed here.

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// A content coding for which a build may have left a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstandard,
    /// RFC 1952.
    Gzip,
}

impl Encoding {
    const ALL: [Self; 3] = [Self::Brotli, Self::Zstandard, Self::Gzip];

    /// Its name in HTTP.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstandard => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What a variant's name ends in.
    pub(super) const fn ending(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstandard => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// The codings that a client takes, each with its weight in thousandths.
pub(super) fn accepted(headers: &HeaderMap) -> Vec<(Encoding, u16)> {
    let mut any = 0;
    let mut named: Vec<(Encoding, u16)> = Vec::new();
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    for item in values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let (coding, weight) = match item.split_once(';') {
            Some((coding, parameter)) => (coding.trim(), weight(parameter)),
            None => (item.trim(), 1000),
        };
        if coding == "*" {
            any = weight;
        } else if let Some(encoding) = Encoding::ALL
            .into_iter()
            .find(|encoding| is_called(*encoding, coding))
        {
            named.push((encoding, weight));
        }
    }
    Encoding::ALL
        .into_iter()
        .map(|encoding| {
            let known = named.iter().find(|(known, _)| *known == encoding);
            (encoding, known.map_or(any, |(_, weight)| *weight))
        })
        .filter(|(_, weight)| *weight > 0)
        .collect()
}

fn is_called(encoding: Encoding, coding: &str) -> bool {
    let legacy = encoding == Encoding::Gzip && coding.eq_ignore_ascii_case("x-gzip");
    legacy || coding.eq_ignore_ascii_case(encoding.name())
}

/// RFC 9110 §12.4.2; what is malformed weighs nothing.
fn weight(parameter: &str) -> u16 {
    let Some(("q" | "Q", value)) = parameter.trim().split_once('=') else {
        return 0;
    };
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    match (whole, digits) {
        ("0", true) => format!("{fraction:0<3}").parse().unwrap_or(0),
        ("1", true) if fraction.bytes().all(|b| b == b'0') => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn codings_are_taken_as_the_client_weighs_them() {
        use Encoding::{Brotli, Gzip, Zstandard};
        type Row = (&'static [&'static str], &'static [(Encoding, u16)]);
        let rows: [Row; 12] = [
            (&[], &[]),
            (&[""], &[]),
            (&["gzip"], &[(Gzip, 1000)]),
            (&["X-GZIP"], &[(Gzip, 1000)]),
            (
                &["gzip, deflate, br, zstd"],
                &[(Brotli, 1000), (Zstandard, 1000), (Gzip, 1000)],
            ),
            (&["gzip", "br"], &[(Brotli, 1000), (Gzip, 1000)]),
            (&["br;q=0.5, gzip;q=0.75"], &[(Brotli, 500), (Gzip, 750)]),
            (&["br;q=0, gzip;q=0.000, zstd;q=1.000"], &[(Zstandard, 1000)]),
            (&["*"], &[(Brotli, 1000), (Zstandard, 1000), (Gzip, 1000)]),
            (&["*;q=0.1, br;q=0"], &[(Zstandard, 100), (Gzip, 100)]),
            (&["br;q=2, gzip;q=x, zstd;level=3"], &[]),
            (&["identity, compress"], &[]),
        ];
        for (values, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(accepted(&headers), expected, "{values:?}");
        }
    }
}
