//! Calls that wait for what the provider says of their token, and go on with what it gave in its place.
//!
//! A decision that was made is asked what has to be known of its token ([`Decision::introspection`]), the
//! provider is asked ([`Handler::introspect`]), and the answer is laid onto the decision
//! ([`Decision::introspected`]). How long an answer counts is decided here: no longer than the token, and
//! an answer that a token is worth nothing only for a moment. Nothing is kept here. What is not active is
//! an access token that has expired, and no session ends by that which has a refresh token.

use std::time::Duration;

use crate::config::{Introspection, IntrospectionResponse, defaults};
use crate::error::Error;
use crate::flow::Decision;
use crate::flow::api::Inactive;
use crate::handler::Handler;
use crate::headers::Authorization;
use crate::oauth::introspection::{Answered, Asked};
use crate::secret::Secret;
use crate::session::NoToken;
use crate::step::{Context, Step};
use crate::time::UnixTime;

use std::sync::Arc;

/// What has to be known before a call may pass.
pub struct Question {
    introspection: Arc<Introspection>,
    token: Secret,
    name: AnswerName,
    /// Until when the token is attached to calls.
    until: UnixTime,
}

/// Names an answer: by the token that it is about, and by what was asked. No secret: a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnswerName([u8; 32]);

/// What the provider said of a token, and until when that counts.
#[derive(Clone)]
pub struct Introspected {
    answered: Answered,
    until: UnixTime,
}

impl Question {
    /// Under which name its answer may be remembered.
    pub fn name(&self) -> AnswerName {
        self.name
    }
}

impl Introspected {
    /// From this time on it has to be asked again.
    pub fn counts_until(&self) -> UnixTime {
        self.until
    }
}

impl Handler {
    /// Asks the provider.
    ///
    /// # Errors
    /// [`Error::Provider`] where it has no introspection endpoint, where this client cannot authenticate,
    /// and for an answer that is not acceptable; [`Error::ProviderUnavailable`] for an outage.
    pub fn introspect(
        &self,
        question: Question,
        context: &mut Context<'_>,
    ) -> Result<Step<Introspected>, Error> {
        let Question {
            introspection,
            token,
            until,
            ..
        } = question;
        if !introspection.is_for(&self.provider) {
            return Err(Error::Bug(
                "a provider is asked about its own tokens, and no other's",
            ));
        }
        let asked = Asked {
            provider: Arc::clone(&self.provider),
            introspection: Arc::clone(&introspection),
            token,
        };
        asked.step(context)?.and_then(context, move |answered, context| {
            let until = counts_until(&answered, &introspection, context.now).min(until);
            Ok(Step::Done(Introspected { answered, until }))
        })
    }
}

impl Decision<'_> {
    /// Under which name an answer about this call's token may be remembered; none where the call carries
    /// no token.
    pub fn introspection(&self, introspection: &Introspection) -> Option<AnswerName> {
        let credentials = self.authorization()?.credentials()?;
        Some(AnswerName(introspection.name_of(credentials)))
    }

    /// What the provider has to be asked, where that is not known.
    ///
    /// # Errors
    /// [`Error::Bug`] where the call carries no token.
    pub fn question(&self, introspection: &Arc<Introspection>) -> Result<Question, Error> {
        let missing = || Error::Bug("there is no token to ask about");
        let name = self.introspection(introspection).ok_or_else(missing)?;
        let token = self.authorization().and_then(Authorization::token);
        Ok(Question {
            introspection: Arc::clone(introspection),
            token: token.ok_or_else(missing)?,
            name,
            until: self.session().ok_or_else(missing)?.honoured_until,
        })
    }

    /// Lays an answer onto the call: with the token that is in it, if one is. `scopes` are those that the
    /// route demands.
    ///
    /// # Errors
    /// For a token that is not active [`Error::AccessTokenExpired`]; without a refresh token to get another
    /// [`Error::SessionExpired`], or [`Error::Provider`] of an API's; [`Error::InsufficientScope`] where the
    /// provider says that it has fewer scopes than the route demands.
    pub fn introspected(&mut self, answer: &Introspected, scopes: &[String]) -> Result<(), Error> {
        let active = match &answer.answered {
            Answered::Inactive => {
                return Err(match self.inactive() {
                    Inactive::Expired => Error::AccessTokenExpired,
                    Inactive::SessionOver => Error::SessionExpired(
                        "the provider calls its access token inactive, and there is no refresh token",
                    ),
                    Inactive::NoToken => NoToken::Refused.error(answer.until, answer.until),
                });
            }
            Answered::Active(active) => active,
        };
        if let Some(granted) = &active.scope
            && !scopes
                .iter()
                .all(|wanted| granted.split(' ').any(|granted| granted == wanted))
        {
            return Err(Error::InsufficientScope {
                scope: scopes.join(" "),
            });
        }
        if let Some(replacement) = &active.replacement {
            self.carry(Authorization::bearer(replacement));
        }
        Ok(())
    }
}

