//! Several upstreams that speak HTTP/2, its limits and its health checks, against upstreams that
//! follow a script stream by stream.

use coatroom_core::config::{HealthCheck, UpstreamAddress};
use h2::Reason;
use tokio::net::UnixListener;

use super::super::health;
use super::balancing::{Names, check, endpoint, look_up, nobody, several};
use super::http2::{Server, Stream, plain};
use super::*;

fn over_http2(urls: &[String]) -> Arc<Upstreams> {
    Arc::new(Upstreams {
        http2: Http2::Always,
        ..Upstreams::clone(&several(urls))
    })
}

fn ejections(upstream: &Upstream<TestBody>) -> Vec<u64> {
    let state = upstream.core.pool.connector.upstreams().remove(0);
    state.endpoints.iter().map(|one| one.ejections).collect()
}

/// The next stream of whichever gets it, and which that is.
async fn stream_of_either(one: &mut Server, other: &mut Server) -> (Stream, usize) {
    tokio::select! {
        stream = one.stream() => (stream, 0),
        stream = other.stream() => (stream, 1),
    }
}

#[tokio::test(flavor = "local")]
async fn what_one_upstream_refused_unprocessed_goes_to_another() {
    let (mut one, mut other) = (Server::new(plain).await, Server::new(plain).await);
    let (upstream, upstreams) = (upstream(), over_http2(&[one.url.clone(), other.url.clone()]));
    for round in 0..10 {
        let (sender, upload) = upload();
        let request = if round % 2 == 0 { get("/") } else { upload };
        let calling = call_one_of(&upstream, &upstreams, request, TERMS);
        let (answer, (first, second, host)) = tokio::join!(calling, async {
            let (stream, first) = stream_of_either(&mut one, &mut other).await;
            stream.refuse(Reason::REFUSED_STREAM);
            let (mut stream, second) = stream_of_either(&mut one, &mut other).await;
            // nothing of it was taken before
            drop(sender);
            stream.answer("hi");
            (first, second, stream.request.uri().to_string())
        });
        assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
        assert_ne!(first, second, "{round}");
        let urls = [&one.url, &other.url];
        assert_eq!(host, format!("{}/", urls[second]), "it is named as itself");
    }
    assert_eq!(ejections(&upstream), [0, 0], "to refuse is no fault");
}

#[tokio::test(flavor = "local")]
async fn what_is_refused_while_nobody_else_is_well_goes_to_the_same_once_more() {
    let mut well = Server::new(plain).await;
    let (upstream, upstreams) = (upstream(), over_http2(&[nobody().await, well.url.clone()]));
    let balancer = upstream.core.pool.balancer(&upstreams);
    let dead = balancer.origins().remove(0);
    balancer.failed(&dead, balance::Failure::Connect);
    let calling = call_one_of(&upstream, &upstreams, get("/"), TERMS);
    let (answer, ()) = tokio::join!(calling, async {
        well.stream().await.refuse(Reason::REFUSED_STREAM);
        well.stream().await.answer("hi");
    });
    assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
    assert_eq!(ejections(&upstream), [1, 0]);
}

