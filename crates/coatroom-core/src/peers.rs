//! Peers that may say for whom they ask: which client a request comes from.
//!
//! RFC 7239 (`Forwarded`) and the older `X-Forwarded-For`. Only a listed peer is believed, only
//! the one header that it is said to write is read, and that strictly from right to left: each
//! address was written by the hop behind it, so what stands left of the first address that is not
//! listed is the client's own invention. Host and scheme are never taken from a peer: the
//! configuration knows both. No `unix` listed, no address believed over a Unix socket.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderName, header};
use ipnet::IpNet;

use crate::error::Error;
use crate::head::Headers;
use crate::headers::ClientFacts;

/// Who is believed, and in which header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedPeers {
    networks: Vec<IpNet>,
    unix: bool,
    header: PeerHeader,
}

/// The header in which listed peers say who their client is. Never two: a peer that writes one of
/// them passes the other one on as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Why an entry of the list is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerProblem {
    /// It is no address, range or `unix`.
    #[error("expected an IP address, a range of addresses, or `unix`")]
    NoAddress,
    /// Bits behind the prefix are set.
    #[error("the address has bits set behind the length of its prefix")]
    HostBits,
    /// It lists the whole world.
    #[error("a range of every address would believe whatever any client says of itself")]
    Everybody,
}

impl TrustedPeers {
    /// Nobody.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Reads a list of addresses, ranges (`10.0.0.0/8`) and `unix`.
    ///
    /// # Errors
    /// The first entry that is none of these, by its position.
    pub fn parse<T: AsRef<str>>(entries: &[T], header: PeerHeader) -> Result<Self, (usize, PeerProblem)> {
        let mut peers = Self {
            header,
            ..Self::default()
        };
        for (index, entry) in entries.iter().enumerate() {
            match entry.as_ref() {
                "unix" => peers.unix = true,
                text => peers.networks.push(network(text).map_err(|why| (index, why))?),
            }
        }
        Ok(peers)
    }

    /// Whether nobody is listed.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Where listed peers say who their client is.
    pub fn header(&self) -> PeerHeader {
        self.header
    }

    /// Whether whoever connects from there is listed; no address is a Unix socket.
    pub fn lists(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(address) => {
                let address = address.to_canonical();
                self.networks.iter().any(|network| network.contains(&address))
            }
            None => self.unix,
        }
    }

    /// Who the client is, as far as the connection and listed peers say.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when `Forwarded` from a listed peer is malformed: then nobody can say
    /// which part of it the client wrote.
    pub fn client(&self, peer: Option<IpAddr>, headers: &impl Headers) -> Result<ClientFacts, Error> {
        let mut address = peer.map(|peer| peer.to_canonical());
        if self.is_empty() || !self.lists(peer) {
            return Ok(ClientFacts { address });
        }
        let hops = match self.header {
            PeerHeader::XForwardedFor => x_forwarded_for(headers),
            PeerHeader::Forwarded => forwarded(headers)?,
        };
        for hop in hops.iter().rev().take(MAX_HOPS) {
            // whoever is hidden here is beyond what anybody listed says
            let Some(said) = hop else { break };
            address = Some(*said);
            if !self.lists(address) {
                break;
            }
        }
        Ok(ClientFacts { address })
    }
}

/// Who is listed: addresses, ranges and `unix`.
impl fmt::Display for TrustedPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for network in &self.networks {
            f.write_str(separator)?;
            if network.prefix_len() == network.max_prefix_len() {
                write!(f, "{}", network.addr())?;
            } else {
                write!(f, "{network}")?;
            }
            separator = " ";
        }
        if self.unix {
            write!(f, "{separator}unix")?;
        }
        Ok(())
    }
}

fn network(text: &str) -> Result<IpNet, PeerProblem> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => canonical(text.parse::<IpNet>().map_err(|_| PeerProblem::NoAddress)?),
    };
    if network.prefix_len() == 0 {
        return Err(PeerProblem::Everybody);
    }
    if network.trunc() != network {
        return Err(PeerProblem::HostBits);
    }
    Ok(network)
}

