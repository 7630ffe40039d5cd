//! The callers of one run: each asks one thing after the other, and records what it was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::time::{sleep, timeout};

use super::history::{Event, History, Moment, Operation, Outcome, Value};
use super::issued_tokens::TOKEN_ID;
use super::one_state::ShownList;
use super::origin::SimulatedOrigin;
use super::origin_answers::{KeyFilter, LOCK_NUMBER};
use super::timeline::Timeline;

/// A complete answer as a caller got it.
#[derive(Clone, Debug)]
pub(crate) struct FrontAnswer {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
}

/// Whatever answers callers: the sidecar, or the origin itself. `None`: the answer broke off, or there was none.
pub(crate) trait Front: Send + Sync {
    fn ask(&self, request: Request<Bytes>) -> BoxFuture<'static, Option<FrontAnswer>>;
}

/// How often each thing is asked: weights, and thousandths where it says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) reads: u32,
    pub(crate) reads_if: u32,
    pub(crate) lists: u32,
    pub(crate) puts: u32,
    pub(crate) puts_if: u32,
    pub(crate) deletes: u32,
    pub(crate) locks: u32,
    /// Readings with `Cache-Control: no-cache`, in thousandths.
    pub(crate) no_cache: u32,
    /// Readings that pass by the store (`no-store`, `If-Match: *`, several ranges), in thousandths.
    pub(crate) passing_by: u32,
    /// Readings with `If-None-Match`, in thousandths.
    pub(crate) unless_known: u32,
    /// Operations whose caller disconnects before they are answered, in thousandths.
    pub(crate) left: u32,
    /// Requests that carry the tokens of the caller's last answer, in thousandths.
    pub(crate) own_tokens: u32,
    /// Requests that carry the tokens of the last answer to any caller, handed over, in thousandths.
    pub(crate) handed_tokens: u32,
    /// Requests that carry a token of another node, the newest or one that the caller has had for a while, in thousandths.
    pub(crate) foreign_tokens: u32,
    /// Requests that carry a token that the origin never issued, in thousandths.
    pub(crate) forged_tokens: u32,
    /// Longest pause between two operations.
    pub(crate) pause: Duration,
    /// Pauses in thousandths of all operations; the others follow at once.
    pub(crate) pauses: u32,
}

/// What all callers of a run share.
pub(crate) struct Environment {
    pub(crate) front: Arc<dyn Front>,
    pub(crate) origin: Arc<SimulatedOrigin>,
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) keys: Vec<String>,
    pub(crate) habits: Habits,
    pub(crate) record: Mutex<Record>,
}

/// What came of a run so far.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) history: History,
    next_value: Value,
    /// What answers have shown last, by key: what conditions are made of.
    known: BTreeMap<String, Value>,
    /// The entity tags, with their quotes, that answers have shown.
    tags: BTreeMap<Value, String>,
    /// Tokens that were presented together with what they include, and the reading that had to respect them.
    pub(crate) demands: Vec<Demand>,
    /// Answers without, or with a malformed, `Sync-Token` line after the first token was seen; unexpected answers.
    pub(crate) oddities: Vec<String>,
    saw_token: bool,
    /// The tokens of the last answer, as one caller hands them to another.
    last_tokens: Option<String>,
    /// What lists have shown.
    pub(crate) lists: Vec<ShownList>,
    /// Operations of all kinds, lists counted once.
    pub(crate) operations: usize,
    /// Operations that were answered from the store.
    pub(crate) hits: usize,
    /// Operations that were answered without a state: 429, 502, 504 and their kin.
    pub(crate) unanswered: usize,
}

/// A reading that came with a token of another node.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) key: String,
    /// As it was presented.
    pub(crate) token: String,
    pub(crate) includes: u64,
    pub(crate) event: Event,
}

enum Asked {
    One { key: String, operation: Operation, known: Option<Value> },
    List { filter: String, null_label: bool },
}

