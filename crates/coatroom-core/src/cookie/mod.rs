//! The cookie table: every cookie that Coatroom writes, its name, path, `SameSite` and purpose.
//!
//! [`Cookies`] is one application's table. `read` borrows the request's cookies and opens the ones
//! of a [`Kind`]; `write` makes the `Set-Cookie` lines that set and clear them. All cookies are
//! `Secure` and `HttpOnly` and none ever has a `Domain` (RFC 10017 §6.1.3.2). What does not open is
//! no cookie: nothing here fails because of what a browser sent. No meaning is read from a
//! plaintext; expiry and the session id inside are the session's business.
//!
//! A value is base64url of an envelope (see [`crate::seal`]). Where name and value would not fit
//! into one cookie it is cut into chunks, `<name>.1`, `<name>.2` …, whose values are
//!
//! ```text
//! write id, 8 characters · index, 1 digit · count, 1 digit · base64url of this part
//! ```
//!
//! with the write id and the count in the associated data of the whole.

mod read;
#[cfg(test)]
pub(crate) mod testing;
mod write;

use std::borrow::Cow;

use ::cookie::SameSite;
use base64::Engine as _;
use base64::engine::general_purpose::{NO_PAD, URL_SAFE_NO_PAD};

use crate::config::{ApiCookie, AppId, Application, Callback, Provider, ResponseMode};
use crate::error::Error;
use crate::seal::{Purpose, digest8};

pub(crate) use read::Candidate;
pub use read::Jar;

/// The cookies of one application.
pub struct Cookies {
    application: AppId,
    access: String,
    session: String,
    login: String,
    logout: String,
    ended: String,
    refused: String,
    /// Names and paths of the cookies with tokens of APIs.
    apis: Vec<(String, String)>,
    base_path: String,
    login_same_site: SameSite,
    base64url: Base64Url,
}

/// A row of the cookie table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The anchor: bound to the host, sent to every path.
    Access,
    /// Refresh token, ID token, claims: sent to the agent alone.
    Session,
    /// One pending sign-in.
    Login(LoginTag),
    /// One logout on its way through the provider.
    Logout,
    /// Tombstones of ended sessions.
    Ended,
    /// Tombstones of refresh tokens that the provider refused.
    Refused,
    /// One API's access token, sent to that API's path: by its place in the application's list.
    Api(u8),
}

/// The part of a login cookie's name that tells pending sign-ins apart: 8 characters of a hash of
/// `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoginTag([u8; 8]);

impl Cookies {
    /// The table of an application.
    ///
    /// # Errors
    /// [`Error::Bug`] when `base_path` cannot be a cookie's `Path` (RFC 6265 §4.1.1); a checked
    /// configuration never has such a one.
    pub fn new(application: &AppId, base_path: &str, callback: &Callback) -> Result<Self, Error> {
        let good = base_path.starts_with('/') && base_path.bytes().all(|b| b.is_ascii_graphic() && b != b';');
        if !good {
            return Err(Error::Bug("`base_path` cannot be the path of a cookie"));
        }
        let id = application.as_str();
        Ok(Self {
            application: application.clone(),
            access: format!("{HOST_PREFIX}{id}-access"),
            session: format!("{SECURE_PREFIX}{id}-session"),
            login: format!("{HOST_PREFIX}{id}-login-"),
            logout: format!("{HOST_PREFIX}{id}-logout"),
            ended: format!("{HOST_PREFIX}{id}-ended"),
            refused: format!("{SECURE_PREFIX}{id}-refused"),
            apis: Vec::new(),
            base_path: base_path.to_owned(),
            // The provider's redirect to the agent is a cross-site navigation, which carries Lax
            // cookies only; a page of the SPA posts from the same site.
            login_same_site: match callback {
                Callback::Agent => SameSite::Lax,
                Callback::Spa(_) => SameSite::Strict,
            },
            base64url: base64url(),
        })
    }

    /// The same where the provider's page posts a form: only `SameSite=None` cookies come with it.
    #[must_use]
    pub fn for_form_post(self) -> Self {
        Self {
            login_same_site: SameSite::None,
            ..self
        }
    }

    /// The table of a checked application.
    ///
    /// # Errors
    /// As [`Cookies::new`].
    pub fn of(application: &Application) -> Result<Self, Error> {
        Self::for_provider(application, application.provider.as_deref())
    }

