//! The whole process, but for its signals: data threads, control runtime, admin listener.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;

use super::*;

struct Running {
    addresses: Addresses,
    stop: mpsc::UnboundedSender<()>,
    process: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Stop for mpsc::UnboundedReceiver<()> {
    async fn signal(&mut self) {
        if self.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

fn loopback(port: u16) -> Listen {
    Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn config() -> ServeConfig {
    ServeConfig {
        listen: loopback(0),
        admin: Some(loopback(0)),
        danger_public_admin: false,
        unix_mode: None,
        handover: None,
        passed: PassedSockets::default(),
        watchdog: None,
        tls: None,
        workers: 2,
        drain: Duration::from_secs(25),
        limits: Limits::default(),
        admission: admission::testing::doors(1000),
    }
}

fn run_with<M, S>(config: ServeConfig, make_service: M) -> Result<Running, String>
where
    M: Fn(Core) -> S + Send + Sync + 'static,
    S: HttpService,
{
    let (stop, stopped) = mpsc::unbounded_channel();
    let (send, addresses) = std::sync::mpsc::channel();
    let process = std::thread::spawn(move || {
        let control = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let parts = |_: &Handle| {
            Ok(Parts {
                make_service,
                status: Arc::new(Vec::new),
                finished: Arc::new(|| Box::pin(std::future::ready(()))),
                metrics: Arc::new(|| "coatroom_up 1\n".to_owned()),
            })
        };
        serve(config, &control, parts, stopped, |addresses| {
            send.send(addresses).expect("somebody waits");
        })
    });
    match addresses.recv() {
        Ok(addresses) => Ok(Running {
            addresses,
            stop,
            process,
        }),
        Err(_) => {
            let error = process.join().expect("no panic").expect_err("it never listened");
            Err(format!("{error:#}"))
        }
    }
}

/// Answers with the core's index.
fn start(config: ServeConfig) -> Result<Running, String> {
    run_with(config, |core| {
        tower::service_fn(move |_: Request<Incoming>| async move {
            Ok::<_, Infallible>(Response::new(Body::from(format!("core {}", core.index))))
        })
    })
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    )
    .expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    answer
}

/// Asks until it says so; each question is answered, so this does not wait for time.
fn ready(admin: &str) -> String {
    loop {
        let answer = get(admin, "/readyz");
        if answer.starts_with("HTTP/1.1 200 ") {
            return answer;
        }
        assert!(answer.contains("starting"), "{answer}");
    }
}

#[test]
fn it_serves_until_the_signal_and_ends_well() {
    let running = start(config()).expect("listening");
    let admin = running.addresses.admin.clone().expect("an admin listener");
    assert!(ready(&admin).contains(r#""listener":{"state":"ready"}"#));
    for _ in 0..20 {
        let answer = get(&running.addresses.listen, "/");
        assert!(
            answer.ends_with("core 0") || answer.ends_with("core 1"),
            "{answer}"
        );
    }
    assert!(get(&admin, "/metrics").ends_with("coatroom_up 1\n"));
    assert!(get(&admin, "/healthz").starts_with("HTTP/1.1 200 "));
    running.stop.send(()).expect("it runs");
    running.process.join().expect("no panic").expect("a good end");
    assert!(TcpStream::connect(&running.addresses.listen).is_err());
}

#[test]
fn while_draining_it_is_not_ready_and_a_second_signal_cuts() {
    let (entered, waiting) = std::sync::mpsc::channel();
    let running = run_with(config(), move |_| {
        let entered = entered.clone();
        tower::service_fn(move |_: Request<Incoming>| {
            entered.send(()).expect("the test waits");
            std::future::pending::<Result<Response<Body>, Infallible>>()
        })
    })
    .expect("listening");
    let admin = running.addresses.admin.clone().expect("an admin listener");
    ready(&admin);
    let mut busy = TcpStream::connect(&running.addresses.listen).expect("connected");
    busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .expect("written");
    waiting.recv().expect("in flight");

    running.stop.send(()).expect("it runs");
    loop {
        let answer = get(&admin, "/readyz");
        if answer.starts_with("HTTP/1.1 503 ") {
            assert!(answer.contains("draining"), "{answer}");
            break;
        }
    }
    running.stop.send(()).expect("it runs");
    running.process.join().expect("no panic").expect("a good end");
}

#[test]
fn a_unix_socket_is_removed_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("coatroom.sock");
    let running = start(ServeConfig {
        listen: Listen::Unix(path.clone()),
        admin: None,
        ..config()
    })
    .expect("listening");
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("connected");
    write!(stream, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    assert!(answer.contains("core "), "{answer}");
    running.stop.send(()).expect("it runs");
    running.process.join().expect("no panic").expect("a good end");
    assert!(!path.exists());
}

#[test]
fn what_cannot_be_bound_or_built_is_an_error_that_names_the_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    for (name, config, message) in [
        (
            "listen",
            ServeConfig {
                listen: loopback(port),
                ..config()
            },
            "`listen`: cannot listen on 127.0.0.1",
        ),
        (
            "admin",
            ServeConfig {
                admin: Some(loopback(port)),
                ..config()
            },
            "`admin`: cannot listen on 127.0.0.1",
        ),
    ] {
        let error = start(config).err().expect(name);
        assert!(error.starts_with(message), "{name}: {error}");
        assert!(error.contains("already in use"), "{error}");
    }
}

#[test]
fn how_a_thread_ended_is_told_once_also_when_it_panicked() {
    let (told, mut endings) = mpsc::unbounded_channel();
    let ending = |told| Ending { told, outcome: None };
    let (good, bad, panicking) = (ending(told.clone()), ending(told.clone()), ending(told));
    good.of(|| Ok(()));
    bad.of(|| anyhow::bail!("its own words"));
    let _ = std::thread::spawn(move || panicking.of(|| panic!("as the test wants it"))).join();
    let mut next = || {
        endings
            .try_recv()
            .expect("told")
            .map_err(|error| error.to_string())
    };
    assert_eq!(next(), Ok(()));
    assert_eq!(next(), Err("its own words".to_owned()));
    assert_eq!(next(), Err("a data core panicked".to_owned()));
    assert!(endings.try_recv().is_err());
}

#[test]
fn a_data_core_that_dies_takes_the_process_with_it() {
    let (die, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(Some(told));
    let running = run_with(config(), move |core: Core| {
        if core.index == 1 {
            let told = told.lock().expect("unshared").take().expect("asked once");
            let _ = told.recv();
            panic!("as the test wants it");
        }
        tower::service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Body::empty())) })
    })
    .expect("listening");
    die.send(()).expect("it waits");
    let error = running
        .process
        .join()
        .expect("no panic")
        .expect_err("not a good end");
    assert_eq!(error.to_string(), "a data core panicked");
}

fn with_handover(path: &std::path::Path) -> ServeConfig {
    ServeConfig {
        handover: Some(path.to_owned()),
        ..config()
    }
}

#[test]
fn a_process_that_fails_on_the_way_changes_nothing_and_one_that_serves_takes_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("handover.sock");
    let first = start(with_handover(&path)).expect("listening");
    // One that was told that another serves asks nobody to wait any more, and gives nothing.
    let goes_on = |why: &str| {
        let received = Received::ask(&path).expect(why);
        let sockets = received.expect(why).take("listen", "127.0.0.1:0");
        assert_eq!(sockets.len(), 2, "{why}");
        assert!(
            get(&first.addresses.listen, "/").contains("core "),
            "{why}: somebody answers"
        );
        let admin = first.addresses.admin.as_deref().expect("an admin listener");
        ready(admin);
    };
    goes_on("nobody came");

