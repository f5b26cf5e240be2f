//! A provider on loopback that answers what a test tells it to, over TLS if need be.
//!
//! One thread for each connection and one request on each; the threads end with the test's process.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// What a path is answered with.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A status, a `Location`, a content type and a body.
    Whole(u16, Option<String>, &'static str, String),
    /// Nothing, until the client has had enough.
    Hang,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self::Whole(status, None, "text/plain", String::new())
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Whole(status, None, "application/json", body.to_string())
    }

    pub(crate) fn page(status: u16, text: &str) -> Self {
        Self::Whole(status, None, "text/html", format!("<html>{text}</html>"))
    }

    pub(crate) fn redirect(location: &str) -> Self {
        Self::Whole(302, Some(location.to_owned()), "text/plain", String::new())
    }
}

/// A server whose answers can be changed; as it starts, a good provider.
pub(crate) struct Scripted {
    pub(crate) origin: String,
    /// Of a server with TLS, in PEM: it is its own authority.
    pub(crate) certificate: Option<String>,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    metadata: Mutex<Value>,
    seen: Mutex<Vec<String>>,
    clock: Mutex<Option<SystemTime>>,
    is_stopped: AtomicBool,
    port: u16,
}

/// An origin where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    format!("http://localhost:{port}")
}

impl Scripted {
    pub(crate) fn start() -> Self {
        Self::serve(None)
    }

    /// With a certificate for these names that ends with the last year.
    pub(crate) fn start_tls(names: &[&str], last_year: i32) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a server");
        let mut server = Self::serve(Some(Arc::new(config)));
        server.certificate = Some(certificate.pem());
        server
    }

    /// Answers a path so from now on.
    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        self.shared
            .answers
            .lock()
            .expect("ours")
            .insert(path.to_owned(), answer);
    }

    /// Changes a member of the metadata document.
    pub(crate) fn change(&self, member: &str, value: Value) {
        self.shared.metadata.lock().expect("ours")[member] = value;
    }

    /// The metadata document as it is.
    pub(crate) fn metadata(&self) -> Value {
        self.shared.metadata.lock().expect("ours").clone()
    }

    /// What its `Date` says from now on.
    pub(crate) fn set_clock(&self, now: SystemTime) {
        *self.shared.clock.lock().expect("ours") = Some(now);
    }

    /// The request lines that came.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().expect("ours").clone()
    }

    /// Nobody listens any more once this returns.
    pub(crate) fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        // the listener's thread drops it after this connection, so wait until one is refused
        for _ in 0..1_000 {
            if TcpStream::connect(("127.0.0.1", self.shared.port)).is_err() {
                return;
            }
        }
        panic!("it still listens");
    }

    fn serve(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://localhost:{port}");
        let shared = Arc::new(Shared {
            answers: Mutex::default(),
            metadata: Mutex::new(metadata(&origin)),
            seen: Mutex::default(),
            clock: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            port,
        });
        let server = Self {
            origin,
            certificate: None,
            shared: shared.clone(),
        };
        server.answer("/token", Answer::json(400, &json!({"error": "invalid_grant"})));
        let back = "http://localhost:8080/auth/callback?error=login_required&state=x";
        server.answer("/authorize", Answer::redirect(back));
        // RFC 7515 appendix A.3
        let key = json!({"kty": "EC", "crv": "P-256", "kid": "a", "use": "sig",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        server.answer("/jwks", Answer::json(200, &json!({"keys": [key]})));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if shared.is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(socket), shared, tls) = (socket, shared.clone(), tls.clone()) else {
                    continue;
                };
                std::thread::spawn(move || shared.converse(socket, tls));
            }
        });
        server
    }
}

impl Shared {
    fn converse(&self, socket: TcpStream, tls: Option<Arc<ServerConfig>>) {
        let _ = socket.set_read_timeout(Some(Duration::from_secs(20)));
        match tls {
            None => self.talk(socket),
            Some(config) => {
                if let Ok(connection) = ServerConnection::new(config) {
                    self.talk(StreamOwned::new(connection, socket));
                }
            }
        }
    }

    fn talk(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        if !stream.read_line(&mut line).is_ok_and(|length| length > 0) {
            return;
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            if stream.read_line(&mut header).is_err() || header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        self.seen.lock().expect("ours").push(line.trim().to_owned());
        let target = line.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let scripted = self.answers.lock().expect("ours").get(path).cloned();
        let answer = match scripted {
            Some(answer) => answer,
            None if path == "/.well-known/openid-configuration" => {
                Answer::json(200, &self.metadata.lock().expect("ours"))
            }
            None => Answer::status(404),
        };
        let Answer::Whole(status, location, kind, text) = answer else {
            // until the other side leaves
            let _ = stream.read(&mut [0; 1]);
            return;
        };
        let location = location.map_or_else(String::new, |location| format!("location: {location}\r\n"));
        let date = self
            .clock
            .lock()
            .expect("ours")
            .map_or_else(SystemTime::now, |set| set);
        let date = http_date(date);
        let text = if line.starts_with("HEAD ") {
            String::new()
        } else {
            text
        };
        let answer = format!(
            "HTTP/1.1 {status} OK\r\n{location}date: {date}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{text}",
            text.len()
        );
        let stream = stream.get_mut();
        let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
    }
}

fn metadata(origin: &str) -> Value {
    json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "jwks_uri": format!("{origin}/jwks"),
        "end_session_endpoint": format!("{origin}/logout"),
        "revocation_endpoint": format!("{origin}/revoke"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "profile"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        "authorization_response_iss_parameter_supported": true,
    })
}

/// The preferred form of a date (RFC 9110 §5.6.7), by the civil calendar.
fn http_date(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let weekday =
        ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from(days % 7).expect("small")];
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    let names = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let (day, month) = (left + 1, names[month]);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}
