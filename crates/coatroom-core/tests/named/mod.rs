//! What pages of the documentation name: rows of tables, Rust tests, end-to-end scenarios.
//!
//! Reads the sources as text and runs nothing. What a page has to say is for the tests of that page.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests read the sources; the core itself reads nothing"
)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A page below `docs/`.
pub(crate) fn page(name: &str) -> String {
    fs::read_to_string(workspace().join("docs").join(name)).expect("the page is there")
}

/// The rows of a page's tables, each with this many cells.
pub(crate) fn rows<const CELLS: usize>(document: &str) -> Vec<[String; CELLS]> {
    document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| id ") && !line.starts_with("| no. "))
        .map(|line| {
            let cells: Vec<String> = line
                .trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect();
            cells
                .try_into()
                .unwrap_or_else(|_| panic!("{CELLS} columns were expected: {line}"))
        })
        .collect()
}

/// What stands between marks.
pub(crate) fn between(text: &str, mark: char) -> Vec<&str> {
    text.split(mark).skip(1).step_by(2).collect()
}

/// Every test that there is.
pub(crate) struct Names {
    rust: HashSet<String>,
    scenarios: Vec<String>,
}

impl Names {
    pub(crate) fn read() -> Self {
        let (rust, scenarios) = (rust_tests(), texts("e2e/test", ".js"));
        assert!(
            rust.len() > 400 && !scenarios.is_empty(),
            "{} tests were found",
            rust.len()
        );
        Self { rust, scenarios }
    }

    /// How many tests and scenarios a cell names; each of them has to exist.
    pub(crate) fn check(&self, id: &str, cell: &str) -> usize {
        let mut named = 0;
        for name in between(cell, '`') {
            // files, headers and settings are named beside the tests
            if !name.contains('_') || name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                continue;
            }
            assert!(
                self.rust.contains(name),
                "row {id} names the test {name}, which does not exist"
            );
            named += 1;
        }
        for sentence in between(&cell.replace('`', ""), '"') {
            // a scenario may be run for several configurations, which its name has in parentheses
            let plain = sentence.split(" (").next().unwrap_or_default();
            assert!(
                self.scenarios.iter().any(|text| text.contains(plain)),
                "row {id} names the scenario {sentence:?}, which does not exist"
            );
            named += 1;
        }
        named
    }
}

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
