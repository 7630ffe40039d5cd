//! What was learned of one upstream while the sidecar runs.

use std::sync::Arc;

use super::appearances::Appearances;
use super::collapse::Collapsing;
use super::hit_for_miss::HitForMiss;
use super::last_failure::LastFailure;
use super::lists::StoredLists;
use super::restored::RestoredState;
use super::result::SharedResult;
use super::shown::LastShown;
use super::shown_changes::ShownChanges;
use super::throttle::Throttle;
use super::told::ToldByOthers;
use crate::body::budget::BufferBudget;
use crate::clock::Clock;
use crate::credentials::partition::Partitions;
use crate::metrics::OriginCounters;
use crate::profile::Footprint;
use crate::profile::recognition::Recognition;
use crate::store::Store;
use crate::sync_token::clauses::Clauses;
use crate::sync_token::session::Session;
use crate::trace::Tracer;

/// What an upstream shares with the rest of the process.
#[derive(Clone)]
pub struct Surroundings {
    /// Where its responses are stored. Shared with other upstreams; keys begin with the upstream's name.
    pub store: Arc<dyn Store>,
    /// The memory for bodies that are not stored.
    pub buffers: Arc<BufferBudget>,
    /// What was asked of it.
    pub metrics: OriginCounters,
    /// What time it is.
    pub clock: Clock,
    /// Makes spans of what it is asked.
    pub tracer: Tracer,
}

/// What was learned of one upstream. It lives on when its settings are replaced.
pub struct UpstreamState {
    /// What its answers showed, and the writes that went there.
    pub session: Arc<Session<Footprint>>,
    /// What was shown last of what is not stored.
    pub(super) last_shown: LastShown,
    /// Which answers showed a change last.
    pub(super) shown_changes: ShownChanges,
    /// What was shown to exist.
    pub(super) appearances: Appearances,
    /// Lists that are stored, and of which items they consist.
    pub(super) lists: StoredLists,
    /// Fetches under way.
    pub(super) collapsing: Arc<Collapsing<SharedResult>>,
    /// Keys whose answers cannot be stored.
    pub(super) hit_for_miss: HitForMiss,
    /// When the origin gave no usable answer last.
    pub(super) last_failure: LastFailure,
    /// What callers were told by an endpoint that is not asked any more.
    pub(super) told: ToldByOthers,
    /// What a snapshot restored.
    pub(super) restored: RestoredState,
    /// Whether it asked to be left alone.
    pub(super) throttle: Throttle,
    /// Whether the profile is the right one, if it was guessed.
    pub(super) recognition: Recognition,
    /// See [`Surroundings::store`].
    pub(super) store: Arc<dyn Store>,
    /// See [`Surroundings::buffers`].
    pub(super) buffers: Arc<BufferBudget>,
    /// See [`Surroundings::metrics`].
    pub(super) metrics: OriginCounters,
    /// See [`Surroundings::clock`].
    pub(super) clock: Clock,
    /// See [`Surroundings::tracer`].
    pub(super) tracer: Tracer,
}

impl UpstreamState {
    /// The state of an upstream that has not been asked yet. `partitions` tells callers apart if their own credentials are forwarded.
    #[must_use]
    pub fn new(
        surroundings: Surroundings,
        clauses: Clauses,
        partitions: Partitions,
        recognition: Recognition,
    ) -> Self {
        let Surroundings { store, buffers, metrics, clock, tracer } = surroundings;
        Self {
            session: Arc::new(Session::new(clauses)),
            last_shown: LastShown::default(),
            shown_changes: ShownChanges::default(),
            appearances: Appearances::default(),
            lists: StoredLists::default(),
            collapsing: Arc::default(),
            hit_for_miss: HitForMiss::default(),
            last_failure: LastFailure::default(),
            told: ToldByOthers::default(),
            restored: RestoredState::default(),
            throttle: Throttle::new(partitions),
            recognition,
            store,
            buffers,
            metrics,
            clock,
            tracer,
        }
    }
}
