//! The whole service in-process: the real Layer, a scripted provider, a cookie-keeping browser and
//! a manual clock. One binary; no sleeps, no order.

mod apis;
mod attack_cookies;
mod attack_headers;
mod attack_redirects;
mod attack_sequences;
mod authorization_request;
mod authorization_response;
mod bearer;
mod client_auth;
mod client_credentials;
mod cookies;
mod cross_site;
mod dpop;
mod duende;
mod duende_sign_out;
mod embedding;
mod fapi;
mod habits;
mod introspection;
mod misbehaving;
mod outages;
mod plain;
mod provider_logout;
mod proxy;
mod proxy_only;
mod rate_limits;
mod refresh;
mod reload;
mod revocations;
mod secrets;
mod several;
mod several_mixed_up;
mod sign_in;
mod sign_out;
mod step_up;
mod store_contract;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod store_figures;
#[cfg(feature = "postgres")]
mod store_postgres;
#[cfg(feature = "redis")]
mod store_redis;
#[cfg(feature = "sqlite")]
mod store_sqlite;
mod stored;
mod stored_sessions;
mod support;
mod token_shapes;

// the generators that the core is attacked with as well
#[path = "../../../coatroom-core/tests/attacks/chance.rs"]
mod chance;
#[path = "../../../coatroom-core/tests/attacks/redirects/mod.rs"]
mod redirects;
