//! A simulated origin that keeps exactly the contract that `src/sync_token/mod.rs` states, and nothing more.
//!
//! One log of effects, three replicas that show it late, and front ends in between: a request with a token is answered with
//! state at least as new as the token, and the answer's token is at least as new as the state shown. Which state and which
//! token are drawn from the seed within those bounds; so are delays, lost messages and answers, effects that come late, and
//! errors. Without tokens, or with a constant one, the origin is consistent by itself.
//!
//! Its sequence number rises by itself (`issued_tokens`); its answers look as those of App Configuration do (`origin_answers`).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tagalong::internals::emulator::Emulator;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::emulated;
use super::history::{Moment, Value};
use super::issued_tokens::{self, Demanded, FrontEnd, Tokens};
use super::monotonic::{Truth, Writer};
use super::origin_answers::{self, Held, Target, put_value, status};
use super::timeline::Timeline;

/// How often things go wrong, in thousandths of all requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The request never takes effect, and its connection breaks.
    pub(crate) lost_request: u32,
    /// The request takes effect, and its connection breaks.
    pub(crate) lost_answer: u32,
    /// The answer breaks off in its body.
    pub(crate) broken_body: u32,
    /// The request takes effect (or not), and the answer is 500, 503 or 408.
    pub(crate) error: u32,
    /// A write takes effect long after its sender was told that the outcome is unknown.
    pub(crate) late_effect: u32,
    /// The answer comes after every deadline.
    pub(crate) too_slow: u32,
    /// 429 with `Retry-After`.
    pub(crate) throttled: u32,
}

/// What one origin is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OriginPlan {
    /// Which tokens it hands out.
    pub(crate) tokens: Tokens,
    /// How fast its sequence number rises by itself, in thousandths of one a second.
    pub(crate) drift_millihertz: u32,
    /// Whether a 304 names the tag that it is about. The service of today does not.
    pub(crate) tagged_304: bool,
    /// Items on a page of a list.
    pub(crate) page_size: usize,
    /// How far each replica is behind.
    pub(crate) lags: [Duration; 3],
    /// Most of the time that a message is under way, each way.
    pub(crate) usual_delay: Duration,
    /// The same for the slow ones among them.
    pub(crate) slow_delay: Duration,
    /// Slow messages in thousandths.
    pub(crate) slow: u32,
    /// Faults.
    pub(crate) faults: Faults,
    /// Longer than any deadline of the sidecar.
    pub(crate) beyond_deadlines: Duration,
    /// How late a late effect is at most.
    pub(crate) latest_effect: Duration,
    /// Whether the emulator of this crate keeps the states, instead of the log and replicas of this file. Then the first of
    /// `lags` is the time in which its replicas settle.
    pub(crate) emulated: bool,
    /// `Cache-Control: max-age` of every answer, in seconds, for profiles without a lifetime of their own.
    pub(crate) max_age: Option<u32>,
}

/// An answer of the origin.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A complete one.
    Complete(Response<Bytes>),
    /// One whose connection breaks within the body.
    BreaksOff(Response<Bytes>),
    /// None: the connection breaks.
    Nothing,
}

/// The origin.
pub(crate) struct SimulatedOrigin {
    plan: OriginPlan,
    timeline: Arc<Timeline>,
    emulator: Option<Emulator>,
    state: Mutex<State>,
    /// Wakes every connection, to be cut.
    pub(crate) restarted: Notify,
}

#[derive(Debug)]
struct State {
    rng: fastrand::Rng,
    log: Vec<Effect>,
    truth: Truth,
    /// Tokens that a front end did not understand, each with when.
    ignored: Vec<(u64, String)>,
    /// Every write that arrived: its key, when, and whether its sender was told the outcome.
    writes: Vec<(String, u64, bool)>,
    down_until: Duration,
    requests: u64,
}

/// One effect, with its place in the count of which tokens tell.
#[derive(Clone, Debug)]
struct Effect {
    moment: Moment,
    place: u64,
    key: String,
    value: Option<Value>,
}

/// Everything that chance decides about one exchange, drawn at once so that a seed means the same whatever follows.
struct Draw {
    request_delay: Duration,
    answer_delay: Duration,
    replica: usize,
    front_end: FrontEnd,
    fault: Fault,
    effect_delay: Duration,
    happens: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    LostRequest,
    LostAnswer,
    BrokenBody,
    Error(StatusCode),
    LateEffect,
    TooSlow,
    Throttled,
}

