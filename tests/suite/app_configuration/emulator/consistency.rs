//! Replicas that settle, and tokens that ask for newer state. The contract: a request with a token gets a state at
//! least as new as the token, and the token of an answer is at least as new as the state that the answer shows.

use std::time::Duration;

use tagalong::internals::emulator::tokens::TokenMode;
use tagalong::internals::emulator::{Emulator, EmulatorSettings};

use super::Origin;

fn settling(replicas: usize, token_mode: TokenMode, token_ids: usize) -> Origin {
    let settle = Duration::from_secs(4);
    Origin::new(EmulatorSettings { replicas, settle, token_mode, token_ids, ..EmulatorSettings::default() })
}

async fn value(origin: &Origin, fields: &[&str]) -> (Option<String>, u64) {
    let reply = origin.send("GET", "/kv/k", fields, "").await;
    let value = (reply.status == 200).then(|| reply.json()["value"].as_str().unwrap().to_owned());
    (value, reply.sequence_number())
}

#[tokio::test]
async fn without_a_token_the_old_state_is_seen_until_it_settles() {
    let origin = settling(1, TokenMode::Shown, 1);
    let written = origin.put("/kv/k", "1").await;
    assert_eq!(written.sequence_number(), 1);
    let token = format!("sync-token: {}", written.header("sync-token"));
    let bare = format!("sync-token: {}", written.header("sync-token").split_once(";sn").unwrap().0);
    assert_eq!(value(&origin, &[]).await, (None, 0));
    assert_eq!(origin.get("/kv").await.items("key").len(), 0, "lists lag like key-values");
    for token in [&token, &bare] {
        assert_eq!(value(&origin, &[token]).await, (Some("1".into()), 1), "read your writes");
    }
    origin.clock.advance(Duration::from_millis(1_999));
    assert_eq!(value(&origin, &[]).await, (None, 0), "never sooner than half of the settle time");
    origin.clock.advance(Duration::from_millis(2_001));
    let (settled, shown) = value(&origin, &[]).await;
    assert_eq!(
        (settled.as_deref(), shown),
        (Some("1"), 6),
        "one change, and five numbers in four seconds by themselves"
    );
}

#[tokio::test]
async fn conditions_of_reads_see_what_the_read_sees_and_those_of_writes_the_newest() {
    let origin = settling(1, TokenMode::Shown, 1);
    origin.put("/kv/k", "1").await;
    origin.clock.advance(Duration::from_secs(4));
    let old = origin.get("/kv/k").await.header("etag").to_owned();
    let new = origin.put("/kv/k", "2").await.header("etag").to_owned();
    let condition = format!("if-none-match: {old}");
    assert_eq!(
        origin.send("GET", "/kv/k", &[&condition], "").await.status,
        304,
        "stale, but what the replica shows"
    );
    let json = "content-type: application/json";
    assert_eq!(origin.send("PUT", "/kv/k", &[json, &format!("if-match: {old}")], "{}").await.status, 412);
    assert_eq!(origin.send("PUT", "/kv/k", &[json, &format!("if-match: {new}")], "{}").await.status, 200);
}

#[tokio::test]
async fn replicas_differ_and_a_token_makes_them_agree() {
    let origin = settling(3, TokenMode::Shown, 1);
    origin.put("/kv/k", "old").await;
    origin.clock.advance(Duration::from_secs(4));
    let written = origin.put("/kv/k", "new").await;
    let token = format!("sync-token: {}", written.header("sync-token"));
    let mut mixed = false;
    for _ in 0..200 {
        origin.clock.advance(Duration::from_millis(20));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..20 {
            let (value, shown) = value(&origin, &[]).await;
            let is_new = value.as_deref() == Some("new");
            assert_eq!(shown >= written.sequence_number(), is_new, "the token names the shown state");
            seen.insert(value);
        }
        mixed |= seen.len() == 2;
        assert_eq!(value(&origin, &[&token]).await.0.as_deref(), Some("new"));
    }
    assert!(mixed, "some replicas must have settled before others");
    assert_eq!(value(&origin, &[]).await.0.as_deref(), Some("new"));
}

#[tokio::test]
async fn the_newest_token_may_come_with_an_old_state() {
    let origin = settling(1, TokenMode::Newest, 1);
    origin.put("/kv/k", "1").await;
    let (old, shown) = value(&origin, &[]).await;
    assert_eq!((old, shown), (None, 1));
    let reply = origin.get("/kv/k").await;
    let token = format!("sync-token: {}", reply.header("sync-token"));
    assert_eq!(value(&origin, &[&token]).await.0.as_deref(), Some("1"));
}

#[tokio::test]
async fn several_ids_come_in_one_line_and_any_of_them_asks() {
    let origin = settling(1, TokenMode::Shown, 3);
    for key in ["a", "b", "c", "d", "e", "f"] {
        origin.put(&format!("/kv/{key}"), "v").await;
    }
    let written = origin.put("/kv/k", "1").await;
    let line = written.header("sync-token");
    assert_eq!((written.headers.get_all("sync-token").iter().count(), line.split(',').count()), (1, 3));
    assert!(!line.contains(' '));
    assert_eq!(value_of(&origin, &format!("sync-token: {line}")).await, 200);
    let newest = line
        .split(',')
        .max_by_key(|token| token.split_once(";sn=").unwrap().1.parse::<u64>().unwrap())
        .unwrap();
    assert_eq!(value_of(&origin, &format!("sync-token: {newest}")).await, 200);
    assert_eq!(
        value_of(&origin, "sync-token: zAJw6V16=foreign, kv=MA==,,;=;").await,
        404,
        "what is not ours asks for nothing"
    );
    let both = [format!("sync-token: {}", line.split(',').next().unwrap()), format!("sync-token: {newest}")];
    let reply = origin.send("GET", "/kv/k", &[&both[0], &both[1]], "").await;
    assert_eq!(reply.status, 200, "tokens on two lines");
}

