//! Connections to upstreams: sockets, TLS.
//!
//! Where a connection goes is decided by the configuration alone. TLS verifies against the
//! platform's roots, or against the route's own; by ALPN it offers HTTP/1.1, HTTP/2 or both
//! (RFC 7301, RFC 9113 §3.2). This file never follows a redirect, never uses a proxy of the
//! environment, and never skips a certificate check.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use coatroom_core::config::UpstreamTls;
use coatroom_core::error::Error;
use hyper_rustls::{ConfigBuilderExt as _, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;

use super::directory::{Directory, UpstreamState};
use crate::handler::TokenHandler;

/// A connection to an upstream.
pub(super) type Io = MaybeHttpsStream<TokioIo<Socket>>;

/// Opens connections to upstreams, looks up their names and asks for their health. Made once,
/// cloned for each core; clones share what they know.
#[derive(Clone)]
pub struct Connector {
    pub(super) directory: Arc<Directory>,
}

impl Connector {
    /// A connector that trusts the platform's certificate authorities.
    ///
    /// # Errors
    /// When the platform's roots cannot be loaded.
    pub fn platform() -> Result<Self, rustls::Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .try_with_platform_verifier()?
            .with_no_client_auth();
        Ok(Self::with_tls(config))
    }

    /// A connector with another TLS configuration, such as one with a private authority.
    /// What it says of ALPN is left out: each connection offers what it is for.
    pub fn with_tls(config: ClientConfig) -> Self {
        Self {
            directory: Directory::new(config),
        }
    }

    /// The runtime on which names are looked up and upstreams are asked for their health;
    /// default: the one of the first call.
    #[must_use]
    pub fn runtime(self, control: Handle) -> Self {
        self.directory.run_on(control);
        self
    }

    /// Begins to look after every upstream of a token handler's routes, and stops to look after
    /// those that are in none any more. Without this an upstream is met at its first call.
    pub fn attend(&self, handler: &TokenHandler) {
        self.directory.attend(&handler.upstreams());
    }

    /// How the upstreams are that somebody looks after: those with several addresses, with a name
    /// to look up or with a health check.
    pub fn upstreams(&self) -> Vec<UpstreamState> {
        self.directory.report()
    }

    /// Their state as Prometheus text.
    pub fn render(&self, out: &mut String) {
        super::directory::render(&self.upstreams(), out);
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The first of these that accepts.
    Tcp(Vec<SocketAddr>),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What is offered to an upstream over TLS. In the clear nothing is said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Http1,
    Http2,
    /// HTTP/2 first.
    Either,
}

/// TLS with one upstream.
#[derive(Clone)]
pub(super) struct Tls {
    http1: TlsConnector,
    http2: TlsConnector,
    either: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// TLS that checks for this name. Sessions are resumed whatever is offered.
    pub(super) fn new(config: &ClientConfig, name: ServerName<'static>) -> Self {
        let connector = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Self {
            // without a word about it a server speaks HTTP/1.1, one that knows no ALPN too
            http1: connector(&[]),
            http2: connector(&[b"h2"]),
            either: connector(&[b"h2", b"http/1.1"]),
            name,
        }
    }
}

/// Opens a connection, TLS included.
pub(super) async fn open(place: &Place, tls: Option<&Tls>, offer: Offer) -> Result<Io, Error> {
    let unavailable = |error: &(dyn std::error::Error + 'static)| Error::UpstreamUnavailable(describe(error));
    let socket = socket(place).await.map_err(|error| unavailable(&error))?;
    match tls {
        None => Ok(MaybeHttpsStream::Http(TokioIo::new(socket))),
        Some(tls) => {
            let connector = match offer {
                Offer::Http1 => &tls.http1,
                Offer::Http2 => &tls.http2,
                Offer::Either => &tls.either,
            };
            let stream = TokioIo::new(TokioIo::new(socket));
            let handshake = Box::pin(connector.connect(tls.name.clone(), stream));
            let stream = handshake.await.map_err(|error| unavailable(&error))?;
            Ok(MaybeHttpsStream::Https(TokioIo::new(stream)))
        }
    }
}

/// Whether both sides agreed on HTTP/2 in the TLS handshake.
pub(super) fn agreed_on_http2(io: &Io) -> bool {
    match io {
        MaybeHttpsStream::Http(_) => false,
        MaybeHttpsStream::Https(stream) => stream.inner().get_ref().1.alpn_protocol() == Some(b"h2"),
    }
}

async fn socket(place: &Place) -> io::Result<Socket> {
    let addresses = match place {
        Place::Unix(path) => return UnixStream::connect(path).await.map(Socket::Unix),
        Place::Tcp(addresses) => addresses,
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                let keep_alive = TcpKeepalive::new().with_time(TCP_KEEP_ALIVE);
                SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
                return Ok(Socket::Tcp(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The TLS configuration of a route that has settings of its own. Sessions are resumed among the
/// connections of that route only, so that none is resumed as somebody else.
pub(super) fn tls_config(platform: &ClientConfig, own: &UpstreamTls) -> Result<ClientConfig, rustls::Error> {
    let provider = platform.crypto_provider().clone();
    let unreadable = |what: &str| rustls::Error::General(format!("{what} is not PEM"));
    let mut config = match &own.ca {
        None => platform.clone(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.map_err(|_| unreadable("`ca`"))?)?;
            }
            if roots.is_empty() {
                return Err(rustls::Error::General("`ca` holds no certificate".to_owned()));
            }
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth()
        }
    };
    config.resumption = Resumption::default();
    if let Some((certificate, key)) = &own.client {
        let certified = certified_key(certificate, key.pem(), &provider, unreadable)?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    }
    Ok(config)
}

fn certified_key(
    certificate: &str,
    key: &str,
    provider: &CryptoProvider,
    unreadable: impl Fn(&str) -> rustls::Error,
) -> Result<CertifiedKey, rustls::Error> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| unreadable("`certificate`"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| unreadable("`key`"))?;
    CertifiedKey::from_der(chain, key, provider)
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

/// A socket to an upstream.
pub(super) enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// On this machine.
    Unix(UnixStream),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Notices a dead upstream under an idle or silent connection.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn the_first_address_that_accepts_is_taken() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let there = listener.local_addr().expect("bound");
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let nowhere = gone.local_addr().expect("bound");
        drop(gone);
        for (addresses, connects) in [
            (vec![there], true),
            (vec![nowhere, there], true),
            (vec![nowhere], false),
            (vec![], false),
        ] {
            let outcome = open(&Place::Tcp(addresses.clone()), None, Offer::Http1).await;
            assert_eq!(outcome.is_ok(), connects, "{addresses:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_or_key_is_an_error_that_shows_nothing() {
        let platform = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let own = |ca: Option<&str>, client: Option<(&str, &str)>| UpstreamTls {
            ca: ca.map(str::to_owned),
            client: client.map(|(certificate, key)| {
                let key = coatroom_core::config::PrivateKeyPem::new(key);
                (certificate.to_owned(), key)
            }),
            server_name: None,
        };
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("made");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert!(tls_config(&platform, &own(Some(&certificate), Some((&certificate, &key)))).is_ok());
        for own in [
            own(Some("hunter2"), None),
            own(Some("-----BEGIN CERTIFICATE-----\nhunter2"), None),
            own(None, Some(("hunter2", &key))),
            own(None, Some((&certificate, "hunter2"))),
        ] {
            let error = tls_config(&platform, &own).expect_err("refused");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