#[tokio::test(flavor = "local")]
async fn one_that_does_not_begin_http2_costs_no_call_and_is_left_out() {
    let (odd, mut well) = (Script::new().await, Server::new(plain).await);
    let (upstream, upstreams) = (upstream(), over_http2(&[odd.url(), well.url.clone()]));
    tokio::task::spawn_local(async move {
        loop {
            odd.accept().await.say("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for _ in 0..20 {
        let calling = call_one_of(&upstream, &upstreams, get("/"), TERMS);
        let (answer, ()) = tokio::join!(calling, async { well.stream().await.answer("hi") });
        assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
    }
    assert_eq!(ejections(&upstream), [1, 0]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_that_answers_nothing_is_left_out_after_three_calls() {
    let (hangs, mut well) = (Server::new(plain).await, Server::new(plain).await);
    let urls = [hangs.url.clone(), well.url.clone()];
    let (upstream, upstreams) = (upstream(), over_http2(&urls));
    tokio::task::spawn_local(async move {
        loop {
            well.stream().await.answer("hi");
        }
    });
    let mut overdue = 0;
    // less than the pause of a second
    for _ in 0..100 {
        match call_one_of(&upstream, &upstreams, get("/"), TERMS).await {
            Ok(answer) => assert_eq!(text(answer.into_body()).await, "hi"),
            Err(error) => {
                assert_eq!(error, Error::UpstreamTimeout);
                overdue += 1;
            }
        }
    }
    assert_eq!(overdue, 3);
    assert_eq!(ejections(&upstream), [1, 0]);
    assert_eq!(hangs.connections.get(), 1);
}

#[tokio::test(flavor = "local")]
async fn a_call_counts_until_the_last_byte_of_its_answer() {
    let mut server = Server::new(plain).await;
    let (upstream, upstreams) = (upstream(), one(&server.url, Http2::Always));
    let (answer, mut down) = tokio::join!(call_one_of(&upstream, &upstreams, get("/"), TERMS), async {
        let mut stream = server.stream().await;
        let mut down = stream
            .respond
            .send_response(Response::new(()), false)
            .expect("open");
        down.send_data(Bytes::from("ha"), false).expect("open");
        down
    });
    let answer = answer.expect("answered");
    let origin = upstream.core.pool.balancer(&upstreams).origins().remove(0);
    assert_eq!(origin.pulse.in_flight(), 1);
    down.send_data(Bytes::from("lf"), true).expect("open");
    assert_eq!(text(answer.into_body()).await, "half");
    assert_eq!(origin.pulse.in_flight(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_stands_still_is_reset_and_the_connection_is_kept() {
    let mut server = Server::new(plain).await;
    let (upstream, upstreams) = (upstream(), one(&server.url, Http2::Always));
    let terms = Terms {
        limits: CallLimits {
            idle_timeout: Some(Duration::from_secs(10)),
            ..CallLimits::default()
        },
        ..TERMS
    };
    let (answer, mut down) = tokio::join!(call_one_of(&upstream, &upstreams, get("/"), terms), async {
        let mut stream = server.stream().await;
        let mut down = stream
            .respond
            .send_response(Response::new(()), false)
            .expect("open");
        down.send_data(Bytes::from("half"), false).expect("open");
        down
    });
    let mut body = answer.expect("answered").into_body();
    body.frame().await.expect("a frame").expect("data");
    let error = body.frame().await.expect("a frame").expect_err("broken off");
    assert!(matches!(error, UpstreamBodyError::Idle));
    drop(body);
    let reset = std::future::poll_fn(|cx| down.poll_reset(cx)).await;
    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
    let calling = call_one_of(&upstream, &upstreams, get("/"), TERMS);
    let (answer, ()) = tokio::join!(calling, async { server.stream().await.answer("hi") });
    assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
    assert_eq!(server.connections.get(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn calls_under_way_end_at_an_address_that_is_gone_and_then_its_connection_does() {
    let (mut old, mut new) = (Server::new(plain).await, Server::new(plain).await);
    let address = |server: &Server| -> SocketAddr {
        let address = server.url.strip_prefix("http://").expect("a url");
        address.parse().expect("an address")
    };
    let names = Names::default();
    names.become_(&[address(&old)]);
    let upstream = names.upstream();
    let upstreams = over_http2(&["http://api.example".to_owned()]);
    let (answer, mut stream) = tokio::join!(call_one_of(&upstream, &upstreams, get("/"), TERMS), async {
        let mut stream = old.stream().await;
        assert_eq!(stream.request.uri().to_string(), "http://api.example/");
        let mut down = stream
            .respond
            .send_response(Response::new(()), false)
            .expect("open");
        down.send_data(Bytes::from("ha"), false).expect("open");
        down
    });
    names.become_(&[address(&new)]);
    look_up().await;
    let calling = call_one_of(&upstream, &upstreams, get("/"), TERMS);
    let (second, ()) = tokio::join!(calling, async { new.stream().await.answer("hi") });
    assert_eq!(text(second.expect("answered").into_body()).await, "hi");
    stream.send_data(Bytes::from("lf"), true).expect("still open");
    assert_eq!(text(answer.expect("answered").into_body()).await, "half");
    old.is_left_alone().await;
}

#[tokio::test(flavor = "local")]
async fn a_unix_socket_may_speak_http2() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let upstreams = Arc::new(Upstreams {
        addresses: vec![UpstreamAddress::Unix(path)],
        ..Upstreams::clone(&over_http2(&[]))
    });
    let upstream = upstream();
    let serving = async {
        let (io, _) = listener.accept().await.expect("a connection");
        let mut http2 = h2::server::handshake(io).await.expect("HTTP/2");
        let (request, mut respond) = http2.accept().await.expect("a stream").expect("whole");
        assert_eq!(request.uri().to_string(), "http://localhost/a?b");
        respond.send_response(Response::new(()), true).expect("open");
        let _ = http2.accept().await;
    };
    let answer = tokio::select! {
        answer = call_one_of(&upstream, &upstreams, get("/a?b"), TERMS) => answer,
        () = serving => panic!("the connection was closed"),
    };
    assert_eq!(answer.expect("answered").status(), StatusCode::OK);
}

#[tokio::test(flavor = "local")]
async fn an_upstream_of_http2_alone_is_asked_for_its_health_over_it() {
    for (status, outcome) in [
        (StatusCode::OK, Ok(())),
        (StatusCode::NO_CONTENT, Ok(())),
        (StatusCode::SERVICE_UNAVAILABLE, Err("it answers 503".to_owned())),
    ] {
        let mut server = Server::new(plain).await;
        let endpoint = endpoint(&format!("{}/base", server.url), Http2::Always);
        let asked = check();
        let (found, ()) = tokio::join!(health::checked(&endpoint, &asked), async {
            let mut stream = server.stream().await;
            let request = &stream.request;
            assert_eq!(request.method(), Method::GET);
            assert_eq!(request.uri().to_string(), format!("{}/healthz?deep", server.url));
            let names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["user-agent"]);
            let mut answer = Response::new(());
            *answer.status_mut() = status;
            // never the rest
            stream.respond.send_response(answer, false).expect("open");
        });
        assert_eq!(found, outcome);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_check_over_http2_of_what_speaks_something_else_or_nothing_is_bad() {
    let script = Script::new().await;
    let asked = HealthCheck {
        timeout: Duration::from_secs(1),
        ..check()
    };
    let silent = endpoint(&script.url(), Http2::Always);
    assert_eq!(
        health::checked(&silent, &asked).await,
        Err("no answer in time".to_owned())
    );
    let (found, ()) = tokio::join!(health::checked(&silent, &asked), async {
        drop(script.accept().await);
        let mut conversation = script.accept().await;
        conversation.say("HTTP/1.1 200 OK\r\n\r\n").await;
    });
    assert_eq!(
        found,
        Err("it closed the connection without an answer".to_owned())
    );
}
