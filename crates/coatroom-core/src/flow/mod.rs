//! The flows: sign-in, API call, refresh, sign-out, status.
//!
//! Each is a set of methods on [`Handler`](crate::handler::Handler); what a shell needs is
//! re-exported here. No flow performs I/O: it returns an answer, or a [`Step`](crate::step::Step)
//! that says what to ask the provider.

mod answer;
mod api;
mod apis;
mod arrival;
mod asked;
mod client_credentials;
mod duende;
mod elsewhere;
mod exchange;
mod input;
mod introspected;
mod known;
mod login;
mod logout;
mod memo;
mod names;
mod passed;
mod plain;
mod probe;
mod provider_logout;
mod proxy;
mod refresh;
mod seen;
mod sessions;
mod several;
mod signing_in;
#[cfg(test)]
mod sizes;
mod status;
mod stored;
mod verifying;
mod visible;

pub use answer::{AgentResponse, Effects, Extended, Refusal, Revocation, StoreWrite};
pub use api::{Chore, Decision, Outcome, SessionFacts};
pub use apis::ApiFailure;
pub use arrival::Arrived;
pub use client_credentials::{ClientCredential, ClientKey, ClientStanding, ClientToken, Renewal};
pub use exchange::{CodeExchange, SignedIn};
pub use input::Input;
pub use introspected::{AnswerName, Introspected, Question};
pub use known::{KnownSession, Lookup, LookupName};
pub use login::Arrival;
pub use logout::Revoked;
pub use memo::AnchorMemo;
pub use probe::{ClientVerdict, RedirectVerdict};
pub use provider_logout::{LogoutNotice, Once, Owner, ProviderLogout};
pub use proxy::ProxyHandler;
pub use refresh::{Follow, IdToken, Redeemed, Redemption, Refresh, Refreshed};
pub use seen::{Asks, Seen, StoreView};
pub use sessions::SessionsOf;
pub(crate) use several::PARAMETER as PROVIDER_PARAMETER;
pub(crate) use status::claims_of;
pub use stored::{StoredRefresh, StoredSession};
