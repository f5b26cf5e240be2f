//! The page that posts an answer (OAuth 2.0 Form Post Response Mode §2), read as far as a browser would send it.
//!
//! Providers write it each in their way: names in capitals, the address in character references, an error
//! with status 400. Tags, attributes and references are read, no script is run, and nothing of the page is
//! kept or shown. What this is wrong about makes a diagnosis wrong, never a sign-in.

/// A form of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// Where it leads.
    pub(super) action: String,
    fields: Vec<(String, String)>,
}

impl Form {
    /// What the first field of that name holds.
    pub(super) fn field(&self, wanted: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find_map(|(name, value)| (name == wanted).then_some(value.as_str()))
    }
}

/// The first form of a page that leads to where `leads` says.
pub(super) fn find(page: &str, leads: impl Fn(&str) -> bool) -> Option<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let mut rest = page;
    'page: while let Some((_, after)) = rest.split_once('<') {
        rest = after;
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let (tag, after) = Tag::read(rest);
        rest = after;
        match tag.name.as_str() {
            "form" => forms.push(Form {
                action: tag.attribute("action").unwrap_or_default(),
                fields: Vec::new(),
            }),
            "input" => {
                if let (Some(form), Some(name)) = (forms.last_mut(), tag.attribute("name")) {
                    form.fields
                        .push((name, tag.attribute("value").unwrap_or_default()));
                }
            }
            // what is in them is no tag
            "script" | "style" => {
                while let Some((_, after)) = rest.split_once("</") {
                    rest = after;
                    let name = after.get(..tag.name.len()).unwrap_or_default();
                    if name.eq_ignore_ascii_case(&tag.name) {
                        continue 'page;
                    }
                }
                break;
            }
            _ => {}
        }
    }
    forms.into_iter().find(|form| leads(&form.action))
}

struct Tag<'a> {
    /// In small letters.
    name: String,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Tag<'a> {
    /// Reads what is behind a `<`, and what is left after the tag.
    fn read(text: &'a str) -> (Self, &'a str) {
        let is_end = |c: char| c.is_ascii_whitespace() || c == '>' || c == '/';
        let (name, mut rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
            if rest.is_empty() {
                break;
            }
            if let Some(after) = rest.strip_prefix('>') {
                rest = after;
                break;
            }
            let name_end = |c: char| is_end(c) || c == '=';
            // an attribute that begins with `=` is one with a strange name
            let begin = rest.chars().next().map_or(0, char::len_utf8);
            let tail = rest.get(begin..).unwrap_or_default();
            let length = begin.saturating_add(tail.find(name_end).unwrap_or(tail.len()));
            let (attribute, after) = rest.split_at(length);
            let Some(value) = after.trim_ascii_start().strip_prefix('=') else {
                rest = after;
                continue;
            };
            let value = value.trim_ascii_start();
            let (value, after) = match value.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    let inside = value.get(1..).unwrap_or_default();
                    inside.split_once(quote).unwrap_or((inside, ""))
                }
                _ => {
                    let end = |c: char| c.is_ascii_whitespace() || c == '>';
                    value.split_at(value.find(end).unwrap_or(value.len()))
                }
            };
            attributes.push((attribute, value));
            rest = after;
        }
        let name = name.to_ascii_lowercase();
        (Self { name, attributes }, rest)
    }

    fn attribute(&self, wanted: &str) -> Option<String> {
        let mut attributes = self.attributes.iter();
        attributes.find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then(|| unescaped(value)))
    }
}

/// With its character references replaced: those by number, and the few names that stand in addresses.
fn unescaped(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let end = after
            .bytes()
            .take(LONGEST_REFERENCE)
            .position(|byte| byte == b';');
        let reference = end.and_then(|end| after.split_at_checked(end));
        let found = reference.and_then(|(name, rest)| Some((character(name)?, rest.strip_prefix(';')?)));
        let (character, after) = found.unwrap_or(('&', after));
        out.push(character);
        rest = after;
    }
    out.push_str(rest);
    out
}

