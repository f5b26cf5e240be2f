//! Raw bytes against the real listener, the real Layer and the real upstream client, with an upstream
//! that logs what it reads: a message with two readings is refused, or is one message for everybody.
//!
//! What the upstream logs is compared with what the corpus says, and with what the Layer handed on.

use std::net::SocketAddr;
use std::sync::LazyLock;

use coatroom::TokenHandler;
use coatroom::upstream::{Connector, Upstream};
use coatroom_core::config::{ApplicationConfig, ProviderConfig, RouteConfig, RouteTargetConfig};
use coatroom_core::seal::{KeyRing, MasterKey};
use coatroom_core::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::Layer as _;

use self::chance::{Chance, cases, report};
use super::corpus::{self, Case};
use super::raw_upstream::{self, Answers, Message, RawUpstream};
use super::recorder::{Recorder, Seen};
use super::*;
use crate::config::Listen;
use crate::serve::listener::bind;

#[path = "../../../../coatroom-core/tests/attacks/chance.rs"]
pub(super) mod chance;

/// Coatroom in front of an upstream that logs.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) upstream: RawUpstream,
    seen: Seen,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// What reached the upstream.
pub(super) struct Reached {
    upstream: SocketAddr,
    /// Those that came to their end.
    pub(super) messages: Vec<Message>,
    /// Those that did not.
    pub(super) broken: Vec<Message>,
    /// What the Layer handed on, method, target and body, as far as it is a whole message.
    handed_on: Vec<Vec<u8>>,
    /// The same, of what the client did not wait for: it may have arrived.
    given_up: Vec<Vec<u8>>,
}

pub(super) async fn start() -> Running {
    start_with(Rc::new(raw_upstream::plain)).await
}

/// With an upstream that answers as a test says.
pub(super) async fn start_with(answers: Answers) -> Running {
    let upstream = RawUpstream::start(answers).await;
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
    // nothing here is encrypted, and to load the platform's roots takes its time
    static CONNECTOR: LazyLock<Connector> = LazyLock::new(|| Connector::platform().expect("roots"));
    let connector = CONNECTOR.clone();
    let inner = Upstream::new(connector, timer.clone(), handler.session_ends().clone());
    let core = DataCore {
        admission: crate::serve::admission::testing::doors(1000),
        socket: sockets.remove(0),
        tls: None,
        limits: Limits::default(),
        drain: Duration::from_secs(1),
        stop: stopped,
        timer,
    };
    let (inner, seen) = Recorder::new(inner);
    let serving = tokio::task::spawn_local(serve(core, handler.layer().layer(inner), || {}));
    Running {
        address: address.parse().expect("an address"),
        upstream,
        seen,
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
        let (messages, broken) = self
            .upstream
            .finish()
            .await
            .into_iter()
            .partition(|message| message.whole);
        Reached {
            upstream,
            messages,
            broken,
            handed_on: self.seen.whole(),
            given_up: self.seen.given_up(),
        }
    }
}

/// The statuses of the answers to these bytes.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let answer = send(address, bytes).await;
    String::from_utf8_lossy(&answer)
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|part| part.get(2..5)?.parse().ok())
        .collect()
}

/// All that comes back for these bytes. A plain last request follows, and then nothing: the
/// connection ends whether or not the bytes are taken, and no message waits for more.
pub(super) async fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect(address).await.expect("connected");
    // it may be refused before all of it is read
    let _ = client.write_all(&[bytes, LAST.as_bytes()].concat()).await;
    let _ = client.shutdown().await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    answer
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
        let mut found: Vec<String> = self.messages.iter().filter_map(wrong).collect();
        // what broke off on the way has a head of ours as well, as far as it came
        let whole_heads = self
            .broken
            .iter()
            .filter(|message| message.head.ends_with("\r\n\r\n"));
        found.extend(whole_heads.filter_map(wrong));
        // they may overtake one another
        let (mut lost, mut unexpected) = (self.handed_on.clone(), Vec::new());
        let mut given_up = self.given_up.clone();
        for message in self.summaries() {
            let took = |from: &mut Vec<Vec<u8>>| {
                let index = from.iter().position(|known| *known == message);
                index.map(|index| from.swap_remove(index)).is_some()
            };
            if !took(&mut lost) && !took(&mut given_up) {
                unexpected.push(message);
            }
        }
        if !lost.is_empty() || !unexpected.is_empty() {
            let (lost, unexpected) = (shown(&lost), shown(&unexpected));
            found.push(format!(
                "handed on but lost: {lost}; arrived but not handed on: {unexpected}"
            ));
        }
        found
    }

    pub(super) fn summaries(&self) -> Vec<Vec<u8>> {
        self.messages.iter().map(Message::summary).collect()
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

/// Bytes for a message of a test.
fn shown(messages: &[Vec<u8>]) -> String {
    let shown = |message: &Vec<u8>| {
        let text = message.escape_ascii().to_string();
        text.get(..200).map(|start| format!("{start}…")).unwrap_or(text)
    };
    let shown: Vec<String> = messages.iter().map(shown).collect();
    if shown.is_empty() {
        "-".to_owned()
    } else {
        shown.join(", ")
    }
}

/// What is wrong with what became of a case.
async fn judge(case: &Case) -> Vec<String> {
    let running = start().await;
    let statuses = exchange(running.address, &case.bytes).await;
    let reached = running.finish().await;
    let mut wrong = reached.wrong();
    let messages = reached.summaries();
    if statuses != case.statuses || messages != case.read {
        wrong.push(format!(
            "{statuses:?} and {}, expected {:?} and {}",
            shown(&messages),
            case.statuses,
            shown(&case.read),
        ));
    }
    wrong
        .iter()
        .map(|what| format!("{}: {what}", case.name))
        .collect()
}

#[tokio::test(flavor = "local")]
async fn ambiguous_bytes_are_refused_or_are_one_message_for_everybody() {
    let families = corpus::requests();
    let cases: Vec<Case> = families.into_iter().flat_map(|family| family.cases).collect();
    let (count, mut wrong) = (cases.len(), Vec::new());
    // each has a listener and an upstream of its own, so they can go on at once
    let mut cases = cases.into_iter();
    loop {
        let mut judging = tokio::task::JoinSet::new();
        for case in cases.by_ref().take(32) {
            judging.spawn_local(async move { judge(&case).await });
        }
        if judging.is_empty() {
            break;
        }
        wrong.extend(judging.join_all().await.concat());
    }
    report("corpus of requests", count, &wrong);
}
