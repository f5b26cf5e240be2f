//! One application: from what is written to what the core checks.
//!
//! Resolves the client secret and makes paths absolute; every other rule is the core's, and its
//! problems are shown where the setting is written.

use std::path::{Path, PathBuf};

use coatroom_core::assurance::DemandsConfig;
use coatroom_core::config::{
    AgentLimitsConfig, Application, ApplicationConfig, ClientCredentialsConfig, ExchangeConfig, FilesConfig,
    HabitsConfig, HstsConfig, IntrospectionConfig, Preset, Problem, ProviderConfig, RateLimitConfig,
    RouteConfig, RouteLimitConfig, RouteTargetConfig, SessionConfig, TokenConfig, defaults,
    policy_weaknesses,
};
use coatroom_core::secret::Secret;

use super::authorization;
use super::client_auth;
use super::findings::Findings;
use super::schema::{self, PresetSetting};
use super::schema_dpop::DpopSetting;
use super::schema_tls::HstsSetting;
use super::secret::Reference;
use super::store;
use super::tokens::{self, Userinfo};
use super::upstream::{self, holds_authorities};
use super::values::{Interval, Named, Size, WholeSeconds};

/// What the keys make of this process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Signs users in.
    Agent,
    /// Only forwards API calls.
    Proxy,
}

