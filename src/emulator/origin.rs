//! The emulator as a function from requests to responses.

use std::pin::pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::LINK;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::Settings;
use super::answer::Answer;
use super::authentication::Authentication;
use super::change::{Change, ChangeRecorder};
use super::configuration_store::ConfigurationStore;
use super::drift::Drift;
use super::endpoints::key_value::MAXIMUM_KEY_VALUE_BYTES;
use super::endpoints::list::with_links;
use super::endpoints::snapshots::Provisioning;
use super::endpoints::{key_value, list, names, operations, revisions, snapshots};
use super::history::View;
use super::key_values::http_date;
use super::precondition::{Precondition, Tags};
use super::presented::Presented;
use super::problem::Problem;
use super::replicas::Replicas;
use super::seeded::{Seeded, Sequence, uuid};
use super::tokens::Tokens;
use crate::clock::{Clock, Timestamp};
use crate::headers::hmac_authorization::SignedRequest;
use crate::headers::request_date::parse_accept_datetime;
use crate::profile::app_configuration::api_version::{ApiVersion, ApiVersionError};
use crate::profile::app_configuration::key_value::{KeyValue, check_key};
use crate::profile::app_configuration::query::Query;
use crate::profile::app_configuration::resource::{Resource, key_value_filter};
use crate::profile::app_configuration::select::Selection;
use crate::sync_token::token::{self, parse_request};

/// The longest request target that is answered. The vendor's emulator takes 1 KiB, which its own links to a next page can
/// exceed.
pub const MAXIMUM_TARGET_BYTES: usize = 8 * 1024;
/// The largest header section that is answered.
pub const MAXIMUM_HEADER_BYTES: usize = 32 * 1024;

const SYNC_TOKEN: HeaderName = HeaderName::from_static(token::FIELD_NAME);
/// The server's id of a request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CORRELATION_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const RETURN_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-return-client-request-id");
const ACCEPT_DATETIME: HeaderName = HeaderName::from_static("accept-datetime");
const MEMENTO_DATETIME: HeaderName = HeaderName::from_static("memento-datetime");

/// An App Configuration store in memory. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct Emulator(Arc<Shared>);

struct Shared {
    store: RwLock<ConfigurationStore>,
    require_if_match: bool,
    provisioning: Provisioning,
    authentication: Authentication,
    clock: Clock,
    draws: Sequence,
    recorder: OnceLock<Arc<dyn ChangeRecorder>>,
    replicas: usize,
    page_size: usize,
    tagged_304: bool,
}

impl Emulator {
    /// An empty store. Everything random about it follows from `seed`, all time from `clock`.
    #[must_use]
    pub fn new(settings: Settings, clock: Clock, seed: u64) -> Self {
        let seeded = Seeded::new(seed);
        let replicas = Replicas::new(settings.replicas, settings.settle, seeded);
        let tokens = Tokens::new(settings.token_mode, settings.token_ids);
        let drift = Drift::new(settings.drift_per_second, clock.now());
        let provisioning =
            Provisioning { takes: settings.snapshot_provisioning, fails: settings.snapshots_fail };
        Self(Arc::new(Shared {
            replicas: replicas.count(),
            store: RwLock::new(ConfigurationStore::new(replicas, tokens, drift, seeded, settings.retention)),
            require_if_match: settings.require_if_match,
            provisioning,
            authentication: Authentication::new(settings.access_keys, settings.bearer_tokens),
            clock,
            draws: Sequence::new(seeded),
            recorder: OnceLock::new(),
            page_size: settings.page_size.max(1),
            tagged_304: settings.tagged_304,
        }))
    }

    /// Answers one request with a response that is complete in memory; that to a HEAD has the length of the body that it
    /// leaves out.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<Bytes>
    where
        B: Body,
        B::Error: std::fmt::Display,
    {
        let (parts, body) = request.into_parts();
        let now = self.0.clock.now();
        let draw = self.0.draws.next_bits();
        // The high bits, since the others are shown in the request id.
        let replica = usize::try_from(draw.0 >> 33).unwrap_or(0) % self.0.replicas;
        let answered = match self.admit(&parts, body, now).await {
            Ok(body) => self.durably(self.answer(&parts, &body, now, replica)).await,
            Err(problem) => Answered::refused(problem),
        };
        let mut response = answered.answer.into_response(parts.method == Method::HEAD);
        let fields = response.headers_mut();
        if let Some(sync_token) = answered.sync_token {
            fields.insert(SYNC_TOKEN, sync_token);
        }
        identify(&parts.headers, uuid(draw), fields);
        response
    }

