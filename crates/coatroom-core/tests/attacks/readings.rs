//! How servers behind a proxy read a request path: models of common ones, each careless in its own
//! way, none of them ours.
//!
//! A reading takes the path of a request line and gives the path that such a server would route by.
//! The models err towards leniency: what one product might do is done by its model.

use crate::redirects::decoded;

/// A server's name, and its reading of a path.
pub(crate) struct Reading {
    pub(crate) name: &'static str,
    pub(crate) read: fn(&str) -> String,
    /// Whether it compares paths without regard to case.
    pub(crate) ignores_case: bool,
}

pub(crate) const READINGS: &[Reading] = &[
    Reading {
        name: "as sent",
        read: str::to_owned,
        ignores_case: false,
    },
    Reading {
        // nginx, merge_slashes on: decoded once, then slashes merged and dots resolved
        name: "nginx",
        read: |path| resolved(&decoded(path)),
        ignores_case: false,
    },
    Reading {
        // Express: routes by the raw path, without regard to case or a trailing slash
        name: "express",
        read: |path| path.trim_end_matches('/').to_owned(),
        ignores_case: true,
    },
    Reading {
        // Express with static files or a router of its own: decoded, then resolved
        name: "express, decoded",
        read: |path| resolved(&decoded(path)),
        ignores_case: true,
    },
    Reading {
        // Servlet containers: path parameters off before decoding, then resolved
        name: "servlet",
        read: |path| resolved(&decoded(&without_parameters(path))),
        ignores_case: false,
    },
    Reading {
        // Frameworks on top of them that decode first and then take parameters off
        name: "servlet, decoded first",
        read: |path| resolved(&without_parameters(&decoded(path))),
        ignores_case: false,
    },
    Reading {
        // IIS and .NET: decoded (%uXXXX too), compatibility characters mapped, backslashes turned,
        // dots and blanks at the end of a segment off
        name: "iis",
        read: |path| {
            let text = compatible(&decoded(&unicode_escapes(path))).replace('\\', "/");
            let trimmed: Vec<&str> = text
                .split('/')
                .map(|segment| match segment {
                    "." | ".." => segment,
                    other => other.trim_end_matches(['.', ' ']),
                })
                .collect();
            resolved(&trimmed.join("/"))
        },
        ignores_case: true,
    },
    Reading {
        // a second proxy that decodes once more
        name: "double decoding",
        read: |path| resolved(&decoded(&decoded(path))),
        ignores_case: false,
    },
    Reading {
        // everything at once, and three times
        name: "the most careless",
        read: |path| {
            let mut text = unicode_escapes(path);
            for _ in 0..3 {
                text = decoded(&text);
            }
            let text = compatible(&text).replace('\\', "/");
            resolved(&without_parameters(&text))
        },
        ignores_case: true,
    },
    Reading {
        // C strings: a NUL ends the path
        name: "c string",
        read: |path| {
            let text = decoded(path);
            resolved(text.split('\0').next().unwrap_or_default())
        },
        ignores_case: false,
    },
    Reading {
        // a fragment or a query that only shows after decoding is cut off
        name: "cut",
        read: |path| {
            let text = decoded(path);
            resolved(text.split(['#', '?']).next().unwrap_or_default())
        },
        ignores_case: false,
    },
];

/// Without empty and dot segments, a trailing slash kept off.
fn resolved(path: &str) -> String {
    crate::redirects::plain(path)
}

fn without_parameters(path: &str) -> String {
    path.split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("/")
}

/// `%u002f` to its character.
fn unicode_escapes(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some(at) = rest.find("%u").or_else(|| rest.find("%U")) {
        out.push_str(&rest[..at]);
        let character = rest
            .get(at + 2..at + 6)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .and_then(char::from_u32);
        match character {
            Some(character) => {
                out.push(character);
                rest = &rest[at + 6..];
            }
            None => {
                out.push_str(&rest[at..at + 2]);
                rest = &rest[at + 2..];
            }
        }
    }
    out + rest
}

/// What compatibility normalisation (NFKC) and best-fit code pages make of characters that look
/// like others.
fn compatible(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\u{ff01}'..='\u{ff5e}' => out.extend(char::from_u32(u32::from(character) - 0xfee0)),
            '\u{2024}' | '\u{fe52}' => out.push('.'),
            '\u{2025}' => out.push_str(".."),
            '\u{2026}' | '\u{fe19}' => out.push_str("..."),
            '\u{3002}' | '\u{ff61}' => out.push('.'),
            '\u{2044}' | '\u{2215}' => out.push('/'),
            '\u{2216}' | '\u{fe68}' => out.push('\\'),
            '\u{37e}' | '\u{fe54}' => out.push(';'),
            '\u{2100}' => out.push_str("a/c"),
            '\u{2101}' => out.push_str("a/s"),
            '\u{2105}' => out.push_str("c/o"),
            '\u{2106}' => out.push_str("c/u"),
            '\u{212a}' => out.push('k'),
            '\u{17f}' => out.push('s'),
            other => out.push(other),
        }
    }
    out
}

#[test]
fn each_model_makes_its_mistake() {
    for (name, path, expected) in [
        ("nginx", "/a//b/%2e%2e/c%2fd", "/a/c/d"),
        ("express", "/API/x/", "/API/x"),
        ("servlet", "/public/..;x=1/api", "/api"),
        ("servlet, decoded first", "/public/..%3bx/api", "/api"),
        ("iis", "/public\\..\\api. ", "/api"),
        ("iis", "/%uff0e%uff0e/\u{ff41}pi", "/api"),
        ("double decoding", "/public/%252e%252e/api", "/api"),
        ("the most careless", "/public/%25252e%25252e%25255capi", "/api"),
        ("c string", "/api%00.js", "/api"),
        ("cut", "/api%23x", "/api"),
    ] {
        let model = READINGS.iter().find(|reading| reading.name == name).expect(name);
        assert_eq!((model.read)(path), expected, "{name} {path}");
    }
}
