//! How strongly and how lately a user signed in, and what routes demand of it (RFC 9470).
//!
//! What a route demands is decided where the claims are, at sign-in and at each refresh, and kept as a
//! few bytes for each different demand beside the access token ([`Assurance`]): an API call looks for
//! its route's among them, and compares one time. What was not judged counts for nothing, and costs the
//! routes that demand it alone. Nothing here asks for a new sign-in, and a demand that cannot be judged
//! is never taken for met.

use std::time::Duration;

use minicbor::bytes::ByteVec;
use minicbor::{CborLen, Decode, Encode};
use serde_json::{Map, Value};

use crate::config::{ProviderName, defaults};
use crate::error::Error;
use crate::oauth::json;
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

/// The same, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demands {
    /// As written.
    pub wanted: DemandsConfig,
    /// What is judged at a sign-in; none where nothing is but the time.
    id: Option<DemandId>,
}

/// Names what a route demands of claims and scopes: for every route and every instance that demands
/// the same, in whatever order it is written, and however lately the user has to have signed in.
pub(crate) type DemandId = [u8; 5];

/// What is known of a sign-in, in the terms of the demands that were configured when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub(crate) struct Assurance {
    // 0 and 1 were one digest of all routes' demands, and what was met of them by the routes' places
    #[n(2)]
    auth_time: Option<u64>,
    /// For each different demand its [`DemandId`] and one byte: [`ACR`], [`SCOPES`] and [`CLAIMS`].
    #[n(3)]
    judged: Option<ByteVec>,
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
            // a NumericDate may have a fraction (RFC 7519 §2)
            auth_time: claims
                .get("auth_time")
                .and_then(Value::as_number)
                .map(|at| UnixTime(json::seconds(at))),
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

