//! Raw bytes against the real listener, the real Layer and the real upstream client, with an upstream
//! that logs what it reads: a message with two readings is refused, or is one message for everybody.

use std::net::SocketAddr;

use coatroom::TokenHandler;
use coatroom::upstream::{Connector, Upstream};
use coatroom_core::config::{ApplicationConfig, ProviderConfig, RouteConfig, RouteTargetConfig};
use coatroom_core::seal::{KeyRing, MasterKey};
use coatroom_core::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::Layer as _;

use self::chance::{Chance, cases, report};
use super::raw_upstream::{Message, RawUpstream};
use super::*;
use crate::config::Listen;
use crate::serve::listener::bind;

#[path = "../../../../coatroom-core/tests/attacks/chance.rs"]
mod chance;

/// Coatroom in front of an upstream that logs.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    upstream: RawUpstream,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// What reached the upstream.
pub(super) struct Reached {
    upstream: SocketAddr,
    pub(super) messages: Vec<Message>,
}

pub(super) async fn start() -> Running {
    let upstream = RawUpstream::start().await;
    let provider = ProviderConfig::new("http://127.0.0.1:9", "shop", Secret::new("s"));
    let target = || RouteTargetConfig::Upstream(format!("http://{}", upstream.address));
    let mut open = RouteConfig::new("/", target());
    open.auth = Some("none".to_owned());
    let config = ApplicationConfig::new("shop", "https://shop.example", provider)
        .route(open)
        .route(RouteConfig::new("/api/", target()));
    let application = match config.check() {
        Ok(application) => application,
        Err(problems) => panic!("{problems:?}"),
    };
    let keys = KeyRing::new(vec![MasterKey::generate().expect("a key")]).expect("one is enough");
    let handler = TokenHandler::builder(vec![application], keys)
        .build()
        .expect("it builds");
    let (mut sockets, address) = bind(&Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), 1).expect("bound");
    let (stop, stopped) = watch::channel(false);
    let timer = CoarseTimer::new();
    let connector = Connector::platform().expect("roots");
    let inner = Upstream::new(connector, timer.clone(), handler.session_ends().clone());
    let core = DataCore {
        socket: sockets.remove(0),
        tls: None,
        limits: Limits::default(),
        drain: Duration::from_secs(1),
        stop: stopped,
        timer,
    };
    let serving = tokio::task::spawn_local(serve(core, handler.layer().layer(inner), || {}));
    Running {
        address: address.parse().expect("an address"),
        upstream,
        stop,
        serving,
    }
}

impl Running {
    /// Stops; what reached the upstream by then is all that ever will.
    pub(super) async fn finish(self) -> Reached {
        self.stop.send_replace(true);
        self.serving.await.expect("no panic").expect("a good end");
        let upstream = self.upstream.address;
        Reached {
            upstream,
            messages: self.upstream.finish().await,
        }
    }
}

/// The statuses of the answers to these bytes. A plain last request follows, and then nothing: the
/// connection ends whether or not the bytes are taken, and no message waits for more.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut client = TcpStream::connect(address).await.expect("connected");
    // it may be refused before all of it is read
    let _ = client.write_all(&[bytes, LAST.as_bytes()].concat()).await;
    let _ = client.shutdown().await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer)
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|part| part.get(2..5)?.parse().ok())
        .collect()
}

