//! The unsafe requests that went through this sidecar: rule 3 of coverage.
//!
//! A write is *open* from before its first byte is sent until its answer has arrived. Closing gives it a position; a snapshot
//! remembers the position reached. A stored response is outdated by every write that can have touched it and that is open or
//! closed after its snapshot. The log is bounded: what was evicted leaves its highest position behind, and everything sent
//! before that counts as touched. An open write is never evicted.
//!
//! A hit asks the log only about writes that may concern it. Each write stands in an index under the keys of what it names, and
//! a resource that only a write with its key can touch looks there. For a resource that any write may touch, a list, the log
//! remembers which writes were found not to touch it: each write is examined once for each list in use, not once for each hit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::coverage::{Coverage, UncoveredReason};

/// How many closed writes are kept.
pub const MAX_CLOSED: usize = 1024;

/// How many bytes the footprints of closed writes may have together.
pub const MAX_CLOSED_BYTES: usize = 1024 * 1024;

/// For how many resources the log remembers which writes do not touch them. 32 KiB, from the first one on.
const EXAMINED_RESOURCES: usize = 1024;

/// Names one write while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub(super) u64);

impl WriteId {
    /// Its number in this process.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The same write once it has settled: it may have taken effect after its first announcement.
    #[must_use]
    pub const fn settled(self) -> Self {
        Self(self.0 | 1 << 63)
    }
}

/// What a write may have changed, as the log stores and finds it.
pub trait Indexed {
    /// The keys of what the write names: it touches no resource with another key. `None` if it may touch anything.
    fn index_keys(&self) -> Option<Vec<u64>>;

    /// What it occupies beside its own size.
    fn heap_bytes(&self) -> usize;
}

/// How to find the writes that may touch a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexLookUp {
    /// Only a write with this key touches it, or one that may touch anything.
    Key(u64),
    /// Any write may touch the resource with this hash.
    Any(u64),
}

/// The log. `F` is the profile's footprint: what a write may have changed.
#[derive(Debug)]
pub struct WriteLog<F> {
    pub(super) open: BTreeMap<WriteId, F>,
    /// By position, without a gap.
    pub(super) closed: VecDeque<ClosedWrite<F>>,
    pub(super) opened_count: u64,
    closed_position: u64,
    evicted_position: u64,
    closed_bytes: usize,
    /// Index key and id of each open write; the key is `None` for one that may touch anything.
    open_by_key: BTreeSet<(Option<u64>, WriteId)>,
    /// Index key and position of each closed write.
    closed_by_key: BTreeSet<(Option<u64>, u64)>,
    examined: Vec<Examined>,
}

#[derive(Debug)]
pub(super) struct ClosedWrite<F> {
    pub(super) id: WriteId,
    position: u64,
    pub(super) footprint: F,
}

/// The writes that were found not to touch one resource. A write is examined when it is open, and once more when it has closed,
/// because its answer may have named more.
#[derive(Clone, Copy, Debug, Default)]
struct Examined {
    resource: u64,
    /// All that had opened up to this one.
    opened_count: u64,
    /// All that closed after this position…
    closed_after: u64,
    /// …up to this one.
    closed_position: u64,
}

impl<F> Default for WriteLog<F> {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            closed: VecDeque::new(),
            opened_count: 0,
            closed_position: 0,
            evicted_position: 0,
            closed_bytes: 0,
            open_by_key: BTreeSet::new(),
            closed_by_key: BTreeSet::new(),
            examined: Vec::new(),
        }
    }
}

impl<F> WriteLog<F> {
    /// The position of the write that closed last: a snapshot remembers it.
    pub const fn closed_position(&self) -> u64 {
        self.closed_position
    }

    /// How many writes are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }
}

/// The keys of a write in the index.
fn keys_of<F: Indexed>(footprint: &F) -> impl Iterator<Item = Option<u64>> {
    let keys = footprint.index_keys();
    let anything = keys.is_none().then_some(None);
    keys.into_iter().flatten().map(Some).chain(anything)
}

impl<F: Indexed> WriteLog<F> {
    /// Opens a write, before its first byte is sent.
    pub fn open(&mut self, footprint: F) -> WriteId {
        self.opened_count += 1;
        let id = WriteId(self.opened_count);
        self.open_by_key.extend(keys_of(&footprint).map(|key| (key, id)));
        self.open.insert(id, footprint);
        id
    }

    /// Closes a write that happened, or whose outcome is unknown: from here on it outdates what it touches. `widen` adds
    /// what the answer named (`Location`, `Content-Location`).
    pub fn close(&mut self, id: WriteId, widen: impl FnOnce(F) -> F) {
        let Some(footprint) = self.take_open(id) else { return };
        let footprint = widen(footprint);
        self.closed_position += 1;
        let position = self.closed_position;
        self.closed_by_key.extend(keys_of(&footprint).map(|key| (key, position)));
        self.closed_bytes += footprint.heap_bytes();
        self.closed.push_back(ClosedWrite { id, position, footprint });
        while self.closed.len() > MAX_CLOSED || self.closed_bytes > MAX_CLOSED_BYTES {
            let Some(evicted) = self.closed.pop_front() else { break };
            for key in keys_of(&evicted.footprint) {
                self.closed_by_key.remove(&(key, evicted.position));
            }
            self.closed_bytes -= evicted.footprint.heap_bytes();
            self.evicted_position = evicted.position;
        }
    }

