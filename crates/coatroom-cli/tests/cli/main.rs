//! Transcripts: what the built binary prints and how it exits, for good and broken configurations.
//!
//! A transcript is a text file in sections. The first lines set the scene, then come the files of a
//! fresh folder, then the command and what it must print:
//!
//! ```text
//! why this case exists
//! env NAME=value            an environment variable of the command
//! key coatroom.key          a file with the key of that name, mode 600
//! proxy-key p.key a.key     a file with the proxy's part of a key, mode 600
//! certificate a.crt a.key   a generated certificate, mode 644, and its private key
//! -- coatroom.yaml --       a file; `-- name 644 --` with another mode than 600
//! …
//! -- run check --config coatroom.yaml --
//! -- stdout --
//! -- stderr --
//! -- exit 0 --
//! ```
//!
//! The folder is written as `[DIR]`. `COATROOM_TRANSCRIPTS=write` writes what came instead of
//! comparing it; the canary test then still applies.

mod doctor;
mod doctor_client;
mod doctor_provider;
mod documented;
mod generated;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whatever happens, this is never printed.
const CANARY: &str = "hunter2";

#[test]
fn every_transcript_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of transcripts")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() > 20, "the transcripts are there");
    let write = std::env::var("COATROOM_TRANSCRIPTS").is_ok_and(|value| value == "write");
    let mut failed = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a transcript");
        let transcript = Transcript::parse(&text);
        let came = transcript.run();
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        assert!(!came.contains(CANARY), "{name} shows a secret:\n{came}");
        let scene = transcript.scene;
        if write {
            std::fs::write(&file, format!("{scene}{came}")).expect("the transcript is writable");
        } else if came != transcript.expected {
            failed.push(format!(
                "{name}\n--- wanted\n{}--- came\n{came}",
                transcript.expected
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// One transcript, cut where the expectation begins.
struct Transcript<'t> {
    scene: &'t str,
    expected: &'t str,
}

impl<'t> Transcript<'t> {
    fn parse(text: &'t str) -> Self {
        let run = text.find("-- run ").expect("a transcript runs something");
        let end = text[run..].find('\n').map_or(text.len(), |len| run + len + 1);
        let (scene, expected) = text.split_at(end);
        Self { scene, expected }
    }

    /// Sets the scene, runs the command, and gives the three sections of the expectation.
    fn run(&self) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = folder.path().canonicalize().expect("the folder exists");
        let mut command = Command::new(env!("CARGO_BIN_EXE_coatroom"));
        command.current_dir(&folder).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let mut file: Option<PathBuf> = None;
        for line in self.scene.lines() {
            let header = line.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --"));
            if let Some(arguments) = header.and_then(|header| header.strip_prefix("run ")) {
                command.args(arguments.split_whitespace());
            } else if let Some(header) = header {
                let (name, mode) = header.split_once(' ').unwrap_or((header, "600"));
                file = Some(write_file(&folder.join(name), "", mode));
            } else if let Some(file) = &file {
                let content = std::fs::read_to_string(file).expect("our own file");
                std::fs::write(file, format!("{content}{line}\n")).expect("our own file");
            } else if let Some(variable) = line.strip_prefix("env ") {
                let (name, value) = variable.split_once('=').expect("env NAME=value");
                command.env(name, value);
            } else if let Some(names) = line.strip_prefix("proxy-key ") {
                let (name, master) = names.split_once(' ').expect("proxy-key NAME KEY");
                let key = Command::new(env!("CARGO_BIN_EXE_coatroom"))
                    .current_dir(&folder)
                    .args(["keygen", "--proxy", "--key", master])
                    .output()
                    .expect("keygen runs");
                write_file(&folder.join(name), &String::from_utf8_lossy(&key.stdout), "600");
            } else if let Some(name) = line.strip_prefix("key ") {
                write_file(&folder.join(name), &key_of(name), "600");
            } else if let Some(names) = line.strip_prefix("certificate ") {
                let (certificate, key) = names.split_once(' ').expect("certificate FILE FILE");
                let made = rcgen::generate_simple_self_signed(["shop.example.com".to_owned()])
                    .expect("a certificate");
                write_file(&folder.join(certificate), &made.cert.pem(), "644");
                write_file(&folder.join(key), &made.signing_key.serialize_pem(), "600");
            }
        }
        let output = command.output().expect("the binary runs");
        let placed =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&*folder.to_string_lossy(), "[DIR]");
        let mut came = String::new();
        write!(
            came,
            "-- stdout --\n{}-- stderr --\n{}-- exit {} --\n",
            placed(&output.stdout),
            placed(&output.stderr),
            output
                .status
                .code()
                .map_or_else(|| "by a signal".to_owned(), |code| code.to_string())
        )
        .expect("a string takes all");
        came
    }
}

/// A key that depends on the name alone, so that its id is always the same.
fn key_of(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    format!("coatroom-key-1:{name:A<43}\n")
}

fn write_file(path: &Path, content: &str, mode: &str) -> PathBuf {
    std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder is ours");
    std::fs::write(path, content).expect("the folder is ours");
    set_mode(path, mode);
    path.to_owned()
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = u32::from_str_radix(mode, 8).expect("an octal mode");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: &str) {}

fn coatroom(argument: &str) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_coatroom"))
        .arg(argument)
        .output()
        .expect("the binary runs");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
        output.status.code(),
    )
}

#[test]
fn keygen_prints_another_key_each_time_and_nothing_else() {
    let (one, stderr, code) = coatroom("keygen");
    let (two, ..) = coatroom("keygen");
    assert_eq!((stderr.as_str(), code), ("", Some(0)));
    assert_ne!(one, two);
    let keys: Vec<_> = one.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(keys.len(), 1, "{} lines that are no comment", keys.len());
    assert!(keys[0].starts_with("coatroom-key-1:"));
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(
        coatroom("--version"),
        (
            format!("coatroom {}\n", env!("CARGO_PKG_VERSION")),
            String::new(),
            Some(0)
        )
    );
}
