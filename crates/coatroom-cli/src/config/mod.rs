//! The configuration file: read, checked whole, and only then used.
//!
//! [`load`] binds nothing and changes nothing. A file that is not YAML is one error; a file with
//! wrong shapes shows all of them; a file of good shape shows everything the checks found. Secrets
//! are references and are fetched here; no message and no snippet shows one.
//!
//! `document.rs` reads the YAML into a tree that knows where everything stands, `schema.rs` is what
//! may be written, `deserialize.rs` and `shape.rs` read the one from the other, `application.rs` hands it to the
//! core, `diagnostic.rs` shows what is wrong, and `mask.rs` decides what it must not show.

mod application;
mod authorization;
mod client_auth;
mod deserialize;
mod diagnostic;
mod document;
mod findings;
mod json_schema;
mod mask;
mod nearest;
mod overrides;
mod peers;
mod reference;
mod schema;
mod schema_dpop;
mod schema_tls;
mod secret;
mod shape;
mod sources;
mod store;
mod summary;
mod tls;
mod tokens;
mod upstream;
mod values;

#[cfg(test)]
pub(crate) use tls::check as check_pair;

use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use coatroom::Keys;
use coatroom_core::config::{Application, Problem, RouteTarget, check_together};
use coatroom_core::seal::{KeyError, KeyRing, MasterKey, ProxyKey, ProxyRing};

use crate::keygen::{KEYGEN, PROXY_KEYGEN};
use application::Role;
use diagnostic::Diagnostic;
use document::Node;
use findings::Findings;

pub(crate) use diagnostic::{Report, Style, headed};
pub(crate) use document::dotted;
pub(crate) use json_schema::text as schema_text;
pub(crate) use peers::Connections;
pub(crate) use reference::markdown as reference_page;
pub(crate) use schema::{BODY_TIMEOUT, Format, Log, WRITE_TIMEOUT};
pub(crate) use schema_tls::TlsVersion;
pub(crate) use sources::sources;
pub(crate) use summary::Summary;
pub(crate) use tls::{Pem, Tls};
pub(crate) use values::{Listen, shown, size_shown};

/// A configuration that passed every check.
pub(crate) struct Loaded {
    /// The public listener.
    pub(crate) listen: Listen,
    /// The admin listener.
    pub(crate) admin: Listen,
    /// Whether other machines may reach the admin listener.
    pub(crate) danger_public_admin: bool,
    /// The permissions of the Unix socket that `listen` makes.
    pub(crate) unix_mode: Option<u32>,
    /// Where the next process gets the listening sockets.
    pub(crate) handover: Option<PathBuf>,
    /// TLS on the public listener.
    pub(crate) tls: Option<Tls>,
    /// How connections begin, and how many there may be.
    pub(crate) connections: Connections,
    /// The keys that seal cookies.
    pub(crate) keys: Keys,
    /// The applications, in the order of the file.
    pub(crate) applications: Vec<Application>,
    /// The log.
    pub(crate) log: Log,
    /// How many data cores.
    pub(crate) workers: usize,
    /// What only a summary shows.
    pub(crate) summary: Summary,
    /// What deserves a look; may be empty.
    pub(crate) warnings: Report,
}

/// Reads and checks a configuration file, with the settings that the environment overrides.
///
/// # Errors
/// Everything that is wrong with it, each at its place.
pub(crate) fn load(file: &Path) -> Result<Loaded, Report> {
    let name = file.display().to_string();
    let source = read(file).map_err(|(message, hint)| {
        let diagnostic = Diagnostic {
            at: None,
            path: Vec::new(),
            message,
            hint,
        };
        Report::new(name.clone(), String::new(), Vec::new(), vec![diagnostic])
    })?;
    let mut loaded = read_and_check(name, source, &folder_of(file), &overrides::environment())?;
    if let Some(warning) = writable_by_others(file) {
        loaded.warnings.add(warning);
    }
    Ok(loaded)
}

