//! Invalidation (RFC 9111 §4.4): an unsafe request outdates stored responses of its target.

use crate::support::answer::Answer;
use crate::support::scene::Scene;

/// Stores a response, sends an unsafe request to its target and returns whether the next GET asks the origin.
async fn is_invalidated(scene: &Scene, target: &str, request: &str, answer: Answer) -> bool {
    scene.on(target, "200\nCache-Control: max-age=600\n\nold");
    scene.get(target).await;
    scene.on(target, answer);
    let mut caller = scene.caller().await;
    caller.post(request).await;
    let _whatever = caller.try_read(false).await;
    scene.on(target, "200\nCache-Control: max-age=600\n\nnew");
    let after = scene.get(target).await;
    assert!(["old", "new"].contains(&after.text()), "{request}: {after:?}");
    after.text() == "new"
}

#[tokio::test]
async fn success_of_any_unsafe_method_invalidates_its_target() {
    let scene = Scene::rfc9111().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "MADE-UP"] {
        for status in ["200", "201", "204", "299", "301", "303", "399"] {
            let target = format!("/{method}/{status}");
            let request = format!("{method} {target}\n\nx");
            assert!(is_invalidated(&scene, &target, &request, status.into()).await, "{method} {status}");
        }
        let target = format!("/{method}/404");
        let request = format!("{method} {target}\n\nx");
        assert!(!is_invalidated(&scene, &target, &request, "404".into()).await, "{method} 404");
    }
}

#[tokio::test]
async fn failures_invalidate_by_kind_and_sharing() {
    let scene = Scene::rfc9111().await;
    let guarded = Scene::guarded().await;
    for (status, rfc9111, guards) in [
        ("400", false, false),
        ("409", false, false),
        ("412", false, false),
        ("500", false, true),
        ("503", false, true),
    ] {
        for (scene, expected) in [(&scene, rfc9111), (&guarded, guards)] {
            let target = format!("/{status}");
            let request = format!("PUT {target}\n\nx");
            assert_eq!(is_invalidated(scene, &target, &request, status.into()).await, expected, "{status}");
        }
    }
}

#[tokio::test]
async fn a_write_without_an_answer_invalidates_its_target() {
    for scene in [Scene::rfc9111().await, Scene::guarded().await] {
        assert!(is_invalidated(&scene, "/a", "PUT /a\n\nx", Answer::silence()).await);
    }
}

#[tokio::test]
async fn a_write_that_was_not_sent_invalidates_nothing() {
    let mut scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=600\n\nold");
    scene.get("/a").await;
    scene.origin.vanish().await;
    assert_eq!(scene.send("PUT /a\n\nx").await.status, 504);
    let after = scene.get("/a").await;
    assert_eq!((after.text(), after.is_hit()), ("old", true));
}

#[tokio::test]
async fn safe_methods_invalidate_nothing() {
    let scene = Scene::rfc9111().await;
    for method in ["HEAD", "OPTIONS"] {
        let target = format!("/{method}");
        scene.on(&target, "200\nCache-Control: max-age=600\n\nold");
        scene.get(&target).await;
        scene.on(&target, "200\n\nold");
        scene.send(&format!("{method} {target}\nCache-Control: no-cache")).await;
        scene.on(&target, "200\n\nnew");
        assert_eq!(scene.get(&target).await.text(), "old", "{method}");
    }
}

#[tokio::test]
async fn location_and_content_location_of_the_same_origin_are_invalidated() {
    let scene = Scene::rfc9111().await;
    let authority = scene.origin.address;
    let rows = [
        ("Location: /other".to_owned(), true),
        ("Content-Location: /other".to_owned(), true),
        ("Location: other".to_owned(), true),
        (format!("Location: http://{authority}/dir/other"), true),
        (format!("Content-Location: http://{authority}/dir/other"), true),
        ("Location: http://elsewhere.example/dir/other".to_owned(), false),
        ("Content-Location: https://elsewhere.example/dir/other".to_owned(), false),
        ("X-Location: /dir/other".to_owned(), false),
    ];
    for (number, (field, invalidated)) in rows.into_iter().enumerate() {
        let field = field.replace(": /other", ": /dir/other");
        scene.on("/dir/other", format!("200\nCache-Control: max-age=600\n\nold {number}"));
        scene.get("/dir/other").await;
        scene.on("/dir/act", format!("201\n{field}\n\ndone"));
        assert_eq!(scene.send("POST /dir/act\n\nx").await.status, 201);
        scene.on("/dir/other", "200\nCache-Control: max-age=600\n\nnew");
        let after = scene.get("/dir/other").await;
        assert_eq!(!after.is_hit(), invalidated, "{field}");
        // Empties the store and the script for the next row.
        if !invalidated {
            scene.send("GET /dir/other\nCache-Control: no-cache").await;
        }
        scene.on("/dir/other", "200\n\n");
        scene.send("PUT /dir/other\n\nx").await;
    }
}

