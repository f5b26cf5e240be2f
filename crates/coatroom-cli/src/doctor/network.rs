//! The way to a provider: its name, its port, its certificate.
//!
//! A proxy of the environment leads somewhere else, so where one is set nothing is asked here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use coatroom::examine::{TlsTrouble, Trust};
use http::Uri;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::QUESTION;
use super::sheet::{Sheet, plain, quoted};

/// Where a URL leads.
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    is_tls: bool,
}

impl Place {
    /// None for what is no http or https URL.
    pub(super) fn of(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let is_tls = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self {
            host: url.host()?.to_ascii_lowercase(),
            port: url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            is_tls,
        })
    }

    /// Whether it is this machine.
    pub(super) fn is_here(&self) -> bool {
        self.host == "localhost"
            || self.host.ends_with(".localhost")
            || self.bare().parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    fn bare(&self) -> &str {
        let inner = self
            .host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(&self.host)
    }

    /// Its addresses: what the system says, and this machine for `localhost` (RFC 6761 §6.3).
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, &'static str> {
        if let Ok(ip) = self.bare().parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        if self.is_here() {
            let here = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(here.map(|ip| SocketAddr::new(ip, self.port)).to_vec());
        }
        match timeout(QUESTION, tokio::net::lookup_host((self.bare(), self.port))).await {
            Ok(Ok(addresses)) => {
                let addresses: Vec<_> = addresses.take(MOST_ADDRESSES).collect();
                match addresses.is_empty() {
                    true => Err("it has no address"),
                    false => Ok(addresses),
                }
            }
            Ok(Err(_)) => Err("it cannot be looked up"),
            Err(_) => Err("looking it up took too long"),
        }
    }
}

/// Whether the provider can be talked to at all, where its metadata are. False where asking on makes no
/// sense.
pub(super) async fn examine(sheet: &Sheet, metadata: &Url, ca: Option<&str>) -> bool {
    let Some(place) = Place::of(metadata.as_str()) else {
        sheet.failed(
            "address",
            "the metadata are at no http or https URL",
            "correct `provider.issuer`, or `provider.discovery` where it is set",
        );
        return false;
    };
    if !place.is_here() && is_through_a_proxy() {
        sheet.unclear(
            "connection",
            "the environment names a proxy for it, so name, port and certificate are the proxy's business",
            "",
        );
        return true;
    }
    let addresses = match place.addresses().await {
        Ok(addresses) => addresses,
        Err(why) => {
            sheet.failed(
                "name",
                format!("{}: {why}", quoted(&place.host)),
                "correct the host in `provider.issuer` (or `provider.discovery`), or the DNS of this machine (/etc/resolv.conf)",
            );
            return false;
        }
    };
    let Some(address) = first_that_accepts(&addresses).await else {
        sheet.failed(
            "connection",
            format!(
                "no address of {} takes connections at port {}",
                quoted(&place.host),
                place.port
            ),
            "is the provider up, and may this machine go out to it (firewall, egress rules, HTTPS_PROXY)?",
        );
        return false;
    };
    sheet.good("connection", format!("{address} accepts"));
    if place.is_tls {
        certificate(sheet, &place, address, ca).await
    } else {
        true
    }
}

async fn certificate(sheet: &Sheet, place: &Place, address: SocketAddr, ca: Option<&str>) -> bool {
    // in place of the system's, as for sign-ins
    let trust = match ca {
        Some(ca) => Trust::only(ca.as_bytes()),
        None => Trust::platform(),
    };
    let Ok(trust) = trust else {
        let (found, todo) = match ca {
            Some(_) => (
                "`provider.ca` has no certificate authority that can be used",
                "put the certificate of the provider's authority there, in PEM",
            ),
            None => (
                "this system has no certificate authorities to trust",
                "install the package ca-certificates, set SSL_CERT_FILE, or name the provider's in `provider.ca`",
            ),
        };
        sheet.failed("certificate", found, todo);
        return false;
    };
    let outcome = match timeout(QUESTION, trust.examine(&place.host, address)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(TlsTrouble::NoConnection("the handshake took too long".to_owned())),
    };
    let facts = match outcome {
        Ok(facts) => facts,
        Err(trouble) => {
            let (found, todo) = explained(&trouble, place, ca.is_some());
            sheet.failed("certificate", found, todo);
            return false;
        }
    };
    let version = facts.version;
    match facts.days_left {
        Some(days) if days < FEW_DAYS => sheet.warning(
            "certificate",
            format!("TLS {version}; it is no longer valid in {days} days"),
            "have whoever runs the provider renew its certificate: after that nobody signs in",
        ),
        Some(days) => sheet.good(
            "certificate",
            format!("TLS {version}, trusted, valid for {days} days more"),
        ),
        None => sheet.good(
            "certificate",
            format!("TLS {version}, trusted, valid for more than a year"),
        ),
    }
    true
}

