//! An OpenID Provider for tests that is correct but for one thing.
//!
//! Every broken thing is a [`Mode`] of one table ([`MODES`]): its name, what is wrong, where that is
//! written, and what a client has to make of it ([`Wanted`]). A provider listens on loopback, signs with
//! keys made for the run, and misbehaves in one mode from the moment it starts;
//! [`behave`](Misbehaving::behave) lets it be correct for a while, so that there is a session to lose.
//!
//! Whatever it sends in a broken value holds a [canary](Misbehaving::canaries) that a client may repeat
//! in no answer and no log, and whoever believes a URL that it should not comes to a
//! [trap](Misbehaving::trapped). It knows one client, [`CLIENT_ID`] with [`CLIENT_SECRET`], and one user,
//! checks client authentication and PKCE, and never rotates or expires anything. The wanted codes and log
//! lines are Coatroom's, but nothing of Coatroom is used here. This crate is for tests only and is never
//! published.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! use coatroom_misbehaving::{MODES, Misbehaving, Outcome};
//!
//! let mode = MODES.iter().find(|mode| mode.id == "id-token-iss-other").expect("a mode");
//! let provider = Misbehaving::start(mode).await?;
//! // point the client under test at `provider.issuer()`, begin a sign-in, and let the user approve it:
//! let begun = format!(
//!     "{}/authorize?state=s&nonce=n&code_challenge=c&redirect_uri=https%3A%2F%2Fapp.example%2F",
//!     provider.issuer(),
//! );
//! let query = provider.approve(&begun);
//! assert!(query.contains("state=s"));
//! // the client redeems the code, and then:
//! assert!(matches!(mode.wanted.outcome, Outcome::Refused { status: 502, .. }));
//! # Ok(())
//! # })
//! # }
//! ```

mod answer;
mod jwe;
mod jwt;
mod mode;
mod modes;
mod provider;
mod server;
mod twist;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use self::jwe::decryption_key;
pub use self::mode::{Mode, Outcome, Place, Wanted};
pub use self::modes::MODES;
use self::provider::Provider;

/// The one client that the provider knows.
pub const CLIENT_ID: &str = "shop";

/// Its secret, for `client_secret_basic` and `client_secret_post`.
pub const CLIENT_SECRET: &str = "canary-client-secret";

/// The one user's `sub`.
pub const SUBJECT: &str = "alice";

/// A running provider; stops when it is dropped.
pub struct Misbehaving {
    provider: Arc<Provider>,
    tasks: [JoinHandle<()>; 2],
}

impl Misbehaving {
    /// Starts a provider on a free port of 127.0.0.1 that misbehaves as `mode` says, on the runtime
    /// that this is called from.
    ///
    /// # Errors
    /// Those of the operating system when no port can be had.
    pub async fn start(mode: &Mode) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let trap = TcpListener::bind("127.0.0.1:0").await?;
        let issuer = format!("http://{}", listener.local_addr()?);
        let trap_origin = format!("http://{}", trap.local_addr()?);
        let provider = Arc::new(Provider::new(*mode, issuer, trap_origin));
        let tasks = [
            tokio::spawn(server::serve(listener, Arc::clone(&provider))),
            tokio::spawn(server::trap(trap, Arc::clone(&provider))),
        ];
        Ok(Self { provider, tasks })
    }

    /// Misbehaves in another mode from now on, and forgets what it has done; issuer and keys stay.
    pub fn switch(&self, mode: &Mode) {
        self.provider.switch(*mode);
    }

    /// Its issuer identifier, an `http` URL without a path.
    pub fn issuer(&self) -> &str {
        self.provider.issuer()
    }

    /// Is correct from now on.
    pub fn behave(&self) {
        self.provider.misbehave(false);
    }

    /// Misbehaves again, as if it had never done so before.
    pub fn misbehave(&self) {
        self.provider.misbehave(true);
    }

    /// What time it is for the provider, in seconds since 1970; the system's clock until this is called.
    pub fn set_time(&self, now: u64) {
        self.provider.set_time(now);
    }

    /// The user approves an authorization request: the query of the authorization response (RFC 6749
    /// §4.1.2), without `?`. Parameters that the request lacks count as empty.
    pub fn approve(&self, authorization_url: &str) -> String {
        self.provider.approve(authorization_url)
    }

    /// A back-channel logout request for the user and the session of the last sign-in: the form
    /// (OpenID Connect Back-Channel Logout §2.5).
    pub fn logout_request(&self) -> String {
        self.provider.logout_request()
    }

    /// What a broken value holds, as text and as a number: no answer and no log may.
    pub fn canaries(&self) -> Vec<String> {
        self.provider.canaries()
    }

    /// Every code and token that was handed out: none may be where it does not belong.
    pub fn issued(&self) -> Vec<String> {
        self.provider.issued()
    }

    /// How often somebody came to the other server that redirects and headers of tokens name.
    pub fn trapped(&self) -> usize {
        self.provider.trapped()
    }

    /// How many tokens were revoked at its endpoint, whatever it answered.
    pub fn revocations(&self) -> usize {
        self.provider.revocations()
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
