//! A simulated origin that keeps exactly the contract of design section 3 and nothing more.
//!
//! One log of effects, three replicas that show it late, and front ends in between: a request with a token is answered with
//! state at least as new as the token, and the answer's token is at least as new as the state shown. Which state and which
//! token are drawn from the seed within those bounds; so are delays, lost messages and answers, effects that come late, and
//! errors. Without tokens, or with a constant one, the origin is consistent by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tagalong::emulator::Emulator;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::emulated;
use super::history::{Moment, Value};
use super::monotonic::Truth;
use super::timeline::Timeline;

/// What tokens the origin hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// That of the state which the answer shows.
    OfState,
    /// One between that and the newest: the front end knows more than the replica that answered.
    OfFrontEnd,
    /// None.
    Absent,
    /// Always the same.
    Constant,
}

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
    /// A write takes effect long after its sender was told that nobody knows.
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
    log: Vec<(Moment, String, Option<Value>)>,
    truth: Truth,
    /// Every write that arrived: its key, when, and whether its sender was told the outcome.
    writes: Vec<(String, u64, bool)>,
    down_until: Duration,
    requests: u64,
}

/// Everything that chance decides about one exchange, drawn at once so that a seed means the same whatever follows.
struct Draw {
    request_delay: Duration,
    answer_delay: Duration,
    replica: usize,
    token_within: f64,
    last_token_counts: bool,
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

pub(crate) const TOKEN_ID: &str = "zAJw6V16";

impl SimulatedOrigin {
    pub(crate) fn new(plan: OriginPlan, timeline: Arc<Timeline>, seed: u64) -> Self {
        let clock = timeline.clock().clone();
        let emulator = plan.emulated.then(|| emulated::emulator(plan.tokens, plan.lags[0], clock, seed));
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            log: Vec::new(),
            truth: Truth::default(),
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

    /// The newest token, as somebody beside the sidecar has it, with what it includes.
    pub(crate) fn newest_token(&self) -> Option<(String, u64)> {
        let state = self.lock();
        let order = self.timeline.now().order;
        match self.plan.tokens {
            Tokens::OfState | Tokens::OfFrontEnd => {
                let own = || format!("{TOKEN_ID}={}", token_value(state.log.len()));
                Some((self.emulator.as_ref().map_or_else(own, emulated::newest_token), order))
            }
            Tokens::Absent | Tokens::Constant => None,
        }
    }

    /// A write by somebody beside the sidecar.
    pub(crate) fn write_beside(&self, key: &str, value: Option<Value>) {
        self.commit(&mut self.lock(), key, value);
    }

    /// Answers one request, in simulated time.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Bytes>) -> Answer {
        let draw = self.draw(request.method());
        let is_write = !request.method().is_safe();
        let target = Target::of(request.uri().path(), request.uri().query());
        let write = match &target {
            Target::Key(key) if is_write => {
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
                let _told_nobody = origin.take_effect(request, &target, &draw).await;
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
                self.answer_to_write(self.write(&request, target), draw)
            } else {
                self.read(&request, target, draw)
            };
        };
        let (method, body) = (request.method().clone(), request.body().clone());
        let answer = emulated::respond(emulator, request).await;
        if let (true, Target::Key(key)) = (is_write, target)
            && let Some(value) = emulated::committed(&method, &body, &answer)
        {
            self.commit(&mut self.lock(), key, value);
        }
        answer
    }

    fn write(
        &self,
        request: &Request<Bytes>,
        target: &Target,
    ) -> Result<(usize, Option<Value>, Option<Value>), ()> {
        let Target::Key(key) = target else { return Err(()) };
        let mut state = self.lock();
        let latest = state.log.len();
        let held = state.shown(latest, key);
        if !conditions_hold(request.headers(), held) {
            return Err(());
        }
        let value = match *request.method() {
            Method::PUT => Some(put_value(request.body())),
            _ => None,
        };
        if value.is_some() || held.is_some() {
            self.commit(&mut state, key, value);
        }
        Ok((state.log.len(), held, value))
    }

    fn answer_to_write(
        &self,
        effect: Result<(usize, Option<Value>, Option<Value>), ()>,
        draw: &Draw,
    ) -> Response<Bytes> {
        let Ok((version, removed, put)) = effect else { return status(StatusCode::PRECONDITION_FAILED) };
        let mut answer = match (put, removed) {
            (Some(value), _) => shown(value),
            (None, Some(removed)) => shown(removed),
            (None, None) => status(StatusCode::NO_CONTENT),
        };
        self.add_token(&mut answer, version, draw);
        answer
    }

