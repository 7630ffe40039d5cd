//! HTTP dates (RFC 9110 §5.6.7): IMF-fixdate, RFC 850 and asctime, and nothing else.
//!
//! Names match in any case (RFC 9111 §4.2 asks that of caches); everything else is taken by the letter, because a date that
//! one cache guesses at and the next one rejects is how a stale response stays fresh somewhere. Hence a parser of our own:
//! `httpdate` minds the case of names, knows neither leap seconds nor years before 1970, and trims; `jiff` skips white space and
//! takes single digits.

use http::HeaderValue;
use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time};

use crate::clock::Timestamp;

const DAY_NAMES: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTH_NAMES: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

const UNIX_EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
const FIRST_SECOND: DateTime = DateTime::constant(0, 1, 1, 0, 0, 0, 0);
/// 9999-12-31 23:59:59, the last second that a date can be written for.
const LAST_UNIX_SECOND: i64 = 253_402_300_799;

/// The first two-digit year that belongs to the twentieth century. RFC 9110 §5.6.7 reads a two-digit year that appears more
/// than 50 years ahead as past; counted from a fixed 2026, so that a date means the same wherever and whenever it is parsed.
const FIRST_YEAR_OF_THE_1900S: i16 = 77;

/// Reads an HTTP date in any of its three forms; `None` for everything else: other zones, a missing comma, extra spaces,
/// single digits, a day that its month does not have. A wrong but existing day name is accepted.
pub fn parse(value: &[u8]) -> Option<Timestamp> {
    let mut rest = Cursor(value);
    match value.get(3)? {
        b',' => parse_imf_fixdate(&mut rest),
        b' ' => parse_asctime(&mut rest),
        _ => parse_rfc850(&mut rest),
    }
    .filter(|_| rest.0.is_empty())
}

/// Writes a time as IMF-fixdate, the only form that a sender may generate. Years before 0 and past 9999 are clamped, since
/// the form has four digits.
#[expect(clippy::expect_used, reason = "letters, digits, commas, colons and spaces only")]
pub fn format(time: Timestamp) -> HeaderValue {
    let seconds = SignedDuration::from_secs(time.as_unix_seconds());
    let date = UNIX_EPOCH.saturating_add(seconds).max(FIRST_SECOND);
    let text = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::try_from(text).expect("a date is a valid field value")
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn parse_imf_fixdate(rest: &mut Cursor<'_>) -> Option<Timestamp> {
    rest.short_day_name()?;
    rest.literal(b", ")?;
    let day = rest.digits(2)?;
    rest.literal(b" ")?;
    let month = rest.month()?;
    rest.literal(b" ")?;
    let year = rest.digits(4)?;
    rest.literal(b" ")?;
    let second_of_day = rest.time_of_day()?;
    rest.literal(b" GMT")?;
    timestamp(year, month, day, second_of_day)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn parse_rfc850(rest: &mut Cursor<'_>) -> Option<Timestamp> {
    DAY_NAMES.iter().find_map(|name| rest.literal(name.as_bytes()))?;
    rest.literal(b", ")?;
    let day = rest.digits(2)?;
    rest.literal(b"-")?;
    let month = rest.month()?;
    rest.literal(b"-")?;
    let year_of_century = rest.digits(2)?;
    rest.literal(b" ")?;
    let second_of_day = rest.time_of_day()?;
    rest.literal(b" GMT")?;
    let century = if year_of_century < FIRST_YEAR_OF_THE_1900S { 2_000 } else { 1_900 };
    timestamp(century + year_of_century, month, day, second_of_day)
}

/// `Sun Nov  6 08:49:37 1994`
fn parse_asctime(rest: &mut Cursor<'_>) -> Option<Timestamp> {
    rest.short_day_name()?;
    rest.literal(b" ")?;
    let month = rest.month()?;
    rest.literal(b" ")?;
    let day = if rest.literal(b" ").is_some() { rest.digits(1)? } else { rest.digits(2)? };
    rest.literal(b" ")?;
    let second_of_day = rest.time_of_day()?;
    rest.literal(b" ")?;
    let year = rest.digits(4)?;
    timestamp(year, month, day, second_of_day)
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// Consumes `expected`, in any case.
    fn literal(&mut self, expected: &[u8]) -> Option<()> {
        let (head, tail) = self.0.split_at_checked(expected.len())?;
        head.eq_ignore_ascii_case(expected).then(|| self.0 = tail)
    }

    /// Consumes exactly `count` digits, 4 at most.
    fn digits(&mut self, count: usize) -> Option<i16> {
        let (head, tail) = self.0.split_at_checked(count)?;
        let mut number = 0;
        for byte in head {
            number = number * 10 + i16::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
        }
        self.0 = tail;
        Some(number)
    }

    fn short_day_name(&mut self) -> Option<()> {
        DAY_NAMES.iter().find_map(|name| self.literal(&name.as_bytes()[..3]))
    }

    /// Consumes a month's name: 1 to 12.
    fn month(&mut self) -> Option<i8> {
        (1..).zip(MONTH_NAMES).find_map(|(number, name)| self.literal(name).map(|()| number))
    }

    /// Consumes `hh:mm:ss`: seconds since midnight. Second 60 is a leap second.
    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.digits(2)?;
        self.literal(b":")?;
        let minute = self.digits(2)?;
        self.literal(b":")?;
        let second = self.digits(2)?;
        let is_valid = hour < 24 && minute < 60 && second <= 60;
        is_valid.then(|| i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second))
    }
}

