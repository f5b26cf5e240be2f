//! What is generated from the types of the configuration: the JSON Schema and the reference page are
//! up to date, and the schema takes and refuses what the binary takes and refuses.
//!
//! `COATROOM_TRANSCRIPTS=write` writes both files anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_coatroom"))
        .args(arguments)
        .output()
        .expect("the binary runs");
    assert!(output.status.success() && output.stderr.is_empty());
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_generated_pages_are_what_the_binary_prints() {
    for (arguments, file) in [
        (&["schema"] as &[_], "docs/coatroom.schema.json"),
        (&["schema", "--markdown"], "docs/configuration-reference.md"),
    ] {
        let (text, file) = (printed(arguments), repository().join(file));
        if std::env::var("COATROOM_TRANSCRIPTS").is_ok_and(|value| value == "write") {
            std::fs::write(&file, text).expect("the page is writable");
        } else {
            let there = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                there == text,
                "{} is stale: COATROOM_TRANSCRIPTS=write cargo test -p coatroom-cli --test cli",
                file.display()
            );
        }
    }
}

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(&printed(&["schema"])).expect("JSON");
    assert!(
        jsonschema::meta::is_valid(&schema),
        "the schema is a good draft 2020-12 schema"
    );
    jsonschema::validator_for(&schema).expect("a schema")
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn problems(validator: &jsonschema::Validator, file: &str) -> Vec<String> {
    validator
        .iter_errors(&yaml(file))
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect()
}

/// The `coatroom.yaml` of each transcript that `check` accepts.
fn good_files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the transcripts") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let checks = text.contains("-- run check --config coatroom.yaml --") && text.contains("-- exit 0 --");
        let file = text
            .split_once("-- coatroom.yaml --\n")
            .and_then(|(_, rest)| rest.split_once("\n-- "));
        if let (true, Some((file, _))) = (checks, file) {
            found.push((path.display().to_string(), format!("{file}\n")));
        }
    }
    found
}

#[test]
fn every_good_file_is_good_by_the_schema() {
    let validator = validator();
    let demo = repository().join("demo/coatroom.yaml");
    let mut files = good_files();
    assert!(
        ["smallest.txt", "everything.txt"]
            .iter()
            .all(|name| files.iter().any(|(path, _)| path.ends_with(name))),
        "the smallest and the fullest file are among them"
    );
    files.push((
        demo.display().to_string(),
        std::fs::read_to_string(&demo).expect("the demo"),
    ));
    for document in ["README.md", "docs/configuration.md"] {
        let text = std::fs::read_to_string(repository().join(document)).expect("a document");
        let files_in_it = text
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next());
        // A snippet of one section is no whole file.
        let whole = files_in_it.filter(|yaml| yaml.contains("keys:") && yaml.contains("apps:"));
        files.extend(whole.map(|yaml| (document.to_owned(), yaml.to_owned())));
    }
    for (name, file) in files {
        let found = problems(&validator, &file);
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}