    /// The newest change; the number of the newest token may be higher.
    #[must_use]
    pub fn sequence_number(&self) -> u64 {
        self.store().sequence_number()
    }

    /// The `Sync-Token` of the state after a change, in the form `id=value;sn=N,…`.
    #[must_use]
    pub fn sync_token_of(&self, sequence_number: u64) -> String {
        self.store().tokens.line(sequence_number)
    }

    /// Every later change, in order.
    #[must_use]
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Arc<Change>> {
        self.store_mut().subscribe()
    }

    /// Takes over changes that were made before, in their order; to be called before the first request.
    pub fn restore<'a>(&self, changes: impl IntoIterator<Item = &'a Change>) {
        let now = self.0.clock.now();
        let mut store = self.store_mut();
        changes.into_iter().for_each(|change| store.restore(change));
        store.resume(now);
    }

    /// Every later change is given to `recorder` before it takes effect, and is durable there before an answer shows it. The
    /// first recorder stays.
    pub fn set_recorder(&self, recorder: Arc<dyn ChangeRecorder>) {
        let recorder = self.0.recorder.get_or_init(|| recorder);
        self.store_mut().set_recorder(Arc::clone(recorder));
    }

    /// Adds key-values as a seed shows them; visible at once.
    ///
    /// # Errors
    /// When one cannot be recorded; those before it are in.
    pub fn seed(&self, key_values: impl IntoIterator<Item = KeyValue>) -> Result<(), Problem> {
        let now = self.0.clock.now();
        let mut store = self.store_mut();
        key_values.into_iter().try_for_each(|key_value| store.seed(key_value, now))
    }

    /// Gives an answer that another made in this emulator's place the ids of its request.
    pub(super) fn identify(&self, request: &HeaderMap, response: &mut HeaderMap) {
        identify(request, uuid(self.0.draws.next_bits()), response);
    }

    /// Everything that can be checked before the state is looked at: sizes, credential, body, path and method.
    async fn admit<B>(&self, parts: &Parts, body: B, now: Timestamp) -> Result<Bytes, Problem>
    where
        B: Body,
        B::Error: std::fmt::Display,
    {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        if target.len() > MAXIMUM_TARGET_BYTES {
            return Err(Problem::TargetTooLong);
        }
        let header_bytes: usize =
            parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if header_bytes > MAXIMUM_HEADER_BYTES {
            return Err(Problem::HeadersTooLarge);
        }
        let authority = parts.uri.authority().map(http::uri::Authority::as_str);
        let signed =
            SignedRequest { method: parts.method.as_str(), target, headers: &parts.headers, authority };
        let authenticated = self.0.authentication.check(&signed, now)?;
        let body = read_body(body).await?;
        self.0.authentication.check_body(&authenticated, &body)?;

        let path = parts.uri.path();
        if path.contains("%25") {
            return Err(Problem::MalformedTarget);
        }
        let allowed = allowed_methods(path).ok_or(Problem::NotFound)?;
        let is_allowed = allowed.split(", ").any(|method| method == parts.method.as_str());
        if is_allowed { Ok(body) } else { Err(Problem::MethodNotAllowed(allowed)) }
    }

    /// The answer of the state to a request. The state stays the same from the check of
    /// a condition to the end of the write that depends on it.
    fn answer(&self, parts: &Parts, body: &Bytes, now: Timestamp, replica: usize) -> Answered {
        let presented = present(parts, body, now, &self.0);
        let required = Tokens::required(&parse_request(
            parts.headers.get_all(SYNC_TOKEN).iter().map(HeaderValue::as_bytes),
        ));
        if matches!(parts.method, Method::GET | Method::HEAD) {
            let store = self.store();
            let view = store.view(replica, required, None, now);
            let result = presented.and_then(|(request, resource)| {
                let view = View { before: request.view.before, ..view };
                read(&Presented { view, ..request }, &store, resource)
            });
            Answered::of(result, view.sequence_number, &store, now)
        } else {
            let mut store = self.store_mut();
            let result =
                presented.and_then(|(request, resource)| write(&request, &mut store, resource, &self.0));
            Answered::of(result, store.newest(now), &store, now)
        }
    }

    /// Holds an answer back until what it may show is durable.
    async fn durably(&self, answered: Answered) -> Answered {
        let Some(recorder) = self.0.recorder.get() else { return answered };
        match recorder.durable(answered.newest).await {
            Ok(()) => answered,
            Err(error) => Answered::refused(error.into()),
        }
    }

    // A panic while the lock was held cannot have left half a change: go on.
    fn store(&self) -> RwLockReadGuard<'_, ConfigurationStore> {
        self.0.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn store_mut(&self) -> RwLockWriteGuard<'_, ConfigurationStore> {
        self.0.store.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Understands a request as far as its path, query and header section go.
