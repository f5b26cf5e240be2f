//! Listening sockets: TCP with one socket for each core, or one that all cores accept from.
//!
//! The latter is a Unix socket, or whatever systemd passed (`systemd.rs`); `handover.rs` passes
//! sockets on to the next process.
//! The kernel spreads TCP connections over the cores' sockets (`SO_REUSEPORT`). That option also
//! lets a second process of the same user share the port unnoticed, so the port is first asked
//! for without it: a port in use is an error. Accepting never spins on an error.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::handover::{Offered, Received};
use super::systemd::PassedSockets;
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
    /// Several that one core accepts from.
    Several(Vec<Self>),
}

/// A listening socket in a runtime.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    /// Several, and which of them is asked first the next time.
    Several(Vec<Self>, usize),
}

/// The sockets of one setting.
pub(super) struct Sockets {
    each: Vec<Bound>,
    spread: Spread,
    /// What they stand for: the same for the process before and after.
    name: String,
}

/// How sockets get to cores.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// The kernel spreads connections over them (`SO_REUSEPORT`): each belongs to one core.
    OverCores,
    /// Every core accepts from every one.
    Shared,
}

/// A connection that was accepted.
pub(super) enum Accepted {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

/// Where the sockets of settings come from.
pub(super) struct Sources<'s> {
    /// Those that the process before gave away.
    pub(super) before: Option<&'s mut Received>,
    /// Those that systemd passed.
    pub(super) passed: &'s mut PassedSockets,
    /// The names that other settings use.
    pub(super) others: Vec<&'s str>,
    /// The permissions of a Unix socket that is made.
    pub(super) mode: Option<u32>,
}

/// The sockets of a `setting`, at most `count` new ones, and where they are.
pub(super) fn sockets(
    setting: &str,
    listen: &Listen,
    count: usize,
    sources: Sources<'_>,
) -> anyhow::Result<(Sockets, String)> {
    let name = listen.to_string();
    if let Some(before) = sources.before {
        let each = before.take(setting, &name);
        if let Some(first) = each.first() {
            let place = first.place()?;
            let spread = match listen {
                Listen::Tcp(_) => Spread::OverCores,
                Listen::Unix(_) | Listen::Systemd(_) => Spread::Shared,
            };
            return Ok((Sockets { each, spread, name }, place));
        }
    }
    let (each, spread) = match listen {
        Listen::Tcp(address) => (bind_tcp(setting, *address, count)?, Spread::OverCores),
        Listen::Unix(path) => {
            let socket = bind_unix(setting, path, sources.mode)
                .with_context(|| format!("`{setting}`: cannot listen on {listen}"))?;
            (vec![socket], Spread::Shared)
        }
        Listen::Systemd(wanted) => {
            let each = sources.passed.take(wanted.as_deref(), &sources.others);
            (each, Spread::Shared)
        }
    };
    let places: Vec<_> = each.iter().map(Bound::place).collect::<io::Result<_>>()?;
    anyhow::ensure!(
        !each.is_empty(),
        "`{setting}: {listen}`: systemd passed no such socket{}\nhint: start it by its socket unit, `systemctl start \
         coatroom.socket`, with `FileDescriptorName={}`",
        match sources.passed.names().as_slice() {
            [] => String::new(),
            names => format!(", what is left is named {}", names.join(", ")),
        },
        match listen {
            Listen::Systemd(Some(name)) => name,
            Listen::Systemd(None) | Listen::Tcp(_) | Listen::Unix(_) => "coatroom",
        }
    );
    let mut places = places;
    places.dedup();
    Ok((Sockets { each, spread, name }, places.join(" ")))
}

impl Sockets {
    /// Offers them to the process after.
    pub(super) fn offer(&self, setting: &str, offered: &Offered) -> io::Result<()> {
        self.each
            .iter()
            .try_for_each(|socket| offered.add(setting, &self.name, socket))
    }

    /// Whether only this machine can connect.
    pub(super) fn is_local(&self) -> bool {
        self.each.iter().all(Bound::is_local)
    }

    /// One for each core. None is left over, since connections would wait in it for ever.
    pub(super) fn for_cores(self, cores: usize) -> io::Result<Vec<Bound>> {
        let mut each = self.each;
        if self.spread == Spread::OverCores && each.len() == cores {
            return Ok(each);
        }
        if self.spread == Spread::OverCores && each.len() > cores {
            // The process before had more cores.
            let mut shares: Vec<Vec<Bound>> = (0..cores).map(|_| Vec::new()).collect();
            for (index, socket) in each.into_iter().enumerate() {
                if let Some(share) = shares.get_mut(index % cores.max(1)) {
                    share.push(socket);
                }
            }
            return Ok(shares.into_iter().map(Bound::one_or_several).collect());
        }
        let clones = |sockets: &[Bound]| -> io::Result<Bound> {
            let clones = sockets.iter().map(Bound::try_clone).collect::<io::Result<_>>()?;
            Ok(Bound::one_or_several(clones))
        };
        let count = each.len().max(1);
        let mut all = Vec::new();
        for core in 0..cores {
            all.push(match self.spread {
                Spread::Shared => clones(&each)?,
                // The process before had fewer: some are shared.
                Spread::OverCores => {
                    each.rotate_left(usize::from(core > 0) % count);
                    clones(each.get(..1).unwrap_or_default())?
                }
            });
        }
        Ok(all)
    }
}

