//! Names of response header fields that take one byte in a packed head and need no allocation when it is unpacked.

use std::collections::HashMap;
use std::sync::LazyLock;

use http::header::{self, HeaderName};

/// The names, by code. Codes exist only in memory and are never persisted, so the order may change.
static NAMES: [HeaderName; 71] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::DATE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::CACHE_CONTROL,
    header::EXPIRES,
    header::VARY,
    header::AGE,
    header::LINK,
    header::SERVER,
    header::VIA,
    header::ACCEPT_RANGES,
    header::ALLOW,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_DISPOSITION,
    header::LOCATION,
    header::PRAGMA,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::WARNING,
    header::WWW_AUTHENTICATE,
    header::ALT_SVC,
    header::CACHE_STATUS,
    header::CDN_CACHE_CONTROL,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
    header::REFERRER_POLICY,
    header::REFRESH,
    header::STRICT_TRANSPORT_SECURITY,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_DNS_PREFETCH_CONTROL,
    header::X_FRAME_OPTIONS,
    header::X_XSS_PROTECTION,
    HeaderName::from_static("accept-ch"),
    HeaderName::from_static("accept-patch"),
    HeaderName::from_static("cf-cache-status"),
    HeaderName::from_static("cf-ray"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("cross-origin-opener-policy"),
    HeaderName::from_static("cross-origin-resource-policy"),
    HeaderName::from_static("deprecation"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("memento-datetime"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("permissions-policy"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("request-context"),
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("sunset"),
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("sync-token"),
    HeaderName::from_static("timing-allow-origin"),
    HeaderName::from_static("x-cache"),
    HeaderName::from_static("x-ms-client-request-id"),
    HeaderName::from_static("x-ms-correlation-request-id"),
    HeaderName::from_static("x-ms-date"),
    HeaderName::from_static("x-ms-request-id"),
    HeaderName::from_static("x-powered-by"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-robots-tag"),
];

static CODES: LazyLock<HashMap<HeaderName, u8, ahash::RandomState>> =
    LazyLock::new(|| NAMES.iter().zip(0_u8..).map(|(name, code)| (name.clone(), code)).collect());

/// The code of a name, if there is one.
pub(super) fn code_of(name: &HeaderName) -> Option<u8> {
    CODES.get(name).copied()
}

/// The name of a code.
pub(super) fn name_of(code: u8) -> Option<&'static HeaderName> {
    NAMES.get(usize::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_own_code() {
        assert_eq!(CODES.len(), NAMES.len());
        for (name, code) in NAMES.iter().zip(0_u8..) {
            assert_eq!(code_of(name), Some(code), "{name}");
            assert_eq!(name_of(code), Some(name));
        }
        assert_eq!(name_of(super::super::fields::LITERAL_NAME), None);
    }
}
