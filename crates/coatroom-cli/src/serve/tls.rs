//! TLS on the public listener (RFC 8446, RFC 5246): certificates from PEM, chosen by the name that a
//! client asks for; HTTP/2 and HTTP/1.1 by ALPN.
//!
//! Only rustls on aws-lc-rs; hybrid post-quantum key exchange is preferred by its defaults. Client
//! certificates are not asked for, and early data (0-RTT) is not taken, since it can be replayed.
//! Certificates can be replaced while they serve: connections keep theirs, the next handshake gets
//! the new one. An error never quotes a file's content.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use webpki::EndEntityCert;

use crate::config::TlsVersion;

/// A certificate chain and its key as PEM text.
pub(crate) struct Pem {
    /// The chain, the server's own certificate first.
    pub(crate) certificate: Vec<u8>,
    /// The private key.
    pub(crate) key: Vec<u8>,
}

/// The certificates in use, and the place to put others. No `Debug` of the keys.
pub(crate) struct Certificates {
    current: ArcSwap<CertificateSet>,
}

impl Certificates {
    /// Begins with these.
    ///
    /// # Errors
    /// When a chain and its key are not PEM or do not belong together, or there is none.
    pub(crate) fn new(pems: &[Pem]) -> anyhow::Result<Arc<Self>> {
        let first = CertificateSet::parse(pems)?;
        Ok(Arc::new(Self {
            current: ArcSwap::from_pointee(first),
        }))
    }

    /// Uses these from the next handshake on.
    pub(crate) fn replace(&self, next: CertificateSet) {
        self.current.store(Arc::new(next));
    }
}

/// Chains with keys that belong to them, and which is for which name.
pub(crate) struct CertificateSet {
    /// For clients that ask for no name, or one that no certificate has.
    default: Arc<CertifiedKey>,
    /// By name in lower case, wildcards as they are written; empty where there is only the default.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl CertificateSet {
    /// Reads and compares all.
    ///
    /// # Errors
    /// When a chain and its key are not PEM or do not belong together, or there is none.
    pub(crate) fn parse(pems: &[Pem]) -> anyhow::Result<Self> {
        let all: Vec<_> = pems
            .iter()
            .map(|pem| certified(pem).map(Arc::new))
            .collect::<anyhow::Result<_>>()?;
        let default = all.first().context("`tls` has no certificate")?.clone();
        let mut by_name = HashMap::new();
        if all.len() > 1 {
            for key in &all {
                let own = key.cert.first().map(dns_names).unwrap_or_default();
                for name in own {
                    // Of two for one name the first.
                    by_name.entry(name).or_insert_with(|| key.clone());
                }
            }
        }
        Ok(Self { default, by_name })
    }

    /// The certificate for a name (RFC 6066 §3, RFC 9525 §6.3): an exact one, then a wildcard in
    /// place of its first label, then the default.
    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let found = name.filter(|_| !self.by_name.is_empty()).and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wildcard = || format!("*.{}", name.split_once('.').map_or("", |(_, rest)| rest));
            self.by_name.get(&name).or_else(|| self.by_name.get(&wildcard()))
        });
        found.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().find(hello.server_name()).clone())
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

