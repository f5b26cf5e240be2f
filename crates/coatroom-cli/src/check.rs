//! `coatroom check`: what a configuration means, in tables that can be compared with the intention.
//!
//! Who may call what and with which credential, what to register at the provider, the cookies, the
//! clocks, where keys and secrets come from. It binds nothing, calls nobody, and shows no secret.
//! Guards, and the names, paths and `SameSite` of cookies, are asked of the code that guards and
//! writes; the rest is said here.

mod clients;
mod clocks;
mod cookies;
mod guards;
mod plain;
mod routes;
mod sessions;
pub(crate) mod table;
mod upstreams;

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use coatroom::Keys;
use coatroom_core::config::{
    AnonymousUser, Application, AssertionAudience, Authorization, Callback, ClientAuth, ClientAuthMethod,
    Compatibility, Hsts, LogoutReturn, Provider, ProviderName, PushedRequests, ResponseMode, TlsMethod,
    Userinfo,
};

use crate::config::{Loaded, dotted};
use table::{list, table};

/// Prints the summary.
///
/// # Errors
/// When standard output takes none.
pub(crate) fn run(file: &Path, loaded: &Loaded) -> anyhow::Result<()> {
    let text = summary(file, loaded).context("the summary cannot be written")?;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("the summary cannot be written to standard output")
}

fn summary(file: &Path, loaded: &Loaded) -> Result<String, fmt::Error> {
    let mut out = String::new();
    writeln!(
        out,
        "{} is good: {}, {}\n",
        file.display(),
        counted(loaded.applications.len(), "application"),
        counted(loaded.warnings.len(), "warning")
    )?;
    process(&mut out, loaded)?;
    clients::connections(&mut out, loaded)?;
    keys(&mut out, loaded)?;
    secrets(&mut out, loaded)?;
    overrides(&mut out, loaded)?;
    for application in &loaded.applications {
        writeln!(out, "\n{}  {}", application.id.as_str(), application.url.as_str())?;
        parties(&mut out, application)?;
        registration(&mut out, application)?;
        routes::routes(&mut out, application)?;
        routes::client_tokens(&mut out, application)?;
        upstreams::addresses(&mut out, application)?;
        upstreams::names(&mut out, application)?;
        routes::limits(&mut out, application)?;
        upstreams::settings(&mut out, application)?;
        clients::rate_limits(&mut out, application)?;
        routes::files(&mut out, application)?;
        routes::agent(&mut out, application)?;
        sessions::sessions(&mut out, application)?;
        cookies::cookies(&mut out, application)?;
        clocks::clocks(&mut out, application)?;
    }
    guards::guards(&mut out, &loaded.applications)?;
    Ok(out)
}

fn process(out: &mut String, loaded: &Loaded) -> fmt::Result {
    let tls = match &loaded.tls {
        Some(tls) => {
            let certificates = match tls.certificates.len() {
                1 => String::new(),
                several => format!(" with {several} certificates"),
            };
            let minimum = tls.minimum.as_str();
            format!("HTTPS{certificates} (TLS {minimum} or later)")
        }
        None => "plain HTTP".to_owned(),
    };
    let log = format!("{}, {}", loaded.log.format.as_str(), loaded.log.level.as_str());
    let workers = match loaded.summary.workers {
        Some(workers) => counted(workers.into(), "data core"),
        None => "one data core for each core of the machine".to_owned(),
    };
    let replicas = match loaded.summary.replicas {
        1 => "one process has these keys".to_owned(),
        several => format!("{several} processes share these keys"),
    };
    list(
        out,
        "process",
        [
            [
                "listen".to_owned(),
                format!("{}, {tls}, for browsers", loaded.listen),
            ],
            [
                "admin".to_owned(),
                format!("{}, plain HTTP, for operators", loaded.admin),
            ],
            ["workers".to_owned(), workers],
            ["log".to_owned(), log],
            ["replicas".to_owned(), replicas],
        ],
    )
}

