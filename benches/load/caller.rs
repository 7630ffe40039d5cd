//! The callers and the writer of a scenario, and what they note of the answers. They run on one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tagalong::internals::clock::{Clock, Timestamp};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::connection::{Connection, target, value_in};
use crate::scenario::{Scenario, Writes};

/// How much longer than the lifetime something may be shown: an answer is on its way for a while, and the machine may be busy.
const SLACK: Duration = Duration::from_secs(1);

/// What the callers and the writer share.
pub(crate) struct Shared {
    pub(crate) scenario: Scenario,
    pub(crate) port: u16,
    pub(crate) over: Cell<bool>,
    pub(crate) seen: Seen,
}

/// What was done, and what was found wrong.
pub(crate) struct Seen {
    pub(crate) requests: Cell<u64>,
    pub(crate) changes: Cell<u64>,
    /// Answers older than one that a caller had received before the request was sent.
    pub(crate) went_back: Cell<u64>,
    /// Answers older than the level allows, a write through the sidecar or a lifetime after one beside it.
    pub(crate) too_old: Cell<u64>,
    /// For each key, the newest write that any caller was shown.
    pub(crate) newest: RefCell<Vec<u64>>,
    /// For each key, when the answer to which write arrived.
    written: RefCell<Vec<Vec<(Timestamp, u64)>>>,
}

impl Seen {
    pub(crate) fn nothing(keys: usize) -> Self {
        Self {
            requests: Cell::new(0),
            changes: Cell::new(0),
            went_back: Cell::new(0),
            too_old: Cell::new(0),
            newest: RefCell::new(vec![0; keys]),
            written: RefCell::new(vec![Vec::new(); keys]),
        }
    }

    /// The oldest write that a caller that asks now may be shown: (since others were shown it, since it is due).
    fn floors(&self, scenario: &Scenario, key: usize) -> (u64, u64) {
        let hidden_for = match scenario.writes {
            // The writer has its answer: each request from now on reads what it wrote.
            Writes::Through => Duration::ZERO,
            Writes::None | Writes::Beside | Writes::Once => scenario.freshness + SLACK,
        };
        let deadline = Clock::System.now().minus(hidden_for);
        let written = self.written.borrow();
        let due = written[key].iter().rev().find(|(when, _)| *when <= deadline);
        (self.newest.borrow()[key], due.map_or(0, |(_, number)| *number))
    }

    fn note(&self, key: usize, value: u64, (shown, due): (u64, u64)) {
        let add = |count: &Cell<u64>, found: bool| count.set(count.get() + u64::from(found));
        add(&self.requests, true);
        add(&self.went_back, value < shown);
        add(&self.too_old, value < due);
        let mut newest = self.newest.borrow_mut();
        newest[key] = newest[key].max(value);
    }
}

/// Changes one key after the other, as the scenario says, until its end.
pub(crate) async fn write(mut writer: Connection, shared: Rc<Shared>) {
    let scenario = shared.scenario;
    let every = match scenario.writes {
        Writes::None => return,
        Writes::Once => scenario.duration / 2,
        Writes::Through | Writes::Beside => scenario.write_every,
    };
    for number in 1_u64.. {
        sleep(every).await;
        if shared.over.get() || (scenario.writes == Writes::Once && number > 1) {
            return;
        }
        let key = usize::try_from(number * 37).unwrap_or_default() % scenario.keys;
        // Counted before it is sent: a caller may be shown it before its answer is here.
        shared.seen.changes.set(shared.seen.changes.get() + 1);
        writer.put(key, number).await;
        shared.seen.written.borrow_mut()[key].push((Clock::System.now(), number));
        if scenario.writes == Writes::Once {
            let mut looker = Connection::open(shared.port, false).await;
            let look = format!("GET {} HTTP/1.1\r\nCache-Control: no-cache", target(key));
            let value = value_in(&looker.exchange_lines(&look, "").await);
            shared.seen.note(key, value, (number, number));
        }
    }
}

/// Reads this caller's share of the keys, one after the other, so that each key is read in its interval; and polls the list.
pub(crate) async fn call(number: usize, shared: Rc<Shared>) {
    let scenario = shared.scenario;
    let own = scenario.keys_of(number);
    let mut connection = Connection::open(shared.port, scenario.returns_tokens).await;
    let pause = scenario.read_every / u32::try_from(own.len()).expect("a few keys");
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reads_a_poll = scenario.freshness.as_nanos() / pause.as_nanos();
    // Each caller's polls begin at another time.
    let offset = reads_a_poll * number as u128 / scenario.callers as u128;
    for step in 0_usize.. {
        ticks.tick().await;
        if shared.over.get() {
            return;
        }
        if scenario.polls_lists && (step as u128 + offset).is_multiple_of(reads_a_poll) {
            connection.get("/kv?key=load%2F*&api-version=2026-04-01").await;
            shared.seen.requests.set(shared.seen.requests.get() + 1);
        }
        let key = own[step % own.len()];
        let floors = shared.seen.floors(&scenario, key);
        let value = value_in(&connection.get(&target(key)).await);
        shared.seen.note(key, value, floors);
    }
}
