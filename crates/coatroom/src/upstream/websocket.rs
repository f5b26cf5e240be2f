//! The WebSocket handshake between any two of HTTP/1.1 and HTTP/2 (RFC 6455 §4, RFC 8441).
//!
//! Over HTTP/1.1 it is a `GET` with `Upgrade` and a key that the server proves to have read; over
//! HTTP/2 an extended `CONNECT` without either. Where the two sides differ, this file answers for
//! the missing one: it makes a key and checks the proof, or proves the client's. Subprotocol,
//! extensions and version pass as they are. It checks no `Origin`: the core's guard has.

use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coatroom_core::error::Error;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

/// A handshake on its way to the upstream.
pub(super) struct Handshake {
    /// The client's side, once it is answered.
    pub(super) client: OnUpgrade,
    form: Form,
    /// The key that the client sent over HTTP/1.1.
    client_key: Option<HeaderValue>,
    /// What the upstream is sent over HTTP/1.1 where the client sent no key.
    our_key: Option<HeaderValue>,
}

/// How a side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `GET` with `Upgrade` (RFC 6455 §4.1).
    Upgrade,
    /// Extended `CONNECT` (RFC 8441 §4).
    Connect,
}

/// What the upstream said to the handshake.
pub(super) enum Outcome {
    /// It agreed; the client is to be told so.
    Agreed,
    /// It did not: its answer is an answer like any other.
    Declined,
}

/// Takes the handshake out of a request that the Layer let through; none if it is no WebSocket.
///
/// # Errors
/// [`Error::InvalidRequest`] for one with a body, or of HTTP/1.0. What follows such a head may be
/// a body to one reader and the tunnel's first bytes to another; HTTP/1.0 has no upgrade at all
/// (RFC 9110 §7.8).
pub(super) fn take<B: http_body::Body>(request: &mut Request<B>) -> Result<Option<Handshake>, Error> {
    let form = if *request.method() == Method::CONNECT {
        Form::Connect
    } else if is_websocket(request.headers()) {
        Form::Upgrade
    } else {
        return Ok(None);
    };
    if !request.body().is_end_stream() || request.version() == Version::HTTP_10 {
        return Err(Error::InvalidRequest(
            "a WebSocket begins with a request of HTTP/1.1 or HTTP/2 that has no body",
        ));
    }
    request.extensions_mut().remove::<Protocol>();
    let client_key = match form {
        Form::Upgrade => request.headers().get(SEC_WEBSOCKET_KEY).cloned(),
        Form::Connect => None,
    };
    Ok(Some(Handshake {
        client: hyper::upgrade::on(request),
        form,
        client_key,
        our_key: None,
    }))
}

/// Whether a head speaks of a WebSocket.
fn is_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

impl Handshake {
    /// Makes the request one for an upstream of HTTP/1.1.
    pub(super) fn ask_http1<B>(&mut self, request: &mut Request<B>) -> Result<(), Error> {
        request
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if self.form == Form::Upgrade {
            return Ok(());
        }
        let mut nonce = [0; 16];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Error::Bug("the operating system gives no randomness"))?;
        let key = HeaderValue::from_str(&STANDARD.encode(nonce))
            .map_err(|_| Error::Bug("base64 does not fit into a header"))?;
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        headers
            .entry(SEC_WEBSOCKET_VERSION)
            .or_insert(HeaderValue::from_static("13"));
        self.our_key = Some(key);
        Ok(())
    }

    /// Makes the request one for an upstream of HTTP/2.
    pub(super) fn ask_http2<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        if self.form == Form::Upgrade && self.client_key.is_none() {
            return Err(Error::InvalidRequest("a WebSocket needs `Sec-WebSocket-Key`"));
        }
        *request.method_mut() = Method::CONNECT;
        request
            .extensions_mut()
            .insert(Protocol::from_static("websocket"));
        let headers = request.headers_mut();
        for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_KEY] {
            headers.remove(name);
        }
        Ok(())
    }

    /// Judges the answer of an upstream of HTTP/1.1, and makes it one for the client.
    pub(super) fn judge_http1<T>(&self, response: &mut Response<T>) -> Result<Outcome, Error> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.declined(response.status());
        }
        if !is_websocket(response.headers()) {
            return Err(unavailable("it switched to a protocol nobody asked for"));
        }
        if let Some(key) = &self.our_key {
            let proof = response.headers().get(SEC_WEBSOCKET_ACCEPT);
            if proof.is_none_or(|proof| proof.as_bytes() != accept(key).as_bytes()) {
                return Err(unavailable("it did not read the WebSocket's key"));
            }
        }
        if self.form == Form::Connect {
            *response.status_mut() = StatusCode::OK;
            let headers = response.headers_mut();
            for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING, SEC_WEBSOCKET_ACCEPT] {
                headers.remove(name);
            }
        }
        Ok(Outcome::Agreed)
    }

    /// The same of an upstream of HTTP/2.
    pub(super) fn judge_http2<T>(&self, response: &mut Response<T>) -> Result<Outcome, Error> {
        if response.status() != StatusCode::OK {
            return self.declined(response.status());
        }
        if let (Form::Upgrade, Some(key)) = (self.form, &self.client_key) {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let proof = HeaderValue::from_str(&accept(key))
                .map_err(|_| Error::Bug("base64 does not fit into a header"))?;
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, WEBSOCKET);
            headers.insert(SEC_WEBSOCKET_ACCEPT, proof);
        }
        Ok(Outcome::Agreed)
    }

    /// A success that is no agreement would be one to a client that sent `CONNECT`.
    fn declined(&self, status: StatusCode) -> Result<Outcome, Error> {
        if status.is_success() && self.form == Form::Connect {
            return Err(unavailable("it answered a WebSocket with something else"));
        }
        Ok(Outcome::Declined)
    }
}

