//! The certificate and key of the public listener: fetched, parsed, and known to belong together.
//!
//! Nothing is bound here, and no error quotes a file.

use std::path::Path;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::findings::Findings;
use super::schema;

/// A certificate chain and its private key, as PEM text that was parsed once.
pub(crate) struct Tls {
    /// The chain, the server's own certificate first.
    pub(crate) certificate: String,
    /// The private key.
    pub(crate) key: String,
}

/// Fetches both and checks them. `None` when something is wrong, which `findings` then says.
pub(crate) fn load(written: &schema::Tls, folder: &Path, findings: &mut Findings<'_>) -> Option<Tls> {
    let at = |name: &str| vec!["tls".to_owned(), name.to_owned()];
    // Everybody may read a certificate: no warning about its mode.
    let certificate = findings.public(&written.certificate, at("certificate"), folder);
    let key = findings.secret(&written.key, at("key"), folder);
    let (certificate, key) = (certificate?, key?);
    match check(&certificate, &key) {
        Ok(()) => Some(Tls { certificate, key }),
        Err((name, message, hint)) => {
            findings.error(at(name), message.to_owned(), hint.to_owned());
            None
        }
    }
}

fn check(certificate: &str, key: &str) -> Result<(), (&'static str, &'static str, &'static str)> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| ("certificate", "this is not a PEM file", PEM_CERTIFICATE))?;
    if chain.is_empty() {
        return Err(("certificate", "the file holds no certificate", PEM_CERTIFICATE));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| ("key", "the file holds no private key", PEM_KEY))?;
    let key = default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| ("key", "this kind of private key is not supported", PEM_KEY))?;
    match CertifiedKey::new(chain, key).keys_match() {
        // Some kinds of key cannot be compared; the first handshake will tell.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(Error::InconsistentKeys(_)) => Err((
            "key",
            "the private key does not belong to the certificate",
            "give both files of one certificate",
        )),
        Err(_) => Err((
            "certificate",
            "the first certificate cannot be read",
            PEM_CERTIFICATE,
        )),
    }
}

const PEM_CERTIFICATE: &str = "point to the PEM file with the certificate chain (`-----BEGIN CERTIFICATE-----`), the server's own first";
const PEM_KEY: &str = "point to the PEM file with an unencrypted private key (`-----BEGIN PRIVATE KEY-----`), ECDSA, RSA or Ed25519";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_its_key_are_accepted_and_anything_else_is_not() {
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let (certificate, key) = made("a.example");
        let (_, other_key) = made("b.example");
        assert_eq!(check(&certificate, &key), Ok(()));
        for (certificate, key, name, message) in [
            (
                certificate.as_str(),
                other_key.as_str(),
                "key",
                "the private key does not belong to the certificate",
            ),
            (&key, &certificate, "certificate", "the file holds no certificate"),
            ("hunter2", &key, "certificate", "the file holds no certificate"),
            (
                "-----BEGIN CERTIFICATE-----\nhunter2",
                &key,
                "certificate",
                "this is not a PEM file",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                &key,
                "certificate",
                "the first certificate cannot be read",
            ),
            (&certificate, "hunter2", "key", "the file holds no private key"),
            (
                &certificate,
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "key",
                "this kind of private key is not supported",
            ),
        ] {
            let error = check(certificate, key).expect_err(message);
            assert_eq!((error.0, error.1), (name, message));
        }
    }
}
