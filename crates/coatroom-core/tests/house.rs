//! The rules of the house that no lint knows: the closed list of dependencies, the few places
//! that expose a secret, what every file begins with, and that every file is on the map.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests read the sources; the core itself reads nothing"
)]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn crate_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file without its tests.
fn without_tests(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("UTF-8");
    text.split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn the_cores_dependencies_are_a_closed_list() {
    let manifest = fs::read_to_string(crate_folder().join("Cargo.toml")).expect("the manifest");
    let dependencies: Vec<&str> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect();
    let listed = include_str!("../deps.txt");
    let listed: Vec<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        dependencies, listed,
        "a new dependency of the core belongs into deps.txt, with its reason"
    );
}

#[test]
fn the_misbehaving_provider_is_for_tests_alone() {
    let manifest = |name: &str| {
        let path = crate_folder().join("..").join(name).join("Cargo.toml");
        fs::read_to_string(path).expect("the manifest")
    };
    for name in ["coatroom-core", "coatroom", "coatroom-cli"] {
        let manifest = manifest(name);
        let shipped = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        assert!(!shipped.contains("coatroom-misbehaving"), "{name} ships it");
    }
    let own = manifest("coatroom-misbehaving");
    assert!(own.contains("publish = false"));
    let dependencies = own.split("[dependencies]").nth(1).unwrap_or_default();
    assert!(!dependencies.contains("coatroom"), "it knows nothing of ours");
}

#[test]
fn secrets_are_exposed_in_few_places() {
    let expected = [
        (
            "config/store.rs",
            "the address of a store, for the client that connects",
        ),
        (
            "flow/exchange.rs",
            "nonce and code, towards the provider or a digest",
        ),
        (
            "flow/login.rs",
            "state, nonce and verifier, towards the provider or a digest",
        ),
        ("flow/logout.rs", "the state of the logout request"),
        ("flow/refresh.rs", "a keyed digest"),
        ("flow/status.rs", "the claims of the sealed ID token"),
        ("flow/verifying.rs", "the nonce, to be compared"),
        ("headers.rs", "the Authorization header"),
        ("oauth/authorization.rs", "parsing what came in"),
        ("oauth/client_auth.rs", "client authentication"),
        ("oauth/end_session.rs", "the ID token hint"),
        ("oauth/id_token.rs", "verification"),
        ("oauth/introspection.rs", "the introspection request"),
        ("oauth/jwe.rs", "decryption"),
        ("oauth/pkce.rs", "the challenge"),
        (
            "oauth/plain.rs",
            "the error of an answer, and what is no ID token",
        ),
        (
            "oauth/request_object.rs",
            "the request object, which the browser carries",
        ),
        ("oauth/resource.rs", "into token requests for one API"),
        ("oauth/revocation.rs", "the revocation request"),
        ("oauth/token.rs", "the token request, and parsing its answer"),
        (
            "oauth/userinfo.rs",
            "the Authorization header of the userinfo request",
        ),
        ("packed.rs", "what goes into a seal"),
        ("secret.rs", "the method itself"),
        ("session/transactions.rs", "what goes into a seal"),
        ("tombstones.rs", "digests"),
    ];
    let root = crate_folder().join("src");
    let found: Vec<String> = sources(&root)
        .iter()
        .filter(|path| without_tests(path).contains("expose"))
        .map(|path| {
            path.strip_prefix(&root)
                .expect("below the root")
                .display()
                .to_string()
        })
        .filter(|path| !path.contains("testing"))
        .collect();
    let expected: Vec<&str> = expected.iter().map(|(path, _)| *path).collect();
    assert_eq!(
        found, expected,
        "a new place that exposes a secret needs a reason here"
    );
}

#[test]
fn every_file_says_what_it_does() {
    let workspace = crate_folder().join("..");
    for path in sources(&workspace)
        .iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "target"))
    {
        let text = fs::read_to_string(path).expect("UTF-8");
        assert!(
            text.starts_with("//!"),
            "{} does not begin with //!",
            path.display()
        );
    }
}

/// What `ARCHITECTURE.md` says of one crate.
fn map_of(name: &str) -> String {
    let page = fs::read_to_string(crate_folder().join("../../ARCHITECTURE.md")).expect("the page");
    let section = page.split(&format!("### `crates/{name}`")).nth(1);
    section
        .and_then(|section| section.split("\n##").next())
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn every_file_is_on_the_map_and_nothing_else_is() {
    for name in [
        "coatroom-core",
        "coatroom",
        "coatroom-cli",
        "coatroom-misbehaving",
    ] {
        let map = map_of(name);
        let folder = crate_folder().join("..").join(name);
        for path in sources(&folder.join("src")) {
            let path = path.strip_prefix(&folder).expect("below the crate");
            let full = path.display().to_string();
            // a row may name a second file without the folder that both are in
            let short = full.strip_prefix("src/").unwrap_or_default();
            assert!(
                map.contains(&format!("`{full}`")) || map.contains(&format!("`{short}`")),
                "ARCHITECTURE.md does not name {full} of {name}"
            );
        }
        for named in map.split('`').skip(1).step_by(2) {
            let is_path = named.ends_with(".rs") && !named.contains(' ');
            assert!(
                !is_path || folder.join(named).exists() || folder.join("src").join(named).exists(),
                "{name} has no {named}, which ARCHITECTURE.md names"
            );
        }
    }
}

#[test]
fn no_file_is_longer_than_six_hundred_lines_without_its_tests() {
    let workspace = crate_folder().join("..");
    for path in sources(&workspace)
        .iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "target"))
    {
        let text = without_tests(path);
        let lines = text.lines().count();
        // what tests share is code like any other
        let is_tests = path.ends_with("tests.rs")
            || path.components().any(|part| part.as_os_str() == "tests")
                && text.lines().any(|line| line.ends_with("test]"));
        assert!(lines <= 600 || is_tests, "{} has {lines} lines", path.display());
    }
}

#[test]
fn everything_at_the_provider_goes_through_one_http_client() {
    let root = crate_folder().join("../coatroom/src");
    // who builds a client names the library, and a client of Redis is not one of HTTP
    let found: Vec<(String, usize)> = sources(&root)
        .iter()
        .map(|path| (path, without_tests(path)))
        .filter(|(_, text)| text.contains("reqwest"))
        .map(|(path, text)| {
            let path = path.strip_prefix(&root).expect("below the root");
            (
                path.display().to_string(),
                text.matches("Client::builder(").count(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("provider/client.rs".to_owned(), 1),
            ("provider.rs".to_owned(), 0)
        ],
        "a second client could have other authorities and proxies than the first"
    );
}
