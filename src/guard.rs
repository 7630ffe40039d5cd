//! Whether a caller may use this listener, and whether its request means the same to every recipient.
//!
//! The guard comes before every other stage: a refused request neither reads the store nor reaches the origin.

pub mod callers;
pub mod in_flight;
pub mod local_keys;
pub mod permissions;

use std::sync::OnceLock;

use http::header::{EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Version};

use crate::config::{GuardSettings, Limits};
use crate::error::{RefusalReason, Refused};
use crate::headers::request_source::{AllowedSources, SourceError};
use crate::headers::survey::{FieldSet, Survey};
use crate::headers::via::Pseudonym;

/// The rules of one listener.
#[derive(Clone, Debug)]
pub struct Guard {
    sources: AllowedSources,
    allow_forwarded: bool,
    limit_target_bytes: usize,
    limit_section_bytes: usize,
    limit_lines: usize,
    pseudonym: Pseudonym,
    /// The first `Host` that was admitted. Nearly every caller sends the same one, and the rules of a guard never change.
    admitted_host: OnceLock<HeaderValue>,
}

impl Guard {
    /// The rules of a configuration; `pseudonym` is the name of this sidecar in `Via`.
    #[must_use]
    pub fn new(settings: &GuardSettings, limits: &Limits, pseudonym: Pseudonym) -> Self {
        Self {
            sources: AllowedSources::new(&settings.allowed_hosts, &settings.allowed_origins),
            allow_forwarded: settings.allow_forwarded,
            limit_target_bytes: usize::try_from(limits.target_bytes).unwrap_or(usize::MAX),
            limit_section_bytes: usize::try_from(limits.header_section_bytes).unwrap_or(usize::MAX),
            limit_lines: limits.header_fields,
            pseudonym,
            admitted_host: OnceLock::new(),
        }
    }

    /// The name of this sidecar in `Via`.
    #[must_use]
    pub const fn pseudonym(&self) -> &Pseudonym {
        &self.pseudonym
    }

    /// Admits a request or says why not. `survey` is the survey of its header section.
    ///
    /// # Errors
    ///
    /// The refusal that answers the caller. Its connection must be closed if the end of the request is in doubt
    /// ([`closes_connection`]).
    pub fn admit(&self, head: &Parts, survey: &Survey) -> Result<(), Refused> {
        self.check_sizes(head, survey)?;
        check_method(&head.method)?;
        check_framing(head, survey)?;
        check_target(head)?;
        self.check_host(head, survey).map_err(refused_source)?;
        if survey.has(FieldSet::EXPECT) {
            check_expectation(&head.headers)?;
        }
        if survey.has(FieldSet::VIA) && self.pseudonym.is_in(&head.headers) {
            return Err(Refused::new(
                RefusalReason::Loop,
                "The request has passed through this sidecar before. Point the upstream at the API, not at a sidecar",
            ));
        }
        if !self.allow_forwarded && survey.has(FieldSet::FORWARDED.union(FieldSet::VIA)) {
            return Err(Refused::new(
                RefusalReason::Forwarded,
                "Another proxy forwarded this request (X-Forwarded-For, Forwarded or Via). Call the sidecar directly, or \
                 set guard.allow_forwarded",
            ));
        }
        if survey.has(FieldSet::ORIGIN.union(FieldSet::SEC_FETCH_SITE)) {
            self.sources.check(head).map_err(refused_source)?;
        }
        Ok(())
    }

    /// Checks `Host`, which nearly every request has to the byte as the one before.
    fn check_host(&self, head: &Parts, survey: &Survey) -> Result<(), SourceError> {
        // The only thing that names a host, and the same to the byte.
        let host = head
            .headers
            .get(HOST)
            .filter(|_| head.uri.authority().is_none() && !survey.repeated.intersects(FieldSet::HOST));
        if host.is_some() && host == self.admitted_host.get() {
            return Ok(());
        }
        self.sources.check_host(head)?;
        if let Some(host) = host
            && self.admitted_host.get().is_none()
            && let Ok(copy) = HeaderValue::from_bytes(host.as_bytes())
        {
            // A copy keeps no buffer of a connection alive. Another thread may have been first.
            let _first = self.admitted_host.set(copy);
        }
        Ok(())
    }

