//! The first stage of the path: whether the request is accepted, which caller sent it, and whether that caller may ask for it.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use http::Extensions;
use http::request::Parts;
use http::uri::PathAndQuery;
use http_body::Body;
use http_body_util::BodyExt as _;

use super::Caller;
use super::assemble::AssembleError;
use super::destination::Destination;
use crate::body::budget::BufferBudget;
use crate::body::unread::UnreadBody;
use crate::body::{BodyError, FlowingBody};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::credentials::token_file::Absent;
use crate::error::ProxyError;
use crate::guard::Guard;
use crate::guard::callers::{AuthenticatedCaller, Callers};
use crate::guard::in_flight::{InFlight, RequestPermit};
use crate::headers::hmac_authorization::SignedContent;
use crate::headers::survey::Survey;
use crate::headers::via::Pseudonym;
use crate::transport::caller_body::{CallerBodyLimits, read_or_stream};

/// The checks that admit a request or refuse it.
pub(super) struct Admission {
    guard: Guard,
    /// Listeners whose callers must prove themselves; the others are open.
    callers: Vec<(Box<str>, Callers)>,
    body_limits: CallerBodyLimits,
    buffers: Arc<BufferBudget>,
    in_flight: Arc<InFlight>,
}

/// A request that was admitted.
pub(super) struct Admitted {
    /// Its head, without what proved its sender.
    pub(super) head: Parts,
    /// What the head holds.
    pub(super) survey: Survey,
    /// Its body: checked and in memory if it was signed.
    pub(super) body: FlowingBody,
}

/// A request whose caller has proved its identity, before its body.
pub(super) struct ProvenRequest<'a, P> {
    /// What its head holds.
    pub(super) survey: Survey,
    /// The hash that its body must have, if it is signed, and who compares it.
    content: Option<(&'a Callers, SignedContent)>,
    permit: P,
}

impl Admission {
    /// The rules of a configuration.
    ///
    /// # Errors
    /// [`AssembleError::Callers`] when the keys or the token of a listener cannot be had.
    pub(super) fn new(
        config: &Config,
        pseudonym: Pseudonym,
        body_limits: CallerBodyLimits,
        buffers: &Arc<BufferBudget>,
        absent_token: Absent,
    ) -> Result<Self, AssembleError> {
        let mut callers = Vec::new();
        for listener in &config.listeners {
            let rules = Callers::new(listener, absent_token)
                .map_err(|source| AssembleError::Callers { name: listener.name.clone(), source })?;
            if let Some(rules) = rules {
                callers.push((listener.name.clone().into_boxed_str(), rules));
            }
        }
        Ok(Self {
            guard: Guard::new(&config.guard, &config.limits, pseudonym),
            callers,
            body_limits,
            buffers: Arc::clone(buffers),
            in_flight: InFlight::new(&config.limits),
        })
    }

    /// How this sidecar names itself in `Via`.
    pub(super) const fn pseudonym(&self) -> &Pseudonym {
        self.guard.pseudonym()
    }

    /// Whether callers on this caller's listener must prove their identity.
    pub(super) fn asks_who_calls(&self, caller: &Caller) -> bool {
        self.callers.iter().any(|(listener, _)| **listener == *caller.listener)
    }

    /// A permit for a request in flight, until the head of the answer is there. A hit needs none, because it does not wait.
    ///
    /// # Errors
    /// [`ProxyError::Overloaded`]
    pub(super) fn permit(&self, peer: &Arc<str>) -> Result<RequestPermit, ProxyError> {
        self.in_flight.enter()?.of(peer)
    }

    /// Whether [`Admission::permit`] would give one now.
    ///
    /// # Errors
    /// [`ProxyError::Overloaded`]
    pub(super) fn check_permit(&self, peer: &Arc<str>) -> Result<(), ProxyError> {
        self.in_flight.check(peer)
    }

    /// Admits a request on a listener without caller credentials, or says why not.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn admit(
        &self,
        to: &Destination,
        head: &Parts,
        target: &PathAndQuery,
    ) -> Result<Survey, ProxyError> {
        let survey = Survey::of(&head.headers);
        self.guard.admit(head, &survey)?;
        to.permissions.check(&head.method, target.path(), &head.headers)?;
        Ok(survey)
    }

    /// Admits a request whose caller proves its identity. `target` is as it goes upstream; signatures are checked over the one
    /// received.
    ///
    /// # Errors
    /// The refusal, or what is wrong with a signed body.
    pub(super) async fn admit_proven(
        &self,
        caller: &Caller,
        to: &Destination,
        mut head: Parts,
        target: &PathAndQuery,
        body: FlowingBody,
        now: Timestamp,
    ) -> Result<(Admitted, RequestPermit), ProxyError> {
        let permit = self.in_flight.enter()?;
        let proven = self.prove(caller, to, &mut head, target, now, |name| permit.of(name)).await?;
        let ProvenRequest { survey, content, permit } = proven;
        let body = match content {
            Some((rules, content)) => {
                // No byte of it may go upstream before the whole body has been compared with its signed hash.
                let body = read_or_stream(body, self.body_limits.signed(), &self.buffers).await?.body;
                match &body {
                    FlowingBody::Empty => rules.check_content(&content, b"")?,
                    FlowingBody::Full(bytes) => rules.check_content(&content, bytes)?,
                    FlowingBody::Streaming(_) => {
                        return Err(ProxyError::BodyTooLarge { limit_bytes: self.body_limits.limit_bytes });
                    }
                }
                body
            }
            None => body,
        };
        Ok((Admitted { head, survey, body }, permit))
    }
}

impl Admission {
    /// Admits the head of a request whose caller proves its identity, and takes the credential out of it. `permit` is asked with the
    /// name of the caller, before its permissions are.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn prove<P>(
        &self,
        caller: &Caller,
        to: &Destination,
        head: &mut Parts,
        target: &PathAndQuery,
        now: Timestamp,
        permit: impl FnOnce(&Arc<str>) -> Result<P, ProxyError>,
    ) -> Result<ProvenRequest<'_, P>, ProxyError> {
        self.guard.admit(head, &Survey::of(&head.headers))?;
        let rules = self.callers.iter().find(|(listener, _)| **listener == *caller.listener);
        let Some((_, rules)) = rules else {
            let survey = self.admit(to, head, target)?;
            return Ok(ProvenRequest { survey, content: None, permit: permit(&caller.peer)? });
        };
        let AuthenticatedCaller { name, access, content } = rules.authenticate(head, now).await?;
        let permit = permit(&name)?;
        to.permissions.check(&head.method, target.path(), &head.headers)?;
        access.check(&head.method, target, &head.headers, &**to.upstream.profile())?;
        let content = content.map(|content| (rules, content));
        Ok(ProvenRequest { survey: Survey::of(&head.headers), content, permit })
    }
}

/// A body as it comes from a caller's connection, which is told when the body is left unread.
pub(super) fn flowing<B>(body: B, extensions: &mut Extensions) -> FlowingBody
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Display,
{
    if body.is_end_stream() {
        return FlowingBody::Empty;
    }
    let received = body.map_err(|error| BodyError::Received(error.to_string()));
    FlowingBody::Streaming(match extensions.remove::<UnreadBody>() {
        Some(mark) => mark.watch(received).boxed_unsync(),
        None => received.boxed_unsync(),
    })
}
