//! `docs/conformance.md` says the truth: every test, scenario, mode, profile and file that it names
//! exists, every row has a status and what belongs to it, and no row is missing.

mod named;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use named::{Names, between, page, rows};

/// A row: its id, what is asked, how strongly, the status, where (or why not), shown by what.
type Row = [String; 6];

fn conformance() -> Vec<Row> {
    rows(&page("conformance.md"))
}

#[test]
fn every_test_mode_and_profile_of_the_page_about_conformance_exists() {
    let names = Names::read();
    let (modes, profiles) = (page("misbehaving.md"), page("profiles.md"));
    let mut named = 0;
    for [id, _, _, _, here, shown] in conformance() {
        named += names.check(&id, &shown);
        for mode in between(&shown, '`') {
            let is_mode = mode.contains('-') && mode.bytes().all(|b| b == b'-' || b.is_ascii_alphanumeric());
            assert!(
                !is_mode || modes.contains(&format!("\n| `{mode}` | ")),
                "row {id} names the mode {mode}, which does not exist"
            );
            named += usize::from(is_mode);
        }
        let links = shown
            .split('[')
            .skip(1)
            .filter_map(|link| link.split_once("](profiles.md)"));
        for (profile, _) in links {
            assert!(
                profiles.contains(&format!("\n| {profile} | ")),
                "row {id} names the profile {profile}, which does not exist"
            );
            named += 1;
        }
        for file in between(&here, '`') {
            exists(&id, file);
        }
    }
    assert!(named > 300, "only {named} names were read");
}

/// A file of one of the crates, where that is what stands there.
fn exists(id: &str, name: &str) {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = [
        ("core/", "coatroom-core/src"),
        ("shell/", "coatroom/src"),
        ("cli/", "coatroom-cli/src"),
    ]
    .into_iter()
    .find_map(|(short, folder)| Some(crates.join(folder).join(name.strip_prefix(short)?)));
    assert!(
        path.is_none_or(|path| path.exists()),
        "row {id} names the file {name}, which does not exist"
    );
}

#[test]
fn every_row_of_the_page_about_conformance_has_a_status_and_what_belongs_to_it() {
    let mut ids = HashSet::new();
    for [id, asks, level, status, here, shown] in conformance() {
        assert!(ids.insert(id.clone()), "two rows are called {id}");
        assert!(
            !asks.is_empty() && !level.is_empty() && here.len() > 2,
            "row {id} has an empty cell"
        );
        let is_shown = shown.contains(['`', '"', '[']);
        match status.as_str() {
            "done" => {
                assert!(here.contains(['`', '[']), "row {id} is done nowhere");
                assert!(
                    is_shown || shown == "nothing to test",
                    "row {id} is shown by nothing"
                );
            }
            // what is done instead is shown as well
            "deviates" => assert!(is_shown, "row {id} deviates, and nothing shows how"),
            "not yet" | "not applicable" => {
                assert!(is_shown || shown == "–", "row {id}: expected a test or –");
            }
            other => panic!("row {id} has the status {other:?}"),
        }
    }
}

#[test]
fn no_row_of_the_page_about_conformance_is_missing() {
    let mut counts = BTreeMap::new();
    for [id, ..] in conformance() {
        let section = id.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        *counts.entry(section).or_insert(0) += 1;
    }
    let counts: Vec<(&str, i32)> = counts
        .iter()
        .map(|(section, count)| (section.as_str(), *count))
        .collect();
    assert_eq!(counts, EXPECTED);
}

/// The sections, by what stands before the number of a row, and how many rows each has.
const EXPECTED: [(&str, i32); 24] = [
    ("B", 48),
    ("F", 20),
    ("F11-", 4),
    ("F15-", 4),
    ("L1-", 7),
    ("L2-", 17),
    ("L3-", 3),
    ("L4-", 3),
    ("R-7009-", 4),
    ("R-7523-", 4),
    ("R-7662-", 2),
    ("R-8414-", 4),
    ("R-8693-", 5),
    ("R-8705-", 4),
    ("R-8707-", 3),
    ("R-9101-", 8),
    ("R-9126-", 6),
    ("R-9207-", 4),
    ("R-9449-", 16),
    ("R-9470-", 4),
    ("R-9701-", 1),
    ("R-JARM-", 9),
    ("R-OIDC-", 23),
    ("S", 19),
];
