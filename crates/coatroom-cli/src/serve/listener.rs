//! Listening sockets: TCP with one socket for each core, or a Unix socket shared by all.
//!
//! The kernel spreads TCP connections over the cores' sockets (`SO_REUSEPORT`). That option also
//! lets a second process of the same user share the port unnoticed, so the port is first asked
//! for without it: a port in use is an error. Accepting never spins on an error.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Listen;

/// Removes a Unix socket's file.
pub(super) fn remove(listen: &Listen) {
    if let Listen::Unix(path) = listen {
        let _ = std::fs::remove_file(path);
    }
}

/// A bound and listening socket that no runtime knows yet.
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// A listening socket in a runtime.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that was accepted.
pub(super) enum Accepted {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

/// Binds `count` sockets that share what the `setting` names, and says where they are.
pub(super) fn bind_setting(
    setting: &str,
    listen: &Listen,
    count: usize,
) -> anyhow::Result<(Vec<Bound>, String)> {
    match listen {
        Listen::Tcp(address) => bind_tcp(setting, *address, count),
        Listen::Unix(path) => bind_unix(setting, path, count),
    }
    .with_context(|| format!("`{setting}`: cannot listen on {listen}"))
}

fn bind_tcp(setting: &str, address: SocketAddr, count: usize) -> anyhow::Result<(Vec<Bound>, String)> {
    let explain = |error| explain(setting, address, error);
    if address.port() != 0 {
        socket(address, Port::Alone).map_err(explain)?;
    }
    let mut address = address;
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = socket(address, Port::Shared).map_err(explain)?;
        socket.listen(BACKLOG)?;
        let listener = std::net::TcpListener::from(socket);
        // Port 0 is decided by the first.
        address = listener.local_addr()?;
        sockets.push(Bound::Tcp(listener));
    }
    Ok((sockets, address.to_string()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Alone,
    Shared,
}

fn socket(address: SocketAddr, port: Port) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of an earlier process in TIME_WAIT do not block the port; a listener does.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(port == Port::Shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn explain(setting: &str, address: SocketAddr, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port().checked_add(1).unwrap_or(SOME_PORT);
            let other = written(SocketAddr::new(address.ip(), port));
            anyhow::anyhow!(
                "it is already in use\nhint: write another port, for example `{setting}: {other}`, or stop the other \
                 process"
            )
        }
        io::ErrorKind::AddrNotAvailable => anyhow::anyhow!(
            "this machine does not have that address\nhint: write one of its addresses, for example `{setting}: \
             127.0.0.1:{}`",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => {
            let other = written(SocketAddr::new(address.ip(), SOME_PORT));
            anyhow::anyhow!(
                "permission denied, ports below 1024 need CAP_NET_BIND_SERVICE\nhint: write a higher port, for \
                 example `{setting}: {other}`, or add `AmbientCapabilities=CAP_NET_BIND_SERVICE` to the systemd unit"
            )
        }
        _ => error.into(),
    }
}

/// As YAML takes it: what begins with a bracket would be a list.
fn written(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.to_string(),
        SocketAddr::V6(address) => format!("\"{address}\""),
    }
}

fn bind_unix(setting: &str, path: &Path, count: usize) -> anyhow::Result<(Vec<Bound>, String)> {
    let elsewhere = format!("\nhint: write another path, for example `{setting}: unix:/run/coatroom-2.sock`");
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        anyhow::ensure!(
            metadata.file_type().is_socket(),
            "the path exists and is not a socket{elsewhere}"
        );
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => anyhow::bail!("it is already in use{elsewhere}, or stop the other process"),
            // Left behind by a process that did not end well.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error.into()),
        }
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    let sockets = (0..count)
        .map(|_| listener.try_clone().map(Bound::Unix))
        .collect::<io::Result<_>>()?;
    Ok((sockets, format!("unix:{}", path.display())))
}

impl Bound {
    /// Hands the socket to the current runtime.
    pub(super) fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
        })
    }
}

/// Something that accepts connections.
pub(super) trait Accept {
    /// What a connection is.
    type Connection;

    /// The next connection.
    async fn accept(&mut self) -> io::Result<Self::Connection>;
}

impl Accept for Listener {
    type Connection = Accepted;

    async fn accept(&mut self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, address.ip().to_canonical()))
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// Accepts the next connection, however many errors it takes. An error of one connection costs
/// nothing; one of the process (no descriptors, no memory) is waited out, longer each time.
pub(super) async fn accept<A: Accept>(listener: &mut A) -> A::Connection {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match listener.accept().await {
            Ok(connection) => return connection,
            Err(error) => error,
        };
        if !matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        ) {
            tracing::warn!(%error, "cannot accept connections, waiting");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);

