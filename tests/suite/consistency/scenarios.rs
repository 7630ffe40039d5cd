//! The scenarios: kinds of origin, habits of callers, faults.

use std::time::Duration;

use tagalong::internals::config::caching::Consistency;
use tagalong::internals::sync_token::clauses::Clauses;

use super::callers::Habits;
use super::issued_tokens::Tokens;
use super::origin::Faults;
use super::simulation::{Api, Before, Scenario};

/// Everything that the API offers, writes often.
pub(crate) const MIXED: Habits = Habits {
    reads: 60,
    reads_if: 3,
    lists: 14,
    puts: 10,
    puts_if: 6,
    deletes: 4,
    locks: 3,
    passing_by: 60,
    no_cache: 60,
    unless_known: 150,
    left: 60,
    own_tokens: 300,
    handed_tokens: 60,
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
    locks: 1,
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
    drift_millihertz: 1_250,
    tagged_304: false,
    page_size: 100,
    mirrored: false,
    emulated: false,
    habits: MIXED,
    faults: FAULTS,
    keys: 3,
    callers: (8, 32),
    providers: 0,
    operations_each: (2, 8),
    usual_delay: Duration::from_millis(40),
    slow_delay: Duration::from_millis(1_500),
    slow: 150,
    lag: Duration::from_secs(5),
    lifetime: Duration::from_secs(30),
    restarts: 30,
    settle_time: Duration::from_secs(6),
    writes_beside: 0,
    deployments: 0,
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
    habits: Habits { lists: 0, locks: 0, ..MIXED },
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
pub(crate) const EMULATED: Scenario = Scenario {
    name: "emulator, tokens of the state",
    emulated: true,
    habits: Habits { locks: 0, ..MIXED },
    ..OF_STATE
};

/// The same with tokens newer than the state that is shown.
pub(crate) const EMULATED_FRONT_END: Scenario =
    Scenario { name: "emulator, tokens of the front end", tokens: Tokens::OfFrontEnd, ..EMULATED };

/// The same as the vendor's own emulator: its token never changes.
pub(crate) const EMULATED_CONSTANT: Scenario =
    Scenario { name: "emulator, a constant token", tokens: Tokens::Constant, ..EMULATED };

/// Everything for which the claim is linearizability.
pub(crate) const REGISTERS: [Scenario; 13] = [
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
    OWN_WRITES_BOUNDED,
    OWN_WRITES_WITHOUT_TOKENS,
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

/// The same before an origin without tokens.
pub(crate) const BESIDE_WITHOUT_TOKENS: Scenario =
    Scenario { name: "writers beside the sidecar, no tokens", tokens: Tokens::Absent, ..BESIDE };

/// The level at which tokens that callers present demand nothing once they are known.
pub(crate) const BOUNDED: Scenario =
    Scenario { name: "bounded staleness", level: Consistency::BoundedStaleness, ..BESIDE };

/// One key, slow messages, and callers that ask with `no-cache`: several requests for it are under way at once.
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

/// The same for any API with ETags, whose resources are not known to belong together.
pub(crate) const GENERIC_RACING: Scenario =
    generic_racing("generic, racing, writers beside, session", Consistency::Session);

const fn generic_racing(name: &'static str, level: Consistency) -> Scenario {
    let habits = Habits { locks: 0, passing_by: 200, ..RACING.habits };
    Scenario { name, level, api: Api::Generic, habits, ..RACING_WITHOUT_TOKENS }
}

/// The same at every level, and over several keys in a store that has room for few of them.
pub(crate) const GENERIC_BESIDE: [Scenario; 4] = [
    GENERIC_RACING,
    generic_racing("generic, racing, writers beside, strong", Consistency::Strong),
    generic_racing("generic, racing, writers beside, bounded", Consistency::BoundedStaleness),
    Scenario { name: "generic, several keys, writers beside", keys: 4, tiny_store: 500, ..GENERIC_RACING },
];

/// Providers that poll a sentinel, deployments by others that write it last, and other callers beside them; to be varied by
/// level and by kind of token.
pub(crate) const DEPLOYED: Scenario = Scenario {
    name: "session, rising tokens",
    level: Consistency::Session,
    tokens: Tokens::OfFrontEnd,
    providers: 4,
    keys: 5,
    writes_beside: 100,
    deployments: 60,
    lifetime: Duration::from_secs(8),
    ..BESIDE
};

const fn deployed(name: &'static str, level: Consistency, tokens: Tokens) -> Scenario {
    Scenario { name, level, tokens, ..DEPLOYED }
}

use Consistency::{BoundedStaleness, Session, Strong};

/// The same with a token that never changes.
pub(crate) const DEPLOYED_CONSTANT: Scenario =
    deployed("session, a constant token", Session, Tokens::Constant);

/// The same without tokens.
pub(crate) const DEPLOYED_WITHOUT_TOKENS: Scenario = deployed("session, no tokens", Session, Tokens::Absent);

/// The same where known tokens that callers present demand nothing.
pub(crate) const DEPLOYED_BOUNDED: Scenario =
    deployed("bounded, rising tokens", BoundedStaleness, Tokens::OfFrontEnd);

/// Every level by every kind of token.
pub(crate) const LEVELS: [Scenario; 15] = [
    DEPLOYED,
    deployed("session, tokens of the state", Session, Tokens::OfState),
    DEPLOYED_CONSTANT,
    DEPLOYED_WITHOUT_TOKENS,
    deployed("session, two ids", Session, Tokens::TwoIds),
    deployed("strong, rising tokens", Strong, Tokens::OfFrontEnd),
    deployed("strong, tokens of the state", Strong, Tokens::OfState),
    deployed("strong, a constant token", Strong, Tokens::Constant),
    deployed("strong, no tokens", Strong, Tokens::Absent),
    deployed("strong, two ids", Strong, Tokens::TwoIds),
    DEPLOYED_BOUNDED,
    deployed("bounded, tokens of the state", BoundedStaleness, Tokens::OfState),
    deployed("bounded, a constant token", BoundedStaleness, Tokens::Constant),
    deployed("bounded, no tokens", BoundedStaleness, Tokens::Absent),
    deployed("bounded, two ids", BoundedStaleness, Tokens::TwoIds),
];

/// Replicas that lag little, so that what was changed some seconds ago is known to be included in every answer.
pub(crate) const SETTLED: Scenario = Scenario {
    name: "settled soon",
    lag: Duration::from_millis(900),
    settle_time: Duration::from_secs(2),
    keys: 8,
    writes_beside: 60,
    deployments: 30,
    operations_each: (15, 30),
    ..DEPLOYED
};

/// Callers that often bypass the store.
pub(crate) const PASSING_BY: Scenario = Scenario {
    name: "passing by the store",
    habits: Habits { passing_by: 400, ..BESIDE.habits },
    ..DEPLOYED
};

/// The same before an origin without tokens.
pub(crate) const PASSING_BY_WITHOUT_TOKENS: Scenario =
    Scenario { name: "passing by the store, no tokens", tokens: Tokens::Absent, ..PASSING_BY };

/// Many keys of which each is asked for seldom: most answers are first answers.
pub(crate) const MANY_KEYS: Scenario = Scenario {
    name: "many keys",
    keys: 24,
    lifetime: Duration::from_secs(30),
    writes_beside: 600,
    ..DEPLOYED
};

/// Everything at once is under way, over several keys.
pub(crate) const RACING_KEYS: Scenario = Scenario {
    name: "racing, several keys",
    keys: 4,
    providers: 2,
    usual_delay: RACING.usual_delay,
    slow_delay: RACING.slow_delay,
    slow: RACING.slow,
    lifetime: Duration::from_secs(30),
    ..DEPLOYED
};

/// Several collapsing for one key at once, in a store that has room for few of them: what a late answer finds there may be older, or
/// nothing at all.
pub(crate) const EVICTED: Scenario = Scenario {
    name: "evicted while racing",
    habits: Habits { no_cache: 400, deletes: 6, puts: 8, ..RACING.habits },
    tiny_store: 1_000,
    ..RACING_KEYS
};

/// Tokens that move only with changes, as of an emulator: several answers carry the same one.
pub(crate) const WITHOUT_DRIFT: Scenario =
    Scenario { name: "without drift", drift_millihertz: 0, lifetime: Duration::from_secs(30), ..DEPLOYED };

/// Few requests, of which each learns of much that has changed, and answers whose token is far newer than the state that they show:
/// replicas lag long behind front ends that know every commit.
pub(crate) const SELDOM: Scenario = Scenario {
    name: "asked seldom",
    tokens: Tokens::Newest,
    habits: Habits {
        lists: 4,
        no_cache: 0,
        passing_by: 0,
        pause: Duration::from_secs(4),
        pauses: 900,
        foreign_tokens: 0,
        forged_tokens: 0,
        ..READING
    },
    keys: 6,
    callers: (2, 4),
    providers: 0,
    operations_each: (20, 40),
    lag: Duration::from_secs(20),
    settle_time: Duration::from_secs(2),
    lifetime: Duration::from_secs(60),
    writes_beside: 150,
    deployments: 0,
    tiny_store: 0,
    ..BESIDE
};

/// The same with tokens that move only with changes.
pub(crate) const SELDOM_WITHOUT_DRIFT: Scenario =
    Scenario { name: "asked seldom, without drift", drift_millihertz: 0, ..SELDOM };

/// Nodes that hand over tokens, of which not every front end understands the id.
pub(crate) const HANDED_OVER: Scenario = Scenario {
    name: "handed over, two ids",
    tokens: Tokens::TwoIds,
    habits: Habits { foreign_tokens: 250, ..BESIDE.habits },
    lifetime: Duration::from_secs(30),
    ..DEPLOYED
};

/// 304s as an older service sent them.
pub(crate) const TAGGED: Scenario = Scenario { name: "tagged 304s", tagged_304: true, ..DEPLOYED };

/// Own writes only, at the level where no presented token hides a mistake of rule 3.
pub(crate) const OWN_WRITES_BOUNDED: Scenario = Scenario {
    name: "own writes, bounded",
    level: BoundedStaleness,
    tokens: Tokens::OfState,
    habits: Habits { locks: 8, lists: 25, no_cache: 0, ..MIXED },
    ..OF_STATE
};

/// The same before an origin without tokens.
pub(crate) const OWN_WRITES_WITHOUT_TOKENS: Scenario =
    Scenario { name: "own writes, no tokens", level: Session, tokens: Tokens::Absent, ..OWN_WRITES_BOUNDED };

/// A mirror over several ranges: pages of three items, and lists over all of them.
pub(crate) const MIRRORED: Scenario = Scenario {
    name: "mirrored",
    mirrored: true,
    page_size: 3,
    keys: 12,
    habits: Habits { lists: 40, ..BESIDE.habits },
    ..DEPLOYED
};

/// The same before an origin without tokens.
pub(crate) const MIRRORED_WITHOUT_TOKENS: Scenario =
    Scenario { name: "mirrored, no tokens", tokens: Tokens::Absent, ..MIRRORED };

/// The same with slow messages, so that much is under way at once.
pub(crate) const MIRRORED_RACING: Scenario = Scenario {
    name: "mirrored, racing",
    usual_delay: RACING.usual_delay,
    slow_delay: RACING.slow_delay,
    slow: RACING.slow,
    lifetime: Duration::from_secs(30),
    ..MIRRORED
};

/// The same with tokens that move only with changes, where replicas lag long behind.
pub(crate) const MIRRORED_SELDOM: Scenario = Scenario {
    name: "mirrored, asked seldom",
    mirrored: true,
    page_size: 3,
    keys: 12,
    habits: Habits { lists: 40, ..SELDOM.habits },
    ..SELDOM_WITHOUT_DRIFT
};

/// The same with own writes only.
pub(crate) const MIRRORED_OWN_WRITES: Scenario = Scenario {
    name: "mirrored, own writes",
    mirrored: true,
    page_size: 3,
    keys: 8,
    habits: Habits { lists: 40, ..MIXED },
    ..OF_STATE
};

/// The same at the level where no presented token hides a mistake of rule 3.
pub(crate) const MIRRORED_OWN_WRITES_BOUNDED: Scenario = Scenario {
    name: "mirrored, own writes, bounded",
    mirrored: true,
    page_size: 3,
    keys: 8,
    habits: Habits { lists: 40, ..OWN_WRITES_BOUNDED.habits },
    ..OWN_WRITES_BOUNDED
};

/// The same where tokens demand nothing: each range is as old as it may be.
pub(crate) const MIRRORED_BOUNDED: Scenario = Scenario {
    name: "mirrored, bounded",
    level: BoundedStaleness,
    lifetime: Duration::from_secs(2),
    writes_beside: 700,
    operations_each: (20, 40),
    ..MIRRORED
};

/// The same with many writes through the sidecar, too.
pub(crate) const MIRRORED_BOTH_WRITE: Scenario = Scenario {
    name: "mirrored, both write",
    habits: Habits { puts: 20, deletes: 8, ..MIRRORED.habits },
    ..MIRRORED
};

/// Everything that a mirror stands in.
pub(crate) const MIRRORS: [Scenario; 8] = [
    MIRRORED,
    MIRRORED_BOUNDED,
    MIRRORED_BOTH_WRITE,
    MIRRORED_WITHOUT_TOKENS,
    MIRRORED_RACING,
    MIRRORED_SELDOM,
    MIRRORED_OWN_WRITES,
    MIRRORED_OWN_WRITES_BOUNDED,
];

/// Everything for which the claims are one timeline of foreign writes over all keys, monotonic reads of each, and bounded
/// staleness.
pub(crate) const WRITERS_BESIDE: [Scenario; 16] = [
    BESIDE,
    BOUNDED,
    BESIDE_WITHOUT_TOKENS,
    RACING,
    RACING_WITHOUT_TOKENS,
    RACING_KEYS,
    EVICTED,
    SETTLED,
    PASSING_BY,
    PASSING_BY_WITHOUT_TOKENS,
    MANY_KEYS,
    WITHOUT_DRIFT,
    HANDED_OVER,
    TAGGED,
    SELDOM,
    SELDOM_WITHOUT_DRIFT,
];
