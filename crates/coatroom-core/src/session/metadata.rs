//! What a list of sessions tells of one: when and where it began, and when it was last used.
//!
//! The metadata of a record are sealed under a key of the server's alone, so that sessions can be
//! listed and ended without their cookies. They are a CBOR array that begins with a format number and
//! whose fields are numbered: a later version appends fields, and an older one still opens. When a
//! session was last used stands beside the seal, in the record, where a plain call moves it. No token,
//! handle, name or address is in them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use minicbor::bytes::ByteArray;
use minicbor::{CborLen, Decode, Encode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{SessionId, encode};
use crate::head::{Single, single};
use crate::seal::digest8;
use crate::time::UnixTime;

/// What is known of a session without its cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionMetadata {
    /// Its id.
    pub id: SessionId,
    /// When the user signed in.
    pub created_at: UnixTime,
    /// The last sign of a user.
    pub last_active: UnixTime,
    /// What the browser called itself then: visible ASCII and blanks, at most 200 characters.
    pub user_agent: Option<String>,
}

/// The id of a session as browsers see it: a digest, which opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicSessionId([u8; 8]);

impl PublicSessionId {
    /// That of a session.
    pub fn of(id: SessionId) -> Self {
        Self(digest8("public session id", &id.0))
    }

    /// As it is encoded.
    pub(crate) fn bytes(self) -> [u8; 8] {
        self.0
    }

    /// Reads one as [`Display`](fmt::Display) writes it, 11 characters; nothing else is one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for PublicSessionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl SessionMetadata {
    /// The plaintext that goes under the server's seal.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        encode(&MetadataRecord {
            format: FORMAT,
            id: ByteArray::from(self.id.0),
            created_at: self.created_at.0,
            user_agent: self.user_agent.as_deref(),
        })
    }

    /// Reads what [`encode`](Self::encode) wrote; `last_active` stands beside it in the record.
    pub fn decode(plaintext: &[u8], last_active: UnixTime) -> Option<Self> {
        let record: MetadataRecord<'_> = minicbor::decode(plaintext).ok()?;
        (record.format == FORMAT).then(|| Self {
            id: SessionId(*record.id),
            created_at: UnixTime(record.created_at),
            last_active,
            user_agent: record.user_agent.map(str::to_owned),
        })
    }
}

/// What a browser calls itself, as far as it is kept; none if it says nothing, or nothing readable.
pub fn user_agent(headers: &HeaderMap) -> Option<String> {
    match single(headers, &header::USER_AGENT) {
        Single::Value(text) => {
            let kept: String = text.trim().chars().take(MAX_USER_AGENT).collect();
            Some(kept).filter(|kept| !kept.is_empty())
        }
        Single::Absent | Single::Ambiguous => None,
    }
}

/// The answer to `sessions`: the one that was used last comes first. Times are seconds since the
/// epoch, like those of the claims beside which an SPA shows them.
pub fn sessions_json(sessions: &[SessionMetadata], current: SessionId) -> Value {
    let mut sessions: Vec<&SessionMetadata> = sessions.iter().collect();
    // and where that is equal the order is the same each time
    sessions.sort_by_key(|session| {
        (
            std::cmp::Reverse((session.last_active, session.created_at)),
            session.id.0,
        )
    });
    let sessions: Vec<Value> = sessions
        .into_iter()
        .map(|session| {
            json!({
                "id": PublicSessionId::of(session.id).to_string(),
                "created_at": session.created_at.0,
                "last_used_at": session.last_active.0,
                "user_agent": session.user_agent,
                "current": session.id == current,
            })
        })
        .collect();
    json!({ "sessions": sessions })
}

/// Fields are appended, as optional ones; the number changes only for what the fields cannot tell.
#[derive(Encode, Decode, CborLen)]
struct MetadataRecord<'a> {
    #[n(0)]
    format: u8,
    #[n(1)]
    id: ByteArray<16>,
    #[n(2)]
    created_at: u64,
    #[b(3)]
    user_agent: Option<&'a str>,
}

const FORMAT: u8 = 1;

