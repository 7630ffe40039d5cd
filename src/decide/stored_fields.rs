//! Which header fields are stored (RFC 9111 §3.1; RFC 9110 §7.6.1): all of them, unknown ones included, except the
//! fields of one connection, of one exchange, or of one caller (`Set-Cookie` under `guarded`), and those that
//! `private=` or `no-cache=` names.

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
/// `Age` and `Sync-Token` are left out: they are computed for each answer. `Date` is added if the origin sent none,
/// because a recipient that caches a response without it must record the time of receipt (RFC 9110 §6.6.1).
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

/// The fields of an answer that only the caller whose request fetched it may see: `Set-Cookie` under `guarded`, the
/// fields that `private=` and `no-cache=` name, and the fields of one exchange. `stored` holds the fields that were
/// stored.
///
/// `Age` is left out because it is computed anew, and the length and coding of a 304 because they describe no body
/// here.
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

/// Replaces in `fields` all lines of each name that `newer` has with the lines of `newer`, except for names that `keep`
/// accepts.
pub(super) fn replace_fields(fields: &mut HeaderMap, newer: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    for name in newer.keys().filter(|name| !keep(name)) {
        fields.remove(name);
        for line in newer.get_all(name) {
            fields.append(name, line.clone());
        }
    }
}
