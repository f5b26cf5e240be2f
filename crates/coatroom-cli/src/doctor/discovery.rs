//! The provider's metadata document: is it where it should be, is it the issuer's own, is its clock
//! ours?
//!
//! The document is read as a sign-in reads it ([`Metadata::parse`]); its text is never shown but for
//! the issuer that it names.

use coatroom::clock::{Clock as _, SystemClock};
use coatroom::provider::{Looked, Provider};
use coatroom_core::config;
use coatroom_core::oauth::Metadata;
use coatroom_core::step::ProviderRequest;
use coatroom_core::time::UnixTime;
use http::header::ACCEPT;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::Url;

use super::QUESTION;
use super::sheet::{Sheet, quoted};

/// A metadata document.
pub(super) struct Document {
    pub(super) members: Map<String, Value>,
    /// The same, checked; none where a sign-in would refuse it.
    pub(super) metadata: Option<Metadata>,
}

/// Where it is, as for sign-ins: where the configuration says, or else where the issuer has it. None
/// where the configuration has all that it would say.
pub(super) fn place(sheet: &Sheet, provider: &config::Provider) -> Option<Url> {
    match Metadata::place(provider) {
        Ok(url) => url,
        Err(error) => {
            sheet.failed("metadata", error.to_string(), "correct `provider.issuer`");
            None
        }
    }
}

