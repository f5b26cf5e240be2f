//! Clients of HTTP/2 that ask and take nothing (RFC 9113 §5.2 and §10.5): they are not read for ever,
//! and hold their own streams only.
//!
//! Nothing here measures time.

use std::cell::Cell;
use std::rc::Rc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::framing_tests::{start, start_with};
use super::http2_flood_tests::{PING, open, others, preface, streams};
use super::http2_tests::{DATA, Frame, HEADERS, RST_STREAM, SETTINGS, frame, read_frame};
use super::raw_upstream::Reply;

/// Frames that want an answer, from a client that reads none: how much the listener takes of them.
async fn taken_without_reading(frames: Vec<u8>) -> usize {
    let running = start().await;
    let client = TcpStream::connect(running.address).await.expect("connected");
    let (reading, mut writing) = client.into_split();
    let written = Rc::new(Cell::new(0));
    let count = written.clone();
    let flood = tokio::task::spawn_local(async move {
        writing.write_all(&preface()).await.expect("written");
        while count.get() < ENDLESS && writing.write_all(&frames).await.is_ok() {
            count.set(count.get() + frames.len());
        }
        writing
    });
    // it takes no more once it took none while others were served three times
    let (mut before, mut still) = (0, 0);
    while still < 3 {
        assert!(others(&running).await);
        still = if written.get() == before { still + 1 } else { 0 };
        before = written.get();
    }
    flood.abort();
    drop(flood.await);
    drop(reading);
    running.finish().await;
    before
}

/// More than any buffer on the way holds.
const ENDLESS: usize = 256 * 1024 * 1024;

#[tokio::test(flavor = "local")]
async fn a_client_that_reads_no_answer_is_not_read_for_ever() {
    for (name, frames) in [
        ("pings", frame(PING, 0, 0, &[0; 8]).repeat(1_000)),
        ("settings", frame(SETTINGS, 0, 0, &[]).repeat(1_000)),
    ] {
        let taken = taken_without_reading(frames).await;
        assert!(taken < ENDLESS, "{name}: {taken} bytes");
    }
}

#[tokio::test(flavor = "local")]
async fn windows_that_never_open_hold_their_own_streams_and_no_others() {
    let large = vec![b'a'; 4 * 1024 * 1024];
    let running = start_with(Rc::new(move |message| {
        let body: &[u8] = if message.head.starts_with("GET /a ") {
            &large
        } else {
            b"ok"
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        Reply {
            bytes: [head.as_bytes(), body].concat(),
            closes: false,
        }
    }))
    .await;
    let mut client = TcpStream::connect(running.address).await.expect("connected");
    // one byte for each stream, and a hundred streams too many: fewer than end the connection
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
    let asked: Vec<u8> = streams(300).flat_map(open).collect();
    client
        .write_all(&[preface(), settings, asked].concat())
        .await
        .expect("written");
    let (mut heads, mut data, mut refused) = (0, 0, 0);
    while heads + refused < 300 || data < heads {
        let Frame { kind, payload, .. } = read_frame(&mut client).await.expect("a frame");
        match kind {
            HEADERS => heads += 1,
            DATA => data += payload.len(),
            // REFUSED_STREAM
            RST_STREAM => {
                assert_eq!(payload, [0, 0, 0, 7]);
                refused += 1;
            }
            _ => {}
        }
    }
    assert_eq!((heads, data, refused), (200, 200, 100));
    assert!(others(&running).await);
    assert_eq!(running.upstream.count(), 200 + 20);
    drop(client);
    running.finish().await;
}
