//! One refresh per session, whichever replica does it (RFC 6749 §6, RFC 9700 §4.14).
//!
//! The algorithm alone, over a [`World`] that does the I/O: `simulation` runs this very code through
//! crashes, lost answers, frozen processes and outages. A refresh is done under a lease in the store;
//! whoever does not get it reads the winner's tokens. Tokens that the provider has handed out are
//! saved however long that takes (within [`SAVING`]), and only the provider's `invalid_grant` ends a
//! session here. It never sends a request whose end its lease is not sure to outlive, never revives
//! what is gone from the store, and never holds a token itself.
//!
//! What it cannot rule out: a refresh token is shown twice when its first use got no answer (the
//! answer was lost, its sender died, was frozen for longer than the lease, or the store lost the
//! lease). A provider that takes that for theft ends the session.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use coatroom_core::error::Error;
use coatroom_core::store::{Holder, Lease};
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

#[cfg(test)]
mod simulation;
mod world;

pub(crate) use self::world::{Ended, Note, Saved, World};

/// Newer tokens than `held`, from this replica's refresh or another's.
///
/// The work is a task of its own on `runtime`, which runs to its end when the caller hangs up, and
/// goes on saving when the caller was told that the store is away.
///
/// # Errors
/// [`Error::GrantEnded`]: the provider ended the session, and its record is gone.
/// [`Error::SessionExpired`]: it is gone from the store. [`Error::ProviderUnavailable`]: no answer
/// from the provider, or from whoever asks it, or a failure is too recent to ask again.
/// [`Error::StoreUnavailable`]: the store is away; nothing was sent, or what came is still being
/// saved. What else [`World::send`] fails with. Only the first two end a session.
pub(crate) async fn renew<W>(runtime: &Handle, world: Arc<W>, held: W::State) -> Result<W::State, Error>
where
    W: World + 'static,
    W::State: 'static,
{
    let (answer, answered) = oneshot::channel();
    runtime.spawn(async move { carry_out(&*world, &held, answer).await });
    answered
        .await
        .unwrap_or(Err(Error::Bug("a refresh ended without an answer")))
}

/// The whole of a refresh: ends when there is nothing left to do, which may be long after the answer.
async fn carry_out<W: World>(world: &W, held: &W::State, answer: oneshot::Sender<Result<W::State, Error>>) {
    let mut answer = Answer(Some(answer));
    let holder = world.holder();
    match take_turns(world, held, holder, &mut answer).await {
        Turn::Coalesced(outcome) => answer.give(outcome),
        Turn::Leased(outcome) => {
            let rest = outcome.as_ref().err().map_or(Duration::ZERO, rest_after);
            // nobody has to wait for the lease to be given back
            answer.give(outcome);
            release(world, holder, rest).await;
        }
    }
}

/// What came of waiting for the lease.
enum Turn<S> {
    /// This, and the lease is somebody else's.
    Coalesced(Result<S, Error>),
    /// This, and the lease may be ours.
    Leased(Result<S, Error>),
}

async fn take_turns<W: World>(
    world: &W,
    held: &W::State,
    holder: Holder,
    answer: &mut Answer<W::State>,
) -> Turn<W::State> {
    let life = lease_life(world.deadline());
    let patience = world.elapsed() + world.deadline() + SLACK;
    let mut pauses = Pauses::new();
    loop {
        // counted from before it was asked for: the store counts from later
        let ours_until = world.elapsed() + life;
        let after_death = match world.acquire(holder, life).await {
            Ok(Lease::Acquired { after_death }) => after_death,
            Ok(Lease::Held { left }) if world.elapsed() >= patience => {
                return Turn::Coalesced(Err(unavailable(
                    "another refresh of the session takes long",
                    left,
                )));
            }
            Ok(Lease::Held { .. }) => {
                pauses.next(world).await;
                match newer(world, held).await {
                    Ok(Some(state)) => return Turn::Coalesced(Ok(state)),
                    Ok(None) => continue,
                    Err(error) => return Turn::Coalesced(Err(error)),
                }
            }
            Ok(Lease::Resting { left }) => {
                return Turn::Coalesced(match newer(world, held).await {
                    Ok(Some(state)) => Ok(state),
                    Ok(None) => Err(unavailable(
                        "the session's last refresh failed a moment ago",
                        left,
                    )),
                    Err(error) => Err(error),
                });
            }
            // it may be ours all the same
            Err(error) => return Turn::Leased(Err(error)),
        };
        if after_death {
            world.note(Note::AfterDeath);
            // it may live, have the tokens, and reach the store again just as we do
            world.pause(GRACE).await;
        }
        let state = match world.load().await {
            Ok(Some(state)) if world.is_newer(held, &state) => {
                world.note(Note::Coalesced);
                return Turn::Leased(Ok(state));
            }
            Ok(Some(state)) => state,
            Ok(None) => return Turn::Leased(Err(SIGNED_OUT)),
            Err(error) => return Turn::Leased(Err(error)),
        };
        // no await between this and the request: whoever was frozen until here must not send
        if world.elapsed() + world.deadline() + SLACK <= ours_until {
            world.note(Note::Sent);
            let work = send_and_save(world, state, answer);
            return Turn::Leased(keeping(world, holder, life, work).await);
        }
        if world.elapsed() >= patience {
            return Turn::Leased(Err(Error::StoreUnavailable {
                reason: "it answers too slowly to hold a lease".to_owned(),
                retry_after: 1,
            }));
        }
    }
}

