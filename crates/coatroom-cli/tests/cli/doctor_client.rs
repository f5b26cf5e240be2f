//! `coatroom doctor` where the client authenticates, asks and proves in other ways than with a secret.
//!
//! The provider is the scripted one; what it refuses must come with a remedy that fits the settings.

use serde_json::json;

use super::doctor::Rig;
use super::doctor_provider::Answer;

#[test]
fn a_pushed_request_and_a_proof_that_are_refused_say_what_to_do() {
    let rig = Rig::new();
    let par = format!("{}/par", rig.provider.origin);
    rig.provider
        .change("pushed_authorization_request_endpoint", json!(par));
    for (error, todo) in [
        (
            "invalid_request",
            "register exactly \"http://localhost:8080/auth/callback\"",
        ),
        ("invalid_client", "see `client` above"),
        ("invalid_scope", "correct `provider.scopes`"),
        ("hunter2", "register exactly"),
    ] {
        rig.provider
            .answer("/par", Answer::json(400, &json!({"error": error})));
        let said = rig.examine();
        let of = said.of("redirect URI");
        assert!(of.starts_with("failed: ") && of.contains(todo), "{error}: {of}");
        assert!(!said.text.contains("hunter2"), "{}", said.text);
    }

    let rig = Rig::new();
    let settings = "client_secret: {env: SECRET}, dpop: true";
    rig.configure_with(&rig.provider.origin, settings, "");
    rig.provider.answer(
        "/token",
        Answer::json(400, &json!({"error": "invalid_dpop_proof"})),
    );
    let said = rig.examine();
    assert!(said.of("client").contains("refuses the proof"), "{}", said.text);
    assert!(said.of("DPoP").starts_with("unclear: "), "{}", said.text);
}

#[test]
fn a_client_without_a_secret_is_not_told_to_change_it() {
    let rig = Rig::new();
    let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    super::write_file(&rig.folder.path().join("client.pem"), &key, "600");
    let settings = "client_auth: {method: private_key_jwt, key: {file: client.pem}}";
    rig.configure_with(&rig.provider.origin, settings, "");
    let said = rig.examine();
    assert!(
        said.of("client").contains("takes private_key_jwt"),
        "{}",
        said.text
    );
    rig.provider
        .answer("/token", Answer::json(401, &json!({"error": "invalid_client"})));
    let of = rig.examine().of("client");
    assert!(
        of.contains("private_key_jwt is refused") && of.contains("coatroom keygen"),
        "{of}"
    );
    assert!(!of.contains("secret"), "{of}");
}

#[test]
fn a_token_that_routes_carry_is_really_asked_for_and_never_shown() {
    let rig = Rig::new();
    assert!(
        !rig.examine().text.contains("client credentials"),
        "no route carries one"
    );
    let file = rig.folder.path().join("coatroom.yaml");
    let route =
        "/ours/: {upstream: 'http://127.0.0.1:1', auth: none, token: {client_credentials: {scopes: [read]}}}";
    let text = std::fs::read_to_string(&file).expect("it was written");
    super::write_file(
        &file,
        &text.replace("routes: {", &format!("routes: {{{route}, ")),
        "600",
    );
    for (status, answer, begins, holds) in [
        (
            200,
            json!({"access_token": "hunter2", "token_type": "Bearer", "expires_in": 60}),
            "good: ",
            "`/ours`",
        ),
        (
            400,
            json!({"error": "unauthorized_client"}),
            "failed: ",
            "allow the grant client_credentials",
        ),
        (
            200,
            json!({"access_token": "hunter2", "token_type": "Bearer", "scope": "read write"}),
            "failed: ",
            "more scopes were granted",
        ),
        (503, json!({}), "failed: ", "status 5xx"),
    ] {
        rig.provider.answer("/token", Answer::json(status, &answer));
        let said = rig.examine();
        let of = said.of("client credentials");
        assert!(of.starts_with(begins) && of.contains(holds), "{answer}: {of}");
        assert!(!said.text.contains("hunter2"), "{}", said.text);
    }
}
