//! Acting: a mirror loads its collections, and validates their ranges as long as it runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::iter;

use super::ask::PollError;
use super::collection::{Collection, Range};
use super::give_up::GiveUpReason;
use super::{Mirror, MirrorState};
use crate::clock::Timestamp;
use crate::profile::app_configuration::api_version::ApiVersion;
use crate::profile::app_configuration::key_value::KeyValueId;
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::Coverage;
use crate::upstream::result::UpstreamFailure;

/// The api-versions that a mirror loads with, the first that the origin accepts. Previews may add what older versions do not show.
const VERSIONS: [ApiVersion; 5] = [
    ApiVersion::V2026_04_01,
    ApiVersion::V2024_09_01,
    ApiVersion::V2023_11_01,
    ApiVersion::V2023_10_01,
    ApiVersion::V1_0,
];

/// How many ranges are validated at once.
const AT_ONCE: usize = 8;

/// How long a mirror that gave up waits before it loads again, in intervals.
const GIVEN_UP_INTERVALS: u32 = 20;

/// How often one range is asked for without a condition.
const AUDIT_INTERVAL: Duration = Duration::from_secs(300);

impl Mirror {
    /// Loads the collections and validates them until the task is dropped.
    pub async fn run(self: Arc<Self>) {
        if let Some(member) = self.upstream().fleet() {
            member.started().await;
        }
        loop {
            let reason = match self.load_all().await {
                Ok(()) => self.poll().await,
                Err(PollError::GiveUp(reason)) => reason,
                Err(PollError::Failed(_)) => {
                    // What was loaded stays: the load goes on where it was.
                    tokio::time::sleep(self.pause()).await;
                    continue;
                }
            };
            self.give_up(reason);
            tokio::time::sleep(self.setup().interval * GIVEN_UP_INTERVALS).await;
        }
    }

    /// Drops what is held. The first to find the reason says it: a caller, or the task of the mirror.
    pub fn give_up(&self, reason: GiveUpReason) {
        {
            let mut state = self.write();
            let is_known = state.collections.is_empty() && state.gave_up == Some(reason);
            state.collections.clear();
            state.gave_up = Some(reason);
            if is_known {
                return;
            }
        }
        self.loaded.send_replace(false);
        self.metrics.gave_up(reason.as_str());
        self.metrics.observe(0, 0, 0);
        tracing::warn!(
            upstream = self.upstream().name(),
            reason = reason.as_str(),
            "the mirror of this upstream gave up; keys and lists are cached one by one instead"
        );
    }

    /// How long a range, or a load, waits after a failure.
    fn pause(&self) -> Duration {
        (self.setup().interval / 4).clamp(Duration::from_millis(100), Duration::from_secs(10))
    }

