//! Secrets by reference: `{file: …}`, `{env: …}`, `{credential: …}`, `{command: …}`.
//!
//! A secret is never written into the configuration, and what stands there in its place is never
//! quoted: people paste the secret itself where its name belongs. A command runs without a shell,
//! without input, and not longer than [`DEADLINE`]; what it writes to its standard error is dropped.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::cli::quoted;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// In a file; a relative path starts at the configuration file's folder.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
    /// In a systemd credential: a file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// What a command prints.
    Command(Vec<String>),
}

/// A secret that was found.
pub(crate) struct Resolved {
    /// The secret, without its final line feed.
    pub(crate) text: String,
    /// What deserves a warning about the place it was found in.
    pub(crate) warning: Option<Remark>,
}

/// What is to be said about a secret: why it could not be had, or who else can have it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    /// What is wrong; never the reference, never the secret.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: String,
}

impl Reference {
    /// Fetches the secret. `folder` is the configuration file's.
    ///
    /// # Errors
    /// Why it could not be had, or that it is empty, too long or not text.
    pub(crate) fn resolve(&self, folder: &Path) -> Result<Resolved, Remark> {
        let (bytes, warning) = match self {
            Self::File(path) => read_file(&folder.join(path), "the file", &relative_hint(folder))?,
            Self::Env(name) => (from_environment(name)?.into_bytes(), None),
            Self::Credential(name) => read_credential(name)?,
            Self::Command(argv) => (run(argv, folder)?, None),
        };
        let mut text = String::from_utf8(bytes).map_err(|_| {
            remark(
                "the secret is not text",
                "store it as UTF-8 text, such as base64url",
            )
        })?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.trim().is_empty() {
            return Err(remark(
                "the secret is empty",
                "put the secret where this reference points",
            ));
        }
        Ok(Resolved { text, warning })
    }
}

/// What was read, and what is to be said about it.
type Bytes = (Vec<u8>, Option<Remark>);

fn from_environment(name: &str) -> Result<String, Remark> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(remark(
            "this is no name of an environment variable",
            "write for example `{env: CLIENT_SECRET}`",
        ));
    }
    match std::env::var(name) {
        Ok(value) => Ok(value),
        Err(std::env::VarError::NotPresent) => Err(remark(
            "the environment variable named here is not set",
            "set it for this process: `NAME=… coatroom …`, `Environment=` in systemd, `env:` in Kubernetes",
        )),
        Err(std::env::VarError::NotUnicode(_)) => Err(remark(
            "the secret is not text",
            "store it as UTF-8 text, such as base64url",
        )),
    }
}

fn read_credential(name: &str) -> Result<Bytes, Remark> {
    let hint = "add `LoadCredential=NAME:/path/to/file` to the systemd unit";
    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        return Err(remark("this is no name of a systemd credential", hint));
    }
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        return Err(remark(
            "$CREDENTIALS_DIRECTORY is not set: systemd passed no credentials",
            hint,
        ));
    };
    // systemd keeps that folder to the service's own user, whatever the mode of the files.
    let (bytes, _) = read_file(&Path::new(&folder).join(name), "the credential", hint)?;
    Ok((bytes, None))
}

fn read_file(path: &Path, what: &str, hint: &str) -> Result<Bytes, Remark> {
    let cannot = |error: std::io::Error| remark(&format!("{what} cannot be read: {}", reason(&error)), hint);
    if is_named_pipe(path) {
        // opening it would wait for a writer, perhaps for ever
        let hint = "use a file, or `{command: [PROGRAM, ARGUMENT]}`";
        return Err(remark(&format!("{what} cannot be read: it is a pipe"), hint));
    }
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(remark(&format!("{what} cannot be read: it is a folder"), hint));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(LONGEST) + 1).unwrap_or(0));
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    bounded(&bytes)?;
    Ok((bytes, mode_warning(path, &metadata)))
}

/// Whether opening this file waits for somebody else; a pipe that was handed over by the shell
/// (`/dev/fd/3`) is open already.
fn is_named_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    let handed_over = path.starts_with("/dev") || path.starts_with("/proc");
    !handed_over && std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

