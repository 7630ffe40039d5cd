//! Requests that bypass the store: reads that are passed on, and writes.

use std::sync::Arc;

use http::header::RANGE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};

use super::Proxy;
use super::destination::Destination;
use super::outcome::Outcome;
use super::request_context::PassThrough;
use crate::body::FlowingBody;
use crate::config::CachingRules;
use crate::decide::{BypassReason, ForwardReason};
use crate::error::ProxyError;
use crate::headers::survey::FieldSet;
use crate::identify::{Bypassed, Identified};
use crate::presented_request::PresentedRequest;
use crate::profile;
use crate::profile::keyed_fields::KeyedFields;
use crate::stored_response::CacheKey;
use crate::sync_token::aggregate::PresentedTokens;
use crate::transport::caller_body::{CallerBody, read_or_stream};
use crate::upstream::pass_through::PassedRequest;
use crate::upstream::unknown_tokens::ResolvedTokens;

/// A request that is passed on as it is.
pub(super) struct Passing {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) fields: HeaderMap,
    /// The key of which its answer shows the state.
    pub(super) shows: Option<CacheKey>,
    pub(super) body: FlowingBody,
}

impl PassThrough {
    /// Whether it may change something at the origin.
    pub(super) fn is_write(&self) -> bool {
        match &self.identified {
            Identified::Cacheable(_) => true,
            Identified::Bypass(bypassed) => !bypassed.method.is_safe(),
        }
    }

    /// Why the store does not answer it.
    pub(super) fn reason(&self) -> ForwardReason {
        match &self.identified {
            Identified::Bypass(Bypassed { reason, .. })
                if *reason != profile::UnkeyedReason::Method && !self.is_write() =>
            {
                ForwardReason::Bypass(BypassReason::Unkeyed(*reason))
            }
            Identified::Bypass(_) | Identified::Cacheable(_) => ForwardReason::Method,
        }
    }
}

impl Proxy {
    /// A request that is not a retrieval, or not one that the cache handles.
    pub(super) async fn pass_through(
        &self,
        to: &Destination,
        request: PassThrough,
    ) -> Result<Outcome, ProxyError> {
        let reason = request.reason();
        let PassThrough { identified, target, rules, body } = request;
        match identified {
            Identified::Cacheable(post) => {
                let (method, fields, shows) =
                    (post.method.clone(), post.fields.clone(), Some(post.key.clone()));
                let write = Passing { method, target, fields, shows, body };
                self.write(to, write, Some(Arc::unwrap_or_clone(post)), rules).await
            }
            Identified::Bypass(bypassed) if !bypassed.method.is_safe() => {
                let Bypassed { method, fields, .. } = bypassed;
                // What a write shows, it shows of the resource, whatever its fields.
                let shows = shown_key(to, &fields, &KeyedFields::default(), &target);
                self.write(to, Passing { method, target, fields, shows, body }, None, rules).await
            }
            Identified::Bypass(bypassed) => {
                let shows = shown_by_bypassed(to, &bypassed, &target);
                let Bypassed { method, fields, .. } = bypassed;
                self.pass(to, Passing { method, target, fields, shows, body }, reason, &rules).await
            }
        }
    }

    /// Passes on a request that bypasses the cache.
    pub(super) async fn pass(
        &self,
        to: &Destination,
        passing: Passing,
        reason: ForwardReason,
        rules: &CachingRules,
    ) -> Result<Outcome, ProxyError> {
        let Passing { method, target, fields, .. } = &passing;
        let method = method.clone();
        // Its own answer must be as new as its tokens too. Where the origin does not answer with their ids, they go along.
        if let PresentedTokens::Unknown(_) = to.upstream.session().requirement(fields) {
            match Box::pin(to.upstream.resolve_tokens(fields, &method, target, None, rules)).await {
                ResolvedTokens::Demands(_) | ResolvedTokens::StillUnknown { .. } => {}
                ResolvedTokens::Unknown(_, failure) => return Ok(Outcome::failed(failure.error, reason)),
                ResolvedTokens::Refused(answer) => return Ok(Outcome::passed(&method, answer, reason)),
            }
        }
        let forwarded = self.forwarded(to, passing).await?;
        Ok(match to.upstream.forward_safe(forwarded, rules).await {
            Ok(answer) => Outcome::passed(&method, answer, reason),
            Err(failure) => Outcome::failed(failure.error, reason),
        })
    }

