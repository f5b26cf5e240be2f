//! What is wrong with a configuration file, shown where it is written.
//!
//! `FILE:LINE:COLUMN`, the key path, the message, the line with a caret under the spot, and a
//! `hint:` that can be pasted. Secrets in the line are masked, comments are left out. Nothing here
//! decides what is wrong.

use std::fmt::{self, Write as _};
use std::ops::Range;

use super::document::dotted;
use super::mask;

/// One thing that is wrong, or that deserves a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    /// Where, in bytes of the file.
    pub(crate) at: Option<Range<usize>>,
    /// The key path, empty where there is none.
    pub(crate) path: Vec<String>,
    /// What was expected and what came; never a value of the file.
    pub(crate) message: String,
    /// What to write or do instead.
    pub(crate) hint: String,
}

/// All that is wrong with one file, rendered as `Display`.
#[derive(Debug)]
pub(crate) struct Report {
    file: String,
    source: String,
    masks: Vec<Range<usize>>,
    diagnostics: Vec<Diagnostic>,
    variables: Vec<(Range<usize>, String)>,
}

/// The word in front: how bad it is, and whether to colour it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// For files and pipes.
    Plain,
    /// For a terminal.
    Coloured,
}

impl Report {
    /// A report about `file`. `masks` are the bytes of `source` that no snippet may show.
    pub(crate) fn new(
        file: String,
        source: String,
        mut masks: Vec<Range<usize>>,
        mut diagnostics: Vec<Diagnostic>,
    ) -> Self {
        masks.sort_by_key(|mask| mask.start);
        diagnostics.sort_by_key(|diagnostic| diagnostic.at.as_ref().map_or(0, |at| at.start));
        diagnostics.dedup();
        Self {
            file,
            source,
            masks,
            diagnostics,
            variables: Vec::new(),
        }
    }

    /// The same, where positions behind the end of the file stand for environment variables.
    #[must_use]
    pub(crate) fn with_variables(mut self, variables: Vec<(Range<usize>, String)>) -> Self {
        self.variables = variables;
        self
    }

    /// How many things there are to be said.
    pub(crate) fn len(&self) -> usize {
        self.diagnostics.len()
    }

    /// One more.
    pub(crate) fn add(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// The whole report: one block each, and a last line that counts them when there are several.
    pub(crate) fn render(&self, level: &str, style: Style) -> String {
        let mut out = String::new();
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                out.push('\n');
            }
            self.render_one(&mut out, diagnostic, level, style);
        }
        if level == "error" && self.diagnostics.len() > 1 {
            let spots = self.diagnostics.iter().filter_map(|found| found.at.as_ref());
            let and = match spots.filter_map(|at| self.variable(at)).next() {
                Some(_) => " and the environment",
                None => "",
            };
            let _ = writeln!(out, "\n{} errors in {}{and}", self.diagnostics.len(), self.file);
        }
        out
    }

    /// One line for each: place, message and hint, for a log.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.diagnostics.iter().map(|diagnostic| {
            let mut line = self.place(diagnostic);
            let _ = write!(line, ": {}", diagnostic.message);
            if !diagnostic.hint.is_empty() {
                let _ = write!(line, " (hint: {})", diagnostic.hint.replace('\n', "; "));
            }
            line
        })
    }

    /// `FILE:LINE:COLUMN: KEY PATH`, as far as it is known, or the variable that said it.
    fn place(&self, diagnostic: &Diagnostic) -> String {
        let mut out = match diagnostic.at.as_ref().and_then(|at| self.variable(at)) {
            Some(name) => format!("environment variable {name}"),
            None => self.file.clone(),
        };
        if let Some(line) = self.line(diagnostic) {
            let _ = write!(out, ":{}:{}", line.number, line.column);
        }
        if !diagnostic.path.is_empty() {
            let _ = write!(out, ": {}", dotted(&diagnostic.path));
        }
        out
    }

    /// The line of the file; none for what a variable said, whose value is never shown.
    fn line(&self, diagnostic: &Diagnostic) -> Option<Line<'_>> {
        let at = diagnostic.at.as_ref().filter(|at| self.variable(at).is_none())?;
        Some(Line::holding(&self.source, at))
    }

    fn render_one(&self, out: &mut String, diagnostic: &Diagnostic, level: &str, style: Style) {
        out.push_str(&headed(level, style));
        out.push_str(&self.place(diagnostic));
        let _ = writeln!(out, ": {}", diagnostic.message);
        if let Some(line) = self.line(diagnostic) {
            let (shown, caret) = line.show(&self.masks);
            let gutter = " ".repeat(line.number.to_string().len());
            let _ = writeln!(
                out,
                " {gutter} |\n {} | {shown}\n {gutter} | {caret}",
                line.number
            );
        }
        if !diagnostic.hint.is_empty() {
            let _ = writeln!(out, "{}{}", headed("hint", style), diagnostic.hint);
        }
    }

    fn variable(&self, at: &Range<usize>) -> Option<&str> {
        let mut variables = self.variables.iter();
        variables
            .find(|(place, _)| place.contains(&at.start))
            .map(|(_, name)| name.as_str())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render("error", Style::Plain))
    }
}

