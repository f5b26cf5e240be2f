//! Floods and games of HTTP/2 frames against the real listener (RFC 9113 §10.5): what they cost is
//! bounded by counts, and another client is served meanwhile.
//!
//! Nothing here measures time.

use std::rc::Rc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::framing_tests::{Running, send, start};
use super::http2_tests::{
    DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, POST, RST_STREAM, SETTINGS, frame, head, read_frame,
};

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const NO_ERROR: u8 = 0;
const PROTOCOL_ERROR: u8 = 1;
const FLOW_CONTROL_ERROR: u8 = 3;
const STREAM_CLOSED: u8 = 5;
const FRAME_SIZE_ERROR: u8 = 6;
const COMPRESSION_ERROR: u8 = 9;
const ENHANCE_YOUR_CALM: u8 = 11;

/// What the client sends, and what comes of it.
struct Game {
    name: &'static str,
    frames: Vec<u8>,
    /// The codes one of which has to end the connection; none where it may go on. The library often
    /// says `PROTOCOL_ERROR` where the specification has a more exact one.
    ends: &'static [u8],
    /// The most requests that may reach the upstream.
    most: usize,
}

impl Game {
    /// Whether it is one request that has to be answered, whatever else is sent.
    fn is_answered(&self) -> bool {
        self.ends.is_empty() && self.most == 1
    }
}

pub(super) fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head(GET, "/a", &[]))
}

/// A stream whose body is still to come.
fn upload(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head(POST, "/a", &[]))
}

/// How many streams of one connection the listener resets for what the client does.
const MOST_RESETS: usize = 128;

/// The odd numbers from 1: the streams of a client.
pub(super) fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| number * 2 + 1)
}

fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub(super) fn preface() -> Vec<u8> {
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &frame(SETTINGS, 0, 0, &[])[..],
    ]
    .concat()
}

/// Plays a game while another client makes its requests.
async fn play(game: Game) -> Vec<String> {
    let running = start().await;
    let client = TcpStream::connect(running.address).await.expect("connected");
    let (mut reading, mut writing) = client.into_split();
    let (frames, is_answered) = ([preface(), game.frames.clone()].concat(), game.is_answered());
    let answered = Rc::new(Notify::new());
    let last = answered.clone();
    let write = tokio::task::spawn_local(async move {
        // it may be refused before all of it is read
        let _ = writing.write_all(&frames).await;
        if is_answered {
            last.notified().await;
        }
        // whoever ends the stream has gone, and what it asked for may never leave
        let _ = writing.shutdown().await;
        writing
    });
    let read = tokio::task::spawn_local(async move {
        let mut found = Vec::new();
        while let Some(frame) = read_frame(&mut reading).await {
            if frame.is_last() {
                answered.notify_one();
            }
            found.push(frame);
        }
        answered.notify_one();
        found
    });
    let served = others(&running).await;
    let found = read.await.expect("no panic");
    drop(write.await.expect("no panic"));
    let reached = running.finish().await;
    let mut wrong = reached.wrong();
    let mine = reached
        .messages
        .iter()
        .filter(|message| message.head.contains(" /a "));
    let mine = mine.count();
    if mine > game.most || (is_answered && mine == 0) {
        wrong.push(format!("{mine} requests reached the upstream"));
    }
    if !served {
        wrong.push("another client was not served".to_owned());
    }
    if is_answered
        && !found
            .iter()
            .any(|frame| frame.kind == DATA && frame.payload == b"ok")
    {
        wrong.push("it was not answered".to_owned());
    }
    let goaway = found.iter().find(|frame| frame.kind == GOAWAY);
    let code = goaway.and_then(|frame| frame.payload.get(7).copied());
    let ended = match code {
        None | Some(NO_ERROR) => game.ends.is_empty(),
        Some(code) => game.ends.contains(&code),
    };
    if !ended {
        wrong.push(format!("it ended with {code:?}, expected {:?}", game.ends));
    }
    let resets = found.iter().filter(|frame| frame.kind == RST_STREAM).count();
    if resets > MOST_RESETS {
        wrong.push(format!("{resets} streams were reset"));
    }
    // what comes back is bounded by what was sent
    if found.len() > 12_000 {
        wrong.push(format!("{} frames came back", found.len()));
    }
    wrong
        .iter()
        .map(|what| format!("{}: {what}", game.name))
        .collect()
}

/// Whether another client is served, ten times.
pub(super) async fn others(running: &Running) -> bool {
    for _ in 0..10 {
        let answer = send(running.address, b"GET /b HTTP/1.1\r\nhost: shop.example\r\n\r\n").await;
        if String::from_utf8_lossy(&answer).matches("HTTP/1.1 200").count() != 2 {
            return false;
        }
    }
    true
}