fn explained(trouble: &TlsTrouble, place: &Place, is_ca_ours: bool) -> (String, &'static str) {
    match trouble {
        TlsTrouble::NoConnection(why) => (
            format!("the connection broke off: {}", plain(why)),
            "is something between here and the provider (a firewall, a TLS inspection) that cuts it?",
        ),
        TlsTrouble::Expired(days) => (
            match days {
                Some(days) => format!("it expired {days} days ago"),
                None => "it expired".to_owned(),
            },
            "have whoever runs the provider renew its certificate; if it is good elsewhere, set the clock of this machine",
        ),
        TlsTrouble::NotYetValid => (
            "it is not valid yet".to_owned(),
            "set the clock of this machine (timedatectl), or the provider's",
        ),
        TlsTrouble::OtherNames(names) => {
            let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
            let are = match names.is_empty() {
                true => "other names".to_owned(),
                false => names.join(", "),
            };
            (
                format!("it is for {are}, not for {}", quoted(&place.host)),
                "write the host that the certificate is for in `provider.issuer` (or `provider.discovery`), if the provider calls \
                 itself so",
            )
        }
        TlsTrouble::UnknownIssuer if is_ca_ours => (
            "its authority is not in `provider.ca`, or the server sends no chain that leads there".to_owned(),
            "put the authority of the provider's certificate into `provider.ca`, which is trusted in place of this \
             system's; or remove `provider.ca`, if it is a public one",
        ),
        TlsTrouble::UnknownIssuer => (
            "its authority is not one that this system trusts, or the server sends no chain that leads there"
                .to_owned(),
            "name the authority in `provider.ca`, or add it to this system (update-ca-certificates, SSL_CERT_FILE); else \
             have the provider send its intermediate certificates",
        ),
        TlsTrouble::Other(why) => (
            format!("the handshake failed: {}", plain(why)),
            "does a TLS server listen there, of version 1.2 or 1.3?",
        ),
    }
}

/// The first address to which somebody listens.
pub(super) async fn first_that_accepts(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let connections = addresses.iter().map(|address| async move {
        let connected = timeout(QUESTION, TcpStream::connect(address)).await;
        matches!(connected, Ok(Ok(_))).then_some(*address)
    });
    futures_util::future::join_all(connections)
        .await
        .into_iter()
        .flatten()
        .next()
}

fn is_through_a_proxy() -> bool {
    ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// As many addresses of a name as are tried.
const MOST_ADDRESSES: usize = 8;

/// A certificate that lasts no longer deserves a look: most are renewed a month before.
const FEW_DAYS: u64 = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_a_host_and_a_port() {
        for (url, expected, is_here) in [
            (
                "https://login.example.com",
                Some(("login.example.com", 443)),
                false,
            ),
            (
                "https://LOGIN.example.com:8443/realms/a",
                Some(("login.example.com", 8443)),
                false,
            ),
            ("http://localhost", Some(("localhost", 80)), true),
            ("http://idp.localhost:9000", Some(("idp.localhost", 9000)), true),
            ("http://[::1]:9000", Some(("[::1]", 9000)), true),
            ("http://127.0.0.2", Some(("127.0.0.2", 80)), true),
            ("ftp://a.example", None, false),
            ("a.example", None, false),
        ] {
            let place = Place::of(url);
            assert_eq!(
                place.as_ref().map(|place| (place.host.as_str(), place.port)),
                expected,
                "{url}"
            );
            assert_eq!(place.is_some_and(|place| place.is_here()), is_here, "{url}");
        }
    }
}
