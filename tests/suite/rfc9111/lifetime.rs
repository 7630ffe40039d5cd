//! Freshness lifetimes (RFC 9111 §4.2.1, §5.2, §5.3; RFC 9213): `max-age`, `s-maxage`, `Expires`, dates,
//! `CDN-Cache-Control`.

use crate::support::scene::Scene;

/// Whether the store answers the same request again after `seconds`.
async fn is_fresh_after(scene: &Scene, number: usize, fields: &str, seconds: u64) -> bool {
    let target = format!("/{number}");
    scene.on(&target, format!("200\n{fields}\n\nfirst"));
    scene.on(&target, "200\nCache-Control: no-store\n\nsecond");
    assert_eq!(scene.get(&target).await.text(), "first", "{fields}");
    scene.pass_seconds(seconds);
    let second = scene.get(&target).await;
    let fresh = second.is_hit();
    assert_eq!(scene.asked(&target), if fresh { 1 } else { 2 }, "{fields}");
    assert_eq!(second.text(), if fresh { "first" } else { "second" }, "{fields}");
    fresh
}

async fn check(rows: &[(&str, u64, bool)]) {
    let scene = Scene::rfc9111().await;
    for (number, (fields, seconds, fresh)) in rows.iter().enumerate() {
        let is_fresh = is_fresh_after(&scene, number, fields, *seconds).await;
        assert_eq!(is_fresh, *fresh, "after {seconds} s: {fields}");
    }
}

#[tokio::test]
async fn without_lifetime_and_validator_nothing_is_reused() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\n\nfirst");
    scene.on("/a", "200\n\nsecond");
    assert_eq!(scene.get("/a").await.text(), "first");
    let second = scene.get("/a").await;
    assert_eq!(second.text(), "second");
    let request = scene.last_request("/a");
    assert_eq!((request.field("if-none-match"), request.field("if-modified-since")), (None, None));
}

#[tokio::test]
async fn s_maxage_beats_max_age_and_max_age_beats_expires() {
    check(&[
        ("Cache-Control: max-age=60", 59, true),
        ("Cache-Control: max-age=60", 60, false),
        ("cache-control: MAX-AGE=60", 59, true),
        ("Cache-Control: Max-aGe=60", 59, true),
        ("Cache-Control: foo, max-age=60, bar=baz, qux=\"x\"", 59, true),
        ("Cache-Control: max-age=99999999999999999999999999", 100_000, true),
        ("Cache-Control: max-age=2147483648", 100_000, true),
        ("Cache-Control: max-age=0", 0, false),
        ("Cache-Control: max-age=-1", 0, false),
        ("Cache-Control: max-age=60\nExpires: {now-10}", 59, true),
        ("Cache-Control: max-age=10\nExpires: {now+600}", 11, false),
        ("Cache-Control: max-age=1, s-maxage=60", 59, true),
        ("Cache-Control: s-maxage=60, max-age=1", 59, true),
        ("Cache-Control: max-age=60, s-maxage=1", 2, false),
        ("Cache-Control: s-maxage=60\nCache-Control: max-age=1", 59, true),
        ("Cache-Control: max-age=1\nCache-Control: S-MaxAge=60", 59, true),
        ("Cache-Control: max-age=60\nCache-Control: s-maxage=1\nExpires: {now+60}", 2, false),
    ])
    .await;
}

#[tokio::test]
async fn directives_follow_the_grammar() {
    check(&[
        ("Cache-Control: x=\"max-age=60\"", 0, false),
        ("Cache-Control: x=\"a, max-age=60, b\"", 0, false),
        ("Cache-Control: x=\"a\\\", max-age=60\"", 0, false),
        ("Cache-Control: x=\"no-store\", max-age=60", 59, true),
        ("Cache-Control: max-age=\"60\"", 59, true),
        ("Cache-Control: max-age=0060", 59, true),
        ("Cache-Control: max-age='60'", 0, false),
        ("Cache-Control: max-age", 0, false),
        ("Cache-Control: xmax-age=60", 0, false),
        ("Cache-Control: ,,max-age=60,,", 59, true),
        ("Cache-Control: \t max-age=60 \t", 59, true),
    ])
    .await;
}

