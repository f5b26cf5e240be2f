//! Tokens of the client's own (RFC 6749 §4.4): asked for, kept, renewed, and let go.
//!
//! [`ClientCredential`] is what is known of one of them; every question about it is a function of that
//! and of the time. A token is used until shortly before its end, renewed before that, and forgotten
//! when an API says that it is no longer good, at most once in ten seconds. After a failure it is not
//! asked for again for a while. A caller never learns why there is no token: that is for the log. Nothing
//! here looks at a cookie or knows of a user.

use std::sync::Arc;
use std::time::Duration;

use super::api::Decision;
use crate::config::{ClientGrant, Provider};
use crate::error::Error;
use crate::handler::Handler;
use crate::headers::Authorization;
use crate::oauth::dpop::BoundToken;
use crate::oauth::{client_credentials, dpop};
use crate::rng::{Rng, random};
use crate::seal::ProofKey;
use crate::secret::Secret;
use crate::step::{Context, Step};
use crate::time::UnixTime;

/// What the client's own tokens are bound to (RFC 9449), if they are. Made once for each, and never
/// kept anywhere.
pub struct ClientKey(Option<ProofKey>);

/// One token of the client's own.
pub struct ClientToken {
    token: Secret,
    bound: Option<Arc<BoundToken>>,
    /// From when on a new one is to be had.
    renew_at: UnixTime,
    /// Until when it is attached.
    usable_until: UnixTime,
}

/// What is known of one token of the client's own; nothing at first.
#[derive(Clone, Default)]
pub struct ClientCredential {
    token: Option<Arc<ClientToken>>,
    failure: Option<Failure>,
    /// When an API last had a token forgotten.
    forgotten_at: Option<UnixTime>,
}

/// What a call may do.
pub enum ClientStanding<'a> {
    /// Carry this token. It may be time for a new one, beside the call.
    Good(&'a Arc<ClientToken>, Renewal),
    /// Wait until one is asked for.
    Missing,
    /// Nothing: it is too early to ask again.
    Refused(Error),
}

/// Whether it is time for a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is.
    Due,
    /// It is not.
    NotYet,
}

/// What a [`Decision`] knows of a token of the client's own.
pub(super) enum OwnToken {
    /// That of this grant has to be attached before the call may go on.
    Wanted(usize),
    /// It is.
    Attached(Box<Authorization>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Failure {
    /// Whether asking again may help without anybody's doing.
    passes: bool,
    /// How many there were in a row.
    count: u32,
    again_at: UnixTime,
}

impl Handler {
    /// A key for tokens of the client's own, where they are bound to one.
    ///
    /// # Errors
    /// [`Error::Bug`] when the backend makes none.
    pub fn client_key(&self) -> Result<ClientKey, Error> {
        let key = self.client_of_routes().dpop.map(ProofKey::generate);
        Ok(ClientKey(key.transpose()?))
    }

    /// Asks for a token of the client's own.
    ///
    /// # Errors
    /// [`Error::Provider`] when this client cannot authenticate with what the metadata offers. What comes
    /// out of the step: [`Error::ProviderUnavailable`] where asking again may help, [`Error::Provider`]
    /// where somebody has to change something first.
    pub fn client_token(
        &self,
        grant: &ClientGrant,
        key: &ClientKey,
        context: &mut Context<'_>,
    ) -> Result<Step<Arc<ClientToken>>, Error> {
        let (grant, provider, key) = (grant.clone(), Arc::clone(self.client_of_routes()), key.0.clone());
        let unsaid = self.client_of_routes().token_life(&self.app.session);
        let request = {
            let (grant, provider) = (grant.clone(), Arc::clone(&provider));
            move |context: &mut Context<'_>| client_credentials::request(&grant, &provider, context)
        };
        let own = key.clone();
        dpop::converse(key.as_ref(), context, request, move |reply, context| {
            let wanted = dpop::token_type(own.as_ref());
            let (token, life) = client_credentials::read(&grant, &reply, wanted, &provider, context)?;
            let life = life.map_or(unsaid, Duration::from_secs);
            let token = ClientToken::new(token, own.as_ref(), life, context.now)?;
            Ok(Step::Done(Arc::new(token)))
        })
    }

    /// The provider of the client whose tokens routes carry. The one place that picks it.
    fn client_of_routes(&self) -> &Arc<Provider> {
        &self.provider
    }
}

impl Decision<'_> {
    /// The grant whose token the call needs, by its position in
    /// [`client_grants`](crate::config::Application::client_grants), until it is attached.
    pub fn wanted_grant(&self) -> Option<usize> {
        match self.client {
            Some(OwnToken::Wanted(grant)) => Some(grant),
            Some(OwnToken::Attached(_)) | None => None,
        }
    }

    /// Attaches the token of the client's own that the call needs; without effect where it needs none.
    pub fn attach(&mut self, token: &ClientToken) {
        if let Some(OwnToken::Wanted(_)) = self.client {
            self.client = Some(OwnToken::Attached(Box::new(token.authorization())));
        }
    }
}

impl ClientToken {
    fn new(token: Secret, key: Option<&ProofKey>, life: Duration, now: UnixTime) -> Result<Self, Error> {
        let margin = AHEAD.min(Duration::from_secs(life.as_secs().div_ceil(4)));
        let used = life.saturating_sub(margin);
        if used.is_zero() {
            return Err(Error::Provider(
                "token endpoint: the token of client_credentials is over as soon as it is there".to_owned(),
            ));
        }
        let bound = match key {
            None => None,
            Some(key) => Some(
                Authorization::bind(key, &token)
                    .ok_or(Error::Bug("the key of the client's tokens is no key"))?,
            ),
        };
        // in whole seconds at least one before the end, unless there is but one
        let early = EARLY.min(Duration::from_secs(used.as_secs().div_ceil(5)));
        Ok(Self {
            token,
            bound,
            renew_at: now.plus(used.saturating_sub(early)),
            usable_until: now.plus(used),
        })
    }

