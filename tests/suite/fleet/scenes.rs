//! What a fleet promises, one scene each.

use std::time::Duration;

use tagalong::internals::clock::{Clock, instant};
use tagalong::internals::fleet::engine::EngineError;

use super::{Fleet, LEASE, put, target, version};
use crate::support::scene::START;

#[tokio::test(start_paused = true)]
async fn a_write_through_one_member_is_read_through_the_others() {
    let fleet = Fleet::of(5, &[]).await;
    for round in 0..20 {
        let written = fleet.write(round % 5, 1).await;
        fleet.heard().await;
        for member in 0..5 {
            assert_eq!(fleet.read(member, 1).await.0, Some(written), "round {round}, member {member}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_announce_all_the_others_know_a_write_when_its_caller_is_answered() {
    let fleet = Fleet::of(5, &["fleet.announce=all"]).await;
    for round in 0..50 {
        let written = fleet.write(round % 5, 1).await;
        assert_eq!(fleet.read((round + 1) % 5, 1).await.0, Some(written), "round {round}");
    }
    assert_eq!(fleet.metric(0, "tagalong_fleet_announcements_total", "outcome=\"unconfirmed\""), 0.0);
}

#[tokio::test(start_paused = true)]
async fn what_one_member_asked_answers_the_others() {
    let mut fleet = Fleet::of(4, &[]).await;
    fleet.store.write(1, true);
    fleet.store.set_way(10);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = fleet.store.requests().0;
    let (shown, first) = fleet.read(0, 1).await;
    assert_eq!((first.cache_status().fwd.as_deref(), first.is_hit()), (Some("uri-miss"), false));
    fleet.heard().await;
    for member in 1..4 {
        let (again, answer) = fleet.read(member, 1).await;
        assert_eq!(again, shown);
        assert!(answer.is_hit() && answer.cache_status().detail.as_deref() == Some("fleet"), "{answer:?}");
        assert!(answer.age().is_some_and(|age| age <= 2), "{:?}", answer.age());
        let (_, answer) = fleet.read(member, 1).await;
        assert!(answer.is_hit() && answer.cache_status().detail.is_none(), "it is stored now");
    }
    assert_eq!(fleet.store.requests().0 - asked, 1);
    // A member that starts later asks nobody else.
    let new = fleet.add(&[]);
    fleet.joined().await;
    assert_eq!(fleet.read(new, 1).await.0, shown);
    assert_eq!(fleet.store.requests().0 - asked, 1);
    // Stale, it is validated once for all, and without a body.
    let bodies = fleet.store.requests().2;
    tokio::time::sleep(Duration::from_secs(31)).await;
    for member in 0..5 {
        assert_eq!(fleet.read(member, 1).await.0, shown);
    }
    assert_eq!(fleet.store.requests().0 - asked, 2);
    assert_eq!(fleet.store.requests().2, bodies);
}

#[tokio::test(start_paused = true)]
async fn while_the_origin_is_away_a_new_member_answers_with_what_others_have_asked() {
    let mut fleet = Fleet::of(2, &[]).await;
    let written = fleet.write(0, 1).await;
    fleet.read(0, 1).await;
    fleet.heard().await;
    fleet.store.set_away(true);
    let new = fleet.add(&[]);
    let (shown, answer) = fleet.read(new, 1).await;
    assert_eq!(shown, Some(written), "it waits for its fleet: {answer:?}");
    assert_eq!(answer.cache_status().detail.as_deref(), Some("fleet"));
    assert_eq!(fleet.read(new, 2).await.1.status, 504);
}

#[tokio::test(start_paused = true)]
async fn reads_at_the_same_time_ask_the_origin_once() {
    let fleet = Fleet::of(20, &[]).await;
    fleet.store.write(1, true);
    fleet.store.set_way(100);
    let asked = fleet.store.requests().0;
    let reads = (0..20).map(|member| fleet.read(member, 1));
    let answers = futures_util::future::join_all(reads).await;
    assert!(answers.iter().all(|(shown, _)| shown == &answers[0].0));
    assert_eq!(fleet.store.requests().0 - asked, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_demands_of_the_origin_is_asked_there() {
    let fleet = Fleet::of(2, &[]).await;
    fleet.store.write(1, true);
    fleet.read(0, 1).await;
    fleet.heard().await;
    for field in ["Cache-Control: no-cache", "Cache-Control: max-age=0"] {
        let asked = fleet.store.requests().0;
        let answer = fleet.send(1, &format!("GET {}\n{field}", target(1))).await;
        assert!(!answer.is_hit(), "{field}: {answer:?}");
        assert_eq!(fleet.store.requests().0 - asked, 1, "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_member_has_its_own_lifetimes() {
    let mut fleet = Fleet::of(1, &[]).await;
    let hasty = fleet.add(&["upstream.freshness=5s"]);
    let strong = fleet.add(&["upstream.consistency=strong"]);
    fleet.joined().await;
    fleet.write(0, 1).await;
    fleet.heard().await;
    fleet.read(0, 1).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let asked = fleet.store.requests().0;
    assert!(fleet.read(0, 1).await.1.is_hit());
    assert!(!fleet.read(hasty, 1).await.1.is_hit(), "for this one it is stale");
    for _ in 0..3 {
        let began = fleet.clock.now();
        assert!(!fleet.read(strong, 1).await.1.is_hit());
        assert!(fleet.clock.now().since(began) < LEASE / 4, "it waits for nobody");
    }
    assert_eq!(fleet.store.requests().0 - asked, 4);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_stale_is_not_taken_even_where_it_might_answer_for_a_while() {
    let fleet = Fleet::of(2, &[]).await;
    fleet.store.set_cache_control("max-age=5, stale-while-revalidate=600");
    fleet.write(0, 1).await;
    fleet.heard().await;
    fleet.read(0, 1).await;
    let (_, fresh) = fleet.read(1, 1).await;
    assert_eq!(fresh.cache_status().detail.as_deref(), Some("fleet"), "{fresh:?}");
    let other = 2;
    fleet.write(0, other).await;
    fleet.read(0, other).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = fleet.store.requests().0;
    let (_, answer) = fleet.read(1, other).await;
    assert!(!answer.is_hit(), "who asks has the news: {answer:?}");
    assert_eq!(fleet.store.requests().0 - asked, 1);
}

#[tokio::test(start_paused = true)]
async fn a_change_behind_the_back_of_all_is_shown_by_all_once_one_has_seen_it() {
    let fleet = Fleet::of(3, &[]).await;
    fleet.store.write(1, true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    for member in 0..3 {
        fleet.read(member, 1).await;
    }
    let changed = fleet.store.write(1, true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let answer = fleet.send(0, &format!("GET {}\nCache-Control: no-cache", target(1))).await;
    assert_eq!(version(&answer), Some(changed));
    // The one that a caller demanded of the origin is not announced; what the fleet asks is.
    tokio::time::sleep(Duration::from_secs(31)).await;
    fleet.read(0, 1).await;
    fleet.heard().await;
    for member in 1..3 {
        assert_eq!(fleet.read(member, 1).await.0, Some(changed));
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_engine_each_keeps_the_promises_that_it_makes_alone() {
    let fleet = Fleet::of(2, &["upstream.freshness=10s"]).await;
    let written = fleet.write(0, 1).await;
    fleet.heard().await;
    assert_eq!(fleet.read(1, 1).await.0, Some(written));
    for why in
        [EngineError::Away, EngineError::Slow, EngineError::ReadOnly, EngineError::Full, EngineError::Refused]
    {
        fleet.engine.fail(Some(why));
        let began = fleet.clock.now();
        let written = fleet.write(0, 1).await;
        assert!(fleet.clock.now().since(began) <= LEASE + LEASE / 2, "{why:?}");
        assert_eq!(fleet.read(0, 1).await.0, Some(written), "{why:?}");
        tokio::time::sleep(LEASE * 2).await;
        assert!(!fleet.sidecars[0].member().has_live_lease());
        let began = fleet.clock.now();
        let (shown, answer) = fleet.read(0, 1).await;
        assert_eq!(shown, Some(written), "{why:?}");
        assert!(
            answer.is_hit() && answer.cache_status().detail.as_deref() == Some("fleet-lost"),
            "{answer:?}"
        );
        let again = fleet.write(0, 1).await;
        assert_eq!(fleet.read(0, 1).await.0, Some(again), "{why:?}");
        assert!(fleet.clock.now().since(began) <= LEASE / 2, "nothing waits for an engine that is away");
        assert_eq!(fleet.metric(0, "tagalong_fleet_live", ""), 0.0);
        assert!(
            fleet.metric(0, "tagalong_fleet_failures_total", &format!("reason=\"{}\"", why.as_str())) > 0.0
        );
        fleet.engine.fail(None);
        fleet.joined().await;
        fleet.heard().await;
        assert_eq!(
            fleet.read(1, 1).await.0,
            Some(again),
            "{why:?}: it is announced once the engine is there"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_has_no_lease_while_its_write_is_not_announced() {
    let fleet = Fleet::of(2, &[]).await;
    fleet.engine.refuse_announcements(true);
    let written = fleet.write(0, 1).await;
    // Turns would renew the lease in this time.
    for _ in 0..20 {
        tokio::time::sleep(LEASE / 4).await;
        assert!(!fleet.sidecars[0].member().has_live_lease());
    }
    assert!(fleet.sidecars[1].member().has_live_lease());
    assert_eq!(fleet.read(0, 1).await.0, Some(written));
    fleet.engine.refuse_announcements(false);
    fleet.joined().await;
    fleet.heard().await;
    assert_eq!(fleet.read(1, 1).await.0, Some(written));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_writes_all_the_time_gets_its_lease() {
    for mode in ["engine", "all"] {
        let mut fleet = Fleet::of(1, &[&format!("fleet.announce={mode}")]).await;
        let writer = fleet.add(&[]);
        let write_for = async |duration: Duration| {
            let start = instant();
            while start.elapsed() < duration {
                fleet.write(writer, 1).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // When it starts, and when the engine is there again.
        for _ in 0..2 {
            write_for(4 * LEASE).await;
            assert!(fleet.sidecars[writer].member().has_live_lease(), "{mode}");
            fleet.engine.fail(Some(EngineError::Away));
            write_for(2 * LEASE).await;
            assert!(!fleet.sidecars[writer].member().has_live_lease(), "{mode}");
            fleet.engine.fail(None);
        }
        fleet.joined().await;
        let written = fleet.write(writer, 1).await;
        fleet.heard().await;
        assert_eq!(fleet.read(0, 1).await.0, Some(written), "{mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_engine_forgets_is_announced_again() {
    let fleet = Fleet::of(3, &["upstream.settle_time=5s"]).await;
    fleet.write(0, 1).await;
    fleet.heard().await;
    for member in 0..3 {
        fleet.read(member, 1).await;
    }
    let written = fleet.write(0, 1).await;
    fleet.engine.fail_over(2, 50);
    let heard = || fleet.metric(1, "tagalong_fleet_entries_total", "what=\"write\"");
    let heard_before = heard();
    tokio::time::sleep(LEASE + Duration::from_secs(2)).await;
    fleet.joined().await;
    fleet.heard().await;
    // Both: the engine had acknowledged them, and neither had settled.
    assert_eq!(heard() - heard_before, 2.0);
    for member in 0..3 {
        assert_eq!(fleet.read(member, 1).await.0, Some(written), "member {member}");
        assert!(fleet.metric(member, "tagalong_fleet_epochs_total", "") >= 2.0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_or_record_that_is_not_sealed_with_the_key_is_not_believed() {
    let fleet = Fleet::of(3, &[]).await;
    let written = fleet.write(0, 1).await;
    fleet.heard().await;
    fleet.read(0, 1).await;
    fleet.heard().await;
    let asked = fleet.store.requests().0;
    fleet.engine.change_records(false);
    assert_eq!(fleet.read(1, 1).await.0, Some(written), "the body is not that of the head");
    assert_eq!(fleet.store.requests().0 - asked, 1);
    fleet.heard().await;
    fleet.engine.change_records(true);
    assert_eq!(fleet.read(2, 1).await.0, Some(written));
    assert_eq!(fleet.store.requests().0 - asked, 2);
    assert!(fleet.metric(2, "tagalong_fleet_records_total", "outcome=\"refused\"") >= 1.0);
    fleet.engine.append_garbage();
    fleet.heard().await;
    let (shown, answer) = fleet.read(1, 1).await;
    assert_eq!(shown, Some(written));
    assert!(!answer.is_hit() || answer.cache_status().detail.is_some(), "it may say anything: {answer:?}");
    assert_eq!(fleet.metric(1, "tagalong_fleet_entries_total", "what=\"refused\""), 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_engine_learns_neither_names_nor_values() {
    let fleet = Fleet::of(2, &[]).await;
    fleet.write(0, 1).await;
    fleet.heard().await;
    fleet.read(1, 1).await;
    fleet.heard().await;
    let bytes = fleet.engine.bytes();
    assert!(bytes.len() > 500);
    for text in ["k0001", "api-version", "zAJw6V16", "application/json", "127.0.0.1"] {
        assert!(!bytes.windows(text.len()).any(|it| it == text.as_bytes()), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn members_with_another_key_are_not_of_the_fleet() {
    let mut fleet = Fleet::of(2, &[]).await;
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("key");
    std::fs::write(&other, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    let stranger = fleet.add(&[&format!("fleet.key_file={}", other.display())]);
    fleet.heard().await;
    let written = fleet.write(stranger, 1).await;
    assert_eq!(fleet.read(stranger, 1).await.0, Some(written));
    assert!(!fleet.sidecars[stranger].member().has_live_lease());
    assert!(fleet.metric(stranger, "tagalong_fleet_failures_total", "reason=\"key\"") >= 1.0);
}

#[tokio::test(start_paused = true)]
async fn clocks_of_members_may_differ() {
    let mut fleet = Fleet::of(1, &["fleet.announce=all"]).await;
    let hour = Duration::from_secs(3_600);
    let (late, early) = (Clock::tokio(START.minus(hour)), Clock::tokio(START.plus(hour)));
    let near = Clock::tokio(START.plus(Duration::from_secs(20)));
    let others = [late, early, near].map(|clock| fleet.add_with_clock(clock, &[]));
    fleet.joined().await;
    for round in 0..20 {
        let writer = if round % 2 == 0 { 0 } else { others[round % 3] };
        let written = fleet.write(writer, 1).await;
        for member in 0..4 {
            let (shown, answer) = fleet.read(member, 1).await;
            assert_eq!(shown, Some(written), "round {round}, member {member}");
            assert!(member > 0 || answer.age().is_none_or(|age| age <= 1), "{:?}", answer.age());
        }
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    let taken = |member| fleet.metric(member, "tagalong_fleet_records_total", "outcome=\"taken\"");
    let all_taken = [0, 1, 2, 3].map(taken);
    assert!(all_taken[1] + all_taken[3] > 20.0, "within the tolerance records are used: {all_taken:?}");
    assert_eq!(all_taken[2], 0.0, "a clock that is an hour ahead makes each record an hour old");
}

#[tokio::test(start_paused = true)]
async fn entries_that_come_twice_change_nothing() {
    let fleet = Fleet::of(3, &["fleet.announce=all"]).await;
    fleet.engine.add_twice(100);
    for round in 0..20 {
        let written = fleet.write(round % 3, 1).await;
        for member in 0..3 {
            assert_eq!(fleet.read(member, 1).await.0, Some(written));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_cut_off_holds_a_write_up_for_its_lease_alone() {
    let fleet = Fleet::of(3, &["fleet.announce=all"]).await;
    fleet.write(0, 1).await;
    fleet.read(2, 1).await;
    fleet.engine.cut_off(2, true);
    let began = fleet.clock.now();
    let written = fleet.write(0, 1).await;
    let waited = fleet.clock.now().since(began);
    assert!(waited <= LEASE + LEASE / 4, "{waited:?}");
    assert!(!fleet.sidecars[2].member().has_live_lease(), "its lease has run out by then");
    assert_eq!(fleet.read(1, 1).await.0, Some(written));
    // Soon nobody waits for it any more.
    tokio::time::sleep(LEASE * 3).await;
    let began = fleet.clock.now();
    fleet.write(0, 1).await;
    assert!(fleet.clock.now().since(began) <= LEASE / 2);
    fleet.engine.cut_off(2, false);
    fleet.joined().await;
    let written = fleet.write(1, 1).await;
    assert_eq!(fleet.read(2, 1).await.0, Some(written));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_it_runs_without_a_fleet() {
    let fleet = Fleet::of(0, &[]).await;
    let before = fleet.engine.operations();
    let dial = std::sync::Arc::new(super::StoreDial(std::sync::Arc::clone(&fleet.store)));
    let alone = crate::support::sidecar::Sidecar::in_fleet(
        dial,
        fleet.clock.clone(),
        &["upstream.profile=app-configuration", "upstream.credential.kind=none"],
        Some(fleet.engine.for_member(0)),
    );
    assert_eq!(alone.caller().await.send(&put(1)).await.status, 200);
    assert_eq!(alone.caller().await.send(&format!("GET {}", target(1))).await.status, 200);
    tokio::time::sleep(LEASE * 5).await;
    assert_eq!(fleet.engine.operations(), before);
}
