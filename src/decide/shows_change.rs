//! Which answers show a change: what raises `required` (rule 1 of coverage, see [`sync_token`](crate::sync_token)).
//!
//! An answer shows a change if it shows a state that this sidecar has not shown before. A first answer shows a change,
//! because its state may be of any age. No change is shown by an answer with the stored state (a 304 to the tag that
//! was sent, the same strong tag, a 404 where a 404 is stored), nor by an error, which shows no state. Where nothing is stored, the
//! state that was shown last for the request counts as if it were. An absence and a list can come back, though, with the same tag:
//! one that lacks a resource which appeared since shows the deletion of that resource.
//!
//! Two kinds of change raise nothing:
//!
//! - A read that shows only states that the answer to an own write has named by entity tag. Rule 3 covers what the
//!   write touched.
//! - A 200 for one key-value whose `Last-Modified` is older, by more than the settle time, than the origin's time in
//!   the answer to which `required` last rose: `required` includes that state. It counts as a revelation. Lists and
//!   404s are never exempted: no field dates a deletion.

use std::time::Duration;

use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::clock::Timestamp;
use crate::headers::entity_tag::EntityTag;
use crate::profile::ItemState;
use crate::stored_response::StoredResponse;
use crate::sync_token::session::Revelation;

/// The state that one answer shows, as far as it distinguishes it from another.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShownState<'a> {
    /// The status. A 304 stands for the response that it is about.
    pub status: StatusCode,
    /// The one well-formed field value of `ETag`.
    pub entity_tag: Option<&'a [u8]>,
    /// The field value of `Last-Modified`.
    pub last_modified: Option<&'a [u8]>,
    /// The body, where it was read whole.
    pub body: Option<&'a [u8]>,
    /// The states of the items of a list, if they are known.
    pub items: Option<&'a [ItemState]>,
    /// Where they are known: whether another page follows, so that the last of them need not be the last of the list.
    pub continues: bool,
}

impl<'a> ShownState<'a> {
    /// As the head of an answer shows it.
    pub fn of_head(status: StatusCode, fields: &'a HeaderMap) -> Self {
        let tag = EntityTag::of_message(fields.get_all(ETAG).iter().map(HeaderValue::as_bytes));
        Self {
            status,
            entity_tag: tag.map(EntityTag::as_bytes),
            last_modified: fields.get(LAST_MODIFIED).map(HeaderValue::as_bytes),
            body: None,
            items: None,
            continues: false,
        }
    }

    /// As a whole response shows it.
    pub fn of_response(response: &'a StoredResponse) -> Self {
        Self {
            status: response.status,
            entity_tag: EntityTag::of_message(response.fields.get_all(&ETAG)).map(EntityTag::as_bytes),
            last_modified: response.fields.get(&LAST_MODIFIED),
            body: Some(&response.body),
            items: None,
            continues: false,
        }
    }
}

/// What an answer is compared with.
#[derive(Clone, Copy, Debug)]
pub enum ShownBefore<'a> {
    /// The state that is stored for the same request.
    Stored(ShownState<'a>),
    /// Nothing is stored, but the same state was the last one shown for this request.
    Same,
    /// It is not known what was shown before.
    Nothing,
}

/// What the session knows about own writes and about times.
pub struct ChangeContext<'a> {
    /// Whether the answer to an own write named the state with this entity tag.
    pub is_own: &'a dyn Fn(&[u8]) -> bool,
    /// The origin's time in the answer to which `required` last rose.
    pub raised_at: Option<Timestamp>,
    /// By how much clocks and replicas of the origin may differ.
    pub settle_time: Duration,
    /// `Last-Modified` of the answer, if the profile says that it dates the one key-value that is shown.
    pub dated: Option<Timestamp>,
}

/// The kind of change that this answer shows; `None` if it shows no change.
pub fn shows_change(
    answer: &ShownState<'_>,
    before: ShownBefore<'_>,
    known: &ChangeContext<'_>,
) -> Option<Revelation> {
    if !shows_a_state(answer.status) {
        return None;
    }
    let stored = match before {
        ShownBefore::Same => return None,
        ShownBefore::Stored(stored) if is_same_state(answer, &stored) => return None,
        ShownBefore::Stored(stored) => Some(stored),
        ShownBefore::Nothing => None,
    };
    if answer.status.is_success() && is_of_own_writes(answer, stored.as_ref(), known) {
        return None;
    }
    let included = answer.status == StatusCode::OK
        && known
            .dated
            .zip(known.raised_at)
            .is_some_and(|(modified, raised)| modified.plus(known.settle_time) < raised);
    Some(if included { Revelation::Included } else { Revelation::Raises })
}

