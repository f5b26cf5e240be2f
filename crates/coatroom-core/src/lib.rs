//! The pure core of Coatroom.
//!
//! Every decision of the token handler, and none of its I/O: no sockets, files, clock,
//! environment, randomness of its own, async, locks or globals. `now` and `rng` are arguments;
//! what has to be asked of the provider is returned as a [`step::Step`], what a browser or an
//! upstream sends becomes a checked type once.
//!
//! Both flows in one example, with the shell's part written out:
//!
//! ```
//! use std::sync::Arc;
//! use coatroom_core::config::{ApplicationConfig, ProviderConfig, RouteConfig, RouteTargetConfig};
//! use coatroom_core::flow::{AnchorMemo, Input};
//! use coatroom_core::handler::Handler;
//! use coatroom_core::head::Head;
//! use coatroom_core::oauth::{JwkSet, Metadata, ProviderSnapshot};
//! use coatroom_core::seal::{KeyRing, MasterKey};
//! use coatroom_core::secret::Secret;
//! use coatroom_core::step::{Context, Step};
//! use coatroom_core::time::UnixTime;
//! use http::{HeaderMap, Method};
//!
//! struct Rng; // a shell draws from the operating system
//! impl coatroom_core::rng::Rng for Rng {
//!     fn fill(&mut self, out: &mut [u8]) { out.fill(7) }
//! }
//!
//! let provider = ProviderConfig::new("https://login.example.com", "shop", Secret::new("s"));
//! let shop = ApplicationConfig::new("shop", "https://shop.example.com", provider)
//!     .route(RouteConfig::new("/api/", RouteTargetConfig::Inner));
//! let shop = Arc::new(shop.check().map_err(|problems| format!("{problems:?}"))?);
//! let keys = Arc::new(KeyRing::new(vec![MasterKey::generate()?])?);
//! let handler = Handler::new(shop.clone(), keys)?;
//!
//! // what a shell fetched from the provider
//! let metadata = br#"{"issuer": "https://login.example.com",
//!     "authorization_endpoint": "https://login.example.com/authorize",
//!     "token_endpoint": "https://login.example.com/token",
//!     "jwks_uri": "https://login.example.com/jwks"}"#;
//! let snapshot = ProviderSnapshot::new(
//!     Metadata::parse(metadata, "https://login.example.com")?,
//!     JwkSet::parse(br#"{"keys": []}"#)?,
//! );
//! let now = UnixTime(1_800_000_000);
//!
//! // sign-in: the answer is data, its cookie holds everything the callback needs
//! let mut context = Context { provider: &snapshot, now, rng: &mut Rng };
//! let started = handler
//!     .login_start(&HeaderMap::new(), None, Input::form(b"return_to=/orders")?, &mut context)
//!     .map_err(|refusal| refusal.error)?;
//! let Step::Done(started) = started else { panic!("only a pushed request has to be sent first") };
//! let url = started.json.unwrap()["authorization_url"].to_string();
//! assert!(url.contains("https://login.example.com/authorize?response_type=code"));
//! assert_eq!(started.set_cookies.len(), 1);
//!
//! // API call: without a session it is refused before anything else is looked at
//! let head = Head { method: &Method::GET, target: "/api/orders", authority: None, protocol: None,
//!     headers: &HeaderMap::new() };
//! let refused = handler.api(&shop.routes[0], &head, now, &mut AnchorMemo::default(), None).err().unwrap();
//! assert_eq!(refused.answer().code, "unauthorized");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

pub mod assurance;
pub mod config;
pub mod cookie;
pub mod error;
pub mod flow;
pub mod guard;
pub mod handler;
pub mod head;
pub mod headers;
pub mod oauth;
mod packed;
pub mod peers;
pub mod return_to;
pub mod rng;
pub mod route;
pub mod seal;
pub mod secret;
pub mod session;
pub mod step;
pub mod store;
pub mod time;
mod tombstones;
