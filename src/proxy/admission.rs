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
use crate::config::{Config, ListenerSettings};
use crate::credentials::token_file::Absent;
use crate::error::ProxyError;
use crate::guard::Guard;
use crate::guard::callers::{AuthenticatedCaller, Callers};
use crate::guard::in_flight::{InFlight, RequestPermit};
use crate::headers::hmac_authorization::SignedContent;
use crate::headers::survey::Survey;
use crate::headers::via::Pseudonym;
use crate::transport::caller_body::{CallerBodyLimits, read_or_stream};

/// A listener, and what its callers must prove.
type ListenerCallers = (Box<str>, Arc<Callers>);

/// The checks that admit a request or refuse it.
pub(super) struct Admission {
    guard: Guard,
    /// Listeners whose callers must prove themselves; the others are open.
    callers: Vec<ListenerCallers>,
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
            callers.extend(callers_of(listener, absent_token)?);
        }
        Ok(Self {
            guard: Guard::new(&config.guard, &config.limits, pseudonym),
            callers,
            body_limits,
            buffers: Arc::clone(buffers),
            in_flight: InFlight::new(&config.limits),
        })
    }

    /// The rules of another configuration, with the same requests in flight. Credentials of callers that stay the same are not read anew: their
    /// files are watched.
    ///
    /// # Errors
    /// As for [`Admission::new`].
    pub(super) fn reconfigured(
        &self,
        (before, config): (&Config, &Config),
        body_limits: CallerBodyLimits,
        absent_token: Absent,
    ) -> Result<Self, AssembleError> {
        let mut callers = Vec::new();
        for (before, listener) in before.listeners.iter().zip(&config.listeners) {
            let credentials = |it: &ListenerSettings| {
                (it.local_keys_file.clone(), it.bearer_file.clone(), it.bearer_field.clone())
            };
            if credentials(before) == credentials(listener) {
                let same = self.callers.iter().find(|(name, _)| **name == *listener.name);
                callers.extend(same.cloned());
            } else {
                callers.extend(callers_of(listener, absent_token)?);
            }
        }
        Ok(Self {
            guard: Guard::new(&config.guard, &config.limits, self.pseudonym().clone()),
            callers,
            body_limits,
            buffers: Arc::clone(&self.buffers),
            in_flight: Arc::clone(&self.in_flight),
        })
    }

    /// Puts the limits of a configuration in force for all requests in flight together.
    pub(super) fn take_over(&self, config: &Config) {
        self.in_flight.set_limits(&config.limits);
        self.buffers.set_limit(config.limits.buffered_bodies_bytes);
    }

    /// What it reads of the configuration, for tests.
    #[cfg(test)]
    pub(super) fn in_force(&self) -> String {
        let Self { guard, callers, body_limits, buffers, in_flight } = self;
        // The name in `Via` differs from process to process.
        let guard = format!("{guard:?}").split("pseudonym").next().unwrap_or_default().to_owned();
        format!("guard {guard}\ncallers {callers:?}\n{body_limits:?} {buffers:?}\nin_flight {in_flight:?}")
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
        let content = content.map(|content| (&**rules, content));
        Ok(ProvenRequest { survey: Survey::of(&head.headers), content, permit })
    }
}

/// The credentials that a listener asks its callers for, with its name; none if it is open.
fn callers_of(
    listener: &ListenerSettings,
    absent_token: Absent,
) -> Result<Option<ListenerCallers>, AssembleError> {
    let name = || listener.name.clone();
    let rules = Callers::new(listener, absent_token)
        .map_err(|source| AssembleError::Callers { name: name(), source })?;
    Ok(rules.map(|rules| (name().into_boxed_str(), Arc::new(rules))))
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
