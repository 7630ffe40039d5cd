//! The emulator as a function from requests to responses: limits, authentication, the lock on the state, and the fields
//! that every answer has. [`super::routing`] chooses the endpoint.

use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::mpsc;

use super::EmulatorSettings;
use super::answer::Answer;
use super::authentication::Authentication;
use super::change::{ChangeRecorder, StateChange};
use super::configuration_store::ConfigurationStore;
use super::drift::Drift;
use super::endpoints::key_value::MAXIMUM_KEY_VALUE_BYTES;
use super::endpoints::snapshots::Provisioning;
use super::history::View;
use super::presented::ApiRequest;
use super::problem::Problem;
use super::replicas::Replicas;
use super::routing::{Switches, allowed_methods, present, read, write};
use super::seeded::{Seeded, Sequence, uuid};
use super::serve::BoxError;
use super::tokens::Tokens;
use crate::clock::{Clock, Timestamp};
use crate::headers::hmac_authorization::SignedRequest;
use crate::profile::app_configuration::key_value::KeyValue;
use crate::sync_token::token::{self, parse_request};

/// The maximum length of a request target. The vendor's emulator accepts 1 KiB, but its own links to a next page can be
/// longer.
pub const MAXIMUM_TARGET_BYTES: usize = 8 * 1024;
/// The maximum size of a header section.
pub const MAXIMUM_HEADER_BYTES: usize = 32 * 1024;

const SYNC_TOKEN: HeaderName = HeaderName::from_static(token::FIELD_NAME);
/// The server's id of a request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CORRELATION_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const RETURN_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-return-client-request-id");