struct Caller {
    number: u16,
    rng: fastrand::Rng,
    around: Arc<Environment>,
    tokens: Option<String>,
    /// A token of another node, with what it includes.
    foreign_token: Option<(String, u64)>,
}

/// Lets one caller do its operations.
pub(crate) async fn run_caller(number: u16, operations: usize, seed: u64, around: Arc<Environment>) {
    let mut caller = Caller::new(number, seed, around);
    for _ in 0..operations {
        caller.pause().await;
        let asked = caller.choose();
        let answered = caller.ask(asked).await;
        if answered.is_none() {
            // As clients do: an origin that is away would else be asked everything at once.
            sleep(Duration::from_millis(caller.rng.u64(100..800))).await;
        }
    }
}

/// As configuration providers do: polls a sentinel, and reads everything again when that has changed.
pub(crate) async fn run_provider(number: u16, polls: usize, seed: u64, around: Arc<Environment>) {
    let mut caller = Caller::new(number, seed, around);
    let key = caller.around.keys[0].clone();
    let mut shown = Outcome::Shown(None);
    for _ in 0..polls {
        caller.pause().await;
        let known = if let Outcome::Shown(known) = shown { known } else { None };
        let poll = Asked::One { key: key.clone(), operation: Operation::Read, known };
        match caller.ask(poll).await {
            Some(latest) if latest != shown => {
                caller.ask(Asked::List { filter: "*".to_owned(), null_label: false }).await;
                shown = latest;
            }
            _ => {}
        }
    }
}

