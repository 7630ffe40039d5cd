//! What must hold of each key although other writers bypass the sidecar: it never goes backwards for its callers, and nothing
//! that is shown was superseded longer ago than the configured lifetime allows.
//!
//! Both are judged by the truth: the order in which the origin committed. That an absent key looks the same after every
//! deletion is decided in favour of what is checked.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::{Event, History, Moment, Outcome, Value, print};

/// What the origin committed, by key in the order of its effects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    keys: BTreeMap<String, Vec<Committed>>,
}

/// The writer of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// A caller of the sidecar. The state at the start of the run counts as such.
    Sidecar,
    /// A writer that bypasses it.
    Foreign,
}

/// One state of a key, from when it was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) moment: Moment,
    pub(crate) value: Option<Value>,
    pub(crate) writer: Writer,
}

const NOTHING_YET: Committed =
    Committed { moment: Moment { order: 0, at: Duration::ZERO }, value: None, writer: Writer::Sidecar };

impl Truth {
    /// Adds the next effect on a key.
    pub(crate) fn commit(&mut self, key: &str, moment: Moment, value: Option<Value>, writer: Writer) {
        let states = self.keys.entry(key.to_owned()).or_insert_with(|| vec![NOTHING_YET]);
        states.push(Committed { moment, value, writer });
    }

    /// All states of a key in their order; the first is that it did not exist.
    pub(crate) fn states(&self, key: &str) -> &[Committed] {
        self.keys.get(key).map_or(&[NOTHING_YET], Vec::as_slice)
    }

    /// The position among a key's states of the latest one that was committed before `order`.
    pub(crate) fn position_at(&self, key: &str, order: u64) -> usize {
        self.states(key).iter().take_while(|state| state.moment.order <= order).count() - 1
    }

    /// The latest position that an answer showing `value` at `order` can have come from.
    pub(crate) fn latest_position(&self, key: &str, value: Option<Value>, order: u64) -> Option<usize> {
        let shown_by_then = &self.states(key)[..=self.position_at(key, order)];
        shown_by_then.iter().rposition(|state| state.value == value)
    }

    fn earliest_position_from(
        &self,
        key: &str,
        value: Option<Value>,
        floor: usize,
        order: u64,
    ) -> Option<usize> {
        let states = self.states(key).iter().enumerate().skip(floor);
        states
            .take_while(|(_, state)| state.moment.order <= order)
            .find(|(_, state)| state.value == value)
            .map(|(position, _)| position)
    }
}

/// What an event told its caller about the state of the key: shown, or put.
fn told(event: &Event) -> Option<Option<Value>> {
    match event.outcome {
        Outcome::Shown(value) if event.only_reads() => Some(value),
        Outcome::Done => Some(event.operation.puts()),
        Outcome::Shown(_) | Outcome::Refused | Outcome::Unknown => None,
    }
}

/// The state in which a completed deletion left the key: the one after what it removed.
fn position_of_removal(truth: &Truth, key: &str, event: &Event) -> Option<usize> {
    let Outcome::Shown(removed @ Some(_)) = event.outcome else { return None };
    if !event.removed() {
        return None;
    }
    Some(truth.latest_position(key, removed, event.responded?.order)? + 1)
}

/// The first pair in which a later reading shows an earlier state, as text.
pub(crate) fn first_step_backwards(history: &History, truth: &Truth) -> Option<String> {
    history.keys.iter().find_map(|(key, events)| {
        // By the time of answering: when an event is judged, all that answered before it was asked have been.
        let mut answered: Vec<(Moment, &Event)> =
            events.iter().filter_map(|event| Some((event.responded?, event))).collect();
        answered.sort_by_key(|(responded, _)| *responded);
        let mut judged: Vec<(Moment, usize, &Event)> = Vec::new();
        for (responded, event) in answered {
            if let Some(position) = position_of_removal(truth, key, event) {
                judged.push((responded, position, event));
            }
            let Some(value) = told(event) else { continue };
            let before = judged
                .iter()
                .filter(|(end, ..)| *end < event.invoked)
                .max_by_key(|(_, position, _)| *position);
            let floor = if event.only_reads() { before.map_or(0, |(_, position, _)| *position) } else { 0 };
            match truth.earliest_position_from(key, value, floor, responded.order) {
                Some(position) => judged.push((responded, position, event)),
                None => {
                    let earlier = before.map(|(_, _, event)| **event);
                    let pair: Vec<_> = earlier.into_iter().chain([*event]).collect();
                    return Some(format!("{key} went backwards:\n{}", print(&pair)));
                }
            }
        }
        None
    })
}

