//! A few idle connections and slow senders: they do not slow other callers, and deadlines close them.
//! `tests/hostile/flood.py` measures many of them, by hand.

use std::time::Duration;

use crate::support::caller::Caller;
use crate::support::scene::Scene;

const IDLE: usize = 200;
const SLOW: usize = 50;
const HITS: usize = 50;

async fn hits(caller: &mut Caller) {
    for _ in 0..HITS {
        let response = caller.send("GET /a").await;
        assert!(response.status == 200 && response.is_hit(), "{response:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_and_slow_connections_do_not_slow_others_and_are_closed() {
    let all = IDLE + SLOW + 1;
    let scene = Scene::paused(&[
        "upstream.sharing=rfc9111",
        &format!("limits.connections={all}"),
        "deadlines.request_header=10s",
        "deadlines.idle=60s",
    ]);
    scene.on("/a", "200\nCache-Control: max-age=100000\n\nbody");
    let mut known = scene.caller().await;
    assert_eq!(known.send("GET /a").await.status, 200);
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(scene.caller().await);
    }
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut caller = scene.caller().await;
        caller.write("GET /a HTTP/1.1\r\nHo").await;
        slow.push(caller);
    }
    hits(&mut known).await;
    // Every place is taken, so a new connection is refused with 503.
    let mut refused = scene.caller().await;
    assert_eq!(refused.read(false).await.status, 503);

    // A slow sender does not extend the deadline of its request.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        for caller in &mut slow {
            caller.write("s").await;
        }
        hits(&mut known).await;
    }
    for caller in &mut slow {
        let answer = caller.try_read(false).await;
        assert!(answer.is_none_or(|answer| answer.status == 408));
    }
    // An idle connection is closed too.
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        hits(&mut known).await;
    }
    for caller in &mut idle {
        caller.closed().await;
    }
    // All places are free again.
    let mut others = Vec::new();
    for _ in 0..all - 1 {
        let mut caller = scene.caller().await;
        assert_eq!(caller.send("GET /a").await.status, 200);
        others.push(caller);
    }
    assert_eq!(scene.asked("/a"), 1);
}