impl Caller {
    fn new(number: u16, seed: u64, around: Arc<Environment>) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { number, rng, around, tokens: None, foreign_token: None }
    }

    async fn pause(&mut self) {
        let habits = self.around.habits;
        if self.in_thousand(habits.pauses) {
            sleep(Duration::from_micros(self.rng.u64(0..=micros(habits.pause)))).await;
        }
    }

    fn in_thousand(&mut self, rate: u32) -> bool {
        self.rng.u32(0..1000) < rate
    }

    fn choose(&mut self) -> Asked {
        let habits = self.around.habits;
        let keys = &self.around.keys;
        let key = keys[self.rng.usize(0..keys.len())].clone();
        let weights = [
            habits.reads,
            habits.reads_if,
            habits.lists,
            habits.puts,
            habits.puts_if,
            habits.deletes,
            habits.locks,
        ];
        let mut at = self.rng.u32(0..weights.iter().sum());
        let kind = weights.iter().position(|weight| {
            let here = at < *weight;
            at = at.wrapping_sub(*weight);
            here
        });
        let on_condition = self.rng.bool();
        let filter = match self.rng.u32(0..4) {
            0 => "*".to_owned(),
            1 => format!("{key},{}", keys[self.rng.usize(0..keys.len())]),
            _ => format!("{}*", &key[..1]),
        };
        let mut record = self.around.record.lock().expect("no panic under it");
        let known = record.known.get(&key).copied();
        let mut next_value = || {
            record.next_value += 1;
            record.next_value
        };
        let operation = match (kind, known) {
            (Some(2), _) => return Asked::List { filter, null_label: on_condition },
            (Some(1), Some(expected)) => Operation::ReadIf(expected),
            (Some(3), _) => Operation::Put(next_value()),
            (Some(4), Some(expected)) if on_condition => Operation::PutIf { expected, value: next_value() },
            (Some(4), _) => Operation::PutIfAbsent(next_value()),
            (Some(5), Some(expected)) if on_condition => Operation::DeleteIf(expected),
            (Some(5), _) => Operation::Delete,
            (Some(6), _) => Operation::Lock(next_value()),
            _ => Operation::Read,
        };
        Asked::One { key, operation, known }
    }

    /// What the answer says; `None` if there was none with a state. Of a list it is not told apart.
    async fn ask(&mut self, asked: Asked) -> Option<Outcome> {
        let (request, unless) = self.request(&asked);
        let (request, demanded) = self.with_tokens(request);
        let leaves = self.in_thousand(self.around.habits.left);
        let patience = Duration::from_micros(self.rng.u64(0..300_000));
        let invoked = self.around.timeline.now();
        let asking = self.around.front.ask(request);
        let told = if leaves { timeout(patience, asking).await.ok().flatten() } else { asking.await };
        let responded = self.around.timeline.now();
        let around = Arc::clone(&self.around);
        let mut record = around.record.lock().expect("no panic under it");
        record.operations += 1;
        if let Some(told) = &told {
            self.look_at_fields(told, &mut record);
            record.tags.extend(tags(&asked, told));
        }
        match asked {
            Asked::One { key, operation, .. } => {
                let outcome = outcome(operation, told.as_ref(), unless);
                if let Some(told) = told.as_ref().filter(|told| told.status == StatusCode::OK)
                    && outcome.is_none()
                {
                    record
                        .oddities
                        .push(format!("{key}: 200 without a state: {:?} {:?}", told.fields, told.body));
                }
                // `If-Match: *` on what does not exist, and nothing else: without a state.
                let outcome =
                    outcome.filter(|outcome| (operation, *outcome) != (Operation::Read, Outcome::Refused));
                let operation = as_answered(operation, told.as_ref());
                self.record(&mut record, &key, operation, outcome, invoked, responded, demanded);
                outcome
            }
            Asked::List { filter, .. } => {
                let filter = KeyFilter::of(&filter);
                let end = told.as_ref().and_then(end_of_page);
                let Some(items) = told.as_ref().and_then(items) else {
                    record.unanswered += 1;
                    return None;
                };
                let is_on_page = |key: &String| end.as_ref().is_none_or(|end| key <= end);
                let shown = self.around.keys.iter().filter(|key| filter.matches(key) && is_on_page(key));
                let shown: Vec<_> = shown.map(|key| (key.clone(), items.get(key).copied())).collect();
                record.lists.push(ShownList { shown: shown.clone(), invoked, responded });
                for (key, _) in &shown {
                    let shown = Outcome::Shown(items.get(key).copied());
                    let demanded = demanded.clone();
                    self.record(&mut record, key, Operation::Read, Some(shown), invoked, responded, demanded);
                }
                Some(Outcome::Done)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "an event has so many parts")]
    fn record(
        &self,
        record: &mut Record,
        key: &str,
        operation: Operation,
        outcome: Option<Outcome>,
        invoked: Moment,
        responded: Moment,
        demanded: Option<(String, u64)>,
    ) {
        let Some(outcome) = outcome else {
            record.unanswered += 1;
            return;
        };
        if let Outcome::Shown(Some(value)) = outcome {
            record.known.insert(key.to_owned(), value);
        } else if let (Outcome::Done, Some(value)) = (outcome, operation.puts()) {
            record.known.insert(key.to_owned(), value);
        }
        let responded = (outcome != Outcome::Unknown).then_some(responded);
        let event = Event { caller: self.number, operation, outcome, invoked, responded };
        record.history.record(key, event);
        if let (Some((token, includes)), Operation::Read) = (demanded, operation) {
            record.demands.push(Demand { key: key.to_owned(), token, includes, event });
        }
    }

    /// The request, and the value for which a 304 stands.
    fn request(&mut self, asked: &Asked) -> (Request<Bytes>, Option<Value>) {
        let habits = self.around.habits;
        let request = Request::builder().header("host", "127.0.0.1:8484");
        let (key, operation, known) = match asked {
            Asked::One { key, operation, known } => (key, *operation, *known),
            Asked::List { filter, null_label } => {
                let label = if *null_label { "&label=%00" } else { "" };
                let request = request.uri(format!("/kv?api-version=2026-04-01&key={filter}{label}"));
                return (request.body(Bytes::new()).expect("well-formed"), None);
            }
        };
        let resource = if matches!(operation, Operation::Lock(_)) { "locks" } else { "kv" };
        let request = request
            .uri(format!("/{resource}/{key}?api-version=2026-04-01"))
            .header(CONTENT_TYPE, "application/vnd.microsoft.appconfig.kv+json");
        let tags = self.around.record.lock().expect("no panic under it").tags.clone();
        let tag = |value: Value| tags[&value].clone();
        let body = |value: Value| Bytes::from(serde_json::json!({"value": value.to_string()}).to_string());
        let put = |value: Value| (Method::PUT, body(value));
        let mut unless = None;
        let (request, (method, body)) = match operation {
            Operation::Read => {
                let mut request = request;
                if self.in_thousand(habits.passing_by) {
                    request = match self.rng.u32(0..3) {
                        0 => request.header(CACHE_CONTROL, "no-store"),
                        1 => request.header(IF_MATCH, "*"),
                        // The origin ignores ranges.
                        _ => request.header(RANGE, "bytes=0-1,3-4"),
                    };
                } else if self.in_thousand(habits.no_cache) {
                    request = request.header(CACHE_CONTROL, "no-cache");
                }
                if let Some(known) = known
                    && self.in_thousand(habits.unless_known)
                {
                    request = request.header(IF_NONE_MATCH, tag(known));
                    unless = Some(known);
                }
                (request, (Method::GET, Bytes::new()))
            }
            Operation::ReadIf(expected) => {
                (request.header(IF_MATCH, tag(expected)), (Method::GET, Bytes::new()))
            }
            Operation::Put(value) => (request, put(value)),
            Operation::PutIf { expected, value } => (request.header(IF_MATCH, tag(expected)), put(value)),
            Operation::PutIfAbsent(value) => (request.header(IF_NONE_MATCH, "*"), put(value)),
            Operation::Lock(value) => {
                let method = if self.rng.bool() { Method::PUT } else { Method::DELETE };
                (request.header(LOCK_NUMBER, value.to_string()), (method, Bytes::new()))
            }
            Operation::Delete => (request, (Method::DELETE, Bytes::new())),
            Operation::DeleteIf(expected) => {
                (request.header(IF_MATCH, tag(expected)), (Method::DELETE, Bytes::new()))
            }
        };
        (request.method(method).body(body).expect("well-formed"), unless)
    }

    /// Adds tokens; of one of another node it says up to which moment the state must include everything because of it.
    fn with_tokens(&mut self, mut request: Request<Bytes>) -> (Request<Bytes>, Option<(String, u64)>) {
        let habits = self.around.habits;
        let mut demanded = None;
        let line = if self.in_thousand(habits.foreign_tokens) {
            if self.foreign_token.is_none() || self.rng.bool() {
                self.foreign_token = self.around.origin.newest_token(self.rng.u8(..));
            }
            demanded.clone_from(&self.foreign_token);
            self.foreign_token.as_ref().map(|(token, _)| token.clone())
        } else if self.in_thousand(habits.forged_tokens) {
            Some(format!("{TOKEN_ID}=forged{}", self.rng.u32(0..3)))
        } else if self.in_thousand(habits.handed_tokens) {
            self.around.record.lock().expect("no panic under it").last_tokens.clone()
        } else if self.in_thousand(habits.own_tokens) {
            self.tokens.clone()
        } else {
            None
        };
        if let Some(line) = line {
            request.headers_mut().insert("sync-token", line.parse().expect("well-formed"));
        }
        (request, demanded)
    }

    fn look_at_fields(&mut self, told: &FrontAnswer, record: &mut Record) {
        let lines: Vec<_> = told.fields.get_all("sync-token").iter().collect();
        match lines.as_slice() {
            [line] => {
                record.saw_token = true;
                let tokens = line.to_str().unwrap_or_default().split(',');
                // As the SDKs return them: without the sequence number.
                let presented: Vec<_> =
                    tokens.filter_map(|token| Some(token.rsplit_once(";sn=")?.0)).collect();
                self.tokens = Some(presented.join(","));
                record.last_tokens.clone_from(&self.tokens);
            }
            [] if !record.saw_token => {}
            _ => record.oddities.push(format!("{} Sync-Token lines with {}", lines.len(), told.status)),
        }
        let cache_status = told.fields.get("cache-status").and_then(|value| value.to_str().ok());
        record.hits += usize::from(
            cache_status.is_some_and(|status| status.contains("; hit") || status.contains(";hit")),
        );
    }
}

