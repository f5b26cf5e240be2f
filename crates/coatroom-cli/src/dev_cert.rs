//! `coatroom dev-cert`: HTTPS in development, in one command.
//!
//! It makes a certificate authority, has it sign one certificate for names of this machine, and
//! throws the authority's key away before anything is written: what a browser is told to trust
//! can sign nothing more, and is good for the given names alone (RFC 5280 §4.2.1.10). Names by
//! which other machines could be meant are refused. It changes no trust store, and overwrites
//! nothing unless told to.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cli::quoted;
use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};

/// Whether files that are there already may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Kept,
    Replaced,
}

/// Writes the authority's certificate, the chain and the key into `folder`, and prints what to do
/// with them.
///
/// # Errors
/// A name that is not this machine's, a file that is there already, or one that cannot be written.
pub(crate) fn run(folder: &Path, names: &[String], existing: Existing) -> anyhow::Result<()> {
    let names = if names.is_empty() {
        DEFAULT_NAMES.iter().map(|name| (*name).to_owned()).collect()
    } else {
        names.to_vec()
    };
    let names = names
        .iter()
        .map(|name| Name::parse(name))
        .collect::<Result<Vec<_>, _>>()?;
    let files = [CA, CERTIFICATE, KEY].map(|name| match folder {
        here if here == Path::new(".") => PathBuf::from(name),
        folder => folder.join(name),
    });
    if existing == Existing::Kept
        && let Some(there) = files.iter().find(|file| file.symlink_metadata().is_ok())
    {
        anyhow::bail!(
            "{} is there already\nhint: add `--force` to replace it, or write elsewhere with `--out DIR`",
            there.display()
        );
    }
    let made = issue(&names, &names, SystemTime::now()).context("the certificates cannot be made")?;
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let [ca, certificate, key] = &files;
    // The key first: without it the others are of no use.
    for (file, text, readers) in [
        (key, &made.key, Readers::Owner),
        (certificate, &made.chain, Readers::Everybody),
        (ca, &made.ca, Readers::Everybody),
    ] {
        write(file, text, readers, existing)
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let text = instructions(&names, &files);
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("the instructions cannot be written to standard output")
}

/// A name of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// Below `localhost` or `test`, in lower case; perhaps a wildcard.
    Dns(String),
    /// A loopback address.
    Address(IpAddr),
}

impl Name {
    fn parse(text: &str) -> anyhow::Result<Self> {
        if let Ok(address) = text.parse::<IpAddr>()
            && address.is_loopback()
        {
            return Ok(Self::Address(address));
        }
        let name = text.to_ascii_lowercase();
        if name == "*.localhost" {
            anyhow::bail!(
                "`*.localhost` is a wildcard above too few labels, TLS clients refuse such a certificate\n\
                 hint: coatroom dev-cert localhost shop.localhost '*.shop.localhost'"
            );
        }
        let bare = name.strip_prefix("*.").unwrap_or(&name);
        let here = bare == "localhost"
            || [".localhost", ".test"]
                .iter()
                .any(|ending| bare.ends_with(ending));
        if here && name.len() <= 253 && bare.split('.').all(is_label) {
            return Ok(Self::Dns(name));
        }
        anyhow::bail!(
            "this makes certificates for names of this machine only: `localhost`, names below `localhost` and \
             `test`, and loopback addresses\nhint: coatroom dev-cert localhost shop.localhost 127.0.0.1"
        );
    }

    /// A host that it covers, as URLs write it.
    fn host(&self) -> String {
        match self {
            Self::Dns(name) => name.replacen("*.", "www.", 1),
            Self::Address(IpAddr::V4(address)) => address.to_string(),
            Self::Address(IpAddr::V6(address)) => format!("[{address}]"),
        }
    }

