//! A request as its endpoint sees it, and the conditions of reads.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
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
pub struct Presented<'a> {
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
    /// Which state it sees.
    pub view: View,
    /// `If-Match` or `If-None-Match`
    pub precondition: Precondition,
    /// When it arrived.
    pub now: Timestamp,
    /// How many items a page has.
    pub page_size: usize,
    /// Whether a 304 names the tag.
    pub tagged_304: bool,
}

impl Presented<'_> {
    /// The `Content-Type` of an answer to this request.
    #[must_use]
    pub fn content_type(&self, media_type: MediaType) -> &'static str {
        media_type.negotiate(self.headers.get(ACCEPT).and_then(|value| value.to_str().ok()))
    }

    /// The opaque position at which a page begins.
    ///
    /// # Errors
    /// 400 when there are two.
    pub fn after(&self) -> Result<Option<&str>, Problem> {
        Ok(self.query.single("after")?.filter(|after| !after.is_empty()))
    }

    /// The filter as the api-version understands it: early ones ignore `tags`.
    #[must_use]
    pub fn understood(&self, mut filter: KeyValueFilter) -> KeyValueFilter {
        if !self.version.has_tag_filters() {
            filter.tags.clear();
        }
        filter
    }

    /// Evaluates the condition of a read against the current tag: 412, or 304 with nothing but at most the tag, or `full`.
    ///
    /// # Errors
    /// 412
    pub fn conditional(&self, etag: &str, full: impl FnOnce() -> Answer) -> Result<Answer, Problem> {
        match self.precondition.evaluate(Some(etag)) {
            Verdict::Failed => Err(Problem::PreconditionFailed),
            Verdict::Unchanged => Ok(Answer {
                etag: self.tagged_304.then(|| quoted_etag(etag)),
                ..Answer::empty(StatusCode::NOT_MODIFIED)
            }),
            Verdict::Holds => Ok(full()),
        }
    }

    /// Checks that the body is of a media type, or JSON.
    ///
    /// # Errors
    /// 415
    pub fn require_body(&self, accepted: impl Fn(&str) -> bool) -> Result<(), Problem> {
        let content_type = self.headers.get(CONTENT_TYPE).map(HeaderValue::to_str);
        match content_type {
            Some(Ok(content_type)) if accepted(content_type) => Ok(()),
            _ => Err(Problem::UnsupportedMediaType),
        }
    }
}
