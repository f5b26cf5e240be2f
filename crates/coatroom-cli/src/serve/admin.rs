//! The admin listener: `GET /healthz`, `/readyz`, `/metrics`. Internal, loopback by default.
//!
//! `/healthz` says that the process runs, `/readyz` names each part and its state and turns 503
//! while a part fails, before every core accepts and while the process drains. No session, token
//! or setting is ever shown here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::watch;

use super::listener::Listener;

/// One part and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its name, such as `provider shop`.
    pub(crate) name: String,
    /// How it is.
    pub(crate) state: PartState,
}

/// How a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PartState {
    /// As it should be.
    Ready,
    /// Something does not work, but requests are better served here than not at all: a provider
    /// that is down signs nobody in, and every session still works.
    Degraded(String),
    /// No request can be served.
    Failing(String),
}

/// Whether the process should get requests.
#[derive(Clone)]
pub(super) struct Readiness(Arc<Shared>);

struct Shared {
    cores: usize,
    started: watch::Sender<usize>,
    draining: AtomicBool,
    parts: Arc<dyn Fn() -> Vec<Part> + Send + Sync>,
}

impl Readiness {
    pub(super) fn new(cores: usize, parts: Arc<dyn Fn() -> Vec<Part> + Send + Sync>) -> Self {
        Self(Arc::new(Shared {
            cores,
            started: watch::Sender::new(0),
            draining: AtomicBool::new(false),
            parts,
        }))
    }

    /// One more core accepts connections.
    pub(super) fn core_started(&self) {
        self.0
            .started
            .send_modify(|started| *started = started.saturating_add(1));
    }

    /// Resolves once every core accepts connections.
    pub(super) async fn all_started(&self) {
        let cores = self.0.cores;
        // The sender is this one's own, so that it cannot be gone.
        let _ = self
            .0
            .started
            .subscribe()
            .wait_for(|started| *started >= cores)
            .await;
    }

    /// From now on, not ready.
    pub(super) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    fn report(&self) -> (StatusCode, Report) {
        let listener = if self.0.draining.load(Ordering::Relaxed) {
            PartState::Failing("draining".to_owned())
        } else if *self.0.started.borrow() < self.0.cores {
            PartState::Failing("starting".to_owned())
        } else {
            PartState::Ready
        };
        let mut parts = (self.0.parts)();
        parts.push(Part {
            name: "listener".to_owned(),
            state: listener,
        });
        let failing = parts
            .iter()
            .any(|part| matches!(part.state, PartState::Failing(_)));
        let degraded = parts
            .iter()
            .any(|part| matches!(part.state, PartState::Degraded(_)));
        let (code, status) = match (failing, degraded) {
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "failing"),
            (false, true) => (StatusCode::OK, "degraded"),
            (false, false) => (StatusCode::OK, "ready"),
        };
        let parts = parts
            .into_iter()
            .map(|part| (part.name, part.state.into()))
            .collect();
        (code, Report { status, parts })
    }
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    parts: BTreeMap<String, PartReport>,
}

#[derive(Serialize)]
struct PartReport {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<PartState> for PartReport {
    fn from(state: PartState) -> Self {
        let (state, reason) = match state {
            PartState::Ready => ("ready", None),
            PartState::Degraded(reason) => ("degraded", Some(reason)),
            PartState::Failing(reason) => ("failing", Some(reason)),
        };
        Self { state, reason }
    }
}

type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves until the runtime ends.
pub(super) async fn serve(listener: Listener, readiness: Readiness, metrics: Metrics) {
    let router = router(readiness, metrics);
    // Neither returns but with the runtime.
    let _ = match listener {
        Listener::Tcp(listener) => axum::serve(listener, router).await,
        Listener::Unix(listener) => axum::serve(listener, router).await,
        // Each is served on its own.
        Listener::Several(..) => Ok(()),
    };
}

fn router(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(async || Json(serde_json::json!({"status": "alive"}))),
        )
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(show_metrics).with_state(metrics))
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let (code, report) = readiness.report();
    (code, [(CACHE_CONTROL, "no-store")], Json(report)).into_response()
}

async fn show_metrics(State(metrics): State<Metrics>) -> Response {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, text)], metrics()).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(readiness: &Readiness, path: &str) -> (StatusCode, String, String) {
        let router = router(readiness.clone(), Arc::new(|| "coatroom_up 1\n".to_owned()));
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let content = parts
            .headers
            .get(CONTENT_TYPE)
            .map(|value| value.to_str().expect("text").to_owned())
            .unwrap_or_default();
        let body = to_bytes(body, 10_000).await.expect("a body");
        (
            parts.status,
            content,
            String::from_utf8(body.to_vec()).expect("text"),
        )
    }

    fn readiness(state: PartState) -> Readiness {
        let readiness = Readiness::new(
            2,
            Arc::new(move || {
                vec![Part {
                    name: "provider shop".to_owned(),
                    state: state.clone(),
                }]
            }),
        );
        readiness.core_started();
        readiness.core_started();
        readiness
    }

    #[tokio::test]
    async fn readiness_names_each_part_and_its_state() {
        for (state, code, body) in [
            (
                PartState::Ready,
                200,
                r#"{"status":"ready","parts":{"listener":{"state":"ready"},"provider shop":{"state":"ready"}}}"#,
            ),
            (
                PartState::Degraded("no metadata".to_owned()),
                200,
                r#"{"status":"degraded","parts":{"listener":{"state":"ready"},"provider shop":{"state":"degraded","reason":"no metadata"}}}"#,
            ),
            (
                PartState::Failing("no store".to_owned()),
                503,
                r#"{"status":"failing","parts":{"listener":{"state":"ready"},"provider shop":{"state":"failing","reason":"no store"}}}"#,
            ),
        ] {
            let (status, content, text) = ask(&readiness(state), "/readyz").await;
            assert_eq!((status.as_u16(), text.as_str()), (code, body));
            assert_eq!(content, "application/json");
        }
    }

    #[tokio::test]
    async fn it_is_not_ready_before_every_core_accepts_nor_while_draining() {
        let starting = Readiness::new(2, Arc::new(Vec::new));
        starting.core_started();
        let (status, _, text) = ask(&starting, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains(r#""reason":"starting""#));

        let draining = readiness(PartState::Ready);
        draining.drain();
        let (status, _, text) = ask(&draining, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains(r#""reason":"draining""#));
        assert_eq!(
            ask(&draining, "/healthz").await.0,
            StatusCode::OK,
            "alive all the same"
        );
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text_and_other_paths_are_not_found() {
        let readiness = readiness(PartState::Ready);
        let (status, content, text) = ask(&readiness, "/metrics").await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "coatroom_up 1\n"));
        assert_eq!(content, "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(ask(&readiness, "/").await.0, StatusCode::NOT_FOUND);
    }
}
