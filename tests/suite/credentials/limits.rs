//! Limits of concurrent requests and connections: a caller over the limit is refused at once, and other callers are
//! served.

use std::os::unix::fs::MetadataExt as _;

use tagalong::internals::config::{Config, Layers};
use tagalong::internals::proxy::assemble::Environment;
use tagalong::internals::sidecar::Sidecar;
use tokio::net::UnixStream;

use crate::support::answer::{Answer, Gate};
use crate::support::caller::Caller;
use crate::support::scene::Scene;

/// Waits until the origin has got a request for this target.
async fn asked(scene: &Scene, target: &str) {
    while scene.asked(target) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_in_flight_are_bounded_and_the_others_are_refused_at_once() {
    for setting in ["limits.requests=1", "limits.requests_per_caller=1"] {
        let scene = Scene::with(&[setting]).await;
        let gate = Gate::closed();
        scene.on("/slow", Answer::held(&gate, "200\n\nx"));
        let mut first = scene.caller().await;
        first.post("GET /slow").await;
        asked(&scene, "/slow").await;
        let refused = scene.get("/other").await;
        assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")), "{setting}");
        assert!(refused.text().contains(setting.split('=').next().unwrap()), "{}", refused.text());
        assert_eq!(scene.asked("/other"), 0);
        gate.open();
        assert_eq!(first.read(false).await.status, 200);
        scene.on("/other", "200\n\nx");
        assert_eq!(scene.get("/other").await.status, 200, "the place is free again");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_frees_its_place() {
    let scene = Scene::with(&["limits.requests=1"]).await;
    let gate = Gate::closed();
    scene.on("/slow", Answer::held(&gate, "200\n\nx"));
    let mut first = scene.caller().await;
    first.post("GET /slow").await;
    asked(&scene, "/slow").await;
    drop(first);
    scene.origin.otherwise("200\n\nx");
    while scene.get("/other").await.status != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn connections_of_one_address_are_bounded() {
    let scene = Scene::with(&["limits.connections_per_caller=1"]).await;
    scene.origin.otherwise("200\n\nx");
    let mut first = scene.caller().await;
    assert_eq!(first.send("GET /a").await.status, 200);
    let mut second = scene.caller().await;
    let refused = second.read(false).await;
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert_eq!(first.send("GET /b").await.status, 200);
    drop(first);
    loop {
        let mut third = scene.caller().await;
        third.post("GET /c").await;
        if third.try_read(false).await.is_some_and(|answer| answer.status == 200) {
            break;
        }
    }
}

#[tokio::test]
async fn a_unix_socket_asks_the_system_which_user_connects() {
    let directory = tempfile::tempdir().unwrap();
    let own = std::fs::metadata(directory.path()).unwrap().uid();
    for (users, status) in
        [(own.to_string(), 502_u16), (format!("{},{own}", own + 1), 502), ((own + 1).to_string(), 403)]
    {
        let path = directory.path().join(format!("socket-{users}"));
        let layers = Layers::new()
            // The upstream is closed, so an admitted request gets an error of the upstream.
            .assignment("upstream.url=http://127.0.0.1:9")
            .assignment("listener.listen=")
            .assignment("admin.listen=")
            .assignment(&format!("listener.unix={}", path.display()))
            .assignment(&format!("listener.unix_users={users}"));
        let sidecar = Sidecar::bind(&Config::new(layers).unwrap(), &Environment::default()).await.unwrap();
        let shutdown = tokio_util::sync::CancellationToken::new();
        let running = tokio::spawn(sidecar.run(shutdown.clone()));
        let (incoming, outgoing) = UnixStream::connect(&path).await.unwrap().into_split();
        let address = "127.0.0.1:80".parse().unwrap();
        let patience = std::time::Duration::from_secs(30);
        let mut caller = Caller::new(Box::new(incoming), Box::new(outgoing), address, patience);
        let answer = caller.send("GET /a").await;
        let got_through = answer.status == 502 || answer.status == 504;
        assert_eq!(got_through, status == 502, "{users}: {}", answer.status);
        if !got_through {
            assert_eq!(answer.status, status);
            assert!(answer.text().contains("unix_users"));
        }
        drop(caller);
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}
