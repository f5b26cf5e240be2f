//! One address of an upstream, and what the whole process knows of it.
//!
//! A *site* is an upstream as it is written: a URL or a Unix socket. An *endpoint* is one place
//! where a site is to be met: a URL with an address, `localhost` and a socket have one, a name has
//! as many as the DNS says. `Host` and the name in TLS are always those of the URL, whatever
//! address is called. What is known of an endpoint is read by all cores without a lock.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use coatroom_core::config::{Http2, UpstreamAddress, UpstreamTls, Upstreams};
use coatroom_core::error::Error;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use url::{Host, Url};

use super::connect::{Io, Offer, Place, Tls, agreed_on_http2, open};
use crate::timer::CoarseTimer;

/// An upstream as written.
pub(super) struct Site {
    /// For the log and the labels of metrics.
    pub(super) shown: String,
    /// Scheme, authority and base path of requests.
    pub(super) url: String,
    pub(super) at: At,
    pub(super) http2: Http2,
    tls: Security,
}

/// Where a site is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Always here.
    Fixed(Place),
    /// Where the DNS says.
    Name(String, u16),
}

enum Security {
    /// None.
    Plain,
    Tls(Box<Tls>),
    /// What is configured cannot be used.
    Broken(String),
}

/// One place where a site is to be met.
pub(super) struct Endpoint {
    pub(super) site: Arc<Site>,
    pub(super) place: Place,
    /// What health checks say.
    health: AtomicU8,
    /// How often a core stopped calling it for a while.
    ejections: AtomicU64,
    /// Makes the look-up of names hurry.
    hurry: Arc<Notify>,
}

/// The protocol of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What health checks say of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Health {
    /// Nobody has asked yet: it is used.
    Unknown,
    Healthy,
    Unhealthy,
}

impl Site {
    /// An address of these upstreams. `platform` is the TLS configuration where the route says
    /// nothing of its own.
    pub(super) fn new(address: &UpstreamAddress, of: &Upstreams, platform: &ClientConfig) -> Self {
        let (shown, http2) = (address.to_string(), of.http2);
        match address {
            UpstreamAddress::Unix(path) => Self {
                shown,
                url: "http://localhost".to_owned(),
                at: At::Fixed(Place::Unix(path.clone())),
                http2,
                tls: Security::Plain,
            },
            UpstreamAddress::Url(url) => Self {
                shown,
                url: url.as_str().to_owned(),
                at: At::of(url),
                http2,
                tls: match url.scheme() {
                    "https" => Security::new(url, of.tls.as_ref(), platform),
                    _ => Security::Plain,
                },
            },
        }
    }
}

impl At {
    fn of(url: &Url) -> Self {
        let port = url.port_or_known_default().unwrap_or_default();
        let here = |ips: &[IpAddr]| {
            let addresses = ips.iter().map(|ip| SocketAddr::new(*ip, port));
            Self::Fixed(Place::Tcp(addresses.collect()))
        };
        match url.host() {
            Some(Host::Ipv4(ip)) => here(&[ip.into()]),
            Some(Host::Ipv6(ip)) => here(&[ip.into()]),
            // This machine without asking anyone (RFC 6761 §6.3), since plain http is accepted for
            // it. One place, not two: an API that listens on one of them only is no half-dead one.
            Some(Host::Domain(name)) if is_localhost(name) => {
                here(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
            }
            Some(Host::Domain(name)) => Self::Name(name.to_owned(), port),
            None => Self::Fixed(Place::Tcp(Vec::new())),
        }
    }
}

impl Security {
    fn new(url: &Url, own: Option<&UpstreamTls>, platform: &ClientConfig) -> Self {
        let config = own.map_or_else(
            || Ok(platform.clone()),
            |own| super::connect::tls_config(platform, own),
        );
        let name = own.and_then(|own| own.server_name.as_deref());
        let name = name.or_else(|| url.host_str()).unwrap_or_default();
        // an address of version 6 has brackets in a URL, and none here
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name);
        match (config, ServerName::try_from(bare.to_owned())) {
            (Ok(config), Ok(name)) => Self::Tls(Box::new(Tls::new(&config, name))),
            (Err(error), _) => Self::Broken(format!("`upstream_tls` cannot be used: {error}")),
            (_, Err(_)) => Self::Broken("the server's name is none that TLS can check".to_owned()),
        }
    }
}

