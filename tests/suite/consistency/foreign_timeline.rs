//! What must hold over ALL keys although other writers bypass the sidecar: what they wrote is one timeline for all its callers.
//!
//! **The claim.** Callers of one sidecar are one session. Let `seen` be the latest foreign write of which some answer, received
//! before a request was sent, showed the state that it left (a value in an answer to a single reading or a list, the absence
//! after a foreign deletion, or the value that a deletion says it removed). Then the answer to that request shows every key
//! that it is about, be it a single reading or a list, in a state that includes every foreign write to that key up to and
//! with `seen`, in the order in which the origin committed: never a state that a foreign write had replaced by then.
//!
//! Not claimed: anything about requests that were under way at once; about answers without a state (412, 429, 5xx); and about
//! own writes, which show nothing of what is foreign and may be seen before or after a foreign write that no answer has
//! shown. That a later reading of one key includes what was written through the sidecar is claimed key by key (`monotonic` with
//! foreign writers, `checker` without).
//!
//! Nor is it claimed that the absence of a key shows a foreign deletion if no answer had shown the key: a key that was shown
//! absent, and is absent again, may not have existed in between.
//!
//! Where an answer fits to several states (a key is absent after each of its deletions), the state in favour of the sidecar is
//! assumed: the earliest for what the answer shows of foreign writes, the latest for whether it lags. So each reported violation
//! is real.
//!
//! One pass over all requests and answers in their order, with one search among the states of a key at each answer.

use std::collections::HashMap;

use super::history::{Event, History, Outcome, Value, print};
use super::monotonic::{Truth, Writer};

/// The latest foreign write that was seen by a point of the history: its position among all events, and the answer that showed it.
#[derive(Clone, Copy, Debug, Default)]
struct Seen<'a> {
    order: u64,
    by: Option<(&'a str, &'a Event)>,
}

/// The first answer that lags behind a foreign write of which an answer before it had told, as text.
pub(crate) fn first_violation(history: &History, truth: &Truth) -> Option<String> {
    let told: Vec<(&str, &Event)> = history
        .keys
        .iter()
        .flat_map(|(key, events)| events.iter().map(move |event| (key.as_str(), event)))
        .filter(|(_, event)| event.responded.is_some() && shown_by(event).is_some())
        .collect();
    let mut points = Vec::with_capacity(2 * told.len());
    for (index, (_, event)) in told.iter().enumerate() {
        points.push((event.invoked.order, index, false));
        points.extend(event.responded.map(|responded| (responded.order, index, true)));
    }
    points.sort_unstable();

    let mut seen = Seen::default();
    // The latest state of each key, by position, in which it was shown to exist.
    let mut existed: HashMap<&str, usize> = HashMap::new();
    let mut when_asked = vec![(Seen::default(), 0); told.len()];
    for (order, index, is_answer) in points {
        let (key, event) = told[index];
        if !is_answer {
            when_asked[index] = (seen, existed.get(key).copied().unwrap_or(0));
            continue;
        }
        let Some(shown) = shown_by(event) else { continue };
        let (before, existed_before) = when_asked[index];
        // What a deletion removed was there when the origin judged it: it lags behind nothing.
        let least = if event.removed() { 0 } else { including(truth, key, before.order) };
        if shown.is_some()
            && let Some(position) = truth.latest_position(key, shown, order)
        {
            let latest = existed.entry(key).or_default();
            *latest = position.max(*latest);
        }
        let known = if shown.is_some() { least } else { least.min(existed_before) };
        match shows_foreign(truth, key, shown, least, known, order) {
            None => return Some(describe(truth, key, event, before)),
            Some(latest) if latest > seen.order => seen = Seen { order: latest, by: Some((key, event)) },
            Some(_) => {}
        }
    }
    None
}

/// The state that an answer shows; `None` if it shows none.
fn shown_by(event: &Event) -> Option<Option<Value>> {
    match event.outcome {
        Outcome::Shown(shown) => Some(shown),
        Outcome::Done | Outcome::Refused | Outcome::Unknown => None,
    }
}

/// The first position of `key` that includes every foreign write to it up to `order`.
fn including(truth: &Truth, key: &str, order: u64) -> usize {
    let states = truth.states(key);
    let by_then = states.partition_point(|state| state.moment.order <= order);
    states[..by_then].iter().rposition(|state| state.writer == Writer::Foreign).unwrap_or(0)
}

/// The place of the foreign write that left what is shown, at the earliest position from `known` on, or 0 if none did; `None` if
/// no position from `least` on showed it by `order`.
fn shows_foreign(
    truth: &Truth,
    key: &str,
    shown: Option<Value>,
    least: usize,
    known: usize,
    order: u64,
) -> Option<u64> {
    let possible = |from| {
        let states = truth.states(key).get(from..).unwrap_or_default().iter();
        states.take_while(|state| state.moment.order <= order).filter(|state| state.value == shown)
    };
    possible(least).next()?;
    possible(known).map(|state| if state.writer == Writer::Foreign { state.moment.order } else { 0 }).min()
}

fn describe(truth: &Truth, key: &str, event: &Event, seen: Seen<'_>) -> String {
    let mut text = format!("{key} is behind the timeline of foreign writes:\n");
    if let Some((other, earlier)) = seen.by {
        text += &format!(" {other} had shown the foreign write #{}:\n{}", seen.order, print(&[*earlier]));
    }
    text += &format!(" then {key}:\n{} states of {key}:\n", print(&[*event]));
    for state in truth.states(key) {
        let (moment, value) =
            (state.moment, state.value.map_or("absent".to_owned(), |value| value.to_string()));
        text += &format!(
            "  {:>9.3} s #{:<5} {value} ({:?})\n",
            moment.at.as_secs_f64(),
            moment.order,
            state.writer
        );
    }
    text
}
