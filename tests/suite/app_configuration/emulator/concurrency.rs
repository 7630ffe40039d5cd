//! The check of a condition and the write are one atomic step.

use std::sync::Arc;

use tagalong::internals::emulator::EmulatorSettings;
use tokio::sync::Barrier;

use super::Origin;

const WRITERS: usize = 64;
const INCREMENTS: u64 = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_writers_lose_no_update() {
    let origin = Arc::new(Origin::new(EmulatorSettings::default()));
    origin.put("/kv/counter", "0").await;
    let (barrier, mut writers) = (Arc::new(Barrier::new(WRITERS)), tokio::task::JoinSet::new());
    for _ in 0..WRITERS {
        let (origin, barrier) = (Arc::clone(&origin), Arc::clone(&barrier));
        writers.spawn(async move {
            barrier.wait().await;
            let mut refused = 0_u64;
            for _ in 0..INCREMENTS {
                loop {
                    let read = origin.get("/kv/counter").await;
                    let count: u64 = read.json()["value"].as_str().unwrap().parse().unwrap();
                    // Lets another writer run between the read and the write, so that some conditions fail.
                    tokio::task::yield_now().await;
                    let condition = format!("if-match: {}", read.header("etag"));
                    let body = format!("{{\"value\":\"{}\"}}", count + 1);
                    let fields = [condition.as_str(), "content-type: application/json"];
                    match origin.send("PUT", "/kv/counter", &fields, &body).await.status {
                        200 => break,
                        412 => refused += 1,
                        other => panic!("{other}"),
                    }
                }
            }
            refused
        });
    }
    let refused: u64 = writers.join_all().await.into_iter().sum();
    assert!(refused > 0, "no condition failed: make writers overlap");
    let total = WRITERS as u64 * INCREMENTS;
    assert_eq!(origin.get("/kv/counter").await.json()["value"], total.to_string());
    assert_eq!(origin.emulator.sequence_number(), total + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_concurrent_creations_succeeds() {
    let origin = Arc::new(Origin::new(EmulatorSettings::default()));
    let (barrier, mut creators) = (Arc::new(Barrier::new(WRITERS)), tokio::task::JoinSet::new());
    for _ in 0..WRITERS {
        let (origin, barrier) = (Arc::clone(&origin), Arc::clone(&barrier));
        creators.spawn(async move {
            barrier.wait().await;
            let fields = ["if-none-match: *", "content-type: application/json"];
            origin.send("PUT", "/kv/k", &fields, "{}").await.status
        });
    }
    let created = creators.join_all().await.into_iter().filter(|status| *status == 200).count();
    assert_eq!(created, 1);
}