fn bind_tcp(setting: &str, address: SocketAddr, count: usize) -> anyhow::Result<Vec<Bound>> {
    let mut bound = address;
    let mut bind = || {
        if address.port() != 0 {
            socket(address, Port::Alone)?;
        }
        let mut sockets = Vec::new();
        for _ in 0..count {
            let socket = socket(bound, Port::Shared)?;
            socket.listen(BACKLOG)?;
            let listener = std::net::TcpListener::from(socket);
            // Port 0 is decided by the first.
            bound = listener.local_addr()?;
            sockets.push(Bound::Tcp(listener));
        }
        Ok(sockets)
    };
    bind()
        .map_err(|error| explain(setting, address, error))
        .with_context(|| format!("`{setting}`: cannot listen on {address}"))
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

fn bind_unix(setting: &str, path: &Path, mode: Option<u32>) -> anyhow::Result<Bound> {
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
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    listener.set_nonblocking(true)?;
    Ok(Bound::Unix(listener))
}

impl Bound {
    fn one_or_several(mut sockets: Vec<Self>) -> Self {
        match (sockets.len(), sockets.pop()) {
            (1, Some(only)) => only,
            (_, last) => Self::Several(sockets.into_iter().chain(last).collect()),
        }
    }

    /// A socket of another process.
    pub(super) fn of_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        let bound = match socket.domain()? {
            Domain::UNIX => Self::Unix(socket.into()),
            _ => Self::Tcp(socket.into()),
        };
        bound.check_listening()?;
        Ok(bound)
    }

    /// Whether it takes connections, as what came from elsewhere may not.
    pub(super) fn check_listening(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                listens(socket2::SockRef::from(listener).is_listener()?)
            }
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                listens(socket2::SockRef::from(listener).is_listener()?)
            }
            Self::Several(sockets) => sockets.iter().try_for_each(Self::check_listening),
        }
    }

    /// The same socket once more.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(listener) => Self::Unix(listener.try_clone()?),
            Self::Several(sockets) => {
                Self::Several(sockets.iter().map(Self::try_clone).collect::<io::Result<_>>()?)
            }
        })
    }

    /// Its descriptor; of several, the first's.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(listener) => Some(listener.as_fd()),
            Self::Unix(listener) => Some(listener.as_fd()),
            Self::Several(sockets) => sockets.first().and_then(Self::descriptor),
        }
    }

    /// Where it is, as text.
    fn place(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(listener) => listener.local_addr()?.to_string(),
            Self::Unix(listener) => match listener.local_addr()?.as_pathname() {
                Some(path) => format!("unix:{}", path.display()),
                None => "a Unix socket without a path".to_owned(),
            },
            Self::Several(sockets) => {
                let places: Vec<_> = sockets.iter().map(Self::place).collect::<io::Result<_>>()?;
                places.join(" ")
            }
        })
    }

    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .is_ok_and(|address| Listen::Tcp(address).is_local()),
            Self::Unix(_) => true,
            Self::Several(sockets) => sockets.iter().all(Self::is_local),
        }
    }

    /// Hands the socket to the current runtime.
    pub(super) fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
            Self::Several(sockets) => {
                let listeners = sockets.into_iter().map(Self::listen).collect::<io::Result<_>>()?;
                Listener::Several(listeners, 0)
            }
        })
    }
}

fn listens(is_listener: bool) -> io::Result<()> {
    if is_listener {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the socket does not listen",
    ))
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
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }
}

impl Listener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, address)| Accepted::Tcp(stream, address.ip().to_canonical())),
            Self::Unix(listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, _)| Accepted::Unix(stream)),
            Self::Several(listeners, next) => {
                let count = listeners.len();
                for _ in 0..count {
                    let index = *next % count;
                    *next = index.wrapping_add(1);
                    if let Some(listener) = listeners.get_mut(index)
                        && let Poll::Ready(outcome) = listener.poll_accept(cx)
                    {
                        return Poll::Ready(outcome);
                    }
                }
                Poll::Pending
            }
        }
    }

    /// Each of them alone.
    pub(super) fn each(self) -> Vec<Self> {
        match self {
            Self::Several(listeners, _) => listeners.into_iter().flat_map(Self::each).collect(),
            one @ (Self::Tcp(_) | Self::Unix(_)) => vec![one],
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

/// New sockets for so many cores, and where they are.
#[cfg(test)]
fn bind_setting(setting: &str, listen: &Listen, count: usize) -> anyhow::Result<(Vec<Bound>, String)> {
    let sources = Sources {
        before: None,
        passed: &mut PassedSockets::default(),
        others: Vec::new(),
        mode: None,
    };
    let (sockets, place) = sockets(setting, listen, count, sources)?;
    Ok((sockets.for_cores(count)?, place))
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
