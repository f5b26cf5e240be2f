//! How connections end that rest, idle, became tunnels, or do not want to: their places are free again,
//! and only what was given up is counted.

use axum::body::Body;
use hyper::client::conn::http2::{self as client, SendRequest};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::connection::Local;
use super::http2_tests::{
    DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, SETTINGS, frame, head, read_frame,
};
use super::limit_tests::{behind_proxies, header};
use super::tests::{DRAIN, LIMITS, Running, Tls, rest, say, start_behind, start_tls_behind, until};
use super::*;
use crate::serve::admission::Reason;
use crate::serve::admission::testing::doors;

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Until an idle connection certainly rests.
const REST: Duration = Duration::from_secs(10);

/// A client's end of a connection, in the clear or not.
trait Client: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Client for T {}

/// A listener in the clear and one with TLS, each with doors of its own.
fn both(most: u32) -> [(Admission, Either); 2] {
    let (plain, tls) = (doors(most), doors(most));
    [
        (plain.clone(), Either::Plain(start_behind(plain))),
        (tls.clone(), Either::Tls(start_tls_behind(tls))),
    ]
}

enum Either {
    Plain(Running),
    Tls(Tls),
}

impl Either {
    async fn connect(&self) -> Box<dyn Client> {
        match self {
            Self::Plain(running) => Box::new(running.connect().await),
            Self::Tls(tls) => Box::new(tls.connect(&[b"http/1.1"]).await),
        }
    }

    fn running(self) -> Running {
        match self {
            Self::Plain(running) => running,
            Self::Tls(tls) => tls.running,
        }
    }

    /// A connection that made a request and rests.
    async fn resting(&self) -> Box<dyn Client> {
        let mut client = self.connect().await;
        ask(&mut client).await;
        tokio::time::sleep(REST).await;
        client
    }
}

/// Makes a request and takes the answer.
async fn ask(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    say(client, REQUEST).await;
    let head = until(client, "\r\n\r\n").await;
    let length = head
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next());
    let length = length.and_then(|length| length.parse().ok()).expect("a length");
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.expect("the body");
    String::from_utf8(body).expect("text")
}

/// What comes to its end within minutes, or the test ends.
async fn bounded<F: Future>(future: F) -> F::Output {
    let bounded = tokio::time::timeout(Duration::from_secs(300), future);
    bounded.await.expect("it does not end")
}

