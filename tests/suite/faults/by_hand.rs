//! Measurements that need a quiet machine. Run them by hand, optimised, over real sockets:
//!
//! ```text
//! cargo test --release --test suite -- --ignored --nocapture --test-threads 1 by_hand
//! ```

use std::time::Duration;

use tagalong::internals::clock::Clock;
use tokio::sync::oneshot;

use crate::support::answer::{Answer, Step};
use crate::support::caller::Caller;
use crate::support::origin::Origin;
use crate::support::sidecar::Sidecar;

const CALLERS: usize = 200;
const ORIGIN_LATENCY: Duration = Duration::from_millis(50);
const MIB: usize = 1 << 20;

/// Starts the origin and the sidecar in another thread, so that the waits of callers do not include the work of the
/// other callers.
async fn start_in_another_thread() -> (Origin, Sidecar) {
    let (started, starting) = oneshot::channel();
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let origin = Origin::start(Clock::System).await;
            let settings = ["upstream.sharing=rfc9111"];
            let sidecar = Sidecar::start(origin.address, Clock::System, &settings).await;
            let _is_awaited = started.send((origin, sidecar));
            // Runs until the process of this measurement ends.
            std::future::pending::<()>().await;
        });
    });
    starting.await.expect("both start")
}

/// The median wait of [`CALLERS`] callers that request one target at once.
async fn median_wait(sidecar: &Sidecar, target: &str) -> Duration {
    let clock = Clock::System;
    let mut callers: Vec<Caller> = Vec::new();
    for _ in 0..CALLERS {
        callers.push(sidecar.caller().await);
    }
    let mut asking = tokio::task::JoinSet::new();
    for mut caller in callers {
        let (clock, request) = (clock.clone(), format!("GET {target}"));
        asking.spawn(async move {
            let asked = clock.now();
            assert_eq!(caller.send(&request).await.status, 200);
            clock.now().since(asked)
        });
    }
    let mut waits = asking.join_all().await;
    waits.sort();
    waits[CALLERS / 2]
}

#[tokio::test]
#[ignore = "a figure, taken by hand"]
async fn collapsed_callers_of_an_unseen_key() {
    let (origin, sidecar) = start_in_another_thread().await;
    let mut medians = Vec::new();
    for round in 0..20 {
        let target = format!("/{round}");
        origin.on(&target, Answer::delayed(ORIGIN_LATENCY, "200\nCache-Control: max-age=60\n\nbody"));
        medians.push(median_wait(&sidecar, &target).await);
        assert_eq!(origin.requests_for(&target).len(), 1);
    }
    medians.sort();
    println!(
        "{CALLERS} callers, origin {ORIGIN_LATENCY:?}: median wait {:?} (all rounds {medians:?})",
        medians[10]
    );
    assert!(medians[10] <= ORIGIN_LATENCY.mul_f32(1.2));
}

#[tokio::test]
#[ignore = "a figure, taken by hand"]
async fn callers_of_a_response_with_stale_while_revalidate() {
    let (origin, sidecar) = start_in_another_thread().await;
    let mut medians = Vec::new();
    for round in 0..20 {
        let target = format!("/{round}");
        origin.on(&target, "200\nCache-Control: max-age=0, stale-while-revalidate=60\nETag: \"a\"\n\nbody");
        sidecar.caller().await.send(&format!("GET {target}")).await;
        for _ in 0..CALLERS {
            origin.on(&target, Answer::delayed(ORIGIN_LATENCY, "304\nETag: \"a\""));
        }
        medians.push(median_wait(&sidecar, &target).await);
    }
    medians.sort();
    println!("{CALLERS} callers of a stale key: median wait {:?} (all rounds {medians:?})", medians[10]);
    assert!(medians[10] <= Duration::from_millis(5));
}

/// The resident memory of this process, with the origin, the sidecar and the caller.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") << 10
}

#[tokio::test]
#[ignore = "a figure, taken by hand; Linux only"]
async fn a_download_of_a_gibibyte_leaves_memory_flat() {
    let (origin, sidecar) = start_in_another_thread().await;
    let length = 1024 * MIB;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    origin.on("/large", Answer::raw(head).then(Step::Repeat(vec![b'x'; MIB / 16], 16 * 1024)));
    let mut caller = sidecar.caller().await;
    caller.post("GET /large").await;
    caller.head().await.expect("a head");
    let (mut read, mut most) = (0, 0);
    let before = resident_bytes();
    while read < length {
        read += caller.bytes(MIB.min(length - read)).await.len();
        most = most.max(resident_bytes());
    }
    let grown = most.saturating_sub(before);
    println!("1 GiB through the sidecar: {} KiB more than before at most", grown >> 10);
    assert!(grown < 32 * MIB);
}
