//! TLS on the public listener (RFC 8446): the certificate from PEM, HTTP/2 and HTTP/1.1 by ALPN.
//!
//! Only rustls on aws-lc-rs; hybrid post-quantum key exchange is preferred by its defaults. Client
//! certificates are not asked for. An error never quotes a file's content.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate chain and its key as PEM text.
pub(crate) struct Pem {
    /// The chain, the server's own certificate first.
    pub(crate) certificate: Vec<u8>,
    /// The private key.
    pub(crate) key: Vec<u8>,
}

/// The configuration that every core shares, tickets for resumption included.
pub(super) fn server_config(pem: &Pem) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(&pem.certificate)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .context("`tls.certificate` is not a certificate chain in PEM")?;
    let key = PrivateKeyDer::from_pem_slice(&pem.key)
        .ok()
        .context("`tls.key` is not a private key in PEM")?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("`tls`")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("`tls.certificate` and `tls.key` cannot be used together")?;
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
        let config = server_config(&testing::localhost()).expect("good");
        assert_eq!(config.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    }

    #[test]
    fn what_does_not_fit_is_named_and_not_quoted() {
        let (good, other) = (testing::localhost(), testing::localhost());
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
            let error = format!("{:#}", server_config(&pem).expect_err(message));
            assert!(error.contains(message) && !error.contains("nonsense"), "{error}");
        }
    }
}
