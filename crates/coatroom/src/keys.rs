//! The keys of a process: what opens cookies, and thereby what it is.
//!
//! Rings of the core, and which kind of instance each makes. No key is ever shown.

use std::sync::Arc;

use coatroom_core::seal::{KeyRing, ProxyRing};

/// What opens cookies, and thereby what a process is.
pub enum Keys {
    /// Signs users in, keeps their sessions and forwards their calls.
    Agent(Arc<KeyRing>),
    /// Forwards calls only: no sign-in, refresh or sign-out is served, and no provider is asked.
    Proxy(Arc<ProxyRing>),
}

impl Keys {
    /// The keys' public ids, in their order: four hexadecimal digits that say nothing about the key.
    pub fn ids(&self) -> Vec<String> {
        match self {
            Self::Agent(keys) => keys.ids().collect(),
            Self::Proxy(keys) => keys.ids().collect(),
        }
    }
}

impl From<KeyRing> for Keys {
    fn from(keys: KeyRing) -> Self {
        Self::Agent(Arc::new(keys))
    }
}

impl From<ProxyRing> for Keys {
    fn from(keys: ProxyRing) -> Self {
        Self::Proxy(Arc::new(keys))
    }
}
