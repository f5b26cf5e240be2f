//! How strongly and how lately a user signed in, and what routes demand of it (RFC 9470).
//!
//! What a route demands is decided where the claims are, at sign-in and at each refresh, and kept as a
//! few bits beside the access token ([`Assurance`]): an API call compares them and one time. Bits that
//! were made under other demands count for nothing. Nothing here asks for a new sign-in, and a
//! demand that cannot be judged is never taken for met.

use std::time::Duration;

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{CborLen, Decode, Encode};
use serde_json::{Map, Value};

use crate::config::defaults;
use crate::error::Error;
use crate::seal::digest8;
use crate::time::UnixTime;

/// What a route demands as written: all of it has to be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DemandsConfig {
    /// One of these authentication context classes (`acr`); none: any.
    pub acr: Vec<String>,
    /// How long ago the user may have authenticated at the provider (`auth_time`).
    pub max_age: Option<Duration>,
    /// Scopes that were granted at sign-in, all of them.
    pub scopes: Vec<String>,
    /// Claims of the ID token, each with one of these values.
    pub claims: Vec<(String, Vec<String>)>,
}

/// The same, checked, with its place among all of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demands {
    /// As written.
    pub wanted: DemandsConfig,
    place: usize,
    /// Names all demands of the application.
    rules: [u8; 8],
}

/// What is known of a sign-in, in the terms of the demands that were configured when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub(crate) struct Assurance {
    #[n(0)]
    rules: ByteArray<8>,
    /// One byte for each route that demands something: [`ACR`], [`SCOPES`] and [`CLAIMS`].
    #[n(1)]
    met: ByteVec,
    #[n(2)]
    auth_time: Option<u64>,
}

/// How and when the user authenticated, as far as the provider ever said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Authentication {
    /// OIDC Core §2.
    pub(crate) acr: Option<String>,
    /// OIDC Core §2.
    pub(crate) auth_time: Option<UnixTime>,
}

impl Authentication {
    /// What an ID token says of it.
    pub(crate) fn of(claims: &Map<String, Value>) -> Self {
        Self {
            acr: claims.get("acr").and_then(Value::as_str).map(str::to_owned),
            auth_time: claims.get("auth_time").and_then(Value::as_u64).map(UnixTime),
        }
    }

    /// The same after a refresh: what the new ID token is silent about stays (OIDC Core §12.2).
    #[must_use]
    pub(crate) fn or(self, earlier: &Self) -> Self {
        Self {
            acr: self.acr.or_else(|| earlier.acr.clone()),
            auth_time: self.auth_time.or(earlier.auth_time),
        }
    }
}

/// Gives the demands of an application their places; `written` is in the order of its routes.
pub(crate) fn number(written: Vec<Option<DemandsConfig>>) -> Vec<Option<Demands>> {
    let all: Vec<&DemandsConfig> = written.iter().flatten().collect();
    let rules = digest8("demands", format!("{all:?}").as_bytes());
    let mut places = 0..;
    written
        .into_iter()
        .map(|wanted| {
            let wanted = wanted?;
            let place = places.next()?;
            Some(Demands { wanted, place, rules })
        })
        .collect()
}

impl Assurance {
    /// Judges a sign-in by all demands of an application; none where there are none.
    pub(crate) fn judge<'a>(
        demands: impl Iterator<Item = &'a Demands>,
        authentication: &Authentication,
        scope: &str,
        claims: &Map<String, Value>,
    ) -> Option<Self> {
        let mut rules = None;
        let mut met = Vec::new();
        for Demands {
            wanted, rules: all, ..
        } in demands
        {
            rules = Some(*all);
            let acr = authentication.acr.as_ref();
            let acr = wanted.acr.is_empty() || acr.is_some_and(|acr| wanted.acr.contains(acr));
            let scopes = wanted
                .scopes
                .iter()
                .all(|scope_wanted| scope.split(' ').any(|granted| granted == scope_wanted));
            let claims = wanted
                .claims
                .iter()
                .all(|(name, values)| claims.get(name).is_some_and(|claim| is_one_of(claim, values)));
            let bits = [(acr, ACR), (scopes, SCOPES), (claims, CLAIMS)];
            met.push(bits.iter().filter(|(met, _)| *met).map(|(_, bit)| bit).sum());
        }
        rules.map(|rules| Self {
            rules: ByteArray::from(rules),
            met: ByteVec::from(met),
            auth_time: authentication.auth_time.map(|at| at.0),
        })
    }

    /// The same as bytes, for a record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).unwrap_or_default()
    }

    /// The reverse.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }
}

