//! A TLS server, examined once: does its certificate hold, for this name, and for how long yet?
//!
//! Verifies as connections do, against the platform's authorities or against given ones, and accepts
//! nothing that they would refuse. How long a certificate lasts is found by verifying it once more as
//! of later: so an authority that ends before it counts as well. Sends nothing beyond the handshake,
//! and quotes nothing from a certificate but the names that it is for.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, ProtocolVersion, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A server whose certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `1.3` or `1.2`.
    pub version: &'static str,
    /// Whole days until the certificate, or an authority above it, is no longer valid; `None` where
    /// that is more than a year away.
    pub days_left: Option<u64>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsTrouble {
    /// No connection at all, in words.
    NoConnection(String),
    /// It expired this many whole days ago.
    Expired(Option<u64>),
    /// It is for the future: one of the two clocks is wrong.
    NotYetValid,
    /// It is for other names: these, bounded.
    OtherNames(Vec<String>),
    /// Nobody here knows its authority, or it sends no chain that leads there.
    UnknownIssuer,
    /// Something else, in the TLS library's words.
    Other(String),
}

/// The authorities and versions that connections are verified with.
#[derive(Clone)]
pub struct Trust(ClientConfig);

impl Trust {
    /// The platform's authorities.
    ///
    /// # Errors
    /// When they cannot be loaded.
    pub fn platform() -> Result<Self, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(Self(builder.try_with_platform_verifier()?.with_no_client_auth()))
    }

    /// These authorities alone, in PEM.
    ///
    /// # Errors
    /// When they are none.
    pub fn only(pem: &[u8]) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| rustls::Error::General("no PEM".to_owned()))?;
            roots.add(certificate)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(Self(builder.with_root_certificates(roots).with_no_client_auth()))
    }

    /// Shakes hands with the server at `address`, as `host`.
    ///
    /// # Errors
    /// Whatever a connection would fail for.
    pub async fn examine(&self, host: &str, address: SocketAddr) -> Result<TlsFacts, TlsTrouble> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| TlsTrouble::Other("the host is no name that TLS can check".to_owned()))?;
        let version = shake(self.0.clone(), name.clone(), address).await?;
        let mut later = self.0.clone();
        later.time_provider = Arc::new(Ahead(LONGEST));
        later.resumption = rustls::client::Resumption::disabled();
        let days_left = match shake(later, name, address).await {
            Err(TlsTrouble::Expired(days)) => {
                // `days` before the day that was asked about
                days.map(|days| (LONGEST.as_secs() / DAY).saturating_sub(days).saturating_sub(1))
            }
            Ok(_) | Err(_) => None,
        };
        Ok(TlsFacts { version, days_left })
    }
}

async fn shake(
    config: ClientConfig,
    name: ServerName<'static>,
    address: SocketAddr,
) -> Result<&'static str, TlsTrouble> {
    let socket = TcpStream::connect(address)
        .await
        .map_err(|error| TlsTrouble::NoConnection(error.kind().to_string()))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, socket);
    let stream = Box::pin(connected).await.map_err(|error| trouble(&error))?;
    Ok(match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "?",
    })
}

fn trouble(error: &std::io::Error) -> TlsTrouble {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(tls) = tls else {
        return TlsTrouble::NoConnection(error.kind().to_string());
    };
    let rustls::Error::InvalidCertificate(certificate) = tls else {
        return TlsTrouble::Other(tls.to_string());
    };
    match certificate {
        CertificateError::Expired => TlsTrouble::Expired(None),
        CertificateError::ExpiredContext { time, not_after } => {
            let since = time.as_secs().saturating_sub(not_after.as_secs());
            TlsTrouble::Expired(Some(since / DAY))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsTrouble::NotYetValid
        }
        CertificateError::NotValidForName => TlsTrouble::OtherNames(Vec::new()),
        CertificateError::NotValidForNameContext { presented, .. } => TlsTrouble::OtherNames(
            presented
                .iter()
                .take(MOST_NAMES)
                .map(|name| bounded(name))
                .collect(),
        ),
        // one of its name with another key is another authority
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsTrouble::UnknownIssuer,
        other => TlsTrouble::Other(bounded(&other.to_string())),
    }
}

/// A certificate's text on the way to a terminal.
fn bounded(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(100).collect()
}

/// A clock that is ahead.
struct Ahead(Duration);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = Duration::from_secs(UnixTime::now().as_secs());
        Some(UnixTime::since_unix_epoch(now.saturating_add(self.0)))
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Ahead({:?})", self.0)
    }
}

const DAY: u64 = 24 * 60 * 60;

/// More than a certificate of a public authority may last.
const LONGEST: Duration = Duration::from_secs(400 * DAY);

/// As many names of a certificate as help somebody who has the wrong one.
const MOST_NAMES: usize = 5;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server with such a certificate, and who trusts it.
    async fn server(names: &[&str], last_year: i32) -> (SocketAddr, Trust) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a server");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((socket, _)) = listener.accept().await {
                let _ = acceptor.accept(socket).await;
            }
        });
        let trust = Trust::only(certificate.pem().as_bytes()).expect("an authority");
        (address, trust)
    }

    #[tokio::test]
    async fn a_certificate_that_holds_says_for_how_long() {
        let (address, trust) = server(&["login.example.com"], 4000).await;
        let facts = trust.examine("login.example.com", address).await.expect("good");
        assert_eq!((facts.version, facts.days_left), ("1.3", None));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_certificate_is_told_apart() {
        let (address, trust) = server(&["login.example.com"], 2021).await;
        let expired = trust.examine("login.example.com", address).await;
        assert!(
            matches!(expired, Err(TlsTrouble::Expired(Some(days))) if days > 365),
            "{expired:?}"
        );

        let (address, trust) = server(&["login.example.com"], 4000).await;
        let other = trust.examine("shop.example.com", address).await;
        let Err(TlsTrouble::OtherNames(names)) = other else {
            panic!("{other:?}");
        };
        assert!(
            names.iter().any(|name| name.contains("login.example.com")),
            "{names:?}"
        );

        let (_, another) = server(&["login.example.com"], 4000).await;
        let unknown = another.examine("login.example.com", address).await;
        assert!(unknown.is_err(), "{unknown:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_no_trouble_of_a_certificate() {
        let (_, trust) = server(&["login.example.com"], 4000).await;
        let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = gone.local_addr().expect("bound");
        drop(gone);
        let nobody = trust.examine("login.example.com", address).await;
        assert_eq!(
            nobody,
            Err(TlsTrouble::NoConnection("connection refused".to_owned()))
        );
    }
}
