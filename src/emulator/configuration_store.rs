//! The state of the emulator. One call under one lock checks a condition and makes the write that depends on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::change::{ChangeKind, ChangeRecorder, StateChange};
use super::drift::Drift;
use super::history::{History, Revision, View};
use super::key_values::{KeyValues, StoredKeyValue};
use super::precondition::{Precondition, Verdict};
use super::problem::Problem;
use super::replicas::Replicas;
use super::seeded::Seeded;
use super::snapshot::{Snapshot, SnapshotStatus};
use super::tokens::Tokens;
use crate::clock::Timestamp;
use crate::profile::app_configuration::key_value::{KeyValue, KeyValueContent, KeyValueId};

/// Key-values, snapshots, and which changes each replica shows.
pub struct ConfigurationStore {
    /// Key-values with their histories.
    pub key_values: KeyValues,
    snapshots: BTreeMap<String, History<Arc<Snapshot>>>,
    sequence_number: u64,
    changed_at: Timestamp,
    drift: Drift,
    /// Which changes each replica shows.
    pub replicas: Replicas,
    /// Makes the `Sync-Token` of answers.
    pub tokens: Tokens,
    seeded: Seeded,
    retention: Duration,
    recorder: Option<Arc<dyn ChangeRecorder>>,
    listeners: Vec<mpsc::UnboundedSender<Arc<StateChange>>>,
}

/// A write that succeeded.
#[derive(Debug)]
pub struct Written {
    /// The state that the answer shows: the new one, or the last one before a deletion; `None` if there was nothing to
    /// delete.
    pub shown: Option<Arc<StoredKeyValue>>,
    /// The change that the answer's token names.
    pub sequence_number: u64,
}

/// A write to a key-value.
#[derive(Debug)]
pub enum KeyValueWrite {
    /// `PUT /kv/{key}`
    Put(KeyValueContent),
    /// `DELETE /kv/{key}`
    Delete,
    /// `PUT` or `DELETE /locks/{key}`
    SetLocked(bool),
}

impl ConfigurationStore {
    /// An empty store. It drops revisions that were replaced longer than `retention` ago.
    pub fn new(
        replicas: Replicas,
        tokens: Tokens,
        drift: Drift,
        seeded: Seeded,
        retention: Duration,
    ) -> Self {
        let tokens = if drift.is_on() { tokens.drifting() } else { tokens };
        Self {
            key_values: KeyValues::default(),
            snapshots: BTreeMap::new(),
            sequence_number: 0,
            changed_at: Timestamp::default(),
            drift,
            replicas,
            tokens,
            seeded,
            retention,
            recorder: None,
            listeners: Vec::new(),
        }
    }

    /// The number of the newest change.
    pub fn sequence_number(&self) -> u64 {
        self.sequence_number
    }

    /// The newest sequence number, which is at least that of the newest change.
    pub fn newest(&self, now: Timestamp) -> u64 {
        self.drift.newest(now)
    }

    /// The view of a request: the state of its replica, or the state that its tokens require if that is newer. The
    /// number of a lagging replica's state is one less than that of the first change that it hides.
    pub fn view(&self, replica: usize, required: u64, before: Option<Timestamp>, now: Timestamp) -> View {
        let newest = self.newest(now);
        let visible = self.replicas.first_hidden(replica, now).map_or(newest, |hidden| hidden - 1);
        View { sequence_number: visible.max(required.min(newest)), before }
    }

    /// Gives every later change to `recorder` before it takes effect.
    pub fn set_recorder(&mut self, recorder: Arc<dyn ChangeRecorder>) {
        self.recorder = Some(recorder);
    }