/// Checks one application. `None` when something is wrong with it, which `findings` then says.
pub(crate) fn application(
    id: &str,
    app: schema::App,
    role: Option<Role>,
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
    if app.danger_insecure_http {
        findings.warning(
            at(&["danger_insecure_http"]),
            "plain http is allowed off loopback: everything can be read and changed on the way, tokens included"
                .to_owned(),
            "write https addresses, and remove `danger_insecure_http: true`".to_owned(),
        );
    }
    let several = app.providers.map(|Named(providers)| {
        let one = |(name, written): (String, schema::Provider)| {
            let config = provider(written, &at(&["providers", &name]), folder, findings);
            (name, config)
        };
        providers.into_iter().map(one).collect::<Vec<_>>()
    });
    let provider = match (app.provider, role) {
        (Some(written), Some(Role::Agent) | None) => {
            Some(provider(written, &at(&["provider"]), folder, findings))
        }
        (None, Some(Role::Proxy)) if several.is_some() => {
            let message = "with a proxy's key nobody can sign in here: there is no use for providers";
            let hint = "remove `providers`".to_owned();
            findings.error(at(&["providers"]), message.to_owned(), hint);
            None
        }
        (None, _) if several.is_some() => None,
        (None, Some(Role::Proxy)) => None,
        // without keys nobody knows whether it needs one
        (None, None) => return None,
        (None, Some(Role::Agent)) => {
            let hint = "add `provider: {issuer: …, client_id: …, client_secret: {env: …}}`".to_owned();
            findings.error(at(&[]), "`provider` is missing".to_owned(), hint);
            None
        }
        (Some(_), Some(Role::Proxy)) => {
            let message = "with a proxy's key nobody can sign in here: there is no use for a provider";
            findings.error(
                at(&["provider"]),
                message.to_owned(),
                "remove `provider`".to_owned(),
            );
            None
        }
    };
    let session = SessionConfig {
        idle: app.session.idle.map(seconds),
        absolute: app.session.absolute.map(seconds),
        default_token_life: app.session.default_token_life.map(seconds),
        claims: app.session.claims,
        storage: store::storage(
            app.session.store,
            app.session.revocation_store,
            &at(&["session"]),
            folder,
            findings,
        ),
    };
    let compatibility = app.compatibility.map(schema::CompatibilitySetting::as_str);
    if compatibility.is_some() && role == Some(Role::Agent) && !session.storage.is_stateful() {
        findings.warning(
            at(&["compatibility"]),
            "sessions are in cookies: when a token expires API calls are 401 `access_token_expired` until the SPA \
             calls `refresh`, which a client of Duende BFF never does"
                .to_owned(),
            "keep sessions in a store, where calls renew their token: `session: {store: memory}`, or `redis://…`"
                .to_owned(),
        );
    }
    let routes = app
        .routes
        .0
        .into_iter()
        .filter_map(|(path, route)| {
            let at = at(&["routes", &path]);
            self::route(path, route, at, folder, findings)
        })
        .collect::<Vec<_>>();
    if several.as_ref().is_some_and(|several| several.len() > 1) {
        warn_of_any_providers_word(&routes, at, findings);
    }
    let config = ApplicationConfig {
        id: id.to_owned(),
        url: app.url,
        app_url: app.app_url,
        origins: app.origins,
        hosts: app.hosts,
        base_path: app.base_path,
        login_callback: app.login.callback,
        provider,
        providers: several,
        default_provider: app.default_provider,
        session,
        csrf_header: app.csrf_header,
        compatibility: compatibility.map(str::to_owned),
        rate_limits: AgentLimitsConfig {
            address: app.rate_limits.address.as_ref().map(rate_limit),
            session: app.rate_limits.session.as_ref().map(rate_limit),
        },
        routes,
        hsts: hsts(app.hsts),
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

fn hsts(written: Option<HstsSetting>) -> HstsConfig {
    match written {
        None => HstsConfig::Default,
        Some(HstsSetting(None)) => HstsConfig::Off,
        Some(HstsSetting(Some(written))) => HstsConfig::Written {
            max_age: written.max_age.map(seconds),
            include_subdomains: written.include_subdomains,
            preload: written.preload,
        },
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
    // below `provider`, or below a name of `providers`
    let position = match path.first().map(String::as_str) {
        Some("providers") => 2,
        _ => 1,
    };
    if let Some(setting) = path.get(position).and_then(|name| name.strip_prefix("logout_"))
        && ["endpoint", "return_parameter"].contains(&setting)
    {
        let name = setting.to_owned();
        path.splice(position..=position, ["logout".to_owned(), name]);
    }
    if let Some(first) = path.first()
        && first == "login_callback"
    {
        path.splice(..1, ["login".to_owned(), "callback".to_owned()]);
    }
    path
}

fn provider(
    written: schema::Provider,
    at: &[String],
    folder: &Path,
    findings: &mut Findings<'_>,
) -> ProviderConfig {
    let below = |name: &str| at.iter().cloned().chain([name.to_owned()]).collect::<Vec<_>>();
    warn_of_habits(&written, below, findings);
    let plain = schema::plain(&written);
    let authorization = authorization::Written {
        pushed: written.pushed_authorization_requests,
        request_object: written.request_object,
        response_mode: written.response_mode,
        claims: written.claims,
        resource: written.resource,
        require_iss: written.require_iss,
    };
    let authorization = authorization::config(authorization, at, folder, findings);
    let secret = written.client_secret.as_ref();
    let secret = secret.map(|secret| client_secret(secret, below("client_secret"), folder, findings));
    let certificate = written.client_certificate.as_ref();
    let loaded = client_auth::load(written.client_auth, certificate, at, folder, findings);
    let at_keys = below("id_token_decryption_keys");
    let decryption_keys =
        tokens::decryption_keys(&written.id_token_decryption_keys, &at_keys, folder, findings);
    let ca = written.ca.as_ref();
    let ca = ca.and_then(|ca| findings.public(ca, below("ca"), folder));
    if ca.as_deref().is_some_and(|ca| !holds_authorities(ca)) {
        findings.error(
            below("ca"),
            "the file holds no certificate that can be used, or one that cannot".to_owned(),
            "point to a PEM file with certificates of authorities only (`-----BEGIN CERTIFICATE-----`)"
                .to_owned(),
        );
    }
    ProviderConfig {
        issuer: written.issuer,
        client_id: written.client_id,
        client_secret: secret,
        client_auth: loaded.auth,
        client_certificate: loaded.certificate,
        certificate_bound_access_tokens: written.certificate_bound_access_tokens,
        ca,
        scopes: written.scopes,
        authorization_parameters: written.parameters.map_or_else(Vec::new, |Named(pairs)| pairs),
        allowed_parameters: written.allowed_parameters,
        authorization,
        leeway: written.leeway.map(seconds),
        timeout: written.timeout.map(interval),
        logout_token_without_exp: written.logout_token_without_exp,
        dpop: dpop(written.dpop.as_ref()),
        profile: written.profile.map(|profile| profile.as_str().to_owned()),
        id_token_decryption_keys: decryption_keys,
        userinfo: written.userinfo.map(Userinfo::as_str).map(str::to_owned),
        plain,
        habits: HabitsConfig {
            preset: written.preset.map(|PresetSetting(name)| name.to_owned()),
            discovery: written.discovery,
            allowed_tenants: written.allowed_tenants,
            danger_any_tenant: written.danger_any_tenant,
            logout_endpoint: written.logout.endpoint,
            logout_return_parameter: written.logout.return_parameter,
            auth_time_may_change: written.auth_time_may_change,
            frontchannel_logout_without_iss: written.frontchannel_logout_without_iss,
        },
    }
}

/// What a route demands, each of several providers may say of its users, and users choose among them.
fn warn_of_any_providers_word(
    routes: &[RouteConfig],
    at: impl Fn(&[&str]) -> Vec<String>,
    findings: &mut Findings<'_>,
) {
    for RouteConfig { path, require, .. } in routes {
        let Some(demands) = require else { continue };
        let asks = !(demands.acr.is_empty() && demands.scopes.is_empty() && demands.claims.is_empty());
        if asks && !demands.claims.iter().any(|(name, _)| name == "iss") {
            findings.warning(
                at(&["routes", path, "require"]),
                "users choose among the providers, and the word of each counts here, also where its users write \
                 their claims themselves"
                    .to_owned(),
                "say whose word counts: `require: {claims: {iss: [https://login.example.com]}}`".to_owned(),
            );
        }
    }
}

/// What is allowed and worth a thought.
fn warn_of_habits(written: &schema::Provider, at: impl Fn(&str) -> Vec<String>, findings: &mut Findings<'_>) {
    if written.danger_any_tenant {
        findings.warning(
            at("danger_any_tenant"),
            "every tenant may sign in: anybody can have one, and write there what they like into most claims"
                .to_owned(),
            "name those that are yours: `allowed_tenants: [8eaef023-2b34-4da1-9baa-8bc8c9d6a490]`".to_owned(),
        );
    }
    let preset = written.preset.and_then(|PresetSetting(name)| Preset::named(name));
    if let Some((name, what)) = preset.and_then(|preset| preset.wants_parameter) {
        let fixed = written.parameters.iter().flat_map(|Named(pairs)| pairs);
        let is_written = fixed.clone().any(|(written, _)| written == name);
        if !is_written && !written.allowed_parameters.iter().any(|open| open == name) {
            findings.warning(
                at("preset"),
                format!(
                    "without the parameter `{name}` this provider's access tokens are of no use to an API"
                ),
                format!("write {what}: `parameters: {{{name}: …}}`"),
            );
        }
    }
}

/// The algorithm, where it is on.
fn dpop(written: Option<&DpopSetting>) -> Option<String> {
    let settings = written?.0.as_ref()?;
    let algorithm = settings
        .algorithm
        .map_or(defaults::DPOP_ALGORITHM, |algorithm| algorithm.0);
    Some(algorithm.to_owned())
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
    let written = [
        ("upstream", route.upstream.is_some()),
        ("static", route.folder.is_some()),
        ("dev_server", route.dev_server.is_some()),
    ];
    let written: Vec<String> = written
        .into_iter()
        .filter(|(_, is_written)| *is_written)
        .map(|(key, _)| format!("`{key}`"))
        .collect();
    let target = match (route.upstream, route.folder, route.dev_server) {
        (Some(addresses), None, None) => upstream::target(addresses, folder),
        (None, Some(path), None) => folder_of_files(folder, &path, &at, findings),
        (None, None, Some(dev_server)) => RouteTargetConfig::DevServer(dev_server),
        (None, None, None) => {
            findings.error(
                at,
                "the route has no target".to_owned(),
                "add `upstream: http://127.0.0.1:5000` or `static: ./dist`".to_owned(),
            );
            return None;
        }
        _ => {
            findings.error(
                at,
                format!("a route has one target, this one has {}", written.join(" and ")),
                "keep one of them".to_owned(),
            );
            return None;
        }
    };
    let at_key = |key: &str| at.iter().cloned().chain([key.to_owned()]).collect::<Vec<_>>();
    let weak = route
        .content_security_policy
        .as_deref()
        .map(policy_weaknesses)
        .unwrap_or_default();
    if !weak.is_empty() {
        findings.warning(
            at_key("content_security_policy"),
            format!("the policy leaves open: {}", weak.join("; ")),
            "remove the setting, and name in `allowed_sources` what the default policy lacks".to_owned(),
        );
    }
    if route.danger_no_content_security_policy {
        findings.warning(
            at_key("danger_no_content_security_policy"),
            "pages have no Content-Security-Policy: an injected script runs, and sends where it likes"
                .to_owned(),
            "name what the default policy lacks: `allowed_sources: {connect-src: [https://api.example.com]}`"
                .to_owned(),
        );
    }
    let files = FilesConfig {
        content_security_policy: route.content_security_policy,
        allowed_sources: route.allowed_sources.map_or_else(Vec::new, |Named(pairs)| pairs),
        headers: route.headers.map_or_else(Vec::new, |Named(pairs)| pairs),
        danger_no_content_security_policy: route.danger_no_content_security_policy,
    };
    let upstream = upstream::Written {
        health_check: route.health_check,
        tls: route.upstream_tls,
        idle_timeout: route.idle_timeout,
        total_timeout: route.total_timeout,
        max_concurrent: route.max_concurrent,
        http2: route.http2,
    };
    let upstream = upstream::config(upstream, &at, folder, findings);
    Some(RouteConfig {
        path,
        target,
        strip_prefix: route.strip_prefix,
        auth: route.auth.map(|auth| auth.0.to_owned()),
        token: route.token.map(token),
        methods: route.methods,
        resources: route.resources,
        cache: route.cache.map(|cache| cache.as_str().to_owned()),
        cookies: route.cookies,
        body_limit: route.body_limit.map(|Size(bytes)| bytes),
        connect_timeout: route.connect_timeout.map(interval),
        timeout: route.timeout.map(interval),
        upstream,
        public_url: route.public_url,
        rate_limit: route.rate_limit.as_ref().map(route_limit),
        forwarded: route.forwarded,
        require: route.require.map(demands),
        files,
    })
}

fn demands(written: schema::Require) -> DemandsConfig {
    DemandsConfig {
        acr: written.acr.unwrap_or_default(),
        max_age: written.max_age.map(seconds),
        scopes: written.scopes.unwrap_or_default(),
        claims: written.claims.map_or_else(Vec::new, |Named(pairs)| pairs),
    }
}

fn token(written: schema::RouteToken) -> TokenConfig {
    TokenConfig {
        resource: written.resource,
        audience: written.audience,
        scopes: written.scopes,
        exchange: written.exchange.map(|exchange| ExchangeConfig {
            resource: exchange.resource,
            audience: exchange.audience,
            scopes: exchange.scopes,
            requested_token_type: exchange.requested_token_type,
        }),
        client_credentials: written.client_credentials.map(|grant| ClientCredentialsConfig {
            resource: grant.resource,
            audience: grant.audience,
            scopes: grant.scopes,
        }),
        introspection: written.introspection.map(|introspection| IntrospectionConfig {
            response: introspection
                .response
                .map(|response| response.as_str().to_owned()),
            audience: introspection.audience,
            cache: introspection.cache.map(interval),
        }),
    }
}

fn rate_limit(written: &schema::RateLimit) -> RateLimitConfig {
    RateLimitConfig {
        requests: written.requests,
        per: interval(written.per),
        burst: written.burst,
    }
}

fn route_limit(written: &schema::RouteLimit) -> RouteLimitConfig {
    RouteLimitConfig {
        limit: RateLimitConfig {
            requests: written.requests,
            per: interval(written.per),
            burst: written.burst,
        },
        by: written.by.map(|by| by.as_str().to_owned()),
    }
}

fn folder_of_files(
    folder: &Path,
    path: &Path,
    at: &[String],
    findings: &mut Findings<'_>,
) -> RouteTargetConfig {
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

fn seconds(WholeSeconds(duration): WholeSeconds) -> std::time::Duration {
    duration
}

fn interval(Interval(duration): Interval) -> std::time::Duration {
    duration
}
