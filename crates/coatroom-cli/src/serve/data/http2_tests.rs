//! Raw HTTP/2 frames against the real listener and the real Layer: lengths that are not true, fields
//! that HTTP/2 does not have, and floods of streams that are reset (RFC 9113 §8.1.1, §8.2.2, §10.5).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::framing_tests::{Reached, start};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a request (RFC 7541 §6: indexed fields, literals without indexing).
fn head(method: u8, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat();
    let mut block = vec![method, 0x86];
    block.extend([&[0x04][..], &text(path), &[0x01], &text("shop.example")].concat());
    for (name, value) in more {
        block.extend([&[0x00][..], &text(name), &text(value)].concat());
    }
    block
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

/// A frame that came back.
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// Whether nothing more comes on stream 1: its last frame, its reset, or the connection's end.
    fn is_last(&self) -> bool {
        match self.kind {
            DATA | HEADERS => self.stream == 1 && self.flags & END_STREAM != 0,
            RST_STREAM => self.stream == 1,
            kind => kind == GOAWAY,
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Sends frames behind the preface, and nothing more once stream 1 is over; what came back until the
/// connection ended, and what reached the upstream.
async fn speak_http2(frames: &[u8]) -> (Vec<Frame>, Reached) {
    let running = start().await;
    let mut client = TcpStream::connect(running.address).await.expect("connected");
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &frame(SETTINGS, 0, 0, &[])[..],
    ]
    .concat();
    client.write_all(&preface).await.expect("written");
    // it may be refused before all of it is read
    let _ = client.write_all(frames).await;
    let mut found = Vec::new();
    while let Some(frame) = read_frame(&mut client).await {
        let is_last = frame.is_last();
        found.push(frame);
        if is_last {
            let _ = client.shutdown().await;
        }
    }
    // the server takes the end of the stream for that of the connection
    drop(client);
    (found, running.finish().await)
}

async fn read_frame(client: &mut TcpStream) -> Option<Frame> {
    let mut header = [0; 9];
    client.read_exact(&mut header).await.ok()?;
    let [a, b, c, kind, flags, stream @ ..] = header;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("small");
    let mut payload = vec![0; length];
    client.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind,
        flags,
        stream: u32::from_be_bytes(stream),
        payload,
    })
}

#[tokio::test(flavor = "local")]
async fn an_http2_body_that_contradicts_its_length_never_becomes_a_message() {
    for (name, length, body, arrives) in [
        ("as said", "5", &b"hello"[..], true),
        ("shorter", "9", b"hello", false),
        ("longer", "3", b"hello", false),
        ("something for nothing", "0", b"hello", false),
    ] {
        let head = head(POST, "/a", &[("content-length", length)]);
        let frames = [
            frame(HEADERS, END_HEADERS, 1, &head),
            frame(DATA, END_STREAM, 1, body),
        ]
        .concat();
        let (answer, reached) = speak_http2(&frames).await;
        assert_eq!(reached.wrong(), [""; 0], "{name}");
        assert_eq!(
            reached.messages.len(),
            usize::from(arrives),
            "{name}: {:?}",
            reached.messages
        );
        let is_protocol_error = |frame: &Frame| frame.kind == RST_STREAM && frame.payload == [0, 0, 0, 1];
        assert_eq!(
            answer.iter().any(is_protocol_error),
            !arrives,
            "{name}: {answer:?}"
        );
    }
}

#[tokio::test(flavor = "local")]
async fn connection_fields_and_odd_pseudo_headers_of_http2_are_refused() {
    for (more, arrives) in [
        (&[("te", "trailers")][..], true),
        (&[("connection", "close")], false),
        (&[("transfer-encoding", "chunked")], false),
        (&[("upgrade", "websocket")], false),
        (&[("Content-Length", "0")], false),
        (&[("x-a", "b\r\nc: d")], false),
        (&[("x-a\r\nc", "d")], false),
        (&[(":path", "/api/x")], false),
        (&[(":authority", "evil.example")], false),
        (&[("host", "evil.example")], false),
        (&[("content-length", "1"), ("content-length", "2")], false),
        (&[("te", "chunked")], false),
    ] {
        let frames = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head(GET, "/a", more));
        let (answer, reached) = speak_http2(&frames).await;
        assert_eq!(reached.messages.len(), usize::from(arrives), "{more:?}");
        assert!(answer.iter().any(Frame::is_last), "{more:?}: an answer");
    }
}

#[tokio::test(flavor = "local")]
async fn a_flood_of_reset_streams_ends_the_connection() {
    let head = head(GET, "/a", &[]);
    let frames: Vec<u8> = (0..2_000u32)
        .flat_map(|number| {
            let stream = number * 2 + 1;
            [
                frame(HEADERS, END_STREAM | END_HEADERS, stream, &head),
                frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ]
            .concat()
        })
        .collect();
    let (answer, reached) = speak_http2(&frames).await;
    let goaway = answer.iter().find(|frame| frame.kind == GOAWAY);
    let code = goaway.and_then(|frame| frame.payload.get(4..8));
    // ENHANCE_YOUR_CALM
    assert_eq!(code, Some(&[0, 0, 0, 11][..]), "{answer:?}");
    let reached = reached.messages.len();
    assert!(reached < 500, "{reached} of 2,000 reached the upstream");
}
