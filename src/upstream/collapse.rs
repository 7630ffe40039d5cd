//! How fifty requests become one: collapsing, and who may board them (RFC 9111 §4, RFC 9211 `collapsed`).
//!
//! A flight is one exchange with the upstream for one cache key, run by a task of its own that outlives the caller who
//! caused it. A later request boards the current flight only if the flight's coverage satisfies what that request requires;
//! otherwise it waits, with all others like it, for the one queued flight, whose snapshot is taken when it departs: after all
//! of them asked. A queued flight departs when the current one lands, or when it has waited long enough, so that nobody waits
//! without bound behind an answer that he may not use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::result_cell::{ResultCell, Waiting};
use crate::stored_response::CacheKey;
use crate::sync_token::coverage::Coverage;

/// All collapsing of one upstream. `L` is what a landing brings, cheap to clone.
#[derive(Debug)]
pub struct Collapsing<L> {
    routes: Mutex<HashMap<CacheKey, Route<L>>>,
    /// Fingerprints of keys whose last answer was for its caller alone, each in the place that its hash names. Two keys in
    /// one place push each other out, which costs a wait; no key costs memory.
    alone: Box<[AtomicU64]>,
    hasher: ahash::RandomState,
}

const ALONE_PLACES: usize = 4_096;

#[derive(Debug)]
struct Route<L> {
    current: Flight<L>,
    queued: Option<Flight<L>>,
}

/// `covers` is set when the flight departs.
#[derive(Debug)]
struct Flight<L> {
    covers: Arc<OnceLock<Coverage>>,
    /// Another flight for the key, sent before this one, has landed since this one departed. Without tokens nobody can
    /// tell which of the two shows the newer state, and who has seen the other must not be handed this one.
    overlapped: bool,
    landing: Arc<ResultCell<L>>,
}

/// Where a request sits after boarding.
#[derive(Debug)]
pub enum Role<L> {
    /// It leads a flight: take the snapshot with [`Leader::depart`], exchange, and [`Leader::land`].
    Lead(Leader<L>),
    /// It waits for somebody else's.
    Follow(Follower<L>),
}

/// Leads one flight. Dropped without landing, it lets its followers ask for themselves.
#[derive(Debug)]
pub struct Leader<L> {
    collapsing: Arc<Collapsing<L>>,
    key: CacheKey,
    covers: Arc<OnceLock<Coverage>>,
    landing: Arc<ResultCell<L>>,
    waits_for: Option<Waiting<L>>,
}

/// Waits for a flight to land.
#[derive(Debug)]
pub struct Follower<L> {
    landed: Waiting<L>,
    /// The flight had not departed when this seat was taken: its answer is as new as one of the follower's own.
    pub departs_later: bool,
}

impl<L> Default for Collapsing<L> {
    fn default() -> Self {
        Self {
            routes: Mutex::new(HashMap::new()),
            alone: (0..ALONE_PLACES).map(|_| AtomicU64::new(0)).collect(),
            hasher: ahash::RandomState::new(),
        }
    }
}

impl<L: Clone> Collapsing<L> {
    /// Boards the current flight for `key` if `satisfies` its coverage, else the queued one, else leads a new one.
    ///
    /// `snapshot` is called under the lock if the request is to lead at once, so that nobody can board before the coverage
    /// is known.
    pub fn board(
        self: &Arc<Self>,
        key: &CacheKey,
        satisfies: impl FnOnce(Coverage) -> bool,
        snapshot: impl FnOnce() -> Coverage,
    ) -> Role<L> {
        let mut routes = self.lock();
        let Some(route) = routes.get_mut(key) else {
            let (leader, flight) = self.assemble(key, None);
            let _first = leader.covers.set(snapshot());
            routes.insert(key.clone(), Route { current: flight, queued: None });
            return Role::Lead(leader);
        };
        // A flight that has not departed will take its snapshot after this request asked: anybody may board.
        let departed = route.current.covers.get();
        if departed.is_none_or(|covers| !route.current.overlapped && satisfies(*covers)) {
            let landed = route.current.landing.wait();
            return Role::Follow(Follower { landed, departs_later: departed.is_none() });
        }
        if let Some(queued) = &route.queued {
            return Role::Follow(Follower { landed: queued.landing.wait(), departs_later: true });
        }
        let (leader, flight) = self.assemble(key, Some(route.current.landing.wait()));
        route.queued = Some(flight);
        Role::Lead(leader)
    }

    /// Whether whoever boards a flight for this key is likely to wait for an answer that he may not use.
    #[must_use]
    pub fn waits_in_vain(&self, key: &CacheKey) -> bool {
        let (place, fingerprint) = self.place_of(key);
        place.load(Ordering::Relaxed) == fingerprint
    }