/// IPv4 networks that are written as IPv6 (RFC 4291 §2.5.5.2): addresses are compared in short form.
fn canonical(network: IpNet) -> IpNet {
    let short = network.addr().to_canonical();
    match network.prefix_len().checked_sub(96) {
        Some(prefix) if short.is_ipv4() && network.addr().is_ipv6() => {
            IpNet::new(short, prefix).unwrap_or(network)
        }
        _ => network,
    }
}

/// Every hop from left to right; none where what stands there is no address.
type Hops = Vec<Option<IpAddr>>;

fn x_forwarded_for(headers: &impl Headers) -> Hops {
    headers
        .values(&X_FORWARDED_FOR)
        .flat_map(|line| line.split(|b| *b == b','))
        .map(|item| node(std::str::from_utf8(item.trim_ascii()).ok()?))
        .collect()
}

/// `Forwarded` (RFC 7239 §4): elements of pairs, values perhaps quoted.
fn forwarded(headers: &impl Headers) -> Result<Hops, Error> {
    let mut hops = Hops::new();
    for line in headers.values(&header::FORWARDED) {
        let line = std::str::from_utf8(line).map_err(|_| MALFORMED)?;
        for element in split(line, ',')? {
            hops.push(element_for(element)?);
        }
    }
    Ok(hops)
}

/// The node of one element's `for`.
fn element_for(element: &str) -> Result<Option<IpAddr>, Error> {
    let mut found = None;
    for pair in split(element, ';')? {
        let (name, value) = pair.split_once('=').ok_or(MALFORMED)?;
        let is_token =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        let value = match value.strip_prefix('"').map(|rest| rest.strip_suffix('"')) {
            Some(Some(quoted)) if !quoted.contains(['"', '\\']) => quoted,
            None if is_token(value) => value,
            // an escape occurs in no address
            Some(Some(_) | None) | None => return Err(MALFORMED),
        };
        if !is_token(name) {
            return Err(MALFORMED);
        }
        if name.eq_ignore_ascii_case("for") && found.replace(node(value)).is_some() {
            return Err(MALFORMED);
        }
    }
    Ok(found.flatten())
}

/// Splits where no quoted string is open.
fn split(text: &str, separator: char) -> Result<Vec<&str>, Error> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let parts = text
        .split(|c| {
            let was_escaped = std::mem::replace(&mut is_escaped, false);
            match c {
                _ if was_escaped => false,
                '\\' => {
                    is_escaped = is_quoted;
                    false
                }
                '"' => {
                    is_quoted = !is_quoted;
                    false
                }
                _ => c == separator && !is_quoted,
            }
        })
        .map(|part| part.trim_matches([' ', '\t']))
        .collect();
    if is_quoted { Err(MALFORMED) } else { Ok(parts) }
}

/// An address as proxies write it: bare, in brackets, with a port. Nothing else is one, neither
/// `unknown` nor a zone.
fn node(text: &str) -> Option<IpAddr> {
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !port.is_empty() {
            is_port(port.strip_prefix(':')?)?;
        }
        IpAddr::V6(address.parse().ok()?)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = text.rsplit_once(':')?;
        is_port(port)?;
        IpAddr::V4(address.parse().ok()?)
    };
    Some(address.to_canonical())
}

fn is_port(text: &str) -> Option<()> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    (digits && text.parse::<u16>().is_ok()).then_some(())
}

