//! Clients that stall, trickle, crowd the listener, or lie about a proxy, against a real data core.

use coatroom_core::peers::{PeerHeader, TrustedPeers};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::tests::{rest, say, start_behind, until};
use super::*;
use crate::serve::admission::testing::doors;
use crate::serve::admission::{Reason, Rules};

pub(super) fn behind_proxies(peers: &[&str], max_per_address: Option<u32>) -> Admission {
    Admission::new(Rules {
        max: 100,
        max_per_address,
        peers: TrustedPeers::parse(peers, PeerHeader::default()).expect("a list"),
        proxy_protocol: true,
    })
}

/// A PROXY protocol header for this client.
pub(super) fn header(client: [u8; 4]) -> Vec<u8> {
    let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c";
    [&start[..], &client, &[10, 0, 0, 1, 0, 1, 0, 2]].concat()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "local")]
async fn the_client_behind_a_load_balancer_is_known() {
    let admission = behind_proxies(&["127.0.0.1"], None);
    let running = start_behind(admission.clone());
    let mut client = running.connect().await;
    client.write_all(&header([192, 0, 2, 7])).await.expect("written");
    say(&mut client, GET).await;
    let answer = rest(&mut client).await;
    assert!(answer.ends_with("HTTP/1.1 Some(192.0.2.7) false"), "{answer}");

    // with HTTP/2 right behind it
    let mut client = running.connect().await;
    let preface = [&header([192, 0, 2, 8])[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].concat();
    client.write_all(&preface).await.expect("written");
    let mut settings = [0; 9];
    client.read_exact(&mut settings).await.expect("its settings");
    assert_eq!(settings[3], 4, "a SETTINGS frame");
}

#[tokio::test(flavor = "local")]
async fn a_connection_without_the_header_or_from_an_unlisted_peer_is_closed() {
    for (name, peers, bytes, reason) in [
        (
            "no header",
            "127.0.0.1",
            GET.as_bytes().to_vec(),
            Reason::ProxyProtocol,
        ),
        (
            "version 1",
            "127.0.0.1",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
            Reason::ProxyProtocol,
        ),
        (
            "an unlisted peer",
            "10.0.0.0/8",
            header([192, 0, 2, 7]),
            Reason::UnlistedPeer,
        ),
    ] {
        let admission = behind_proxies(&[peers], None);
        let running = start_behind(admission.clone());
        let mut client = running.connect().await;
        let _ = client.write_all(&bytes).await;
        let _ = client.write_all(GET.as_bytes()).await;
        assert_eq!(rest(&mut client).await, "", "{name}");
        assert_eq!(admission.counted(reason), 1, "{name}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_header_that_does_not_come_is_not_waited_for_for_ever() {
    let admission = behind_proxies(&["127.0.0.1"], None);
    let running = start_behind(admission.clone());
    let mut client = running.connect().await;
    client.write_all(b"\r\n\r\n").await.expect("written");
    let start = Instant::now();
    assert_eq!(rest(&mut client).await, "");
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    assert_eq!(admission.counted(Reason::ProxyProtocol), 1);
}

#[tokio::test(flavor = "local")]
async fn an_address_may_have_so_many_connections_and_no_more() {
    let admission = behind_proxies(&["127.0.0.1"], Some(2));
    let running = start_behind(admission.clone());
    let ask = async |client: [u8; 4]| {
        let mut stream = running.connect().await;
        stream.write_all(&header(client)).await.expect("written");
        say(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut first = [0; 1];
        let answered = stream.read(&mut first).await.is_ok_and(|count| count == 1);
        (answered, stream)
    };
    let first = ask([192, 0, 2, 7]).await;
    let second = ask([192, 0, 2, 7]).await;
    assert!(first.0 && second.0);
    assert!(!ask([192, 0, 2, 7]).await.0);
    assert!(ask([192, 0, 2, 8]).await.0, "another one");
    assert_eq!(admission.counted(Reason::Address), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let admission = doors(100);
    let running = start_behind(admission.clone());
    let mut client = running.connect().await;
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
    // what had been on its way may come, and then it breaks off
    let mut taken = 0;
    let mut buffer = vec![0; 65_536];
    while let Ok(count @ 1..) = client.read(&mut buffer).await {
        taken += count;
    }
    assert!(taken < 64 * 1024 * 1024);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn when_all_places_are_taken_those_that_do_nothing_make_room() {
    // one place is the listener's own, for whoever comes next
    let admission = doors(16);
    let running = start_behind(admission.clone());
    let mut idle = Vec::new();
    for number in 0..16 {
        let mut client = running.connect().await;
        match number % 3 {
            0 => {}
            1 => say(&mut client, "GET / HTTP/1.1\r\nhost: a\r\nx: ").await,
            _ => {
                say(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                until(&mut client, "false").await;
            }
        }
        idle.push(client);
    }
    let start = Instant::now();
    let mut client = running.connect().await;
    say(&mut client, GET).await;
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert!(admission.counted(Reason::Crowded) > 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn while_there_are_places_nobody_has_to_make_room() {
    let admission = doors(100);
    let running = start_behind(admission.clone());
    let mut client = running.connect().await;
    for _ in 0..3 {
        say(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        until(&mut client, "false").await;
        tokio::time::sleep(Duration::from_secs(50)).await;
    }
    assert_eq!(admission.counted(Reason::Crowded), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_in_flight_keeps_its_place() {
    let admission = doors(16);
    let running = start_behind(admission.clone());
    let mut busy = running.connect().await;
    say(&mut busy, "GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    running.gate.entered.notified().await;
    let mut idle = Vec::new();
    for _ in 0..30 {
        idle.push(running.connect().await);
    }
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(admission.counted(Reason::Crowded) > 0, "others had to go");
    running.gate.opened.notify_one();
    let answer = until(&mut busy, "false").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_never_asks_is_counted_and_closed() {
    let admission = doors(100);
    let running = start_behind(admission.clone());
    let mut client = running.connect().await;
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(admission.counted(Reason::NoRequest), 1);
}
