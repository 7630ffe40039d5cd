//! Fixtures for the tests of all decisions: a fixed time, and requests, heads and stored responses in a few words.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::body::budget::StoredShare;
use crate::config::caching::CachingRules;
use crate::headers::cache_control::RequestDirectives;
use crate::headers::conditional::Preconditions;
use crate::headers::range::RangeField;
use crate::headers::vary;
use crate::stored_response::{CacheKey, StoredFields, StoredRange, UseMark};

/// A whole second in 2026.
pub(super) const NOW: Timestamp = Timestamp::from_unix_seconds(1_793_923_200);

/// The time this many seconds before [`NOW`]; after it if negative.
pub(super) fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(NOW.as_unix_seconds() - seconds)
}

/// An HTTP date this many seconds before [`NOW`].
pub(super) fn date(seconds_ago: i64) -> String {
    crate::headers::http_date::format(ago(seconds_ago)).to_str().unwrap().to_owned()
}

/// Turns `@N` into the date N seconds before [`NOW`]: tables name times by their distance.
pub(super) fn resolve_dates(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    let resolve = |value: &str| match value.strip_prefix('@') {
        Some(seconds) => date(seconds.parse().unwrap()),
        None => value.to_owned(),
    };
    lines.iter().map(|(name, value)| ((*name).to_owned(), resolve(value))).collect()
}

pub(super) fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

pub(super) fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in &resolve_dates(lines) {
        let name: http::HeaderName = name.parse().unwrap();
        map.append(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

/// A request for `http://origin.example/a?b=c`.
pub(crate) fn request(method: &str, lines: &[(&str, &str)]) -> PresentedRequest {
    let fields = fields(lines);
    let range = match RangeField::from_fields(&fields) {
        RangeField::Single(range) => Some(range),
        _ => None,
    };
    PresentedRequest {
        key: CacheKey::new("origin", "", "/a?b=c"),
        post_target: Some(Box::new("http://origin.example/a?b=c".parse().unwrap())),
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        directives: RequestDirectives::from_fields(&fields),
        preconditions: Preconditions::from_fields(&fields),
        range,
        names_caller: fields.contains_key("cookie"),
        authorized: fields.contains_key("authorization"),
        names_ids: false,
        private_partition: false,
        fields,
    }
}

pub(super) fn get(lines: &[(&str, &str)]) -> PresentedRequest {
    request("GET", lines)
}

/// A head sent and received at [`NOW`].
pub(super) fn head(status: u16, lines: &[(&str, &str)]) -> ResponseHead {
    ResponseHead {
        status: StatusCode::from_u16(status).unwrap(),
        fields: fields(lines),
        request_time: NOW,
        response_time: NOW,
    }
}

/// A response stored at [`NOW`] under RFC 9111 with the body `0123456789`. `storable` is not consulted.
pub(crate) fn stored(status: u16, lines: &[(&str, &str)]) -> StoredResponse {
    let head = head(status, lines);
    let rules = CachingRules::rfc9111();
    let in_force = freshness::directives_in_force(&head, &rules);
    StoredResponse {
        status: head.status,
        fields: StoredFields::pack(&stored_fields::stored_fields(&head, &in_force.directives, &rules)),
        body: Bytes::from_static(b"0123456789"),
        selecting: vary::selecting_key(&head.fields, &HeaderMap::new()).unwrap(),
        request_time: NOW,
        response_time: NOW,
        covers: Coverage { newest_version: 1, closed_position: 1, sent_order: 1, revelation: 0 },
        policy: freshness::policy(&head, &in_force, &rules),
        share: StoredShare::default(),
        range: None,
        is_mirrored: false,
        in_use: UseMark::default(),
    }
}

/// The first `length` of 100 bytes, stored at [`NOW`].
pub(super) fn stored_part(first_byte: u64, length: usize, lines: &[(&str, &str)]) -> StoredResponse {
    StoredResponse {
        status: StatusCode::PARTIAL_CONTENT,
        body: Bytes::from(vec![b'x'; length]),
        range: Some(StoredRange { first_byte, complete_length_bytes: 100 }),
        ..stored(206, lines)
    }
}
