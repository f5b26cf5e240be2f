//! The inner service against upstreams that follow a script, on loopback sockets.

use std::cell::Cell;
use std::net::SocketAddr;

use bytes::Bytes;
use coatroom_core::config::{Http2, Upstreams};
use coatroom_core::time::UnixTime;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, HOST, LOCATION};
use http::{HeaderValue, Method, StatusCode, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::pool::{Purpose, Used};
use super::*;

type TestBody = UnsyncBoxBody<Bytes, BoxError>;

const SESSION: [u8; 16] = [3; 16];

const TERMS: Terms = Terms {
    body_limit: 1000,
    connect_timeout: Duration::from_secs(5),
    timeout: Duration::from_secs(60),
    limits: CallLimits {
        idle_timeout: None,
        total_timeout: None,
        max_concurrent: None,
    },
    idle: Duration::from_secs(1800),
    csrf_header: HeaderName::from_static("token-handler-version"),
};

/// An upstream that does what the test says, one connection at a time.
struct Script {
    listener: TcpListener,
    address: SocketAddr,
}

struct Conversation(TcpStream);

impl Script {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        Self { listener, address }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn accept(&self) -> Conversation {
        Conversation(self.listener.accept().await.expect("a connection").0)
    }

    /// Nobody else has connected.
    fn is_alone(&self) -> bool {
        self.listener.accept().now_or_never().is_none()
    }
}

impl Conversation {
    async fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let byte = self.0.read_u8().await.expect("more to come");
            text.push(char::from(byte));
        }
        text
    }

    async fn head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("written");
    }

    /// Reads until the other side closes, or resets.
    async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes).await;
        bytes
    }

    async fn serve(&mut self, answer: &str) -> String {
        let head = self.head().await;
        self.say(answer).await;
        head
    }
}

/// Trusts nobody.
pub(super) fn tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

fn connector() -> Connector {
    Connector::with_tls(tls())
}

fn upstream() -> Upstream<TestBody> {
    Upstream::new(connector(), CoarseTimer::new(), SessionEnds::new())
}

fn body(body: impl RequestBody + Send) -> TestBody {
    body.map_err(Into::into).boxed_unsync()
}

fn get(path: &str) -> Request<TestBody> {
    let empty = body(Empty::new());
    Request::builder().uri(path).body(empty).expect("a request")
}

fn post(content: impl RequestBody + Send) -> Request<TestBody> {
    let mut request = get("/").map(|_| body(content));
    *request.method_mut() = Method::POST;
    request
}

type Upload = tokio::sync::mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>;

fn upload() -> (Upload, Request<TestBody>) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let frames = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, post(StreamBody::new(frames)))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, std::io::Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// One upstream that is spoken to like this.
fn one(url: &str, http2: Http2) -> Arc<Upstreams> {
    Arc::new(Upstreams {
        http2,
        ..Upstreams::of(url.parse().expect("a url"))
    })
}

fn balancer(upstream: &Upstream<TestBody>, url: &str, http2: Http2) -> Rc<Balancer<TestBody>> {
    upstream.core.pool.balancer(&one(url, http2))
}

fn call_one_of(
    upstream: &Upstream<TestBody>,
    upstreams: &Arc<Upstreams>,
    request: Request<TestBody>,
    terms: Terms,
) -> UpstreamFuture<TestBody> {
    let balancer = upstream.core.pool.balancer(upstreams);
    UpstreamFuture {
        state: upstream
            .forward(request, balancer, terms, None)
            .unwrap_or_else(State::Refused),
        dev_server: None,
    }
}

fn call_with(
    upstream: &Upstream<TestBody>,
    url: &str,
    request: Request<TestBody>,
    terms: Terms,
) -> UpstreamFuture<TestBody> {
    call_one_of(upstream, &one(url, Http2::Negotiated), request, terms)
}

fn call(upstream: &Upstream<TestBody>, url: &str, request: Request<TestBody>) -> UpstreamFuture<TestBody> {
    call_with(upstream, url, request, TERMS)
}

fn idle(upstream: &Upstream<TestBody>, url: &str) -> usize {
    let origins = balancer(upstream, url, Http2::Negotiated).origins();
    origins.iter().map(|origin| origin.idle_connections()).sum()
}

