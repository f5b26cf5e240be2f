//! Reading cookies: the [`Jar`] borrows what the browser sent, and [`Cookies::open`] opens what of
//! it is sealed for us.
//!
//! The `Cookie` header (RFC 6265 §5.4) is anybody's text: several cookies of one name in no order
//! worth trusting, tossed in from sibling domains, stale chunks, garbage. So every cookie of a name
//! is a candidate, a chunk counts only in a complete group of one write, and a candidate counts only
//! when its seal opens. Everything is bounded: bytes and pairs looked at, candidates tried. Only
//! spaces and tabs in front of a name are skipped, since browsers allow no others there, and no
//! quote is removed: a reader that forgives more undoes the prefixes' protection. Nothing here
//! fails or tells why something did not open.

use std::borrow::Cow;

use base64::Engine as _;

use super::{
    CHUNK_HEADER_LEN, Cookies, HOST_PREFIX, Kind, LoginTag, MAX_CHUNKS, MAX_PAIR, Row, SECURE_PREFIX,
    SameSite, WriteHeader, is_base64url,
};
use crate::flow::StoreView;
use crate::head::Headers;
use crate::seal::{Associated, KeyRing, Opened, Opens};

/// The cookies of one request whose names have one of our prefixes, borrowed.
pub struct Jar<'a> {
    pairs: [Pair<'a>; INLINE],
    /// Those that did not find room in `pairs`; mostly none, and then not allocated.
    overflow: Vec<Pair<'a>>,
    used: usize,
    cut_off: bool,
    strict_hidden: bool,
    /// What a store says of the sessions that they name.
    view: Option<&'a StoreView>,
}

/// Name and value.
type Pair<'a> = (&'a [u8], &'a [u8]);

impl<'a> Jar<'a> {
    /// The cookies in a request's headers.
    pub fn of(headers: &'a impl Headers) -> Self {
        Self::new(headers.values(&http::header::COOKIE))
    }

