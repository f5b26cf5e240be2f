//! Logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.4 to §2.6).
//!
//! A [`LogoutToken`] exists only after the signature and every claim were checked: it is the one way
//! by which a provider says, without a browser, that sessions have ended. Signature, keys and
//! algorithms are those of ID tokens (`id_token`), `none` and symmetric ones do not exist. An ID
//! token, an access token or another event is never taken for one: `events` must name this event,
//! and a `nonce` is forbidden. Whether a token was used before is not known here; until when that has
//! to be remembered is. No error repeats a claim.

use std::time::Duration;

use serde_json::{Map, Value};

use super::id_token::{self, IdTokenFailure, Signed};
use super::jwk::JwkSet;
use super::metadata::Metadata;
use crate::secret::Secret;
use crate::time::UnixTime;

/// What a logout token has to say.
pub(crate) struct Expected<'a> {
    /// Our client id: the audience.
    pub(crate) client_id: &'a str,
    /// Tolerated clock difference.
    pub(crate) leeway: Duration,
    /// Whether `exp` may be missing: the final specification requires it, some providers send none.
    pub(crate) without_exp: bool,
}

/// A logout token that passed every check. Personal data: no `Debug`.
pub(crate) struct LogoutToken {
    issuer: String,
    sub: Option<String>,
    sid: Option<String>,
    jti: String,
    issued_at: UnixTime,
    accepted_until: UnixTime,
}

impl LogoutToken {
    /// Whose it is: the configured issuer.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The user.
    pub(crate) fn sub(&self) -> Option<&str> {
        self.sub.as_deref()
    }

    /// The session at the provider; without one all sessions of the user are meant.
    pub(crate) fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// What tells it from every other token of this issuer.
    pub(crate) fn jti(&self) -> &str {
        &self.jti
    }

    /// When it was issued, by the provider's clock.
    pub(crate) fn issued_at(&self) -> UnixTime {
        self.issued_at
    }

    /// From this time on nobody accepts it any more, so that its `jti` may be forgotten.
    pub(crate) fn accepted_until(&self) -> UnixTime {
        self.accepted_until
    }
}

/// Verifies a logout token (§2.6).
///
/// # Errors
/// [`IdTokenFailure::UnknownKey`] when fresh keys may help, else [`IdTokenFailure::Invalid`].
pub(crate) fn verify(
    raw: &Secret,
    expected: &Expected<'_>,
    keys: &JwkSet,
    metadata: &Metadata,
    now: UnixTime,
) -> Result<LogoutToken, IdTokenFailure> {
    let Signed { header, claims, .. } = id_token::check_signature(raw, keys, metadata)?;
    check(&header, &claims, expected, metadata, now).map_err(IdTokenFailure::Invalid)
}

fn check(
    header: &Map<String, Value>,
    claims: &Map<String, Value>,
    expected: &Expected<'_>,
    metadata: &Metadata,
    now: UnixTime,
) -> Result<LogoutToken, &'static str> {
    check_type(header.get("typ"))?;
    id_token::check_issuer_and_audience(claims, expected.client_id, metadata)?;
    match claims.get("events") {
        None => return Err("`events` is missing: it is another token than a logout token"),
        Some(Value::Object(events)) if events.get(EVENT).is_some_and(Value::is_object) => {}
        Some(Value::Object(events)) if events.contains_key(EVENT) => {
            return Err("the member of `events` for back-channel logout is not an object");
        }
        Some(Value::Object(_)) => return Err("`events` does not name back-channel logout"),
        Some(_) => return Err("`events` is not an object"),
    }
    if claims.contains_key("nonce") {
        return Err("`nonce` is forbidden in a logout token");
    }
    let issuer = claims
        .get("iss")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let (issued_at, accepted_until) = check_times(claims, expected, now)?;
    let sub = match claims.contains_key("sub") {
        true => Some(id_token::subject(claims)?.to_owned()),
        false => None,
    };
    let sid = text(claims, "sid", "`sid` is not a string of 1 to 1024 bytes")?;
    if sub.is_none() && sid.is_none() {
        return Err("neither `sub` nor `sid` is there");
    }
    let jti = text(claims, "jti", "`jti` is not a string of 1 to 1024 bytes")?.ok_or("`jti` is missing")?;
    Ok(LogoutToken {
        issuer,
        sub,
        sid,
        jti,
        issued_at,
        accepted_until,
    })
}