impl std::error::Error for Report {}

/// `error: `, `warning: ` or `hint: `, coloured for a terminal.
pub(crate) fn headed(word: &str, style: Style) -> String {
    let colour = match (style, word) {
        (Style::Plain, _) => return format!("{word}: "),
        (Style::Coloured, "error") => "1;31",
        (Style::Coloured, "warning") => "1;33",
        (Style::Coloured, _) => "1;36",
    };
    format!("\u{1b}[{colour}m{word}:\u{1b}[0m ")
}

/// The line of the file that holds a spot.
struct Line<'s> {
    number: usize,
    column: usize,
    text: &'s str,
    start: usize,
    spot: Range<usize>,
}

impl<'s> Line<'s> {
    fn holding(source: &'s str, at: &Range<usize>) -> Self {
        let mut spot = at.start.min(source.len());
        while !source.is_char_boundary(spot) {
            spot -= 1;
        }
        // The end of the file is shown as the end of its last line that says something.
        if source[spot..].trim().is_empty() {
            spot = spot.min(source.trim_end().len());
        }
        let start = source[..spot].rfind('\n').map_or(0, |newline| newline + 1);
        let end = source[start..].find('\n').map_or(source.len(), |len| start + len);
        let text = source[start..end].trim_end_matches('\r');
        let end = start + text.len();
        Self {
            number: source[..start].matches('\n').count() + 1,
            column: source[start..spot].chars().count() + 1,
            text,
            start,
            spot: spot..at.end.clamp(spot, end.max(spot)),
        }
    }

    /// The line and the caret line below it.
    fn show(&self, masks: &[Range<usize>]) -> (String, String) {
        let mut hidden: Vec<Range<usize>> = mask::url_parts(self.text)
            .into_iter()
            .chain(mask::decorations(self.text))
            .map(|part| part.start + self.start..part.end + self.start)
            .chain(masks.iter().cloned())
            .filter(|mask| mask.start < self.start + self.text.len() && mask.end > self.start)
            .collect();
        hidden.sort_by_key(|mask| mask.start);
        hidden.dedup_by(|next, mask| {
            let overlap = next.start < mask.end;
            if overlap {
                mask.end = mask.end.max(next.end);
            }
            overlap
        });

        let mut shown = String::new();
        let (mut from, mut width) = (None, 0);
        let mut masked_until = 0;
        for (offset, c) in self.text.char_indices() {
            let at = self.start + offset;
            let in_spot = at == self.spot.start || self.spot.contains(&at);
            let column = shown.chars().count();
            let before = shown.len();
            if let Some(mask) = hidden.iter().find(|mask| mask.contains(&at)) {
                // Blanks that a mask begins with stay, so that `key: *****` keeps its shape.
                if at >= masked_until && c.is_whitespace() {
                    shown.push(' ');
                } else if at >= masked_until {
                    shown.push_str("*****");
                    masked_until = mask.end;
                }
            } else if c == '#' && !self.spot.contains(&at) && starts_comment(self.text, offset) {
                break;
            } else {
                shown.push(if c.is_control() { ' ' } else { c });
            }
            if in_spot {
                from.get_or_insert(column);
                width += shown[before..].chars().count();
            }
        }
        let from = from.unwrap_or_else(|| shown.chars().count());
        let shown = shown.trim_end().to_owned();
        crop(&shown, from, width.max(1))
    }
}

/// Whether this `#` begins a comment: behind a blank, and not in quotes.
fn starts_comment(text: &str, offset: usize) -> bool {
    let before = &text[..offset];
    let quotes = |quote| before.matches(quote).count() % 2;
    before.chars().next_back().is_none_or(char::is_whitespace) && quotes('"') == 0 && quotes('\'') == 0
}

/// Keeps a long line readable: what is around the caret.
fn crop(shown: &str, from: usize, width: usize) -> (String, String) {
    let chars: Vec<char> = shown.chars().collect();
    let begin = if chars.len() > WIDEST {
        from.saturating_sub(WIDEST / 2)
    } else {
        0
    };
    let end = chars.len().min(begin + WIDEST);
    let mut line: String = chars.get(begin..end).unwrap_or_default().iter().collect();
    let mut indent = from - begin;
    if begin > 0 {
        line.insert(0, '…');
        indent += 1;
    }
    if end < chars.len() {
        line.push('…');
    }
    let room = line.chars().count().saturating_sub(indent).max(1);
    (
        line,
        format!("{}{}", " ".repeat(indent), "^".repeat(width.min(room))),
    )
}