/// Until when an answer counts that came now.
fn counts_until(answered: &Answered, introspection: &Introspection, now: UnixTime) -> UnixTime {
    let active = match answered {
        Answered::Inactive => return now.plus(OF_THE_INACTIVE),
        Answered::Active(active) => active,
    };
    let longest = match (introspection.cache, introspection.response, active.expires_at) {
        (Some(cache), _, _) => cache,
        (None, IntrospectionResponse::Jwt | IntrospectionResponse::PhantomToken, Some(expires_at)) => {
            return expires_at;
        }
        (None, _, _) => defaults::INTROSPECTION_CACHE,
    };
    let until = now.plus(longest);
    active
        .expires_at
        .map_or(until, |expires_at| until.min(expires_at))
}

/// For how long a token is known to be worth nothing: nobody can make the provider be asked more often.
const OF_THE_INACTIVE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assurance::Demands;
    use crate::oauth::introspection::Active;

    #[test]
    fn an_answer_counts_no_longer_than_the_token_and_a_no_only_for_a_moment() {
        use IntrospectionResponse::{Json, Jwt, PhantomToken};
        const NOW: UnixTime = UnixTime(1_000);
        let active = |expires_at: Option<u64>| {
            Answered::Active(Active {
                replacement: None,
                scope: None,
                expires_at: expires_at.map(UnixTime),
            })
        };
        for (name, answered, response, cache, until) in [
            ("json", active(Some(2_000)), Json, None, 1_060),
            ("json without an end", active(None), Json, None, 1_060),
            ("json that ends soon", active(Some(1_010)), Json, None, 1_010),
            ("json for less", active(Some(2_000)), Json, Some(5), 1_005),
            ("json for nothing", active(Some(2_000)), Json, Some(0), 1_000),
            ("json for longer", active(Some(2_000)), Json, Some(300), 1_300),
            ("a jwt", active(Some(2_000)), Jwt, None, 2_000),
            ("a phantom", active(Some(2_000)), PhantomToken, None, 2_000),
            ("a jwt without an end", active(None), Jwt, None, 1_060),
            ("a jwt for less", active(Some(2_000)), Jwt, Some(30), 1_030),
            (
                "a jwt for longer than it lives",
                active(Some(1_010)),
                Jwt,
                Some(30),
                1_010,
            ),
            ("over within the leeway", active(Some(995)), Jwt, None, 995),
            ("inactive", Answered::Inactive, Jwt, None, 1_005),
            (
                "inactive, whatever is written",
                Answered::Inactive,
                Json,
                Some(300),
                1_005,
            ),
        ] {
            let introspection = Introspection {
                response,
                audience: None,
                cache: cache.map(Duration::from_secs),
                whose: Demands::issued_by(None, "https://login.example.com", "shop"),
            };
            let counted = counts_until(&answered, &introspection, NOW);
            assert_eq!(counted, UnixTime(until), "{name}");
        }
    }
}
