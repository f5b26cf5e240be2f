//! Reads the corpus of framing: cases as lines of text, the families they belong to, and the table of
//! them in `docs/framing.md`.
//!
//! It knows the notation and nothing of HTTP. The end-to-end tests read the same files.

/// Cases that attack the same thing.
pub(super) struct Family {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) cases: Vec<Case>,
}

/// One line: what is sent, and what has to become of it.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// Whether the upstream hangs up behind its answer.
    pub(super) closes: bool,
    /// Whether the client sends HEAD.
    pub(super) head: bool,
    /// The statuses of the answers, in order.
    pub(super) statuses: Vec<u16>,
    /// What is read at the other end: messages, or the body of each answer.
    pub(super) read: Vec<Vec<u8>>,
}

/// The raw requests.
pub(super) fn requests() -> Vec<Family> {
    parse(include_str!("corpus/requests.txt"))
}

/// The raw answers of an upstream.
pub(super) fn answers() -> Vec<Family> {
    parse(include_str!("corpus/answers.txt"))
}

/// A second request, that nobody may take for one unless it is where one belongs.
pub(super) const NEXT: &str = r"GET /smuggled HTTP/1.1\r\nhost: shop.example\r\nx-mallory: 1\r\n\r\n";

fn parse(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix("## ") {
            let (name, about) = header.split_once(" | ").expect(header);
            families.push(Family {
                name: name.to_owned(),
                about: about.to_owned(),
                cases: Vec::new(),
            });
        } else if !line.is_empty() && !line.starts_with("# ") && line != "#" {
            let columns: Vec<&str> = line.split(" | ").collect();
            let [name, bytes, statuses, read] = columns.as_slice() else {
                panic!("four columns were expected: {line}");
            };
            let read = match *read {
                "-" => Vec::new(),
                read => read.split(", ").map(bytes_of).collect(),
            };
            let family = families.last_mut().expect("a family before the first case");
            family.cases.push(Case {
                name: format!("{}: {name}", family.name),
                bytes: bytes_of(bytes),
                closes: bytes.contains("{close}"),
                head: bytes.contains("{head}"),
                statuses: statuses
                    .split(' ')
                    .map(|status| status.parse().expect(line))
                    .collect(),
                read,
            });
        }
    }
    families
}

/// The bytes that a text stands for.
fn bytes_of(text: &str) -> Vec<u8> {
    unescape(&expand(text))
}

/// Puts in what stands in braces.
fn expand(text: &str) -> String {
    let Some((before, rest)) = text.split_once('{') else {
        return text.to_owned();
    };
    let (name, after) = rest.split_once('}').expect(text);
    let length = unescape(NEXT).len();
    let inside = match name {
        "post" => r"POST /a HTTP/1.1\r\nhost: shop.example\r\n".to_owned(),
        "get" => r"GET /a HTTP/1.1\r\nhost: shop.example\r\n".to_owned(),
        "close" | "head" => String::new(),
        "next" => NEXT.to_owned(),
        "next.length" => length.to_string(),
        "next.hex" => format!("{length:x}"),
        _ => {
            let (what, times) = name.rsplit_once('*').expect(text);
            what.repeat(times.parse().expect(text))
        }
    };
    format!("{before}{inside}{}", expand(after))
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'0') => 0,
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let digits = [rest.next().expect(text), rest.next().expect(text)];
                    let digits = std::str::from_utf8(&digits).expect(text);
                    u8::from_str_radix(digits, 16).expect(text)
                }
                _ => panic!("no such escape: {text}"),
            },
            byte => byte,
        });
    }
    bytes
}

#[test]
fn the_notation_stands_for_bytes() {
    for (text, bytes) in [
        (r"a\r\n\t\0\\\x7f\xff", &b"a\r\n\t\0\\\x7f\xff"[..]),
        (r"{get}x", b"GET /a HTTP/1.1\r\nhost: shop.example\r\nx"),
        (r"{a\r*3}{b*2}", b"a\ra\ra\rbb"),
        (r"{next.length}{next.hex}", b"603c"),
    ] {
        assert_eq!(bytes_of(text), bytes, "{text}");
    }
}

#[test]
fn the_corpus_is_large_and_names_no_case_twice() {
    let families: Vec<Family> = requests().into_iter().chain(answers()).collect();
    let mut names: Vec<&str> = families
        .iter()
        .flat_map(|family| &family.cases)
        .map(|case| case.name.as_str())
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count > 400, "{count}");
}

/// A table of families: how many cases, and how they ended. Ends are counted by their name.
fn table(families: &[Family], ends: &[&str], end: impl Fn(&Case) -> String) -> String {
    let mut rows = format!(
        "\n| family | about | cases | {} |\n|---|---|---|",
        ends.join(" | ")
    );
    rows += &"---|".repeat(ends.len());
    rows += "\n";
    let row = |name: &str, about: &str, cases: &[&Case]| {
        let counts = ends.iter().map(|column| {
            let count = cases.iter().filter(|case| end(case) == *column).count();
            if count == 0 {
                String::new()
            } else {
                count.to_string()
            }
        });
        let counts: Vec<String> = counts.collect();
        format!(
            "| {name} | {about} | {} | {} |\n",
            cases.len(),
            counts.join(" | ")
        )
    };
    for family in families {
        let cases: Vec<&Case> = family.cases.iter().collect();
        rows += &row(&family.name, &family.about, &cases);
    }
    let all: Vec<&Case> = families.iter().flat_map(|family| &family.cases).collect();
    rows + &row("all", "", &all)
}

#[test]
fn the_page_about_framing_has_the_corpus() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/framing.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let refused = ["passes", "400", "401", "403", "405", "413", "421", "431"];
    let requests = table(&requests(), &refused, |case| {
        match case.statuses.iter().find(|status| **status >= 200) {
            Some(status) if *status >= 400 => status.to_string(),
            _ => "passes".to_owned(),
        }
    });
    let answers = table(&answers(), &["passes", "502", "breaks off"], |case| {
        let ends = match (case.statuses.as_slice(), case.read.first()) {
            ([502, ..], _) => "502",
            (_, Some(body)) if body == b"!" => "breaks off",
            _ => "passes",
        };
        ends.to_owned()
    });
    let mut expected = page.clone();
    for (name, table) in [("requests", requests), ("answers", answers)] {
        let begin = format!("<!-- {name} -->\n");
        let (before, rest) = expected.split_once(&begin).expect("the mark");
        let (_, after) = rest.split_once("<!-- end -->").expect("the mark");
        expected = format!("{before}{begin}{table}\n<!-- end -->{after}");
    }
    if std::env::var("COATROOM_TRANSCRIPTS").is_ok_and(|what| what == "write") {
        std::fs::write(path, expected).expect("written");
    } else {
        assert_eq!(
            page, expected,
            "COATROOM_TRANSCRIPTS=write cargo test -p coatroom-cli writes it"
        );
    }
}