#[tokio::test]
async fn expires_is_compared_with_the_date_of_the_same_response() {
    check(&[
        ("Expires: {now+60}", 59, true),
        ("Expires: {now+60}", 60, false),
        // `Date` is an hour ahead of the clock: the lifetime is still 60 seconds.
        ("Date: {now+3600}\nExpires: {now+3660}", 59, true),
        ("Date: {now+3600}\nExpires: {now+3660}", 61, false),
        // Ten seconds in transit: of a lifetime of thirty seconds, twenty remain.
        ("Date: {now-10}\nExpires: {now+20}", 19, true),
        ("Date: {now-10}\nExpires: {now+20}", 20, false),
        ("Expires: {now+60}\nAge: 50", 9, true),
        ("Expires: {now+60}\nAge: 50", 11, false),
        ("Expires: {now}", 0, false),
        ("Expires: {now-60}", 0, false),
        ("Expires: 0", 0, false),
        ("Expires: never", 0, false),
        ("Expires: -1", 0, false),
        ("Date: not a date\nExpires: {now+60}", 59, true),
        ("Date: not a date\nExpires: {now+60}", 61, false),
    ])
    .await;
}

#[tokio::test]
async fn only_the_three_date_forms_are_accepted() {
    check(&[
        // An hour after the start of the test, in each form.
        ("Expires: Sun, 22 Nov 2026 01:00:00 GMT", 600, true),
        ("Expires: Sunday, 22-Nov-26 01:00:00 GMT", 600, true),
        ("Expires: Sun Nov 22 01:00:00 2026", 600, true),
        ("Expires: sun, 22 nov 2026 01:00:00 GMT", 0, true),
        ("Expires: SUN, 22 NOV 2026 01:00:00 GMT", 0, true),
        ("Expires: Thu, 01 Jan 2099 00:00:00 GMT", 100_000, true),
        ("Expires: Fri, 31 Dec 9999 23:59:59 GMT", 100_000, true),
        ("Expires: Sun, 22 Nov 2027 01:00:00 PST", 0, false),
        ("Expires: Sun, 22 Nov 2027 01:00:00", 0, false),
        ("Expires: Sun 22 Nov 2027 01:00:00 GMT", 0, false),
        ("Expires: Mon,  22 Nov 2027 01:00:00 GMT", 0, false),
        ("Expires: Mon, 2 Nov 2027 01:00:00 GMT", 0, false),
        ("Expires: Mon, 22 Nov 27 01:00:00 GMT", 0, false),
        ("Expires: Mon, 22 Nov 2027 25:00:00 GMT", 0, false),
        ("Expires: Mon, 22 Nov 2027 01:00 GMT", 0, false),
        ("Expires: Mon, 31 Feb 2027 01:00:00 GMT", 0, false),
        ("Expires: 2027-11-22T01:00:00Z", 0, false),
    ])
    .await;
}

#[tokio::test]
async fn a_valid_cdn_cache_control_alone_decides() {
    check(&[
        ("CDN-Cache-Control: max-age=60\nCache-Control: no-store", 59, true),
        ("CDN-Cache-Control: max-age=60\nCache-Control: max-age=1\nExpires: {now-10}", 59, true),
        ("CDN-Cache-Control: max-age=1\nCache-Control: max-age=60", 2, false),
        ("CDN-Cache-Control: no-store\nCache-Control: max-age=60", 0, false),
        ("CDN-Cache-Control: private\nCache-Control: max-age=60", 0, false),
        ("CDN-Cache-Control: max-age=60\nCache-Control: max-age=600\nAge: 50", 11, false),
        ("CDN-Cache-Control: max-age=60\nCache-Control: max-age=1\nAge: 50", 9, true),
        ("CDN-Cache-Control: max-age=10\nCDN-Cache-Control: s-maxage=60", 59, true),
        // A value that is not a Structured Field counts as absent.
        ("CDN-Cache-Control: max-age=60, &&&\nCache-Control: no-store", 0, false),
        ("CDN-Cache-Control: MAX-AGE=600\nCache-Control: max-age=1", 2, false),
        ("CDN-Cache-Control: max-age=\nCache-Control: max-age=60", 59, true),
        ("CDN-Cache-Control:\nCache-Control: max-age=60", 59, true),
    ])
    .await;
}