fn timestamp(year: i16, month: i8, day: i16, second_of_day: i64) -> Option<Timestamp> {
    let date = Date::new(year, month, i8::try_from(day).ok()?).ok()?;
    let midnight = date.to_datetime(Time::midnight()).duration_since(UNIX_EPOCH).as_secs();
    // A leap second at the end of 9999 would be a time that no date can be written for.
    Some(Timestamp::from_unix_seconds((midnight + second_of_day).min(LAST_UNIX_SECOND)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> Option<i64> {
        parse(text.as_bytes()).map(Timestamp::as_unix_seconds)
    }

    #[test]
    fn all_three_forms_name_the_same_second() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 NOV 1994 08:49:37 gmt",
            "sUnDaY, 06-nov-94 08:49:37 Gmt",
            "sun nOV  6 08:49:37 1994",
            "Sun Nov 06 08:49:37 1994",
        ] {
            assert_eq!(seconds(text), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn known_dates() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Thu, 01 Jan 1970 00:00:01 GMT", 1),
            ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
            ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
            ("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800),
            ("Tue, 19 Jan 2038 03:14:08 GMT", 2_147_483_648),
            ("Thu, 18 Aug 2050 02:01:18 GMT", 2_544_400_878),
            ("Thursday, 18-Aug-50 02:01:18 GMT", 2_544_400_878),
            ("Thu Aug 18 02:01:18 2050", 2_544_400_878),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
            ("Fri, 31 Dec 9999 23:59:60 GMT", 253_402_300_799),
            ("Sat, 01 Jan 0000 00:00:00 GMT", -62_167_219_200),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
            ("Monday, 06-Nov-76 00:00:00 GMT", 3_371_846_400),
            ("Sunday, 06-Nov-77 00:00:00 GMT", 247_622_400),
            ("Monday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_invalid() {
        for text in [
            "",
            "0",
            "-1",
            "Sun",
            "Sun,",
            "Sunday",
            "never",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 ",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 EST",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37 GMTX",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            " Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun,06 Nov 1994 08:49:37 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994  08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37  GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 006 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 10000 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday 06-Nov-94 08:49:37 GMT",
            "Sunday, 6-Nov-94 08:49:37 GMT",
            "Xun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nox 1994 08:49:37 GMT",
            "Sun, 06 11 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 2023 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 08:49:37.5 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov   6 08:49:37 1994",
            "Sun Nov  6 08:49:37 94",
            "Sun Nov  6 08:49:37 GMT 1994",
            "Sun Nov  6 08:49:37 1994 GMT",
            "Nov  6 08:49:37 1994",
            "1994-11-06T08:49:37Z",
            "Nov, 21 2026 21:38:01.991863 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(parse(b"Sun, \xb2\xb3 Nov 1994 08:49:37 GMT"), None);
    }

    #[test]
    fn what_is_written_is_imf_fixdate() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_825_600, "Tue, 29 Feb 2000 12:00:00 GMT"),
            (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (i64::MIN, "Sat, 01 Jan 0000 00:00:00 GMT"),
        ] {
            assert_eq!(format(Timestamp::from_unix_seconds(seconds)), expected);
        }
        assert_eq!(format(Timestamp::from_unix_micros(1_999_999)), "Thu, 01 Jan 1970 00:00:01 GMT");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in -62_167_219_200_i64..=253_402_300_799) {
            let time = Timestamp::from_unix_seconds(seconds);
            prop_assert_eq!(parse(format(time).as_bytes()), Some(time));
        }

        #[test]
        fn agrees_with_an_independent_implementation(seconds in 0_i64..=253_402_300_799) {
            let time = Timestamp::from_unix_seconds(seconds);
            prop_assert_eq!(format(time), httpdate::fmt_http_date(time.to_system_time()));
        }

        #[test]
        fn no_bytes_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&value);
        }

        #[test]
        fn one_changed_byte_never_makes_it_panic(at in 0_usize..29, byte: u8) {
            let mut text = *b"Sun, 06 Nov 1994 08:49:37 GMT";
            text[at] = byte;
            if let Some(time) = parse(&text) {
                prop_assert!(parse(format(time).as_bytes()) == Some(time));
            }
        }
    }
}