/// An App Configuration store in memory. Clones are cheap and share the store.
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
    /// An empty store. `seed` determines every random value, and `clock` is the only source of time.
    pub fn new(settings: EmulatorSettings, clock: Clock, seed: u64) -> Self {
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
            authentication: Authentication::new(&settings),
            clock,
            draws: Sequence::new(seeded),
            recorder: OnceLock::new(),
            page_size: settings.page_size.max(1),
            tagged_304: settings.tagged_304,
        }))
    }

    /// Answers one request with a response that is complete in memory. The answer to a HEAD has the length of the body
    /// that it leaves out.
    pub async fn respond<B: Body<Error: Into<BoxError>>>(&self, request: Request<B>) -> Response<Bytes> {
        let (parts, body) = request.into_parts();
        let now = self.0.clock.now();
        let draw = self.0.draws.next_bits();
        // The high bits choose the replica, so that the request id does not show the choice.
        let replica = usize::try_from(draw.0 >> 33).unwrap_or(0) % self.0.replicas;
        let answered = match self.admit(&parts, body, now).await {
            Ok(body) => self.durably(self.answer(&parts, &body, now, replica)).await,
            Err(problem) => AnswerAtState::refused(problem),
        };
        let mut response = answered.answer.into_response(parts.method == Method::HEAD);
        let fields = response.headers_mut();
        if let Some(sync_token) = answered.sync_token {
            fields.insert(SYNC_TOKEN, sync_token);
        }
        identify(&parts.headers, uuid(draw), fields);
        response
    }

    /// The number of the newest change. The number of the newest token can be higher.
    pub fn sequence_number(&self) -> u64 {
        self.store().sequence_number()
    }

    /// The `Sync-Token` of the state after a change, in the form `id=value;sn=N,…`.
    pub fn sync_token_of(&self, sequence_number: u64) -> String {
        self.store().tokens.line(sequence_number)
    }

    /// Returns a channel that receives every later change, in order.
    #[must_use]
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Arc<StateChange>> {
        self.store_mut().subscribe()
    }

    /// Applies changes that were made before this process started, in their order. Call it before the first request.
    pub fn restore<'a>(&self, changes: impl IntoIterator<Item = &'a StateChange>) {
        let now = self.0.clock.now();
        let mut store = self.store_mut();
        changes.into_iter().for_each(|change| store.restore(change));
        store.resume(now);
    }

    /// Gives every later change to `recorder` before it takes effect. An answer that shows a change waits until it is
    /// durable there. A second call has no effect.
    pub fn set_recorder(&self, recorder: Arc<dyn ChangeRecorder>) {
        let recorder = self.0.recorder.get_or_init(|| recorder);
        self.store_mut().set_recorder(Arc::clone(recorder));
    }

    /// Adds the key-values of a seed. They are visible at once.
    ///
    /// # Errors
    /// When a key-value cannot be recorded. The earlier ones stay added.
    pub fn seed(&self, key_values: impl IntoIterator<Item = KeyValue>) -> Result<(), Problem> {
        let now = self.0.clock.now();
        let mut store = self.store_mut();
        key_values.into_iter().try_for_each(|key_value| store.seed(key_value, now))
    }

    /// Adds the ids of its request to an answer that a fault made.
    pub(super) fn identify(&self, request: &HeaderMap, response: &mut HeaderMap) {
        identify(request, uuid(self.0.draws.next_bits()), response);
    }

    /// Makes the checks that do not need the state: sizes, credential, body, path and method.
    async fn admit<B: Body<Error: Into<BoxError>>>(
        &self,
        parts: &Parts,
        body: B,
        now: Timestamp,
    ) -> Result<Bytes, Problem> {
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

    /// Answers a request from the state. One lock covers the check of a condition and the write that depends on it.
    fn answer(&self, parts: &Parts, body: &Bytes, now: Timestamp, replica: usize) -> AnswerAtState {
        let presented = present(parts, body, now, self.0.page_size, self.0.tagged_304);
        let required = Tokens::required(&parse_request(
            parts.headers.get_all(SYNC_TOKEN).iter().map(HeaderValue::as_bytes),
        ));
        if matches!(parts.method, Method::GET | Method::HEAD) {
            let store = self.store();
            let view = store.view(replica, required, None, now);
            let result = presented.and_then(|(request, resource)| {
                let view = View { before: request.view.before, ..view };
                read(&ApiRequest { view, ..request }, &store, resource)
            });
            AnswerAtState::of(result, view.sequence_number, &store, now)
        } else {
            let mut store = self.store_mut();
            let switches =
                Switches { require_if_match: self.0.require_if_match, provisioning: self.0.provisioning };
            let result =
                presented.and_then(|(request, resource)| write(&request, &mut store, resource, switches));
            AnswerAtState::of(result, store.newest(now), &store, now)
        }
    }

    /// Delays an answer until every change that it can show is durable.
    async fn durably(&self, answered: AnswerAtState) -> AnswerAtState {
        let Some(recorder) = self.0.recorder.get() else { return answered };
        match recorder.durable(answered.newest).await {
            Ok(()) => answered,
            Err(error) => AnswerAtState::refused(error.into()),
        }
    }

    // No panic can leave a change half applied, so the content of a poisoned lock is sound.
    fn store(&self) -> RwLockReadGuard<'_, ConfigurationStore> {
        self.0.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn store_mut(&self) -> RwLockWriteGuard<'_, ConfigurationStore> {
        self.0.store.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer and the state at the time when it was made.
struct AnswerAtState {
    answer: Answer,
    sync_token: Option<HeaderValue>,
    /// The newest change at that time. The answer can show it. The number of its token can be higher.
    newest: u64,
}

impl AnswerAtState {
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

/// Reads the whole body. It must not be larger than a key-value.
async fn read_body<B: Body<Error: Into<BoxError>>>(body: B) -> Result<Bytes, Problem> {
    match Limited::new(body, MAXIMUM_KEY_VALUE_BYTES).collect().await {
        Ok(content) => Ok(content.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::BodyTooLarge),
        Err(error) => Err(Problem::invalid("body", error)),
    }
}

/// Adds the ids of a request: the server's, the correlation id, and the client's own if the client asks for it.
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