const LAST_PAUSE: Duration = Duration::from_secs(1);

const BACKLOG: i32 = 1024;

/// A port that needs no capability.
const SOME_PORT: u16 = 8443;

/// For tests, to which it does not matter which setting it is.
#[cfg(test)]
pub(super) fn bind(listen: &Listen, count: usize) -> anyhow::Result<(Vec<Bound>, String)> {
    bind_setting("listen", listen, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Listen {
        Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn message<T>(result: anyhow::Result<T>) -> String {
        format!("{:#}", result.err().expect("refused"))
    }

    #[test]
    fn all_cores_share_one_port() {
        let (sockets, address) = bind(&loopback(), 3).expect("bound");
        for socket in &sockets {
            let Bound::Tcp(socket) = socket else { panic!("tcp") };
            assert_eq!(socket.local_addr().expect("bound").to_string(), address);
        }
        assert_eq!(sockets.len(), 3);
    }

    #[test]
    fn a_port_in_use_is_an_error_even_when_its_owner_would_share_it() {
        let (_sockets, address) = bind(&loopback(), 1).expect("bound");
        let address: SocketAddr = address.parse().expect("an address");
        let next = address.port().checked_add(1).unwrap_or(SOME_PORT);
        assert_eq!(
            message(bind_setting("admin", &Listen::Tcp(address), 1)),
            format!(
                "`admin`: cannot listen on {address}: it is already in use\nhint: write another port, for example \
                 `admin: 127.0.0.1:{next}`, or stop the other process"
            )
        );
    }

    #[test]
    fn a_hint_of_a_bind_error_is_an_address_that_yaml_takes() {
        for (address, kind, expected) in [
            (
                "127.0.0.1:65535",
                io::ErrorKind::AddrInUse,
                "`listen: 127.0.0.1:8443`",
            ),
            ("[::1]:8080", io::ErrorKind::AddrInUse, "`listen: \"[::1]:8081\"`"),
            (
                "0.0.0.0:443",
                io::ErrorKind::PermissionDenied,
                "`listen: 0.0.0.0:8443`",
            ),
        ] {
            let address = address.parse().expect("an address");
            let error = explain("listen", address, kind.into()).to_string();
            assert!(error.contains(&format!("for example {expected}, or ")), "{error}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_an_error() {
        let elsewhere = Listen::Tcp("192.0.2.1:0".parse().expect("an address"));
        assert_eq!(
            message(bind(&elsewhere, 1)),
            "`listen`: cannot listen on 192.0.2.1:0: this machine does not have that address\nhint: write one of its \
             addresses, for example `listen: 127.0.0.1:0`"
        );
    }

    #[test]
    fn a_unix_socket_is_shared_and_one_left_behind_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let listen = Listen::Unix(folder.path().join("coatroom.sock"));
        let (sockets, address) = bind(&listen, 2).expect("bound");
        assert_eq!(address, listen.to_string());
        assert!(message(bind(&listen, 1)).ends_with(
            "it is already in use\nhint: write another path, for example `listen: unix:/run/coatroom-2.sock`, or stop \
             the other process"
        ));
        drop(sockets);
        bind(&listen, 1).expect("the file was left behind, nobody listens");
        remove(&listen);
        bind(&listen, 1).expect("removed");
    }

    #[test]
    fn a_file_at_the_sockets_path_is_not_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").expect("written");
        assert!(message(bind(&Listen::Unix(path.clone()), 1)).contains("not a socket"));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "data");
    }

    struct Failing {
        errors: Vec<io::Error>,
        calls: usize,
    }

    impl Accept for Failing {
        type Connection = ();

        async fn accept(&mut self) -> io::Result<()> {
            self.calls += 1;
            self.errors.pop().map_or(Ok(()), Err)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn accept_errors_of_the_process_are_waited_out_and_never_spun_on() {
        for (name, errors, least, most) in [
            ("none", vec![], 0, 0),
            (
                "a connection's own",
                vec![io::ErrorKind::ConnectionAborted; 100],
                0,
                0,
            ),
            ("out of descriptors", vec![io::ErrorKind::Other; 10], 4000, 8000),
        ] {
            let count = errors.len();
            let mut listener = Failing {
                errors: errors.into_iter().map(io::Error::from).collect(),
                calls: 0,
            };
            let start = tokio::time::Instant::now();
            accept(&mut listener).await;
            let took = start.elapsed().as_millis();
            assert_eq!(listener.calls, count + 1, "{name}");
            assert!((least..=most).contains(&took), "{name}: {took}");
        }
    }
}
