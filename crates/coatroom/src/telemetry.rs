//! What operators see: counters for every core, request ids, and the two kinds of log line.
//!
//! Every thread counts in cells of its own, which only it writes: a count is a relaxed load and
//! a relaxed store, and nothing is shared on the way. [`Telemetry::render`] sums the threads
//! into the Prometheus text format. Label values come from the configuration and from fixed
//! lists only, so a client can never make a new series. Nothing here sees a header, a path
//! beyond the route's prefix, or a token.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use coatroom_core::error::{Error, Level};
use coatroom_core::route::Endpoint;
use http::{HeaderValue, StatusCode};

use crate::extensions::RequestId;

/// One process's counters. Clones share them.
#[derive(Clone)]
pub struct Telemetry {
    shared: Arc<Shared>,
}

/// The label values of one application, from its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationLabels {
    /// The application's id.
    pub id: String,
    /// The prefixes of its routes, in their order.
    pub routes: Vec<String>,
}

/// What a request turned out to be for: the labels of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// No application: the host is unknown.
    Nothing,
    /// An application, but none of its routes.
    Unrouted {
        /// The application's index.
        application: usize,
    },
    /// The agent of an application.
    Agent {
        /// The application's index.
        application: usize,
    },
    /// A route of an application.
    Route {
        /// The application's index.
        application: usize,
        /// The route's index.
        route: usize,
    },
}

/// How a refresh was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// A request went to the provider.
    Sent,
    /// Another request's result was used.
    Coalesced,
}

impl Telemetry {
    /// Counters for these applications; indices refer to this list.
    pub fn new(applications: Vec<ApplicationLabels>) -> Self {
        Self::after(applications, None)
    }

    /// The same counters for other labels: what was counted under a label that stays is not lost.
    pub(crate) fn relabelled(&self, applications: Vec<ApplicationLabels>) -> Self {
        if self.shared.applications == applications {
            return self.clone();
        }
        // a counter that starts again is what Prometheus expects of a restart
        let before = (self.shared.chain().count() < MOST_RELABELLINGS).then(|| Arc::clone(&self.shared));
        Self::after(applications, before)
    }

    fn after(applications: Vec<ApplicationLabels>, before: Option<Arc<Shared>>) -> Self {
        let mut targets = vec![("none".to_owned(), "none".to_owned())];
        let mut firsts = Vec::new();
        for application in &applications {
            firsts.push(targets.len());
            for route in ["none", "agent"] {
                targets.push((application.id.clone(), route.to_owned()));
            }
            for route in &application.routes {
                targets.push((application.id.clone(), route.clone()));
            }
        }
        Self {
            shared: Arc::new(Shared {
                applications,
                targets,
                firsts,
                threads: Mutex::default(),
                before,
            }),
        }
    }

    /// Counts an answered request.
    pub fn request(&self, target: Target, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        self.with(|cells| {
            add(
                &cells.requests,
                self.shared.target(target) * CLASSES.len() + class,
            );
        });
    }

    /// Counts an agent endpoint's outcome; no error code means success.
    pub fn agent(&self, application: usize, endpoint: Endpoint, error_code: Option<&'static str>) {
        let outcome = match error_code {
            None => 0,
            Some(code) => OUTCOMES
                .iter()
                .position(|known| *known == code)
                .unwrap_or(UNKNOWN),
        };
        let row = application * Endpoint::ALL.len() + endpoint as usize;
        self.with(|cells| add(&cells.agent, row * OUTCOMES.len() + outcome));
    }

    /// Counts a failed call of an upstream; errors that are not an upstream's do not count.
    pub fn upstream_error(&self, target: Target, error: &Error) {
        let kind = match error {
            Error::UpstreamUnavailable(_)
            | Error::FilesUnavailable(_)
            | Error::DevServerUnavailable { .. } => 0,
            Error::UpstreamTimeout => 1,
            Error::UpstreamBusy => 2,
            Error::UpstreamNonce => 3,
            _ => return,
        };
        let row = self.shared.target(target) * UPSTREAM_ERRORS.len();
        self.with(|cells| add(&cells.upstream_errors, row + kind));
    }

    /// Counts a refresh.
    pub fn refresh(&self, application: usize, refreshed: Refreshed) {
        let row = application * REFRESHES.len();
        self.with(|cells| add(&cells.refreshes, row + refreshed as usize));
    }

