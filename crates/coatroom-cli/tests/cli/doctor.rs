//! `coatroom doctor` against a provider, an upstream and a store that are as a test wants them.
//!
//! Each test has a provider of its own on loopback, good until the test breaks one thing; the doctor
//! must find that thing, say what to do, and show no secret.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::CANARY;
use super::doctor_provider::{Answer, Scripted};

/// What the doctor said of one folder.
pub(super) struct Said {
    checks: Vec<Value>,
    code: Option<i32>,
    pub(super) text: String,
}

impl Said {
    /// The findings of a check, as `state: found -> todo`.
    pub(super) fn of(&self, check: &str) -> String {
        let found = self.checks.iter().filter(|finding| finding["check"] == check);
        let lines: Vec<String> = found
            .map(|finding| {
                format!(
                    "{}: {} -> {}",
                    finding["state"].as_str().unwrap_or_default(),
                    finding["found"].as_str().unwrap_or_default(),
                    finding["todo"].as_str().unwrap_or_default()
                )
            })
            .collect();
        lines.join("\n")
    }

    fn failed(&self) -> Vec<&str> {
        let failed = self.checks.iter().filter(|finding| finding["state"] == "failed");
        failed.filter_map(|finding| finding["check"].as_str()).collect()
    }
}

/// A provider, and a folder with a configuration that names it.
pub(super) struct Rig {
    pub(super) provider: Scripted,
    api: Scripted,
    pub(super) folder: tempfile::TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Scripted::start())
    }

    fn with(provider: Scripted) -> Self {
        let api = Scripted::start();
        api.answer("/", Answer::status(404));
        let folder = tempfile::tempdir().expect("a folder");
        super::write_file(
            &folder.path().join("coatroom.key"),
            &super::key_of("coatroom.key"),
            "600",
        );
        super::write_file(&folder.path().join("dist/index.html"), "<html>", "644");
        let rig = Self {
            provider,
            api,
            folder,
        };
        rig.configure(&rig.provider.origin.clone(), "");
        rig
    }

    /// Writes the configuration: an issuer, and lines of the application below it.
    fn configure(&self, issuer: &str, more: &str) {
        self.configure_with(issuer, "client_secret: {env: SECRET}", more);
    }

    /// The same, with other settings of the provider.
    pub(super) fn configure_with(&self, issuer: &str, settings: &str, more: &str) {
        let api = &self.api.origin;
        let text = format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.2:0\nkeys: [{{file: coatroom.key}}]\napps:\n  shop:\n    url: http://localhost:8080\n    \
             provider: {{issuer: '{issuer}', client_id: shop, timeout: 2s, {settings}}}\n    \
             routes: {{/api/: {{upstream: '{api}', connect_timeout: 1s}}, /: {{static: ./dist}}}}\n{more}"
        );
        super::write_file(&self.folder.path().join("coatroom.yaml"), &text, "600");
    }

    fn doctor(&self, arguments: &[&str]) -> std::process::Output {
        doctor(self.folder.path(), arguments)
    }

    pub(super) fn examine(&self) -> Said {
        let output = self.doctor(&["--json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains(CANARY), "{text}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(CANARY));
        let mut said: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr));
        });
        let checks = said["checks"].take();
        Said {
            checks: checks.as_array().cloned().unwrap_or_default(),
            code: output.status.code(),
            text,
        }
    }
}

fn doctor(folder: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coatroom"));
    command.current_dir(folder).env_clear().env("SECRET", CANARY);
    if folder.join("ca.pem").exists() {
        command.env("SSL_CERT_FILE", folder.join("ca.pem"));
    }
    command
        .args(["doctor", "--config", "coatroom.yaml"])
        .args(arguments);
    command.output().expect("the binary runs")
}

#[test]
fn a_healthy_configuration_has_nothing_that_failed() {
    let rig = Rig::new();
    let said = rig.examine();
    assert_eq!((said.failed(), said.code), (Vec::new(), Some(0)), "{}", said.text);
    for check in [
        "configuration",
        "keys",
        "connection",
        "metadata",
        "clock",
        "issuer",
        "endpoints",
        "PKCE",
        "client_auth",
        "signing keys",
        "client",
        "redirect URI",
        "upstream",
        "files",
    ] {
        assert!(said.of(check).starts_with("good: "), "{check}: {}", said.text);
    }
    let table = rig.doctor(&[]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("\n  ✓ client "), "{table}");
    assert!(table.contains(" 0 failed\n"), "{table}");
    // what was asked is what a sign-in asks, and no session came of it
    let asked = rig.provider.seen();
    assert!(
        asked.iter().any(|request| request.starts_with("POST /token")),
        "{asked:?}"
    );
    assert!(
        asked.iter().any(|request| request.contains("prompt=none")),
        "{asked:?}"
    );
}

