//! What clients are held to: connections, who says who they are, and rate limits. Only what is written.

use std::fmt;

use coatroom_core::config::{Application, Auth, LimitBy, RateLimit, defaults};
use coatroom_core::peers::PeerHeader;

use super::table::{list, table};
use crate::config::{BODY_TIMEOUT, Loaded, WRITE_TIMEOUT, shown};

/// Who is believed, and what connections may cost.
pub(super) fn connections(out: &mut String, loaded: &Loaded) -> fmt::Result {
    let settings = &loaded.connections;
    let peers = &settings.trusted_peers;
    let listed = (!peers.is_empty()).then(|| {
        let header = match peers.header() {
            PeerHeader::XForwardedFor => "X-Forwarded-For",
            PeerHeader::Forwarded => "Forwarded",
        };
        format!("{peers}: whom they name in {header} is the client")
    });
    let header = settings
        .proxy_protocol
        .then(|| "each connection begins with its header, version 2".to_owned());
    let differs = |written, default| (written != default).then(|| shown(written));
    let rows = [
        ("trusted peers", listed),
        ("PROXY protocol", header),
        ("at most", settings.max.map(|max| max.to_string())),
        (
            "of one address",
            settings.max_per_address.map(|max| max.to_string()),
        ),
        (
            "takes nothing",
            differs(settings.write_timeout, WRITE_TIMEOUT).map(|time| format!("for {time} at most")),
        ),
        (
            "sends no body",
            differs(settings.body_timeout, BODY_TIMEOUT).map(|time| format!("for {time} at most")),
        ),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .filter_map(|(name, value)| Some([name.to_owned(), value?]))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    list(out, "connections of clients", rows)
}

/// The rate limits, where any is written.
pub(super) fn rate_limits(out: &mut String, application: &Application) -> fmt::Result {
    let agent = &application.rate_limits;
    let row = |path: &str, limit: &RateLimit, of: &str| {
        [
            path.to_owned(),
            format!("{} in {}", limit.requests, shown(limit.per)),
            limit.burst.to_string(),
            of.to_owned(),
        ]
    };
    let mut rows = Vec::new();
    if application.provider.is_some() {
        if agent.is_address_written {
            rows.push(row(&application.base_path, &agent.address, "each client address"));
        }
        if agent.session != defaults::AGENT_SESSION_LIMIT {
            rows.push(row(&application.base_path, &agent.session, "each session"));
        }
    }
    for route in &application.routes {
        if let Some(limit) = &route.rate_limit {
            let of = match limit.by {
                LimitBy::Address => "each client address",
                LimitBy::Session if route.auth == Auth::Required => "each session",
                LimitBy::Session => "each session, without one each client address",
            };
            rows.push(row(route.prefix.as_str(), &limit.limit, of));
        }
    }
    table(out, "rate limits", ["path", "requests", "at once", "of"], rows)
}
