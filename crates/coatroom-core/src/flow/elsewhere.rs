//! Claims that are elsewhere (OIDC Core §5.6.2): the ID token says where instead of what.
//!
//! Entra does so for a user of many groups (`_claim_names`, `_claim_sources`, or `hasgroups`): then
//! `groups` is not there although the user has some. Whoever is to see such a claim is told that it is
//! elsewhere, so that nobody takes it for empty. A token with which it could be had is never shown, and
//! nothing here fetches a claim.

use serde_json::{Map, Value};

/// Keeps the claims that are wanted, and what says of one of them that it is elsewhere.
pub(super) fn keep(claims: &mut Map<String, Value>, wanted: &[String]) {
    let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == name);
    let mut sources: Vec<String> = Vec::new();
    if let Some(Value::Object(names)) = claims.get_mut(NAMES) {
        names.retain(|name, _| is_wanted(name));
        sources.extend(names.values().filter_map(Value::as_str).map(str::to_owned));
    }
    if let Some(Value::Object(known)) = claims.get_mut(SOURCES) {
        known.retain(|source, _| sources.contains(source));
    }
    claims.retain(|name, _| match name.as_str() {
        NAMES | SOURCES => !sources.is_empty(),
        HAS_GROUPS => is_wanted(HAS_GROUPS) || is_wanted(GROUPS),
        name => is_wanted(name),
    });
}

/// Takes out the tokens that lead to claims elsewhere.
pub(super) fn without_tokens(claims: &mut Map<String, Value>) {
    let Some(sources) = claims.get_mut(SOURCES) else {
        return;
    };
    match sources {
        Value::Object(sources) => {
            for source in sources.values_mut() {
                match source {
                    Value::Object(source) => source.retain(|name, _| SHOWN.contains(&name.as_str())),
                    // what this is nobody knows
                    other => *other = Value::Null,
                }
            }
        }
        other => *other = Value::Null,
    }
}

/// What a source says beside a token (OIDC Core §5.6.2).
const SHOWN: [&str; 2] = ["JWT", "endpoint"];

const NAMES: &str = "_claim_names";
const SOURCES: &str = "_claim_sources";

/// Entra's word for the same where a token had to be short; no specification has it.
const HAS_GROUPS: &str = "hasgroups";
const GROUPS: &str = "groups";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn overage() -> Value {
        json!({
            "sub": "ann",
            "hasgroups": true,
            "_claim_names": {"groups": "src1", "address": "src2"},
            "_claim_sources": {
                "src1": {"endpoint": "https://graph.example/groups", "access_token": "canary"},
                "src2": {"JWT": "a.b.c"},
            },
        })
    }

    #[test]
    fn who_wants_a_claim_is_told_that_it_is_elsewhere() {
        let kept = |wanted: &[&str]| {
            let mut claims = overage().as_object().expect("an object").clone();
            let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
            keep(&mut claims, &wanted);
            without_tokens(&mut claims);
            Value::Object(claims)
        };
        assert_eq!(kept(&["sub"]), json!({"sub": "ann"}));
        assert_eq!(
            kept(&["groups"]),
            json!({
                "hasgroups": true,
                "_claim_names": {"groups": "src1"},
                "_claim_sources": {"src1": {"endpoint": "https://graph.example/groups"}},
            })
        );
        assert_eq!(
            kept(&["sub", "address"]),
            json!({
                "sub": "ann",
                "_claim_names": {"address": "src2"},
                "_claim_sources": {"src2": {"JWT": "a.b.c"}},
            })
        );
        assert_eq!(kept(&["hasgroups"]), json!({"hasgroups": true}));
    }

    #[test]
    fn no_token_for_a_claim_is_shown_in_whatever_shape() {
        for sources in [
            json!({"a": {"access_token": "canary", "endpoint": "https://x"}}),
            json!({"a": {"inner": {"access_token": "canary"}}}),
            json!({"a": "canary"}),
            json!({"a": ["canary"]}),
            json!("canary"),
            json!(["canary"]),
        ] {
            let mut claims = Map::new();
            claims.insert("_claim_sources".to_owned(), sources.clone());
            without_tokens(&mut claims);
            assert!(!Value::Object(claims).to_string().contains("canary"), "{sources}");
        }
    }
}