/// One message with framing that nobody should send.
fn generate(chance: &mut Chance) -> Vec<u8> {
    let end = if chance.once_in(12) {
        *chance.pick(&[&"\n", &"\r", &"\r\r\n"])
    } else {
        "\r\n"
    };
    let mut text = format!(
        "{} {} {}{end}host: shop.example{end}",
        chance.pick(&["POST", "POST", "GET", "PUT", "OPTIONS", "DELETE"]),
        chance.pick(&[
            "/a",
            "/a",
            "/a",
            "/a?b",
            "http://shop.example/a",
            "/a#/api",
            "/a;x"
        ]),
        chance.pick(&[
            "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.9", "http/1.1"
        ]),
    );
    for _ in 0..1 + chance.below(3) {
        let name = *chance.pick(&[
            &"content-length",
            &"transfer-encoding",
            &"Transfer-Encoding",
            &"content_length",
            &"transfer-encoding ",
            &" transfer-encoding",
            &"connection",
            &"expect",
            &"trailer",
            &"content-length\t",
            &"te",
            &"x-a",
        ]);
        let value = *chance.pick(&[
            &"chunked",
            &"chunked",
            &"Chunked",
            &"chunked, chunked",
            &"identity",
            &"gzip, chunked",
            &"chunked;q=1",
            &"\tchunked",
            &"chunked\t",
            &"\"chunked\"",
            &"5",
            &"5",
            &"0",
            &"+5",
            &"5,5",
            &"5, 6",
            &"05",
            &"0x5",
            &"-1",
            &"5 5",
            &"",
            &"close",
            &"keep-alive, content-length, transfer-encoding",
            &"100-continue",
            &"99999999999999999999",
            &"b\r\n c",
            &"b\n content-length: 5",
        ]);
        text += &format!("{name}:{}{value}{end}", chance.pick(&[" ", "", "  ", "\t"]));
    }
    text += end;
    text += &match chance.below(6) {
        0 => String::new(),
        1 => "hello".to_owned(),
        2 => SMUGGLED.to_owned(),
        3 => format!("0\r\n\r\n{SMUGGLED}"),
        4 => {
            let size = *chance.pick(&[
                &"5",
                &"5 ",
                &" 5",
                &"05",
                &"0x5",
                &"+5",
                &"5;x",
                &"5;x=\"\n\"",
                &"5\t",
                &"-5",
                &"fffffffffffffff5",
            ]);
            let end = *chance.pick(&[&"\r\n", &"\r\n", &"\n", &"\r", &"\r\r\n"]);
            format!("{size}{end}hello{end}0{end}{end}{SMUGGLED}")
        }
        _ => format!("5\r\nhello\r\n0\r\nhost: evil.example\r\ncontent-length: 9\r\n\r\n{SMUGGLED}"),
    };
    text.into_bytes()
}

#[tokio::test(flavor = "local")]
async fn no_framing_smuggles_a_request_past_the_layer() {
    let running = start().await;
    let mut chance = Chance::new(0x00c0_a70f);
    let (cases, mut refused) = (cases(1_600), 0);
    let mut left = cases;
    while left > 0 {
        let batch = left.min(64);
        left -= batch;
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..batch {
            let (address, bytes) = (running.address, generate(&mut chance));
            clients.spawn_local(async move { exchange(address, &bytes).await });
        }
        let statuses = clients.join_all().await.concat();
        refused += statuses.iter().filter(|status| **status >= 400).count();
    }
    let reached = running.finish().await;
    report("framing", cases, &reached.wrong());
    let arrived = reached.without_last().len();
    assert!(
        arrived > cases / 10 && refused > cases / 10,
        "{arrived} arrived, {refused} were refused"
    );
}

/// The empty line behind it keeps hyper, which reads on while it waits for an answer, from finding the
/// end of the stream there: it would take the client for gone.
const LAST: &str = "GET /last HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n\r\n";

impl Reached {
    /// What is wrong with it.
    pub(super) fn wrong(&self) -> Vec<String> {
        let wrong = |message| wrong(self.upstream, message);
        self.messages.iter().filter_map(wrong).collect()
    }

    fn without_last(&self) -> Vec<&Message> {
        let is_last = |message: &Message| message.head.starts_with("GET /last ");
        self.messages.iter().filter(|message| !is_last(message)).collect()
    }
}

