//! How this client authenticates at the provider: as it is written, and then keys and certificates
//! fetched and looked at once.
//!
//! As in `schema.rs` the comments of the fields are for users. What goes together is the core's to
//! say; that PEM files can be used, belong together and have not expired is said here, since the core
//! does not read certificates. No error quotes a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coatroom_core::config::{
    ClientAuthConfig, ClientCertificate, PrivateKeyJwtConfig, PrivateKeyPem, TlsMethod,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};

use super::findings::Findings;
use super::schema_tls::Certificate;
use super::secret::Reference;
use super::tls;

/// `client_auth`: a word, which is for the client secret, or a mapping.
pub(crate) enum ClientAuthSetting {
    /// How the client secret is used, by the core's name.
    Secret(&'static str),
    /// Anything else.
    Mapping(ClientAuth),
}

/// Authentication with a key, with a certificate, or with somebody else's assertion. Where it is
/// done with the client secret, a word stands in place of this mapping.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientAuth {
    /// How this client proves who it is.
    pub(crate) method: Method,
    /// The unencrypted private key in PEM: with `private_key_jwt` the one that signs (P-256, P-384,
    /// Ed25519, or RSA of 2048 bits and more), with a certificate the one that belongs to it.
    pub(crate) key: Option<Reference>,
    /// With `private_key_jwt`: the algorithm. Default: what the kind of key suggests: `ES256`, `ES384`,
    /// `EdDSA`; of RSA `PS256`, or `RS256` where the provider's metadata offers only that.
    #[schemars(extend("enum" = ["ES256", "ES384", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"]))]
    pub(crate) algorithm: Option<String>,
    /// With `private_key_jwt`: the key's id at the provider. Default: its thumbprint (RFC 7638), as
    /// `coatroom keygen` writes it into the key set.
    #[schemars(extend("minLength" = 1))]
    pub(crate) kid: Option<String>,
    /// With `private_key_jwt`: whom assertions are addressed to. Default: `issuer`.
    pub(crate) audience: Option<Audience>,
    /// With `tls_client_auth` and `self_signed_tls_client_auth`: the certificate chain in PEM, the
    /// client's own certificate first.
    pub(crate) certificate: Option<Reference>,
    /// With `assertion_file`: the file that somebody else writes and renews, such as a projected token
    /// of Kubernetes. It is read again for each conversation with the provider.
    #[schemars(extend("minLength" = 1))]
    pub(crate) file: Option<PathBuf>,
}

/// A method of client authentication that needs more than the client secret.
#[derive(Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum Method {
    /// A key signs an assertion for each request (RFC 7523).
    PrivateKeyJwt,
    /// A certificate of an authority that the provider trusts (RFC 8705 §2.1).
    TlsClientAuth,
    /// A certificate that is registered itself (RFC 8705 §2.2).
    SelfSignedTlsClientAuth,
    /// An assertion that somebody else makes (RFC 7523 §3): workload identity.
    AssertionFile,
}

/// The `aud` of an assertion.
#[derive(Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum Audience {
    /// The issuer identifier (FAPI 2.0 §5.3.3.1).
    Issuer,
    /// The URL of the token endpoint, for providers that take no other.
    TokenEndpoint,
}

/// What the core gets of it.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) auth: ClientAuthConfig,
    pub(crate) certificate: Option<ClientCertificate>,
}

