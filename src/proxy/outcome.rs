//! The outcome of a request: the reply, and what `Cache-Status` says of it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::destination::Destination;
use crate::body::FlowingBody;
use crate::credentials::unauthorized::SentCredential;
use crate::decide::precondition::{Evaluation, evaluate_unstored};
use crate::decide::storable::NotStored;
use crate::decide::{ForwardReason, Reuse};
use crate::error::ProxyError;
use crate::headers::cache_status::CacheStatus;
use crate::mirror::give_up::GiveUpReason;
use crate::presented_request::PresentedRequest;
use crate::respond;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::UncoveredReason;
use crate::upstream::pass_through::PassedAnswer;
use crate::upstream::result::{SharedResponse, UnsharedAnswer};

/// The detail of an answer that another member of the fleet had asked for.
pub(super) const FLEET: &str = "fleet";

/// The detail of an answer from the store while what the fleet tells does not count.
pub(super) const FLEET_LOST: &str = "fleet-lost";

/// What came of a request.
pub(super) struct Outcome {
    pub(super) status: CacheStatus<'static>,
    pub(super) reply: Reply,
    /// Fields for this caller alone. Boxed, as [`Reply::Upstream`] is: hits, which have none, are moved from stage to stage.
    pub(super) withheld: Option<Box<HeaderMap>>,
    /// The `Sync-Token` line of the answer to the caller's own write, in place of the session's.
    pub(super) own_sync_token: Option<HeaderValue>,
}

pub(super) enum Reply {
    /// From a stored response, or from one that would be stored.
    Stored {
        request: Arc<PresentedRequest>,
        response: Arc<StoredResponse>,
        came_from_origin: bool,
        /// The age that was decided with; `None`: the age when the answer is made.
        age_seconds: Option<u64>,
    },
    /// As it came from upstream.
    Upstream(Box<UpstreamReply>),
    /// The origin was asked, and this went wrong.
    Failed(ProxyError),
}

/// An answer of the upstream that is not answered from the store.
pub(super) struct UpstreamReply {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) body: FlowingBody,
}

/// An answer from the store, before anything is made of it.
pub(super) struct Hit {
    pub(super) request: Arc<PresentedRequest>,
    pub(super) stored: Arc<StoredResponse>,
    pub(super) reuse: Reuse,
}

impl Hit {
    /// What came of the request.
    #[inline]
    pub(super) fn outcome(self, to: &Destination) -> Outcome {
        Outcome::hit(self.request, self.stored, self.reuse).without_fleet(to.upstream.is_without_fleet())
    }
}

impl Outcome {
    fn new(status: CacheStatus<'static>, reply: Reply) -> Self {
        Self { status, reply, withheld: None, own_sync_token: None }
    }

    /// From the store, without asking the origin.
    fn hit(request: Arc<PresentedRequest>, response: Arc<StoredResponse>, reuse: Reuse) -> Self {
        let status = CacheStatus {
            hit: true,
            ttl_seconds: Some(reuse.ttl_seconds),
            detail: reuse.staleness.detail().or(response.detail()),
            ..CacheStatus::default()
        };
        let age_seconds = Some(reuse.age_seconds);
        Self::new(status, Reply::Stored { request, response, came_from_origin: false, age_seconds })
    }

    /// Says that what the fleet tells does not count, where nothing else is said.
    fn without_fleet(mut self, is_without_fleet: bool) -> Self {
        if is_without_fleet && self.status.detail.is_none() {
            self.status.detail = Some(FLEET_LOST);
        }
        self
    }

    /// From the store although the origin was to be asked: `reason` says why, if it was asked.
    pub(super) fn stale(
        request: Arc<PresentedRequest>,
        response: Arc<StoredResponse>,
        reuse: Reuse,
        reason: Option<ForwardReason>,
    ) -> Self {
        let is_restored = response.is_restored();
        let mut outcome = Self::hit(request, response, reuse);
        if is_restored {
            outcome.status.detail = Some(UncoveredReason::Snapshot.as_str());
        }
        if let Some(reason) = reason {
            outcome.status.hit = false;
            outcome.status.fwd = Some(reason.fwd());
        }
        outcome
    }

    pub(super) fn shared(
        request: Arc<PresentedRequest>,
        shared: SharedResponse,
        reason: ForwardReason,
        collapsed: Option<bool>,
    ) -> Self {
        let is_record = shared.known_since.is_some();
        let status = if is_record {
            // The fleet is one cache: nothing went forward.
            CacheStatus { hit: true, stored: shared.stored, detail: Some(FLEET), ..CacheStatus::default() }
        } else {
            CacheStatus {
                fwd_status: (shared.status != shared.response.status).then_some(shared.status),
                stored: shared.stored,
                ..forwarded(reason, collapsed)
            }
        };
        let came_from_origin =
            !is_record && collapsed != Some(true) && shared.status != StatusCode::NOT_MODIFIED;
        let response = shared.response;
        Self::new(status, Reply::Stored { request, response, came_from_origin, age_seconds: None })
    }

