//! The head of a snapshot file: one line of JSON in the clear, authenticated with everything that follows.
//!
//! It says what the rest is, for whom and of when, so that a file that may not be used is refused with its reason before anything
//! is opened. It holds no secret: the identifier of the key does not lead back to the key.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::refusal::SnapshotRefusal;
use crate::clock::Timestamp;

/// The number of the format. Another one is refused, and replaced.
pub const FORMAT: u32 = 1;

/// How far a file may lie in the future: clocks that are kept right differ by less.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// The longest head that is read.
pub const HEADER_LIMIT_BYTES: u64 = 256 * 1024;

/// Of which upstream a snapshot has something, and who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSource {
    /// Its name in the configuration.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Its profile, and how far its answers are shared.
    pub profile: String,
    /// As whom the sidecar asked.
    pub identity: String,
}

/// The head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// [`FORMAT`].
    pub format: u32,
    /// One more than that of the file that it replaced.
    pub generation: u64,
    /// Microseconds since 1970.
    pub written_at: Timestamp,
    /// Where the key comes from: `key-file` or `access-key`.
    pub key: String,
    /// Tells keys apart.
    pub key_id: String,
    /// What the key of this file was derived with, in base64.
    pub salt: String,
    /// The upstreams, in the order in which records count them.
    pub sources: Vec<SnapshotSource>,
}

impl SnapshotHeader {
    /// Why this file may not be used at all, as far as its head tells. `key_id` is that of the key at hand.
    ///
    /// # Errors
    /// [`SnapshotRefusal`]
    pub fn check(&self, key_id: &str, now: Timestamp, max_age: Duration) -> Result<(), SnapshotRefusal> {
        if self.format != FORMAT {
            Err(SnapshotRefusal::Format)
        } else if self.key_id != key_id {
            Err(SnapshotRefusal::Key)
        } else if self.written_at.since(now) > CLOCK_TOLERANCE {
            Err(SnapshotRefusal::Future)
        } else if now.since(self.written_at) > max_age {
            Err(SnapshotRefusal::TooOld)
        } else {
            Ok(())
        }
    }
}

impl SnapshotSource {
    /// Why what this source left is not for the upstream that has its name now.
    ///
    /// # Errors
    /// [`SnapshotRefusal`]
    pub fn check(&self, now: Option<&Self>) -> Result<(), SnapshotRefusal> {
        let Some(now) = now else { return Err(SnapshotRefusal::NoUpstream) };
        if self.url != now.url {
            Err(SnapshotRefusal::Store)
        } else if self.profile != now.profile {
            Err(SnapshotRefusal::Profile)
        } else if self.identity != now.identity {
            Err(SnapshotRefusal::Identity)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn source() -> SnapshotSource {
        SnapshotSource {
            name: "main".into(),
            url: "https://a.example/".into(),
            profile: "generic guarded".into(),
            identity: "hmac id".into(),
        }
    }

    #[test]
    fn another_format_key_or_time_is_refused() {
        let written_at = Timestamp::from_unix_seconds(1_000_000);
        let header = SnapshotHeader {
            format: FORMAT,
            generation: 1,
            written_at,
            key: "key-file".into(),
            key_id: "a".into(),
            salt: String::new(),
            sources: vec![source()],
        };
        assert_eq!(header.check("a", written_at, HOUR), Ok(()));
        assert_eq!(header.check("a", written_at.plus(HOUR), HOUR), Ok(()));
        let second = Duration::from_secs(1);
        assert_eq!(header.check("a", written_at.plus(HOUR + second), HOUR), Err(SnapshotRefusal::TooOld));
        assert_eq!(header.check("a", written_at.minus(CLOCK_TOLERANCE), HOUR), Ok(()));
        let earlier = written_at.minus(CLOCK_TOLERANCE + second);
        assert_eq!(header.check("a", earlier, HOUR), Err(SnapshotRefusal::Future));
        assert_eq!(header.check("b", written_at, HOUR), Err(SnapshotRefusal::Key));
        let newer = SnapshotHeader { format: 2, ..header };
        assert_eq!(newer.check("a", written_at, HOUR), Err(SnapshotRefusal::Format));
    }

    #[test]
    fn what_was_of_another_store_or_identity_is_refused() {
        let was = source();
        assert_eq!(was.check(Some(&source())), Ok(()));
        assert_eq!(was.check(None), Err(SnapshotRefusal::NoUpstream));
        let other = |change: fn(&mut SnapshotSource)| {
            let mut other = source();
            change(&mut other);
            was.check(Some(&other))
        };
        assert_eq!(other(|it| it.url = "https://b.example/".into()), Err(SnapshotRefusal::Store));
        assert_eq!(other(|it| it.profile = "generic rfc9111".into()), Err(SnapshotRefusal::Profile));
        assert_eq!(other(|it| it.identity = "hmac other".into()), Err(SnapshotRefusal::Identity));
    }
}
