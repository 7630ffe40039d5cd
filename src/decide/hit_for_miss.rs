//! Hit-for-miss: whether a request for a key should wait for the fetch of another (RFC 9111 §4 allows to collapse requests only
//! where the answer may be shared). If the last answer for the key could not be stored for a reason that will last, the next
//! will not be either: requests then go upstream each by itself, at once, and with their callers' own conditions.

use super::storable::NotStored;

/// Whether an answer that is not stored makes its key hit-for-miss. `may_pass`: it is a failure, and the next answer may be
/// stored. An answer that is stored ends it.
pub const fn is_hit_for_miss(not_stored: NotStored, may_pass: bool) -> bool {
    not_stored.is_lasting() && !may_pass
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lasting_reason_of_an_answer_that_is_no_failure_counts() {
        assert!(is_hit_for_miss(NotStored::NoStore, false));
        assert!(!is_hit_for_miss(NotStored::NoStore, true));
        assert!(!is_hit_for_miss(NotStored::UnknownSyncToken, false));
    }
}
