//! What one connection is doing, and since when; and when that is too long.
//!
//! hyper's own header timer costs about a fifth of a hit and knows neither idle connections nor slow readers. Here a
//! connection writes down the number of the current tick when something begins or ends (a store to memory, no clock, no timer),
//! and one sweeper a runtime looks at all of them between ticks.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

/// A number of ticks since the sweeper began; zero says that nothing is under way.
type Tick = u32;

/// The sweeper's clock: a count that connections read without asking the system for the time.
#[derive(Debug)]
pub(super) struct Ticks(AtomicU32);

impl Default for Ticks {
    fn default() -> Self {
        Self(AtomicU32::new(1))
    }
}

impl Ticks {
    fn now(&self) -> Tick {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why the sweeper cuts a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CutReason {
    /// No complete header section within the deadline, from the first byte of the request or, on a new connection, from its
    /// start.
    SlowHeader,
    /// No further request within the deadline.
    Idle,
    /// The caller takes none of the answer that waits for it.
    SlowReader,
    /// The time to drain has passed, or nothing had been sent when draining began.
    Drained,
}

/// What a connection has been told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Serve,
    Drain,
    Cut(CutReason),
}

/// The deadlines of a connection in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TickLimits {
    pub(super) header: u32,
    pub(super) idle: u32,
    pub(super) write_stall: u32,
}

impl TickLimits {
    /// The number of whole ticks that make up at least `duration`.
    pub(super) fn ticks(duration: Duration, tick: Duration) -> u32 {
        u32::try_from(duration.as_nanos().div_ceil(tick.as_nanos().max(1))).unwrap_or(u32::MAX)
    }
}

/// What a connection is doing, written by the connection and read by the sweeper.
///
/// All accesses are relaxed: what is read a moment too late is seen at the next sweep.
#[derive(Debug)]
pub(super) struct Activity {
    ticks: Arc<Ticks>,
    /// Requests handed to the service whose answers have not been written to the end: at most one under HTTP/1.
    in_service: AtomicU32,
    /// Since when a header section has been awaited; zero between requests and while one is in service.
    header_since: AtomicU32,
    /// When the last answer ended.
    idle_since: AtomicU32,
    /// Since when the peer has taken nothing that is written; zero when it does.
    stalled_since: AtomicU32,
    /// Whether a byte has ever arrived.
    heard: AtomicBool,
    /// Under HTTP/2 bytes between requests are not always a header section: PING and WINDOW_UPDATE are frames as well.
    http2: AtomicBool,
    order: AtomicU8,
    /// How often the connection's task has run.
    turns: AtomicU32,
    /// The connection's task. A task's waker stays the same as long as it lives.
    waker: OnceLock<Waker>,
}

impl Activity {
    /// A connection just accepted: its first header section is awaited from now on.
    pub(super) fn new(ticks: Arc<Ticks>) -> Self {
        let now = ticks.now();
        Self {
            ticks,
            in_service: AtomicU32::new(0),
            header_since: AtomicU32::new(now),
            idle_since: AtomicU32::new(now),
            stalled_since: AtomicU32::new(0),
            heard: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            order: AtomicU8::new(code_of(Order::Serve)),
            turns: AtomicU32::new(0),
            waker: OnceLock::new(),
        }
    }

    /// Whether the connection has to go, by its deadlines.
    pub(super) fn overdue(&self, limits: &TickLimits) -> Option<CutReason> {
        let now = self.ticks.now();
        // One tick more than the limit: the first of them had begun already.
        let passed = |since: Tick, limit: u32| now.wrapping_sub(since) > limit;
        let stalled_since = self.stalled_since.load(Ordering::Relaxed);
        if stalled_since != 0 {
            // Part of an answer still waits here, though the service may be done with it.
            return passed(stalled_since, limits.write_stall).then_some(CutReason::SlowReader);
        }
        if self.is_in_service() {
            return None;
        }
        let header_since = self.header_since.load(Ordering::Relaxed);
        if header_since != 0 && !self.http2.load(Ordering::Relaxed) {
            return passed(header_since, limits.header).then_some(CutReason::SlowHeader);
        }
        passed(self.idle_since.load(Ordering::Relaxed), limits.idle).then_some(CutReason::Idle)
    }

