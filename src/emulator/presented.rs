//! The parsed request that endpoints get, and the conditions of reads.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::Answer;
use super::history::View;
use super::key_values::quoted_etag;
use super::precondition::{Precondition, Verdict};
use super::problem::Problem;
use crate::clock::Timestamp;
use crate::profile::app_configuration::api_version::ApiVersion;
use crate::profile::app_configuration::filter::KeyValueFilter;
use crate::profile::app_configuration::media_type::MediaType;
use crate::profile::app_configuration::query::Query;
use crate::profile::app_configuration::select::Selection;

/// An authenticated request with a known api-version.
#[derive(Debug)]
pub struct ApiRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as on the request line.
    pub path: &'a str,
    /// The query as on the request line.
    pub raw_query: &'a str,
    /// The query, decoded.
    pub query: Query<'a>,
    /// The header section.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a Bytes,
    /// `api-version`
    pub version: ApiVersion,
    /// `$select`
    pub selection: Selection,
    /// The view of the state.
    pub view: View,
    /// `If-Match` or `If-None-Match`
    pub precondition: Precondition,
    /// The time of arrival.
    pub now: Timestamp,
    /// The maximum number of items of a page.
    pub page_size: usize,
    /// Whether a 304 has the field `ETag`.
    pub tagged_304: bool,
}

impl ApiRequest<'_> {
    /// The `Content-Type` of an answer to this request.
    pub fn content_type(&self, media_type: MediaType) -> &'static str {
        media_type.negotiate(self.headers.get(ACCEPT).and_then(|value| value.to_str().ok()))
    }

    /// The opaque position in `after`.
    ///
    /// # Errors
    /// 400 when `after` occurs twice.
    pub fn after(&self) -> Result<Option<&str>, Problem> {
        Ok(self.query.single("after")?.filter(|after| !after.is_empty()))
    }

    /// The filter in the given api-version: versions before `2023-11-01` ignore `tags`.
    pub fn understood(&self, mut filter: KeyValueFilter) -> KeyValueFilter {
        if !self.version.has_tag_filters() {
            filter.tags.clear();
        }
        filter
    }

    /// Evaluates the condition of a read against the current tag. The answer is 412, a 304 (with `ETag` if
    /// `tagged_304`), or `full`.
    pub fn conditional(&self, etag: &str, full: impl FnOnce() -> Answer) -> Result<Answer, Problem> {
        match self.precondition.evaluate(Some(etag)) {
            Verdict::Failed => Err(Problem::PreconditionFailed),
            Verdict::Unchanged if self.tagged_304 => {
                Ok(Answer::empty(StatusCode::NOT_MODIFIED).with(ETAG, quoted_etag(etag)))
            }
            Verdict::Unchanged => Ok(Answer::empty(StatusCode::NOT_MODIFIED)),
            Verdict::Holds => Ok(full()),
        }
    }

    /// Checks that the body has this media type, or JSON.
    pub fn require_body(&self, accepted: impl Fn(&str) -> bool) -> Result<(), Problem> {
        let content_type = self.headers.get(CONTENT_TYPE).map(HeaderValue::to_str);
        match content_type {
            Some(Ok(content_type)) if accepted(content_type) => Ok(()),
            _ => Err(Problem::UnsupportedMediaType),
        }
    }
}
