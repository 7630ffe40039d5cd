//! Which header fields are stored (RFC 9111 §3.1; RFC 9110 §7.6.1): all, except those that belong to one connection or one
//! exchange, or that the response itself excludes.

use http::header::{AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, SET_COOKIE};
use http::{HeaderMap, HeaderName};

use super::ResponseHead;
use crate::config::caching::{CachingRules, Sharing};
use crate::headers::cache_control::ResponseDirectives;
use crate::headers::{hop_by_hop, http_date};
use crate::stored_response::StoredFields;
use crate::sync_token::session::SYNC_TOKEN;

/// The fields of a response that may be stored and shown to other callers.
///
/// `Age` and `Sync-Token` are left out because they are worked out anew for each answer, and `Date` is added when the origin sent
/// none (RFC 9110 §6.6.1: whoever caches such a response records when it came).
#[must_use]
pub fn stored_fields(
    head: &ResponseHead,
    directives: &ResponseDirectives,
    rules: &CachingRules,
) -> HeaderMap {
    let mut fields = head.fields.clone();
    hop_by_hop::remove_hop_by_hop(&mut fields);
    for name in directives.private_fields.iter().chain(&directives.no_cache_fields).chain(rules.never_stored)
    {
        fields.remove(name);
    }
    if rules.sharing == Sharing::Guarded {
        fields.remove(SET_COOKIE);
    }
    fields.remove(AGE);
    fields.remove(SYNC_TOKEN);
    if !fields.contains_key(DATE) {
        fields.insert(DATE, http_date::format(head.response_time));
    }
    fields
}

/// The fields of an answer that are for the caller whose request fetched it, and for nobody else: `Set-Cookie` under `guarded`,
/// what `private` and `no-cache` name, what belongs to one exchange. `stored` is what became of the answer in the store.
///
/// `Age` is worked out anew, and what a 304 says of length and coding describes no body that we have.
#[must_use]
pub fn withheld_fields(head: &ResponseHead, stored: &StoredFields) -> HeaderMap {
    let mut fields = head.fields.clone();
    hop_by_hop::remove_hop_by_hop(&mut fields);
    let ours = [AGE, DATE, CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE];
    let shown: Vec<HeaderName> =
        fields.keys().filter(|name| ours.contains(name) || stored.contains(name)).cloned().collect();
    for name in shown {
        fields.remove(name);
    }
    fields
}

/// Replaces in `fields` every line of each name that `newer` has, keeping each of its lines, except for the names that
/// `keep` accepts.
pub(super) fn replace_fields(fields: &mut HeaderMap, newer: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    for name in newer.keys().filter(|name| !keep(name)) {
        fields.remove(name);
        for line in newer.get_all(name) {
            fields.append(name, line.clone());
        }
    }
}
