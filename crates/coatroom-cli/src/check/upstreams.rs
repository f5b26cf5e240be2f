//! Where the APIs of one application are, where that is more than one address without a setting.

use std::fmt;

use coatroom_core::config::{Application, Http2, Route, RouteTarget, UpstreamTls, Upstreams};

use super::table::table;
use crate::config::shown;

/// The target of a route, in a word.
pub(super) fn target(upstreams: &Upstreams) -> String {
    let addresses = match upstreams.addresses.as_slice() {
        [] => String::new(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    match upstreams.http2 {
        Http2::Negotiated => addresses,
        Http2::Always => format!("{addresses} in HTTP/2"),
        Http2::Never => format!("{addresses} in HTTP/1.1"),
    }
}

/// Every address of the upstreams of which there are several.
pub(super) fn addresses(out: &mut String, application: &Application) -> fmt::Result {
    let several = upstreams(application).filter(|(_, upstreams)| upstreams.addresses.len() > 1);
    let rows = several.flat_map(|(route, upstreams)| {
        let addresses = upstreams.addresses.iter().enumerate();
        addresses.map(|(index, address)| {
            let path = if index == 0 { route.prefix.as_str() } else { "" };
            [path.to_owned(), address.to_string()]
        })
    });
    table(out, "APIs in several places", ["path", "balanced over"], rows)
}

/// What APIs call themselves, where that is not where they are.
pub(super) fn names(out: &mut String, application: &Application) -> fmt::Result {
    let rows = application.routes.iter().filter_map(|route| {
        let url = route.public_url.as_ref()?;
        Some([route.prefix.as_str().to_owned(), url.to_string()])
    });
    table(out, "what APIs call themselves", ["path", "in proofs"], rows)
}

/// What routes say of their upstreams beyond the defaults.
pub(super) fn settings(out: &mut String, application: &Application) -> fmt::Result {
    let rows = upstreams(application).filter_map(|(route, upstreams)| {
        let limits = route.limits;
        let health = upstreams.health_check.as_ref().map(|check| {
            format!(
                "GET {} every {}, in {}",
                check.path,
                shown(check.interval),
                shown(check.timeout)
            )
        });
        let tls = upstreams.tls.as_ref().map(tls);
        let is_default = health.is_none() && tls.is_none() && limits == Default::default();
        let or = |setting: Option<String>, default: &str| setting.unwrap_or_else(|| default.to_owned());
        (!is_default).then(|| {
            [
                route.prefix.as_str().to_owned(),
                or(limits.max_concurrent.map(|most| most.to_string()), "any number"),
                or(limits.idle_timeout.map(shown), "for ever"),
                or(limits.total_timeout.map(shown), "for ever"),
                or(health, "nobody asks"),
                or(tls, "as the platform"),
            ]
        })
    });
    table(
        out,
        "further settings of the routes to APIs",
        [
            "path",
            "calls at once",
            "may stand still",
            "whole call",
            "health",
            "TLS",
        ],
        rows,
    )
}

fn tls(tls: &UpstreamTls) -> String {
    let parts = [
        tls.ca.as_ref().map(|_| "its own authorities".to_owned()),
        tls.client.as_ref().map(|_| "a client certificate".to_owned()),
        tls.server_name.as_ref().map(|name| format!("the name {name}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

fn upstreams(application: &Application) -> impl Iterator<Item = (&Route, &Upstreams)> {
    application.routes.iter().filter_map(|route| match &route.target {
        RouteTarget::Upstream(upstreams) => Some((route, upstreams.as_ref())),
        RouteTarget::Static(_) | RouteTarget::DevServer(_) | RouteTarget::Inner => None,
    })
}
