//! THE PATH of a request: `walk` lets it in and tells what came of it, `answer` looks for it in the store, and `forward` holds
//! what lies beyond. Everything they call either decides or acts. Before them, `repeat` answers what was asked a moment ago.

mod admission;
mod ask;
pub mod assemble;
pub mod destination;
mod forward;
mod outcome;
mod repeat;
mod rewrite;
mod write_strategy;

use std::convert::Infallible;
use std::fmt::Display;
use std::future::{Future, ready};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
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
use crate::guard::in_flight::RequestPermit;
use crate::identify::{self, Identified, identify};
use crate::logging::Access;
use crate::metrics::Metrics;
use crate::presented_request::PresentedRequest;
use crate::store::Store;
use crate::stored_response::StoredResponse;
use crate::sync_token::aggregate::Presented;
use crate::sync_token::coverage::{Coverage, CoverageVerdict};
use crate::transport::caller_body::CallerBodyLimits;
use crate::upstream::retrieval::Retrieval;
use crate::upstream::select;
use admission::{Admission, Admitted};
use assemble::{AssembleError, Environment};
use destination::Destination;
use outcome::{Outcome, Told};
use repeat::{Moment, Repeats};
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
    repeats: Repeats,
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
            repeats: Repeats::default(),
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

    /// Answers one request of a caller: at once if the same was asked a moment ago.
    pub fn handle<B>(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<FlowingBody>, Infallible>> + Send + use<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
    {
        if request.body().is_end_stream()
            && let Some(answer) = self.repeated(caller, &request)
        {
            return Either::Left(ready(Ok(answer)));
        }
        let (head, body) = request.into_parts();
        let (proxy, caller) = (Arc::clone(self), Arc::clone(caller));
        // Boxed, so that what is answered above does not carry the room for all that may happen here.
        Either::Right(Box::pin(async move { Ok(proxy.walk(&caller, head, body).await) }))
    }

    /// What the same question got a moment ago, if nothing has changed since. It takes no place among those in flight: it waits for
    /// nothing.
    fn repeated<B>(&self, caller: &Caller, request: &Request<B>) -> Option<Response<FlowingBody>> {
        let found = self.repeats.find(caller, request)?;
        let repeat = found.as_ref()?;
        let to = self.destinations.get(repeat.destination)?;
        if repeat.moment != self.moment(to) || Access::is_wanted() {
            return None;
        }
        let stored = repeat.stored_at(self.clock.now())?;
        let requests = &self.metrics.upstream(repeat.destination).requests;
        requests.hit.inc();
        requests.body_bytes_saved.inc_by(stored.body.len() as u64);
        let mut answer = repeat.answer(&stored);
        to.upstream.profile.describe_again(answer.headers_mut());
        Some(answer)
    }

    /// The way from a request to its answer.
    async fn walk<B>(&self, caller: &Caller, head: Parts, body: B) -> Response<FlowingBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
    {
        let by_listener = self.by_listener.iter().find(|(name, _)| **name == *caller.listener);
        let found = destination::find(&self.destinations, by_listener.map(|(_, index)| *index), &head);
        let Some((index, to, target)) = found else {
            return outcome::without_destination();
        };
        let told = Told::new(
            &head,
            caller.is_encrypted,
            to,
            self.metrics.upstream(index),
            self.admission.pseudonym(),
            &self.clock,
        );
        let method = head.method.clone();
        let shown = self.callers_resource(caller, to, &head, &target);
        // Who must prove himself is asked each time, and a shown state is noted each time.
        let asked = if shown.is_none() && body.is_end_stream() && !self.admission.asks_who_calls(caller) {
            self.repeats.asked_again(caller, &head)
        } else {
            None
        };
        let moment = self.moment(to);
        let admitted = self.admission.admit(caller, to, head, &target, body, self.clock.now()).await;
        let answered = admitted.and_then(|admitted| self.answer(to, admitted, target, shown.as_ref()));
        let outcome = match answered {
            Ok(Answered::FromStore(hit)) => Ok(hit),
            Ok(Answered::Forward(forwarded)) => forwarded.await,
            Err(error) => Err(error),
        };
        let response = told.respond(outcome, &self.metrics, |answer, stored, same_during| {
            if let Some(asked) = asked {
                self.repeats.keep(asked, index, moment, same_during, answer, stored);
            }
        });
        if let Some(shown) = shown {
            self.known_tags.note(shown, &method, response.status(), response.headers());
        }
        response
    }

    /// To be taken before looking into anything that it stands for.
    fn moment(&self, to: &Destination) -> Moment {
        Moment { store_changes: self.store.changes(), session_revision: to.upstream.session.revision() }
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

    /// The path.
    fn answer<'a>(
        &'a self,
        to: &'a Destination,
        admitted: Admitted,
        target: PathAndQuery,
        shown: Option<&CallersResource>,
    ) -> Result<Answered<'a>, ProxyError> {
        let Admitted { mut head, survey, body, place } = admitted;
        let strategy = to.write_strategy(target.path());
        let known_tag = || self.known_tags.of(shown?);
        if let Some(value) = write_strategy::condition(strategy, &head.method, &head.headers, known_tag)? {
            head.headers.insert(IF_MATCH, value);
        }
        let identity = to.identity(&head.headers);
        let rules = Arc::clone(to.rules(target.path()));
        let destination = to.identifying(&rules, &identity);
        let has_body = !body.is_end_stream();
        let request = match identify(&head.method, &target, head.headers, &survey, has_body, destination)? {
            Identified::Cacheable(request) if request.is_retrieval() => request,
            passed_on => {
                return Ok(Answered::holding(place, self.pass_on(to, passed_on, target, rules, body)));
            }
        };
        let presented = to.upstream.session.requirement(&request.fields);
        let context =
            RequestContext { request: Arc::new(request), target, rules, presented, proven: identity.proven };
        if let Presented::Unknown(_) = context.presented {
            return Ok(Answered::holding(place, self.learn_and_answer(to, context, body)));
        }
        Ok(match self.look_up(to, context) {
            Found::Hit(hit) => Answered::FromStore(hit),
            Found::Other(context, decision, stored) => {
                Answered::holding(place, self.go_forward(to, context, decision, stored, body))
            }
        })
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
                let same_during = repeat::same_during(&context.request, stored, &reuse, now);
                Found::Hit(Outcome::hit(context.request, Arc::clone(stored), reuse, same_during))
            }
            (decision, stored) => {
                let stored = stored.map(Arc::clone);
                Found::Other(context, decision, stored)
            }
        }
    }
}

/// How the path ends.
#[expect(clippy::large_enum_variant, reason = "moved once, which costs less than an allocation")]
enum Answered<'a> {
    /// In the store.
    FromStore(Outcome),
    /// Beyond it, which takes its time. Boxed, so that a hit does not carry the room for it.
    Forward(BoxFuture<'a, Result<Outcome, ProxyError>>),
}

impl<'a> Answered<'a> {
    /// By a way that keeps its place among those in flight.
    fn holding(
        place: RequestPermit,
        forwarded: impl Future<Output = Result<Outcome, ProxyError>> + Send + 'a,
    ) -> Self {
        Self::Forward(Box::pin(async move {
            let _held = place;
            forwarded.await
        }))
    }
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
