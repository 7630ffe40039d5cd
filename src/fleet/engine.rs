//! What a fleet asks of its engine: one stream of entries, a map of records, and leases. [`redis`](super::redis) does it with Valkey or
//! Redis; tests have a model of one that forgets.
//!
//! Invariant: what a method answers is of the run of the engine that the last [`FleetStream::join`] found, or it is an error. So a
//! member never takes the numbers of one run for those of another.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::words::words;

/// What an engine answers, some time.
pub type EngineAnswer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

words! {
    /// Why an engine gave no usable answer: the word in logs and metrics. Each may pass; the member tries again.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum EngineError {
        /// It cannot be reached, or the connection broke.
        Away = "away",
        /// It did not answer in time.
        Slow = "slow",
        /// It is a replica, or does not accept writes now.
        ReadOnly = "read-only",
        /// It has no memory left.
        Full = "full",
        /// It refuses the password, or a command.
        Refused = "refused",
        /// Members with another key use it.
        Key = "key",
        /// It lost entries, or everything.
        Forgot = "forgot",
        /// It answered what no such engine answers.
        Answer = "answer",
    }
}

impl EngineError {
    /// Every reason.
    #[cfg(any(test, feature = "internals"))]
    pub const ALL: [Self; 8] = [
        Self::Away,
        Self::Slow,
        Self::ReadOnly,
        Self::Full,
        Self::Refused,
        Self::Key,
        Self::Forgot,
        Self::Answer,
    ];

    /// What to do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Away => "see whether the engine runs, and whether fleet.url names it",
            Self::Slow => "see what keeps the engine busy; it must answer within fleet.lease",
            Self::ReadOnly => "name its primary in fleet.url, or all its nodes",
            Self::Full => "give it more memory, or maxmemory-policy volatile-ttl",
            Self::Refused => "see fleet.password_file and what its user may do",
            Self::Key => {
                "give all members the same fleet.key_file; a new key counts once no member has the old one"
            }
            Self::Forgot => "nothing: its members announce again what they know",
            Self::Answer => "use Redis 6.2 or newer, or Valkey",
        }
    }
}

/// The engine's clock in milliseconds since some time of its own.
pub type EngineMillis = u64;

/// What the engine's clock showed at some time between two instants of the member's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// When it was asked.
    pub asked: Instant,
    /// When it had answered.
    pub answered: Instant,
    /// What it showed.
    pub millis: EngineMillis,
}

/// One entry of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// Its number. The numbers of a run have no gap.
    pub number: u64,
    /// What it says, sealed.
    pub sealed: Vec<u8>,
}

/// How the stream stands when a member joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Tells runs apart: of the process, and of its data.
    pub run: String,
    /// How long ago the first member joined it.
    pub age: Duration,
    /// The number of the last entry.
    pub last: u64,
    /// The last entries, oldest first, without a gap up to `last`.
    pub history: Vec<StreamEntry>,
    /// Of each token id the newest that was announced, sealed.
    pub tokens: Vec<Vec<u8>>,
}

/// One turn of a member: it says that it lives and what it has read, and waits for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberTurn<'a> {
    /// Its name.
    pub member: &'a str,
    /// The number of the last entry that it has taken in.
    pub read: u64,
    /// How long to wait for more.
    pub wait: Duration,
}

/// What came of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The engine's clock, before it waited.
    pub clock: ClockReading,
    /// The entries after those that were read, oldest first.
    pub entries: Vec<StreamEntry>,
    /// More may follow: the turn does not show that all were read.
    pub is_partial: bool,
}

/// A token that goes with an entry, for members that join later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedToken {
    /// The hash of its id.
    pub id: String,
    /// Its sequence number: the greatest of an id is kept.
    pub sequence_number: u64,
    /// The token, sealed.
    pub sealed: Vec<u8>,
}

/// What the engine has under the name of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookedUp {
    /// The sealed head, of this run.
    pub head: Option<Vec<u8>>,
    /// The fence of the lease, if it was asked for and given.
    pub fence: Option<u64>,
}

/// A record to publish under a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// Its name.
    pub record: &'a str,
    /// Who publishes it: its lease ends.
    pub member: &'a str,
    /// The fence of the lease. A record of a greater one stays.
    pub fence: u64,
    /// The sealed head.
    pub head: Vec<u8>,
    /// The sealed body; `None`: the one that is there stays.
    pub body: Option<Vec<u8>>,
    /// How long the engine keeps it.
    pub keep: Duration,
}

/// What members share about one upstream and identity.
pub trait FleetStream: Send + Sync {
    /// Connects anew and says how the stream stands.
    fn join<'a>(&'a self, member: &'a str, key_id: &'a str) -> EngineAnswer<'a, Joined>;

    /// Takes a turn. The engine knows of the member before it looks for entries.
    fn turn<'a>(&'a self, turn: MemberTurn<'a>) -> EngineAnswer<'a, Heard>;

    /// Appends an entry and returns its number.
    fn announce<'a>(&'a self, sealed: Vec<u8>, tokens: Vec<AnnouncedToken>) -> EngineAnswer<'a, u64>;

    /// How many members that may have a live lease have not read the entry of this number. `lease` is how long that is.
    fn unconfirmed<'a>(&'a self, number: u64, lease: Duration) -> EngineAnswer<'a, u64>;

    /// Looks for a record. With `lease` asks for the right to renew it, for so long.
    fn look_up<'a>(
        &'a self,
        record: &'a str,
        member: &'a str,
        lease: Option<Duration>,
    ) -> EngineAnswer<'a, LookedUp>;

    /// The sealed body of a record.
    fn body<'a>(&'a self, record: &'a str) -> EngineAnswer<'a, Option<Vec<u8>>>;

    /// Publishes a record, and gives the lease back.
    fn publish<'a>(&'a self, publication: Publication<'a>) -> EngineAnswer<'a, ()>;

    /// Gives a lease back without a record.
    fn release<'a>(&'a self, record: &'a str, member: &'a str) -> EngineAnswer<'a, ()>;
}

/// Gives the stream of a name. Members with the same name, key and engine are one fleet.
pub trait FleetEngine: Send + Sync {
    /// The stream of this name.
    fn stream(&self, name: &str) -> Arc<dyn FleetStream>;
}
