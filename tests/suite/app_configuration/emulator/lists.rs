//! `/kv`, `/keys` and `/labels`: filters, pages, page tags. A 304 to a page carries its `Link`, and page tags are shown
//! from api-version `2023-10-01` on.

use tagalong::internals::emulator::EmulatorSettings;

use super::{Origin, VERSIONS};

async fn filtered() -> Origin {
    let origin = Origin::new(EmulatorSettings::default());
    for target in
        ["/kv/app:a", "/kv/app:a?label=dev", "/kv/app:b?label=prod", "/kv/b%2Cc", "/kv/b%2A?label=prod"]
    {
        origin.put(target, "v").await;
    }
    let tagged = r#"{"value":"v","tags":{"env":"dev","a=b":null,"e":""}}"#;
    origin.send("PUT", "/kv/tagged?label=test", &["content-type: application/json"], tagged).await;
    origin
}

#[tokio::test]
async fn filters_select_the_key_values_of_the_table() {
    let origin = filtered().await;
    for (query, expected) in [
        ("", "app:a app:a/dev app:b/prod b*/prod b,c tagged/test"),
        ("key=*", "app:a app:a/dev app:b/prod b*/prod b,c tagged/test"),
        ("key=&label=", "app:a app:a/dev app:b/prod b*/prod b,c tagged/test"),
        ("key=*anything", "app:a app:a/dev app:b/prod b*/prod b,c tagged/test"),
        ("key=app%3A%2A", "app:a app:a/dev app:b/prod"),
        ("key=app:*&label=%00", "app:a"),
        ("key=app:a", "app:a app:a/dev"),
        ("key=app:a,app:b", "app:a app:a/dev app:b/prod"),
        ("key=app:b,app:a,app:a", "app:a app:a/dev app:b/prod"),
        ("key=b%5C%2Cc", "b,c"),
        ("key=b%5C*", "b*/prod"),
        ("key=b%5C**", "b*/prod"),
        ("key=b*", "b*/prod b,c"),
        ("label=%00", "app:a b,c"),
        ("label=%00,dev", "app:a app:a/dev b,c"),
        ("label=p*", "app:b/prod b*/prod"),
        ("label=prod,test", "app:b/prod b*/prod tagged/test"),
        ("key=missing", ""),
        ("tags=env%3Ddev", "tagged/test"),
        ("tags=env%3Ddev&tags=a%5C%3Db%3D%00", "tagged/test"),
        ("tags=env%3Ddev&tags=e%3D", "tagged/test"),
        ("tags=env%3Dtest", ""),
        ("tags=e%3D%00", ""),
        ("KEY=app:a&Label=dev", "app:a/dev"),
    ] {
        let reply = origin.get(&format!("/kv?{query}")).await;
        assert_eq!(reply.status, 200, "{query}");
        let json = reply.json();
        let shown: Vec<String> = json["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                let label = item["label"].as_str().map(|label| format!("/{label}")).unwrap_or_default();
                format!("{}{label}", item["key"].as_str().unwrap())
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{query}");
    }
}

#[tokio::test]
async fn tag_filters_are_ignored_before_their_version() {
    let origin = filtered().await;
    for (position, version) in VERSIONS.iter().enumerate() {
        let reply = origin.get(&format!("/kv?api-version={version}&tags=env%3Dtest")).await;
        assert_eq!(reply.items("key").is_empty(), position >= 3, "{version}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_and_the_last_is_never_empty() {
    for (count, sizes) in [(0, &[0][..]), (1, &[1]), (100, &[100]), (101, &[100, 1]), (250, &[100, 100, 50])]
    {
        let origin = Origin::new(EmulatorSettings::default());
        origin.fill("app:k", count).await;
        origin.put("/kv/other", "v").await;
        let first = "/kv?key=app%3A%2A&%24select=key,etag&api-version=2026-04-01&label=%00";
        let (mut target, mut found, mut keys) = (first.to_owned(), Vec::new(), Vec::new());
        loop {
            let reply = origin.get(&target).await;
            found.push(reply.items("key").len());
            keys.extend(reply.items("key"));
            let head = origin.send("HEAD", &target, &[], "").await;
            assert_eq!(
                (head.header("link"), head.header("etag")),
                (reply.header("link"), reply.header("etag"))
            );
            assert_eq!(head.header("content-length"), reply.body.len().to_string());
            let Some(next) = reply.next() else { break };
            let (before_after, token) = next.split_once("&after=").expect("after is present and not first");
            assert_eq!(before_after, first, "parameters stay as sent");
            assert!(
                token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
                "{token}"
            );
            target = next;
        }
        assert_eq!(found, sizes);
        assert_eq!(keys.len(), count);
        assert!(keys.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
    }
}

#[tokio::test]
async fn page_tags_are_compared_in_every_version_and_shown_from_2023_10_01() {
    for (position, version) in VERSIONS.iter().enumerate() {
        let origin = Origin::new(EmulatorSettings::default());
        origin.fill("k", 101).await;
        let newest = origin.get("/kv").await;
        let target = format!("/kv?api-version={version}");
        let reply = origin.get(&target).await;
        let shown = position >= 2;
        assert_eq!(reply.headers.contains_key("etag"), shown, "{version}");
        assert_eq!(reply.json().get("etag").is_some(), shown, "{version}");
        assert_eq!(newest.header("etag"), format!("\"{}\"", newest.json()["etag"].as_str().unwrap()));
        let etag = newest.header("etag");
        for method in ["GET", "HEAD"] {
            for (condition, expected) in [
                (format!("if-none-match: {etag}"), 304),
                (format!("if-none-match: W/{etag}"), 304),
                ("if-none-match: *".to_owned(), 304),
                ("if-none-match: \"x\"".to_owned(), 200),
                ("if-none-match: \"\"".to_owned(), 200),
                (format!("if-match: {etag}"), 200),
                ("if-match: \"x\"".to_owned(), 412),
                ("if-match: *".to_owned(), 200),
            ] {
                let reply = origin.send(method, &target, &[&condition], "").await;
                assert_eq!(reply.status, expected, "{version} {condition}");
                // Clients stop at a 304 without a link and miss changes on later pages.
                assert_eq!(reply.next().is_some(), expected != 412, "{version} {condition}");
                if expected == 304 {
                    assert!(reply.body.is_empty() && reply.header("etag").is_empty());
                }
            }
        }
    }
}

#[tokio::test]
async fn page_tags_change_with_items_and_with_further_pages_and_not_with_select() {
    let origin = Origin::new(EmulatorSettings::default());
    assert_eq!(origin.get("/kv").await.header("etag"), "\"00wWELzclWef22f82qcUDI7FbJweVOoKWZDA_JoUeD0\"");
    origin.fill("k", 100).await;
    let tag = async |target: &str| origin.get(target).await.header("etag").to_owned();
    let full = tag("/kv").await;
    assert_eq!(tag("/kv?$select=key").await, full);
    assert_eq!(tag("/kv?key=k*").await, full);
    origin.put("/kv/z", "v").await;
    let continued = tag("/kv").await;
    assert_ne!(continued, full, "a further page");
    origin.put("/kv/z", "w").await;
    assert_eq!(tag("/kv").await, continued, "a change on another page");
    origin.put("/kv/k050", "w").await;
    assert_ne!(tag("/kv").await, continued, "an item");
}

#[tokio::test]
async fn a_list_that_shrinks_between_pages_repeats_and_loses_no_item() {
    let origin = Origin::new(EmulatorSettings::default());
    origin.fill("k", 150).await;
    let next = origin.get("/kv").await.next().unwrap();
    origin.send("DELETE", "/kv/k099", &[], "").await;
    origin.put("/kv/k0995", "v").await;
    let rest = origin.get(&next).await.items("key");
    assert_eq!((rest.len(), rest[0].as_str()), (51, Some("k0995")));
}

#[tokio::test]
async fn each_name_is_listed_once_in_order_and_without_a_tag() {
    let origin = Origin::new(EmulatorSettings { page_size: 2, ..EmulatorSettings::default() });
    for target in ["/kv/a", "/kv/a?label=x", "/kv/a?label=y", "/kv/b", "/kv/c?label=x", "/kv/gone?label=gone"]
    {
        origin.put(target, "v").await;
    }
    origin.send("DELETE", "/kv/gone?label=gone", &[], "").await;
    for (target, expected) in [
        ("/keys", vec![Some("a"), Some("b"), Some("c")]),
        ("/keys?name=a*", vec![Some("a")]),
        ("/keys?name=c,a", vec![Some("a"), Some("c")]),
        ("/keys?name=missing", vec![]),
        ("/labels", vec![None, Some("x"), Some("y")]),
        ("/labels?name=%00", vec![None]),
        ("/labels?name=x*", vec![Some("x")]),
        ("/labels?name=y,%00", vec![None, Some("y")]),
    ] {
        let (mut names, mut next) = (Vec::new(), Some(target.to_owned()));
        while let Some(target) = next {
            let reply = origin.send("GET", &target, &["if-none-match: *"], "").await;
            assert_eq!(reply.status, 200, "{target}");
            assert!(!reply.headers.contains_key("etag") && reply.json().get("etag").is_none());
            names.extend(reply.items("name"));
            next = reply.next();
        }
        let names: Vec<Option<&str>> = names.iter().map(|name| name.as_str()).collect();
        assert_eq!(names, expected, "{target}");
    }
    let reply = origin.get("/labels").await;
    assert_eq!(
        reply.header("content-type"),
        "application/vnd.microsoft.appconfig.labelset+json; charset=utf-8"
    );
    assert_eq!(
        reply.body,
        r#"{"items":[{"name":null},{"name":"x"}],"@nextLink":"/labels?api-version=2026-04-01&after=Cng"}"#
    );
}

#[tokio::test]
async fn lists_answer_accept_datetime() {
    let origin = Origin::new(EmulatorSettings { page_size: 1, ..EmulatorSettings::default() });
    origin.put("/kv/a", "1").await;
    origin.put("/kv/b?label=l", "1").await;
    origin.clock.advance(std::time::Duration::from_secs(10));
    origin.put("/kv/a", "2").await;
    origin.put("/kv/c?label=m", "1").await;
    let then = "accept-datetime: 2025-11-21T10:00:05Z";
    let reply = origin.send("GET", "/kv", &[then], "").await;
    assert_eq!((reply.items("key"), reply.items("value")), (vec!["a".into()], vec!["1".into()]));
    let link = reply.header("link");
    assert!(link.contains("; rel=\"next\", </kv?api-version=2026-04-01>; rel=\"original\""), "{link}");
    let unchanged =
        origin.send("GET", "/kv", &[then, &format!("if-none-match: {}", reply.header("etag"))], "").await;
    assert_eq!((unchanged.status, unchanged.header("link")), (304, link));
    let last = origin.send("GET", &reply.next().unwrap(), &[then, "if-none-match: *"], "").await;
    assert_eq!((last.status, last.header("link")), (304, ""), "a 304 never carries rel=\"original\" alone");
    for (target, expected) in [("/keys", 2), ("/labels", 2)] {
        let mut count = 0;
        let mut next = Some(target.to_owned());
        while let Some(target) = next {
            let reply = origin.send("GET", &target, &[then], "").await;
            count += reply.items("name").len();
            next = reply.next();
        }
        assert_eq!(count, expected, "{target}");
    }
}