/// Whoever can write the configuration can name commands in it, and files to be served.
fn writable_by_others(file: &Path) -> Option<Diagnostic> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(file).ok()?;
    let mode = metadata.permissions().mode() & 0o777;
    (metadata.is_file() && mode & 0o022 != 0).then(|| Diagnostic {
        at: None,
        path: Vec::new(),
        message: format!(
            "others can write the configuration file (mode {mode:03o}), and with it commands that this process runs"
        ),
        hint: format!("chmod go-w {}", file.display()),
    })
}

fn read_and_check(
    name: String,
    source: String,
    folder: &Path,
    variables: &overrides::Variables,
) -> Result<Loaded, Report> {
    let mut root = match document::parse(&source) {
        Ok(root) => root,
        Err(diagnostic) => {
            let masks = mask::unparsed(&source);
            return Err(Report::new(name, source, masks, vec![*diagnostic]));
        }
    };
    let mut masks = Vec::new();
    mask::mark_stores(&mut root);
    mask::secrets(&root, &mut masks);
    let overrides = overrides::apply(&mut root, source.len(), variables);
    let checked = check(&root, folder, &mut masks);
    let report = |found| Report::new(name, source, masks, found).with_variables(overrides.places);
    match checked {
        Ok((mut loaded, warnings)) if overrides.errors.is_empty() => {
            loaded.warnings = report(warnings);
            loaded.summary.overrides = overrides.applied;
            Ok(loaded)
        }
        Ok(_) => Err(report(overrides.errors)),
        Err(mut errors) => {
            errors.extend(overrides.errors);
            Err(report(errors))
        }
    }
}