    fn check_sizes(&self, head: &Parts, survey: &Survey) -> Result<(), Refused> {
        let target_bytes = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target_bytes > self.limit_target_bytes {
            return Err(Refused::new(
                RefusalReason::TargetTooLong,
                format!(
                    "The target has {target_bytes} bytes, {} are accepted. Ask for less at once, or raise limits.target",
                    self.limit_target_bytes
                ),
            ));
        }
        if survey.lines > self.limit_lines {
            return Err(Refused::new(
                RefusalReason::HeaderSectionTooLarge,
                format!(
                    "The request has {} header fields, {} are accepted. Send fewer, or raise limits.header_fields",
                    survey.lines, self.limit_lines
                ),
            ));
        }
        if survey.size_bytes > self.limit_section_bytes {
            return Err(Refused::new(
                RefusalReason::HeaderSectionTooLarge,
                format!(
                    "The header section has {} bytes, {} are accepted. Send less, or raise limits.header_section",
                    survey.size_bytes, self.limit_section_bytes
                ),
            ));
        }
        Ok(())
    }
}

fn refused_source(error: SourceError) -> Refused {
    let reason = match error {
        SourceError::Host(_) => RefusalReason::Host,
        SourceError::HostNotAllowed => RefusalReason::HostNotAllowed,
        SourceError::CrossOrigin => RefusalReason::CrossOrigin,
    };
    Refused::new(reason, error.to_string())
}

/// Whether the connection must be closed after a refusal, because the end of the request is in doubt.
#[must_use]
pub const fn closes_connection(reason: RefusalReason) -> bool {
    matches!(
        reason,
        RefusalReason::Method
            | RefusalReason::Target
            | RefusalReason::TargetTooLong
            | RefusalReason::HeaderSectionTooLarge
            | RefusalReason::Host
            | RefusalReason::TransferCoding
            | RefusalReason::ContentLength
            | RefusalReason::Expectation
            | RefusalReason::BodyOnRetrieval
    )
}

fn check_method(method: &Method) -> Result<(), Refused> {
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(Refused::new(
            RefusalReason::Method,
            format!("{method} is never passed on. Use the method that the API documents"),
        ));
    }
    Ok(())
}

/// Framing as RFC 9112 §6 demands it. hyper is less strict: it passes lists such as `identity, chunked`.
fn check_framing(head: &Parts, survey: &Survey) -> Result<(), Refused> {
    if survey.has(FieldSet::TRANSFER_ENCODING) {
        let is_chunked = head
            .headers
            .get(TRANSFER_ENCODING)
            .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if !is_chunked
            || survey.repeated.intersects(FieldSet::TRANSFER_ENCODING)
            || head.version <= Version::HTTP_10
        {
            return Err(Refused::new(
                RefusalReason::TransferCoding,
                "The only transfer coding understood is `chunked`, once, in HTTP/1.1. Send that, or Content-Length",
            ));
        }
    }
    if survey.repeated.intersects(FieldSet::CONTENT_LENGTH) {
        let mut lengths = head.headers.get_all(http::header::CONTENT_LENGTH).iter();
        let first = lengths.next();
        if lengths.any(|other| Some(other) != first) {
            return Err(Refused::new(
                RefusalReason::ContentLength,
                "Content-Length stands on several lines that differ. Send one",
            ));
        }
    }
    Ok(())
}

/// The request target: origin form, absolute form, or `*` for `OPTIONS` (RFC 9112 §3.2).
fn check_target(head: &Parts) -> Result<(), Refused> {
    let uri = &head.uri;
    let scheme_is_http =
        uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let path = uri.path();
    let is_understood = scheme_is_http
        && (uri.scheme().is_some() || uri.authority().is_none())
        && (path.starts_with('/') || (path == "*" && head.method == Method::OPTIONS));
    if is_understood {
        return Ok(());
    }
    Err(Refused::new(
        RefusalReason::Target,
        "The target must be a path that begins with a slash, or an http or https URI",
    ))
}

fn check_expectation(fields: &HeaderMap) -> Result<(), Refused> {
    let is_known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if fields.get_all(EXPECT).iter().all(is_known) {
        return Ok(());
    }
    Err(Refused::new(
        RefusalReason::Expectation,
        "The only expectation that can be met is 100-continue. Leave the Expect field out",
    ))
}

#[cfg(test)]
mod tests;
