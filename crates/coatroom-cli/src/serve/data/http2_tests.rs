//! Raw HTTP/2 frames against the real listener and the real Layer: lengths that are not true, fields
//! that HTTP/2 does not have, targets and hosts with two readings, trailers (RFC 9113 §8.1 to §8.3).
//!
//! A message arrives as it was meant, or not at all.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::framing_tests::{Reached, start};
use super::http2_flood_tests::preface;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a request (RFC 7541 §6: indexed fields, literals without indexing).
pub(super) fn head(method: u8, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat();
    let mut block = vec![method, 0x86];
    block.extend([&[0x04][..], &text(path), &[0x01], &text("shop.example")].concat());
    for (name, value) in more {
        block.extend([&[0x00][..], &text(name), &text(value)].concat());
    }
    block
}

/// A block of fields as they stand here (RFC 7541 §6.2.2).
pub(super) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
        [&[length.expect("short")][..], text.as_bytes()].concat()
    };
    let literal = |(name, value): &(&str, &str)| [&[0][..], &text(name), &text(value)].concat();
    fields.iter().flat_map(literal).collect()
}

pub(super) const GET: u8 = 0x82;
pub(super) const POST: u8 = 0x83;

/// A frame that came back.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// Whether nothing more comes on stream 1: its last frame, its reset, or the connection's end.
    pub(super) fn is_last(&self) -> bool {
        match self.kind {
            DATA | HEADERS => self.stream == 1 && self.flags & END_STREAM != 0,
            RST_STREAM => self.stream == 1,
            kind => kind == GOAWAY,
        }
    }
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;

/// Sends frames behind the preface, and nothing more once stream 1 is over; what came back until the
/// connection ended, and what reached the upstream.
async fn speak_http2(frames: &[u8]) -> (Vec<Frame>, Reached) {
    let running = start().await;
    let mut client = TcpStream::connect(running.address).await.expect("connected");
    client.write_all(&preface()).await.expect("written");
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

pub(super) async fn read_frame(client: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
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
async fn an_http2_body_that_its_client_cancels_never_becomes_a_message() {
    for (name, more) in [
        ("of unknown length", &[][..]),
        ("of known length", &[("content-length", "9")]),
    ] {
        // INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM; NO_ERROR is for `pace.rs`, which is not in here
        for code in [2_u32, 8, 11] {
            let running = start().await;
            let mut client = TcpStream::connect(running.address).await.expect("connected");
            let begin = [
                preface(),
                frame(HEADERS, END_HEADERS, 1, &head(POST, "/a", more)),
                frame(DATA, 0, 1, b"half"),
            ]
            .concat();
            client.write_all(&begin).await.expect("written");
            running.upstream.begun().await;
            let reset = frame(RST_STREAM, 0, 1, &code.to_be_bytes());
            client.write_all(&reset).await.expect("written");
            client.shutdown().await.expect("shut down");
            while read_frame(&mut client).await.is_some() {}
            drop(client);
            let reached = running.finish().await;
            assert_eq!(reached.wrong(), [""; 0], "{name}, code {code}");
            assert_eq!(reached.messages.len(), 0, "{name}, code {code}");
            assert_eq!(reached.broken.len(), 1, "{name}, code {code}");
        }
    }
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

/// The four fields of a plain request, and more.
fn plain_and<'a>(more: &[(&'a str, &'a str)]) -> Fields<'a> {
    [&PLAIN[..], more].concat()
}

const PLAIN: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/a"),
    (":authority", "shop.example"),
];

/// The fields of a plain request with another value for one, or without it.
fn plain_but<'a>(name: &str, value: Option<&'a str>) -> Fields<'a> {
    let fields = PLAIN.into_iter();
    fields
        .filter_map(|(known, plain)| match value {
            Some(value) if known == name => Some((known, value)),
            None if known == name => None,
            _ => Some((known, plain)),
        })
        .collect()
}

/// The fields of a head, in order.
type Fields<'a> = Vec<(&'a str, &'a str)>;

/// Each of these as a whole request: what arrives, if it does.
async fn check_requests(rows: Vec<(Fields<'_>, Option<&str>)>) {
    // each has a listener and an upstream of its own, so they can go on at once
    let started = rows.iter().map(|(sent, _)| {
        let frames = frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(sent));
        tokio::task::spawn_local(async move { speak_http2(&frames).await })
    });
    let started: Vec<_> = started.collect();
    for ((sent, arrives), spoken) in rows.iter().zip(started) {
        let (answer, reached) = spoken.await.expect("no panic");
        assert_eq!(reached.wrong(), [""; 0], "{sent:?}");
        let expected: Vec<Vec<u8>> = arrives.iter().map(|line| line.as_bytes().to_vec()).collect();
        assert_eq!(reached.summaries(), expected, "{sent:?}");
        assert!(answer.iter().any(Frame::is_last), "{sent:?}: an answer");
    }
}

