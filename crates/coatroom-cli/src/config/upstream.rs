//! What a route says of its upstream: as it is written, and then addresses made absolute and
//! certificates fetched and read once.
//!
//! As in `schema.rs` the comments of the fields are for users. Whether the settings make sense is the core's to say; that PEM files can be used is said here,
//! since the core does not read them. No error quotes a file.

use std::fmt;
use std::path::Path;

use coatroom_core::config::defaults;
use coatroom_core::config::{
    HealthCheckConfig, PrivateKeyPem, RouteTargetConfig, UpstreamConfig, UpstreamTlsConfig,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};

use super::findings::Findings;
use super::secret::Reference;
use super::tls;
use super::values::{Interval, shown};

/// A route's `upstream`: one address or several.
#[derive(Debug)]
pub(crate) struct Addresses(pub(crate) Vec<String>);

/// Health checks of a route's upstream: a `GET` without any credential, good if it is answered with
/// a status of 2xx in time.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthCheck {
    /// What is asked for: a path, perhaps with a query. The upstream's base path is not put before it.
    #[schemars(regex(pattern = r"^/[!-~]*$"), example = "/healthz")]
    pub(crate) path: String,
    /// How often, at least `100ms`.
    #[schemars(extend("default" = shown(defaults::HEALTH_INTERVAL)))]
    pub(crate) interval: Option<Interval>,
    /// Deadline of one check, connecting included.
    #[schemars(extend("default" = shown(defaults::HEALTH_TIMEOUT)))]
    pub(crate) timeout: Option<Interval>,
    /// Good checks in a row after which an address is called again.
    #[schemars(range(min = 1, max = 1000), extend("default" = defaults::HEALTHY_THRESHOLD))]
    pub(crate) healthy_threshold: Option<u16>,
    /// Bad checks in a row after which an address is not called any more. The very first check decides
    /// at once.
    #[schemars(range(min = 1, max = 1000), extend("default" = defaults::UNHEALTHY_THRESHOLD))]
    pub(crate) unhealthy_threshold: Option<u16>,
}

/// TLS to a route's upstream, which is `https`. Files are read again when they change.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UpstreamTls {
    /// The certificates of the authorities that are trusted, in PEM, in place of the platform's.
    pub(crate) ca: Option<Reference>,
    /// Our certificate chain in PEM, for an upstream that asks for one. Needs `key`.
    pub(crate) certificate: Option<Reference>,
    /// Its unencrypted private key in PEM. Needs `certificate`.
    pub(crate) key: Option<Reference>,
    /// The name that the upstream's certificate must have. Default: the host of the URL.
    #[schemars(extend("minLength" = 1))]
    pub(crate) server_name: Option<String>,
}

/// What a route says of it.
pub(crate) struct Written {
    pub(crate) health_check: Option<HealthCheck>,
    pub(crate) tls: Option<UpstreamTls>,
    pub(crate) idle_timeout: Option<Interval>,
    pub(crate) total_timeout: Option<Interval>,
    pub(crate) max_concurrent: Option<u16>,
    pub(crate) http2: Option<bool>,
}

/// The addresses, a relative socket path made absolute.
pub(crate) fn target(addresses: Addresses, folder: &Path) -> RouteTargetConfig {
    let Addresses(mut addresses) = addresses;
    for address in &mut addresses {
        if let Some(path) = address.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            *address = format!("unix:{}", folder.join(path).display());
        }
    }
    match <[String; 1]>::try_from(addresses) {
        Ok([one]) => RouteTargetConfig::Upstream(one),
        Err(several) => RouteTargetConfig::Upstreams(several),
    }
}

/// The settings, their certificates fetched. `at` is the route's place.
pub(crate) fn config(
    written: Written,
    at: &[String],
    folder: &Path,
    findings: &mut Findings<'_>,
) -> UpstreamConfig {
    let interval = |Interval(duration)| duration;
    UpstreamConfig {
        health_check: written.health_check.map(|check| HealthCheckConfig {
            path: check.path,
            interval: check.interval.map(interval),
            timeout: check.timeout.map(interval),
            healthy_threshold: check.healthy_threshold.map(Into::into),
            unhealthy_threshold: check.unhealthy_threshold.map(Into::into),
        }),
        tls: written.tls.map(|tls| load(&tls, at, folder, findings)),
        idle_timeout: written.idle_timeout.map(interval),
        total_timeout: written.total_timeout.map(interval),
        max_concurrent: written.max_concurrent.map(Into::into),
        http2: written.http2,
    }
}

