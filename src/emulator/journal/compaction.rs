//! Selects the changes of a journal that are still needed.

use std::collections::HashSet;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::emulator::change::{ChangeKind, StateChange};

/// Removes the changes that no request can show any more. Keeps the order.
///
/// Three kinds of change stay. First, every change within the retention, because revisions and time travel show it.
/// Second, of the older changes the last one of each key-value or snapshot, unless it is a deletion, because it is the
/// state at the start of the retention. Third, the last change, because it holds the sequence number. The retention
/// ends at the time of the last change, so that the age of an unchanged store does not matter.
pub fn compacted(changes: Vec<StateChange>, retention: Duration) -> Vec<StateChange> {
    let horizon = changes.last().map_or(Timestamp::default(), |last| last.at.minus(retention));
    let last = changes.len().saturating_sub(1);
    let mut replaced = HashSet::new();
    let mut kept: Vec<StateChange> = changes
        .into_iter()
        .enumerate()
        .rev()
        .filter(|(position, change)| {
            if change.at >= horizon {
                return true;
            }
            let newest_of_old = replaced.insert(subject(&change.kind));
            let shows = !matches!(change.kind, ChangeKind::KeyValueDeleted(_));
            *position == last || newest_of_old && shows
        })
        .map(|(_, change)| change)
        .collect();
    kept.reverse();
    kept
}

/// The identity of the resource that a change affects.
fn subject(kind: &ChangeKind) -> (bool, String) {
    match kind {
        ChangeKind::KeyValueModified(state) | ChangeKind::KeyValueDeleted(state) => {
            (true, state.id.as_str().to_owned())
        }
        ChangeKind::SnapshotCreated(snapshot) | ChangeKind::SnapshotModified(snapshot) => {
            (false, snapshot.name.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{deleted, modified};
    use super::*;

    const RETENTION: Duration = Duration::from_secs(100);

    fn numbers(changes: Vec<StateChange>) -> Vec<u64> {
        compacted(changes, RETENTION).iter().map(|change| change.sequence_number).collect()
    }

    #[test]
    fn the_state_at_the_horizon_and_everything_after_it_stay() {
        let changes = vec![
            modified(1, 0, "a"),
            modified(2, 10, "a"),
            modified(3, 20, "b"),
            deleted(4, 30, "b"),
            modified(5, 40, "c"),
            modified(6, 150, "a"),
            deleted(7, 200, "c"),
        ];
        assert_eq!(numbers(changes), [2, 5, 6, 7]);
    }

    #[test]
    fn the_last_change_stays_even_when_it_is_a_deletion() {
        assert_eq!(numbers(vec![modified(1, 0, "a"), deleted(2, 0, "a")]), [1, 2]);
        assert!(numbers(Vec::new()).is_empty());
    }

    #[test]
    fn compacting_twice_changes_nothing() {
        let changes: Vec<StateChange> = (1..60_u32)
            .map(|number| {
                modified(number.into(), i64::from(number) * 7, ["a", "b", "c"][number as usize % 3])
            })
            .collect();
        let once = compacted(changes, RETENTION);
        assert_eq!(compacted(once.clone(), RETENTION), once);
    }
}