    /// A new request id: a random prefix for each thread and a count.
    pub fn request_id(&self) -> RequestId {
        REQUEST_IDS.with(|ids| {
            let number = ids.next.get();
            ids.next.set(number.wrapping_add(1));
            let mut text = [0; REQUEST_ID_LEN];
            let (prefix, count) = text.split_at_mut(ids.prefix.len());
            prefix.copy_from_slice(&ids.prefix);
            let length = prefix.len() + write_count(number, count);
            RequestId(HeaderValue::from_bytes(&text[..length]).expect("hexadecimal is a header value"))
        })
    }

    /// Everything counted so far in the Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        let generations: Vec<_> = self
            .shared
            .chain()
            .map(|shared| (shared, shared.threads()))
            .collect();
        let sum = |of: fn(&Cells) -> &[AtomicU64], at: &dyn Fn(&Shared) -> Option<usize>| -> u64 {
            generations
                .iter()
                .filter_map(|(shared, threads)| Some((at(shared)?, threads)))
                .flat_map(|(index, threads)| threads.iter().filter_map(move |cells| of(cells).get(index)))
                .map(|cell| cell.load(Ordering::Relaxed))
                .fold(0, u64::wrapping_add)
        };
        let mut out = String::new();
        let shared = &self.shared;

        family(&mut out, "coatroom_build_info", "gauge", "The running version.");
        series(
            &mut out,
            "coatroom_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1,
        );

        let name = "coatroom_requests_total";
        family(
            &mut out,
            name,
            "counter",
            "Answered requests by application, route and status class.",
        );
        for target in &shared.targets {
            let (application, route) = target;
            for (class, label) in CLASSES.iter().enumerate() {
                let labels = [
                    ("application", application.as_str()),
                    ("route", route),
                    ("status", label),
                ];
                let at = |shared: &Shared| Some(shared.row(target)? * CLASSES.len() + class);
                let value = sum(|cells| &cells.requests, &at);
                series(&mut out, name, &labels, value);
            }
        }

        let name = "coatroom_agent_answers_total";
        family(
            &mut out,
            name,
            "counter",
            "Outcomes of the agent's endpoints by error code; `none` is success.",
        );
        for application in &shared.applications {
            for (row, endpoint) in Endpoint::ALL.into_iter().enumerate() {
                for (outcome, code) in OUTCOMES.iter().enumerate() {
                    let at = |shared: &Shared| {
                        let row = shared.position(application)? * Endpoint::ALL.len() + row;
                        Some(row * OUTCOMES.len() + outcome)
                    };
                    let value = sum(|cells| &cells.agent, &at);
                    // Most pairs can never happen: a series starts with its first count.
                    if value > 0 || outcome == 0 {
                        let labels = [
                            ("application", application.id.as_str()),
                            ("endpoint", endpoint.label()),
                            ("error_code", code),
                        ];
                        series(&mut out, name, &labels, value);
                    }
                }
            }
        }

        let name = "coatroom_upstream_errors_total";
        family(
            &mut out,
            name,
            "counter",
            "Calls that got no usable answer from the upstream.",
        );
        for (row, target) in shared.targets.iter().enumerate() {
            let (application, route) = target;
            for (kind, label) in UPSTREAM_ERRORS.iter().enumerate() {
                let at = |shared: &Shared| Some(shared.row(target)? * UPSTREAM_ERRORS.len() + kind);
                let value = sum(|cells| &cells.upstream_errors, &at);
                if value > 0 || shared.is_route(row) {
                    let labels = [
                        ("application", application.as_str()),
                        ("route", route),
                        ("error_code", label),
                    ];
                    series(&mut out, name, &labels, value);
                }
            }
        }

        let name = "coatroom_refreshes_total";
        family(
            &mut out,
            name,
            "counter",
            "Refreshes sent to the provider, and those that shared one.",
        );
        for application in &shared.applications {
            for (kind, label) in REFRESHES.iter().enumerate() {
                let at = |shared: &Shared| Some(shared.position(application)? * REFRESHES.len() + kind);
                let value = sum(|cells| &cells.refreshes, &at);
                let labels = [("application", application.id.as_str()), ("outcome", label)];
                series(&mut out, name, &labels, value);
            }
        }
        out
    }

    /// This thread's cells, made at its first count.
    fn with(&self, count: impl FnOnce(&Cells)) {
        THREAD.with(|thread| {
            let known = thread
                .borrow()
                .iter()
                .find(|(owner, _)| std::ptr::eq(owner.as_ptr(), Arc::as_ptr(&self.shared)))
                .map(|(_, cells)| cells.clone());
            let cells = known.unwrap_or_else(|| {
                let cells = Arc::new(self.shared.cells());
                let mut threads = self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner);
                threads.push(cells.clone());
                drop(threads);
                let mut mine = thread.borrow_mut();
                mine.retain(|(owner, _)| owner.strong_count() > 0);
                mine.push((Arc::downgrade(&self.shared), cells.clone()));
                cells
            });
            count(&cells);
        });
    }
}

