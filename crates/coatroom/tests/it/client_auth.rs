//! How the client proves who it is at every endpoint: keys, certificates, somebody else's assertions,
//! and what happens when they are replaced while it serves.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coatroom::clock::{Clock as _, ManualClock};
use coatroom_core::config::{
    ApplicationConfig, ClientAuthConfig, ClientCertificate, PrivateKeyJwtConfig, PrivateKeyPem, RouteConfig,
    TlsMethod, TokenConfig,
};
use http::{Method, StatusCode};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::provider::Credentials;
use crate::support::{OLD_KEY, Rig, checked, config, provider_of, ring, route};

impl Rig {
    fn renew(&self, change: impl FnOnce(&mut ApplicationConfig)) {
        let mut config = config(&self.provider.issuer);
        change(&mut config);
        self.handler
            .reload(vec![checked(config)], ring(&[OLD_KEY]))
            .expect("a good configuration");
    }
}

fn signs_with(config: &mut ApplicationConfig, key: &rcgen::KeyPair) {
    let provider = provider_of(config);
    provider.client_secret = None;
    provider.client_auth = ClientAuthConfig::PrivateKeyJwt(PrivateKeyJwtConfig {
        key: PrivateKeyPem::new(key.serialize_pem()),
        algorithm: None,
        kid: Some("k1".to_owned()),
        audience: None,
    });
}

/// What a provider checks of an assertion (RFC 7523 §3): all of it, and that none comes twice.
fn verifier(issuer: &str, key: &rcgen::KeyPair, clock: Arc<ManualClock>) -> (Credentials, Arc<Mutex<usize>>) {
    let (issuer, point) = (issuer.to_owned(), key.public_key_raw().to_vec());
    let (mut seen, count) = (BTreeSet::new(), Arc::new(Mutex::new(0)));
    let good = Arc::clone(&count);
    let check: Credentials = Box::new(move |headers, form: &HashMap<String, String>| {
        let is_good = (|| {
            let (message, signature) = form.get("client_assertion")?.rsplit_once('.')?;
            let (header, claims) = message.split_once('.')?;
            let decode = |part| URL_SAFE_NO_PAD.decode(part).ok();
            let json = |part| serde_json::from_slice::<Value>(&decode(part)?).ok();
            let (header, claims) = (json(header)?, json(claims)?);
            let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
                .verify(message.as_bytes(), &decode(signature)?)
                .is_ok();
            let now = clock.now().0;
            let fresh = seen.insert(claims["jti"].as_str()?.to_owned());
            Some(
                verified
                    && fresh
                    && header == json!({"alg": "ES256", "kid": "k1", "typ": "JWT"})
                    && claims["iss"] == "shop"
                    && claims["sub"] == "shop"
                    && claims["aud"] == issuer.as_str()
                    && claims["exp"].as_u64()? > now
                    && claims["iat"].as_u64()? <= now
                    && form["client_id"] == "shop"
                    && form["client_assertion_type"]
                        == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
                    && !form.contains_key("client_secret")
                    && !headers.contains_key("authorization"),
            )
        })();
        let is_good = is_good == Some(true);
        *good.lock().expect("no test panicked here") += usize::from(is_good);
        is_good
    });
    (check, count)
}

async fn refresh(browser: &mut Browser) -> (StatusCode, String) {
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    match answer.status {
        StatusCode::OK => (answer.status, String::new()),
        status => (status, answer.error_code()),
    }
}

fn good() -> (StatusCode, String) {
    (StatusCode::OK, String::new())
}

#[tokio::test]
async fn a_key_proves_who_we_are_at_every_endpoint_and_is_rolled_over() {
    let (old, new) = (
        rcgen::KeyPair::generate().expect("a key"),
        rcgen::KeyPair::generate().expect("a key"),
    );
    let rig = Rig::with(|config| signs_with(config, &old)).await;
    let (check, count) = verifier(&rig.provider.issuer, &old, rig.clock.clone());
    rig.provider.script().credentials = Some(check);
    let mut browser = rig.signed_in().await;
    assert_eq!(refresh(&mut browser).await, good());
    assert_eq!(*count.lock().expect("no test panicked here"), 2);
    // the provider knows the next key alone: an error that ends nothing
    let (check, count) = verifier(&rig.provider.issuer, &new, rig.clock.clone());
    rig.provider.script().credentials = Some(check);
    assert_eq!(refresh(&mut browser).await.1, "provider_error");
    assert!(browser.is_signed_in().await);
    let asked = rig.provider.script().discovery_requests;
    rig.renew(|config| signs_with(config, &new));
    assert_eq!(refresh(&mut browser).await, good());
    assert_eq!(rig.provider.script().discovery_requests, asked);
    browser.fetch(Method::POST, "/auth/logout", "").await;
    rig.until(|| !rig.provider.script().revoked.is_empty()).await;
    assert!(
        *count.lock().expect("no test panicked here") >= 2,
        "refresh and revocation"
    );
}

