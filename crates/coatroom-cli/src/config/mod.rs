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
mod deserialize;
mod diagnostic;
mod document;
mod findings;
mod mask;
mod nearest;
mod schema;
mod secret;
mod shape;
mod tls;
mod values;

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use coatroom_core::config::{Application, Problem, check_together};
use coatroom_core::seal::{KeyError, KeyRing, MasterKey};

use diagnostic::Diagnostic;
use document::Node;
use findings::Findings;

pub(crate) use diagnostic::{Report, Style, headed};
pub(crate) use schema::{Format, Log};
pub(crate) use tls::Tls;
pub(crate) use values::{Listen, shown};

/// A configuration that passed every check.
pub(crate) struct Loaded {
    /// The public listener.
    pub(crate) listen: Listen,
    /// The admin listener.
    pub(crate) admin: Listen,
    /// TLS on the public listener.
    pub(crate) tls: Option<Tls>,
    /// The keys that seal cookies.
    pub(crate) keys: KeyRing,
    /// The applications, in the order of the file.
    pub(crate) applications: Vec<Application>,
    /// The log.
    pub(crate) log: Log,
    /// How many data cores.
    pub(crate) workers: usize,
    /// What deserves a look; may be empty.
    pub(crate) warnings: Report,
}

/// Reads and checks a configuration file.
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
    read_and_check(name, source, &folder_of(file))
}

fn read_and_check(name: String, source: String, folder: &Path) -> Result<Loaded, Report> {
    let root = match document::parse(&source) {
        Ok(root) => root,
        Err(diagnostic) => {
            let masks = mask::unparsed(&source);
            return Err(Report::new(name, source, masks, vec![*diagnostic]));
        }
    };
    let mut masks = Vec::new();
    mask::secrets(&root, &mut masks);
    check(&root, folder, &mut masks)
        .map(|(mut loaded, warnings)| {
            loaded.warnings = Report::new(name.clone(), source.clone(), masks.clone(), warnings);
            loaded
        })
        .map_err(|errors| Report::new(name, source, masks, errors))
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

    let listen = placed(file.listen, folder, 8080);
    let admin = placed(file.admin, folder, 9090);
    listeners(&listen, &admin, file.danger_public_admin, &mut findings);
    let tls = file.tls.and_then(|tls| tls::load(&tls, folder, &mut findings));
    let keys = keys(&file.keys, folder, &mut findings);
    let workers = workers(file.workers, &mut findings);
    let applications = applications(file.apps.0, folder, &mut findings);

    let (errors, warnings) = findings.into_parts();
    match keys {
        Some(keys) if errors.is_empty() => {
            let nothing = Report::new(String::new(), String::new(), Vec::new(), Vec::new());
            let loaded = Loaded {
                listen,
                admin,
                tls,
                keys,
                applications,
                log: file.log,
                workers,
                warnings: nothing,
            };
            Ok((loaded, warnings))
        }
        _ => Err(errors),
    }
}

/// The address as written, a relative socket path made absolute; else the port on this machine.
fn placed(listen: Option<Listen>, folder: &Path, default_port: u16) -> Listen {
    match listen {
        Some(Listen::Unix(path)) => Listen::Unix(folder.join(path)),
        Some(tcp) => tcp,
        None => Listen::Tcp((Ipv4Addr::LOCALHOST, default_port).into()),
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

fn keys(references: &[secret::Reference], folder: &Path, findings: &mut Findings<'_>) -> Option<KeyRing> {
    let mut keys = Vec::new();
    for (index, reference) in references.iter().enumerate() {
        let at = key(&["keys", &index.to_string()]);
        let Some(text) = findings.secret(reference, at.clone(), folder) else {
            continue;
        };
        match MasterKey::parse(&text) {
            Ok(key) => keys.push(key),
            Err(error) => findings.error(at, error.to_string(), KEYGEN.to_owned()),
        }
    }
    if keys.len() < references.len() {
        return None;
    }
    match KeyRing::new(keys) {
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
        Some(workers @ 1..=1024) => usize::from(workers),
        Some(_) => {
            findings.error(
                key(&["workers"]),
                "expected a number of data cores between 1 and 1024".to_owned(),
                "remove `workers`: then it is one for each core of the machine".to_owned(),
            );
            1
        }
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn applications(
    written: Vec<(String, schema::App)>,
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
        .filter_map(|(id, app)| application::application(&id, app, folder, findings))
        .collect();
    for Problem { at, message, hint } in check_together(&applications) {
        let path = ["apps".to_owned()].into_iter().chain(at).collect();
        findings.error(path, message, hint);
    }
    applications
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
            "name it with `--config FILE`".to_owned(),
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

const KEYGEN: &str = "coatroom keygen > coatroom.key";

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
                            read_and_check("f".to_owned(), broken.clone(), Path::new("/nowhere"))
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
                    if let Err(report) = read_and_check("f".to_owned(), broken.clone(), Path::new("/nowhere"))
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
