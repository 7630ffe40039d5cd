use super::*;

fn page(text: &str) -> Result<ItemPage, GiveUpReason> {
    ItemPage::read(&Bytes::copy_from_slice(text.as_bytes()), Some(&KeyValueId::new("a", None)))
}

fn items(items: &str) -> Result<ItemPage, GiveUpReason> {
    page(&format!(r#"{{"items":[{items}]}}"#))
}

#[test]
fn a_page_keeps_the_bytes_of_its_items() {
    let read = page(
        r#"{"etag":"x","items":[{"etag":"1","key":"b","label":null}, {"etag":"2","key":"b","label":"l","new":[1]}],
            "@nextLink":"/kv?api-version=1.0&after=YgpsCg"}"#,
    );
    assert_eq!(read, Err(GiveUpReason::Page), "the link names `b LF l LF`, which is none");
    let read = page(
        r#"{"etag":"x","items":[{"etag":"1","key":"b","label":null}, {"etag":"2","key":"b","label":"l","new":[1]}],
            "@nextLink":"/kv?api-version=1.0&after=YgpsYWJlbA"}"#,
    );
    assert_eq!(read, Err(GiveUpReason::Page), "the link names another item");
    let read = page(
        r#"{"etag":"x","items":[{"etag":"1","key":"b","label":null}, {"etag":"2","key":"b","label":"l","new":[1]}],
            "@nextLink":"/kv?api-version=1.0&after=Ygps"}"#,
    )
    .unwrap();
    assert!(read.continues && read.forms.contains(ContinuationForms::URL_SAFE_BARE));
    let [one, other] = &read.items[..] else { panic!("two items") };
    assert_eq!((one.id.clone(), &*one.entity_tag), (KeyValueId::new("b", None), "1"));
    assert_eq!(
        (other.id.label(), &*other.json),
        (Some("l"), &br#"{"etag":"2","key":"b","label":"l","new":[1]}"#[..])
    );
}

#[test]
fn null_empty_and_nul_are_no_label() {
    for label in ["null", r#""""#, r#""\u0000""#] {
        let read = items(&format!(r#"{{"etag":"1","key":"b","label":{label}}}"#)).unwrap();
        assert_eq!(read.items[0].id, KeyValueId::new("b", None), "{label}");
    }
}

#[test]
fn what_is_no_page_ends_the_mirror_with_its_reason() {
    use GiveUpReason::{Name, Order, Page};
    let item = |key: &str| format!(r#"{{"etag":"1","key":"{key}","label":null}}"#);
    for (text, reason) in [
        ("".to_owned(), Page),
        ("[]".to_owned(), Page),
        ("{}".to_owned(), Page),
        (r#"{"items":[{"key":"b","label":null}]}"#.to_owned(), Page),
        (r#"{"items":[{"etag":"1","label":null}]}"#.to_owned(), Page),
        (r#"{"items":[],"@nextLink":"/kv?after=YQo"}"#.to_owned(), Page),
        (format!(r#"{{"items":[{}]}}"#, item("b\\nc")), Name),
        (format!(r#"{{"items":[{}]}}"#, item("b\\r")), Name),
        (format!(r#"{{"items":[{}]}}"#, item("b\\u0000c")), Name),
        (r#"{"items":[{"etag":"1","key":"b","label":"x\u0001"}]}"#.to_owned(), Name),
        (r#"{"items":[{"etag":"a\"b","key":"b","label":null}]}"#.to_owned(), Name),
        (format!(r#"{{"items":[{},{}]}}"#, item("c"), item("b")), Order),
        (format!(r#"{{"items":[{},{}]}}"#, item("b"), item("b")), Order),
        (format!(r#"{{"items":[{}]}}"#, item("a")), Order),
        // By UTF-16 unit the astral character precedes U+E000.
        (format!(r#"{{"items":[{},{}]}}"#, item("\u{E000}"), item("\u{1F600}")), Order),
    ] {
        assert_eq!(page(&text), Err(reason), "{text}");
    }
    let ordered = format!("{},{}", item("\u{1F600}"), item("\u{E000}"));
    assert_eq!(items(&ordered).unwrap().items.len(), 2);
}

#[test]
fn an_item_is_shown_in_the_bytes_of_the_origin() {
    let json = r#"{"etag":"e","key":"a\/b","label":null, "content_type":null,"value":"\u00e9","tags":{},"description":"d","locked":false,"last_modified":"2020-04-15T16:11:16+00:00","of_tomorrow":1}"#;
    let item = Item::read(Bytes::from_static(json.as_bytes())).unwrap();
    let shown = |select: Option<&str>, version| {
        String::from_utf8(item.json(Selection::parse(select), version).to_vec()).unwrap()
    };
    assert_eq!(shown(None, ApiVersion::V2026_04_01), json);
    assert_eq!(
        shown(None, ApiVersion::V2023_11_01),
        r#"{"etag":"e","key":"a/b","label":null,"content_type":null,"value":"\u00e9","tags":{},"locked":false,"last_modified":"2020-04-15T16:11:16+00:00","of_tomorrow":1}"#
            .replace("a/b", r"a\/b")
    );
    assert_eq!(
        shown(Some("value,description"), ApiVersion::V2026_04_01),
        r#"{"value":"\u00e9","description":"d"}"#
    );
    assert_eq!(shown(Some("value,description"), ApiVersion::V1_0), r#"{"value":"\u00e9"}"#);
    assert_eq!(shown(Some("unknown"), ApiVersion::V1_0), "{}");
    assert_eq!(item.last_modified(), Some(Timestamp::from_unix_seconds(1_586_967_076)));
}