    /// As a call carries it.
    fn authorization(&self) -> Authorization {
        Authorization::of_client(&self.token, self.bound.as_ref())
    }
}

impl ClientCredential {
    /// What a call may do now.
    pub fn standing(&self, now: UnixTime) -> ClientStanding<'_> {
        // more is left than any pause has only where the clock was set back
        let rests = self
            .failure
            .filter(|failure| failure.again_at > now && failure.again_at.seconds_from(now) <= LONGEST_PAUSE);
        match (&self.token, rests) {
            (Some(token), rests) if token.usable_until > now => {
                let due = token.renew_at <= now && rests.is_none();
                ClientStanding::Good(token, if due { Renewal::Due } else { Renewal::NotYet })
            }
            (_, None) => ClientStanding::Missing,
            (_, Some(failure)) => ClientStanding::Refused(failure.error(now)),
        }
    }

    /// The same for another configuration: what failed may have failed by the old one. None where nothing
    /// failed.
    pub fn taken_over(&self) -> Option<Self> {
        self.failure.map(|_| Self {
            failure: None,
            ..self.clone()
        })
    }

    /// What is known once it was asked for. A token that is still good stays where there is no newer.
    #[must_use]
    pub fn settled(
        &self,
        outcome: Result<Arc<ClientToken>, &Error>,
        now: UnixTime,
        rng: &mut dyn Rng,
    ) -> Self {
        match outcome {
            Ok(token) => Self {
                token: Some(token),
                failure: None,
                forgotten_at: self.forgotten_at,
            },
            Err(error) => {
                let count = self.failure.map_or(0, |failure| failure.count).saturating_add(1);
                let passes = matches!(error, Error::ProviderUnavailable { .. });
                Self {
                    failure: Some(Failure {
                        passes,
                        count,
                        again_at: now.plus(pause(passes, count, rng)),
                    }),
                    ..self.clone()
                }
            }
        }
    }

    /// The same without the token that an API says is no longer good, so that the next call asks for
    /// another; none where it is another one by now, or where an API said so a moment ago: whoever refuses
    /// every token must not make the provider issue one for each call.
    pub fn forgetting(&self, refused: &Arc<ClientToken>, now: UnixTime) -> Option<Self> {
        let is_it = self
            .token
            .as_ref()
            .is_some_and(|token| Arc::ptr_eq(token, refused));
        let lately = self
            .forgotten_at
            .is_some_and(|at| at <= now && now.seconds_from(at) < BETWEEN_FORGETTING);
        (is_it && !lately).then(|| Self {
            token: None,
            failure: self.failure,
            forgotten_at: Some(now),
        })
    }
}

