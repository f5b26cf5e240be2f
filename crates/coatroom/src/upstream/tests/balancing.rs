//! Several upstreams, names, health checks, against upstreams that follow a script. Names are
//! answered by the test, never by the system.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use coatroom_core::config::{HealthCheck, UpstreamAddress, UpstreamTls};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;

use super::super::directory::Directory;
use super::super::endpoint::{At, Endpoint, Health, Site};
use super::super::health;
use super::super::resolve::{EVERY, Resolver};
use super::*;

pub(super) const HI: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

pub(super) fn several(urls: &[String]) -> Arc<Upstreams> {
    let url = |url: &String| UpstreamAddress::Url(url.parse().expect("a url"));
    Arc::new(Upstreams {
        addresses: urls.iter().map(url).collect(),
        health_check: None,
        tls: None,
        http2: Http2::Negotiated,
    })
}

/// An upstream that answers `hi` to everything, and counts.
pub(super) fn friendly(script: Script) -> Rc<Cell<usize>> {
    let count = Rc::<Cell<usize>>::default();
    let calls = count.clone();
    tokio::task::spawn_local(async move {
        loop {
            let Conversation(stream) = script.accept().await;
            let calls = calls.clone();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                calls.set(calls.get() + 1);
                async move {
                    let _ = request.into_body().collect().await;
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("hi"))))
                }
            });
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(serving);
        }
    });
    count
}

/// A port on which nobody listens.
pub(super) async fn nobody() -> String {
    Script::new().await.url()
}

// ---------------------------------------------------------------- choosing

#[tokio::test(flavor = "local")]
async fn a_dead_upstream_costs_no_call_whatever_it_carries_and_is_left_alone_then() {
    let script = Script::new().await;
    let upstreams = several(&[nobody().await, script.url(), nobody().await]);
    let calls = friendly(script);
    let upstream = upstream();
    for round in 0..20 {
        let (sender, upload) = upload();
        sender.send(data("body")).expect("wanted");
        drop(sender);
        for request in [get("/"), post(Full::new(Bytes::from("body"))), upload] {
            let answer = call_one_of(&upstream, &upstreams, request, TERMS).await;
            assert_eq!(text(answer.expect("answered").into_body()).await, "hi", "{round}");
        }
    }
    assert_eq!(calls.get(), 60);
    let state = upstream.core.pool.connector.upstreams().remove(0);
    let ejections: Vec<_> = state.endpoints.iter().map(|one| one.ejections).collect();
    assert_eq!(ejections, [1, 0, 1]);
}

#[tokio::test(flavor = "local")]
async fn when_all_fail_all_are_tried_once_and_the_first_to_come_back_is_found() {
    let gone = Script::new().await;
    let address = gone.address;
    drop(gone);
    let upstreams = several(&[nobody().await, format!("http://{address}")]);
    let upstream = upstream();
    for _ in 0..5 {
        let answer = call_one_of(&upstream, &upstreams, get("/"), TERMS).await;
        assert_eq!(unavailable(answer), "no connection: connection refused");
    }
    let listener = TcpListener::bind(address).await.expect("the port is free again");
    let calls = friendly(Script { listener, address });
    let answer = call_one_of(&upstream, &upstreams, get("/"), TERMS).await;
    assert!(answer.is_ok(), "although both are left out for a second");
    assert_eq!(calls.get(), 1);
}

#[tokio::test(flavor = "local")]
async fn what_an_upstream_may_have_seen_is_never_sent_to_another() {
    let (one, other) = (Script::new().await, Script::new().await);
    let upstreams = several(&[one.url(), other.url()]);
    for says in ["", "HTTP/1.1 200", "nonsense\r\n\r\n"] {
        for request in [get("/"), post(Full::new(Bytes::from("body")))] {
            let upstream = upstream();
            let (answer, ()) = tokio::join!(call_one_of(&upstream, &upstreams, request, TERMS), async {
                let mut conversation = tokio::select! {
                    conversation = one.accept() => conversation,
                    conversation = other.accept() => conversation,
                };
                conversation.head().await;
                conversation.say(says).await;
            });
            unavailable(answer);
            assert!(one.is_alone() && other.is_alone(), "{says}");
        }
    }
}