impl Endpoint {
    pub(super) fn new(site: Arc<Site>, place: Place, hurry: Arc<Notify>) -> Self {
        Self {
            site,
            place,
            health: AtomicU8::new(Health::Unknown as u8),
            ejections: AtomicU64::new(0),
            hurry,
        }
    }

    /// Opens a connection for calls.
    pub(super) fn connect(
        self: &Arc<Self>,
        offer: Offer,
        deadline: Duration,
        timer: &CoarseTimer,
    ) -> impl Future<Output = Result<Io, Error>> + 'static {
        let (this, timer) = (self.clone(), timer.clone());
        async move {
            match timer.timeout(deadline, this.open(offer)).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => Err(Error::UpstreamUnavailable(
                    "connecting took longer than `connect_timeout`".to_owned(),
                )),
            }
        }
    }

    /// Opens a connection for a health check, and says what it is to speak: what calls speak.
    pub(super) async fn connect_for_check(&self) -> Result<(Io, Protocol), Error> {
        let offer = match self.site.http2 {
            Http2::Never => Offer::Http1,
            Http2::Negotiated => Offer::Either,
            Http2::Always => Offer::Http2,
        };
        let io = self.open(offer).await?;
        let is_http2 = match offer {
            Offer::Http1 => false,
            Offer::Either => agreed_on_http2(&io),
            Offer::Http2 => true,
        };
        let speaks = if is_http2 {
            Protocol::Http2
        } else {
            Protocol::Http1
        };
        Ok((io, speaks))
    }

    async fn open(&self, offer: Offer) -> Result<Io, Error> {
        let tls = match &self.site.tls {
            Security::Plain => None,
            Security::Tls(tls) => Some(&**tls),
            Security::Broken(why) => return Err(Error::UpstreamUnavailable(why.clone())),
        };
        open(&self.place, tls, offer).await
    }

    /// Whether health checks say that it is not to be called.
    pub(super) fn is_unhealthy(&self) -> bool {
        self.health.load(Ordering::Relaxed) == Health::Unhealthy as u8
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            known if known == Health::Healthy as u8 => Health::Healthy,
            known if known == Health::Unhealthy as u8 => Health::Unhealthy,
            _ => Health::Unknown,
        }
    }

    pub(super) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Relaxed);
    }

    /// A core calls it no more for a while.
    pub(super) fn count_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// It cannot be reached: perhaps its name means another address by now.
    pub(super) fn look_again(&self) {
        self.hurry.notify_one();
    }

    /// Its address, as text.
    pub(super) fn address(&self) -> String {
        match &self.place {
            Place::Tcp(addresses) => addresses.first().map(ToString::to_string).unwrap_or_default(),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_this_machine_are_recognised() {
        for (name, here) in [
            ("localhost", true),
            ("LOCALHOST", true),
            ("api.localhost", true),
            ("api.localhost.", true),
            ("notlocalhost", false),
            ("localhost.example.com", false),
            ("", false),
        ] {
            assert_eq!(is_localhost(name), here, "{name}");
        }
    }

    #[test]
    fn only_a_name_of_elsewhere_is_looked_up() {
        let fixed = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|text| text.parse().expect("an address"));
            At::Fixed(Place::Tcp(addresses.collect()))
        };
        for (url, at) in [
            ("http://127.0.0.1:5000/v1", fixed(&["127.0.0.1:5000"])),
            ("http://[::1]:5000", fixed(&["[::1]:5000"])),
            ("https://10.0.0.1", fixed(&["10.0.0.1:443"])),
            ("http://localhost:5000", fixed(&["127.0.0.1:5000", "[::1]:5000"])),
            (
                "http://nobody-registered-this.localhost",
                fixed(&["127.0.0.1:80", "[::1]:80"]),
            ),
            (
                "https://api.example.com",
                At::Name("api.example.com".to_owned(), 443),
            ),
        ] {
            assert_eq!(At::of(&Url::parse(url).expect("a url")), at, "{url}");
        }
    }
}
