//! The names of the guards, and what each lets pass.

use std::fmt;

use coatroom_core::config::Application;
use coatroom_core::guard::Class;
use coatroom_core::route::{Endpoint, Resolved};

use super::table::table;

/// The short names of the guards, as in the tables.
pub(super) fn guard(class: Class) -> &'static str {
    match class {
        Class::Fetch | Class::ProxiedFetch { resources: false } => "fetch",
        Class::ProxiedFetch { resources: true } => "fetch, resources",
        Class::Navigation => "navigation",
        Class::Provider => "provider",
        Class::FormPost => "provider's form",
        Class::ProxiedNone => "WebSocket origin",
        Class::None => "none",
    }
}

/// What each guard lets pass, of those that the tables name.
pub(super) fn guards(out: &mut String, applications: &[Application]) -> fmt::Result {
    let used: Vec<Class> = applications.iter().flat_map(used_by).collect();
    let is_named = |name: &str| used.iter().any(|class| guard(*class) == name);
    out.push('\n');
    let rows = [
        (
            Class::Fetch,
            "the fetch header, a listed Origin, and Fetch Metadata that is not cross-site",
        ),
        (
            Class::ProxiedFetch { resources: true },
            "as fetch, but GET and HEAD pass on Fetch Metadata without the header",
        ),
        (Class::Navigation, "top-level navigations only, from any site"),
        (
            Class::Provider,
            "a signed logout token, or who names a session at the provider; no cookie is read",
        ),
        (
            Class::FormPost,
            "top-level navigations only, from a page of the provider; `state` proves whose it is",
        ),
        (
            Class::ProxiedNone,
            "no credential is attached, at most a client's own is passed on; a WebSocket's Origin must be listed where it is sent",
        ),
        (Class::None, "nothing to guard: no credential is attached"),
    ];
    let rows = rows.into_iter().filter(|(class, _)| is_named(guard(*class)));
    let rows = rows.map(|(class, means)| [guard(class).to_owned(), means.to_owned()]);
    table(out, "guards", ["name", "what passes"], rows)
}

fn used_by(application: &Application) -> Vec<Class> {
    let endpoints = Endpoint::ALL
        .into_iter()
        .filter(|endpoint| application.provider.is_some() && endpoint.is_served_by(application))
        .map(|endpoint| Class::of(&Resolved::Agent(endpoint)));
    let routes = application.routes.iter().enumerate();
    let routes = routes.map(|(index, route)| Class::of(&Resolved::Proxy { index, route }));
    let mut used: Vec<Class> = endpoints.chain(routes).collect();
    // its line is explained by the other's
    if used.contains(&Class::ProxiedFetch { resources: true }) {
        used.push(Class::Fetch);
    }
    used
}