    /// The cookies in the values of all `Cookie` headers: one in HTTP/1.1, any number in HTTP/2
    /// (RFC 9113 §8.2.3).
    pub fn new(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut jar = Self {
            pairs: [(&[], &[]); INLINE],
            overflow: Vec::new(),
            used: 0,
            cut_off: false,
            strict_hidden: false,
            view: None,
        };
        let (mut bytes_left, mut pairs_left) = (MAX_BYTES, MAX_PAIRS);
        'values: for value in values {
            let mut rest = value.get(..bytes_left).unwrap_or(value);
            jar.cut_off |= rest.len() < value.len();
            bytes_left = bytes_left.saturating_sub(value.len());
            while !rest.is_empty() {
                let pair;
                (pair, rest) = split_once(rest, b';').unwrap_or((rest, &[]));
                let pair = without_leading_space(pair);
                if pair.is_empty() {
                    continue;
                }
                if pairs_left == 0 {
                    jar.cut_off = true;
                    break 'values;
                }
                pairs_left = pairs_left.saturating_sub(1);
                if pair.starts_with(HOST_PREFIX.as_bytes()) || pair.starts_with(SECURE_PREFIX.as_bytes()) {
                    jar.keep(split_once(pair, b'=').unwrap_or((pair, &[])));
                }
            }
        }
        jar
    }

    /// Says that the request is a navigation from another site, as the provider's return to the
    /// callback is: the browser may hold `SameSite=Strict` cookies that it did not send. What then
    /// is set or cleared clears the unseen forms as well.
    #[must_use]
    pub fn hiding_strict(mut self) -> Self {
        self.strict_hidden = true;
        self
    }

    /// The same cookies, and what a store says of the sessions that they name.
    pub(crate) fn with_view(self, view: Option<&'a StoreView>) -> Self {
        Self { view, ..self }
    }

    /// What a store says, if one was asked.
    pub(crate) fn view(&self) -> Option<&'a StoreView> {
        self.view
    }

    /// Whether a cookie of exactly this name was sent. Names without one of our prefixes are not
    /// kept.
    pub fn present(&self, name: &str) -> bool {
        self.pairs().any(|(n, _)| n == name.as_bytes())
    }

    /// Whether the browser may hold cookies of this policy that are not in here.
    pub(super) fn may_hide(&self, same_site: SameSite) -> bool {
        self.cut_off || (self.strict_hidden && same_site == SameSite::Strict)
    }

    fn keep(&mut self, pair: Pair<'a>) {
        match self.pairs.get_mut(self.used) {
            Some(slot) => {
                *slot = pair;
                self.used = self.used.saturating_add(1);
            }
            None => self.overflow.push(pair),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = Pair<'a>> {
        self.pairs.iter().take(self.used).chain(&self.overflow).copied()
    }

    /// The whole values of the cookies of this name, in the browser's order.
    fn wholes(&self, name: Cow<'a, str>) -> impl Iterator<Item = Candidate<'a>> {
        self.pairs()
            .filter(move |(n, value)| *n == name.as_bytes() && fits(n, value))
            .map(|(_, value)| Candidate {
                header: None,
                parts: [value; MAX_CHUNKS as usize],
                count: 1,
            })
    }

    /// The complete groups of chunks, each of one write, of the cookie of this name. A group that
    /// misses a chunk is none.
    fn groups(&self, name: Cow<'a, str>) -> impl Iterator<Item = Candidate<'a>> {
        self.pairs().filter_map(move |pair| {
            let first = Chunk::parse(pair, &name).filter(|chunk| chunk.index == 1)?;
            let mut parts = [first.part; MAX_CHUNKS as usize];
            for (slot, index) in parts.iter_mut().zip(1..=first.count).skip(1) {
                let mut chunks = self.pairs().filter_map(|pair| Chunk::parse(pair, &name));
                let next = chunks.find(|chunk| chunk.index == index && chunk.header == first.header)?;
                *slot = next.part;
            }
            Some(Candidate {
                header: Some(first.header),
                parts,
                count: first.count,
            })
        })
    }
}

impl Cookies {
    /// Opens the cookies of a kind: whole ones in the browser's order, then chunked ones, each as it
    /// is asked for. The first is not "the" cookie: the caller takes the one whose session id is the
    /// anchor's, and of anchors that disagree none.
    ///
    /// For one whole cookie this allocates its decoded value and nothing else; the plaintext is in
    /// the same buffer.
    pub fn open<'a>(
        &'a self,
        kind: Kind,
        jar: &'a Jar<'a>,
        keys: &'a KeyRing,
    ) -> impl Iterator<Item = Opened> + 'a {
        self.open_with(kind, jar, keys)
    }

    /// The same with whatever opens.
    pub(crate) fn open_with<'a>(
        &'a self,
        kind: Kind,
        jar: &'a Jar<'a>,
        keys: &'a impl Opens,
    ) -> impl Iterator<Item = Opened> + 'a {
        let row = self.row(kind);
        let candidates = Self::candidates_of(&row, jar);
        candidates.filter_map(move |candidate| self.open_candidate(&row, &candidate, keys))
    }

    /// What may be cookies of a kind, in the order of [`Cookies::open`].
    pub(crate) fn candidates<'a>(
        &'a self,
        kind: Kind,
        jar: &'a Jar<'a>,
    ) -> impl Iterator<Item = Candidate<'a>> + 'a {
        Self::candidates_of(&self.row(kind), jar)
    }

    /// Opens one of them.
    pub(crate) fn open_one(
        &self,
        kind: Kind,
        candidate: &Candidate<'_>,
        keys: &impl Opens,
    ) -> Option<Opened> {
        self.open_candidate(&self.row(kind), candidate, keys)
    }

    fn candidates_of<'a>(row: &Row<'a>, jar: &'a Jar<'a>) -> impl Iterator<Item = Candidate<'a>> + use<'a> {
        let wholes = jar.wholes(row.name.clone()).take(MAX_TRIED);
        let groups = jar.groups(row.name.clone()).take(MAX_TRIED);
        wholes.chain(groups)
    }

    /// The pending sign-ins whose cookies were sent, each once.
    pub fn pending_logins(&self, jar: &Jar<'_>) -> Vec<LoginTag> {
        let mut tags = Vec::new();
        for (name, _) in jar.pairs() {
            let tag = name
                .strip_prefix(self.login.as_bytes())
                .and_then(|rest| rest.split_at_checked(8))
                .filter(|(_, suffix)| suffix.is_empty() || chunk_suffix(suffix).is_some())
                .and_then(|(tag, _)| LoginTag::parse(tag));
            if let Some(tag) = tag
                && !tags.contains(&tag)
            {
                tags.push(tag);
            }
        }
        tags
    }

    fn open_candidate(&self, row: &Row<'_>, candidate: &Candidate<'_>, keys: &impl Opens) -> Option<Opened> {
        let parts = candidate.parts();
        let encoded: usize = parts.iter().map(|part| part.len()).sum();
        // What the decoder's estimates come to, so that the buffer never grows.
        let mut sealed = Vec::with_capacity(encoded.div_ceil(4).saturating_mul(3));
        for part in parts {
            self.base64url.decode_vec(part, &mut sealed).ok()?;
        }
        let associated = Associated {
            application: &self.application,
            name: &row.name,
            chunk_header: candidate.header.as_ref().map_or(&[], WriteHeader::as_slice),
        };
        keys.open_owned(row.purpose, &associated, sealed)
    }
}

