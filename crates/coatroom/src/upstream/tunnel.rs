//! WebSocket tunnels (RFC 6455), over whatever the two sides speak.
//!
//! Bytes are copied both ways unread, until one side closes or the session ends. Only the borders
//! of the frames are followed, so that the end of the session can be told to both sides in a close
//! frame of its own ([`SESSION_ENDED`]) and not in the middle of another's. No byte of the client
//! reaches the upstream before both sides have agreed to switch. Payloads are never looked at,
//! changed or logged.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::session_end::SessionEnded;
use crate::timer::CoarseTimer;

/// The close code for a session that has ended: 3000, registered as "Unauthorized" with IANA.
pub(super) const SESSION_ENDED: u16 = 3000;

/// Runs a tunnel to its end. `already_read` came from the upstream before it.
pub(super) async fn run(
    client: impl AsyncRead + AsyncWrite,
    upstream: impl AsyncRead + AsyncWrite,
    already_read: Bytes,
    ended: Option<SessionEnded>,
    timer: &CoarseTimer,
) {
    let (client_reader, client_writer) = tokio::io::split(client);
    let (upstream_reader, upstream_writer) = tokio::io::split(upstream);
    let mut down = Direction::new(upstream_reader, client_writer);
    let mut up = Direction::new(client_reader, upstream_writer);
    if !already_read.is_empty() && down.forward(&already_read).await.is_err() {
        return;
    }
    let ended = async {
        match ended {
            Some(ended) => ended.await,
            None => std::future::pending().await,
        }
    };
    let session_ended = tokio::select! {
        // First, or a busy stream could win for a while.
        biased;
        () = ended => true,
        _ = up.copy() => false,
        _ = down.copy() => false,
    };
    let _ = timer
        .timeout(GOODBYE, async {
            if session_ended {
                let _ = tokio::join!(down.close(None), up.close(Some(mask())));
            }
            let _ = tokio::join!(up.writer.shutdown(), down.writer.shutdown());
            if session_ended {
                // A socket that is closed over unread bytes is reset, and the close frame lost.
                tokio::join!(up.discard(), down.discard());
            }
        })
        .await;
}

/// One direction. Its state is right after every await, so that it can be stopped at any of them
/// and continued differently.
struct Direction<R, W> {
    reader: R,
    writer: W,
    frames: Frames,
    buffer: Box<[u8]>,
    filled: usize,
    written: usize,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Direction<R, W> {
    fn new(reader: R, writer: W) -> Self {
        Self {
            reader,
            writer,
            frames: Frames::default(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            filled: 0,
            written: 0,
        }
    }

    /// Copies until the reader's side closes.
    async fn copy(&mut self) -> std::io::Result<()> {
        loop {
            self.flush_buffer().await?;
            if self.fill().await? == 0 {
                return Ok(());
            }
        }
    }

    /// Finishes the frame that is on its way and closes with [`SESSION_ENDED`].
    async fn close(&mut self, mask: Option<[u8; 4]>) -> std::io::Result<()> {
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
        self.writer.write_all(&close_frame(mask)).await?;
        self.writer.flush().await
    }

    /// Reads to the end, for nothing.
    async fn discard(&mut self) {
        while matches!(self.fill().await, Ok(count) if count > 0) {}
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

/// A close frame: code and reason, masked towards a server (RFC 6455 §5.3).
fn close_frame(mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = SESSION_ENDED.to_be_bytes().to_vec();
    payload.extend_from_slice(REASON.as_bytes());
    let length = u8::try_from(payload.len()).expect("the reason is short");
    let Some(mask) = mask else {
        return [&[0x88, length], &payload[..]].concat();
    };
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    [&[0x88, 0x80 | length], &mask[..], &payload].concat()
}

/// A mask. It hides nothing from anybody; that of nought is one too.
fn mask() -> [u8; 4] {
    let mut mask = [0; 4];
    let _ = SystemRandom::new().fill(&mut mask);
    mask
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
            run(
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
        assert_eq!(rest(&mut t.client).await, close_frame(None));
        let goodbye = rest(&mut t.upstream).await;
        let mask = goodbye[2..6].try_into().expect("a mask");
        assert_eq!(goodbye, close_frame(Some(mask)));
        drop(t.client);
        drop(t.upstream);
        t.task.await.expect("the tunnel ends");
        assert_eq!(close_frame(None)[2..4], [0x0b, 0xb8]);
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
        expected.extend(close_frame(None));
        assert_eq!(rest(&mut t.client).await, expected);
    }

    #[tokio::test]
    async fn a_frame_of_the_client_is_finished_before_the_upstream_is_told() {
        let mut t = tunnel(b"");
        // half of a masked frame of six bytes
        t.client
            .write_all(b"\x82\x86\x01\x02\x03\x04ab")
            .await
            .expect("written");
        assert_eq!(read(&mut t.upstream, 8).await, b"\x82\x86\x01\x02\x03\x04ab");
        t.ends.end(SESSION);
        assert_eq!(
            read(&mut t.client, 2).await,
            [0x88, 15],
            "the client hears at once"
        );
        t.client.write_all(b"cdef\x81\x80more").await.expect("written");
        assert_eq!(read(&mut t.upstream, 4).await, b"cdef");
        let goodbye = rest(&mut t.upstream).await;
        assert_eq!(goodbye[..2], [0x88, 0x80 | 15]);
        let unmasked: Vec<_> = goodbye[6..]
            .iter()
            .zip(goodbye[2..6].iter().cycle())
            .map(|(byte, key)| byte ^ key)
            .collect();
        assert_eq!(unmasked, b"\x0b\xb8session ended");
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
