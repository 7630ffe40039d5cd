//! Dates that clients put into request fields: `x-ms-date` and `Date` of a signed request, and `Accept-Datetime`.
//!
//! A strict HTTP-date parser (RFC 9110 §5.6.7) refuses every request of the Python client, which signs
//! `Nov, 21 2026 21:38:01.991863 GMT`, and every time travel of the SDKs, which send RFC 3339 in two spellings.

use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::http_date;
use crate::clock::Timestamp;

/// Reads the date of a signed request: the three HTTP-date forms of RFC 9110 §5.6.7, or the form that the Python client
/// writes. `None` for anything else.
pub fn parse_signing_date(text: &str) -> Option<Timestamp> {
    let text = text.trim_ascii();
    http_date::parse(text.as_bytes()).or_else(|| parse_month_first(text))
}

/// Reads an `Accept-Datetime` (RFC 7089): an HTTP-date, RFC 3339 with `T` or a space, or the same without an offset,
/// which then means UTC. `None` for anything else.
pub fn parse_accept_datetime(text: &str) -> Option<Timestamp> {
    let text = text.trim_ascii();
    parse_signing_date(text).or_else(|| parse_rfc3339(text))
}

/// Reads a date and time of RFC 3339, with `T` or a space; without an offset it means UTC.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let instant = text.parse::<jiff::Timestamp>();
    instant.ok().map(from_jiff).or_else(|| in_utc(text.parse().ok()?))
}

/// `Nov, 21 2026 21:38:01.991863 GMT`.
fn parse_month_first(text: &str) -> Option<Timestamp> {
    // The library takes numbers with a sign.
    let is_signed = text.contains(['+', '-']);
    in_utc(DateTime::strptime("%b, %d %Y %H:%M:%S%.f GMT", text).ok().filter(|_| !is_signed)?)
}

fn in_utc(time: DateTime) -> Option<Timestamp> {
    Offset::UTC.to_timestamp(time).ok().map(from_jiff)
}

fn from_jiff(time: jiff::Timestamp) -> Timestamp {
    Timestamp::from_unix_micros(time.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fri, 21 Nov 2025 10:00:00 GMT.
    const EXPECTED: Timestamp = Timestamp::from_unix_seconds(1_763_719_200);

    #[test]
    fn reads_every_form_that_clients_sign() {
        for text in [
            "Fri, 21 Nov 2025 10:00:00 GMT",
            "Friday, 21-Nov-25 10:00:00 GMT",
            "Fri Nov 21 10:00:00 2025",
            "Nov, 21 2025 10:00:00.000000 GMT",
            "Nov, 21 2025 10:00:00 GMT",
            "  Nov, 21 2025 10:00:00.0 GMT ",
        ] {
            assert_eq!(parse_signing_date(text), Some(EXPECTED), "{text}");
        }
        let python = parse_signing_date("Nov, 21 2025 10:00:00.123456 GMT");
        assert_eq!(python, Some(Timestamp::from_unix_micros(1_763_719_200_123_456)));
    }

    #[test]
    fn reads_every_form_of_time_travel() {
        for text in [
            "Fri, 21 Nov 2025 10:00:00 GMT",
            "2025-11-21T10:00:00.000Z",
            "2025-11-21T10:00:00Z",
            "2025-11-21 10:00:00+00:00",
            "2025-11-21T12:00:00+02:00",
            "2025-11-21 10:00:00",
        ] {
            assert_eq!(parse_accept_datetime(text), Some(EXPECTED), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_date() {
        for text in [
            "",
            "yesterday",
            "Nov, 31 2025 10:00:00 GMT",
            "Nov, 21 2025 25:00:00 GMT",
            "Nov, 21 2025 10:00 GMT",
            "Nov, 21 2025 10:00:00:00 GMT",
            "Nov, 21 2025 10:00:00. GMT",
            "Nov, 21 2025 10:00:00 CET",
            "Nov, 21 2025 10:00:00 GMT extra",
            "Nov 21 2025 10:00:00 GMT",
            "Nov, 21 +2025 10:00:00 GMT",
            "2025-13-01T00:00:00Z",
        ] {
            assert_eq!(parse_accept_datetime(text), None, "{text}");
        }
        assert_eq!(parse_signing_date("2025-11-21T10:00:00Z"), None, "RFC 3339 is no signing date");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,48}", near in "[A-Za-z]{3}, [0-9]{1,3} [0-9]{1,5} [0-9:.]{0,18} GMT") {
            let _dates = (parse_accept_datetime(&text), parse_accept_datetime(&near));
        }
    }
}
