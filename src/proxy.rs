//! The path of a request: [`Proxy::handle`] calls `begin`, which never waits, and then `finish` if it must wait.
//!
//! ```text
//! handle ─ begin: route → admit → identify → look up ─┬─ hit ──────────────────────────────────────────────┬─▶ respond
//!        │                                            │                                                    │
//!        └ finish: authenticate → (the same)          └─ beyond ─┬─ pass_through: writes, what is not cached┤
//!                                                                └─ retrieve: resolve, validate, fetch ─────┘
//! ```
//!
//! | stage | where it is |
//! |---|---|
//! | route | [`destination`] |
//! | admit, authenticate | `admission`, [`crate::guard`] |
//! | identify | [`crate::identify`]; makes the `request_context` |
//! | look up | `look_up`, [`crate::decide::reuse`] |
//! | retrieve, fetch | `retrieval`, `fetch`, [`crate::upstream`] |
//! | pass through | `pass_through` |
//! | respond | `outcome`, `responder`, [`crate::respond`] |
//!
//! [`explain`] follows the same stages for one request and acts in none of them.
//!
//! A proxy never changes. A reload makes another over the same state ([`live`], `reconfigure`): requests end by the rules that they began with.
//!
//! Decisions are pure functions in [`crate::decide`]; these files act on them.

mod admission;
pub mod assemble;
pub mod destination;
pub mod explain;
mod fetch;
mod fleet;
pub mod hot_keys;
#[cfg(test)]
mod in_force;
mod labels;
pub mod live;
mod look_up;
mod outcome;
mod pass_through;
mod prefetch;
mod reconfigure;
pub mod refresh;
mod request_context;
mod responder;
mod retrieval;
mod rewrite;
mod write_strategy;

use std::convert::Infallible;
use std::fmt::Display;
use std::future::{Future, ready};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::Either;
use http::header::IF_MATCH;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response};
use http_body::Body;

use crate::body::FlowingBody;
use crate::body::budget::BufferBudget;
use crate::clock::Clock;
use crate::config::{Config, WriteStrategy};
use crate::decide::Decision;
use crate::error::ProxyError;
use crate::guard::in_flight::RequestPermit;
use crate::headers::survey::Survey;
use crate::identify::{Identified, identify};
use crate::metrics::Metrics;
use crate::respond::head_cache::HeadCache;
use crate::store::Store;
use crate::sync_token::aggregate::PresentedTokens;
use crate::trace::{TracedRequest, Tracer};
use crate::transport::caller_body::CallerBodyLimits;
use admission::{Admission, Admitted, flowing};
use assemble::{AssembleError, Environment};
use destination::Destination;
use hot_keys::HotKeys;
use look_up::LookUp;
use outcome::{Hit, Outcome};
use request_context::{PassThrough, RequestContext};
use responder::Responder;
use write_strategy::{CallersResource, KnownTags};

/// The sidecar between accepting a connection and writing to it.
pub struct Proxy {
    admission: Admission,
    destinations: Vec<Destination>,
    by_listener: Vec<(Box<str>, usize)>,
    store: Arc<dyn Store>,
    metrics: Metrics,
    clock: Clock,
    body_limits: CallerBodyLimits,
    buffers: Arc<BufferBudget>,
    known_tags: Arc<KnownTags>,
    heads: HeadCache,
    hot_keys: Option<Arc<HotKeys>>,
    tracer: Tracer,
}

/// The caller of a request: the facts of its connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name of the listener that accepted the connection.
    pub listener: Arc<str>,
    /// The connection's number, unique in this process.
    pub connection: u64,
    /// Whether the caller speaks TLS.
    pub is_encrypted: bool,
    /// What tells its sender from others where nothing else does: an address without port, or a user.
    pub peer: Arc<str>,
}

impl Proxy {
    /// A proxy for a configuration. Opens no connection: it starts although the origins are away.
    ///
    /// # Errors
    /// [`AssembleError`] names what the configuration asks for and cannot have.
    pub fn new(config: &Config, environment: &Environment<'_>) -> Result<Self, AssembleError> {
        let store = assemble::store(config);
        let pseudonym = assemble::pseudonym();
        let buffers = BufferBudget::new(config.limits.buffered_bodies_bytes);
        let metrics = Metrics::new(config.upstreams.iter().map(|upstream| upstream.name.as_str()));
        let tracer = assemble::tracer(config)?;
        let mut destinations =
            assemble::destinations(config, &store, &buffers, &pseudonym, &metrics, &tracer, environment)?;
        labels::count_from_zero(config, &metrics);
        let hot_keys = config.admin.show_keys.then(Arc::<HotKeys>::default);
        for (destination, upstream) in destinations.iter_mut().zip(&config.upstreams) {
            destination.use_keys(upstream.show_cache_key, hot_keys.clone());
        }
        let body_limits = body_limits(config);
        Ok(Self {
            tracer,
            admission: Admission::new(config, pseudonym, body_limits, &buffers, environment.absent_token)?,
            by_listener: by_listener(config),
            metrics,
            clock: environment.clock.clone(),
            body_limits,
            buffers,
            known_tags: Arc::default(),
            heads: HeadCache::default(),
            hot_keys,
            destinations,
            store,
        })
    }