impl Demands {
    /// Whether this is judged by what is known: by the demands of this configuration.
    pub(crate) fn knows(&self, assurance: Option<&Assurance>) -> bool {
        assurance.is_some_and(|known| *known.rules == self.rules && known.met.len() > self.place)
    }

    /// Whether a call may pass.
    ///
    /// # Errors
    /// [`Error::StepUpRequired`] where a stronger or a later sign-in helps (RFC 9470 §3),
    /// [`Error::InsufficientScope`] (RFC 6750 §3.1), [`Error::Forbidden`] for a claim.
    pub(crate) fn check(&self, assurance: Option<&Assurance>, now: UnixTime) -> Result<(), Error> {
        let wanted = &self.wanted;
        let step_up = || Error::StepUpRequired {
            acr_values: (!wanted.acr.is_empty()).then(|| wanted.acr.join(" ")),
            max_age: wanted.max_age.map(|age| age.as_secs()),
        };
        let known = assurance.filter(|_| self.knows(assurance)).ok_or_else(step_up)?;
        let met = known.met.get(self.place).copied().unwrap_or_default();
        // what no sign-in can change is said first, or users would sign in for nothing
        if met & CLAIMS == 0 {
            return Err(Error::Forbidden(
                "the route demands a claim that this user does not have",
            ));
        }
        if met & SCOPES == 0 {
            return Err(Error::InsufficientScope {
                scope: wanted.scopes.join(" "),
            });
        }
        // milliseconds, or a clock far ahead, would be recent for ever
        let is_known = |at: &u64| UnixTime(*at) <= now.plus(MAX_AHEAD);
        let auth_time = known.auth_time.filter(is_known).map(UnixTime);
        let lately = wanted
            .max_age
            .is_none_or(|age| auth_time.is_some_and(|at| at.plus(age) >= now));
        match met & ACR != 0 && lately {
            true => Ok(()),
            false => Err(step_up()),
        }
    }
}

/// A text, a number or a truth value that is listed, or a list that has one of them.
fn is_one_of(claim: &Value, values: &[String]) -> bool {
    match claim {
        Value::String(text) => values.contains(text),
        Value::Bool(_) | Value::Number(_) => values.contains(&claim.to_string()),
        Value::Array(several) => several
            .iter()
            .any(|one| !one.is_array() && is_one_of(one, values)),
        Value::Null | Value::Object(_) => false,
    }
}

/// No clock that anybody trusts is further ahead.
const MAX_AHEAD: Duration = defaults::MAX_LEEWAY;