    pub(super) fn only(
        request: Arc<PresentedRequest>,
        response: Box<StoredResponse>,
        fwd_status: StatusCode,
        reason: ForwardReason,
        not_stored: NotStored,
    ) -> Self {
        let status = CacheStatus {
            fwd_status: (fwd_status != response.status).then_some(fwd_status),
            detail: Some(reason.detail().unwrap_or(not_stored.as_str())),
            ..forwarded(reason, None)
        };
        let response = response.into();
        Self::new(status, Reply::Stored { request, response, came_from_origin: false, age_seconds: None })
    }

    pub(super) fn unshared(
        request: &PresentedRequest,
        unshared: UnsharedAnswer,
        reason: ForwardReason,
        collapsed: Option<bool>,
    ) -> Self {
        let mut status = CacheStatus {
            detail: Some(reason.detail().unwrap_or(unshared.not_stored.as_str())),
            ..forwarded(reason, collapsed)
        };
        let UnsharedAnswer { head, body, .. } = unshared;
        if evaluate_unstored(request, &head) == Evaluation::NotModified {
            status.fwd_status = Some(head.status);
            let mut fields = head.fields;
            respond::keep_what_a_304_carries(&mut fields);
            let reply = upstream(&request.method, StatusCode::NOT_MODIFIED, fields, FlowingBody::Empty);
            return Self::new(status, reply);
        }
        let reply = upstream(&request.method, head.status, head.fields, body);
        Self::new(status, reply)
    }

    pub(super) fn passed(method: &Method, answer: PassedAnswer, reason: ForwardReason) -> Self {
        let status = forwarded(reason, None);
        let reply = upstream(method, answer.head.status, answer.head.fields, answer.body);
        Self { own_sync_token: answer.sync_token, ..Self::new(status, reply) }
    }

    /// The origin gave no answer, and no stored response may answer.
    pub(super) fn failed(error: ProxyError, reason: ForwardReason) -> Self {
        let status = CacheStatus { detail: Some(error.reason()), ..forwarded(reason, None) };
        Self::new(status, Reply::Failed(error))
    }

    /// The same, where the origin had to be asked before the store could answer: then it is not a hit.
    pub(super) fn after_asking(mut self, reason: ForwardReason) -> Self {
        self.status.hit = false;
        self.status.fwd = Some(reason.fwd());
        self.status.detail = reason.detail();
        self
    }

    /// Says why the mirror did not answer, where nothing else is said.
    pub(super) fn without_mirror(mut self, to: &Destination) -> Self {
        self.status = without_mirror(self.status, to);
        self
    }

    /// With the fields that only the caller whose request fetched the answer gets to see.
    pub(super) fn with_own_fields(self, withheld: HeaderMap) -> Self {
        Self { withheld: (!withheld.is_empty()).then(|| Box::new(withheld)), ..self }
    }

    /// What a caller is told instead of a 401 that it would not understand.
    pub(super) fn explanation(&self, proof: SentCredential, to: &Destination) -> Option<ProxyError> {
        match &self.reply {
            Reply::Upstream(reply) => proof.explains(reply.status, &reply.fields, to.upstream.authority()),
            Reply::Stored { response, .. } if response.status == StatusCode::UNAUTHORIZED => {
                let fields = response.fields.to_header_map();
                proof.explains(response.status, &fields, to.upstream.authority())
            }
            Reply::Stored { .. } | Reply::Failed(_) => None,
        }
    }

    /// The status of an answer that came as it is from upstream.
    pub(super) const fn status(&self) -> Option<StatusCode> {
        match &self.reply {
            Reply::Upstream(reply) => Some(reply.status),
            Reply::Stored { .. } | Reply::Failed(_) => None,
        }
    }
}

/// What `Cache-Status` says of a request that goes upstream, as far as it is known before the answer.
pub(super) const fn forwarded(reason: ForwardReason, collapsed: Option<bool>) -> CacheStatus<'static> {
    CacheStatus {
        hit: false,
        fwd: Some(reason.fwd()),
        fwd_status: None,
        ttl_seconds: None,
        stored: false,
        collapsed,
        key: None,
        detail: reason.detail(),
    }
}

/// The same with the reason why the mirror did not answer, where nothing else is said.
pub(super) fn without_mirror(status: CacheStatus<'static>, to: &Destination) -> CacheStatus<'static> {
    match &to.mirror {
        Some(mirror) if status.fwd.is_some() && status.detail.is_none() => {
            CacheStatus { detail: mirror.gave_up().map(GiveUpReason::as_str), ..status }
        }
        _ => status,
    }
}

/// What `Cache-Status` says of a request that the sidecar answers itself, without the store.
pub(super) const fn unanswered(error: &ProxyError) -> CacheStatus<'static> {
    CacheStatus {
        hit: false,
        fwd: None,
        fwd_status: None,
        ttl_seconds: None,
        stored: false,
        collapsed: None,
        key: None,
        detail: Some(error.reason()),
    }
}

fn upstream(method: &Method, status: StatusCode, fields: HeaderMap, body: FlowingBody) -> Reply {
    // A `HEAD` may have been fetched as a `GET`.
    let body = if method == Method::HEAD { FlowingBody::Empty } else { body };
    Reply::Upstream(Box::new(UpstreamReply { status, fields, body }))
}
