//! Calls over HTTP/2: an upstream that follows a script frame by frame, or stream by stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::upstream::http2::Local;

fn large() -> Terms {
    Terms {
        body_limit: 10_000_000,
        ..TERMS
    }
}

/// An upstream that hands out the streams it gets.
pub(super) struct Server {
    pub(super) url: String,
    streams: UnboundedReceiver<Stream>,
    pub(super) connections: Rc<Cell<usize>>,
    /// Those that are open.
    open: Rc<Cell<usize>>,
}

pub(super) struct Stream {
    connection: usize,
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
}

impl Server {
    pub(super) async fn new(settings: impl Fn(&mut h2::server::Builder) + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (sender, streams) = unbounded_channel();
        let connections = Rc::new(Cell::new(0));
        let open = Rc::new(Cell::new(0));
        let (count, now) = (connections.clone(), open.clone());
        tokio::task::spawn_local(async move {
            loop {
                let (io, _) = listener.accept().await.expect("a connection");
                let (connection, sender, now) = (count.get(), sender.clone(), now.clone());
                count.set(connection + 1);
                let mut builder = h2::server::Builder::new();
                settings(&mut builder);
                tokio::task::spawn_local(async move {
                    let Ok(mut http2) = builder.handshake::<_, Bytes>(io).await else {
                        return;
                    };
                    now.set(now.get() + 1);
                    while let Some(Ok((request, respond))) = http2.accept().await {
                        let _ = sender.send(Stream {
                            connection,
                            request,
                            respond,
                        });
                    }
                    now.set(now.get() - 1);
                });
            }
        });
        Self {
            url,
            streams,
            connections,
            open,
        }
    }

    pub(super) async fn stream(&mut self) -> Stream {
        self.streams.recv().await.expect("a stream")
    }

    /// Resolves once nobody is connected any more.
    pub(super) async fn is_left_alone(&self) {
        while self.open.get() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Stream {
    pub(super) fn answer(&mut self, text: &'static str) {
        let mut stream = self
            .respond
            .send_response(Response::new(()), false)
            .expect("open");
        stream.send_data(Bytes::from(text), true).expect("open");
    }

    pub(super) fn refuse(mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }

    pub(super) async fn reset(&mut self) -> Reason {
        std::future::poll_fn(|cx| self.respond.poll_reset(cx))
            .await
            .expect("a reset")
    }

    async fn body(&mut self) -> Result<Vec<u8>, h2::Error> {
        let mut all = Vec::new();
        let body = self.request.body_mut();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control()
                .release_capacity(data.len())
                .expect("what was read");
            all.extend_from_slice(&data);
        }
        Ok(all)
    }
}

pub(super) fn plain(_: &mut h2::server::Builder) {}

fn send(upstream: &Upstream<TestBody>, url: &str, request: Request<TestBody>) -> UpstreamFuture<TestBody> {
    call_one_of(upstream, &one(url, Http2::Always), request, large())
}

fn shared(upstream: &Upstream<TestBody>, url: &str) -> usize {
    let origins = balancer(upstream, url, Http2::Always).origins();
    origins.iter().map(|origin| origin.shared_connections()).sum()
}

#[tokio::test(flavor = "local")]
async fn a_call_and_its_trailers_pass_both_ways_and_te_with_them() {
    let (mut server, upstream) = (Server::new(plain).await, upstream());
    let (sender, mut request) = upload();
    for (name, value) in [
        ("host", "shop.example.com"),
        ("te", "trailers"),
        ("connection", "close"),
        ("content-type", "application/grpc"),
        ("authorization", "Bearer t"),
    ] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    *request.uri_mut() = http::Uri::from_static("/pkg.Service/Method?x=1");
    sender.send(data("question")).expect("wanted");
    let trailers = |name, value| {
        let pair = (HeaderName::from_static(name), HeaderValue::from_static(value));
        Frame::trailers([pair].into_iter().collect())
    };
    sender.send(Ok(trailers("x-sum", "6"))).expect("wanted");
    drop(sender);
    let url = format!("{}/base", server.url);
    let (answer, ()) = tokio::join!(send(&upstream, &url, request), async {
        let mut stream = server.stream().await;
        let head = &stream.request;
        assert_eq!(head.method(), Method::POST);
        assert_eq!(head.uri().to_string(), format!("{url}/pkg.Service/Method?x=1"));
        let mut names: Vec<_> = head.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "content-type", "te"]);
        assert_eq!(stream.body().await.expect("a body"), b"question");
        let sums = stream.request.body_mut().trailers().await.expect("no error");
        assert_eq!(sums.expect("trailers")["x-sum"], "6");
        let mut answer = stream
            .respond
            .send_response(Response::new(()), false)
            .expect("open");
        answer.send_data(Bytes::from("answer"), false).expect("open");
        let status = trailers("grpc-status", "0");
        answer
            .send_trailers(status.into_trailers().expect("trailers"))
            .expect("open");
    });
    let collected = answer
        .expect("answered")
        .into_body()
        .collect()
        .await
        .expect("whole");
    assert_eq!(collected.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "answer");
}

