//! Coatroom as a tower Layer: the token handler for single-page applications.
//!
//! The Layer stands in front of any service. It signs users in at an OpenID Provider, hands the
//! browser sealed cookies, and turns those cookies into access tokens on the way to the service
//! it wraps. No token ever reaches the browser, and this crate never does what the core has not
//! decided: it performs the I/O.
//!
//! # Quick start: in front of a tower service
//!
//! ```
//! # use std::convert::Infallible;
//! # use bytes::Bytes;
//! # use http::{Request, Response, StatusCode};
//! # use http_body_util::Full;
//! # use tower::{Layer as _, ServiceExt as _};
//! use coatroom::TokenHandler;
//! use coatroom::config::{ApplicationConfig, ProviderConfig, RouteConfig, RouteTargetConfig};
//! use coatroom::seal::{KeyRing, MasterKey};
//! use coatroom::secret::Secret;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let provider = ProviderConfig::new("https://login.example.com", "shop", Secret::new("the client secret"));
//! let shop = ApplicationConfig::new("shop", "https://shop.example.com", provider)
//!     .route(RouteConfig::new("/api/", RouteTargetConfig::Inner))
//!     .check()
//!     .map_err(|problems| format!("{problems:?}"))?;
//! let keys = KeyRing::new(vec![MasterKey::generate()?])?;
//! let handler = TokenHandler::builder(vec![shop], keys).build()?;
//!
//! let api = tower::service_fn(|request: Request<Full<Bytes>>| async move {
//!     // here the request carries `Authorization: Bearer …` and no cookie
//!     Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("orders"))))
//! });
//! let service = handler.layer().layer(api);
//!
//! let call = Request::get("/api/orders").header("host", "shop.example.com").body(Full::default())?;
//! let answer = service.oneshot(call).await?;
//! assert_eq!(answer.status(), StatusCode::UNAUTHORIZED); // nobody is signed in
//! # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # axum
//!
//! The Layer wraps the whole router, because it decides before routing does; another router around
//! it serves the two:
//!
//! ```
//! # use coatroom::{Session, TokenHandler};
//! # use tower::Layer as _;
//! # async fn serve(handler: TokenHandler, listener: tokio::net::TcpListener) -> std::io::Result<()> {
//! async fn orders(axum::Extension(session): axum::Extension<Session>) -> String {
//!     format!("orders of {}", session.id.public())
//! }
//! let router = axum::Router::new().route("/api/orders", axum::routing::get(orders));
//! let service = axum::Router::new().fallback_service(handler.layer().layer(router));
//! axum::serve(listener, service).await
//! # }
//! ```
//!
//! The session is in the request's extensions: [`Session`] where a token is attached, beside
//! [`Matched`] (application and route). The request's id is in its `x-request-id`. Where sessions have a
//! key (`provider.dpop`) there is a [`DpopSigner`] as well, for a service that sends the request on.
//!
//! # AWS Lambda
//!
//! ```
//! # use std::convert::Infallible;
//! # use coatroom::TokenHandler;
//! # use tower::Layer as _;
//! # async fn serve(handler: TokenHandler) -> Result<(), lambda_http::Error> {
//! let api = tower::service_fn(|_: lambda_http::Request| async {
//!     Ok::<_, Infallible>(lambda_http::Response::new(lambda_http::Body::from("orders")))
//! });
//! lambda_http::run(handler.layer().layer(api)).await
//! # }
//! ```
//!
//! On Lambda no work outlives the answer: revocations at sign-out are best effort there.
//!
//! # Sessions in a store
//!
//! They are in cookies unless an application's configuration names a store (`session.storage`).
//! [`Builder::store`] takes one of your own, [`store::SessionStore`], and [`StoredSessions`] lists and
//! ends what is in it, without a cookie.
//!
//! Whole programs are in `examples/`: `axum.rs`, `tower.rs` and `lambda.rs`.

mod agent;
mod api;
mod client_credentials;
pub mod clock;
mod dpop;
pub mod examine;
pub mod extensions;
mod flights;
mod grpc;
mod handler;
mod introspected;
mod keys;
mod missing_tokens;
mod outage;
pub mod provider;
mod provider_logout;
mod rate;
mod refresh;
mod respond;
mod service;
pub mod session_end;
mod sessions;
mod several;
mod sign_in;
mod snapshot;
pub mod static_files;
pub mod store;
mod stored;
mod stored_sessions;
pub mod telemetry;
pub mod timer;
mod to_agent;
pub mod upstream;

pub use api::Passed;
pub use coatroom_core::{config, peers, seal, secret};
pub use dpop::DpopSigner;
pub use extensions::{Matched, Peer, RequestId, Session, SessionId};
pub use handler::{BuildError, Builder, TokenHandler};
pub use keys::Keys;
pub use respond::ERROR_HEADER;
pub use service::{Body, ResponseFuture, TokenHandlerLayer, TokenHandlerService};
pub use stored_sessions::{StoredSessions, StoredSessionsError, Whose};
