//! The HTTP clients for one provider: authorities, our certificate, names, and why there was no answer.
//!
//! There are two of the same settings where this client has a certificate (RFC 8705), else one. They
//! follow no redirect, keep no cookie, and no error of theirs is shown: it could name a URL.

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use coatroom_core::config::{self, ClientCertificate};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Identity, Url, redirect};

/// What makes another client of the same provider.
#[derive(PartialEq, Eq)]
pub(super) struct Settings {
    timeout: Duration,
    ca: Option<String>,
    certificate: Option<ClientCertificate>,
}

impl Settings {
    pub(super) fn of(config: &config::Provider) -> Self {
        Self {
            timeout: config.timeout,
            ca: config.ca.clone(),
            certificate: config.client_certificate.clone(),
        }
    }
}

/// The client for what everybody may fetch, and the one for the back channel.
pub(super) fn build(config: &config::Provider) -> Result<(Client, Client), reqwest::Error> {
    let ca = config.ca.as_deref();
    let ca = ca
        .map(|pem| Certificate::from_pem_bundle(pem.as_bytes()))
        .transpose()?;
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("coatroom/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(config.timeout.min(CONNECT_TIMEOUT))
            .timeout(config.timeout)
            .pool_idle_timeout(POOL_IDLE)
            .dns_resolver(Resolver);
        // In place of the system's: who names an authority means that one.
        let builder = match &ca {
            Some(ca) => builder.tls_certs_only(ca.iter().cloned()),
            None => builder,
        };
        // A proxy of the environment is for the way out, not for this machine.
        if is_on_loopback(&config.issuer) {
            builder.no_proxy()
        } else {
            builder
        }
    };
    let client = match builder().build() {
        // Without CA certificates in the system an issuer without TLS still works.
        Err(_) if config.issuer.starts_with("http://") => builder().tls_certs_only([]).build()?,
        outcome => outcome?,
    };
    let back_channel = match &config.client_certificate {
        None => client.clone(),
        Some(own) => builder().identity(identity(own)?).build()?,
    };
    Ok((client, back_channel))
}

/// What is shown to the back channel.
fn identity(own: &ClientCertificate) -> Result<Identity, reqwest::Error> {
    let mut pem = [own.chain.as_bytes(), b"\n", own.key.pem().as_bytes()].concat();
    let identity = Identity::from_pem(&pem);
    pem.fill(0);
    identity
}

/// Why there was no answer, in our own words: an error of the library names the URL.
pub(super) fn reason(error: &reqwest::Error) -> &'static str {
    if error.source().is_some_and(|error| is_tls(error, &is_alert)) {
        "the tls handshake was refused; where we show a client certificate, does it know that one?"
    } else if error.source().is_some_and(|error| is_tls(error, &|_| true)) {
        "the tls handshake failed; is its certificate one that this system trusts?"
    } else if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "it cannot be connected to"
    } else {
        "the connection broke off"
    }
}

/// Whether it is the other side that broke off.
fn is_alert(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::AlertReceived(_))
}

/// Whether TLS is at the bottom of an error, and such a failure of it.
fn is_tls(error: &(dyn StdError + 'static), which: &dyn Fn(&rustls::Error) -> bool) -> bool {
    // An i/o error's source is that of the error it carries, which would be left out.
    let carried = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    match carried {
        Some(carried) => is_tls(carried, which),
        None => match error.downcast_ref::<rustls::Error>() {
            Some(error) => which(error),
            None => error.source().is_some_and(|error| is_tls(error, which)),
        },
    }
}

fn is_on_loopback(issuer: &str) -> bool {
    Url::parse(issuer).is_ok_and(|issuer| config::is_loopback(&issuer))
}

/// The system's resolver, except that `localhost` and what is below it is this machine (RFC 6761
/// §6.3), which not every system's resolver knows.
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str();
            let addresses: Vec<SocketAddr> = if host == "localhost" || host.ends_with(".localhost") {
                [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
                    .map(|ip| SocketAddr::new(ip, 0))
                    .to_vec()
            } else {
                tokio::net::lookup_host((host, 0)).await?.collect()
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Below the five seconds after which common servers close an idle connection: a token request must
/// not meet one that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(4);