/// Explicit typing (§2.4, RFC 8725 §3.11) is recommended there, and older than many providers: an ID
/// token has `JWT` or nothing as well, and is told apart by `events`.
fn check_type(typ: Option<&Value>) -> Result<(), &'static str> {
    let is_known = |typ: &str| {
        ["logout+jwt", "application/logout+jwt", "JWT"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(typ))
    };
    match typ {
        None => Ok(()),
        Some(Value::String(typ)) if is_known(typ) => Ok(()),
        Some(_) => Err("`typ` is neither `logout+jwt` nor `JWT`"),
    }
}

/// When it was issued, and until when it is accepted.
fn check_times(
    claims: &Map<String, Value>,
    expected: &Expected<'_>,
    now: UnixTime,
) -> Result<(UnixTime, UnixTime), &'static str> {
    let latest = now.plus(expected.leeway);
    let iat = id_token::date(claims, "iat", "`iat` is not a number")?.ok_or("`iat` is missing")?;
    if iat > latest {
        return Err("it was issued in the future (`iat`); check the clocks");
    }
    if id_token::date(claims, "nbf", "`nbf` is not a number")?.is_some_and(|nbf| nbf > latest) {
        return Err("it is not valid yet (`nbf`); check the clocks");
    }
    let (until, late) = match id_token::date(claims, "exp", "`exp` is not a number")? {
        Some(exp) if exp <= iat.plus(MAX_LIFE) => (exp, "it has expired (`exp`)"),
        Some(_) => (iat.plus(MAX_LIFE), "it was issued more than a day ago (`iat`)"),
        None if expected.without_exp => (
            iat.plus(LIFE_WITHOUT_EXP),
            "it was issued more than ten minutes ago (`iat`) and has no `exp`",
        ),
        None => {
            return Err("`exp` is missing; for a provider that sends none: `logout_token_without_exp: true`");
        }
    };
    let until = until.plus(expected.leeway);
    if until <= now {
        return Err(late);
    }
    Ok((iat, until))
}

fn text(claims: &Map<String, Value>, name: &str, why: &'static str) -> Result<Option<String>, &'static str> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if (1..=MAX_TEXT).contains(&text.len()) => Ok(Some(text.clone())),
        Some(_) => Err(why),
    }
}

/// The event that makes a token a logout token (§2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Whatever `exp` says: a provider may repeat its call while we cannot be reached, but nobody has to
/// remember a `jti` for ever.
const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where there is no `exp`: long enough for calls that are repeated, and short because nothing else
/// ends the use of a token that was read in somebody's log. (Two minutes is what §2.4 recommends for
/// `exp`; a provider that sends none follows no such advice.)
const LIFE_WITHOUT_EXP: Duration = Duration::from_secs(10 * 60);

