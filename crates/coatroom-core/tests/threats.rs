//! `docs/threats.md` says the truth: every test and every end-to-end scenario that it names exists,
//! and every row names one, or says why not.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests read the sources; the core itself reads nothing"
)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name != "target" && name != "node_modules" {
            files(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn texts(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    files(&workspace().join(folder), ending, &mut found);
    found
        .iter()
        .map(|path| fs::read_to_string(path).expect("UTF-8"))
        .collect()
}

/// The names of all Rust tests, those of proptest's macro among them.
fn rust_tests() -> HashSet<String> {
    let mut names = HashSet::new();
    for text in texts("crates", ".rs") {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some(rest) = line
                .strip_prefix("async fn ")
                .or_else(|| line.strip_prefix("fn "))
            {
                let name = rest.split(['(', '<']).next().unwrap_or_default();
                if is_test {
                    names.insert(name.to_owned());
                }
                is_test = false;
            }
        }
    }
    names
}

/// A row of a table: its id and its last column.
fn rows(document: &str) -> Vec<(String, String)> {
    document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| id ") && !line.starts_with("| no. "))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [id, _, _, shown] = cells.as_slice() else {
                panic!("four columns were expected: {line}");
            };
            ((*id).to_owned(), (*shown).to_owned())
        })
        .collect()
}

/// What stands between marks.
fn between(text: &str, mark: char) -> Vec<&str> {
    text.split(mark).skip(1).step_by(2).collect()
}

fn document() -> String {
    fs::read_to_string(workspace().join("docs/threats.md")).expect("the page is there")
}

#[test]
fn every_test_that_the_page_names_exists() {
    let (rust, scenarios) = (rust_tests(), texts("e2e/test", ".js"));
    assert!(
        rust.len() > 400 && !scenarios.is_empty(),
        "{} tests were found",
        rust.len()
    );
    let mut named = 0;
    for (id, shown) in rows(&document()) {
        for name in between(&shown, '`') {
            // files, headers and settings are named beside the tests
            if !name.contains('_') || name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                continue;
            }
            assert!(
                rust.contains(name),
                "row {id} names the test {name}, which does not exist"
            );
            named += 1;
        }
        for sentence in between(&shown.replace('`', ""), '"') {
            // a scenario may be run for several configurations, which its name has in parentheses
            let plain = sentence.split(" (").next().unwrap_or_default();
            assert!(
                scenarios.iter().any(|text| text.contains(plain)),
                "row {id} names the scenario {sentence:?}, which does not exist"
            );
            named += 1;
        }
    }
    assert!(named > 150, "only {named} names were read");
}

#[test]
fn every_row_names_a_test_or_says_why_not() {
    let document = document();
    let rows = rows(&document);
    for (id, shown) in &rows {
        let excused = ["nothing to test", "–"].contains(&shown.as_str());
        assert!(excused || shown.contains(['`', '"']), "row {id} shows nothing");
        assert!(!shown.contains("not covered by a test"), "row {id} owes a test");
        if shown == "–" {
            let line = document
                .lines()
                .find(|line| line.starts_with(&format!("| {id} |")));
            assert!(
                line.is_some_and(|line| line.contains("not in this version")),
                "row {id} has no test and does not say why"
            );
        }
    }
    for (letter, count) in [
        ("A", 15),
        ("B", 10),
        ("C", 6),
        ("D", 18),
        ("E", 15),
        ("F", 8),
        ("R", 15),
        ("P", 13),
    ] {
        let here = rows.iter().filter(|(id, _)| id.starts_with(letter)).count();
        assert_eq!(here, count, "rows {letter}");
    }
    let numbered = rows.iter().filter(|(id, _)| id.parse::<u8>().is_ok()).count();
    assert_eq!(numbered, 36, "defects");
}
