//! A data core with a service that answers with what it saw, and clients on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Body;
use coatroom::Peer;
use http::StatusCode;
use hyper::client::conn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use super::connection::Local;
use super::*;
use crate::config::{Listen, TlsVersion};
use crate::serve::admission::testing::doors;
use crate::serve::listener::bind;
use crate::serve::tls;

pub(super) struct Running {
    address: SocketAddr,
    pub(super) stop: watch::Sender<bool>,
    pub(super) serving: tokio::task::JoinHandle<std::io::Result<()>>,
    pub(super) gate: Gate,
}

/// Where `/wait` waits.
#[derive(Clone, Default)]
pub(super) struct Gate {
    pub(super) entered: Rc<Notify>,
    pub(super) opened: Rc<Notify>,
}

pub(super) const LIMITS: Limits = Limits {
    header_timeout: Duration::from_secs(60),
    handshake_timeout: Duration::from_secs(10),
    head_size: 16 * 1024,
    streams: 10,
    write_timeout: Duration::from_secs(60),
};

pub(super) const DRAIN: Duration = Duration::from_secs(25);

fn start(tls: Option<Arc<ServerConfig>>) -> Running {
    start_all(tls, doors(1000))
}

fn start_on(socket: Bound, address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Running {
    start_with(socket, address, tls, doors(1000))
}

/// On loopback behind these doors.
pub(super) fn start_behind(admission: Admission) -> Running {
    start_all(None, admission)
}

fn start_all(tls: Option<Arc<ServerConfig>>, admission: Admission) -> Running {
    let listen = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    let (mut sockets, address) = bind(&listen, 1).expect("bound");
    let address = address.parse().expect("an address");
    start_with(sockets.remove(0), address, tls, admission)
}

fn start_with(
    socket: Bound,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    admission: Admission,
) -> Running {
    let (stop, stopped) = watch::channel(false);
    let core = DataCore {
        socket,
        tls,
        limits: LIMITS,
        admission,
        drain: DRAIN,
        stop: stopped,
        timer: CoarseTimer::new(),
    };
    let gate = Gate::default();
    let seen = gate.clone();
    let service = tower::service_fn(move |request| answer(request, seen.clone()));
    let serving = tokio::task::spawn_local(serve(core, service, || {}));
    Running {
        address,
        stop,
        serving,
        gate,
    }
}

async fn answer(mut request: Request<Incoming>, gate: Gate) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/wait" {
        gate.entered.notify_one();
        gate.opened.notified().await;
    }
    if request.uri().path() == "/large" {
        return Ok(Response::new(Body::from(vec![b'x'; 64 * 1024 * 1024])));
    }
    if request.method() == http::Method::CONNECT {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::task::spawn_local(async move {
            let mut upgraded = TokioIo::new(upgrade.await.expect("upgraded"));
            let byte = upgraded.read_u8().await.expect("a byte");
            upgraded.write_u8(byte + 1).await.expect("written");
        });
        return Ok(Response::new(Body::empty()));
    }
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::task::spawn_local(async move {
            let mut upgraded = TokioIo::new(upgrade.await.expect("upgraded"));
            let byte = upgraded.read_u8().await.expect("a byte");
            upgraded.write_u8(byte + 1).await.expect("written");
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "websocket");
        return Ok(response.body(Body::empty()).expect("a response"));
    }
    let peer = request.extensions().get::<Peer>().expect("the peer is known");
    Ok(Response::new(Body::from(format!(
        "{:?} {:?} {}",
        request.version(),
        peer.address,
        peer.tls
    ))))
}

impl Running {
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }
}

pub(super) async fn say(stream: &mut (impl tokio::io::AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.expect("written");
}

/// Everything until the server closes.
pub(super) async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) async fn until(stream: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(stream.read_u8().await.expect("more to come")));
    }
    text
}

async fn get_http2<T>(io: T) -> String
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) = conn::http2::handshake(Local, TokioIo::new(io))
        .await
        .expect("a handshake");
    let driving = tokio::task::spawn_local(connection);
    let request = Request::get("http://localhost/")
        .body(Body::empty())
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let body = axum::body::to_bytes(Body::new(response.into_body()), 1000).await;
    driving.abort();
    String::from_utf8(body.expect("a body").to_vec()).expect("text")
}