/// The entity tags that an answer shows, with the values that they stand for.
fn tags(asked: &Asked, told: &FrontAnswer) -> Vec<(Value, String)> {
    if told.status != StatusCode::OK {
        return Vec::new();
    }
    match asked {
        Asked::One { operation, .. } => {
            let value = operation.puts().or_else(|| value_of(told));
            let tag = told.fields.get(ETAG).and_then(|tag| tag.to_str().ok());
            value.zip(tag.map(str::to_owned)).into_iter().collect()
        }
        Asked::List { .. } => {
            let body: serde_json::Value = serde_json::from_slice(&told.body).unwrap_or_default();
            let tag = |item: &serde_json::Value| {
                Some((item["value"].as_str()?.parse().ok()?, format!("\"{}\"", item["etag"].as_str()?)))
            };
            body["items"].as_array().into_iter().flatten().filter_map(tag).collect()
        }
    }
}

/// A condition on a key that does not exist may be answered as if there were none.
fn as_answered(operation: Operation, told: Option<&FrontAnswer>) -> Operation {
    match (operation, told.map(|told| told.status)) {
        (Operation::ReadIf(_), Some(StatusCode::NOT_FOUND)) => Operation::Read,
        (Operation::DeleteIf(_), Some(StatusCode::NO_CONTENT)) => Operation::Delete,
        (operation, _) => operation,
    }
}

