//! The certificates and keys of the public listener: fetched, parsed, and known to belong together.
//!
//! Nothing is bound here, and no error quotes a file.

use std::collections::HashMap;
use std::path::Path;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::document::dotted;
use super::findings::Findings;
use super::schema_tls::{self, TlsVersion};
use super::secret::Reference;

/// TLS on the public listener: at least one certificate.
pub(crate) struct Tls {
    /// The certificates, the one for all other names first.
    pub(crate) certificates: Vec<Pem>,
    /// The oldest version.
    pub(crate) minimum: TlsVersion,
}

/// A certificate chain and its private key, as PEM text that was parsed once.
pub(crate) struct Pem {
    /// The chain, the server's own certificate first.
    pub(crate) certificate: String,
    /// The private key.
    pub(crate) key: String,
}

/// Fetches all and checks them. `None` when something is wrong, which `findings` then says.
pub(crate) fn load(written: &schema_tls::Tls, folder: &Path, findings: &mut Findings<'_>) -> Option<Tls> {
    let at = |names: &[&str]| -> Vec<String> {
        ["tls"]
            .iter()
            .chain(names)
            .map(|name| (*name).to_owned())
            .collect()
    };
    let errors_before = findings.errors();
    let mut pairs = Vec::new();
    match (&written.certificate, &written.key) {
        (Some(certificate), Some(key)) => pairs.push((at(&[]), certificate, key)),
        (None, None) => {}
        (certificate, _) => {
            let missing = if certificate.is_some() {
                "key"
            } else {
                "certificate"
            };
            findings.error(
                at(&[]),
                format!("`{missing}` is missing"),
                format!("add `{missing}: {{file: …}}`"),
            );
        }
    }
    for (index, pair) in written.certificates.iter().flatten().enumerate() {
        let index = index.to_string();
        // A list in place of the mapping has its items right below `tls`.
        let path = findings.nearest(&[at(&["certificates", &index]), at(&[&index])]);
        pairs.push((path, &pair.certificate, &pair.key));
    }
    if pairs.is_empty() && findings.errors() == errors_before {
        findings.error(
            at(&[]),
            "`certificate` is missing".to_owned(),
            "write `tls: {certificate: {file: tls.crt}, key: {file: tls.key}}`".to_owned(),
        );
    }
    let mut certificates = Vec::new();
    let mut names: HashMap<String, String> = HashMap::new();
    for (path, certificate, key) in pairs {
        let Some(pem) = pair(&path, certificate, key, folder, findings) else {
            continue;
        };
        for name in dns_names(&pem) {
            let place = dotted(&path);
            if let Some(first) = names.get(&name) {
                findings.warning(
                    path.clone(),
                    format!("the certificate of `{first}` is for {name} already, and is what clients get"),
                    "give each name to one certificate, or remove this one".to_owned(),
                );
                break;
            }
            names.insert(name, place);
        }
        certificates.push(pem);
    }
    (findings.errors() == errors_before).then_some(Tls {
        certificates,
        minimum: written.minimum,
    })
}

fn pair(
    path: &[String],
    certificate: &Reference,
    key: &Reference,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<Pem> {
    let at = |name: &str| path.iter().cloned().chain([name.to_owned()]).collect::<Vec<_>>();
    // Everybody may read a certificate: no warning about its mode.
    let certificate = findings.public(certificate, at("certificate"), folder);
    let key = findings.secret(key, at("key"), folder);
    let (certificate, key) = (certificate?, key?);
    match check(&certificate, &key) {
        Ok(()) => Some(Pem { certificate, key }),
        Err((name, message, hint)) => {
            findings.error(at(name), message.to_owned(), hint.to_owned());
            None
        }
    }
}

/// The names that a certificate is for: exact ones and wildcards, in lower case.
fn dns_names(pem: &Pem) -> Vec<String> {
    CertificateDer::from_pem_slice(pem.certificate.as_bytes())
        .map(|certificate| crate::serve::dns_names(&certificate))
        .unwrap_or_default()
}

/// Whether a chain and a private key can be read and belong together; else the setting at fault, what
/// is wrong with it, and what to do.
pub(crate) fn check(certificate: &str, key: &str) -> Result<(), (&'static str, &'static str, &'static str)> {
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
