//! The listening sockets: the provider's, and the trap that counts who comes.
//!
//! Reads as much of HTTP/1.1 (RFC 9112) as clients send to a provider: one request per connection, with
//! a `Content-Length` or without a body, within bounds. What to answer is not decided here.

use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::provider::Provider;

/// A request as far as a provider looks at it.
pub(crate) struct Request {
    /// The path, without the query.
    pub(crate) path: String,
    /// The value of `Authorization`.
    pub(crate) authorization: Option<String>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// Serves until it is aborted, and its connections with it.
pub(crate) async fn serve(listener: TcpListener, provider: Arc<Provider>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let provider = Arc::clone(&provider);
        connections.spawn(async move { converse(stream, &provider).await });
        while connections.try_join_next().is_some() {}
    }
}

/// Counts who comes, and says nothing.
pub(crate) async fn trap(listener: TcpListener, provider: Arc<Provider>) {
    while listener.accept().await.is_ok() {
        provider.note_trapped();
    }
}

async fn converse(mut stream: TcpStream, provider: &Provider) {
    if let Some(request) = read(&mut stream).await {
        // who has gone away needs no answer
        let _ = provider.answer(&request).write(&mut stream).await;
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, &mut bytes).await?;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.split('?').next()?.to_owned();
    let field = |wanted: &str| {
        lines.clone().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    let length: usize = field("content-length").map_or(Some(0), |value| value.parse().ok())?;
    while bytes.len() < end + length {
        more(stream, &mut bytes).await?;
    }
    Some(Request {
        path,
        authorization: field("authorization"),
        body: bytes[end..end + length].to_vec(),
    })
}

/// Reads what there is; nothing at the end, or when it gets too long.
async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer).await.ok()?;
    bytes.extend_from_slice(&buffer[..read]);
    (read > 0 && bytes.len() <= LONGEST_REQUEST).then_some(())
}

/// The longest request, in bytes.
const LONGEST_REQUEST: usize = 256 * 1024;
