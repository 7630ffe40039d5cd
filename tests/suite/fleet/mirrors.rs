//! Mirrors of a fleet: one member asks for a range, and all have it.

use std::time::Duration;

use super::{Fleet, name, target, versions};

const KEYS: usize = 250;

const MIRROR: [&str; 2] = ["upstream.mirror.enabled=true", "upstream.mirror.interval=5s"];

const LIST: &str = "GET /kv?api-version=2026-04-01&key=k0*";

async fn mirrored(members: usize) -> Fleet {
    let mut fleet = Fleet::of(0, &MIRROR).await;
    fleet.store.set_way(5);
    for key in 0..KEYS {
        fleet.store.write(key, true);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    for _ in 0..members {
        fleet.add(&[]);
        fleet.joined().await;
        fleet.sidecars.last().unwrap().mirror().loaded().await;
    }
    fleet
}

#[tokio::test(start_paused = true)]
async fn members_of_a_fleet_poll_as_often_as_one() {
    let mut polls = Vec::new();
    for members in [1, 6] {
        let fleet = mirrored(members).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let before = fleet.store.requests().0;
        tokio::time::sleep(Duration::from_secs(103)).await;
        polls.push(fleet.store.requests().0 - before);
        for member in 0..members {
            let answer = fleet.send(member, LIST).await;
            assert_eq!(versions(&answer).len(), 100);
        }
    }
    eprintln!("origin requests in 103 s of one mirror {}, of six {}", polls[0], polls[1]);
    assert!(polls[1] as f64 <= 1.1 * polls[0] as f64, "{polls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_starts_later_asks_the_origin_for_nothing() {
    let mut fleet = mirrored(2).await;
    fleet.heard().await;
    // A change of the ranges: their anchors are not those of a load any more.
    for key in KEYS..KEYS + 60 {
        fleet.write(0, key).await;
    }
    tokio::time::sleep(Duration::from_secs(400)).await;
    let before = fleet.store.requests();
    let new = fleet.add(&[]);
    fleet.joined().await;
    fleet.sidecars[new].mirror().loaded().await;
    let answer = fleet.send(new, LIST).await;
    assert!(answer.is_hit(), "{:?}", answer.cache_status());
    assert_eq!(versions(&answer).len(), 100);
    let asked = fleet.metric(new, "tagalong_fleet_records_total", "outcome=\"asked\"");
    let taken = fleet.metric(new, "tagalong_fleet_records_total", "outcome=\"taken\"");
    assert!(asked == 0.0 && taken >= 4.0, "asked {asked}, taken {taken}");
    assert_eq!(fleet.store.requests().2, before.2, "no body came");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_through_one_mirror_is_in_the_lists_of_the_others() {
    let fleet = mirrored(3).await;
    for round in 0..10 {
        let key = round * 9;
        let written = fleet.write(round % 3, key).await;
        fleet.heard().await;
        for member in 0..3 {
            let list = versions(&fleet.send(member, LIST).await);
            assert!(list.contains(&(name(key), written)), "round {round}, member {member}");
            assert_eq!(fleet.read(member, key).await.0, Some(written));
        }
    }
    let deleted = fleet.send(1, &format!("DELETE {}", target(9))).await;
    assert_eq!(deleted.status, 204);
    fleet.heard().await;
    for member in 0..3 {
        let list = versions(&fleet.send(member, LIST).await);
        assert!(list.iter().all(|(key, _)| *key != name(9)), "member {member}");
        assert_eq!(fleet.read(member, 9).await.1.status, 404);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_one_mirror_has_seen_is_shown_by_all() {
    let fleet = mirrored(4).await;
    let changed = fleet.store.write(7, true);
    // It is visible everywhere, and one of them has polled.
    tokio::time::sleep(Duration::from_secs(9)).await;
    for member in 0..4 {
        assert_eq!(fleet.read(member, 7).await.0, Some(changed), "member {member}");
    }
}
