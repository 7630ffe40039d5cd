use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::profile::app_configuration::page::page_json;
use crate::stored_response::StoredFields;

/// Keys of three digits, and the version of each.
type Store = std::collections::BTreeMap<u32, u32>;

const PAGE: usize = 10;

/// What an origin with these items answers for the page after an anchor, to a request that was the `sent`-th.
fn answer(store: &Store, anchor: Option<&KeyValueId>, sent: u64, arrived: u64) -> RangeAnswer {
    let id = |number: &u32| KeyValueId::new(&format!("{number:03}"), None);
    let mut rest = store.iter().filter(|(number, _)| anchor.is_none_or(|anchor| id(number) > *anchor));
    let page: Vec<_> = rest.by_ref().take(PAGE).collect();
    let next = rest.next().and(page.last()).map(|(number, _)| after_key_value(&id(number)));
    let tags: Vec<String> = page.iter().map(|(number, version)| format!("{number}-{version}")).collect();
    let items: Vec<String> = page
        .iter()
        .zip(&tags)
        .map(|((number, _), tag)| format!(r#"{{"etag":"{tag}","key":"{number:03}","label":null}}"#))
        .collect();
    let link = next.as_ref().map(|next| format!("/kv?after={}", ContinuationForms::all().encode(next)));
    let etag = page_etag(tags.iter().map(String::as_str), next.as_deref());
    let body = page_json(Some(&etag), items.iter().map(String::as_bytes), link.as_deref());
    let mut fields = HeaderMap::new();
    fields.insert(http::header::ETAG, HeaderValue::try_from(format!("\"{etag}\"")).unwrap());
    let response = StoredResponse {
        fields: StoredFields::pack(&fields),
        body: Bytes::from(body),
        covers: Coverage { newest_version: sent, closed_position: 0, sent_order: sent, revelation: 0 },
        ..StoredResponse::default()
    };
    RangeAnswer { response: Arc::new(response), arrived }
}

fn at(sent_order: u64) -> Coverage {
    Coverage { sent_order, ..Coverage::default() }
}

fn loaded(store: &Store) -> Collection {
    let mut collection = Collection::new(Selector::everything(), Clauses::ALL);
    let mut sent = 0;
    while let Some(anchor) = collection.load_position() {
        sent += 1;
        collection.load(&answer(store, anchor.as_ref(), sent, sent), &[]).unwrap();
    }
    collection
}

fn numbers(count: u32) -> Store {
    (0..count).map(|number| (number * 4, 0)).collect()
}

/// What the collection holds, and whether it is cut as it must be.
fn held(collection: &Collection) -> Store {
    let mut held = Store::new();
    let mut last: Option<KeyValueId> = None;
    for (index, range) in collection.ranges.iter().enumerate() {
        assert_eq!(range.anchor.is_none(), index == 0);
        if let Some(anchor) = &range.anchor {
            assert!(last.as_ref().is_none_or(|last| last <= anchor), "{anchor:?} after {last:?}");
            last = Some(anchor.clone());
        }
        for item in &range.items {
            assert!(last.as_ref().is_none_or(|last| *last < item.id), "{:?} after {last:?}", item.id);
            last = Some(item.id.clone());
            let (number, version) = item.entity_tag.split_once('-').unwrap();
            held.insert(number.parse().unwrap(), version.parse().unwrap());
        }
    }
    held
}

/// One validation of each range. Returns how many pages differed from what was held.
fn pass(collection: &mut Collection, store: &Store, sent: &mut u64) -> usize {
    let anchors: Vec<_> = collection.ranges.iter().map(|range| range.anchor.clone()).collect();
    let mut bodies = 0;
    for anchor in anchors {
        *sent += 1;
        let Some(index) = collection.ranges.iter().position(|range| range.anchor == anchor) else { continue };
        let answer = answer(store, anchor.as_ref(), *sent, *sent);
        let tag = collection.page(index).entity_tag.map(|tag| format!("\"{tag}\""));
        bodies +=
            usize::from(answer.response.fields.get(&http::header::ETAG) != tag.as_deref().map(str::as_bytes));
        collection.validate(anchor.as_ref(), &answer).unwrap();
    }
    bodies
}

#[test]
fn a_load_sets_anchors_four_fifths_of_a_page_apart() {
    for (count, ranges) in [(0, 1), (1, 1), (8, 1), (9, 2), (10, 2), (11, 2), (80, 10), (81, 11)] {
        let store = numbers(count);
        let collection = loaded(&store);
        let sizes: Vec<_> = collection.ranges.iter().map(|range| range.items.len()).collect();
        assert_eq!(held(&collection), store, "{count}");
        // One page that does not continue does not tell how many items a page has.
        let expected = if count <= 10 { 1 } else { ranges };
        assert_eq!(sizes.len(), expected, "{count}: {sizes:?}");
    }
}

#[test]
fn the_page_of_every_range_has_the_tag_that_the_origin_makes() {
    let store = numbers(57);
    let mut collection = loaded(&store);
    assert_eq!(pass(&mut collection, &store, &mut 100), 0);
}

#[test]
fn one_changed_inserted_or_deleted_item_is_one_changed_range() {
    for changed in 0..57 * 4 {
        let mut store = numbers(57);
        let mut collection = loaded(&store);
        match store.get_mut(&changed) {
            Some(version) if changed % 8 == 0 => *version += 1,
            Some(_) => drop(store.remove(&changed)),
            None => drop(store.insert(changed, 0)),
        }
        // The page of the range before overlaps, and tells the next one.
        let bodies = pass(&mut collection, &store, &mut 100);
        assert_eq!((bodies, held(&collection)), (1, store), "{changed}");
    }
}

#[test]
fn any_changes_are_seen_after_one_pass_or_two() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut store = numbers(random.u32(0..90));
        let mut collection = loaded(&store);
        let mut sent = 100;
        for round in 0..8 {
            for _ in 0..random.usize(..[2, 40][round % 2]) {
                let number = random.u32(..400);
                match random.u8(..3) {
                    0 => drop(store.remove(&number)),
                    1 => *store.entry(number).or_default() += 1,
                    _ => drop(store.insert(random.u32(100..140), 0)),
                }
            }
            for passes in 0.. {
                let bodies = pass(&mut collection, &store, &mut sent);
                if bodies == 0 {
                    break;
                }
                assert!(passes < 20, "seed {seed}, round {round}: {bodies} pages still differ");
            }
            assert_eq!(held(&collection), store, "seed {seed}, round {round}");
            let most = collection.ranges.iter().map(|range| range.items.len()).max();
            assert!(most <= Some(PAGE), "seed {seed}: {most:?}");
        }
    }
}

