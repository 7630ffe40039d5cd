//! The refusals of the emulator and their problem documents. Many refusals have no body.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use super::change::RecordError;
use crate::profile::app_configuration::api_version::ApiVersionError;
use crate::profile::app_configuration::filter::FilterError;
use crate::profile::app_configuration::query::QueryError;
use crate::profile::app_configuration::resource::TargetError;

const ERRORS: &str = "https://azconfig.io/errors/";

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// 400: an invalid parameter or field of the body.
    InvalidArgument {
        /// Its name.
        name: String,
        /// Why it is refused.
        detail: String,
        /// The position in a filter.
        position: Option<usize>,
    },
    /// 400: an invalid `api-version`.
    ApiVersion(ApiVersionError),
    /// 400 without a body: the target cannot be decoded, or has `%25` in its path.
    MalformedTarget,
    /// 400: the write names no concurrency strategy, under `--require-if-match`.
    PreconditionRequired,
    /// 401 with these challenges.
    Unauthorized(Vec<String>),
    /// 403: a read-only credential used for a write.
    Forbidden,
    /// 404.
    NotFound,
    /// 405 with the methods that are allowed.
    MethodNotAllowed(&'static str),
    /// 409: the key-value is locked.
    KeyLocked(String),
    /// 409: the snapshot exists.
    AlreadyExists,
    /// 409: the snapshot is provisioning or failed.
    InvalidState,
    /// 412.
    PreconditionFailed,
    /// 413.
    BodyTooLarge,
    /// 414.
    TargetTooLong,
    /// 415: neither the vendor's media type nor JSON.
    UnsupportedMediaType,
    /// 416 with the number of items.
    RangeNotSatisfiable(usize),
    /// 431.
    HeadersTooLarge,
    /// 503: the change could not be recorded.
    Unrecorded(String),
}

impl Problem {
    /// Refuses a parameter or a body field.
    pub fn invalid(name: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        let name = name.into();
        Self::InvalidArgument { detail: format!("{name}: {detail}"), name, position: None }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::InvalidArgument { .. }
            | Self::ApiVersion(_)
            | Self::MalformedTarget
            | Self::PreconditionRequired => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::KeyLocked(_) | Self::AlreadyExists | Self::InvalidState => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RangeNotSatisfiable(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Unrecorded(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The problem document (RFC 9457), or nothing.
    pub fn body(&self) -> Bytes {
        let document = match self {
            Self::InvalidArgument { name, detail, position } => Document {
                name: Some(name),
                detail: Some(detail.clone()),
                pos: *position,
                ..self.document("invalid-argument", format!("Invalid request parameter '{name}'"))
            },
            Self::ApiVersion(error) => Document {
                name: Some("api-version"),
                detail: Some("Send one of the api-versions of the service, for example api-version=2026-04-01".to_owned()),
                ..self.document("invalid-argument", error.to_string())
            },
            Self::PreconditionRequired => Document {
                name: Some("If-Match"),
                detail: Some(
                    "Every write must name its concurrency strategy. Optimistic concurrency: send If-Match with the ETag \
                     of the state that you have read; the write fails with 412 if another writer was faster. Last writer \
                     wins: send If-Match: *. To create only: send If-None-Match: *."
                        .to_owned(),
                ),
                ..self.document("precondition-required", "The If-Match header is required".to_owned())
            },
            Self::KeyLocked(key) => Document {
                name: Some(key),
                detail: Some("The key is read-only. To allow modification unlock it first.".to_owned()),
                // The service spells "Modifing" so.
                ..self.document("key-locked", format!("Modifing key '{key}' is not allowed"))
            },
            Self::AlreadyExists => self.document("already-exists", "The resource already exists.".to_owned()),
            Self::InvalidState => self.document("invalid-state", "Target resource state invalid.".to_owned()),
            Self::Unrecorded(reason) => Document {
                detail: Some(reason.clone()),
                ..self.document("unavailable", "The change could not be recorded".to_owned())
            },
            _ => return Bytes::new(),
        };
        // Serialising strings and numbers cannot fail.
        serde_json::to_vec(&document).unwrap_or_default().into()
    }

    fn document(&self, error: &str, title: String) -> Document<'_> {
        let status = self.status().as_u16();
        Document { kind: format!("{ERRORS}{error}"), title, name: None, detail: None, pos: None, status }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pos: Option<usize>,
    status: u16,
}

impl From<FilterError> for Problem {
    fn from(error: FilterError) -> Self {
        Self::InvalidArgument {
            name: error.parameter.to_owned(),
            detail: error.to_string(),
            position: Some(error.position),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::InvalidEscape => Self::MalformedTarget,
            QueryError::Repeated(name) => Self::invalid(name, "Ambiguous value; send the parameter once"),
        }
    }
}

impl From<TargetError> for Problem {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Query(error) => error.into(),
            TargetError::Filter(error) => error.into(),
        }
    }
}

impl From<ApiVersionError> for Problem {
    fn from(error: ApiVersionError) -> Self {
        Self::ApiVersion(error)
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        Self::Unrecorded(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::app_configuration::filter::TextFilter;

    fn text(problem: &Problem) -> String {
        String::from_utf8(problem.body().to_vec()).unwrap()
    }

    #[test]
    fn documents_equal_those_of_the_service() {
        let filter = Problem::from(TextFilter::parse("key", Some("ab*c"), false).unwrap_err());
        assert_eq!(
            text(&filter),
            r#"{"type":"https://azconfig.io/errors/invalid-argument","title":"Invalid request parameter 'key'","name":"key","detail":"key(2): Invalid character","pos":2,"status":400}"#
        );
        assert_eq!(
            text(&Problem::KeyLocked("k".into())),
            r#"{"type":"https://azconfig.io/errors/key-locked","title":"Modifing key 'k' is not allowed","name":"k","detail":"The key is read-only. To allow modification unlock it first.","status":409}"#
        );
        let version = text(&Problem::ApiVersion(ApiVersionError::NotSpecified));
        assert!(
            version.contains(r#""title":"API version is not specified","name":"api-version""#),
            "{version}"
        );
        for problem in
            [Problem::NotFound, Problem::PreconditionFailed, Problem::Forbidden, Problem::MalformedTarget]
        {
            assert!(problem.body().is_empty(), "{problem:?}");
        }
    }

    #[test]
    fn the_strict_mode_explains_both_strategies() {
        let body = text(&Problem::PreconditionRequired);
        assert!(body.contains("Optimistic concurrency") && body.contains("Last writer wins"), "{body}");
    }
}