impl Failure {
    fn error(self, now: UnixTime) -> Error {
        match self.passes {
            true => Error::ProviderUnavailable {
                reason: "there is no access token of the client's own; the log has said why".to_owned(),
                retry_after: u32::try_from(self.again_at.seconds_from(now))
                    .unwrap_or(u32::MAX)
                    .max(1),
            },
            false => Error::Provider(
                "it gives no access token of the client's own; the log has said why".to_owned(),
            ),
        }
    }
}

/// How long nobody asks after so many failures in a row: doubled each time up to a bound, and up to
/// half as long again, so that replicas do not come together.
fn pause(passes: bool, count: u32, rng: &mut dyn Rng) -> Duration {
    let (first, longest) = match passes {
        true => (1_u64, 30),
        false => (10, 300),
    };
    let doubled = first.saturating_mul(1_u64.checked_shl(count.saturating_sub(1)).unwrap_or(u64::MAX));
    let base = doubled.min(longest);
    let [random] = random::<1>(rng);
    let jitter = base.saturating_mul(u64::from(random)) / 512;
    Duration::from_secs(base.saturating_add(jitter))
}

/// How long before its end a token is used no more: a call may be on its way for a while. Of a short
/// life three quarters are used.
const AHEAD: Duration = Duration::from_secs(30);

/// How long before that a new one is asked for, or in the last fifth.
const EARLY: Duration = Duration::from_secs(60);

/// No pause is longer, in seconds.
const LONGEST_PAUSE: u64 = 450;

