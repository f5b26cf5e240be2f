//! An upstream that logs the messages it reads, by the strictest reading of their framing.
//!
//! For the tests of the listener: it knows one length or `chunked`, and calls everything else odd. It
//! answers every message alike, or with the bytes that a test scripted, whatever they are.

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

/// What it answers to a message.
pub(super) type Answers = Rc<dyn Fn(&Message) -> Reply>;

/// An answer, byte by byte.
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    /// Whether it hangs up behind it.
    pub(super) closes: bool,
}

/// 200 and two bytes; no WebSocket.
pub(super) fn plain(message: &Message) -> Reply {
    let upgrades = !message.values("upgrade").is_empty();
    let status = if upgrades { "400 Bad Request" } else { "200 OK" };
    // a body behind the answer to HEAD would be the beginning of the next answer
    let body = if message.head.starts_with("HEAD ") {
        ""
    } else {
        "ok"
    };
    Reply {
        bytes: format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{body}").into_bytes(),
        closes: false,
    }
}

impl RawUpstream {
    pub(super) async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (log, last) = (Log::default(), Rc::new(Notify::new()));
        let reading = read_connections(listener, answers, log.clone(), last.clone());
        Self {
            address,
            log,
            last,
            reading: tokio::task::spawn_local(reading),
        }
    }

    /// How many whole messages reached it so far.
    pub(super) fn count(&self) -> usize {
        let log = self.log.0.lock().expect("no panic");
        log.iter().filter(|message| message.whole).count()
    }

    /// Resolves once the head of a message has reached it.
    pub(super) async fn begun(&self) {
        self.log.1.notified().await;
    }

    /// Every message that ever reached it, those included that broke off. To be asked when nobody
    /// connects any more: it waits until each connection was read to its end.
    pub(super) async fn finish(self) -> Vec<Message> {
        self.last.notify_one();
        self.reading.await.expect("no panic");
        let mut log = self.log.0.lock().expect("no panic");
        log.drain(..).collect()
    }
}

/// Reads every connection to its end, those included that nobody has accepted at the `last` moment.
async fn read_connections(listener: TcpListener, answers: Answers, log: Log, last: Rc<Notify>) {
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.expect("a connection");
                readers.spawn_local(read_messages(stream, answers.clone(), log.clone()));
            }
            () = last.notified() => break,
        }
    }
    // the kernel is asked, since the runtime may not know yet
    let listener = listener.into_std().expect("a listener");
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true).expect("set");
        let stream = TcpStream::from_std(stream).expect("a stream");
        readers.spawn_local(read_messages(stream, answers.clone(), log.clone()));
    }
    readers.join_all().await;
}

/// What an upstream reads, message by message, and a notice of each that begins.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Message>>>, Arc<Notify>);

impl Log {
    fn push(&self, message: Message) {
        self.0.lock().expect("no panic").push(message);
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// The lines behind the last chunk.
    pub(super) trailers: String,
    /// Whether the framing was more than one, or none that this parser knows.
    pub(super) odd: bool,
    /// Whether it came to its end.
    pub(super) whole: bool,
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

    /// Method and target, and the body where there is one.
    pub(super) fn summary(&self) -> Vec<u8> {
        let line = self.head.split("\r\n").next().unwrap_or_default();
        let mut summary = line.trim_end_matches(" HTTP/1.1").as_bytes().to_vec();
        if !self.body.is_empty() {
            summary.push(b'=');
            summary.extend(&self.body);
        }
        summary
    }
}

/// Reads messages strictly, one after another, and answers each.
async fn read_messages(mut stream: TcpStream, answers: Answers, log: Log) {
    loop {
        let mut message = Message::default();
        let read = read_message(&mut stream, &mut message, &log).await;
        message.whole = read.is_some();
        let began = !message.head.is_empty();
        let reply = (message.whole && !message.odd).then(|| answers(&message));
        if began {
            log.push(message);
        }
        let Some(reply) = reply else { return };
        // the other side may have had enough of it
        let written = stream.write_all(&reply.bytes).await;
        if reply.closes || written.is_err() {
            return;
        }
    }
}

/// One message; none if the stream ends before it does.
async fn read_message(stream: &mut TcpStream, message: &mut Message, log: &Log) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => {
                message.head = String::from_utf8_lossy(&head).into_owned();
                return None;
            }
        }
    }
    message.head = String::from_utf8_lossy(&head).into_owned();
    log.1.notify_one();
    let lengths: Vec<usize> = message
        .values("content-length")
        .iter()
        .map(|length| number(length, 10).unwrap_or(usize::MAX))
        .collect();
    let codings = message.values("transfer-encoding").join(", ");
    match (lengths.as_slice(), codings.as_str()) {
        ([], "") => {}
        ([length], "") if *length < 1_000_000 => {
            while message.body.len() < *length {
                message.body.push(stream.read_u8().await.ok()?);
            }
        }
        ([], "chunked") => message.odd = !read_chunks(stream, message).await?,
        _ => message.odd = true,
    }
    Some(())
}

/// Whether every chunk was well-formed.
async fn read_chunks(stream: &mut TcpStream, message: &mut Message) -> Option<bool> {
    loop {
        let line = read_line(stream).await?;
        let Some(length) = number(&line, 16) else {
            return Some(false);
        };
        if length == 0 {
            break;
        }
        for _ in 0..length {
            message.body.push(stream.read_u8().await.ok()?);
        }
        if !read_line(stream).await?.is_empty() {
            return Some(false);
        }
    }
    loop {
        let line = read_line(stream).await?;
        if line.is_empty() {
            return Some(true);
        }
        message.trailers += &line;
        message.trailers += "\r\n";
    }
}

/// Digits and nothing else.
fn number(text: &str, radix: u32) -> Option<usize> {
    let digits = text.chars().all(|digit| digit.is_digit(radix));
    usize::from_str_radix(text, radix).ok().filter(|_| digits)
}

/// A line without its end.
async fn read_line(stream: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.ok()?);
    }
    line.truncate(line.len() - 2);
    Some(String::from_utf8_lossy(&line).into_owned())
}