/// How much is kept of what a browser calls itself, in characters.
const MAX_USER_AGENT: usize = 200;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn session(byte: u8, created_at: u64, last_active: u64) -> SessionMetadata {
        SessionMetadata {
            id: SessionId([byte; 16]),
            created_at: UnixTime(created_at),
            last_active: UnixTime(last_active),
            user_agent: Some("Mozilla/5.0".to_owned()),
        }
    }

    #[test]
    fn the_published_metadata_decode_and_are_what_encoding_makes() {
        let hex = |session: &SessionMetadata| -> String {
            session
                .encode()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        let named = session(7, 1_000_000, 1_000_500);
        assert_eq!(
            hex(&named),
            "840150070707070707070707070707070707071a000f42406b4d6f7a696c6c612f352e30"
        );
        assert_eq!(
            SessionMetadata::decode(&named.encode(), UnixTime(1_000_500)),
            Some(named)
        );
        let silent = SessionMetadata {
            user_agent: None,
            ..session(7, 1_000_000, 5)
        };
        assert_eq!(
            SessionMetadata::decode(&silent.encode(), UnixTime(5)),
            Some(silent)
        );
    }

    #[test]
    fn a_later_version_opens_as_far_as_it_is_known_and_another_format_does_not() {
        let known = session(7, 1_000_000, 0);
        // the array of four as one of five, with a text behind
        let mut later = known.encode().to_vec();
        later[0] = 0x85;
        later.extend([0x61, b'x']);
        assert_eq!(SessionMetadata::decode(&later, UnixTime(0)), Some(known.clone()));
        let mut other = known.encode().to_vec();
        other[1] = 2;
        assert_eq!(SessionMetadata::decode(&other, UnixTime(0)), None);
        for length in 0..known.encode().len() - 12 {
            let cut = known.encode()[..length].to_vec();
            assert_eq!(SessionMetadata::decode(&cut, UnixTime(0)), None, "{length}");
        }
    }

    #[test]
    fn a_list_tells_when_and_where_and_which_is_this_one() {
        let sessions = [session(1, 100, 200), session(2, 50, 300), session(3, 150, 200)];
        let json = sessions_json(&sessions, SessionId([1; 16]));
        let listed = json["sessions"].as_array().expect("an array");
        let ids: Vec<_> = listed.iter().map(|session| &session["id"]).collect();
        let expected = [2, 3, 1].map(|byte| Value::from(SessionId([byte; 16]).public()));
        assert_eq!(
            ids,
            expected.iter().collect::<Vec<_>>(),
            "the last used comes first"
        );
        assert_eq!(
            listed[2],
            json!({
                "id": SessionId([1; 16]).public(),
                "created_at": 100,
                "last_used_at": 200,
                "user_agent": "Mozilla/5.0",
                "current": true,
            })
        );
        assert!(listed[..2].iter().all(|session| session["current"] == false));
        assert_eq!(sessions_json(&[], SessionId([1; 16])), json!({"sessions": []}));
    }

    #[test]
    fn a_public_id_is_eleven_characters_in_one_spelling() {
        let id = PublicSessionId::of(SessionId([1; 16]));
        assert_eq!(id.to_string().len(), 11);
        assert_eq!(PublicSessionId::parse(&id.to_string()), Some(id));
        for wrong in [
            "",
            "AAAAAAAAAA",
            "AAAAAAAAAAAA",
            "AAAAAAAAAAA=",
            "AAAAAAAAAA=",
            "AAAAAAAAAAB",
            "AAAAA+AAAAA",
            "AAAAA/AAAAA",
            "AAAAAAAAAA ",
            "..",
        ] {
            assert_eq!(PublicSessionId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn of_a_user_agent_200_readable_characters_are_kept() {
        let long = "x".repeat(300);
        for (value, kept) in [
            (&b"Mozilla/5.0 (X11)"[..], Some("Mozilla/5.0 (X11)".to_owned())),
            (b"  ", None),
            (b"", None),
            (b"caf\xc3\xa9", None),
            (b"a\tb", None),
            (long.as_bytes(), Some("x".repeat(200))),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::USER_AGENT,
                HeaderValue::from_bytes(value).expect("a value"),
            );
            assert_eq!(user_agent(&headers), kept);
        }
        let mut twice = HeaderMap::new();
        twice.append(header::USER_AGENT, HeaderValue::from_static("a"));
        twice.append(header::USER_AGENT, HeaderValue::from_static("b"));
        assert_eq!(user_agent(&twice), None);
        assert_eq!(user_agent(&HeaderMap::new()), None);
    }
}