    /// The same for sign-ins at one of several providers.
    ///
    /// # Errors
    /// As [`Cookies::new`].
    pub fn for_provider(application: &Application, provider: Option<&Provider>) -> Result<Self, Error> {
        let table = Self::new(&application.id, &application.base_path, &application.callback)?;
        let table = table.with_apis(&application.apis.cookies);
        Ok(
            match provider.map(|provider| provider.authorization.response_mode) {
                Some(ResponseMode::FormPost) => table.for_form_post(),
                Some(ResponseMode::Query | ResponseMode::Jwt | ResponseMode::QueryJwt) | None => table,
            },
        )
    }

    pub(crate) fn with_apis(mut self, cookies: &[ApiCookie]) -> Self {
        let name =
            |cookie: &ApiCookie| format!("{SECURE_PREFIX}{}-api-{}", self.application.as_str(), cookie.id);
        let rows = cookies.iter().map(|cookie| (name(cookie), cookie.path.clone()));
        self.apis = rows.collect();
        self
    }

    /// Those of APIs.
    pub fn of_apis(&self) -> impl Iterator<Item = Kind> {
        (0..).zip(&self.apis).map(|(index, _)| Kind::Api(index))
    }

    /// The name of a kind's cookie; its chunks have `.1`, `.2` … behind it.
    pub fn name(&self, kind: Kind) -> Cow<'_, str> {
        self.row(kind).name
    }

    /// Whether a cookie of this kind was sent, whole or in chunks, whatever is in it.
    pub(crate) fn shows(&self, kind: Kind, jar: &Jar<'_>) -> bool {
        let name = self.name(kind);
        jar.present(&name) || jar.present(&format!("{name}.1"))
    }

    /// The table itself.
    fn row(&self, kind: Kind) -> Row<'_> {
        match kind {
            Kind::Access => Row {
                name: Cow::Borrowed(&self.access),
                path: "/",
                same_site: SameSite::Strict,
                purpose: Purpose::Access,
            },
            Kind::Session => Row {
                name: Cow::Borrowed(&self.session),
                path: &self.base_path,
                same_site: SameSite::Strict,
                purpose: Purpose::Session,
            },
            Kind::Login(tag) => Row {
                name: Cow::Owned(format!("{}{}", self.login, tag.as_str())),
                path: "/",
                same_site: self.login_same_site,
                purpose: Purpose::Login,
            },
            // The provider's redirect back from its logout is a cross-site navigation as well.
            Kind::Logout => Row {
                name: Cow::Borrowed(&self.logout),
                path: "/",
                same_site: SameSite::Lax,
                purpose: Purpose::Logout,
            },
            Kind::Ended => Row {
                name: Cow::Borrowed(&self.ended),
                path: "/",
                same_site: SameSite::Strict,
                purpose: Purpose::Ended,
            },
            // Read and written by the agent alone. One purpose with the other tombstones: the name
            // is in the associated data.
            Kind::Refused => Row {
                name: Cow::Borrowed(&self.refused),
                path: &self.base_path,
                same_site: SameSite::Strict,
                purpose: Purpose::Ended,
            },
            // One purpose with the anchor, which a proxy opens as well: the name is in the associated
            // data.
            Kind::Api(index) => {
                let row = self.apis.get(usize::from(index));
                let (name, path) = row.map_or(("", "/"), |(name, path)| (name, path));
                Row {
                    name: Cow::Borrowed(name),
                    path,
                    same_site: SameSite::Strict,
                    purpose: Purpose::Access,
                }
            }
        }
    }
}

/// What the table says of one kind.
struct Row<'a> {
    name: Cow<'a, str>,
    path: &'a str,
    same_site: SameSite,
    purpose: Purpose,
}

impl LoginTag {
    /// The tag of the sign-in with this `state`.
    pub fn of(state: &str) -> Self {
        let [a, b, c, d, e, f, ..] = digest8("login state", state.as_bytes());
        let mut tag = [0; 8];
        URL_SAFE_NO_PAD
            .encode_slice([a, b, c, d, e, f], &mut tag)
            .expect("6 bytes are 8 characters");
        Self(tag)
    }

    /// As it stands in the name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64url is ASCII")
    }

    fn parse(tag: &[u8]) -> Option<Self> {
        let tag = *<&[u8; 8]>::try_from(tag).ok()?;
        tag.iter().all(|b| is_base64url(*b)).then_some(Self(tag))
    }
}

