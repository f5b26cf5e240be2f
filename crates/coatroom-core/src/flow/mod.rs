//! The flows: sign-in, API call, refresh, sign-out, status.
//!
//! Each is a set of methods on [`Handler`](crate::handler::Handler); what a shell needs is
//! re-exported here. No flow performs I/O: it returns an answer, or a [`Step`](crate::step::Step)
//! that says what to ask the provider.

mod answer;
mod api;
mod exchange;
mod input;
mod login;
mod logout;
mod memo;
mod refresh;
#[cfg(test)]
mod sizes;
mod status;
mod visible;

pub use answer::{AgentResponse, Effects, Extended, Refusal, Revocation};
pub use api::{Decision, ProxyHandler, SessionFacts};
pub use exchange::{CodeExchange, SignedIn};
pub use input::Input;
pub use login::Arrival;
pub use logout::Revoked;
pub use memo::AnchorMemo;
pub use refresh::{Follow, IdToken, Redemption, Refresh, Refreshed};
