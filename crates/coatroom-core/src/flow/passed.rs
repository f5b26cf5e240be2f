//! A client's own access token, passed through (`auth: bearer`): RFC 6750 §2.1, RFC 9449 §7.1.
//!
//! Says whether a request carries exactly one token that an API can read in one way, and nothing
//! that a browser adds by itself. It never verifies the token: who calls, and whether the token is
//! for this API, is the API's to find out.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::cookie::{Cookies, Jar, Kind};
use crate::error::Error;
use crate::head::{Head, Headers, Single};
use crate::headers::Authorization;

/// What a client sent for the API, and for nobody else.
pub(super) struct PassedToken {
    authorization: Authorization,
    proof: Option<HeaderValue>,
}

impl PassedToken {
    /// The token of a request, with its proof of possession where it is bound to a key.
    ///
    /// # Errors
    /// [`Error::TokenRequired`] where there is none, or credentials of another scheme;
    /// [`Error::InvalidRequest`] where there are several, where it is malformed, where proof and
    /// scheme do not belong together, and beside a session's cookie.
    pub(super) fn of<H: Headers>(head: &Head<'_, H>, cookies: &Cookies) -> Result<Self, Error> {
        let credentials = match head.single(&header::AUTHORIZATION) {
            Single::Absent => return Err(Error::TokenRequired("no Authorization header")),
            Single::Ambiguous => {
                return Err(Error::InvalidRequest(
                    "the Authorization header is repeated or malformed",
                ));
            }
            Single::Value(credentials) => credentials,
        };
        let (scheme, token) = credentials.split_once(' ').unwrap_or((credentials, ""));
        let is_dpop = scheme.eq_ignore_ascii_case("dpop");
        if !is_dpop && !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Error::TokenRequired("another scheme than Bearer and DPoP"));
        }
        // RFC 9110 §11.6.2 has `1*SP` there
        let token = token.trim_start_matches(' ');
        if !is_b64token(token) {
            return Err(Error::InvalidRequest(
                "the token in the Authorization header is malformed",
            ));
        }
        // Nobody should have to know which of the two counts.
        let jar = Jar::of(head.headers);
        let mut kinds = std::iter::once(Kind::Access).chain(cookies.of_apis());
        if kinds.any(|kind| cookies.shows(kind, &jar)) {
            return Err(Error::InvalidRequest(
                "a token in the Authorization header and a session cookie at once; send no cookies",
            ));
        }
        let proof = match (is_dpop, head.single(&DPOP)) {
            (false, Single::Absent) => None,
            (true, Single::Value(proof)) if is_compact_jws(proof) => HeaderValue::from_str(proof).ok(),
            (false, _) => {
                return Err(Error::InvalidRequest(
                    "a DPoP header beside a token of another scheme",
                ));
            }
            (true, _) => {
                return Err(Error::InvalidRequest(
                    "expected one DPoP header with the proof of the DPoP token",
                ));
            }
        };
        let authorization = match is_dpop {
            true => Authorization::passed_dpop(token),
            false => Authorization::passed_bearer(token),
        };
        Ok(Self { authorization, proof })
    }

    /// Writes the proof, where there is one, and gives the credentials. Run after what the client may
    /// not say is taken off.
    pub(super) fn write_proof(self, headers: &mut HeaderMap) -> Authorization {
        if let Some(mut proof) = self.proof {
            proof.set_sensitive(true);
            headers.insert(DPOP, proof);
        }
        self.authorization
    }
}

/// RFC 6750 §2.1, RFC 9110 §11.2 (`token68`).
fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    !body.is_empty() && body.bytes().all(allowed)
}

/// Three parts in base64url (RFC 7515 §7.1): no list of several proofs is one.
fn is_compact_jws(proof: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    proof.split('.').count() == 3 && proof.split('.').all(good)
}

