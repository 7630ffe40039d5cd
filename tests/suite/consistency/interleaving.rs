//! Every order in which two callers' steps through aggregate, write log, store and collapsing can come, one after the other.
//!
//! A caller is a future that stops before each atomic step (each is one call of production code, which takes its lock or reads
//! its atomics inside); an explorer resumes one caller at a time and tries all choices, or all within a bound of preemptions
//! where there are too many. The origin is the hardest that the contract permits: it shows the oldest state that the tokens
//! sent with a request allow, and answers with the newest token there is.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tagalong::internals::clock::Timestamp;
use tagalong::internals::store::{MemoryStore, Store};
use tagalong::internals::stored_response::{CacheKey, StoredPolicy, StoredResponse};
use tagalong::internals::sync_token::clauses::Clauses;
use tagalong::internals::sync_token::coverage::{Coverage, CoverageVerdict};
use tagalong::internals::sync_token::resource_order::OrderScope;
use tagalong::internals::sync_token::session::{
    Received, Revelation, SYNC_TOKEN, Session, SessionSnapshot, WriteOutcome,
};
use tagalong::internals::sync_token::write_log::IndexLookUp;
use tagalong::internals::upstream::collapse::{Collapsing, Leader, Role};

use super::checker::{Verdict, check};
use super::history::{Event, Moment, Operation, Outcome, Value, print};

/// What one caller does, one operation after the other.
#[derive(Clone, Copy)]
enum Does {
    Read,
    Write,
    /// A write whose answer is lost.
    WriteUnanswered,
    /// The origin is restored to its first state, and then the tokens are reset.
    Restore,
}

struct World {
    session: Session<()>,
    store: MemoryStore,
    collapsing: Arc<Collapsing<Arc<StoredResponse>>>,
    key: CacheKey,
    tokens: bool,
    /// Values in the order of their effects; the number of them is the token.
    origin: RefCell<Vec<Value>>,
    order: Cell<u64>,
    events: RefCell<Vec<Event>>,
}

