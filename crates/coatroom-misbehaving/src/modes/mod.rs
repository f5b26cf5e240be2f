//! The table of modes, one file per place.
//!
//! A new place is a file with a constant `MODES` and a line here; nothing else has to know it, unless it
//! needs a twist of its own (`twist.rs`).

use std::sync::LazyLock;

use crate::mode::Mode;

mod authorization_response;
mod client_credentials;
mod discovery;
mod discovery_answer;
mod id_token_claims;
mod id_token_form;
mod id_token_signature;
mod introspection;
mod jwe;
mod keys;
mod logout_token;
mod refresh;
mod renewal;
mod revocation;
mod token_answer;
mod token_response;
mod user;
mod userinfo;

/// Every mode, in the order of a sign-in's life.
pub static MODES: LazyLock<Vec<Mode>> = LazyLock::new(|| {
    [
        discovery::MODES,
        discovery_answer::MODES,
        keys::MODES,
        renewal::MODES,
        authorization_response::MODES,
        token_response::MODES,
        token_answer::MODES,
        id_token_signature::MODES,
        id_token_form::MODES,
        id_token_claims::MODES,
        jwe::MODES,
        userinfo::MODES,
        introspection::MODES,
        user::MODES,
        refresh::MODES,
        client_credentials::MODES,
        logout_token::MODES,
        revocation::MODES,
    ]
    .concat()
});

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::MODES;

    #[test]
    fn names_are_unique_and_every_row_is_complete() {
        let mut seen = BTreeSet::new();
        for mode in MODES.iter() {
            assert!(seen.insert(mode.id), "{} is there twice", mode.id);
            let kebab = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(mode.id.bytes().all(kebab), "{}", mode.id);
            assert!(!mode.wrong.is_empty() && !mode.source.is_empty(), "{}", mode.id);
            // what stands in a cell of a table of the documentation
            assert!(
                !mode.wrong.contains('|') && !mode.source.contains('|'),
                "{}",
                mode.id
            );
        }
    }
}