/// Fetches what `client_auth` and `client_certificate` name. `at` is the provider's place.
pub(crate) fn load(
    written: Option<ClientAuthSetting>,
    certificate: Option<&Certificate>,
    at: &[String],
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Loaded {
    let place = |names: &[&str]| -> Vec<String> {
        let names = names.iter().map(|name| (*name).to_owned());
        at.iter().cloned().chain(names).collect()
    };
    let apart = certificate.map(|pair| {
        let at = place(&["client_certificate"]);
        pair_of(&pair.certificate, &pair.key, &at, folder, findings)
    });
    let written = match written {
        None => {
            return Loaded {
                auth: ClientAuthConfig::FromMetadata,
                certificate: apart,
            };
        }
        Some(ClientAuthSetting::Secret(name)) => {
            return Loaded {
                auth: ClientAuthConfig::ClientSecret(name.to_owned()),
                certificate: apart,
            };
        }
        Some(ClientAuthSetting::Mapping(written)) => written,
    };
    let at = place(&["client_auth"]);
    superfluous(&written, &at, findings);
    match written.method {
        Method::PrivateKeyJwt => {
            let key = needed(written.key.as_ref(), "key", "{file: client.pem}", &at, findings);
            let key = key.and_then(|key| findings.secret(key, inside(&at, "key"), folder));
            let Some(key) = key else {
                // an error was found; what stands here instead makes no further one
                return Loaded {
                    auth: ClientAuthConfig::AssertionFile(PathBuf::new()),
                    certificate: apart,
                };
            };
            let audience = written.audience.map(|audience| match audience {
                Audience::Issuer => "issuer".to_owned(),
                Audience::TokenEndpoint => "token_endpoint".to_owned(),
            });
            Loaded {
                auth: ClientAuthConfig::PrivateKeyJwt(PrivateKeyJwtConfig {
                    key: PrivateKeyPem::new(key),
                    algorithm: written.algorithm,
                    kid: written.kid,
                    audience,
                }),
                certificate: apart,
            }
        }
        Method::TlsClientAuth | Method::SelfSignedTlsClientAuth => {
            if apart.is_some() {
                findings.error(
                    place(&["client_certificate"]),
                    "`client_auth` has a certificate already, and there can be only one".to_owned(),
                    "remove `client_certificate`".to_owned(),
                );
            }
            let certificate = needed(
                written.certificate.as_ref(),
                "certificate",
                "{file: client.crt}",
                &at,
                findings,
            );
            let key = needed(written.key.as_ref(), "key", "{file: client.key}", &at, findings);
            let own = match (certificate, key) {
                (Some(certificate), Some(key)) => pair_of(certificate, key, &at, folder, findings),
                // an error was found
                _ => ClientCertificate {
                    chain: String::new(),
                    key: PrivateKeyPem::new(""),
                },
            };
            Loaded {
                auth: ClientAuthConfig::Tls(if written.method == Method::TlsClientAuth {
                    TlsMethod::Pki
                } else {
                    TlsMethod::SelfSigned
                }),
                certificate: Some(own),
            }
        }
        Method::AssertionFile => {
            let example = "/var/run/secrets/tokens/provider";
            let file = needed(written.file.as_ref(), "file", example, &at, findings);
            let file = file.map(|file| folder.join(file)).unwrap_or_default();
            if !file.as_os_str().is_empty() && !file.is_file() {
                findings.warning(
                    inside(&at, "file"),
                    "there is no such file yet: until it is there nobody can sign in".to_owned(),
                    "mount the token there, for example by a projected volume of Kubernetes".to_owned(),
                );
            }
            Loaded {
                auth: ClientAuthConfig::AssertionFile(file),
                certificate: apart,
            }
        }
    }
}

fn inside(at: &[String], key: &str) -> Vec<String> {
    at.iter().cloned().chain([key.to_owned()]).collect()
}

fn needed<'w, T>(
    written: Option<&'w T>,
    key: &str,
    example: &str,
    at: &[String],
    findings: &mut Findings<'_>,
) -> Option<&'w T> {
    if written.is_none() {
        findings.error(
            at.to_vec(),
            format!("`{key}` is missing: this method needs it"),
            format!("add `{key}: {example}`"),
        );
    }
    written
}

/// What the method has no use for.
fn superfluous(written: &ClientAuth, at: &[String], findings: &mut Findings<'_>) {
    let (signs, shows, reads) = match written.method {
        Method::PrivateKeyJwt => (true, false, false),
        Method::TlsClientAuth | Method::SelfSignedTlsClientAuth => (false, true, false),
        Method::AssertionFile => (false, false, true),
    };
    for (key, is_there, is_used) in [
        ("key", written.key.is_some(), signs || shows),
        ("algorithm", written.algorithm.is_some(), signs),
        ("kid", written.kid.is_some(), signs),
        ("audience", written.audience.is_some(), signs),
        ("certificate", written.certificate.is_some(), shows),
        ("file", written.file.is_some(), reads),
    ] {
        if is_there && !is_used {
            let hint = if key == "certificate" && signs {
                "write `client_certificate: {certificate: {file: client.crt}, key: {file: client.key}}` beside \
                 `client_auth` for a certificate that access tokens are bound to"
                    .to_owned()
            } else {
                format!("remove `{key}`")
            };
            findings.error(
                inside(at, key),
                format!("this method has no use for `{key}`"),
                hint,
            );
        }
    }
}

