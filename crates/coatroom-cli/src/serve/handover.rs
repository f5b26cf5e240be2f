//! Descriptor hand-over: a new process takes the listening sockets of the one before.
//!
//! The old process waits at a Unix socket (`handover:`). A new one, of the same user, connects, gets
//! each listening socket (`SCM_RIGHTS`, unix(7)), does all that can fail, starts to serve, and says
//! so; only then does the old one stop accepting, and the new one waits at that path in its stead. The sockets never close in between, so no connection that waits in one
//! is lost. A new process that fails on the way changes nothing. One message is one socket, of a
//! setting that is named in it; what the new configuration has elsewhere is not taken over. No
//! session, key or request passes here.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::time::Duration;

use anyhow::Context as _;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::mpsc;

use super::listener::Bound;

/// The sockets that a process before gave away, each with its setting and what it stands for.
pub(super) struct Received {
    sockets: Vec<(String, Bound)>,
    /// Over which it is told that we serve.
    before: Socket,
}

impl Received {
    /// Asks the process before; none where there is none.
    ///
    /// # Errors
    /// When there is one and it cannot be understood.
    pub(super) fn ask(path: &Path) -> anyhow::Result<Option<Self>> {
        let before = seqpacket()?;
        match before.connect(&SockAddr::unix(path)?) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).context("the process before cannot be reached"),
        }
        anyhow::ensure!(is_ours(&before)?, "the process before belongs to another user");
        before.set_read_timeout(Some(PATIENCE))?;
        send(&before, HELLO, None)?;
        let mut sockets = Vec::new();
        loop {
            let (text, descriptor) = receive(&before)?;
            match (text.as_str(), descriptor) {
                (END, _) => break,
                (_, Some(descriptor)) if sockets.len() < MOST => {
                    sockets.push((text, Bound::of_descriptor(descriptor)?));
                }
                _ => anyhow::bail!("the process before does not speak this version of the hand-over"),
            }
        }
        Ok(Some(Self { sockets, before }))
    }

    /// Those of a setting that stand for the same address; empty where it has changed.
    pub(super) fn take(&mut self, setting: &str, address: &str) -> Vec<Bound> {
        let name = named(setting, address);
        let (taken, left): (Vec<_>, Vec<_>) = self.sockets.drain(..).partition(|(its, _)| *its == name);
        self.sockets = left;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }

    /// Tells the process before that it can go.
    fn we_serve(&self) -> io::Result<()> {
        send(&self.before, READY, None)
    }
}

/// The sockets of this process, for a process after it. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Offered(Arc<Mutex<Vec<(String, Bound)>>>);

impl Offered {
    /// Offers one more; it is open here, too, until [`withdraw`](Self::withdraw).
    pub(super) fn add(&self, setting: &str, address: &str, socket: &Bound) -> io::Result<()> {
        let socket = socket.try_clone()?;
        self.sockets().push((named(setting, address), socket));
        Ok(())
    }

    /// Closes them here. A socket that nobody accepts from must not stay open.
    pub(super) fn withdraw(&self) {
        self.sockets().clear();
    }

    /// Gets all that waiting at `path` takes, on a thread of its own that says once when a process
    /// after this one serves. Who waits at the path now still does.
    ///
    /// # Errors
    /// When a socket beside the path cannot be bound.
    pub(super) fn prepare(self, path: &Path, taken: mpsc::UnboundedSender<()>) -> anyhow::Result<Prepared> {
        let (listener, beside) = bind_beside(path)?;
        let (at_the_path, told) = blocking::channel();
        std::thread::Builder::new()
            .name("handover".to_owned())
            .spawn(move || {
                if told.recv().is_err() {
                    return;
                }
                while let Ok((after, _)) = listener.accept() {
                    match self.give(&after) {
                        Ok(()) => {
                            let _ = taken.send(());
                            return;
                        }
                        Err(error) => {
                            tracing::warn!(
                                "a hand-over was not finished, this process goes on serving: {error:#}"
                            );
                        }
                    }
                }
            })
            .context("starting the hand-over thread")?;
        Ok(Prepared {
            path: path.to_owned(),
            beside,
            at_the_path,
        })
    }

