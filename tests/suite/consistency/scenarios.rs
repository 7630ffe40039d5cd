//! The scenarios: kinds of origin, habits of callers, faults.

use std::time::Duration;

use tagalong::config::caching::Consistency;
use tagalong::sync_token::clauses::Clauses;

use super::callers::Habits;
use super::origin::{Faults, Tokens};
use super::simulation::{Api, Before, Scenario};

/// Everything that the API offers, writes often.
pub(crate) const MIXED: Habits = Habits {
    reads: 60,
    reads_if: 3,
    lists: 14,
    puts: 10,
    puts_if: 6,
    deletes: 4,
    no_cache: 60,
    unless_known: 150,
    left: 60,
    own_tokens: 300,
    foreign_tokens: 20,
    forged_tokens: 10,
    pause: Duration::from_millis(600),
    pauses: 600,
};

/// As applications do: many readings of few things, now and then a write, nothing about tokens.
pub(crate) const READING: Habits = Habits {
    reads: 80,
    reads_if: 0,
    lists: 14,
    puts: 3,
    puts_if: 1,
    deletes: 1,
    no_cache: 30,
    foreign_tokens: 0,
    forged_tokens: 0,
    ..MIXED
};

/// A few in a hundred of everything that goes wrong.
pub(crate) const FAULTS: Faults = Faults {
    lost_request: 15,
    lost_answer: 20,
    broken_body: 10,
    error: 20,
    late_effect: 30,
    too_slow: 8,
    throttled: 4,
};

/// An origin that hands out the token of the state that it shows.
pub(crate) const OF_STATE: Scenario = Scenario {
    name: "tokens of the state",
    before: Before::Sidecar(Clauses::ALL),
    api: Api::AppConfiguration,
    level: Consistency::Session,
    tokens: Tokens::OfState,
    emulated: false,
    habits: MIXED,
    faults: FAULTS,
    keys: 3,
    callers: (8, 32),
    operations_each: (2, 8),
    usual_delay: Duration::from_millis(40),
    slow_delay: Duration::from_millis(1_500),
    slow: 150,
    lag: Duration::from_secs(5),
    lifetime: Duration::from_secs(30),
    restarts: 30,
    writes_beside: 0,
    tiny_store: 250,
};

/// One whose front ends know more than the replica that answers.
pub(crate) const OF_FRONT_END: Scenario =
    Scenario { name: "tokens of the front end", tokens: Tokens::OfFrontEnd, ..OF_STATE };

/// One without tokens, consistent by itself.
pub(crate) const ABSENT: Scenario = Scenario { name: "no tokens", tokens: Tokens::Absent, ..OF_STATE };

/// One with a token that never changes, consistent by itself.
pub(crate) const CONSTANT: Scenario =
    Scenario { name: "a constant token", tokens: Tokens::Constant, ..OF_STATE };

/// Any API with ETags: without lists, of which it cannot know what a write touches.
pub(crate) const GENERIC: Scenario = Scenario {
    name: "generic, no tokens",
    api: Api::Generic,
    tokens: Tokens::Absent,
    habits: Habits { lists: 0, ..MIXED },
    ..OF_STATE
};

/// The level that validates every time.
pub(crate) const STRONG: Scenario =
    Scenario { name: "strong", level: Consistency::Strong, tokens: Tokens::OfFrontEnd, ..OF_STATE };

/// Short lifetimes, many readings.
pub(crate) const EXPIRING: Scenario = Scenario {
    name: "short lifetimes",
    tokens: Tokens::OfFrontEnd,
    habits: READING,
    lifetime: Duration::from_secs(1),
    operations_each: (8, 20),
    callers: (8, 16),
    ..OF_STATE
};

/// Many conditions that only the origin may judge.
pub(crate) const CONDITIONAL: Scenario = Scenario {
    name: "conditions",
    habits: Habits { reads: 30, reads_if: 40, lists: 0, puts: 15, puts_if: 15, ..MIXED },
    keys: 2,
    ..OF_STATE
};

/// The emulator of this crate as the origin.
pub(crate) const EMULATED: Scenario =
    Scenario { name: "emulator, tokens of the state", emulated: true, ..OF_STATE };

/// The same with tokens newer than the state that is shown.
pub(crate) const EMULATED_FRONT_END: Scenario =
    Scenario { name: "emulator, tokens of the front end", tokens: Tokens::OfFrontEnd, ..EMULATED };

/// The same as the vendor's own emulator: its token never changes.
pub(crate) const EMULATED_CONSTANT: Scenario =
    Scenario { name: "emulator, a constant token", tokens: Tokens::Constant, ..EMULATED };

/// Everything for which the claim is linearizability.
pub(crate) const REGISTERS: [Scenario; 11] = [
    OF_STATE,
    CONDITIONAL,
    OF_FRONT_END,
    ABSENT,
    CONSTANT,
    GENERIC,
    STRONG,
    EXPIRING,
    EMULATED,
    EMULATED_FRONT_END,
    EMULATED_CONSTANT,
];

/// Writers beside the sidecar.
pub(crate) const BESIDE: Scenario = Scenario {
    name: "writers beside the sidecar",
    tokens: Tokens::OfFrontEnd,
    habits: Habits { foreign_tokens: 40, forged_tokens: 20, ..READING },
    writes_beside: 300,
    lifetime: Duration::from_secs(3),
    operations_each: (8, 20),
    callers: (8, 16),
    ..OF_STATE
};

/// The same before an origin without tokens. There nothing relates a list to the keys in it, and nothing relates what a bypassing
/// request saw to what is stored.
pub(crate) const BESIDE_WITHOUT_TOKENS: Scenario = Scenario {
    name: "writers beside the sidecar, no tokens",
    tokens: Tokens::Absent,
    habits: Habits { lists: 0, ..READING },
    ..BESIDE
};

/// The level at which only writes through the sidecar and the lifetime bound what is shown.
pub(crate) const BOUNDED: Scenario =
    Scenario { name: "bounded staleness", level: Consistency::BoundedStaleness, ..BESIDE };

/// One key, slow messages, and callers who want to know for certain: several requests for it are under way at once.
pub(crate) const RACING: Scenario = Scenario {
    name: "racing, writers beside",
    habits: Habits { lists: 0, reads_if: 0, no_cache: 300, ..BESIDE.habits },
    keys: 1,
    usual_delay: Duration::from_millis(900),
    slow_delay: Duration::from_millis(1_900),
    slow: 400,
    lifetime: Duration::from_secs(30),
    ..BESIDE
};

/// The same before an origin without tokens.
pub(crate) const RACING_WITHOUT_TOKENS: Scenario =
    Scenario { name: "racing, writers beside, no tokens", tokens: Tokens::Absent, ..RACING };

/// Everything for which the claims are monotonic reads and bounded staleness.
pub(crate) const WRITERS_BESIDE: [Scenario; 5] =
    [BESIDE, BOUNDED, BESIDE_WITHOUT_TOKENS, RACING, RACING_WITHOUT_TOKENS];
