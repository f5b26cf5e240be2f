//! The cookies of one application.

use std::fmt::{self, Write as _};

use coatroom_core::config::{Application, ResponseMode, SessionStorage};
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
    let (access, parts) = match storage {
        SessionStorage::Cookie => ("session id, access token", many.as_str()),
        SessionStorage::CookieWithRevocations(_) => {
            ("session id, access token, hashes of whose it is", &*many)
        }
        SessionStorage::Store(_) => ("session id, handle of its record", "1"),
    };
    let kinds = [
        (Kind::Access, access, &absolute, parts),
        (Kind::Session, "refresh token, ID token, claims", &absolute, &many),
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
    let cookies = Cookies::new(&application.id, &application.base_path, &application.callback);
    let mut cookies = cookies.map_err(|_| fmt::Error)?;
    let provider = application.provider.as_ref();
    if provider.is_some_and(|provider| provider.authorization.response_mode == ResponseMode::FormPost) {
        cookies = cookies.for_form_post();
    }
    let jar = Jar::new([]);
    let is_read = |kind: &Kind| match (&application.provider, kind) {
        (None, kind) => matches!(kind, Kind::Access | Kind::Ended),
        (Some(_), Kind::Session | Kind::Refused) => !storage.is_stateful(),
        (Some(_), _) => true,
    };
    let kinds = kinds.into_iter().filter(|(kind, ..)| is_read(kind));
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
    writeln!(out, "    a part has at most {MAX_PAIR} bytes, its name included")
}