/// Fetches and judges it; none where there is nothing to judge.
pub(super) async fn examine(
    sheet: &Sheet,
    client: &Provider,
    provider: &config::Provider,
    url: Url,
) -> Option<Document> {
    let shown = quoted(url.as_str());
    let begun = SystemClock.now();
    let looked = match look(client, get(url, "application/json")).await {
        Ok(looked) => looked,
        Err(why) => {
            sheet.failed(
                "metadata",
                format!("{shown}: {why}"),
                "is the provider up? what is in front of it (a load balancer, a web application firewall)?",
            );
            return None;
        }
    };
    clock(sheet, &looked, begun, SystemClock.now(), provider);
    let status = looked.response.status;
    if status != StatusCode::OK {
        refused(sheet, &shown, &looked, provider.habits.discovery.is_some());
        return None;
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(&looked.response.body) else {
        sheet.failed(
            "metadata",
            format!("{shown} is no JSON object"),
            "open it in a browser: a page of something in front of the provider, or another address than the issuer's",
        );
        return None;
    };
    sheet.good("metadata", format!("{shown} is there"));
    let metadata = judged(sheet, &members, &looked.response.body, provider);
    Some(Document { members, metadata })
}

fn refused(sheet: &Sheet, shown: &str, looked: &Looked, is_written: bool) {
    let status = looked.response.status.as_u16();
    if let (301..=308, Some(location)) = (status, &looked.location) {
        sheet.failed(
            "metadata",
            format!("{shown} redirects to {}, which is not followed", quoted(location)),
            match is_written {
                true => "correct `provider.discovery`",
                false => {
                    "write the issuer that the provider has now: `provider.issuer`, without `/.well-known/openid-configuration`"
                }
            },
        );
        return;
    }
    let todo = match status {
        404 if is_written => {
            "correct `provider.discovery`, or remove it where the document is below the issuer"
        }
        404 => {
            "correct the path in `provider.issuer`: a realm, a tenant, an authorization server (the part before \
             `/.well-known/openid-configuration`)"
        }
        401 | 403 => "let this machine read it: something in front of the provider wants to know who asks",
        429 => "too many requests: try again later",
        500..=599 => "the provider, or what is in front of it, is broken: see its log",
        _ => "open it in a browser, and correct `provider.issuer`, or `provider.discovery` where it is set",
    };
    sheet.failed("metadata", format!("{shown} answers {status}"), todo);
}

fn judged(
    sheet: &Sheet,
    members: &Map<String, Value>,
    body: &[u8],
    provider: &config::Provider,
) -> Option<Metadata> {
    // of an issuer that stands for many tenants, it is theirs with a placeholder
    let issuer = &provider.metadata_issuer();
    match members.get("issuer") {
        Some(Value::String(named)) if named == issuer => {
            sheet.good("issuer", format!("{} here and there", quoted(issuer)));
        }
        Some(Value::String(named)) => {
            sheet.failed(
                "issuer",
                format!(
                    "the provider calls itself {}, by the configuration it is {}; {}",
                    quoted(named),
                    quoted(issuer),
                    difference(named, issuer)
                ),
                match named.contains('{') || provider.habits.tenants.is_some() {
                    true => "write the issuer of your tenant as its own metadata have it; or the one of many tenants, and who \
                             may sign in (`provider.allowed_tenants`)"
                        .to_owned(),
                    false => format!(
                        "if that is your provider, write exactly `issuer: {}`",
                        quoted(named)
                    ),
                },
            );
            return None;
        }
        _ => {
            sheet.failed(
                "issuer",
                "the document names none",
                "these are no metadata of a provider: correct `provider.issuer`",
            );
            return None;
        }
    }
    let parsed = match provider.plain {
        None => Metadata::parse(body, issuer),
        Some(_) => Metadata::parse_plain(body, issuer),
    };
    match parsed {
        Ok(metadata) => Some(
            metadata
                .for_plain(provider.plain.as_ref())
                .for_tenants(provider.habits.tenants.clone()),
        ),
        Err(error) => {
            sheet.failed(
                "endpoints",
                error.to_string(),
                "correct the provider's public address (its `issuer` or front-end URL setting); sign-ins refuse this",
            );
            None
        }
    }
}

/// Where two issuers part, in words.
fn difference(theirs: &str, ours: &str) -> String {
    if theirs.strip_suffix('/') == Some(ours) {
        return "theirs has a slash at its end".to_owned();
    }
    if ours.strip_suffix('/') == Some(theirs) {
        return "ours has a slash at its end".to_owned();
    }
    if theirs.eq_ignore_ascii_case(ours) {
        return "they differ in upper and lower case".to_owned();
    }
    let rest = |one: &str, other: &str| {
        one.strip_prefix("http").map(str::to_owned) == other.strip_prefix("https").map(str::to_owned)
    };
    if rest(theirs, ours) || rest(ours, theirs) {
        return "one is http, the other https".to_owned();
    }
    let same = theirs
        .chars()
        .zip(ours.chars())
        .take_while(|(one, other)| one == other)
        .count();
    format!("they are the same for {same} characters")
}

/// The `Date` of an answer is of whole seconds and was written between question and answer.
fn clock(sheet: &Sheet, looked: &Looked, begun: UnixTime, ended: UnixTime, provider: &config::Provider) {
    let Some(date) = looked.date else {
        sheet.unclear("clock", "the provider's answer has no `Date`", "");
        return;
    };
    let leeway = provider.leeway.as_secs();
    let (ahead, behind) = (
        date.seconds_from(ended),
        begun.seconds_from(date).saturating_sub(1),
    );
    let (off, which) = match (ahead, behind) {
        (0, behind) => (behind, "behind"),
        (ahead, _) => (ahead, "ahead of"),
    };
    let found = format!("the provider's is {off}s {which} this machine's, {leeway}s are tolerated");
    let todo = "set the clocks (timedatectl, chrony): tokens are refused as issued in the future, or die early; `leeway` \
                tolerates at most 5m";
    if off > leeway {
        sheet.failed("clock", found, todo);
    } else if off > 2 && off.saturating_mul(2) >= leeway {
        sheet.warning("clock", found, todo);
    } else {
        sheet.good("clock", format!("within {}s of the provider's", off.max(1)));
    }
}

/// A request for a document.
pub(super) fn get(url: Url, accept: &'static str) -> ProviderRequest {
    ProviderRequest {
        method: Method::GET,
        url,
        headers: vec![(ACCEPT, HeaderValue::from_static(accept))],
        body: Vec::new().into(),
    }
}

/// Asks, within a deadline that the configuration cannot make longer.
pub(super) async fn look(client: &Provider, request: ProviderRequest) -> Result<Looked, &'static str> {
    match timeout(QUESTION, client.look(request)).await {
        Ok(outcome) => outcome,
        Err(_) => Err("it did not answer in time"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coatroom_core::config::{ApplicationConfig, ProviderConfig};
    use coatroom_core::secret::Secret;
    use coatroom_core::step::ProviderResponse;

    use super::super::sheet::State;
    use super::*;

    #[test]
    fn how_two_issuers_differ_is_said() {
        for (theirs, ours, said) in [
            (
                "https://a.example/",
                "https://a.example",
                "theirs has a slash at its end",
            ),
            (
                "https://a.example",
                "https://a.example/",
                "ours has a slash at its end",
            ),
            (
                "https://A.example",
                "https://a.example",
                "they differ in upper and lower case",
            ),
            (
                "http://a.example",
                "https://a.example",
                "one is http, the other https",
            ),
            (
                "https://a.example/x",
                "https://a.example/y",
                "they are the same for 18 characters",
            ),
        ] {
            assert_eq!(difference(theirs, ours), said);
        }
    }

    #[test]
    fn a_clock_is_judged_by_what_sign_ins_tolerate() {
        let mut config = ProviderConfig::new("https://login.example.com", "shop", Secret::new("hush"));
        config.leeway = Some(Duration::from_secs(10));
        let application = ApplicationConfig::new("shop", "https://shop.example.com", config).check();
        let application = application.unwrap_or_else(|problems| panic!("{problems:?}"));
        let provider = application.provider.expect("an agent");
        for (date, state) in [
            (Some(1_000), State::Good),
            (Some(999), State::Good),
            (Some(1_003), State::Good),
            (Some(1_007), State::Warning),
            (Some(993), State::Warning),
            (Some(1_013), State::Failed),
            (Some(980), State::Failed),
            (None, State::Unclear),
        ] {
            let sheet = Sheet::new(None, "provider");
            let looked = Looked {
                response: ProviderResponse {
                    status: StatusCode::OK,
                    content_type: None,
                    dpop_nonce: None,
                    body: Vec::new().into(),
                },
                date: date.map(UnixTime),
                location: None,
            };
            clock(&sheet, &looked, UnixTime(1_000), UnixTime(1_001), &provider);
            assert_eq!(
                sheet.findings()[0].state,
                state,
                "{date:?}: {:?}",
                sheet.findings()
            );
        }
    }
}