    /// What of a CA's names this one needs.
    fn subtree(&self) -> GeneralSubtree {
        match self {
            Self::Dns(name) => GeneralSubtree::DnsName(name.strip_prefix("*.").unwrap_or(name).to_owned()),
            Self::Address(IpAddr::V4(address)) => {
                GeneralSubtree::IpAddress(CidrSubnet::V4(address.octets(), Ipv4Addr::BROADCAST.octets()))
            }
            Self::Address(IpAddr::V6(address)) => {
                GeneralSubtree::IpAddress(CidrSubnet::V6(address.octets(), [u8::MAX; 16]))
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// RFC 1123 §2.1.
fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Three PEM texts.
struct Made {
    ca: String,
    /// The certificate, then the authority's.
    chain: String,
    key: String,
}

/// Makes an authority for `permitted` and has it sign one certificate for `names`.
fn issue(permitted: &[Name], names: &[Name], now: SystemTime) -> Result<Made, rcgen::Error> {
    let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name = DistinguishedName::new();
    // Two authorities of the same name confuse trust stores.
    let suffix: String = ca_key
        .public_key_raw()
        .iter()
        .rev()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    ca.distinguished_name
        .push(DnType::CommonName, format!("Coatroom development CA {suffix}"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.name_constraints = Some(constraints(permitted));
    set_life(&mut ca, now);
    let ca_certificate = ca.self_signed(&ca_key)?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = DistinguishedName::new();
    leaf.distinguished_name
        .push(DnType::CommonName, "Coatroom development");
    leaf.subject_alt_names = names
        .iter()
        .map(|name| {
            Ok(match name {
                Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                Name::Address(address) => SanType::IpAddress(*address),
            })
        })
        .collect::<Result<_, rcgen::Error>>()?;
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    set_life(&mut leaf, now);
    // Here the authority's key ends.
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;

    let ca = ca_certificate.pem();
    Ok(Made {
        chain: certificate.pem() + &ca,
        ca,
        key: key.serialize_pem(),
    })
}

/// Nothing but these names. A kind of name that is not among them would be unconstrained if it
/// were not excluded.
fn constraints(permitted: &[Name]) -> NameConstraints {
    let has = |wanted: fn(&Name) -> bool| permitted.iter().any(wanted);
    let mut excluded = Vec::new();
    if !has(|name| matches!(name, Name::Dns(_))) {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    if !has(|name| matches!(name, Name::Address(_))) {
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.octets(), Ipv6Addr::UNSPECIFIED.octets());
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4(v4, v4)));
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6(v6, v6)));
    }
    let mut subtrees: Vec<GeneralSubtree> = Vec::new();
    for subtree in permitted.iter().map(Name::subtree) {
        if !subtrees.contains(&subtree) {
            subtrees.push(subtree);
        }
    }
    NameConstraints {
        permitted_subtrees: subtrees,
        excluded_subtrees: excluded,
    }
}

fn set_life(params: &mut CertificateParams, now: SystemTime) {
    params.not_before = now.checked_sub(CLOCK_DIFFERENCE).unwrap_or(now).into();
    params.not_after = (now + LIFE).into();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    Owner,
    Everybody,
}

/// Always a new file: its mode is ours, and nothing is written through a link.
fn write(file: &Path, text: &str, readers: Readers, existing: Existing) -> io::Result<()> {
    if existing == Existing::Replaced {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(if readers == Readers::Owner { 0o600 } else { 0o644 });
    }
    #[cfg(not(unix))]
    let _ = readers;
    let mut file = options.open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn instructions(names: &[Name], [ca, certificate, key]: &[PathBuf; 3]) -> String {
    let host = names.first().map(Name::host).unwrap_or_default();
    let names: Vec<String> = names.iter().map(Name::to_string).collect();
    let days = LIFE.as_secs() / (24 * 60 * 60);
    let quoted = |path: &Path| quoted(&path.display().to_string());
    let trusted = quoted(ca);
    let everywhere = if ca.is_absolute() {
        trusted.clone()
    } else {
        format!("\"$PWD\"/{trusted}")
    };
    format!(
        "Made {}, {} and {}.
  for    {}
  until  {days} days from now; then run this again with `--force`
The CA's private key is gone: it signs nothing else. Keep {} out of version control.

In the configuration, with an https `url` such as https://{host}:8080:

  tls: {{certificate: {{file: {}}}, key: {{file: {}}}}}

Trust the CA, each command for one place:

  Chromium on Linux (certutil is in libnss3-tools or nss-tools)
    mkdir -p ~/.pki/nssdb; certutil -d sql:$HOME/.pki/nssdb -D -n coatroom-dev 2>/dev/null; \
certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n coatroom-dev -i {trusted}
  Firefox on Linux
    for profile in ~/.mozilla/firefox/*.default*; do certutil -d \"sql:$profile\" -D -n coatroom-dev 2>/dev/null; \
certutil -d \"sql:$profile\" -A -t C,, -n coatroom-dev -i {trusted}; done
  Debian, Ubuntu
    sudo cp {trusted} /usr/local/share/ca-certificates/coatroom-dev.crt && sudo update-ca-certificates
  Fedora
    sudo trust anchor --store {trusted}
  macOS (Safari, Chrome)
    security add-trusted-cert -r trustRoot -p ssl -k ~/Library/Keychains/login.keychain-db {trusted}
  Windows (Edge, Chrome)
    certutil -user -addstore Root {trusted}
  Node.js
    export NODE_EXTRA_CA_CERTS={everywhere}
  curl
    curl --cacert {trusted} https://{host}:8080/

Firefox on macOS and Windows uses the system's CAs.
",
        quoted(certificate),
        quoted(key),
        quoted(ca),
        names.join(", "),
        quoted(key),
        yaml(certificate),
        yaml(key),
    )
}

/// As YAML takes it.
fn yaml(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+".contains(&b);
    if path.bytes().all(plain) {
        path
    } else {
        format!("'{}'", path.replace('\'', "''"))
    }
}

const DEFAULT_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const CA: &str = "dev-ca.pem";
const CERTIFICATE: &str = "dev-cert.pem";
const KEY: &str = "dev-key.pem";

/// What browsers take at most of a public authority, and so the safe side for this one.
const LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60 - CLOCK_DIFFERENCE.as_secs());

/// Virtual machines and containers are sometimes behind.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use rustls::{CertificateError, RootCertStore};

    use super::*;

    fn names(texts: &[&str]) -> Vec<Name> {
        texts
            .iter()
            .map(|text| Name::parse(text).expect("a good name"))
            .collect()
    }

    fn defaults() -> Vec<Name> {
        names(&DEFAULT_NAMES)
    }

    fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .expect("PEM")
    }

    /// Whether a client that trusts the authority takes the chain for `host` after `days`.
    fn verify(made: &Made, host: &str, days: u64) -> Result<(), rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&made.ca) {
            roots.add(certificate).expect("an anchor");
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .expect("a verifier");
        let chain = certificates(&made.chain);
        let (leaf, rest) = chain.split_first().expect("a certificate");
        let host = ServerName::try_from(host.to_owned()).expect("a host");
        let now = UnixTime::since_unix_epoch(NOW + Duration::from_secs(days * 24 * 60 * 60));
        verifier.verify_server_cert(leaf, rest, &host, &[], now).map(drop)
    }

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn made(permitted: &[Name], names: &[Name]) -> Made {
        issue(permitted, names, SystemTime::UNIX_EPOCH + NOW).expect("made")
    }

    #[test]
    fn names_of_this_machine_are_taken_and_no_others() {
        for (text, good) in [
            ("localhost", true),
            ("LocalHost", true),
            ("*.localhost", false),
            ("shop.localhost", true),
            ("*.shop.localhost", true),
            ("shop.test", true),
            ("*.shop.test", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("", false),
            ("*", false),
            ("*.", false),
            ("test", false),
            ("*.test", false),
            ("*.*.localhost", false),
            ("a.*.localhost", false),
            (".localhost", false),
            ("a..localhost", false),
            ("-a.localhost", false),
            ("a_b.localhost", false),
            ("a b.localhost", false),
            ("é.localhost", false),
            ("localhost.", false),
            ("notlocalhost", false),
            ("localhost.example.com", false),
            ("example.com", false),
            ("printer.local", false),
            ("10.0.0.7", false),
            ("0.0.0.0", false),
            ("::", false),
            ("[::1]", false),
            ("localhost:8080", false),
            ("https://localhost", false),
        ] {
            let parsed = Name::parse(text);
            assert_eq!(parsed.is_ok(), good, "{text}");
            if let Err(error) = parsed {
                assert!(
                    error.to_string().contains("\nhint: coatroom dev-cert "),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn a_client_that_trusts_the_authority_takes_the_certificate_for_its_names_and_its_time() {
        let made = made(&defaults(), &defaults());
        for host in ["localhost", "127.0.0.1", "::1"] {
            for (days, good) in [(0, true), (396, true), (398, false)] {
                assert_eq!(verify(&made, host, days).is_ok(), good, "{host} {days}");
            }
        }
        for host in ["example.com", "127.0.0.2", "localhost.example.com"] {
            assert!(verify(&made, host, 0).is_err(), "{host}");
        }
    }

    #[test]
    fn the_authority_is_good_for_nothing_but_its_names() {
        let foreign = || vec![Name::Dns("login.example.com".to_owned())];
        let address = || vec![Name::Address(Ipv4Addr::new(192, 0, 2, 1).into())];
        let v6 = || vec![Name::Address("2001:db8::1".parse().expect("an address"))];
        for (permitted, leaf, host) in [
            (defaults(), foreign(), "login.example.com"),
            (defaults(), address(), "192.0.2.1"),
            (defaults(), v6(), "2001:db8::1"),
            (names(&["localhost"]), address(), "192.0.2.1"),
            (names(&["localhost"]), v6(), "2001:db8::1"),
            (names(&["localhost"]), names(&["127.0.0.1"]), "127.0.0.1"),
            (names(&["127.0.0.1"]), foreign(), "login.example.com"),
            (names(&["127.0.0.1"]), names(&["::1"]), "::1"),
            (names(&["127.0.0.1"]), names(&["127.0.0.2"]), "127.0.0.2"),
            (names(&["shop.localhost"]), names(&["localhost"]), "localhost"),
        ] {
            let outside = made(&permitted, &leaf);
            assert!(
                matches!(
                    verify(&outside, host, 0),
                    Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                ),
                "{permitted:?} {leaf:?}"
            );
        }
    }

    #[test]
    fn a_wildcard_below_two_labels_is_taken() {
        let names = names(&["shop.localhost", "*.shop.localhost"]);
        let made = made(&names, &names);
        assert!(verify(&made, "api.shop.localhost", 0).is_ok());
        assert!(verify(&made, "a.b.shop.localhost", 0).is_err());
    }

    #[test]
    fn the_authoritys_key_is_written_nowhere() {
        let made = made(&defaults(), &defaults());
        assert!(!made.ca.contains("PRIVATE"));
        assert!(!made.chain.contains("PRIVATE"));
        assert_eq!(made.key.matches("BEGIN PRIVATE KEY").count(), 1);
        let key = KeyPair::from_pem(&made.key).expect("a key");
        let chain = certificates(&made.chain);
        let holds = |certificate: &CertificateDer<'_>| {
            certificate
                .windows(key.public_key_raw().len())
                .any(|window| window == key.public_key_raw())
        };
        assert_eq!(chain.iter().map(holds).collect::<Vec<_>>(), [true, false]);
        let serving = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            chain,
            PrivateKeyDer::from_pem_slice(made.key.as_bytes()).expect("a key"),
        );
        assert!(serving.is_ok(), "chain and key belong together");
    }

    #[cfg(unix)]
    #[test]
    fn the_key_is_the_owners_and_nothing_is_overwritten_or_written_through_a_link() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("new/folder");
        run(&out, &[], Existing::Kept).expect("made");
        let mode = |name: &str| {
            let metadata = out.join(name).symlink_metadata().expect("there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!(mode(KEY), 0o600);
        let read = |name: &str| std::fs::read_to_string(out.join(name)).expect("there");
        let before = [CA, CERTIFICATE, KEY].map(read);
        let error = run(&out, &[], Existing::Kept).expect_err("refused");
        assert!(error.to_string().contains("\nhint: add `--force`"), "{error}");
        assert_eq!([CA, CERTIFICATE, KEY].map(read), before);

        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, "kept").expect("a file");
        std::fs::remove_file(out.join(KEY)).expect("removed");
        std::os::unix::fs::symlink(&elsewhere, out.join(KEY)).expect("a link");
        run(&out, &[], Existing::Replaced).expect("made");
        assert_eq!(std::fs::read_to_string(&elsewhere).expect("there"), "kept");
        assert_eq!(mode(KEY), 0o600);
        assert_ne!(read(CA), before[0]);
    }

    #[test]
    fn paths_are_written_so_that_they_can_be_pasted() {
        for (path, shell, configuration) in [
            ("dev-ca.pem", "dev-ca.pem", "dev-ca.pem"),
            ("/a/b c.pem", "'/a/b c.pem'", "'/a/b c.pem'"),
            ("it's.pem", "'it'\\''s.pem'", "'it''s.pem'"),
            ("$HOME", "'$HOME'", "'$HOME'"),
            ("a: b", "'a: b'", "'a: b'"),
        ] {
            assert_eq!(quoted(path), shell);
            assert_eq!(yaml(Path::new(path)), configuration);
        }
    }
}
