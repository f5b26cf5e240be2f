//! WebSocket tunnels (RFC 6455) over two upgraded HTTP/1.1 connections.
//!
//! Bytes are copied both ways unread, until one side closes or the session ends. Only the borders
//! of the frames towards the client are followed, so that the end of the session can be told in a
//! close frame of its own ([`SESSION_ENDED`]) and not in the middle of another's. No byte of the
//! client reaches the upstream before both sides have agreed to switch. Payloads are never looked
//! at, changed or logged.

use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::connect::Io;
use crate::session_end::SessionEnded;
use crate::timer::CoarseTimer;

/// The close code for a session that has ended: 3000, registered as "Unauthorized" with IANA.
pub(super) const SESSION_ENDED: u16 = 3000;

/// Runs a tunnel to its end.
pub(super) async fn run(
    client: OnUpgrade,
    upstream: Io,
    already_read: Bytes,
    ended: Option<SessionEnded>,
    timer: CoarseTimer,
) {
    // The client's side exists once the 101 is on its way; a client that left has none.
    let Ok(client) = client.await else { return };
    copy(
        TokioIo::new(client),
        TokioIo::new(upstream),
        already_read,
        ended,
        &timer,
    )
    .await;
}

async fn copy(
    client: impl AsyncRead + AsyncWrite,
    upstream: impl AsyncRead + AsyncWrite,
    already_read: Bytes,
    ended: Option<SessionEnded>,
    timer: &CoarseTimer,
) {
    let (mut client_reader, client_writer) = tokio::io::split(client);
    let (upstream_reader, mut upstream_writer) = tokio::io::split(upstream);
    let mut down = Down {
        reader: upstream_reader,
        writer: client_writer,
        frames: Frames::default(),
        buffer: vec![0; BUFFER].into_boxed_slice(),
        filled: 0,
        written: 0,
    };
    if !already_read.is_empty() && down.forward(&already_read).await.is_err() {
        return;
    }
    let ended = async {
        match ended {
            Some(ended) => ended.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // First, or a busy stream could win for a while.
        biased;
        () = ended => {
            let _ = timer.timeout(GOODBYE, down.say_session_ended()).await;
        }
        _ = tokio::io::copy(&mut client_reader, &mut upstream_writer) => {}
        _ = down.copy() => {}
    }
    let _ = timer
        .timeout(GOODBYE, async {
            let _ = tokio::join!(upstream_writer.shutdown(), down.writer.shutdown());
        })
        .await;
}

/// The direction towards the client. Its state is right after every await, so that it can be
/// stopped at any of them and continued differently.
struct Down<R, W> {
    reader: R,
    writer: W,
    frames: Frames,
    buffer: Box<[u8]>,
    filled: usize,
    written: usize,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Down<R, W> {
    /// Copies until the upstream closes.
    async fn copy(&mut self) -> std::io::Result<()> {
        loop {
            self.flush_buffer().await?;
            if self.fill().await? == 0 {
                return Ok(());
            }
        }
    }

    /// Finishes the frame that is on its way and closes with [`SESSION_ENDED`].
    async fn say_session_ended(&mut self) -> std::io::Result<()> {
        loop {
            let pending = self.pending();
            let rest = self.frames.clone().advance_to_border(pending);
            let end = self.written.saturating_add(rest);
            while self.written < end {
                self.write_some(end).await?;
            }
            if self.frames.at_border() {
                break;
            }
            if self.fill().await? == 0 {
                return Ok(());
            }
        }
        self.writer.write_all(&close_frame()).await?;
        self.writer.flush().await
    }

    async fn forward(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let count = self.writer.write(bytes).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            let (done, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
            self.frames.advance(done);
            bytes = rest;
        }
        self.writer.flush().await
    }

    async fn flush_buffer(&mut self) -> std::io::Result<()> {
        while self.written < self.filled {
            self.write_some(self.filled).await?;
        }
        self.writer.flush().await
    }

    /// Writes a part of the buffer that ends no later than `end`.
    async fn write_some(&mut self, end: usize) -> std::io::Result<()> {
        let part = self.buffer.get(self.written..end).unwrap_or_default();
        let count = self.writer.write(part).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.frames.advance(part.get(..count).unwrap_or(part));
        self.written += count;
        Ok(())
    }

    async fn fill(&mut self) -> std::io::Result<usize> {
        let count = self.reader.read(&mut self.buffer).await?;
        (self.written, self.filled) = (0, count);
        Ok(count)
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.written..self.filled).unwrap_or_default()
    }
}

/// Where in the stream of frames we are (RFC 6455 §5.2).
#[derive(Clone, Default)]
struct Frames {
    /// The header's bytes so far: at most two, an eight-byte length and a four-byte mask.
    header: [u8; 14],
    header_length: usize,
    /// What is left of the payload.
    payload: u64,
}

impl Frames {
    /// Whether a frame of ours may be written now.
    fn at_border(&self) -> bool {
        self.header_length == 0 && self.payload == 0
    }

    /// Follows bytes that went by.
    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = self.step(bytes);
            bytes = bytes.get(count..).unwrap_or_default();
        }
    }

    /// How many of the bytes are still missing to the next border; all, if it is further away.
    fn advance_to_border(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && !self.at_border() {
            let count = self.step(rest);
            rest = rest.get(count..).unwrap_or_default();
        }
        bytes.len() - rest.len()
    }

    /// Takes one byte of a header or some of a payload; at least one byte.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.payload > 0 {
            let available = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let taken = self.payload.min(available);
            self.payload -= taken;
            return usize::try_from(taken).unwrap_or(bytes.len()).max(1);
        }
        if let (Some(place), Some(byte)) = (self.header.get_mut(self.header_length), bytes.first()) {
            *place = *byte;
            self.header_length += 1;
        }
        if let Some(payload) = self.header_end() {
            self.header_length = 0;
            self.payload = payload;
        }
        1
    }

    /// The payload's length, once the header is complete.
    fn header_end(&self) -> Option<u64> {
        if self.header_length < 2 {
            return None;
        }
        let [_, second, extended @ ..] = self.header;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (extra, length) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes([extended[0], extended[1]]))),
            127 => {
                let [a, b, c, d, e, f, g, h, ..] = extended;
                (8, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            short => (0, u64::from(short)),
        };
        (self.header_length >= 2 + extra + mask).then_some(length)
    }
}