#[tokio::test]
async fn every_variant_is_invalidated() {
    let scene = Scene::rfc9111().await;
    for language in ["de", "en"] {
        scene.on("/a", format!("200\nCache-Control: max-age=600\nVary: X-Lang\n\nold {language}"));
        scene.send(&format!("GET /a\nX-Lang: {language}")).await;
    }
    scene.on("/a", "204");
    scene.send("DELETE /a").await;
    for language in ["de", "en"] {
        scene.on("/a", format!("200\nCache-Control: max-age=600\nVary: X-Lang\n\nnew {language}"));
        assert_eq!(
            scene.send(&format!("GET /a\nX-Lang: {language}")).await.text(),
            format!("new {language}")
        );
    }
}

#[tokio::test]
async fn an_unsafe_request_leaves_other_targets_stored() {
    let scene = Scene::rfc9111().await;
    for target in ["/a?x=1", "/a/b", "/b"] {
        scene.on(target, "200\nCache-Control: max-age=600\n\nold");
        scene.get(target).await;
    }
    scene.on("/a", "204");
    scene.send("DELETE /a").await;
    for target in ["/a?x=1", "/a/b", "/b"] {
        assert!(scene.get(target).await.is_hit(), "{target}");
    }
}

#[tokio::test]
async fn a_write_outdates_the_configured_paths() {
    let scene = Scene::with(&[
        "upstream.routes.orders.path_prefix=/orders/",
        "upstream.routes.orders.outdates=/reports,/stock/all",
    ])
    .await;
    let stored = ["/reports", "/reports/2026?by=day", "/stock/all", "/stock", "/reports-of-others"];
    for target in stored {
        scene.on(target, "200\nCache-Control: max-age=600\n\nold");
        scene.get(target).await;
    }
    scene.on("/orders/1", "204");
    scene.send("PUT /orders/1\n\nx").await;
    for (target, hit) in stored.into_iter().zip([false, false, false, true, true]) {
        scene.on(target, "200\nCache-Control: max-age=600\n\nnew");
        assert_eq!(scene.get(target).await.is_hit(), hit, "{target}");
    }
}

#[tokio::test]
async fn a_change_outdates_every_related_route() {
    let prefixes = ["upstream.routes.menu.path_prefix=/menu/", "upstream.routes.wine.path_prefix=/wine/"];
    let related = ["upstream.routes.menu.related=true", "upstream.routes.wine.related=true"];
    for (settings, outdated) in [(prefixes.to_vec(), false), ([prefixes, related].concat(), true)] {
        let scene = Scene::with(&settings).await;
        let targets = ["/menu/a", "/menu/b", "/wine/c", "/other"];
        let version = |target: &str, tag| {
            scene.on(target, format!("200\nCache-Control: max-age=600\nETag: \"{tag}\"\n\n{tag}"));
        };
        for target in targets {
            version(target, "1");
            scene.get(target).await;
        }
        // The first answers show changes too. From here on the state of each target is known.
        let validate = |target: &str| format!("GET {target}\nCache-Control: no-cache");
        for target in targets {
            scene.on(target, "304\nETag: \"1\"\nCache-Control: max-age=600");
            assert_eq!(scene.send(&validate(target)).await.text(), "1");
        }
        for target in targets {
            assert!(scene.get(target).await.is_hit(), "{target}: a 304 shows no change");
        }
        version("/other", "2");
        assert_eq!(scene.send(&validate("/other")).await.text(), "2");
        assert!(scene.get("/menu/a").await.is_hit(), "a target outside the group outdates nothing");
        version("/menu/b", "2");
        assert_eq!(scene.send(&validate("/menu/b")).await.text(), "2");
        for (target, hit) in targets.into_iter().zip([!outdated, true, !outdated, true]) {
            if !hit {
                scene.on(target, "304\nETag: \"1\"\nCache-Control: max-age=600");
            }
            assert_eq!(scene.get(target).await.is_hit(), hit, "{target}, related: {outdated}");
        }
    }
}