#[cfg(unix)]
fn mode_warning(path: &Path, metadata: &std::fs::Metadata) -> Option<Remark> {
    use std::os::unix::fs::PermissionsExt as _;
    let others = metadata.permissions().mode() & 0o077;
    (metadata.is_file() && others != 0).then(|| {
        let who = if others & 0o007 != 0 {
            "everybody on this machine"
        } else {
            "its whole group"
        };
        let mode = metadata.permissions().mode() & 0o777;
        remark(
            &format!("the file is accessible to {who} (mode {mode:03o})"),
            // The file is there and was read, so its name is a name and no secret pasted in its place.
            &format!("chmod 600 {}", quoted(&path.display().to_string())),
        )
    })
}

#[cfg(not(unix))]
fn mode_warning(_: &Path, _: &std::fs::Metadata) -> Option<Remark> {
    None
}

fn run(argv: &[String], folder: &Path) -> Result<Vec<u8>, Remark> {
    let hint = "run it by hand in the configuration file's folder: it must print the secret and exit with 0";
    let Some((program, arguments)) = argv.split_first() else {
        return Err(remark(
            "the command is empty",
            "write it as a list: `{command: [program, argument]}`",
        ));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| {
            remark(
                &format!("the command cannot be started: {}", reason(&error)),
                hint,
            )
        })?;
    let output = output_of(&mut child);
    if output.is_err() {
        // It may be gone already; what matters is that it does not stay.
        let _ = child.kill();
    }
    let status = child
        .wait()
        .map_err(|error| remark(&format!("the command was lost: {}", reason(&error)), hint))?;
    let output = output.map_err(|message| remark(message, hint))?;
    bounded(&output)?;
    if !status.success() {
        return Err(remark(&format!("the command failed ({status})"), hint));
    }
    Ok(output)
}

/// All that the command prints, within the deadline.
fn output_of(child: &mut Child) -> Result<Vec<u8>, &'static str> {
    let stdout = child.stdout.take().ok_or("the command has no output")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(LONGEST + 1).read_to_end(&mut bytes);
        // The receiver is gone after the deadline, and then nobody wants this.
        let _ = sender.send(read.map(|_| bytes));
    });
    match receiver.recv_timeout(DEADLINE) {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err("the command's output cannot be read"),
        Err(_) => Err("the command did not finish within 10 seconds"),
    }
}

fn bounded(bytes: &[u8]) -> Result<(), Remark> {
    if bytes.len() as u64 > LONGEST {
        return Err(remark(
            "the secret is longer than 64 KiB",
            "point to the secret alone",
        ));
    }
    Ok(())
}

fn remark(message: &str, hint: &str) -> Remark {
    Remark {
        message: message.to_owned(),
        hint: hint.to_owned(),
    }
}

/// What went wrong, without the path.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is none at this path".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        kind => kind.to_string(),
    }
}

fn relative_hint(folder: &Path) -> String {
    format!("a relative path starts at {}", folder.display())
}

/// Longer than any key or client secret.
const LONGEST: u64 = 64 * 1024;

/// How long a command may take.
const DEADLINE: Duration = Duration::from_secs(10);

impl<'d> Deserialize<'d> for Reference {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReferenceVisitor;

        impl<'d> Visitor<'d> for ReferenceVisitor {
            type Value = Reference;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reference to a secret")
            }

            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Reference, E> {
                Err(E::custom(format!(
                    "a secret is never written here, only where it is\n{FORMS}"
                )))
            }

