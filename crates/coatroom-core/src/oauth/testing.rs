//! Test keys, tokens, metadata and configuration for the tables of this crate.
//!
//! Signs with aws-lc-rs directly, not with the library under test. Exists in test builds only.

use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{JwkSet, Metadata, ProviderSnapshot};
use crate::config::{ClientAuth, ClientAuthMethod, Plain, Provider, User};
use crate::rng::testing::Counter;
use crate::secret::Secret;
use crate::step::Context;
use crate::time::UnixTime;

pub(crate) const ISSUER: &str = "https://login.example.com";
pub(crate) const CLIENT_ID: &str = "shop";

/// A key that can sign.
pub(crate) struct SigningKey {
    alg: &'static str,
    kid: Option<&'static str>,
    pair: Pair,
}

enum Pair {
    Rsa(&'static RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl SigningKey {
    /// A fresh key for `alg`; RSA keys are made once and shared, since making one is slow.
    pub(crate) fn generate(alg: &'static str, kid: Option<&'static str>) -> Self {
        static RSA: OnceLock<RsaKeyPair> = OnceLock::new();
        let pair = match alg {
            "ES256" => Pair::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            "ES384" => Pair::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
            "EdDSA" | "Ed25519" => Pair::Ed(Ed25519KeyPair::generate().unwrap()),
            _ => Pair::Rsa(RSA.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap())),
        };
        Self { alg, kid, pair }
    }

    /// The public half, with `use`, `alg` and, if there is one, `kid`.
    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let components = signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": text(&components.n), "e": text(&components.e)})
            }
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": crv, "x": text(x), "y": text(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref())}),
        };
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.alg);
        if let Some(kid) = self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    /// The header this key's tokens carry.
    pub(crate) fn header(&self) -> Value {
        let mut header = json!({"alg": self.alg, "typ": "JWT"});
        if let Some(kid) = self.kid {
            header["kid"] = json!(kid);
        }
        header
    }

    /// A token with this key's header.
    pub(crate) fn sign(&self, claims: &Value) -> Secret {
        self.sign_as(&self.header(), claims)
    }

    /// A token with any header, signed by this key in its own algorithm.
    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> Secret {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// The same from JSON text, which may be broken.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> Secret {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = URL_SAFE_NO_PAD.encode(self.sign_bytes(message.as_bytes()));
        Secret::new(format!("{message}.{signature}"))
    }

    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match self.alg {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    other => panic!("no padding for {other}"),
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut out).unwrap();
                out
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The big-endian modulus or the raw public key, as attackers use it as an HMAC secret.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair
                .public_key()
                .modulus()
                .big_endian_without_leading_zero()
                .to_vec(),
            Pair::Ec(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ed(pair) => pair.public_key().as_ref().to_vec(),
        }
    }
}

/// A fresh private key for `alg` in PEM (PKCS#8).
pub(crate) fn private_key_pem(alg: &str) -> String {
    let ec = |algorithm| {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        pair.to_pkcs8v1().unwrap().as_ref().to_vec()
    };
    let der = match alg {
        "ES256" => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        "ES384" => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        "EdDSA" => Ed25519KeyPair::generate()
            .unwrap()
            .to_pkcs8()
            .unwrap()
            .as_ref()
            .to_vec(),
        _ => RsaKeyPair::generate(KeySize::Rsa2048)
            .unwrap()
            .as_der()
            .unwrap()
            .as_ref()
            .to_vec(),
    };
    let text = STANDARD.encode(der);
    let lines = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| str::from_utf8(line).ok());
    let lines: Vec<&str> = lines.collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

/// A set of these keys.
pub(crate) fn key_set(keys: &[&SigningKey]) -> JwkSet {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    JwkSet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// A complete discovery document of [`ISSUER`].
pub(crate) fn metadata_document() -> Value {
    json!({
        "issuer": ISSUER,
        "authorization_endpoint": format!("{ISSUER}/authorize"),
        "token_endpoint": format!("{ISSUER}/token"),
        "jwks_uri": format!("{ISSUER}/jwks"),
        "end_session_endpoint": format!("{ISSUER}/logout"),
        "revocation_endpoint": format!("{ISSUER}/revoke"),
        "authorization_response_iss_parameter_supported": true,
    })
}

/// The metadata in [`metadata_document`], with these members changed; `null` removes one.
pub(crate) fn metadata_with(changes: &[(&str, Value)]) -> Metadata {
    let mut document = metadata_document();
    for (name, value) in changes {
        document[*name] = value.clone();
    }
    Metadata::parse(document.to_string().as_bytes(), ISSUER).unwrap()
}

/// The unchanged metadata.
pub(crate) fn metadata() -> Metadata {
    metadata_with(&[])
}

/// Metadata and the keys of one signer.
pub(crate) fn snapshot(key: &SigningKey) -> ProviderSnapshot {
    ProviderSnapshot::new(metadata(), key_set(&[key]))
}

/// Lends a context with this metadata and no keys, at a fixed time.
pub(crate) fn with_context<T>(metadata: Metadata, look: impl FnOnce(&mut Context<'_>) -> T) -> T {
    let snapshot = ProviderSnapshot::new(metadata, key_set(&[]));
    look(&mut Context {
        provider: &snapshot,
        now: UnixTime(1_900_000_000),
        rng: &mut Counter(1),
    })
}

/// A provider of plain OAuth, with the habits of its token endpoint or without.
pub(crate) fn plain(habits: bool) -> Provider {
    Provider {
        plain: Some(Plain {
            endpoints: None,
            user: User::Nobody,
            token_errors_with_200: habits,
            scopes_with_commas: habits,
        }),
        ..provider()
    }
}

/// A provider as configured for the tests.
pub(crate) fn provider() -> Provider {
    Provider {
        name: None,
        issuer: ISSUER.to_owned(),
        client_id: CLIENT_ID.to_owned(),
        client_auth: ClientAuth::Secret(ClientAuthMethod::FromMetadata, Secret::new("s3cret")),
        client_certificate: None,
        certificate_bound_access_tokens: false,
        ca: None,
        scopes: vec!["openid".to_owned(), "profile".to_owned(), "orders".to_owned()],
        authorization_parameters: Vec::new(),
        allowed_parameters: Vec::new(),
        authorization: crate::config::Authorization::default(),
        leeway: Duration::from_secs(10),
        logout_token_without_exp: false,
        habits: crate::config::Habits::default(),
        dpop: None,
        profile: crate::config::Profile::None,
        id_token_decryption_keys: Vec::new(),
        userinfo: crate::config::Userinfo::Never,
        plain: None,
        timeout: Duration::from_secs(10),
    }
}

/// A P-256 key in PEM, the same for the whole run.
pub(crate) fn one_private_key_pem() -> String {
    static PEM: OnceLock<String> = OnceLock::new();
    PEM.get_or_init(|| private_key_pem("ES256")).clone()
}