fn check(
    root: &Node,
    folder: &Path,
    masks: &mut Vec<Range<usize>>,
) -> Result<(Loaded, Vec<Diagnostic>), Vec<Diagnostic>> {
    if matches!(root.kind, document::Kind::Null) {
        let (message, hint) = (
            "the file is empty",
            "start from the smallest useful file in the README",
        );
        let at = Some(root.span.clone());
        let empty = Diagnostic {
            at,
            path: Vec::new(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        };
        return Err(vec![empty]);
    }
    let file: schema::File = deserialize::read(root, masks)?;
    let mut findings = Findings::new(root);

    let listen = placed(file.listen.unwrap_or(Listen::PUBLIC), folder);
    let admin = placed(file.admin.unwrap_or(Listen::ADMIN), folder);
    listeners(&listen, &admin, file.danger_public_admin, &mut findings);
    if file.danger_public_admin {
        let (message, hint) = if admin.is_local() {
            (
                "the switch is on, although `admin` is an address of this machine only",
                "remove `danger_public_admin: true`: nothing needs it",
            )
        } else {
            (
                "other machines can reach the admin listener, which has no password",
                "let a firewall keep all but your monitoring away from it, or write `admin: 127.0.0.1:9090`",
            )
        };
        findings.warning(key(&["danger_public_admin"]), message.to_owned(), hint.to_owned());
    }
    let tls = file
        .tls
        .and_then(|schema_tls::TlsSetting(tls)| tls::load(&tls, folder, &mut findings));
    let handover = file.handover.map(|path| folder.join(path));
    restarts(&listen, handover.as_deref(), file.unix_mode, &mut findings);
    let workers = workers(file.workers, &mut findings);
    let connections = peers::connections(
        &file.trusted_peers,
        file.peer_header,
        file.proxy_protocol,
        &file.connections,
        &listen,
        workers,
        &mut findings,
    );
    let keys = keys(&file.keys, folder, &mut findings);
    let role = keys.as_ref().map(|keys| match keys {
        Keys::Proxy(_) => Role::Proxy,
        Keys::Agent(_) => Role::Agent,
    });
    let applications = applications(file.apps.0, role, folder, &mut findings);
    dev_servers(&listen, &applications, &mut findings);
    peers::limits_of_nobody(&listen, &connections.trusted_peers, &applications, &mut findings);

    let replicas = replicas(file.replicas, &mut findings);
    store::replicated(replicas, &applications, &mut findings);

    let found = findings.into_parts();
    let (errors, warnings) = (found.errors, found.warnings);
    match keys {
        Some(keys) if errors.is_empty() => {
            let nothing = Report::new(String::new(), String::new(), Vec::new(), Vec::new());
            let loaded = Loaded {
                listen,
                admin,
                danger_public_admin: file.danger_public_admin,
                unix_mode: file.unix_mode.map(|values::Mode(mode)| mode),
                handover,
                tls,
                connections,
                keys,
                applications,
                log: file.log,
                workers,
                summary: Summary {
                    replicas,
                    workers: file.workers,
                    secrets: found.secrets,
                    overrides: Vec::new(),
                },
                warnings: nothing,
            };
            Ok((loaded, warnings))
        }
        _ => Err(errors),
    }
}

/// What `sockaddr_un` holds (108 bytes), without a final zero and a process id behind a dot.
const LONGEST_SOCKET_PATH: usize = 96;

/// The address, a relative socket path made absolute.
fn placed(listen: Listen, folder: &Path) -> Listen {
    match listen {
        Listen::Unix(path) => Listen::Unix(folder.join(path)),
        other @ (Listen::Tcp(_) | Listen::Systemd(_)) => other,
    }
}

fn restarts(
    listen: &Listen,
    handover: Option<&Path>,
    unix_mode: Option<values::Mode>,
    findings: &mut Findings<'_>,
) {
    if unix_mode.is_some() && !matches!(listen, Listen::Unix(_)) {
        findings.error(
            key(&["unix_mode"]),
            "`listen` is no Unix socket of this process".to_owned(),
            "remove `unix_mode`, or write for example `listen: unix:/run/coatroom.sock`; the permissions of a socket \
             that systemd passes are `SocketMode=` in its unit"
                .to_owned(),
        );
    }
    let Some(path) = handover else {
        return;
    };
    if matches!(listen, Listen::Systemd(_)) {
        findings.error(
            key(&["handover"]),
            "systemd keeps the sockets over a restart: nobody has to hand them over".to_owned(),
            "remove `handover`".to_owned(),
        );
    }
    // The name that it is bound under at first has a number behind it.
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        findings.error(
            key(&["handover"]),
            format!("the path is longer than {LONGEST_SOCKET_PATH} bytes"),
            "write a short absolute path, for example `handover: /run/coatroom/handover.sock`".to_owned(),
        );
    }
    if matches!(listen, Listen::Unix(socket) if socket == path) {
        findings.error(
            key(&["handover"]),
            "this is the path of `listen`".to_owned(),
            "write another path, for example `handover: /run/coatroom/handover.sock`".to_owned(),
        );
    }
}

fn listeners(listen: &Listen, admin: &Listen, danger_public_admin: bool, findings: &mut Findings<'_>) {
    if !admin.is_local() && !danger_public_admin {
        findings.error(
            key(&["admin"]),
            "the admin listener must be reachable from this machine only".to_owned(),
            "write `admin: 127.0.0.1:9090` or `admin: unix:/run/coatroom-admin.sock`, or add \
             `danger_public_admin: true` if a firewall keeps browsers away from it"
                .to_owned(),
        );
    }
    if listen.collides_with(admin) {
        findings.error(
            key(&["admin"]),
            "the admin listener and `listen` are the same address".to_owned(),
            "write another port, for example `admin: 127.0.0.1:9090`".to_owned(),
        );
    }
}