/// The store's state, if it is newer than what the caller held.
async fn newer<W: World>(world: &W, held: &W::State) -> Result<Option<W::State>, Error> {
    let state = world.load().await?.ok_or(SIGNED_OUT)?;
    if !world.is_newer(held, &state) {
        return Ok(None);
    }
    world.note(Note::Coalesced);
    Ok(Some(state))
}

/// Does `work` and extends the lease meanwhile, as long as it is ours.
async fn keeping<W: World, T>(
    world: &W,
    holder: Holder,
    life: Duration,
    work: impl Future<Output = T> + Send,
) -> T {
    let mut work = pin!(work);
    loop {
        match select(work.as_mut(), pin!(world.pause(EXTENDING))).await {
            Either::Left((done, _)) => return done,
            Either::Right(((), _)) => {}
        }
        let mut extension = pin!(world.acquire(holder, life));
        match select(work.as_mut(), extension.as_mut()).await {
            Either::Left((done, _)) => {
                // else it could reach the store after the release, and the lease would be stuck
                let _ = extension.await;
                return done;
            }
            Either::Right((Ok(Lease::Acquired { .. }) | Err(_), _)) => {}
            Either::Right((Ok(Lease::Held { .. } | Lease::Resting { .. }), _)) => {
                world.note(Note::LeaseLost);
                // what was sent cannot be unsent; the save will see what became of the record
                return work.await;
            }
        }
    }
}

async fn send_and_save<W: World>(
    world: &W,
    sent: W::State,
    answer: &mut Answer<W::State>,
) -> Result<W::State, Error> {
    match world.send(&sent).await {
        Ok(fresh) => save(world, sent, fresh, answer).await,
        Err(Error::GrantEnded) => end(world, sent, answer).await,
        Err(error) => Err(error),
    }
}

/// Saves what the provider answered: from here on it is the only copy of the session.
async fn save<W: World>(
    world: &W,
    mut base: W::State,
    fresh: W::Fresh,
    answer: &mut Answer<W::State>,
) -> Result<W::State, Error> {
    let mut tries = Tries::new(world);
    loop {
        let outcome = world.save(&base, &fresh).await;
        let error = match outcome {
            Ok(Saved::Yes(state)) => return Ok(state),
            // ours, saved by a try whose answer was lost, or what came after it; or somebody's who
            // got the lease. Nothing is revoked: that can end what is stored along with it.
            Ok(Saved::Changed(state)) if world.is_newer(&base, &state) => return Ok(state),
            Ok(Saved::Changed(state)) => {
                base = state;
                None
            }
            Ok(Saved::Gone) => {
                world.discard(fresh).await;
                return Err(SIGNED_OUT);
            }
            Err(error) => Some(error),
        };
        tries.next(world, error, answer).await?;
    }
}