/// One step ends here and the next may be another caller's.
fn step() -> impl Future<Output = ()> {
    let mut stopped = false;
    std::future::poll_fn(move |context| {
        if std::mem::replace(&mut stopped, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

impl World {
    fn new(clauses: Clauses, tokens: bool) -> Rc<Self> {
        let world = Self {
            session: Session::new(clauses),
            store: MemoryStore::new(1 << 20, 8),
            collapsing: Arc::default(),
            key: CacheKey::new("main", "", "/kv/a"),
            tokens,
            origin: RefCell::default(),
            order: Cell::new(0),
            events: RefCell::default(),
        };
        Rc::new(world)
    }

    fn moment(&self) -> Moment {
        self.order.set(self.order.get() + 1);
        Moment { order: self.order.get(), at: Duration::from_millis(self.order.get()) }
    }

    fn record(&self, caller: u16, operation: Operation, outcome: Outcome, invoked: Moment) {
        let responded = (outcome != Outcome::Unknown).then(|| self.moment());
        self.events.borrow_mut().push(Event { caller, operation, outcome, invoked, responded });
    }

    /// What the origin shows to a request with this token, and the token of its answer.
    fn asked(&self, snapshot: &SessionSnapshot) -> (Option<Value>, HeaderMap) {
        let log = self.origin.borrow();
        let sent = snapshot
            .sync_token
            .as_ref()
            .and_then(|line| line.to_str().ok()?.strip_prefix("id=v")?.parse().ok());
        let shown = if self.tokens { sent.unwrap_or(0).min(log.len()) } else { log.len() };
        (shown.checked_sub(1).map(|last| log[last]), self.newest_token())
    }

    fn newest_token(&self) -> HeaderMap {
        let newest = self.origin.borrow().len();
        let line = HeaderValue::from_str(&format!("id=v{newest};sn={newest}")).expect("well-formed");
        HeaderMap::from_iter(self.tokens.then_some((SYNC_TOKEN, line)))
    }

    fn covered(&self, covers: Coverage) -> bool {
        let presented = self.session.requirement(&HeaderMap::new());
        self.session.verdict(covers, &presented, OrderScope::Upstream, || IndexLookUp::Any(1), |()| true)
            == CoverageVerdict::Covered
    }

    async fn read(self: Rc<Self>, caller: u16) {
        let invoked = self.moment();
        let shown = loop {
            step().await;
            let stored = self.store.variants(&self.key).map(|variants| Arc::clone(&variants.as_slice()[0]));
            step().await;
            if let Some(stored) = stored.filter(|stored| self.covered(stored.covers)) {
                break value_of(&stored);
            }
            step().await;
            let mut taken = None;
            let joins = |covers| !self.session.clauses().joiner_checks_snapshot() || self.covered(covers);
            let role = self.collapsing.join(&self.key, joins, || {
                let snapshot = self.session.snapshot(&[]);
                let covers = snapshot.covers;
                taken = Some(snapshot);
                covers
            });
            match role {
                Role::Lead(leader) => break value_of(self.lead(leader, taken).await.as_ref()),
                Role::Follow(follower) => {
                    if let Some(result) = follower.result().await {
                        break value_of(&result);
                    }
                }
            }
        };
        self.record(caller, Operation::Read, Outcome::Shown(shown), invoked);
    }

    async fn lead(
        &self,
        mut leader: Leader<Arc<StoredResponse>>,
        mut taken: Option<SessionSnapshot>,
    ) -> Arc<StoredResponse> {
        step().await;
        let start = leader.start(Duration::from_secs(1), || {
            let snapshot = self.session.snapshot(&[]);
            let covers = snapshot.covers;
            taken = Some(snapshot);
            covers
        });
        start.await;
        let snapshot = taken.expect("taken when it led or when it started");
        step().await;
        let (shown, fields) = self.asked(&snapshot);
        step().await;
        let tokens = self.session.observe(snapshot.covers, &fields, Timestamp::default());
        step().await;
        let received = Received { tokens, ..Received::default() };
        let stored = self.store.variants(&self.key).map(|variants| value_of(&variants.as_slice()[0]));
        let revelation = if stored == Some(shown) {
            0
        } else {
            self.session.reveal(&snapshot, &received, Revelation::Raises, OrderScope::Upstream).revelation
        };
        step().await;
        let covers = self.session.covers_as_received(snapshot.covers);
        let response = Arc::new(response(shown, Coverage { revelation, ..covers }));
        self.store.put(&self.key, StoredResponse::clone(&response));
        step().await;
        leader.share(Arc::clone(&response));
        response
    }

    async fn write(self: Rc<Self>, caller: u16, value: Value, answered: bool) {
        let invoked = self.moment();
        step().await;
        let write = self.session.open_write(());
        step().await;
        let snapshot = self.session.snapshot(&[]);
        step().await;
        self.origin.borrow_mut().push(value);
        let fields = self.newest_token();
        step().await;
        if answered {
            let _tokens = self.session.observe(snapshot.covers, &fields, Timestamp::default());
            step().await;
        }
        let outcome = if answered { WriteOutcome::Happened } else { WriteOutcome::Unknown };
        let _stays_open = self.session.close_write(write, outcome, |footprint| footprint);
        step().await;
        let outcome = if answered { Outcome::Done } else { Outcome::Unknown };
        self.record(caller, Operation::Put(value), outcome, invoked);
    }

    async fn restore(self: Rc<Self>) {
        step().await;
        self.origin.borrow_mut().truncate(1);
        step().await;
        self.session.reset();
    }

    fn older_state_was_shown(&self) -> Option<String> {
        let events = self.events.borrow();
        match check(&events) {
            Verdict::Linearizable => None,
            Verdict::Undecided => panic!("so few operations can always be decided"),
            Verdict::Violation(_) => Some(print(&events)),
        }
    }

    /// A token higher than the restored origin's, or a state that it never had and that no request would validate.
    fn what_was_before_the_restoration_remains(&self) -> Option<String> {
        let log = self.origin.borrow();
        let line = self.session.response_line();
        let observed = line.as_ref().and_then(|line| line.to_str().ok()?.split_once("sn=")?.1.parse().ok());
        let variants = self.store.variants(&self.key);
        let stored = variants.as_ref().map(|variants| &variants.as_slice()[0]);
        let unknown = stored.is_some_and(|stored| {
            self.covered(stored.covers) && value_of(stored).is_some_and(|value| !log.contains(&value))
        });
        (unknown || observed > Some(log.len())).then(|| format!("{line:?} {stored:?} after {log:?}"))
    }
}

fn response(shown: Option<Value>, covers: Coverage) -> StoredResponse {
    StoredResponse {
        body: Bytes::from(shown.map(|value| value.to_string()).unwrap_or_default()),
        covers,
        policy: StoredPolicy { freshness_lifetime: Duration::from_secs(30), ..StoredPolicy::default() },
        ..StoredResponse::default()
    }
}

fn value_of(response: &StoredResponse) -> Option<Value> {
    std::str::from_utf8(&response.body).expect("digits").parse().ok()
}

/// One caller and whether it can go on.
struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    ready: Arc<Ready>,
    done: bool,
}

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What is tried next at each point where there was a choice: which of the callers that could go on, of how many.
#[derive(Default)]
struct Choices {
    made: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, of: usize) -> usize {
        if self.at == self.made.len() {
            self.made.push((0, of));
        }
        let (choice, options) = self.made[self.at];
        assert_eq!(options, of, "the same choices lead to the same place");
        self.at += 1;
        choice
    }

    /// Turns to the next path not yet taken.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, options)) = self.made.pop() {
            if choice + 1 < options {
                self.made.push((choice + 1, options));
                return true;
            }
        }
        false
    }
}

struct Explored {
    orders: usize,
    violation: Option<String>,
}

/// Tries every order with at most `preemptions` changes away from a caller that could have gone on.
fn explore(
    callers: &[&[Does]],
    clauses: Clauses,
    tokens: bool,
    preemptions: usize,
    violation: fn(&World) -> Option<String>,
) -> Explored {
    // Queued fetches set a timer; simulated time never reaches it here.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs no resources");
    let _entered = runtime.enter();
    let mut choices = Choices::default();
    let mut orders = 0;
    loop {
        orders += 1;
        let world = run_one(callers, clauses, tokens, preemptions, &mut choices);
        let violation = violation(&world);
        if violation.is_some() || !choices.advance() {
            return Explored { orders, violation };
        }
    }
}