/// The ring of the keys, all of one kind.
fn keys(references: &[secret::Reference], folder: &Path, findings: &mut Findings<'_>) -> Option<Keys> {
    let mut masters = Vec::new();
    let mut proxies = Vec::new();
    for (index, reference) in references.iter().enumerate() {
        let at = key(&["keys", &index.to_string()]);
        let Some(text) = findings.secret(reference, at.clone(), folder) else {
            continue;
        };
        let (outcome, keygen) = if ProxyKey::is_one(&text) {
            (ProxyKey::parse(&text).map(|key| proxies.push(key)), PROXY_KEYGEN)
        } else {
            (MasterKey::parse(&text).map(|key| masters.push(key)), KEYGEN)
        };
        if let Err(error) = outcome {
            findings.error(at, error.to_string(), keygen.to_owned());
        }
    }
    if masters.len() + proxies.len() < references.len() {
        return None;
    }
    let ring = match (masters.is_empty(), proxies.is_empty()) {
        (false, false) => {
            findings.error(
                key(&["keys"]),
                "some are a proxy's keys and some are not".to_owned(),
                "give an instance that signs users in only keys of `coatroom keygen`, and one that only forwards \
                 API calls only keys of `coatroom keygen --proxy`"
                    .to_owned(),
            );
            return None;
        }
        (true, false) => ProxyRing::new(proxies).map(Keys::from),
        (_, true) => KeyRing::new(masters).map(Keys::from),
    };
    match ring {
        Ok(ring) => Some(ring),
        Err(KeyError::Duplicate { second, .. }) => {
            let at = key(&["keys", &second.saturating_sub(1).to_string()]);
            findings.error(
                at,
                "this key is already in the list".to_owned(),
                "remove it".to_owned(),
            );
            None
        }
        Err(error) => {
            findings.error(key(&["keys"]), error.to_string(), KEYGEN.to_owned());
            None
        }
    }
}