/// The ids stand in the clear in every cookie: they tell keys apart and nothing of the keys.
fn keys(out: &mut String, loaded: &Loaded) -> fmt::Result {
    let does = match &loaded.keys {
        Keys::Agent(_) => ["seals and opens", "opens"],
        Keys::Proxy(_) => ["opens access cookies", "opens access cookies"],
    };
    let rows = loaded.keys.ids().into_iter().enumerate().map(|(index, id)| {
        let at = ["keys".to_owned(), index.to_string()];
        let secrets = &loaded.summary.secrets;
        let from = secrets.iter().find(|secret| secret.path == at);
        [
            id,
            does[index.min(1)].to_owned(),
            from.map(|secret| format!("{} {}", secret.kind, secret.place))
                .unwrap_or_default(),
        ]
    });
    table(out, "keys", ["id", "does", "from"], rows)
}

fn secrets(out: &mut String, loaded: &Loaded) -> fmt::Result {
    let secrets = loaded.summary.secrets.iter();
    let rows = secrets
        .filter(|secret| secret.path.first().is_none_or(|name| name != "keys"))
        .map(|secret| [dotted(&secret.path), format!("{} {}", secret.kind, secret.place)]);
    table(out, "secrets and certificates", ["setting", "from"], rows)
}

fn overrides(out: &mut String, loaded: &Loaded) -> fmt::Result {
    let overrides = loaded.summary.overrides.iter();
    let rows = overrides.map(|set| [set.variable.clone(), dotted(&set.path)]);
    table(
        out,
        "settings from the environment",
        ["variable", "setting"],
        rows,
    )
}

fn parties(out: &mut String, application: &Application) -> fmt::Result {
    let words = |words: Vec<&str>| words.join(" ");
    let origins: Vec<&str> = application.origins.iter().map(|origin| origin.as_str()).collect();
    let claims = match &application.session.claims {
        Some(claims) => claims.join(" "),
        None => "all but the protocol's own".to_owned(),
    };
    let one = match application.providers.as_slice() {
        [] => vec![("provider", "none: only API calls are forwarded here".to_owned())],
        [provider] if provider.name.is_none() => parties_of(provider, claims),
        several => {
            for provider in several {
                let name = provider.name.as_ref().map_or("", |name| name.as_str());
                let rows = parties_of(provider, claims.clone());
                let rows = rows.into_iter().filter(|(_, what)| !what.is_empty());
                let rows = rows.map(|(name, what)| [name.to_owned(), what]);
                list(out, &format!("provider {name}"), rows)?;
            }
            vec![("providers", names(application))]
        }
    };
    let rows = [
        ("SPA", address(&application.app_url).to_owned()),
        ("its origins", words(origins)),
        ("hosts", application.hosts.join(" ")),
        ("fetch header", application.csrf_header.to_string()),
        ("clients of", compatibility(application)),
        ("HSTS", hsts(&application.hsts)),
    ];
    let rows = one.into_iter().chain(rows);
    let rows = rows.filter(|(_, what)| !what.is_empty());
    list(out, "parties", rows.map(|(name, what)| [name.to_owned(), what]))
}

/// The names of several providers, the default one first.
fn names(application: &Application) -> String {
    let default = application.provider.as_ref();
    let is_default = |provider: &&Arc<Provider>| default.is_some_and(|it| Arc::ptr_eq(it, provider));
    let name = |provider: &Arc<Provider>| provider.name.as_ref().map_or("", |name| name.as_str()).to_owned();
    let providers = application.providers.iter();
    let others = providers
        .clone()
        .filter(|provider| !is_default(provider))
        .map(name);
    let first = providers
        .filter(is_default)
        .map(|provider| format!("{} (the default)", name(provider)));
    first.chain(others).collect::<Vec<_>>().join(", ")
}

fn compatibility(application: &Application) -> String {
    match application.compatibility {
        None => String::new(),
        Some(Compatibility::DuendeBff(AnonymousUser::Unauthorized)) => {
            "Duende BFF too; `user` is 401 when nobody is signed in".to_owned()
        }
        Some(Compatibility::DuendeBff(AnonymousUser::Null)) => {
            "Duende BFF too; `user` is 200 `null` when nobody is signed in".to_owned()
        }
    }
}

fn hsts(hsts: &Hsts) -> String {
    match hsts {
        Hsts::Written(value) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        Hsts::Removed => String::new(),
        Hsts::Kept => "not written here".to_owned(),
    }
}

