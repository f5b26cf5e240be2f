//! A grammar of return URLs: schemes, slashes, user information, hosts, ports and tails that readers
//! disagree about, put together by chance and then twisted. What they are worth is not judged here.

use crate::chance::Chance;

/// A return URL from the grammar; `listed` is a listed host.
pub(crate) fn generate(chance: &mut Chance, listed: &str) -> String {
    let mut text = match chance.below(10) {
        0 => (0..chance.below(24)).map(|_| any_char(chance)).collect(),
        1 | 2 => {
            let mut path = String::new();
            for _ in 0..=chance.below(4) {
                path += chance.pick(SLASHES);
                path += chance.pick(SEGMENTS);
            }
            path
        }
        3 => format!(
            "{}{listed}{}{}{}",
            chance.pick(&[
                "https://",
                "http://",
                "//",
                "https:",
                "https:/",
                "https:///",
                "/\\"
            ]),
            chance.pick(BEHIND_HOST),
            chance.pick(HOSTS),
            chance.pick(TAILS)
        ),
        _ => format!(
            "{}{}{}{}{}{}",
            chance.pick(SCHEMES),
            chance.pick(SLASHES),
            chance.pick(USERS),
            chance.pick(HOSTS),
            chance.pick(PORTS),
            chance.pick(TAILS)
        ),
    };
    text = text.replace("{l}", listed);
    for _ in 0..chance.below(3) {
        text = twisted(&text, chance);
    }
    text
}

fn twisted(text: &str, chance: &mut Chance) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.is_empty() {
        return any_char(chance).to_string();
    }
    let at = chance.below(chars.len());
    let (front, rest) = chars.split_at(at);
    let (front, behind): (String, String) = (front.iter().collect(), rest[1..].iter().collect());
    let it = rest[0];
    let mut bytes = [0; 4];
    let encoded = |percent: &str, upper: bool, it: &str| {
        it.bytes()
            .map(|b| {
                if upper {
                    format!("{percent}{b:02X}")
                } else {
                    format!("{percent}{b:02x}")
                }
            })
            .collect::<String>()
    };
    let it_text = it.encode_utf8(&mut bytes);
    let new = match chance.below(10) {
        0 => format!("{}{it}", any_char(chance)),
        1 => encoded("%", true, it_text),
        2 => encoded("%", false, it_text),
        3 => encoded("%25", true, it_text),
        // over-long UTF-8
        4 if it.is_ascii() => {
            let byte = u32::from(it);
            format!("%{:02x}%{:02x}", 0xc0 | (byte >> 6), 0x80 | (byte & 0x3f))
        }
        5 => it.to_uppercase().collect(),
        6 => format!("{it}{it}"),
        7 => char::from_u32(u32::from(it) + 0xfee0)
            .filter(|_| it.is_ascii_graphic())
            .unwrap_or(it)
            .to_string(),
        8 => String::new(),
        _ => format!(
            "{it}{}",
            chance.pick(&["\t", "\n", "\r", " ", "\0", "\u{feff}", "\u{200d}", "\u{ad}"])
        ),
    };
    front + &new + &behind
}

fn any_char(chance: &mut Chance) -> char {
    let odd = "/\\:@?#.%;&\t\n\r \0\u{7f}\u{80}\u{85}\u{a0}\u{ad}\u{37e}\u{2024}\u{2028}\u{2044}\u{2100}\u{2215}\u{3002}\u{ff0e}\u{ff0f}\u{ff1a}\u{ff20}\u{ff3c}\u{ff61}\u{feff}\u{202e}";
    if chance.once_in(2) {
        odd.chars()
            .nth(chance.below(odd.chars().count()))
            .expect("below the count")
    } else {
        char::from(u8::try_from(32 + chance.below(95)).expect("ASCII"))
    }
}

