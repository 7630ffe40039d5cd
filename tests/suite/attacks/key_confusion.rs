//! Key confusion: two targets that are different for an origin and must have different cache keys.

use super::harmless;
use crate::support::scene::Scene;

#[tokio::test]
async fn spellings_that_may_mean_different_things_have_different_keys() {
    for (attack, victim) in [
        ("/a%2Fb", "/a/b"),
        ("/a%3Fb", "/a?b"),
        ("/a%23b", "/a"),
        ("/a%00", "/a"),
        ("/a%0d%0a", "/a"),
        ("/a/../b", "/b"),
        ("/a//b", "/a/b"),
        ("/a/", "/a"),
        ("/a;x=y", "/a"),
        ("/A", "/a"),
        ("/a?b=1&c=2", "/a?c=2&b=1"),
        ("/a?b=1", "/a?b=1&b=1"),
        ("/a?b=%26c=1", "/a?b=&c=1"),
        ("/a?b+c", "/a?b%20c"),
        ("/a?utm_content=evil", "/a"),
        ("/a?", "/a?x"),
        ("/a%c3%a9", "/ae%cc%81"),
        ("/a\\b", "/a/b"),
    ] {
        let scene = Scene::guarded().await;
        harmless(&scene, &format!("GET {attack}"), &format!("GET {victim}")).await;
    }
}

#[tokio::test]
async fn app_configuration_tells_keys_labels_and_filters_apart() {
    for (attack, victim) in [
        ("/kv/a%252Fb", "/kv/a%2Fb"),
        ("/kv/a?label=x", "/kv/a"),
        ("/kv/a?label=%00", "/kv/a?label=0"),
        ("/kv/a?label=x", "/kv/a?label=X"),
        ("/kv/A", "/kv/a"),
        ("/kv?key=a*", "/kv?key=a%5C*"),
        ("/kv?key=a,b", "/kv?key=a%5C,b"),
        ("/kv?key=a", "/keys?name=a"),
        ("/kv/a?$select=value", "/kv/a"),
        ("/kv/a?api-version=1.0", "/kv/a?api-version=2023-11-01"),
        ("/kv/a%26label=x", "/kv/a?label=x"),
        ("/kv/a%3Flabel=x", "/kv/a?label=x"),
        ("/locks/a", "/kv/a"),
        ("/revisions?key=a", "/kv?key=a"),
        ("/kv?snapshot=a", "/kv?key=a"),
        ("/kv?after=x&key=a", "/kv?key=a"),
    ] {
        let scene =
            Scene::with(&["upstream.profile=app-configuration", "upstream.credential.kind=none"]).await;
        harmless(&scene, &format!("GET {attack}"), &format!("GET {victim}")).await;
    }
}

#[tokio::test]
async fn two_upstreams_share_nothing() {
    let other = ["upstreams.other.url=http://127.0.0.1:9", "upstreams.other.path_prefix=/other"];
    let scene = Scene::with(&other).await;
    harmless(&scene, "GET /a", "GET /b").await;
    let (ours, theirs) = (scene.get("/a").await, scene.get("/other/a").await);
    assert_eq!(ours.text(), "evil", "its own stored response");
    assert_ne!(theirs.text(), "evil", "the other upstream cannot be reached and has nothing stored");
}

#[tokio::test]
async fn get_and_other_methods_do_not_share_answers() {
    for method in ["POST", "PUT", "OPTIONS", "get", "Get", "PROPFIND"] {
        let scene = Scene::guarded().await;
        harmless(&scene, &format!("{method} /a"), "GET /a").await;
    }
}
