//! `coatroom keygen --client`, `--client-certificate` and `--jwks`: what this client proves itself with
//! at the provider, and what to register there.
//!
//! The private key goes into a file that nobody else can read and that is never overwritten; the key
//! set (RFC 7517), which is public, goes to standard output and nothing else does. With a certificate
//! it holds that too (`x5c`), as RFC 8705 §2.2.2 wants it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use coatroom_core::oauth::SigningKey;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
};
use serde_json::{Value, json};

/// Algorithms for which a key can be made.
pub(crate) const ALGORITHMS: [&str; 4] = ["ES256", "ES384", "EdDSA", "PS256"];

/// Writes a new private key into `file` and prints its public half.
///
/// # Errors
/// A file that is there already or cannot be written, or when the system has no random bytes.
pub(crate) fn key(algorithm: &str, file: &Path) -> anyhow::Result<()> {
    let pair = match algorithm {
        "ES384" => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        "EdDSA" => KeyPair::generate_for(&PKCS_ED25519),
        "PS256" => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
        _ => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
    };
    let pem = pair.context("the key cannot be made")?.serialize_pem();
    let set = key_set(&pem, None)?;
    write(file, &pem, 0o600)?;
    print(&set)
}

/// Writes a self-signed client certificate for `name` and its key beside each other (`FILE.crt` and
/// `FILE.key`), and prints what to register.
///
/// # Errors
/// As [`key`].
pub(crate) fn certificate(name: &str, file: &Path) -> anyhow::Result<()> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("the key cannot be made")?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let now = std::time::SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + LIFE).into();
    let made = params
        .self_signed(&pair)
        .context("the certificate cannot be made")?;
    let pem = pair.serialize_pem();
    let set = key_set(&pem, Some(made.der()))?;
    // the key first: without it the certificate is of no use
    write(&file.with_extension("key"), &pem, 0o600)?;
    write(&file.with_extension("crt"), &made.pem(), 0o644)?;
    print(&set)
}

/// Prints the public half of the private key in `file`; `-` is standard input.
///
/// # Errors
/// When the file cannot be read or holds no key that can sign.
pub(crate) fn jwks(file: &Path) -> anyhow::Result<()> {
    let mut pem = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(LONGEST).read_to_string(&mut pem)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_string(&mut pem))
    };
    read.map_err(|error| {
        refused(&format!(
            "the key file {} cannot be read: {error}",
            file.display()
        ))
    })?;
    let set = key_set(&pem, None).map_err(|error| {
        refused(&format!(
            "{} is no private key that signs: {error}",
            file.display()
        ))
    })?;
    print(&set)
}

fn key_set(pem: &str, certificate: Option<&[u8]>) -> anyhow::Result<Value> {
    use base64::Engine as _;
    let key = SigningKey::from_pem(pem.as_bytes(), None, None)?.identified();
    let mut jwk = key.public_jwk().clone();
    jwk["kid"] = key.kid().into();
    jwk["use"] = "sig".into();
    match certificate {
        // an RSA key may sign with several algorithms, see `client_auth.algorithm`
        None if key.alg() != "PS256" => jwk["alg"] = key.alg().into(),
        None => {}
        Some(der) => jwk["x5c"] = json!([base64::engine::general_purpose::STANDARD.encode(der)]),
    }
    Ok(json!({ "keys": [jwk] }))
}

fn write(file: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(mode).open(file);
    let mut opened = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => anyhow::anyhow!(
            "{} is there already\nhint: write elsewhere with `--out FILE`, and have both keys registered until the \
             new one is in use",
            file.display()
        ),
        _ => anyhow::anyhow!("{} cannot be written: {error}", file.display()),
    })?;
    opened
        .write_all(text.as_bytes())
        .with_context(|| format!("{} cannot be written", file.display()))
}

fn print(set: &Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{set:#}")
        .and_then(|()| out.flush())
        .context("the key set cannot be written to standard output")
}

fn refused(message: &str) -> anyhow::Error {
    anyhow::anyhow!("{message}\nhint: coatroom keygen --client ES256 --out client.pem")
}

/// How long a self-signed certificate is good: two years.
const LIFE: std::time::Duration = std::time::Duration::from_secs(2 * 365 * 24 * 60 * 60);

/// Longer than any key file.
const LONGEST: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_made_signs_as_it_says_and_is_published_without_its_private_half() {
        for algorithm in ALGORITHMS {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("client.pem");
            key(algorithm, &file).expect("made");
            let pem = std::fs::read_to_string(&file).expect("written");
            let read = SigningKey::from_pem(pem.as_bytes(), Some(algorithm), None);
            let read = read.unwrap_or_else(|error| panic!("{algorithm}: {error}"));
            let set = key_set(&pem, None).expect("a set");
            let jwk = &set["keys"][0];
            assert_eq!(jwk["kid"], read.thumbprint());
            for private in ["d", "p", "q", "k"] {
                assert_eq!(jwk.get(private), None, "{algorithm}");
            }
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&file).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert!(key(algorithm, &file).is_err(), "never overwritten");
            assert_eq!(std::fs::read_to_string(&file).expect("there"), pem);
        }
    }

    #[test]
    fn a_certificate_that_was_made_is_one_that_the_configuration_takes() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("client");
        certificate("shop", &file).expect("made");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("written");
        assert_eq!(
            crate::config::check_pair(&read("client.crt"), &read("client.key")),
            Ok(())
        );
    }
}