#[tokio::test]
async fn an_assertion_in_a_file_is_as_new_as_the_file_and_missing_it_signs_nobody_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let expected = Arc::new(Mutex::new("e30.e30.b25l".to_owned()));
    std::fs::write(&file, "e30.e30.b25l\n").expect("written");
    let rig = Rig::with(|config| {
        let provider = provider_of(config);
        provider.client_secret = None;
        provider.client_auth = ClientAuthConfig::AssertionFile(file.clone());
    })
    .await;
    let known = Arc::clone(&expected);
    rig.provider.script().credentials = Some(Box::new(move |_, form| {
        form.get("client_assertion") == Some(&*known.lock().expect("no test panicked here"))
    }));
    let mut browser = rig.signed_in().await;
    for next in ["e30.e30.dHdv", "e30.e30.dGhyZWU"] {
        next.clone_into(&mut expected.lock().expect("no test panicked here"));
        std::fs::write(&file, next).expect("written");
        assert_eq!(refresh(&mut browser).await, good());
    }
    let asked = rig.provider.script().token_requests.len();
    for broken in [Some("canary"), Some(""), None] {
        match broken {
            Some(content) => std::fs::write(&file, content).expect("written"),
            None => std::fs::remove_file(&file).expect("removed"),
        }
        let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.error_code(), "provider_unavailable");
        assert!(browser.is_signed_in().await);
    }
    assert_eq!(
        rig.provider.script().token_requests.len(),
        asked,
        "nothing is sent without"
    );
    std::fs::write(&file, "e30.e30.dGhyZWU").expect("written");
    rig.advance(60);
    assert_eq!(refresh(&mut browser).await, good());
}

#[tokio::test]
async fn an_assertion_in_a_file_proves_who_we_are_in_each_request_of_one_conversation() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "e30.e30.b25l\n").expect("written");
    let rig = Rig::with(|config| {
        let provider = provider_of(config);
        provider.client_secret = None;
        provider.client_auth = ClientAuthConfig::AssertionFile(file.clone());
        for (path, audience) in [("/orders/", "orders"), ("/stock/", "stock")] {
            config.routes.push(RouteConfig {
                token: Some(TokenConfig {
                    audience: Some(audience.to_owned()),
                    ..TokenConfig::default()
                }),
                ..route(path)
            });
        }
    })
    .await;
    rig.provider.script().credentials = Some(Box::new(|_, form| {
        form.get("client_assertion").map(String::as_str) == Some("e30.e30.b25l")
    }));
    // the code, then each API's token: one conversation, with which the file may have no more to do
    let mut browser = rig.signed_in().await;
    for path in ["/orders/1", "/stock/1"] {
        let answer = browser.fetch(Method::GET, path, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    }
    assert_eq!(refresh(&mut browser).await, good());
}

/// An authority, and what it signs.
struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Self {
            pem,
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }

    /// A client certificate, and its thumbprint (RFC 8705 §3.1).
    fn client(&self) -> (ClientCertificate, String) {
        let (certificate, key) = self.sign("shop.example");
        let own = ClientCertificate {
            chain: certificate.pem(),
            key: PrivateKeyPem::new(key.serialize_pem()),
        };
        (own, URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate.der())))
    }

    /// A server that wants a certificate of this authority.
    fn server(&self) -> rustls::ServerConfig {
        let (certificate, key) = self.sign("localhost");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut roots = rustls::RootCertStore::empty();
        let pem = self.pem.as_bytes();
        for authority in rustls::pki_types::pem::PemObject::pem_slice_iter(pem) {
            roots.add(authority.expect("PEM")).expect("an authority");
        }
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&crypto));
        rustls::ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate")
    }
}

#[tokio::test]
async fn a_certificate_is_shown_at_the_aliases_and_replaced_by_a_reload() {
    let (ours, others) = (Authority::new(), Authority::new());
    let ((first, first_print), (second, second_print)) = (ours.client(), ours.client());
    let with = |own: &ClientCertificate| {
        let (own, ca) = (own.clone(), ours.pem.clone());
        move |config: &mut ApplicationConfig| {
            let provider = provider_of(config);
            provider.client_secret = None;
            provider.client_auth = ClientAuthConfig::Tls(TlsMethod::Pki);
            provider.client_certificate = Some(own);
            provider.ca = Some(ca);
        }
    };
    let rig = Rig::with(with(&first)).await;
    let mtls = rig.provider.listen_with_tls(ours.server()).await;
    let shown = Arc::new(Mutex::new(Vec::new()));
    {
        let mut script = rig.provider.script();
        script.metadata = json!({"mtls_endpoint_aliases": {
            "token_endpoint": format!("{mtls}/token"),
            "revocation_endpoint": format!("{mtls}/revoke"),
        }});
        let shown = Arc::clone(&shown);
        script.credentials = Some(Box::new(move |headers, form| {
            let certificate = headers.get("x-client-certificate");
            let certificate = certificate.map(|value| value.to_str().expect("text").to_owned());
            let is_bare = !form.contains_key("client_secret") && !headers.contains_key("authorization");
            let is_good = certificate.is_some() && form["client_id"] == "shop" && is_bare;
            shown.lock().expect("no test panicked here").extend(certificate);
            is_good
        }));
    }
    let mut browser = rig.signed_in().await;
    assert_eq!(refresh(&mut browser).await, good());
    let asked = rig.provider.script().discovery_requests;
    // one that the provider does not take: no answer, and nobody is signed out
    rig.renew(with(&others.client().0));
    assert_eq!(
        refresh(&mut browser).await,
        (StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable".to_owned())
    );
    assert!(browser.is_signed_in().await);
    // a server that nobody whom we trust vouches for is not the provider, whatever it is called
    rig.renew(|config| {
        with(&second)(config);
        provider_of(config).ca = Some(others.pem.clone());
    });
    assert_eq!(
        refresh(&mut browser).await,
        (StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable".to_owned())
    );
    rig.advance(10);
    rig.renew(with(&second));
    assert_eq!(refresh(&mut browser).await, good());
    assert_eq!(
        rig.provider.script().discovery_requests,
        asked,
        "what is known of it stays"
    );
    browser.fetch(Method::POST, "/auth/logout", "").await;
    rig.until(|| !rig.provider.script().revoked.is_empty()).await;
    let shown = shown.lock().expect("no test panicked here").clone();
    assert_eq!(
        shown[..3],
        [first_print.clone(), first_print, second_print.clone()]
    );
    assert!(shown[3..].iter().all(|print| *print == second_print));
}
