//! Where the provider's metadata and keys come from: its own documents (OpenID Connect Discovery §4,
//! RFC 8414 §3), or the configuration where it has none.
//!
//! What a document means is the core's to say; nothing here keeps one.

use coatroom_core::error::Error;
use coatroom_core::oauth::{JwkSet, Metadata};

use super::Shared;

impl Shared {
    /// The metadata, from where they are.
    pub(super) async fn metadata(&self) -> Result<Metadata, Error> {
        let issuer = &self.metadata_issuer;
        let url = match (&self.plain, &self.discovery) {
            (None, None) => Metadata::discovery_url(&self.issuer)?,
            (_, Some(url)) => url.clone(),
            (Some(plain), None) => match &plain.endpoints {
                Some(endpoints) => return Metadata::of_endpoints(endpoints, issuer),
                None => Metadata::oauth_discovery_url(&self.issuer)?,
            },
        };
        let document = self.get("metadata document", url).await?;
        match self.plain {
            None => Metadata::parse(&document.body, issuer),
            Some(_) => Metadata::parse_plain(&document.body, issuer),
        }
    }

    /// The keys that the provider signs with.
    pub(super) async fn keys(&self, metadata: &Metadata) -> Result<JwkSet, Error> {
        // who signs nothing has none
        let Some(url) = metadata.jwks_uri() else {
            return Ok(JwkSet::default());
        };
        let response = self.get("jwk set", url.clone()).await?;
        JwkSet::parse(&response.body)
    }
}
