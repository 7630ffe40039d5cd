//! Collapsing: how fifty requests become one (RFC 9111 §4, RFC 9211 `collapsed`).
//!
//! A fetch is one exchange with the origin for one cache key. It runs in a task of its own, so it outlives the caller that caused
//! it. The request that causes it is its leader. A later request for the key becomes a follower of the current fetch only if the
//! coverage of that fetch satisfies what the request requires. Otherwise it follows the one queued fetch, with all others like it:
//! the snapshot of that fetch is taken when it starts, after all of them asked. A queued fetch starts when the current one ends,
//! or after a limit, so that no request waits without bound behind an answer that it may not use.
//!
//! ```text
//! request ── no fetch for the key ──────────────▶ leads the current fetch ──▶ start ──▶ exchange ──▶ share
//!    ├────── the current fetch satisfies it ────▶ follows it ─────────────────────────────────────────┘
//!    ├────── a fetch is queued ─────────────────▶ follows that
//!    └────── else ──────────────────────────────▶ leads the queued fetch, which starts when the current one ends
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::result_cell::{ResultCell, Waiter};
use crate::stored_response::CacheKey;
use crate::sync_token::coverage::Coverage;

/// All fetches of one upstream that requests may share. `R` is the result of a fetch, cheap to clone.
#[derive(Debug)]
pub struct Collapsing<R> {
    by_key: Mutex<HashMap<CacheKey, KeyFetches<R>>>,
}

#[derive(Debug)]
struct KeyFetches<R> {
    current: Fetch<R>,
    queued: Option<Fetch<R>>,
}

#[derive(Debug)]
struct Fetch<R> {
    /// Set when the fetch starts.
    covers: Arc<OnceLock<Coverage>>,
    /// Another fetch for the key, sent before this one, has ended since this one started. Without tokens it is not known
    /// which of the two shows the newer state, and a request made after the other was seen must not be answered by this one.
    overlapped: bool,
    result: Arc<ResultCell<R>>,
}

/// What a request that joins now is to the fetches for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joins {
    /// It leads one: there is none.
    Leads,
    /// It follows the current one.
    FollowsCurrent {
        /// That has not started.
        starts_later: bool,
    },
    /// It follows the queued one.
    FollowsQueued,
    /// It leads the queued one.
    LeadsQueued,
}

impl<R> KeyFetches<R> {
    fn joins(&self, satisfies: impl FnOnce(Coverage) -> bool) -> Joins {
        // A fetch that has not started takes its snapshot after this request asked: any request may follow it.
        let started = self.current.covers.get();
        if started.is_none_or(|covers| !self.current.overlapped && satisfies(*covers)) {
            return Joins::FollowsCurrent { starts_later: started.is_none() };
        }
        if self.queued.is_some() { Joins::FollowsQueued } else { Joins::LeadsQueued }
    }
}

/// What a request is to a fetch.
#[derive(Debug)]
pub enum Role<R> {
    /// It leads one: [`Leader::start`] takes the snapshot, then comes the exchange, then [`Leader::share`].
    Lead(Leader<R>),
    /// It waits for the result of one that another request leads.
    Follow(Follower<R>),
}

/// Leads one fetch. If it is dropped before it shares a result, its followers ask for themselves.
#[derive(Debug)]
pub struct Leader<R> {
    collapsing: Arc<Collapsing<R>>,
    key: CacheKey,
    covers: Arc<OnceLock<Coverage>>,
    result: Arc<ResultCell<R>>,
    queued_behind: Option<Waiter<R>>,
}

/// Waits for the result of a fetch.
#[derive(Debug)]
pub struct Follower<R> {
    result: Waiter<R>,
    /// The fetch had not started when this request joined: its answer is as new as one of the request's own.
    pub starts_later: bool,
}

impl<R> Default for Collapsing<R> {
    fn default() -> Self {
        Self { by_key: Mutex::default() }
    }
}

impl<R: Clone> Collapsing<R> {
    /// Follows the current fetch for `key` if `satisfies` its coverage, else the queued one, else leads a new one.
    ///
    /// `snapshot` is called under the lock if the request leads at once, so that no other request joins before the coverage
    /// is known.
    pub fn join(
        self: &Arc<Self>,
        key: &CacheKey,
        satisfies: impl FnOnce(Coverage) -> bool,
        snapshot: impl FnOnce() -> Coverage,
    ) -> Role<R> {
        let mut by_key = self.lock();
        let Some(fetches) = by_key.get_mut(key) else {
            let (leader, fetch) = self.new_fetch(key, None);
            let _first = leader.covers.set(snapshot());
            by_key.insert(key.clone(), KeyFetches { current: fetch, queued: None });
            return Role::Lead(leader);
        };
        let joins = fetches.joins(satisfies);
        match (joins, &fetches.queued) {
            (Joins::FollowsQueued, Some(queued)) => {
                Role::Follow(Follower { result: queued.result.wait(), starts_later: true })
            }
            (Joins::FollowsCurrent { starts_later }, _) => {
                Role::Follow(Follower { result: fetches.current.result.wait(), starts_later })
            }
            _ => {
                let (leader, fetch) = self.new_fetch(key, Some(fetches.current.result.wait()));
                fetches.queued = Some(fetch);
                Role::Lead(leader)
            }
        }
    }