/// The floods.
fn floods() -> Vec<Game> {
    let each =
        |count: u32, frames: &dyn Fn(u32) -> Vec<u8>| streams(count).flat_map(frames).collect::<Vec<u8>>();
    let value = "a".repeat(100);
    let list: Vec<(&str, &str)> = vec![("x-a", &value); 5_000];
    let block = head(GET, "/a", &list);
    let continued = |pieces: std::slice::Chunks<'_, u8>| {
        let mut frames = Vec::new();
        for (index, piece) in pieces.enumerate() {
            let kind = if index == 0 { HEADERS } else { CONTINUATION };
            frames.extend(frame(kind, if index == 0 { END_STREAM } else { 0 }, 1, piece));
        }
        frames
    };
    // one large field into the dynamic table, then its index again and again (RFC 7541 §6.1)
    let bomb = {
        let mut block = head(GET, "/a", &[]);
        block.extend([0x40, 3]);
        block.extend(b"x-a");
        block.extend([0x7f, 0xa1, 0x1e]);
        block.extend([b'a'; 4_000]);
        block.extend([0xbe; 8_000]);
        block
    };
    let hpack_bomb: Vec<u8> = {
        let mut frames = continued(bomb.chunks(16_000));
        // the last piece ends the block
        let rest = bomb.len() % 16_000;
        let at = frames.len() - rest - 9 + 4;
        frames[at] |= END_HEADERS;
        frames
    };
    vec![
        Game {
            name: "streams reset at once",
            frames: each(2_000, &|stream| {
                [open(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
            }),
            ends: &[ENHANCE_YOUR_CALM],
            most: 500,
        },
        Game {
            name: "streams that make us reset them: a window update of zero",
            frames: each(5_000, &|stream| {
                [upload(stream), window_update(stream, 0)].concat()
            }),
            ends: &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR],
            most: 500,
        },
        Game {
            name: "streams that make us reset them: a window that overflows",
            frames: each(5_000, &|stream| {
                [upload(stream), window_update(stream, 0x7fff_ffff)].concat()
            }),
            ends: &[ENHANCE_YOUR_CALM],
            most: 500,
        },
        Game {
            name: "streams that make us reset them: data behind the end",
            frames: each(5_000, &|stream| {
                [open(stream), frame(DATA, 0, stream, b"hi")].concat()
            }),
            ends: &[ENHANCE_YOUR_CALM, STREAM_CLOSED, PROTOCOL_ERROR],
            most: 500,
        },
        Game {
            name: "streams that make us reset them: a length that is not true",
            frames: each(5_000, &|stream| {
                let head = head(POST, "/a", &[("content-length", "1")]);
                [
                    frame(HEADERS, END_HEADERS, stream, &head),
                    frame(DATA, 0, stream, b"hi"),
                ]
                .concat()
            }),
            ends: &[ENHANCE_YOUR_CALM],
            most: 0,
        },
        Game {
            name: "streams that make us reset them: malformed heads",
            frames: each(5_000, &|stream| {
                let head = head(GET, "/a", &[("connection", "close")]);
                frame(HEADERS, END_STREAM | END_HEADERS, stream, &head)
            }),
            ends: &[ENHANCE_YOUR_CALM],
            most: 0,
        },
        Game {
            name: "more streams than are allowed",
            frames: each(5_000, &upload),
            ends: &[ENHANCE_YOUR_CALM],
            most: 200,
        },
        Game {
            name: "continuations without end",
            frames: continued(block.chunks(100)),
            ends: &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR],
            most: 0,
        },
        Game {
            name: "empty continuations without end",
            frames: [
                frame(HEADERS, END_STREAM, 1, &head(GET, "/a", &[])),
                frame(CONTINUATION, 0, 1, &[]).repeat(100_000),
            ]
            .concat(),
            ends: &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR],
            most: 0,
        },
        Game {
            name: "a list of headers over the bound",
            frames: continued(block.chunks(16_000)),
            ends: &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR],
            most: 0,
        },
        Game {
            name: "a header that unpacks to thirty megabytes",
            frames: hpack_bomb,
            ends: &[ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR],
            most: 0,
        },
        Game {
            name: "empty data without end",
            frames: [upload(1), frame(DATA, 0, 1, &[]).repeat(100_000)].concat(),
            ends: &[ENHANCE_YOUR_CALM],
            most: 0,
        },
        Game {
            name: "padding and no data",
            frames: [
                upload(1),
                frame(DATA, 0x8, 1, &[[200].as_slice(), &[0; 200]].concat()).repeat(20_000),
            ]
            .concat(),
            ends: &[ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR],
            most: 0,
        },
        Game {
            name: "pings",
            frames: frame(PING, 0, 0, &[0; 8]).repeat(10_000),
            ends: &[],
            most: 0,
        },
        Game {
            name: "settings",
            frames: frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(10_000),
            ends: &[],
            most: 0,
        },
        Game {
            name: "acknowledgements of settings that were not sent",
            frames: frame(SETTINGS, 1, 0, &[]).repeat(100_000),
            ends: &[PROTOCOL_ERROR],
            most: 0,
        },
        Game {
            name: "priorities",
            frames: each(50_000, &|stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 16])),
            ends: &[],
            most: 0,
        },
        Game {
            name: "window updates",
            frames: [open(1), window_update(0, 1).repeat(100_000)].concat(),
            ends: &[],
            most: 1,
        },
        Game {
            name: "frames of no known kind",
            frames: [open(1), frame(0xfa, 0xff, 0, &[0; 100]).repeat(50_000)].concat(),
            ends: &[],
            most: 1,
        },
        Game {
            name: "farewells",
            frames: [open(1), frame(GOAWAY, 0, 0, &[0; 8]).repeat(50_000)].concat(),
            ends: &[],
            most: 1,
        },
    ]
}