#[test]
fn each_thing_that_is_broken_is_found_and_has_its_remedy() {
    type Break = fn(&Rig);
    let cases: [(&str, Break, &str, &str, &str); 17] = [
        (
            "a wrong secret",
            |rig| {
                rig.provider
                    .answer("/token", Answer::json(401, &json!({"error": "invalid_client"})))
            },
            "client",
            "failed: the provider refuses it",
            "provider.client_secret",
        ),
        (
            "no authorization code flow",
            |rig| {
                rig.provider.answer(
                    "/token",
                    Answer::json(400, &json!({"error": "unauthorized_client"})),
                )
            },
            "client",
            "failed: ",
            "authorization code flow",
        ),
        (
            "an empty 400",
            |rig| rig.provider.answer("/token", Answer::status(400)),
            "client",
            "unclear: 400 without an error",
            "try a sign-in",
        ),
        (
            "a token endpoint that is broken",
            |rig| rig.provider.answer("/token", Answer::status(503)),
            "client",
            "failed: the token endpoint does not answer: status 5xx",
            "see its log",
        ),
        (
            "an unregistered redirect URI",
            |rig| rig.provider.answer("/authorize", Answer::page(400, CANARY)),
            "redirect URI",
            "failed: a page (400)",
            "register exactly \"http://localhost:8080/auth/callback\"",
        ),
        (
            "an unregistered redirect URI, politely",
            |rig| rig.provider.answer("/authorize", Answer::page(200, CANARY)),
            "redirect URI",
            "failed: a page (200)",
            "register exactly",
        ),
        (
            "a scope that is not allowed",
            |rig| {
                let back =
                    "http://localhost:8080/auth/callback?error=invalid_scope&error_description=hunter2";
                rig.provider.answer("/authorize", Answer::redirect(back));
            },
            "redirect URI",
            "failed: \"http://localhost:8080/auth/callback\" is registered",
            "provider.scopes",
        ),
        (
            "an issuer with a slash at its end",
            |rig| {
                rig.provider
                    .change("issuer", json!(format!("{}/", rig.provider.origin)))
            },
            "issuer",
            "failed: ",
            "theirs has a slash at its end -> if that is your provider, write exactly `issuer: ",
        ),
        (
            "metadata that is not there",
            |rig| {
                rig.provider
                    .answer("/.well-known/openid-configuration", Answer::status(404))
            },
            "metadata",
            "failed: ",
            "correct the path in `provider.issuer`",
        ),
        (
            "metadata elsewhere",
            |rig| {
                let elsewhere =
                    Answer::redirect("https://login.example.com/.well-known/openid-configuration");
                rig.provider
                    .answer("/.well-known/openid-configuration", elsewhere);
            },
            "metadata",
            "failed: ",
            "write the issuer that the provider has now",
        ),
        (
            "a page in place of metadata",
            |rig| {
                rig.provider
                    .answer("/.well-known/openid-configuration", Answer::page(200, CANARY))
            },
            "metadata",
            "failed: ",
            "open it in a browser",
        ),
        (
            "a clock that is ahead",
            |rig| {
                rig.provider
                    .set_clock(SystemTime::now() + Duration::from_secs(600))
            },
            "clock",
            "failed: the provider's is ",
            "ahead of this machine's, 10s are tolerated -> set the clocks",
        ),
        (
            "a clock that is behind",
            |rig| {
                rig.provider
                    .set_clock(SystemTime::now() - Duration::from_secs(600))
            },
            "clock",
            "failed: the provider's is ",
            "behind this machine's",
        ),
        (
            "keys that are away",
            |rig| rig.provider.answer("/jwks", Answer::status(500)),
            "signing keys",
            "failed: `jwks_uri` answers 500",
            "without keys nobody signs in",
        ),
        (
            "HMAC alone",
            |rig| {
                rig.provider
                    .change("id_token_signing_alg_values_supported", json!(["HS256"]))
            },
            "ID token algorithms",
            "failed: ",
            "RS256",
        ),
        (
            "plain PKCE alone",
            |rig| {
                rig.provider
                    .change("code_challenge_methods_supported", json!(["plain"]))
            },
            "PKCE",
            "failed: ",
            "S256",
        ),
        (
            "an API that is broken",
            |rig| rig.api.answer("/", Answer::status(500)),
            "upstream",
            "warning: /api: ",
            "see its log",
        ),
    ];
    for (name, break_it, check, state, remedy) in cases {
        let rig = Rig::new();
        break_it(&rig);
        let said = rig.examine();
        let of = said.of(check);
        assert!(of.contains(state) && of.contains(remedy), "{name}: {}", said.text);
        let expected = if state.starts_with("failed") {
            Some(1)
        } else {
            Some(0)
        };
        assert_eq!(said.code, expected, "{name}: {}", said.text);
    }
}