    /// Returns a channel that receives every later change, in order.
    pub fn subscribe(&mut self) -> mpsc::UnboundedReceiver<Arc<StateChange>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.push(sender);
        receiver
    }

    /// Checks the condition of a write and makes the write.
    ///
    /// # Errors
    /// In the service's order: 412 for the condition, 404 for a lock of a missing key-value, 409 for a locked
    /// key-value.
    pub fn write(
        &mut self,
        id: &KeyValueId,
        write: KeyValueWrite,
        precondition: &Precondition,
        now: Timestamp,
    ) -> Result<Written, Problem> {
        let current = self.key_values.find(id.key(), id.label(), View::NEWEST).cloned();
        let tag = current.as_ref().map(|stored| &*stored.key_value.etag);
        if precondition.evaluate(tag) != Verdict::Holds {
            return Err(Problem::PreconditionFailed);
        }
        let newest = self.newest(now);
        let unchanged = |shown| Ok(Written { shown, sequence_number: newest });
        let locked = current.as_ref().is_some_and(|stored| stored.key_value.locked);
        let next = self.drift.next(now);
        let modified = |content, locked| {
            let etag = self.seeded.etag(next).into();
            ChangeKind::KeyValueModified(Arc::new(KeyValue {
                id: id.clone(),
                etag,
                content,
                locked,
                last_modified: now,
            }))
        };
        let kind = match (write, &current) {
            (KeyValueWrite::SetLocked(_), None) => return Err(Problem::NotFound),
            (KeyValueWrite::SetLocked(wanted), Some(stored)) if stored.key_value.locked == wanted => {
                return unchanged(current);
            }
            (KeyValueWrite::SetLocked(wanted), Some(stored)) => {
                modified(stored.key_value.content.clone(), wanted)
            }
            (KeyValueWrite::Delete, None) => return unchanged(None),
            (_, Some(_)) if locked => return Err(Problem::KeyLocked(id.key().to_owned())),
            (KeyValueWrite::Delete, Some(stored)) => {
                ChangeKind::KeyValueDeleted(Arc::clone(&stored.key_value))
            }
            (KeyValueWrite::Put(content), Some(stored)) if stored.key_value.content == content => {
                return unchanged(current);
            }
            (KeyValueWrite::Put(content), _) => modified(content, false),
        };
        let deleted = matches!(kind, ChangeKind::KeyValueDeleted(_));
        self.commit(kind, now)?;
        let shown =
            if deleted { current } else { self.key_values.find(id.key(), id.label(), View::NEWEST).cloned() };
        Ok(Written { shown, sequence_number: self.sequence_number })
    }

    /// The snapshot of this name, if the view shows it and it has not expired.
    pub fn find_snapshot(&self, name: &str, view: View, now: Timestamp) -> Option<&Arc<Snapshot>> {
        self.snapshots.get(name)?.at(view).filter(|snapshot| !snapshot.is_expired(now))
    }

    /// The snapshots that a view shows and that have not expired, ordered by name, starting after the name `after`.
    pub fn list_snapshots<'a>(
        &'a self,
        after: Option<&'a str>,
        view: View,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Arc<Snapshot>> {
        self.snapshots
            .range::<str, _>((
                after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
                std::ops::Bound::Unbounded,
            ))
            .filter_map(move |(_, history)| history.at(view))
            .filter(move |snapshot| !snapshot.is_expired(now))
    }

    /// Creates a snapshot and sets its tag.
    ///
    /// # Errors
    /// 409 when the name is taken.
    pub fn create_snapshot(
        &mut self,
        mut snapshot: Snapshot,
        now: Timestamp,
    ) -> Result<Arc<Snapshot>, Problem> {
        if self.find_snapshot(&snapshot.name, View::NEWEST, now).is_some() {
            return Err(Problem::AlreadyExists);
        }
        snapshot.etag = self.seeded.etag(self.drift.next(now));
        let snapshot = Arc::new(snapshot);
        self.commit(ChangeKind::SnapshotCreated(Arc::clone(&snapshot)), now)?;
        Ok(snapshot)
    }

    /// Archives or recovers a snapshot.
    ///
    /// # Errors
    /// 404, then 412 for the condition, then 409 while it is provisioning or when it has failed.
    pub fn set_archived(
        &mut self,
        name: &str,
        archived: bool,
        precondition: &Precondition,
        now: Timestamp,
    ) -> Result<Arc<Snapshot>, Problem> {
        let current = self.find_snapshot(name, View::NEWEST, now).cloned().ok_or(Problem::NotFound)?;
        if precondition.evaluate(Some(&current.etag_at(now))) != Verdict::Holds {
            return Err(Problem::PreconditionFailed);
        }
        let wanted = if archived { SnapshotStatus::Archived } else { SnapshotStatus::Ready };
        match current.status(now) {
            SnapshotStatus::Provisioning | SnapshotStatus::Failed => Err(Problem::InvalidState),
            status if status == wanted => Ok(current),
            _ => {
                let changed = Arc::new(Snapshot {
                    etag: self.seeded.etag(self.drift.next(now)),
                    archived: archived.then_some(now),
                    ..Snapshot::clone(&current)
                });
                self.commit(ChangeKind::SnapshotModified(Arc::clone(&changed)), now)?;
                Ok(changed)
            }
        }
    }

    /// Applies a change that was made before this process started. Every replica shows it, and it is not recorded
    /// again. Call [`ConfigurationStore::resume`] after the last one.
    pub fn restore(&mut self, change: &StateChange) {
        self.apply(change);
        self.replicas.settle_all();
    }

    /// Makes later numbers greater than every number that was sent before this process started.
    pub fn resume(&mut self, now: Timestamp) {
        if self.sequence_number > 0 {
            self.drift.resume(self.sequence_number, self.changed_at, now);
        }
    }

    /// Adds a key-value of a seed. It keeps its tag, lock and date if it has them.
    ///
    /// # Errors
    /// 503 when it could not be recorded.
    pub fn seed(&mut self, key_value: KeyValue, now: Timestamp) -> Result<(), Problem> {
        let etag = if key_value.etag.is_empty() {
            self.seeded.etag(self.drift.next(now)).into()
        } else {
            Arc::clone(&key_value.etag)
        };
        let last_modified =
            if key_value.last_modified == Timestamp::default() { now } else { key_value.last_modified };
        let at = last_modified.min(now);
        let kind = ChangeKind::KeyValueModified(Arc::new(KeyValue { etag, last_modified, ..key_value }));
        self.commit(kind, at)?;
        self.replicas.settle_all();
        Ok(())
    }

    fn commit(&mut self, kind: ChangeKind, now: Timestamp) -> Result<(), Problem> {
        let change = Arc::new(StateChange { sequence_number: self.drift.next(now), at: now, kind });
        if let Some(recorder) = &self.recorder {
            recorder.record(&change)?;
        }
        self.apply(&change);
        self.drift.count();
        self.replicas.commit(change.sequence_number, now);
        self.listeners.retain(|listener| listener.send(Arc::clone(&change)).is_ok());
        Ok(())
    }

    fn apply(&mut self, change: &StateChange) {
        let StateChange { sequence_number, at, ref kind } = *change;
        let horizon = at.minus(self.retention);
        let mut push_snapshot = |snapshot: &Arc<Snapshot>| {
            let history = self.snapshots.entry(snapshot.name.clone()).or_default();
            history.push(Revision { sequence_number, at, state: Some(Arc::clone(snapshot)) });
            history.forget_before(horizon);
        };
        let name = match kind {
            ChangeKind::KeyValueModified(state) => {
                self.key_values.push(&state.id, sequence_number, at, Some(Arc::clone(state)), horizon);
                state.id.key()
            }
            ChangeKind::KeyValueDeleted(state) => {
                self.key_values.push(&state.id, sequence_number, at, None, horizon);
                state.id.key()
            }
            ChangeKind::SnapshotCreated(snapshot) | ChangeKind::SnapshotModified(snapshot) => {
                push_snapshot(snapshot);
                &snapshot.name
            }
        };
        self.tokens.commit(sequence_number, name);
        self.sequence_number = sequence_number;
        self.changed_at = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::tokens::TokenMode;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_000_000);

    fn empty() -> ConfigurationStore {
        let seeded = Seeded::new(1);
        let replicas = Replicas::new(1, Duration::ZERO, seeded);
        ConfigurationStore::new(
            replicas,
            Tokens::new(TokenMode::Shown, 1),
            Drift::new(0.0, NOW),
            seeded,
            Duration::from_secs(3_600),
        )
    }

    fn content(value: &str) -> KeyValueContent {
        KeyValueContent { value: Some(value.to_owned()), ..KeyValueContent::default() }
    }

    #[test]
    fn a_change_raises_the_sequence_number_and_a_no_op_does_not() {
        let mut store = empty();
        let id = KeyValueId::new("k", None);
        let mut step = |write, expected| {
            let written = store.write(&id, write, &Precondition::None, NOW);
            assert_eq!(written.as_ref().map(|written| written.sequence_number).ok(), expected, "{written:?}");
            written
        };
        let created = step(KeyValueWrite::Put(content("1")), Some(1)).unwrap().shown.unwrap();
        let repeated = step(KeyValueWrite::Put(content("1")), Some(1)).unwrap().shown.unwrap();
        assert_eq!(created.key_value.etag, repeated.key_value.etag);
        step(KeyValueWrite::SetLocked(true), Some(2)).unwrap();
        step(KeyValueWrite::SetLocked(true), Some(2)).unwrap();
        assert_eq!(step(KeyValueWrite::Put(content("1")), None).unwrap_err(), Problem::KeyLocked("k".into()));
        assert_eq!(step(KeyValueWrite::Delete, None).unwrap_err(), Problem::KeyLocked("k".into()));
        step(KeyValueWrite::SetLocked(false), Some(3)).unwrap();
        step(KeyValueWrite::Delete, Some(4)).unwrap();
        assert!(step(KeyValueWrite::Delete, Some(4)).unwrap().shown.is_none());
        assert_eq!(step(KeyValueWrite::SetLocked(true), None).unwrap_err(), Problem::NotFound);
        assert_eq!(store.sequence_number(), 4);
    }

    struct Refusing;
    impl ChangeRecorder for Refusing {
        fn record(&self, _change: &StateChange) -> Result<(), super::super::change::RecordError> {
            Err(std::io::Error::other("disk full").into())
        }
    }

    #[test]
    fn a_write_that_is_not_recorded_has_no_effect() {
        let mut store = empty();
        store.set_recorder(Arc::new(Refusing));
        let id = KeyValueId::new("k", None);
        let refused =
            store.write(&id, KeyValueWrite::Put(content("1")), &Precondition::None, NOW).unwrap_err();
        assert!(matches!(refused, Problem::Unrecorded(_)));
        assert_eq!(store.sequence_number(), 0);
        assert!(store.key_values.find("k", None, View::NEWEST).is_none());
    }

    #[test]
    fn recorded_changes_restore_the_state() {
        let (mut store, id) = (empty(), KeyValueId::new("k", Some("l")));
        let mut changes = store.subscribe();
        store.write(&id, KeyValueWrite::Put(content("1")), &Precondition::None, NOW).unwrap();
        store.write(&id, KeyValueWrite::Put(content("2")), &Precondition::None, NOW).unwrap();
        store
            .write(&KeyValueId::new("gone", None), KeyValueWrite::Put(content("x")), &Precondition::None, NOW)
            .unwrap();
        store.write(&KeyValueId::new("gone", None), KeyValueWrite::Delete, &Precondition::None, NOW).unwrap();
        let mut restored = empty();
        while let Ok(change) = changes.try_recv() {
            let json = serde_json::to_string(&*change).unwrap();
            restored.restore(&serde_json::from_str(&json).unwrap());
        }
        assert_eq!(restored.sequence_number(), 4);
        restored.resume(NOW);
        assert_eq!(restored.newest(NOW), 4);
        assert_eq!(restored.replicas.first_hidden(0, NOW), None);
        let found = restored.key_values.find("k", Some("l"), View::NEWEST).unwrap();
        assert_eq!(found.key_value, store.key_values.find("k", Some("l"), View::NEWEST).unwrap().key_value);
        assert!(restored.key_values.find("gone", None, View::NEWEST).is_none());
    }
}
