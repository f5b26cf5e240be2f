//! `coatroom check`: what a configuration means, in a form that can be compared with the intention.
//!
//! It shows what to register at the provider, who may call which path and where that goes, the
//! cookies and the clocks. It binds nothing, calls nobody, and shows no secret.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use coatroom_core::config::{Application, Auth, Callback, ClientAuthMethod, Route, RouteTarget};
use coatroom_core::cookie::{Cookies, Jar, Kind, LoginTag};
use coatroom_core::guard::Class;
use coatroom_core::route::Resolved;

use crate::config::{Loaded, shown};

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
    let count = loaded.applications.len();
    let applications = if count == 1 {
        "1 application".to_owned()
    } else {
        format!("{count} applications")
    };
    let tls = if loaded.tls.is_some() { " with TLS" } else { "" };
    writeln!(out, "{} is good: {applications}", file.display())?;
    writeln!(out, "  listen   {}{tls}", loaded.listen)?;
    writeln!(out, "  admin    {}", loaded.admin)?;
    writeln!(
        out,
        "  log      {}, {}",
        loaded.log.format.as_str(),
        loaded.log.level.as_str()
    )?;
    for application in &loaded.applications {
        writeln!(out)?;
        describe(&mut out, application)?;
    }
    Ok(out)
}

fn describe(out: &mut String, application: &Application) -> fmt::Result {
    let url = application.url.as_str();
    let base_path = &application.base_path;
    let provider = &application.provider;
    let origins: Vec<_> = application.origins.iter().map(|origin| origin.as_str()).collect();
    let callback = match &application.callback {
        Callback::Agent => format!("{url}{base_path}/callback"),
        Callback::Spa(page) => page.to_string(),
    };
    let method = match provider.client_auth.method {
        ClientAuthMethod::FromMetadata => "as the provider's metadata says",
        ClientAuthMethod::Basic => "basic",
        ClientAuthMethod::BasicRaw => "basic_raw",
        ClientAuthMethod::Post => "post",
    };
    writeln!(out, "{}  {url}", application.id.as_str())?;
    writeln!(out, "  provider     {}", provider.issuer)?;
    writeln!(
        out,
        "    client     {}, client authentication {method}",
        provider.client_id
    )?;
    writeln!(out, "    scopes     {}", provider.scopes.join(" "))?;
    writeln!(out, "    register   {callback} (redirect URI)")?;
    writeln!(
        out,
        "               {url}{base_path}/logout/callback (post-logout redirect URI)"
    )?;
    writeln!(out, "  application  {}", address(&application.app_url))?;
    writeln!(out, "    origins    {}", origins.join(" "))?;
    writeln!(out, "    header     {}", application.csrf_header)?;
    clocks(out, application)?;
    routes(out, application)?;
    cookies(out, application)
}

fn clocks(out: &mut String, application: &Application) -> fmt::Result {
    let session = &application.session;
    let provider = &application.provider;
    writeln!(out, "  session      sealed cookies, no store")?;
    writeln!(out, "    idle       {}", shown(session.idle))?;
    writeln!(out, "    absolute   {}", shown(session.absolute))?;
    writeln!(
        out,
        "    token      {} where the provider does not say",
        shown(session.default_token_life)
    )?;
    writeln!(
        out,
        "    provider   answers within {}, its clock may differ by {}",
        shown(provider.timeout),
        shown(provider.leeway)
    )
}

fn routes(out: &mut String, application: &Application) -> fmt::Result {
    let agent = [
        application.base_path.clone(),
        "-".to_owned(),
        "by endpoint".to_owned(),
        "the agent".to_owned(),
    ];
    let rows = application.routes.iter().enumerate().map(row);
    writeln!(out, "  routes")?;
    table(
        out,
        ["path", "auth", "guard", "target"].map(str::to_owned),
        std::iter::once(agent).chain(rows),
    )
}

fn row((index, route): (usize, &Route)) -> [String; 4] {
    let target = match &route.target {
        RouteTarget::Upstream(url) if route.strip_prefix => format!("{}, without the prefix", address(url)),
        RouteTarget::Upstream(url) => address(url).to_owned(),
        RouteTarget::Static(folder) => format!("files in {}", folder.display()),
        RouteTarget::Inner => "the wrapped service".to_owned(),
    };
    let auth = match route.auth {
        Auth::Required => "required",
        Auth::Optional => "optional",
        Auth::None => "none",
    };
    // What the guard itself would go by, not a second opinion.
    let guard = match Class::of(&Resolved::Proxy { index, route }) {
        Class::Fetch | Class::ProxiedFetch { resources: false } => "fetch",
        Class::ProxiedFetch { resources: true } => "fetch, resources",
        Class::Navigation => "navigation",
        Class::Provider => "provider",
        Class::ProxiedNone => "WebSocket origin",
        Class::None => "none",
    };
    [
        route.prefix.as_str().to_owned(),
        auth.to_owned(),
        guard.to_owned(),
        target,
    ]
}

/// A URL without the slash that stands for no path.
fn address(url: &impl AsRef<str>) -> &str {
    let url = url.as_ref();
    url.strip_suffix('/').unwrap_or(url)
}

/// The table as the cookies are really written: read off the line that would clear each.
fn cookies(out: &mut String, application: &Application) -> fmt::Result {
    let absolute = shown(application.session.absolute);
    let login = LoginTag::of("");
    let kinds = [
        (Kind::Access, absolute.clone()),
        (Kind::Session, absolute.clone()),
        (Kind::Login(login), "10m".to_owned()),
        (Kind::Logout, "10m".to_owned()),
        (Kind::Ended, absolute.clone()),
        (Kind::Refused, absolute),
    ];
    let cookies = Cookies::new(&application.id, &application.base_path, &application.callback);
    let cookies = cookies.map_err(|_| fmt::Error)?;
    let jar = Jar::new([]);
    let rows = kinds.into_iter().map(|(kind, life)| {
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
        let name = cookies.name(kind).replace(login.as_str(), "…");
        [name, attribute("Path"), attribute("SameSite"), life]
    });
    writeln!(out, "  cookies")?;
    table(out, ["name", "path", "SameSite", "life"].map(str::to_owned), rows)
}

/// Columns as wide as their widest cell; the last one ends where its text ends.
fn table<const N: usize>(
    out: &mut String,
    head: [String; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    for row in &rows {
        out.push_str("   ");
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == N {
                write!(out, " {cell}")?;
            } else {
                let width = rows
                    .iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0);
                write!(out, " {cell:width$} ")?;
            }
        }
        out.push('\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_its_columns() {
        let mut out = String::new();
        let rows = [["a", "bbbb", "c"], ["é", "b", "cc"]].map(|row| row.map(str::to_owned));
        table(
            &mut out,
            ["one", "two", "three"].map(str::to_owned),
            rows.into_iter(),
        )
        .expect("a string takes all");
        assert_eq!(out, "    one  two   three\n    a    bbbb  c\n    é    b     cc\n");
    }
}