    /// Passes a write on and learns its outcome, even if its caller disconnects. The answer to a `POST` may be stored for later
    /// retrievals of its target if its `Content-Location` names that target (RFC 9110 §9.3.3).
    async fn write(
        &self,
        to: &Destination,
        write: Passing,
        post: Option<PresentedRequest>,
        rules: Arc<CachingRules>,
    ) -> Result<Outcome, ProxyError> {
        let (method, target) = (write.method.clone(), write.target.clone());
        let forwarded = self.forwarded(to, write).await?;
        let written = Arc::clone(&to.upstream).write(forwarded, rules, post).await;
        let written = match (&to.mirror, written) {
            (Some(mirror), Ok(answer)) => Box::pin(mirror.heed_write(&method, &target, answer)).await,
            (_, written) => written,
        };
        Ok(match written {
            Ok(answer) => Outcome::passed(&method, answer, ForwardReason::Method),
            Err(failure) => Outcome::failed(failure.error, ForwardReason::Method),
        })
    }

    async fn forwarded(&self, to: &Destination, passing: Passing) -> Result<Box<PassedRequest>, ProxyError> {
        let Passing { method, target, fields, shows, body } = passing;
        let mut limits = self.body_limits;
        if to.upstream.credential().signs_body() {
            limits = limits.signed();
        }
        let unknown_tokens = match to.upstream.session().requirement(&fields) {
            PresentedTokens::Unknown(values) => values,
            PresentedTokens::Known { .. } => Vec::new(),
        };
        let body = match body {
            FlowingBody::Streaming(_) => read_or_stream(body, limits, &self.buffers).await?,
            whole => CallerBody { body: whole, ..CallerBody::empty() },
        };
        let body_deadline = limits.deadline;
        Ok(Box::new(PassedRequest { method, target, fields, body, body_deadline, unknown_tokens, shows }))
    }
}

/// The key of the plain retrieval of a target.
fn shown_key(
    to: &Destination,
    fields: &HeaderMap,
    keyed: &KeyedFields,
    target: &PathAndQuery,
) -> Option<CacheKey> {
    let canonical = to.upstream.profile().canonical_target(&Method::GET, target, FieldSet::default()).ok()?;
    let identity = to.identity(fields);
    Some(keyed.key(to.upstream.name(), &identity.partition, canonical.as_ref()))
}

/// The key of which the answer to a bypassed retrieval shows the state. `None` for a state of another time. A range of items, or
/// a target that the profile does not understand, has a key of its own. A range of bytes has the validators of the whole
/// (RFC 9110 §15.3.7), and an origin may answer it with the whole (§14.2).
fn shown_by_bypassed(to: &Destination, bypassed: &Bypassed, target: &PathAndQuery) -> Option<CacheKey> {
    let is_retrieval = matches!(bypassed.method, Method::GET | Method::HEAD);
    if !is_retrieval || bypassed.reason == profile::UnkeyedReason::AcceptDatetime {
        return None;
    }
    let keyed = to.upstream.profile().keyed_fields(&bypassed.fields);
    let plain = shown_key(to, &bypassed.fields, &keyed, target);
    match (plain, bypassed.fields.get(RANGE)) {
        (Some(key), Some(range))
            if !is_of_bytes(range) && !to.upstream.profile().is_dated(key.canonical_target()) =>
        {
            let part = format!("{}\0{}", key.canonical_target(), String::from_utf8_lossy(range.as_bytes()));
            Some(key.of_target(&part))
        }
        (Some(key), _) => Some(key),
        (None, _) => {
            let identity = to.identity(&bypassed.fields);
            Some(keyed.key(to.upstream.name(), &identity.partition, target.as_str()))
        }
    }
}

fn is_of_bytes(range: &HeaderValue) -> bool {
    let unit = range.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
    unit.trim_ascii().eq_ignore_ascii_case(b"bytes")
}