    /// What a request would be to the fetches for `key` if it joined now. It does not join.
    pub fn would_join(&self, key: &CacheKey, satisfies: impl FnOnce(Coverage) -> bool) -> Joins {
        self.lock().get(key).map_or(Joins::Leads, |fetches| fetches.joins(satisfies))
    }

    fn new_fetch(
        self: &Arc<Self>,
        key: &CacheKey,
        queued_behind: Option<Waiter<R>>,
    ) -> (Leader<R>, Fetch<R>) {
        let result = Arc::new(ResultCell::default());
        let covers = Arc::new(OnceLock::new());
        let fetch = Fetch { covers: Arc::clone(&covers), overlapped: false, result: Arc::clone(&result) };
        (Leader { collapsing: Arc::clone(self), key: key.clone(), covers, result, queued_behind }, fetch)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, KeyFetches<R>>> {
        // Nothing under this lock can panic half way through a change.
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Clone> Leader<R> {
    /// The coverage of the fetch. A queued fetch waits first until the one ahead has ended, for `wait_limit` at most, and takes
    /// its snapshot then. From here on requests join by coverage.
    pub async fn start(&mut self, wait_limit: Duration, snapshot: impl FnOnce() -> Coverage) -> Coverage {
        if let Some(ahead) = self.queued_behind.take() {
            // Ended, dropped, or too slow: in each case this fetch starts.
            let _outcome = tokio::time::timeout(wait_limit, ahead.result()).await;
            let mut by_key = self.collapsing.lock();
            let covers = *self.covers.get_or_init(snapshot);
            if let Some(fetches) = by_key.get_mut(&self.key)
                && let Some(queued) =
                    fetches.queued.take_if(|queued| Arc::ptr_eq(&queued.covers, &self.covers))
            {
                // The limit has passed: the fetch ahead goes on for its followers, and gets no new ones.
                fetches.current = queued;
            }
            return covers;
        }
        *self.covers.get_or_init(snapshot)
    }

    /// Hands the result to all followers and lets the next fetch start.
    pub fn share(self, result: R) {
        // First: a request that asks again because of this result must not join the same fetch once more.
        self.leave();
        self.result.set(Some(result));
    }

    /// Resolves when no request waits for this fetch any more.
    pub async fn abandoned(&self) {
        self.result.abandoned().await;
    }

    /// One more follower, for the request that caused this fetch.
    #[must_use]
    pub fn follow(&self) -> Follower<R> {
        Follower { result: self.result.wait(), starts_later: true }
    }
}

impl<R> Leader<R> {
    fn leave(&self) {
        let mut by_key = self.collapsing.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fetches) = by_key.get_mut(&self.key) else { return };
        if Arc::ptr_eq(&fetches.current.covers, &self.covers) {
            match fetches.queued.take() {
                // Its leader is woken by this result, and takes its snapshot then.
                Some(queued) => fetches.current = queued,
                None => {
                    by_key.remove(&self.key);
                }
            }
        } else if fetches.queued.take_if(|queued| Arc::ptr_eq(&queued.covers, &self.covers)).is_none() {
            // The current fetch started while this one was under way.
            fetches.current.overlapped = true;
        }
    }
}

impl<R> Drop for Leader<R> {
    fn drop(&mut self) {
        if !self.result.is_set() {
            self.leave();
            self.result.set(None);
        }
    }
}

impl<R: Clone> Follower<R> {
    /// The result of the fetch; `None` if its leader was dropped, and the follower has to ask for itself.
    pub async fn result(self) -> Option<R> {
        self.result.result().await
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Wake, Waker};

    use super::*;

    const WAIT_LIMIT: Duration = Duration::from_secs(1);

    fn key() -> CacheKey {
        CacheKey::new("main", "", "/kv/a")
    }

    fn sent(order: u64) -> Coverage {
        Coverage { sent_order: order, ..Coverage::default() }
    }

    fn join(collapsing: &Arc<Collapsing<u32>>, satisfies: bool) -> Role<u32> {
        collapsing.join(&key(), |_| satisfies, || sent(1))
    }

    fn lead(role: Role<u32>) -> Leader<u32> {
        match role {
            Role::Lead(leader) => leader,
            Role::Follow(_) => panic!("follows where it should lead"),
        }
    }

    fn follow(role: Role<u32>) -> Follower<u32> {
        match role {
            Role::Follow(follower) => follower,
            Role::Lead(_) => panic!("leads where it should follow"),
        }
    }

    #[tokio::test]
    async fn requests_that_the_coverage_satisfies_share_one_result() {
        let collapsing = Arc::new(Collapsing::default());
        let leader = lead(join(&collapsing, true));
        let would_join = |satisfies| collapsing.would_join(&key(), |_| satisfies);
        assert_eq!(would_join(true), Joins::FollowsCurrent { starts_later: false });
        assert_eq!(would_join(false), Joins::LeadsQueued);
        let followers: Vec<_> = (0..50).map(|_| follow(join(&collapsing, true))).collect();
        assert_eq!(collapsing.lock().len(), 1);
        leader.share(7);
        for follower in followers {
            assert_eq!(follower.result().await, Some(7));
        }
        assert_eq!(collapsing.lock().len(), 0);
    }

    #[tokio::test]
    async fn the_others_share_the_one_queued_fetch_whose_snapshot_comes_last() {
        let collapsing = Arc::new(Collapsing::default());
        let first = lead(join(&collapsing, true));
        let mut queued = lead(join(&collapsing, false));
        assert_eq!(collapsing.would_join(&key(), |_| false), Joins::FollowsQueued);
        let waiting = follow(join(&collapsing, false));
        let late = {
            let mut starting = std::pin::pin!(queued.start(WAIT_LIMIT, || sent(2)));
            assert!(futures_util::poll!(starting.as_mut()).is_pending(), "waits for the fetch ahead");
            first.share(1);
            // Joins after the result and before the start: the snapshot is still to come.
            let late = follow(join(&collapsing, false));
            assert_eq!(starting.await, sent(2));
            late
        };
        // After the start only by coverage.
        let _next = lead(join(&collapsing, false));
        let satisfied = follow(join(&collapsing, true));
        queued.share(2);
        for follower in [waiting, late, satisfied] {
            assert_eq!(follower.result().await, Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_queued_fetch_starts_when_its_wait_limit_has_passed() {
        let collapsing = Arc::new(Collapsing::default());
        let slow = lead(join(&collapsing, true));
        let slow_follower = follow(join(&collapsing, true));
        let mut queued = lead(join(&collapsing, false));
        assert_eq!(queued.start(WAIT_LIMIT, || sent(2)).await, sent(2));
        let follower = follow(join(&collapsing, true));
        let another = follow(join(&collapsing, true));
        slow.share(1);
        assert_eq!(slow_follower.result().await, Some(1));
        queued.share(2);
        assert_eq!((follower.result().await, another.result().await), (Some(2), Some(2)));
        assert_eq!(collapsing.lock().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_joins_a_fetch_once_one_that_it_overtook_has_ended() {
        let collapsing = Arc::new(Collapsing::default());
        let slow = lead(join(&collapsing, true));
        let mut overtaking = lead(join(&collapsing, false));
        assert_eq!(overtaking.start(WAIT_LIMIT, || sent(2)).await, sent(2));
        let follower = follow(join(&collapsing, true));
        slow.share(1);
        let mut next = lead(join(&collapsing, true));
        overtaking.share(2);
        assert_eq!(follower.result().await, Some(2));
        assert_eq!(next.start(WAIT_LIMIT, || sent(3)).await, sent(3));
        let satisfied = follow(join(&collapsing, true));
        next.share(3);
        assert_eq!(satisfied.result().await, Some(3));
    }

    #[tokio::test]
    async fn a_dropped_leader_leaves_no_follower_waiting() {
        let collapsing = Arc::new(Collapsing::default());
        let leader = lead(join(&collapsing, true));
        let follower = follow(join(&collapsing, true));
        let mut queued = lead(join(&collapsing, false));
        drop(leader);
        assert_eq!(follower.result().await, None);
        assert_eq!(queued.start(WAIT_LIMIT, || sent(2)).await, sent(2));
        drop(queued);
        assert_eq!(collapsing.lock().len(), 0);
    }

    /// Joins as soon as it is woken.
    #[derive(Debug)]
    struct AsksAgain {
        collapsing: Arc<Collapsing<u32>>,
        role: Mutex<Option<Role<u32>>>,
    }

    impl Wake for AsksAgain {
        fn wake(self: Arc<Self>) {
            *self.role.lock().expect("no panic") = Some(join(&self.collapsing, true));
        }
    }

    #[test]
    fn a_request_that_asks_again_because_of_a_result_does_not_join_the_same_fetch() {
        let collapsing = Arc::new(Collapsing::default());
        let leader = lead(join(&collapsing, true));
        let asks_again = Arc::new(AsksAgain { collapsing: Arc::clone(&collapsing), role: Mutex::default() });
        let mut waiting = Box::pin(follow(join(&collapsing, true)).result());
        let waker = Waker::from(Arc::clone(&asks_again));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        leader.share(7);
        let next = lead(asks_again.role.lock().expect("no panic").take().expect("woken"));
        let _follower = follow(join(&collapsing, true));
        next.share(8);
    }

    #[tokio::test]
    async fn a_leader_knows_that_no_request_waits() {
        let collapsing = Arc::new(Collapsing::default());
        let leader = lead(join(&collapsing, true));
        let own = leader.follow();
        let other = follow(join(&collapsing, true));
        let mut abandoned = std::pin::pin!(leader.abandoned());
        drop(own);
        assert!(futures_util::poll!(abandoned.as_mut()).is_pending());
        drop(other);
        assert!(futures_util::poll!(abandoned.as_mut()).is_ready());
    }
}