const GOOD: &str = "
keys: [{file: coatroom.key}]
apps:
  shop:
    url: https://shop.example.com
    provider: {issuer: https://login.example.com, client_id: shop, client_secret: {env: SHOP_CLIENT_SECRET}}
    routes:
      /api/: {upstream: http://127.0.0.1:5000}
";

#[test]
fn what_is_broken_in_shape_is_refused_by_the_schema_too() {
    struct Case {
        name: &'static str,
        from: &'static str,
        to: &'static str,
    }
    let case = |name, from, to| Case { name, from, to };
    let cases = [
        case("an unknown key", "keys:", "colour: red\nkeys:"),
        case("an unknown key below", "issuer:", "colour: red, issuer:"),
        case(
            "a setting of a later version",
            "keys:",
            "forward_auth: {listen: 127.0.0.1:1}\nkeys:",
        ),
        case(
            "a target of one",
            "{upstream: http://127.0.0.1:5000}",
            "{token: http://127.0.0.1:1}",
        ),
        case("no keys", "keys: [{file: coatroom.key}]\n", ""),
        case("an empty list of keys", "[{file: coatroom.key}]", "[]"),
        case(
            "keys that are no list",
            "[{file: coatroom.key}]",
            "{file: coatroom.key}",
        ),
        case("an inline key", "{file: coatroom.key}", "coatroom-key-1"),
        case("an inline secret", "{env: SHOP_CLIENT_SECRET}", "hunter2"),
        case("a reference of no kind", "{env: SHOP_CLIENT_SECRET}", "{evn: X}"),
        case(
            "a reference of two kinds",
            "{env: SHOP_CLIENT_SECRET}",
            "{env: X, file: y}",
        ),
        case("an empty reference", "{env: SHOP_CLIENT_SECRET}", "{}"),
        case("no issuer", "issuer: https://login.example.com, ", ""),
        case(
            "an issuer without a scheme",
            "https://login.example.com",
            "login.example.com",
        ),
        case("no client id", "client_id: shop, ", ""),
        case("an empty client id", "client_id: shop", "client_id: ''"),
        case("an id of an application in upper case", "shop:\n", "Shop:\n"),
        case("no url", "    url: https://shop.example.com\n", ""),
        case(
            "a url with a path",
            "url: https://shop.example.com",
            "url: https://shop.example.com/x",
        ),
        case(
            "a url in a list",
            "url: https://shop.example.com",
            "url: [https://shop.example.com]",
        ),
        case(
            "nothing where a value was expected",
            "url: https://shop.example.com",
            "url:",
        ),
        case("a wildcard origin", "    url:", "    origins: ['*']\n    url:"),
        case(
            "origins that are no list",
            "    url:",
            "    origins: https://a.example\n    url:",
        ),
        case(
            "a base path that ends with a slash",
            "    url:",
            "    base_path: /auth/\n    url:",
        ),
        case(
            "a key that may be missing, without a value",
            "    url:",
            "    base_path:\n    url:",
        ),
        case(
            "a callback that is no path",
            "    url:",
            "    login: {callback: signed-in}\n    url:",
        ),
        case(
            "scopes without openid",
            "client_id: shop",
            "client_id: shop, scopes: [profile]",
        ),
        case(
            "a scope with a blank",
            "client_id: shop",
            "client_id: shop, scopes: [openid, 'a b']",
        ),
        case(
            "another way of client authentication",
            "client_id: shop",
            "client_id: shop, client_auth: private_key_jwt",
        ),
        case(
            "another response mode",
            "client_id: shop",
            "client_id: shop, response_mode: fragment",
        ),
        case(
            "a store of no kind",
            "    url:",
            "    session: {store: cookies}\n    url:",
        ),
        case(
            "a store with a password",
            "    url:",
            "    session: {store: 'redis://:hunter2@h'}\n    url:",
        ),
        case(
            "a store with a password below url",
            "    url:",
            "    session: {store: {url: 'postgres://u:hunter2@h/d'}}\n    url:",
        ),
        case(
            "a revocation store of no kind",
            "    url:",
            "    session: {revocation_store: cookie}\n    url:",
        ),
        case(
            "a store without an address",
            "    url:",
            "    session: {store: {prefix: a}}\n    url:",
        ),
        case(
            "a prefix with a blank",
            "    url:",
            "    session: {store: {url: memory, prefix: a b}}\n    url:",
        ),
        case(
            "a number without a unit",
            "    url:",
            "    session: {idle: 30}\n    url:",
        ),
        case(
            "an unknown unit",
            "    url:",
            "    session: {idle: 300x}\n    url:",
        ),
        case(
            "half a second in a session",
            "    url:",
            "    session: {idle: 1500ms}\n    url:",
        ),
        case(
            "a size with an unknown unit",
            "{upstream:",
            "{body_limit: 10 apples, upstream:",
        ),
        case("a size of nothing", "{upstream:", "{body_limit: 0, upstream:"),
        case("an unknown auth", "{upstream:", "{auth: maybe, upstream:"),
        case("an unknown cache", "{upstream:", "{cache: always, upstream:"),
        case("text for true", "{upstream:", "{resources: 'true', upstream:"),
        case(
            "methods in lower case",
            "{upstream:",
            "{methods: [get], upstream:",
        ),
        case("no methods", "{upstream:", "{methods: [], upstream:"),
        case("two targets", "{upstream:", "{static: dist, upstream:"),
        case(
            "no target",
            "{upstream: http://127.0.0.1:5000}",
            "{strip_prefix: true}",
        ),
        case("a path without a slash", "/api/:", "api:"),
        case("a listener without an address", "keys:", "listen: 8080\nkeys:"),
        case(
            "a host name to listen on",
            "keys:",
            "admin: example.com:80\nkeys:",
        ),
        case("no replicas", "keys:", "replicas: 0\nkeys:"),
        case("too many replicas", "keys:", "replicas: 1001\nkeys:"),
        case("too many workers", "keys:", "workers: 1025\nkeys:"),
        case("an unknown level", "keys:", "log: {level: loud}\nkeys:"),
        case("half of tls", "keys:", "tls: {certificate: {file: a}}\nkeys:"),
    ];
    let validator = validator();
    assert_eq!(problems(&validator, GOOD), [] as [String; 0]);
    for case in cases {
        assert!(GOOD.contains(case.from), "{}", case.name);
        let broken = GOOD.replacen(case.from, case.to, 1);
        assert!(
            !problems(&validator, &broken).is_empty(),
            "{} passes:{broken}",
            case.name
        );
        // And the schema is no stricter than the binary.
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("coatroom.yaml"), &broken).expect("the folder is ours");
        let status = Command::new(env!("CARGO_BIN_EXE_coatroom"))
            .args(["check", "--config", "coatroom.yaml"])
            .current_dir(folder.path())
            .env("SHOP_CLIENT_SECRET", "x")
            .output()
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&status.stderr);
        // The key file is missing in every case: there is another error, or this one is about keys.
        let others = said
            .lines()
            .filter(|line| line.starts_with("error: ") && !line.contains("there is none at this path"));
        assert!(others.count() > 0, "{}: the binary accepts it", case.name);
    }
}
