//! `/revisions`: every version of a key-value, newest first, without deletions; filters, conditions and `Range:
//! items=`.

use tagalong::internals::emulator::EmulatorSettings;

use super::Origin;

async fn with_history(page_size: usize) -> Origin {
    let origin = Origin::new(EmulatorSettings { page_size, ..EmulatorSettings::default() });
    for value in ["1", "2", "3"] {
        origin.put("/kv/a", value).await;
        origin.put("/kv/a?label=l", value).await;
    }
    origin.send("DELETE", "/kv/a", &[], "").await;
    origin.put("/kv/b", "1").await;
    origin.send("PUT", "/locks/b", &[], "").await;
    origin
}

#[tokio::test]
async fn revisions_are_listed_newest_first_without_deletions() {
    let expected = ["a//3", "a//2", "a//1", "a/l/3", "a/l/2", "a/l/1", "b//1", "b//1"];
    for page_size in [1, 2, 3, 8, 100] {
        let origin = with_history(page_size).await;
        let (mut found, mut next) = (Vec::new(), Some("/revisions".to_owned()));
        while let Some(target) = next {
            let reply = origin.get(&target).await;
            for item in reply.json()["items"].as_array().unwrap() {
                let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
                found.push(format!("{}/{}/{}", text("key"), text("label"), text("value")));
            }
            next = reply.next();
        }
        assert_eq!(found, expected, "{page_size}");
    }
}

#[tokio::test]
async fn filters_conditions_and_page_tags_work_as_on_lists() {
    let origin = with_history(100).await;
    assert_eq!(origin.get("/revisions?key=a&label=%00").await.items("value"), ["3", "2", "1"]);
    assert_eq!(origin.get("/revisions?key=b*").await.items("locked"), [true, false]);
    assert_eq!(
        origin.get("/revisions?label=l&$select=value").await.items("key"),
        [(); 3].map(|()| serde_json::Value::Null)
    );
    let reply = origin.get("/revisions?key=a").await;
    assert_eq!(reply.header("etag"), format!("\"{}\"", reply.json()["etag"].as_str().unwrap()));
    let condition = format!("if-none-match: {}", reply.header("etag"));
    assert_eq!(origin.send("GET", "/revisions?key=a", &[&condition], "").await.status, 304);
    origin.put("/kv/a", "4").await;
    assert_eq!(origin.send("GET", "/revisions?key=a", &[&condition], "").await.status, 200);
    assert!(!origin.get("/revisions?api-version=1.0").await.headers.contains_key("etag"));
}

#[tokio::test]
async fn ranges_of_items_are_answered_in_part() {
    let origin = with_history(100).await;
    for (range, status, content_range, values) in [
        ("items=0-2", 206, "items 0-2/8", 3),
        ("items=6-", 206, "items 6-7/8", 2),
        ("items=7-99", 206, "items 7-7/8", 1),
        ("items=8-9", 416, "items */8", 0),
        ("items=2-1", 200, "", 8),
        ("bytes=0-1", 200, "", 8),
        ("items=x", 200, "", 8),
    ] {
        let reply = origin.send("GET", "/revisions?api-version=1.0", &[&format!("range: {range}")], "").await;
        assert_eq!((reply.status, reply.header("content-range")), (status, content_range), "{range}");
        if status != 416 {
            assert_eq!(
                (reply.items("value").len(), reply.header("accept-ranges")),
                (values, "items"),
                "{range}"
            );
        }
    }
}

#[tokio::test]
async fn revisions_are_dropped_after_their_retention() {
    let retention = std::time::Duration::from_secs(3_600);
    let origin = Origin::new(EmulatorSettings { retention, ..EmulatorSettings::default() });
    origin.put("/kv/a", "1").await;
    origin.clock.advance(retention);
    origin.put("/kv/a", "2").await;
    assert_eq!(origin.get("/revisions").await.items("value"), ["2", "1"]);
    origin.clock.advance(retention);
    origin.put("/kv/a", "3").await;
    assert_eq!(origin.get("/revisions").await.items("value"), ["3", "2"]);
}