            fn visit_seq<A: SeqAccess<'d>>(self, _: A) -> Result<Reference, A::Error> {
                Err(A::Error::custom(format!(
                    "expected a reference to a secret, found a list\n{FORMS}"
                )))
            }

            fn visit_map<A: MapAccess<'d>>(self, map: A) -> Result<Reference, A::Error> {
                let forms = Forms::deserialize(MapAccessDeserializer::new(map))?;
                match forms {
                    Forms {
                        file: Some(path),
                        env: None,
                        credential: None,
                        command: None,
                    } => Ok(Reference::File(path)),
                    Forms {
                        file: None,
                        env: Some(name),
                        credential: None,
                        command: None,
                    } => Ok(Reference::Env(name)),
                    Forms {
                        file: None,
                        env: None,
                        credential: Some(name),
                        command: None,
                    } => Ok(Reference::Credential(name)),
                    Forms {
                        file: None,
                        env: None,
                        credential: None,
                        command: Some(Argv(argv)),
                    } => Ok(Reference::Command(argv)),
                    Forms { .. } => Err(A::Error::custom(format!("expected exactly one place\n{FORMS}"))),
                }
            }
        }

        deserializer.deserialize_any(ReferenceVisitor)
    }
}

const FORMS: &str =
    "write `{file: PATH}`, `{env: NAME}`, `{credential: NAME}` or `{command: [PROGRAM, ARGUMENT]}`";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Forms {
    file: Option<PathBuf>,
    env: Option<String>,
    credential: Option<String>,
    command: Option<Argv>,
}

/// A command as a list, or as words between blanks.
struct Argv(Vec<String>);

impl<'d> Deserialize<'d> for Argv {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArgvVisitor;

        impl<'d> Visitor<'d> for ArgvVisitor {
            type Value = Argv;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Argv, E> {
                if text.contains(SHELL) {
                    return Err(E::custom(
                        "no shell runs this command, so quotes, variables and pipes have no meaning in it\n\
                         write it as a list: `{command: [program, argument]}`, or put it into a script",
                    ));
                }
                Ok(Argv(text.split_ascii_whitespace().map(str::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'d>>(self, mut items: A) -> Result<Argv, A::Error> {
                let mut argv = Vec::new();
                while let Some(argument) = items.next_element()? {
                    argv.push(argument);
                }
                Ok(Argv(argv))
            }
        }

        deserializer.deserialize_any(ArgvVisitor)
    }
}

/// What a shell would act on.
const SHELL: [char; 16] = [
    '\'', '"', '\\', '$', '`', '|', '&', ';', '<', '>', '(', ')', '*', '?', '~', '#',
];

#[cfg(test)]
mod tests {
    use super::super::{deserialize, document};
    use super::*;

    fn parsed(source: &str) -> Result<Reference, String> {
        let source = format!("client_secret: {source}\n");
        #[derive(serde::Deserialize)]
        struct Holder {
            client_secret: Reference,
        }
        let root = document::parse(&source).map_err(|error| error.message.clone())?;
        deserialize::read::<Holder>(&root, &mut Vec::new())
            .map(|holder| holder.client_secret)
            .map_err(|found| {
                found
                    .into_iter()
                    .map(|d| format!("{}|{}", d.message, d.hint))
                    .collect::<Vec<_>>()
                    .join("\n")
            })
    }

    #[test]
    fn a_pipe_in_place_of_a_secret_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Command::new("mkfifo").arg(folder.path().join("pipe")).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo");
        std::os::unix::fs::symlink("pipe", folder.path().join("link")).expect("linked");
        for name in ["pipe", "link"] {
            let refused = Reference::File(name.into()).resolve(folder.path());
            let remark = refused.err().expect("refused");
            assert_eq!(remark.message, "the file cannot be read: it is a pipe");
        }
    }