const DPOP: HeaderName = HeaderName::from_static("dpop");

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::config::{ApiCookie, ApiId};

    fn outcome(lines: &[(&str, &[u8])]) -> Result<(String, Option<String>), &'static str> {
        let cookies = Cookies::new(
            &crate::config::AppId::parse("shop").expect("an id"),
            "/auth",
            &crate::config::Callback::Agent,
        )
        .expect("a good path")
        .with_apis(&[ApiCookie {
            id: "orders".to_owned(),
            path: "/orders".to_owned(),
            api: ApiId([1; 8]),
        }]);
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                name.parse::<HeaderName>().expect("a name"),
                HeaderValue::from_bytes(value).expect("a value"),
            );
        }
        let head = Head {
            method: &Method::GET,
            target: "/",
            authority: None,
            protocol: None,
            headers: &headers,
        };
        let passed = PassedToken::of(&head, &cookies).map_err(|error| error.answer().code)?;
        let mut written = HeaderMap::new();
        let authorization = passed.write_proof(&mut written);
        let text = |value: &HeaderValue| value.to_str().expect("ASCII").to_owned();
        let value = authorization.into_value().expect("a header value");
        assert!(value.is_sensitive());
        Ok((text(&value), written.get(DPOP).map(text)))
    }

    #[test]
    fn one_readable_token_passes_and_nothing_else_does() {
        type Row = (
            &'static str,
            &'static [(&'static str, &'static [u8])],
            Result<(&'static str, Option<&'static str>), &'static str>,
        );
        const REFUSED: &str = "invalid_request";
        const PROOF: (&str, &[u8]) = ("dpop", b"eyJh.eyJi.c-_");
        let rows: &[Row] = &[
            ("nothing", &[], Err("unauthorized")),
            (
                "bearer",
                &[("authorization", b"Bearer aZ9-._~+/==")],
                Ok(("Bearer aZ9-._~+/==", None)),
            ),
            (
                "any case, one spelling",
                &[("authorization", b"bEARER   a")],
                Ok(("Bearer a", None)),
            ),
            (
                "dpop",
                &[("authorization", b"dpop a.b.c"), PROOF],
                Ok(("DPoP a.b.c", Some("eyJh.eyJi.c-_"))),
            ),
            ("basic", &[("authorization", b"Basic YTpi")], Err("unauthorized")),
            (
                "negotiate",
                &[("authorization", b"Negotiate a")],
                Err("unauthorized"),
            ),
            ("a token alone", &[("authorization", b"abc")], Err("unauthorized")),
            (
                "a longer scheme",
                &[("authorization", b"Bearerx a")],
                Err("unauthorized"),
            ),
            ("a tab", &[("authorization", b"Bearer\ta")], Err(REFUSED)),
            ("a scheme alone", &[("authorization", b"Bearer")], Err(REFUSED)),
            (
                "a scheme and a blank",
                &[("authorization", b"Bearer ")],
                Err(REFUSED),
            ),
            ("padding alone", &[("authorization", b"Bearer ==")], Err(REFUSED)),
            (
                "padding inside",
                &[("authorization", b"Bearer a=b")],
                Err(REFUSED),
            ),
            ("two tokens", &[("authorization", b"Bearer a b")], Err(REFUSED)),
            ("a list", &[("authorization", b"Bearer a, Basic b")], Err(REFUSED)),
            ("quotes", &[("authorization", b"Bearer \"a\"")], Err(REFUSED)),
            ("a parameter", &[("authorization", b"Bearer a;b")], Err(REFUSED)),
            (
                "not ascii",
                &[("authorization", b"Bearer \xc3\xa4")],
                Err(REFUSED),
            ),
            (
                "two headers",
                &[("authorization", b"Bearer a"), ("authorization", b"Bearer a")],
                Err(REFUSED),
            ),
            (
                "a header behind another scheme",
                &[("authorization", b"Basic a"), ("authorization", b"Bearer a")],
                Err(REFUSED),
            ),
            ("no proof", &[("authorization", b"DPoP a")], Err(REFUSED)),
            (
                "two proofs",
                &[("authorization", b"DPoP a"), PROOF, PROOF],
                Err(REFUSED),
            ),
            (
                "a list of proofs",
                &[("authorization", b"DPoP a"), ("dpop", b"a.b.c, a.b.c")],
                Err(REFUSED),
            ),
            (
                "no jws",
                &[("authorization", b"DPoP a"), ("dpop", b"a.b")],
                Err(REFUSED),
            ),
            (
                "an empty part",
                &[("authorization", b"DPoP a"), ("dpop", b"a..c")],
                Err(REFUSED),
            ),
            (
                "a proof of a bearer token",
                &[("authorization", b"Bearer a"), PROOF],
                Err(REFUSED),
            ),
            (
                "a session as well",
                &[
                    ("authorization", b"Bearer a"),
                    ("cookie", b"x=1; __Host-Http-shop-access=y"),
                ],
                Err(REFUSED),
            ),
            (
                "a session in parts",
                &[
                    ("authorization", b"Bearer a"),
                    ("cookie", b"__Host-Http-shop-access.1=y"),
                ],
                Err(REFUSED),
            ),
            (
                "an API's cookie",
                &[
                    ("authorization", b"Bearer a"),
                    (
                        "cookie",
                        b"__Host-Http-shop-api-orders=y; __Secure-shop-api-orders=y",
                    ),
                ],
                Err(REFUSED),
            ),
            (
                "a session alone",
                &[("cookie", b"__Host-Http-shop-access=y")],
                Err("unauthorized"),
            ),
            (
                "cookies of others",
                &[
                    ("authorization", b"Bearer a"),
                    ("cookie", b"theme=dark; __Host-Http-other-access=y"),
                ],
                Ok(("Bearer a", None)),
            ),
        ];
        for (name, lines, expected) in rows {
            let expected = expected.map(|(value, proof)| (value.to_owned(), proof.map(str::to_owned)));
            assert_eq!(outcome(lines), expected, "{name}");
        }
    }
}