/// The first reading whose state was superseded more than `bound` before it was asked for, as text.
pub(crate) fn first_beyond(history: &History, truth: &Truth, bound: Duration) -> Option<String> {
    history.keys.iter().find_map(|(key, events)| {
        events.iter().filter(|event| event.only_reads()).find_map(|event| {
            let position = truth.latest_position(key, told(event)?, event.responded?.order)?;
            let superseded = truth.states(key).get(position + 1)?;
            let age = event.invoked.at.checked_sub(superseded.moment.at).filter(|age| *age > bound)?;
            Some(format!("{key}: superseded {age:?} before it was asked for\n{}", print(&[*event])))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consistency::history::Operation;

    fn moment(seconds: u64) -> Moment {
        Moment { order: seconds, at: Duration::from_secs(seconds) }
    }

    fn read(from: u64, to: u64, shown: Option<Value>) -> Event {
        Event {
            caller: 0,
            operation: Operation::Read,
            outcome: Outcome::Shown(shown),
            invoked: moment(from),
            responded: Some(moment(to)),
        }
    }

    fn history(events: &[Event]) -> History {
        let mut history = History::default();
        for event in events {
            history.record("k", *event);
        }
        history
    }

    fn truth() -> Truth {
        let mut truth = Truth::default();
        truth.commit("k", moment(10), Some(1), Writer::Foreign);
        truth.commit("k", moment(20), Some(2), Writer::Foreign);
        truth.commit("k", moment(30), None, Writer::Sidecar);
        truth
    }

    #[test]
    fn a_key_may_lag_but_not_go_backwards() {
        let forwards =
            [read(1, 2, None), read(11, 12, Some(1)), read(25, 26, Some(1)), read(27, 28, Some(2))];
        assert_eq!(first_step_backwards(&history(&forwards), &truth()), None);
        let backwards = [read(21, 22, Some(2)), read(25, 26, Some(1))];
        assert!(first_step_backwards(&history(&backwards), &truth()).is_some());
        let overlapping = [read(21, 26, Some(2)), read(25, 27, Some(1))];
        assert_eq!(first_step_backwards(&history(&overlapping), &truth()), None);
        assert!(first_step_backwards(&history(&[read(5, 6, Some(1))]), &truth()).is_some(), "not yet put");
        let gone_again = [read(21, 22, Some(2)), read(31, 32, None)];
        assert_eq!(first_step_backwards(&history(&gone_again), &truth()), None);
    }

    #[test]
    fn what_a_deletion_removed_is_not_shown_after_it() {
        let deletion = Event { operation: Operation::Delete, ..read(29, 31, Some(2)) };
        let after = |shown| history(&[deletion, read(32, 33, shown)]);
        assert!(first_step_backwards(&after(Some(2)), &truth()).is_some());
        assert_eq!(first_step_backwards(&after(None), &truth()), None);
        let beside = history(&[deletion, read(30, 33, Some(2))]);
        assert_eq!(first_step_backwards(&beside, &truth()), None, "under way at once");
    }

    #[test]
    fn staleness_counts_from_when_the_shown_state_was_superseded() {
        let bound = Duration::from_secs(5);
        assert_eq!(first_beyond(&history(&[read(25, 26, Some(1))]), &truth(), bound), None);
        assert!(first_beyond(&history(&[read(26, 27, Some(1))]), &truth(), bound).is_some());
        assert_eq!(first_beyond(&history(&[read(90, 91, None)]), &truth(), bound), None, "current");
    }
}
