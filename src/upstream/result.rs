//! What comes of a fetch: for its leader, for its followers, and when there is no answer.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;

use crate::body::FlowingBody;
use crate::decide::storable::NotStored;
use crate::decide::{ResponseHead, Unreachable};
use crate::error::ProxyError;
use crate::stored_response::StoredResponse;
use crate::transport::shared_body::SharedBody;

/// The result of a fetch for all its followers. Cheap to clone.
#[derive(Clone, Debug)]
pub enum SharedResult {
    /// A response that is stored, or would be if there were room: every follower may be answered from it.
    Response(SharedResponse),
    /// A response that would be stored if its body did not take so long: every follower may be answered from it as it arrives.
    Arriving(ArrivingResponse),
    /// The answer is for the leader alone: ask for yourself.
    NotShared {
        /// It is a failure that may pass: the next answer may be for all.
        may_pass: bool,
    },
    /// There is no answer.
    Failed(UpstreamFailure),
}

/// A response for all followers.
#[derive(Clone, Debug)]
pub struct SharedResponse {
    /// The response.
    pub response: Arc<StoredResponse>,
    /// The status that came back.
    pub status: StatusCode,
    /// Whether it is in the store: something with a greater coverage may have been there.
    pub stored: bool,
    /// It is a record of the fleet, whose content was made known behind this place in the order of sending. `None`: it is the origin's answer.
    pub known_since: Option<u64>,
}

/// A response for all followers whose body has not arrived yet.
#[derive(Clone, Debug)]
pub struct ArrivingResponse {
    /// The response without its body.
    pub head: Arc<StoredResponse>,
    /// Its body; that of a clone is another reader of the same.
    pub body: SharedBody,
}

impl ArrivingResponse {
    /// The answer for one of those that share it.
    #[must_use]
    pub fn into_unshared(self) -> UnsharedAnswer {
        let head = ResponseHead {
            status: self.head.status,
            fields: self.head.fields.to_header_map(),
            request_time: self.head.request_time,
            response_time: self.head.response_time,
        };
        let body = FlowingBody::Streaming(self.body.boxed_unsync());
        UnsharedAnswer { head, body, not_stored: NotStored::BodyTooSlow }
    }
}

/// Why there is no answer, for `decide::disconnected` and for the caller.
#[derive(Clone, Debug)]
pub struct UpstreamFailure {
    /// What kind of failure.
    pub why: Unreachable,
    /// What to tell the caller if nothing stored may answer.
    pub error: ProxyError,
}

/// The result of a fetch for its leader.
#[derive(Debug)]
pub enum LeaderResult {
    /// The same as for the followers.
    Shared(SharedResult),
    /// The same response as for the followers, with the fields that are for the leader alone.
    Stored {
        /// What the followers get.
        shared: SharedResponse,
        /// The fields that are withheld from all others.
        withheld: HeaderMap,
    },
    /// A response for this caller alone that the store helped to make.
    Only {
        /// The response.
        response: Box<StoredResponse>,
        /// The status that came back.
        status: StatusCode,
        /// Why it is not stored.
        not_stored: NotStored,
    },
    /// An answer for this caller alone, streaming.
    Alone(UnsharedAnswer),
}

/// An answer for one caller alone.
#[derive(Debug)]
pub struct UnsharedAnswer {
    /// Its head as it came.
    pub head: ResponseHead,
    /// Its body, streaming.
    pub body: FlowingBody,
    /// Why it was not stored.
    pub not_stored: NotStored,
}

impl UnsharedAnswer {
    /// Whether it is a failure that may pass: it says nothing of the next answer.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        Unreachable::of_status(self.head.status).is_some()
    }
}

impl From<&ProxyError> for Unreachable {
    fn from(error: &ProxyError) -> Self {
        match error {
            ProxyError::AnswerTimeout { .. }
            | ProxyError::BodyTimeout { .. }
            | ProxyError::ConnectTimeout { .. } => Self::TimedOut,
            ProxyError::BrokenAnswer { .. } | ProxyError::NoAnswer { .. } => Self::Broken,
            ProxyError::Throttled { .. } => Self::Throttled,
            ProxyError::Overloaded { .. } => Self::Overloaded,
            _ => Self::Connect,
        }
    }
}

impl From<ProxyError> for UpstreamFailure {
    fn from(error: ProxyError) -> Self {
        Self { why: Unreachable::from(&error), error }
    }
}
