//! `Strict-Transport-Security` (RFC 6797): what an application's answers say, decided once.
//!
//! The whole origin is one application, so its answers speak with one voice: what is configured here,
//! and not what one upstream of many says. Never over plain http (§7.2), where browsers ignore it,
//! and never on loopback, where it would hold for every port of `localhost`. Subdomains are included
//! only when asked for: nobody here knows whether all of them have TLS.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use url::Url;

use super::check::Problems;
use super::defaults::HSTS_MAX_AGE;
use super::is_loopback;

/// `Strict-Transport-Security` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HstsConfig {
    /// Written with the defaults where that is right.
    #[default]
    Default,
    /// Not written: somebody in front or behind does.
    Off,
    /// Written like this.
    Written {
        /// How long browsers remember it; default one year.
        max_age: Option<Duration>,
        /// Whether it holds for subdomains.
        include_subdomains: bool,
        /// Consent to preload lists.
        preload: bool,
    },
}

/// What becomes of `Strict-Transport-Security` on every answer of an application, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hsts {
    /// It says this, whatever an upstream says.
    Written(HeaderValue),
    /// It is not there, whatever an upstream says.
    Removed,
    /// What an upstream says stays.
    Kept,
}

impl Hsts {
    /// Writes it to an answer.
    pub fn write(&self, headers: &mut HeaderMap) {
        match self {
            Self::Written(value) => {
                headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
            }
            Self::Removed => {
                headers.remove(header::STRICT_TRANSPORT_SECURITY);
            }
            Self::Kept => {}
        }
    }

    /// Without a good `url`, which is a problem of its own, nothing is written.
    pub(super) fn check(config: &HstsConfig, url: Option<&Url>, problems: &mut Problems) -> Self {
        let Some(url) = url else {
            return Self::Removed;
        };
        let has_no_use = url.scheme() != "https" || is_loopback(url);
        let (max_age, include_subdomains, preload) = match config {
            HstsConfig::Off => return Self::Kept,
            HstsConfig::Default if has_no_use => return Self::Removed,
            // Without a buffer of its own: every answer gets a copy.
            HstsConfig::Default => return Self::Written(HeaderValue::from_static(DEFAULT)),
            HstsConfig::Written {
                max_age,
                include_subdomains,
                preload,
            } => (max_age.unwrap_or(HSTS_MAX_AGE), *include_subdomains, *preload),
        };
        if has_no_use {
            problems.add(
                &["hsts"],
                "over plain http browsers ignore it, and on loopback it would hold for every port",
                "remove `hsts`",
            );
        }
        if preload && (!include_subdomains || max_age < HSTS_MAX_AGE) {
            problems.add(
                &["hsts"],
                "`preload` needs `include_subdomains` and a `max_age` of 365d at least",
                "write `hsts: {max_age: 365d, include_subdomains: true, preload: true}`, or remove `preload`",
            );
        }
        let mut text = format!("max-age={}", max_age.as_secs());
        if include_subdomains {
            text.push_str("; includeSubDomains");
        }
        if preload {
            text.push_str("; preload");
        }
        HeaderValue::try_from(text).map_or(Self::Removed, Self::Written)
    }
}

/// One year: without TLS this host cannot be used anyway, since its cookies are `Secure`.
const DEFAULT: &str = "max-age=31536000";

#[cfg(test)]
mod tests {
    use super::super::testing::config;
    use super::super::{Application, ApplicationConfig, Problem};
    use super::*;

    fn written(max_age: Option<u64>, include_subdomains: bool, preload: bool) -> HstsConfig {
        HstsConfig::Written {
            max_age: max_age.map(Duration::from_secs),
            include_subdomains,
            preload,
        }
    }

    fn checked(url: &str, hsts: HstsConfig) -> Result<Application, Vec<Problem>> {
        let application = ApplicationConfig {
            url: url.to_owned(),
            hsts,
            danger_insecure_http: true,
            ..config()
        };
        application.check()
    }

    #[test]
    fn it_is_written_over_tls_off_loopback_and_nowhere_else() {
        let said = "max-age=1; preload";
        for (url, hsts, expected) in [
            (
                "https://shop.example.com",
                HstsConfig::Default,
                Some("max-age=31536000"),
            ),
            ("https://shop.example.com", HstsConfig::Off, Some(said)),
            (
                "https://shop.example.com",
                written(None, false, false),
                Some("max-age=31536000"),
            ),
            (
                "https://shop.example.com",
                written(Some(60), true, false),
                Some("max-age=60; includeSubDomains"),
            ),
            (
                "https://shop.example.com",
                written(Some(0), false, false),
                Some("max-age=0"),
            ),
            (
                "https://shop.example.com",
                written(Some(31_536_000), true, true),
                Some("max-age=31536000; includeSubDomains; preload"),
            ),
            ("http://shop.example.com", HstsConfig::Default, None),
            ("http://localhost:8080", HstsConfig::Default, None),
            ("https://localhost:8443", HstsConfig::Default, None),
            ("https://app.localhost", HstsConfig::Default, None),
            ("https://127.0.0.1", HstsConfig::Default, None),
        ] {
            let application = checked(url, hsts).unwrap_or_else(|problems| panic!("{url}: {problems:?}"));
            let mut headers = HeaderMap::new();
            headers.append(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(said));
            headers.append(
                header::STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static("again"),
            );
            application.hsts.write(&mut headers);
            let mut values = headers.get_all(header::STRICT_TRANSPORT_SECURITY).iter();
            assert_eq!(
                values.next().and_then(|value| value.to_str().ok()),
                expected,
                "{url}"
            );
            if application.hsts != Hsts::Kept {
                assert!(values.next().is_none(), "{url}: browsers look at the first alone");
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (name, url, hsts) in [
            (
                "plain http",
                "http://shop.example.com",
                written(None, false, false),
            ),
            ("loopback", "https://localhost:8443", written(None, false, false)),
            (
                "preload alone",
                "https://shop.example.com",
                written(None, false, true),
            ),
            (
                "preload for a day",
                "https://shop.example.com",
                written(Some(86_400), true, true),
            ),
        ] {
            let problems = checked(url, hsts).err().expect(name);
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert!(problems.iter().all(|problem| problem.at == ["hsts"]), "{name}");
        }
    }
}