fn present<'a>(
    parts: &'a Parts,
    body: &'a Bytes,
    now: Timestamp,
    shared: &Shared,
) -> Result<(Presented<'a>, Resource), Problem> {
    let (path, raw_query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let query = Query::parse(raw_query)?;
    let version = ApiVersion::from_values(query.all("api-version"))?;
    let resource = Resource::parse(path, &query)?;
    let needs_snapshots =
        matches!(resource, Resource::Snapshots { .. } | Resource::Snapshot { .. } | Resource::Operations);
    if needs_snapshots && !version.has_snapshots() {
        return Err(ApiVersionError::Unsupported.into());
    }
    let before = match parts.headers.get(ACCEPT_DATETIME) {
        None => None,
        // RFC 7089 §4.5.3: a date that cannot be read is answered with 400. Ignoring it, as the vendor's emulator does,
        // would show the present as the past.
        Some(date) => Some(date.to_str().ok().and_then(parse_accept_datetime).ok_or_else(|| {
            Problem::invalid("Accept-Datetime", "Not a date; send an HTTP date or RFC 3339")
        })?),
    };
    let presented = Presented {
        method: &parts.method,
        path,
        raw_query,
        selection: Selection::parse(query.single("$select")?),
        query,
        headers: &parts.headers,
        body,
        version,
        view: View { before, ..View::NEWEST },
        precondition: Precondition::of(&parts.headers),
        now,
        page_size: shared.page_size,
        tagged_304: shared.tagged_304,
    };
    Ok((presented, resource))
}

fn read(request: &Presented<'_>, store: &ConfigurationStore, resource: Resource) -> Result<Answer, Problem> {
    let result = match resource {
        Resource::KeyValue { key, label, tags } => {
            // A key that cannot exist is a bad parameter, not a missing key-value.
            check_key(&key).map_err(|error| Problem::invalid("key", error))?;
            key_value::read(request, store, &key, label.as_deref(), &tags)
        }
        Resource::KeyValues(filter) => list::key_values(request, store, filter),
        Resource::SnapshotKeyValues { snapshot } if request.version.has_snapshots() => {
            return list::snapshot_key_values(request, store, &snapshot);
        }
        Resource::SnapshotKeyValues { .. } => {
            list::key_values(request, store, key_value_filter(&request.query)?)
        }
        Resource::Keys { name } => names::keys(request, store, &name),
        Resource::Labels { name } => names::labels(request, store, &name),
        Resource::Revisions(filter) => revisions::revisions(request, store, filter),
        Resource::Snapshots { name } => return snapshots::list(request, store, &name),
        Resource::Snapshot { name } => return snapshots::read(request, store, &name),
        Resource::Operations => return operations::operation(request, store),
        Resource::Lock { .. } | Resource::Unknown => Err(Problem::NotFound),
    };
    match (request.view.before, result) {
        (Some(before), Ok(answer)) => Ok(travelled(request, answer, before)),
        (Some(before), Err(Problem::NotFound)) => Ok(travelled(request, Problem::NotFound.into(), before)),
        (_, result) => result,
    }
}

/// Adds what an answer from the past has, unless its date lies in the future and it shows the present.
fn travelled(request: &Presented<'_>, answer: Answer, before: Timestamp) -> Answer {
    if before > request.now {
        return answer;
    }
    let has_link = answer.fields.iter().any(|(name, _)| *name == LINK);
    let answer = if has_link { answer } else { with_links(request, answer, None) };
    answer.with(MEMENTO_DATETIME, http_date(before))
}

fn write(
    request: &Presented<'_>,
    store: &mut ConfigurationStore,
    resource: Resource,
    shared: &Shared,
) -> Result<Answer, Problem> {
    let (key, label, is_lock) = match resource {
        Resource::KeyValue { key, label, .. } => (key, label, false),
        Resource::Lock { key, label } => (key, label, true),
        Resource::Snapshot { name } if request.method == Method::PUT => {
            return snapshots::create(request, store, &name, shared.provisioning);
        }
        Resource::Snapshot { name } => return snapshots::modify(request, store, &name),
        _ => return Err(Problem::NotFound),
    };
    let (id, write) =
        key_value::parse_write(request, &key, label.as_deref(), is_lock, shared.require_if_match)?;
    // The publishing API says of a star: the values are not compared and the resource is updated without any check.
    let unchecked = shared.require_if_match && request.precondition == Precondition::IfMatch(Tags::Any);
    let precondition = if unchecked { &Precondition::None } else { &request.precondition };
    let written = store.write(&id, write, precondition, request.now)?;
    Ok(key_value::written(request, &written))
}

/// An answer with what the state says about it.
struct Answered {
    answer: Answer,
    sync_token: Option<HeaderValue>,
    /// The newest change when it was made, whose number may be lower than that of the token: the answer may show it, or tell of it.
    newest: u64,
}

impl Answered {
    fn refused(problem: Problem) -> Self {
        Self { answer: problem.into(), sync_token: None, newest: 0 }
    }

    fn of(result: Result<Answer, Problem>, shown: u64, store: &ConfigurationStore, now: Timestamp) -> Self {
        let answer = result.unwrap_or_else(Answer::from);
        let newest = store.newest(now);
        let carries = Answer::carries_sync_token(answer.status);
        let sync_token = carries.then(|| store.tokens.field(answer.shown.unwrap_or(shown), newest)).flatten();
        Self { answer, sync_token, newest: store.sequence_number() }
    }
}

/// The methods of a path, or `None` for a path that the API does not have.
fn allowed_methods(path: &str) -> Option<&'static str> {
    let has_rest = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    match path {
        "/kv" | "/keys" | "/labels" | "/revisions" | "/snapshots" => Some("GET, HEAD"),
        "/operations" => Some("GET"),
        _ if has_rest("/kv/") => Some("GET, HEAD, PUT, DELETE"),
        _ if has_rest("/locks/") => Some("PUT, DELETE"),
        _ if has_rest("/snapshots/") => Some("GET, HEAD, PUT, PATCH"),
        _ => None,
    }
}

