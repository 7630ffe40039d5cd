//! Coverage: what a response is known to include, and what the rules say about it. The module above defines both.

use super::token::SyncToken;

use crate::words::words;

/// What a stored response, or an answer under way, is known to include. A comparison of small integers.
///
/// The first three numbers only grow and are read together under one lock, so of two coverages of one upstream the one that
/// was taken later is at least as great in each of them.
///
/// The numbers mean something in the [`Session`](super::session::Session) that gave them, and nowhere else: another process
/// counts otherwise. What leaves the process goes as a [`FleetCoverage`], and what comes in covers nothing until
/// [`Session::map_fleet`](super::session::Session::map_fleet) has found its place here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coverage {
    /// Version of `newest` whose tokens were sent. Each distinct state of `newest` has its own number, a reset included.
    pub newest_version: u64,
    /// Position in the write log: every write that closed at or before it was closed when the snapshot was taken.
    pub closed_position: u64,
    /// Order in which snapshots were taken: on a tie of the others the later-sent response stays. Stands in for tokens where
    /// these do not tell states apart, and tells what was sent before a reset from what was sent after it.
    pub sent_order: u64,
    /// The number of the revelation that this response made, if it may stand in for the token of its answer; else 0.
    pub revelation: u64,
}

impl Coverage {
    /// The coverage of what this process did not ask for, as what a snapshot restores: it satisfies no rule.
    pub const NOTHING: Self = Self { newest_version: 0, closed_position: 0, sent_order: 0, revelation: 0 };

    /// Whether this process did not ask for it. Every request of its own has a place in the order of sending, from 1 on.
    pub const fn is_nothing(self) -> bool {
        self.sent_order == 0 && self.newest_version == 0
    }

    /// The version of what cannot change any more: it includes every state of `newest`, past and to come.
    pub const IMMUTABLE: u64 = u64::MAX - 1;

    /// The coverage of a response whose content was known to be fixed before it was asked for. Writes outdate it all the same.
    #[must_use]
    pub const fn immutable(self) -> Self {
        Self { newest_version: Self::IMMUTABLE, ..self }
    }

    /// Whether this is the coverage of something that cannot change any more.
    pub const fn is_immutable(self) -> bool {
        self.newest_version == Self::IMMUTABLE
    }

    /// The same for what must cover `required` by what was sent.
    #[must_use]
    pub const fn without_revelation(self) -> Self {
        Self { revelation: 0, ..self }
    }

    /// The lesser of each component, for what is made of two responses. A revelation stands for itself alone.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self {
            newest_version: self.newest_version.min(other.newest_version),
            closed_position: self.closed_position.min(other.closed_position),
            sent_order: self.sent_order.min(other.sent_order),
            revelation: if self == other { self.revelation } else { 0 },
        }
    }

    /// The greater of each component, for a response of which both are true.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            newest_version: self.newest_version.max(other.newest_version),
            closed_position: self.closed_position.max(other.closed_position),
            sent_order: self.sent_order.max(other.sent_order),
            revelation: self.revelation.max(other.revelation),
        }
    }
}

/// A coverage that the other members of a fleet can understand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetCoverage {
    /// The tokens that were sent, one an id.
    pub tokens: Vec<SyncToken>,
    /// The last entry of the fleet that had been read when it was sent.
    pub position: u64,
    /// It is of something that cannot change any more.
    pub is_immutable: bool,
}

/// What rules 1 to 3 say about reusing one stored response, or joining one fetch, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoverageVerdict {
    /// Rules 1, 2 and 3 hold.
    Covered,
    /// Rule 1 or 2 fails: something is demanded that is not known to be included.
    Unverified(UncoveredReason),
    /// Rule 3 fails: a write that can have touched it was not closed in its snapshot. Wins over `Unverified`.
    Outdated(UncoveredReason),
}

words! {
    /// Which rule failed: the word in logs, metrics, `Cache-Status; detail=` and `explain`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum UncoveredReason {
        /// Rule 1: a change has been shown since.
        Change = "change",
        /// Rule 1: it was restored from a snapshot, and not validated since.
        Snapshot = "snapshot",
        /// Rule 2: the caller presented a known token value that is not included.
        SyncToken = "sync-token",
        /// Rule 2: the caller presented a token value, and it is not known here what it stands for.
        UnknownSyncToken = "unknown-sync-token",
        /// Rule 3: a write has closed since the snapshot.
        OwnWrite = "own-write",
        /// Rule 3: a write is open.
        OpenWrite = "open-write",
    }
}