    /// For how many ticks the connection has been between two requests, or silent from its start; `None` if it is neither, or told to
    /// close already. Such a one gives way to a new connection where no more are allowed, unless its caller was just here: one that
    /// asks again and again is not idle.
    pub(super) fn idle_ticks(&self) -> Option<u32> {
        let is_idle = !self.is_in_service()
            && self.stalled_since.load(Ordering::Relaxed) == 0
            && (self.header_since.load(Ordering::Relaxed) == 0 || !self.heard())
            && self.order() == Order::Serve;
        let ticks = self.ticks.now().wrapping_sub(self.idle_since.load(Ordering::Relaxed));
        (is_idle && ticks >= 2).then_some(ticks)
    }

    /// Whether a byte has ever arrived.
    pub(super) fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    fn is_in_service(&self) -> bool {
        self.in_service.load(Ordering::Relaxed) > 0
    }

    /// Whether an HTTP/1 request is with the service, or its answer on the way.
    pub(super) fn is_in_http1_service(&self) -> bool {
        self.is_in_service() && !self.http2.load(Ordering::Relaxed)
    }

    /// Tells the connection's task; a cut is not taken back. Repeating an order is harmless and wakes the task again.
    pub(super) fn tell(&self, order: Order) {
        if !matches!(self.order(), Order::Cut(_)) {
            self.order.store(code_of(order), Ordering::SeqCst);
        }
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// What the connection has been told.
    pub(super) fn order(&self) -> Order {
        order_of(self.order.load(Ordering::SeqCst))
    }

    /// Which turn of the connection's task this is.
    pub(super) fn turn(&self) -> u32 {
        self.turns.load(Ordering::Relaxed)
    }

    /// A turn of the connection's task begins. The task is remembered, so that an order can wake it.
    pub(super) fn served_by(&self, context: &Context<'_>) {
        // Only this task writes it.
        self.turns.store(self.turn().wrapping_add(1), Ordering::Relaxed);
        if self.waker.get().is_none() {
            // Only this task sets it.
            let _ = self.waker.set(context.waker().clone());
        }
    }

    /// Takes note that bytes have arrived; says whether an HTTP/1 request begins with them.
    pub(super) fn received(&self) -> bool {
        let mut begins = false;
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
            begins = true;
        }
        if self.header_since.load(Ordering::Relaxed) == 0 && !self.is_in_service() {
            self.header_since.store(self.ticks.now(), Ordering::Relaxed);
            begins = true;
        }
        begins && !self.http2.load(Ordering::Relaxed)
    }

    pub(super) fn wrote(&self, made_progress: bool) {
        let stalled = self.stalled_since.load(Ordering::Relaxed) != 0;
        if made_progress && stalled {
            self.idle_since.store(self.ticks.now(), Ordering::Relaxed);
            self.stalled_since.store(0, Ordering::Relaxed);
        } else if !made_progress && !stalled {
            self.stalled_since.store(self.ticks.now(), Ordering::Relaxed);
        }
    }
}

const fn code_of(order: Order) -> u8 {
    match order {
        Order::Serve => 0,
        Order::Drain => 1,
        Order::Cut(CutReason::SlowHeader) => 2,
        Order::Cut(CutReason::Idle) => 3,
        Order::Cut(CutReason::SlowReader) => 4,
        Order::Cut(CutReason::Drained) => 5,
    }
}

const fn order_of(code: u8) -> Order {
    match code {
        0 => Order::Serve,
        1 => Order::Drain,
        2 => Order::Cut(CutReason::SlowHeader),
        3 => Order::Cut(CutReason::Idle),
        4 => Order::Cut(CutReason::SlowReader),
        _ => Order::Cut(CutReason::Drained),
    }
}

/// Held from the end of a request's header section until its answer has been handed over to the last byte.
#[derive(Debug)]
pub(super) struct InService(Arc<Activity>);

impl InService {
    pub(super) fn begin(activity: &Arc<Activity>, version: http::Version) -> Self {
        activity.in_service.fetch_add(1, Ordering::Relaxed);
        activity.header_since.store(0, Ordering::Relaxed);
        if version == http::Version::HTTP_2 {
            activity.http2.store(true, Ordering::Relaxed);
        }
        Self(Arc::clone(activity))
    }
}