/// A close frame from a server (unmasked): code and reason.
fn close_frame() -> Vec<u8> {
    let length = u8::try_from(REASON.len() + 2).expect("the reason is short");
    let mut frame = vec![0x88, length];
    frame.extend_from_slice(&SESSION_ENDED.to_be_bytes());
    frame.extend_from_slice(REASON.as_bytes());
    frame
}

const REASON: &str = "session ended";

/// How long an ended session's tunnel may take to finish a frame and close.
const GOODBYE: Duration = Duration::from_secs(5);

const BUFFER: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;
    use crate::session_end::SessionEnds;

    const SESSION: [u8; 16] = [7; 16];

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x82];
        match payload.len() {
            n @ 0..=125 => out.push(n as u8),
            n @ 126..=65535 => {
                out.push(126);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                out.push(127);
                out.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
        out
    }

    struct Tunnel {
        client: DuplexStream,
        upstream: DuplexStream,
        ends: SessionEnds,
        task: tokio::task::JoinHandle<()>,
    }

    fn tunnel(already_read: &[u8]) -> Tunnel {
        let (client, near_client) = duplex(1024);
        let (upstream, near_upstream) = duplex(1024);
        let ends = SessionEnds::new();
        let ended = ends.subscribe(SESSION);
        let already_read = Bytes::copy_from_slice(already_read);
        let task = tokio::spawn(async move {
            copy(
                near_client,
                near_upstream,
                already_read,
                Some(ended),
                &CoarseTimer::new(),
            )
            .await;
        });
        Tunnel {
            client,
            upstream,
            ends,
            task,
        }
    }

    async fn read(stream: &mut DuplexStream, count: usize) -> Vec<u8> {
        let mut out = vec![0; count];
        stream.read_exact(&mut out).await.expect("bytes arrive");
        out
    }

    async fn rest(stream: &mut DuplexStream) -> Vec<u8> {
        let mut out = Vec::new();
        stream.read_to_end(&mut out).await.expect("it ends");
        out
    }

    #[test]
    fn borders_are_found_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for size in [0, 1, 125, 126, 127, 65535, 65536] {
            stream.extend(frame(&vec![0x81; size]));
        }
        stream.extend([0x81, 0x82, 1, 2, 3, 4, 9, 9]);
        for cut in [1, 2, 3, 7, 64, 4096, stream.len()] {
            let mut frames = Frames::default();
            let mut borders = 0;
            for part in stream.chunks(cut) {
                frames.advance(part);
                borders += usize::from(frames.at_border());
            }
            assert!(frames.at_border(), "{cut}");
            assert!(borders > 0);
            frames.advance(&[0x81]);
            assert!(!frames.at_border());
        }
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_what_was_read_too_far_comes_first() {
        let mut t = tunnel(b"\x81\x01a");
        t.upstream.write_all(b"\x81\x01b").await.expect("written");
        t.client.write_all(b"up").await.expect("written");
        assert_eq!(read(&mut t.client, 6).await, b"\x81\x01a\x81\x01b");
        assert_eq!(read(&mut t.upstream, 2).await, b"up");
    }

    #[tokio::test]
    async fn when_one_side_closes_so_does_the_other() {
        let mut t = tunnel(b"");
        t.upstream.write_all(b"\x88\x00").await.expect("written");
        t.upstream.shutdown().await.expect("closed");
        assert_eq!(rest(&mut t.client).await, b"\x88\x00");
        t.task.await.expect("the tunnel ends");

        let mut t = tunnel(b"");
        t.client.shutdown().await.expect("closed");
        assert_eq!(rest(&mut t.upstream).await, b"");
        t.task.await.expect("the tunnel ends");
    }

    #[tokio::test]
    async fn the_end_of_the_session_closes_with_its_code() {
        let mut t = tunnel(b"\x81\x01a");
        assert_eq!(read(&mut t.client, 3).await, b"\x81\x01a");
        t.ends.end(SESSION);
        assert_eq!(rest(&mut t.client).await, close_frame());
        assert_eq!(rest(&mut t.upstream).await, b"");
        t.task.await.expect("the tunnel ends");
        assert_eq!(close_frame()[2..4], [0x0b, 0xb8]);
    }

    #[tokio::test]
    async fn a_frame_on_its_way_is_finished_before_the_close_frame() {
        let mut t = tunnel(b"");
        t.upstream.write_all(b"\x82\x04ab").await.expect("written");
        assert_eq!(read(&mut t.client, 4).await, b"\x82\x04ab");
        t.ends.end(SESSION);
        t.upstream
            .write_all(b"cd\x81\x09not any more")
            .await
            .expect("written");
        let mut expected = b"cd".to_vec();
        expected.extend(close_frame());
        assert_eq!(rest(&mut t.client).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_never_ends_does_not_keep_the_socket_open() {
        let mut t = tunnel(b"");
        t.upstream.write_all(b"\x82\x04ab").await.expect("written");
        assert_eq!(read(&mut t.client, 4).await, b"\x82\x04ab");
        t.ends.end(SESSION);
        assert_eq!(rest(&mut t.client).await, b"", "closed without a frame");
        t.task.await.expect("the tunnel ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_does_not_keep_the_tunnel() {
        let mut t = tunnel(b"");
        t.upstream.write_all(&frame(&[1; 1000])).await.expect("written");
        t.upstream.write_all(&frame(&[1; 1000])).await.expect("written");
        t.ends.end(SESSION);
        t.task.await.expect("the tunnel ends");
    }
}
