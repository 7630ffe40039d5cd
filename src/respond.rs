//! The answer to the caller: from a stored response, from upstream, or about what went wrong.

pub mod head_cache;

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION,
    CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, EXPIRES, LAST_MODIFIED, LINK, RETRY_AFTER, VARY, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::body::FlowingBody;
use crate::decide::precondition::{self, Evaluation};
use crate::decide::range::{self, Selected};
use crate::error::{ProblemDetails, ProxyError};
use crate::guard::closes_connection;
use crate::headers::cache_status::CacheStatus;
use crate::headers::hop_by_hop::remove_hop_by_hop;
use crate::headers::lasting::lasting;
use crate::headers::range::ContentRange;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;
use crate::sync_token::session::SYNC_TOKEN;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What the sidecar itself says on an answer.
#[derive(Clone, Debug)]
pub struct OwnFields<'a> {
    /// What happened.
    pub cache_status: CacheStatus<'a>,
    /// The one `Sync-Token` line with the aggregate; `None` while the origin has never sent a token.
    pub sync_token: Option<HeaderValue>,
    /// Our member of `Via`.
    pub via: HeaderValue,
}

impl OwnFields<'_> {
    fn append_to(self, fields: &mut HeaderMap) {
        self.cache_status.append_to(fields);
        if let Some(line) = self.sync_token {
            fields.insert(SYNC_TOKEN, line);
        }
        fields.append(VIA, self.via);
    }
}

/// Answers from a stored response: its status and body, a 304 for a caller that has it already, the bytes that a `Range` asks
/// for, or the head alone for `HEAD`. `age_seconds` is its current age.
#[must_use]
#[inline(never)]
pub fn from_stored(
    request: &PresentedRequest,
    stored: &StoredResponse,
    age_seconds: u64,
    own: OwnFields<'_>,
) -> Response<FlowingBody> {
    match Form::of(request, stored) {
        Form::NotModified => not_modified(stored, age_seconds, own),
        Form::PreconditionFailed => precondition_failed(own),
        Form::Whole { is_head } => whole(is_head, stored, age_seconds, own),
        Form::Part { first, last, complete_length_bytes } => {
            part(stored, first, last, complete_length_bytes, age_seconds, own)
        }
        Form::Unsatisfiable { complete_length_bytes } => unsatisfiable(complete_length_bytes, own),
        // `decide::reuse` lets no part answer for bytes that it does not hold.
        Form::NotHeld => from_error(
            &ProxyError::Internal { cause: "a stored part was to answer for bytes that it lacks".into() },
            own,
        ),
    }
}

/// What of a stored response a caller gets: all that the head of the answer depends on in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    NotModified,
    PreconditionFailed,
    Whole { is_head: bool },
    Part { first: u64, last: u64, complete_length_bytes: u64 },
    Unsatisfiable { complete_length_bytes: u64 },
    NotHeld,
}

impl Form {
    fn of(request: &PresentedRequest, stored: &StoredResponse) -> Self {
        match precondition::evaluate(request, stored) {
            Evaluation::NotModified => return Self::NotModified,
            Evaluation::Failed => return Self::PreconditionFailed,
            Evaluation::Full => {}
        }
        match range::select(request, stored) {
            Some(Selected::Whole) => Self::Whole { is_head: request.method == Method::HEAD },
            Some(Selected::Part { first, last, complete_length_bytes }) => {
                Self::Part { first, last, complete_length_bytes }
            }
            Some(Selected::Unsatisfiable { complete_length_bytes }) => {
                Self::Unsatisfiable { complete_length_bytes }
            }
            None => Self::NotHeld,
        }
    }
}

/// Room for what is added to the stored fields: `Age`, `Cache-Status`, `Sync-Token`, `Via`, `Content-Length`.
const OWN_FIELD_COUNT: usize = 5;

fn whole(
    is_head: bool,
    stored: &StoredResponse,
    age_seconds: u64,
    own: OwnFields<'_>,
) -> Response<FlowingBody> {
    let mut fields = HeaderMap::with_capacity(stored.fields.len() + OWN_FIELD_COUNT);
    // A length that is given to hyper is compared with that of the body, which costs more than to have it written.
    stored.fields.write_those_into(&mut fields, |name| *name != CONTENT_LENGTH);
    let body = if is_head {
        if stored.status != StatusCode::NO_CONTENT {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(stored.body.len()));
        }
        FlowingBody::Empty
    } else {
        // hyper writes the length of a body that it knows.
        FlowingBody::from(stored.body.clone())
    };
    finish(stored.status, fields, body, age_seconds, own)
}

/// A 304 carries what a 200 would have, of what a cache updates itself from (RFC 9110 §15.4.5), and `Link`, since paged lists
/// depend on it: a caller that misses it stops paging.
fn not_modified(stored: &StoredResponse, age_seconds: u64, own: OwnFields<'_>) -> Response<FlowingBody> {
    let mut fields = HeaderMap::with_capacity(8 + OWN_FIELD_COUNT);
    let mut has_tag = false;
    stored.fields.write_those_into(&mut fields, |name| {
        has_tag |= *name == ETAG;
        [ETAG, DATE, LINK, CACHE_CONTROL, VARY, EXPIRES, CONTENT_LOCATION, CDN_CACHE_CONTROL].contains(name)
    });
    if !has_tag {
        stored.fields.write_those_into(&mut fields, |name| *name == LAST_MODIFIED);
    }
    finish(StatusCode::NOT_MODIFIED, fields, FlowingBody::Empty, age_seconds, own)
}