fn workers(written: Option<u16>, findings: &mut Findings<'_>) -> usize {
    match written {
        Some(workers @ 1..=schema::MAX_WORKERS) => usize::from(workers),
        Some(_) => {
            findings.error(
                key(&["workers"]),
                format!(
                    "expected a number of data cores between 1 and {}",
                    schema::MAX_WORKERS
                ),
                "remove `workers`: then it is one for each core of the machine".to_owned(),
            );
            1
        }
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn replicas(written: Option<u16>, findings: &mut Findings<'_>) -> u16 {
    let replicas = written.unwrap_or(schema::DEFAULT_REPLICAS);
    if !(1..=schema::MAX_REPLICAS).contains(&replicas) {
        findings.error(
            key(&["replicas"]),
            format!(
                "expected a number of processes between 1 and {}",
                schema::MAX_REPLICAS
            ),
            "write how many processes share these keys, for example `replicas: 3`".to_owned(),
        );
    }
    replicas
}

fn applications(
    written: Vec<(String, schema::App)>,
    role: Option<Role>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Vec<Application> {
    if written.is_empty() {
        findings.error(
            key(&["apps"]),
            "there is no application".to_owned(),
            "add one below `apps:`; the README has the smallest useful file".to_owned(),
        );
    }
    let applications: Vec<_> = written
        .into_iter()
        .filter_map(|(id, app)| application::application(&id, app, role, folder, findings))
        .collect();
    for Problem { at, message, hint } in check_together(&applications) {
        let path = ["apps".to_owned()].into_iter().chain(at).collect();
        findings.error(path, message, hint);
    }
    applications
}

/// A browser elsewhere cannot reach an application on loopback, but whoever writes its name into
/// `Host` can.
fn dev_servers(listen: &Listen, applications: &[Application], findings: &mut Findings<'_>) {
    if listen.is_local() {
        return;
    }
    for application in applications {
        for route in &application.routes {
            if matches!(route.target, RouteTarget::DevServer(_)) {
                findings.warning(
                    key(&[
                        "apps",
                        application.id.as_str(),
                        "routes",
                        route.prefix.as_str(),
                        "dev_server",
                    ]),
                    "other machines can reach `listen`, and through it what the development server serves"
                        .to_owned(),
                    "write `listen: 127.0.0.1:8080`, or publish the container's port on 127.0.0.1 only"
                        .to_owned(),
                );
            }
        }
    }
}

fn key(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The folder that relative paths start at.
fn folder_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().map_or_else(PathBuf::new, Path::to_owned)
}

fn read(file: &Path) -> Result<String, (String, String)> {
    let cannot = |error: std::io::Error| {
        (
            format!(
                "the configuration file cannot be read: {}",
                secret::reason(&error)
            ),
            "name it with `--config FILE`, or in COATROOM_CONFIG".to_owned(),
        )
    };
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .map_err(cannot)?
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > LONGEST {
        let hint = "name the configuration file with `--config FILE`".to_owned();
        return Err(("the configuration file is longer than 1 MiB".to_owned(), hint));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| {
        let message = "the configuration file is not UTF-8 text".to_owned();
        (message, "save it as UTF-8".to_owned())
    })?;
    // Editors of one system put a byte order mark in front.
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// Longer than any configuration.
const LONGEST: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: [&str; 3] = [
        "keys: [hunter2]\napps:\n  shop:\n    provider:\n      client_id: a\n      client_secret: hunter2\n      \
         scopes: []\n",
        "keys:\n- file: hunter2\n- hunter2\napps:\n  shop:\n    provider: {client_secret: {env: hunter2}, client_id: b}\n",
        "apps:\n  shop:\n    provider:\n      client_secret: |\n        hunter2\n    session:\n      \
         store: redis://:hunter2@localhost\nkeys: [{file: \"hunter2\"}]\n",
    ];

    /// What a slip of the finger makes of a character.
    const SLIPS: [&str; 19] = [
        "", " ", ":", ": ", "{", "}", "[", "]", ",", "\"", "'", "#", " #", "&", "*", "!", "|", "-", "?",
    ];

    #[test]
    fn no_slip_in_a_file_makes_its_errors_show_a_secret() {
        for source in SOURCES {
            for (at, c) in source.char_indices() {
                // A slip inside the secret makes another word of it.
                let inside = source
                    .match_indices("hunter2")
                    .any(|(start, word)| start < at && at < start + word.len());
                for slip in SLIPS.iter().filter(|_| !inside) {
                    for rest in [at, at + c.len_utf8()] {
                        let broken = format!("{}{slip}{}", &source[..at], &source[rest..]);
                        if let Err(report) =
                            read_and_check("f".to_owned(), broken.clone(), Path::new("/nowhere"), &[])
                        {
                            let shown = report.to_string();
                            assert!(!shown.contains("hunter2"), "{broken}\n{shown}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn no_unfinished_file_makes_its_errors_show_a_secret() {
        for source in SOURCES {
            for (at, _) in source.char_indices() {
                for rest in ["", "\n", "}", "]", "\"", ":", "\n  x", "\n    - ]"] {
                    let broken = format!("{}{rest}", &source[..at]);
                    if let Err(report) =
                        read_and_check("f".to_owned(), broken.clone(), Path::new("/nowhere"), &[])
                    {
                        assert!(!report.to_string().contains("hunter2"), "{broken}\n{report}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("f");
        std::fs::write(&file, "\u{feff}keys: []\n").expect("the folder is writable");
        assert_eq!(read(&file).as_deref(), Ok("keys: []\n"));
    }

    #[test]
    fn what_is_no_text_or_too_long_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("f");
        for (content, expected) in [
            (vec![0xff], "the configuration file is not UTF-8 text"),
            (
                vec![b' '; 1024 * 1024 + 1],
                "the configuration file is longer than 1 MiB",
            ),
        ] {
            std::fs::write(&file, content).expect("the folder is writable");
            assert_eq!(
                read(&file).map_err(|(message, _)| message),
                Err(expected.to_owned())
            );
        }
        assert!(read(folder.path()).is_err());
    }
}
