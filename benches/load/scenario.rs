//! What each scenario does, and what it allows.

use std::time::Duration;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Writes {
    None,
    Through,
    Beside,
    /// One change beside the sidecar, in the middle.
    Once,
}

#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) keys: usize,
    pub(crate) callers: usize,
    pub(crate) freshness: Duration,
    pub(crate) duration: Duration,
    /// How often each key is read, by one caller or another; where all callers share one key, by each of them.
    pub(crate) read_every: Duration,
    /// Whether callers return the last `Sync-Token` that they were given.
    pub(crate) returns_tokens: bool,
    pub(crate) polls_lists: bool,
    pub(crate) writes: Writes,
    pub(crate) write_every: Duration,
    pub(crate) allowed_ratio: f64,
    /// Requests that are allowed beyond: the first round, the look at a change, or another lifetime.
    pub(crate) allowed_more: u64,
    /// Requests that are allowed beyond the least for each change.
    pub(crate) allowed_per_change: u64,
}

const SECOND: Duration = Duration::from_secs(1);

const PLAIN: Scenario = Scenario {
    name: "forty",
    keys: 40,
    callers: 4,
    freshness: Duration::from_secs(10),
    duration: Duration::from_secs(60),
    read_every: SECOND,
    returns_tokens: false,
    polls_lists: false,
    writes: Writes::None,
    write_every: Duration::from_secs(2),
    allowed_ratio: 1.15,
    allowed_more: 40,
    allowed_per_change: 0,
};
const HUNDRED: Scenario = Scenario {
    name: "hundred",
    keys: 100,
    freshness: Duration::from_secs(30),
    duration: Duration::from_secs(180),
    allowed_ratio: 1.1,
    // Refresh ahead: the last lifetime of each key ends within the run, and is followed by another validation.
    allowed_more: 100,
    ..PLAIN
};
const LISTS: Scenario = Scenario {
    name: "lists-beside",
    callers: 20,
    duration: Duration::from_secs(120),
    polls_lists: true,
    writes: Writes::Beside,
    ..HUNDRED
};
/// All callers ask for one key only. `Date` counts whole seconds, so an answer that is under way at a change of the second counts
/// as a second old, and its lifetime is a second shorter. If all answers did, one more lifetime would begin within the duration.
const THOUSAND: Scenario = Scenario {
    name: "thousand",
    keys: 1,
    callers: 1_000,
    freshness: Duration::from_secs(30),
    duration: Duration::from_secs(120),
    read_every: Duration::from_secs(2),
    allowed_ratio: 1.0,
    allowed_more: 1,
    ..PLAIN
};
pub(crate) const SCENARIOS: [Scenario; 9] = [
    PLAIN,
    Scenario { name: "forty-tokens", returns_tokens: true, ..PLAIN },
    HUNDRED,
    LISTS,
    Scenario { name: "lists-through", writes: Writes::Through, ..LISTS },
    Scenario {
        name: "outside-change",
        duration: Duration::from_secs(25),
        writes: Writes::Once,
        allowed_ratio: 1.0,
        allowed_more: 1,
        ..HUNDRED
    },
    THOUSAND,
    Scenario { name: "thousand-beside", writes: Writes::Beside, ..THOUSAND },
    // While a write is open, nothing that was stored or sent before it is shown: readers share one request then, and one after it.
    Scenario { name: "thousand-through", writes: Writes::Through, allowed_per_change: 1, ..THOUSAND },
];

impl Scenario {
    /// The same with lifetimes a fifth as long, and reads and writes twice as often: keys are still read several times a lifetime.
    pub(crate) fn shortened(self) -> Self {
        Self {
            freshness: (self.freshness / 5).max(Duration::from_secs(2)),
            duration: (self.duration / 5).min(Duration::from_secs(24)),
            read_every: self.read_every / 2,
            write_every: self.write_every / 2,
            ..self
        }
    }

    /// What this caller reads: its share of the keys, or all of them where there are not enough.
    pub(crate) fn keys_of(&self, caller: usize) -> Vec<usize> {
        let shared = self.callers > self.keys;
        (0..self.keys).filter(|key| shared || key % self.callers == caller).collect()
    }

    /// The fewest requests by which each key is asked for once a lifetime, and once after each change to it.
    pub(crate) fn least(&self, changes: u64) -> u64 {
        let keys = self.keys as u64;
        let lifetimes = self.duration.as_millis().div_ceil(self.freshness.as_millis());
        match self.writes {
            Writes::Once => keys,
            _ => keys * u64::try_from(lifetimes).expect("a few") + changes,
        }
    }
}