#[test]
fn an_answer_that_is_late_takes_nothing_back() {
    let before = numbers(30);
    let mut after = before.clone();
    after.insert(12, 1);
    let mut collection = loaded(&before);
    let late = answer(&before, None, 50, 61);
    collection.validate(None, &answer(&after, None, 60, 60)).unwrap();
    assert_eq!(collection.validate(None, &late).unwrap(), None);
    assert_eq!(held(&collection), after);
}

#[test]
fn an_overlap_is_not_taken_from_an_answer_that_was_asked_for_earlier() {
    let before = numbers(30);
    let mut after = before.clone();
    // The ninth item: owned by the second range, and on the page of the first.
    after.insert(32, 1);
    let mut collection = loaded(&before);
    let second = collection.ranges[1].anchor.clone();
    collection.validate(second.as_ref(), &answer(&after, second.as_ref(), 60, 60)).unwrap();
    collection.validate(None, &answer(&before, None, 50, 61)).unwrap();
    assert_eq!(held(&collection), after);
}

#[test]
fn a_predicted_write_makes_the_tag_that_the_origin_will_have() {
    for written in [12, 13, 400] {
        let mut store = numbers(57);
        let mut collection = loaded(&store);
        store.insert(written, 7);
        let json = format!(r#"{{"etag":"{written}-7","key":"{written:03}","label":null}}"#);
        let item = Item::read(Bytes::from(json)).unwrap();
        collection.predict(&item.id.clone(), Some(item), &at(90));
        assert_eq!(pass(&mut collection, &store, &mut 100), 0, "{written}");
        store.remove(&written);
        collection.predict(&KeyValueId::new(&format!("{written:03}"), None), None, &at(190));
        assert_eq!(pass(&mut collection, &store, &mut 200), 0, "{written}");
    }
}

#[test]
fn ranges_show_one_state_only_after_all_were_validated_since_the_last_change() {
    let mut store = numbers(30);
    let mut collection = loaded(&store);
    let all = 0..collection.ranges.len();
    assert!(!collection.is_one_state(all.clone()), "pages of a load may come from several states");
    pass(&mut collection, &store, &mut 100);
    assert!(collection.is_one_state(all.clone()));
    // One range alone has changed, and was asked for after the others were validated: they still held when it was answered?
    store.insert(0, 1);
    collection.validate(None, &answer(&store, None, 200, 201)).unwrap();
    assert!(collection.is_one_state(0..1));
    assert!(!collection.is_one_state(all.clone()), "the others were not asked since");
    pass(&mut collection, &store, &mut 300);
    assert!(collection.is_one_state(all.clone()));
    // A predicted state is a mix until it is validated.
    let item = Item::read(Bytes::from_static(br#"{"etag":"0-2","key":"000","label":null}"#)).unwrap();
    collection.predict(&item.id.clone(), Some(item), &at(400));
    assert!(!collection.is_one_state(0..1) && !collection.is_one_state(all.clone()));
    assert!(collection.is_one_state(1..2));
}

#[test]
fn the_range_that_changed_last_need_not_be_asked_again() {
    let mut store = numbers(30);
    let mut collection = loaded(&store);
    pass(&mut collection, &store, &mut 100);
    store.insert(0, 1);
    collection.validate(None, &answer(&store, None, 200, 201)).unwrap();
    let others: Vec<_> = collection.ranges[1..].iter().map(|range| range.anchor.clone()).collect();
    for (sent, anchor) in (202..).zip(&others) {
        assert!(!collection.is_one_state(0..collection.ranges.len()));
        collection.validate(anchor.as_ref(), &answer(&store, anchor.as_ref(), sent, sent)).unwrap();
    }
    assert!(collection.is_one_state(0..collection.ranges.len()));
}

#[test]
fn other_tags_than_the_items_make_end_the_computing_of_tags() {
    let store = numbers(25);
    let mut collection = Collection::new(Selector::everything(), Clauses::ALL);
    let mut sent = 0;
    while let Some(anchor) = collection.load_position() {
        sent += 1;
        let RangeAnswer { response, arrived } = answer(&store, anchor.as_ref(), sent, sent);
        let mut fields = response.fields.to_header_map();
        fields.insert(http::header::ETAG, HeaderValue::try_from(format!("\"tag{sent}\"")).unwrap());
        let response = StoredResponse { fields: StoredFields::pack(&fields), ..(*response).clone() };
        collection.load(&RangeAnswer { response: Arc::new(response), arrived }, &[]).unwrap();
    }
    assert!(!collection.computes_tags);
    let tags: Vec<_> = (0..3).map(|index| collection.page(index).entity_tag).collect();
    assert_eq!(tags, [Some("tag1".to_owned()), Some("tag2".to_owned()), Some("tag3".to_owned())]);
    assert_eq!(held(&collection), store);
}

/// The same answer with another value of each item, under the same tags.
fn with_other_values(answer: &RangeAnswer) -> RangeAnswer {
    let text =
        String::from_utf8(answer.response.body.to_vec()).unwrap().replace("\"label\":null", "\"label\":\"\"");
    let response = StoredResponse { body: Bytes::from(text), ..(*answer.response).clone() };
    RangeAnswer { response: Arc::new(response), arrived: answer.arrived }
}

#[test]
fn an_audit_takes_in_another_value_under_the_same_tag() {
    let store = numbers(30);
    let mut collection = loaded(&store);
    let second = collection.ranges[1].anchor.clone();
    let audited = answer(&store, second.as_ref(), 50, 50);
    assert_eq!(collection.audit(second.as_ref(), &audited), Ok(false));
    let audited = with_other_values(&answer(&store, second.as_ref(), 60, 60));
    assert_eq!(collection.audit(second.as_ref(), &audited), Ok(true));
    let is_new = |item: &Item| item.json.ends_with(br#""label":""}"#);
    assert!(collection.ranges[1].items.iter().all(is_new) && !collection.ranges[0].items.iter().any(is_new));
    assert_eq!(held(&collection), store);
}

#[test]
fn an_audit_that_is_late_takes_nothing_out() {
    let store = numbers(30);
    let mut collection = loaded(&store);
    let late = with_other_values(&answer(&store, None, 50, 61));
    collection.validate(None, &answer(&store, None, 60, 60)).unwrap();
    assert_eq!(collection.audit(None, &late), Ok(true));
    assert_eq!(held(&collection), store);
}

#[test]
fn the_ranges_of_a_prefix_are_those_that_can_hold_its_keys() {
    let collection = loaded(&numbers(57));
    let spans = |prefix: &str| {
        let span = collection.ranges_of(prefix, None);
        let holds = |range: &Range| range.items.iter().any(|item| item.id.key().starts_with(prefix));
        for (index, range) in collection.ranges.iter().enumerate() {
            assert!(!holds(range) || span.contains(&index), "{prefix} {index} {span:?}");
        }
        span.len()
    };
    assert_eq!(spans(""), collection.ranges.len());
    assert!(spans("1") < collection.ranges.len() && spans("04") <= 2 && spans("x") == 1);
}