#[tokio::test(flavor = "local")]
async fn many_calls_share_one_connection_also_when_they_begin_at_once() {
    let (mut server, upstream) = (Server::new(plain).await, upstream());
    let url = server.url.clone();
    let connections = server.connections.clone();
    tokio::task::spawn_local(async move {
        loop {
            let mut stream = server.stream().await;
            tokio::task::spawn_local(async move {
                let body = stream.body().await.expect("a body");
                let mut answer = stream
                    .respond
                    .send_response(Response::new(()), false)
                    .expect("open");
                answer.send_data(Bytes::from(body), true).expect("open");
            });
        }
    });
    for _ in 0..3 {
        let calls = (0..50).map(|index| {
            let (upstream, url) = (&upstream, &url);
            async move {
                let content = format!("call {index}");
                let request = post(Full::new(Bytes::from(content.clone())));
                let answer = send(upstream, url, request).await.expect("answered");
                assert_eq!(text(answer.into_body()).await, content);
            }
        });
        futures_util::future::join_all(calls).await;
    }
    assert_eq!(connections.get(), 1);
    assert_eq!(idle(&upstream, &url), 0, "it is in no list of idle ones");
}

#[tokio::test(flavor = "local")]
async fn the_upstreams_limit_on_streams_is_kept_by_opening_further_connections() {
    let mut server = Server::new(|settings| {
        settings.max_concurrent_streams(2);
    })
    .await;
    let (upstream, url) = (upstream(), server.url.clone());
    let calls = (0..5).map(|_| send(&upstream, &url, get("/")));
    let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), async {
        let mut open = Vec::new();
        for _ in 0..5 {
            open.push(server.stream().await);
        }
        for connection in 0..3 {
            let on_it = open.iter().filter(|stream| stream.connection == connection);
            assert!(on_it.count() <= 2);
        }
        open.iter_mut().for_each(|stream| stream.answer("hi"));
    });
    for answer in answers {
        assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
    }
    assert_eq!(server.connections.get(), 3);
}