/// The form of App Configuration's 412: nothing tells of the version that is there.
fn precondition_failed(own: OwnFields<'_>) -> Response<FlowingBody> {
    let mut fields = HeaderMap::with_capacity(OWN_FIELD_COUNT);
    // To a HEAD, too.
    fields.insert(CONTENT_LENGTH, HeaderValue::from(0));
    own.append_to(&mut fields);
    assemble(StatusCode::PRECONDITION_FAILED, fields, FlowingBody::Empty)
}

fn part(
    stored: &StoredResponse,
    first: u64,
    last: u64,
    complete_length_bytes: u64,
    age_seconds: u64,
    own: OwnFields<'_>,
) -> Response<FlowingBody> {
    let first_held = stored.range.map_or(0, |range| range.first_byte);
    let position = |byte: u64| usize::try_from(byte - first_held).unwrap_or(usize::MAX);
    let held = &stored.body;
    let body = held.slice(position(first).min(held.len())..position(last).saturating_add(1).min(held.len()));
    let mut fields = HeaderMap::with_capacity(stored.fields.len() + OWN_FIELD_COUNT + 1);
    stored.fields.write_those_into(&mut fields, |name| *name != CONTENT_LENGTH && *name != CONTENT_RANGE);
    let range = ContentRange::Part { first, last, complete_length_bytes: Some(complete_length_bytes) };
    fields.insert(CONTENT_RANGE, range.to_header_value());
    finish(StatusCode::PARTIAL_CONTENT, fields, FlowingBody::from(body), age_seconds, own)
}

fn unsatisfiable(complete_length_bytes: u64, own: OwnFields<'_>) -> Response<FlowingBody> {
    let problem = ProblemDetails {
        reason: "range-not-satisfiable",
        title: "The range does not exist",
        status: StatusCode::RANGE_NOT_SATISFIABLE,
        detail: format!("There are {complete_length_bytes} bytes. Ask for a range that begins before that"),
    };
    let mut response = from_problem(&problem, own);
    let range = ContentRange::Unsatisfied { complete_length_bytes };
    response.headers_mut().insert(CONTENT_RANGE, range.to_header_value());
    response
}

fn finish(
    status: StatusCode,
    mut fields: HeaderMap,
    body: FlowingBody,
    age_seconds: u64,
    own: OwnFields<'_>,
) -> Response<FlowingBody> {
    fields.insert(AGE, age_value(age_seconds));
    own.append_to(&mut fields);
    assemble(status, fields, body)
}

/// The commonest values of `Age`, made when first used.
static AGES: [OnceLock<HeaderValue>; 601] = [const { OnceLock::new() }; 601];

fn age_value(seconds: u64) -> HeaderValue {
    match usize::try_from(seconds).ok().and_then(|seconds| AGES.get(seconds)) {
        Some(slot) => slot.get_or_init(|| lasting(&HeaderValue::from(seconds))).clone(),
        None => HeaderValue::from(seconds),
    }
}

/// Passes on an answer of the upstream that is not answered from the store. What it says stays as it is, save the fields of
/// its own hop and its sync tokens, which the aggregate replaces.
#[must_use]
pub fn from_upstream(
    status: StatusCode,
    mut fields: HeaderMap,
    body: FlowingBody,
    own: OwnFields<'_>,
) -> Response<FlowingBody> {
    remove_hop_by_hop(&mut fields);
    fields.remove(SYNC_TOKEN);
    own.append_to(&mut fields);
    assemble(status, fields, body)
}

/// Takes from the fields of a 200 what describes the body that a 304 does not have (RFC 9110 §15.4.5).
pub fn keep_what_a_304_carries(fields: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE] {
        fields.remove(name);
    }
}

/// Adds the fields that only the caller whose request fetched an answer gets to see. What the answer says itself stays.
#[cold]
pub fn add_withheld(fields: &mut HeaderMap, withheld: HeaderMap) {
    let said: Vec<HeaderName> = withheld.keys().filter(|name| fields.contains_key(*name)).cloned().collect();
    let mut last_name = None;
    for (name, value) in withheld {
        last_name = name.or(last_name);
        if let Some(name) = last_name.as_ref().filter(|name| !said.contains(name) && **name != SYNC_TOKEN) {
            fields.append(name, value);
        }
    }
}

/// The answer to a failure: what went wrong and what to do next.
#[must_use]
#[cold]
pub fn from_error(error: &ProxyError, own: OwnFields<'_>) -> Response<FlowingBody> {
    let mut response = from_problem(&error.problem(), own);
    let fields = response.headers_mut();
    if let Some(pause) = error.retry_after() {
        fields.insert(RETRY_AFTER, HeaderValue::from(whole_seconds_up(pause)));
        fields
            .insert(RETRY_AFTER_MS, HeaderValue::from(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)));
    }
    if let ProxyError::Refused(refused) = error {
        for (name, value) in &refused.fields {
            fields.append(name, value.clone());
        }
    }
    let closes = match error {
        ProxyError::Refused(refused) => closes_connection(refused.reason),
        // The rest of the body may still be on its way.
        ProxyError::BodyTooLarge { .. } | ProxyError::BodyBroken { .. } => true,
        _ => false,
    };
    if closes {
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn from_problem(problem: &ProblemDetails, own: OwnFields<'_>) -> Response<FlowingBody> {
    let mut fields = HeaderMap::with_capacity(8);
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    // No cache between the sidecar and the caller may store it.
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    own.append_to(&mut fields);
    assemble(problem.status, fields, FlowingBody::from(Bytes::from(problem.to_json())))
}

fn whole_seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn assemble(status: StatusCode, fields: HeaderMap, body: FlowingBody) -> Response<FlowingBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

#[cfg(test)]
mod tests;