#[tokio::test(flavor = "local")]
async fn an_apis_own_errors_are_passed_on_and_no_reason_to_leave_it_out() {
    let (sick, well) = (Script::new().await, Script::new().await);
    let upstreams = several(&[sick.url(), well.url()]);
    friendly(well);
    tokio::task::spawn_local(async move {
        loop {
            let mut conversation = sick.accept().await;
            conversation
                .serve("HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    });
    let upstream = upstream();
    let mut refused = 0;
    for _ in 0..100 {
        let answer = call_one_of(&upstream, &upstreams, get("/"), TERMS).await;
        refused += usize::from(answer.expect("answered").status() == StatusCode::SERVICE_UNAVAILABLE);
    }
    assert!(refused > 20, "{refused} of 100");
    let state = upstream.core.pool.connector.upstreams().remove(0);
    assert!(state.endpoints.iter().all(|one| one.ejections == 0));
}

#[tokio::test(flavor = "local")]
async fn calls_under_way_are_spread_and_a_websocket_is_one_until_it_closes() {
    let upstreams = several(&["http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned()]);
    let upstream = upstream();
    let balancer = upstream.core.pool.balancer(&upstreams);
    let leases: Vec<_> = (0..50)
        .map(|_| balancer.choose(&[]).expect("an address"))
        .collect();
    let first = balancer.origins().remove(0);
    let of_first = leases
        .iter()
        .filter(|lease| Rc::ptr_eq(&lease.origin, &first))
        .count();
    assert_eq!(of_first, 25, "of two the less busy one is called");
    drop(leases);
    let mut seen = [0, 0];
    for _ in 0..200 {
        let lease = balancer.choose(&[]).expect("an address");
        seen[usize::from(Rc::ptr_eq(&lease.origin, &first))] += 1;
    }
    assert!(
        seen.iter().all(|count| *count > 50),
        "{seen:?}: idle ones take turns at random"
    );

    let script = Script::new().await;
    let (mut client, server) = websocket(&upstream, &script).await;
    let balancer = super::balancer(&upstream, &script.url(), Http2::Negotiated);
    let origin = balancer.origins().remove(0);
    assert_eq!(origin.pulse.in_flight(), 1);
    drop(server);
    client.rest().await;
    tokio::task::yield_now().await;
    assert_eq!(origin.pulse.in_flight(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upstream_that_hangs_is_left_out_after_three_calls() {
    let (hangs, well) = (Script::new().await, Script::new().await);
    let upstreams = several(&[hangs.url(), well.url()]);
    friendly(well);
    let upstream = upstream();
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
}

#[tokio::test(flavor = "local")]
async fn host_is_that_of_the_url_whichever_address_is_called_in_the_end() {
    let script = Script::new().await;
    let port = script.address.port();
    let dead = nobody().await;
    let upstreams = several(&[dead, format!("http://localhost:{port}/base")]);
    for _ in 0..10 {
        let upstream = upstream();
        let (answer, head) = tokio::join!(call_one_of(&upstream, &upstreams, get("/"), TERMS), async {
            script.accept().await.serve(HI).await
        });
        answer.expect("answered");
        assert_eq!(head.matches("host: ").count(), 1, "{head}");
        assert!(head.contains(&format!("host: localhost:{port}\r\n")), "{head}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_unix_socket_is_an_upstream() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let upstreams = Arc::new(Upstreams {
        addresses: vec![UpstreamAddress::Unix(path.clone())],
        health_check: None,
        tls: None,
        http2: Http2::Negotiated,
    });
    let upstream = upstream();
    let (answer, head) = tokio::join!(call_one_of(&upstream, &upstreams, get("/a?b"), TERMS), async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = vec![0; 1000];
        let count = stream.read(&mut head).await.expect("a head");
        stream.write_all(HI.as_bytes()).await.expect("written");
        head.truncate(count);
        String::from_utf8(head).expect("text")
    });
    assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
    assert_eq!(head, "GET /a?b HTTP/1.1\r\nhost: localhost\r\n\r\n");
    drop(listener);
    std::fs::remove_file(path).expect("removed");
    let upstream = super::upstream();
    unavailable(call_one_of(&upstream, &upstreams, get("/"), TERMS).await);
}

#[tokio::test(flavor = "local")]
async fn equal_upstreams_share_connections_and_other_settings_do_not() {
    let script = Script::new().await;
    let upstream = upstream();
    let pool = &upstream.core.pool;
    let (one, same) = (several(&[script.url()]), several(&[script.url()]));
    let other = Arc::new(Upstreams {
        tls: Some(UpstreamTls {
            ca: None,
            client: None,
            server_name: Some("a".to_owned()),
        }),
        ..Upstreams::clone(&one)
    });
    let http2 = Arc::new(Upstreams {
        http2: Http2::Always,
        ..Upstreams::clone(&one)
    });
    assert!(Rc::ptr_eq(&pool.balancer(&one), &pool.balancer(&same)));
    assert!(!Rc::ptr_eq(&pool.balancer(&one), &pool.balancer(&http2)));
    assert!(!Rc::ptr_eq(&pool.balancer(&one), &pool.balancer(&other)));
    assert!(Rc::ptr_eq(&pool.balancer(&same), &pool.balancer(&same)));
}

// ---------------------------------------------------------------- names

/// A resolver that answers what it is told, and counts.
#[derive(Clone, Default)]
pub(super) struct Names {
    answer: Arc<Mutex<Option<Vec<SocketAddr>>>>,
    asked: Arc<AtomicUsize>,
}

impl Names {
    pub(super) fn become_(&self, addresses: &[SocketAddr]) {
        *self.answer.lock().expect("no panic") = Some(addresses.to_vec());
    }

    fn fail(&self) {
        *self.answer.lock().expect("no panic") = None;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn upstream(&self) -> Upstream<TestBody> {
        let names = self.clone();
        let resolver: Resolver = Arc::new(move |name, port| {
            assert_eq!((name.as_str(), port), ("api.example", 80));
            names.asked.fetch_add(1, Ordering::Relaxed);
            let answer = names.answer.lock().expect("no panic").clone();
            let answer = answer.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound));
            Box::pin(std::future::ready(answer))
        });
        let connector = Connector {
            directory: Directory::with_resolver(tls(), resolver),
        };
        Upstream::new(connector, CoarseTimer::new(), SessionEnds::new())
    }
}

/// Lets the look-ups that are due run.
pub(super) async fn look_up() {
    tokio::time::advance(EVERY).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn named() -> Arc<Upstreams> {
    several(&["http://api.example".to_owned()])
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn every_address_of_a_name_is_called_and_no_call_looks_it_up() {
    let (one, other) = (Script::new().await, Script::new().await);
    let names = Names::default();
    names.become_(&[one.address, other.address]);
    let calls = [friendly(one), friendly(other)];
    let (upstream, upstreams) = (names.upstream(), named());
    for _ in 0..100 {
        let answer = call_one_of(&upstream, &upstreams, get("/"), TERMS).await;
        assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
    }
    assert!(calls.iter().all(|calls| calls.get() > 20));
    assert_eq!(names.asked(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_name_that_means_another_address_is_noticed_and_old_connections_are_closed() {
    let (old, new) = (Script::new().await, Script::new().await);
    let names = Names::default();
    names.become_(&[old.address]);
    let (upstream, upstreams) = (names.upstream(), named());
    let (answer, mut conversation) =
        tokio::join!(call_one_of(&upstream, &upstreams, get("/"), TERMS), async {
            let mut conversation = old.accept().await;
            let head = conversation.serve(HI).await;
            assert!(head.contains("host: api.example\r\n"));
            conversation
        });
    text(answer.expect("answered").into_body()).await;

    names.fail();
    look_up().await;
    let (answer, ()) = tokio::join!(call_one_of(&upstream, &upstreams, get("/"), TERMS), async {
        conversation.serve(HI).await;
    });
    text(answer.expect("a failing look-up changes nothing").into_body()).await;

    names.become_(&[new.address]);
    look_up().await;
    let (answer, _new) = tokio::join!(call_one_of(&upstream, &upstreams, get("/"), TERMS), async {
        let mut conversation = new.accept().await;
        conversation.serve(HI).await;
        conversation
    });
    text(answer.expect("answered").into_body()).await;
    assert_eq!(conversation.rest().await, b"", "the idle connection was closed");
    assert!(old.is_alone());
    assert_eq!(names.asked(), 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_under_way_ends_at_an_address_that_is_gone_and_its_connection_is_not_kept() {
    let (old, new) = (Script::new().await, Script::new().await);
    let names = Names::default();
    names.become_(&[old.address]);
    let (upstream, upstreams) = (names.upstream(), named());
    let (answer, mut conversation) =
        tokio::join!(call_one_of(&upstream, &upstreams, get("/"), TERMS), async {
            let mut conversation = old.accept().await;
            conversation
                .serve("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
                .await;
            conversation
        });
    names.become_(&[new.address]);
    look_up().await;
    upstream.core.pool.balancer(&upstreams).update();
    conversation.say("lf").await;
    assert_eq!(text(answer.expect("answered").into_body()).await, "half");
    assert_eq!(conversation.rest().await, b"");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_name_that_nobody_knows_is_an_error_until_somebody_does() {
    let script = Script::new().await;
    let names = Names::default();
    let (upstream, upstreams) = (names.upstream(), named());
    for _ in 0..50 {
        let answer = call_one_of(&upstream, &upstreams, get("/"), TERMS).await;
        assert_eq!(unavailable(answer), "its name cannot be looked up");
    }
    assert_eq!(names.asked(), 1, "however many calls fail");
    let trouble = upstream.core.pool.connector.upstreams().remove(0).trouble();
    assert_eq!(trouble.as_deref(), Some("no address of it is known yet"));
    names.become_(&[script.address]);
    friendly(script);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(names.asked(), 2, "those who asked made it hurry");
    let answer = call_one_of(&upstream, &upstreams, get("/"), TERMS).await;
    assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_address_that_refuses_connections_makes_the_look_up_hurry() {
    let (old, new) = (Script::new().await, Script::new().await);
    let names = Names::default();
    names.become_(&[old.address]);
    drop(old);
    let (upstream, upstreams) = (names.upstream(), named());
    unavailable(call_one_of(&upstream, &upstreams, get("/"), TERMS).await);
    names.become_(&[new.address]);
    friendly(new);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(names.asked(), 2);
    let answer = call_one_of(&upstream, &upstreams, get("/"), TERMS).await;
    assert_eq!(text(answer.expect("answered").into_body()).await, "hi");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_look_up_that_hangs_holds_a_call_no_longer_than_connecting_may() {
    let resolver: Resolver = Arc::new(|_, _| Box::pin(std::future::pending()));
    let connector = Connector {
        directory: Directory::with_resolver(tls(), resolver),
    };
    let upstream = Upstream::new(connector, CoarseTimer::new(), SessionEnds::new());
    let terms = Terms {
        connect_timeout: Duration::from_secs(1),
        ..TERMS
    };
    let answer = call_one_of(&upstream, &named(), get("/"), terms).await;
    assert_eq!(
        unavailable(answer),
        "its name was not looked up within `connect_timeout`"
    );
}

// ---------------------------------------------------------------- health

pub(super) fn check() -> HealthCheck {
    HealthCheck {
        path: "/healthz?deep".parse().expect("a path"),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        healthy_threshold: 1,
        unhealthy_threshold: 1,
    }
}

pub(super) fn endpoint(url: &str, http2: Http2) -> Endpoint {
    let upstreams = one(url, http2);
    let site = Site::new(&upstreams.addresses[0], &upstreams, &tls());
    let place = match &site.at {
        At::Fixed(place) => place.clone(),
        named @ At::Name(..) => panic!("{named:?}"),
    };
    Endpoint::new(Arc::new(site), place, Arc::default())
}

#[tokio::test(flavor = "local")]
async fn a_check_is_good_when_it_is_answered_with_success() {
    for (says, outcome) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok(())),
        ("HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nnever the rest",
            Ok(()),
        ),
        ("HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n", Err("it answers 302")),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", Err("it answers 503")),
        ("", Err("it closed the connection without an answer")),
        (
            "nonsense\r\n\r\n",
            Err("it closed the connection without an answer"),
        ),
    ] {
        let (script, check) = (Script::new().await, check());
        let endpoint = endpoint(&format!("{}/base", script.url()), Http2::Negotiated);
        let (found, head) = tokio::join!(health::checked(&endpoint, &check), async {
            script.accept().await.serve(says).await
        });
        assert_eq!(found, outcome.map_err(str::to_owned), "{says}");
        let host = script.address;
        assert_eq!(
            head,
            format!(
                "GET /healthz?deep HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nuser-agent: coatroom-health-check\r\n\r\n"
            )
        );
    }
    let refused = health::checked(&endpoint(&nobody().await, Http2::Always), &check()).await;
    assert_eq!(refused, Err("no connection: connection refused".to_owned()));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_check_that_hangs_is_bad() {
    let script = Script::new().await;
    let found = health::checked(&endpoint(&script.url(), Http2::Negotiated), &check()).await;
    assert_eq!(found, Err("no answer in time".to_owned()));
}

#[tokio::test(flavor = "local")]
async fn what_checks_say_is_sick_is_not_called_unless_all_are() {
    let checked = Arc::new(Upstreams {
        health_check: Some(HealthCheck {
            interval: Duration::from_secs(3600),
            ..check()
        }),
        ..Upstreams::clone(&several(&[
            "http://127.0.0.1:1".to_owned(),
            "http://127.0.0.1:2".to_owned(),
        ]))
    });
    let upstream = upstream();
    let balancer = upstream.core.pool.balancer(&checked);
    let [first, second] = <[_; 2]>::try_from(balancer.origins()).ok().expect("two");
    let called = || {
        let lease = balancer.choose(&[]).expect("an address");
        usize::from(Rc::ptr_eq(&lease.origin, &second))
    };
    let calls = || (0..100).map(|_| called()).sum::<usize>();
    first.endpoint.set_health(Health::Unhealthy);
    assert_eq!(calls(), 100);
    second.endpoint.set_health(Health::Unhealthy);
    assert!((20..80).contains(&calls()), "a wrong suspicion is no outage");
    first.endpoint.set_health(Health::Healthy);
    assert_eq!(calls(), 0);
    let only = balancer
        .choose(std::slice::from_ref(&first))
        .expect("the sick one is left");
    assert!(
        Rc::ptr_eq(&only.origin, &second),
        "before a call fails for want of another"
    );
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn checks_run_beside_the_calls_and_end_with_the_route() {
    let (sick, well) = (Script::new().await, Script::new().await);
    let checked = Arc::new(Upstreams {
        health_check: Some(check()),
        ..Upstreams::clone(&several(&[sick.url(), well.url()]))
    });
    let (well, upstream) = (friendly(well), upstream());
    let balancer = upstream.core.pool.balancer(&checked);
    for round in 1..=3 {
        let (mut conversation, ()) = tokio::join!(sick.accept(), async {
            while well.get() < round {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        conversation.serve("HTTP/1.1 500 Oh\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let state = upstream.core.pool.connector.upstreams().remove(0);
        let health: Vec<_> = state.endpoints.iter().map(|one| one.healthy).collect();
        assert_eq!(health, [Some(false), Some(true)]);
        assert!(
            state
                .trouble()
                .is_some_and(|text| text.starts_with("1 of 2 addresses"))
        );
    }
    let asked = well.get();
    let directory = &upstream.core.pool.connector.directory;
    directory.attend(std::slice::from_ref(&checked));
    directory.attend(&[]);
    assert_eq!(directory.report(), []);
    assert!(
        balancer.choose(&[]).is_some(),
        "a core that still has it can end its calls"
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        well.get() <= asked + 1,
        "nobody is asked for a route that is gone"
    );
}