const SCHEMES: &[&str] = &[
    "",
    "",
    "",
    "",
    "http:",
    "https:",
    "HTTPS:",
    "hTtPs:",
    "https%3a",
    "https%3A%2f%2f",
    " https:",
    "\u{1}https:",
    "\u{feff}https:",
    "ht\ntps:",
    "javascript:",
    "java\tscript:",
    "JaVaScRiPt:",
    "data:text/html,",
    "blob:https:",
    "view-source:https:",
    "file:",
    "ftp:",
    "ws:",
    "wss:",
    "about:",
    "x:",
    "https;",
    "https:https:",
    "//https:",
];
const SLASHES: &[&str] = &[
    "",
    "/",
    "/",
    "//",
    "///",
    "////",
    "\\",
    "\\\\",
    "/\\",
    "\\/",
    "/\\/",
    "//\\",
    "/\t/",
    "/\n/",
    "/\r\n/",
    "/ /",
    "/%09/",
    "/%0a/",
    "/%2f",
    "%2f%2f",
    "/%5c",
    "%5c%5c",
    "/%252f",
    "/%255c",
    "/%c0%af",
    "/%e0%80%af",
    "/./",
    "/.//",
    "/..//",
    "/../",
    "/x/..//",
    "/x/../",
    "/;/",
    "/;",
    "/\u{ff0f}",
    "/\u{2215}",
    "/\u{2044}",
    "/\u{ff3c}",
    "/\0/",
];
const USERS: &[&str] = &[
    "",
    "",
    "",
    "",
    "{l}@",
    "{l}:443@",
    "{l}%40",
    "{l}\\@",
    "{l}#@",
    "{l}?@",
    "{l}/@",
    "{l}%23@",
    "{l};@",
    ":@",
    "@",
    "a:b@",
    "{l}\t@",
    "{l}\u{ff20}",
    "{l}&@",
    "{l}+@",
    "{l},@",
];
const HOSTS: &[&str] = &[
    "evil.example",
    "evil.example",
    "{l}",
    "{l}",
    "evil\u{3002}example",
    "evil\u{ff0e}example",
    "\u{ff45}vil.example",
    "evil%E3%80%82example",
    "evil%00.example",
    "{l}.evil.example",
    "evil.example.{l}",
    "evil{l}",
    "{l}%2eevil.example",
    "{l}.",
    "{l}%00",
    "{l}%09",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "xn--e1awd7f",
    "b\u{fc}cher.example",
    "\u{2488}example",
    "localhost",
    "",
];
const BEHIND_HOST: &[&str] = &[
    ".",
    "@",
    ":@",
    ":443@",
    "\\@",
    "\\.",
    "#@",
    "?@",
    "%40",
    "%00.",
    "%2e",
    "\t.",
    "\n.",
    "-",
    "",
    ";@",
    ":",
    ".:443@",
    "\u{3002}",
    "%E3%80%82",
    "/",
    "//",
    "/\\",
    "/..//",
    "/@",
];
const PORTS: &[&str] = &[
    "",
    "",
    "",
    ":443",
    ":80",
    ":0443",
    ":",
    ":99999",
    ":8443",
    ":443x",
    ":%34%34%33",
];
const TAILS: &[&str] = &[
    "",
    "",
    "/",
    "/x",
    "//",
    "/%2e%2e",
    "/%2e%2e%2f",
    "/%2f..",
    "/..;/",
    "/..",
    "?q",
    "#f",
    "?@{l}",
    "#@{l}",
    "/#@{l}/",
    "/auth/login",
    "/api/x",
    "/x/../auth/login",
    "/%2e%2e/api/x",
    "/\\..\\api",
    "/;/../auth",
    "?return_to=//evil.example",
    "/caf\u{e9}",
    "/a b",
    "/%0d%0aset-cookie:x=y",
    "/\r\nset-cookie:x=y",
];
const SEGMENTS: &[&str] = &[
    "",
    "x",
    "auth",
    "auth/login",
    "AUTH",
    "%61uth",
    "auth;x",
    "auth%2flogin",
    "auth.",
    "api",
    "api/x",
    "%61pi",
    "API",
    "..",
    ".",
    "%2e%2e",
    "..;",
    "..%00",
    "%2e",
    "...",
    "\u{2024}\u{2024}",
    "\u{2025}",
    "~",
    "a@b",
    "a:b",
    "a;b",
    "@evil.example",
    "evil.example",
    "authors",
    "apiary",
    "deep/link",
    "%C3%A9",
    "caf\u{e9}",
    "index.html",
    "?q=1",
    "#frag",
];
