//! Connections to upstreams: name resolution, TCP, TLS.
//!
//! Where a connection goes is decided by the configuration alone. `localhost` and the names below
//! it are this machine without asking anyone (RFC 6761 §6.3), since plain http is accepted for
//! them. TLS verifies against the platform's roots and speaks HTTP/1.1. This file never follows a
//! redirect, never uses a proxy of the environment, and never skips a certificate check.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use coatroom_core::error::Error;
use http::Uri;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower::Service;

use crate::timer::CoarseTimer;

/// A connection to an upstream.
pub(super) type Io = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Opens connections to upstreams. Made once, cloned for each core.
#[derive(Clone)]
pub struct Connector {
    https: HttpsConnector<HttpConnector<Resolver>>,
}

impl Connector {
    /// A connector that trusts the platform's certificate authorities.
    ///
    /// # Errors
    /// When the platform's roots cannot be loaded.
    pub fn platform() -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .try_with_platform_verifier()?
            .with_no_client_auth();
        Ok(Self::with_tls(config))
    }

    /// A connector with another TLS configuration, such as one with a private authority.
    pub fn with_tls(mut config: ClientConfig) -> Self {
        // The builder sets the protocols and insists on doing so itself.
        config.alpn_protocols.clear();
        let mut http = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(TCP_KEEP_ALIVE));
        Self {
            https: HttpsConnectorBuilder::new()
                .with_tls_config(config)
                .https_or_http()
                .enable_http1()
                .wrap_connector(http),
        }
    }

    /// Opens a connection to the origin of `uri`, TLS included, within `deadline`.
    pub(super) fn connect(
        &self,
        uri: Uri,
        deadline: Duration,
        timer: &CoarseTimer,
    ) -> impl Future<Output = Result<Io, Error>> + 'static {
        let connecting = self.https.clone().call(uri);
        let timer = timer.clone();
        async move {
            match timer.timeout(deadline, connecting).await {
                Ok(Ok(io)) => Ok(io),
                Ok(Err(error)) => Err(Error::UpstreamUnavailable(describe(&*error))),
                Err(_elapsed) => Err(Error::UpstreamUnavailable(
                    "connecting took longer than `connect_timeout`".to_owned(),
                )),
            }
        }
    }
}

/// What failed, from the innermost cause that says more than its wrappers.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = Some(error);
    let mut known = None;
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return format!("the tls handshake failed: {tls}");
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            known = Some(io);
            // A wrapped error is not in the chain of sources.
            if let Some(tls) = io
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                return format!("the tls handshake failed: {tls}");
            }
            if let Some(inner) = io.get_ref() {
                cause = Some(inner);
                continue;
            }
        }
        cause = error.source();
    }
    match known {
        Some(io) if io.kind() == io::ErrorKind::Other => "no connection".to_owned(),
        Some(io) => format!("no connection: {}", io.kind()),
        None => "no connection".to_owned(),
    }
}

/// The system's resolver, except for the names of this machine.
#[derive(Clone)]
struct Resolver(GaiResolver);

type Addresses = std::vec::IntoIter<SocketAddr>;

impl Service<Name> for Resolver {
    type Response = Addresses;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        if is_localhost(name.as_str()) {
            let here = vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
            ];
            return Box::pin(std::future::ready(Ok(here.into_iter())));
        }
        let resolving = self.0.call(name);
        Box::pin(async move { Ok(resolving.await?.collect::<Vec<_>>().into_iter()) })
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Notices a dead upstream under an idle or silent connection.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(60);

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

    #[tokio::test]
    async fn a_name_below_localhost_is_never_looked_up() {
        let mut resolver = Resolver(GaiResolver::new());
        let name = "nobody-registered-this.localhost".parse().expect("a name");
        let addresses: Vec<_> = resolver.call(name).await.expect("resolved").collect();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
        assert_eq!(addresses.len(), 2);
    }

    #[test]
    fn errors_are_described_by_their_innermost_cause() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let tls = io::Error::other(rustls::Error::HandshakeNotComplete);
        for (error, text) in [
            (refused, "no connection: connection refused"),
            (tls, "the tls handshake failed: handshake not complete"),
            (io::Error::other("whatever it says"), "no connection"),
        ] {
            assert_eq!(describe(&io::Error::other(error)), text);
        }
    }
}
