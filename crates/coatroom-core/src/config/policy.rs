//! What a Content-Security-Policy of the operator's own leaves open.
//!
//! Content Security Policy Level 3. It looks for what obviously defeats a policy and proves nothing;
//! it changes no policy, and repeats nothing of one but the names and sources that it knows.

/// What a policy of the operator's own leaves open: sentences without a period. Empty is good.
///
/// It looks for what obviously defeats a policy, and proves nothing.
pub fn policy_weaknesses(policy: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut directives: Vec<(String, Vec<String>)> = Vec::new();
    let written = policy.split(';').filter(|directive| !directive.trim().is_empty());
    for (place, directive) in (1_usize..).zip(written) {
        let mut words = directive.split_ascii_whitespace().map(str::to_ascii_lowercase);
        let Some(name) = words.next() else { continue };
        if !DIRECTIVES.contains(&name.as_str()) {
            found.push(format!(
                "directive {place} is none that browsers know, they ignore it"
            ));
        } else if directives.iter().any(|(known, _)| *known == name) {
            found.push(format!("`{name}` is there twice, browsers ignore the second one"));
        } else {
            directives.push((name, words.collect()));
        }
    }
    let of = |names: &[&str]| {
        names.iter().find_map(|name| {
            directives
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, sources)| sources.as_slice())
        })
    };
    match of(&["script-src-elem", "script-src", "default-src"]) {
        None => found.push("neither `script-src` nor `default-src` is there: every script runs".to_owned()),
        Some(sources) => {
            let has = |begin: &str| sources.iter().any(|source| source.starts_with(begin));
            let vouched = has("'sha256-") || has("'sha384-") || has("'sha512-") || has("'nonce-");
            if has("'nonce-") {
                found.push(
                    "a nonce that is the same for every page is known to an attacker; write hashes"
                        .to_owned(),
                );
            }
            if has("'unsafe-inline'") && !vouched {
                found.push("`'unsafe-inline'` lets injected scripts run".to_owned());
            }
            for wide in ["*", "https:", "http:", "data:", "blob:"] {
                if sources.iter().any(|source| source == wide) {
                    found.push(format!("scripts are allowed from `{wide}`, which is anybody"));
                }
            }
        }
    }
    if of(&["script-src", "default-src"]).is_some_and(|sources| sources.iter().any(|s| s == "'unsafe-eval'"))
    {
        found.push("`'unsafe-eval'` lets injected text run as a script".to_owned());
    }
    let objects = of(&["object-src", "default-src"]);
    if objects.is_none_or(|sources| sources.iter().any(|source| WIDE.contains(&source.as_str()))) {
        found.push("`object-src` leaves plug-ins open; write `object-src 'none'`".to_owned());
    }
    if of(&["base-uri"]).is_none() {
        found.push("without `base-uri` an injected `<base>` moves every relative address".to_owned());
    }
    if of(&["frame-ancestors"]).is_none() {
        found.push("without `frame-ancestors` every site can put the pages into a frame".to_owned());
    }
    found
}

/// CSP Level 3 §6, with the reporting and upgrading directives beside it.
const DIRECTIVES: [&str; 28] = [
    "base-uri",
    "block-all-mixed-content",
    "child-src",
    "connect-src",
    "default-src",
    "fenced-frame-src",
    "font-src",
    "form-action",
    "frame-ancestors",
    "frame-src",
    "img-src",
    "manifest-src",
    "media-src",
    "object-src",
    "prefetch-src",
    "report-to",
    "report-uri",
    "require-trusted-types-for",
    "sandbox",
    "script-src",
    "script-src-attr",
    "script-src-elem",
    "style-src",
    "style-src-attr",
    "style-src-elem",
    "trusted-types",
    "upgrade-insecure-requests",
    "worker-src",
];

/// Sources that are anybody.
const WIDE: [&str; 4] = ["*", "https:", "http:", "data:"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_defeats_a_policy_is_found() {
        let rest = "; object-src 'none'; base-uri 'self'; frame-ancestors 'none'";
        for (policy, found) in [
            ("default-src 'self'", ""),
            ("script-src 'self'", ""),
            ("script-src 'self' 'unsafe-inline'", "'unsafe-inline'"),
            ("script-src 'self' 'unsafe-inline' 'sha256-abc'", ""),
            ("default-src 'unsafe-inline'", "'unsafe-inline'"),
            (
                "script-src 'self'; script-src-elem 'unsafe-inline'",
                "'unsafe-inline'",
            ),
            ("SCRIPT-SRC 'SELF' 'Unsafe-Inline'", "'unsafe-inline'"),
            ("script-src 'self' 'unsafe-eval'", "'unsafe-eval'"),
            ("script-src *", "`*`"),
            ("script-src https:", "`https:`"),
            ("script-src 'self' data:", "`data:`"),
            ("script-src 'nonce-abc'", "nonce"),
            ("style-src 'self'", "every script runs"),
            ("script-scr 'self'; default-src 'self'", "directive 1 is none"),
            ("default-src 'self'; hunter2 'self'", "directive 2 is none"),
            ("; ; default-src 'self'; hunter2", "directive 2 is none"),
            ("script-src 'self'; script-src *", "twice"),
        ] {
            let weak = policy_weaknesses(&format!("{policy}{rest}"));
            assert!(!weak.concat().contains("hunter2"), "{weak:?}");
            match found {
                "" => assert!(weak.is_empty(), "{policy}: {weak:?}"),
                text => assert!(
                    weak.len() == 1 && weak.iter().all(|w| w.contains(text)),
                    "{policy}: {weak:?}"
                ),
            }
        }
        let bare = policy_weaknesses("script-src 'self'");
        assert_eq!(bare.len(), 3, "{bare:?}");
    }
}