/// What breaks the rules at once.
fn breaches() -> Vec<Game> {
    let setting = |id: u8, value: u32| frame(SETTINGS, 0, 0, &[&[0, id][..], &value.to_be_bytes()].concat());
    let game = |name, frames, ends, most| Game {
        name,
        frames,
        ends,
        most,
    };
    vec![
        game("a stream with an even number", open(2), &[PROTOCOL_ERROR], 0),
        game("stream zero", open(0), &[PROTOCOL_ERROR], 0),
        game(
            "a stream with a smaller number",
            [open(5), open(3)].concat(),
            &[PROTOCOL_ERROR, STREAM_CLOSED],
            1,
        ),
        game(
            "data on a stream nobody opened",
            frame(DATA, 0, 1, b"hi"),
            &[PROTOCOL_ERROR],
            0,
        ),
        game(
            "a reset of a stream nobody opened",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            &[PROTOCOL_ERROR],
            0,
        ),
        game(
            "a promise",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]),
            &[PROTOCOL_ERROR],
            0,
        ),
        game(
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &[]),
            &[PROTOCOL_ERROR],
            0,
        ),
        game(
            "another frame between the pieces of a head",
            [
                frame(HEADERS, END_STREAM, 1, &head(GET, "/a", &[])),
                frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
            &[PROTOCOL_ERROR],
            0,
        ),
        game(
            "a continuation of another stream's head",
            [
                frame(HEADERS, END_STREAM, 1, &head(GET, "/a", &[])),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ]
            .concat(),
            &[PROTOCOL_ERROR],
            0,
        ),
        game(
            "a frame over the bound",
            frame(DATA, 0, 1, &[0; 20_000]),
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
            0,
        ),
        game(
            "a ping that is too short",
            frame(PING, 0, 0, &[0; 7]),
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
            0,
        ),
        game(
            "settings that are cut",
            frame(SETTINGS, 0, 0, &[0; 5]),
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
            0,
        ),
        game(
            "an index that the table does not have",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0x80, 0x7f]),
            &[COMPRESSION_ERROR, PROTOCOL_ERROR],
            0,
        ),
        game(
            "text in a code that does not end",
            frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                &[0x82, 0x86, 0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
            ),
            &[COMPRESSION_ERROR, PROTOCOL_ERROR],
            0,
        ),
        game(
            "more padding than there is",
            frame(HEADERS, END_STREAM | END_HEADERS | 0x8, 1, &[200, 0x82, 0x86]),
            &[PROTOCOL_ERROR],
            0,
        ),
        game(
            "a window of more than 2^31",
            setting(4, 0x8000_0000),
            &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR],
            0,
        ),
        game("a frame size of zero", setting(5, 0), &[PROTOCOL_ERROR], 0),
        game("a push setting of two", setting(2, 2), &[PROTOCOL_ERROR], 0),
        game(
            "a window update of zero for all",
            window_update(0, 0),
            &[PROTOCOL_ERROR],
            0,
        ),
        game(
            "a window for all that overflows",
            window_update(0, 0x7fff_ffff).repeat(2),
            &[FLOW_CONTROL_ERROR],
            0,
        ),
        game(
            "a request behind a farewell",
            [frame(GOAWAY, 0, 0, &[0; 8]), open(1)].concat(),
            &[],
            1,
        ),
        game(
            "a farewell with a request under way",
            [open(1), frame(GOAWAY, 0, 0, &[0; 8])].concat(),
            &[],
            1,
        ),
        game(
            "a stream that waits for itself",
            frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 16]),
            &[],
            0,
        ),
    ]
}

async fn check(games: Vec<Game>) {
    let (mut games, mut wrong) = (games.into_iter(), Vec::new());
    loop {
        let mut playing = tokio::task::JoinSet::new();
        for game in games.by_ref().take(8) {
            playing.spawn_local(play(game));
        }
        if playing.is_empty() {
            break;
        }
        wrong.extend(playing.join_all().await.concat());
    }
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test(flavor = "local")]
async fn floods_of_http2_frames_are_bounded_and_others_go_on() {
    check(floods()).await;
}

#[tokio::test(flavor = "local")]
async fn breaches_of_http2_end_the_connection_and_nobody_elses() {
    check(breaches()).await;
}
