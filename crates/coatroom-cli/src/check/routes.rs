//! The routes of one application and the endpoints of its agent.

use std::fmt::{self, Write as _};

use coatroom_core::config::{
    ApiGrant, Application, Auth, IntrospectionResponse, PolicyChoice, Route, RouteTarget,
};
use coatroom_core::guard::Class;
use coatroom_core::route::{Endpoint, Resolved};

use super::address;
use super::guards::guard;
use super::table::table;
use super::upstreams;
use crate::config::{shown, size_shown};

/// Who may call what, and what is attached.
pub(super) fn routes(out: &mut String, application: &Application) -> fmt::Result {
    let agent = [
        application.base_path.clone(),
        "by endpoint".to_owned(),
        "everybody".to_owned(),
        "by endpoint".to_owned(),
        "nothing".to_owned(),
        match application.provider {
            Some(_) => "the agent",
            None => "nothing: the agent is elsewhere",
        }
        .to_owned(),
    ];
    let rows = application.routes.iter().enumerate().map(|(index, route)| {
        let target = match &route.target {
            RouteTarget::Upstream(upstreams) => upstreams::target(upstreams),
            RouteTarget::Static(folder) => format!("files in {}", folder.display()),
            RouteTarget::DevServer(url) => format!("development server at {}", address(url)),
            RouteTarget::Inner => "the wrapped service".to_owned(),
        };
        let (caller, attached) = match route.auth {
            Auth::Required => (caller(route), attached(application, route, "")),
            Auth::Optional => ("everybody".to_owned(), attached(application, route, ", if any")),
            Auth::None => ("everybody".to_owned(), clients_own(application, route)),
            Auth::Bearer => (
                "any token, NOT VERIFIED HERE".to_owned(),
                "the client's own token".to_owned(),
            ),
        };
        [
            route.prefix.as_str().to_owned(),
            methods(route),
            caller,
            // What the guard itself would go by, not a second opinion.
            guard(Class::of(&Resolved::Proxy { index, route })).to_owned(),
            attached,
            target,
        ]
    });
    table(
        out,
        "routes",
        ["path", "methods", "caller", "guard", "attached", "target"],
        std::iter::once(agent).chain(rows),
    )?;
    let everywhere = application
        .routes
        .iter()
        .any(|route| route.prefix.as_str() == "/");
    if !everywhere {
        writeln!(out, "    any other path is not found")?;
    }
    Ok(())
}

/// Who may call a route that needs a session.
fn caller(route: &Route) -> String {
    let mut out = "signed in".to_owned();
    let Some(demands) = route.demands.as_deref().map(|demands| &demands.wanted) else {
        return out;
    };
    if !demands.acr.is_empty() {
        out.push_str(&format!(", acr {}", demands.acr.join(" or ")));
    }
    if let Some(age) = demands.max_age {
        out.push_str(&format!(", within {}", shown(age)));
    }
    if !demands.scopes.is_empty() {
        out.push_str(&format!(", scopes {}", demands.scopes.join(" ")));
    }
    for (name, values) in &demands.claims {
        out.push_str(&format!(", {name} {}", values.join(" or ")));
    }
    out
}

/// What a call carries: a token, or what the provider says of it.
fn attached(application: &Application, route: &Route, condition: &str) -> String {
    let token = token(application, route, condition);
    match route.introspection.as_deref().map(|asked| asked.response) {
        None => token,
        Some(IntrospectionResponse::Jwt) => format!("signed introspection of {token}"),
        Some(IntrospectionResponse::PhantomToken) => format!("{token}, as its JWT (by introspection)"),
        Some(IntrospectionResponse::Json) => format!("{token}, while introspection says active"),
    }
}

/// Whose token that is, and how it is had.
fn token(application: &Application, route: &Route, condition: &str) -> String {
    let own = route.token.and_then(|token| {
        let mut apis = application.apis.list.iter();
        apis.find(|api| api.id == token.api)
    });
    let Some(api) = own else {
        return format!("token{condition}");
    };
    let (_, target) = api.target.parameter();
    let how = match &api.grant {
        ApiGrant::Refresh => "token",
        ApiGrant::Exchange { .. } => "exchanged token",
    };
    let scopes = match api.scopes.is_empty() {
        true => String::new(),
        false => format!(", {}", api.scopes.join(" ")),
    };
    format!("{how} for {target}{scopes}{condition}")
}