/// Whether an answer with this status shows the state of its target: a representation, a redirection, or absence.
/// Errors show no state. A 304 is judged by the stored response that it is about.
pub fn shows_a_state(status: StatusCode) -> bool {
    status.is_success()
        || (status.is_redirection() && status != StatusCode::NOT_MODIFIED)
        || shows_absence(status)
}

fn shows_absence(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}

/// The resources that an answer shows to exist in another state than the stored response does: the target itself if it is one
/// resource (`is_dated`), and the items of a list.
pub fn appearing<'a>(
    answer: &ShownState<'a>,
    stored: Option<&ShownState<'a>>,
    target: &'a str,
    is_dated: bool,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let is_new = answer.status.is_success() && stored.is_none_or(|stored| !is_same_state(answer, stored));
    let items = answer.items.filter(|_| is_new).unwrap_or_default();
    let before = stored.and_then(|stored| stored.items).unwrap_or_default();
    let changed = items.iter().filter(|item| !before.contains(item)).map(|item| &*item.canonical_target);
    Some(target).filter(|_| is_new && is_dated).into_iter().chain(changed)
}

/// What answers have shown to exist since the stored response was asked for.
#[derive(Clone, Copy)]
pub struct AppearedSince<'a> {
    /// The canonical targets; `None` if some are forgotten, so that it may be any.
    pub targets: Option<&'a [Box<str>]>,
    /// Whether the request's target shows the resource with this canonical target.
    pub is_shown: &'a dyn Fn(&str) -> bool,
}

/// Whether an answer of this kind can lack a resource: an absence lacks its target, a list lacks items.
pub fn can_lack(answer: &ShownState<'_>, is_dated: bool) -> bool {
    shows_absence(answer.status) || (answer.status.is_success() && !is_dated)
}

/// Whether an answer lacks a resource that appeared since what it is compared with was asked for: `stored`, or where nothing is
/// stored the same state as it was last shown. That resource has been deleted: the answer shows a change even if it differs from
/// the state before by own writes alone, or not at all. Where the items of a list are not known, it may be any.
pub fn lacks_what_appeared(
    answer: &ShownState<'_>,
    stored: Option<&ShownState<'_>>,
    target: &str,
    is_dated: bool,
    appeared: AppearedSince<'_>,
) -> bool {
    if !can_lack(answer, is_dated) || appeared.targets.is_some_and(<[_]>::is_empty) {
        return false;
    }
    let is_absent = shows_absence(answer.status);
    let same = stored.filter(|stored| is_same_state(answer, stored));
    let items = answer.items.or(same.and_then(|stored| stored.items)).unwrap_or_default();
    let is_there = |resource: &str| {
        !is_absent && (resource == target || items.iter().any(|item| item.canonical_target == resource))
    };
    appeared.targets.is_none_or(|targets| {
        targets.iter().any(|it| !is_there(it) && (**it == *target || (appeared.is_shown)(it)))
    })
}

/// Whether an answer that is not stored shows that `stored` is no longer current: no caller may be shown the older state after the
/// newer one. An answer that names neither a version nor an absence shows that only if it `is_for_all`: its origin may have made
/// it for one caller, or keep it out of this cache.
pub fn outdates(answer: &ShownState<'_>, stored: &ShownState<'_>, is_for_all: bool) -> bool {
    let names_version = answer.entity_tag.is_some() || answer.last_modified.is_some();
    shows_a_state(answer.status)
        && (is_for_all || names_version || shows_absence(answer.status))
        && !is_same_version(answer, stored)
}

/// Whether two answers have one tag, by weak comparison as in a validation, or for want of tags one date, or show the same.
fn is_same_version(one: &ShownState<'_>, other: &ShownState<'_>) -> bool {
    let same = match (one.entity_tag, other.entity_tag) {
        (Some(one_tag), Some(other_tag)) => EntityTag::parse(one_tag)
            .zip(EntityTag::parse(other_tag))
            .is_some_and(|(one_tag, other_tag)| one_tag.matches_weakly(other_tag)),
        (None, None) => one.last_modified.is_some() && one.last_modified == other.last_modified,
        _ => false,
    };
    is_same_state(one, other) || (same && whole(one.status) == whole(other.status))
}

/// A part and the whole show the same representation.
fn whole(status: StatusCode) -> StatusCode {
    if status == StatusCode::PARTIAL_CONTENT { StatusCode::OK } else { status }
}

