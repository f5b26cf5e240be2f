//! A provider without ID tokens: what the configuration names in place of metadata.
//!
//! Only the way there is looked at: nobody has an access token that the endpoints could be asked with.

use coatroom_core::config::{Plain, Provider, User};
use url::Url;

use super::sheet::Sheet;

/// Whether all that metadata would say stands in the configuration.
pub(super) fn has_no_metadata(provider: &Provider) -> bool {
    matches!(
        &provider.plain,
        Some(Plain {
            endpoints: Some(_),
            ..
        })
    )
}

/// The addresses that the configuration names, one of each server.
pub(super) fn endpoints(provider: &Provider) -> Vec<Url> {
    let Some(plain) = &provider.plain else {
        return Vec::new();
    };
    let mut urls: Vec<&Url> = Vec::new();
    if let Some(named) = &plain.endpoints {
        urls.extend([&named.authorization, &named.token]);
        urls.extend(named.revocation.iter().chain(&named.introspection));
    }
    if let User::Asked {
        endpoint: Some(url), ..
    } = &plain.user
    {
        urls.push(url);
    }
    let mut servers: Vec<Url> = Vec::new();
    for url in urls {
        if servers.iter().all(|known| known.origin() != url.origin()) {
            servers.push(url.clone());
        }
    }
    servers
}

/// What can be said of them without a token.
pub(super) fn said_of_endpoints(sheet: &Sheet) {
    sheet.good(
        "metadata",
        "none are needed: the configuration names the endpoints",
    );
}
