//! The rules of the house that no lint knows: the closed list of dependencies, the few places
//! that expose a secret, and what every file begins with.

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
fn secrets_are_exposed_in_few_places() {
    let expected = [
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
        ("headers.rs", "the Authorization header"),
        ("oauth/authorization.rs", "parsing what came in"),
        ("oauth/client_auth.rs", "client authentication"),
        ("oauth/end_session.rs", "the ID token hint"),
        ("oauth/id_token.rs", "verification"),
        ("oauth/pkce.rs", "the challenge"),
        ("oauth/revocation.rs", "the revocation request"),
        ("oauth/token.rs", "the token request, and parsing its answer"),
        ("packed.rs", "what goes into a seal"),
        ("secret.rs", "the method itself"),
        ("session.rs", "what goes into a seal"),
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

#[test]
fn no_file_is_longer_than_six_hundred_lines_without_its_tests() {
    let workspace = crate_folder().join("..");
    for path in sources(&workspace)
        .iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "tests"))
    {
        let lines = without_tests(path).lines().count();
        assert!(
            lines <= 600 || path.ends_with("tests.rs"),
            "{} has {lines} lines",
            path.display()
        );
    }
}
