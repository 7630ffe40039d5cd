//! Why a snapshot is not used, or not all of it. The start goes on without.

use crate::words::words;

words! {
    /// The reason in logs, metrics and `tagalong snapshot show`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum SnapshotRefusal {
        /// The file cannot be read.
        Unreadable = "unreadable",
        /// It is no snapshot, was changed, or is cut off.
        Damaged = "damaged",
        /// Another version of tagalong wrote it, in another format.
        Format = "format",
        /// It was written with another key.
        Key = "key",
        /// There is no key: neither a key file nor an access key.
        NoKey = "no-key",
        /// It is larger than anything that this configuration would write.
        TooLarge = "too-large",
        /// It is older than `snapshot.max_age`.
        TooOld = "too-old",
        /// It was written later than now: one of two clocks is wrong, so its ages mean nothing.
        Future = "future",
        /// An upstream of this name had another URL.
        Store = "store",
        /// The sidecar had another identity at this upstream, which may be allowed to read other things.
        Identity = "identity",
        /// The upstream had another profile or other rules of sharing.
        Profile = "profile",
        /// There is no upstream of this name any more.
        NoUpstream = "no-upstream",
    }
}

impl SnapshotRefusal {
    /// What a person can do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Unreadable => "check the path, and that this user may read it",
            Self::Damaged => "it is replaced by the next one; if this happens again, check the disk",
            Self::Format => "it is replaced by the next one; this happens once after an upgrade",
            Self::Key => "name the key file that it was written with, or let it be replaced",
            Self::NoKey => "set snapshot.key_file, or use an access key",
            Self::TooLarge => "raise store.limit, or name another file",
            Self::TooOld => "raise snapshot.max_age if answers of that age are wanted",
            Self::Future => "set this machine's clock right",
            Self::Store | Self::Identity | Self::Profile => {
                "nothing is to be done if the configuration was changed on purpose"
            }
            Self::NoUpstream => "nothing is to be done if the upstream was renamed or removed on purpose",
        }
    }
}
