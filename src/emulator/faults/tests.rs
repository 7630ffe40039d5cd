use super::*;

fn plan(words: &[&str]) -> FaultPlan {
    FaultPlan::new(PlanDocument::from_words(words.iter().copied()).unwrap())
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

/// Whether each of these requests gets a fault.
fn met(plan: &mut FaultPlan, requests: &[(Method, &str)]) -> Vec<bool> {
    let mut rng = fastrand::Rng::with_seed(7);
    requests
        .iter()
        .map(|(method, path)| !plan.decide(RequestFacts { method, path }, at(0), &mut rng).is_none())
        .collect()
}

#[test]
fn a_rule_is_limited_to_methods_and_paths() {
    let requests =
        [(Method::GET, "/kv/app1"), (Method::PUT, "/kv/app1"), (Method::GET, "/kv/b"), (Method::GET, "/kv")];
    assert_eq!(met(&mut plan(&["weak-etags method=GET path=/kv/*"]), &requests), [true, false, true, false]);
    assert_eq!(met(&mut plan(&["weak-etags path=/kv"]), &requests), [false, false, false, true]);
    assert_eq!(met(&mut plan(&["weak-etags"]), &requests), [true; 4]);
}

#[test]
fn a_rule_skips_and_counts() {
    let requests = vec![(Method::GET, "/kv"); 6];
    let mut plan = plan(&["weak-etags skip=2 count=3"]);
    assert_eq!(met(&mut plan, &requests), [false, false, true, true, true, false]);
    let report = plan.report();
    assert_eq!((&report["faults"][0]["matched"], &report["faults"][0]["fired"]), (&6.into(), &3.into()));
    assert_eq!(report["faults"][0]["do"]["kind"], "weak-etags");
}

#[test]
fn one_seed_gives_one_sequence_of_faults() {
    let requests = vec![(Method::GET, "/kv"); 1000];
    let first = met(&mut plan(&["weak-etags probability=0.25"]), &requests);
    let share = first.iter().filter(|&&met| met).count();
    assert!((200..300).contains(&share), "{share}");
    assert_eq!(first, met(&mut plan(&["weak-etags probability=0.25"]), &requests));
    assert_eq!(met(&mut plan(&["weak-etags probability=0"]), &requests), [false; 1000]);
}

#[test]
fn delays_add_up_and_stay_within_their_distribution() {
    let mut rng = fastrand::Rng::with_seed(1);
    let request = RequestFacts { method: &Method::GET, path: "/kv" };
    let mut both = plan(&["delay fixed=5ms", "delay uniform=10ms..20ms"]);
    let mut skewed = plan(&["delay exponential=20ms..100ms"]);
    let (mut drawn, mut sum) = (Vec::new(), Duration::ZERO);
    for _ in 0..2000 {
        let delay = both.decide(request, at(0), &mut rng).delay;
        assert!((15..=25).contains(&delay.as_millis()), "{delay:?}");
        let delay = skewed.decide(request, at(0), &mut rng).delay;
        assert!(delay <= Duration::from_millis(100));
        sum += delay;
        drawn.push(delay);
    }
    let mean = sum / 2000;
    assert!((17..=22).contains(&mean.as_millis()), "{mean:?}");
    drawn.sort();
    assert!(drawn[1000] < mean, "an exponential distribution has its median below its mean");
}

#[test]
fn a_quota_lets_requests_through_until_it_is_used_up() {
    let mut plan = plan(&["throttle quota=3 per=1h burst=2 burst_per=1s"]);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut waits = |seconds: i64| {
        let fault = plan.decide(RequestFacts { method: &Method::GET, path: "/kv" }, at(seconds), &mut rng);
        match fault.interruption {
            Some(Interruption::Refuse(Refusal { retry_after, .. })) => retry_after.map(|wait| wait.as_secs()),
            _ => None,
        }
    };
    assert_eq!([waits(0), waits(0)], [None, None]);
    assert_eq!(waits(0), Some(1), "the burst is used up for this second");
    assert_eq!(waits(10), None, "refused requests use no quota");
    assert_eq!(waits(600), Some(3000), "the hour's quota is used up");
    assert_eq!(waits(3600), None);
}

#[test]
fn the_first_interruption_wins_and_the_second_is_not_counted() {
    let mut plan = plan(&["unavailable count=1", "drop at=before-head"]);
    let mut rng = fastrand::Rng::with_seed(1);
    let request = RequestFacts { method: &Method::GET, path: "/kv" };
    let first = plan.decide(request, at(0), &mut rng).interruption;
    assert!(matches!(first, Some(Interruption::Refuse(Refusal { status: 503, .. }))), "{first:?}");
    assert_eq!(plan.report()["faults"][1]["fired"], 0);
    assert_eq!(plan.decide(request, at(0), &mut rng).interruption, Some(Interruption::DropBeforeHead));
}

#[test]
fn write_faults_leave_reads_alone() {
    let requests = [(Method::GET, "/kv/a"), (Method::HEAD, "/kv/a"), (Method::DELETE, "/kv/a")];
    assert_eq!(met(&mut plan(&["write answer=lost count=1"]), &requests), [false, false, true]);
}

#[test]
fn head_and_body_faults_reach_the_answer() {
    let mut plan = plan(&[
        "no-link-on-304",
        "weak-etags",
        "malformed-sync-token value=x",
        "slow-body chunk_bytes=3 interval=1s",
        "truncate after_bytes=1",
    ]);
    let mut rng = fastrand::Rng::with_seed(1);
    let fault = plan.decide(RequestFacts { method: &Method::GET, path: "/kv" }, at(0), &mut rng);
    let head =
        HeadFault { no_link_on_304: true, weak_etags: true, tokens: TokenForm::Replaced("x".to_owned()) };
    assert_eq!(fault.head, head);
    assert_eq!(fault.body, Some(BodyFault::Slow { chunk_bytes: 3, interval: Duration::from_secs(1) }));
}