/// Writes the one line for an error, where it is answered. The error's text is ours alone.
pub fn log_error(request: &RequestId, application: &str, route: &str, error: &Error) {
    let answer = error.answer();
    let (id, status, code) = (request.as_str(), answer.status.as_u16(), answer.code);
    match answer.level {
        Level::Debug => tracing::debug!(id, application, route, status, code, "{error}"),
        Level::Info => tracing::info!(id, application, route, status, code, "{error}"),
        Level::Warn => tracing::warn!(id, application, route, status, code, "{error}"),
        Level::Error => tracing::error!(id, application, route, status, code, "{error}"),
    }
}

/// Writes the access line of an answered request, at debug level: method, route and status, never
/// the path or the query.
pub fn log_access(
    request: &RequestId,
    application: &str,
    route: &str,
    method: &http::Method,
    status: StatusCode,
) {
    tracing::debug!(
        id = request.as_str(),
        application,
        route,
        %method,
        status = status.as_u16(),
        "answered"
    );
}

struct Shared {
    applications: Vec<ApplicationLabels>,
    /// The label pairs of every [`Target`].
    targets: Vec<(String, String)>,
    /// Where each application begins in `targets`.
    firsts: Vec<usize>,
    threads: Mutex<Vec<Arc<Cells>>>,
    /// What was counted under other labels.
    before: Option<Arc<Self>>,
}

/// One thread's counters; only that thread writes them.
struct Cells {
    requests: Box<[AtomicU64]>,
    agent: Box<[AtomicU64]>,
    upstream_errors: Box<[AtomicU64]>,
    refreshes: Box<[AtomicU64]>,
}

impl Shared {
    fn cells(&self) -> Cells {
        let zeroes = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        let (targets, applications) = (self.targets.len(), self.applications.len());
        Cells {
            requests: zeroes(targets * CLASSES.len()),
            agent: zeroes(applications * Endpoint::ALL.len() * OUTCOMES.len()),
            upstream_errors: zeroes(targets * UPSTREAM_ERRORS.len()),
            refreshes: zeroes(applications * REFRESHES.len()),
        }
    }

    fn target(&self, target: Target) -> usize {
        let first = |application: usize| self.firsts.get(application).copied();
        match target {
            Target::Nothing => Some(0),
            Target::Unrouted { application } => first(application),
            Target::Agent { application } => first(application).map(|at| at + 1),
            Target::Route { application, route } => first(application).map(|at| at + 2 + route),
        }
        .unwrap_or(0)
    }

    /// This and everything before it.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |shared| shared.before.as_deref())
    }

    fn threads(&self) -> Vec<Arc<Cells>> {
        self.threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn row(&self, target: &(String, String)) -> Option<usize> {
        self.targets.iter().position(|known| known == target)
    }

    fn position(&self, application: &ApplicationLabels) -> Option<usize> {
        self.applications
            .iter()
            .position(|known| known.id == application.id)
    }

    fn is_route(&self, row: usize) -> bool {
        row != 0 && !self.firsts.iter().any(|first| row == *first || row == first + 1)
    }
}

/// Writes `-` and a number in hexadecimal, and says how long that is.
fn write_count(number: u64, to: &mut [u8]) -> usize {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1) as usize;
    to[0] = b'-';
    for (position, digit) in to[1..=digits].iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * position)) as usize & 15];
    }
    digits + 1
}

/// Sixteen digits, a hyphen, at most sixteen digits.
const REQUEST_ID_LEN: usize = 33;

struct RequestIds {
    /// In hexadecimal.
    prefix: [u8; 16],
    next: Cell<u64>,
}

thread_local! {
    static THREAD: RefCell<Vec<(Weak<Shared>, Arc<Cells>)>> = const { RefCell::new(Vec::new()) };
    static REQUEST_IDS: RequestIds = {
        let mut prefix = [0; 8];
        aws_lc_rs::rand::fill(&mut prefix).expect("the operating system has randomness");
        let prefix = format!("{:016x}", u64::from_be_bytes(prefix));
        let prefix = prefix.into_bytes().try_into().expect("sixteen digits");
        RequestIds { prefix, next: Cell::new(0) }
    };
}

