//! The payload families of public lists, written out from `tests/payloads/open_redirect.txt`. What they
//! are worth is not judged here.

/// Every payload of the families, with `listed` as the listed host.
pub(crate) fn payloads(listed: &str) -> Vec<String> {
    let families = include_str!("../../payloads/open_redirect.txt");
    families
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .flat_map(|line| expanded(line, listed))
        .collect()
}

fn expanded(line: &str, listed: &str) -> Vec<String> {
    for (placeholder, parts) in [
        ("{s}", SLASHES),
        ("{c}", COVERS),
        ("{u}", USERS),
        ("{e}", HOSTS),
        ("{i}", NUMBERS),
        ("{t}", TAILS),
    ] {
        if line.contains(placeholder) {
            return parts
                .iter()
                .flat_map(|part| expanded(&line.replacen(placeholder, part, 1), listed))
                .collect();
        }
    }
    vec![line.replace("{l}", listed)]
}

const SLASHES: &[&str] = &[
    "//",
    "///",
    "////",
    "/////",
    "https://",
    "https:",
    "https:///",
    "/https://",
    "/https:///",
    "//https://",
    "//https:///",
    "/http://",
    "http://",
    "/http:/",
    "/",
];
const COVERS: &[&str] = &[
    "/%09/",
    "//%09/",
    "///%09/",
    "////%09/",
    "https://%09/",
    "/https://%09/",
    "/%5c",
    "//%5c",
    "///%5c",
    "////%5c",
    "https://%5c",
    "/https://%5c",
    "/https:/%5c",
    "/%2f%2f",
    "/%2f%2f%2f",
    "//%2fx",
    "\\/\\/",
    "/\\/",
    "/\\/\\/",
    "/\\",
    "\\\\",
    "///\\;@",
    "////\\;@",
    "//;@",
    "http://;@",
    "/;@",
    "<>//",
    "/<>//",
    "@",
    ".",
    "/.",
    "〱",
    "〵",
    "ゝ",
    "ー",
    "ｰ",
    "/〱",
    "/〵",
    "/ゝ",
    "/ー",
    "/ｰ",
    "//",
    "///",
    "/",
    "/\t/",
    "/\n/",
    "/\r\n/",
    "/\u{ff0f}",
    "/\u{2215}",
    "\u{ff0f}\u{ff0f}",
    "/\u{ff3c}",
    "https:\u{ff0f}\u{ff0f}",
];
const USERS: &[&str] = &["", "{l}@", "3H6k7lIAiqjfNeN@", "XY>.7d8T\\205pZM@"];
const HOSTS: &[&str] = &["google.com", "www.google.com", "localdomain.pw", "evil.example"];
const NUMBERS: &[&str] = &[
    "0xd8.0x3a.0xd6.0xce",
    "0xd83ad6ce",
    "3627734734",
    "472.314.470.462",
    "0330.072.0326.0316",
    "00330.00072.0000326.00000316",
    "[::216.58.214.206]",
    "[::ffff:216.58.214.206]",
    "0xd8.072.54990",
    "0xd8.3856078",
    "00330.3856078",
    "00330.0x3a.54990",
    "127.1",
    "0",
    "[::1]",
];
const TAILS: &[&str] = &[
    "",
    "/",
    "//",
    "/%2e%2e",
    "/%2e%2e%2f",
    "/%2f..",
    "/%2f%2e%2e",
    "/..;/",
    "?",
    "#",
    "/..",
];