#[tokio::test(flavor = "local")]
async fn what_the_upstream_refused_unprocessed_is_sent_once_more_and_nothing_else() {
    for (name, reasons, length, wanted) in [
        ("refused", &[Reason::REFUSED_STREAM][..], None, Ok(())),
        (
            "refused twice",
            &[Reason::REFUSED_STREAM, Reason::REFUSED_STREAM],
            None,
            Err(()),
        ),
        ("begun", &[Reason::INTERNAL_ERROR], None, Err(())),
        ("cancelled", &[Reason::CANCEL], None, Err(())),
        (
            "refused, the body was begun",
            &[Reason::REFUSED_STREAM],
            Some(4),
            Err(()),
        ),
    ] {
        let (mut server, upstream) = (Server::new(plain).await, upstream());
        let request = match length {
            Some(length) => post(Full::new(Bytes::from(vec![b'x'; length]))),
            None => get("/"),
        };
        let url = server.url.clone();
        let (answer, ()) = tokio::join!(send(&upstream, &url, request), async {
            for reason in reasons {
                server.stream().await.refuse(*reason);
            }
            if wanted.is_ok() {
                server.stream().await.answer("hi");
            }
        });
        match wanted {
            Ok(()) => assert_eq!(text(answer.expect(name).into_body()).await, "hi", "{name}"),
            Err(()) => {
                let reason = unavailable(answer);
                assert_eq!(reason, "it reset the stream without an answer", "{name}");
                assert!(server.streams.try_recv().is_err(), "{name}: sent again");
            }
        }
    }
}

#[tokio::test(flavor = "local")]
async fn an_upload_of_which_nothing_was_taken_is_sent_once_more_whole() {
    let (mut server, upstream) = (Server::new(plain).await, upstream());
    let (sender, request) = upload();
    let url = server.url.clone();
    let (answer, ()) = tokio::join!(send(&upstream, &url, request), async {
        server.stream().await.refuse(Reason::REFUSED_STREAM);
        let mut second = server.stream().await;
        sender.send(data("all of it")).expect("wanted");
        drop(sender);
        assert_eq!(second.body().await.expect("a body"), b"all of it");
        second.answer("hi");
    });
    assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
}

/// Reads the preface and frames up to the first HEADERS; says which stream it is.
async fn raw_request(conversation: &mut Conversation) -> [u8; 4] {
    let mut preface = [0; 24];
    conversation.0.read_exact(&mut preface).await.expect("a preface");
    conversation.0.write_all(&SETTINGS).await.expect("written");
    loop {
        let mut head = [0; 9];
        conversation.0.read_exact(&mut head).await.expect("a frame");
        let length = usize::from(head[1]) * 256 + usize::from(head[2]);
        conversation
            .0
            .read_exact(&mut vec![0; length])
            .await
            .expect("its payload");
        if head[3] == 1 {
            return head[5..9].try_into().expect("four bytes");
        }
    }
}

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// GOAWAY with NO_ERROR, naming the last stream that is processed.
fn going_away(last: [u8; 4]) -> Vec<u8> {
    [&[0, 0, 8, 7, 0, 0, 0, 0, 0], &last[..], &[0; 4]].concat()
}

#[tokio::test(flavor = "local")]
async fn a_call_above_what_a_goaway_names_is_sent_over_another_connection() {
    let (script, upstream) = (Script::new().await, upstream());
    let url = script.url();
    let (answer, ()) = tokio::join!(send(&upstream, &url, get("/")), async {
        let mut first = script.accept().await;
        raw_request(&mut first).await;
        first.0.write_all(&going_away([0; 4])).await.expect("written");
        let mut second = script.accept().await;
        let id = raw_request(&mut second).await;
        // `:status: 204`, end of stream
        let head = [&[0, 0, 1, 1, 5], &id[..], &[0x89]].concat();
        second.0.write_all(&head).await.expect("written");
        drop(first);
    });
    assert_eq!(answer.expect("answered").status(), StatusCode::NO_CONTENT);
    assert_eq!(shared(&upstream, &url), 1, "the first one takes no more calls");
}

#[tokio::test(flavor = "local")]
async fn a_call_that_a_goaway_may_cover_is_never_sent_again() {
    for goaway in [true, false] {
        let (script, upstream) = (Script::new().await, upstream());
        let (answer, ()) = tokio::join!(send(&upstream, &script.url(), get("/")), async {
            let mut first = script.accept().await;
            let id = raw_request(&mut first).await;
            if goaway {
                first.0.write_all(&going_away(id)).await.expect("written");
            }
            drop(first);
        });
        unavailable(answer);
        assert!(script.is_alone());
    }
}

