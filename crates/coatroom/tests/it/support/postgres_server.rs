//! A PostgreSQL server of a test's own, in a temporary folder: never the system's cluster.
//!
//! It listens on a socket in that folder and, for TLS, on loopback. A shell stands between, which ends
//! it when the test does, however that may be.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

pub(crate) struct PostgresServer {
    folder: TempDir,
    /// Of loopback, for TLS.
    port: Option<u16>,
    running: Option<(Child, ChildStdin)>,
}

impl PostgresServer {
    /// A new server, ready to be asked.
    pub(crate) async fn start() -> Self {
        Self::with(None, &[]).await
    }

    /// The same, on a port of loopback too, with these files in its data folder.
    pub(crate) async fn with(port: Option<u16>, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("coatroom-pg")
            .tempdir()
            .expect("a folder");
        let data = folder.path().join("data");
        let chown = as_server("true").is_some();
        if chown {
            run(Command::new("chown").arg("postgres:").arg(folder.path()));
        }
        let mut initdb = command(&program("initdb"));
        initdb.args([
            "--no-sync",
            "--no-locale",
            "-E",
            "UTF8",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-D",
        ]);
        run(initdb.arg(&data));
        for (name, content) in files {
            let path = data.join(name);
            std::fs::write(&path, content).expect("the folder can be written to");
            run(Command::new("chmod").arg("600").arg(&path));
            if chown {
                run(Command::new("chown").arg("postgres:").arg(&path));
            }
        }
        let mut server = Self {
            folder,
            port,
            running: None,
        };
        server.go_on().await;
        server
    }

    /// Starts it again after [`stop`](Self::stop).
    pub(crate) async fn go_on(&mut self) {
        // The server ends when the standard input of its shell does.
        let script = "\"$@\" >server.log 2>&1 & read -r _; kill -INT $!; wait";
        let mut shell = command(Path::new("sh"));
        shell.current_dir(self.folder.path()).args(["-c", script, "sh"]);
        shell.arg(program("postgres")).arg("-D").arg("data");
        shell.args(["-c", "listen_addresses=", "-c", "max_connections=80", "-k"]);
        shell.arg(self.folder.path());
        if let Some(port) = self.port {
            shell.args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-p"]);
            shell.arg(port.to_string());
        }
        let mut child = shell.stdin(Stdio::piped()).spawn().expect("sh is there");
        let stdin = child.stdin.take().expect("it is piped");
        self.running = Some((child, stdin));
        for _ in 0..600 {
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(connection) => return connection.close().await.expect("it answers"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        let log = std::fs::read_to_string(self.folder.path().join("server.log"));
        panic!("PostgreSQL did not start: {}", log.unwrap_or_default());
    }

    /// Ends it as an administrator would who does not wait for clients; what was committed stays.
    pub(crate) fn stop(&mut self) {
        if let Some((mut child, mut stdin)) = self.running.take() {
            let _ = stdin.write_all(b"\n");
            drop(stdin);
            let _ = child.wait();
        }
    }

    /// The address of a database, through the socket.
    pub(crate) fn url(&self, database: &str) -> String {
        let folder = self.folder.path().display().to_string();
        let port = self.port.unwrap_or(5432);
        format!(
            "postgres://postgres@{}:{port}/{database}",
            folder.replace('/', "%2F")
        )
    }

    /// Says something to a database.
    pub(crate) async fn say(&self, database: &str, statements: &str) {
        let mut connection = self.connect(database).await;
        connection
            .execute(AssertSqlSafe(statements))
            .await
            .expect("good SQL");
        connection.close().await.expect("it answers");
    }

    pub(crate) async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url(database))
            .await
            .expect("the server answers")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// PostgreSQL refuses to run as root.
fn command(program: &Path) -> Command {
    as_server(program).unwrap_or_else(|| Command::new(program))
}

fn as_server(program: impl AsRef<Path>) -> Option<Command> {
    let id = Command::new("id").arg("-u").output().expect("id is there");
    (id.stdout == b"0\n").then(|| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        setpriv.arg(program.as_ref());
        setpriv
    })
}

fn run(command: &mut Command) {
    let output = command.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Debian keeps them off the path.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    folders.extend(debian.flatten().map(|version| version.path().join("bin")));
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: apt-get install postgresql"))
}