    /// Remembers whether the last answer for this key was for its caller alone.
    pub fn remember(&self, key: &CacheKey, was_alone: bool) {
        let (place, fingerprint) = self.place_of(key);
        if was_alone {
            place.store(fingerprint, Ordering::Relaxed);
        } else {
            // Fails where another key stands, which then stays.
            let _other = place.compare_exchange(fingerprint, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn place_of(&self, key: &CacheKey) -> (&AtomicU64, u64) {
        // Zero stands for no key.
        let fingerprint = self.hasher.hash_one(key) | 1;
        let number = usize::try_from(fingerprint >> 1).unwrap_or_default() % ALONE_PLACES;
        (&self.alone[number], fingerprint)
    }

    fn assemble(self: &Arc<Self>, key: &CacheKey, waits_for: Option<Waiting<L>>) -> (Leader<L>, Flight<L>) {
        let landing = Arc::new(ResultCell::default());
        let covers = Arc::new(OnceLock::new());
        let flight = Flight { covers: Arc::clone(&covers), overlapped: false, landing: Arc::clone(&landing) };
        (Leader { collapsing: Arc::clone(self), key: key.clone(), covers, landing, waits_for }, flight)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, Route<L>>> {
        // Nothing under this lock can panic half way through a change.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Clone> Leader<L> {
    /// The coverage, taken now if the flight was queued: waits first until the flight ahead has landed, or `patience` is
    /// over. From here on requests may board by coverage.
    pub async fn depart(&mut self, patience: Duration, snapshot: impl FnOnce() -> Coverage) -> Coverage {
        if let Some(ahead) = self.waits_for.take() {
            // Landed, given up, or too slow: in each case this flight departs.
            let _outcome = tokio::time::timeout(patience, ahead.landed()).await;
            let mut routes = self.collapsing.lock();
            let covers = *self.covers.get_or_init(snapshot);
            if let Some(route) = routes.get_mut(&self.key)
                && let Some(queued) = route.queued.take_if(|queued| Arc::ptr_eq(&queued.covers, &self.covers))
            {
                // Out of patience: the flight ahead goes on for those on board, and is no longer offered.
                route.current = queued;
            }
            return covers;
        }
        *self.covers.get_or_init(snapshot)
    }

    /// Hands the landing to everyone on board and lets the next flight depart.
    pub fn land(self, landing: L) {
        // First: whoever asks again because of what this landing is must not board the same flight once more.
        self.leave();
        self.landing.bring(Some(landing));
    }

    /// Resolves when nobody waits for this flight any more.
    pub async fn abandoned(&self) {
        self.landing.abandoned().await;
    }

    /// One more seat, for the request that caused this flight.
    #[must_use]
    pub fn follow(&self) -> Follower<L> {
        Follower { landed: self.landing.wait(), departs_later: true }
    }
}

impl<L> Leader<L> {
    fn leave(&self) {
        let mut routes = self.collapsing.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(route) = routes.get_mut(&self.key) else { return };
        if Arc::ptr_eq(&route.current.covers, &self.covers) {
            match route.queued.take() {
                // Its leader is woken by the landing, or by its being given up, and takes its snapshot then.
                Some(queued) => route.current = queued,
                None => {
                    routes.remove(&self.key);
                }
            }
        } else if route.queued.take_if(|queued| Arc::ptr_eq(&queued.covers, &self.covers)).is_none() {
            // Out of patience, the current flight has overtaken this one.
            route.current.overlapped = true;
        }
    }
}

impl<L> Drop for Leader<L> {
    fn drop(&mut self) {
        if !self.landing.has_landed() {
            self.leave();
            self.landing.bring(None);
        }
    }
}

impl<L: Clone> Follower<L> {
    /// What the flight brought; `None` if it was given up, and the follower has to ask for itself.
    pub async fn landed(self) -> Option<L> {
        self.landed.landed().await
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Wake, Waker};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn key() -> CacheKey {
        CacheKey::new("main", "", "/kv/a")
    }

    fn sent(order: u64) -> Coverage {
        Coverage { sent_order: order, ..Coverage::default() }
    }

    fn board(collapsing: &Arc<Collapsing<u32>>, satisfies: bool) -> Role<u32> {
        collapsing.board(&key(), |_| satisfies, || sent(1))
    }

    fn lead(seat: Role<u32>) -> Leader<u32> {
        match seat {
            Role::Lead(leader) => leader,
            Role::Follow(_) => panic!("follows where it should lead"),
        }
    }

    fn follow(seat: Role<u32>) -> Follower<u32> {
        match seat {
            Role::Follow(follower) => follower,
            Role::Lead(_) => panic!("leads where it should follow"),
        }
    }

    #[test]
    fn keys_whose_answers_are_for_one_caller_alone_are_remembered_until_one_is_not() {
        let collapsing = Collapsing::<u32>::default();
        let other = CacheKey::new("main", "", "/kv/b");
        assert!(!collapsing.waits_in_vain(&key()));
        collapsing.remember(&key(), true);
        assert!(collapsing.waits_in_vain(&key()));
        assert!(!collapsing.waits_in_vain(&other));
        collapsing.remember(&other, false);
        assert!(collapsing.waits_in_vain(&key()));
        collapsing.remember(&key(), false);
        assert!(!collapsing.waits_in_vain(&key()));
    }

    #[tokio::test]
    async fn those_whom_the_coverage_satisfies_share_one_landing() {
        let collapsing = Arc::new(Collapsing::default());
        let leader = lead(board(&collapsing, true));
        let followers: Vec<_> = (0..50).map(|_| follow(board(&collapsing, true))).collect();
        assert_eq!(collapsing.lock().len(), 1);
        leader.land(7);
        for follower in followers {
            assert_eq!(follower.landed().await, Some(7));
        }
        assert_eq!(collapsing.lock().len(), 0);
    }

    #[tokio::test]
    async fn the_others_share_the_one_queued_flight_whose_snapshot_comes_last() {
        let collapsing = Arc::new(Collapsing::default());
        let first = lead(board(&collapsing, true));
        let mut queued = lead(board(&collapsing, false));
        let waiting = follow(board(&collapsing, false));
        let late = {
            let mut departing = std::pin::pin!(queued.depart(PATIENCE, || sent(2)));
            assert!(futures_util::poll!(departing.as_mut()).is_pending(), "waits for the flight ahead");
            first.land(1);
            // Boards between the landing and the departure: the snapshot is still to come.
            let late = follow(board(&collapsing, false));
            assert_eq!(departing.await, sent(2));
            late
        };
        // After the departure only by coverage.
        let _next = lead(board(&collapsing, false));
        let satisfied = follow(board(&collapsing, true));
        queued.land(2);
        for follower in [waiting, late, satisfied] {
            assert_eq!(follower.landed().await, Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_queued_flight_departs_when_its_patience_is_over() {
        let collapsing = Arc::new(Collapsing::default());
        let slow = lead(board(&collapsing, true));
        let slow_follower = follow(board(&collapsing, true));
        let mut queued = lead(board(&collapsing, false));
        assert_eq!(queued.depart(PATIENCE, || sent(2)).await, sent(2));
        let follower = follow(board(&collapsing, true));
        let another = follow(board(&collapsing, true));
        slow.land(1);
        assert_eq!(slow_follower.landed().await, Some(1));
        queued.land(2);
        assert_eq!((follower.landed().await, another.landed().await), (Some(2), Some(2)));
        assert_eq!(collapsing.lock().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_boards_a_flight_in_the_air_after_one_that_it_has_overtaken_has_landed() {
        let collapsing = Arc::new(Collapsing::default());
        let slow = lead(board(&collapsing, true));
        let mut overtaking = lead(board(&collapsing, false));
        assert_eq!(overtaking.depart(PATIENCE, || sent(2)).await, sent(2));
        let on_board = follow(board(&collapsing, true));
        slow.land(1);
        let mut next = lead(board(&collapsing, true));
        overtaking.land(2);
        assert_eq!(on_board.landed().await, Some(2));
        assert_eq!(next.depart(PATIENCE, || sent(3)).await, sent(3));
        let satisfied = follow(board(&collapsing, true));
        next.land(3);
        assert_eq!(satisfied.landed().await, Some(3));
    }

    #[tokio::test]
    async fn a_flight_that_is_given_up_leaves_nobody_waiting() {
        let collapsing = Arc::new(Collapsing::default());
        let leader = lead(board(&collapsing, true));
        let follower = follow(board(&collapsing, true));
        let mut queued = lead(board(&collapsing, false));
        drop(leader);
        assert_eq!(follower.landed().await, None);
        assert_eq!(queued.depart(PATIENCE, || sent(2)).await, sent(2));
        drop(queued);
        assert_eq!(collapsing.lock().len(), 0);
    }

    /// Boards as soon as it is woken.
    #[derive(Debug)]
    struct AsksAgain {
        collapsing: Arc<Collapsing<u32>>,
        seat: Mutex<Option<Role<u32>>>,
    }

    impl Wake for AsksAgain {
        fn wake(self: Arc<Self>) {
            *self.seat.lock().expect("no panic") = Some(board(&self.collapsing, true));
        }
    }

    #[test]
    fn whoever_asks_again_because_of_a_landing_does_not_board_what_has_landed() {
        let collapsing = Arc::new(Collapsing::default());
        let leader = lead(board(&collapsing, true));
        let asks_again = Arc::new(AsksAgain { collapsing: Arc::clone(&collapsing), seat: Mutex::default() });
        let mut waiting = Box::pin(follow(board(&collapsing, true)).landed());
        let waker = Waker::from(Arc::clone(&asks_again));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        leader.land(7);
        let next = lead(asks_again.seat.lock().expect("no panic").take().expect("woken"));
        let _on_board = follow(board(&collapsing, true));
        next.land(8);
    }

    #[tokio::test]
    async fn a_flight_that_nobody_waits_for_knows_it() {
        let collapsing = Arc::new(Collapsing::default());
        let leader = lead(board(&collapsing, true));
        let own = leader.follow();
        let other = follow(board(&collapsing, true));
        let mut abandoned = std::pin::pin!(leader.abandoned());
        drop(own);
        assert!(futures_util::poll!(abandoned.as_mut()).is_pending());
        drop(other);
        assert!(futures_util::poll!(abandoned.as_mut()).is_ready());
    }
}
