//! What `coatroom check` says of a provider without ID tokens. Nothing here asks it.

use coatroom_core::config::{Plain, User};

/// What there is in place of ID tokens.
pub(super) fn parties(plain: Option<&Plain>) -> Vec<(&'static str, String)> {
    let Some(plain) = plain else {
        return Vec::new();
    };
    let mut rows = vec![(
        "protocol",
        "OAuth 2.0 without ID tokens; one that comes is not looked at".to_owned(),
    )];
    if let Some(endpoints) = &plain.endpoints {
        let revocation = match &endpoints.revocation {
            Some(url) => format!("{url} revokes"),
            None => "none revokes".to_owned(),
        };
        rows.push((
            "endpoints",
            format!(
                "{} signs in, {} gives tokens, {revocation}; no metadata are fetched",
                endpoints.authorization, endpoints.token
            ),
        ));
    }
    rows.push((
        "user",
        match &plain.user {
            User::Nobody => {
                "not known: a session says that somebody may use it, and nobody knows who".to_owned()
            }
            User::Asked {
                endpoint,
                subject,
                at_refresh,
            } => {
                let endpoint = endpoint
                    .as_ref()
                    .map_or("the metadata's userinfo_endpoint", |url| url.as_str());
                let when = match at_refresh {
                    true => "each sign-in and each refresh",
                    false => "each sign-in",
                };
                format!("`{subject}` of what {endpoint} answers, asked at {when}")
            }
        },
    ));
    rows
}

/// What such a provider may do although the specifications say otherwise.
pub(super) fn tolerated(plain: Option<&Plain>) -> [(bool, &'static str); 2] {
    [
        (
            plain.is_some_and(|plain| plain.token_errors_with_200),
            "refusals of the token endpoint with status 200",
        ),
        (
            plain.is_some_and(|plain| plain.scopes_with_commas),
            "granted scopes between commas",
        ),
    ]
}