#[tokio::test(flavor = "local")]
async fn a_connection_serves_one_request_after_another_and_knows_its_peer() {
    let running = start(None);
    let mut client = running.connect().await;
    for _ in 0..2 {
        say(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = until(&mut client, "false").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("HTTP/1.1 Some(127.0.0.1) false"), "{answer}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_connection_that_was_never_used_is_a_small_task() {
    let listen = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    let (mut sockets, address) = bind(&listen, 1).expect("bound");
    let mut listener = sockets.remove(0).listen().expect("listening");
    let service = tower::service_fn(|request| answer(request, Gate::default()));
    let watch = Watch {
        timer: CoarseTimer::new(),
        admission: doors(8),
        write_timeout: LIMITS.write_timeout,
    };
    let server = Rc::new(Server::new(service, None, LIMITS, watch, Rc::default()));
    let _client = TcpStream::connect(address).await.expect("connected");
    let (accepted, place) = admit(&mut listener, &doors(8)).await;
    let connection = server.connection(accepted, Connections::default().open(), place.occupy());
    assert!(size_of_val(&connection) <= 512, "{}", size_of_val(&connection));
}

/// How many hold the service: a connection in HTTP is one of them, one that rests is none.
fn holders(running: &Running) -> usize {
    Rc::strong_count(&running.gate.entered)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_idle_connection_leaves_http_and_comes_back_with_the_next_request() {
    let running = start(None);
    let nobody = holders(&running);
    for end in ["\r\n\r\n", "\r\ncontent-length: 0\r\n\r\n"] {
        let mut client = running.connect().await;
        for _ in 0..3 {
            say(&mut client, &format!("GET / HTTP/1.1\r\nhost: a{end}")).await;
            until(&mut client, "false").await;
            assert_eq!(holders(&running), nobody + 1);
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(holders(&running), nobody, "it rests");
        }
        drop(client);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(holders(&running), nobody);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_was_sent_of_a_request_is_not_lost_to_a_rest() {
    let running = start(None);
    for (name, pieces) in [
        ("half a head", &["GET / HT", "TP/1.1\r\nhost: a\r\n\r\n"][..]),
        (
            "half of the next head",
            &[
                "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n",
                "host: a\r\n\r\n",
            ],
        ),
        (
            "half of the next head, after a body that ends like a head",
            &[
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n",
                "host: a\r\n\r\n",
            ],
        ),
    ] {
        let mut client = running.connect().await;
        for piece in pieces {
            say(&mut client, piece).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        for _ in 0..pieces.concat().matches(" / HTTP").count() {
            let answer = until(&mut client, "false").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {answer}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_under_way_keeps_its_connection_in_http() {
    let running = start(None);
    let mut client = running.connect().await;
    say(&mut client, "GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    running.gate.entered.notified().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    running.gate.opened.notify_one();
    until(&mut client, "false").await;
}

#[tokio::test(flavor = "local")]
async fn http2_in_the_clear_is_told_by_its_preface() {
    let running = start(None);
    let answer = get_http2(running.connect().await).await;
    assert_eq!(answer, "HTTP/2.0 Some(127.0.0.1) false");
}

#[tokio::test(flavor = "local")]
async fn methods_that_begin_like_the_preface_are_http1() {
    let running = start(None);
    for method in ["P", "PR", "PRI", "PROPFIND", "POST"] {
        let mut client = running.connect().await;
        say(
            &mut client,
            &format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
        )
        .await;
        let answer = rest(&mut client).await;
        // "PRI " is HTTP/2's own; what follows is no preface, so nothing is answered.
        assert_eq!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            method != "PRI",
            "{method}"
        );
    }
}

#[tokio::test(flavor = "local")]
async fn an_upgrade_gets_through() {
    let running = start(None);
    let mut client = running.connect().await;
    say(
        &mut client,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x07",
    )
    .await;
    let head = until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(client.read_u8().await.expect("a byte"), 8);
}

#[tokio::test(flavor = "local")]
async fn a_unix_socket_has_no_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let (mut sockets, _) = bind(&Listen::Unix(path.clone()), 1).expect("bound");
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let _running = start_on(sockets.remove(0), nowhere, None);
    let mut client = UnixStream::connect(&path).await.expect("connected");
    say(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = until(&mut client, "false").await;
    assert!(answer.ends_with("HTTP/1.1 None false"), "{answer}");
}

// ---------------------------------------------------------------- tls

pub(super) struct Tls {
    pub(super) running: Running,
    roots: rustls::RootCertStore,
    certificates: Arc<tls::Certificates>,
}

fn start_tls() -> Tls {
    start_tls_behind(doors(1000))
}

pub(super) fn start_tls_behind(admission: Admission) -> Tls {
    let pem = tls::testing::localhost();
    let certificates = tls::Certificates::new(std::slice::from_ref(&pem)).expect("good");
    let config = tls::server_config(certificates.clone(), TlsVersion::Tls12).expect("good");
    Tls {
        running: start_all(Some(config), admission),
        roots: trusting(&pem),
        certificates,
    }
}

fn trusting(pem: &tls::Pem) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(&pem.certificate).expect("a certificate");
    roots.add(certificate).expect("a root");
    roots
}

impl Tls {
    pub(super) async fn connect(&self, alpn: &[&[u8]]) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.connect_over(self.running.connect().await, alpn).await
    }

    /// Over a connection that is there.
    pub(super) async fn connect_over(
        &self,
        stream: TcpStream,
        alpn: &[&[u8]],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .expect("a handshake")
    }
}

#[tokio::test(flavor = "local")]
async fn under_tls_the_protocol_is_the_one_agreed() {
    let tls = start_tls();
    let answer = get_http2(tls.connect(&[b"h2", b"http/1.1"]).await).await;
    assert_eq!(answer, "HTTP/2.0 Some(127.0.0.1) true");
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let mut client = tls.connect(alpn).await;
        say(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = until(&mut client, "true").await;
        assert!(answer.ends_with("HTTP/1.1 Some(127.0.0.1) true"), "{answer}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_new_certificate_is_for_the_next_handshake_and_ends_no_connection() {
    let mut tls = start_tls();
    let mut open = tls.connect(&[b"http/1.1"]).await;
    let next = tls::testing::localhost();
    tls.certificates
        .replace(tls::CertificateSet::parse(std::slice::from_ref(&next)).expect("good"));
    // whoever trusts the new one alone gets through, on a connection of its own
    tls.roots = trusting(&next);
    for client in [&mut tls.connect(&[b"http/1.1"]).await, &mut open] {
        say(client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = until(client, "true").await;
        assert!(answer.ends_with("HTTP/1.1 Some(127.0.0.1) true"), "{answer}");
    }
}

#[tokio::test(flavor = "local")]
async fn plain_http_on_a_tls_port_is_not_answered() {
    let tls = start_tls();
    let mut client = tls.running.connect().await;
    say(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(!rest(&mut client).await.contains("200 OK"));
}

// ---------------------------------------------------------------- bounds

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_that_stalls_is_dropped_in_time() {
    let (plain, tls) = (start(None), start_tls());
    for (name, running, says, limit) in [
        ("silence", &plain, "", LIMITS.header_timeout),
        (
            "half a head",
            &plain,
            "GET / HTTP/1.1\r\nhost",
            LIMITS.header_timeout,
        ),
        ("one byte", &plain, "P", LIMITS.header_timeout),
        (
            "half of HTTP/2's preface",
            &plain,
            "PRI * HTTP/2.0\r\n",
            LIMITS.header_timeout,
        ),
        (
            "all of HTTP/2's preface",
            &plain,
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            LIMITS.header_timeout,
        ),
        ("silence under tls", &tls.running, "", LIMITS.header_timeout),
        (
            "half a handshake",
            &tls.running,
            "\x16\x03\x01",
            LIMITS.handshake_timeout,
        ),
    ] {
        let mut client = running.connect().await;
        let start = Instant::now();
        say(&mut client, says).await;
        rest(&mut client).await;
        let took = start.elapsed();
        assert!(took >= limit, "{name}: {took:?}");
        assert!(took < limit + Duration::from_secs(2), "{name}: {took:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_idle_connection_is_closed_in_time() {
    let running = start(None);
    let mut client = running.connect().await;
    say(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until(&mut client, "false").await;
    let start = Instant::now();
    assert_eq!(rest(&mut client).await, "");
    assert!(start.elapsed() >= LIMITS.header_timeout);
}

#[tokio::test(flavor = "local")]
async fn a_head_over_the_bound_is_refused() {
    let running = start(None);
    let mut client = running.connect().await;
    let long = "x".repeat(20_000);
    say(
        &mut client,
        &format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {long}\r\n\r\n"),
    )
    .await;
    let answer = until(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(flavor = "local")]
async fn ambiguous_framing_is_refused() {
    let running = start(None);
    for (name, head) in [
        (
            "two lengths",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        ),
        (
            "chunked is not last",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunks in HTTP/1.0",
            "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("a space before the colon", "GET / HTTP/1.1\r\nhost : a\r\n\r\n"),
        ("a nul in a value", "GET / HTTP/1.1\r\nhost: a\0\r\n\r\n"),
    ] {
        let mut client = running.connect().await;
        say(&mut client, head).await;
        client.shutdown().await.expect("closed");
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
    }
}

// ---------------------------------------------------------------- stopping

#[tokio::test(flavor = "local")]
async fn on_stop_idle_connections_close_and_requests_in_flight_finish() {
    let running = start(None);
    let mut unused = running.connect().await;
    let mut idle = running.connect().await;
    say(&mut idle, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until(&mut idle, "false").await;
    let mut busy = running.connect().await;
    say(&mut busy, "GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    running.gate.entered.notified().await;

    running.stop.send_replace(true);
    assert_eq!(rest(&mut unused).await, "");
    assert_eq!(rest(&mut idle).await, "");
    assert!(
        TcpStream::connect(running.address).await.is_err(),
        "nobody accepts"
    );
    assert!(!running.serving.is_finished(), "one request is in flight");

    running.gate.opened.notify_one();
    let answer = rest(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    running.serving.await.expect("no panic").expect("a good end");
}

#[tokio::test(flavor = "local")]
async fn what_was_sent_before_the_stop_is_answered_and_silence_is_closed() {
    let running = start(None);
    let mut kept = running.connect().await;
    say(&mut kept, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until(&mut kept, "false").await;

    // From here to the stop nothing is awaited: the core neither accepts nor reads.
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(kept.try_write(request).expect("written"), request.len());
    let mut fresh = sent_at_once(running.address, request);
    let mut silent = sent_at_once(running.address, b"");
    running.stop.send_replace(true);

    for (name, client) in [("kept", &mut kept), ("fresh", &mut fresh)] {
        let answer = rest(client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {answer:?}");
        assert!(answer.ends_with("false"), "{name}: {answer:?}");
    }
    assert_eq!(silent.read_u8().await.map_err(|error| error.kind()), CLOSED);
    running.serving.await.expect("no panic").expect("a good end");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_comes_within_the_last_call_is_answered() {
    let running = start(None);
    let mut kept = running.connect().await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    say(&mut kept, request).await;
    let before = until(&mut kept, "false").await;
    assert!(!before.contains("connection: close"), "{before}");
    running.stop.send_replace(true);

    tokio::time::sleep(LAST_CALL / 2).await;
    let mut fresh = sent_at_once(running.address, request.as_bytes());
    let answer = until(&mut fresh, "false").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("connection: close\r\n"),
        "another request belongs elsewhere: {answer}"
    );
    // nobody is accepted any more, and who is connected is still heard
    tokio::time::sleep(LAST_CALL).await;
    say(&mut kept, request).await;
    assert!(until(&mut kept, "false").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(
        TcpStream::connect(running.address).await.is_err(),
        "nobody accepts"
    );
    running.serving.await.expect("no panic").expect("a good end");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_last_call_that_was_too_short_for_all_resets_nobody() {
    let running = start(None);
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    // more than a core takes before it looks at anything else
    let mut clients: Vec<_> = (0..300).map(|_| sent_at_once(running.address, request)).collect();
    running.stop.send_replace(true);
    tokio::task::yield_now().await;
    tokio::time::advance(LAST_CALL * 2).await;
    for (index, client) in clients.iter_mut().enumerate() {
        let answer = rest(client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{index}: {answer:?}");
    }
    running.serving.await.expect("no panic").expect("a good end");
}

/// The end of the stream, not a reset.
const CLOSED: Result<u8, std::io::ErrorKind> = Err(std::io::ErrorKind::UnexpectedEof);

/// A connection that the kernel has taken and nobody has accepted, with these bytes on it.
fn sent_at_once(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = std::net::TcpStream::connect(address).expect("connected");
    std::io::Write::write_all(&mut stream, bytes).expect("written");
    stream.set_nonblocking(true).expect("set");
    TcpStream::from_std(stream).expect("a stream")
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_takes_too_long_to_finish_is_not_waited_for() {
    let running = start(None);
    let mut busy = running.connect().await;
    say(&mut busy, "GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    running.gate.entered.notified().await;
    let start = Instant::now();
    running.stop.send_replace(true);
    running.serving.await.expect("no panic").expect("a good end");
    assert!(start.elapsed() >= DRAIN && start.elapsed() < DRAIN * 2);
}

#[tokio::test(flavor = "local")]
async fn a_core_whose_control_is_gone_stops() {
    let running = start(None);
    drop(running.stop);
    running.serving.await.expect("no panic").expect("a good end");
}
