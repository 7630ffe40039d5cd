//! `Retry-After` (RFC 9110 §10.2.3) and the two fields in milliseconds that Azure's services send beside it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::http_date;
use crate::clock::Timestamp;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const X_MS_RETRY_AFTER_MS: HeaderName = HeaderName::from_static("x-ms-retry-after-ms");

/// How long a 429 or 503 asks its clients to wait. `None` for other answers and for a malformed or absent hint.
///
/// `retry-after-ms` wins over `x-ms-retry-after-ms`, and both win over `Retry-After` (seconds or date, RFC 9110
/// §10.2.3): the order of Azure's SDKs.
pub fn retry_after(status: StatusCode, fields: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let milliseconds = [RETRY_AFTER_MS, X_MS_RETRY_AFTER_MS].iter().find_map(|name| digits(fields, name));
    if let Some(milliseconds) = milliseconds {
        return Some(Duration::from_millis(milliseconds));
    }
    digits(fields, &header::RETRY_AFTER).map(Duration::from_secs).or_else(|| {
        let date = http_date::parse(fields.get(header::RETRY_AFTER)?.as_bytes())?;
        Some(date.since(now))
    })
}

fn digits(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = fields.get(name)?.to_str().ok()?.trim();
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(784_111_777);

    fn hint(status: u16, fields: &[(&str, &str)]) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                value.parse().expect("a field value"),
            );
        }
        retry_after(StatusCode::from_u16(status).expect("a status"), &map, NOW)
    }

    #[test]
    fn hints_are_read_in_the_order_of_the_sdks() {
        let all = [("retry-after", "9"), ("x-ms-retry-after-ms", "60"), ("retry-after-ms", "50")];
        assert_eq!(hint(429, &all), Some(Duration::from_millis(50)));
        assert_eq!(hint(503, &all[..2]), Some(Duration::from_millis(60)));
        assert_eq!(hint(429, &all[..1]), Some(Duration::from_secs(9)));
        assert_eq!(
            hint(429, &[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")]),
            Some(Duration::from_secs(10))
        );
        assert_eq!(hint(429, &[("retry-after", "Sun, 06 Nov 1994 08:49:27 GMT")]), Some(Duration::ZERO));
        for bad in ["soon", "-1", "1.5", ""] {
            assert_eq!(hint(429, &[("retry-after", bad)]), None, "{bad:?}");
        }
        assert_eq!(hint(429, &[]), None);
        assert_eq!(hint(500, &all), None, "only 429 and 503 throttle");
        assert_eq!(
            hint(429, &[("retry-after", "99999999999999999999")]),
            Some(Duration::from_secs(u64::MAX))
        );
    }
}