fn parties_of(provider: &Provider, claims: String) -> Vec<(&'static str, String)> {
    let fixed: Vec<&str> = provider
        .authorization_parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let mut rows = vec![
        ("provider", provider.issuer.clone()),
        (
            "client",
            format!("{}, {}", provider.client_id, authenticated(provider)),
        ),
        ("client certificate", certificate(provider)),
        ("scopes", provider.scopes.join(" ")),
        (
            "access tokens",
            provider.dpop.map_or_else(String::new, |algorithm| {
                format!("bound to a key of each session (DPoP, {})", algorithm.alg())
            }),
        ),
        (
            "ID tokens",
            match provider.id_token_decryption_keys.len() {
                0 => String::new(),
                1 => "have to be encrypted, to one key".to_owned(),
                several => format!("have to be encrypted, to one of {several} keys"),
            },
        ),
        (
            "userinfo",
            match provider.userinfo {
                Userinfo::Never => String::new(),
                Userinfo::Always => "asked at each sign-in and each refresh".to_owned(),
            },
        ),
        ("fixed parameters", fixed.join(" ")),
        ("the SPA may add", provider.allowed_parameters.join(" ")),
        ("resources", provider.authorization.resource.join(" ")),
        ("requests", requests(&provider.authorization)),
        ("responses", responses(&provider.authorization)),
        ("claims for the SPA", claims),
        ("tenants", tenants(provider)),
        ("profile", provider.profile.name().unwrap_or_default().to_owned()),
        ("preset", preset(provider)),
        ("sign-out", sign_out(provider)),
        ("metadata", metadata(provider)),
        ("tolerated", tolerated(provider)),
    ];
    rows.extend(plain::parties(provider.plain.as_ref()));
    rows
}

/// Who may sign in where the issuer stands for many.
fn tenants(provider: &Provider) -> String {
    match provider.habits.tenants.as_ref().map(|tenants| tenants.allowed()) {
        None => String::new(),
        Some(None) => "every one: anybody can have one".to_owned(),
        Some(Some(allowed)) => allowed.join(" "),
    }
}

/// The preset, and what it filled in.
fn preset(provider: &Provider) -> String {
    let Some((preset, filled)) = &provider.habits.preset else {
        return String::new();
    };
    let filled: Vec<String> = filled
        .iter()
        .map(|filled| format!("{}: {}", filled.setting, filled.value))
        .collect();
    match filled.as_slice() {
        [] => format!("{}, which filled nothing in", preset.name),
        _ => format!("{}, which filled in {}", preset.name, filled.join("; ")),
    }
}

/// How sign-out goes on, where that is not by the book.
fn sign_out(provider: &Provider) -> String {
    let at = provider.habits.logout_endpoint.as_ref().map(ToString::to_string);
    match (&provider.habits.logout_return, at) {
        (LogoutReturn::Standard, None) => String::new(),
        (LogoutReturn::Standard, Some(at)) => format!("goes on at {at}"),
        (LogoutReturn::Parameter(name), at) => {
            let at = at.unwrap_or_else(|| "the page that the provider's metadata names".to_owned());
            format!("goes on at {at}, which is told by `{name}` where to return to")
        }
    }
}

/// Where the provider describes itself, if that is not below the issuer.
fn metadata(provider: &Provider) -> String {
    let at = provider.habits.discovery.as_ref();
    at.map_or_else(String::new, |url| format!("at {url}"))
}

/// What this provider may do although the specifications say otherwise.
fn tolerated(provider: &Provider) -> String {
    let habits = [
        (
            provider.habits.auth_time_may_change,
            "refreshed ID tokens with another auth_time, which count as not sent",
        ),
        (
            provider.habits.frontchannel_logout_without_iss,
            "front-channel logout without iss",
        ),
        (provider.logout_token_without_exp, "logout tokens without exp"),
    ];
    let habits: Vec<&str> = habits
        .into_iter()
        .chain(plain::tolerated(provider.plain.as_ref()))
        .filter_map(|(is_on, what)| is_on.then_some(what))
        .collect();
    habits.join("; ")
}

/// Only what is written: otherwise the metadata decide whether requests are pushed.
fn requests(settings: &Authorization) -> String {
    let pushed = match settings.pushed {
        PushedRequests::Auto => None,
        PushedRequests::Required => Some("always pushed".to_owned()),
        PushedRequests::Never => Some("never pushed".to_owned()),
    };
    let signed = settings.request_object.as_ref().map(|key| match key.kid() {
        Some(kid) => format!("signed with {} by the key {kid}", key.alg()),
        None => format!("signed with {}", key.alg()),
    });
    let claims = settings.claims.as_ref().map(|claims| format!("claims {claims}"));
    let parts: Vec<String> = pushed.into_iter().chain(signed).chain(claims).collect();
    parts.join("; ")
}