/// Whether a cookie's name is one that Coatroom writes, for any application, in any case, chunks
/// and routes' cookies included. An upstream may not set such a one.
pub fn is_ours(cookie_name: &[u8]) -> bool {
    let name = cookie_name.trim_ascii();
    let host = strip_prefix_ignoring_case(name, HOST_PREFIX);
    let Some(rest) = host.or_else(|| strip_prefix_ignoring_case(name, SECURE_PREFIX)) else {
        return false;
    };
    let mut parts = rest.splitn(2, |b| *b == b'-');
    let (Some(application), Some(kind)) = (parts.next(), parts.next()) else {
        return false;
    };
    if application.is_empty() || !application.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    let kind = without_chunk_suffix(kind);
    let one_of = |kinds: &[&str]| kinds.iter().any(|k| kind.eq_ignore_ascii_case(k.as_bytes()));
    if host.is_some() {
        one_of(&["access", "logout", "ended"]) || strip_prefix_ignoring_case(kind, "login-").is_some()
    } else {
        one_of(&["session", "refused"]) || strip_prefix_ignoring_case(kind, "api-").is_some()
    }
}

/// Whether a `Set-Cookie` line would make a browser send a cookie for which [`is_ours`] holds: by
/// its name, or without a name by a value that reads like name and value when it comes back.
pub fn sets_ours(set_cookie: &[u8]) -> bool {
    let pair = set_cookie.split(|b| *b == b';').next().unwrap_or_default();
    pair.split(|b| *b == b'=')
        .find(|part| !part.trim_ascii().is_empty())
        .is_some_and(is_ours)
}

fn strip_prefix_ignoring_case<'a>(text: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
}

/// A name without `.` and digits at its end, of any number: another version may write more chunks.
fn without_chunk_suffix(name: &[u8]) -> &[u8] {
    let Some(dot) = name.iter().rposition(|b| *b == b'.') else {
        return name;
    };
    match name.split_at_checked(dot) {
        Some((head, [_, digits @ ..])) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => head,
        Some(_) | None => name,
    }
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// With SIMD where base64 has it: decoding is the larger half of opening a cookie.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) type Base64Url = base64::engine::Simd;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) type Base64Url = base64::engine::GeneralPurpose;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn base64url() -> Base64Url {
    Base64Url::url_safe(NO_PAD)
}
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn base64url() -> Base64Url {
    Base64Url::new(&base64::alphabet::URL_SAFE, NO_PAD)
}

/// Bound to the host and set by HTTP (RFC 10017); `__Host-` to browsers that do not know it.
const HOST_PREFIX: &str = "__Host-Http-";

/// For a cookie on a path of its own, which `__Host-` forbids.
const SECURE_PREFIX: &str = "__Secure-";

/// The most that name and value of one cookie may have together, in bytes. Browsers drop more than
/// 4,096 without a word.
pub const MAX_PAIR: usize = 4093;

/// The most chunks of one value, for the writer and the reader alike.
pub const MAX_CHUNKS: u8 = 5;

/// Write id, index and count in front of a chunk's part of the value.
const CHUNK_HEADER_LEN: usize = 10;

