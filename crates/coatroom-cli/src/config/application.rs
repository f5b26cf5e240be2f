//! One application: from what is written to what the core checks.
//!
//! Resolves the client secret and makes paths absolute; every other rule is the core's, and its
//! problems are shown where the setting is written.

use std::path::{Path, PathBuf};

use coatroom_core::config::{
    Application, ApplicationConfig, Problem, ProviderConfig, RouteConfig, RouteTargetConfig, SessionConfig,
};
use coatroom_core::secret::Secret;

use super::findings::Findings;
use super::schema;
use super::secret::Reference;
use super::values::{Interval, Named, Size, WholeSeconds};

/// Checks one application. `None` when something is wrong with it, which `findings` then says.
pub(crate) fn application(
    id: &str,
    app: schema::App,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<Application> {
    let errors_before = findings.errors();
    let at = |names: &[&str]| -> Vec<String> {
        ["apps", id]
            .iter()
            .chain(names)
            .map(|name| (*name).to_owned())
            .collect()
    };
    let provider = ProviderConfig {
        issuer: app.provider.issuer,
        client_id: app.provider.client_id,
        client_secret: client_secret(
            &app.provider.client_secret,
            at(&["provider", "client_secret"]),
            folder,
            findings,
        ),
        client_auth: app.provider.client_auth.0.map(str::to_owned),
        scopes: app.provider.scopes,
        authorization_parameters: app
            .provider
            .parameters
            .map_or_else(Vec::new, |Named(pairs)| pairs),
        allowed_parameters: app.provider.allowed_parameters,
        leeway: app.provider.leeway.map(seconds),
        timeout: app.provider.timeout.map(interval),
    };
    let session = SessionConfig {
        idle: app.session.idle.map(seconds),
        absolute: app.session.absolute.map(seconds),
        default_token_life: app.session.default_token_life.map(seconds),
        claims: app.session.claims,
    };
    let routes = app
        .routes
        .0
        .into_iter()
        .filter_map(|(path, route)| {
            let at = at(&["routes", &path]);
            self::route(path, route, at, folder, findings)
        })
        .collect();
    let config = ApplicationConfig {
        id: id.to_owned(),
        url: app.url,
        app_url: app.app_url,
        origins: app.origins,
        hosts: app.hosts,
        base_path: app.base_path,
        login_callback: app.login.callback,
        provider,
        session,
        csrf_header: app.csrf_header,
        routes,
        danger_insecure_http: app.danger_insecure_http,
    };
    match config.check() {
        Ok(application) => (findings.errors() == errors_before).then_some(application),
        Err(problems) => {
            for problem in problems {
                let path = ["apps".to_owned(), id.to_owned()]
                    .into_iter()
                    .chain(as_written(&problem.at))
                    .collect();
                let Problem { message, hint, .. } = problem;
                // The library's name of what the file calls `parameters`.
                let message = message.replace("`authorization_parameters`", "`parameters`");
                findings.error(path, message, hint);
            }
            None
        }
    }
}

/// The key path in the file of the core's key path.
fn as_written(at: &[String]) -> Vec<String> {
    let mut path = at.to_vec();
    for name in &mut path {
        if name == "authorization_parameters" {
            *name = "parameters".to_owned();
        }
    }
    if let Some(first) = path.first()
        && first == "login_callback"
    {
        path.splice(..1, ["login".to_owned(), "callback".to_owned()]);
    }
    path
}

fn client_secret(
    reference: &Reference,
    at: Vec<String>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Secret {
    // Without the secret the application is refused in the end, but its other problems are shown too.
    Secret::new(
        findings
            .secret(reference, at, folder)
            .unwrap_or_else(|| "-".to_owned()),
    )
}

fn route(
    path: String,
    route: schema::Route,
    at: Vec<String>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<RouteConfig> {
    let target = match (route.upstream, route.folder) {
        (Some(upstream), None) => RouteTargetConfig::Upstream(upstream),
        (None, Some(path)) => {
            let path: PathBuf = folder.join(path).components().collect();
            let at = at.iter().cloned().chain(["static".to_owned()]).collect();
            if !path.is_dir() {
                let hint = format!(
                    "build the application; a relative path starts at {}",
                    folder.display()
                );
                findings.warning(
                    at,
                    "there is no such folder yet: the route answers 502".to_owned(),
                    hint,
                );
            } else if !path.join("index.html").is_file() {
                let hint = "point to the folder that your build writes".to_owned();
                findings.warning(at, "the folder has no index.html".to_owned(), hint);
            }
            RouteTargetConfig::Static(path)
        }
        (Some(_), Some(_)) => {
            findings.error(
                at,
                "a route has one target, this one has `upstream` and `static`".to_owned(),
                "keep one of the two".to_owned(),
            );
            return None;
        }
        (None, None) => {
            findings.error(
                at,
                "the route has no target".to_owned(),
                "add `upstream: http://127.0.0.1:5000` or `static: ./dist`".to_owned(),
            );
            return None;
        }
    };
    Some(RouteConfig {
        path,
        target,
        strip_prefix: route.strip_prefix,
        auth: route.auth.map(|auth| auth.0.to_owned()),
        methods: route.methods,
        resources: route.resources,
        cache: route.cache.map(|cache| cache.as_str().to_owned()),
        cookies: route.cookies,
        body_limit: route.body_limit.map(|Size(bytes)| bytes),
        connect_timeout: route.connect_timeout.map(interval),
        timeout: route.timeout.map(interval),
    })
}

fn seconds(WholeSeconds(duration): WholeSeconds) -> std::time::Duration {
    duration
}

fn interval(Interval(duration): Interval) -> std::time::Duration {
    duration
}