fn run_one(
    callers: &[&[Does]],
    clauses: Clauses,
    tokens: bool,
    preemptions: usize,
    choices: &mut Choices,
) -> Rc<World> {
    let world = World::new(clauses, tokens);
    // A value is there, and stored with the coverage of its time.
    let mut before = task(Rc::clone(&world), 99, VecDeque::from([Does::Write, Does::Read]));
    while !before.done {
        resume(&mut before);
    }
    let mut tasks: Vec<Task> = (0_u16..)
        .zip(callers)
        .map(|(number, does)| task(Rc::clone(&world), number, does.iter().copied().collect()))
        .collect();
    let mut preemptions_left = preemptions;
    let mut last = None;
    loop {
        let able: Vec<usize> = tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| !task.done && task.ready.0.load(Ordering::SeqCst))
            .map(|(number, _)| number)
            .collect();
        let goes_on = last.filter(|last| able.contains(last));
        let next = match (able.as_slice(), goes_on) {
            ([], _) => break,
            (_, Some(last)) if preemptions_left == 0 => last,
            (able, goes_on) => {
                let choice = able[choices.choose(able.len())];
                preemptions_left -= usize::from(goes_on.is_some_and(|last| last != choice));
                choice
            }
        };
        resume(&mut tasks[next]);
        last = Some(next);
    }
    assert!(tasks.iter().all(|task| task.done), "a caller waits for what never comes");
    world
}

fn resume(task: &mut Task) {
    task.ready.0.store(false, Ordering::SeqCst);
    let waker = Waker::from(Arc::clone(&task.ready));
    task.done = task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
}

fn task(world: Rc<World>, caller: u16, does: VecDeque<Does>) -> Task {
    let future = Box::pin(async move {
        for (value, does) in (u32::from(caller) * 10..).zip(does) {
            let world = Rc::clone(&world);
            match does {
                Does::Read => world.read(caller).await,
                Does::Write => world.write(caller, value, true).await,
                Does::WriteUnanswered => world.write(caller, value, false).await,
                Does::Restore => world.restore().await,
            }
        }
    });
    Task { future, ready: Arc::new(Ready(AtomicBool::new(true))), done: false }
}

use Does::{Read, Restore, Write, WriteUnanswered};

const ANY: usize = usize::MAX;

/// Pairs of callers, and how many preemptions of their steps are tried.
const PAIRS: [(&[&[Does]], usize); 7] = [
    (&[&[Write], &[Read]], ANY),
    (&[&[Read], &[Read]], ANY),
    (&[&[Write], &[Write]], ANY),
    (&[&[Write], &[Write, Read]], 3),
    (&[&[Write, Read], &[Read, Read]], 3),
    (&[&[WriteUnanswered, Read], &[Read, Read]], 3),
    (&[&[Write, Write], &[Read, Read]], 3),
];

fn holds(pairs: &[(&[&[Does]], usize)]) {
    for tokens in [true, false] {
        for (callers, preemptions) in pairs {
            let explored = explore(callers, Clauses::ALL, tokens, *preemptions, World::older_state_was_shown);
            assert_eq!(explored.violation, None, "after {} orders", explored.orders);
            println!("{} orders", explored.orders);
        }
    }
}

#[test]
fn after_a_reset_nothing_of_what_was_under_way_is_remembered() {
    for (callers, preemptions) in
        [(&[&[Restore][..], &[Write, Read]][..], ANY), (&[&[Restore], &[Write], &[Read]], 3)]
    {
        let judge = World::what_was_before_the_restoration_remains;
        let explored = explore(callers, Clauses::ALL, true, preemptions, judge);
        assert_eq!(explored.violation, None, "after {} orders", explored.orders);
        println!("{} orders", explored.orders);
    }
}

#[test]
fn no_order_of_steps_shows_an_older_state() {
    holds(&PAIRS);
}

#[test]
#[ignore = "by hand: every order, some millions"]
fn no_order_at_all_shows_an_older_state() {
    holds(&[(&[&[Write], &[Write, Read]], ANY), (&[&[Write, Read], &[Read]], ANY)]);
}

#[test]
fn without_a_clause_some_order_does() {
    let all = Clauses::ALL;
    for (name, clauses) in [
        ("covers_writes", Clauses { covers_writes: false, ..all }),
        ("snapshot_counts_closed", Clauses { snapshot_counts_closed: false, ..all }),
        ("joiner_checks_snapshot", Clauses { joiner_checks_snapshot: false, ..all }),
    ] {
        let found = PAIRS.iter().find_map(|(callers, preemptions)| {
            explore(callers, clauses, false, *preemptions, World::older_state_was_shown).violation
        });
        let shown = found.unwrap_or_else(|| panic!("{name}: no order shows that it is needed"));
        println!("without {name}:\n{shown}");
    }
}
