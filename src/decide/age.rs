//! Age (RFC 9111 §4.2.3).

use std::time::Duration;

use http::header::DATE;

use super::ResponseHead;
use crate::clock::Timestamp;
use crate::headers::{age, http_date};
use crate::stored_response::StoredResponse;

/// `date_value`: the `Date` of a response, or the time of receipt when there is none or it is invalid.
pub fn date_value(head: &ResponseHead) -> Timestamp {
    let date = head.fields.get(DATE).and_then(|line| http_date::parse(line.as_bytes()));
    date.unwrap_or(head.response_time)
}

/// `corrected_initial_age`: how old a response was when its head arrived.
///
/// `Date` counts whole seconds, so the time of receipt is truncated to whole seconds before the two are compared: a
/// response that is made and received within one second has no apparent age. Every other term keeps its fraction until
/// `Age` is written: the sum is truncated, not the terms, so that after three seconds in the store the age is never 2.
pub fn corrected_initial_age(head: &ResponseHead) -> Duration {
    let apparent_age =
        head.response_time.as_unix_seconds().saturating_sub(date_value(head).as_unix_seconds());
    let apparent_age = Duration::from_secs(u64::try_from(apparent_age).unwrap_or(0));
    let response_delay = head.response_time.since(head.request_time);
    let corrected_age_value = age::parse(&head.fields).unwrap_or_default().saturating_add(response_delay);
    apparent_age.max(corrected_age_value)
}

/// `current_age`: how old a stored response is now.
pub fn current_age(stored: &StoredResponse, now: Timestamp) -> Duration {
    stored.policy.initial_age.saturating_add(now.since(stored.response_time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::{NOW, ago, head, stored};
    use proptest::prelude::*;

    #[test]
    fn initial_age_is_the_greater_of_apparent_and_corrected_age() {
        let date = |seconds| http_date::format(ago(seconds)).to_str().unwrap().to_owned();
        for (fields, delay_ms, expected_ms) in [
            (vec![], 0, 0),
            (vec![], 1_500, 1_500),
            (vec![("date", date(0))], 0, 0),
            (vec![("date", date(10))], 0, 10_000),
            (vec![("date", date(10))], 3_000, 10_000),
            (vec![("date", date(10)), ("age", "5".into())], 0, 10_000),
            (vec![("date", date(10)), ("age", "50".into())], 0, 50_000),
            (vec![("date", date(10)), ("age", "50".into())], 700, 50_700),
            (vec![("date", date(-100))], 0, 0),
            (vec![("date", date(-100)), ("age", "7".into())], 0, 7_000),
            (vec![("date", "garbage".into())], 0, 0),
            (vec![("date", "0".into()), ("age", "7".into())], 0, 7_000),
            (vec![("age", "-7".into())], 0, 0),
            (vec![("age", "99999999999999999999".into())], 0, (1 << 31) * 1_000),
        ] {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut head = head(200, &fields);
            head.request_time = head.response_time.minus(Duration::from_millis(delay_ms));
            assert_eq!(corrected_initial_age(&head), Duration::from_millis(expected_ms), "{fields:?}");
        }
    }

    #[test]
    fn a_fraction_of_a_second_is_no_apparent_age() {
        let date = http_date::format(NOW);
        let mut head = head(200, &[("date", date.to_str().unwrap())]);
        head.response_time = NOW.plus(Duration::from_millis(900));
        head.request_time = head.response_time;
        assert_eq!(corrected_initial_age(&head), Duration::ZERO);
    }

    #[test]
    fn after_three_seconds_in_the_store_the_age_is_never_two() {
        for fraction_ms in [0, 1, 499, 500, 999] {
            let arrived = NOW.plus(Duration::from_millis(fraction_ms));
            let mut response = stored(200, &[("cache-control", "max-age=60")]);
            response.response_time = arrived;
            assert_eq!(current_age(&response, arrived.plus(Duration::from_secs(3))).as_secs(), 3);
        }
    }

    #[test]
    fn fractions_are_summed_before_they_are_cut() {
        let mut response = stored(200, &[("cache-control", "max-age=60")]);
        response.policy.initial_age = Duration::from_millis(1_600);
        assert_eq!(current_age(&response, NOW.plus(Duration::from_millis(1_500))).as_secs(), 3);
    }

    proptest! {
        #[test]
        fn age_never_wraps_nor_runs_backwards(
            initial in any::<u64>(), arrived in any::<i64>(), one in any::<i64>(), other in any::<i64>(),
        ) {
            let mut response = stored(200, &[("cache-control", "max-age=60")]);
            response.policy.initial_age = Duration::from_secs(initial);
            response.response_time = Timestamp::from_unix_micros(arrived);
            let (early, late) = (one.min(other), one.max(other));
            let early = current_age(&response, Timestamp::from_unix_micros(early));
            let late = current_age(&response, Timestamp::from_unix_micros(late));
            prop_assert!(Duration::from_secs(initial) <= early && early <= late);
        }
    }
}
