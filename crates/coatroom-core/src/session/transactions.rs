//! What is under way between this browser and the provider: a sign-in, and a sign-out.
//!
//! Each is sealed in a cookie of its own and lives for ten minutes. Nothing here decides whether one
//! may be finished.

use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::{CborLen, Decode, Encode};
use zeroize::Zeroizing;

use super::tokens::name_of;
use super::{SessionId, TRANSACTION_LIFE, bytes, encode};
use crate::config::ProviderName;
use crate::packed::{pack, unpack};
use crate::seal::{PROOF_KEY, ProofKey};
use crate::secret::Secret;
use crate::store::RecordKey;
use crate::time::UnixTime;
use crate::tombstones::Tombstones;

/// One pending sign-in, sealed in its login cookie.
pub(crate) struct LoginTransaction {
    pub(crate) state: Secret,
    pub(crate) nonce: Secret,
    pub(crate) verifier: Secret,
    /// Absolute, validated when received and again when used.
    pub(crate) return_to: String,
    pub(crate) started_at: UnixTime,
    /// The sessions whose anchor was visible at the start: they are dead in this browser when this
    /// sign-in succeeds.
    pub(crate) replaces: Vec<SessionId>,
    /// Those of them whose session cookie was there too: they end for the whole process. An anchor
    /// alone proves nothing to the agent, since a proxy's key can make one.
    pub(crate) ends: Vec<SessionId>,
    /// For a step-up: the user who must come back.
    pub(crate) expected_sub: Option<String>,
    /// The tombstones visible at the start: the callback cannot see their cookie and may have to
    /// write it.
    pub(crate) tombstones: Tombstones,
    /// Digest of the issuer that it was begun at; none in those of an earlier version.
    pub(crate) issuer: Option<[u8; 8]>,
    /// The stored records of the sessions that end.
    pub(crate) records: Vec<RecordKey>,
    /// What the tokens that it leads to are to be bound to; none for bearer tokens.
    pub(crate) proof_key: Option<ProofKey>,
    /// What the caller asked for, as it was sent: one of these authentication context classes.
    pub(crate) acr_values: Option<String>,
    /// What was asked for: how long ago the user may have authenticated, in seconds.
    pub(crate) max_age: Option<u64>,
    /// The scopes that the caller asked for, if fewer than the configured ones.
    pub(crate) scope: Option<String>,
    /// The scopes that were asked for: those that are granted where the provider does not say (RFC 6749
    /// §5.1).
    pub(crate) asked_scope: Option<String>,
    /// At which of several providers it was begun.
    pub(crate) provider: Option<ProviderName>,
}

impl LoginTransaction {
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        encode(&LoginRecord {
            state: self.state.expose(),
            nonce: self.nonce.expose(),
            verifier: self.verifier.expose(),
            return_to: self.return_to.clone(),
            started_at: self.started_at.0,
            replaces: self.replaces.iter().map(|id| ByteArray::from(id.0)).collect(),
            ends: self.ends.iter().map(|id| ByteArray::from(id.0)).collect(),
            expected_sub: self.expected_sub.clone(),
            tombstones: self.tombstones.record(),
            issuer: self.issuer.map(ByteArray::from),
            records: self.records.iter().map(|key| ByteArray::from(key.0)).collect(),
            proof_key: self.proof_key.as_ref().map(|key| ByteArray::from(*key.bytes())),
            acr_values: self.acr_values.clone(),
            max_age: self.max_age,
            scope: self.scope.clone(),
            asked_scope: self.asked_scope.clone(),
            provider: self.provider.as_ref().map(ProviderName::as_str),
        })
    }

    pub(crate) fn decode(plaintext: &[u8]) -> Option<Self> {
        let record: LoginRecord<'_> = minicbor::decode(plaintext).ok()?;
        Some(Self {
            state: Secret::new(record.state),
            nonce: Secret::new(record.nonce),
            verifier: Secret::new(record.verifier),
            return_to: record.return_to,
            started_at: UnixTime(record.started_at),
            replaces: record.replaces.iter().map(|id| SessionId(**id)).collect(),
            ends: record.ends.iter().map(|id| SessionId(**id)).collect(),
            expected_sub: record.expected_sub,
            tombstones: Tombstones::from_record(&record.tombstones),
            issuer: record.issuer.map(|issuer| *issuer),
            records: record.records.iter().map(|key| RecordKey(**key)).collect(),
            proof_key: record.proof_key.map(|key| ProofKey::from_bytes(*key)),
            acr_values: record.acr_values,
            max_age: record.max_age,
            scope: record.scope,
            asked_scope: record.asked_scope,
            provider: name_of(record.provider)?,
        })
    }

    /// Whether the transaction is too old to be used, or from a future that no two replicas' clocks
    /// are apart: from before a clock was set back.
    pub(crate) fn is_expired(&self, now: UnixTime) -> bool {
        is_over(self.started_at, now)
    }
}