#[test]
fn the_client_is_shown_to_nobody_who_calls_himself_otherwise() {
    let rig = Rig::new();
    rig.provider.change("issuer", json!("https://login.example.com"));
    let said = rig.examine();
    assert_eq!(said.failed(), ["issuer"], "{}", said.text);
    assert!(
        said.of("client").starts_with("unclear: not tried"),
        "{}",
        said.text
    );
    let asked = rig.provider.seen();
    assert!(
        !asked.iter().any(|request| request.starts_with("POST")),
        "{asked:?}"
    );
}

#[test]
fn a_provider_that_is_down_and_one_that_hangs_end_in_time() {
    let rig = Rig::new();
    let nobody = super::doctor_provider::nobody();
    rig.configure(&nobody, "");
    let said = rig.examine();
    assert_eq!(
        (said.failed(), said.code),
        (vec!["connection"], Some(1)),
        "{}",
        said.text
    );
    assert!(
        said.of("connection").contains("is the provider up"),
        "{}",
        said.text
    );
    assert!(
        said.of("upstream").starts_with("good"),
        "the rest is examined: {}",
        said.text
    );

    let rig = Rig::new();
    rig.provider
        .answer("/.well-known/openid-configuration", Answer::Hang);
    let begun = Instant::now();
    let said = rig.examine();
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(said.failed(), ["metadata"], "{}", said.text);
    assert!(
        said.of("metadata").contains("did not answer in time"),
        "{}",
        said.text
    );
}

#[test]
fn a_certificate_that_expired_or_is_for_another_name_is_told_apart() {
    for (names, last_year, found, todo) in [
        (&["localhost"][..], 2021, "it expired ", "renew its certificate"),
        (
            &["login.example.com"],
            4000,
            "it is for ",
            "write the host that the certificate is for",
        ),
    ] {
        let rig = Rig::with(Scripted::start_tls(names, last_year));
        let ca = rig.provider.certificate.clone().expect("a certificate");
        super::write_file(&rig.folder.path().join("ca.pem"), &ca, "644");
        let said = rig.examine();
        assert_eq!(
            (said.failed(), said.code),
            (vec!["certificate"], Some(1)),
            "{}",
            said.text
        );
        let of = said.of("certificate");
        assert!(of.contains(found) && of.contains(todo), "{}", said.text);
    }
    let rig = Rig::with(Scripted::start_tls(&["localhost"], 4000));
    let said = rig.examine();
    assert_eq!(
        said.failed(),
        ["certificate"],
        "nobody here trusts it: {}",
        said.text
    );
    let ca = rig.provider.certificate.clone().expect("a certificate");
    super::write_file(&rig.folder.path().join("ca.pem"), &ca, "644");
    let said = rig.examine();
    assert_eq!(said.failed(), Vec::<&str>::new(), "{}", said.text);
    assert!(
        said.of("certificate").contains("TLS 1.3, trusted"),
        "{}",
        said.text
    );
}

