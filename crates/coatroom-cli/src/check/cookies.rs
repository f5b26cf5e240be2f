//! The cookies of one application.

use std::fmt::{self, Write as _};

use coatroom_core::config::{Application, SessionStorage};
use coatroom_core::cookie::{Cookies, Jar, Kind, LoginTag, MAX_CHUNKS, MAX_PAIR};
use coatroom_core::session::TRANSACTION_LIFE;

use super::table::table;
use crate::config::shown;

/// The table as the cookies are really written: read off the line that would clear each.
pub(super) fn cookies(out: &mut String, application: &Application) -> fmt::Result {
    // Without a provider this instance writes no cookie: what it reads lives as the agent says.
    let absolute = match application.provider {
        Some(_) => shown(application.session.absolute),
        None => "the agent's".to_owned(),
    };
    let transaction = shown(TRANSACTION_LIFE);
    let login = LoginTag::of("");
    let many = format!("1 to {MAX_CHUNKS}");
    let storage = &application.session.storage;
    let sends_own = application.sends_session_token();
    let (access, parts) = match (storage, sends_own) {
        (SessionStorage::Cookie, true) => ("session id, access token", many.as_str()),
        (SessionStorage::Cookie, false) => ("session id", "1"),
        (SessionStorage::CookieWithRevocations(_), true) => {
            ("session id, access token, hashes of whose it is", &*many)
        }
        (SessionStorage::CookieWithRevocations(_), false) => ("session id, hashes of whose it is", "1"),
        (SessionStorage::Store(_), _) => ("session id, handle of its record", "1"),
    };
    let session = match sends_own {
        true => "refresh token, ID token, claims",
        false => "refresh token, ID token, claims, access token",
    };
    let kinds = [
        (Kind::Access, access, &absolute, parts),
        (Kind::Session, session, &absolute, &many),
        (Kind::Login(login), "one pending sign-in", &transaction, &many),
        (
            Kind::Logout,
            "one sign-out, ID token as its hint",
            &transaction,
            &many,
        ),
        (Kind::Ended, "hashes of ended sessions", &absolute, "1"),
        (Kind::Refused, "hashes of refused refresh tokens", &absolute, "1"),
    ];
    let cookies = Cookies::of(application).map_err(|_| fmt::Error)?;
    let of_apis = cookies.of_apis().map(|kind| {
        (
            kind,
            "session id, one API's access token",
            &absolute,
            many.as_str(),
        )
    });
    let kinds = kinds.into_iter().chain(of_apis);
    let jar = Jar::new([]);
    let is_read = |kind: &Kind| match (&application.provider, kind) {
        (_, Kind::Api(_)) => !storage.is_stateful(),
        (None, kind) => matches!(kind, Kind::Access | Kind::Ended),
        (Some(_), Kind::Session | Kind::Refused) => !storage.is_stateful(),
        (Some(_), _) => true,
    };
    let kinds = kinds.filter(|(kind, ..)| is_read(kind));
    let rows = kinds.map(|(kind, holds, life, parts)| {
        let lines = cookies.clear(kind, &jar);
        let line = lines
            .first()
            .and_then(|line| line.to_str().ok())
            .unwrap_or_default();
        let attribute = |name: &str| {
            let mut attributes = line.split("; ").filter_map(|attribute| attribute.split_once('='));
            attributes
                .find(|(found, _)| *found == name)
                .map_or("-", |(_, value)| value)
                .to_owned()
        };
        [
            cookies.name(kind).replace(login.as_str(), "…"),
            holds.to_owned(),
            attribute("Path"),
            attribute("SameSite"),
            life.clone(),
            parts.to_owned(),
        ]
    });
    table(
        out,
        "cookies, all sealed, Secure, HttpOnly and without Domain",
        ["name", "holds", "path", "SameSite", "life", "parts"],
        rows,
    )?;
    writeln!(out, "    a part has at most {MAX_PAIR} bytes, its name included")?;
    if !storage.is_stateful() && !application.apis.cookies.is_empty() {
        let tokens = if sends_own { 2 } else { 1 };
        writeln!(
            out,
            "    a call that carries an API's cookie has about {} bytes of cookies where tokens have {TYPICAL}",
            ANCHOR + tokens * (TYPICAL * 21 / 20 + AROUND)
        )?;
    }
    Ok(())
}

/// What a JWT access token comes to with a provider of the usual kind, in bytes.
const TYPICAL: usize = 1200;

/// What stands around it in its cookie, name included.
const AROUND: usize = 170;

/// The anchor without a token.
const ANCHOR: usize = 150;