    /// To one that asks; well once it serves.
    fn give(&self, after: &Socket) -> anyhow::Result<()> {
        anyhow::ensure!(is_ours(after)?, "another user's process asked for the sockets");
        after.set_read_timeout(Some(PATIENCE))?;
        after.set_write_timeout(Some(PATIENCE))?;
        let (hello, _) = receive(after)?;
        anyhow::ensure!(
            hello == HELLO,
            "the other process does not speak this version of the hand-over"
        );
        let mut sockets = Vec::new();
        for (name, socket) in self.sockets().iter() {
            sockets.push((name.clone(), socket.try_clone()?));
        }
        for (name, socket) in &sockets {
            send(after, name, Some(socket))?;
        }
        send(after, END, None)?;
        anyhow::ensure!(!sockets.is_empty(), "this process is stopping already");
        let (ready, _) = receive(after).context("the other process did not come to serve")?;
        anyhow::ensure!(ready == READY, "the other process did not come to serve");
        Ok(())
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, Vec<(String, Bound)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket for the process after, not yet at its path. Dropped, it leaves nothing behind.
pub(super) struct Prepared {
    path: PathBuf,
    beside: Beside,
    at_the_path: blocking::Sender<()>,
}

impl Prepared {
    /// Waits at the path from now on; there is always somebody at it.
    ///
    /// # Errors
    /// When the socket cannot be moved there.
    fn take_the_path(self) -> io::Result<()> {
        std::fs::rename(&self.beside.0, &self.path)?;
        // The thread waits for this and for nothing else.
        let _ = self.at_the_path.send(());
        Ok(())
    }
}

/// What came from the process before is served now: that one can go, and this one has its place.
/// There is no way back from here, so what still fails is only told.
pub(super) fn follow(before: Option<&Received>, prepared: Option<Prepared>) {
    match before.map(Received::we_serve) {
        None => {}
        Some(Ok(())) => tracing::info!("the sockets of the process before were taken over"),
        Some(Err(error)) => {
            tracing::warn!(%error, "the process before cannot be told that this one serves");
        }
    }
    if let Some(Err(error)) = prepared.map(Prepared::take_the_path) {
        tracing::error!(%error, "`handover`: the process after this one will not find it");
    }
}

/// A socket's name until it gets its own; it goes with this.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds under another name, so that it can be moved to `path`.
fn bind_beside(path: &Path) -> anyhow::Result<(Socket, Beside)> {
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt as _;
        anyhow::ensure!(
            metadata.file_type().is_socket(),
            "the path exists and is not a socket"
        );
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = Beside(PathBuf::from(name));
    let _ = std::fs::remove_file(&beside.0);
    let socket = seqpacket()?;
    socket.bind(&SockAddr::unix(&beside.0)?)?;
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&beside.0, std::fs::Permissions::from_mode(0o600))?;
    }
    socket.listen(1)?;
    Ok((socket, beside))
}

fn seqpacket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::SEQPACKET, None)
}

/// Whether a process of the same user is at the other end.
fn is_ours(peer: &Socket) -> io::Result<bool> {
    Ok(socket_peercred(peer)?.uid == geteuid())
}

fn named(setting: &str, address: &str) -> String {
    format!("{setting} {address}")
}

fn send(to: &Socket, text: &str, socket: Option<&Bound>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptor = socket.and_then(Bound::descriptor);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let flags = SendFlags::NOSIGNAL;
    sendmsg(to, &[IoSlice::new(text.as_bytes())], &mut control, flags)?;
    Ok(())
}

fn receive(from: &Socket) -> anyhow::Result<(String, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; LONGEST];
    let message = recvmsg(
        from,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .context("the other process said nothing in time")?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    anyhow::ensure!(message.bytes > 0, "the other process went away");
    let text = text.get(..message.bytes).unwrap_or_default();
    let text = std::str::from_utf8(text).context("the other process sent no text")?;
    Ok((text.to_owned(), descriptor))
}

/// How long the other process may take, to start all its cores for example.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long this one's cores may take to start: it gives up before the other process does.
pub(super) const START: Duration = Duration::from_secs(20);
const _: () = assert!(START.as_secs() < PATIENCE.as_secs());

const HELLO: &str = "coatroom hand-over 1";
const END: &str = "end";
const READY: &str = "ready";

/// The longest message: a setting, and an address or a path.
const LONGEST: usize = 256;

