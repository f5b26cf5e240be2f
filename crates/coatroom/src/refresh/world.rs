//! What a refresh of one session does to the world, as the refresh sees it.
//!
//! The shell's implementation joins a session store, the provider and the core's record; the tests'
//! one is a model. Nothing here decides anything.

use std::future::Future;
use std::time::Duration;

use coatroom_core::error::Error;
use coatroom_core::store::{Holder, Lease};

/// What a refresh of one session does to the world. Calls to the store fail with
/// [`Error::StoreUnavailable`] alone, and within [`STORE_CALL`](super::STORE_CALL); each may have had its effect all the
/// same, so each can be repeated.
pub(crate) trait World: Send + Sync {
    /// The session's record as it was read: its tokens and its version.
    type State: Clone + Send + Sync;
    /// What the provider answered. Its record's version is chosen with it and not at each save, so
    /// that a repeated save is seen to have happened.
    type Fresh: Send + Sync;

    /// The newest known state; none if the session is gone.
    fn load(&self) -> impl Future<Output = Result<Option<Self::State>, Error>> + Send;

    /// Whether the tokens of `loaded` are from a later refresh than those of `held`: by a count in
    /// the record, not by a clock. Another version with the same tokens is not newer.
    fn is_newer(&self, held: &Self::State, loaded: &Self::State) -> bool;

    /// Asks for the session's lease, or extends it.
    fn acquire(&self, holder: Holder, life: Duration) -> impl Future<Output = Result<Lease, Error>> + Send;

    /// Gives the lease back, if it is the holder's, and has everybody rest.
    fn release(&self, holder: Holder, rest: Duration) -> impl Future<Output = Result<(), Error>> + Send;

    /// One conversation about new tokens with the provider, which ends within
    /// [`deadline`](Self::deadline).
    ///
    /// # Errors
    /// [`Error::GrantEnded`] for `invalid_grant` and nothing else. [`Error::ProviderUnavailable`] if
    /// the request may or may not have been processed, or was not made in order to spare the
    /// provider. Anything else: an answer that is unusable.
    fn send(&self, state: &Self::State) -> impl Future<Output = Result<Self::Fresh, Error>> + Send;

    /// Writes what the provider answered over `base`, if the record still is at it. Never makes one.
    fn save(
        &self,
        base: &Self::State,
        fresh: &Self::Fresh,
    ) -> impl Future<Output = Result<Saved<Self::State>, Error>> + Send;

    /// Revokes tokens that nobody will hold, as well as that goes.
    fn discard(&self, fresh: Self::Fresh) -> impl Future<Output = ()> + Send;

    /// Ends the session for good and says so to all replicas, if its record still is at `state`: in
    /// one step, for another replica's newer tokens may arrive while this is on its way.
    fn end(&self, state: &Self::State) -> impl Future<Output = Result<Ended<Self::State>, Error>> + Send;

    /// Waits.
    fn pause(&self, length: Duration) -> impl Future<Output = ()> + Send;

    /// A pause of about this length, so that replicas do not ask in step: at most this long, at
    /// least half of it.
    fn jittered(&self, pause: Duration) -> Duration;

    /// A new name to hold a lease under.
    fn holder(&self) -> Holder;

    /// Time since some start. Never goes back, and goes on while the process is frozen as far as the
    /// operating system lets it.
    fn elapsed(&self) -> Duration;

    /// How long [`send`](Self::send) may take in all.
    fn deadline(&self) -> Duration;

    /// Something worth counting or logging happened.
    fn note(&self, note: Note);
}

/// How a save went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Saved<S> {
    /// It is the record now, or was already.
    Yes(S),
    /// Somebody else wrote since: this is there.
    Changed(S),
    /// The session is gone: its end wins.
    Gone,
}

/// How ending a session went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ended<S> {
    /// It is gone, or was already.
    Yes,
    /// Somebody else wrote since: this is there.
    Changed(S),
}

/// What happens in a refresh beside its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Note {
    /// Somebody else's newer tokens were taken.
    Coalesced,
    /// A request goes to the provider.
    Sent,
    /// The last holder of the lease died with it, or cannot reach the store; its request may have
    /// been sent.
    AfterDeath,
    /// The lease is somebody else's although it should be ours.
    LeaseLost,
    /// New tokens, or the session's end, cannot be saved yet.
    NotSavedYet,
    /// They never could: the provider's tokens are lost.
    NotSaved,
}
