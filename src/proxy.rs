//! THE PATH of a request, in one function: `Proxy::answer`. Everything it calls either decides or acts.

mod admission;
mod ask;
pub mod assemble;
pub mod destination;
mod outcome;
mod repeat;
mod rewrite;
mod write_strategy;

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use http::header::IF_MATCH;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;

use crate::body::FlowingBody;
use crate::clock::Clock;
use crate::config::{CachingRules, Config, WriteStrategy};
use crate::credentials::partition::Identity;
use crate::decide::reuse::reuse;
use crate::decide::{BypassReason, Decision, ForwardReason, RequestReason, StaleReason, Staleness};
use crate::error::{ProxyError, RefusalReason, Refused};
use crate::fetch::caller_body::{CallerBodyLimits, take_in};
use crate::fetch::flight::FlightPlan;
use crate::fetch::forward::Forwarded;
use crate::fetch::learn::Learned;
use crate::fetch::select;
use crate::identify::{self, Identified, identify};
use crate::logging::Access;
use crate::metrics::Metrics;
use crate::presented_request::PresentedRequest;
use crate::profile;
use crate::store::Store;
use crate::sync_token::aggregate::Presented;
use crate::sync_token::coverage::{CoverageVerdict, UncoveredReason};
use admission::{Admission, Admitted};
use assemble::{AssembleError, Surroundings};
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
struct OnPath {
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
    pub fn new(config: &Config, surroundings: &Surroundings<'_>) -> Result<Self, AssembleError> {
        let store = assemble::store(config);
        let pseudonym = assemble::pseudonym();
        let metrics = Metrics::new(config.upstreams.iter().map(|upstream| upstream.name.as_str()));
        let destinations = assemble::destinations(config, &store, &pseudonym, &metrics, surroundings)?;
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
            admission: Admission::new(config, pseudonym, body_limits)?,
            by_listener: by_listener.collect(),
            metrics,
            clock: surroundings.clock.clone(),
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

    /// Answers one request of a caller.
    pub async fn handle<B>(&self, caller: &Caller, request: Request<B>) -> Response<FlowingBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
    {
        let (head, body) = request.into_parts();
        if body.is_end_stream()
            && let Some(answer) = self.repeated(caller, &head)
        {
            return answer;
        }
        // Boxed, so that what is answered above does not carry the room for all that may happen below.
        Box::pin(self.walk(caller, head, body)).await
    }

    /// What the same question got a moment ago, if nothing has changed since. It takes no place among those in flight: it waits for
    /// nothing.
    fn repeated(&self, caller: &Caller, head: &Parts) -> Option<Response<FlowingBody>> {
        let found = self.repeats.find(caller, head)?;
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
        to.upstream.profile.describe_answer(&head.headers, answer.headers_mut());
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
        let outcome = match self.admission.admit(caller, to, head, &target, body, self.clock.now()).await {
            Ok(admitted) => self.answer(to, admitted, target, shown.as_ref()).await,
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
    async fn answer(
        &self,
        to: &Destination,
        admitted: Admitted,
        target: PathAndQuery,
        shown: Option<&CallersResource>,
    ) -> Result<Outcome, ProxyError> {
        let Admitted { mut head, survey, body, place: _held } = admitted;
        let strategy = to.write_strategy(target.path());
        let known_tag = || self.known_tags.of(shown?);
        if let Some(value) = write_strategy::condition(strategy, &head.method, &head.headers, known_tag)? {
            head.headers.insert(IF_MATCH, value);
        }
        let identity = to.identity(&head.headers);
        let rules = Arc::clone(to.rules(target.path()));
        let destination = to.identifying(&rules, &identity);
        let request =
            match identify(&head.method, &target, head.headers, &survey, !body.is_end_stream(), destination)?
            {
                Identified::Cacheable(request) if request.is_retrieval() => request,
                Identified::Cacheable(post) => {
                    return self
                        .write(to, post.method.clone(), target, post.fields.clone(), Some(post), rules, body)
                        .await;
                }
                Identified::Bypass(bypassed) if !bypassed.method.is_safe() => {
                    return self.write(to, bypassed.method, target, bypassed.fields, None, rules, body).await;
                }
                Identified::Bypass(bypassed) => {
                    let reason = match bypassed.reason {
                        profile::BypassReason::Method => ForwardReason::Method,
                        reason => ForwardReason::Bypass(BypassReason::Unidentified(reason)),
                    };
                    return self.pass(to, bypassed.method, target, bypassed.fields, reason, body).await;
                }
            };
        let (presented, not_learned) =
            match to.upstream.learn(&request.fields, &request.method, &target).await {
                Learned::Demands(presented) => (presented, None),
                Learned::Unknown(presented, failure) => (presented, Some(failure)),
                Learned::Refused(answer) => {
                    let reason =
                        ForwardReason::Stale(StaleReason::Uncovered(UncoveredReason::UnknownSyncToken));
                    return Ok(Outcome::passed(&request.method, answer, reason));
                }
            };
        let on_path =
            OnPath { request: Arc::new(request), target, rules, presented, proven: identity.proven };
        if let Some(failure) = not_learned {
            return self.without_origin(to, on_path, failure, None);
        }
        let now = self.clock.now();
        let variants = to.upstream.store.variants(&on_path.request.key);
        let stored = variants.as_ref().and_then(|variants| select(variants, &on_path.request));
        let verdict = stored.map_or(CoverageVerdict::Covered, |stored| on_path.verdict(to, stored.covers));
        let decision = reuse(
            &on_path.request,
            stored.map(|stored| &**stored),
            variants.is_some(),
            verdict,
            &on_path.rules,
            now,
        );
        match (decision, stored) {
            (Decision::Reuse(reuse), Some(stored)) if on_path.proven => {
                if reuse.staleness == Staleness::WhileRevalidate {
                    self.validate_in_background(to, &on_path);
                }
                let same_during = repeat::same_during(&on_path.request, stored, &reuse, now);
                Ok(Outcome::hit(on_path.request, Arc::clone(stored), reuse, same_during))
            }
            (Decision::Refuse, _) => Err(only_if_cached()),
            (Decision::Forward(reason @ ForwardReason::Bypass(BypassReason::Precondition)), _) => {
                let OnPath { request, target, .. } = on_path;
                let outdates = stored.map(|stored| (request.key.clone(), Arc::clone(stored)));
                let answer = self
                    .pass(to, request.method.clone(), target, request.fields.clone(), reason, body)
                    .await?;
                if let Some((key, stored)) = outdates
                    && answer.status() == Some(StatusCode::PRECONDITION_FAILED)
                {
                    // It tells of a newer state than the stored one.
                    to.upstream.outdate(&key, &stored);
                }
                Ok(answer)
            }
            (Decision::Forward(reason), _) => self.ask_alone(to, on_path, reason, false, None).await,
            (Decision::Reuse(_), _) => {
                let reason = ForwardReason::Request(RequestReason::UnprovenCaller);
                self.ask_alone(to, on_path, reason, true, None).await
            }
            (Decision::Validate(reason) | Decision::Fetch(reason), _) => {
                self.fetch(to, on_path, reason).await
            }
        }
    }

    /// Passes a request on that the cache has no part in.
    async fn pass<B>(
        &self,
        to: &Destination,
        method: Method,
        target: PathAndQuery,
        fields: HeaderMap,
        reason: ForwardReason,
        body: B,
    ) -> Result<Outcome, ProxyError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
    {
        // Its own answer must be as new as its tokens too.
        match to.upstream.learn(&fields, &method, &target).await {
            Learned::Demands(_) => {}
            Learned::Unknown(_, failure) => return Ok(Outcome::failed(failure.error, reason)),
            Learned::Refused(answer) => return Ok(Outcome::passed(&method, answer, reason)),
        }
        let forwarded = self.forwarded(to, method.clone(), target, fields, body).await?;
        Ok(match to.upstream.forward_safe(forwarded).await {
            Ok(answer) => Outcome::passed(&method, answer, reason),
            Err(failure) => Outcome::failed(failure.error, reason),
        })
    }

    /// Passes a write on and learns its outcome, whatever becomes of its caller. A `POST` whose answer describes its own target may
    /// feed later retrievals (`caching.md` rule 20).
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, taken apart once")]
    async fn write<B>(
        &self,
        to: &Destination,
        method: Method,
        target: PathAndQuery,
        fields: HeaderMap,
        post: Option<PresentedRequest>,
        rules: Arc<CachingRules>,
        body: B,
    ) -> Result<Outcome, ProxyError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
    {
        let forwarded = self.forwarded(to, method.clone(), target, fields, body).await?;
        let written = Arc::clone(&to.upstream).write(forwarded, rules, post).await;
        Ok(match written {
            Ok(answer) => Outcome::passed(&method, answer, ForwardReason::Method),
            Err(failure) => Outcome::failed(failure.error, ForwardReason::Method),
        })
    }

    async fn forwarded<B>(
        &self,
        to: &Destination,
        method: Method,
        target: PathAndQuery,
        fields: HeaderMap,
        body: B,
    ) -> Result<Forwarded, ProxyError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
    {
        let mut limits = self.body_limits;
        if to.upstream.credential.signs_body() {
            limits.buffered_bytes = limits.limit_bytes;
        }
        let unknown_tokens = match to.upstream.session.requirement(&fields) {
            Presented::Unknown(values) => values,
            Presented::Known { .. } => Vec::new(),
        };
        let body = take_in(body, limits).await?;
        Ok(Forwarded { method, target, fields, body, body_deadline: limits.deadline, unknown_tokens })
    }
}

impl OnPath {
    fn verdict(&self, to: &Destination, covers: crate::sync_token::coverage::Coverage) -> CoverageVerdict {
        to.upstream.verdict(&self.request, covers, &self.presented)
    }
}

impl Destination {
    fn plan(&self, on_path: &OnPath, validate: bool) -> FlightPlan {
        FlightPlan {
            upstream: Arc::clone(&self.upstream),
            request: Arc::clone(&on_path.request),
            target: on_path.target.clone(),
            rules: Arc::clone(&on_path.rules),
            validate,
        }
    }

    fn identity(&self, fields: &HeaderMap) -> Identity {
        if self.upstream.credential.forwards_callers() {
            self.partitions.identity(fields)
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
            profile: &*self.upstream.profile,
            rules,
        }
    }
}

fn only_if_cached() -> ProxyError {
    ProxyError::Refused(Refused::new(
        RefusalReason::OnlyIfCached,
        "Nothing stored may answer this, and only-if-cached forbids asking upstream. Send the request without it",
    ))
}
