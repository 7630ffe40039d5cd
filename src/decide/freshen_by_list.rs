//! What a list says about the stored response for one of its items. The list shows the item's entity tag, so it says
//! what a validation of that item would say (RFC 9111 §4.3.4): an equal strong tag freshens the stored response,
//! another tag outdates it.
//!
//! A list says nothing about a response whose request was sent later than the list's own.

use http::StatusCode;
use http::header::{DATE, ETAG, HeaderValue};

use crate::headers::entity_tag::EntityTag;
use crate::stored_response::{StoredFields, StoredResponse};

/// What to do about the stored response for an item.
#[derive(Clone, Debug)]
pub enum ItemChange {
    /// The list shows the same state: this replaces the stored response.
    Freshened(Box<StoredResponse>),
    /// The list shows another state, and was requested later.
    Outdated,
    /// The list says nothing about it.
    Keep,
}

/// What `list` says about `stored`, the response for an item that the list contains with the tag `item_tag`.
pub fn freshen_by_list(stored: &StoredResponse, item_tag: &str, list: &StoredResponse) -> ItemChange {
    if stored.covers.sent_order >= list.covers.sent_order {
        return ItemChange::Keep;
    }
    if matches!(stored.status, StatusCode::NOT_FOUND | StatusCode::GONE) {
        // It exists. Kept, the absence would be taken for unchanged if the item were deleted again.
        return ItemChange::Outdated;
    }
    if stored.status != StatusCode::OK {
        return ItemChange::Keep;
    }
    let tags = EntityTag::of_message(stored.fields.get_all(&ETAG)).zip(EntityTag::parse(item_tag.as_bytes()));
    if !tags.is_some_and(|(held, shown)| held.matches_strongly(shown)) {
        return ItemChange::Outdated;
    }
    let mut fields = stored.fields.to_header_map();
    if let Some(date) = list.fields.get(&DATE).and_then(|date| HeaderValue::from_bytes(date).ok()) {
        fields.insert(DATE, date);
    }
    let mut response = StoredResponse {
        fields: StoredFields::pack(&fields),
        request_time: list.request_time,
        response_time: list.response_time,
        covers: stored.covers.union(list.covers),
        ..stored.clone()
    };
    response.policy.initial_age = list.policy.initial_age;
    ItemChange::Freshened(Box::new(response))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::{later, stored};
    use crate::sync_token::coverage::Coverage;

    const LIST: Coverage = Coverage { newest_version: 7, closed_position: 3, sent_order: 9, revelation: 4 };

    fn list() -> StoredResponse {
        let date = "Sun, 06 Nov 1994 08:50:37 GMT";
        StoredResponse {
            covers: LIST,
            request_time: later(60),
            response_time: later(61),
            ..stored(200, &[("etag", "\"page\""), ("date", date)])
        }
    }

    #[test]
    fn an_item_with_the_same_tag_is_as_good_as_validated() {
        let single = stored(200, &[("etag", "\"a\""), ("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("x", "1")]);
        let ItemChange::Freshened(fresh) = freshen_by_list(&single, "\"a\"", &list()) else {
            panic!("it is the same state");
        };
        assert_eq!((fresh.covers, fresh.response_time), (single.covers.union(LIST), later(61)));
        assert_eq!(fresh.fields.get(&DATE), list().fields.get(&DATE));
        assert_eq!((fresh.fields.get(&ETAG), fresh.body), (Some(&b"\"a\""[..]), single.body));
    }

    #[test]
    fn an_item_with_another_tag_is_outdated_if_the_list_was_asked_for_later() {
        let single = stored(200, &[("etag", "\"a\"")]);
        let outdated = |single: &StoredResponse, tag| {
            matches!(freshen_by_list(single, tag, &list()), ItemChange::Outdated)
        };
        assert!(outdated(&single, "\"b\""));
        assert!(outdated(&single, "W/\"a\""), "a weak tag may stand for several states");
        let later_one = StoredResponse { covers: LIST, ..single.clone() };
        assert!(!outdated(&later_one, "\"b\""));
        assert!(outdated(&stored(404, &[]), "\"b\""), "it exists");
        assert!(!outdated(&StoredResponse { covers: LIST, ..stored(404, &[]) }, "\"b\""));
        assert!(!outdated(&stored(302, &[]), "\"b\""));
    }
}
