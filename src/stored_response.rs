//! Stored responses: data only. [`crate::decide::storable`] decides what is stored, [`crate::decide::reuse`] what is
//! reused.

mod fields;
pub mod record;
mod use_mark;
mod well_known;

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::body::budget::StoredShare;
use crate::clock::Timestamp;
pub use crate::headers::vary::SelectingKey;
use crate::sync_token::coverage::Coverage;
pub use fields::StoredFields;
pub use use_mark::UseMark;

/// The cache key of a target, which all its variants share. One byte string holds the upstream, the identity under
/// which the response was obtained, and the canonical target. A response obtained under one identity is never reused
/// under another. Opaque to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(Bytes);

/// Writes the hash of what a key must not show.
pub fn push_hexadecimal(text: &mut String, hash: &[u8]) {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    text.extend(hash.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

/// Between a partition and the digest of fields; in no name of an upstream or partition.
const FIELDS_FOLLOW: &str = "+";

impl CacheKey {
    /// Makes a key. `upstream` and `partition` are short names without NUL; `canonical_target` may contain any byte.
    pub fn new(upstream: &str, partition: &str, canonical_target: &str) -> Self {
        Self::of_parts([upstream, "\0", partition, "\0", canonical_target])
    }

    fn of_parts<const COUNT: usize>(parts: [&str; COUNT]) -> Self {
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| bytes.extend_from_slice(part.as_bytes()));
        Self(bytes.into())
    }

    /// The same key in its own allocation, for a map that keeps keys. A clone would share the bytes, and the reference
    /// count of shared bytes needs one more allocation.
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The key of one variant. Its first byte never occurs in the name of an upstream, so it differs from the key of
    /// every target.
    pub fn of_variant(&self, selecting: &SelectingKey) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + selecting.0.len() + 9);
        bytes.push(0xFF);
        bytes.extend_from_slice(&(selecting.0.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&selecting.0);
        bytes.extend_from_slice(&self.0);
        Self(bytes.into())
    }

    /// The key of another target of the same upstream, under the same identity.
    pub fn of_target(&self, canonical_target: &str) -> Self {
        let target_bytes = self.canonical_target().len();
        let mut bytes = Vec::with_capacity(self.0.len() - target_bytes + canonical_target.len());
        bytes.extend_from_slice(&self.0[..self.0.len() - target_bytes]);
        bytes.extend_from_slice(canonical_target.as_bytes());
        Self(bytes.into())
    }

    /// The key of a request with fields of which `Vary` may not tell ([`crate::profile::keyed_fields`]); `digest` stands for them.
    pub fn with_fields(upstream: &str, partition: &str, digest: &str, canonical_target: &str) -> Self {
        Self::of_parts([upstream, "\0", partition, FIELDS_FOLLOW, digest, "\0", canonical_target])
    }

    /// What names the resource, whatever fields select a representation of it: upstream and identity, and the canonical target.
    pub fn resource(&self) -> (&[u8], &[u8]) {
        let (names, target) = self.names_and_target();
        let end = names.iter().position(|byte| FIELDS_FOLLOW.as_bytes() == [*byte]).unwrap_or(names.len());
        (&names[..end], target)
    }

    /// What stands for the fields of the request; empty if none is part of the key.
    pub fn fields_digest(&self) -> &[u8] {
        let (names, _) = self.names_and_target();
        &names[self.resource().0.len()..]
    }

    /// The name of the upstream.
    pub fn upstream(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// What stands between the upstream and the target: the partition, and the digest of fields behind it.
    pub fn partition_and_fields(&self) -> &str {
        let partition = self.0.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        std::str::from_utf8(partition).unwrap_or_default()
    }

    /// The partition alone.
    pub fn partition(&self) -> &str {
        let partition = self.partition_and_fields();
        partition.split_once(FIELDS_FOLLOW).map_or(partition, |(partition, _)| partition)
    }

    fn names_and_target(&self) -> (&[u8], &[u8]) {
        let target = self.canonical_target().as_bytes();
        let names = &self.0[..self.0.len() - target.len()];
        (names.strip_suffix(b"\0").unwrap_or(names), target)
    }

    /// The whole key as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The canonical target: the bytes after the second NUL.
    pub fn canonical_target(&self) -> &str {
        let mut nul_positions = self.0.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
        let start = nul_positions.nth(1).map_or(self.0.len(), |at| at + 1);
        std::str::from_utf8(&self.0[start..]).unwrap_or_default()
    }
}

impl std::borrow::Borrow<[u8]> for CacheKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// The rules of reuse in a stored response's fields. They are computed once, when it is stored or freshened, so that a
/// hit compares numbers and does not parse fields.
///
/// The default describes a response that is stale at once and forbids nothing.
///
/// Snapshots have it as it stands: another field, or another order, is another [`FORMAT`](crate::snapshot::header::FORMAT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPolicy {
    /// Freshness lifetime (RFC 9111 §4.2.1).
    pub freshness_lifetime: Duration,
    /// `corrected_initial_age` (RFC 9111 §4.2.3): age at the time of `response_time`.
    pub initial_age: Duration,
    /// `no-cache` without field names, or a lifetime that requires the same: validate on each use.
    pub no_cache: bool,
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache`: never served stale.
    pub must_revalidate: bool,
    /// `public`: a response to a request with `Cookie` may be shared under `Sharing::Guarded`.
    pub public: bool,
    /// Window of `stale-while-revalidate` past the lifetime (RFC 5861 §3); zero when absent.
    pub stale_while_revalidate: Duration,
    /// Window of `stale-if-error` past the lifetime (RFC 5861 §4); `None` when absent.
    pub stale_if_error: Option<Duration>,
    /// The lifetime is a heuristic (RFC 9111 §4.2.2).
    pub heuristic: bool,
    /// The lifetime is the operator's (`freshness`): it may stretch.
    pub configured: bool,
}

/// The bytes of a representation that a stored 206 holds (RFC 9110 §14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRange {
    /// Position of the first byte held.
    pub first_byte: u64,
    /// Length of the complete representation in bytes.
    pub complete_length_bytes: u64,
}

/// A response that the store holds. Immutable: freshening makes a new one that shares the body.
#[derive(Clone, Debug, Default)]
pub struct StoredResponse {
    /// The status as received; 206 only together with `range`.
    pub status: StatusCode,
    /// The header fields, without hop-by-hop ones.
    pub fields: StoredFields,
    /// The complete body, or the bytes that `range` names.
    pub body: Bytes,
    /// How the body counts in the memory of the process.
    pub share: StoredShare,
    /// The selecting header fields of the request that fetched it.
    pub selecting: SelectingKey,
    /// When the request was sent (RFC 9111 §4.2.3).
    pub request_time: Timestamp,
    /// When the head of the response had arrived.
    pub response_time: Timestamp,
    /// The state that it is known to include.
    pub covers: Coverage,
    /// The rules of reuse in its fields.
    pub policy: StoredPolicy,
    /// Set for a stored partial response.
    pub range: Option<StoredRange>,
    /// Made of the items of a mirror.
    pub is_mirrored: bool,
    /// Whether it is in use.
    pub in_use: UseMark,
}

impl StoredResponse {
    /// The detail of what a mirror answers.
    pub const MIRROR: &str = "mirror";

    /// The word for `Cache-Status; detail=` of a fresh hit, if it is not an answer of the origin.
    pub const fn detail(&self) -> Option<&'static str> {
        if self.is_mirrored { Some(Self::MIRROR) } else { None }
    }

    /// Whether it comes from a snapshot, and no answer of the origin has confirmed it since.
    pub const fn is_restored(&self) -> bool {
        self.covers.is_nothing()
    }
}
