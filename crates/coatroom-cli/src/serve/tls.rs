//! TLS on the public listener (RFC 8446): the certificate from PEM, HTTP/2 and HTTP/1.1 by ALPN.
//!
//! Only rustls on aws-lc-rs; hybrid post-quantum key exchange is preferred by its defaults. Client
//! certificates are not asked for. The certificate can be replaced while it serves: connections
//! keep theirs, the next handshake gets the new one. An error never quotes a file's content.

use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate chain and its key as PEM text.
pub(crate) struct Pem {
    /// The chain, the server's own certificate first.
    pub(crate) certificate: Vec<u8>,
    /// The private key.
    pub(crate) key: Vec<u8>,
}

/// The certificate in use, and the place to put another. No `Debug` of the key.
pub(crate) struct Certificates {
    current: ArcSwap<CertifiedKey>,
}

impl Certificates {
    /// Begins with this one.
    ///
    /// # Errors
    /// When chain and key are not PEM or do not belong together.
    pub(crate) fn new(pem: &Pem) -> anyhow::Result<Arc<Self>> {
        let Certificate(first) = Certificate::parse(pem)?;
        Ok(Arc::new(Self {
            current: ArcSwap::new(first),
        }))
    }

    /// Uses this one from the next handshake on.
    pub(crate) fn replace(&self, next: Certificate) {
        self.current.store(next.0);
    }
}

/// A chain and its key that belong together.
pub(crate) struct Certificate(Arc<CertifiedKey>);

impl Certificate {
    /// Reads and compares both.
    ///
    /// # Errors
    /// When chain and key are not PEM or do not belong together.
    pub(crate) fn parse(pem: &Pem) -> anyhow::Result<Self> {
        certified(pem).map(Arc::new).map(Self)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

fn certified(pem: &Pem) -> anyhow::Result<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(&pem.certificate)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .context("`tls.certificate` is not a certificate chain in PEM")?;
    let key = PrivateKeyDer::from_pem_slice(&pem.key)
        .ok()
        .context("`tls.key` is not a private key in PEM")?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .context("`tls.certificate` and `tls.key` cannot be used together")
}

/// The configuration that every core shares, tickets for resumption included.
pub(super) fn server_config(certificates: Arc<Certificates>) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("`tls`")?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Tickets, since connections of one client reach different cores.
    config.ticketer = aws_lc_rs::Ticketer::new().context("`tls`")?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

#[cfg(test)]
pub(super) mod testing {
    //! Certificates for tests.

    use super::Pem;

    /// A certificate for `localhost` that signed itself.
    pub(crate) fn localhost() -> Pem {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        Pem {
            certificate: signed.cert.pem().into_bytes(),
            key: signed.signing_key.serialize_pem().into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_and_its_key_are_taken() {
        let certificates = Certificates::new(&testing::localhost()).expect("good");
        let config = server_config(certificates).expect("good");
        assert_eq!(config.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    }

    #[test]
    fn what_does_not_fit_is_named_and_not_quoted_and_the_one_in_use_stays() {
        let (good, other) = (testing::localhost(), testing::localhost());
        let in_use = Certificates::new(&good).expect("good");
        let before = in_use.current.load_full();
        for (certificate, key, message) in [
            (
                &b"nonsense"[..],
                &good.key[..],
                "`tls.certificate` is not a certificate",
            ),
            (b"", &good.key, "`tls.certificate` is not a certificate"),
            (&good.certificate, b"nonsense", "`tls.key` is not a private key"),
            (
                &good.certificate,
                &good.certificate,
                "`tls.key` is not a private key",
            ),
            (&good.certificate, &other.key, "cannot be used together"),
        ] {
            let pem = Pem {
                certificate: certificate.to_vec(),
                key: key.to_vec(),
            };
            let error = format!("{:#}", Certificate::parse(&pem).err().expect(message));
            assert!(error.contains(message) && !error.contains("nonsense"), "{error}");
            assert!(Arc::ptr_eq(&before, &in_use.current.load_full()));
        }
        in_use.replace(Certificate::parse(&other).expect("good"));
        assert_ne!(before.cert, in_use.current.load_full().cert);
    }
}