    #[test]
    fn the_four_ways_to_name_a_secret_are_read() {
        for (source, expected) in [
            ("{file: a/b}", Reference::File("a/b".into())),
            ("{env: NAME}", Reference::Env("NAME".to_owned())),
            ("{credential: name}", Reference::Credential("name".to_owned())),
            (
                "{command: [a, 'b c']}",
                Reference::Command(vec!["a".to_owned(), "b c".to_owned()]),
            ),
            (
                "{command: pass show coatroom}",
                Reference::Command(vec!["pass".into(), "show".into(), "coatroom".into()]),
            ),
        ] {
            assert_eq!(parsed(source).as_ref(), Ok(&expected), "{source}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_not_quoted() {
        for (source, expected) in [
            (
                "hunter2",
                "a secret is never written here, only where it is|write `{file: PATH}`",
            ),
            ("{env: A, file: b}", "expected exactly one place|"),
            ("{}", "expected exactly one place|"),
            (
                "{hunter2: a}",
                "unknown key|the keys here are `file`, `env`, `credential` and `command`",
            ),
            ("{evn: hunter2}", "unknown key|did you mean `env`?"),
            ("[hunter2]", "expected a reference to a secret, found a list|"),
            ("{command: \"cat 'hunter2'\"}", "no shell runs this command"),
            ("{env: [hunter2]}", "expected text, found a list|"),
        ] {
            let error = parsed(source).expect_err(source);
            assert!(error.starts_with(expected), "{source}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    fn resolved(reference: &Reference, folder: &Path) -> Result<String, String> {
        reference
            .resolve(folder)
            .map(|found| found.text)
            .map_err(|remark| remark.message)
    }

    #[test]
    fn files_are_read_relative_to_the_folder_and_lose_one_line_feed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (content, expected) in [
            ("hunter2\n", Ok("hunter2")),
            ("hunter2\r\n", Ok("hunter2")),
            ("hunter2\n\n", Ok("hunter2\n")),
            (" hunter2", Ok(" hunter2")),
            ("", Err("the secret is empty")),
            ("\n", Err("the secret is empty")),
            (" \t\n", Err("the secret is empty")),
        ] {
            std::fs::write(folder.path().join("s"), content).expect("the folder is writable");
            let found = resolved(&Reference::File("s".into()), folder.path());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{content:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused_without_its_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("long"), "x".repeat(70_000)).expect("the folder is writable");
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).expect("the folder is writable");
        for (reference, expected) in [
            (
                Reference::File("hunter2".into()),
                "the file cannot be read: there is none at this path",
            ),
            (
                Reference::File(".".into()),
                "the file cannot be read: it is a folder",
            ),
            (Reference::File("long".into()), "the secret is longer than 64 KiB"),
            (Reference::File("binary".into()), "the secret is not text"),
            (
                Reference::Env("HUNTER2_UNSET".into()),
                "the environment variable named here is not set",
            ),
            (
                Reference::Env("a=b".into()),
                "this is no name of an environment variable",
            ),
            (
                Reference::Credential("../x".into()),
                "this is no name of a systemd credential",
            ),
            (Reference::Command(vec![]), "the command is empty"),
            (
                Reference::Command(vec!["./hunter2".into()]),
                "the command cannot be started: there is none at this path",
            ),
            (
                Reference::Command(vec!["false".into()]),
                "the command failed (exit status: 1)",
            ),
            (Reference::Command(vec!["true".into()]), "the secret is empty"),
            (
                Reference::Command(vec!["yes".into()]),
                "the secret is longer than 64 KiB",
            ),
        ] {
            assert_eq!(
                resolved(&reference, folder.path()),
                Err(expected.to_owned()),
                "{reference:?}"
            );
        }
    }

    #[test]
    fn a_command_runs_in_the_folder_without_a_shell() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("s"), "hunter2\n").expect("the folder is writable");
        let command =
            |argv: &[&str]| Reference::Command(argv.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(
            resolved(&command(&["cat", "s"]), folder.path()).as_deref(),
            Ok("hunter2")
        );
        assert_eq!(
            resolved(&command(&["echo", "$HOME"]), folder.path()).as_deref(),
            Ok("$HOME")
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_deserves_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("s");
        std::fs::write(&path, "hunter2").expect("the folder is writable");
        for (mode, expected) in [
            (0o600, None),
            (0o400, None),
            (
                0o640,
                Some("the file is accessible to its whole group (mode 640)"),
            ),
            (
                0o644,
                Some("the file is accessible to everybody on this machine (mode 644)"),
            ),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is our file");
            let found = Reference::File("s".into())
                .resolve(folder.path())
                .expect("a secret");
            assert_eq!(
                found.warning.as_ref().map(|warning| warning.message.as_str()),
                expected
            );
            let chmod = format!("chmod 600 {}", quoted(&path.display().to_string()));
            assert!(found.warning.is_none_or(|warning| warning.hint == chmod));
        }
    }
}