const ACR: u8 = 1;
const SCOPES: u8 = 2;
const CLAIMS: u8 = 4;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: UnixTime = UnixTime(1_900_000_000);

    fn demands(written: Vec<DemandsConfig>) -> Vec<Demands> {
        number(written.into_iter().map(Some).collect())
            .into_iter()
            .flatten()
            .collect()
    }

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|&text| text.to_owned()).collect()
    }

    fn outcome(wanted: DemandsConfig, claims: &Value, scope: &str) -> &'static str {
        let demands = demands(vec![DemandsConfig::default(), wanted]);
        let claims = claims.as_object().unwrap();
        let known = Assurance::judge(demands.iter(), &Authentication::of(claims), scope, claims).unwrap();
        let known = Assurance::decode(&known.encode());
        assert_eq!(
            demands[0].check(known.as_ref(), NOW),
            Ok(()),
            "nothing is demanded"
        );
        match demands[1].check(known.as_ref(), NOW) {
            Ok(()) => "passes",
            Err(Error::StepUpRequired { .. }) => "step-up",
            Err(Error::InsufficientScope { .. }) => "scope",
            Err(Error::Forbidden(_)) => "forbidden",
            Err(_) => "another error",
        }
    }

    #[test]
    fn each_demand_is_judged_by_what_the_provider_said() {
        let acr = |values: &[&str]| DemandsConfig {
            acr: texts(values),
            ..DemandsConfig::default()
        };
        let age = |seconds| DemandsConfig {
            max_age: Some(Duration::from_secs(seconds)),
            ..DemandsConfig::default()
        };
        let scopes = |values: &[&str]| DemandsConfig {
            scopes: texts(values),
            ..DemandsConfig::default()
        };
        let claim = |name: &str, values: &[&str]| DemandsConfig {
            claims: vec![(name.to_owned(), texts(values))],
            ..DemandsConfig::default()
        };
        let at = |seconds: u64| json!({"auth_time": NOW.0 - seconds});
        let cases = [
            (acr(&["gold"]), json!({"acr": "gold"}), "passes"),
            (acr(&["silver", "gold"]), json!({"acr": "gold"}), "passes"),
            (acr(&["gold"]), json!({"acr": "Gold"}), "step-up"),
            (acr(&["gold"]), json!({"acr": ["gold"]}), "step-up"),
            (acr(&["gold"]), json!({}), "step-up"),
            (age(300), at(300), "passes"),
            (age(300), at(301), "step-up"),
            (age(300), json!({}), "step-up"),
            (age(300), json!({"auth_time": "now"}), "step-up"),
            (age(300), json!({"auth_time": NOW.0 + 60}), "passes"),
            (age(300), json!({"auth_time": NOW.0 * 1000}), "step-up"),
            (scopes(&["orders"]), json!({}), "passes"),
            (scopes(&["orders", "openid"]), json!({}), "passes"),
            (scopes(&["order"]), json!({}), "scope"),
            (scopes(&["orders", "admin"]), json!({}), "scope"),
            (claim("role", &["admin"]), json!({"role": "admin"}), "passes"),
            (claim("role", &["a", "b"]), json!({"role": "b"}), "passes"),
            (
                claim("role", &["admin"]),
                json!({"role": ["user", "admin"]}),
                "passes",
            ),
            (claim("role", &["admin"]), json!({"role": "user"}), "forbidden"),
            (
                claim("role", &["admin"]),
                json!({"role": "administrator"}),
                "forbidden",
            ),
            (
                claim("role", &["admin"]),
                json!({"role": [["admin"]]}),
                "forbidden",
            ),
            (
                claim("role", &["admin"]),
                json!({"role": {"admin": true}}),
                "forbidden",
            ),
            (claim("role", &["admin"]), json!({}), "forbidden"),
            (claim("role", &[""]), json!({"role": null}), "forbidden"),
            (
                claim("email_verified", &["true"]),
                json!({"email_verified": true}),
                "passes",
            ),
            (
                claim("email_verified", &["true"]),
                json!({"email_verified": false}),
                "forbidden",
            ),
            (claim("level", &["3"]), json!({"level": 3}), "passes"),
        ];
        for (wanted, claims, expected) in cases {
            let shown = format!("{wanted:?} {claims}");
            assert_eq!(outcome(wanted, &claims, "openid orders"), expected, "{shown}");
        }
    }

    #[test]
    fn nobody_is_sent_to_sign_in_for_nothing() {
        let wanted = DemandsConfig {
            acr: texts(&["gold"]),
            max_age: Some(Duration::from_secs(60)),
            scopes: texts(&["admin"]),
            claims: vec![("role".to_owned(), texts(&["admin"]))],
        };
        let all = json!({"acr": "gold", "auth_time": NOW.0, "role": "admin"});
        assert_eq!(outcome(wanted.clone(), &all, "admin"), "passes");
        assert_eq!(outcome(wanted.clone(), &json!({}), "admin"), "forbidden");
        assert_eq!(outcome(wanted.clone(), &json!({"role": "admin"}), ""), "scope");
        assert_eq!(outcome(wanted, &json!({"role": "admin"}), "admin"), "step-up");
    }

    #[test]
    fn what_was_judged_by_other_demands_counts_for_nothing() {
        let gold = DemandsConfig {
            acr: texts(&["gold"]),
            ..DemandsConfig::default()
        };
        let claims = json!({"acr": "gold"});
        let claims = claims.as_object().unwrap();
        let judged =
            |demands: &[Demands]| Assurance::judge(demands.iter(), &Authentication::of(claims), "", claims);
        let before = demands(vec![gold.clone()]);
        let after = demands(vec![gold.clone(), gold]);
        assert!(before[0].check(judged(&before).as_ref(), NOW).is_ok());
        for known in [judged(&before), None] {
            assert!(!after[0].knows(known.as_ref()));
            let refused = after[0].check(known.as_ref(), NOW);
            assert!(matches!(refused, Err(Error::StepUpRequired { .. })));
        }
        assert_eq!(judged(&[]), None);
    }

    #[test]
    fn a_refresh_that_is_silent_changes_nothing() {
        let first = Authentication {
            acr: Some("gold".to_owned()),
            auth_time: Some(NOW),
        };
        assert_eq!(Authentication::default().or(&first), first);
        let lower = Authentication {
            acr: Some("bronze".to_owned()),
            auth_time: None,
        };
        assert_eq!(lower.clone().or(&first).acr, lower.acr);
    }
}
