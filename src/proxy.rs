//! THE PATH of a request: `handle` lets it in and looks for it in the store, `go_on` goes beyond that, and each tells what came of
//! it. Everything they call either decides or acts. A hit waits for nothing: it is answered before `handle` returns.

mod admission;
mod ask;
pub mod assemble;
pub mod destination;
mod forward;
mod outcome;
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
use http::{HeaderMap, Request, Response};
use http_body::Body;

use crate::body::FlowingBody;
use crate::clock::Clock;
use crate::config::{CachingRules, Config, WriteStrategy};
use crate::credentials::partition::Identity;
use crate::decide::reuse::reuse;
use crate::decide::{Decision, Staleness};
use crate::error::ProxyError;
use crate::guard::in_flight::Place;
use crate::headers::survey::Survey;
use crate::identify::{self, Identified, identify};
use crate::metrics::Metrics;
use crate::presented_request::PresentedRequest;
use crate::respond::head_cache::HeadCache;
use crate::store::Store;
use crate::stored_response::StoredResponse;
use crate::sync_token::aggregate::Presented;
use crate::sync_token::coverage::{Coverage, CoverageVerdict};
use crate::transport::caller_body::CallerBodyLimits;
use crate::upstream::retrieval::Retrieval;
use crate::upstream::store_view::select;
use admission::{Admission, Admitted, flowing};
use assemble::{AssembleError, Environment};
use destination::Destination;
use outcome::{Outcome, Told};
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
    known_tags: KnownTags,
    heads: HeadCache,
}

/// Who sent a request: the facts of its connection.
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

/// A request on its path, with what every stage needs to know.
#[derive(Clone)]
struct RequestContext {
    request: Arc<PresentedRequest>,
    target: PathAndQuery,
    rules: Arc<CachingRules>,
    presented: Presented,
    proven: bool,
}

impl Proxy {
    /// A proxy for a configuration. Opens no connection: it starts although the origins are away.
    ///
    /// # Errors
    /// [`AssembleError`] names what the configuration asks for and cannot have.
    pub fn new(config: &Config, environment: &Environment<'_>) -> Result<Self, AssembleError> {
        let store = assemble::store(config);
        let pseudonym = assemble::pseudonym();
        let metrics = Metrics::new(config.upstreams.iter().map(|upstream| upstream.name.as_str()));
        let destinations = assemble::destinations(config, &store, &pseudonym, &metrics, environment)?;
        let by_listener = config.listeners.iter().filter_map(|listener| {
            let index = config.upstreams.iter().position(|upstream| upstream.name == listener.upstream)?;
            Some((listener.name.clone().into_boxed_str(), index))
        });
        let body_limits = CallerBodyLimits {
            limit_bytes: config.limits.request_body_bytes,
            buffered_bytes: config.limits.buffered_request_body_bytes,
            deadline: config.deadlines.request_body,
        };
        Ok(Self {
            admission: Admission::new(config, pseudonym, body_limits, environment.absent_token)?,
            by_listener: by_listener.collect(),
            metrics,
            clock: environment.clock.clone(),
            body_limits,
            known_tags: KnownTags::default(),
            heads: HeadCache::default(),
            destinations,
            store,
        })
    }

