use super::*;

fn rules(document: PlanDocument) -> Vec<RuleDocument> {
    document.into_rules().map(|(rule, _)| rule).collect()
}

#[test]
fn toml_json_and_words_give_the_same_plan() {
    let toml = r#"
        [[faults]]
        method = ["GET", "HEAD"]
        path = "/kv/app*"
        skip = 2
        count = 10
        probability = 0.5
        do = { kind = "throttle", quota = 1000, per = "1h", burst = 20, retry_after = "50ms" }
    "#;
    let json = br#"{"faults": [{"method": ["GET", "HEAD"], "path": "/kv/app*", "skip": 2, "count": 10, "probability": 0.5,
        "do": {"kind": "throttle", "quota": 1000, "per": "1h", "burst": 20, "retry_after": "50ms"}}]}"#;
    let words = "throttle quota=1000 per=1h burst=20 retry_after=50ms method=GET,HEAD path=/kv/app* skip=2 count=10 \
                 probability=0.5";
    let from_toml = rules(PlanDocument::from_toml(toml).unwrap());
    assert_eq!(from_toml.len(), 1);
    assert_eq!(from_toml, rules(PlanDocument::from_json(json).unwrap()));
    assert_eq!(from_toml, rules(PlanDocument::from_words([words]).unwrap()));
}

#[test]
fn every_kind_can_be_written_in_words() {
    for words in [
        "delay fixed=50ms",
        "delay uniform=10ms..50ms",
        "delay exponential=20ms..1s",
        "throttle",
        "throttle policy=storage quota=10",
        "throttle retry_after=none",
        "unavailable",
        "unavailable status=500 retry_after=20ms",
        "drop at=before-head",
        "drop at=within-head",
        "drop at=within-body after_bytes=5",
        "slow-body chunk_bytes=16 interval=10ms",
        "truncate after_bytes=10",
        "truncate after_bytes=10 framing=consistent",
        "write answer=lost",
        "write answer=lost applied_after=2s",
        "write answer=late delay=3s",
        "write answer=unavailable retry_after=none",
        "no-link-on-304",
        "weak-etags",
        "no-sync-token",
        "sync-token-lines",
        "malformed-sync-token value=nosn=AAAA",
    ] {
        if let Err(error) = PlanDocument::from_words([words]) {
            panic!("{words}: {error}");
        }
    }
}

#[test]
fn invalid_words_are_refused_with_position_and_reason() {
    for (words, reason) in [
        ("", "unknown variant"),
        ("explode", "unknown variant `explode`"),
        ("delay", "exactly one of"),
        ("delay fixed=50", "expected a string"),
        ("delay fixed=1s uniform=1s..2s", "exactly one of"),
        ("delay uniform=50ms..10ms", "shorter one first"),
        ("delay uniform=50ms", "not a range"),
        ("weak-etags x=1", "unknown field `x`"),
        ("throttle per=0", "expected a string"),
        ("throttle per=0s", "longer than 0"),
        ("throttle probability=2", "between 0 and 1"),
        ("unavailable status=404", "5xx"),
        ("slow-body chunk_bytes=0 interval=1s", "at least 1"),
        ("write answer=late applied_after=1s", "applied_after"),
        ("throttle method=G(T", "method"),
        ("throttle policy=x", "unknown variant `x`"),
    ] {
        let error = PlanDocument::from_words(["weak-etags", words]).expect_err(words).to_string();
        assert!(error.contains(reason) && error.contains("fault 2"), "{words}: {error}");
    }
    let error = PlanDocument::from_words(["weak-etags now"]).unwrap_err().to_string();
    assert!(error.contains("'now'"), "{error}");
}

#[test]
fn malformed_documents_are_refused_with_the_place() {
    for text in ["", "[]", "{\"faults\": 1}", "{\"fault\": []}", "{\"faults\": [}"] {
        let error = PlanDocument::from_json(text.as_bytes()).expect_err(text).to_string();
        assert!(error.contains("line 1"), "{text}: {error}");
    }
    let error = PlanDocument::from_toml("[[faults]]\nx = = 1").unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn files_are_read_by_their_ending() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("plan.json");
    std::fs::write(&json, r#"{"faults": [{"do": {"kind": "weak-etags"}}]}"#).unwrap();
    let toml = directory.path().join("plan.toml");
    std::fs::write(&toml, "[[faults]]\ndo = { kind = \"weak-etags\" }").unwrap();
    let [from_json, from_toml] = [json, toml].map(|path| rules(PlanDocument::from_file(&path).unwrap()));
    assert_eq!(from_json, from_toml);
    let missing = PlanDocument::from_file(&directory.path().join("missing.toml")).unwrap_err().to_string();
    assert!(missing.contains("missing.toml"), "{missing}");
}