const MALFORMED: Error = Error::InvalidRequest("`Forwarded` is malformed (RFC 7239 section 4)");

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// More listed hops than anybody has behind each other.
const MAX_HOPS: usize = 32;

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn peers(header: PeerHeader) -> TrustedPeers {
        TrustedPeers::parse(&["10.0.0.0/8", "::1", "2001:db8:ffff::/48"], header).expect("a list")
    }

    fn map(name: &'static str, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).expect("a value"));
        }
        headers
    }

    fn text(facts: &ClientFacts) -> String {
        facts
            .address
            .map_or_else(|| "nobody".to_owned(), |address| address.to_string())
    }

    #[test]
    fn the_list_is_shown_as_it_is_written() {
        for list in [
            &[][..],
            &["unix"],
            &["127.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "unix"],
        ] {
            let peers = TrustedPeers::parse(list, PeerHeader::Forwarded).expect("good");
            assert_eq!(peers.to_string(), list.join(" "));
            assert_eq!(peers.header(), PeerHeader::Forwarded);
        }
    }

    #[test]
    fn x_forwarded_for_is_read_from_right_to_left_and_from_listed_peers_only() {
        for (name, peer, lines, client) in [
            ("nothing said", PROXY, &[][..], PROXY),
            ("one hop", PROXY, &["192.0.2.7"], "192.0.2.7"),
            ("a spoofed start", PROXY, &["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
            (
                "listed hops are walked through",
                PROXY,
                &["192.0.2.7, 10.1.1.1, 10.2.2.2"],
                "192.0.2.7",
            ),
            (
                "a spoof behind listed hops",
                PROXY,
                &["10.9.9.9, 192.0.2.7, 10.2.2.2"],
                "192.0.2.7",
            ),
            (
                "lines are one list",
                PROXY,
                &["203.0.113.1", "192.0.2.7, 10.2.2.2"],
                "192.0.2.7",
            ),
            ("only listed ones", PROXY, &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            ("an unlisted peer", "192.0.2.9", &["203.0.113.1"], "192.0.2.9"),
            (
                "an unlisted peer that names a listed one",
                "192.0.2.9",
                &["10.0.0.1"],
                "192.0.2.9",
            ),
            ("ports and brackets", PROXY, &["192.0.2.7:4711"], "192.0.2.7"),
            ("v6 in brackets", PROXY, &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("v6 bare", PROXY, &["2001:db8::1"], "2001:db8::1"),
            ("mapped v4", PROXY, &["::ffff:192.0.2.7"], "192.0.2.7"),
            (
                "a listed peer over v6",
                "::ffff:10.0.0.1",
                &["192.0.2.7"],
                "192.0.2.7",
            ),
            ("v6 listed", "2001:db8:ffff:1::2", &["192.0.2.7"], "192.0.2.7"),
            ("no address", PROXY, &["192.0.2.7, unknown"], PROXY),
            ("empty", PROXY, &[""], PROXY),
            ("an empty item", PROXY, &["192.0.2.7,"], PROXY),
            ("a zone", PROXY, &["fe80::1%eth0"], PROXY),
            ("a port that is none", PROXY, &["192.0.2.7:99999"], PROXY),
            ("a sign in the port", PROXY, &["192.0.2.7:+1"], PROXY),
            ("a name", PROXY, &["localhost"], PROXY),
            ("octal", PROXY, &["192.0.2.010"], PROXY),
        ] {
            let peer = Some(peer.parse().expect("an address"));
            let facts = peers(PeerHeader::XForwardedFor).client(peer, &map("x-forwarded-for", lines));
            assert_eq!(text(&facts.expect("well-formed")), client, "{name}");
        }
    }

    #[test]
    fn forwarded_is_read_from_right_to_left() {
        for (name, lines, client) in [
            ("one hop", &["for=192.0.2.7"][..], Some("192.0.2.7")),
            (
                "more pairs, any case",
                &["proto=https;FOR=192.0.2.7;host=a"],
                Some("192.0.2.7"),
            ),
            ("v6", &[r#"for="[2001:db8::1]:4711""#], Some("2001:db8::1")),
            (
                "a spoofed start",
                &["for=127.0.0.1, for=192.0.2.7"],
                Some("192.0.2.7"),
            ),
            (
                "listed hops",
                &["for=192.0.2.7", "for=10.1.1.1;by=_x, for=10.2.2.2"],
                Some("192.0.2.7"),
            ),
            (
                "commas in quotes",
                &[r#"host="a,for=1.2.3.4";for=192.0.2.7"#],
                Some("192.0.2.7"),
            ),
            ("a hidden hop", &["for=192.0.2.7, for=_hidden"], Some(PROXY)),
            ("unknown", &["for=unknown"], Some(PROXY)),
            ("no for", &["proto=https"], Some(PROXY)),
            (
                "an open quote that would swallow the proxy's own",
                &[r#"for="x, for=192.0.2.7"#],
                None,
            ),
            (
                "the same, closed by the proxy's",
                &[r#"for=", for="[2001:db8::1]""#],
                None,
            ),
            ("two fors", &["for=192.0.2.7;for=192.0.2.8"], None),
            ("no pair", &["for"], None),
            ("empty", &[""], None),
            ("an empty element", &["for=192.0.2.7,"], None),
            ("escapes", &[r#"for="192.0.2\.7""#], None),
            ("a space inside", &["for =192.0.2.7"], None),
        ] {
            let peer = Some(PROXY.parse().expect("an address"));
            let facts = peers(PeerHeader::Forwarded).client(peer, &map("forwarded", lines));
            assert_eq!(facts.ok().map(|facts| text(&facts)).as_deref(), client, "{name}");
        }
    }

    #[test]
    fn the_header_that_is_not_said_to_be_written_is_not_read() {
        let mut headers = map("forwarded", &["for=192.0.2.1"]);
        headers.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.2"));
        headers.insert("x-real-ip", HeaderValue::from_static("192.0.2.3"));
        for (header, client) in [
            (PeerHeader::Forwarded, "192.0.2.1"),
            (PeerHeader::XForwardedFor, "192.0.2.2"),
        ] {
            let peer = Some(PROXY.parse().expect("an address"));
            let facts = peers(header).client(peer, &headers).expect("well-formed");
            assert_eq!(text(&facts), client);
        }
    }

    #[test]
    fn a_unix_socket_is_believed_only_when_it_is_listed() {
        let headers = map("x-forwarded-for", &["192.0.2.7"]);
        for (entries, client) in [
            (&["10.0.0.0/8"][..], "nobody"),
            (&["unix"], "192.0.2.7"),
            (&[], "nobody"),
        ] {
            let peers = TrustedPeers::parse(entries, PeerHeader::XForwardedFor).expect("a list");
            assert_eq!(text(&peers.client(None, &headers).expect("well-formed")), client);
        }
    }

    #[test]
    fn hops_without_end_are_not_walked() {
        let line = vec!["10.0.0.2"; 10_000].join(",");
        let peer = Some(PROXY.parse().expect("an address"));
        let headers = map("x-forwarded-for", &[&format!("192.0.2.7,{line}")]);
        let facts = peers(PeerHeader::XForwardedFor).client(peer, &headers);
        assert_eq!(text(&facts.expect("well-formed")), "10.0.0.2");
    }

    #[test]
    fn entries_that_mean_something_else_than_they_say_are_refused() {
        for (entry, expected) in [
            ("10.0.0.0/8", Ok(())),
            ("192.0.2.1", Ok(())),
            ("::1", Ok(())),
            ("2001:db8::/32", Ok(())),
            ("unix", Ok(())),
            ("10.1.2.3/8", Err(PeerProblem::HostBits)),
            ("0.0.0.0/0", Err(PeerProblem::Everybody)),
            ("::/0", Err(PeerProblem::Everybody)),
            ("10.0.0.0/33", Err(PeerProblem::NoAddress)),
            ("localhost", Err(PeerProblem::NoAddress)),
            ("10.0.0.1:80", Err(PeerProblem::NoAddress)),
            ("", Err(PeerProblem::NoAddress)),
            ("*", Err(PeerProblem::NoAddress)),
        ] {
            let outcome = TrustedPeers::parse(&["10.0.0.0/8", entry], PeerHeader::default());
            assert_eq!(outcome.map(|_| ()), expected.map_err(|why| (1, why)), "{entry}");
        }
    }
}
