//! An upstream that logs the messages it reads, by the strictest reading of their framing.
//!
//! For the tests of the listener: it knows one length or `chunked`, and calls everything else odd.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

/// An upstream that is running.
pub(super) struct RawUpstream {
    pub(super) address: SocketAddr,
    log: Log,
    last: Rc<Notify>,
    reading: JoinHandle<()>,
}

impl RawUpstream {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (log, last) = (Log::default(), Rc::new(Notify::new()));
        let reading = tokio::task::spawn_local(read_connections(listener, log.clone(), last.clone()));
        Self {
            address,
            log,
            last,
            reading,
        }
    }

    /// Every message that ever reached it. To be asked when nobody connects any more: it waits until
    /// each connection was read to its end.
    pub(super) async fn finish(self) -> Vec<Message> {
        self.last.notify_one();
        self.reading.await.expect("no panic");
        let mut log = self.log.0.lock().expect("no panic");
        log.drain(..).collect()
    }
}

/// Reads every connection to its end, those included that nobody has accepted at the `last` moment.
async fn read_connections(listener: TcpListener, log: Log, last: Rc<Notify>) {
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.expect("a connection");
                readers.spawn_local(read_messages(stream, log.clone()));
            }
            () = last.notified() => break,
        }
    }
    // the kernel is asked, since the runtime may not know yet
    let listener = listener.into_std().expect("a listener");
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true).expect("set");
        let stream = TcpStream::from_std(stream).expect("a stream");
        readers.spawn_local(read_messages(stream, log.clone()));
    }
    readers.join_all().await;
}

/// What an upstream reads, message by message.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Message>>>);

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// Whether the framing was more than one, or none that this parser knows.
    pub(super) odd: bool,
}

impl Message {
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        self.head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

/// Reads messages strictly, one after another, and answers each.
async fn read_messages(mut stream: TcpStream, log: Log) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let mut message = Message {
            head: String::from_utf8_lossy(&head).into_owned(),
            body: Vec::new(),
            odd: false,
        };
        let lengths: Vec<usize> = message
            .values("content-length")
            .iter()
            .map(|length| length.parse().unwrap_or(usize::MAX))
            .collect();
        let codings = message.values("transfer-encoding").join(", ");
        match (lengths.as_slice(), codings.as_str()) {
            ([], "") => {}
            ([length], "") if *length < 1_000_000 => {
                message.body = vec![0; *length];
                stream.read_exact(&mut message.body).await.ok()?;
            }
            ([], "chunked") => message.odd = !read_chunks(&mut stream, &mut message.body).await?,
            _ => message.odd = true,
        }
        let upgrades = !message.values("upgrade").is_empty();
        let odd = message.odd;
        log.0.lock().expect("no panic").push(message);
        if odd {
            return None;
        }
        let answer = if upgrades { "400 Bad Request" } else { "200 OK" };
        stream
            .write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 2\r\n\r\nok").as_bytes())
            .await
            .ok()?;
    }
}

/// Whether every chunk was well-formed.
async fn read_chunks(stream: &mut TcpStream, body: &mut Vec<u8>) -> Option<bool> {
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.ok()?);
        }
        let digits = std::str::from_utf8(&line[..line.len() - 2]).ok()?;
        let Ok(length) = usize::from_str_radix(digits, 16) else {
            return Some(false);
        };
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk).await.ok()?;
        if !chunk.ends_with(b"\r\n") {
            return Some(false);
        }
        body.extend(&chunk[..length]);
        if length == 0 {
            return Some(true);
        }
    }
}