/// Waits until so many connections are open.
async fn until_open(admission: &Admission, expected: u64) {
    let start = Instant::now();
    while admission.open() != expected {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{} are open",
            admission.open()
        );
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_resting_connection_keeps_its_place_and_ends_quietly_in_time() {
    for (admission, listener) in both(100) {
        let mut client = listener.resting().await;
        assert_eq!(admission.open(), 1);
        let start = Instant::now();
        let mut byte = [0];
        // a good end, under TLS too: not one that was cut
        assert_eq!(bounded(client.read(&mut byte)).await.expect("a good end"), 0);
        let took = start.elapsed() + REST;
        assert!(
            took >= LIMITS.header_timeout && took < LIMITS.header_timeout + Duration::from_secs(4),
            "{took:?}"
        );
        drop(client);
        until_open(&admission, 0).await;
        assert_eq!(admission.counted(Reason::NoRequest), 0);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_resting_connection_ends_at_once_when_the_core_drains() {
    for (admission, listener) in both(100) {
        let mut client = listener.resting().await;
        let running = listener.running();
        let start = Instant::now();
        running.stop.send_replace(true);
        let mut byte = [0];
        assert_eq!(bounded(client.read(&mut byte)).await.expect("a good end"), 0);
        bounded(running.serving)
            .await
            .expect("no panic")
            .expect("a good end");
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(admission.open(), 0);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn resting_connections_make_room() {
    for (admission, listener) in both(16) {
        let mut resting = Vec::new();
        for _ in 0..15 {
            let mut client = listener.connect().await;
            ask(&mut client).await;
            resting.push(client);
        }
        let start = Instant::now();
        let mut last = [listener.connect().await, listener.connect().await];
        for client in &mut last {
            bounded(ask(client)).await;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert!(admission.counted(Reason::Crowded) > 0);
        assert_eq!(admission.counted(Reason::NoRequest), 0);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn behind_a_load_balancer_and_tls_a_connection_rests_and_knows_its_client() {
    let admission = behind_proxies(&["127.0.0.1"], None);
    let tls = start_tls_behind(admission.clone());
    let mut stream = tls.running.connect().await;
    stream.write_all(&header([192, 0, 2, 7])).await.expect("written");
    let mut client = tls.connect_over(stream, &[b"http/1.1"]).await;
    for _ in 0..3 {
        assert_eq!(ask(&mut client).await, "HTTP/1.1 Some(192.0.2.7) true");
        tokio::time::sleep(REST).await;
        assert_eq!(admission.open(), 1);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_has_not_said_who_it_is_when_the_core_drains_made_no_mistake() {
    let admission = behind_proxies(&["127.0.0.1"], None);
    let running = start_behind(admission.clone());
    let mut client = running.connect().await;
    until_open(&admission, 1).await;
    running.stop.send_replace(true);
    assert_eq!(bounded(rest(&mut client)).await, "");
    assert_eq!(admission.counted(Reason::ProxyProtocol), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_tunnel_keeps_its_place_until_it_ends() {
    for (admission, listener) in both(100) {
        // one that rested before
        let mut client = listener.resting().await;
        say(
            &mut client,
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await;
        let head = until(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        tokio::time::sleep(LIMITS.header_timeout * 3).await;
        assert_eq!(admission.open(), 1, "it may be idle as long as it likes");
        client.write_u8(7).await.expect("written");
        assert_eq!(client.read_u8().await.expect("a byte"), 8);
        until_open(&admission, 0).await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up_under_tls_too() {
    let admission = doors(100);
    let tls = start_tls_behind(admission.clone());
    let mut client = tls.connect(&[b"http/1.1"]).await;
    ask(&mut client).await;
    tokio::time::sleep(REST).await;
    say(&mut client, "GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until(&mut client, "\r\n\r\n").await;
    let start = Instant::now();
    while admission.counted(Reason::WriteTimeout) == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(start.elapsed() < Duration::from_secs(70), "it is still there");
    }
    assert!(
        start.elapsed() >= Duration::from_secs(59),
        "{:?}",
        start.elapsed()
    );
    until_open(&admission, 0).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn empty_lines_do_not_put_off_the_first_request() {
    let admission = doors(100);
    let running = start_behind(admission.clone());
    let (mut reading, mut writing) = running.connect().await.into_split();
    let trickle = tokio::task::spawn_local(async move {
        for _ in 0..10 {
            let _ = writing.write_all(b"\r\n\r\n").await;
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    });
    let start = Instant::now();
    bounded(rest(&mut reading)).await;
    assert!(
        start.elapsed() < LIMITS.header_timeout * 3 / 2,
        "{:?}",
        start.elapsed()
    );
    assert_eq!(admission.counted(Reason::NoRequest), 1);
    trickle.abort();
}

// ---------------------------------------------------------------- HTTP/2

/// A client that speaks HTTP/2 as it should.
async fn polite(running: &Running) -> (SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
    let stream = running.connect().await;
    // what it answers to a ping must not wait: the clock does not wait for the kernel's either
    stream.set_nodelay(true).expect("set");
    let io = TokioIo::new(stream);
    let (sender, connection) = client::handshake(Local, io).await.expect("a handshake");
    (sender, tokio::task::spawn_local(connection))
}

async fn get(sender: &mut SendRequest<Body>, path: &str) -> String {
    let request = Request::get(format!("http://localhost{path}")).body(Body::empty());
    let response = sender
        .send_request(request.expect("a request"))
        .await
        .expect("an answer");
    let body = axum::body::to_bytes(Body::new(response.into_body()), 1000).await;
    String::from_utf8(body.expect("a body").to_vec()).expect("text")
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_idle_http2_connection_ends_in_time_and_one_in_use_does_not() {
    let admission = doors(100);
    let running = start_behind(admission.clone());
    let (mut sender, connection) = polite(&running).await;
    for _ in 0..4 {
        get(&mut sender, "/").await;
        tokio::time::sleep(LIMITS.header_timeout * 2 / 3).await;
    }
    // a request under way is no idleness
    let mut waiting = sender.clone();
    let waiting = tokio::task::spawn_local(async move { get(&mut waiting, "/wait").await });
    running.gate.entered.notified().await;
    tokio::time::sleep(LIMITS.header_timeout * 3).await;
    running.gate.opened.notify_one();
    bounded(waiting).await.expect("an answer");
    let start = Instant::now();
    bounded(connection).await.expect("no panic").expect("a good end");
    let took = start.elapsed();
    assert!(
        took >= LIMITS.header_timeout && took < LIMITS.header_timeout + Duration::from_secs(4),
        "{took:?}"
    );
    until_open(&admission, 0).await;
    assert_eq!(admission.counted(Reason::NoRequest), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_tunnel_over_http2_is_no_idleness() {
    let running = start_behind(doors(100));
    let (mut sender, connection) = polite(&running).await;
    get(&mut sender, "/").await;
    let request = Request::connect("http://localhost/socket")
        .extension(Protocol::from_static("websocket"))
        .body(Body::empty())
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.expect("a tunnel"));
    tokio::time::sleep(LIMITS.header_timeout * 5).await;
    get(&mut sender, "/").await;
    tunnel.write_u8(7).await.expect("written");
    assert_eq!(tunnel.read_u8().await.expect("a byte"), 8);
    assert!(!connection.is_finished());
}

/// A connection over which one request was answered, of a client that answers nothing itself.
async fn impolite(running: &Running) -> TcpStream {
    let mut client = running.connect().await;
    let head = head(GET, "/", &[]);
    let frames = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &frame(SETTINGS, 0, 0, &[])[..],
        &frame(HEADERS, END_STREAM | END_HEADERS, 1, &head),
    ];
    client.write_all(&frames.concat()).await.expect("written");
    while read_frame(&mut client).await.expect("the answer").kind != DATA {}
    client
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_http2_client_that_does_not_answer_a_farewell_is_not_waited_for() {
    let admission = doors(100);
    let running = start_behind(admission.clone());
    let mut client = impolite(&running).await;
    let start = Instant::now();
    running.stop.send_replace(true);
    let mut was_told = false;
    while let Some(frame) = bounded(read_frame(&mut client)).await {
        was_told |= frame.kind == GOAWAY;
    }
    assert!(was_told);
    bounded(running.serving)
        .await
        .expect("no panic")
        .expect("a good end");
    assert!(start.elapsed() < DRAIN / 2, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn http2_clients_that_do_not_go_make_room_all_the_same() {
    let admission = doors(16);
    let running = start_behind(admission.clone());
    let mut stubborn = Vec::new();
    for number in 0..15 {
        stubborn.push(if number % 2 == 0 {
            impolite(&running).await
        } else {
            let mut silent = running.connect().await;
            say(&mut silent, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            silent
        });
    }
    let start = Instant::now();
    for _ in 0..8 {
        let mut client = running.connect().await;
        assert!(bounded(ask(&mut client)).await.starts_with("HTTP/1.1 "));
        stubborn.push(client);
    }
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    assert!(admission.counted(Reason::Crowded) > 0);
    assert_eq!(admission.counted(Reason::NoRequest), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_goes_before_its_first_request_is_not_counted_as_late() {
    let admission = doors(100);
    let running = start_behind(admission.clone());
    for begin in ["", "GET / HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = running.connect().await;
        say(&mut client, begin).await;
        until_open(&admission, 1).await;
        drop(client);
        until_open(&admission, 0).await;
    }
    let mut client = running.connect().await;
    say(&mut client, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    bounded(rest(&mut client)).await;
    assert_eq!(admission.counted(Reason::NoRequest), 1, "this one is");
}