/// With what authority anonymous callers act, and where.
pub(super) fn client_tokens(out: &mut String, application: &Application) -> fmt::Result {
    let carries = |route: &&Route| route.client_grant.is_some();
    let rows: Vec<_> = application
        .routes
        .iter()
        .filter(carries)
        .map(|route| {
            [
                route.prefix.as_str().to_owned(),
                clients_own(application, route),
                "whoever reaches it acts with the application's own authority, signed in or not".to_owned(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    table(
        out,
        "routes with the application's own token",
        ["path", "attached", "means"],
        rows,
    )
}

/// The token of the client's own that a call carries, if it does.
fn clients_own(application: &Application, route: &Route) -> String {
    let grant = route
        .client_grant
        .and_then(|grant| application.client_grants.get(grant));
    let Some(grant) = grant else {
        return "nothing".to_owned();
    };
    let target = grant
        .target
        .as_ref()
        .map(|target| format!(" for {}", target.parameter().1));
    let scopes = match grant.scopes.is_empty() {
        true => String::new(),
        false => format!(", {}", grant.scopes.join(" ")),
    };
    format!(
        "THE APPLICATION'S OWN token{}{scopes}",
        target.unwrap_or_default()
    )
}

fn methods(route: &Route) -> String {
    match (&route.methods, &route.target) {
        (Some(methods), _) => {
            let methods: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
            methods.join(" ")
        }
        (None, RouteTarget::Static(_)) => "GET HEAD".to_owned(),
        (None, RouteTarget::Upstream(_) | RouteTarget::DevServer(_) | RouteTarget::Inner) => "all".to_owned(),
    }
}

/// What a route to an API takes and waits for.
pub(super) fn limits(out: &mut String, application: &Application) -> fmt::Result {
    let upstreams = application
        .routes
        .iter()
        .filter(|route| matches!(route.target, RouteTarget::Upstream(_)));
    let rows = upstreams.map(|route| {
        let shared = match (route.auth, route.cache_public) {
            (Auth::None, _) if route.client_grant.is_none() => "as the API says",
            (_, true) => "yes, also with a token",
            (_, false) => "not with a token",
        };
        [
            route.prefix.as_str().to_owned(),
            if route.strip_prefix { "removed" } else { "kept" }.to_owned(),
            size_shown(route.body_limit),
            shown(route.connect_timeout),
            shown(route.timeout),
            shared.to_owned(),
            if route.cookies.is_empty() {
                "none".to_owned()
            } else {
                route.cookies.join(" ")
            },
        ]
    });
    table(
        out,
        "limits of the routes to APIs",
        [
            "path",
            "prefix",
            "body",
            "connect in",
            "answer in",
            "shared caches",
            "cookies passed on",
        ],
        rows,
    )
}

/// What the files of `static` routes are answered with.
pub(super) fn files(out: &mut String, application: &Application) -> fmt::Result {
    let routes = application.routes.iter();
    let of_files = routes.filter(|route| matches!(route.target, RouteTarget::Static(_)));
    let rows = of_files.map(|route| {
        let policy = match &route.files.policy {
            PolicyChoice::Default => "the default".to_owned(),
            PolicyChoice::Extended(added) => format!("the default, and {}", sources(added)),
            PolicyChoice::Own => "its own".to_owned(),
            PolicyChoice::Off => "none".to_owned(),
        };
        let further = route.files.further.iter();
        let further: Vec<String> = further
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default()))
            .collect();
        let further = match further.as_slice() {
            [] => "none".to_owned(),
            several => several.join("; "),
        };
        [route.prefix.as_str().to_owned(), policy, further]
    });
    table(
        out,
        "what files are answered with",
        ["path", "Content-Security-Policy", "further headers"],
        rows,
    )
}

/// Directives and their sources, as in a policy.
fn sources(added: &[(String, Vec<String>)]) -> String {
    let directives = added.iter();
    let directives: Vec<String> = directives
        .map(|(directive, sources)| format!("{directive} {}", sources.join(" ")))
        .collect();
    directives.join("; ")
}

/// What is behind the path of an endpoint that each of several providers has its own of.
fn named(endpoint: Endpoint, application: &Application) -> &'static str {
    match endpoint.is_of_one_provider() && application.names_providers() {
        true => "/{provider}",
        false => "",
    }
}

/// Every endpoint of the agent.
pub(super) fn agent(out: &mut String, application: &Application) -> fmt::Result {
    if application.provider.is_none() {
        return Ok(());
    }
    let served = Endpoint::ALL
        .into_iter()
        .filter(|endpoint| endpoint.is_served_by(application));
    let rows = served.map(|endpoint| {
        [
            format!(
                "{}/{}{}",
                application.base_path,
                endpoint.path(),
                named(endpoint, application)
            ),
            endpoint.method().to_string(),
            guard(Class::of(&Resolved::Agent(endpoint))).to_owned(),
        ]
    });
    table(out, "endpoints of the agent", ["path", "method", "guard"], rows)
}