/// Adds one. Plain load and store: the cell has one writer.
fn add(cells: &[AtomicU64], index: usize) {
    if let Some(cell) = cells.get(index) {
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

pub(crate) fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

pub(crate) fn series(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    out.push_str(name);
    for (index, (label, text)) in labels.iter().enumerate() {
        let _ = write!(out, "{}{label}=\"", if index == 0 { '{' } else { ',' });
        for character in text.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    let _ = writeln!(out, "}} {value}");
}

/// How often labels may change before every count starts again, as after a restart.
const MOST_RELABELLINGS: usize = 16;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

const UPSTREAM_ERRORS: [&str; 4] = [
    "upstream_unavailable",
    "upstream_timeout",
    "upstream_busy",
    "upstream_retry",
];

const REFRESHES: [&str; 2] = ["sent", "coalesced"];

/// Success, every code of the error table, and a place for a code that is missing here.
const OUTCOMES: [&str; 24] = [
    "none",
    "invalid_request",
    "login_state_invalid",
    "authorization_failed",
    "unauthorized",
    "access_token_expired",
    "session_expired",
    "csrf_rejected",
    "origin_not_allowed",
    "forbidden",
    "misdirected_request",
    "not_found",
    "method_not_allowed",
    "payload_too_large",
    "rate_limited",
    "provider_error",
    "provider_unavailable",
    "store_unavailable",
    "upstream_unavailable",
    "upstream_timeout",
    "upstream_busy",
    "upstream_retry",
    "server_error",
    "other",
];

const UNKNOWN: usize = OUTCOMES.len() - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry() -> Telemetry {
        Telemetry::new(vec![
            ApplicationLabels {
                id: "shop".to_owned(),
                routes: vec!["/api/".to_owned(), "/".to_owned()],
            },
            ApplicationLabels {
                id: "desk".to_owned(),
                routes: vec!["/q\"\\/".to_owned()],
            },
        ])
    }

    fn value(text: &str, series: &str) -> Option<u64> {
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn requests_are_counted_by_application_route_and_status_class() {
        let telemetry = telemetry();
        let api = Target::Route {
            application: 0,
            route: 0,
        };
        for (target, status) in [
            (api, StatusCode::OK),
            (api, StatusCode::CREATED),
            (api, StatusCode::SWITCHING_PROTOCOLS),
            (api, StatusCode::NOT_FOUND),
            (Target::Agent { application: 1 }, StatusCode::SEE_OTHER),
            (Target::Unrouted { application: 1 }, StatusCode::NOT_FOUND),
            (Target::Nothing, StatusCode::MISDIRECTED_REQUEST),
        ] {
            telemetry.request(target, status);
        }
        let text = telemetry.render();
        for (labels, expected) in [
            (r#"application="shop",route="/api/",status="2xx""#, 2),
            (r#"application="shop",route="/api/",status="1xx""#, 1),
            (r#"application="shop",route="/api/",status="4xx""#, 1),
            (r#"application="shop",route="/",status="2xx""#, 0),
            (r#"application="desk",route="agent",status="3xx""#, 1),
            (r#"application="desk",route="none",status="4xx""#, 1),
            (r#"application="none",route="none",status="4xx""#, 1),
        ] {
            let series = format!("coatroom_requests_total{{{labels}}}");
            assert_eq!(value(&text, &series), Some(expected), "{series}");
        }
    }

    #[test]
    fn an_index_from_nowhere_makes_no_series_and_no_panic() {
        let telemetry = telemetry();
        let before = telemetry.render().lines().count();
        telemetry.request(
            Target::Route {
                application: 9,
                route: 9,
            },
            StatusCode::OK,
        );
        telemetry.agent(9, Endpoint::Login, None);
        telemetry.refresh(9, Refreshed::Sent);
        assert_eq!(telemetry.render().lines().count(), before);
    }

    #[test]
    fn outcomes_refreshes_and_upstream_errors_are_counted() {
        let telemetry = telemetry();
        let api = Target::Route {
            application: 0,
            route: 0,
        };
        telemetry.agent(0, Endpoint::Session, None);
        telemetry.agent(0, Endpoint::LogoutCallback, Some("invalid_request"));
        telemetry.agent(0, Endpoint::Login, Some("a code nobody listed"));
        telemetry.refresh(1, Refreshed::Coalesced);
        telemetry.upstream_error(api, &Error::UpstreamTimeout);
        telemetry.upstream_error(api, &Error::UpstreamUnavailable(String::new()));
        telemetry.upstream_error(api, &Error::PayloadTooLarge);
        let text = telemetry.render();
        for (series, expected) in [
            (
                r#"coatroom_agent_answers_total{application="shop",endpoint="session",error_code="none"}"#,
                1,
            ),
            (
                r#"coatroom_agent_answers_total{application="shop",endpoint="logout/callback",error_code="invalid_request"}"#,
                1,
            ),
            (
                r#"coatroom_agent_answers_total{application="shop",endpoint="login",error_code="other"}"#,
                1,
            ),
            (
                r#"coatroom_refreshes_total{application="desk",outcome="coalesced"}"#,
                1,
            ),
            (
                r#"coatroom_refreshes_total{application="desk",outcome="sent"}"#,
                0,
            ),
            (
                r#"coatroom_upstream_errors_total{application="shop",route="/api/",error_code="upstream_timeout"}"#,
                1,
            ),
            (
                r#"coatroom_upstream_errors_total{application="shop",route="/api/",error_code="upstream_unavailable"}"#,
                1,
            ),
        ] {
            assert_eq!(value(&text, series), Some(expected), "{series}");
        }
    }

    #[test]
    fn threads_are_summed_and_outlived() {
        let telemetry = telemetry();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let telemetry = telemetry.clone();
                std::thread::spawn(move || {
                    for _ in 0..100 {
                        telemetry.refresh(0, Refreshed::Sent);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        let text = telemetry.render();
        let series = r#"coatroom_refreshes_total{application="shop",outcome="sent"}"#;
        assert_eq!(value(&text, series), Some(400));
    }

    #[test]
    fn two_instances_in_one_thread_do_not_mix() {
        let (one, two) = (telemetry(), telemetry());
        one.refresh(0, Refreshed::Sent);
        let series = r#"coatroom_refreshes_total{application="shop",outcome="sent"}"#;
        assert_eq!(value(&one.render(), series), Some(1));
        assert_eq!(value(&two.render(), series), Some(0));
    }

    #[test]
    fn label_values_are_escaped_and_each_family_is_declared_once() {
        let text = telemetry().render();
        assert!(text.contains(r#"route="/q\"\\/""#));
        let types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(types.len(), 5);
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn every_code_of_the_error_table_is_a_label() {
        let all = [
            Error::InvalidRequest(""),
            Error::LoginStateInvalid(""),
            Error::AuthorizationFailed { provider_error: None },
            Error::Unauthorized(""),
            Error::TokenRequired(""),
            Error::AccessTokenExpired,
            Error::SessionExpired(""),
            Error::CsrfRejected(""),
            Error::OriginNotAllowed,
            Error::Forbidden(""),
            Error::Misdirected(""),
            Error::NotFound,
            Error::MethodNotAllowed { allow: Vec::new() },
            Error::PayloadTooLarge,
            Error::RateLimited { retry_after: 1 },
            Error::Provider(String::new()),
            Error::ProviderUnavailable {
                reason: String::new(),
                retry_after: 1,
            },
            Error::UpstreamUnavailable(String::new()),
            Error::UpstreamTimeout,
            Error::UpstreamBusy,
            Error::UpstreamNonce,
            Error::FilesUnavailable(String::new()),
            Error::DevServerUnavailable {
                address: String::new(),
                reason: String::new(),
            },
            Error::Bug(""),
        ];
        for error in all {
            assert!(OUTCOMES.contains(&error.answer().code), "{error}");
        }
        assert_eq!(REFRESHES[Refreshed::Coalesced as usize], "coalesced");
    }

    #[test]
    fn request_ids_differ_within_a_thread_and_between_threads() {
        let telemetry = telemetry();
        let (first, second) = (telemetry.request_id(), telemetry.request_id());
        assert_ne!(first, second);
        let other = telemetry.clone();
        let elsewhere = std::thread::spawn(move || other.request_id())
            .join()
            .expect("no panic");
        let prefix = |id: &RequestId| id.as_str().split('-').next().map(str::to_owned);
        assert_ne!(prefix(&first), prefix(&elsewhere));
        assert_eq!(prefix(&first), prefix(&second));
        assert_eq!(first.header().to_str().expect("text"), first.as_str());
    }
}
