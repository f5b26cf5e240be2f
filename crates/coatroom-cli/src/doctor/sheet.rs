//! What the doctor found, and how it is shown: a table for people, JSON for machines.
//!
//! A finding is our own words. What comes from elsewhere (an issuer, a name in a certificate) goes
//! through [`quoted`], which leaves nothing that a terminal would obey and no more than fits a line.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be.
    Good,
    /// It works, and deserves a look.
    Warning,
    /// Nobody can tell from here.
    Unclear,
    /// It does not work.
    Failed,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) state: State,
    /// What was looked at.
    pub(super) check: &'static str,
    /// What came out.
    pub(super) found: String,
    /// What to do about it: a setting, or a click at the provider. Empty where there is nothing to do.
    pub(super) todo: String,
}

/// The findings about one thing. Clones share them, so that what was found before a deadline is there
/// after it.
#[derive(Clone)]
pub(super) struct Sheet(Arc<Mutex<Inner>>);

struct Inner {
    application: Option<String>,
    title: String,
    findings: Vec<Finding>,
    is_done: bool,
}

impl Sheet {
    /// An empty one; `application` is none for what all of them share.
    pub(super) fn new(application: Option<&str>, title: impl Into<String>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            application: application.map(str::to_owned),
            title: title.into(),
            findings: Vec::new(),
            is_done: false,
        })))
    }

    /// As it should be.
    pub(super) fn good(&self, check: &'static str, found: impl Into<String>) {
        self.add(State::Good, check, found.into(), String::new());
    }

    /// It works, and deserves a look.
    pub(super) fn warning(&self, check: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.add(State::Warning, check, found.into(), todo.into());
    }

    /// Nobody can tell from here.
    pub(super) fn unclear(&self, check: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.add(State::Unclear, check, found.into(), todo.into());
    }

    /// It does not work.
    pub(super) fn failed(&self, check: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.add(State::Failed, check, found.into(), todo.into());
    }

    /// A finding that was made elsewhere.
    pub(super) fn push(&self, finding: Finding) {
        self.inner().findings.push(finding);
    }

    /// The findings of another one.
    pub(super) fn append(&self, other: &Self) {
        let found = other.inner().findings.clone();
        self.inner().findings.extend(found);
    }

    /// Everything was looked at.
    pub(super) fn done(&self) {
        self.inner().is_done = true;
    }

    /// Says so where time ran out before everything was looked at.
    pub(super) fn cut_off(&self, limit: &str) {
        if !self.inner().is_done {
            self.failed(
                "in time",
                format!("not everything was looked at within {limit}"),
                "look at what hangs above; what is not in this list was not asked",
            );
        }
    }

    fn add(&self, state: State, check: &'static str, found: String, todo: String) {
        self.push(Finding {
            state,
            check,
            found,
            todo,
        });
    }

    /// What is on it.
    #[cfg(test)]
    pub(super) fn findings(&self) -> Vec<Finding> {
        self.inner().findings.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many checks came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) good: usize,
    pub(super) warning: usize,
    pub(super) unclear: usize,
    pub(super) failed: usize,
}

impl Tally {
    /// Of all sheets.
    pub(super) fn of(sheets: &[Sheet]) -> Self {
        let mut tally = Self::default();
        for sheet in sheets {
            for finding in &sheet.inner().findings {
                let count = match finding.state {
                    State::Good => &mut tally.good,
                    State::Warning => &mut tally.warning,
                    State::Unclear => &mut tally.unclear,
                    State::Failed => &mut tally.failed,
                };
                *count = count.saturating_add(1);
            }
        }
        tally
    }
}

/// The sheets as a table, the sum last: that is what a terminal still shows.
///
/// # Errors
/// None: a string takes all.
pub(super) fn table(sheets: &[Sheet]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    for sheet in sheets {
        let inner = sheet.inner();
        match &inner.application {
            Some(application) => writeln!(out, "{application}  {}", inner.title)?,
            None => writeln!(out, "{}", inner.title)?,
        }
        let widths = inner.findings.iter().map(|finding| finding.check.chars().count());
        let width = widths.max().unwrap_or(0);
        for finding in &inner.findings {
            let (mark, check) = (finding.state.mark(), finding.check);
            writeln!(out, "  {mark} {check:width$}  {}", finding.found)?;
            if !finding.todo.is_empty() {
                writeln!(out, "    {:width$}  -> {}", "", finding.todo)?;
            }
        }
        out.push('\n');
    }
    let tally = Tally::of(sheets);
    writeln!(
        out,
        "{} good, {} to look at, {} that nobody can tell, {} failed",
        tally.good, tally.warning, tally.unclear, tally.failed
    )?;
    Ok(out)
}

