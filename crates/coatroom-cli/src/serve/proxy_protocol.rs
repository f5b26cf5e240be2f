//! The PROXY protocol, version 2: who connected to the load balancer in front.
//!
//! It stands before everything else, TLS included, in clear text, so it is read only from listed
//! peers, and where it is expected a connection without it is over. Version 1, datagrams and headers
//! longer than any real one are refused; what else a header carries (TLVs) is passed over. Never
//! reads a byte behind the header.

use std::net::IpAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoHeader {
    /// It ended, or began with something else.
    #[error("the connection does not begin with a PROXY protocol header of version 2")]
    Missing,
    /// It began like one, and is none.
    #[error("the PROXY protocol header is malformed")]
    Malformed,
    /// It says that it is longer than [`LONGEST`].
    #[error("the PROXY protocol header is too long")]
    TooLong,
}

/// Reads the header. The client's address; none when the load balancer speaks for itself (its health
/// checks), or does not know.
///
/// # Errors
/// [`NoHeader`].
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, NoHeader> {
    let mut buffer = [0; FIXED];
    // byte by byte until it cannot be one any more: what speaks first and differently is told at once
    let mut start = 0;
    while start < FIXED {
        let rest = buffer.get_mut(start..).unwrap_or_default();
        match stream.read(rest).await {
            Ok(count) if count > 0 => start += count,
            Ok(_) | Err(_) => return Err(NoHeader::Missing),
        }
        let known = start.min(SIGNATURE.len());
        if buffer.get(..known) != SIGNATURE.get(..known) {
            return Err(NoHeader::Missing);
        }
    }
    let [.., high, low] = buffer;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(NoHeader::TooLong);
    }
    let mut whole = buffer.to_vec();
    whole.resize(FIXED + length, 0);
    stream
        .read_exact(whole.get_mut(FIXED..).unwrap_or_default())
        .await
        .map_err(|_| NoHeader::Malformed)?;
    let config = ParseConfig {
        include_tlvs: false,
        allow_v1: false,
        allow_v2: true,
    };
    let (header, _) = ProxyHeader::parse(&whole, config).map_err(|_| NoHeader::Malformed)?;
    match header.proxied_address() {
        Some(address) if address.protocol == Protocol::Stream => Ok(Some(address.source.ip().to_canonical())),
        Some(_) => Err(NoHeader::Malformed),
        None => Ok(None),
    }
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// What may follow: addresses of Unix sockets need 232 bytes, certificates' names and the like some hundreds more.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, payload].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 1, 187];

    fn v6() -> Vec<u8> {
        let source: std::net::Ipv6Addr = "2001:db8::7".parse().expect("an address");
        [&source.octets()[..], &[0; 16], &[0x12, 0x34, 1, 187]].concat()
    }

    #[tokio::test]
    async fn the_address_is_read_and_nothing_behind_it() {
        let tlvs = [&V4[..], &[0x04, 0, 3, 1, 2, 3], &[0xff, 0xff, 0xff]].concat();
        for (name, bytes, client) in [
            ("v4", header(0x21, 0x11, &V4), Some("192.0.2.7")),
            ("v6", header(0x21, 0x21, &v6()), Some("2001:db8::7")),
            (
                "tlvs, broken ones too",
                header(0x21, 0x11, &tlvs),
                Some("192.0.2.7"),
            ),
            ("a health check", header(0x20, 0x00, &[]), None),
            ("a health check with addresses", header(0x20, 0x11, &V4), None),
            ("unknown", header(0x21, 0x00, &[]), None),
            ("unix", header(0x21, 0x31, &[0; 216]), None),
        ] {
            let wire = [&bytes[..], b"GET /"].concat();
            let mut stream = &wire[..];
            let address = read(&mut stream).await.expect(name);
            assert_eq!(
                address,
                client.map(|text| text.parse().expect("an address")),
                "{name}"
            );
            assert_eq!(stream, b"GET /", "{name}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let half = header(0x21, 0x11, &V4)[..20].to_vec();
        let long = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff], &[0; 70_000]].concat();
        for (name, bytes, why) in [
            ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec(), NoHeader::Missing),
            ("tls", vec![0x16, 0x03, 0x01, 0x00], NoHeader::Missing),
            (
                "http/2",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                NoHeader::Missing,
            ),
            (
                "version 1",
                b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\r\n".to_vec(),
                NoHeader::Missing,
            ),
            ("nothing", vec![], NoHeader::Missing),
            ("half a signature", SIGNATURE[..5].to_vec(), NoHeader::Missing),
            ("half a header", half, NoHeader::Malformed),
            ("another version", header(0x31, 0x11, &V4), NoHeader::Malformed),
            ("another command", header(0x22, 0x11, &V4), NoHeader::Malformed),
            ("another family", header(0x21, 0x41, &V4), NoHeader::Malformed),
            ("datagrams", header(0x21, 0x12, &V4), NoHeader::Malformed),
            (
                "too short for its family",
                header(0x21, 0x21, &V4),
                NoHeader::Malformed,
            ),
            ("too long", long, NoHeader::TooLong),
        ] {
            assert_eq!(read(&mut &bytes[..]).await, Err(why), "{name}");
        }
    }
}
