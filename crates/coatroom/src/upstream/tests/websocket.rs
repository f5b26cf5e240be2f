//! WebSockets between any two of HTTP/1.1 and HTTP/2, and their end with the session.

use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;

use super::*;
use crate::upstream::body::Lasting;
use crate::upstream::connect::{Io, Socket};
use crate::upstream::http2::{Local, Multiplexed, Stream as Place};

/// What a side of the tunnel speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A server that serves each connection with `service`, WebSockets over HTTP/2 included.
async fn serve<S, B>(service: impl Fn() -> S + 'static) -> SocketAddr
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>> + 'static,
    S::Future: 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn_local(async move {
        loop {
            let (io, _) = listener.accept().await.expect("a connection");
            let mut start = [0; 3];
            io.peek(&mut start).await.expect("something");
            let service = service();
            tokio::task::spawn_local(async move {
                let io = TokioIo::new(io);
                if &start == b"PRI" {
                    let _ = hyper::server::conn::http2::Builder::new(Local)
                        .enable_connect_protocol()
                        .serve_connection(io, service)
                        .await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .with_upgrades()
                        .await;
                }
            });
        }
    });
    address
}

/// An upstream that takes WebSockets and echoes what comes, unread.
async fn echo() -> String {
    let address = serve(|| {
        hyper::service::service_fn(async |mut request: Request<Incoming>| {
            let mut response = Response::new(Empty::<Bytes>::new());
            response
                .headers_mut()
                .insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
            if request.method() == Method::CONNECT {
                assert_eq!(
                    request.extensions().get::<Protocol>().map(Protocol::as_str),
                    Some("websocket")
                );
                assert!(!request.headers().contains_key(SEC_WEBSOCKET_KEY));
            } else {
                let key = &request.headers()[SEC_WEBSOCKET_KEY];
                let proof = crate::upstream::websocket::accept(key);
                let proof = HeaderValue::from_str(&proof).expect("base64");
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert(SEC_WEBSOCKET_ACCEPT, proof);
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            }
            assert_eq!(request.headers()["authorization"], "Bearer t");
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::task::spawn_local(async move {
                let Ok(upgraded) = upgraded.await else { return };
                let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
            Ok::<_, std::convert::Infallible>(response)
        })
    })
    .await;
    format!("http://{address}")
}

/// Coatroom's part: the inner service behind a real server.
async fn front(upstream: &Upstream<TestBody>, url: String, http2: Http2) -> SocketAddr {
    let (upstream, upstreams) = (upstream.clone(), one(&url, http2));
    serve(move || {
        let (upstream, upstreams) = (upstream.clone(), upstreams.clone());
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(body);
            request.extensions_mut().insert(session());
            let bearer = HeaderValue::from_static("Bearer t");
            request.headers_mut().insert("authorization", bearer);
            call_one_of(&upstream, &upstreams, request, TERMS)
        })
    })
    .await
}

/// Opens a WebSocket as a browser does; the answer's head and the socket.
async fn open(address: SocketAddr, spoken: Spoken) -> (Response<()>, Upgraded) {
    let io = TcpStream::connect(address).await.expect("connected");
    let empty = LimitedBody::new(body(Empty::new()), 0, &TERMS.csrf_header).expect("empty");
    let mut request = Request::get("/chat")
        .header("host", "shop.example.com")
        .header("sec-websocket-protocol", "chat")
        .header("sec-websocket-version", "13")
        .body(empty)
        .expect("a request");
    let mut response = match spoken {
        Spoken::Http1 => {
            let headers = request.headers_mut();
            headers.insert("upgrade", HeaderValue::from_static("websocket"));
            headers.insert("connection", HeaderValue::from_static("Upgrade"));
            headers.insert("sec-websocket-key", HeaderValue::from_static(KEY));
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
                .await
                .expect("no i/o");
            tokio::task::spawn_local(async {
                let _ = connection.with_upgrades().await;
            });
            sender.send_request(request).await.expect("answered")
        }
        Spoken::Http2 => {
            let origin = http::Uri::from_static("http://shop.example.com");
            let (io, timer) = (Io::Http(TokioIo::new(Socket::Tcp(io))), CoarseTimer::new());
            let connection = Multiplexed::begin(io, &origin, &timer).await.expect("HTTP/2");
            assert!(connection.takes_websockets());
            *request.method_mut() = Method::CONNECT;
            request
                .extensions_mut()
                .insert(Protocol::from_static("websocket"));
            let place = Place::on(connection);
            let Ok(response) = place.send(request).await else {
                panic!("an answer");
            };
            // Kept open for as long as the test.
            std::mem::forget(place);
            response
        }
    };
    let upgraded = hyper::upgrade::on(&mut response);
    let response = response.map(drop);
    (response, upgraded.await.expect("upgraded"))
}