/// The same as one JSON object.
pub(super) fn machine_readable(sheets: &[Sheet]) -> String {
    let tally = Tally::of(sheets);
    let mut checks = Vec::new();
    for sheet in sheets {
        let inner = sheet.inner();
        for finding in &inner.findings {
            checks.push(json!({
                "application": inner.application,
                "subject": inner.title,
                "check": finding.check,
                "state": finding.state.name(),
                "found": finding.found,
                "todo": Some(&finding.todo).filter(|todo| !todo.is_empty()),
            }));
        }
    }
    let all = json!({
        "good": tally.good,
        "warning": tally.warning,
        "unclear": tally.unclear,
        "failed": tally.failed,
        "checks": checks,
    });
    format!("{all}\n")
}

impl State {
    fn mark(self) -> char {
        match self {
            Self::Good => '✓',
            Self::Warning => '!',
            Self::Unclear => '?',
            Self::Failed => '✗',
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Unclear => "unclear",
            Self::Failed => "failed",
        }
    }
}

/// Text from elsewhere, in quotes: what is not visible ASCII is escaped, what is too long is cut.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", plain(text))
}

/// The same without quotes: for words of ours, or of a library's, that repeat something from elsewhere.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(LONGEST) {
        if c.is_ascii_graphic() && c != '"' || c == ' ' {
            out.push(c);
        } else {
            let _ = write!(out, "{}", c.escape_unicode());
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// As much of a text from elsewhere as is shown, in characters.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn sheets() -> [Sheet; 2] {
        let process = Sheet::new(None, "this process");
        process.good("keys", "one");
        process.done();
        let provider = Sheet::new(Some("shop"), "provider https://login.example.com");
        provider.good("dns", "1 address");
        provider.failed("client", "it is refused", "correct `client_secret`");
        provider.unclear("redirect URI", "it leads elsewhere", "");
        [process, provider]
    }

    #[test]
    fn a_table_has_marks_and_what_to_do() {
        assert_eq!(
            table(&sheets()).expect("a string takes all"),
            "this process\n  ✓ keys  one\n\nshop  provider https://login.example.com\n  ✓ dns           1 address\n  \
             ✗ client        it is refused\n                  -> correct `client_secret`\n  ? redirect URI  it leads elsewhere\n\n\
             2 good, 0 to look at, 1 that nobody can tell, 1 failed\n"
        );
    }

    #[test]
    fn json_says_the_same() {
        let said: serde_json::Value = serde_json::from_str(&machine_readable(&sheets())).expect("json");
        assert_eq!((&said["good"], &said["failed"]), (&json!(2), &json!(1)));
        assert_eq!(
            said["checks"][2],
            json!({"application": "shop", "subject": "provider https://login.example.com", "check": "client",
                "state": "failed", "found": "it is refused", "todo": "correct `client_secret`"})
        );
        assert_eq!(said["checks"][0]["application"], serde_json::Value::Null);
        assert_eq!(said["checks"][0]["todo"], serde_json::Value::Null);
    }

    #[test]
    fn what_was_not_looked_at_in_time_is_a_failure() {
        let sheets = sheets();
        sheets.iter().for_each(|sheet| sheet.cut_off("16s"));
        assert_eq!(sheets[0].findings().len(), 1);
        assert_eq!(sheets[1].findings().last().expect("one").state, State::Failed);
        assert_eq!(Tally::of(&sheets).failed, 2);
    }

    #[test]
    fn text_from_elsewhere_does_nothing_to_a_terminal() {
        assert_eq!(quoted("https://a.example/ b"), "\"https://a.example/ b\"");
        assert_eq!(quoted("a\u{1b}[2J\n\"ü"), r#""a\u{1b}[2J\u{a}\u{22}\u{fc}""#);
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), 203);
    }
}