    /// What is counted.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Hits by key, if they are counted.
    pub const fn hot_keys(&self) -> Option<&Arc<HotKeys>> {
        self.hot_keys.as_ref()
    }

    /// Makes spans of requests.
    pub const fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// What is stored.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Where requests go, in the order of the configuration.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The path of one request. A hit is answered before this returns.
    pub fn handle<B>(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<FlowingBody>, Infallible>> + Send + use<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
    {
        let (mut head, body) = request.into_parts();
        let body = flowing(body, &mut head.extensions);
        match self.begin(caller, &mut head, body) {
            Progress::Answered(response) => Either::Left(ready(Ok(response))),
            Progress::Waits(responder, next) => {
                let proxy = Arc::clone(self);
                // Boxed, so that the future of a hit stays small.
                Either::Right(Box::pin(async move { Ok(proxy.finish(responder, next).await) }))
            }
        }
    }

    /// The stages that never wait: route → admit → identify → look up → respond. The head is lent, and its
    /// fields are taken out: to move it from stage to stage costs a hit more than most stages do.
    fn begin(&self, caller: &Arc<Caller>, head: &mut Parts, body: FlowingBody) -> Progress {
        let Some((index, to, target)) = self.route(caller, head) else {
            return Progress::Answered(responder::without_destination());
        };
        let traced = TracedRequest {
            method: &head.method,
            path: target.path(),
            server: None,
            upstream: to.upstream.name(),
        };
        let span = self.tracer.of_caller(traced, &mut head.headers);
        let shown = self.callers_resource(caller, to, head, &target);
        let (pseudonym, clock) = (self.admission.pseudonym(), &self.clock);
        let responder =
            Responder::new(head, caller.is_encrypted, index, to, shown, pseudonym, clock).with_span(span);
        if self.admission.asks_who_calls(caller) {
            let (no_head, ()) = Request::new(()).into_parts();
            let head = std::mem::replace(head, no_head);
            let unproven = Box::new((Arc::clone(caller), head, target, body));
            return Progress::Waits(responder, Next::Authenticate(unproven));
        }
        let step = self
            .admission
            .admit(to, head, &target)
            .and_then(|survey| self.identify(to, head, &survey, body, target, || self.known_tag(&responder)))
            .map(|identified| self.answer_from_store(to, identified));
        let outcome = match step {
            Ok(Step::Hit(hit)) => Ok(hit.outcome(to)),
            Ok(Step::Beyond(beyond)) => match self.admission.permit(&caller.peer) {
                Ok(permit) => return Progress::Waits(responder, Next::Beyond(beyond, permit)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        Progress::Answered(responder.respond(self, outcome))
    }

    /// The stages that wait: authenticate (and then the same as above), or what lies beyond the store → respond.
    async fn finish(&self, responder: Responder, next: Next) -> Response<FlowingBody> {
        let Some(to) = self.destinations.get(responder.destination()) else {
            return responder::without_destination();
        };
        let outcome = match next {
            Next::Authenticate(unproven) => {
                let (caller, head, target, body) = *unproven;
                Box::pin(self.authenticate(&responder, to, &caller, head, target, body)).await
            }
            Next::Beyond(beyond, _permit) => self.beyond(to, *beyond).await,
        };
        let outcome = outcome.map(|outcome| outcome.without_mirror(to));
        responder.respond(self, outcome)
    }

    async fn authenticate(
        &self,
        responder: &Responder,
        to: &Destination,
        caller: &Caller,
        head: Parts,
        target: PathAndQuery,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        let now = self.clock.now();
        let (admitted, _permit) = self.admission.admit_proven(caller, to, head, &target, body, now).await?;
        let Admitted { mut head, survey, body } = admitted;
        let identified = self.identify(to, &mut head, &survey, body, target, || self.known_tag(responder))?;
        match self.answer_from_store(to, identified) {
            Step::Hit(hit) => Ok(hit.outcome(to)),
            Step::Beyond(beyond) => self.beyond(to, *beyond).await,
        }
    }

    /// Beyond the store: passed through, or retrieved. Each boxed, as its own branches are: a future is moved with room for the
    /// largest thing that it may ever wait for.
    async fn beyond(&self, to: &Destination, beyond: Beyond) -> Result<Outcome, ProxyError> {
        match beyond {
            Beyond::PassThrough(request) => Box::pin(self.pass_through(to, *request)).await,
            Beyond::Resolve { context, body } => Box::pin(self.resolve_and_retrieve(to, context, body)).await,
            Beyond::Retrieve { context, found, body } => {
                Box::pin(self.retrieve(to, context, found, body)).await
            }
        }
    }

    /// Where a request goes.
    fn route(&self, caller: &Caller, head: &Parts) -> Option<(usize, &Destination, PathAndQuery)> {
        let by_listener = self.by_listener.iter().find(|(name, _)| **name == *caller.listener);
        destination::find(&self.destinations, by_listener.map(|(_, index)| *index), head)
    }

    /// The tag that the caller of a request was last given for what it is about.
    fn known_tag(&self, responder: &Responder) -> Option<HeaderValue> {
        self.known_tags.of(responder.shown()?)
    }

    /// What a request asks for, and in whose name. `known_tag` is the tag that its caller was last given for it. The fields are taken
    /// out of the head.
    fn identify(
        &self,
        to: &Destination,
        head: &mut Parts,
        survey: &Survey,
        body: FlowingBody,
        target: PathAndQuery,
        known_tag: impl FnOnce() -> Option<HeaderValue>,
    ) -> Result<Identification, ProxyError> {
        let strategy = to.write_strategy(target.path());
        if let Some(value) = write_strategy::condition(strategy, &head.method, &head.headers, known_tag)? {
            head.headers.insert(IF_MATCH, value);
        }
        let identity = to.identity(&head.headers);
        let rules = Arc::clone(to.rules(target.path()));
        let destination = to.identifying(&rules, &identity);
        let has_body = !body.is_end_stream();
        let fields = std::mem::take(&mut head.headers);
        Ok(match identify(&head.method, &target, fields, survey, has_body, destination)? {
            Identified::Cacheable(request) if request.is_retrieval() => {
                let presented = to.upstream.session().requirement(&request.fields);
                let proven = identity.proven;
                Identification::Retrieval(RequestContext { request, target, rules, presented, proven }, body)
            }
            identified => Identification::Other(Box::new(PassThrough { identified, target, rules, body })),
        })
    }

    /// What the store has, if it may answer.
    fn answer_from_store(&self, to: &Destination, identified: Identification) -> Step {
        let (context, body) = match identified {
            Identification::Other(request) => return Step::beyond(Beyond::PassThrough(request)),
            Identification::Retrieval(context, body) => (context, body),
        };
        if let PresentedTokens::Unknown(_) = context.presented {
            return Step::beyond(Beyond::Resolve { context, body });
        }
        let found = self.look_up(to, &context);
        found.keep_made(to, &context);
        match found {
            LookUp { decision: Decision::Reuse(reuse), stored: Some(stored), .. } => {
                Step::Hit(self.hit(to, &context, stored, reuse))
            }
            found => Step::beyond(Beyond::Retrieve { context, found, body }),
        }
    }

    /// What the answer will show of which resource to whom, where writes are optimistic.
    fn callers_resource(
        &self,
        caller: &Caller,
        to: &Destination,
        head: &Parts,
        target: &PathAndQuery,
    ) -> Option<CallersResource> {
        if to.write_strategy(target.path()) != WriteStrategy::Optimistic {
            return None;
        }
        let named = to.caller_field.as_ref().and_then(|field| head.headers.get(field));
        let connection = if named.is_none() { Some(caller.connection) } else { None };
        let resource = (to.upstream.name(), to.upstream.profile().resource_name(target)?);
        Some(self.known_tags.key((named.map(HeaderValue::as_bytes), connection), resource))
    }
}

/// The listeners whose requests all go to one upstream, and its position.
fn by_listener(config: &Config) -> Vec<(Box<str>, usize)> {
    let bound = config.listeners.iter().filter_map(|listener| {
        let index = config.upstreams.iter().position(|upstream| upstream.name == listener.upstream)?;
        Some((listener.name.clone().into_boxed_str(), index))
    });
    bound.collect()
}

fn body_limits(config: &Config) -> CallerBodyLimits {
    CallerBodyLimits {
        limit_bytes: config.limits.request_body_bytes,
        read_whole_bytes: config.limits.buffered_request_body_bytes,
        must_be_whole: false,
        deadline: config.deadlines.request_body,
    }
}

/// How far the path came without waiting.
enum Progress {
    Answered(Response<FlowingBody>),
    Waits(Responder, Next),
}

/// What a request waits for.
enum Next {
    /// The proof of its caller.
    Authenticate(Box<(Arc<Caller>, Parts, PathAndQuery, FlowingBody)>),
    /// The work where the store does not answer. The permit counts it among the requests in flight.
    Beyond(Box<Beyond>, RequestPermit),
}

/// What a request was identified as.
enum Identification {
    Retrieval(RequestContext, FlowingBody),
    /// A request that is not a retrieval, or not one that the cache handles.
    Other(Box<PassThrough>),
}

/// Whether the store answers.
enum Step {
    Hit(Hit),
    /// Boxed, so that a hit stays small.
    Beyond(Box<Beyond>),
}

impl Step {
    fn beyond(beyond: Beyond) -> Self {
        Self::Beyond(Box::new(beyond))
    }
}

/// What is to be done where the store does not answer.
enum Beyond {
    PassThrough(Box<PassThrough>),
    /// What the caller's sync tokens demand is to be resolved first.
    Resolve {
        context: RequestContext,
        body: FlowingBody,
    },
    Retrieve {
        context: RequestContext,
        found: LookUp,
        body: FlowingBody,
    },
}