/// The longest `sid` or `jti`, in bytes.
const MAX_TEXT: usize = 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::testing::{CLIENT_ID, ISSUER, SigningKey, key_set, metadata, metadata_with};

    const NOW: UnixTime = UnixTime(1_700_000_000);
    const STRICT: Expected<'static> = Expected {
        client_id: CLIENT_ID,
        leeway: Duration::from_secs(10),
        without_exp: false,
    };
    const LENIENT: Expected<'static> = Expected {
        without_exp: true,
        ..STRICT
    };

    /// Claims that differ from those of a good token.
    type Changes<'a> = &'a [(&'a str, Value)];

    fn claims_with(changes: Changes<'_>) -> Value {
        let mut claims = json!({
            "iss": ISSUER,
            "aud": CLIENT_ID,
            "iat": NOW.0,
            "exp": NOW.0 + 120,
            "jti": "j-1",
            "sub": "ann",
            "sid": "s-1",
            "events": {EVENT: {}},
        });
        for (name, value) in changes {
            match value {
                // what is to be there as null is written as this text
                Value::String(text) if text == "NULL" => claims[*name] = Value::Null,
                Value::Null => drop(claims.as_object_mut().expect("an object").remove(*name)),
                value => claims[*name] = value.clone(),
            }
        }
        claims
    }

    fn key() -> SigningKey {
        SigningKey::generate("ES256", Some("k"))
    }

    fn judge(key: &SigningKey, raw: &Secret, expected: &Expected<'_>) -> Result<LogoutToken, IdTokenFailure> {
        verify(raw, expected, &key_set(&[key]), &metadata(), NOW)
    }

    fn outcome(result: &Result<LogoutToken, IdTokenFailure>) -> String {
        match result {
            Ok(_) => "accepted".to_owned(),
            Err(IdTokenFailure::UnknownKey) => "unknown key".to_owned(),
            Err(IdTokenFailure::Invalid(why)) => (*why).to_owned(),
        }
    }

    #[test]
    fn a_logout_token_says_who_and_until_when_it_counts() {
        let key = key();
        let token = judge(&key, &key.sign(&claims_with(&[])), &STRICT).expect("a good token");
        assert_eq!(token.issuer(), ISSUER);
        assert_eq!((token.sub(), token.sid()), (Some("ann"), Some("s-1")));
        assert_eq!(token.jti(), "j-1");
        assert_eq!(token.issued_at(), NOW);
        assert_eq!(token.accepted_until(), UnixTime(NOW.0 + 130));
    }

    #[test]
    fn a_jti_has_to_be_remembered_for_as_long_as_its_token_is_accepted_and_never_for_ever() {
        let key = key();
        for (name, expected, changes, until) in [
            ("by exp", &STRICT, &[("exp", json!(NOW.0 + 60))][..], NOW.0 + 70),
            ("no exp", &LENIENT, &[("exp", Value::Null)], NOW.0 + 610),
            (
                "at the end of time",
                &STRICT,
                &[("exp", json!(1e300))],
                NOW.0 + 86_410,
            ),
            (
                "an old one with a long life",
                &STRICT,
                &[("iat", json!(NOW.0 - 80_000)), ("exp", json!(NOW.0 + 90_000))],
                NOW.0 + 6_410,
            ),
        ] {
            let raw = key.sign(&claims_with(changes));
            let token = judge(&key, &raw, expected).expect(name);
            assert_eq!(token.accepted_until(), UnixTime(until), "{name}");
            // the very second of that time is too late
            for (now, good) in [(until - 1, true), (until, false)] {
                let result = verify(&raw, expected, &key_set(&[&key]), &metadata(), UnixTime(now));
                assert_eq!(result.is_ok(), good, "{name} at {now}");
            }
        }
    }

    #[test]
    fn logout_tokens_as_providers_send_them_are_accepted() {
        let key = key();
        let typed = |typ: Value| {
            let mut header = key.header();
            header["typ"] = typ;
            header
        };
        let mut untyped = key.header();
        drop(untyped.as_object_mut().expect("an object").remove("typ"));
        let cases: &[(&str, Value, &Expected<'_>, Changes<'_>)] = &[
            (
                "the type of the final text",
                typed(json!("logout+jwt")),
                &STRICT,
                &[],
            ),
            (
                "the whole media type",
                typed(json!("application/logout+jwt")),
                &STRICT,
                &[],
            ),
            ("another case", typed(json!("Logout+JWT")), &STRICT, &[]),
            ("no type", untyped, &STRICT, &[]),
            ("sub alone", key.header(), &STRICT, &[("sid", Value::Null)]),
            ("sid alone", key.header(), &STRICT, &[("sub", Value::Null)]),
            (
                "an array of us",
                key.header(),
                &STRICT,
                &[("aud", json!([CLIENT_ID]))],
            ),
            (
                "several audiences, and we the authorized party",
                key.header(),
                &STRICT,
                &[("aud", json!([CLIENT_ID, "api"])), ("azp", json!(CLIENT_ID))],
            ),
            (
                "an event with members, and another event",
                key.header(),
                &STRICT,
                &[(
                    "events",
                    json!({EVENT: {"why": "an administrator"}, "urn:other": 1}),
                )],
            ),
            (
                "as Glewlwyd does: JWT, no exp, sub alone",
                key.header(),
                &LENIENT,
                &[("exp", Value::Null), ("sid", Value::Null)],
            ),
            ("exp where it need not be", key.header(), &LENIENT, &[]),
            (
                "issued within the leeway",
                key.header(),
                &STRICT,
                &[("iat", json!(NOW.0 + 10))],
            ),
            (
                "expired within the leeway",
                key.header(),
                &STRICT,
                &[("exp", json!(NOW.0 - 9))],
            ),
            (
                "repeated after an hour, as its exp allows",
                key.header(),
                &STRICT,
                &[("iat", json!(NOW.0 - 3600))],
            ),
            (
                "fractional times",
                key.header(),
                &STRICT,
                &[("iat", json!(NOW.0 as f64 + 0.5))],
            ),
            (
                "a further claim",
                key.header(),
                &STRICT,
                &[("auth_time", json!(1))],
            ),
            (
                "the longest sid",
                key.header(),
                &STRICT,
                &[("sid", json!("s".repeat(1024)))],
            ),
        ];
        for (name, header, expected, changes) in cases {
            let raw = key.sign_as(header, &claims_with(changes));
            assert_eq!(outcome(&judge(&key, &raw, expected)), "accepted", "{name}");
        }
    }

    #[test]
    fn a_claim_of_a_logout_token_that_is_wrong_is_refused_by_name() {
        const JTI: &str = "`jti` is not a string of 1 to 1024 bytes";
        const SID: &str = "`sid` is not a string of 1 to 1024 bytes";
        const EVENTS: &str = "`events` is not an object";
        const NAMELESS: &str = "`events` does not name back-channel logout";
        const NO_OBJECT: &str = "the member of `events` for back-channel logout is not an object";
        const AUD_TYPE: &str = "`aud` is not a string or an array of strings";
        const FUTURE: &str = "it was issued in the future (`iat`); check the clocks";
        let key = key();
        let cases: &[(&str, &Expected<'_>, Changes<'_>, &str)] = &[
            ("no issuer", &STRICT, &[("iss", Value::Null)], "`iss` is missing"),
            (
                "another issuer",
                &STRICT,
                &[("iss", json!("https://evil.example"))],
                "`iss` is not the issuer",
            ),
            (
                "a slash more",
                &STRICT,
                &[("iss", json!(format!("{ISSUER}/")))],
                "`iss` is not the issuer",
            ),
            (
                "an array of issuers",
                &STRICT,
                &[("iss", json!([ISSUER]))],
                "`iss` is not the issuer",
            ),
            (
                "no audience",
                &STRICT,
                &[("aud", Value::Null)],
                "`aud` is missing",
            ),
            (
                "another client",
                &STRICT,
                &[("aud", json!("other"))],
                "`aud` does not contain `client_id`",
            ),
            (
                "nobody",
                &STRICT,
                &[("aud", json!([]))],
                "`aud` does not contain `client_id`",
            ),
            (
                "a number for an audience",
                &STRICT,
                &[("aud", json!(5))],
                AUD_TYPE,
            ),
            (
                "a mixed array",
                &STRICT,
                &[("aud", json!([CLIENT_ID, 5]))],
                AUD_TYPE,
            ),
            (
                "us and somebody else",
                &STRICT,
                &[("aud", json!([CLIENT_ID, "other"]))],
                "`aud` has other audiences and there is no `azp`",
            ),
            (
                "another party",
                &STRICT,
                &[("azp", json!("other"))],
                "`azp` is not `client_id`",
            ),
            (
                "no exp",
                &STRICT,
                &[("exp", Value::Null)],
                "`exp` is missing; for a provider that sends none: `logout_token_without_exp: true`",
            ),
            (
                "exp as null",
                &LENIENT,
                &[("exp", json!("NULL"))],
                "`exp` is not a number",
            ),
            (
                "exp as text",
                &LENIENT,
                &[("exp", json!("1700000120"))],
                "`exp` is not a number",
            ),
            (
                "expired",
                &STRICT,
                &[("exp", json!(NOW.0 - 10))],
                "it has expired (`exp`)",
            ),
            (
                "expired, although none is needed",
                &LENIENT,
                &[("exp", json!(NOW.0 - 10))],
                "it has expired (`exp`)",
            ),
            (
                "a negative exp",
                &STRICT,
                &[("exp", json!(-1))],
                "it has expired (`exp`)",
            ),
            (
                "expired before it was issued",
                &STRICT,
                &[("exp", json!(0))],
                "it has expired (`exp`)",
            ),
            (
                "issued ten minutes ago without exp",
                &LENIENT,
                &[("exp", Value::Null), ("iat", json!(NOW.0 - 610))],
                "it was issued more than ten minutes ago (`iat`) and has no `exp`",
            ),
            (
                "issued the day before, for ever",
                &STRICT,
                &[("iat", json!(NOW.0 - 86_410)), ("exp", json!(1e300))],
                "it was issued more than a day ago (`iat`)",
            ),
            ("no iat", &STRICT, &[("iat", Value::Null)], "`iat` is missing"),
            (
                "iat as text",
                &STRICT,
                &[("iat", json!("1700000000"))],
                "`iat` is not a number",
            ),
            ("from the future", &STRICT, &[("iat", json!(NOW.0 + 11))], FUTURE),
            (
                "from the end of time",
                &STRICT,
                &[("iat", json!(1e300)), ("exp", json!(1e301))],
                FUTURE,
            ),
            (
                "not valid yet",
                &STRICT,
                &[("nbf", json!(NOW.0 + 11))],
                "it is not valid yet (`nbf`); check the clocks",
            ),
            (
                "nbf as text",
                &STRICT,
                &[("nbf", json!("0"))],
                "`nbf` is not a number",
            ),
            ("no jti", &STRICT, &[("jti", Value::Null)], "`jti` is missing"),
            ("an empty jti", &STRICT, &[("jti", json!(""))], JTI),
            ("a number for a jti", &STRICT, &[("jti", json!(7))], JTI),
            (
                "an endless jti",
                &STRICT,
                &[("jti", json!("j".repeat(1025)))],
                JTI,
            ),
            (
                "nobody's",
                &STRICT,
                &[("sub", Value::Null), ("sid", Value::Null)],
                "neither `sub` nor `sid` is there",
            ),
            ("an empty sid", &STRICT, &[("sid", json!(""))], SID),
            ("a number for a sid", &STRICT, &[("sid", json!(5))], SID),
            ("several sids", &STRICT, &[("sid", json!(["s-1", "s-2"]))], SID),
            ("a null sid beside a sub", &STRICT, &[("sid", json!("NULL"))], SID),
            (
                "an endless sid",
                &STRICT,
                &[("sid", json!("s".repeat(1025)))],
                SID,
            ),
            (
                "an empty sub beside a sid",
                &STRICT,
                &[("sub", json!(""))],
                "`sub` is empty",
            ),
            (
                "a number for a sub",
                &STRICT,
                &[("sub", json!(5))],
                "`sub` is not a string",
            ),
            (
                "a null sub beside a sid",
                &STRICT,
                &[("sub", json!("NULL"))],
                "`sub` is not a string",
            ),
            (
                "a sub with a line break",
                &STRICT,
                &[("sub", json!("ann\nroot"))],
                "`sub` contains a control character",
            ),
            (
                "an endless sub",
                &STRICT,
                &[("sub", json!("a".repeat(256)))],
                "`sub` is longer than 255 bytes",
            ),
            (
                "a nonce",
                &STRICT,
                &[("nonce", json!("n-1"))],
                "`nonce` is forbidden in a logout token",
            ),
            (
                "a null nonce",
                &STRICT,
                &[("nonce", json!("NULL"))],
                "`nonce` is forbidden in a logout token",
            ),
            (
                "no events",
                &STRICT,
                &[("events", Value::Null)],
                "`events` is missing: it is another token than a logout token",
            ),
            ("events as text", &STRICT, &[("events", json!(EVENT))], EVENTS),
            ("events as a list", &STRICT, &[("events", json!([EVENT]))], EVENTS),
            ("no event", &STRICT, &[("events", json!({}))], NAMELESS),
            (
                "another event",
                &STRICT,
                &[(
                    "events",
                    json!({"http://schemas.openid.net/event/frontchannel-logout": {}}),
                )],
                NAMELESS,
            ),
            (
                "the event in another case",
                &STRICT,
                &[("events", json!({EVENT.to_uppercase(): {}}))],
                NAMELESS,
            ),
            (
                "the event as true",
                &STRICT,
                &[("events", json!({EVENT: true}))],
                NO_OBJECT,
            ),
            (
                "the event as null",
                &STRICT,
                &[("events", json!({EVENT: null}))],
                NO_OBJECT,
            ),
            (
                "the event as a list",
                &STRICT,
                &[("events", json!({EVENT: []}))],
                NO_OBJECT,
            ),
        ];
        assert!(cases.len() >= 40);
        for (name, expected, changes, why) in cases {
            let raw = key.sign(&claims_with(changes));
            assert_eq!(outcome(&judge(&key, &raw, expected)), *why, "{name}");
        }
    }

    #[test]
    fn an_id_token_is_never_taken_for_a_logout_token() {
        let key = key();
        let mut id_token = json!({
            "iss": ISSUER, "aud": CLIENT_ID, "sub": "ann", "sid": "s-1",
            "iat": NOW.0, "exp": NOW.0 + 300, "jti": "j-1", "nonce": "n-1",
        });
        let why = "`events` is missing: it is another token than a logout token";
        assert_eq!(outcome(&judge(&key, &key.sign(&id_token), &STRICT)), why);
        drop(id_token.as_object_mut().expect("an object").remove("nonce"));
        assert_eq!(outcome(&judge(&key, &key.sign(&id_token), &LENIENT)), why);
    }

    #[test]
    fn a_logout_token_is_signed_by_a_key_of_the_provider_as_its_header_says() {
        let key = key();
        let other = SigningKey::generate("ES256", Some("k"));
        let stranger = SigningKey::generate("ES256", Some("stranger"));
        let good = key.sign(&claims_with(&[]));
        let [header, payload, signature] = good.expose().split('.').collect::<Vec<_>>()[..] else {
            panic!("three parts")
        };
        let headed = |changes: &[(&str, Value)]| {
            let mut header = key.header();
            for (name, value) in changes {
                header[*name] = value.clone();
            }
            key.sign_as(&header, &claims_with(&[]))
        };
        const ALG: &str = "`alg` is none, symmetric or unknown";
        const CRIT: &str = "its header has `crit`, and no extension is understood";
        const TYP: &str = "`typ` is neither `logout+jwt` nor `JWT`";
        const PARTS: &str = "it is not a signed token of three parts";
        let cases = [
            ("none", headed(&[("alg", json!("none"))]), ALG),
            ("None", headed(&[("alg", json!("None"))]), ALG),
            ("symmetric", headed(&[("alg", json!("HS256"))]), ALG),
            (
                "no algorithm",
                headed(&[("alg", Value::Null)]),
                "its header has no `alg`",
            ),
            ("critical extensions", headed(&[("crit", json!(["exp"]))]), CRIT),
            ("an access token's type", headed(&[("typ", json!("at+jwt"))]), TYP),
            ("a proof's type", headed(&[("typ", json!("dpop+jwt"))]), TYP),
            (
                "another event's type",
                headed(&[("typ", json!("secevent+jwt"))]),
                TYP,
            ),
            ("no text as type", headed(&[("typ", json!(5))]), TYP),
            ("an empty type", headed(&[("typ", json!(""))]), TYP),
            (
                "another key of that name",
                other.sign(&claims_with(&[])),
                "its signature is wrong",
            ),
            (
                "a key nobody knows",
                stranger.sign(&claims_with(&[])),
                "unknown key",
            ),
            (
                "a key in the header",
                stranger.sign_as(
                    &json!({"alg": "ES256", "kid": "k", "jwk": stranger.jwk()}),
                    &claims_with(&[]),
                ),
                "its signature is wrong",
            ),
            (
                "no signature",
                Secret::new(format!("{header}.{payload}.")),
                "its signature is wrong",
            ),
            ("cut off", Secret::new(format!("{header}.{payload}")), PARTS),
            (
                "encrypted",
                Secret::new(format!("{header}.{payload}.{signature}.a.b")),
                "it is encrypted, which is not understood here",
            ),
            ("empty", Secret::new(""), PARTS),
            (
                "endless",
                Secret::new("a".repeat(65_537)),
                "it is longer than 64 kib",
            ),
            (
                "a claim twice",
                key.sign_text(
                    &key.header().to_string(),
                    &claims_with(&[]).to_string().replacen('{', "{\"sub\":\"bob\",", 1),
                ),
                "its claims are not an object with unique members",
            ),
        ];
        for (name, raw, why) in cases {
            assert_eq!(outcome(&judge(&key, &raw, &LENIENT)), why, "{name}");
        }
        let listed = metadata_with(&[("id_token_signing_alg_values_supported", json!(["RS256"]))]);
        let result = verify(&good, &STRICT, &key_set(&[&key]), &listed, NOW);
        assert_eq!(
            outcome(&result),
            "`alg` is not among `id_token_signing_alg_values_supported`"
        );
    }
}