fn responses(settings: &Authorization) -> String {
    match settings.response_mode {
        ResponseMode::Query if settings.require_iss => "say whose they are (`iss`); no other is accepted",
        ResponseMode::Query => "",
        ResponseMode::Jwt => "signed, as jwt; no other is accepted",
        ResponseMode::QueryJwt => "signed, as query.jwt; no other is accepted",
        ResponseMode::FormPost => "by a form of the provider's page; no other is accepted",
    }
    .to_owned()
}

fn authenticated(provider: &Provider) -> String {
    match &provider.client_auth {
        ClientAuth::Secret(method, _) => match method {
            ClientAuthMethod::FromMetadata => "its secret sent as the provider's metadata says",
            ClientAuthMethod::Basic => "its secret sent by basic",
            ClientAuthMethod::BasicRaw => "its secret sent by basic_raw",
            ClientAuthMethod::Post => "its secret sent by post",
            ClientAuthMethod::Jwt => "by client_secret_jwt (HS256)",
        }
        .to_owned(),
        ClientAuth::PrivateKeyJwt(jwt) => {
            let or = jwt.rs256.as_ref().map_or("", |_| " or RS256");
            let audience = match jwt.audience {
                AssertionAudience::Issuer => "issuer",
                AssertionAudience::TokenEndpoint => "token endpoint",
            };
            let (alg, kid) = (jwt.key.alg(), jwt.key.kid().unwrap_or_default());
            format!("by private_key_jwt ({alg}{or}, kid {kid}), for the {audience}")
        }
        ClientAuth::Tls(TlsMethod::Pki) => "by tls_client_auth".to_owned(),
        ClientAuth::Tls(TlsMethod::SelfSigned) => "by self_signed_tls_client_auth".to_owned(),
        ClientAuth::AssertionFile(file) => format!("by the assertion in {}", file.display()),
    }
}

fn certificate(provider: &Provider) -> String {
    match (
        &provider.client_certificate,
        provider.certificate_bound_access_tokens,
    ) {
        (None, _) => "",
        (Some(_), false) => "shown to the provider's back channel",
        (Some(_), true) => "shown to the provider's back channel and to APIs: access tokens are bound to it",
    }
    .to_owned()
}

fn registration(out: &mut String, application: &Application) -> fmt::Result {
    for provider in &application.providers {
        registration_at(out, application, provider.name.as_ref())?;
    }
    Ok(())
}

fn registration_at(
    out: &mut String,
    application: &Application,
    provider: Option<&ProviderName>,
) -> fmt::Result {
    let base = format!("{}{}", application.url.as_str(), application.base_path);
    let (title, own) = match provider {
        None => ("to be registered at the provider".to_owned(), String::new()),
        Some(name) => (
            format!("to be registered at the provider {}", name.as_str()),
            format!("/{}", name.as_str()),
        ),
    };
    let callback = match &application.callback {
        Callback::Agent => format!("{base}/callback{own}"),
        Callback::Spa(page) => page.to_string(),
    };
    let mut rows = vec![
        ("redirect URI", callback),
        ("post-logout redirect URI", format!("{base}/logout/callback")),
    ];
    // without a store there is no place to say that a session has ended
    if application.session.storage.settings().is_some() {
        rows.push((
            "back-channel logout URI",
            format!("{base}/backchannel-logout{own}"),
        ));
        if application.compatibility.is_some() {
            rows.push(("or as Duende BFF has it", format!("{base}/backchannel{own}")));
        }
        rows.push((
            "or front-channel logout URI",
            format!("{base}/frontchannel-logout{own}"),
        ));
    }
    if !application.client_grants.is_empty() {
        rows.push((
            "grant type",
            "client_credentials, beside those of sign-ins".to_owned(),
        ));
    }
    list(
        out,
        &title,
        rows.into_iter().map(|(name, uri)| [name.to_owned(), uri]),
    )
}

/// A URL without the slash that stands for no path.
fn address(url: &impl AsRef<str>) -> &str {
    let url = url.as_ref();
    url.strip_suffix('/').unwrap_or(url)
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