fn character(reference: &str) -> Option<char> {
    let of_number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    match (reference, reference.strip_prefix('#')) {
        (_, Some(number)) => match number.strip_prefix(['x', 'X']) {
            Some(digits) => of_number(digits, 16),
            None => of_number(number, 10),
        },
        ("amp", None) => Some('&'),
        ("quot", None) => Some('"'),
        ("apos", None) => Some('\''),
        ("lt", None) => Some('<'),
        ("gt", None) => Some('>'),
        ("colon", None) => Some(':'),
        ("sol", None) => Some('/'),
        ("period", None) => Some('.'),
        ("lowbar", None) => Some('_'),
        _ => None,
    }
}

/// In bytes, with its semicolon: leading zeros are as good as any.
const LONGEST_REFERENCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "https://shop.example.com/auth/callback";

    #[test]
    fn what_a_browser_would_post_is_read() {
        for (name, page) in [
            (
                "oidc-provider",
                r#"<script>document.forms[0].submit()</script><form method="post" action="https://shop.example.com/auth/callback">
                <input type="hidden" name="error" value="login_required"/><noscript><button type="submit">Go</button></noscript>"#,
            ),
            (
                "Keycloak",
                r#"<HTML><BODY Onload="document.forms[0].submit()"><FORM METHOD="POST" ACTION="https://shop.example.com/auth/callback">
                <INPUT TYPE="HIDDEN" NAME="error" VALUE="login_required" /></FORM>"#,
            ),
            (
                "Auth0, Spring",
                "<form method='post' action='https&#x3a;&#x2F;&#47;shop.example.com&sol;auth&#x2f;callback'>\
                 <input name='error' value='login&#95;required'>",
            ),
            (
                "no quotes",
                "<form action=https://shop.example.com/auth/callback method=post>\
                 <input type=hidden name=error value=login_required><input name=error value=again>",
            ),
            (
                "another form before it",
                "<form action=/language><input name=error value=no></form>\
                 <form action = \"https://shop.example.com/auth/callback\"><input value=\"login_required\" name = error />",
            ),
            (
                "text like tags",
                "<!-- <form action=\"https://shop.example.com/auth/callback\"> --><script>if (a <b && c) { f('<form>') }</SCRIPT>\
                 <style>a<b</style><form action=\"https://shop.example.com/auth/callback\"><input name=error value=login_required>",
            ),
        ] {
            let form = find(page, |action| action == URI).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(form.field("error"), Some("login_required"), "{name}");
            assert_eq!(form.field("code"), None, "{name}");
        }
    }

    #[test]
    fn what_leads_elsewhere_or_nowhere_is_none() {
        for page in [
            "",
            "<",
            "<form",
            "<form action",
            "<form action=",
            "<form action=\"https://shop.example.com/auth/callback",
            "<form =\"x\" action=https://evil.example/>",
            "<a href=\"https://shop.example.com/auth/callback\">",
            "<!-- <form action=\"https://shop.example.com/auth/callback\">",
            "<script><form action=\"https://shop.example.com/auth/callback\">",
            "https://shop.example.com/auth/callback is not registered",
        ] {
            let found = find(page, |action| action == URI);
            let cut = page.ends_with("callback") && page.starts_with("<form");
            assert_eq!(found.is_some(), cut, "{page}");
        }
    }

    #[test]
    fn references_that_mean_nothing_stay() {
        for (text, expected) in [
            ("a&amp;b", "a&b"),
            ("&quot;&apos;&lt;&gt;", "\"'<>"),
            ("&#xD800;&nothing;&", "&#xD800;&nothing;&"),
            ("&#;&#x;&#65", "&#;&#x;&#65"),
            ("&colon;&period;&lowbar;", ":._"),
        ] {
            assert_eq!(unescaped(text), expected);
        }
    }
}