/// The DNS names that a certificate is for (RFC 5280 §4.2.1.6), wildcards included, in lower case.
pub(crate) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let names = certificate.valid_dns_names();
    names.map(str::to_ascii_lowercase).collect()
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
pub(super) fn server_config(
    certificates: Arc<Certificates>,
    minimum: TlsVersion,
) -> anyhow::Result<Arc<ServerConfig>> {
    let versions = match minimum {
        TlsVersion::Tls12 => &[&TLS13, &TLS12][..],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
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
        named(&["localhost"])
    }

    /// A certificate for some names that signed itself.
    pub(crate) fn named(names: &[&str]) -> Pem {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let signed = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Pem {
            certificate: signed.cert.pem().into_bytes(),
            key: signed.signing_key.serialize_pem().into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::client::Resumption;
    use rustls::pki_types::ServerName;
    use rustls::{
        ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore,
        ServerConnection, SupportedProtocolVersion,
    };

    use super::*;

    /// Trusts these, offers these versions.
    fn client(pems: &[Pem], versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for pem in pems {
            roots
                .add(CertificateDer::from_pem_slice(&pem.certificate).expect("a certificate"))
                .expect("a root");
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        client
    }

    /// Both ends of a handshake, without a socket.
    fn handshake(
        server: &Arc<ServerConfig>,
        client: &Arc<ClientConfig>,
        name: &str,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut client = ClientConnection::new(client.clone(), name)?;
        let mut server = ServerConnection::new(server.clone())?;
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("memory");
            server.read_tls(&mut bytes.as_slice()).expect("memory");
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).expect("memory");
            client.read_tls(&mut bytes.as_slice()).expect("memory");
            client.process_new_packets()?;
        }
        Ok((client, server))
    }

    fn serving(pems: &[Pem], minimum: TlsVersion) -> Arc<ServerConfig> {
        server_config(Certificates::new(pems).expect("good"), minimum).expect("good")
    }

    #[test]
    fn a_handshake_agrees_on_the_newest_version_http2_and_a_key_exchange_that_outlives_quantum_computers() {
        let pems = [testing::localhost()];
        let server = serving(&pems, TlsVersion::Tls12);
        let client = Arc::new(client(&pems, &[&TLS13, &TLS12]));
        let (client, server) = handshake(&server, &client, "localhost").expect("agreed");
        assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
        let group = server.negotiated_key_exchange_group().map(|group| group.name());
        assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
    }

    #[test]
    fn the_oldest_version_is_the_configured_one() {
        let pems = [testing::localhost()];
        let old = Arc::new(client(&pems, &[&TLS12]));
        let (_, server) =
            handshake(&serving(&pems, TlsVersion::Tls12), &old, "localhost").expect("1.2 is the default");
        assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_2));
        handshake(&serving(&pems, TlsVersion::Tls13), &old, "localhost").expect_err("1.3 was asked for");
    }

    #[test]
    fn a_client_that_comes_back_resumes_and_sends_no_early_data() {
        let pems = [testing::localhost()];
        for versions in [&[&TLS13][..], &[&TLS12]] {
            let server = serving(&pems, TlsVersion::Tls12);
            let mut config = client(&pems, versions);
            config.resumption = Resumption::in_memory_sessions(8);
            config.enable_early_data = true;
            let config = Arc::new(config);
            let kinds: Vec<_> = (0..3)
                .map(|_| {
                    let (client, server) = handshake(&server, &config, "localhost").expect("agreed");
                    assert!(!client.is_early_data_accepted());
                    assert_eq!(client.handshake_kind(), server.handshake_kind());
                    client.handshake_kind()
                })
                .collect();
            let expected = [
                HandshakeKind::Full,
                HandshakeKind::Resumed,
                HandshakeKind::Resumed,
            ];
            assert_eq!(kinds, expected.map(Some), "{versions:?}");
        }
    }

    #[test]
    fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
        let pems = [
            testing::named(&["a.example", "*.wild.example"]),
            testing::named(&["b.example", "A.example", "*.deep.example", "c.wild.example"]),
        ];
        let set = CertificateSet::parse(&pems).expect("good");
        let certificates: Vec<_> = pems
            .iter()
            .map(|pem| certified(pem).expect("good").cert)
            .collect();
        for (name, expected) in [
            (None, 0),
            (Some("a.example"), 0),
            (Some("b.example"), 1),
            (Some("B.EXAMPLE"), 1),
            (Some("c.example"), 0),
            (Some("c.wild.example"), 1),
            (Some("d.wild.example"), 0),
            (Some("x.deep.example"), 1),
            (Some("deep.example"), 0),
            (Some("x.y.deep.example"), 0),
            (Some("other.test"), 0),
            (Some("example"), 0),
            (Some(""), 0),
        ] {
            assert!(set.find(name).cert == certificates[expected], "{name:?}");
        }
        // and in a handshake, where the client would refuse another
        let client = Arc::new(client(&pems, &[&TLS13]));
        let server = serving(&pems, TlsVersion::Tls12);
        for name in [
            "a.example",
            "b.example",
            "c.wild.example",
            "d.wild.example",
            "x.deep.example",
        ] {
            handshake(&server, &client, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        handshake(&server, &client, "other.test").expect_err("the default is not for this name");
    }

    #[test]
    fn what_does_not_fit_is_named_and_not_quoted_and_the_one_in_use_stays() {
        let (good, other) = (testing::localhost(), testing::localhost());
        let in_use = Certificates::new(std::slice::from_ref(&good)).expect("good");
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
            let error = CertificateSet::parse(&[pem]).err().expect(message);
            let error = format!("{error:#}");
            assert!(error.contains(message) && !error.contains("nonsense"), "{error}");
            assert!(Arc::ptr_eq(&before, &in_use.current.load_full()));
        }
        assert!(CertificateSet::parse(&[]).is_err(), "there must be one");
        in_use.replace(CertificateSet::parse(std::slice::from_ref(&other)).expect("good"));
        assert_ne!(before.default.cert, in_use.current.load_full().default.cert);
    }
}