/// A certificate chain and its key, looked at.
fn pair_of(
    certificate: &Reference,
    key: &Reference,
    at: &[String],
    folder: &Path,
    findings: &mut Findings<'_>,
) -> ClientCertificate {
    // everybody may read a certificate: no warning about its mode
    let chain = findings.public(certificate, inside(at, "certificate"), folder);
    let key = findings.secret(key, inside(at, "key"), folder);
    if let (Some(chain), Some(key)) = (&chain, &key) {
        match tls::check(chain, key) {
            Err((name, message, hint)) => {
                findings.error(inside(at, name), message.to_owned(), hint.to_owned())
            }
            Ok(()) => {
                if let Some(remark) = expiry(chain, SystemTime::now()) {
                    findings.warning(
                        inside(at, "certificate"),
                        remark,
                        "replace certificate and key; both are read again when the files change".to_owned(),
                    );
                }
            }
        }
    }
    ClientCertificate {
        chain: chain.unwrap_or_default(),
        key: PrivateKeyPem::new(key.unwrap_or_default()),
    }
}

/// What is to be said about the time in which the first certificate is good.
fn expiry(chain: &str, now: SystemTime) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(chain.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).ok()?;
    let validity = certificate.validity();
    let now = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let left = validity.not_after.timestamp().saturating_sub(now);
    if left < 0 {
        Some("the client certificate has expired: the provider will refuse it".to_owned())
    } else if validity.not_before.timestamp() > now {
        Some("the client certificate is not good yet: the provider will refuse it".to_owned())
    } else {
        let soon = i64::try_from(SOON.as_secs()).unwrap_or(i64::MAX);
        (left < soon).then(|| format!("the client certificate expires within {} days", left / DAY + 1))
    }
}

impl<'d> Deserialize<'d> for ClientAuthSetting {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMapping;

        impl<'d> Visitor<'d> for TextOrMapping {
            type Value = ClientAuthSetting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a method of client authentication")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ClientAuthSetting, E> {
                from_text(text).map(ClientAuthSetting::Secret).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'d>>(self, _: A) -> Result<ClientAuthSetting, A::Error> {
                Err(A::Error::custom(
                    "expected a method of client authentication, found a list\n\
                     write one word, or `{method: private_key_jwt, key: {file: client.pem}}`",
                ))
            }

            fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<ClientAuthSetting, A::Error> {
                ClientAuth::deserialize(MapAccessDeserializer::new(map)).map(ClientAuthSetting::Mapping)
            }
        }

        deserializer.deserialize_any(TextOrMapping)
    }
}

fn from_text(text: &str) -> Result<&'static str, String> {
    let expected = "expected one of `basic`, `basic_raw`, `post` and `client_secret_jwt`, or a mapping";
    match text {
        "basic" => Ok("client_secret_basic"),
        "basic_raw" => Ok("client_secret_basic_raw"),
        "post" => Ok("client_secret_post"),
        "client_secret_jwt" => Ok("client_secret_jwt"),
        "client_secret_basic" => Err(format!("{expected}\nwrite `client_auth: basic`")),
        "client_secret_post" => Err(format!("{expected}\nwrite `client_auth: post`")),
        "private_key_jwt" => Err("`private_key_jwt` needs a key\n\
             write `client_auth: {method: private_key_jwt, key: {file: client.pem}}`"
            .to_owned()),
        "tls_client_auth" | "self_signed_tls_client_auth" => Err(format!(
            "`{text}` needs a certificate and its key\n\
             write `client_auth: {{method: {text}, certificate: {{file: client.crt}}, key: {{file: client.key}}}}`"
        )),
        "assertion_file" => Err("`assertion_file` needs the file\n\
             write `client_auth: {method: assertion_file, file: /var/run/secrets/tokens/provider}`"
            .to_owned()),
        _ => Err(format!(
            "{expected}\nremove `client_auth`: then the provider's metadata decides"
        )),
    }
}

/// How long before its end a certificate deserves a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

const DAY: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_or_has_not_begun_is_remarked_on() {
        let mut made = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).expect("parameters");
        made.not_before = rcgen::date_time_ymd(2026, 1, 1);
        made.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = made.self_signed(&key).expect("a certificate").pem();
        let days_from_begin = |days: u64| UNIX_EPOCH + Duration::from_secs(1_767_225_600 + days * 86_400);
        for (now, expected) in [
            (
                UNIX_EPOCH,
                Some("the client certificate is not good yet: the provider will refuse it"),
            ),
            (days_from_begin(0), None),
            (days_from_begin(350), None),
            (
                days_from_begin(352),
                Some("the client certificate expires within 14 days"),
            ),
            (
                days_from_begin(364),
                Some("the client certificate expires within 2 days"),
            ),
            (
                days_from_begin(366),
                Some("the client certificate has expired: the provider will refuse it"),
            ),
        ] {
            assert_eq!(expiry(&pem, now).as_deref(), expected);
        }
        assert_eq!(expiry("hunter2", UNIX_EPOCH), None);
    }
}
