//! Says in the log which APIs get no token: once, and once more after ten minutes.
//!
//! Every sign-in and refresh asks for every API's token, so what is wrong with one is wrong for
//! everybody: said each time it would bury the log. Never holds a token, and never says more than the
//! core's own words.

use std::sync::{Mutex, PoisonError};

use coatroom_core::config::{ApiId, Application};
use coatroom_core::flow::ApiFailure;
use coatroom_core::session::NoToken;
use coatroom_core::time::UnixTime;

use crate::handler::Agent;

/// What was said of one application's APIs.
#[derive(Default)]
pub(crate) struct MissingTokens {
    said: Mutex<Vec<(ApiId, String, UnixTime)>>,
}

impl MissingTokens {
    /// Says what failed, as far as it is news.
    pub(crate) fn note(&self, application: &Application, failures: &[ApiFailure], now: UnixTime) {
        for failure in failures {
            if !self.is_news(failure, now) {
                continue;
            }
            let cookies = application.apis.cookies.iter();
            let paths = cookies
                .filter(|cookie| cookie.api == failure.api)
                .map(|cookie| cookie.path.as_str());
            let (application, routes) = (application.id.as_str(), paths.collect::<Vec<_>>().join(" "));
            let reason = &failure.reason;
            match failure.why {
                NoToken::Refused => tracing::error!(
                    application,
                    routes,
                    "the provider gives no access token for the API of these routes, check their `token`: {reason}"
                ),
                NoToken::Unavailable => tracing::warn!(
                    application,
                    routes,
                    "no access token could be had for the API of these routes: {reason}"
                ),
            }
        }
    }

    fn is_news(&self, failure: &ApiFailure, now: UnixTime) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|(_, _, at)| *at <= now && now.seconds_from(*at) < SILENCE);
        let is_news = !said
            .iter()
            .any(|(api, reason, _)| *api == failure.api && *reason == failure.reason);
        if is_news {
            said.push((failure.api, failure.reason.clone(), now));
        }
        is_news
    }
}

impl Agent {
    /// Says which APIs get no token, as far as it is news.
    pub(crate) fn note_missing(&self, failures: &[ApiFailure], now: UnixTime) {
        self.missing_tokens
            .note(self.handler.application(), failures, now);
    }
}

/// For how many seconds the same is not said again.
const SILENCE: u64 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_news_once_in_ten_minutes() {
        let failure = |api, reason: &str| ApiFailure {
            api: ApiId([api; 8]),
            why: NoToken::Refused,
            reason: reason.to_owned(),
        };
        let missing = MissingTokens::default();
        for (now, failure, is_news) in [
            (1_000, failure(1, "invalid_target"), true),
            (1_001, failure(1, "invalid_target"), false),
            (1_001, failure(2, "invalid_target"), true),
            (1_001, failure(1, "invalid_scope"), true),
            (1_599, failure(1, "invalid_target"), false),
            (1_600, failure(1, "invalid_target"), true),
            // the clock was set back
            (900, failure(1, "invalid_target"), true),
        ] {
            assert_eq!(missing.is_news(&failure, UnixTime(now)), is_news, "{now}");
        }
    }
}