/// One RP-initiated logout on its way, sealed in the logout cookie.
pub(crate) struct LogoutTransaction {
    pub(crate) state: Secret,
    pub(crate) id_token_hint: Option<Secret>,
    pub(crate) started_at: UnixTime,
    /// Absolute, validated when received and again when used; none: the SPA's address.
    pub(crate) return_to: Option<String>,
    /// At which of several providers it goes on.
    pub(crate) provider: Option<ProviderName>,
}

impl LogoutTransaction {
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let id_token_hint = self.id_token_hint.as_ref().map(pack);
        encode(&LogoutRecord {
            state: self.state.expose(),
            id_token_hint: id_token_hint.as_ref().map(|packed| bytes(packed)),
            started_at: self.started_at.0,
            return_to: self.return_to.as_deref(),
            provider: self.provider.as_ref().map(ProviderName::as_str),
        })
    }

    pub(crate) fn decode(plaintext: &[u8]) -> Option<Self> {
        let record: LogoutRecord<'_> = minicbor::decode(plaintext).ok()?;
        Some(Self {
            state: Secret::new(record.state),
            id_token_hint: record.id_token_hint.and_then(|packed| unpack(packed)),
            started_at: UnixTime(record.started_at),
            return_to: record.return_to.map(str::to_owned),
            provider: name_of(record.provider)?,
        })
    }

    pub(crate) fn is_expired(&self, now: UnixTime) -> bool {
        is_over(self.started_at, now)
    }
}

fn is_over(started_at: UnixTime, now: UnixTime) -> bool {
    now >= started_at.plus(TRANSACTION_LIFE) || started_at >= now.plus(TRANSACTION_LIFE)
}

#[derive(Encode, Decode, CborLen)]
struct LoginRecord<'a> {
    #[b(0)]
    state: &'a str,
    #[b(1)]
    nonce: &'a str,
    #[b(2)]
    verifier: &'a str,
    #[n(3)]
    return_to: String,
    #[n(4)]
    started_at: u64,
    #[n(5)]
    replaces: Vec<ByteArray<16>>,
    #[n(6)]
    expected_sub: Option<String>,
    #[n(7)]
    tombstones: Vec<ByteArray<8>>,
    #[cbor(n(8), default)]
    ends: Vec<ByteArray<16>>,
    #[n(9)]
    issuer: Option<ByteArray<8>>,
    #[cbor(n(10), default)]
    records: Vec<ByteArray<32>>,
    #[n(11)]
    proof_key: Option<ByteArray<PROOF_KEY>>,
    #[n(12)]
    acr_values: Option<String>,
    #[n(13)]
    max_age: Option<u64>,
    #[n(14)]
    scope: Option<String>,
    #[n(15)]
    asked_scope: Option<String>,
    #[b(16)]
    provider: Option<&'a str>,
}

#[derive(Encode, Decode, CborLen)]
struct LogoutRecord<'a> {
    #[b(0)]
    state: &'a str,
    #[b(1)]
    id_token_hint: Option<&'a ByteSlice>,
    #[n(2)]
    started_at: u64,
    #[b(3)]
    return_to: Option<&'a str>,
    #[b(5)]
    provider: Option<&'a str>,
}
