//! Mirrors: collections of an App Configuration store that are held whole, and validated by one conditional request for each range
//! of about 80 items.
//!
//! ```text
//!            load: page after page ──▶ all ranges ──▶ validated once more
//!                                          │
//!            poll: each range, every interval, with If-None-Match ──▶ 304: as it was · 200: the items of its page
//!                                          │
//! question ──▶ within a collection? ──▶ its ranges ──▶ a stored response with the least coverage of them
//!                                                          │
//!                       decided about like any other: reuse, or validate those ranges, or ask the origin
//! ```
//!
//! A mirror makes a [`StoredResponse`](crate::stored_response::StoredResponse) of its items; [`decide`](crate::decide) and the
//! rules of coverage judge it as if it had been fetched. So a mirror adds no rule of consistency but one: a list over several
//! ranges must show one state ([`Collection::is_one_state`](collection::Collection::is_one_state)).
//!
//! | file | what it is for |
//! |---|---|
//! | [`selector`] | Which key-values a collection holds. |
//! | [`item`] | The key-values of a page, with the bytes that the origin sent. |
//! | [`collection`] | The ranges: anchors, split and merge, what an answer changes. |
//! | [`question`], [`answer`] | What a request asks, and the response that the items make. |
//! | `poll`, `ask` | Acting: load, validation, audit; one request for the page of a range. |
//! | `predict` | What the answer to an own write tells. |
//! | `restore` | What a snapshot keeps of it. |
//! | `changed_elsewhere`, `shared_anchors` | What other members of a fleet have seen change, and which ranges they have. |
//! | [`give_up`] | Why a mirror gives up: per-key caching goes on. |
//!
//! The price: a collection is read whole, whether or not it is asked for, and costs one request a range and interval for as long as
//! the sidecar runs.

pub mod answer;
mod ask;
mod changed_elsewhere;
pub mod collection;
pub mod give_up;
pub mod item;
mod poll;
mod predict;
pub mod question;
mod restore;
pub mod selector;
mod shared_anchors;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::CachingRules;
use crate::decide::age::current_age;
use crate::metrics::MirrorMetrics;
use crate::presented_request::PresentedRequest;
use crate::profile::app_configuration::api_version::ApiVersion;
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::Coverage;
use crate::upstream::Upstream;
use crate::upstream::result::UpstreamFailure;
use crate::upstream::throttle::Hold;
pub use answer::Mirrored;
use changed_elsewhere::ChangedRanges;
use collection::{Bounds, Collection, Range};
use give_up::GiveUpReason;
use question::Question;
use selector::Selector;

/// What the configuration says of a mirror.
#[derive(Clone, Debug)]
pub struct ResolvedMirror {
    /// The collections, in the order in which they are asked.
    pub selectors: Vec<Selector>,
    /// How long a range counts as current after its last validation.
    pub interval: Duration,
    /// How much it may hold.
    pub bounds: Bounds,
}

/// The mirror of one upstream.
pub struct Mirror {
    selectors: Vec<Selector>,
    /// What a reload replaces.
    setup: ArcSwap<MirrorSetup>,
    clock: Clock,
    state: RwLock<MirrorState>,
    metrics: MirrorMetrics,
    /// Whether every collection has been loaded and validated once more.
    loaded: watch::Sender<bool>,
    /// How many answers about ranges were taken in.
    changes: AtomicU64,
    /// Ranges of which another member of the fleet has seen another state.
    changed_elsewhere: ChangedRanges,
}

/// The ranges of a mirror that a request depends on.
#[derive(Clone, Copy, Debug)]
pub struct MirroredRanges {
    /// The position of the collection in the configuration.
    pub collection_index: usize,
    /// How many ranges of it those are.
    pub ranges: usize,
    /// How many it has.
    pub of: usize,
    /// How long ago the one was validated that was validated first.
    pub oldest: Duration,
    /// How long after its validation a range answers.
    pub lifetime: Duration,
}

/// What of a mirror a reload replaces: all but its collections.
pub struct MirrorSetup {
    /// Where it asks.
    pub upstream: Arc<Upstream>,
    /// The rules of that upstream.
    pub rules: Arc<CachingRules>,
    /// See [`ResolvedMirror::interval`].
    pub interval: Duration,
    /// See [`ResolvedMirror::bounds`]. What is held already stays until the next answer.
    pub bounds: Bounds,
}

struct MirrorState {
    collections: Vec<Collection>,
    /// The api-version that the items came with.
    version: ApiVersion,
    gave_up: Option<GiveUpReason>,
}

impl Mirror {
    /// A mirror that holds nothing yet; [`Mirror::run`] loads it.
    #[must_use]
    pub fn new(
        settings: ResolvedMirror,
        upstream: Arc<Upstream>,
        rules: Arc<CachingRules>,
        clock: Clock,
        metrics: MirrorMetrics,
    ) -> Self {
        let ResolvedMirror { selectors, interval, bounds } = settings;
        let state = MirrorState { collections: Vec::new(), version: ApiVersion::V2026_04_01, gave_up: None };
        Self {
            selectors,
            setup: ArcSwap::from_pointee(MirrorSetup { upstream, rules, interval, bounds }),
            clock,
            state: RwLock::new(state),
            metrics,
            loaded: watch::Sender::new(false),
            changes: AtomicU64::new(0),
            changed_elsewhere: ChangedRanges::default(),
        }
    }

    /// Replaces all but the collections. What is held goes on.
    pub fn set_up(&self, setup: MirrorSetup) {
        self.setup.store(Arc::new(setup));
    }

    /// What the configuration says now.
    pub fn setup(&self) -> Guard<Arc<MirrorSetup>> {
        self.setup.load()
    }