/// A value that may open: whole, or all chunks of one write in order.
pub(crate) struct Candidate<'a> {
    header: Option<WriteHeader>,
    parts: [&'a [u8]; MAX_CHUNKS as usize],
    count: u8,
}

impl Candidate<'_> {
    /// Its parts in order; one for a whole value.
    pub(crate) fn parts(&self) -> &[&[u8]] {
        self.parts.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// What stands in front of its chunks.
    pub(crate) fn header(&self) -> Option<WriteHeader> {
        self.header
    }
}

/// One chunk whose form is right.
struct Chunk<'a> {
    header: WriteHeader,
    index: u8,
    part: &'a [u8],
    count: u8,
}

impl<'a> Chunk<'a> {
    /// Reads a chunk of the cookie of this name.
    fn parse((name, value): Pair<'a>, of: &str) -> Option<Self> {
        let named = chunk_suffix(name.strip_prefix(of.as_bytes())?)?;
        let (header, [index, count], part) = split_chunk(value)?;
        let chunk = Self {
            header,
            index: digit(index)?,
            part,
            count: digit(count)?,
        };
        let good = header.iter().all(|b| is_base64url(*b))
            && (2..=MAX_CHUNKS).contains(&chunk.count)
            && (1..=chunk.count).contains(&chunk.index)
            && chunk.index == named
            && !part.is_empty()
            // All but the last are cut between base64's groups of four.
            && (chunk.index == chunk.count || part.len().is_multiple_of(4))
            && fits(name, value);
        good.then_some(chunk)
    }
}

/// Header, index and count, and the part of the value.
fn split_chunk(value: &[u8]) -> Option<(WriteHeader, [u8; 2], &[u8])> {
    let ([a, b, c, d, e, f, g, h, index, count], part) = value.split_first_chunk::<CHUNK_HEADER_LEN>()?;
    Some(([*a, *b, *c, *d, *e, *f, *g, *h, *count], [*index, *count], part))
}

/// The number behind a chunk's name.
fn chunk_suffix(suffix: &[u8]) -> Option<u8> {
    match suffix {
        [b'.', number] => digit(*number).filter(|number| *number > 0),
        _ => None,
    }
}

fn digit(byte: u8) -> Option<u8> {
    byte.is_ascii_digit().then(|| byte.wrapping_sub(b'0'))
}

/// Whether we could have written this: no browser keeps more.
fn fits(name: &[u8], value: &[u8]) -> bool {
    name.len().saturating_add(value.len()) <= MAX_PAIR
}

fn without_leading_space(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// What stands in front of the first such byte and what behind it.
fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    // Whole blocks without a branch inside become vector instructions: values are long.
    let (blocks, _) = text.as_chunks::<BLOCK>();
    let clear = blocks
        .iter()
        .position(|block| block.iter().fold(false, |hit, byte| hit | (*byte == at)))
        .unwrap_or(blocks.len());
    let start = clear.saturating_mul(BLOCK);
    let within = text.get(start..)?.iter().position(|byte| *byte == at)?;
    let (front, behind) = text.split_at_checked(start.saturating_add(within))?;
    Some((front, behind.get(1..)?))
}

