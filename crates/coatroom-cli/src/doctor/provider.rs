//! One application's provider: the way there, its metadata, its keys, and what it makes of this client.
//!
//! Each step needs the one before it, so the first that fails is the one to look at. The client is
//! never shown to a provider that calls itself something else than the configuration does.

use std::sync::Arc;

use coatroom::Keys;
use coatroom::clock::SystemClock;
use coatroom::provider::Provider;
use coatroom_core::config::Application;
use coatroom_core::handler::Handler;
use tokio::time::timeout;

use super::sheet::Sheet;
use super::{
    QUESTION, advertised, client, client_credentials, discovery, keys as signing_keys, network, plain,
};

/// Examines it.
pub(super) async fn examine(
    sheet: Sheet,
    application: &Application,
    provider: &Arc<coatroom_core::config::Provider>,
    keys: &Keys,
) {
    look_at(&sheet, application, provider, keys).await;
    sheet.done();
}

async fn look_at(
    sheet: &Sheet,
    application: &Application,
    provider: &Arc<coatroom_core::config::Provider>,
    keys: &Keys,
) {
    let Keys::Agent(ring) = keys else {
        return;
    };
    let named = plain::endpoints(provider);
    for url in &named {
        if !network::examine(sheet, url, provider.ca.as_deref()).await {
            return;
        }
    }
    let url = match plain::has_no_metadata(provider) {
        true => None,
        false => {
            let Some(url) = discovery::place(sheet, provider) else {
                return;
            };
            if !network::examine(sheet, &url, provider.ca.as_deref()).await {
                return;
            }
            Some(url)
        }
    };
    let client = match Provider::new(provider, Arc::new(SystemClock)) {
        Ok(client) => client,
        Err(error) => {
            sheet.failed(
                "metadata",
                error.to_string(),
                "see the certificates and keys of `provider.client_auth` and `provider.ca`; without those, install the package \
                 ca-certificates, or set SSL_CERT_FILE",
            );
            return;
        }
    };
    match url {
        None => plain::said_of_endpoints(sheet),
        Some(url) => {
            let Some(document) = discovery::examine(sheet, &client, provider, url).await else {
                return;
            };
            let asked = advertised::Asked {
                application,
                provider,
                document: &document.members,
            };
            advertised::examine(sheet, &asked);
            let Some(metadata) = document.metadata else {
                sheet.unclear("client", NOT_TRIED, "");
                return;
            };
            if !signing_keys::examine(sheet, &client, &metadata).await {
                sheet.unclear("client", NOT_TRIED, "");
                return;
            }
        }
    }
    // as a sign-in finds them
    let snapshot = match timeout(QUESTION, client.snapshot()).await {
        Ok(Ok(snapshot)) => snapshot,
        Ok(Err(error)) => {
            sheet.failed(
                "metadata",
                error.to_string(),
                "it was good a moment ago: is the provider restarting?",
            );
            return;
        }
        Err(_) => {
            sheet.failed(
                "metadata",
                "it took too long to fetch it again",
                "is the provider overloaded?",
            );
            return;
        }
    };
    let application = Arc::new(application.clone());
    let is_default = application
        .provider
        .as_ref()
        .is_some_and(|default| default.name == provider.name);
    let handler = match &provider.name {
        None => Handler::new(application, ring.clone()),
        Some(name) => Handler::for_provider(application, name, ring.clone()),
    };
    match handler {
        Ok(handler) => {
            client::examine(sheet, &client, &handler, &snapshot, provider).await;
            // routes' own tokens are the default provider's
            if is_default {
                client_credentials::examine(sheet, &client, &handler, &snapshot).await;
            }
        }
        Err(error) => sheet.failed("client", error.to_string(), "see `coatroom check`"),
    }
}

const NOT_TRIED: &str = "not tried: first what failed above";