/// The proof that a server has read the key (RFC 6455 §4.2.2). SHA-1 protects nothing here.
pub(super) fn accept(key: &HeaderValue) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(context.finish())
}

fn unavailable(reason: &str) -> Error {
    Error::UpstreamUnavailable(reason.to_owned())
}

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn handshake(form: Form) -> (Handshake, Request<Empty<bytes::Bytes>>) {
        let mut request = match form {
            Form::Upgrade => Request::get("/chat")
                .header("upgrade", "WebSocket")
                .header("sec-websocket-key", KEY),
            Form::Connect => Request::connect("/chat").version(Version::HTTP_2),
        }
        .body(Empty::new())
        .expect("a request");
        let handshake = take(&mut request).expect("good").expect("a WebSocket");
        (handshake, request)
    }

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Response<()> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(()).expect("a response")
    }

    #[test]
    fn the_proof_is_that_of_the_rfc() {
        // RFC 6455 §1.3
        assert_eq!(accept(&HeaderValue::from_static(KEY)), PROOF);
    }

    #[test]
    fn a_request_becomes_what_the_upstream_speaks() {
        let (mut shake, mut request) = handshake(Form::Connect);
        shake.ask_http1(&mut request).expect("possible");
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.headers()[UPGRADE], "websocket");
        assert_eq!(request.headers()[CONNECTION], "upgrade");
        assert_eq!(request.headers()[SEC_WEBSOCKET_VERSION], "13");
        let key = request.headers()[SEC_WEBSOCKET_KEY].as_bytes();
        assert_eq!(STANDARD.decode(key).expect("base64").len(), 16);

        let (shake, mut request) = handshake(Form::Upgrade);
        shake.ask_http2(&mut request).expect("possible");
        assert_eq!(request.method(), Method::CONNECT);
        assert!(request.extensions().get::<Protocol>().is_some());
        assert!(request.headers().is_empty());

        let (shake, mut request) = handshake(Form::Upgrade);
        request.headers_mut().remove(SEC_WEBSOCKET_KEY);
        let keyless = Handshake {
            client_key: None,
            ..shake
        };
        assert!(matches!(
            keyless.ask_http2(&mut request),
            Err(Error::InvalidRequest(_))
        ));
    }

    #[test]
    fn an_answer_of_http_1_1_agrees_only_with_the_right_proof_and_protocol() {
        let up = ("upgrade", "websocket");
        for (name, form, status, headers, wanted) in [
            ("relayed", Form::Upgrade, 101, vec![up], Ok(101)),
            (
                "another protocol",
                Form::Upgrade,
                101,
                vec![("upgrade", "h2c")],
                Err(()),
            ),
            ("no proof", Form::Connect, 101, vec![up], Err(())),
            (
                "a wrong proof",
                Form::Connect,
                101,
                vec![up, ("sec-websocket-accept", "x")],
                Err(()),
            ),
            ("not switched", Form::Connect, 200, vec![], Err(())),
            ("not switched, relayed", Form::Upgrade, 200, vec![], Ok(200)),
            ("refused", Form::Connect, 403, vec![], Ok(403)),
        ] {
            let (mut shake, mut request) = handshake(form);
            shake.ask_http1(&mut request).expect("possible");
            let mut response = answer(status, &headers);
            let outcome = shake.judge_http1(&mut response);
            let got = outcome.map(|_| response.status().as_u16()).map_err(|_| ());
            assert_eq!(got, wanted, "{name}");
        }
        let (mut shake, mut request) = handshake(Form::Connect);
        shake.ask_http1(&mut request).expect("possible");
        let proof = accept(&request.headers()[SEC_WEBSOCKET_KEY]);
        let proved = [
            up,
            ("sec-websocket-accept", &*proof),
            ("sec-websocket-protocol", "a"),
        ];
        let mut response = answer(101, &proved);
        assert!(matches!(shake.judge_http1(&mut response), Ok(Outcome::Agreed)));
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().len(), 1, "the subprotocol");
    }

    #[test]
    fn an_answer_of_http_2_is_proved_to_a_client_of_http_1_1() {
        let (shake, _) = handshake(Form::Upgrade);
        let mut response = answer(200, &[]);
        assert!(matches!(shake.judge_http2(&mut response), Ok(Outcome::Agreed)));
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], PROOF);
        let (shake, _) = handshake(Form::Connect);
        let mut response = answer(204, &[]);
        assert!(shake.judge_http2(&mut response).is_err());
        let mut response = answer(401, &[]);
        assert!(matches!(shake.judge_http2(&mut response), Ok(Outcome::Declined)));
    }
}