async fn text(body: UpstreamBody<TestBody>) -> String {
    let bytes = body.collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn unavailable(result: Result<Response<UpstreamBody<TestBody>>, Error>) -> String {
    match result {
        Err(Error::UpstreamUnavailable(reason)) => reason,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("an answer"),
    }
}

// ---------------------------------------------------------------- the request

#[tokio::test(flavor = "local")]
async fn the_request_arrives_as_the_layer_left_it_with_our_host_and_request_id() {
    let script = Script::new().await;
    let upstream = upstream();
    let mut request = get("/orders?page=2");
    *request.version_mut() = Version::HTTP_2;
    for (name, value) in [
        ("host", "shop.example.com"),
        ("expect", "100-continue"),
        ("x-request-id", "ours-1"),
        ("authorization", "Bearer t"),
        ("connection", "close"),
        ("upgrade", "h2c"),
    ] {
        request
            .headers_mut()
            .append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let url = format!("{}/v1/", script.url());
    let (answer, head) = tokio::join!(call(&upstream, &url, request), async {
        let mut conversation = script.accept().await;
        conversation
            .serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
            .await
    });
    assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
    let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "GET /v1/orders?page=2 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", script.address);
    assert_eq!(
        lines,
        ["authorization: Bearer t", host.as_str(), "x-request-id: ours-1"]
    );
}

#[tokio::test(flavor = "local")]
async fn an_upload_is_streamed_and_its_trailers_are_kept() {
    let script = Script::new().await;
    let upstream = upstream();
    let (sender, mut request) = upload();
    request
        .headers_mut()
        .insert("trailer", HeaderValue::from_static("x-sum"));
    let url = script.url();
    let (answer, _conversation) = tokio::join!(call(&upstream, &url, request), async {
        let mut conversation = script.accept().await;
        sender.send(data("one")).expect("wanted");
        assert!(conversation.head().await.contains("transfer-encoding: chunked"));
        assert_eq!(conversation.read_until("one\r\n").await, "3\r\none\r\n");
        sender
            .send(data("two"))
            .expect("wanted, although nothing was answered yet");
        assert_eq!(conversation.read_until("two\r\n").await, "3\r\ntwo\r\n");
        let trailers = [(HeaderName::from_static("x-sum"), HeaderValue::from_static("6"))];
        let trailers = Frame::trailers(trailers.into_iter().collect());
        sender.send(Ok(trailers)).expect("wanted");
        drop(sender);
        assert_eq!(conversation.head().await, "0\r\nx-sum: 6\r\n\r\n");
        conversation.say("HTTP/1.1 204 No Content\r\n\r\n").await;
        conversation
    });
    assert_eq!(answer.expect("answered").status(), StatusCode::NO_CONTENT);
    assert_eq!(idle(&upstream, &url), 1, "and the connection is kept");
}

#[tokio::test(flavor = "local")]
async fn a_get_whose_body_has_no_known_length_keeps_it() {
    let script = Script::new().await;
    let upstream = upstream();
    let (sender, mut request) = upload();
    *request.method_mut() = Method::GET;
    sender.send(data("query")).expect("wanted");
    drop(sender);
    let url = script.url();
    let (answer, sent) = tokio::join!(call(&upstream, &url, request), async {
        let mut conversation = script.accept().await;
        let sent = conversation.read_until("0\r\n\r\n").await;
        conversation.say("HTTP/1.1 204 No Content\r\n\r\n").await;
        sent
    });
    answer.expect("answered");
    assert!(sent.starts_with("GET / HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("\r\ntransfer-encoding: chunked\r\n"), "{sent}");
    assert!(sent.ends_with("\r\n\r\n5\r\nquery\r\n0\r\n\r\n"), "{sent}");
}

#[tokio::test(flavor = "local")]
async fn a_websocket_with_a_body_or_in_http_1_0_is_refused_before_connecting() {
    let script = Script::new().await;
    let upstream = upstream();
    let (_sender, mut chunked) = upload();
    *chunked.method_mut() = Method::GET;
    let mut measured = get("/").map(|_| body(Full::from("hello")));
    measured
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
    let mut old = get("/");
    *old.version_mut() = Version::HTTP_10;
    for mut request in [chunked, measured, old] {
        request
            .headers_mut()
            .insert(UPGRADE, HeaderValue::from_static("websocket"));
        let outcome = call(&upstream, &script.url(), request).await;
        assert!(matches!(outcome, Err(Error::InvalidRequest(_))));
    }
    assert!(script.is_alone());
}

// ---------------------------------------------------------------- the answer

#[tokio::test(flavor = "local")]
async fn an_answer_is_streamed_and_its_trailers_are_kept() {
    let script = Script::new().await;
    let upstream = upstream();
    let url = script.url();
    let (answer, mut conversation) = tokio::join!(call(&upstream, &url, get("/")), async {
        let mut conversation = script.accept().await;
        conversation
            .serve("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
            .await;
        conversation
    });
    let mut body = answer.expect("answered").into_body();
    let first = body.frame().await.expect("a frame").expect("data");
    assert_eq!(first.data_ref().map(|data| &data[..]), Some(&b"one"[..]));
    assert!(
        body.frame().now_or_never().is_none(),
        "nothing was held back or made up"
    );
    conversation.say("3\r\ntwo\r\n0\r\nx-sum: 6\r\n\r\n").await;
    let rest = body.collect().await.expect("the rest");
    assert_eq!(rest.trailers().expect("trailers")["x-sum"], "6");
    assert_eq!(rest.to_bytes(), "two");
    assert_eq!(idle(&upstream, &url), 1);
}

#[tokio::test(flavor = "local")]
async fn redirects_are_passed_on_and_not_followed() {
    let script = Script::new().await;
    let upstream = upstream();
    let url = script.url();
    let (answer, _) = tokio::join!(call(&upstream, &url, get("/")), async {
        script
            .accept()
            .await
            .serve("HTTP/1.1 302 Found\r\nlocation: http://elsewhere.example/\r\ncontent-length: 0\r\n\r\n")
            .await
    });
    let answer = answer.expect("answered");
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert_eq!(answer.headers()[LOCATION], "http://elsewhere.example/");
    assert!(script.is_alone());
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_breaks_off_is_an_error_and_not_an_end() {
    for start in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let script = Script::new().await;
        let upstream = upstream();
        let url = script.url();
        let (answer, _) = tokio::join!(call(&upstream, &url, get("/")), async {
            script.accept().await.serve(start).await
        });
        let outcome = answer.expect("a head").into_body().collect().await;
        assert!(matches!(outcome, Err(UpstreamBodyError::Upstream(_))), "{start}");
        assert_eq!(idle(&upstream, &url), 0);
    }
}

#[tokio::test(flavor = "local")]
async fn an_early_answer_ends_the_upload_and_the_connection() {
    let script = Script::new().await;
    let upstream = upstream();
    let (sender, request) = upload();
    sender.send(data("one")).expect("wanted");
    let url = script.url();
    let (answer, mut conversation) = tokio::join!(call(&upstream, &url, request), async {
        let mut conversation = script.accept().await;
        conversation
            .serve("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno")
            .await;
        conversation
    });
    let answer = answer.expect("answered");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(answer.into_body()).await, "no");
    assert_eq!(idle(&upstream, &url), 0);
    conversation.rest().await;
    assert!(sender.is_closed(), "the client is not read any further");
}

// ---------------------------------------------------------------- failures

#[tokio::test(flavor = "local")]
async fn nothing_listens_is_unavailable() {
    let url = Script::new().await.url();
    let reason = unavailable(call(&upstream(), &url, get("/")).await);
    assert_eq!(reason, "no connection: connection refused");
}

#[tokio::test(flavor = "local")]
async fn a_development_server_that_does_not_run_is_an_error_of_its_own() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", gone.local_addr().expect("bound"));
    drop(gone);
    let mut calling = call(&upstream(), &url, get("/src/main.ts"));
    calling.dev_server = Some(url.clone());
    let reason = "no connection: connection refused".to_owned();
    assert_eq!(
        calling.await.err(),
        Some(Error::DevServerUnavailable { address: url, reason })
    );
}

#[tokio::test(flavor = "local")]
async fn nonsense_and_silence_before_the_answer_are_unavailable_and_never_sent_twice() {
    for (says, reason) in [
        ("", "it closed the connection without an answer"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "its answer is not http"),
        ("HTTP/1.1 200", "it closed the connection without an answer"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
            "it switched to a protocol nobody asked for",
        ),
    ] {
        for used in [Used::Fresh, Used::Before] {
            let script = Script::new().await;
            let upstream = upstream();
            let url = script.url();
            let conversation = if used == Used::Before {
                let (answer, conversation) = tokio::join!(call(&upstream, &url, get("/")), async {
                    let mut conversation = script.accept().await;
                    conversation.serve("HTTP/1.1 204 No Content\r\n\r\n").await;
                    conversation
                });
                answer.expect("answered");
                Some(conversation)
            } else {
                None
            };
            let (answer, ()) = tokio::join!(call(&upstream, &url, get("/")), async {
                let mut conversation = match conversation {
                    Some(conversation) => conversation,
                    None => script.accept().await,
                };
                conversation.serve(says).await;
            });
            assert_eq!(unavailable(answer), reason, "{says}");
            assert!(script.is_alone(), "{says}");
        }
    }
}

#[tokio::test(flavor = "local")]
async fn an_upgrade_to_something_else_is_refused() {
    let script = Script::new().await;
    let upstream = upstream();
    let url = script.url();
    let mut request = get("/");
    request
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static("websocket"));
    let (answer, head) = tokio::join!(call(&upstream, &url, request), async {
        script
            .accept()
            .await
            .serve("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n")
            .await
    });
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"));
    assert_eq!(unavailable(answer), "it switched to a protocol nobody asked for");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upstream_that_does_not_answer_in_time_is_a_timeout() {
    let script = Script::new().await;
    let start = tokio::time::Instant::now();
    let (answer, mut conversation) =
        tokio::join!(call(&upstream(), &script.url(), get("/")), script.accept());
    assert_eq!(answer.err(), Some(Error::UpstreamTimeout));
    assert!(start.elapsed() >= TERMS.timeout);
    conversation.rest().await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_that_takes_too_long_is_unavailable() {
    let script = Script::new().await;
    let url = script.url().replace("http://", "https://");
    let start = tokio::time::Instant::now();
    let (answer, _silent) = tokio::join!(call(&upstream(), &url, get("/")), script.accept());
    assert_eq!(
        unavailable(answer),
        "connecting took longer than `connect_timeout`"
    );
    assert!(start.elapsed() >= TERMS.connect_timeout && start.elapsed() < TERMS.timeout);
}

#[tokio::test(flavor = "local")]
async fn an_upstream_that_should_speak_tls_and_does_not_is_unavailable() {
    let script = Script::new().await;
    let url = script.url().replace("http://", "https://");
    let (answer, ()) = tokio::join!(call(&upstream(), &url, get("/")), async {
        script
            .accept()
            .await
            .say("HTTP/1.1 400 Bad Request\r\n\r\n")
            .await;
    });
    let reason = unavailable(answer);
    assert!(reason.starts_with("the tls handshake failed: "), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_does_not_count_the_time_of_a_moving_upload() {
    let (sender, request) = upload();
    let mut body = LimitedBody::new(request.into_body(), 1000, &TERMS.csrf_header).expect("length unknown");
    let upstream = upstream();
    let balancer = balancer(&upstream, "http://127.0.0.1:1", Http2::Negotiated);
    let mut call = Call {
        origin: balancer.choose(&[]).expect("an address"),
        balancer,
        tried: Vec::new(),
        total: None,
        pool: upstream.core.pool.clone(),
        terms: TERMS,
        progress: body.progress(),
        watch: Watch::Nothing,
        websocket: None,
        expects: false,
        again: None,
        repeated: false,
        proving: None,
        deadline: Some(upstream.core.pool.timer.sleep(TERMS.timeout)),
    };
    let overdue =
        |call: &mut Call<_>| std::future::poll_fn(|cx| Poll::Ready(call.poll_deadline(cx))).now_or_never();
    assert_eq!(overdue(&mut call), Some(Poll::Pending));
    for _ in 0..5 {
        tokio::time::advance(TERMS.timeout - Duration::from_secs(1)).await;
        sender.send(data("x")).expect("wanted");
        body.frame().await.expect("a frame").expect("data");
        assert_eq!(overdue(&mut call), Some(Poll::Pending));
    }
    tokio::time::advance(TERMS.timeout * 2).await;
    assert_eq!(overdue(&mut call), Some(Poll::Ready(Error::UpstreamTimeout)));

    // The same silence, but it is the client that owes the next bytes.
    assert!(body.frame().now_or_never().is_none());
    assert_eq!(
        overdue(&mut call),
        Some(Poll::Ready(Error::InvalidRequest(
            "the request body stopped coming"
        )))
    );
}

#[tokio::test(flavor = "local")]
async fn an_https_upstream_is_called_when_its_certificate_is_trusted_and_only_then() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).expect("a root");
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let trusting = Upstream::new(
        Connector::with_tls(client),
        CoarseTimer::new(),
        SessionEnds::new(),
    );

    let script = Script::new().await;
    let url = format!("https://localhost:{}", script.address.port());
    for (name, upstream, host, trusted) in [
        ("trusted", &trusting, "localhost", true),
        ("another name", &trusting, "127.0.0.1", false),
        ("unknown authority", &upstream(), "localhost", false),
    ] {
        let url = url.replace("localhost", host);
        let (answer, ()) = tokio::join!(call(upstream, &url, get("/")), async {
            let accepted = acceptor.accept(script.accept().await.0).await;
            let Ok(mut stream) = accepted else { return };
            let mut head = [0; 1000];
            let _ = stream.read(&mut head).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
                .await;
        });
        if trusted {
            assert_eq!(text(answer.expect(name).into_body()).await, "hi");
        } else {
            let reason = unavailable(answer);
            assert!(
                reason.starts_with("the tls handshake failed: invalid peer certificate"),
                "{name}: {reason}"
            );
        }
    }
}

// ---------------------------------------------------------------- body limit

#[tokio::test(flavor = "local")]
async fn a_body_declared_over_the_limit_is_refused_before_connecting() {
    let script = Script::new().await;
    let request = post(Full::new(Bytes::from(vec![0; 1001])));
    let answer = call(&upstream(), &script.url(), request).await;
    assert_eq!(answer.err(), Some(Error::PayloadTooLarge));
    assert!(script.is_alone());
}

#[tokio::test(flavor = "local")]
async fn a_body_that_passes_the_limit_on_the_way_is_cut_and_the_upstream_never_sees_its_end() {
    let script = Script::new().await;
    let terms = Terms {
        body_limit: 4,
        ..TERMS
    };
    let (sender, request) = upload();
    let upstream = upstream();
    let (url, mut got) = (script.url(), Vec::new());
    let (answer, ()) = tokio::join!(call_with(&upstream, &url, request, terms), async {
        let mut conversation = script.accept().await;
        sender.send(data("1234")).expect("wanted");
        conversation.head().await;
        conversation.read_until("1234\r\n").await;
        sender.send(data("5")).expect("wanted");
        got = conversation.rest().await;
    });
    assert_eq!(answer.err(), Some(Error::PayloadTooLarge));
    assert_eq!(got, b"", "neither the fifth byte nor the last chunk");
    assert_eq!(idle(&upstream, &url), 0);
}

#[tokio::test(flavor = "local")]
async fn a_client_that_breaks_off_its_upload_is_not_the_upstreams_fault() {
    let script = Script::new().await;
    let (sender, request) = upload();
    let (answer, rest) = tokio::join!(call(&upstream(), &script.url(), request), async {
        let mut conversation = script.accept().await;
        conversation.head().await;
        sender.send(Err(std::io::Error::other("gone"))).expect("wanted");
        conversation.rest().await
    });
    assert_eq!(
        answer.err(),
        Some(Error::InvalidRequest("the request body broke off"))
    );
    assert_eq!(rest, b"", "an unfinished body");
}

// ---------------------------------------------------------------- connections

#[tokio::test(flavor = "local")]
async fn a_connection_is_used_again_after_every_kind_of_answer() {
    let script = Script::new().await;
    let upstream = upstream();
    let url = script.url();
    let answers = [
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            "hi",
        ),
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "hi",
        ),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", ""),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", ""),
        (
            Method::GET,
            "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n",
            "",
        ),
        (
            Method::GET,
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "",
        ),
    ];
    let calls = async {
        for (method, answer, expected) in &answers {
            let mut request = get("/");
            *request.method_mut() = method.clone();
            let response = call(&upstream, &url, request).await.expect(answer);
            assert_eq!(text(response.into_body()).await, *expected, "{answer}");
            assert_eq!(idle(&upstream, &url), 1, "{answer}");
        }
    };
    let ((), _conversation) = tokio::join!(calls, async {
        let mut conversation = script.accept().await;
        for (_, answer, _) in &answers {
            conversation.serve(answer).await;
        }
        conversation
    });
    assert!(script.is_alone());
}