    // Its own socket has this name first.
    let in_the_way = folder
        .path()
        .join(format!("handover.sock.{}", std::process::id()));
    std::fs::create_dir(&in_the_way).expect("made");
    let error = start(with_handover(&path)).err().expect("it cannot wait there");
    assert!(error.starts_with("`handover`: cannot wait at "), "{error}");
    std::fs::remove_dir(&in_the_way).expect("removed");
    goes_on("the one after cannot be waited for");

    let error = run_with(with_handover(&path), |core: Core| {
        assert!(core.index != 1, "as the test wants it");
        tower::service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Body::empty())) })
    })
    .err()
    .expect("one core does not start");
    assert_eq!(error, "a data core panicked");
    assert!(!in_the_way.exists(), "nothing is left of it");
    goes_on("a core of the one after did not start");

    let second = start(with_handover(&path)).expect("listening");
    first.process.join().expect("no panic").expect("a good end");
    assert_eq!(second.addresses.listen, first.addresses.listen);
    assert!(get(&second.addresses.listen, "/").contains("core "));
    second.stop.send(()).expect("it runs");
    second.process.join().expect("no panic").expect("a good end");
}

#[tokio::test(start_paused = true)]
async fn cores_are_waited_for_until_all_have_started_one_has_ended_or_the_time_is_over() {
    for (name, started, ending, message) in [
        ("all", 2, None, Ok(())),
        (
            "one never does",
            1,
            None,
            Err("the data cores did not start within 20 s"),
        ),
        ("one fails", 1, Some(Err("its own words")), Err("its own words")),
        (
            "one fails after it started",
            2,
            Some(Err("its own words")),
            Err("its own words"),
        ),
        (
            "one ends",
            2,
            Some(Ok(())),
            Err("a data core ended although nobody asked it to"),
        ),
    ] {
        let readiness = admin::Readiness::new(2, Arc::new(Vec::new));
        let (told, mut endings) = mpsc::unbounded_channel();
        for _ in 0..started {
            readiness.core_started();
        }
        if let Some(ending) = ending {
            told.send(ending.map_err(anyhow::Error::msg))
                .expect("somebody waits");
        }
        let outcome = cores_started(&readiness, &mut endings).await;
        assert_eq!(
            outcome.map_err(|error| error.to_string()),
            message.map_err(str::to_owned),
            "{name}"
        );
    }
}
