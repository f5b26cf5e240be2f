//! Deadlines of a body, the number of calls of a route, and TLS of its own, against upstreams that
//! follow a script.

use coatroom_core::config::{
    ApplicationConfig, PrivateKeyPem, RouteConfig, RouteTargetConfig, UpstreamConfig, UpstreamTls,
};

use super::balancing::{HI, nobody, several};
use super::http2::{Server, plain};
use super::*;

// ---------------------------------------------------------------- limits

fn limited(limits: CallLimits) -> Terms {
    Terms { limits, ..TERMS }
}

fn idle_timeout(seconds: u64) -> Terms {
    limited(CallLimits {
        idle_timeout: Some(Duration::from_secs(seconds)),
        ..CallLimits::default()
    })
}

fn total_timeout(seconds: u64) -> Terms {
    limited(CallLimits {
        total_timeout: Some(Duration::from_secs(seconds)),
        ..CallLimits::default()
    })
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_stands_still_is_broken_off_and_one_that_moves_is_not() {
    let (script, upstream) = (Script::new().await, upstream());
    let url = script.url();
    let calling = call_with(&upstream, &url, get("/"), idle_timeout(10));
    let (answer, mut conversation) = tokio::join!(calling, async {
        let mut conversation = script.accept().await;
        conversation
            .serve("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
            .await;
        conversation
    });
    let mut body = answer.expect("answered").into_body();
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        let (frame, ()) = tokio::join!(body.frame(), async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            conversation.say("x").await;
        });
        frame.expect("a frame").expect("data");
    }
    // a slow client is not the upstream's fault
    tokio::time::sleep(Duration::from_secs(60)).await;
    conversation.say("y").await;
    let frame = body.frame().await.expect("a frame").expect("data");
    assert_eq!(frame.data_ref().map(|data| &data[..]), Some(&b"y"[..]));
    assert!(began.elapsed() > Duration::from_secs(80));
    let error = body.frame().await.expect("a frame").expect_err("broken off");
    assert!(matches!(error, UpstreamBodyError::Idle));
    assert_eq!(conversation.rest().await, b"");
    assert_eq!(idle(&upstream, &url), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_event_stream_may_be_silent_for_hours_unless_the_route_says_otherwise() {
    let (script, upstream) = (Script::new().await, upstream());
    let (mut body, mut conversation) = event_stream(&upstream, &script).await;
    let (frame, ()) = tokio::join!(body.frame(), async {
        tokio::time::sleep(Duration::from_secs(5 * 60 * 60)).await;
        conversation.say("data: 2\n\n").await;
    });
    frame.expect("a frame").expect("data");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_ends_with_its_total_timeout_before_and_after_the_head() {
    let (script, upstream) = (Script::new().await, upstream());
    let url = script.url();
    let (answer, _conversation) = tokio::join!(
        call_with(&upstream, &url, get("/"), total_timeout(5)),
        script.accept()
    );
    assert_eq!(answer.err(), Some(Error::UpstreamTimeout));

    let (answer, mut conversation) =
        tokio::join!(call_with(&upstream, &url, get("/"), total_timeout(5)), async {
            let mut conversation = script.accept().await;
            conversation
                .serve("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n")
                .await;
            conversation
        });
    let mut body = answer.expect("answered").into_body();
    let reading = async {
        loop {
            match body.frame().await.expect("not the end") {
                Ok(_) => {}
                Err(error) => break error,
            }
        }
    };
    let error = tokio::select! {
        error = reading => error,
        () = async {
            for _ in 0..90 {
                conversation.say("x").await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        } => panic!("it went on"),
    };
    assert!(matches!(error, UpstreamBodyError::TooLong));
}

fn matched(url: &str, most: u32) -> Matched {
    matched_over(&[url], most, None)
}

fn matched_over(urls: &[&str], most: u32, http2: Option<bool>) -> Matched {
    let urls = urls.iter().map(|url| (*url).to_owned()).collect();
    let mut route = RouteConfig::new("/api/", RouteTargetConfig::Upstreams(urls));
    route.upstream = UpstreamConfig {
        max_concurrent: Some(most),
        http2,
        ..UpstreamConfig::default()
    };
    let application = ApplicationConfig::proxy("shop", "https://shop.example.com").route(route);
    let application = application.check().map_err(|problems| format!("{problems:?}"));
    Matched {
        application: Arc::new(application.expect("good")),
        route: 0,
    }
}

#[tokio::test(flavor = "local")]
async fn a_route_with_all_its_calls_under_way_refuses_more_on_every_core() {
    let script = Script::new().await;
    let connector = connector();
    let core = || Upstream::new(connector.clone(), CoarseTimer::new(), SessionEnds::new());
    let (mut one, mut other) = (core(), core());
    let matched = matched(&script.url(), 2);
    let request = |matched: &Matched| {
        let mut request = get("/");
        request.extensions_mut().insert(matched.clone());
        request
    };
    let first = one.call(request(&matched));
    let (second, mut conversation) = tokio::join!(other.call(request(&matched)), async {
        let mut conversation = script.accept().await;
        conversation
            .serve("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
            .await;
        conversation
    });
    let second = second.expect("answered");
    for core in [&mut one, &mut other] {
        assert_eq!(
            core.call(request(&matched)).await.err(),
            Some(Error::UpstreamBusy)
        );
    }
    conversation.say("lf").await;
    assert_eq!(text(second.into_body()).await, "half");
    let third = other.call(request(&matched));
    assert_eq!(one.call(request(&matched)).await.err(), Some(Error::UpstreamBusy));
    drop(first);
    let more = self::matched(&script.url(), 3);
    let fourth = one.call(request(&more));
    let fifth = one.call(request(&more));
    assert!(
        matches!(one.call(request(&more)).await.err(), Some(Error::UpstreamBusy)),
        "a reload with another limit counts the calls before it"
    );
    drop((third, fourth, fifth));
    let again = one.call(request(&matched));
    assert!(!matches!(again.state, State::Refused(_)), "all others are over");
    let (again, _) = tokio::join!(again, async { script.accept().await.serve(HI).await });
    again.expect("answered");
}

#[tokio::test(flavor = "local")]
async fn calls_that_share_a_connection_are_counted_one_by_one() {
    let (mut server, mut upstream) = (Server::new(plain).await, upstream());
    let matched = matched_over(&[&server.url], 2, Some(true));
    let mut call = || {
        let mut request = get("/");
        request.extensions_mut().insert(matched.clone());
        upstream.call(request)
    };
    let (first, second) = (call(), call());
    let (first, second, (mut half, mut whole)) = tokio::join!(first, second, async {
        let mut begin = async || {
            let mut stream = server.stream().await;
            let head = stream.respond.send_response(Response::new(()), false);
            head.expect("open")
        };
        (begin().await, begin().await)
    });
    assert_eq!(call().await.err(), Some(Error::UpstreamBusy));
    for down in [&mut half, &mut whole] {
        down.send_data(Bytes::from("hi"), true).expect("open");
    }
    assert_eq!(text(first.expect("answered").into_body()).await, "hi");
    let third = call();
    assert_eq!(call().await.err(), Some(Error::UpstreamBusy));
    drop(second);
    let fourth = call();
    assert!(!matches!(fourth.state, State::Refused(_)));
    drop(third);
    assert_eq!(server.connections.get(), 1);
}

#[tokio::test(flavor = "local")]
async fn a_call_keeps_its_place_when_it_goes_to_another_address() {
    let (mut server, dead) = (Server::new(plain).await, nobody().await);
    let matched = matched_over(&[&dead, &server.url], 1, Some(true));
    let mut moved = 0;
    for _ in 0..20 {
        let mut upstream = upstream();
        let mut call = || {
            let mut request = get("/");
            request.extensions_mut().insert(matched.clone());
            upstream.call(request)
        };
        let (first, mut down) = tokio::join!(call(), async {
            let mut stream = server.stream().await;
            let head = stream.respond.send_response(Response::new(()), false);
            head.expect("open")
        });
        assert_eq!(call().await.err(), Some(Error::UpstreamBusy));
        down.send_data(Bytes::from("hi"), true).expect("open");
        drop(first);
        let state = upstream.core.pool.connector.upstreams().remove(0);
        moved += state.endpoints.iter().map(|one| one.ejections).sum::<u64>();
    }
    assert!(moved > 0, "some went to the dead one first");
}

// ---------------------------------------------------------------- tls

/// A server's or client's certificate by an authority, as PEM and as rustls wants it.
struct Signed {
    pem: String,
    key_pem: String,
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
}

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signed");
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str) -> Signed {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Signed {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            key: key.serialize_der().try_into().expect("a key"),
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_private_authority_and_a_client_certificate_are_used_and_needed() {
    let (ours, theirs, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let server = theirs.sign("api.internal");
    let client = ours.sign("coatroom");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ours.der.clone()).expect("a root");
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .expect("a verifier");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(server.chain, server.key)
        .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let script = Script::new().await;
    let url = format!("https://127.0.0.1:{}", script.address.port());

    let ours = || Some((client.pem.clone(), PrivateKeyPem::new(client.key_pem.as_str())));
    let name = || Some("api.internal".to_owned());
    let own = |ca: &str, client, server_name| UpstreamTls {
        ca: Some(ca.to_owned()),
        client,
        server_name,
    };
    for (case, tls, good) in [
        ("all of it", Some(own(&theirs.pem, ours(), name())), true),
        (
            "no client certificate",
            Some(own(&theirs.pem, None, name())),
            false,
        ),
        (
            "another authority",
            Some(own(&strangers.pem, ours(), name())),
            false,
        ),
        ("the name of the url", Some(own(&theirs.pem, ours(), None)), false),
        ("nothing of its own", None, false),
        ("no usable authority", Some(own("hunter2", ours(), name())), false),
    ] {
        let upstreams = Arc::new(Upstreams {
            tls,
            ..Upstreams::clone(&several(std::slice::from_ref(&url)))
        });
        let upstream = upstream();
        let serving = async {
            loop {
                let Ok(mut stream) = acceptor.accept(script.accept().await.0).await else {
                    continue;
                };
                let mut head = [0; 1000];
                let count = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..count]).into_owned();
                assert!(head.contains(&format!("host: {}\r\n", script.address)), "{head}");
                let _ = stream.write_all(HI.as_bytes()).await;
            }
        };
        let answer = tokio::select! {
            answer = call_one_of(&upstream, &upstreams, get("/"), TERMS) => answer,
            () = serving => unreachable!("it serves for ever"),
        };
        match answer {
            Ok(_) => assert!(good, "{case}"),
            Err(error) => assert!(
                !good && matches!(error, Error::UpstreamUnavailable(_)),
                "{case}: {error}"
            ),
        }
    }
}
