//! An answer before the fields are added that every answer has.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::problem::Problem;
use crate::profile::app_configuration::media_type::MediaType;

/// The answer of an endpoint.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// The fields that are not of every answer.
    pub fields: HeaderMap,
    /// The body of a GET; a HEAD gets only its length.
    pub body: Bytes,
    /// The change whose state the answer shows, if it differs from the state that the request's view shows.
    pub shown: Option<u64>,
}

impl Answer {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, fields: HeaderMap::new(), body: Bytes::new(), shown: None }
    }

    /// 200 with a body.
    pub fn ok(content_type: &'static str, body: Bytes) -> Self {
        Self { body, ..Self::empty(StatusCode::OK) }.with(CONTENT_TYPE, content_type)
    }

    /// Adds a field. A value that is invalid in a field is left out.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.fields.append(name, value);
        }
        self
    }

    /// Whether an answer of this status carries a `Sync-Token`. Like App Configuration, the emulator sends it with
    /// success, 304, 404 and 409, and leaves it out of 400, 401, 412 and errors of the server.
    pub fn carries_sync_token(status: StatusCode) -> bool {
        status.is_success()
            || matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NOT_FOUND | StatusCode::CONFLICT)
    }

    /// Makes the response. An answer to HEAD has no body.
    pub fn into_response(self, head: bool) -> Response<Bytes> {
        let length = self.body.len();
        let mut response = Response::new(if head { Bytes::new() } else { self.body });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.fields;
        // hyper sets the length of each body that it sends. The length of the body that a HEAD leaves out is set here.
        // 204 and 304 have no length.
        if head && self.status != StatusCode::NOT_MODIFIED && self.status != StatusCode::NO_CONTENT {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        response
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let body = problem.body();
        let mut answer = Self::empty(problem.status());
        if !body.is_empty() {
            answer = answer.with(CONTENT_TYPE, MediaType::Problem.content_type());
            answer.body = body;
        }
        match problem {
            Problem::Unauthorized(challenges) => challenges
                .into_iter()
                .fold(answer, |answer, challenge| answer.with(http::header::WWW_AUTHENTICATE, challenge)),
            Problem::MethodNotAllowed(methods) => answer.with(http::header::ALLOW, methods),
            Problem::RangeNotSatisfiable(count) => {
                answer.with(http::header::CONTENT_RANGE, format!("items */{count}"))
            }
            Problem::Unrecorded(_) => answer.with(HeaderName::from_static("retry-after-ms"), "500"),
            _ => answer,
        }
    }
}
