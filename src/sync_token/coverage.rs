//! Coverage: what a response is known to include (design, section 3).
//!
//! Every request upstream takes a snapshot before its first byte; the snapshot becomes the coverage of what comes back. What
//! was SENT counts, never what was received: an answer's token may be newer than the state that the answer shows.

/// What a stored response, or an answer under way, is known to include. A comparison of small integers.
///
/// All three numbers only grow and are read together under one lock, so of two coverages of one upstream the one that was
/// taken later is at least as great in every component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coverage {
    /// Version of `observed` whose tokens were sent. Each distinct state of `observed` has its own number, a reset included.
    pub observed_version: u64,
    /// Position in the write log: every write that closed at or before it was closed when the snapshot was taken.
    pub closed_position: u64,
    /// Order in which snapshots were taken: on a tie of the others the later-sent response stays. It also tells what was sent
    /// before a reset of the session from what was sent after it.
    pub sent_order: u64,
}

impl Coverage {
    /// The version of what cannot change any more: it includes every state of `observed`, past and to come.
    pub const IMMUTABLE: u64 = u64::MAX - 1;

    /// The coverage of a response whose content was known to be fixed before it was asked for. Writes outdate it all the same.
    #[must_use]
    pub const fn immutable(self) -> Self {
        Self { observed_version: Self::IMMUTABLE, ..self }
    }

    /// Whether this is the coverage of something that cannot change any more.
    #[must_use]
    pub const fn is_immutable(self) -> bool {
        self.observed_version == Self::IMMUTABLE
    }
}

/// What rules 1 to 3 of coverage say about reusing one stored response, or joining one flight, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoverageVerdict {
    /// Rules 1, 2 and 3 hold.
    Covered,
    /// Rule 1 or 2 fails: a token was observed, or presented by the caller, that is not known to be included.
    Unverified(UncoveredReason),
    /// Rule 3 fails: a write that can have touched it was not closed in its snapshot. Wins over `Unverified`.
    Outdated(UncoveredReason),
}

/// Which clause failed: the word in logs, metrics, `Cache-Status; detail=` and `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UncoveredReason {
    /// Rule 1: a newer token has been observed.
    SyncToken,
    /// Rule 2: the caller presented a token value that is not known to be included.
    UnknownSyncToken,
    /// Rule 3: a write has closed since the snapshot.
    OwnWrite,
    /// Rule 3: a write is open.
    OpenWrite,
}

impl UncoveredReason {
    /// The word for `Cache-Status; detail=`, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SyncToken => "sync-token",
            Self::UnknownSyncToken => "unknown-sync-token",
            Self::OwnWrite => "own-write",
            Self::OpenWrite => "open-write",
        }
    }
}
