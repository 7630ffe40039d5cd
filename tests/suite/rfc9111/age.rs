//! `Age` (RFC 9111 §5.1): a received `Age` counts, and the sent one is the corrected age plus the time in the store.

use std::time::Duration;

use crate::support::answer::{Answer, Gate};
use crate::support::scene::Scene;

#[tokio::test]
async fn a_received_age_shortens_freshness() {
    let rows = [
        ("Age: 50", 9, true),
        ("Age: 50", 11, false),
        ("Age: 50, 1", 11, false),
        ("Age: 1, 50", 11, true),
        ("Age: 50\nAge: 1", 11, false),
        ("Age: 1\nAge: 50", 11, true),
        ("Age: 0050", 11, false),
        ("Age: abc", 59, true),
        ("Age: -50", 59, true),
        ("Age: 50.5", 59, true),
        ("Age: 50a", 59, true),
        ("Age:", 59, true),
        ("Age: 99999999999999999999999", 0, false),
        ("Age: 2147483648", 0, false),
        // The apparent age, if it is larger.
        ("Date: {now-50}", 11, false),
        ("Date: {now-50}\nAge: 1", 11, false),
        ("Date: {now+50}", 59, true),
    ];
    let scene = Scene::rfc9111().await;
    for (number, (fields, seconds, fresh)) in rows.into_iter().enumerate() {
        let target = format!("/{number}");
        scene.on(&target, format!("200\nCache-Control: max-age=60\n{fields}\n\nfirst"));
        scene.on(&target, "200\nCache-Control: no-store\n\nsecond");
        scene.get(&target).await;
        scene.pass_seconds(seconds);
        let second = scene.get(&target).await;
        assert_eq!(second.is_hit(), fresh, "{fields} after {seconds} s");
        assert_eq!(scene.asked(&target), if fresh { 1 } else { 2 }, "{fields} after {seconds} s");
    }
}

#[tokio::test]
async fn the_sent_age_grows_by_the_time_in_the_store() {
    let scene = Scene::rfc9111().await;
    scene.on("/plain", "200\nCache-Control: max-age=60\n\nx");
    scene.on("/aged", "200\nCache-Control: max-age=60\nAge: 10\n\nx");
    scene.on("/list", "200\nCache-Control: max-age=60\nAge: 7, 20\nAge: 30\n\nx");
    for target in ["/plain", "/aged", "/list"] {
        scene.get(target).await;
    }
    assert_eq!(scene.get("/plain").await.age(), Some(0));
    scene.pass_seconds(3);
    assert_eq!(scene.get("/plain").await.age(), Some(3));
    assert_eq!(scene.get("/aged").await.age(), Some(13));
    assert_eq!(scene.get("/list").await.age(), Some(10));
}

#[tokio::test]
async fn the_sent_age_is_summed_before_it_is_truncated_to_seconds() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene.on("/a", Answer::held(&gate, "200\nDate: {now}\nCache-Control: max-age=60\n\nx"));
    let mut caller = scene.caller().await;
    caller.post("GET /a").await;
    scene.origin.received(1).await;
    // 0.7 s in transit and 2.4 s in the store are 3.1 s.
    scene.clock.advance(Duration::from_millis(700));
    gate.open();
    caller.read(false).await;
    scene.clock.advance(Duration::from_millis(2_400));
    assert_eq!(scene.get("/a").await.age(), Some(3));
}

#[tokio::test]
async fn after_three_seconds_in_the_store_the_age_is_never_two() {
    // For arrivals at different fractions of a second.
    for millis in [0, 1, 499, 500, 999] {
        let scene = Scene::rfc9111().await;
        scene.clock.advance(Duration::from_millis(millis));
        scene.store_aged("/a", "200\nCache-Control: max-age=60\n\nx", 3).await;
        let age = scene.get("/a").await.age();
        assert!(age.is_some_and(|age| (3..=4).contains(&age)), "{millis} ms: {age:?}");
    }
}

#[tokio::test]
async fn date_is_never_rewritten() {
    let scene = Scene::rfc9111().await;
    for (target, date) in
        [("/past", "Sat, 21 Nov 2026 23:59:30 GMT"), ("/future", "Sun, 22 Nov 2026 00:59:30 GMT")]
    {
        scene.on(target, format!("200\nDate: {date}\nCache-Control: max-age=600\n\nx"));
        for hit in [false, true] {
            let response = scene.get(target).await;
            assert_eq!(response.is_hit(), hit);
            assert_eq!(response.field("date"), Some(date), "hit {hit}");
            scene.pass_seconds(5);
        }
    }
}
