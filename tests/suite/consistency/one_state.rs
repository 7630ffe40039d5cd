//! What must hold of each list: it shows one state, never a mix of two (a torn list).
//!
//! **The claim.** There is a moment, not after the answer arrived, at which every key that the list is about was in the state that
//! the list shows: written or foreign, present or absent.

use super::history::{Moment, Value};
use super::monotonic::Truth;

/// The answer to a list: each key that its page is about, with the value that it shows.
#[derive(Clone, Debug)]
pub(crate) struct ShownList {
    pub(crate) shown: Vec<(String, Option<Value>)>,
    pub(crate) invoked: Moment,
    pub(crate) responded: Moment,
}

/// The first list that shows no state which there ever was, as text.
pub(crate) fn first_torn(lists: &[ShownList], truth: &Truth) -> Option<String> {
    lists.iter().find(|list| !is_one_state(list, truth)).map(|list| {
        let mut text = format!(
            "a list between #{} and #{} shows a mix of states:\n",
            list.invoked.order, list.responded.order
        );
        for (key, value) in &list.shown {
            let states = truth.states(key).iter().map(|state| (state.moment.order, state.value));
            text += &format!("  {key}: {value:?} of {:?}\n", states.collect::<Vec<_>>());
        }
        text
    })
}

fn is_one_state(list: &ShownList, truth: &Truth) -> bool {
    // A state begins at a commit: if there is such a moment, it is one of these.
    let keys = list.shown.iter();
    let commits = keys.flat_map(|(key, _)| truth.states(key)).map(|state| state.moment.order);
    let mut moments: Vec<u64> = commits.filter(|order| *order <= list.responded.order).chain([0]).collect();
    moments.sort_unstable();
    moments.dedup();
    moments.into_iter().any(|moment| {
        list.shown.iter().all(|(key, value)| {
            let before = truth.states(key).iter().rev().find(|state| state.moment.order <= moment);
            before.and_then(|state| state.value) == *value
        })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::monotonic::Writer;
    use super::*;

    fn moment(order: u64) -> Moment {
        Moment { at: Duration::from_secs(order), order }
    }

    #[test]
    fn a_mix_of_two_states_is_found() {
        let mut truth = Truth::default();
        for (order, key, value) in [(1, "a", Some(1)), (2, "b", Some(2)), (3, "a", Some(3)), (4, "b", None)] {
            truth.commit(key, moment(order), value, Writer::Foreign);
        }
        let holds = |a: Option<Value>, b: Option<Value>, responded| {
            let shown = vec![("a".to_owned(), a), ("b".to_owned(), b), ("c".to_owned(), None)];
            is_one_state(&ShownList { shown, invoked: moment(0), responded: moment(responded) }, &truth)
        };
        assert!(holds(None, None, 9) && holds(Some(1), None, 9) && holds(Some(1), Some(2), 9));
        assert!(holds(Some(3), Some(2), 9) && holds(Some(3), None, 9));
        assert!(!holds(None, Some(2), 9), "a was there before b");
        assert!(!holds(Some(3), None, 3), "b was not deleted yet");
    }
}