impl Assurance {
    /// Judges a sign-in by all demands of an application; none where there are none.
    pub(crate) fn judge<'a>(
        demands: impl Iterator<Item = &'a Demands>,
        authentication: &Authentication,
        scope: &str,
        claims: &Map<String, Value>,
    ) -> Option<Self> {
        let mut demands = demands.peekable();
        demands.peek()?;
        let mut judged = Vec::new();
        for Demands { wanted, id } in demands {
            let Some(id) = id.filter(|id| met(&judged, *id).is_none()) else {
                continue;
            };
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
            judged.extend_from_slice(&id);
            judged.push(bits.iter().filter(|(met, _)| *met).map(|(_, bit)| bit).sum());
        }
        Some(Self {
            auth_time: authentication.auth_time.map(|at| at.0),
            judged: (!judged.is_empty()).then(|| ByteVec::from(judged)),
        })
    }

    fn met(&self, id: DemandId) -> Option<u8> {
        met(self.judged.as_deref()?, id)
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
    pub(crate) fn new(wanted: DemandsConfig) -> Self {
        let sorted = |all: &[String]| -> Vec<String> {
            let mut all = all.to_vec();
            all.sort();
            all.dedup();
            all
        };
        let (acr, scopes) = (sorted(&wanted.acr), sorted(&wanted.scopes));
        let claims = wanted.claims.iter();
        let mut claims: Vec<_> = claims.map(|(name, values)| (name, sorted(values))).collect();
        claims.sort();
        let is_judged = !(acr.is_empty() && scopes.is_empty() && claims.is_empty());
        let [a, b, c, d, e, ..] = digest8("demand", format!("{acr:?}{scopes:?}{claims:?}").as_bytes());
        let id = is_judged.then_some([a, b, c, d, e]);
        Self { wanted, id }
    }

    /// That this provider issued the session's tokens: judged true with those alone, so whoever knows the
    /// judgement knows the provider.
    pub(crate) fn issued_by(name: Option<&ProviderName>, issuer: &str, client_id: &str) -> Self {
        let identity = format!("{:?}", (name.map(ProviderName::as_str), issuer, client_id));
        let [a, b, c, d, e, ..] = digest8("demanded provider", identity.as_bytes());
        Self {
            wanted: DemandsConfig::default(),
            id: Some([a, b, c, d, e]),
        }
    }

    /// What is judged of it at a sign-in and a refresh; none where nothing is but the time.
    pub(crate) fn id(&self) -> Option<DemandId> {
        self.id
    }

    /// Whether whoever meets these meets the others for certain.
    pub(crate) fn cover(&self, other: &Self) -> bool {
        let ages = (self.wanted.max_age, other.wanted.max_age);
        let as_lately = ages.1.is_none_or(|other| ages.0.is_some_and(|own| own <= other));
        as_lately && (other.id.is_none() || self.id == other.id)
    }

    /// Whether this was judged when what is known was written.
    pub(crate) fn knows(&self, assurance: Option<&Assurance>) -> bool {
        assurance.is_some_and(|known| self.id.is_none_or(|id| known.met(id).is_some()))
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
        let known = assurance.ok_or_else(step_up)?;
        let met = match self.id {
            Some(id) => known.met(id).ok_or_else(step_up)?,
            None => ACR | SCOPES | CLAIMS,
        };
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

/// What of one demand is met; none where it was not judged.
fn met(judged: &[u8], id: DemandId) -> Option<u8> {
    let mut all = judged.chunks_exact(id.len().saturating_add(1));
    all.find_map(|one| one.strip_prefix(&id)?.first().copied())
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
        written.into_iter().map(Demands::new).collect()
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
            (age(300), json!({"auth_time": 1_899_999_700.5}), "passes"),
            (age(300), json!({"auth_time": 1_899_999_699.9}), "step-up"),
            (age(300), json!({"auth_time": -1.5}), "step-up"),
            (age(300), json!({"auth_time": 1e300}), "step-up"),
            (age(300), json!({"auth_time": null}), "step-up"),
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

    fn acr(values: &[&str]) -> DemandsConfig {
        DemandsConfig {
            acr: texts(values),
            ..DemandsConfig::default()
        }
    }

    fn judged(demands: &[Demands], claims: &Value) -> Option<Assurance> {
        let claims = claims.as_object().unwrap();
        let known = Assurance::judge(demands.iter(), &Authentication::of(claims), "", claims)?;
        Assurance::decode(&known.encode())
    }

    #[test]
    fn what_was_judged_by_other_demands_counts_for_nothing() {
        let claims = json!({"acr": "gold"});
        let before = demands(vec![acr(&["gold"])]);
        let after = demands(vec![acr(&["gold", "platinum"])]);
        assert!(before[0].check(judged(&before, &claims).as_ref(), NOW).is_ok());
        for known in [judged(&before, &claims), None] {
            assert!(!after[0].knows(known.as_ref()));
            let refused = after[0].check(known.as_ref(), NOW);
            assert!(matches!(refused, Err(Error::StepUpRequired { .. })));
        }
        assert_eq!(judged(&[], &claims), None);
    }

    /// A deployment that changes one route, or an instance that has some of the routes alone.
    #[test]
    fn a_demand_is_known_whatever_else_is_demanded() {
        let claims = json!({"acr": "gold", "auth_time": NOW.0});
        let late = |seconds, wanted: DemandsConfig| DemandsConfig {
            max_age: Some(Duration::from_secs(seconds)),
            ..wanted
        };
        let all = demands(vec![acr(&["silver"]), acr(&["gold", "a"]), late(60, acr(&[]))]);
        let known = judged(&all, &claims);
        for (wanted, good) in [
            (acr(&["silver"]), false),
            (acr(&["gold", "a"]), true),
            (acr(&["a", "gold", "a"]), true),
            (late(5, acr(&["a", "gold"])), true),
            (late(5, acr(&[])), true),
        ] {
            let [one] = &demands(vec![wanted])[..] else {
                panic!("it is one")
            };
            assert!(one.knows(known.as_ref()), "{one:?}");
            assert_eq!(one.check(known.as_ref(), NOW).is_ok(), good, "{one:?}");
        }
        for wanted in [acr(&["gold"]), acr(&["a", "gold", "silver"])] {
            assert!(!Demands::new(wanted).knows(known.as_ref()));
        }
    }

    #[test]
    fn who_meets_one_meets_what_is_equal_or_earlier() {
        let lately = |seconds: Option<u64>, values: &[&str]| {
            Demands::new(DemandsConfig {
                max_age: seconds.map(Duration::from_secs),
                ..acr(values)
            })
        };
        for (one, other, expected) in [
            (lately(Some(60), &["a"]), lately(Some(60), &["a"]), true),
            (lately(Some(60), &["a"]), lately(Some(61), &["a"]), true),
            (lately(Some(61), &["a"]), lately(Some(60), &["a"]), false),
            (lately(None, &["a"]), lately(Some(60), &["a"]), false),
            (lately(Some(60), &["a"]), lately(None, &["a"]), true),
            (lately(Some(60), &["a"]), lately(Some(60), &[]), true),
            (lately(Some(60), &[]), lately(Some(60), &["a"]), false),
            (lately(None, &["a"]), lately(None, &["b"]), false),
        ] {
            assert_eq!(one.cover(&other), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn equal_demands_are_judged_once_and_each_takes_eight_characters_of_a_cookie() {
        let one = judged(&demands(vec![acr(&["gold"]); 9]), &json!({})).unwrap();
        assert_eq!(one.judged.map(|judged| judged.len()), Some(6));
        let many: Vec<_> = (0..defaults::MAX_DEMANDS)
            .map(|number| acr(&[&number.to_string()]))
            .collect();
        let many = judged(&demands(many), &json!({})).unwrap();
        assert!(many.encode().len() * 4 / 3 < 300, "{}", many.encode().len());
    }

    /// One digest over all routes, and a byte for each of them: nothing of it is believed.
    #[test]
    fn what_an_earlier_version_judged_is_judged_again() {
        let earlier = b"\x83\x48\x01\x02\x03\x04\x05\x06\x07\x08\x41\x07\x1a\x71\x3f\xb3\x00";
        let known = Assurance::decode(earlier);
        assert_eq!(known.as_ref().and_then(|known| known.auth_time), Some(NOW.0));
        assert!(!Demands::new(acr(&["gold"])).knows(known.as_ref()));
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