const WIDEST: usize = 140;

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, at: Range<usize>, masks: Vec<Range<usize>>) -> String {
        let diagnostic = Diagnostic {
            at: Some(at),
            path: vec!["a".to_owned(), "b".to_owned()],
            message: "wrong".to_owned(),
            hint: "right".to_owned(),
        };
        Report::new("f.yaml".to_owned(), source.to_owned(), masks, vec![diagnostic]).to_string()
    }

    fn snippet(source: &str, at: Range<usize>, masks: Vec<Range<usize>>) -> String {
        let all = render(source, at, masks);
        all.lines()
            .skip(2)
            .take(2)
            .map(|line| format!("{line}\n"))
            .collect()
    }

    fn hide(start: usize, end: usize) -> Vec<Range<usize>> {
        std::iter::once(start..end).collect()
    }

    #[test]
    fn a_report_has_position_path_line_caret_and_hint() {
        assert_eq!(
            render("x: 1\na: {b: 300x}\n", 12..16, vec![]),
            "error: f.yaml:2:8: a.b: wrong\n   |\n 2 | a: {b: 300x}\n   |        ^^^^\nhint: right\n"
        );
    }

    #[test]
    fn masks_hide_bytes_and_their_length() {
        struct Case {
            name: &'static str,
            source: &'static str,
            at: Range<usize>,
            mask: Vec<Range<usize>>,
            shown: &'static str,
        }
        let cases = [
            Case {
                name: "a value",
                source: "s: hunter2\n",
                at: 3..10,
                mask: hide(3, 10),
                shown: " 1 | s: *****\n   |    ^^^^^\n",
            },
            Case {
                name: "a value before the spot",
                source: "{s: hunter2, idle: 3x}",
                at: 19..21,
                mask: hide(4, 11),
                shown: " 1 | {s: *****, idle: 3x}\n   |                  ^^\n",
            },
            Case {
                name: "a mask that begins on another line",
                source: "s: |\n  hunter2\n",
                at: 7..8,
                mask: hide(3, 14),
                shown: " 2 |   *****\n   |   ^^^^^\n",
            },
            Case {
                name: "overlapping masks",
                source: "s: hunter2\n",
                at: 0..1,
                mask: vec![3..6, 4..10],
                shown: " 1 | s: *****\n   | ^\n",
            },
            Case {
                name: "user-info of a url",
                source: "u: http://a:hunter2@h/\n",
                at: 0..1,
                mask: vec![],
                shown: " 1 | u: http://*****@h/\n   | ^\n",
            },
            Case {
                name: "a comment",
                source: "u: 1 # hunter2\n",
                at: 0..1,
                mask: vec![],
                shown: " 1 | u: 1\n   | ^\n",
            },
            Case {
                name: "a comment before the spot",
                source: "- # hunter2\n",
                at: 11..11,
                mask: Vec::new(),
                shown: " 1 | -\n   |   ^\n",
            },
            Case {
                name: "no comment",
                source: "{a: \"b #c\", d: e #f}\n",
                at: 15..19,
                mask: Vec::new(),
                shown: " 1 | {a: \"b #c\", d: e #f}\n   |                ^^^^\n",
            },
            Case {
                name: "a terminal escape",
                source: "u: \u{1b}[31m\n",
                at: 0..1,
                mask: vec![],
                shown: " 1 | u:  [31m\n   | ^\n",
            },
        ];
        for case in cases {
            let shown = snippet(case.source, case.at, case.mask);
            assert_eq!(shown, case.shown, "{}", case.name);
            assert!(!shown.contains("hunter2"), "{}", case.name);
        }
    }

    #[test]
    fn spots_outside_the_text_do_not_break_the_report() {
        for (source, at) in [
            ("", 0..0),
            ("a: 1\n\n\n", 7..7),
            ("a: é\r\nb", 99..120),
            ("é: 1\n", 1..2),
        ] {
            assert!(render(source, at, vec![]).contains("hint: right"), "{source:?}");
        }
    }

    #[test]
    fn a_long_line_is_cropped_around_the_caret() {
        let source = format!("a: {}X{}\n", "y".repeat(300), "z".repeat(300));
        let shown = snippet(&source, 303..304, vec![]);
        assert!(
            shown.contains("yX") && shown.lines().all(|line| line.chars().count() < 160),
            "{shown}"
        );
        let mut lines = shown.lines();
        let (line, caret) = (lines.next().expect("a line"), lines.next().expect("a caret"));
        assert_eq!(
            line.chars().position(|c| c == 'X'),
            caret.chars().position(|c| c == '^')
        );
    }

    #[test]
    fn several_errors_are_sorted_and_counted_and_coloured_for_a_terminal_only() {
        let one = |at: usize, message: &str| Diagnostic {
            at: Some(at..at + 1),
            path: vec![],
            message: message.to_owned(),
            hint: String::new(),
        };
        let report = Report::new(
            "f".to_owned(),
            "abcdef".to_owned(),
            vec![],
            vec![one(4, "later"), one(1, "first")],
        );
        let plain = report.render("error", Style::Plain);
        assert!(plain.find("first") < plain.find("later"), "{plain}");
        assert!(plain.ends_with("\n2 errors in f\n"), "{plain}");
        assert!(!plain.contains('\u{1b}'));
        assert!(
            report
                .render("error", Style::Coloured)
                .contains("\u{1b}[1;31merror:")
        );
    }
}
