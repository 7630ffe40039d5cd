//! What a mirror costs the origin, and when callers see what.

use std::time::Duration;

use tagalong::internals::emulator::{Emulator, EmulatorSettings};

use http::Response;

use super::super::scene::{Scene, pass, straight, told, write};

const V: &str = "api-version=2026-04-01";

/// `count` key-values `k000` and so on.
async fn numbered(emulator: &Emulator, count: usize) {
    for number in 0..count {
        write(emulator, &format!("/kv/k{number:05}?{V}"), r#"{"value":"1"}"#).await;
    }
}

fn settings() -> EmulatorSettings {
    EmulatorSettings { drift_per_second: 1.25, ..EmulatorSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn an_interval_costs_one_304_for_each_range_and_no_body() {
    let scene = Scene::loaded(settings(), async |emulator| numbered(emulator, 1_000).await, &[]).await;
    for _ in 0..5 {
        pass(Duration::from_secs(30)).await;
        let asked = scene.origin.asked();
        assert!(asked.iter().all(|(_, status)| *status == 304), "{asked:?}");
        assert!((10..=16).contains(&asked.len()), "{} requests", asked.len());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_not_of_the_memory_for_buffered_bodies() {
    let keys = ["limits.buffered_bodies=2MiB"];
    let fill = async |emulator: &Emulator| {
        let value = "v".repeat(9 * 1024);
        for number in 0..250 {
            write(emulator, &format!("/kv/k{number:05}?{V}"), &format!(r#"{{"value":"{value}"}}"#)).await;
        }
    };
    let scene = Scene::loaded(settings(), fill, &keys).await;
    let answer = scene.caller().await.send(&format!("GET /kv/k00249?{V}")).await;
    assert_eq!(told(&answer), (true, Some("mirror".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_changed_item_is_one_changed_range() {
    let scene = Scene::loaded(settings(), async |emulator| numbered(emulator, 1_000).await, &[]).await;
    for (number, key) in [3, 85, 500, 999].into_iter().enumerate() {
        write(&scene.origin.emulator, &format!("/kv/k{key:05}?{V}"), r#"{"value":"2"}"#).await;
        pass(Duration::from_secs(30)).await;
        let asked = scene.origin.asked();
        let bodies = asked.iter().filter(|(_, status)| *status == 200).count();
        assert_eq!(bodies, 1, "{number}: {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_never_asked_for_is_answered_while_the_origin_is_away() {
    let scene = Scene::loaded(settings(), async |emulator| numbered(emulator, 250).await, &[]).await;
    scene.origin.spoil(|_, _| Response::builder().status(503).body("".into()).unwrap());
    let mut caller = scene.caller().await;
    for (target, status) in [
        ("/kv/k00007?", 200),
        ("/kv/none?", 404),
        ("/kv?key=k000*&", 200),
        ("/keys?", 200),
        ("/labels?", 200),
    ] {
        let answer = caller.send(&format!("GET {target}{V}")).await;
        assert_eq!((answer.status, told(&answer)), (status, (true, Some("mirror".to_owned()))), "{target}");
        let again = caller.send(&format!("GET {target}{V}")).await;
        assert_eq!(told(&again), (true, Some("mirror".to_owned())), "{target}");
    }
    let answer = caller.send(&format!("GET /kv/k00008?{V}\nCache-Control: only-if-cached")).await;
    assert_eq!((answer.status, told(&answer).0), (200, true));
    assert_eq!(scene.origin.asked(), []);
    // Past the interval it is stale, and says so.
    pass(Duration::from_secs(60)).await;
    let mut caller = scene.caller().await;
    let answer = caller.send(&format!("GET /kv/k00007?{V}")).await;
    assert_eq!((answer.status, told(&answer).1.as_deref()), (200, Some("server-error")));
}

#[tokio::test(start_paused = true)]
async fn conditions_on_keys_and_pages_do_not_reach_the_origin() {
    let scene = Scene::loaded(settings(), async |emulator| numbered(emulator, 250).await, &[]).await;
    let mut caller = scene.caller().await;
    for target in ["/kv/k00007?", "/kv?key=k000*&"] {
        let tag = caller.send(&format!("GET {target}{V}")).await.field("etag").unwrap().to_owned();
        for (condition, status) in [
            (format!("If-Match: {tag}"), 200),
            ("If-Match: *".to_owned(), 200),
            ("If-Match: \"other\"".to_owned(), 412),
            (format!("If-None-Match: {tag}"), 304),
            ("If-None-Match: \"other\"".to_owned(), 200),
        ] {
            let answer = caller.send(&format!("GET {target}{V}\n{condition}")).await;
            assert_eq!((answer.status, told(&answer).0), (status, true), "{target} {condition}");
            assert!(answer.field("sync-token").is_some(), "{target} {condition}");
            assert!(
                status != 412 || (answer.body.is_empty() && answer.field("etag").is_none()),
                "{answer:?}"
            );
        }
    }
    assert_eq!(scene.origin.asked(), []);
    let missing = caller.send(&format!("GET /kv/none?{V}\nIf-Match: \"other\"")).await;
    assert_eq!((missing.status, told(&missing).0), (404, true), "conditions come after 404");
    // Another version by another hand, after the interval, and by this one, at once.
    write(&scene.origin.emulator, &format!("/kv/k00007?{V}"), r#"{"value":"2"}"#).await;
    let old = caller.send(&format!("GET /kv/k00008?{V}")).await.field("etag").unwrap().to_owned();
    let put = caller
        .send(&format!("PUT /kv/k00008?{V}\nContent-Type: application/json\n\n{{\"value\":\"2\"}}"))
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    let answer = caller.send(&format!("GET /kv/k00008?{V}\nIf-Match: {old}")).await;
    assert_eq!(answer.status, 412);
}

#[tokio::test(start_paused = true)]
async fn own_writes_are_seen_at_once_and_cost_no_body() {
    let scene = Scene::loaded(settings(), async |emulator| numbered(emulator, 250).await, &[]).await;
    let mut caller = scene.caller().await;
    for (request, shown) in [
        (format!("PUT /kv/k00100?{V}\nContent-Type: application/json\n\n{{\"value\":\"own\"}}"), true),
        (format!("PUT /kv/k00100x?{V}\nContent-Type: application/json\n\n{{\"value\":\"own\"}}"), true),
        (format!("PUT /locks/k00100x?{V}\n\n"), true),
        (format!("DELETE /locks/k00100x?{V}\n\n"), true),
        (format!("DELETE /kv/k00100x?{V}\n\n"), false),
    ] {
        let written = caller.send(&request).await;
        assert_eq!(written.status, 200, "{request}");
        scene.origin.asked();
        let list = caller.send(&format!("GET /kv?key=k00100*&{V}")).await;
        let text = String::from_utf8_lossy(&list.body).into_owned();
        let tag = written.field("etag").unwrap().trim_matches('"').to_owned();
        assert_eq!(text.contains(&tag), shown, "{request} {text}");
        let asked = scene.origin.asked();
        assert!(!asked.is_empty() && asked.iter().all(|(_, status)| *status == 304), "{request}: {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn outside_writes_are_seen_within_the_interval_and_with_an_unknown_token_at_once() {
    let scene = Scene::loaded(settings(), async |emulator| numbered(emulator, 250).await, &[]).await;
    let mut caller = scene.caller().await;
    let get = format!("GET /kv?key=k00100&{V}");
    assert!(String::from_utf8_lossy(&caller.send(&get).await.body).contains(r#""value":"1""#));
    write(&scene.origin.emulator, &format!("/kv/k00100?{V}"), r#"{"value":"2"}"#).await;
    let token = scene.origin.emulator.sync_token_of(scene.origin.emulator.sequence_number());
    let token = token.rsplit_once(";sn=").unwrap().0;
    let answer = caller.send(&format!("{get}\nSync-Token: {token}")).await;
    assert!(String::from_utf8_lossy(&answer.body).contains(r#""value":"2""#), "{answer:?}");
    write(&scene.origin.emulator, &format!("/kv/k00100?{V}"), r#"{"value":"3"}"#).await;
    pass(Duration::from_secs(31)).await;
    let answer = scene.caller().await.send(&get).await;
    assert!(String::from_utf8_lossy(&answer.body).contains(r#""value":"3""#), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_is_not_torn_while_the_origin_fails() {
    let scene = Scene::loaded(settings(), async |emulator| numbered(emulator, 250).await, &[]).await;
    let emulator = &scene.origin.emulator;
    // The first range of the list cannot be read any more, the second can.
    scene.origin.spoil(|target, answer| {
        if target.contains("after=") {
            answer
        } else {
            Response::builder().status(503).body("".into()).unwrap()
        }
    });
    write(emulator, &format!("/kv/k00001?{V}"), r#"{"value":"2"}"#).await;
    write(emulator, &format!("/kv/k00090?{V}"), r#"{"value":"2"}"#).await;
    pass(Duration::from_secs(31)).await;
    let answer = scene.caller().await.send(&format!("GET /kv?{V}")).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let version = |key: &str| {
        let item = text.split("{").find(|item| item.contains(key))?;
        Some(item.contains(r#""value":"2""#))
    };
    assert!(answer.status != 200 || version("k00001") == version("k00090"), "{text}");
    // The range that can be read shows the change.
    let key = scene.caller().await.send(&format!("GET /kv/k00090?{V}")).await;
    assert!(String::from_utf8_lossy(&key.body).contains(r#""value":"2""#), "{key:?}");
}

#[tokio::test(start_paused = true)]
async fn only_what_is_selected_is_mirrored() {
    let fill = async |emulator: &Emulator| {
        for key in ["app:1", "app:2", "other"] {
            for label in ["prod", "dev"] {
                write(emulator, &format!("/kv/{key}?label={label}&{V}"), r#"{"value":"1","tags":{"t":"1"}}"#)
                    .await;
            }
        }
    };
    let select = "upstream.mirror.select=key=app:*&label=prod,tags=t%3D1&key=other";
    let scene = Scene::loaded(settings(), fill, &[select]).await;
    let mut caller = scene.caller().await;
    let mut cases = [
        ("/kv/app:1?label=prod&", true),
        ("/kv/app:9?label=prod&", true),
        ("/kv/app:1?label=dev&", false),
        ("/kv/app:1?", false),
        ("/kv?key=app:*&label=prod&", true),
        ("/kv?key=app:1,app:2&label=prod&", true),
        ("/kv?key=app:*&", false),
        ("/kv?", false),
        ("/keys?name=app:*&", false),
        ("/labels?", false),
        ("/kv/other?label=dev&", true),
        // Not held: it may have other tags.
        ("/kv/other?label=none&", false),
        ("/kv?key=other&tags=t%3D1&", true),
        ("/kv?key=other&", false),
        ("/revisions?key=app:*&label=prod&", false),
    ];
    // A first answer of the origin shows a change: after it the mirror validates before it answers.
    cases.sort_by_key(|(_, mirrored)| !mirrored);
    for (target, mirrored) in cases {
        let answer = caller.send(&format!("GET {target}{V}")).await;
        assert_eq!(told(&answer).1.as_deref() == Some("mirror"), mirrored, "{target} {answer:?}");
    }
    let answer = caller.send("GET /kv/app:1?label=prod&api-version=2026-05-01-preview").await;
    assert_eq!(told(&answer), (false, None), "later than what was loaded");
}

#[tokio::test(start_paused = true)]
async fn an_audit_finds_another_value_under_the_same_tag() {
    let scene = Scene::loaded(settings(), async |emulator| numbered(emulator, 50).await, &[]).await;
    scene.origin.spoil(|_, answer| {
        let (mut head, body) = answer.into_parts();
        head.headers.remove("content-length");
        let text = String::from_utf8_lossy(&body).replace(r#""value":"1""#, r#""value":"9""#);
        Response::from_parts(head, text.into())
    });
    pass(Duration::from_secs(400)).await;
    let answer = scene.caller().await.send(&format!("GET /kv/k00007?{V}")).await;
    assert_eq!(told(&answer), (true, Some("mirror".to_owned())));
    assert!(String::from_utf8_lossy(&answer.body).contains(r#""value":"9""#), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_only_the_end_of_a_page_shows_outdates_what_is_stored() {
    let settings = EmulatorSettings { page_size: 3, ..settings() };
    let scene = Scene::loaded(settings, async |emulator| numbered(emulator, 4).await, &[]).await;
    let mut caller = scene.caller().await;
    let last = format!("GET /kv/k00003?{V}");
    assert_eq!(caller.send(&last).await.status, 200);
    // The mirror knows what the first page is after its own write, but not that the list ends there now.
    let put = format!("PUT /kv/k00000?{V}\nContent-Type: application/json\n\n{{\"value\":\"2\"}}");
    assert_eq!(caller.send(&put).await.status, 200);
    let delete = format!("DELETE /kv/k00003?{V}");
    assert_eq!(straight(&scene.origin.emulator, &delete).await.status(), 200);
    let list = caller.send(&format!("GET /kv?{V}")).await;
    assert!(!String::from_utf8_lossy(&list.body).contains("nextLink"), "{list:?}");
    assert_eq!(caller.send(&last).await.status, 404, "shown as deleted before");
}

#[tokio::test(start_paused = true)]
async fn a_change_costs_one_body_whatever_callers_ask_meanwhile() {
    let fill = async |emulator: &Emulator| {
        for number in 0..1_000 {
            let target = format!("/kv/svc{}%2Fkey{number:06}?{V}", number / 100);
            write(emulator, &target, r#"{"value":"1"}"#).await;
        }
    };
    let scene = Scene::loaded(settings(), fill, &[]).await;
    let mut polling = Vec::new();
    for number in 0..10 {
        let mut caller = scene.caller().await;
        polling.push(tokio::spawn(async move {
            pass(Duration::from_millis(200 * number)).await;
            loop {
                let list = caller.send(&format!("GET /kv?{V}&key=svc{number}%2F%2A")).await;
                assert_eq!(list.status, 200);
                pass(Duration::from_secs(2)).await;
            }
        }));
    }
    pass(Duration::from_secs(31)).await;
    scene.origin.asked();
    // Before the first audit, which asks for a body.
    for changed in [10, 81, 411, 417, 479, 710, 999] {
        let target = format!("/kv/svc{}%2Fkey{changed:06}?{V}", changed / 100);
        write(&scene.origin.emulator, &target, r#"{"value":"2"}"#).await;
        pass(Duration::from_secs(31)).await;
        let asked = scene.origin.asked();
        let bodies: Vec<_> = asked.iter().filter(|(_, status)| *status == 200).collect();
        assert_eq!(bodies.len(), 1, "{changed}: {asked:?}");
        let beside: Vec<_> = asked.iter().filter(|(line, _)| line.contains("key=")).collect();
        assert!(beside.is_empty(), "{changed}: lists that the mirror holds: {beside:?}");
    }
    polling.iter().for_each(tokio::task::JoinHandle::abort);
}