    /// Closes a write that did not happen: it outdates nothing.
    pub fn forget(&mut self, id: WriteId) {
        self.take_open(id);
    }

    fn take_open(&mut self, id: WriteId) -> Option<F> {
        let footprint = self.open.remove(&id)?;
        for key in keys_of(&footprint) {
            self.open_by_key.remove(&(key, id));
        }
        Some(footprint)
    }

    /// Whether an open write other than `own` satisfies `touches`.
    pub fn another_is_open(&self, own: Option<WriteId>, touches: impl Fn(&F) -> bool) -> bool {
        self.open.iter().any(|(other, footprint)| Some(*other) != own && touches(footprint))
    }

    /// Whether a write other than `own` that satisfies `touches` may have closed after this snapshot.
    pub fn another_closed_since(&self, own: WriteId, covers: Coverage, touches: impl Fn(&F) -> bool) -> bool {
        covers.closed_position < self.evicted_position
            || self
                .closed
                .iter()
                .rev()
                .take_while(|write| write.position > covers.closed_position)
                .any(|write| write.id != own && touches(&write.footprint))
    }

    /// Why rule 3 fails for what has this coverage, if it does. `look_up` says how the writes that may touch the resource are
    /// found, and `touches` whether one does.
    #[must_use]
    pub fn outdates(
        &mut self,
        covers: Coverage,
        look_up: IndexLookUp,
        touches: impl Fn(&F) -> bool,
    ) -> Option<UncoveredReason> {
        let reason = match look_up {
            IndexLookUp::Key(key) => self.outdates_key(covers, key, touches),
            IndexLookUp::Any(resource) => self.outdates_any(covers, resource, touches),
        };
        // An open write says more than a closed one that is no longer known.
        reason
            .or_else(|| (covers.closed_position < self.evicted_position).then_some(UncoveredReason::OwnWrite))
    }

    fn outdates_key(
        &self,
        covers: Coverage,
        key: u64,
        touches: impl Fn(&F) -> bool,
    ) -> Option<UncoveredReason> {
        let keys = [None, Some(key)];
        let is_open = |key| {
            let mut candidates = self.open_by_key.range((key, WriteId(0))..=(key, WriteId(u64::MAX)));
            candidates.any(|(_, id)| self.open.get(id).is_some_and(&touches))
        };
        if keys.into_iter().any(is_open) {
            return Some(UncoveredReason::OpenWrite);
        }
        let has_closed = |key| {
            let since = (key, covers.closed_position.saturating_add(1))..=(key, u64::MAX);
            let mut candidates = self.closed_by_key.range(since);
            candidates
                .any(|(_, position)| self.closed_at(*position).is_some_and(|write| touches(&write.footprint)))
        };
        keys.into_iter().any(has_closed).then_some(UncoveredReason::OwnWrite)
    }

    fn outdates_any(
        &mut self,
        covers: Coverage,
        resource: u64,
        touches: impl Fn(&F) -> bool,
    ) -> Option<UncoveredReason> {
        let asked_from = covers.closed_position;
        let known = self.examined.get(slot_of(resource)).filter(|known| known.resource == resource);
        // What was examined is of use only if no write lies between it and those that are asked about.
        let closed = known.filter(|known| (known.closed_after..=known.closed_position).contains(&asked_from));
        let opened = known.map_or(0, |known| known.opened_count);
        let (closed_after, examined_to) =
            closed.map_or((asked_from, asked_from), |known| (known.closed_after, known.closed_position));
        if self.open.range(WriteId(opened + 1)..).any(|(_, footprint)| touches(footprint)) {
            return Some(UncoveredReason::OpenWrite);
        }
        let mut later = self.closed.iter().rev().take_while(|write| write.position > examined_to);
        if later.any(|write| touches(&write.footprint)) {
            return Some(UncoveredReason::OwnWrite);
        }
        self.examined.resize(EXAMINED_RESOURCES, Examined::default());
        if let Some(slot) = self.examined.get_mut(slot_of(resource)) {
            *slot = Examined {
                resource,
                opened_count: self.opened_count,
                closed_after,
                closed_position: self.closed_position,
            };
        }
        None
    }

    fn closed_at(&self, position: u64) -> Option<&ClosedWrite<F>> {
        let first = self.closed.front()?.position;
        self.closed.get(usize::try_from(position.checked_sub(first)?).ok()?)
    }
}

fn slot_of(resource: u64) -> usize {
    usize::try_from(resource % EXAMINED_RESOURCES as u64).unwrap_or_default()
}

#[cfg(any(test, feature = "internals"))]
impl Indexed for () {
    fn index_keys(&self) -> Option<Vec<u64>> {
        None
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

/// A write to one resource, named by its text.
#[cfg(test)]
impl Indexed for &'static str {
    fn index_keys(&self) -> Option<Vec<u64>> {
        Some(vec![self.len() as u64])
    }

    fn heap_bytes(&self) -> usize {
        self.len()
    }
}

#[cfg(test)]
mod tests;
