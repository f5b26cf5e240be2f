//! What a sign-in asked for, as it is sealed with it, whether the user authenticated like that, and
//! whether it is asked for again.
//!
//! A configuration that changed meanwhile does not change what was asked. Nothing here sends or seals
//! anything.

use crate::assurance::Authentication;
use crate::error::Error;
use crate::handler::Handler;
use crate::oauth::authorization::{ASKED_AGAIN, RequestedParameters};
use crate::session::LoginTransaction;
use crate::time::UnixTime;

impl Handler {
    /// What `max_age` the request has: the caller's, or the configuration's.
    pub(super) fn max_age_of(&self, requested: &RequestedParameters) -> Option<u64> {
        let mut fixed = self.provider.authorization_parameters.iter();
        let fixed = fixed
            .find(|(name, _)| name == "max_age")
            .map(|(_, value)| value.as_str());
        fixed.or_else(|| requested.get("max_age"))?.parse().ok()
    }

    /// What is granted where the provider does not say (RFC 6749 §5.1), if that is not the caller's
    /// `scope`. What is very long has only what some route demands: it goes into cookies.
    pub(super) fn asked_scope(&self, requested: &RequestedParameters) -> Option<String> {
        if requested.get("scope").is_some() {
            return None;
        }
        let asked = requested.scope(&self.provider);
        if asked.len() <= MAX_ASKED_SCOPE {
            return Some(asked);
        }
        let demands = self.app.routes.iter().filter_map(|route| route.demands.as_ref());
        let demanded: Vec<&String> = demands.flat_map(|demands| &demands.wanted.scopes).collect();
        let kept = asked
            .split(' ')
            .filter(|scope| demanded.iter().any(|one| one == scope));
        Some(kept.collect::<Vec<_>>().join(" "))
    }
}

/// Whether the user authenticated as strongly and as lately as was asked (OIDC Core §3.1.2.1,
/// RFC 9470 §5). Time is counted from the request: what the user needed at the provider is no delay.
pub(super) fn as_asked(
    transaction: &LoginTransaction,
    authentication: &Authentication,
    leeway: std::time::Duration,
    now: UnixTime,
) -> Result<(), Error> {
    if let Some(max_age) = transaction.max_age {
        let Some(auth_time) = authentication.auth_time else {
            return Err(Error::StepUpUnmet(
                "`auth_time` is missing although `max_age` was asked",
            ));
        };
        let latest = auth_time
            .plus(std::time::Duration::from_secs(max_age))
            .plus(leeway);
        if latest < transaction.started_at {
            return Err(Error::StepUpUnmet(
                "`auth_time` is longer ago than the `max_age` that was asked",
            ));
        }
        if auth_time > now.plus(leeway) {
            return Err(Error::StepUpUnmet(
                "`auth_time` is in the future; check the clocks",
            ));
        }
    }
    let Some(wanted) = &transaction.acr_values else {
        return Ok(());
    };
    let acr = authentication.acr.as_deref();
    match acr.is_some_and(|acr| wanted.split(' ').any(|wanted| wanted == acr)) {
        true => Ok(()),
        false => Err(Error::StepUpUnmet(
            "`acr` is none of the `acr_values` that were asked",
        )),
    }
}

/// Whether a sign-in is to strengthen the session that exists (RFC 9470): then it is for its user.
pub(super) fn is_step_up(requested: &RequestedParameters) -> bool {
    requested.get("acr_values").is_some() || requested.get("max_age").is_some()
}

/// Whether a sign-in that gets lost is started afresh. Travels in `state`, so that it is known without
/// the sign-in and blocked cookies cannot make a loop; forging it signs nobody in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    /// It is: it asks for what every sign-in asks for.
    Fresh,
    /// Where it can still be read: what it asks for is sealed with it.
    Asking,
    /// Never again: it is such a start itself, or asks for what that would leave out.
    Last,
}

impl Mark {
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Fresh => "0",
            Self::Last => "1",
            Self::Asking => "2",
        }
    }

    /// That of a sign-in which a user begins.
    pub(super) fn of_request(requested: &RequestedParameters) -> Self {
        if requested.names().any(|name| !ASKED_AGAIN.contains(&name)) {
            return Self::Last;
        }
        match requested.names().next() {
            None => Self::Fresh,
            Some(_) => Self::Asking,
        }
    }

    pub(super) fn of(state: &str) -> Self {
        let known = [Self::Fresh, Self::Asking];
        let mut known = known.into_iter();
        known
            .find(|mark| state.starts_with(mark.prefix()))
            .unwrap_or(Self::Last)
    }
}

/// How much of the scopes that were asked for a sign-in remembers, in bytes.
const MAX_ASKED_SCOPE: usize = 512;