/// Ends a session that the provider has ended, unless its record has moved on meanwhile.
async fn end<W: World>(
    world: &W,
    mut sent: W::State,
    answer: &mut Answer<W::State>,
) -> Result<W::State, Error> {
    let mut tries = Tries::new(world);
    loop {
        let error = match world.end(&sent).await {
            Ok(Ended::Yes) => return Err(Error::GrantEnded),
            Ok(Ended::Changed(state)) if world.is_newer(&sent, &state) => {
                world.note(Note::Coalesced);
                return Ok(state);
            }
            Ok(Ended::Changed(state)) => {
                sent = state;
                None
            }
            Err(error) => Some(error),
        };
        tries.next(world, error, answer).await?;
    }
}

async fn release<W: World>(world: &W, holder: Holder, rest: Duration) {
    let mut pauses = Pauses::new();
    for _ in 0..MAX_RELEASES {
        if world.release(holder, rest).await.is_ok() {
            return;
        }
        pauses.next(world).await;
    }
    // it runs out by itself
}

/// For how long nobody tries again what just failed like this.
fn rest_after(error: &Error) -> Duration {
    match error {
        Error::ProviderUnavailable { retry_after, .. } => {
            Duration::from_secs((*retry_after).into()).clamp(SHORTEST_REST, LONGEST_REST)
        }
        // nothing to spare: the store is asked by everybody anyway, or the session is over
        Error::StoreUnavailable { .. } | Error::GrantEnded | Error::SessionExpired(_) => Duration::ZERO,
        // the provider answered, and will answer the same for a while
        _ => LONGEST_REST,
    }
}

fn unavailable(reason: &str, left: Duration) -> Error {
    let left = left.clamp(SHORTEST_REST, LONGEST_REST);
    let whole = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
    Error::ProviderUnavailable {
        reason: reason.to_owned(),
        retry_after: whole.saturating_add(u32::from(left.subsec_nanos() > 0)),
    }
}

/// Whoever waits gets one answer; what comes later is for the store alone.
struct Answer<S>(Option<oneshot::Sender<Result<S, Error>>>);

impl<S> Answer<S> {
    fn give(&mut self, outcome: Result<S, Error>) {
        if let Some(sender) = self.0.take() {
            // whoever hung up does not need it
            let _ = sender.send(outcome);
        }
    }
}

/// Growing pauses.
struct Pauses(Duration);

impl Pauses {
    const fn new() -> Self {
        Self(SHORTEST_PAUSE)
    }

    async fn next<W: World>(&mut self, world: &W) {
        let pause = world.jittered(self.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        world.pause(pause).await;
    }
}

/// Tries to write what must not be lost.
struct Tries {
    since: Duration,
    pauses: Pauses,
}

impl Tries {
    fn new<W: World>(world: &W) -> Self {
        Self {
            since: world.elapsed(),
            pauses: Pauses::new(),
        }
    }

    /// Waits for the next try, after an error or because the record had changed.
    async fn next<W: World>(
        &mut self,
        world: &W,
        error: Option<Error>,
        answer: &mut Answer<W::State>,
    ) -> Result<(), Error> {
        let error = error.unwrap_or_else(|| Error::StoreUnavailable {
            reason: "the session's record changes all the time".to_owned(),
            retry_after: 1,
        });
        let so_far = world.elapsed().saturating_sub(self.since);
        if so_far >= SAVING {
            world.note(Note::NotSaved);
            return Err(error);
        }
        if so_far >= PATIENCE && answer.0.is_some() {
            world.note(Note::NotSavedYet);
            answer.give(Err(error));
        }
        self.pauses.next(world).await;
        Ok(())
    }
}

/// How long a lease lives whose holder may be busy for `deadline` with the provider.
const fn lease_life(deadline: Duration) -> Duration {
    deadline.saturating_add(SPARE)
}

const SIGNED_OUT: Error = Error::SessionExpired("signed out");

/// By how much a lease outlives a request that is sent at once.
const SPARE: Duration = Duration::from_secs(20);

/// How much of that has to be left when it is sent; also how much longer than a request others wait.
const SLACK: Duration = Duration::from_secs(5);

/// After what time a lease is extended.
const EXTENDING: Duration = Duration::from_secs(8);

/// How long a dead holder is given to turn out alive, and save.
const GRACE: Duration = Duration::from_secs(5);

/// How long a call to the store may take, retries of its client included.
const STORE_CALL: Duration = Duration::from_secs(3);

// A request that is sent ends before its lease does, even if no extension gets through.
const _: () = assert!(SLACK.as_secs() < SPARE.as_secs());
// Who waits the grace can send without asking for the lease again.
const _: () = assert!(GRACE.as_secs() + 2 * STORE_CALL.as_secs() + SLACK.as_secs() < SPARE.as_secs());
// One extension may fail before the lease ends.
const _: () = assert!(2 * EXTENDING.as_secs() + STORE_CALL.as_secs() < SPARE.as_secs());
// A holder that lives and can reach the store again saves within the grace.
const _: () = assert!(LONGEST_PAUSE.as_secs() + STORE_CALL.as_secs() < GRACE.as_secs());

/// For how long new tokens are kept to be saved while the store is away.
const SAVING: Duration = Duration::from_secs(120);

/// For how long the caller waits for that.
const PATIENCE: Duration = Duration::from_secs(3);

/// Pauses between two looks at the record, and between two tries to write.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// For how long a failed refresh is left alone.
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// How often giving the lease back is tried.
const MAX_RELEASES: u32 = 3;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Notify;

