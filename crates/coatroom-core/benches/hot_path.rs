//! What one API call costs in the core: from the request's head to the headers that the upstream
//! gets, and from the upstream's to those that the browser gets.
//!
//! Two ways to ask. Without arguments Criterion measures times. With `count TOKEN CALLS` it only
//! makes so many calls, and with `prepare TOKEN CALLS` everything but the calls: under a counter of
//! instructions the difference is what the calls cost (`bench/instructions.js`). A token's name with
//! `/ES256` or `/EdDSA` behind it is one that is bound to a key (RFC 9449). Key, randomness and
//! time are fixed, so the counts are the same at each run. It opens no socket and reads no clock.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coatroom_core::config::{Application, ApplicationConfig, ProviderConfig, RouteConfig, RouteTargetConfig};
use coatroom_core::cookie::{Cookies, Jar, Kind};
use coatroom_core::flow::{AnchorMemo, Decision};
use coatroom_core::guard::{self, Cors};
use coatroom_core::handler::Handler;
use coatroom_core::head::Head;
use coatroom_core::headers::{self, ClientFacts};
use coatroom_core::oauth::dpop::{DPOP, Unaddressed};
use coatroom_core::rng::Rng;
use coatroom_core::route::{self, Resolved, Target};
use coatroom_core::seal::{KeyRing, MasterKey};
use coatroom_core::secret::Secret;
use coatroom_core::time::UnixTime;
use criterion::{BatchSize, BenchmarkId, Criterion};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

/// The access tokens: short and opaque, a usual JWT, and one that needs two cookies.
const TOKENS: [&str; 3] = ["43b", "1.2k", "3.5k"];
const NOW: UnixTime = UnixTime(1_800_000_000);
/// As long as those of common servers.
const NONCE: &str = "eyJ7S_zG.eyJH0-Z.HX4w-7v";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [what @ ("count" | "prepare"), token, calls] => {
            let calls = calls.parse().expect("the third argument is a number of calls");
            repeat(&Shop::new(token), *what == "count", calls);
        }
        _ => times(),
    }
}

/// Makes and drops the headers of so many calls; `with_calls` also makes the calls.
fn repeat(shop: &Shop, with_calls: bool, calls: u32) {
    for _ in 0..calls {
        let mut request = black_box(&shop.request).clone();
        let mut answer = black_box(&shop.answer).clone();
        if with_calls {
            shop.call(&mut request, &mut answer, &mut AnchorMemo::default());
        }
        black_box((&request, &answer));
    }
}