/// What an answer says about the key; `None`: nothing, and nothing was changed either.
fn outcome(operation: Operation, told: Option<&FrontAnswer>, unless: Option<Value>) -> Option<Outcome> {
    let is_read = matches!(operation, Operation::Read | Operation::ReadIf(_));
    let Some(told) = told else { return (!is_read).then_some(Outcome::Unknown) };
    match told.status {
        StatusCode::PRECONDITION_FAILED => Some(Outcome::Refused),
        StatusCode::NOT_MODIFIED => Some(Outcome::Shown(Some(unless?))),
        StatusCode::NOT_FOUND if is_read => Some(Outcome::Shown(None)),
        StatusCode::NOT_FOUND if matches!(operation, Operation::Lock(_)) => Some(Outcome::Refused),
        StatusCode::NO_CONTENT if !is_read => Some(Outcome::Shown(None)),
        StatusCode::OK if operation.puts().is_some() => Some(Outcome::Done),
        StatusCode::OK => Some(Outcome::Shown(Some(value_of(told)?))),
        status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => None,
        _ => (!is_read).then_some(Outcome::Unknown),
    }
}

fn value_of(told: &FrontAnswer) -> Option<Value> {
    let body: serde_json::Value = serde_json::from_slice(&told.body).ok()?;
    let value: Value = body["value"].as_str()?.parse().ok()?;
    let tag = told.fields.get(ETAG)?.to_str().ok()?;
    assert_eq!(
        tag.trim_matches('"'),
        body["etag"].as_str().unwrap_or_default(),
        "head and body are of one version"
    );
    Some(value)
}

/// The last key of a page that continues.
fn end_of_page(told: &FrontAnswer) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&told.body).ok()?;
    body.get("@nextLink")?;
    Some(body["items"].as_array()?.last()?["key"].as_str()?.to_owned())
}

fn items(told: &FrontAnswer) -> Option<BTreeMap<String, Value>> {
    if told.status != StatusCode::OK {
        return None;
    }
    let body: serde_json::Value = serde_json::from_slice(&told.body).ok()?;
    let item = |item: &serde_json::Value| {
        Some((item["key"].as_str()?.to_owned(), item["value"].as_str()?.parse().ok()?))
    };
    body["items"].as_array()?.iter().map(item).collect()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("short")
}