    use super::*;

    /// A session whose tokens are a number, and a provider that answers when it is told to.
    #[derive(Default)]
    struct Slow {
        record: Mutex<u32>,
        asked: Notify,
        answers: Notify,
        released: Notify,
    }

    impl World for Slow {
        type State = u32;
        type Fresh = u32;

        async fn load(&self) -> Result<Option<u32>, Error> {
            Ok(Some(*self.record.lock().expect("no test panics with it")))
        }

        fn is_newer(&self, held: &u32, loaded: &u32) -> bool {
            loaded > held
        }

        async fn acquire(&self, _: Holder, _: Duration) -> Result<Lease, Error> {
            Ok(Lease::Acquired { after_death: false })
        }

        async fn release(&self, _: Holder, _: Duration) -> Result<(), Error> {
            self.released.notify_one();
            Ok(())
        }

        async fn send(&self, state: &u32) -> Result<u32, Error> {
            self.asked.notify_one();
            self.answers.notified().await;
            Ok(state + 1)
        }

        async fn save(&self, _: &u32, fresh: &u32) -> Result<Saved<u32>, Error> {
            *self.record.lock().expect("no test panics with it") = *fresh;
            Ok(Saved::Yes(*fresh))
        }

        async fn discard(&self, _: u32) {}

        async fn end(&self, _: &u32) -> Result<Ended<u32>, Error> {
            Ok(Ended::Yes)
        }

        async fn pause(&self, _: Duration) {
            std::future::pending().await
        }

        fn jittered(&self, pause: Duration) -> Duration {
            pause
        }

        fn holder(&self) -> Holder {
            Holder([0; 16])
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }

        fn deadline(&self) -> Duration {
            Duration::from_secs(10)
        }

        fn note(&self, _: Note) {}
    }

    #[tokio::test]
    async fn a_caller_that_hangs_up_does_not_stop_the_refresh() {
        let world = Arc::new(Slow::default());
        let runtime = Handle::current();
        let mut caller = Box::pin(renew(&runtime, Arc::clone(&world), 0));
        tokio::select! {
            _ = &mut caller => panic!("nobody has answered yet"),
            () = world.asked.notified() => {}
        }
        drop(caller);
        world.answers.notify_one();
        world.released.notified().await;
        assert_eq!(world.load().await.ok(), Some(Some(1)));
        // and who comes now takes it
        assert_eq!(renew(&runtime, world, 0).await.ok(), Some(1));
    }

    #[test]
    fn a_failure_is_left_alone_for_as_long_as_it_says_within_bounds() {
        let unavailable = |retry_after| Error::ProviderUnavailable {
            reason: String::new(),
            retry_after,
        };
        for (error, seconds) in [
            (unavailable(0), 1),
            (unavailable(7), 7),
            (unavailable(3_600), 30),
            (Error::Provider("no JSON".to_owned()), 30),
            (Error::GrantEnded, 0),
            (SIGNED_OUT, 0),
        ] {
            assert_eq!(rest_after(&error), Duration::from_secs(seconds), "{error}");
        }
        let told = super::unavailable("", Duration::from_millis(1_001));
        assert!(matches!(told, Error::ProviderUnavailable { retry_after: 2, .. }));
    }
}