    /// What is counted.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What is stored.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Where requests go, in the order of the configuration.
    #[must_use]
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// Answers one request of a caller: at once, if nothing is to be waited for.
    pub fn handle<B>(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<FlowingBody>, Infallible>> + Send + use<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
    {
        let (head, body) = request.into_parts();
        match self.begin(caller, head, flowing(body)) {
            Begun::Answered(response) => Either::Left(ready(Ok(response))),
            Begun::Waits(told, waiting) => {
                let proxy = Arc::clone(self);
                // Boxed, so that what is answered above does not carry the room for all that may happen here.
                Either::Right(Box::pin(async move { Ok(proxy.go_on(told, waiting).await) }))
            }
        }
    }

    /// The path as far as it goes without waiting.
    fn begin(&self, caller: &Arc<Caller>, head: Parts, body: FlowingBody) -> Begun {
        let by_listener = self.by_listener.iter().find(|(name, _)| **name == *caller.listener);
        let found = destination::find(&self.destinations, by_listener.map(|(_, index)| *index), &head);
        let Some((index, to, target)) = found else {
            return Begun::Answered(outcome::without_destination());
        };
        let shown = self.callers_resource(caller, to, &head, &target);
        let told =
            Told::new(&head, caller.is_encrypted, index, to, shown, self.admission.pseudonym(), &self.clock);
        if self.admission.asks_who_calls(caller) {
            let asked = Box::new((Arc::clone(caller), head, target, body));
            return Begun::Waits(told, Waiting::ToBeProven(asked));
        }
        let admitted = self.admission.admit(to, &head, &target);
        let outcome =
            match admitted.and_then(|survey| self.answer(to, head, &survey, body, target, told.shown())) {
                Ok(Answered::FromStore(hit)) => Ok(hit),
                Ok(Answered::Beyond(beyond)) => match self.admission.place(&caller.peer) {
                    Ok(place) => return Begun::Waits(told, Waiting::Beyond { beyond, place }),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
        Begun::Answered(told.respond(self, outcome))
    }

    /// The rest of it.
    async fn go_on(&self, told: Told, waiting: Waiting) -> Response<FlowingBody> {
        let Some(to) = self.destinations.get(told.destination()) else {
            return outcome::without_destination();
        };
        let outcome = match waiting {
            Waiting::Beyond { beyond, place: _held } => self.beyond(to, *beyond).await,
            Waiting::ToBeProven(asked) => {
                let (caller, head, target, body) = *asked;
                self.prove_and_answer(&told, to, &caller, head, target, body).await
            }
        };
        told.respond(self, outcome)
    }

    async fn prove_and_answer(
        &self,
        told: &Told,
        to: &Destination,
        caller: &Caller,
        head: Parts,
        target: PathAndQuery,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        let now = self.clock.now();
        let (admitted, _held) = self.admission.admit_proven(caller, to, head, &target, body, now).await?;
        let Admitted { head, survey, body } = admitted;
        match self.answer(to, head, &survey, body, target, told.shown())? {
            Answered::FromStore(hit) => Ok(hit),
            Answered::Beyond(beyond) => self.beyond(to, *beyond).await,
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
        let caller = match named {
            Some(value) => format!("={}", String::from_utf8_lossy(value.as_bytes())),
            None => caller.connection.to_string(),
        };
        let resource = format!("{}\0{}", to.upstream.name, to.upstream.profile.resource_name(target)?);
        Some(CallersResource { caller: caller.into(), resource: resource.into() })
    }

    /// What a request asks for, and whether the store has it.
    fn answer(
        &self,
        to: &Destination,
        mut head: Parts,
        survey: &Survey,
        body: FlowingBody,
        target: PathAndQuery,
        shown: Option<&CallersResource>,
    ) -> Result<Answered, ProxyError> {
        let strategy = to.write_strategy(target.path());
        let known_tag = || self.known_tags.of(shown?);
        if let Some(value) = write_strategy::condition(strategy, &head.method, &head.headers, known_tag)? {
            head.headers.insert(IF_MATCH, value);
        }
        let identity = to.identity(&head.headers);
        let rules = Arc::clone(to.rules(target.path()));
        let destination = to.identifying(&rules, &identity);
        let has_body = !body.is_end_stream();
        let request = match identify(&head.method, &target, head.headers, survey, has_body, destination)? {
            Identified::Cacheable(request) if request.is_retrieval() => request,
            identified => return Ok(Answered::beyond(Beyond::PassOn { identified, target, rules, body })),
        };
        let presented = to.upstream.session.requirement(&request.fields);
        let context = RequestContext { request, target, rules, presented, proven: identity.proven };
        if let Presented::Unknown(_) = context.presented {
            return Ok(Answered::beyond(Beyond::Learn { context, body }));
        }
        Ok(match self.look_up(to, context) {
            Found::Hit(hit) => Answered::FromStore(hit),
            Found::Other(context, decision, stored) => {
                Answered::beyond(Beyond::Forward { context, decision, stored, body })
            }
        })
    }

    /// What the store does not answer.
    async fn beyond(&self, to: &Destination, beyond: Beyond) -> Result<Outcome, ProxyError> {
        match beyond {
            Beyond::PassOn { identified, target, rules, body } => {
                self.pass_on(to, identified, target, rules, body).await
            }
            Beyond::Learn { context, body } => self.learn_and_answer(to, context, body).await,
            Beyond::Forward { context, decision, stored, body } => {
                self.go_forward(to, context, decision, stored, body).await
            }
        }
    }

    /// What the store has for a request, and what is to be done with it.
    fn look_up(&self, to: &Destination, context: RequestContext) -> Found {
        let now = self.clock.now();
        let variants = to.upstream.store.variants(&context.request.key);
        let stored = variants.as_ref().and_then(|variants| select(variants, &context.request.fields));
        let verdict = stored.map_or(CoverageVerdict::Covered, |stored| context.verdict(to, stored.covers));
        let found = stored.map(|stored| &**stored);
        let decision = reuse(&context.request, found, variants.is_some(), verdict, &context.rules, now);
        match (decision, stored) {
            (Decision::Reuse(reuse), Some(stored)) if context.proven => {
                if reuse.staleness == Staleness::WhileRevalidate {
                    self.validate_in_background(to, &context);
                }
                Found::Hit(Outcome::hit(context.request, Arc::clone(stored), reuse))
            }
            (decision, stored) => {
                let stored = stored.map(Arc::clone);
                Found::Other(context, decision, stored)
            }
        }
    }
}

/// How far the path went without waiting.
enum Begun {
    /// To its end.
    Answered(Response<FlowingBody>),
    /// To where something is to be waited for.
    Waits(Told, Waiting),
}

/// What is waited for.
enum Waiting {
    /// Whether the caller is who it says.
    ToBeProven(Box<(Arc<Caller>, Parts, PathAndQuery, FlowingBody)>),
    /// What the store does not answer; it keeps its place among the requests in flight.
    Beyond { beyond: Box<Beyond>, place: Place },
}

/// Whether the store answers.
#[expect(clippy::large_enum_variant, reason = "moved once, which costs less than an allocation")]
enum Answered {
    FromStore(Outcome),
    /// Boxed, so that a hit does not carry the room for it.
    Beyond(Box<Beyond>),
}

impl Answered {
    fn beyond(beyond: Beyond) -> Self {
        Self::Beyond(Box::new(beyond))
    }
}

/// What is to be done where the store does not answer.
enum Beyond {
    /// No retrieval, or none that the cache understands.
    PassOn { identified: Identified, target: PathAndQuery, rules: Arc<CachingRules>, body: FlowingBody },
    /// What the caller's sync tokens demand is to be learned first.
    Learn { context: RequestContext, body: FlowingBody },
    /// What was decided, about the stored response if there is one.
    Forward {
        context: RequestContext,
        decision: Decision,
        stored: Option<Arc<StoredResponse>>,
        body: FlowingBody,
    },
}

/// What looking into the store came to.
#[expect(clippy::large_enum_variant, reason = "moved once, which costs less than an allocation")]
enum Found {
    /// It answers.
    Hit(Outcome),
    /// Something else is to be done, about the stored response if there is one.
    Other(RequestContext, Decision, Option<Arc<StoredResponse>>),
}

impl RequestContext {
    fn verdict(&self, to: &Destination, covers: Coverage) -> CoverageVerdict {
        to.upstream.verdict(&self.request, covers, &self.presented, &self.rules)
    }
}

impl Destination {
    fn plan(&self, context: &RequestContext, validate: bool) -> Retrieval {
        Retrieval {
            upstream: Arc::clone(&self.upstream),
            request: Arc::clone(&context.request),
            target: context.target.clone(),
            rules: Arc::clone(&context.rules),
            validate,
        }
    }

    fn identity(&self, fields: &HeaderMap) -> Identity {
        if self.upstream.credential.forwards_callers() {
            self.partitions.storing_identity(fields, self.rules.sharing)
        } else {
            Identity::SHARED
        }
    }

    fn identifying<'a>(
        &'a self,
        rules: &'a CachingRules,
        identity: &'a Identity,
    ) -> identify::Destination<'a> {
        identify::Destination {
            upstream: &self.upstream.name,
            origin: &self.origin,
            partition: &identity.partition,
            private_partition: identity.is_private,
            profile: &*self.upstream.profile,
            rules,
        }
    }
}
