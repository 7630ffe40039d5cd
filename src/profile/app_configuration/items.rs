//! The key-values in a list: each shows, without quotes, the entity tag that `/kv/{key}` carries.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

use super::query::Query;
use super::resource::canonical_key_value;
use crate::profile::ItemState;

#[derive(Deserialize)]
struct ListPage<'a> {
    #[serde(borrow)]
    items: Vec<ListItem<'a>>,
}

/// One item of a page. A page with `$select` may lack any field. Without `label` it is not known which key-value the
/// item is.
#[derive(Deserialize)]
struct ListItem<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(deserialize_with = "present")]
    label: Option<String>,
    #[serde(borrow)]
    etag: Cow<'a, str>,
}

/// Tells null (no label) from absence (not selected): a derived `Option` would accept both.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// The items of a list with this canonical target. `None` if it is no list of current key-values, or does not show key,
/// label and entity tag of each.
pub(super) fn of_list(canonical_target: &str, body: &[u8]) -> Option<Vec<ItemState>> {
    let query = Query::parse(canonical_target.strip_prefix("/kv?")?).ok()?;
    if query.single("snapshot").ok()?.is_some() {
        return None;
    }
    let api_version = query.single("api-version").ok()??;
    let page: ListPage<'_> = serde_json::from_slice(body).ok()?;
    let state = |item: &ListItem<'_>| ItemState {
        canonical_target: canonical_key_value(&item.key, item.label.as_deref(), api_version),
        entity_tag: format!("\"{}\"", item.etag),
    };
    Some(page.items.iter().map(state).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::app_configuration::resource::canonicalize;

    const LIST: &str = "/kv?api-version=2023-11-01&key=a%2A";

    #[test]
    fn each_item_has_the_target_and_the_tag_of_its_own_response() {
        let body = br#"{"items":[
            {"etag":"t1","key":"a/b c","label":null,"value":"1","last_modified":"x"},
            {"etag":"t2","key":"a\u00e9","label":"prod","value":null}
        ],"@nextLink":"/kv?after=x"}"#;
        let items = of_list(LIST, body).expect("a list");
        let targets = ["/kv/a/b%20c?api-version=2023-11-01", "/kv/a%C3%A9?label=prod&api-version=2023-11-01"];
        for (item, target) in items.iter().zip(targets) {
            let (path, query) = target.split_once('?').expect("a query");
            assert_eq!(item.canonical_target, canonicalize(path, Some(query)).expect("canonical").text);
        }
        assert_eq!([&*items[0].entity_tag, &*items[1].entity_tag], ["\"t1\"", "\"t2\""]);
    }

    #[test]
    fn what_does_not_name_states_says_nothing() {
        let whole = br#"{"items":[{"etag":"t","key":"a","label":null}]}"#;
        for target in [
            "/kv/a?api-version=1.0",
            "/keys?api-version=1.0",
            "/revisions?api-version=1.0",
            "/kv?api-version=1.0&snapshot=s",
            "/kv?key=a",
        ] {
            assert_eq!(of_list(target, whole), None, "{target}");
        }
        for body in [
            &br#"{"items":[{"key":"a","label":null}]}"#[..],
            br#"{"items":[{"etag":"t","key":"a"}]}"#,
            br#"{"items":[{"etag":"t","label":null}]}"#,
            br#"{}"#,
            br#"[]"#,
            b"",
        ] {
            assert_eq!(of_list(LIST, body), None, "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(of_list(LIST, br#"{"items":[]}"#), Some(Vec::new()));
    }
}