fn load(
    written: &UpstreamTls,
    at: &[String],
    folder: &Path,
    findings: &mut Findings<'_>,
) -> UpstreamTlsConfig {
    let at = |name: &str| -> Vec<String> {
        let names = ["upstream_tls".to_owned(), name.to_owned()];
        at.iter().cloned().chain(names).collect()
    };
    // everybody may read a certificate: no warning about its mode
    let mut public = |reference: &Option<_>, name| {
        let reference = reference.as_ref()?;
        // without it the configuration is refused in the end, but other problems are shown too
        Some(findings.public(reference, at(name), folder).unwrap_or_default())
    };
    let (ca, certificate) = (
        public(&written.ca, "ca"),
        public(&written.certificate, "certificate"),
    );
    let key = written.key.as_ref();
    let key = key.map(|key| findings.secret(key, at("key"), folder).unwrap_or_default());
    if let Some(ca) = ca.as_deref().filter(|ca| !ca.is_empty())
        && !holds_authorities(ca)
    {
        findings.error(
            at("ca"),
            "the file holds no certificate that can be used, or one that cannot".to_owned(),
            "point to a PEM file with certificates of authorities only (`-----BEGIN CERTIFICATE-----`)"
                .to_owned(),
        );
    }
    if let (Some(certificate), Some(key)) = (&certificate, &key)
        && !certificate.is_empty()
        && !key.is_empty()
        && let Err((name, message, hint)) = tls::check(certificate, key)
    {
        findings.error(at(name), message.to_owned(), hint.to_owned());
    }
    UpstreamTlsConfig {
        ca,
        certificate,
        key: key.map(PrivateKeyPem::new),
        server_name: written.server_name.clone(),
    }
}

impl<'d> Deserialize<'d> for Addresses {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'d> Visitor<'d> for OneOrMore {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL or a list of URLs")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Addresses, E> {
                Ok(Addresses(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'d>>(self, mut items: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(address) = items.next_element()? {
                    addresses.push(address);
                }
                Ok(Addresses(addresses))
            }

            fn visit_map<A: MapAccess<'d>>(self, _: A) -> Result<Addresses, A::Error> {
                Err(A::Error::custom(
                    "expected a URL or a list of URLs, found a mapping\n\
                     write `upstream: http://127.0.0.1:5000` or `upstream: [http://127.0.0.1:5000, http://127.0.0.1:5001]`",
                ))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

/// Whether a text is PEM with certificates, each of which can be a root of trust.
pub(super) fn holds_authorities(pem: &str) -> bool {
    let mut roots = RootCertStore::empty();
    let all_good = CertificateDer::pem_slice_iter(pem.as_bytes())
        .all(|certificate| certificate.is_ok_and(|certificate| roots.add(certificate).is_ok()));
    all_good && !roots.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_certificates_and_nothing_else() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("made");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for (name, pem, good) in [
            ("one", certificate.clone(), true),
            ("two", format!("{certificate}{certificate}"), true),
            ("a key", key, false),
            ("nothing", String::new(), false),
            ("text", "hunter2".to_owned(), false),
            (
                "half",
                format!("{certificate}-----BEGIN CERTIFICATE-----\nhunter2"),
                false,
            ),
            (
                "no certificate inside",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
                false,
            ),
        ] {
            assert_eq!(holds_authorities(&pem), good, "{name}");
        }
    }

    #[test]
    fn sockets_are_found_from_the_folder_of_the_file() {
        let folder = Path::new("/etc/coatroom");
        let target = |texts: &[&str]| {
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            match target(Addresses(texts), folder) {
                RouteTargetConfig::Upstream(one) => vec![one],
                RouteTargetConfig::Upstreams(several) => several,
                RouteTargetConfig::Static(_) | RouteTargetConfig::DevServer(_) | RouteTargetConfig::Inner => {
                    Vec::new()
                }
            }
        };
        assert_eq!(target(&["unix:api.sock"]), ["unix:/etc/coatroom/api.sock"]);
        assert_eq!(
            target(&["unix:/run/a.sock", "http://127.0.0.1:1"]),
            ["unix:/run/a.sock", "http://127.0.0.1:1"]
        );
        assert_eq!(target(&["unix:"]), ["unix:"]);
        assert!(target(&[]).is_empty());
    }
}
