//! The challenges of a `WWW-Authenticate` header (RFC 9110 §11.6.1), as far as they can be read.
//!
//! Several may stand in one line, with the same commas between them as between their parameters, and a
//! quoted string may have anything in it. What follows a malformed part is not read: nothing is guessed.

use std::borrow::Cow;

/// A part of a challenge, in the order of the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A challenge begins: its scheme, in whatever case.
    Scheme(&'a str),
    /// A parameter of the challenge that began last: its name, and its value without quotes.
    Parameter(&'a str, Cow<'a, str>),
}

/// The parts of a line, until its end or the first that is malformed. A `token68` tells nothing, and is
/// passed over.
pub(super) fn tokens(line: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = line;
    let mut pending = None;
    std::iter::from_fn(move || {
        if let Some(parameter) = pending.take() {
            return Some(parameter);
        }
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let (name, after) = token(rest)?;
        if let Some((value, after)) = value(after) {
            rest = at_end(after)?;
            return Some(Token::Parameter(name, value));
        }
        // a scheme, with nothing, a token68 or its first parameter behind it
        rest = match at_end(after) {
            Some(after) => after,
            None => {
                let blank = after.trim_start_matches(' ');
                if blank.len() == after.len() {
                    rest = "";
                    return None;
                }
                match token(blank).and_then(|(name, after)| Some((name, value(after)?))) {
                    Some((name, (value, after))) if at_end(after).is_some() => {
                        pending = Some(Token::Parameter(name, value));
                        after
                    }
                    // what is malformed behind it ends the line
                    _ => token68(blank).and_then(at_end).unwrap_or_default(),
                }
            }
        };
        Some(Token::Scheme(name))
    })
}

/// `token` (RFC 9110 §5.6.2) and what follows.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_tchar = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_tchar(c)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(token, _)| !token.is_empty())
}

/// What follows a `token68` (RFC 9110 §11.2).
fn token68(text: &str) -> Option<&str> {
    let is_in = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let rest = text.trim_start_matches(is_in);
    (rest.len() < text.len()).then(|| rest.trim_start_matches('='))
}

/// `=` and a value, with blanks around it (RFC 9110 §11.2), and what follows.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let text = text.trim_start_matches([' ', '\t']).strip_prefix('=')?;
    let text = text.trim_start_matches([' ', '\t']);
    match text.strip_prefix('"') {
        Some(quoted) => unquoted(quoted),
        None => token(text).map(|(value, rest)| (Cow::Borrowed(value), rest)),
    }
}

/// A quoted string behind its first quote (RFC 9110 §5.6.4), and what follows its last.
fn unquoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut owned: Option<String> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (escaped, c) {
            (false, '"') => {
                let (value, rest) = text.split_at_checked(at)?;
                let value = owned.map_or(Cow::Borrowed(value), Cow::Owned);
                return Some((value, rest.strip_prefix('"')?));
            }
            (false, '\\') => {
                escaped = true;
                if owned.is_none() {
                    owned = text.get(..at).map(str::to_owned);
                }
            }
            (_, c) => {
                escaped = false;
                if let Some(owned) = &mut owned {
                    owned.push(c);
                }
            }
        }
    }
    None
}

/// The rest behind a part, if the part ends there.
fn at_end(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches([' ', '\t']);
    (rest.is_empty() || rest.starts_with(',')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_table() {
        let scheme = |name| Token::Scheme(name);
        fn is<'a>(name: &'a str, value: &'a str) -> Token<'a> {
            Token::Parameter(name, Cow::Borrowed(value))
        }
        let cases = [
            ("", vec![]),
            (" , ,", vec![]),
            ("DPoP", vec![scheme("DPoP")]),
            (
                "Basic, DPoP ,Bearer",
                vec![scheme("Basic"), scheme("DPoP"), scheme("Bearer")],
            ),
            (
                r#"DPoP error="use_dpop_nonce", error_description="a, b""#,
                vec![
                    scheme("DPoP"),
                    is("error", "use_dpop_nonce"),
                    is("error_description", "a, b"),
                ],
            ),
            (
                r#"Bearer realm="DPoP error=x, DPoP error=\"use_dpop_nonce\"""#,
                vec![
                    scheme("Bearer"),
                    is("realm", r#"DPoP error=x, DPoP error="use_dpop_nonce""#),
                ],
            ),
            (
                "DPoP algs = \"ES256 PS256\" ,error\t=\tx",
                vec![scheme("DPoP"), is("algs", "ES256 PS256"), is("error", "x")],
            ),
            (
                "Negotiate YII/+=, DPoP error=x",
                vec![scheme("Negotiate"), scheme("DPoP"), is("error", "x")],
            ),
            (
                // a token68 may look like a parameter without a value
                "Negotiate abc=, DPoP error=x",
                vec![scheme("Negotiate"), scheme("DPoP"), is("error", "x")],
            ),
            (
                r#"DPoP a="\\\"", b="""#,
                vec![scheme("DPoP"), is("a", r#"\""#), is("b", "")],
            ),
            (
                "DPoP error=x,,error=y",
                vec![scheme("DPoP"), is("error", "x"), is("error", "y")],
            ),
            // nothing behind a malformed part counts
            (r#"Bearer realm="x, DPoP error="y""#, vec![scheme("Bearer")]),
            (r#"DPoP error="x"#, vec![scheme("DPoP")]),
            (r#"DPoP error="x"y"#, vec![scheme("DPoP")]),
            (r#"DPoP a=b, error="x"y, c=d"#, vec![scheme("DPoP"), is("a", "b")]),
            ("DPoP a=b;c=d, error=x", vec![scheme("DPoP")]),
            ("DPoP/ error=x", vec![]),
            ("=x", vec![]),
            ("\"DPoP\" error=x", vec![]),
        ];
        for (line, expected) in cases {
            assert_eq!(tokens(line).collect::<Vec<_>>(), expected, "{line}");
        }
    }
}