async fn value_of(origin: &Origin, field: &str) -> u16 {
    origin.send("GET", "/kv/k", &[field], "").await.status
}

#[tokio::test]
async fn with_drift_every_token_asks_for_its_state() {
    let settings = |drift_per_second| EmulatorSettings {
        replicas: 3,
        settle: Duration::from_secs(2),
        drift_per_second,
        ..EmulatorSettings::default()
    };
    let still = Origin::new(settings(0.0));
    still.put("/kv/k", "0").await;
    still.clock.advance(Duration::from_secs(3_600));
    assert_eq!(value(&still, &[]).await.1, 1, "without drift a token moves with changes alone");

    let origin = Origin::new(settings(1.25));
    // Each token with the state of its answer: a later answer to that token must be at least as new.
    let mut promises: Vec<(String, u64, u64)> = Vec::new();
    for step in 0..60_u64 {
        if step % 7 == 0 {
            origin.put("/kv/k", &step.to_string()).await;
        }
        let reply = origin.get("/kv/k").await;
        if reply.status == 200 {
            let shown = reply.json()["value"].as_str().unwrap().parse().unwrap();
            promises.push((
                format!("sync-token: {}", reply.header("sync-token")),
                shown,
                reply.sequence_number(),
            ));
        }
        for (token, shown, number) in &promises {
            let (value, answered) = value(&origin, &[token]).await;
            assert!(value.unwrap().parse::<u64>().unwrap() >= *shown && answered >= *number, "{token}");
        }
        origin.clock.advance(Duration::from_millis(300));
    }
    let (_, before) = value(&origin, &[]).await;
    origin.clock.advance(Duration::from_secs(80));
    assert_eq!(value(&origin, &[]).await.1.abs_diff(before) / 10, 10, "a hundred in eighty seconds");
}

#[tokio::test]
async fn tokens_from_before_a_restart_stay_valid_after_it() {
    for drift_per_second in [1.25, 0.0] {
        let origin = Origin::new(EmulatorSettings::default());
        let mut changes = origin.emulator.subscribe();
        origin.put("/kv/k", "1").await;
        origin.clock.advance(Duration::from_millis(10_500));
        let handed_out = value(&origin, &[]).await.1;
        assert!(handed_out > 1);
        let settings = EmulatorSettings { drift_per_second, ..EmulatorSettings::default() };
        let again =
            Origin { emulator: Emulator::new(settings, origin.clock.clone(), 2), clock: origin.clock };
        again.emulator.restore([&*changes.try_recv().unwrap()]);
        assert!(value(&again, &[]).await.1 >= handed_out, "numbers never go down");
        assert!(
            again.put("/kv/k", "2").await.sequence_number() > handed_out,
            "a change is newer than every token"
        );
    }
}

#[tokio::test]
async fn a_304_names_its_tag_only_when_asked_to() {
    for tagged_304 in [false, true] {
        let origin = Origin::new(EmulatorSettings { tagged_304, ..EmulatorSettings::default() });
        origin.put("/kv/k", "1").await;
        for target in ["/kv/k", "/kv"] {
            let tag = origin.get(target).await.header("etag").to_owned();
            let unchanged = origin.send("GET", target, &[&format!("if-none-match: {tag}")], "").await;
            assert_eq!(unchanged.status, 304);
            assert_eq!(unchanged.header("etag"), if tagged_304 { &tag } else { "" }, "{target}");
            assert!(unchanged.headers.contains_key("sync-token"));
        }
    }
}

#[tokio::test]
async fn token_modes_give_the_vendors_constant_or_no_token() {
    for (mode, expected) in [(TokenMode::Constant, "kv=MA==;sn=1"), (TokenMode::None, "")] {
        let origin = Origin::new(EmulatorSettings { token_mode: mode, ..EmulatorSettings::default() });
        assert_eq!(origin.put("/kv/k", "1").await.header("sync-token"), expected);
        assert_eq!(origin.get("/kv/k").await.header("sync-token"), expected);
    }
}

#[tokio::test]
async fn one_seed_gives_one_sequence_of_answers() {
    let run = async |seed| {
        let clock = tagalong::internals::clock::Clock::manual(super::START);
        let settings =
            EmulatorSettings { replicas: 3, settle: Duration::from_secs(1), ..EmulatorSettings::default() };
        let origin = Origin { emulator: Emulator::new(settings, clock.clone(), seed), clock };
        let mut seen = Vec::new();
        for step in 0..40_u32 {
            origin.put("/kv/k", &step.to_string()).await;
            let reply = origin.get("/kv/k").await;
            seen.push((
                reply.status,
                reply.header("etag").to_owned(),
                reply.header("x-ms-request-id").to_owned(),
            ));
            origin.clock.advance(Duration::from_millis(90));
        }
        seen
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}
