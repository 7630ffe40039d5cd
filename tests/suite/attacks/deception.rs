//! Cache deception: a target that looks public to a cache and has private content at the origin.

use crate::support::scene::Scene;

#[tokio::test]
async fn a_suffix_that_looks_static_makes_nothing_storable() {
    for target in [
        "/account/x.css",
        "/account%2fx.js",
        "/account;x.png",
        "/account?x.ico",
        "/account/.svg",
        "/account%00.css",
    ] {
        let scene = Scene::guarded().await;
        for fields in
            ["Cache-Control: private", "Cache-Control: no-store", "Vary: *\nCache-Control: max-age=600"]
        {
            scene.origin.otherwise(format!("200\n{fields}\n\nof the victim").as_str());
            assert_eq!(
                scene.send(&format!("GET {target}\nCookie: session=victim")).await.text(),
                "of the victim"
            );
            scene.origin.otherwise("200\nCache-Control: no-store\n\nof the attacker");
            assert_eq!(scene.get(target).await.text(), "of the attacker", "{target} {fields}");
        }
    }
}

#[tokio::test]
async fn a_lifetime_does_not_make_an_authorized_answer_public() {
    let scene = Scene::guarded().await;
    scene.origin.otherwise("200\nCache-Control: max-age=600\n\nof the victim");
    scene.send("GET /account.css\nAuthorization: Bearer victim").await;
    scene.origin.otherwise("401\nCache-Control: no-store\n\nwho are you");
    assert_eq!(scene.get("/account.css").await.status, 401);
    assert_eq!(scene.send("GET /account.css\nIf-None-Match: *").await.status, 401);
}

#[tokio::test]
async fn a_stored_answer_is_not_confirmed_by_its_tag_either() {
    let scene = Scene::guarded().await;
    scene.origin.otherwise("200\nCache-Control: max-age=600\nETag: \"secret\"\n\nof the victim");
    scene.send("GET /a\nAuthorization: Bearer victim").await;
    scene.origin.otherwise("401\nCache-Control: no-store\n\nno");
    for probe in [
        "If-None-Match: \"secret\"",
        "If-None-Match: *",
        "If-Match: \"secret\"",
        "Range: bytes=0-0",
        "Cache-Control: only-if-cached",
    ] {
        let answer = scene.send(&format!("GET /a\n{probe}")).await;
        assert!(matches!(answer.status, 401 | 504), "{probe}: {}", answer.status);
    }
}