/// How many seconds are between two tokens that are forgotten.
const BETWEEN_FORGETTING: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::testing::Counter;

    const NOW: UnixTime = UnixTime(1_900_000_000);

    fn after(seconds: u64) -> UnixTime {
        UnixTime(NOW.0 + seconds)
    }

    fn token(life: u64) -> Option<Arc<ClientToken>> {
        let token = ClientToken::new(Secret::new("t"), None, Duration::from_secs(life), NOW);
        token.ok().map(Arc::new)
    }

    fn away() -> Error {
        Error::ProviderUnavailable {
            reason: "canary".to_owned(),
            retry_after: 3,
        }
    }

    fn refused() -> Error {
        Error::Provider("canary".to_owned())
    }

    /// In one letter: used, due, missing, away, refused.
    fn letter(credential: &ClientCredential, now: UnixTime) -> char {
        match credential.standing(now) {
            ClientStanding::Good(_, Renewal::NotYet) => 'u',
            ClientStanding::Good(_, Renewal::Due) => 'd',
            ClientStanding::Missing => 'm',
            ClientStanding::Refused(Error::ProviderUnavailable { .. }) => 'a',
            ClientStanding::Refused(_) => 'r',
        }
    }

    #[test]
    fn a_token_is_used_until_shortly_before_its_end_and_renewed_before_that() {
        // life, due from, used until
        for (life, due, until) in [
            (3600, 3510, 3570),
            (300, 216, 270),
            (120, 72, 90),
            (60, 36, 45),
            (8, 4, 6),
            (2, 0, 1),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            let token = token(life).expect("it lives");
            let at = |seconds: u64| UnixTime(NOW.0.saturating_add(seconds));
            if life == u64::MAX {
                assert!(token.usable_until > at(1 << 40), "{life}");
                continue;
            }
            assert_eq!(
                (token.renew_at, token.usable_until),
                (at(due), at(until)),
                "{life}"
            );
            let known = ClientCredential::default().settled(Ok(token), NOW, &mut Counter(1));
            if due > 0 {
                assert_eq!(letter(&known, at(due - 1)), 'u', "{life}");
            }
            assert_eq!(letter(&known, at(until - 1)), 'd', "{life}");
            assert_eq!(letter(&known, at(until)), 'm', "{life}");
        }
        assert!(token(0).is_none() && token(1).is_none());
    }

    #[test]
    fn failures_pause_for_longer_each_time_and_never_for_ever() {
        for (error, letter_then, bounds) in [
            (
                away(),
                'a',
                [(1, 1), (2, 3), (4, 6), (8, 12), (16, 24), (30, 45), (30, 45)],
            ),
            (
                refused(),
                'r',
                [
                    (10, 15),
                    (20, 30),
                    (40, 60),
                    (80, 120),
                    (160, 240),
                    (300, 450),
                    (300, 450),
                ],
            ),
        ] {
            let (mut known, mut now, mut rng) = (ClientCredential::default(), NOW, Counter(7));
            assert_eq!(letter(&known, now), 'm');
            for (least, most) in bounds {
                known = known.settled(Err(&error), now, &mut rng);
                let until = known.failure.expect("it failed").again_at;
                let pause = until.seconds_from(now);
                assert!((least..=most).contains(&pause), "{pause} not in {least}..={most}");
                assert_eq!(letter(&known, now), letter_then);
                assert_eq!(letter(&known, UnixTime(until.0 - 1)), letter_then);
                assert_eq!(letter(&known, until), 'm');
                now = until;
            }
            // a clock that was set back holds nobody up for longer
            assert_eq!(letter(&known, UnixTime(NOW.0 - 100_000)), 'm');
            known = known.settled(Ok(token(300).expect("it lives")), NOW, &mut rng);
            assert_eq!(letter(&known, NOW), 'u');
            known = known.settled(Err(&error), NOW, &mut rng);
            assert_eq!(known.failure.expect("it failed").count, 1, "a success ends it");
        }
        for count in [0, 1, 63, 64, 65, u32::MAX] {
            for passes in [false, true] {
                assert!(pause(passes, count, &mut Counter(3)).as_secs() <= LONGEST_PAUSE);
            }
        }
    }

    #[test]
    fn what_callers_are_told_has_no_reason_in_it() {
        for error in [away(), refused()] {
            let known = ClientCredential::default().settled(Err(&error), NOW, &mut Counter(1));
            let ClientStanding::Refused(told) = known.standing(NOW) else {
                panic!("it rests");
            };
            let answer = told.answer();
            assert!(!told.to_string().contains("canary") && !answer.detail.contains("canary"));
            assert_eq!(
                answer.retry_after,
                matches!(error, Error::ProviderUnavailable { .. }).then_some(1)
            );
        }
    }

    #[test]
    fn a_token_that_is_still_good_outlives_a_failed_renewal() {
        let mut rng = Counter(1);
        let known = ClientCredential::default().settled(Ok(token(300).expect("it lives")), NOW, &mut rng);
        assert_eq!(letter(&known, after(220)), 'd');
        let known = known.settled(Err(&away()), after(220), &mut rng);
        assert_eq!(letter(&known, after(220)), 'u');
        assert_eq!(letter(&known, after(221)), 'd');
        let known = known.settled(Err(&refused()), after(265), &mut rng);
        assert_eq!(letter(&known, after(269)), 'u');
        assert_eq!(letter(&known, after(270)), 'r');
        // the failure was the old configuration's
        let known = known.taken_over().expect("it failed");
        assert_eq!(letter(&known, after(269)), 'd');
        assert_eq!(letter(&known, after(270)), 'm');
        assert!(known.taken_over().is_none());
    }

    #[test]
    fn a_refused_token_is_forgotten_once_in_ten_seconds_and_only_if_it_is_the_one() {
        let mut rng = Counter(1);
        let (first, second) = (token(300).expect("it lives"), token(300).expect("it lives"));
        let known = ClientCredential::default().settled(Ok(Arc::clone(&first)), NOW, &mut rng);
        assert!(known.forgetting(&second, NOW).is_none(), "another one");
        let known = known.forgetting(&first, NOW).expect("it is forgotten");
        assert_eq!(letter(&known, NOW), 'm');
        assert!(known.forgetting(&first, NOW).is_none(), "it is gone already");
        let known = known.settled(Ok(Arc::clone(&second)), NOW, &mut rng);
        assert!(
            known.forgetting(&first, after(60)).is_none(),
            "that call was late"
        );
        assert!(known.forgetting(&second, after(9)).is_none(), "too early");
        assert!(known.forgetting(&second, after(10)).is_some());
        // the clock was set back
        assert!(known.forgetting(&second, UnixTime(NOW.0 - 1)).is_some());
    }
}