impl Drop for InService {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.ticks.now(), Ordering::Relaxed);
        self.0.in_service.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    const LIMITS: TickLimits = TickLimits { header: 10, idle: 60, write_stall: 30 };

    fn connection() -> (Arc<Ticks>, Arc<Activity>) {
        let ticks = Arc::new(Ticks::default());
        let activity = Arc::new(Activity::new(Arc::clone(&ticks)));
        (ticks, activity)
    }

    /// Advances until the connection is overdue, and says after how many ticks and why.
    fn overdue_after(ticks: &Ticks, activity: &Activity) -> Option<(u32, CutReason)> {
        (1..=200).find_map(|passed| {
            ticks.advance();
            activity.overdue(&LIMITS).map(|reason| (passed, reason))
        })
    }

    #[test]
    fn a_silent_new_connection_counts_as_a_slow_header() {
        let (ticks, activity) = connection();
        assert_eq!(overdue_after(&ticks, &activity), Some((11, CutReason::SlowHeader)));
    }

    #[test]
    fn bytes_that_trickle_in_do_not_extend_the_header_deadline() {
        let (ticks, activity) = connection();
        drop(InService::begin(&activity, Version::HTTP_11));
        for _ in 0..5 {
            ticks.advance();
        }
        activity.received();
        for _ in 0..9 {
            ticks.advance();
            activity.received();
            assert_eq!(activity.overdue(&LIMITS), None);
        }
        ticks.advance();
        ticks.advance();
        assert_eq!(activity.overdue(&LIMITS), Some(CutReason::SlowHeader));
    }

    #[test]
    fn between_requests_the_idle_deadline_counts_from_the_last_answer() {
        let (ticks, activity) = connection();
        let in_service = InService::begin(&activity, Version::HTTP_11);
        assert_eq!(overdue_after(&ticks, &activity), None, "whatever the service does, it is not idle");
        drop(in_service);
        assert_eq!(overdue_after(&ticks, &activity), Some((61, CutReason::Idle)));
    }

    #[test]
    fn a_body_that_arrives_in_service_starts_no_header() {
        let (ticks, activity) = connection();
        let in_service = InService::begin(&activity, Version::HTTP_11);
        activity.received();
        drop(in_service);
        assert_eq!(overdue_after(&ticks, &activity), Some((61, CutReason::Idle)));
    }

    #[test]
    fn a_reader_that_takes_nothing_is_cut_and_one_that_takes_a_little_is_not() {
        let (ticks, activity) = connection();
        let _in_service = InService::begin(&activity, Version::HTTP_11);
        for _ in 0..10 {
            activity.wrote(false);
            for _ in 0..30 {
                ticks.advance();
                assert_eq!(activity.overdue(&LIMITS), None);
            }
            activity.wrote(true);
        }
        activity.wrote(false);
        assert_eq!(overdue_after(&ticks, &activity), Some((31, CutReason::SlowReader)));
    }

    #[test]
    fn frames_between_http2_requests_are_no_header() {
        let (ticks, activity) = connection();
        drop(InService::begin(&activity, Version::HTTP_2));
        activity.received();
        assert_eq!(overdue_after(&ticks, &activity), Some((61, CutReason::Idle)));
    }

    #[test]
    fn a_cut_is_not_taken_back() {
        let (_, activity) = connection();
        for order in [Order::Serve, Order::Drain, Order::Cut(CutReason::SlowReader)] {
            activity.tell(order);
            assert_eq!(activity.order(), order);
        }
        activity.tell(Order::Drain);
        assert_eq!(activity.order(), Order::Cut(CutReason::SlowReader));
    }

    #[test]
    fn a_duration_becomes_at_least_as_many_ticks() {
        let tick = Duration::from_millis(500);
        assert_eq!(TickLimits::ticks(Duration::from_secs(10), tick), 20);
        assert_eq!(TickLimits::ticks(Duration::from_millis(10_001), tick), 21);
        assert_eq!(TickLimits::ticks(Duration::MAX, tick), u32::MAX);
    }
}
