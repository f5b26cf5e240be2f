//! The clocks of one application: how long anything lasts.

use std::fmt;
use std::time::Duration;

use coatroom_core::config::{Application, Provider};
use coatroom_core::session::TRANSACTION_LIFE;

use super::table::table;
use crate::config::shown;

/// What ends, and when.
pub(super) fn clocks(out: &mut String, application: &Application) -> fmt::Result {
    let session = &application.session;
    if application.providers.is_empty() {
        return Ok(());
    }
    let longest = |length: fn(&Provider) -> Duration| {
        let lengths = application.providers.iter().map(|provider| length(provider));
        shown(lengths.max().unwrap_or_default())
    };
    let lives = application.providers.iter();
    let mut lives: Vec<Duration> = lives.map(|provider| provider.token_life(session)).collect();
    lives.sort();
    lives.dedup();
    let lives: Vec<String> = lives.into_iter().map(shown).collect();
    let default_life = lives.join(" or ");
    let access_token = match session.storage.is_stateful() {
        true => (
            "access token",
            "its own".to_owned(),
            format!("calls renew it, shortly before it expires ({default_life} if unsaid)"),
        ),
        false => (
            "access token",
            format!("at most {}", shown(session.idle / 2)),
            format!("then a call needs a refresh; sooner if it expires ({default_life} if unsaid)"),
        ),
    };
    let rows = [
        access_token,
        (
            "idle",
            shown(session.idle),
            "the session ends, this long after the last use at the latest".to_owned(),
        ),
        (
            "absolute",
            shown(session.absolute),
            "the session ends, this long after the sign-in".to_owned(),
        ),
        (
            "provider",
            "its own".to_owned(),
            "the session ends when its refresh token expires, or is answered invalid_grant".to_owned(),
        ),
        (
            "no refresh token",
            "its own".to_owned(),
            "the session ends when the access token expires".to_owned(),
        ),
        (
            "sign-in",
            shown(TRANSACTION_LIFE),
            "a sign-in or sign-out that takes longer starts over".to_owned(),
        ),
        (
            "provider call",
            longest(|provider| provider.timeout),
            "a call that takes longer fails, which ends no session".to_owned(),
        ),
        (
            "clock skew",
            longest(|provider| provider.leeway),
            "so much may the provider's clock differ".to_owned(),
        ),
    ];
    let rows = rows.map(|(clock, length, what)| [clock.to_owned(), length, what]);
    table(out, "clocks", ["clock", "length", "what happens"], rows)
}