fn wrong(upstream: SocketAddr, message: &Message) -> Option<String> {
    let one = |name: &str| message.values(name).len() == 1;
    if message.odd {
        return Some(format!("a message with two readings: {message:?}"));
    }
    // only what went through the Layer has these, once
    if !one("x-request-id") || message.values("x-forwarded-host") != ["shop.example"] {
        return Some(format!("a message that was smuggled: {message:?}"));
    }
    if message.values("host") != [upstream.to_string()] {
        return Some(format!("another host: {message:?}"));
    }
    let target = message.head.split(' ').nth(1).unwrap_or_default();
    if !target.starts_with('/') || target.contains('#') || message.head.contains("/api") {
        return Some(format!("target {target}"));
    }
    if message.head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Some(format!("bare line ends: {message:?}"));
    }
    None
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: shop.example\r\nx-mallory: 1\r\n\r\n";

#[tokio::test(flavor = "local")]
async fn ambiguous_bytes_are_refused_or_are_one_message_for_everybody() {
    let post =
        |headers: &str, body: &str| format!("POST /a HTTP/1.1\r\nhost: shop.example\r\n{headers}\r\n{body}");
    // name, bytes, the most that may reach the upstream
    let rows: Vec<(&str, String, usize)> = vec![
        ("sane", post("content-length: 2\r\n", "hi"), 1),
        (
            "sane chunks",
            post("transfer-encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
            1,
        ),
        (
            "two lengths",
            post("content-length: 2\r\ncontent-length: 3\r\n", "hi!"),
            0,
        ),
        ("a list of lengths", post("content-length: 2, 3\r\n", "hi!"), 0),
        ("a signed length", post("content-length: +2\r\n", "hi"), 0),
        ("a hexadecimal length", post("content-length: 0x2\r\n", "hi"), 0),
        ("a negative length", post("content-length: -2\r\n", "hi"), 0),
        (
            "a length that wraps",
            post("content-length: 18446744073709551617\r\n", "h"),
            0,
        ),
        ("an empty length", post("content-length: \r\n", "hi"), 0),
        (
            "chunked twice",
            post("transfer-encoding: chunked, chunked\r\n", "0\r\n\r\n"),
            0,
        ),
        (
            "chunked not last",
            post("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
            0,
        ),
        (
            "an unknown coding",
            post("transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
            0,
        ),
        (
            "a coding behind a vertical tab",
            post("transfer-encoding:\x0bchunked\r\n", "0\r\n\r\n"),
            0,
        ),
        (
            "chunks in HTTP/1.0",
            "POST /a HTTP/1.0\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
            0,
        ),
        (
            "a bare line feed behind a chunk size",
            post("transfer-encoding: chunked\r\n", "2\nhi\r\n0\r\n\r\n"),
            0,
        ),
        (
            "a bare carriage return there",
            post("transfer-encoding: chunked\r\n", "2\rhi\r\n0\r\n\r\n"),
            0,
        ),
        (
            "a line feed in a chunk extension",
            post("transfer-encoding: chunked\r\n", "2;a\nhi\r\n0\r\n\r\n"),
            0,
        ),
        (
            "a chunk longer than said",
            post("transfer-encoding: chunked\r\n", "1\r\nhi\r\n0\r\n\r\n"),
            0,
        ),
        (
            "a chunk size with a sign",
            post("transfer-encoding: chunked\r\n", "+2\r\nhi\r\n0\r\n\r\n"),
            0,
        ),
        (
            "a chunk size with 0x",
            post("transfer-encoding: chunked\r\n", "0x2\r\nhi\r\n0\r\n\r\n"),
            0,
        ),
        (
            "a chunk size that wraps",
            post(
                "transfer-encoding: chunked\r\n",
                "10000000000000002\r\nhi\r\n0\r\n\r\n",
            ),
            0,
        ),
        (
            "a folded header",
            "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-a: b\r\n content-length: 5\r\n\r\n".to_owned(),
            0,
        ),
        (
            "a blank in front of the colon",
            "GET /a HTTP/1.1\r\nhost : shop.example\r\n\r\n".to_owned(),
            0,
        ),
        (
            "a blank in front of the first header",
            "GET /a HTTP/1.1\r\n host: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        (
            "a carriage return in a value",
            "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-a: b\rc: d\r\n\r\n".to_owned(),
            0,
        ),
        (
            "a nul in a value",
            "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-a: b\0c\r\n\r\n".to_owned(),
            0,
        ),
        (
            "a header without a colon",
            "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-a\r\n\r\n".to_owned(),
            0,
        ),
        (
            "two hosts",
            "GET /a HTTP/1.1\r\nhost: shop.example\r\nhost: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        ("no host", "GET /a HTTP/1.1\r\n\r\n".to_owned(), 0),
        (
            "another host in the target",
            "GET http://evil.example/a HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        (
            "an api in an absolute target",
            "GET http://shop.example/api/x HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        (
            "user information in the target",
            "GET http://shop.example@evil.example/a HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        (
            "connect",
            "CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n".to_owned(),
            0,
        ),
        (
            "asterisk",
            "OPTIONS * HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        (
            "two slashes",
            "GET //evil.example/a HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        (
            "a backslash",
            "GET /a\\..\\api HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        (
            "a fragment that is an api",
            "GET /x#/../api HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_owned(),
            1,
        ),
        (
            "a path before a fragment",
            "GET /api/x#/a HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        (
            "a fragment in a query",
            "GET /a?x#/../api HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_owned(),
            1,
        ),
        (
            "a blank in the target",
            "GET /a /api/x HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        (
            "a version that is none",
            "GET /a HTTP/1.2\r\nhost: shop.example\r\n\r\n".to_owned(),
            0,
        ),
        // behind a refused upgrade they are the next request, and go through the Layer as one
        (
            "an upgrade with early bytes",
            format!(
                "GET /a HTTP/1.1\r\nhost: shop.example\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n{SMUGGLED}"
            ),
            2,
        ),
        (
            "an upgrade to h2c",
            format!(
                "GET /a HTTP/1.1\r\nhost: shop.example\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n{SMUGGLED}"
            ),
            1,
        ),
        (
            "a length and chunks, the length shorter",
            post(
                "content-length: 4\r\ntransfer-encoding: chunked\r\n",
                &format!("0\r\n\r\n{SMUGGLED}"),
            ),
            1,
        ),
        (
            "chunks and a length",
            post(
                "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
                &format!("0\r\n\r\n{SMUGGLED}"),
            ),
            1,
        ),
        (
            "a body on a get",
            format!(
                "GET /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {}\r\n\r\n{SMUGGLED}",
                SMUGGLED.len()
            ),
            1,
        ),
        (
            "a connection header that names the length",
            post(
                &format!(
                    "connection: content-length\r\ncontent-length: {}\r\n",
                    SMUGGLED.len()
                ),
                SMUGGLED,
            ),
            1,
        ),
        (
            "a connection header that names the host",
            "GET /a HTTP/1.1\r\nhost: shop.example\r\nconnection: host\r\n\r\n".to_owned(),
            1,
        ),
        (
            "trailers that frame",
            post(
                "transfer-encoding: chunked\r\n",
                "0\r\ncontent-length: 5\r\nhost: evil.example\r\n\r\n",
            ),
            1,
        ),
    ];
    // each has a listener and an upstream of its own, so they can go on at once
    let attacks = rows.iter().map(|(_, bytes, _)| {
        let bytes = bytes.clone();
        tokio::task::spawn_local(async move {
            let running = start().await;
            let statuses = exchange(running.address, bytes.as_bytes()).await;
            (statuses, running.finish().await)
        })
    });
    let attacks: Vec<_> = attacks.collect();
    for ((name, _, most), attack) in rows.iter().zip(attacks) {
        let (statuses, reached) = attack.await.expect("no panic");
        assert_eq!(reached.wrong(), [""; 0], "{name}");
        let messages = reached.without_last();
        assert!(messages.len() <= *most, "{name}: {statuses:?} {messages:?}");
        if name.starts_with("sane") {
            assert_eq!(
                (statuses.as_slice(), messages.len()),
                (&[200, 200][..], 1),
                "{name}"
            );
            assert_eq!(messages[0].body, b"hi", "{name}");
        } else {
            assert!(!statuses.is_empty(), "{name}");
            assert!(*most > 0 || statuses[0] >= 400, "{name}: {statuses:?}");
        }
    }
}