/// Whether two answers for one target show the same state.
pub fn is_same_state(one: &ShownState<'_>, other: &ShownState<'_>) -> bool {
    if whole(one.status) != whole(other.status) {
        return false;
    }
    let same_body = one.body.is_some() && one.body == other.body;
    match (one.entity_tag, other.entity_tag) {
        (Some(one_tag), Some(other_tag)) => {
            let tags = EntityTag::parse(one_tag).zip(EntityTag::parse(other_tag));
            match tags {
                Some((one_tag, other_tag)) if one_tag.matches_strongly(other_tag) => true,
                // A weak tag may stand for several states.
                Some((one_tag, other_tag)) => one_tag.matches_weakly(other_tag) && same_body,
                None => one_tag == other_tag && same_body,
            }
        }
        (None, None) => same_body || !one.status.is_success() && !one.status.is_redirection(),
        _ => false,
    }
}

/// Whether every new state in this answer was named by the answer to an own write. An item that is missing from a list
/// counts as new: another client may have deleted it. So does the end of a list where another page followed before: what was there
/// may be gone.
fn is_of_own_writes(
    answer: &ShownState<'_>,
    stored: Option<&ShownState<'_>>,
    known: &ChangeContext<'_>,
) -> bool {
    if answer.entity_tag.is_some_and(|tag| (known.is_own)(tag)) {
        return true;
    }
    let Some((items, before)) = answer.items.zip(stored.and_then(|stored| stored.items)) else {
        return false;
    };
    if stored.is_some_and(|stored| stored.continues != answer.continues) {
        return false;
    }
    let held = |item: &ItemState| before.iter().any(|old| old == item);
    let all_there =
        before.iter().all(|old| items.iter().any(|item| item.canonical_target == old.canonical_target));
    all_there && items.iter().all(|item| held(item) || (known.is_own)(item.entity_tag.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAISED: Timestamp = Timestamp::from_unix_seconds(784_111_777);
    const SETTLE: Duration = Duration::from_secs(3);

    fn state(status: u16, tag: Option<&'static str>) -> ShownState<'static> {
        ShownState {
            status: StatusCode::from_u16(status).expect("a status"),
            entity_tag: tag.map(str::as_bytes),
            ..ShownState::default()
        }
    }

    fn judge(
        answer: ShownState<'_>,
        before: ShownBefore<'_>,
        dated: Option<Timestamp>,
    ) -> Option<Revelation> {
        let known = ChangeContext {
            is_own: &|tag| tag == b"\"own\"",
            raised_at: Some(RAISED),
            settle_time: SETTLE,
            dated,
        };
        shows_change(&answer, before, &known)
    }

    #[test]
    fn what_differs_from_the_stored_state_is_a_change() {
        use Revelation::Raises;
        for (status, tag, stored_status, stored_tag, expected) in [
            (200, Some("\"a\""), 200, Some("\"a\""), None),
            (200, Some("\"b\""), 200, Some("\"a\""), Some(Raises)),
            (200, Some("W/\"a\""), 200, Some("W/\"a\""), Some(Raises)),
            (206, Some("\"a\""), 200, Some("\"a\""), None),
            (200, Some("\"a\""), 404, None, Some(Raises)),
            (404, None, 200, Some("\"a\""), Some(Raises)),
            (404, None, 404, None, None),
            (410, None, 404, None, Some(Raises)),
            (200, None, 200, Some("\"a\""), Some(Raises)),
            (200, None, 200, None, Some(Raises)),
            (301, None, 200, Some("\"a\""), Some(Raises)),
            (200, Some("\"own\""), 200, Some("\"a\""), None),
            (400, None, 200, Some("\"a\""), None),
            (401, None, 200, Some("\"a\""), None),
            (412, None, 200, Some("\"a\""), None),
            (429, None, 200, Some("\"a\""), None),
            (500, Some("\"b\""), 200, Some("\"a\""), None),
        ] {
            let stored = ShownBefore::Stored(state(stored_status, stored_tag));
            assert_eq!(judge(state(status, tag), stored, None), expected, "{status} {tag:?} {stored_tag:?}");
        }
    }

    #[test]
    fn first_answers_are_changes_unless_the_same_was_shown_last() {
        for (status, tag) in [(200, Some("\"a\"")), (200, None), (404, None)] {
            assert_eq!(
                judge(state(status, tag), ShownBefore::Nothing, None),
                Some(Revelation::Raises),
                "{status}"
            );
            assert_eq!(judge(state(status, tag), ShownBefore::Same, None), None, "{status}");
        }
        assert_eq!(judge(state(200, Some("\"own\"")), ShownBefore::Nothing, None), None);
        assert_eq!(judge(state(503, None), ShownBefore::Nothing, None), None);
    }

    #[test]
    fn bodies_tell_states_apart_where_tags_do_not() {
        let with = |tag, body: &'static [u8]| ShownState { body: Some(body), ..state(200, tag) };
        for tag in [None, Some("W/\"a\"")] {
            let stored = ShownBefore::Stored(with(tag, b"one"));
            assert_eq!(judge(with(tag, b"one"), stored, None), None);
            assert_eq!(judge(with(tag, b"two"), stored, None), Some(Revelation::Raises));
        }
    }

    #[test]
    fn an_unstored_answer_outdates_by_another_version_by_absence_or_if_it_is_for_all() {
        let dated = |date| ShownState { last_modified: Some(date), ..state(200, None) };
        let (a, b) = (Some("\"a\""), Some("\"b\""));
        for (answer, stored, for_one, for_all) in [
            (state(200, b), state(200, a), true, true),
            (state(206, b), state(200, a), true, true),
            (state(200, a), state(200, a), false, false),
            (state(206, a), state(200, a), false, false),
            (state(200, Some("W/\"a\"")), state(200, a), false, false),
            (state(200, None), state(200, a), false, true),
            (state(404, None), state(200, a), true, true),
            (state(404, None), state(404, None), false, false),
            (state(302, None), state(200, a), false, true),
            (dated(b"then"), dated(b"then"), false, false),
            (dated(b"now"), dated(b"then"), true, true),
            (state(412, b), state(200, a), false, false),
            (state(500, b), state(200, a), false, false),
        ] {
            let outdated = [outdates(&answer, &stored, false), outdates(&answer, &stored, true)];
            assert_eq!(outdated, [for_one, for_all], "{answer:?} {stored:?}");
        }
    }

    #[test]
    fn only_one_key_value_that_is_dated_well_before_the_last_raise_is_included() {
        let at = |seconds_before: u64| {
            Some(Timestamp::from_unix_seconds(784_111_777 - i64::try_from(seconds_before).unwrap_or(0)))
        };
        for (dated, expected) in [
            (None, Revelation::Raises),
            (at(0), Revelation::Raises),
            (at(3), Revelation::Raises),
            (at(4), Revelation::Included),
        ] {
            assert_eq!(
                judge(state(200, Some("\"b\"")), ShownBefore::Nothing, dated),
                Some(expected),
                "{dated:?}"
            );
        }
        assert_eq!(judge(state(404, None), ShownBefore::Nothing, at(60)), Some(Revelation::Raises));
    }

    fn item(target: &str, tag: &str) -> ItemState {
        ItemState { canonical_target: target.to_owned(), entity_tag: format!("\"{tag}\"") }
    }

    fn list<'a>(tag: &'static str, items: &'a [ItemState]) -> ShownState<'a> {
        ShownState { items: Some(items), ..state(200, Some(tag)) }
    }

    #[test]
    fn the_end_of_a_list_is_not_of_own_writes() {
        let (before, own) = ([item("/kv/a", "1")], [item("/kv/a", "own")]);
        let stored = ShownState { continues: true, ..list("\"1\"", &before) };
        for (items, continues, expected) in [
            (&own, true, None),
            (&own, false, Some(Revelation::Raises)),
            (&before, false, Some(Revelation::Raises)),
        ] {
            let answer = ShownState { continues, ..list("\"2\"", items) };
            assert_eq!(judge(answer, ShownBefore::Stored(stored), None), expected, "{items:?} {continues}");
        }
    }

    #[test]
    fn an_answer_shows_what_is_new_in_it_to_exist() {
        let (old, new) = ([item("/kv/a", "a1")], [item("/kv/a", "a1"), item("/kv/b", "b1")]);
        let changed = [item("/kv/a", "a2")];
        let (one, same) = (state(200, Some("\"a\"")), state(200, Some("\"b\"")));
        for (answer, stored, is_dated, expected) in [
            (one, None, true, vec!["/x"]),
            (one, Some(same), true, vec!["/x"]),
            (one, Some(one), true, vec![]),
            (state(404, None), Some(one), true, vec![]),
            (one, None, false, vec![]),
            (list("\"2\"", &new), Some(list("\"1\"", &old)), false, vec!["/kv/b"]),
            (list("\"2\"", &changed), Some(list("\"1\"", &old)), false, vec!["/kv/a"]),
            (list("\"2\"", &old), Some(list("\"1\"", &new)), false, vec![]),
            (list("\"1\"", &new), None, false, vec!["/kv/a", "/kv/b"]),
            (list("\"1\"", &new), Some(list("\"1\"", &old)), false, vec![]),
        ] {
            let found: Vec<&str> = appearing(&answer, stored.as_ref(), "/x", is_dated).collect();
            assert_eq!(found, expected, "{answer:?} {stored:?}");
        }
    }

    #[test]
    fn an_answer_without_a_resource_that_appeared_shows_its_deletion() {
        let items = [item("/kv/a", "a1")];
        let (page, other, absent) = (list("\"1\"", &items), list("\"2\"", &items), state(404, None));
        let unread = state(200, Some("\"1\""));
        let (none, some): (&[&str], &[&str]) = (&[], &["/kv/a", "/kv/gone"]);
        for (answer, stored, is_dated, appeared, expected) in [
            (page, page, false, Some(none), false),
            (page, page, false, Some(some), true),
            (other, page, false, Some(some), true),
            (page, page, false, Some(&["/kv/a"][..]), false),
            (page, page, false, Some(&["/other/gone"]), false),
            (page, page, false, None, true),
            // A 304 brings no items: those of the stored response are meant, if it is about that.
            (unread, page, false, Some(some), true),
            (unread, page, false, Some(&["/kv/a"][..]), false),
            (unread, other, false, Some(&["/kv/a"]), true),
            (unread, unread, false, Some(&["/kv/a"]), true),
            (unread, unread, false, Some(&["/x"]), false),
            (unread, unread, false, None, true),
            // One key-value lacks nothing.
            (page, page, true, Some(some), false),
            (absent, absent, true, Some(&["/x"]), true),
            (absent, absent, true, Some(&["/kv/x?other-version"]), true),
            (absent, absent, true, Some(&["/other/gone"]), false),
            (absent, absent, true, Some(none), false),
            (absent, absent, true, None, true),
            (state(500, None), page, false, None, false),
        ] {
            let targets: Option<Vec<Box<str>>> =
                appeared.map(|targets| targets.iter().map(|&it| it.into()).collect());
            let is_shown = |target: &str| target.starts_with("/kv/");
            let appeared = AppearedSince { targets: targets.as_deref(), is_shown: &is_shown };
            let lacks = lacks_what_appeared(&answer, Some(&stored), "/x", is_dated, appeared);
            assert_eq!(lacks, expected, "{answer:?} {stored:?} {is_dated} {targets:?}");
        }
        let is_shown = |target: &str| target.starts_with("/kv/");
        for (answer, appeared, expected) in [
            (page, "/kv/gone", true),
            (page, "/kv/a", false),
            (page, "/other/gone", false),
            (unread, "/kv/a", true),
            (absent, "/x", true),
            (absent, "/other/gone", false),
        ] {
            let targets = [appeared.into()];
            let appeared = AppearedSince { targets: Some(&targets), is_shown: &is_shown };
            let lacks = lacks_what_appeared(&answer, None, "/x", false, appeared);
            assert_eq!(lacks, expected, "{answer:?}, nothing stored, {targets:?}");
        }
    }

    #[test]
    fn a_list_that_differs_by_own_writes_alone_shows_no_change() {
        let before = [item("/kv/a", "a1"), item("/kv/b", "b1")];
        for (items, expected) in [
            (vec![item("/kv/a", "own"), item("/kv/b", "b1")], None),
            (vec![item("/kv/a", "a1"), item("/kv/b", "b1"), item("/kv/c", "own")], None),
            (vec![item("/kv/a", "own"), item("/kv/b", "b2")], Some(Revelation::Raises)),
            (vec![item("/kv/b", "b1")], Some(Revelation::Raises)),
            (vec![item("/kv/a", "own"), item("/kv/b", "b1"), item("/kv/c", "c1")], Some(Revelation::Raises)),
        ] {
            let stored = ShownBefore::Stored(list("\"page1\"", &before));
            assert_eq!(judge(list("\"page2\"", &items), stored, None), expected, "{items:?}");
        }
        let items = [item("/kv/a", "own")];
        let first = judge(list("\"page\"", &items), ShownBefore::Nothing, None);
        assert_eq!(first, Some(Revelation::Raises), "it shows what is absent, too");
    }
}