/// More sockets than any process has.
const MOST: usize = 2048;

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn offered(setting: &str) -> (Offered, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let offered = Offered::default();
        let socket = Bound::Tcp(listener);
        offered.add(setting, "127.0.0.1:80", &socket).expect("cloned");
        (offered, address)
    }

    fn wait_at(offered: &Offered, path: &Path, taken: mpsc::UnboundedSender<()>) {
        let prepared = offered.clone().prepare(path, taken).expect("bound");
        prepared.take_the_path().expect("moved");
    }

    #[test]
    fn sockets_change_hands_and_what_waits_in_them_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("handover.sock");
        assert!(Received::ask(&path).expect("nobody there").is_none());
        let (offered, address) = offered("listen");
        let (taken, mut told) = mpsc::unbounded_channel();
        wait_at(&offered, &path, taken);
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let waiting = TcpStream::connect(address).expect("into the queue");
        let mut received = Received::ask(&path).expect("understood").expect("there");
        assert!(received.take("admin", "127.0.0.1:80").is_empty());
        assert!(
            received.take("listen", "127.0.0.1:81").is_empty(),
            "another address"
        );
        let mut sockets = received.take("listen", "127.0.0.1:80");
        assert!(received.take("listen", "127.0.0.1:80").is_empty(), "taken");
        assert!(told.try_recv().is_err(), "it does not serve yet");
        received.we_serve().expect("told");
        assert_eq!(told.blocking_recv(), Some(()));
        offered.withdraw();
        let Some(Bound::Tcp(listener)) = sockets.pop() else {
            panic!("one TCP socket");
        };
        let (_, peer) = listener.accept().expect("what waited is there");
        assert_eq!(peer, waiting.local_addr().expect("connected"));
    }

    #[test]
    fn one_that_asks_and_does_not_come_to_serve_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("handover.sock");
        let (offered, _) = offered("listen");
        let (taken, mut told) = mpsc::unbounded_channel();
        wait_at(&offered, &path, taken);
        drop(Received::ask(&path).expect("understood"));
        let stranger = seqpacket().expect("a socket");
        stranger
            .connect(&SockAddr::unix(&path).expect("an address"))
            .expect("connected");
        send(&stranger, "coatroom hand-over 2", None).expect("sent");
        assert!(receive(&stranger).is_err(), "another version is refused");
        assert!(told.try_recv().is_err());
        let again = Received::ask(&path).expect("understood").expect("still there");
        again.we_serve().expect("told");
        assert_eq!(told.blocking_recv(), Some(()));
    }

    #[test]
    fn a_process_that_is_stopping_gives_nothing_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("handover.sock");
        let (offered, _) = offered("listen");
        let (taken, _told) = mpsc::unbounded_channel();
        wait_at(&offered, &path, taken);
        offered.withdraw();
        let mut received = Received::ask(&path).expect("understood").expect("there");
        assert!(received.take("listen", "127.0.0.1:80").is_empty());
    }

    #[test]
    fn the_one_after_waits_at_the_same_path_once_it_is_told_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("handover.sock");
        let (first, _) = offered("listen");
        let (second, _) = offered("admin");
        let (taken, _told) = mpsc::unbounded_channel();
        wait_at(&first, &path, taken.clone());
        let who = |setting| {
            let mut received = Received::ask(&path).expect("understood").expect("there");
            received.take(setting, "127.0.0.1:80").len()
        };
        let files = || std::fs::read_dir(folder.path()).expect("a folder").count();

        let dropped = second.clone().prepare(&path, taken.clone()).expect("bound");
        assert_eq!((who("listen"), files()), (1, 2), "the first is still there");
        drop(dropped);
        assert_eq!((who("listen"), files()), (1, 1), "nothing is left of it");
        let prepared = second.prepare(&path, taken).expect("bound");
        prepared.take_the_path().expect("moved");
        assert_eq!((who("admin"), files()), (1, 1));
    }

    #[test]
    fn a_path_that_cannot_be_waited_at_shows_before_anything_moves() {
        let folder = tempfile::tempdir().expect("a folder");
        let (offered, _) = offered("listen");
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "data").expect("written");
        for path in [
            precious.clone(),
            folder.path().join("missing").join("handover.sock"),
            folder.path().join("x".repeat(200)),
        ] {
            let (taken, _told) = mpsc::unbounded_channel();
            assert!(
                offered.clone().prepare(&path, taken).is_err(),
                "{}",
                path.display()
            );
        }
        assert_eq!(std::fs::read_to_string(&precious).expect("still there"), "data");
    }
}