fn times() {
    // The workspace's target folder; the default is one inside the crate.
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/criterion"));
    let mut criterion = Criterion::default()
        .output_directory(folder)
        .configure_from_args();
    for token in TOKENS {
        let shop = Shop::new(token);
        let mut group = criterion.benchmark_group("hot path");
        group.bench_function(BenchmarkId::new("whole call", token), |bencher| {
            bencher.iter_batched_ref(
                || (shop.request.clone(), shop.answer.clone()),
                |(request, answer)| shop.call(request, answer, &mut AnchorMemo::default()),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(
            BenchmarkId::new("whole call, the cookie opened before", token),
            |bencher| {
                let mut memo = AnchorMemo::default();
                bencher.iter_batched_ref(
                    || (shop.request.clone(), shop.answer.clone()),
                    |(request, answer)| shop.call(request, answer, &mut memo),
                    BatchSize::SmallInput,
                );
            },
        );
        group.bench_function(BenchmarkId::new("read the cookie", token), |bencher| {
            bencher.iter(|| {
                let jar = Jar::of(black_box(&shop.request));
                let opened = shop.cookies.open(Kind::Access, &jar, &shop.keys).next();
                opened.expect("it opens").plaintext().len()
            });
        });
        group.bench_function(BenchmarkId::new("decide", token), |bencher| {
            bencher.iter(|| shop.decide(black_box(&shop.request)).session());
        });
        group.bench_function(BenchmarkId::new("clean the request", token), |bencher| {
            bencher.iter_batched_ref(
                || (shop.request.clone(), shop.decide(&shop.request)),
                |(request, decision)| shop.clean(decision, request),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
    for algorithm in ["ES256", "EdDSA"] {
        let shop = Shop::new(&format!("1.2k/{algorithm}"));
        let mut group = criterion.benchmark_group("hot path");
        for (name, remembers) in [
            ("whole call with a proof", false),
            ("whole call with a proof, the cookie opened before", true),
        ] {
            group.bench_function(BenchmarkId::new(name, algorithm), |bencher| {
                let mut memo = AnchorMemo::default();
                bencher.iter_batched_ref(
                    || (shop.request.clone(), shop.answer.clone()),
                    |(request, answer)| match remembers {
                        true => shop.call(request, answer, &mut memo),
                        false => shop.call(request, answer, &mut AnchorMemo::default()),
                    },
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
    let shop = Shop::new("43b");
    let rules = shop
        .decide(&shop.request)
        .response_rules(&shop.application.routes[0], Cors::default());
    criterion.bench_function("hot path/clean the answer", |bencher| {
        bencher.iter_batched_ref(
            || shop.answer.clone(),
            |answer| headers::clean_response(answer, StatusCode::OK, &rules),
            BatchSize::SmallInput,
        );
    });
    criterion.final_summary();
}

/// An application with one API, and one call to it by somebody who is signed in.
struct Shop {
    application: Arc<Application>,
    keys: Arc<KeyRing>,
    cookies: Cookies,
    handler: Handler,
    /// As Chromium sends it.
    request: HeaderMap,
    /// As an API answers it.
    answer: HeaderMap,
}

impl Shop {
    fn new(token: &str) -> Self {
        let provider = ProviderConfig::new("https://login.example.com", "shop", Secret::new("secret"));
        let shop = ApplicationConfig::new("shop", "https://shop.example.com", provider)
            .route(RouteConfig::new("/api/", RouteTargetConfig::Inner));
        let application = Arc::new(shop.check().expect("a good configuration"));
        let key = MasterKey::parse("coatroom-key-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let keys = Arc::new(KeyRing::new(vec![key.expect("a key")]).expect("one key"));
        let (id, path) = (&application.id, &application.base_path);
        let cookies = Cookies::new(id, path, &application.callback).expect("a good path");
        let handler = Handler::new(Arc::clone(&application), Arc::clone(&keys)).expect("a good path");

        let (token, algorithm) = match token.split_once('/') {
            Some((token, algorithm)) => (token, Some(algorithm)),
            None => (token, None),
        };
        let (token, packed) = token_of(token);
        let scheme = if algorithm.is_some() { "DPoP" } else { "Bearer" };
        let lines = cookies.seal(
            Kind::Access,
            &anchor(&packed, algorithm),
            Duration::from_secs(3600),
            &keys,
            &Jar::new([]),
            &mut Fixed,
        );
        let pairs: Vec<_> = lines
            .expect("it fits")
            .iter()
            .filter_map(|line| line.to_str().ok()?.split(';').next())
            .map(str::to_owned)
            .collect();
        let cookie = format!(
            "theme=dark; _ga=GA1.1.1234567890.1234567890; {}",
            pairs.join("; ")
        );
        let mut request = header_map(REQUEST);
        request.insert(header::COOKIE, HeaderValue::try_from(cookie).expect("ASCII"));
        let shop = Self {
            application,
            keys,
            cookies,
            handler,
            request,
            answer: header_map(ANSWER),
        };
        let (mut request, mut answer) = (shop.request.clone(), shop.answer.clone());
        shop.call(&mut request, &mut answer, &mut AnchorMemo::default());
        let sent = request.get(header::AUTHORIZATION).expect("a token goes upstream");
        assert_eq!(
            sent.as_bytes(),
            format!("{scheme} {token}").as_bytes(),
            "the session's token"
        );
        assert!(!request.contains_key(header::COOKIE), "no cookie goes upstream");
        shop
    }

    fn head<'a>(headers: &'a HeaderMap) -> Head<'a, HeaderMap> {
        Head {
            method: &Method::GET,
            target: "/api/orders?page=2",
            authority: None,
            protocol: None,
            headers,
        }
    }

    /// In the order of a shell: see `coatroom/src/api.rs`.
    fn call(&self, request: &mut HeaderMap, answer: &mut HeaderMap, memo: &mut AnchorMemo) {
        let head = Self::head(request);
        let application = route::find_application([&*self.application], &head).expect("our host");
        let cors = Cors::of(application, &head);
        headers::check_framing(request).expect("no body");
        let target = Target::parse(head.target).expect("a plain path");
        assert!(guard::preflight(application, &head, &target.path).is_none());
        let Ok(Resolved::Proxy { route, .. }) = route::resolve(application, head.method, &target.path) else {
            unreachable!("the path is the API's");
        };
        black_box(route.forwarded_target(&target));
        let outcome = self
            .handler
            .api(route, &head, NOW, memo, None)
            .expect("signed in");
        let mut decision = outcome.decided().expect("no store");
        let proofs = self.clean(&mut decision, request);
        if let Some(proofs) = proofs {
            let proofs = proofs.at(application, route, "/api/orders").expect("one address");
            let proof = proofs.proof(&Method::GET, Some(NONCE), NOW, &mut Fixed);
            request.insert(DPOP, proof.expect("it signs"));
        }
        let rules = decision.response_rules(route, cors);
        headers::clean_response(answer, StatusCode::OK, &rules);
    }

    fn decide(&self, request: &HeaderMap) -> Decision<'_> {
        let route = &self.application.routes[0];
        let memo = &mut AnchorMemo::default();
        let outcome = self.handler.api(route, &Self::head(request), NOW, memo, None);
        outcome.expect("signed in").decided().expect("no store")
    }

    fn clean(&self, decision: &mut Decision<'_>, request: &mut HeaderMap) -> Option<Unaddressed> {
        let client = ClientFacts {
            address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        };
        let route = &self.application.routes[0];
        let written = decision.write_request(request, &self.application, route, &client);
        written.expect("the token fits into a header")
    }
}

/// A token, and the same as it stands in a record: whole, or a JWT's three segments as bytes.
fn token_of(name: &str) -> (String, Vec<u8>) {
    let text = |length| URL_SAFE_NO_PAD.encode(vec![0xa5; length]);
    match name {
        "43b" => raw(&text(32)),
        "3.5k" => raw(&text(2625)),
        "1.2k" => {
            let segments = [vec![0xa5; 48], vec![0x5a; 594], vec![0x99; 256]];
            let mut packed = vec![3, 48];
            packed.extend_from_slice(&segments[0]);
            // 594 in LEB128
            packed.extend_from_slice(&[0xd2, 0x04]);
            packed.extend_from_slice(&segments[1]);
            packed.extend_from_slice(&segments[2]);
            let token = segments.map(|segment| URL_SAFE_NO_PAD.encode(segment)).join(".");
            (token, packed)
        }
        _ => panic!("the second argument is one of {TOKENS:?}"),
    }
}

fn raw(token: &str) -> (String, Vec<u8>) {
    (token.to_owned(), [&[0], token.as_bytes()].concat())
}

/// The record of an anchor: see `session.rs`, and for the key `seal/proof_key.rs`.
fn anchor(packed: &[u8], algorithm: Option<&str>) -> Vec<u8> {
    let mut record = minicbor::Encoder::new(Vec::new());
    record
        .array(if algorithm.is_some() { 12 } else { 4 })
        .and_then(|record| record.bytes(&[7; 16]))
        .and_then(|record| record.u64(NOW.0.saturating_add(40_000)))
        .and_then(|record| record.u64(NOW.0.saturating_add(300)))
        .and_then(|record| record.bytes(packed))
        .expect("writing into a vector cannot fail");
    if let Some(algorithm) = algorithm {
        for _ in 4..11 {
            record.null().expect("writing into a vector cannot fail");
        }
        let mut key = [0x5a; 33];
        key[0] = if algorithm == "ES256" { 1 } else { 2 };
        record.bytes(&key).expect("writing into a vector cannot fail");
    }
    record.into_writer()
}

fn header_map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

/// The same bytes always.
struct Fixed;

impl Rng for Fixed {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(0x5a);
    }
}

const REQUEST: &[(&str, &str)] = &[
    ("host", "shop.example.com"),
    ("connection", "keep-alive"),
    ("sec-ch-ua-platform", "\"Linux\""),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    ("accept", "application/json"),
    ("token-handler-version", "1"),
    ("sec-ch-ua", "\"Chromium\";v=\"142\", \"Not_A Brand\";v=\"99\""),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-dest", "empty"),
    ("referer", "https://shop.example.com/orders"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9"),
];

const ANSWER: &[(&str, &str)] = &[
    ("server", "nginx"),
    ("date", "Fri, 15 Jan 2027 08:00:00 GMT"),
    ("content-type", "application/json"),
    ("content-length", "215"),
    ("connection", "keep-alive"),
    ("etag", "\"65a4e3c0-d7\""),
    ("cache-control", "no-cache"),
];