#[tokio::test(flavor = "local")]
async fn an_upstream_that_does_not_speak_it_is_unavailable_and_said_to_be() {
    let (script, upstream) = (Script::new().await, upstream());
    let (answer, _conversation) = tokio::join!(send(&upstream, &script.url(), get("/")), async {
        let mut conversation = script.accept().await;
        conversation.head().await;
        conversation
            .say("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            .await;
        conversation
    });
    assert_eq!(
        unavailable(answer),
        "it does not begin HTTP/2, see the route's `http2`"
    );
}

#[tokio::test(flavor = "local")]
async fn a_client_that_leaves_resets_its_stream_and_no_other() {
    let (mut server, upstream) = (Server::new(plain).await, upstream());
    let url = server.url.clone();

    // Before the head.
    let mut calling = send(&upstream, &url, get("/"));
    let mut stream = tokio::select! {
        _ = &mut calling => panic!("nothing was answered"),
        stream = server.stream() => stream,
    };
    drop(calling);
    assert_eq!(stream.reset().await, Reason::CANCEL);

    // In the middle of the answer.
    let (answer, mut half) = tokio::join!(send(&upstream, &url, get("/")), async {
        let mut stream = server.stream().await;
        let mut half = stream
            .respond
            .send_response(Response::new(()), false)
            .expect("open");
        half.send_data(Bytes::from("half"), false).expect("open");
        half
    });
    let mut body = answer.expect("answered").into_body();
    body.frame().await.expect("a frame").expect("data");
    drop(body);
    let reset = std::future::poll_fn(|cx| half.poll_reset(cx)).await;
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);

    // In the middle of its upload.
    let (sender, request) = upload();
    let (answer, ()) = tokio::join!(send(&upstream, &url, request), async {
        let mut stream = server.stream().await;
        sender.send(data("half")).expect("wanted");
        sender.send(Err(std::io::Error::other("left"))).expect("wanted");
        assert!(stream.body().await.is_err(), "not the end of a body");
    });
    assert!(matches!(answer.err(), Some(Error::InvalidRequest(_))));

    let (answer, ()) = tokio::join!(send(&upstream, &url, get("/")), async {
        server.stream().await.answer("hi");
    });
    answer.expect("the connection is as good as before");
    assert_eq!(server.connections.get(), 1);
}

