//! Under which names a store knows whose a session is.
//!
//! A session belongs to a user (`iss` and `sub`) and, where the provider says so, to a session there
//! (`iss` and `sid`). Both become keyed hashes, so that a store shows nobody's name, no two
//! applications share one, and who reads the store cannot try names out. Hashes change with the key:
//! what is written goes under the first name, what is looked for under all of them. Nothing here
//! knows whether there is such a user.

use crate::handler::Handler;
use crate::store::{IndexKey, MarkKey};

/// Names everything of one user, or of one session at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnerKey([u8; 32]);

impl OwnerKey {
    /// The index that leads to its records.
    pub(crate) fn index(self) -> IndexKey {
        IndexKey(self.0)
    }

    /// The mark that says since when it has ended.
    pub(crate) fn mark(self) -> MarkKey {
        MarkKey(self.0)
    }
}

impl Handler {
    /// The names of a user's sessions, one for each key of the ring: the first is what is written,
    /// all of them are what is looked for. Never empty.
    pub(crate) fn user_keys(&self, issuer: &str, sub: &str) -> Vec<OwnerKey> {
        self.owner_keys("session owner: user", issuer, sub)
    }

    /// The same of a session at the provider.
    pub(crate) fn sid_keys(&self, issuer: &str, sid: &str) -> Vec<OwnerKey> {
        self.owner_keys("session owner: sid", issuer, sid)
    }

    fn owner_keys(&self, label: &str, issuer: &str, whose: &str) -> Vec<OwnerKey> {
        let named = fields(&[self.app.id.as_str(), issuer, whose]);
        self.keys.fingerprints(label, &named).map(OwnerKey).collect()
    }
}

/// Texts with their lengths in front, so that no two lists have the same encoding. The encoding is
/// part of what stores hold and never changes.
pub(super) fn fields(texts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::ApplicationConfig;
    use crate::config::testing::{checked, config};
    use crate::seal::{KeyRing, MasterKey};
    use crate::session::SessionId;
    use crate::session::metadata::PublicSessionId;

    const ISSUER: &str = "https://login.example.com";

    fn key(digit: &str) -> MasterKey {
        MasterKey::parse(&format!("coatroom-key-1:{}", digit.repeat(43))).expect("a well-formed key")
    }

    fn handler(id: &str, keys: &[&str]) -> Handler {
        let app = checked(ApplicationConfig {
            id: id.to_owned(),
            ..config()
        });
        let keys = KeyRing::new(keys.iter().map(|digit| key(digit)).collect()).expect("keys");
        Handler::new(Arc::new(app), Arc::new(keys)).expect("a handler")
    }

    #[test]
    fn names_of_users_and_of_sessions_have_nothing_in_common() {
        let shop = handler("shop", &["A"]);
        let named = [
            shop.user_keys(ISSUER, "ann"),
            shop.user_keys(ISSUER, "bob"),
            shop.user_keys(ISSUER, ""),
            shop.user_keys("https://other.example.com", "ann"),
            // where one text ends and the next begins
            shop.user_keys("https://login.example.coma", "nn"),
            shop.sid_keys(ISSUER, "ann"),
            shop.sid_keys(ISSUER, "bob"),
            handler("orders", &["A"]).user_keys(ISSUER, "ann"),
            handler("orders", &["A"]).sid_keys(ISSUER, "ann"),
            handler("shop", &["E"]).user_keys(ISSUER, "ann"),
        ];
        for (index, one) in named.iter().enumerate() {
            assert_eq!(one.len(), 1);
            assert!(!named.iter().skip(index + 1).any(|other| one == other), "{index}");
        }
        assert_eq!(shop.user_keys(ISSUER, "ann"), shop.user_keys(ISSUER, "ann"));
    }

    #[test]
    fn a_rotation_finds_what_was_written_before_it() {
        let before = handler("shop", &["A"]).user_keys(ISSUER, "ann");
        let added = handler("shop", &["A", "E"]).user_keys(ISSUER, "ann");
        let rotated = handler("shop", &["E", "A"]).user_keys(ISSUER, "ann");
        assert_eq!(added.first(), before.first());
        assert_ne!(rotated.first(), before.first());
        assert!(rotated.contains(&before[0]) && added.contains(&rotated[0]));
    }

    /// Stores hold these: a change here signs nobody out any more.
    #[test]
    fn the_published_names_come_out() {
        let shop = handler("shop", &["A"]);
        let hex = |keys: Vec<OwnerKey>| keys[0].index().to_hex();
        assert_eq!(
            hex(shop.user_keys(ISSUER, "ann")),
            "d71a32fdc4388292aa341a9ac1d84f7e6c93dbbfab631b07bc8443768b67c1fa"
        );
        assert_eq!(
            hex(shop.sid_keys(ISSUER, "s-1")),
            "7ad7a65ac10b61926c1d52830e51f651689124dc72254585539052b4989171ae"
        );
        let named = shop.user_keys(ISSUER, "ann")[0];
        assert_eq!(named.index().0, named.mark().0);
    }

    /// Stores hold this too.
    #[test]
    fn a_public_id_leads_to_one_index_of_its_application_whatever_the_keys_are() {
        let [one, other] = [1, 2].map(|byte| PublicSessionId::of(SessionId([byte; 16])));
        let shop = handler("shop", &["A"]).public_id_index(one);
        assert_eq!(shop, handler("shop", &["E", "A"]).public_id_index(one));
        assert_ne!(shop, handler("shop", &["A"]).public_id_index(other));
        assert_ne!(shop, handler("orders", &["A"]).public_id_index(one));
        assert_eq!(
            shop.to_hex(),
            "383621e25bf58149d2e94c4cfb44c18315135a6eec9c48f89eda8dae9e43f40d"
        );
    }
}
