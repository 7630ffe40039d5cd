//! Durations as people write them: `250ms`, `30s`, `5m`, `1h`, `7d`, and sums such as `1m30s`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a duration; write a whole number and a unit (ms, s, m, h or d), for example 250ms, 30s or 1m30s"
)]
pub struct DurationError {
    text: String,
}

/// Reads a duration. A bare `0` needs no unit; every other number does, since a forgotten one is a mistake by 1,000.
///
/// # Errors
/// [`DurationError`] for anything else, sums that overflow 64 bits of milliseconds included.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let fail = || DurationError { text: text.to_owned() };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut milliseconds: u64 = 0;
    while !rest.is_empty() {
        let number_length = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(number_length);
        let unit_length = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(unit_length);
        let unit_milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(fail()),
        };
        let number: u64 = number.parse().map_err(|_| fail())?;
        milliseconds = number
            .checked_mul(unit_milliseconds)
            .and_then(|part| milliseconds.checked_add(part))
            .ok_or_else(fail)?;
        rest = after;
    }
    if text.is_empty() { Err(fail()) } else { Ok(Duration::from_millis(milliseconds)) }
}

/// Writes a duration of whole milliseconds in the largest unit that holds it exactly, so that it reads back.
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let exact = units.iter().find(|(_, scale)| milliseconds >= *scale && milliseconds.is_multiple_of(*scale));
    exact.map_or_else(|| "0s".to_owned(), |(unit, scale)| format!("{}{unit}", milliseconds / scale))
}

/// For `#[serde(deserialize_with = "…")]` on a field of type [`Duration`].
///
/// # Errors
/// The deserializer's, or the text of [`DurationError`].
pub fn deserialize_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

/// For `#[serde(default, deserialize_with = "…")]` on a field of type `Option<Duration>`.
///
/// # Errors
/// The deserializer's, or the text of [`DurationError`].
pub fn deserialize_optional_duration<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    text.map(|text| parse_duration(&text).map_err(serde::de::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_sums() {
        for (text, milliseconds) in [
            ("0", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("1s500ms", 1_500),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for milliseconds in [0, 1, 999, 1_000, 90_000, 3_600_000, 86_400_000, 86_400_001] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        assert_eq!(format_duration(Duration::from_secs(86_400)), "1d");
        assert_eq!(format_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn everything_else_is_refused_with_an_example() {
        for text in
            ["", "30", "s", "-1s", "1.5s", "1 s", "1S", "1y", "99999999999999999999s", "999999999999999999d"]
        {
            let error = parse_duration(text).expect_err(text);
            assert!(error.to_string().contains("for example 250ms"), "{error}");
        }
    }
}