/// The whole body, which must not be larger than a key-value may be.
async fn read_body<B>(body: B) -> Result<Bytes, Problem>
where
    B: Body,
    B::Error: std::fmt::Display,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut body = pin!(body);
    let mut read = BytesMut::new();
    while let Some(frame) = body.as_mut().frame().await {
        let frame = frame.map_err(|error| Problem::invalid("body", error))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.remaining() > MAXIMUM_KEY_VALUE_BYTES {
            return Err(Problem::BodyTooLarge);
        }
        read.put(data);
    }
    Ok(read.freeze())
}

/// Adds the ids of a request: that of the server, that which correlates, and the client's own when it asks for it back.
fn identify(request: &HeaderMap, id: String, response: &mut HeaderMap) {
    let Ok(id) = HeaderValue::try_from(id) else { return };
    let correlation = request.get(&CORRELATION_REQUEST_ID).cloned().unwrap_or_else(|| id.clone());
    response.insert(REQUEST_ID, id);
    response.insert(CORRELATION_REQUEST_ID, correlation);
    if let Some(client) = request.get(&CLIENT_REQUEST_ID)
        && request.contains_key(&RETURN_CLIENT_REQUEST_ID)
    {
        response.insert(CLIENT_REQUEST_ID, client.clone());
    }
}