    fn read(&self, request: &Request<Bytes>, target: &Target, draw: &Draw) -> Response<Bytes> {
        let state = self.lock();
        let version = self.version_for(&state, request.headers(), draw);
        let (mut answer, tag) = match target {
            Target::Key(key) => match state.shown(version, key) {
                Some(value) => (shown(value), Some(value.to_string())),
                None => (status(StatusCode::NOT_FOUND), None),
            },
            Target::List(prefix) => {
                let items = state.items(version, prefix);
                let tag: Vec<String> = items.values().map(ToString::to_string).collect();
                let items: Vec<_> = items
                    .iter()
                    .map(|(key, value)| serde_json::json!({"key": key, "value": value.to_string(), "etag": value.to_string()}))
                    .collect();
                let body = serde_json::json!({ "items": items }).to_string();
                let tag = format!("list-{}", tag.join("-"));
                let answer = Response::builder().header(ETAG, format!("\"{tag}\"")).body(body.into());
                (answer.expect("well-formed"), Some(tag))
            }
            Target::Other => (status(StatusCode::NOT_FOUND), None),
        };
        drop(state);
        let named = |field| request.headers().get(field).map(|value| value.as_bytes().to_vec());
        let quoted = tag.map(|tag| format!("\"{tag}\"").into_bytes());
        if let Some(expected) = named(IF_MATCH)
            && Some(&expected) != quoted.as_ref()
        {
            // As the service does, without a token.
            return status(StatusCode::PRECONDITION_FAILED);
        }
        if let Some(known) = named(IF_NONE_MATCH)
            && quoted.is_some_and(|quoted| lists_tag(&known, &quoted))
        {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            *answer.body_mut() = Bytes::new();
        }
        self.add_token(&mut answer, version, draw);
        if let Some(max_age) = self.plan.max_age {
            let lifetime = format!("max-age={max_age}").parse().expect("well-formed");
            answer.headers_mut().insert("cache-control", lifetime);
        }
        answer
    }

    fn version_for(&self, state: &State, fields: &HeaderMap, draw: &Draw) -> usize {
        let latest = state.log.len();
        if matches!(self.plan.tokens, Tokens::Absent | Tokens::Constant) {
            return latest;
        }
        let now = self.timeline.now().at;
        let lag = self.plan.lags[draw.replica];
        let replicated = state.log.iter().take_while(|(moment, ..)| moment.at + lag <= now).count();
        let lines = fields.get_all("sync-token").iter().filter_map(|line| line.to_str().ok());
        let mut demanded = lines.flat_map(|line| line.split(',')).filter_map(token_version);
        // Two values of one id: what happens is not documented.
        let demanded = if draw.last_token_counts { demanded.next_back() } else { demanded.next() };
        replicated.max(demanded.unwrap_or(0)).min(latest)
    }

    fn add_token(&self, answer: &mut Response<Bytes>, shown: usize, draw: &Draw) {
        let latest = self.lock().log.len();
        let version = match self.plan.tokens {
            Tokens::Absent => return,
            Tokens::Constant => {
                answer.headers_mut().insert("sync-token", "kv=MA==;sn=1".parse().expect("well-formed"));
                return;
            }
            Tokens::OfState => shown,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            Tokens::OfFrontEnd => shown + ((latest - shown) as f64 * draw.token_within) as usize,
        };
        let line = format!("{TOKEN_ID}={};sn={version}", token_value(version));
        answer.headers_mut().insert("sync-token", line.parse().expect("well-formed"));
    }

    fn commit(&self, state: &mut State, key: &str, value: Option<Value>) {
        let moment = self.timeline.now();
        state.log.push((moment, key.to_owned(), value));
        state.truth.commit(key, moment, value);
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
            // Mostly the newest, which is the hardest case.
            token_within: if rng.bool() { 1.0 } else { rng.f64() },
            last_token_counts: rng.bool(),
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
    fn shown(&self, version: usize, key: &str) -> Option<Value> {
        self.log[..version]
            .iter()
            .rev()
            .find(|(_, written, _)| written == key)
            .and_then(|(_, _, value)| *value)
    }

    fn items(&self, version: usize, prefix: &str) -> BTreeMap<String, Value> {
        let mut items = BTreeMap::new();
        for (_, key, value) in self.log[..version].iter().filter(|(_, key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => items.insert(key.clone(), *value),
                None => items.remove(key),
            };
        }
        items
    }
}

/// What a request is about.
#[derive(Clone, Debug)]
enum Target {
    Key(String),
    List(String),
    Other,
}

impl Target {
    fn of(path: &str, query: Option<&str>) -> Self {
        if let Some(key) = path.strip_prefix("/kv/") {
            return Self::Key(key.to_owned());
        }
        let filter = query.and_then(|query| query.split('&').find_map(|part| part.strip_prefix("key=")));
        match (path, filter.and_then(|filter| filter.strip_suffix('*'))) {
            ("/kv", Some(prefix)) => Self::List(prefix.to_owned()),
            _ => Self::Other,
        }
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

pub(crate) fn put_value(body: &[u8]) -> Value {
    let body: serde_json::Value = serde_json::from_slice(body).expect("callers send JSON");
    body["value"].as_str().and_then(|value| value.parse().ok()).expect("callers send numbers")
}

fn shown(value: Value) -> Response<Bytes> {
    let body = serde_json::json!({"value": value.to_string(), "etag": value.to_string()}).to_string();
    let answer = Response::builder()
        .header(ETAG, format!("\"{value}\""))
        .header("content-type", "application/vnd.microsoft.appconfig.kv+json; charset=utf-8");
    answer.body(body.into()).expect("well-formed")
}

fn status(status: StatusCode) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::new()).expect("well-formed")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("short")
}

/// Opaque for everybody but the origin.
fn token_value(version: usize) -> String {
    format!("{}#{version}==", version % 7)
}

fn token_version(token: &str) -> Option<usize> {
    let (id, value) = token.trim().split_once('=')?;
    let value = value.split(';').next().unwrap_or_default();
    let version = value.strip_suffix("==")?.split_once('#')?.1.parse().ok()?;
    (id == TOKEN_ID).then_some(version)
}
