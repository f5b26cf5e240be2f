//! RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0 §2).
//!
//! Builds the URL that the browser is sent to. The ID token travels in it as a hint, as the
//! specification wants; no other token ever does. The `state` that comes back is not checked here.

use url::Url;

use super::metadata::Metadata;
use super::with_parameters;
use crate::config::{LogoutReturn, Provider};
use crate::secret::Secret;

/// What a logout request says.
pub(crate) struct EndSession<'a> {
    /// The ID token of the session that ends, if it is still known.
    pub(crate) id_token_hint: Option<&'a Secret>,
    /// Where the provider returns to, registered there.
    pub(crate) post_logout_redirect_uri: &'a str,
    /// Comes back unchanged.
    pub(crate) state: &'a str,
}

impl EndSession<'_> {
    /// The URL to send the browser to; none where the provider has no logout. A query that the
    /// endpoint has already is kept but for names that are set here.
    ///
    /// An ID token so long that servers would refuse the URL is left out: `client_id` names us all
    /// the same, and the provider asks the user instead of failing.
    pub(crate) fn url(&self, provider: &Provider, metadata: &Metadata) -> Option<Url> {
        let endpoint = end_session_endpoint(provider, metadata)?;
        if let LogoutReturn::Parameter(name) = &provider.habits.logout_return {
            let client_id = ("client_id", provider.client_id.as_str());
            let parameters = [client_id, (name.as_str(), self.post_logout_redirect_uri)];
            return Some(with_parameters(endpoint, &parameters));
        }
        let hint = self.id_token_hint.filter(|hint| hint.len() <= MAX_HINT);
        let parameters: Vec<_> = [
            ("id_token_hint", hint.map(Secret::expose)),
            ("client_id", Some(provider.client_id.as_str())),
            ("post_logout_redirect_uri", Some(self.post_logout_redirect_uri)),
            ("state", Some(self.state)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        Some(with_parameters(endpoint, &parameters))
    }
}

/// Where sign-out goes on: as configured, else as the metadata says.
pub(crate) fn end_session_endpoint<'a>(provider: &'a Provider, metadata: &'a Metadata) -> Option<&'a Url> {
    let configured = provider.habits.logout_endpoint.as_ref();
    configured.or(metadata.end_session_endpoint.as_ref())
}

/// The longest ID token that is sent as a hint, in bytes: many servers take 8 KiB of URL.
const MAX_HINT: usize = 6 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::oauth::testing::{metadata, metadata_with, provider};

    fn url(hint: Option<&Secret>, metadata: &Metadata) -> Option<String> {
        let request = EndSession {
            id_token_hint: hint,
            post_logout_redirect_uri: "https://shop.example.com/auth/logout/callback",
            state: "s&t",
        };
        request.url(&provider(), metadata).map(String::from)
    }

    #[test]
    fn the_url_names_the_session_the_client_and_the_way_back() {
        let hint = Secret::new("a.b.c");
        let rest = "client_id=shop&post_logout_redirect_uri=\
                    https%3A%2F%2Fshop.example.com%2Fauth%2Flogout%2Fcallback&state=s%26t";
        assert_eq!(
            url(Some(&hint), &metadata()).unwrap(),
            format!("https://login.example.com/logout?id_token_hint=a.b.c&{rest}")
        );
        assert_eq!(
            url(None, &metadata()).unwrap(),
            format!("https://login.example.com/logout?{rest}")
        );
    }

    #[test]
    fn a_hint_that_would_break_the_url_is_left_out() {
        let long = Secret::new("a".repeat(6 * 1024 + 1));
        assert_eq!(url(Some(&long), &metadata()), url(None, &metadata()));
    }

    #[test]
    fn the_endpoints_own_query_is_kept_and_never_doubles_ours() {
        let endpoint = json!("https://login.example.com/logout?p=policy&state=x&client_id=y");
        let url = url(None, &metadata_with(&[("end_session_endpoint", endpoint)])).unwrap();
        assert!(
            url.starts_with("https://login.example.com/logout?p=policy&client_id=shop&"),
            "{url}"
        );
        assert_eq!(url.matches("state=").count(), 1, "{url}");
    }

    #[test]
    fn a_logout_page_of_its_own_kind_gets_its_parameter_and_neither_token_nor_state() {
        for (own, named) in [
            ("logout_uri", "https://shop.auth.example/logout"),
            ("returnTo", "https://shop.auth.example/logout?federated="),
        ] {
            let mut provider = provider();
            provider.habits.logout_endpoint = Some(Url::parse(named).unwrap());
            provider.habits.logout_return = LogoutReturn::Parameter(own.to_owned());
            let request = EndSession {
                id_token_hint: Some(&Secret::new("a.b.c")),
                post_logout_redirect_uri: "https://shop.example.com/auth/logout/callback",
                state: "s",
            };
            // whatever the metadata say, or where they say nothing
            for metadata in [
                metadata(),
                metadata_with(&[("end_session_endpoint", Value::Null)]),
            ] {
                let url = request.url(&provider, &metadata).unwrap();
                let (page, query) = named.split_once('?').unwrap_or((named, ""));
                let query = if query.is_empty() {
                    String::new()
                } else {
                    format!("{query}&")
                };
                let back = "https%3A%2F%2Fshop.example.com%2Fauth%2Flogout%2Fcallback";
                assert_eq!(url.as_str(), format!("{page}?{query}client_id=shop&{own}={back}"));
            }
        }
    }

    #[test]
    fn without_an_endpoint_there_is_no_url() {
        assert_eq!(
            url(None, &metadata_with(&[("end_session_endpoint", Value::Null)])),
            None
        );
    }
}
