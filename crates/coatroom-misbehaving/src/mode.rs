//! What a mode is: its name, what is wrong, where that is written, and what it has to lead to.
//!
//! Data only. Modes are made in `modes/`, one file per place, and never change.

use std::fmt;

use crate::twist::Twist;

/// One broken thing.
#[derive(Clone, Copy)]
pub struct Mode {
    /// Its name, in kebab case, unique.
    pub id: &'static str,
    /// Where the provider misbehaves.
    pub place: Place,
    /// What is wrong, or merely odd.
    pub wrong: &'static str,
    /// Where it is written what is right: a specification's section, or the name of a test module of
    /// the OpenID Foundation's suite for relying parties.
    pub source: &'static str,
    /// What a client has to make of it.
    pub wanted: Wanted,
    /// How it is done: in this order.
    pub(crate) twists: [Twist; MOST_TWISTS],
}

/// Where a provider misbehaves: also what a client has to do to meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The metadata document.
    Discovery,
    /// The JWK set.
    Keys,
    /// Both, when they are fetched again by a client that has good ones.
    Renewal,
    /// The query with which the browser comes back.
    AuthorizationResponse,
    /// The answer to the token request that redeems a code.
    TokenEndpoint,
    /// The ID token of a sign-in.
    IdToken,
    /// The same for a client that has a key for encrypted ones ([`decryption_key`](crate::decryption_key)).
    EncryptedIdToken,
    /// The answer of the userinfo endpoint, for a client that asks it at a sign-in.
    Userinfo,
    /// The answer about an access token (RFC 7662), for a client that asks at an API call.
    Introspection,
    /// The same, signed (RFC 9701).
    SignedIntrospection,
    /// A sign-in of a client that looks at no ID token, and asks the userinfo endpoint who the user is.
    User,
    /// The answer to the token request that redeems a refresh token, its ID token included.
    Refresh,
    /// The answer to a request for a token of the client's own, with the scope `catalogue:read`.
    ClientCredentials,
    /// A back-channel logout request.
    LogoutToken,
    /// The answer of the revocation endpoint.
    Revocation,
}

/// What a client has to make of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What the caller sees, and what becomes of sessions.
    pub outcome: Outcome,
    /// What the log has to say; empty where nothing has to be said.
    pub log: &'static str,
}

/// What the caller sees, and what becomes of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All goes as if nothing were wrong: signed in, refreshed, ended, signed out.
    Accepted,
    /// An error with this status and code; no session is made, and none ends.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The `error_code`.
        error_code: &'static str,
    },
    /// 503 `provider_unavailable` with `Retry-After`; no session is made, and none ends.
    Unavailable,
    /// 401 `session_expired`: the session is over.
    SessionEnded,
}

impl Place {
    /// Every place, in the order of a sign-in's life.
    pub const ALL: [Self; 15] = [
        Self::Discovery,
        Self::Keys,
        Self::Renewal,
        Self::AuthorizationResponse,
        Self::TokenEndpoint,
        Self::IdToken,
        Self::EncryptedIdToken,
        Self::Userinfo,
        Self::Introspection,
        Self::SignedIntrospection,
        Self::User,
        Self::Refresh,
        Self::ClientCredentials,
        Self::LogoutToken,
        Self::Revocation,
    ];
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discovery => "The metadata document",
            Self::Keys => "The JWK set",
            Self::Renewal => "Metadata and keys, fetched again",
            Self::AuthorizationResponse => "The authorization response",
            Self::TokenEndpoint => "The token endpoint, redeeming a code",
            Self::IdToken => "The ID token",
            Self::EncryptedIdToken => "The encrypted ID token",
            Self::Userinfo => "Userinfo",
            Self::Introspection => "Introspection",
            Self::SignedIntrospection => "Introspection, signed",
            Self::User => "A user without an ID token",
            Self::Refresh => "The token endpoint, redeeming a refresh token",
            Self::ClientCredentials => "The token endpoint, asked for the client's own token",
            Self::LogoutToken => "The logout token",
            Self::Revocation => "The revocation endpoint",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Refused { status, error_code } => write!(f, "{status} `{error_code}`"),
            Self::Unavailable => f.write_str("503 `provider_unavailable`"),
            Self::SessionEnded => f.write_str("401 `session_expired`"),
        }
    }
}

impl Mode {
    /// Another thing that has to be wrong as well.
    pub(crate) const fn and(mut self, twist: Twist) -> Self {
        let mut place = 0;
        while !matches!(self.twists[place], Twist::Nothing) {
            place += 1;
        }
        self.twists[place] = twist;
        self
    }
}

/// One row of the table.
pub(crate) const fn mode(
    place: Place,
    id: &'static str,
    wrong: &'static str,
    source: &'static str,
    wanted: Wanted,
    twist: Twist,
) -> Mode {
    let mut twists = [Twist::Nothing; MOST_TWISTS];
    twists[0] = twist;
    Mode {
        id,
        place,
        wrong,
        source,
        wanted,
        twists,
    }
}

/// As if nothing were wrong.
pub(crate) const ACCEPTED: Wanted = Wanted {
    outcome: Outcome::Accepted,
    log: "",
};

/// The same, and the log says this.
pub(crate) const fn accepted_with(log: &'static str) -> Wanted {
    Wanted { log, ..ACCEPTED }
}

/// The provider's fault: 502.
pub(crate) const fn unusable(log: &'static str) -> Wanted {
    Wanted {
        outcome: Outcome::Refused {
            status: 502,
            error_code: "provider_error",
        },
        log,
    }
}

/// The fault of whoever sent it: 400.
pub(crate) const fn bad_request(error_code: &'static str, log: &'static str) -> Wanted {
    Wanted {
        outcome: Outcome::Refused {
            status: 400,
            error_code,
        },
        log,
    }
}

/// An outage: 503.
pub(crate) const fn unavailable(log: &'static str) -> Wanted {
    Wanted {
        outcome: Outcome::Unavailable,
        log,
    }
}

/// More things than these are never wrong at once.
pub(crate) const MOST_TWISTS: usize = 3;