/// How many of our cookies are kept without an allocation: more than a browser normally has.
const INLINE: usize = 16;

/// The most pairs looked at. Browsers keep at most 180 cookies for a site.
const MAX_PAIRS: usize = 200;

/// The most bytes looked at: sixty cookies of the largest size, tossed in front of ours, do not hide
/// them.
const MAX_BYTES: usize = 256 * 1024;

/// The most whole values, and the most complete groups of chunks, that are tried.
const MAX_TRIED: usize = 4;

const BLOCK: usize = 32;

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::{HeaderMap, HeaderValue, header};
    use proptest::prelude::*;

    use super::super::testing::{Browser, WHOLE, keys, kinds, open, plaintext, shop};
    use super::super::{base64url, testing};
    use super::*;

    const CHUNKED: usize = 9000;

    #[test]
    fn every_kind_opens_whole_and_in_chunks_and_only_as_itself() {
        let (table, keys) = (shop(), keys("a"));
        for kind in kinds() {
            for length in [0, 1, 100, CHUNKED] {
                let mut browser = Browser::default();
                browser.seal(&table, kind, &plaintext(length), &keys, 1);
                assert_eq!(
                    open(&table, kind, &browser.header(), &keys),
                    [plaintext(length)],
                    "{kind:?}"
                );
                for other in kinds().into_iter().filter(|other| *other != kind) {
                    // Under its own name, and renamed to each other's.
                    assert!(open(&table, other, &browser.header(), &keys).is_empty());
                    let renamed = browser.header().replace(&*table.name(kind), &table.name(other));
                    assert!(
                        open(&table, other, &renamed, &keys).is_empty(),
                        "{kind:?} as {other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn another_applications_cookie_does_not_open_under_our_name() {
        let (table, keys) = (shop(), keys("a"));
        for length in [100, CHUNKED] {
            let mut browser = Browser::default();
            browser.seal(
                &testing::cookies_of("shop2"),
                Kind::Access,
                &plaintext(length),
                &keys,
                1,
            );
            let renamed = browser.header().replace("shop2", "shop");
            assert!(open(&table, Kind::Access, &renamed, &keys).is_empty());
        }
    }

    #[test]
    fn a_rotation_in_two_steps_opens_whole_and_chunked_cookies_at_every_step() {
        let table = shop();
        for length in [100, CHUNKED] {
            let mut browser = Browser::default();
            browser.seal(&table, Kind::Session, &plaintext(length), &keys("a"), 1);
            for (ring, old) in [("a", false), ("ab", false), ("ba", true)] {
                let header = browser.header();
                let (jar, keys) = (Jar::new([header.as_bytes()]), keys(ring));
                let opened = table.open(Kind::Session, &jar, &keys).next().expect("it opens");
                assert_eq!(opened.under_old_key(), old, "{ring}");
            }
            browser.seal(&table, Kind::Session, &plaintext(length), &keys("ba"), 2);
            assert_eq!(
                open(&table, Kind::Session, &browser.header(), &keys("b")),
                [plaintext(length)]
            );
        }
    }

    /// The chunks of one write, as pairs.
    fn chunks(seed: u64, length: usize) -> Vec<(String, String)> {
        let mut browser = Browser::default();
        browser.seal(&shop(), Kind::Session, &plaintext(length), &keys("a"), seed);
        browser.0
    }

    fn opens(pairs: &[(String, String)]) -> Vec<usize> {
        let header = Browser(pairs.to_vec()).header();
        let opened = open(&shop(), Kind::Session, &header, &keys("a"));
        opened.iter().map(Vec::len).collect()
    }

    #[test]
    fn chunks_open_in_any_order_but_only_complete_and_unchanged() {
        let good = chunks(1, CHUNKED);
        assert_eq!(good.len(), 3);
        assert_eq!(opens(&good), [CHUNKED]);

        let mut reversed = good.clone();
        reversed.reverse();
        assert_eq!(opens(&reversed), [CHUNKED]);

        for missing in 0..3 {
            let mut less = good.clone();
            less.remove(missing);
            assert!(opens(&less).is_empty(), "without chunk {missing}");
        }

        type Change = fn(&mut Vec<(String, String)>);
        let changes: [(&str, Change); 14] = [
            ("names swapped", |c| {
                let name = c[0].0.clone();
                c[0].0 = std::mem::replace(&mut c[1].0, name);
            }),
            ("values swapped", |c| {
                let value = c[0].1.clone();
                c[0].1 = std::mem::replace(&mut c[1].1, value);
            }),
            ("parts swapped under their headers", |c| {
                let (one, two) = (c[0].1[10..].to_owned(), c[1].1[10..].to_owned());
                c[0].1.replace_range(10.., &two);
                c[1].1.replace_range(10.., &one);
            }),
            ("last part truncated", |c| c[2].1.truncate(50)),
            ("first part truncated by a group of four", |c| {
                let length = c[0].1.len() - 4;
                c[0].1.truncate(length);
            }),
            ("first part not whole groups of four", |c| {
                c[0].1.pop();
            }),
            ("last part empty", |c| c[2].1.truncate(10)),
            ("header cut", |c| c[1].1.truncate(9)),
            ("write id changed in all", |c| {
                for (_, value) in c {
                    value.replace_range(0..8, "AAAAAAAA");
                }
            }),
            ("write id of foreign characters", |c| {
                for (_, value) in c {
                    value.replace_range(0..8, "AAAA.AAA");
                }
            }),
            ("count changed in all", |c| {
                for (_, value) in c {
                    value.replace_range(9..10, "4");
                }
            }),
            ("count lowered and the last left out", |c| {
                c.pop();
                for (_, value) in c {
                    value.replace_range(9..10, "2");
                }
            }),
            ("index zero", |c| c[0].1.replace_range(8..9, "0")),
            ("a bit of the middle part", |c| {
                let old = c[1].1.as_bytes()[500];
                c[1].1
                    .replace_range(500..501, if old == b'A' { "B" } else { "A" });
            }),
        ];
        for (name, change) in changes {
            let mut changed = good.clone();
            change(&mut changed);
            assert!(opens(&changed).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_group_of_one_and_more_chunks_than_the_writer_makes_are_refused() {
        let (table, keys) = (shop(), keys("a"));
        for (count, opened) in [
            ("0", 0),
            ("1", 0),
            ("2", 1),
            ("3", 1),
            ("5", 1),
            ("6", 0),
            ("9", 0),
        ] {
            // Sealed for exactly this header, so that only the form stands against it.
            let header = format!("abcdefgh{count}");
            let associated = Associated {
                application: &crate::config::AppId::parse("shop").expect("a good id"),
                name: &table.name(Kind::Session),
                chunk_header: header.as_bytes(),
            };
            let sealed = keys.seal(
                crate::seal::Purpose::Session,
                &associated,
                &plaintext(300),
                &mut crate::rng::testing::Counter(1),
            );
            let parts = count.parse::<usize>().expect("a digit").max(1);
            let pairs: Vec<_> = sealed
                .chunks(sealed.len().div_ceil(parts).next_multiple_of(3))
                .zip(1..)
                .map(|(part, i)| {
                    let value = format!("abcdefgh{i}{count}{}", URL_SAFE_NO_PAD.encode(part));
                    (format!("__Secure-shop-session.{i}"), value)
                })
                .collect();
            assert_eq!(opens(&pairs).len(), opened, "count {count}");
        }
    }

    #[test]
    fn a_chunk_of_any_other_form_is_none() {
        let long = "A".repeat(MAX_PAIR - 12);
        for (name, value, good) in [
            ("n.1", "abcd-_0912AAAA".to_owned(), true),
            ("n.2", "abcd-_0922A".to_owned(), true),
            ("n.5", "abcd-_0955AAAA".to_owned(), true),
            ("n.2", format!("abcd-_0922{}", &long[1..]), true),
            ("n.2", format!("abcd-_0922{long}"), false),
            ("n.1", "abcd-_0912".to_owned(), false),
            ("n.2", "abcd-_0922".to_owned(), false),
            ("n.1", "abcd-_091".to_owned(), false),
            ("n.1", String::new(), false),
            ("n.1", "abcd-_0912AAA".to_owned(), false),
            ("n.1", "abcd-_0912AAAAA".to_owned(), false),
            ("n.1", "abcd-_0911AAAA".to_owned(), false),
            ("n.1", "abcd-_0910AAAA".to_owned(), false),
            ("n.1", "abcd-_0916AAAA".to_owned(), false),
            ("n.3", "abcd-_0932AAAA".to_owned(), false),
            ("n.0", "abcd-_0902AAAA".to_owned(), false),
            ("n.1", "abcd-_09x2AAAA".to_owned(), false),
            ("n.1", "abcd-_091xAAAA".to_owned(), false),
            ("n.1", "abcd+/0912AAAA".to_owned(), false),
            ("n.2", "abcd-_0912AAAA".to_owned(), false),
            ("n", "abcd-_0912AAAA".to_owned(), false),
            ("n.", "abcd-_0912AAAA".to_owned(), false),
            ("n.01", "abcd-_0912AAAA".to_owned(), false),
            ("n1", "abcd-_0912AAAA".to_owned(), false),
            ("m.1", "abcd-_0912AAAA".to_owned(), false),
        ] {
            let chunk = Chunk::parse((name.as_bytes(), value.as_bytes()), "n");
            assert_eq!(chunk.is_some(), good, "{name}={value}");
        }
    }

    #[test]
    fn stale_and_tossed_chunks_hurt_nobody() {
        let new = chunks(1, CHUNKED);
        let stale = chunks(2, CHUNKED + 2500); // four chunks
        let garbage = |name: &str, value: &str| (format!("__Secure-shop-session{name}"), value.to_owned());
        assert_eq!(stale.len(), 4);

        // The end of a longer, older write is left over.
        assert_eq!(opens(&[new.clone(), stale[3..].to_vec()].concat()), [CHUNKED]);
        // Both writes are complete: both are candidates.
        assert_eq!(
            opens(&[stale.clone(), new.clone()].concat()),
            [CHUNKED + 2500, CHUNKED]
        );
        // A sibling domain tosses garbage with a longer path, which comes first.
        let tossed = vec![
            garbage(".1", "x"),
            garbage(".1", "AAAAAAAA12xxxx"),
            garbage(".2", ""),
            garbage(".1", &new[1].1),
            garbage(".3", "AAAAAAAA99AAAA"),
            garbage(".0", "AAAAAAAA02AAAA"),
            garbage(".01", &new[0].1),
            garbage("", "garbage"),
            garbage("", ""),
        ];
        assert_eq!(opens(&[tossed, new.clone()].concat()), [CHUNKED]);
        // A tossed group that is complete does not open, and the real one is tried after it.
        let other_keys = {
            let mut browser = Browser::default();
            browser.seal(&shop(), Kind::Session, &plaintext(CHUNKED), &keys("b"), 3);
            browser.0
        };
        assert_eq!(opens(&[other_keys, new].concat()), [CHUNKED]);
    }

    #[test]
    fn at_most_four_whole_values_and_four_groups_are_tried() {
        let writes: Vec<_> = (1..=6)
            .map(|seed| chunks(seed, CHUNKED + seed as usize))
            .collect();
        let expected: Vec<_> = (1..=4).map(|seed| CHUNKED + seed).collect();
        assert_eq!(opens(&writes.concat()), expected);

        let whole: Vec<_> = (1..=6).map(|seed| chunks(seed, seed as usize)).collect();
        assert_eq!(opens(&whole.concat()), [1, 2, 3, 4]);
        assert_eq!(
            opens(&[writes.concat(), whole.concat()].concat()),
            [vec![1, 2, 3, 4], expected].concat()
        );
    }

    #[test]
    fn a_value_larger_than_a_browser_keeps_is_not_tried() {
        let (table, keys) = (shop(), keys("a"));
        let name = table.name(Kind::Access);
        for (length, opens) in [(WHOLE, 1), (WHOLE + 3, 0)] {
            let associated = Associated {
                application: &crate::config::AppId::parse("shop").expect("a good id"),
                name: &name,
                chunk_header: &[],
            };
            let mut rng = crate::rng::testing::Counter(1);
            let sealed = keys.seal(
                crate::seal::Purpose::Access,
                &associated,
                &plaintext(length),
                &mut rng,
            );
            let header = format!("{name}={}", URL_SAFE_NO_PAD.encode(sealed));
            assert_eq!(
                open(&table, Kind::Access, &header, &keys).len(),
                opens,
                "{length}"
            );
        }
    }

    #[test]
    fn the_header_is_read_as_browsers_write_it_and_no_more_leniently() {
        let (table, keys) = (shop(), keys("a"));
        let mut browser = Browser::default();
        browser.seal(&table, Kind::Access, b"x", &keys, 1);
        let pair = browser.header();
        let (name, value) = pair.split_once('=').expect("a pair");
        for (header, opens) in [
            (pair.clone(), 1),
            (format!("a=b; {pair}; c=d"), 1),
            (format!("a=b;{pair}"), 1),
            (format!("; ;;\t {pair};"), 1),
            (format!("{pair}; {pair}"), 2),
            (format!("a; =; =x; {pair}"), 1),
            // What a browser would not send under this name.
            (format!("{name} ={value}"), 0),
            (format!("{name}= {value}"), 0),
            (format!("{name}={value} "), 0),
            (format!("{name}=\"{value}\""), 0),
            (format!("\u{a0}{pair}"), 0),
            (format!("\u{2000}{pair}"), 0),
            (format!("\u{b}{pair}"), 0),
            (format!("={pair}"), 0),
            (format!("$Version=1,{pair}"), 0),
            (pair.to_lowercase(), 0),
            (format!("{}={value}", name.replace("Host", "HOST")), 0),
            (format!("{pair}="), 0),
            (format!("{pair}=="), 0),
            (name.to_owned(), 0),
        ] {
            assert_eq!(
                open(&table, Kind::Access, &header, &keys).len(),
                opens,
                "{header}"
            );
        }
    }

    #[test]
    fn cookies_spread_over_several_headers_are_one_jar() {
        let (table, keys) = (shop(), keys("a"));
        let mut browser = Browser::default();
        browser.seal(&table, Kind::Session, &plaintext(CHUNKED), &keys, 1);
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b"));
        for (name, value) in &browser.0 {
            let pair = HeaderValue::from_str(&format!("{name}={value}")).expect("ASCII");
            headers.append(header::COOKIE, pair);
        }
        let jar = Jar::of(&headers);
        assert_eq!(table.open(Kind::Session, &jar, &keys).count(), 1);
        assert!(jar.present("__Secure-shop-session.3"));
        assert!(!jar.present("__Secure-shop-session"));
        assert!(!jar.present("a"), "only names with our prefixes are kept");
    }

    #[test]
    fn sixty_of_the_largest_cookies_do_not_hide_ours_and_the_bounds_hold() {
        let (table, keys) = (shop(), keys("a"));
        let mut browser = Browser::default();
        browser.seal(&table, Kind::Access, b"x", &keys, 1);
        let ours = browser.header();
        let many = |count: usize, name: &str, length: usize| {
            let pair = |i| format!("{name}{i}={}; ", "A".repeat(length));
            (0..count).map(pair).collect::<String>()
        };
        for (name, header, opens) in [
            ("sixty of theirs", many(60, "other", 3900) + &ours, 1),
            (
                "sixty like ours",
                many(60, "__Secure-shop-session.", 3900) + &ours,
                1,
            ),
            ("a browser full", many(180, "o", 10) + &ours, 1),
            ("199 pairs before", many(199, "o", 1) + &ours, 1),
            ("200 pairs before", many(200, "o", 1) + &ours, 0),
            ("200 pairs behind", format!("{ours}; {}", many(200, "o", 1)), 1),
            ("too many bytes before", many(1, "o", 300_000) + &ours, 0),
            ("separators only", ";".repeat(100_000) + &ours, 1),
        ] {
            assert_eq!(open(&table, Kind::Access, &header, &keys).len(), opens, "{name}");
        }
        // The bound is one for all headers together.
        let (first, second) = (many(1, "o", 200_000), many(1, "o", 100_000));
        let jar = Jar::new([first.as_bytes(), second.as_bytes(), ours.as_bytes()]);
        assert_eq!(table.open(Kind::Access, &jar, &keys).count(), 0);
        assert!(jar.may_hide(SameSite::Lax), "what was cut off may hold anything");
    }

    #[test]
    fn a_jar_holds_more_of_ours_than_it_keeps_inline() {
        let header: String = (0..100).map(|i| format!("__Secure-shop-x{i}=; ")).collect();
        let jar = Jar::new([header.as_bytes()]);
        assert!((0..100).all(|i| jar.present(&format!("__Secure-shop-x{i}"))));
    }

    #[test]
    fn a_navigation_from_another_site_hides_strict_cookies_only() {
        let jar = Jar::new([b"a=b".as_slice()]);
        assert!(!jar.may_hide(SameSite::Strict));
        let jar = jar.hiding_strict();
        assert!(jar.may_hide(SameSite::Strict) && !jar.may_hide(SameSite::Lax));
    }

    #[test]
    fn pending_sign_ins_are_listed_once_each() {
        let table = shop();
        let (one, two) = (LoginTag::of("one"), LoginTag::of("two"));
        let name = |tag| table.name(Kind::Login(tag));
        let header = [
            format!("{}=x", name(one)),
            format!("{}.1=x; {}.2=x", name(two), name(two)),
            format!("{}=tossed", name(one)),
            "__Host-Http-shop-login-short=x; __Host-Http-shop-login-abcdefghi=x".to_owned(),
            "__Host-Http-shop-login-abcdefgh.x=x; __Host-Http-shop-login-abcd!fgh=x".to_owned(),
            "__Host-Http-shop-login-abcdefgh.0=x; __Host-Http-shop-login-abcdefgh.=x".to_owned(),
            "__Host-Http-other-login-abcdefgh=x".to_owned(),
        ]
        .join("; ");
        assert_eq!(table.pending_logins(&Jar::new([header.as_bytes()])), [one, two]);
    }

    #[test]
    fn splitting_finds_the_first_byte_wherever_it_stands() {
        for length in 0..100 {
            let text = vec![b'a'; length];
            assert_eq!(split_once(&text, b';'), None);
            for at in 0..length {
                let mut text = text.clone();
                text[at] = b';';
                text[length - 1] = b';';
                let (front, behind) = split_once(&text, b';').expect("it is there");
                assert_eq!((front.len(), behind.len()), (at, length - at - 1));
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_jar_that_opens_nothing(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..5)
        ) {
            check_nothing_opens(&values)?;
        }

        #[test]
        fn anything_that_looks_like_our_cookies_opens_nothing(
            values in prop::collection::vec(
                "(; ?|__Host-Http-shop-(access|login-abcdefgh)|__Secure-shop-session|\\.[0-9]|=|[A-Za-z0-9_-]{8}[0-9][0-9]|[A-Za-z0-9_-]{0,90}){0,40}",
                0..4,
            )
        ) {
            check_nothing_opens(&values)?;
        }

        #[test]
        fn simd_decodes_what_the_scalar_engine_decodes(mut text in "[A-Za-z0-9_-]{0,300}", at in any::<usize>(), with in any::<char>()) {
            prop_assert_eq!(base64url().decode(&text), URL_SAFE_NO_PAD.decode(&text));
            if !text.is_empty() {
                text.replace_range(at % text.len()..=at % text.len(), &with.to_string());
                prop_assert_eq!(base64url().decode(&text).ok(), URL_SAFE_NO_PAD.decode(&text).ok());
            }
        }
    }

    fn check_nothing_opens<T: AsRef<[u8]>>(values: &[T]) -> Result<(), TestCaseError> {
        let (table, keys) = (shop(), keys("ab"));
        let jar = Jar::new(values.iter().map(AsRef::as_ref)).hiding_strict();
        for kind in kinds() {
            prop_assert_eq!(table.open(kind, &jar, &keys).count(), 0);
            prop_assert!(!table.clear(kind, &jar).is_empty());
        }
        prop_assert!(table.pending_logins(&jar).len() <= MAX_PAIRS);
        Ok(())
    }
}