#[tokio::test(flavor = "local")]
async fn a_websocket_passes_between_any_two_protocols_and_ends_with_the_session() {
    for (client, towards) in [
        (Spoken::Http1, Spoken::Http1),
        (Spoken::Http1, Spoken::Http2),
        (Spoken::Http2, Spoken::Http1),
        (Spoken::Http2, Spoken::Http2),
    ] {
        let upstream = upstream();
        let http2 = match towards {
            Spoken::Http1 => Http2::Never,
            Spoken::Http2 => Http2::Always,
        };
        let url = echo().await;
        let address = front(&upstream, url.clone(), http2).await;
        let (head, socket) = open(address, client).await;
        let name = format!("{client:?} to {towards:?}");
        match client {
            Spoken::Http1 => {
                assert_eq!(head.status(), StatusCode::SWITCHING_PROTOCOLS, "{name}");
                assert_eq!(head.headers()[SEC_WEBSOCKET_ACCEPT], PROOF, "{name}");
            }
            Spoken::Http2 => {
                assert_eq!(head.status(), StatusCode::OK, "{name}");
                for absent in ["upgrade", "connection", "sec-websocket-accept"] {
                    assert!(!head.headers().contains_key(absent), "{name}: {absent}");
                }
            }
        }
        assert_eq!(head.headers()["sec-websocket-protocol"], "chat", "{name}");
        let mut socket = TokioIo::new(socket);
        let origin = balancer(&upstream, &url, http2).origins().remove(0);
        assert_eq!(
            origin.pulse.in_flight(),
            1,
            "{name}: as long as it lives it is a call"
        );
        // A masked frame, which comes back as it is.
        let frame = b"\x81\x82\x00\x00\x00\x00hi";
        for _ in 0..3 {
            socket.write_all(frame).await.expect("written");
            let mut back = [0; 8];
            socket.read_exact(&mut back).await.expect("echoed");
            assert_eq!(&back, frame, "{name}");
        }
        upstream.core.ends.end(SESSION);
        let mut goodbye = Vec::new();
        socket.read_to_end(&mut goodbye).await.expect("a clean end");
        assert_eq!(goodbye[..4], [0x88, 15, 0x0b, 0xb8], "{name}");
        drop(socket);
        let over = async {
            while origin.pulse.in_flight() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let over = tokio::time::timeout(Duration::from_secs(5), over).await;
        over.unwrap_or_else(|_| panic!("{name}: it is over, but still counts"));
    }
}

#[tokio::test(flavor = "local")]
async fn a_websocket_is_as_large_as_its_slowest_reader() {
    for towards in [Http2::Never, Http2::Always] {
        let upstream = upstream();
        let address = front(&upstream, echo().await, towards).await;
        let (_, socket) = open(address, Spoken::Http2).await;
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(socket));
        // Far more than all windows and socket buffers: it passes only as fast as it is read.
        let size = 8 * 1024 * 1024;
        let header = [&[0x82, 127][..], &u64::to_be_bytes(size as u64)].concat();
        let sending = tokio::task::spawn_local(async move {
            writer.write_all(&header).await.expect("written");
            for _ in 0..size / 65536 {
                writer.write_all(&[7; 65536]).await.expect("written");
            }
            writer
        });
        let mut back = vec![0; size + 10];
        reader.read_exact(&mut back).await.expect("all of it");
        assert!(back[10..].iter().all(|byte| *byte == 7));
        sending.await.expect("no panic");
    }
}

#[tokio::test(flavor = "local")]
async fn an_upstream_without_websockets_over_http2_is_unavailable_for_them_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let connections = Rc::new(Cell::new(0));
    let count = connections.clone();
    tokio::task::spawn_local(async move {
        loop {
            let (io, _) = listener.accept().await.expect("a connection");
            count.set(count.get() + 1);
            let service = hyper::service::service_fn(async |_: Request<Incoming>| {
                Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
            });
            let serving =
                hyper::server::conn::http2::Builder::new(Local).serve_connection(TokioIo::new(io), service);
            tokio::task::spawn_local(serving);
        }
    });
    let upstream = upstream();
    let upstreams = Arc::new(Upstreams {
        http2: Http2::Always,
        ..Upstreams::clone(&balancing::several(&[
            url.clone(),
            url.replace("127.0.0.1", "localhost"),
        ]))
    });
    for _ in 0..6 {
        let mut handshake = get("/chat");
        let headers = handshake.headers_mut();
        headers.insert("upgrade", HeaderValue::from_static("websocket"));
        headers.insert("sec-websocket-key", HeaderValue::from_static(KEY));
        let answer = call_one_of(&upstream, &upstreams, handshake, TERMS).await;
        let reason = unavailable(answer);
        assert!(
            reason.starts_with("it takes no WebSocket over HTTP/2"),
            "{reason}"
        );
    }
    let state = upstream.core.pool.connector.upstreams().remove(0);
    assert!(
        state.endpoints.iter().all(|one| one.ejections == 0),
        "no client can have an upstream left out by asking for one"
    );
    for _ in 0..20 {
        let answer = call_one_of(&upstream, &upstreams, get("/"), TERMS).await;
        assert_eq!(answer.expect("answered").status(), StatusCode::OK);
    }
    assert_eq!(connections.get(), 2, "one for each address");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_socket_ends_when_its_session_does_by_the_clock() {
    let clock = Arc::new(crate::clock::ManualClock::new(UnixTime(1_000_000)));
    let ends = SessionEnds::with_clock(clock.clone());
    for (name, lasting, ends_in, idle, wanted) in [
        ("absolute", Lasting::Stream, 100, 1000, 100),
        ("idle", Lasting::Stream, 1000, 100, 100),
        ("a download is not cut by idle", Lasting::Download, 300, 100, 300),
    ] {
        let start = crate::clock::Clock::now(&*clock);
        let session = Session {
            ends_at: start.plus(Duration::from_secs(ends_in)),
            ..session()
        };
        let idle = Duration::from_secs(idle);
        let mut watch = Watch::Later(Rc::new(ends.clone()), session, ends.generation(), idle);
        let signal = watch.signal(lasting).expect("a session");
        let mut lasted = 0;
        while (&mut *signal).now_or_never().is_none() {
            clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
            lasted += 1;
            assert!(lasted < 2000, "{name}");
        }
        assert!((wanted..=wanted + 2).contains(&lasted), "{name}: {lasted}");
    }
}