    async fn load_all(&self) -> Result<(), PollError> {
        let begun = crate::clock::instant();
        {
            let mut state = self.write();
            if state.collections.is_empty() {
                state.collections = self.unloaded_collections();
            }
        }
        for index in 0..self.selectors.len() {
            let anchors = self.shared_anchors(index).await;
            while let Some(anchor) = self.load_position(index) {
                match self.ask(index, anchor.as_ref(), |_| false, &PresentedTokens::NOTHING).await {
                    Ok(answer) => self.change(|state| {
                        state
                            .collections
                            .get_mut(index)
                            .map_or(Ok(false), |collection| collection.load(&answer, &anchors).map(|()| true))
                    })?,
                    Err(PollError::GiveUp(GiveUpReason::Version)) if anchor.is_none() => {
                        self.use_older_version()?
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.metrics.observe_load(begun.elapsed());
        // Pages of one load may show several states: a second pass shows which of them still hold.
        let ranges = self.ranges_to_validate();
        self.validate_all(ranges, &|_: Coverage| false, &PresentedTokens::NOTHING).await?;
        {
            let mut state = self.write();
            if let Some(reason) = state.gave_up.filter(|_| state.collections.is_empty()) {
                // While it was validated.
                return Err(PollError::GiveUp(reason));
            }
            state.gave_up = None;
        }
        self.loaded.send_replace(true);
        self.share_anchors().await;
        Ok(())
    }

    /// The ranges that the second pass of a load asks for: all, except where records of a fleet show one state already.
    fn ranges_to_validate(&self) -> Vec<(usize, Option<KeyValueId>)> {
        let mut ranges = self.all_ranges();
        if self.upstream().fleet().is_some() {
            let state = self.read();
            let is_one_state = |collection: &Collection| collection.is_one_state(0..collection.ranges.len());
            ranges.retain(|(index, _)| !state.collections.get(*index).is_some_and(is_one_state));
        }
        ranges
    }

    /// The collections before anything is loaded.
    pub(super) fn unloaded_collections(&self) -> Vec<Collection> {
        let clauses = self.upstream().session().clauses();
        let selectors = self.selectors.iter();
        selectors.map(|selector| Collection::new(selector.clone(), clauses)).collect()
    }

    fn load_position(&self, index: usize) -> Option<Option<KeyValueId>> {
        self.read().collections.get(index).and_then(Collection::load_position)
    }

    fn use_older_version(&self) -> Result<(), PollError> {
        let mut state = self.write();
        let older = VERSIONS.into_iter().find(|version| *version < state.version);
        state.version = older.ok_or(PollError::GiveUp(GiveUpReason::Version))?;
        Ok(())
    }

    /// Validates each range before its interval is over, until the mirror has to give up.
    async fn poll(&self) -> GiveUpReason {
        let (loaded, loaded_at) = (crate::clock::instant(), self.clock.now());
        let mut audited = crate::clock::instant();
        loop {
            let tick = (self.interval() / 64).max(Duration::from_millis(10));
            tokio::select! {
                () = tokio::time::sleep(tick) => {}
                () = self.changed_elsewhere.come() => {}
            }
            if let Some(reason) = self.gave_up() {
                return reason;
            }
            let changed = self.changed_elsewhere.take();
            if let Err(PollError::GiveUp(reason)) =
                self.validate_all(changed, &|_: Coverage| false, &PresentedTokens::NOTHING).await
            {
                return reason;
            }
            // The budget may stretch it.
            let interval = self.interval();
            let now = self.clock.now();
            // In the first interval each range is asked once more at a time of its own: from then on the requests are spread, and
            // those of several sidecars, too.
            let left = interval.saturating_sub(loaded.elapsed()).as_secs_f64();
            // A fleet's requests are those of one.
            let is_alone = self.upstream().fleet().is_none();
            let chance = if is_alone && left > 0.0 { tick.as_secs_f64() / left } else { 0.0 };
            let is_due = |range: &Range| {
                let (validated_at, waited) = (range.answer.response_time, now.since(range.polled_at));
                waited >= self.pause()
                    && (now.since(validated_at) >= interval
                        || (validated_at <= loaded_at && fastrand::f64() < chance))
            };
            let oldest = self
                .read()
                .collections
                .iter()
                .flat_map(|it| &it.ranges)
                .map(|it| it.answer.response_time)
                .min();
            self.metrics.observe_oldest(oldest.map_or(Duration::ZERO, |oldest| now.since(oldest)));
            // Pages overlap: neighbours are not asked at the same time, so that what one shows changes the tag that the next sends.
            for parity in [0, 1] {
                let due = self.take_turns(now, |position, range| position % 2 == parity && is_due(range));
                // A range whose turn failed has another after a pause: no other waits for it.
                if let Err(PollError::GiveUp(reason)) =
                    self.validate_all(due, &|_: Coverage| false, &PresentedTokens::NOTHING).await
                {
                    return reason;
                }
            }
            if audited.elapsed() >= AUDIT_INTERVAL {
                audited = crate::clock::instant();
                self.share_anchors().await;
                if let Err(PollError::GiveUp(reason)) = self.audit().await {
                    return reason;
                }
            }
        }
    }

    /// The ranges that are due, whose turn this is.
    fn take_turns(
        &self,
        now: Timestamp,
        is_due: impl Fn(usize, &Range) -> bool,
    ) -> Vec<(usize, Option<KeyValueId>)> {
        let mut state = self.write();
        let collections = state.collections.iter_mut().enumerate();
        let ranges = collections.flat_map(|(index, collection)| {
            let ranges = collection.ranges.iter_mut().enumerate();
            ranges.map(move |(position, range)| (index, position, range))
        });
        let due = ranges.filter(|(_, position, range)| is_due(*position, range)).map(|(index, _, range)| {
            range.polled_at = now;
            (index, range.anchor.clone())
        });
        due.collect()
    }

    fn all_ranges(&self) -> Vec<(usize, Option<KeyValueId>)> {
        let state = self.read();
        let collections = state.collections.iter().enumerate();
        let ranges = collections
            .flat_map(|(index, collection)| collection.ranges.iter().map(move |range| (index, range)));
        ranges.map(|(index, range)| (index, range.anchor.clone())).collect()
    }

    /// Validates ranges for a caller, neighbours one after the other.
    pub(super) async fn validate_ranges(
        &self,
        ranges: [Vec<(usize, Option<KeyValueId>)>; 2],
        satisfies: &(impl Fn(Coverage) -> bool + Sync),
        presented: &PresentedTokens,
    ) -> Result<(), UpstreamFailure> {
        for ranges in ranges {
            match self.validate_all(ranges, satisfies, presented).await {
                Ok(()) => {}
                Err(PollError::Failed(failure)) => return Err(failure),
                // The task of the mirror finds what was noted, and loads again later.
                Err(PollError::GiveUp(reason)) => {
                    self.give_up(reason);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn validate_all(
        &self,
        ranges: Vec<(usize, Option<KeyValueId>)>,
        satisfies: &(impl Fn(Coverage) -> bool + Sync),
        presented: &PresentedTokens,
    ) -> Result<(), PollError> {
        let validated = iter(ranges).map(|(index, anchor)| async move {
            let answer = self.ask(index, anchor.as_ref(), satisfies, presented).await?;
            self.change(|state| {
                let Some(collection) = state.collections.get_mut(index) else { return Ok(false) };
                Ok(collection.validate(anchor.as_ref(), &answer)? == Some(true))
            })
        });
        // All of them, whatever becomes of one.
        let outcomes: Vec<Result<(), PollError>> = validated.buffer_unordered(AT_ONCE).collect().await;
        let mut failure = Ok(());
        for outcome in outcomes {
            match outcome {
                Err(PollError::GiveUp(reason)) => return Err(PollError::GiveUp(reason)),
                Err(failed) => failure = Err(failed),
                Ok(()) => {}
            }
        }
        failure
    }

    /// Changes the collections and holds them to their bounds. `change` says whether they hold something else now.
    fn change(
        &self,
        change: impl FnOnce(&mut MirrorState) -> Result<bool, GiveUpReason>,
    ) -> Result<(), PollError> {
        let mut state = self.write();
        self.changes.fetch_add(1, Ordering::Relaxed);
        if !change(&mut state).map_err(PollError::GiveUp)? {
            return Ok(());
        }
        self.weigh(&state)
    }

    /// Counts what is held, and holds it to its bounds.
    pub(super) fn weigh(&self, state: &MirrorState) -> Result<(), PollError> {
        let items: usize = state.collections.iter().map(Collection::items).sum();
        let bytes: usize = state.collections.iter().map(Collection::bytes).sum();
        let ranges = state.collections.iter().map(|collection| collection.ranges.len()).sum();
        self.metrics.observe(ranges, items, bytes);
        if items > self.setup().bounds.items || bytes > self.setup().bounds.bytes {
            return Err(PollError::GiveUp(GiveUpReason::Bound));
        }
        Ok(())
    }

    /// Asks for one range without a condition, and compares what comes with what is held.
    async fn audit(&self) -> Result<(), PollError> {
        let ranges = self.all_ranges();
        let Some((index, anchor)) = ranges.get(fastrand::usize(..ranges.len().max(1))) else { return Ok(()) };
        let answer = match self.send(*index, anchor.as_ref(), None, |_| false, None).await {
            Err(PollError::Failed(_)) => return Ok(()),
            answered => answered?,
        };
        let mut differs = false;
        self.change(|state| {
            let Some(collection) = state.collections.get_mut(*index) else { return Ok(false) };
            differs = collection.audit(anchor.as_ref(), &answer.of_range)?;
            Ok(differs)
        })?;
        if !differs {
            self.metrics.audits_same.inc();
        } else {
            self.metrics.audits_different.inc();
            tracing::warn!(
                upstream = self.upstream().name(),
                "an audit of the mirror found another value under the same entity tag; the range was replaced"
            );
        }
        Ok(())
    }
}
