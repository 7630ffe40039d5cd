//! Which callers may share stored responses: the partition of the store, which is part of every cache key.
//!
//! | credential that goes upstream | partition |
//! |---|---|
//! | the sidecar's own, or none | one for all callers |
//! | the caller's bearer token or password | one for each credential, named by a keyed hash of it |
//! | the caller's signature (`HMAC…`) | one for all signed requests; the upstream must validate each of them before a stored response answers, because the signature cannot be checked here |
//! | none, where callers' credentials are forwarded | one for all anonymous callers |

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::config::caching::Sharing;
use crate::stored_response::push_hexadecimal;

/// The identity under which a response is obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The partition of the store: part of every cache key.
    pub partition: Cow<'static, str>,
    /// Whether the credential itself proves the caller, so that a stored response may answer. An HMAC signature does
    /// not: it cannot be checked here, so the upstream must see each such request first.
    pub proven: bool,
    /// Whether all callers in the partition send the same secret, so that it is a private cache (RFC 9111 §3.5).
    pub is_private: bool,
}

impl Identity {
    /// All callers share one partition: the sidecar holds the credential, or there is none.
    pub const SHARED: Self = Self { partition: Cow::Borrowed(""), proven: true, is_private: false };

    /// Callers' own credentials are forwarded, and this caller sent none.
    const ANONYMOUS: Self = Self { partition: Cow::Borrowed("anonymous"), ..Self::SHARED };

    /// Whether a partition means the same in another process. Those of callers' credentials are named with a secret of one process.
    pub fn outlives_process(partition: &str) -> bool {
        [&Self::SHARED, &Self::ANONYMOUS].iter().any(|lasting| lasting.partition == partition)
    }
}

/// Makes partitions of forwarded credentials. The hash is keyed with a secret of this process: neither a memory dump of
/// the keys nor a log of them permits a test of guessed credentials.
pub struct Partitions {
    key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Partitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Partitions(***)")
    }
}

impl Partitions {
    /// Partitions with this hash key, which must be unpredictable.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key: Zeroizing::new(key) }
    }

    /// The identity under which the answer to a request with these fields is stored. Under `rfc9111` a credential that
    /// is not a secret by itself gets no partition of its own: its answers are stored for all callers if the response
    /// allows sharing (RFC 9111 §3.5), and otherwise not at all.
    pub fn storing_identity(&self, fields: &HeaderMap, sharing: Sharing) -> Identity {
        let identity = self.identity(fields);
        if sharing == Sharing::Rfc9111 && identity.proven && !identity.is_private {
            Identity::ANONYMOUS
        } else {
            identity
        }
    }

    /// The identity of a request whose own `Authorization` is forwarded: each credential is one.
    pub fn identity(&self, fields: &HeaderMap) -> Identity {
        if !fields.contains_key(AUTHORIZATION) {
            return Identity::ANONYMOUS;
        }
        let lines = || fields.get_all(AUTHORIZATION).iter();
        let proven = !lines().any(|line| is_signature(line.as_bytes()));
        let mut partition = String::with_capacity(64);
        if proven {
            self.hash_into(&mut partition, lines().map(http::HeaderValue::as_bytes));
        } else {
            partition.push_str("signed");
        }
        let is_private = proven && lines().all(|line| is_secret_itself(line.as_bytes()));
        Identity { partition: Cow::Owned(partition), proven, is_private }
    }

    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    fn hash_into<'a>(&self, text: &mut String, parts: impl Iterator<Item = &'a [u8]>) {
        let mut hash = <Hmac<Sha256> as KeyInit>::new_from_slice(&*self.key).expect("a key of any length");
        for part in parts {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        push_hexadecimal(text, &hash.finalize().into_bytes());
    }
}

/// Whether a value of `Authorization` is a signature of the request, in one of the schemes that begin with `HMAC`.
fn is_signature(line: &[u8]) -> bool {
    line.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"HMAC"))
}

/// Whether the value of `Authorization` is a secret that proves the caller. Other schemes name a key and prove it
/// elsewhere (`DPoP`), or differ with each request (signatures): a partition of their own would never be used twice.
fn is_secret_itself(line: &[u8]) -> bool {
    let scheme = line.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    ["Bearer", "Basic", "Token"].iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(lines: &[&'static str]) -> Identity {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(AUTHORIZATION, http::HeaderValue::from_static(line));
        }
        Partitions::new([7; 32]).identity(&fields)
    }

    #[test]
    fn each_token_has_a_partition_of_its_own_that_does_not_show_it() {
        let a = identity(&["Bearer secret-a"]);
        assert!(a.proven);
        assert_eq!(a, identity(&["Bearer secret-a"]));
        assert_ne!(a, identity(&["Bearer secret-b"]));
        assert_ne!(a, identity(&[]));
        assert_ne!(identity(&["Bearer a", "b"]), identity(&["Bearer ab"]));
        assert!(!a.partition.contains("secret"));
        assert_ne!(
            a,
            Partitions::new([8; 32]).identity(&{
                let mut fields = HeaderMap::new();
                fields.insert(AUTHORIZATION, http::HeaderValue::from_static("Bearer secret-a"));
                fields
            })
        );
    }

    #[test]
    fn only_who_sends_a_secret_has_a_private_cache() {
        for (lines, expected) in [
            (&["Bearer a"][..], true),
            (&["bearer a"], true),
            (&["Basic YTpi"], true),
            (&["token ghp_x"], true),
            (&["DPoP a"], false),
            (&["Digest username=a"], false),
            (&["Bearers a"], false),
            (&["Bearer a", "Digest b"], false),
            (&["HMAC-SHA256 Credential=a"], false),
            (&[], false),
        ] {
            assert_eq!(identity(lines).is_private, expected, "{lines:?}");
        }
    }

    #[test]
    fn under_rfc9111_what_is_no_secret_itself_shares_the_partition_of_all() {
        let partitions = Partitions::new([7; 32]);
        let stored = |lines: &[&'static str], sharing| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(AUTHORIZATION, http::HeaderValue::from_static(line));
            }
            partitions.storing_identity(&fields, sharing)
        };
        for lines in [&["DPoP a"][..], &["Digest username=a"], &["Other"], &["Bearer a", "Other b"], &[]] {
            assert_eq!(stored(lines, Sharing::Rfc9111), Identity::ANONYMOUS, "{lines:?}");
            assert_eq!(stored(lines, Sharing::Guarded), identity(lines), "{lines:?}");
        }
        for lines in [&["Bearer a"][..], &["Basic YTpi"], &["HMAC-SHA256 Credential=a&Signature=b"]] {
            assert_eq!(stored(lines, Sharing::Rfc9111), identity(lines), "{lines:?}");
        }
        assert_ne!(identity(&["Other a"]), identity(&["Other b"]), "each credential has its own quota");
    }

    #[test]
    fn a_signature_proves_nothing_here() {
        assert!(!identity(&["HMAC-SHA256 Credential=a&Signature=b"]).proven);
        assert!(!identity(&["hmac-sha256 Credential=a&Signature=b"]).proven);
        assert!(!identity(&["Bearer x", "HMAC-SHA256 y"]).proven);
    }
}
