//! `docs/threats.md` says the truth: every test and every end-to-end scenario that it names exists,
//! and every row names one, or says why not.

mod named;

use named::{Names, page, rows};

#[test]
fn every_test_that_the_page_names_exists() {
    let names = Names::read();
    let shown = rows::<4>(&page("threats.md"));
    let named: usize = shown.iter().map(|[id, _, _, shown]| names.check(id, shown)).sum();
    assert!(named > 150, "only {named} names were read");
}

#[test]
fn every_row_names_a_test_or_says_why_not() {
    let document = page("threats.md");
    let rows = rows::<4>(&document);
    for [id, _, _, shown] in &rows {
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
        ("D", 22),
        ("E", 15),
        ("F", 8),
        ("R", 15),
        ("P", 13),
    ] {
        let here = rows.iter().filter(|[id, ..]| id.starts_with(letter)).count();
        assert_eq!(here, count, "rows {letter}");
    }
    let numbered = rows.iter().filter(|[id, ..]| id.parse::<u8>().is_ok()).count();
    assert_eq!(numbered, 36, "defects");
}