/// What of a chunk's header is the same in all chunks of one write, and authenticated: the write id
/// and the count.
pub(crate) type WriteHeader = [u8; 9];

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn cookies(callback: &Callback) -> Cookies {
        let shop = AppId::parse("shop").expect("a good id");
        Cookies::new(&shop, "/auth", callback).expect("a good path")
    }

    #[test]
    fn a_cookie_is_shown_whole_or_in_chunks_and_by_nothing_else() {
        let table = cookies(&Callback::Agent);
        for (header, shown) in [
            ("__Host-Http-shop-access=a", true),
            ("__Host-Http-shop-access.1=a; __Host-Http-shop-access.2=b", true),
            ("__Host-Http-shop-access.2=b", false),
            ("__Host-Http-shop-accessory=a; __Host-Http-shop-ended=b", false),
            ("", false),
        ] {
            let jar = Jar::new([header.as_bytes()]);
            assert_eq!(table.shows(Kind::Access, &jar), shown, "{header}");
        }
    }

    #[test]
    fn the_table_is_the_published_one() {
        let agent = cookies(&Callback::Agent);
        let spa = cookies(&Callback::Spa(
            Url::parse("https://shop.example.com/in").expect("a URL"),
        ));
        let form_post = cookies(&Callback::Agent).for_form_post();
        let login = Kind::Login(LoginTag(*b"abcd-_09"));
        let (strict, lax) = (SameSite::Strict, SameSite::Lax);
        for (table, kind, name, path, same_site, purpose) in [
            (
                &agent,
                Kind::Access,
                "__Host-Http-shop-access",
                "/",
                strict,
                Purpose::Access,
            ),
            (
                &agent,
                Kind::Session,
                "__Secure-shop-session",
                "/auth",
                strict,
                Purpose::Session,
            ),
            (
                &agent,
                login,
                "__Host-Http-shop-login-abcd-_09",
                "/",
                lax,
                Purpose::Login,
            ),
            (
                &spa,
                login,
                "__Host-Http-shop-login-abcd-_09",
                "/",
                strict,
                Purpose::Login,
            ),
            (
                &form_post,
                login,
                "__Host-Http-shop-login-abcd-_09",
                "/",
                SameSite::None,
                Purpose::Login,
            ),
            (
                &form_post,
                Kind::Access,
                "__Host-Http-shop-access",
                "/",
                strict,
                Purpose::Access,
            ),
            (
                &agent,
                Kind::Logout,
                "__Host-Http-shop-logout",
                "/",
                lax,
                Purpose::Logout,
            ),
            (
                &agent,
                Kind::Ended,
                "__Host-Http-shop-ended",
                "/",
                strict,
                Purpose::Ended,
            ),
        ] {
            let row = table.row(kind);
            assert_eq!(table.name(kind), name);
            assert_eq!(
                (row.path, row.same_site, row.purpose),
                (path, same_site, purpose),
                "{name}"
            );
            assert!(is_ours(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_base_path_that_would_end_the_attribute_is_refused() {
        let shop = AppId::parse("shop").expect("a good id");
        for path in ["", "auth", "/a;Domain=evil", "/a b", "/a\r\nx", "/\u{e9}"] {
            assert!(Cookies::new(&shop, path, &Callback::Agent).is_err(), "{path:?}");
        }
        assert!(Cookies::new(&shop, "/", &Callback::Agent).is_ok());
    }

    #[test]
    fn a_login_tag_is_eight_characters_of_a_hash_of_the_state() {
        let (one, two) = (LoginTag::of("state one"), LoginTag::of("state two"));
        assert_eq!(one, LoginTag::of("state one"));
        assert_ne!(one, two);
        assert_eq!(LoginTag::parse(one.as_str().as_bytes()), Some(one));
        for tag in [b"abcdefg".as_slice(), b"abcdefghi", b"abcdefg.", b"abcdefg=", b""] {
            assert_eq!(LoginTag::parse(tag), None);
        }
    }

    #[test]
    fn our_names_are_recognised_in_any_case_and_nothing_else_is() {
        for name in [
            "__Host-Http-shop-access",
            "__host-http-SHOP-Access",
            "__Host-Http-shop-access.1",
            "__Host-Http-shop-access.12",
            "__Host-Http-a-login-abcdefgh",
            "__Host-Http-a-login-abcdefgh.5",
            "__HOST-HTTP-0-ENDED",
            "__Host-Http-shop-logout",
            "__Secure-shop-session",
            "__secure-shop-SESSION.3",
            "__Secure-shop-api-orders",
            "__Secure-shop-api-orders.2",
            " __Host-Http-shop-access\t",
        ] {
            assert!(is_ours(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "__Host-Http-",
            "__Host-Http-shop",
            "__Host-Http-shop-",
            "__Host-Http--access",
            "__Host-Http-shop-accessory",
            "__Host-Http-shop-access.",
            "__Host-Http-shop-access.x",
            "__Host-Http-shop-session",
            "__Host-shop-access",
            "__Secure-shop-access",
            "__Secure-next-auth.session-token",
            "shop-access",
            "session",
            "\u{e9}__Host-Http-shop-access",
        ] {
            assert!(!is_ours(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_line_that_sets_one_of_ours_is_recognised_with_or_without_a_name() {
        for line in [
            "__Host-Http-shop-access=x; Path=/; Secure",
            "  __HOST-http-shop-access = x",
            "__Secure-shop-session=",
            "__Host-Http-shop-ended",
            "=__Host-Http-shop-access=x",
            " = __Host-Http-shop-access=x; Path=/",
        ] {
            assert!(sets_ours(line.as_bytes()), "{line}");
        }
        for line in [
            "",
            ";",
            "=",
            "a=__Host-Http-shop-access=x",
            "a=b; __Host-Http-shop-access=x",
            "session=x",
        ] {
            assert!(!sets_ours(line.as_bytes()), "{line}");
        }
    }
}