#[tokio::test(flavor = "local")]
async fn connection_fields_and_odd_pseudo_headers_of_http2_are_refused() {
    let mut rows = vec![(plain_and(&[("te", "trailers")]), Some("GET /a"))];
    for more in [
        &[("connection", "close")][..],
        &[("keep-alive", "timeout=5")],
        &[("proxy-connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("transfer-encoding", "identity")],
        &[("upgrade", "websocket")],
        &[("te", "chunked")],
        &[("Content-Length", "0")],
        &[("X-A", "b")],
        &[("x-a", "b\r\nc: d")],
        &[("x-a", "b\rc")],
        &[("x-a", "b\nc")],
        &[("x-a", "b\0c")],
        &[("x-a\r\nc", "d")],
        &[("x-a: b\r\nc", "d")],
        &[("x a", "b")],
        &[("x-a:", "b")],
        &[("", "b")],
        &[(":path", "/api/x")],
        &[(":method", "POST")],
        &[(":scheme", "https")],
        &[(":authority", "evil.example")],
        &[(":status", "200")],
        &[(":unknown", "a")],
        &[(":protocol", "websocket")],
        &[("host", "evil.example")],
        &[("host", "shop.example"), ("host", "shop.example")],
        &[("host", "")],
        &[("content-length", "1")],
        &[("content-length", "1"), ("content-length", "2")],
        &[("content-length", "+0")],
        &[("content_length", "5")],
        &[("x_forwarded_user", "admin")],
    ] {
        rows.push((plain_and(more), None));
    }
    // a pseudo-header behind a field
    rows.push((
        [&PLAIN[..3], &[("x-a", "b"), (":authority", "shop.example")]].concat(),
        None,
    ));
    check_requests(rows).await;
}

#[tokio::test(flavor = "local")]
async fn a_target_of_http2_arrives_in_its_one_form_or_not_at_all() {
    let mut rows = Vec::new();
    for (name, value, arrives) in [
        (":path", Some("/a?b"), Some("GET /a?b")),
        (":path", Some("/a%20b"), Some("GET /a%20b")),
        // the library cuts off a fragment, for the rule as for the upstream
        (":path", Some("/a#/../api"), Some("GET /a")),
        (":path", Some("/api/x#/a"), None),
        (":path", Some(""), None),
        (":path", Some("a"), None),
        (":path", Some("*"), None),
        (":path", Some("http://shop.example/a"), None),
        (":path", Some("//evil.example/a"), None),
        (":path", Some("/a/../api/x"), None),
        (":path", Some("/a HTTP/1.1\r\nx-a: b"), None),
        (":path", Some("/a b"), None),
        (":path", Some("/a\tb"), None),
        (":path", Some("/a\0b"), None),
        (":path", Some("/a\nb"), None),
        (":path", Some("/a\\b"), None),
        (":path", None, None),
        (":method", Some("PURGE"), Some("PURGE /a")),
        (":method", Some("GET /api/x HTTP/1.1\r\nx-a: b\r\n\r\nGET"), None),
        (":method", Some("GE T"), None),
        (":method", Some(""), None),
        (":method", Some("CONNECT"), None),
        (":method", None, None),
        (":scheme", Some("https"), Some("GET /a")),
        (":scheme", Some("http://evil.example/?"), None),
        (":scheme", Some(""), Some("GET /a")),
        (":scheme", None, None),
        (":authority", Some("SHOP.example:443"), Some("GET /a")),
        (":authority", Some("evil.example"), None),
        (":authority", Some("shop.example@evil.example"), None),
        (":authority", Some("evil@shop.example"), None),
        (":authority", Some("shop.example:80"), None),
        (":authority", Some("shop.example/api"), None),
        (":authority", Some("shop.example\r\nx-a: b"), None),
        (":authority", Some(""), None),
        (":authority", None, None),
    ] {
        rows.push((plain_but(name, value), arrives));
    }
    let with_host = |authority, host| {
        let mut fields = plain_but(":authority", authority);
        fields.push(("host", host));
        fields
    };
    rows.push((with_host(None, "shop.example"), Some("GET /a")));
    rows.push((with_host(None, "evil.example"), None));
    rows.push((with_host(Some("shop.example"), "shop.example"), Some("GET /a")));
    rows.push((with_host(Some("evil.example"), "shop.example"), None));
    check_requests(rows).await;
}

#[tokio::test(flavor = "local")]
async fn trailers_of_http2_become_no_header_and_no_request() {
    for (trailers, arrives) in [
        (&[("x-sum", "6")][..], true),
        (&[("content-length", "9"), ("host", "evil.example")], true),
        (
            &[("x-forwarded-user", "admin"), ("x_forwarded_user", "admin")],
            true,
        ),
        (&[("authorization", "Bearer forged"), ("cookie", "a=b")], true),
        // the library leaves them out without a word
        (&[(":path", "/api/x")], true),
        (&[(":method", "GET"), (":path", "/api/x")], true),
        (&[(":status", "200")], true),
        (&[("transfer-encoding", "chunked")], false),
        (&[("connection", "close")], false),
        (&[("X-Sum", "6")], false),
        (&[("x-sum", "6\r\n\r\nGET /smuggled HTTP/1.1")], false),
    ] {
        // what is not announced does not pass at all
        let announced = "x-sum, x-forwarded-user, x_forwarded_user, content-length, host, cookie";
        let frames = [
            frame(
                HEADERS,
                END_HEADERS,
                1,
                &head(POST, "/a", &[("trailer", announced)]),
            ),
            frame(DATA, 0, 1, b"hi"),
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(trailers)),
        ]
        .concat();
        let (_, reached) = speak_http2(&frames).await;
        assert_eq!(reached.wrong(), [""; 0], "{trailers:?}");
        let expected: &[&[u8]] = if arrives { &[b"POST /a=hi"] } else { &[] };
        assert_eq!(reached.summaries(), expected, "{trailers:?}");
        for message in &reached.messages {
            let kept = if trailers[0].0 == "x-sum" {
                "x-sum: 6\r\n"
            } else {
                ""
            };
            assert_eq!(message.trailers, kept, "{trailers:?}");
        }
    }
}