impl SimulatedOrigin {
    pub(crate) fn new(plan: OriginPlan, timeline: Arc<Timeline>, seed: u64) -> Self {
        let clock = timeline.clock().clone();
        let emulator =
            plan.emulated.then(|| emulated::emulator(plan.tokens, plan.page_size, plan.lags[0], clock, seed));
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            log: Vec::new(),
            truth: Truth::default(),
            ignored: Vec::new(),
            writes: Vec::new(),
            down_until: Duration::ZERO,
            requests: 0,
        };
        Self { plan, timeline, emulator, state: Mutex::new(state), restarted: Notify::new() }
    }

    /// Cuts every connection and refuses new ones for a while.
    pub(crate) fn restart(&self, down: Duration) {
        self.lock().down_until = self.timeline.now().at + down;
        self.restarted.notify_waiters();
    }

    pub(crate) fn is_down(&self) -> bool {
        self.timeline.now().at < self.lock().down_until
    }

    /// The order of all effects.
    pub(crate) fn truth(&self) -> Truth {
        self.lock().truth.clone()
    }

    /// Requests that reached the origin.
    pub(crate) fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// Whether before `order` a write to `key` had begun whose outcome its sender never learned.
    pub(crate) fn gave_up_before(&self, key: &str, order: u64) -> bool {
        self.lock().writes.iter().any(|(written, begun, told)| written == key && *begun <= order && !told)
    }

    /// The newest token of one of the ids, as a writer that bypasses the sidecar has it, with what it includes.
    pub(crate) fn newest_token(&self, pick: u8) -> Option<(String, u64)> {
        let order = self.timeline.now().order;
        if let (Some(emulator), true) = (&self.emulator, self.plan.tokens.tell_states_apart()) {
            return Some((emulated::newest_token(emulator), order));
        }
        let place = self.count(&self.lock());
        Some((issued_tokens::presented(self.plan.tokens, place, pick)?, order))
    }

    /// Whether, within these moments, a request with this token reached a front end that does not understand it.
    pub(crate) fn ignored_within(&self, token: &str, from: u64, to: u64) -> bool {
        self.lock().ignored.iter().any(|(order, ignored)| ignored == token && (from..=to).contains(order))
    }

    /// A write that bypasses the sidecar.
    pub(crate) fn write_beside(&self, key: &str, value: Option<Value>) {
        let mut state = self.lock();
        if value.is_some() || state.held(usize::MAX, key).is_some() {
            self.commit(&mut state, key, value, Writer::Foreign);
        }
    }

    /// Answers one request, in simulated time.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Bytes>) -> Answer {
        let draw = self.draw(request.method());
        let is_write = !request.method().is_safe();
        let target = Target::of(request.uri().path(), request.uri().query());
        let write = match &target {
            Target::Key(key) | Target::Lock(key) if is_write => {
                let begun = self.timeline.now().order;
                let mut state = self.lock();
                state.writes.push((key.clone(), begun, false));
                Some(state.writes.len() - 1)
            }
            _ => None,
        };
        // A restart drops this future before it says so.
        let told = || {
            if let Some(write) = write {
                self.lock().writes[write].2 = true;
            }
        };
        sleep(draw.request_delay).await;
        if draw.fault == Fault::LostRequest {
            return Answer::Nothing;
        }
        if draw.fault == Fault::Throttled {
            told();
            let answer =
                Response::builder().status(StatusCode::TOO_MANY_REQUESTS).header("retry-after-ms", "400");
            return Answer::Complete(
                answer.header("retry-after", "1").body(Bytes::new()).expect("well-formed"),
            );
        }
        if is_write && draw.fault == Fault::LateEffect {
            let (origin, happens) = (Arc::clone(self), draw.happens);
            tokio::spawn(async move {
                sleep(draw.effect_delay).await;
                let _unseen_answer = origin.take_effect(request, &target, &draw).await;
            });
            return if happens {
                Answer::Nothing
            } else {
                Answer::Complete(status(StatusCode::SERVICE_UNAVAILABLE))
            };
        }
        let answer = if is_write && matches!(draw.fault, Fault::Error(_)) && !draw.happens {
            status(StatusCode::OK)
        } else {
            self.take_effect(request, &target, &draw).await
        };
        sleep(draw.answer_delay).await;
        match draw.fault {
            Fault::LostAnswer => return Answer::Nothing,
            Fault::BrokenBody => return Answer::BreaksOff(answer),
            Fault::Error(code) => return Answer::Complete(status(code)),
            Fault::TooSlow => sleep(self.plan.beyond_deadlines).await,
            Fault::None | Fault::LateEffect | Fault::LostRequest | Fault::Throttled => {
                told();
            }
        }
        Answer::Complete(answer)
    }

    /// What a request does and shows, at this moment.
    async fn take_effect(&self, request: Request<Bytes>, target: &Target, draw: &Draw) -> Response<Bytes> {
        let is_write = !request.method().is_safe();
        let Some(emulator) = &self.emulator else {
            return if is_write {
                self.write(&request, target, draw)
            } else {
                self.read(&request, target, draw)
            };
        };
        let (method, body) = (request.method().clone(), request.body().clone());
        let answer = emulated::respond(emulator, request).await;
        if let (true, Target::Key(key)) = (is_write, target)
            && let Some(value) = emulated::committed(&method, &body, &answer)
        {
            self.commit(&mut self.lock(), key, value, Writer::Sidecar);
        }
        answer
    }

    /// A write is judged by the newest state, whichever front end takes it.
    fn write(&self, request: &Request<Bytes>, target: &Target, draw: &Draw) -> Response<Bytes> {
        let (Target::Key(key) | Target::Lock(key)) = target else { return status(StatusCode::NOT_FOUND) };
        let mut state = self.lock();
        let demanded = self.demanded(&mut state, request.headers(), draw);
        let held = state.held(usize::MAX, key);
        if !conditions_hold(request.headers(), held.map(|held| held.value)) {
            // As the service does, without a token.
            return status(StatusCode::PRECONDITION_FAILED);
        }
        let puts = match (target, request.method()) {
            (Target::Lock(_), _) if held.is_some() => origin_answers::lock_value(request.headers()),
            (Target::Key(_), &Method::PUT) => Some(put_value(request.body())),
            _ => None,
        };
        let removes = matches!(target, Target::Key(_)) && puts.is_none() && held.is_some();
        if puts.is_some() || removes {
            self.commit(&mut state, key, puts, Writer::Sidecar);
        }
        let shown = if puts.is_some() { state.held(usize::MAX, key) } else { held };
        let mut answer = match (shown, target) {
            (Some(held), _) => origin_answers::single(key, held, self.since_epoch(held.changed)),
            (None, Target::Lock(_)) => status(StatusCode::NOT_FOUND),
            (None, _) => status(StatusCode::NO_CONTENT),
        };
        // Of the state that it left.
        let place = self.count(&state);
        self.finish(&mut answer, place, place, draw, &demanded);
        answer
    }

    fn read(&self, request: &Request<Bytes>, target: &Target, draw: &Draw) -> Response<Bytes> {
        let mut state = self.lock();
        let demanded = self.demanded(&mut state, request.headers(), draw);
        let newest = self.count(&state);
        let shown = self.shown_place(&state, &demanded, draw);
        let version = state.log.partition_point(|effect| effect.place <= shown);
        let (mut answer, tag) = match target {
            Target::Key(key) => match state.held(version, key) {
                Some(held) => {
                    let answer = origin_answers::single(key, held, self.since_epoch(held.changed));
                    (answer, Some(held.value.to_string()))
                }
                None => (status(StatusCode::NOT_FOUND), None),
            },
            Target::List(filter, after) => {
                let mut items = state.items(version);
                items.retain(|(key, _)| filter.matches(key));
                let (after, page_size) = (after.as_ref(), self.plan.page_size);
                let (answer, tag) =
                    origin_answers::list(&items, after, page_size, |moment| self.since_epoch(moment));
                (answer, Some(tag))
            }
            Target::Lock(_) | Target::Other => (status(StatusCode::NOT_FOUND), None),
        };
        let named = |field| request.headers().get(field).map(|value| value.as_bytes().to_vec());
        let quoted = tag.map(|tag| format!("\"{tag}\"").into_bytes());
        if let Some(expected) = named(IF_MATCH)
            && !(expected == b"*" && quoted.is_some())
            && Some(&expected) != quoted.as_ref()
        {
            return status(StatusCode::PRECONDITION_FAILED);
        }
        if let Some(known) = named(IF_NONE_MATCH)
            && quoted.is_some_and(|quoted| lists_tag(&known, &quoted))
        {
            origin_answers::make_not_modified(&mut answer, self.plan.tagged_304);
        }
        self.finish(&mut answer, shown, newest, draw, &demanded);
        if let Some(max_age) = self.plan.max_age {
            let lifetime = format!("max-age={max_age}").parse().expect("well-formed");
            answer.headers_mut().insert("cache-control", lifetime);
        }
        answer
    }

    /// Adds the token, and when the front end answered: before its answer is under way.
    fn finish(
        &self,
        answer: &mut Response<Bytes>,
        shown: u64,
        newest: u64,
        draw: &Draw,
        demanded: &Demanded,
    ) {
        if let Some(line) = draw.front_end.line(self.plan.tokens, shown, newest, demanded) {
            answer.headers_mut().insert("sync-token", line.parse().expect("well-formed"));
        }
        origin_answers::date(answer, self.timeline.clock().now().to_system_time());
    }

    /// How far the count stands now.
    fn count(&self, state: &State) -> u64 {
        issued_tokens::count(state.log.len(), self.timeline.now().at, self.plan.drift_millihertz)
    }

    /// Where the state stands that is shown: as far as the replica has caught up, or farther where a token demands it.
    fn shown_place(&self, state: &State, demanded: &Demanded, draw: &Draw) -> u64 {
        let newest = self.count(state);
        if !self.plan.tokens.tell_states_apart() {
            return newest;
        }
        let then = self.timeline.now().at.saturating_sub(self.plan.lags[draw.replica]);
        let replicated = state.log.partition_point(|effect| effect.moment.at <= then);
        let replicated = issued_tokens::count(replicated, then, self.plan.drift_millihertz);
        replicated.max(demanded.least).min(newest)
    }

    fn demanded(&self, state: &mut State, fields: &HeaderMap, draw: &Draw) -> Demanded {
        let lines = fields.get_all("sync-token").iter().filter_map(|line| line.to_str().ok());
        let lines: Vec<_> = lines.collect();
        let demanded = draw.front_end.demanded(self.plan.tokens, lines.into_iter());
        let now = self.timeline.now().order;
        state.ignored.extend(demanded.ignored.iter().map(|token| (now, token.clone())));
        demanded
    }

    fn commit(&self, state: &mut State, key: &str, value: Option<Value>, writer: Writer) {
        let moment = self.timeline.now();
        let place = issued_tokens::count(state.log.len() + 1, moment.at, self.plan.drift_millihertz);
        state.log.push(Effect { moment, place, key: key.to_owned(), value });
        state.truth.commit(key, moment, value, writer);
    }

    fn since_epoch(&self, moment: Moment) -> std::time::SystemTime {
        self.timeline.start().to_system_time() + moment.at
    }

    fn draw(&self, method: &Method) -> Draw {
        let plan = self.plan;
        let mut state = self.lock();
        state.requests += 1;
        let rng = &mut state.rng;
        let mut delay = || {
            let most = if rng.u32(0..1000) < plan.slow { plan.slow_delay } else { plan.usual_delay };
            Duration::from_micros(rng.u64(200..=micros(most)))
        };
        let (request_delay, answer_delay) = (delay(), delay());
        let error =
            [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE, StatusCode::REQUEST_TIMEOUT];
        let error = error[rng.usize(0..3)];
        let faults = plan.faults;
        let mut at = rng.u32(0..1000);
        let mut strikes = |rate: u32| {
            let strikes = at < rate;
            at = if strikes { u32::MAX } else { at - rate };
            strikes
        };
        let fault = if strikes(faults.lost_request) {
            Fault::LostRequest
        } else if strikes(faults.lost_answer) {
            Fault::LostAnswer
        } else if strikes(faults.broken_body) {
            Fault::BrokenBody
        } else if strikes(faults.error) {
            Fault::Error(error)
        } else if strikes(faults.too_slow) {
            Fault::TooSlow
        } else if strikes(faults.throttled) {
            Fault::Throttled
        } else if !method.is_safe() && strikes(faults.late_effect) {
            Fault::LateEffect
        } else {
            Fault::None
        };
        Draw {
            request_delay,
            answer_delay,
            replica: rng.usize(0..3),
            front_end: FrontEnd {
                // Mostly the newest, which is the hardest case.
                token_within: if rng.bool() { 1.0 } else { rng.f64() },
                last_value_counts: rng.bool(),
                answers_with: rng.u8(0..3),
                knows_foreign: rng.bool(),
            },
            fault,
            effect_delay: Duration::from_micros(rng.u64(0..=micros(plan.latest_effect))),
            happens: rng.bool(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the origin")
    }
}

impl State {
    /// What a key holds after the first `version` effects.
    fn held(&self, version: usize, key: &str) -> Option<Held> {
        let effects = &self.log[..version.min(self.log.len())];
        let latest = effects.iter().rev().find(|effect| effect.key == key)?;
        Some(Held { value: latest.value?, changed: latest.moment })
    }

    /// All keys that exist after the first `version` effects.
    fn items(&self, version: usize) -> Vec<(String, Held)> {
        let keys: std::collections::BTreeSet<_> =
            self.log[..version].iter().map(|effect| effect.key.as_str()).collect();
        keys.into_iter().filter_map(|key| Some((key.to_owned(), self.held(version, key)?))).collect()
    }
}

fn conditions_hold(fields: &HeaderMap, held: Option<Value>) -> bool {
    let quoted = held.map(|value| format!("\"{value}\"").into_bytes());
    let matches = fields.get(IF_MATCH).is_none_or(|expected| Some(expected.as_bytes()) == quoted.as_deref());
    let absent = fields.get(IF_NONE_MATCH).is_none_or(|any| any != "*" || held.is_none());
    matches && absent
}

fn lists_tag(field: &[u8], quoted: &[u8]) -> bool {
    field.split(|byte| *byte == b',').any(|tag| tag.trim_ascii() == quoted)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("short")
}
