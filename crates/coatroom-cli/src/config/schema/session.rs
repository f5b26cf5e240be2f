//! A session's limits, claims and store, as they are written.
//!
//! Shapes only: limits are checked by the core.

use coatroom_core::config::defaults;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{NotYet, StoreSetting, WholeSeconds, shown};
use crate::config::store::COOKIE;

/// A session's limits and claims.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Session {
    /// Where sessions are kept: `cookie`, in sealed cookies and nowhere else, or a store (`memory`, which
    /// is this process', `sqlite:FILE`, `postgres://…`, `redis://…`), for which the cookie holds a handle.
    #[schemars(extend("default" = COOKIE))]
    pub(crate) store: Option<StoreSetting>,
    /// With `store: cookie`: a store for what has ended and for the memory of refreshes, shared by all
    /// replicas. Default: each process has its own memory of refreshes, and what ended is known to the browser alone.
    #[schemars(extend("not" = {"const": COOKIE}))]
    pub(crate) revocation_store: Option<StoreSetting>,
    /// A session ends this long after the last sign of the user, at the latest; where sessions are in
    /// cookies, half as long at the earliest. Whole seconds, at least `1m`.
    #[schemars(extend("default" = shown(defaults::IDLE)))]
    pub(crate) idle: Option<WholeSeconds>,
    /// A session ends this long after the sign-in, whatever happens. Whole seconds, at least `idle`, at
    /// most `400d`.
    #[schemars(extend("default" = shown(defaults::ABSOLUTE)))]
    pub(crate) absolute: Option<WholeSeconds>,
    /// The life of an access token for which the provider sends no `expires_in` (RFC 6749 §5.1). Whole
    /// seconds, at least `1s`.
    #[schemars(extend("default" = shown(defaults::TOKEN_LIFE)))]
    pub(crate) default_token_life: Option<WholeSeconds>,
    /// Which claims of the ID token `session` answers to the SPA. Default: all but `nonce`, `at_hash`,
    /// `c_hash` and `s_hash`.
    pub(crate) claims: Option<Vec<String>>,
    #[serde(rename = "revocable")]
    #[schemars(skip)]
    _revocable: Option<NotYet>,
}