#[tokio::test(flavor = "local")]
async fn a_connection_is_not_used_again_when_the_upstream_says_so() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 0\r\n\r\n",
    ] {
        let script = Script::new().await;
        let upstream = upstream();
        let url = script.url();
        for _ in 0..2 {
            let (response, _) = tokio::join!(call(&upstream, &url, get("/")), async {
                let mut conversation = script.accept().await;
                conversation.serve(answer).await;
                conversation
            });
            response.expect(answer);
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_connection_that_the_upstream_closed_while_idle_is_noticed() {
    let script = Script::new().await;
    let upstream = upstream();
    let url = script.url();
    for round in 0..3 {
        let (response, conversation) = tokio::join!(call(&upstream, &url, get("/")), async {
            let mut conversation = script.accept().await;
            conversation.serve("HTTP/1.1 204 No Content\r\n\r\n").await;
            conversation
        });
        response.expect("answered, without an error in between");
        assert_eq!(idle(&upstream, &url), 1, "{round}");
        drop(conversation);
        // The runtime hears of the close when it next looks at its sockets.
        Script::new().await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "local")]
async fn only_a_request_that_was_never_begun_is_sent_again_and_only_from_an_idle_connection() {
    let script = Script::new().await;
    let upstream = upstream();
    let balancer = balancer(&upstream, &script.url(), Http2::Negotiated);
    let origin = balancer.origins().remove(0);
    for (name, used, message, again) in [
        ("idle before, nothing written", Used::Before, true, true),
        ("idle before, begun", Used::Before, false, false),
        ("fresh, nothing written", Used::Fresh, true, false),
    ] {
        let (live, _conversation) = tokio::join!(
            origin.dial(&upstream.core.pool, Purpose::Request, TERMS.connect_timeout),
            script.accept()
        );
        let mut live = live.expect("connected");
        live.used = used;
        // A connection that is dropped before it is polled hands its request back.
        let (io, _other) = tokio::io::duplex(64);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
            .await
            .expect("no i/o");
        drop(connection);
        let request = get("/").map(|body| LimitedBody::new(body, 0, &TERMS.csrf_header).expect("empty"));
        let mut error = sender.try_send_request(request).await.expect_err("closed");
        assert!(error.message().is_some());
        if !message {
            error.take_message();
        }
        let call = Call {
            origin: balancer.choose(&[]).expect("an address"),
            balancer: balancer.clone(),
            tried: Vec::new(),
            total: None,
            pool: upstream.core.pool.clone(),
            terms: TERMS,
            progress: None,
            watch: Watch::Nothing,
            websocket: None,
            expects: false,
            again: None,
            repeated: false,
            proving: None,
            deadline: None,
        };
        match Box::new(call).retry(&live, error, &mut Context::from_waker(std::task::Waker::noop())) {
            Step::Next(State::Dialling { .. }) => assert!(again, "{name}"),
            Step::Done(Err(Error::UpstreamUnavailable(_))) => assert!(!again, "{name}"),
            _ => panic!("{name}"),
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_client_that_leaves_takes_its_call_with_it() {
    let script = Script::new().await;
    let upstream = upstream();
    let url = script.url();

    // Before the head.
    let mut calling = call(&upstream, &url, get("/"));
    let mut conversation = tokio::select! {
        _ = &mut calling => panic!("nothing was answered"),
        conversation = async {
            let mut conversation = script.accept().await;
            conversation.head().await;
            conversation
        } => conversation,
    };
    drop(calling);
    assert_eq!(conversation.rest().await, b"");

    // In the middle of the body.
    let (answer, mut conversation) = tokio::join!(call(&upstream, &url, get("/")), async {
        let mut conversation = script.accept().await;
        conversation
            .serve("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
            .await;
        conversation
    });
    let mut body = answer.expect("answered").into_body();
    body.frame().await.expect("a frame").expect("data");
    drop(body);
    assert_eq!(conversation.rest().await, b"");
    assert_eq!(idle(&upstream, &url), 0);
}

#[tokio::test(flavor = "local")]
async fn many_calls_at_once_share_few_connections_and_never_an_answer() {
    let script = Script::new().await;
    let (upstream, url) = (upstream(), script.url());
    let accepted = Rc::new(Cell::new(0));
    let count = accepted.clone();
    tokio::task::spawn_local(async move {
        loop {
            let Conversation(stream) = script.accept().await;
            count.set(count.get() + 1);
            // Echoes path and body.
            let service = hyper::service::service_fn(async |request: Request<Incoming>| {
                let path = Bytes::from(request.uri().path().to_owned());
                let path = stream::iter([Ok(Frame::data(path))]);
                let echo = path.chain(http_body_util::BodyStream::new(request.into_body()));
                Ok::<_, std::convert::Infallible>(Response::new(StreamBody::new(echo)))
            });
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(serving);
        }
    });
    for round in 0..20 {
        let calls = (0..50).map(|index| {
            let (upstream, url) = (&upstream, &url);
            async move {
                let content = format!("-{round}-{}", "x".repeat(index));
                let mut request = post(Full::new(Bytes::from(content.clone())));
                *request.uri_mut() = format!("/{index}").parse().expect("a path");
                let answer = call(upstream, url, request).await.expect("answered");
                assert_eq!(text(answer.into_body()).await, format!("/{index}{content}"));
            }
        });
        futures_util::future::join_all(calls).await;
        assert_eq!(accepted.get(), 50, "round {round}");
        assert_eq!(idle(&upstream, &url), 50);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_sweeper_closes_what_is_idle_for_long_and_then_rests() {
    let script = Script::new().await;
    let upstream = upstream();
    let url = script.url();
    let (response, mut conversation) = tokio::join!(call(&upstream, &url, get("/")), async {
        let mut conversation = script.accept().await;
        conversation.serve("HTTP/1.1 204 No Content\r\n\r\n").await;
        conversation
    });
    response.expect("answered");
    assert_eq!(idle(&upstream, &url), 1);
    assert_eq!(conversation.rest().await, b"", "closed by us");
    assert_eq!(idle(&upstream, &url), 0);
}

// ---------------------------------------------------------------- sessions

fn session() -> Session {
    Session {
        id: crate::SessionId(SESSION),
        ends_at: UnixTime(u64::MAX),
        honoured_until: UnixTime(u64::MAX),
        created_at: None,
        marks: [None; 2],
    }
}

async fn event_stream(
    upstream: &Upstream<TestBody>,
    script: &Script,
) -> (UpstreamBody<TestBody>, Conversation) {
    let mut request = get("/events");
    request.extensions_mut().insert(session());
    let url = script.url();
    let (answer, conversation) = tokio::join!(call(upstream, &url, request), async {
        let mut conversation = script.accept().await;
        conversation
            .serve("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
            .await;
        conversation
    });
    let mut body = answer.expect("answered").into_body();
    let first = body.frame().await.expect("a frame").expect("data");
    assert_eq!(first.data_ref().map(|data| &data[..]), Some(&b"data: 1\n\n"[..]));
    (body, conversation)
}

#[tokio::test(flavor = "local")]
async fn a_stream_breaks_off_when_its_session_ends() {
    let (script, upstream) = (Script::new().await, upstream());
    let (mut body, mut conversation) = event_stream(&upstream, &script).await;
    assert!(
        body.frame().now_or_never().is_none(),
        "it waits for the next event"
    );
    upstream.core.ends.end([9; 16]);
    assert!(
        body.frame().now_or_never().is_none(),
        "another session's end is nothing to it"
    );
    let (frame, ()) = tokio::join!(body.frame(), async { upstream.core.ends.end(SESSION) });
    let error = frame.expect("a frame").expect_err("broken off");
    assert!(matches!(error, UpstreamBodyError::SessionEnded));
    assert_eq!(conversation.rest().await, b"", "the upstream hears of it");
}

#[tokio::test(flavor = "local")]
async fn a_session_that_ends_before_the_stream_first_waits_is_not_missed() {
    let (script, upstream) = (Script::new().await, upstream());
    let (mut body, _conversation) = event_stream(&upstream, &script).await;
    upstream.core.ends.end(SESSION);
    let error = body.frame().await.expect("a frame").expect_err("broken off");
    assert!(matches!(error, UpstreamBodyError::SessionEnded));
}

/// A WebSocket from a client through a real server and the inner service to the script.
async fn websocket(upstream: &Upstream<TestBody>, script: &Script) -> (Conversation, Conversation) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (upstream, url) = (upstream.clone(), script.url());
    tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(body);
            request.extensions_mut().insert(session());
            call(&upstream, &url, request)
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
    });
    let mut client = Conversation(TcpStream::connect(address).await.expect("connected"));
    client
        .say("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\r\nearly")
        .await;
    let mut server = script.accept().await;
    let head = server.head().await;
    assert!(head.contains("upgrade: WebSocket\r\n"), "{head}");
    let mut peeked = [0; 1];
    assert!(
        server.0.peek(&mut peeked).now_or_never().is_none(),
        "nothing of the client's is sent before the 101"
    );
    server
        .say(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x01\x02hi",
        )
        .await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket\r\n"));
    assert_eq!(client.read_until("hi").await, "\x01\x02hi");
    assert_eq!(server.read_until("early").await, "early");
    (client, server)
}

#[tokio::test(flavor = "local")]
async fn a_websocket_is_tunnelled_until_one_side_closes() {
    let (script, upstream) = (Script::new().await, upstream());
    let (mut client, mut server) = websocket(&upstream, &script).await;
    client.say("ping").await;
    assert_eq!(server.read_until("ping").await, "ping");
    drop(client);
    assert_eq!(server.rest().await, b"");
}

#[tokio::test(flavor = "local")]
async fn a_websocket_is_closed_with_a_known_code_when_its_session_ends() {
    let (script, upstream) = (Script::new().await, upstream());
    let (mut client, mut server) = websocket(&upstream, &script).await;
    upstream.core.ends.end(SESSION);
    let goodbye = client.rest().await;
    assert_eq!(goodbye[..4], [0x88, 15, 0x0b, 0xb8]);
    assert_eq!(server.rest().await, b"");
}

// ---------------------------------------------------------------- the service

#[tokio::test(flavor = "local")]
async fn a_request_without_a_matched_route_goes_nowhere() {
    let answer = upstream().call(get("/")).await;
    assert!(matches!(answer.err(), Some(Error::Bug(_))));
}

#[tokio::test(flavor = "local")]
async fn a_folder_is_served_and_a_missing_one_is_not_a_404() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("index.html"), "home").expect("written");
    let upstream = upstream();
    let serve = |folder: &Path| UpstreamFuture {
        state: upstream.serve(&get("/"), folder, &FileHeaders::default()),
        dev_server: None,
    };
    let answer = serve(folder.path()).await.expect("served");
    assert_eq!(answer.headers()[CONTENT_LENGTH], "4");
    assert!(!answer.headers().contains_key(HOST));
    assert_eq!(text(answer.into_body()).await, "home");
    let missing = serve(&folder.path().join("missing")).await;
    assert!(matches!(missing.err(), Some(Error::FilesUnavailable(_))));
}

mod balancing;
mod balancing_http2;
mod expect;
mod http2;
mod limits;
mod websocket;