#[test]
fn metadata_elsewhere_tenants_and_an_authority_of_its_own_count_as_for_sign_ins() {
    let well_known = "/.well-known/openid-configuration";
    let rig = Rig::new();
    let issuer = super::doctor_provider::nobody();
    rig.provider.change("issuer", json!(issuer));
    rig.provider
        .answer("/elsewhere", Answer::json(200, &rig.provider.metadata()));
    rig.provider.answer(well_known, Answer::status(404));
    let settings = format!(
        "client_secret: {{env: SECRET}}, discovery: '{}/elsewhere'",
        rig.provider.origin
    );
    rig.configure_with(&issuer, &settings, "");
    let said = rig.examine();
    assert_eq!(said.failed(), Vec::<&str>::new(), "{}", said.text);
    assert!(said.of("client").starts_with("good"), "{}", said.text);

    rig.provider.answer("/elsewhere", Answer::status(404));
    let said = rig.examine();
    assert!(
        said.of("metadata").contains("-> correct `provider.discovery`"),
        "{}",
        said.text
    );

    let rig = Rig::new();
    let origin = &rig.provider.origin;
    rig.provider
        .change("issuer", json!(format!("{origin}/{{tenantid}}/v2.0")));
    rig.provider.answer(
        &format!("/organizations/v2.0{well_known}"),
        Answer::json(200, &rig.provider.metadata()),
    );
    let settings = "client_secret: {env: SECRET}, allowed_tenants: [8eaef023-2b34-4da1-9baa-8bc8c9d6a490]";
    rig.configure_with(&format!("{origin}/organizations/v2.0"), settings, "");
    let said = rig.examine();
    assert_eq!(said.failed(), Vec::<&str>::new(), "{}", said.text);
    assert!(said.of("client").starts_with("good"), "{}", said.text);

    let rig = Rig::with(Scripted::start_tls(&["localhost"], 4000));
    let other = Scripted::start_tls(&["localhost"], 4000);
    let settings = "client_secret: {env: SECRET}, ca: {file: provider.pem}";
    rig.configure_with(&rig.provider.origin, settings, "");
    let file = rig.folder.path().join("provider.pem");
    for (ca, failed) in [
        (&rig.provider.certificate, &[][..]),
        (&other.certificate, &["certificate"]),
    ] {
        super::write_file(&file, ca.as_ref().expect("a certificate"), "644");
        let said = rig.examine();
        assert_eq!(said.failed(), failed, "{}", said.text);
        let of = said.of("certificate");
        assert!(
            of.contains("trusted, valid") || of.contains("into `provider.ca`"),
            "{of}"
        );
    }
}

#[test]
fn a_dead_store_and_a_dead_upstream_are_named() {
    let rig = Rig::new();
    let nobody = super::doctor_provider::nobody();
    let store = nobody.replace("http://localhost", "redis://127.0.0.1");
    rig.configure(
        &rig.provider.origin.clone(),
        &format!("    session: {{store: '{store}'}}\n"),
    );
    rig.api.stop();
    let said = rig.examine();
    assert_eq!(said.code, Some(1));
    let stores: Vec<&Value> = said
        .checks
        .iter()
        .filter(|finding| {
            finding["subject"]
                .as_str()
                .is_some_and(|subject| subject.contains("redis"))
        })
        .collect();
    assert_eq!(
        (stores.len(), &stores[0]["state"]),
        (1, &json!("failed")),
        "{}",
        said.text
    );
    assert!(said.of("upstream").contains("failed: /api: "), "{}", said.text);
    assert!(said.of("upstream").contains("is the API up"), "{}", said.text);
    assert!(said.of("client").starts_with("good"), "{}", said.text);
}

#[test]
fn a_wrong_configuration_is_refused_as_check_refuses_it() {
    let rig = Rig::new();
    rig.configure("login.example.com", "");
    let check = Command::new(env!("CARGO_BIN_EXE_coatroom"))
        .current_dir(rig.folder.path())
        .env_clear()
        .env("SECRET", CANARY)
        .args(["check", "--config", "coatroom.yaml"])
        .output()
        .expect("the binary runs");
    let doctor = rig.doctor(&["--json"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&doctor.stderr),
        String::from_utf8_lossy(&check.stderr)
    );
}

#[test]
fn one_application_can_be_examined_alone() {
    let rig = Rig::new();
    let other = rig.doctor(&["--app", "shoe"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stderr).contains("hint: write `--app shop`"));
    assert_eq!(rig.doctor(&["--app", "shop"]).status.code(), Some(0));
}