#[tokio::test(flavor = "local")]
async fn a_body_over_the_limit_is_cut_and_is_the_clients_fault() {
    let (mut server, upstream) = (Server::new(plain).await, upstream());
    let terms = Terms {
        body_limit: 4,
        ..TERMS
    };
    let (sender, request) = upload();
    let url = server.url.clone();
    let upstreams = one(&url, Http2::Always);
    let (answer, ()) = tokio::join!(call_one_of(&upstream, &upstreams, request, terms), async {
        let mut stream = server.stream().await;
        sender.send(data("1234")).expect("wanted");
        sender.send(data("5")).expect("wanted");
        assert!(stream.body().await.is_err(), "not the end of a body");
    });
    assert_eq!(answer.err(), Some(Error::PayloadTooLarge));
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_nobody_reads_is_held_back_at_the_upstream() {
    let (mut server, upstream) = (Server::new(plain).await, upstream());
    let url = server.url.clone();
    let chunk = Bytes::from(vec![b'x'; 16 * 1024]);
    let (answer, sent) = tokio::join!(send(&upstream, &url, get("/")), async {
        let mut stream = server.stream().await;
        let mut down = stream
            .respond
            .send_response(Response::new(()), false)
            .expect("open");
        let mut sent = 0;
        loop {
            down.reserve_capacity(chunk.len());
            let room = std::future::poll_fn(|cx| down.poll_capacity(cx));
            match tokio::time::timeout(Duration::from_millis(300), room).await {
                Ok(Some(Ok(room))) => {
                    let room = room.min(chunk.len());
                    down.send_data(chunk.slice(..room), false).expect("open");
                    sent += room;
                }
                Ok(_) => panic!("the stream is gone"),
                Err(_) => return sent,
            }
        }
    });
    answer.expect("answered");
    assert!((64 * 1024..=256 * 1024).contains(&sent), "{sent}");
}

#[tokio::test(flavor = "local")]
async fn an_upload_that_the_upstream_does_not_read_is_held_back_at_the_client() {
    let (mut server, upstream) = (Server::new(plain).await, upstream());
    let (url, taken) = (server.url.clone(), Arc::new(AtomicUsize::new(0)));
    // It is never over.
    let counted = taken.clone();
    let frames = stream::poll_fn(move |_| {
        counted.fetch_add(16 * 1024, Ordering::Relaxed);
        let frame = Frame::data(Bytes::from_static(&[b'x'; 16 * 1024]));
        Poll::Ready(Some(Ok::<_, std::io::Error>(frame)))
    });
    let mut request = get("/").map(|_| body(StreamBody::new(frames)));
    *request.method_mut() = Method::POST;
    let mut calling = send(&upstream, &url, request);
    let _stream = tokio::select! {
        _ = &mut calling => panic!("nothing was answered"),
        stream = async {
            let stream = server.stream().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            stream
        } => stream,
    };
    // The upstream's window is 64 KiB, our send buffer another 64.
    let taken = taken.load(Ordering::Relaxed);
    assert!((64 * 1024..=256 * 1024).contains(&taken), "{taken}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_that_nobody_uses_is_closed_after_a_while() {
    let (mut server, upstream) = (Server::new(plain).await, upstream());
    let url = server.url.clone();
    let (answer, ()) = tokio::join!(send(&upstream, &url, get("/")), async {
        server.stream().await.answer("hi");
    });
    assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
    assert_eq!(shared(&upstream, &url), 1);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(shared(&upstream, &url), 0);
}

#[tokio::test(flavor = "local")]
async fn over_tls_the_protocol_is_what_both_agree_on() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = signed.signing_key.serialize_der();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).expect("a root");
    for (name, http2, offered, wanted) in [
        ("both", Http2::Negotiated, &["h2", "http/1.1"][..], Some("h2")),
        (
            "HTTP/1.1 only there",
            Http2::Negotiated,
            &["http/1.1"],
            Some("http/1.1"),
        ),
        ("no ALPN there", Http2::Negotiated, &[], None),
        ("never", Http2::Never, &["h2", "http/1.1"], None),
        ("always", Http2::Always, &["http/1.1", "h2"], Some("h2")),
    ] {
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.clone()).expect("a key");
        let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .expect("a pair");
        server.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        let client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let upstream = Upstream::new(
            Connector::with_tls(client),
            CoarseTimer::new(),
            SessionEnds::new(),
        );
        let script = Script::new().await;
        let url = format!("https://localhost:{}", script.address.port());
        let upstreams = one(&url, http2);
        let serving = tokio::task::spawn_local(async move {
            let stream = acceptor.accept(script.accept().await.0).await.expect(name);
            let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            let service = hyper::service::service_fn(async |request: Request<Incoming>| {
                let version = format!("{:?}", request.version());
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(version))))
            });
            let io = TokioIo::new(stream);
            tokio::task::spawn_local(async move {
                let _ = hyper_util::server::conn::auto::Builder::new(Local)
                    .serve_connection(io, service)
                    .await;
            });
            alpn
        });
        let answer = call_one_of(&upstream, &upstreams, get("/"), TERMS)
            .await
            .expect(name);
        let version = text(answer.into_body()).await;
        let alpn = serving.await.expect("no panic");
        assert_eq!(alpn.as_deref(), wanted.map(str::as_bytes), "{name}");
        let spoken = if wanted == Some("h2") {
            "HTTP/2.0"
        } else {
            "HTTP/1.1"
        };
        assert_eq!(version, spoken, "{name}");
    }
}
