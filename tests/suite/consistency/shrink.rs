//! The smallest part of a history that is still not that of a register, for the reader of a failure.
//!
//! Only such events are left out whose absence cannot turn an explainable history into one that is not: readings and
//! refusals always; a put together with everything that names its value, if nothing among that removes the value and no
//! refusal or lock is left that it might explain. So what remains shows the violation that was found and none of its own making.

use super::checker::{Verdict, check};
use super::history::{Event, Operation, Outcome, Value};

/// The smallest violation that leaving out can reach. `events` must be a violation.
pub(crate) fn shrink(events: &[Event]) -> Vec<Event> {
    let mut kept = events.to_vec();
    kept.sort_by_key(|event| event.invoked);
    // What came after the answer that could not be explained has no part in it.
    if let Verdict::Violation(index) = check(&kept) {
        let last = kept[index].responded.unwrap_or(kept[index].invoked);
        let cut: Vec<_> = kept.iter().filter(|event| event.invoked < last).copied().collect();
        let ends_later = |event: &Event| event.responded.is_some_and(|end| end > last);
        // A write that was still under way may or may not have taken effect by then; a reading may be left out.
        let cut =
            cut.into_iter().filter(|event| !(ends_later(event) && event.only_reads())).collect::<Vec<_>>();
        adopt(&mut kept, cut);
    }
    loop {
        let before = kept.len();
        leave_out_readings(&mut kept);
        leave_out_puts(&mut kept);
        if kept.len() == before {
            return kept;
        }
    }
}

fn adopt(kept: &mut Vec<Event>, candidate: Vec<Event>) -> bool {
    let violates = matches!(check(&candidate), Verdict::Violation(_));
    if violates {
        *kept = candidate;
    }
    violates
}

/// In halves, quarters, … and at last one by one.
fn leave_out_readings(kept: &mut Vec<Event>) {
    let mut size = kept.len().next_power_of_two();
    while size > 0 {
        let mut start = 0;
        while start < kept.len() {
            let end = (start + size).min(kept.len());
            let left_out = |(at, event): (usize, &Event)| !(start..end).contains(&at) || !event.only_reads();
            let candidate: Vec<_> =
                kept.iter().enumerate().filter(|pair| left_out(*pair)).map(|(_, event)| *event).collect();
            if candidate.len() == kept.len() || !adopt(kept, candidate) {
                start = end;
            }
        }
        size /= 2;
    }
}

fn leave_out_puts(kept: &mut Vec<Event>) {
    let values: Vec<Value> = kept.iter().filter_map(|event| event.operation.puts()).collect();
    for value in values {
        let group = group_of(value, kept);
        let in_group = |event: &Event| group.iter().any(|value| event.names(*value));
        let refusals = kept.iter().any(|event| event.only_reads() && event.outcome == Outcome::Refused);
        let locks = kept.iter().any(|event| matches!(event.operation, Operation::Lock(_)));
        if refusals || locks || kept.iter().any(|event| in_group(event) && event.removed()) {
            continue;
        }
        let candidate: Vec<_> = kept.iter().filter(|event| !in_group(event)).copied().collect();
        if candidate.len() < kept.len() {
            adopt(kept, candidate);
        }
    }
}

/// The value and all that were put on condition of it, and so on.
fn group_of(value: Value, events: &[Event]) -> Vec<Value> {
    let mut group = vec![value];
    let mut at = 0;
    while at < group.len() {
        let on_it = events.iter().filter(|event| event.operation.expects() == Some(group[at]));
        let more: Vec<_> = on_it.filter_map(|event| event.operation.puts()).collect();
        group.extend(more.into_iter().filter(|value| !group.contains(value)).collect::<Vec<_>>());
        at += 1;
    }
    group
}
