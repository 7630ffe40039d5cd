//! Whether one key behaved as one atomic register: the search of Wing and Gong in Lowe's just-in-time form.
//!
//! Events are taken in their order. A configuration is a state of the register together with the set of operations under way
//! that have taken effect; all configurations that explain what was seen so far are kept, each once. An operation takes effect
//! no earlier than it must: when one answers, every configuration in which it has not yet taken effect is extended by writes
//! under way until it has; those that cannot be are dropped, and when none is left, the history is not that of a register.
//!
//! Between quiescent points only the operations under way tell configurations apart, so every quiescent point is a cut: the
//! effort grows with how many writes overlap, not with how many operations there are. A write of unknown outcome stays under
//! way to the end of the history and may take effect at any time, or never. Of two configurations that differ only in that one
//! has used up fewer of those, it alone is kept: whatever the other can explain, it can.

use std::collections::{HashMap, VecDeque};

use super::history::{Event, Operation, Outcome, Value};

/// Configurations at one point beyond which the search is given up.
const MAX_CONFIGURATIONS: usize = 200_000;

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is an order of effects that explains every answer.
    Linearizable,
    /// There is none; with the answer of this event (its index) the last explanation fell.
    Violation(usize),
    /// Too many operations overlap for this search.
    Undecided,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Configuration {
    state: Option<Value>,
    /// Bit of each operation under way that has taken effect.
    effective: u128,
}

/// Operations under way, each in the slot that is its bit.
struct UnderWay<'a> {
    events: &'a [Event],
    slots: Vec<Option<usize>>,
    /// Bits of the writes of unknown outcome.
    unknown: u128,
}

/// Configurations, without those that another one makes needless.
#[derive(Default)]
struct Kept {
    used_up: HashMap<Configuration, Vec<u128>>,
    count: usize,
}

impl Kept {
    /// False if what is there can explain everything that this one can.
    fn keep(&mut self, configuration: Configuration, unknown: u128) -> bool {
        let Configuration { state, effective } = configuration;
        let known = Configuration { state, effective: effective & !unknown };
        let used_up = self.used_up.entry(known).or_default();
        let needless = used_up.iter().any(|fewer| fewer & !effective == 0);
        if !needless {
            used_up.push(effective & unknown);
            self.count += 1;
        }
        !needless
    }

    fn into_configurations(self) -> impl Iterator<Item = Configuration> {
        self.used_up.into_iter().flat_map(|(known, used_up)| {
            let each = move |unknown| Configuration { effective: known.effective | unknown, ..known };
            used_up.into_iter().map(each)
        })
    }
}

impl UnderWay<'_> {
    fn begin(&mut self, index: usize) -> Option<u32> {
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if free == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[free] = Some(index);
        let slot = u32::try_from(free).ok().filter(|slot| *slot < u128::BITS)?;
        if self.events[index].outcome == Outcome::Unknown {
            self.unknown |= 1 << slot;
        }
        Some(slot)
    }

    fn pending(&self, configuration: Configuration) -> impl Iterator<Item = (usize, &Event)> {
        let occupied = self.slots.iter().enumerate();
        occupied
            .filter(move |(slot, _)| configuration.effective & (1 << slot) == 0)
            .filter_map(|(slot, index)| index.map(|index| (slot, &self.events[index])))
    }

    /// Whatever only reads takes effect as soon as it fits: that never closes another way.
    fn with_readings(&self, mut configuration: Configuration) -> Configuration {
        for (slot, event) in self.pending(configuration) {
            if event.only_reads() && event.step(configuration.state).is_some() {
                configuration.effective |= 1 << slot;
            }
        }
        configuration
    }

    /// Every configuration one write further.
    fn next(&self, from: Configuration) -> impl Iterator<Item = Configuration> {
        self.pending(from).filter(|(_, event)| !event.only_reads()).filter_map(move |(slot, event)| {
            let state = event.step(from.state)?;
            Some(self.with_readings(Configuration { state, effective: from.effective | (1 << slot) }))
        })
    }
}

/// Checks the events of one key, which did not exist at first.
pub(crate) fn check(events: &[Event]) -> Verdict {
    let mut points: Vec<(u64, usize, bool)> = Vec::with_capacity(events.len() * 2);
    for (index, event) in events.iter().enumerate() {
        if event.outcome == Outcome::Unknown && !leaves_a_trace(event, events) {
            continue;
        }
        points.push((event.invoked.order, index, false));
        points.extend(event.responded.map(|responded| (responded.order, index, true)));
    }
    points.sort_unstable();

    let mut under_way = UnderWay { events, slots: Vec::new(), unknown: 0 };
    let mut slot_of = vec![0_u32; events.len()];
    let mut configurations = vec![Configuration { state: None, effective: 0 }];
    for (_, index, is_answer) in points {
        if !is_answer {
            let Some(slot) = under_way.begin(index) else { return Verdict::Undecided };
            slot_of[index] = slot;
            if events[index].only_reads() {
                configurations = configurations.into_iter().map(|c| under_way.with_readings(c)).collect();
            }
            continue;
        }
        let bit = 1_u128 << slot_of[index];
        let (mut explored, mut explaining) = (Kept::default(), Kept::default());
        // Those that have used up the fewest first, so that few needless ones are explored.
        configurations.sort_unstable_by_key(|configuration| configuration.effective.count_ones());
        let mut unexplored: VecDeque<_> = configurations.into();
        while let Some(configuration) = unexplored.pop_front() {
            if configuration.effective & bit != 0 {
                let done = Configuration { effective: configuration.effective & !bit, ..configuration };
                explaining.keep(done, under_way.unknown);
                continue;
            }
            unexplored
                .extend(under_way.next(configuration).filter(|next| explored.keep(*next, under_way.unknown)));
            if explored.count > MAX_CONFIGURATIONS {
                return Verdict::Undecided;
            }
        }
        if explaining.count == 0 {
            return Verdict::Violation(index);
        }
        under_way.slots[slot_of[index] as usize] = None;
        configurations = explaining.into_configurations().collect();
    }
    Verdict::Linearizable
}

/// A put of unknown outcome without any visible effect need not have happened: its value was never shown or expected, and
/// no operation was refused or found nothing to remove, which it could explain in another way.
fn leaves_a_trace(unknown: &Event, events: &[Event]) -> bool {
    let Some(value) = unknown.operation.puts() else { return true };
    events.iter().any(|event| {
        let may_be_explained =
            event.outcome == Outcome::Refused || matches!(event.operation, Operation::Lock(_));
        event.invoked != unknown.invoked && (event.names(value) || may_be_explained)
    })
}
