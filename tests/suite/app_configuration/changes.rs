//! Which answers outdate stored responses and which do not, with a scripted App Configuration store.

use crate::support::scene::Scene;

const V: &str = "api-version=2023-11-01";

async fn scene(settings: &[&str]) -> Scene {
    let common = ["upstream.profile=app-configuration", "upstream.credential.kind=none"];
    Scene::with(&[&common[..], settings].concat()).await
}

fn key_value(key: &str, tag: &str, token: &str) -> String {
    format!(
        "200\nContent-Type: application/vnd.microsoft.appconfig.kv+json\nETag: \"{tag}\"\nSync-Token: {token}\n\n{{\"key\":\"{key}\",\"etag\":\"{tag}\"}}"
    )
}

fn list(page: &str, items: &[(&str, &str)], token: &str) -> String {
    let items: Vec<String> = items
        .iter()
        .map(|(key, tag)| format!("{{\"etag\":\"{tag}\",\"key\":\"{key}\",\"label\":null}}"))
        .collect();
    format!("200\nETag: \"{page}\"\nSync-Token: {token}\n\n{{\"items\":[{}]}}", items.join(","))
}

fn not_modified(token: &str) -> String {
    format!("304\nSync-Token: {token}")
}

#[tokio::test]
async fn a_sequence_number_that_rises_without_a_write_costs_no_validation() {
    let scene = scene(&[]).await;
    let targets: Vec<String> = (0..40).map(|number| format!("/kv/k{number}?{V}")).collect();
    let mut sequence_number = 0;
    let mut rise = || {
        sequence_number += 1;
        format!("a=v{sequence_number};sn={sequence_number}")
    };
    for (number, target) in targets.iter().enumerate() {
        scene.on(target, key_value(&format!("k{number}"), "t", &rise()));
        scene.on(target, not_modified(&rise()));
        scene.on(target, not_modified(&rise()));
    }
    for _ in 0..3 {
        for target in &targets {
            scene.get(target).await;
        }
        // The first answers show changes, so the second round validates them.
        scene.pass_seconds(1);
    }
    for target in &targets {
        assert!(scene.get(target).await.is_hit(), "{target}");
        assert!(scene.asked(target) <= 2, "{target}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_stored_outdates_the_older_response() {
    for field in ["Cache-Control: no-store", "If-Match: *", "Cookie: a=b", "Range: bytes=0-1"] {
        for token in ["", "Sync-Token: kv=MA==;sn=1\n"] {
            let scene = scene(&[]).await;
            let target = format!("/kv/a?{V}");
            for tag in ["seed", "new", "new"] {
                scene.on(&target, format!("200\nETag: \"{tag}\"\n{token}\n{tag}"));
            }
            assert_eq!(scene.get(&target).await.text(), "seed");
            let passing = scene.send(&format!("GET {target}\n{field}")).await;
            assert_eq!(passing.text(), "new", "{field} {token}");
            let plain = scene.get(&target).await;
            assert_eq!((plain.is_hit(), plain.text()), (false, "new"), "{field} {token}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_reloads_after_its_sentinel_changed_sees_the_new_list() {
    let tokens = ["", "Sync-Token: kv=MA==;sn=1\n"];
    for level in ["session", "bounded-staleness"] {
        for token in tokens {
            let scene = scene(&[&format!("upstream.consistency={level}")]).await;
            let (sentinel, list) = (format!("/kv/sentinel?{V}"), format!("/kv?{V}&key=app*"));
            scene.on(&sentinel, format!("200\nETag: \"s1\"\n{token}\n1"));
            scene.on(&list, format!("200\nETag: \"l1\"\n{token}\n{{\"items\":[]}}"));
            scene.on(&list, format!("304\n{token}"));
            scene.get(&sentinel).await;
            scene.pass_seconds(20);
            scene.get(&list).await;
            scene.pass_seconds(11);
            scene.on(&sentinel, format!("200\nETag: \"s2\"\n{token}\n2"));
            scene.on(&list, format!("200\nETag: \"l2\"\n{token}\n{{\"items\":[{{}}]}}"));
            assert_eq!(scene.get(&sentinel).await.text(), "2");
            scene.get(&list).await;
            assert!(
                scene.asked(&list) >= 2,
                "{level} {token}: the list is younger than the sentinel, and old"
            );
        }
    }
}

#[tokio::test]
async fn a_list_validates_the_key_values_that_it_contains() {
    let scene = scene(&[]).await;
    let (a, b) = (format!("/kv/a?{V}"), format!("/kv/b?{V}"));
    let page = format!("/kv?{V}");
    scene.on(&a, key_value("a", "a1", "t=v1;sn=1"));
    scene.on(&b, key_value("b", "b1", "t=v2;sn=2"));
    scene.get(&a).await;
    scene.get(&b).await;
    scene.pass_seconds(25);
    scene.on(&page, list("p1", &[("a", "a1"), ("b", "b2")], "t=v3;sn=3"));
    scene.get(&page).await;
    scene.pass_seconds(10);
    let answer = scene.get(&a).await;
    assert!(answer.is_hit(), "35 s old, and validated 10 s ago: {answer:?}");
    assert_eq!(answer.age(), Some(10));
    scene.on(&b, key_value("b", "b2", "t=v4;sn=4"));
    assert_eq!(scene.get(&b).await.field("etag"), Some("\"b2\""), "the list shows another tag");
    scene.on(&page, not_modified("t=v5;sn=5"));
    scene.pass_seconds(25);
    scene.get(&page).await;
    assert!(scene.get(&a).await.is_hit() && scene.get(&b).await.is_hit(), "a 304 to the list does the same");
    assert_eq!((scene.asked(&a), scene.asked(&b), scene.asked(&page)), (1, 2, 2));
}

#[tokio::test]
async fn a_list_is_asked_first_where_many_of_its_items_are_stale() {
    let scene = scene(&[]).await;
    let keys = ["a", "b", "c", "d", "e"];
    let page = format!("/kv?{V}");
    let items = keys.map(|key| (key, "t"));
    for (number, key) in keys.iter().enumerate() {
        let token = format!("t=v{number};sn={number}");
        scene.on(&format!("/kv/{key}?{V}"), key_value(key, "t", &token));
        scene.get(&format!("/kv/{key}?{V}")).await;
    }
    scene.on(&page, list("p", &items, "t=v10;sn=10"));
    scene.get(&page).await;
    scene.pass_seconds(31);
    scene.on(&page, not_modified("t=v11;sn=11"));
    for (number, key) in keys.iter().enumerate() {
        let answer = scene.get(&format!("/kv/{key}?{V}")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.is_hit(), number > 0, "{key}: the origin was asked once, for the list: {answer:?}");
        assert_eq!(scene.asked(&format!("/kv/{key}?{V}")), 1, "{key}");
    }
    assert_eq!(scene.asked(&page), 2);
}

#[tokio::test]
async fn a_write_through_the_sidecar_costs_other_keys_no_validation() {
    let scene = scene(&[]).await;
    let (a, b) = (format!("/kv/a?{V}"), format!("/kv/b?{V}"));
    for (target, key, sequence_number) in [(&a, "a", 1), (&b, "b", 2)] {
        scene.on(target, key_value(key, "old", &format!("t=v{sequence_number};sn={sequence_number}")));
        scene.on(target, not_modified("t=v3;sn=3"));
        scene.get(target).await;
    }
    scene.get(&a).await;
    scene.get(&b).await;
    scene.on(&a, key_value("a", "own", "t=v5;sn=5"));
    let written = scene.send(&format!("PUT {a}\nContent-Type: application/json\n\n{{}}")).await;
    assert_eq!(written.field("sync-token"), Some("t=v5;sn=5"), "the writer gets the token of its write");
    scene.on(&a, key_value("a", "own", "t=v6;sn=6"));
    assert_eq!(scene.get(&a).await.field("etag"), Some("\"own\""));
    let other = scene.get(&b).await;
    assert!(other.is_hit(), "the answer to the write has told the state of a: {other:?}");
    assert_ne!(other.field("sync-token"), Some("t=v6;sn=6"), "other callers need not present it");
    scene.on(&b, not_modified("t=v7;sn=7"));
    let presenting = scene.send(&format!("GET {b}\nSync-Token: t=v5")).await;
    assert!(
        !presenting.is_hit(),
        "a caller that presents the token of the write requires its state: {presenting:?}"
    );
}

#[tokio::test]
async fn a_token_with_an_unknown_id_is_sent_to_the_origin_each_time() {
    let scene = scene(&[]).await;
    let target = format!("/kv/a?{V}");
    for sequence_number in 1..=4 {
        scene.on(&target, key_value("a", "t", &format!("here=v{sequence_number};sn={sequence_number}")));
    }
    scene.get(&target).await;
    for asked in 2..=3 {
        let answer = scene.send(&format!("GET {target}\nSync-Token: elsewhere=x")).await;
        assert!(!answer.is_hit(), "{answer:?}");
        assert_eq!(scene.asked(&target), asked);
        assert!(
            scene.last_request(&target).field("sync-token").is_some_and(|line| line.contains("elsewhere=x"))
        );
    }
}

#[tokio::test]
async fn malformed_tokens_are_ignored() {
    let scene = scene(&[]).await;
    let target = format!("/kv/a?{V}");
    scene.on(&target, key_value("a", "t", "q=\"v\";sn=4,s=v w;sn=5,n=nosn,good=v1;sn=1"));
    scene.on(&target, not_modified("good=v2;sn=2"));
    assert_eq!(scene.get(&target).await.field("sync-token"), Some("good=v1;sn=1"));
    scene.send(&format!("GET {target}\nCache-Control: no-cache")).await;
    assert_eq!(scene.last_request(&target).field("sync-token"), Some("good=v1"));
}

#[tokio::test]
async fn an_answer_that_needed_the_origin_for_a_token_is_not_a_hit() {
    let scene = scene(&[]).await;
    let target = format!("/kv/a?{V}");
    scene.on(&target, key_value("a", "t", "t=v1;sn=1"));
    scene.on(&target, not_modified("t=v1;sn=1"));
    scene.on(&target, key_value("a", "t", "t=v1;sn=1"));
    scene.get(&target).await;
    assert!(!scene.send(&format!("GET {target}\nCache-Control: no-cache")).await.is_hit());
    assert!(scene.get(&target).await.is_hit());
    let answer = scene.send(&format!("GET {target}\nSync-Token: t=x")).await;
    assert!(!answer.is_hit(), "{answer:?}");
    assert_eq!(scene.asked(&target), 3, "one request for the token and no other");
}

#[tokio::test]
async fn a_condition_is_sent_along_with_a_token_that_stays_unknown() {
    let scene = scene(&[]).await;
    let target = format!("/kv/a?{V}");
    scene.on(&target, key_value("a", "new", "here=v1;sn=1"));
    scene.on(&target, key_value("a", "new", "here=v2;sn=2"));
    scene.on(&target, "412");
    let answer = scene.send(&format!("GET {target}\nSync-Token: elsewhere=x\nIf-Match: \"old\"")).await;
    assert_eq!(answer.status, 412, "the origin evaluates it: {answer:?}");
    let asked = scene.last_request(&target);
    assert_eq!(asked.field("if-match"), Some("\"old\""));
    assert!(asked.field("sync-token").is_some_and(|line| line.contains("elsewhere=x")));
}

#[tokio::test]
async fn a_delete_that_found_nothing_shows_a_deletion_by_another_writer() {
    let scene = scene(&[]).await;
    let (a, b) = (format!("/kv/a?{V}"), format!("/kv/b?{V}"));
    scene.on(&a, key_value("a", "a1", "kv=MQ==;sn=1"));
    scene.on(&b, key_value("b", "b1", "kv=MQ==;sn=1"));
    scene.on(&b, not_modified("kv=Mg==;sn=2"));
    scene.get(&a).await;
    scene.get(&b).await;
    assert!(scene.get(&b).await.is_hit());
    // Another writer deleted `a`, and may have changed `b` before.
    scene.on(&a, "204\nSync-Token: kv=Mg==;sn=2");
    scene.send(&format!("DELETE {a}")).await;
    assert!(!scene.get(&b).await.is_hit(), "it was sent before the deletion was shown");
}

#[tokio::test]
async fn an_unstored_answer_that_was_shown_before_tells_of_the_deletion_of_what_appeared_since() {
    let (key, page) = (format!("/kv/a?{V}"), format!("/kv?{V}&key=a%2A"));
    let other_spelling = format!("/kv/a?{V}&$select=value");
    let (empty, absent) = ("200\nETag: \"none\"\n\n{\"items\":[]}", "404\n\n{}");
    for (lacking, answer) in [(&page, empty), (&other_spelling, absent)] {
        let scene = scene(&[]).await;
        let asked_again = format!("GET {lacking}\nCache-Control: no-store");
        scene.on(lacking, answer);
        scene.send(&asked_again).await;
        scene.on(&key, "200\nETag: \"a1\"\n\n{\"key\":\"a\",\"etag\":\"a1\"}");
        scene.get(&key).await;
        assert!(scene.get(&key).await.is_hit(), "{lacking}");
        scene.on(lacking, answer);
        scene.send(&asked_again).await;
        scene.on(&key, absent);
        assert_eq!(scene.get(&key).await.status, 404, "{lacking} did not show it any more");
    }
}