    fn upstream(&self) -> Arc<Upstream> {
        Arc::clone(&self.setup().upstream)
    }

    /// The answer to a request as far as the items say; `rules` are those of its route. `None` where the request is to be answered
    /// without the mirror: it asks for something else, or its collection is not loaded.
    #[must_use]
    pub fn answer(&self, request: &PresentedRequest, rules: &CachingRules) -> Option<Mirrored> {
        let state = self.read();
        let question = Question::read(request.key.canonical_target(), state.version)?;
        let (_, collection) = collection_of(&state.collections, &question)?;
        let mut answer = answer::answer(collection, &question, &request.as_validation(), rules)?;
        if let Mirrored::Response(response) = &mut answer {
            response.policy.freshness_lifetime = self.lifetime();
            response.is_mirrored = true;
        }
        Some(answer)
    }

    /// Validates the ranges that a request depends on, as far as they do not satisfy it. `presented` is what its caller's tokens demand. Each
    /// validation is shared with all that wait for the same range.
    ///
    /// # Errors
    /// [`UpstreamFailure`] when the origin gives no answer.
    pub async fn validate(
        &self,
        request: &PresentedRequest,
        presented: &PresentedTokens,
        satisfies: impl Fn(Coverage) -> bool + Send + Sync,
    ) -> Result<(), UpstreamFailure> {
        /// A list may be torn by changes that its own validation brings.
        const MOST_PASSES: usize = 3;
        for _ in 0..MOST_PASSES {
            let now = self.clock.now();
            let needed = {
                let state = self.read();
                let Some(question) = Question::read(request.key.canonical_target(), state.version) else {
                    return Ok(());
                };
                let Some((index, collection)) = collection_of(&state.collections, &question) else {
                    return Ok(());
                };
                let span = question.ranges(collection);
                let is_torn = question.is_list() && !collection.is_one_state(span.clone());
                let ranges = collection.ranges.get(span.clone()).unwrap_or_default();
                let changed = ranges.iter().map(|range| range.content.arrived).max().unwrap_or_default();
                // A revelation stands for its own range alone: what is made of several is judged without it.
                let is_alone =
                    ranges.iter().all(|range| Some(range.covers) == ranges.first().map(|it| it.covers));
                let judged = |covers: Coverage| if is_alone { covers } else { covers.without_revelation() };
                let needs = |range: &Range| {
                    !satisfies(judged(range.covers))
                        || current_age(&range.answer, now) >= self.lifetime()
                        || (is_torn && range.covers.sent_order <= changed)
                };
                // By their positions among all: other callers need other ranges, and neighbours are to wait for each other all the same.
                [0, 1].map(|parity| {
                    let needed =
                        span.clone().zip(ranges).filter(|(at, range)| at % 2 == parity && needs(range));
                    needed.map(|(_, range)| (index, range.anchor.clone())).collect::<Vec<_>>()
                })
            };
            if needed.iter().all(Vec::is_empty) {
                return Ok(());
            }
            self.validate_ranges(needed, &satisfies, presented).await?;
        }
        Ok(())
    }

    /// The ranges that a request depends on; `None` where the mirror does not hold what it asks for.
    #[must_use]
    pub fn ranges_for(&self, request: &PresentedRequest) -> Option<MirroredRanges> {
        let state = self.read();
        let question = Question::read(request.key.canonical_target(), state.version)?;
        let (collection_index, collection) = collection_of(&state.collections, &question)?;
        let ranges = collection.ranges.get(question.ranges(collection)).unwrap_or_default();
        let now = self.clock.now();
        let oldest = ranges.iter().map(|range| current_age(&range.answer, now)).max().unwrap_or_default();
        let (of, lifetime) = (collection.ranges.len(), self.lifetime());
        Some(MirroredRanges { collection_index, ranges: ranges.len(), of, oldest, lifetime })
    }

    /// How long after its validation a range answers. Each is polled once an interval: the rest is for the time that the poll takes,
    /// and for `Date`, which counts whole seconds.
    fn lifetime(&self) -> Duration {
        let interval = self.interval();
        interval + interval / 32 + Duration::from_secs(1)
    }

    /// How often a range is validated: the budget may stretch it.
    fn interval(&self) -> Duration {
        let setup = self.setup();
        setup.interval.mul_f64(setup.upstream.stretch(self.clock.now()))
    }

    /// Why the ranges are not validated at the moment: the origin asked for that, or the budget does.
    pub fn hold(&self) -> Option<Hold> {
        self.upstream().hold_of_ranges(self.clock.now())
    }

    /// Why the mirror gave up, if it did.
    #[must_use]
    pub fn gave_up(&self) -> Option<GiveUpReason> {
        self.read().gave_up
    }

    /// Whether every collection has been loaded and validated once more.
    #[must_use]
    pub fn is_loaded(&self) -> watch::Receiver<bool> {
        self.loaded.subscribe()
    }

    /// Resolves when every collection has been loaded.
    pub async fn loaded(&self) {
        // The sender lives as long as the mirror.
        let mut loaded = self.loaded.subscribe();
        let _is_loaded = loaded.wait_for(|is_loaded| *is_loaded).await;
    }

    fn read(&self) -> RwLockReadGuard<'_, MirrorState> {
        // Nothing under this lock can panic half way through a change.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, MirrorState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first collection that the question lies within, if it is loaded.
fn collection_of<'a>(
    collections: &'a [Collection],
    question: &Question<'_>,
) -> Option<(usize, &'a Collection)> {
    let holds =
        |(_, collection): &(usize, &Collection)| collection.is_loaded && question.lies_within(collection);
    collections.iter().enumerate().find(holds)
}
