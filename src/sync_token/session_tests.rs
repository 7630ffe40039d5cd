use std::time::Duration;

use super::*;
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::{CoverageVerdict, FleetCoverage, UncoveredReason};
use crate::sync_token::fleet_order::FleetWrite;
use crate::sync_token::resource_order::OrderScope;
use crate::sync_token::write_log::IndexLookUp;

fn fields(line: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(SYNC_TOKEN, HeaderValue::from_str(line).expect("a field value"));
    fields
}

fn verdict(session: &Session<&'static str>, covers: Coverage, caller: &HeaderMap) -> CoverageVerdict {
    let look_up = || IndexLookUp::Key(1);
    session.verdict(covers, &session.requirement(caller), OrderScope::Upstream, look_up, |footprint| {
        *footprint == "k"
    })
}

const NOW: Timestamp = Timestamp::from_unix_seconds(784_111_777);
const UNVERIFIED: CoverageVerdict = CoverageVerdict::Unverified(UncoveredReason::SyncToken);
const CHANGED: CoverageVerdict = CoverageVerdict::Unverified(UncoveredReason::Change);
const COVERED: CoverageVerdict = CoverageVerdict::Covered;

/// What the answer to the request with this snapshot brings.
fn receive(session: &Session<&'static str>, snapshot: &SessionSnapshot, line: &str) -> Received {
    Received {
        tokens: session.observe(snapshot.covers, &fields(line), NOW),
        origin_time: Some(NOW),
        ..Received::default()
    }
}

/// An answer to a request that is sent now brings this token, and shows no change.
fn observe(session: &Session<&'static str>, line: &str) {
    receive(session, &session.snapshot(&[]), line);
}

/// An answer to a request that is sent now brings this token, and shows a change.
fn reveal(session: &Session<&'static str>, line: &str) -> Coverage {
    let snapshot = session.snapshot(&[]);
    let received = receive(session, &snapshot, line);
    session.reveal(&snapshot, &received, Revelation::Raises, OrderScope::Upstream)
}

fn alone(session: &Session<&'static str>, covers: Coverage) -> CoverageVerdict {
    verdict(session, covers, &HeaderMap::new())
}

/// Tokens that tell states apart, and what was sent with the last of them.
fn moving() -> (Session<&'static str>, Coverage) {
    let session = Session::default();
    observe(&session, "a=zero;sn=1");
    observe(&session, "a=one;sn=2");
    let covers = session.snapshot(&[]).covers;
    (session, covers)
}

#[test]
fn a_token_that_rises_by_itself_requires_nothing() {
    let (session, covers) = moving();
    for sequence_number in 3..100 {
        observe(&session, &format!("a=v{sequence_number};sn={sequence_number}"));
    }
    assert_eq!(alone(&session, covers), COVERED);
    assert_eq!(session.snapshot(&[]).sync_token, Some(HeaderValue::from_static("a=v99")));
}

#[test]
fn a_change_outdates_what_does_not_cover_its_token_but_not_what_showed_it() {
    let (session, covers) = moving();
    let revealed = reveal(&session, "a=two;sn=3");
    assert_eq!(alone(&session, covers), CHANGED);
    assert_eq!(alone(&session, revealed), COVERED, "the latest revelation");
    assert_eq!(session.response_line(), Some(HeaderValue::from_static("a=two;sn=3")));
    let next = reveal(&session, "a=three;sn=4");
    assert_eq!((alone(&session, revealed), alone(&session, next)), (CHANGED, COVERED));
}

#[test]
fn the_latest_revelation_is_told_by_its_number_even_where_tokens_are_equal() {
    let (session, _) = moving();
    let first = reveal(&session, "a=two;sn=3");
    let second = session.snapshot(&[]);
    let third = session.snapshot(&[]);
    let received = receive(&session, &second, "a=three;sn=4");
    let second = session.reveal(&second, &received, Revelation::Raises, OrderScope::Upstream);
    let received = receive(&session, &third, "a=three;sn=4");
    let third = session.reveal(&third, &received, Revelation::Raises, OrderScope::Upstream);
    assert_eq!((alone(&session, first), alone(&session, second)), (CHANGED, CHANGED));
    assert_eq!(
        alone(&session, third),
        CHANGED,
        "another revelation came between its sending and its arrival"
    );
}

#[test]
fn what_was_sent_without_newest_never_stands_in_for_its_token() {
    let (session, _) = moving();
    let values = [PresentedToken::new("a", "elsewhere").expect("well-formed")];
    let snapshot = session.snapshot(&values);
    let received = receive(&session, &snapshot, "a=two;sn=3");
    assert_eq!(session.reveal(&snapshot, &received, Revelation::Raises, OrderScope::Upstream).revelation, 0);
}

#[test]
fn an_included_change_raises_nothing_and_counts_as_revelation() {
    let (session, _) = moving();
    let first = reveal(&session, "a=two;sn=3");
    let covers = session.snapshot(&[]).covers;
    let snapshot = session.snapshot(&[]);
    let received = receive(&session, &snapshot, "a=three;sn=4");
    let included = session.reveal(&snapshot, &received, Revelation::Included, OrderScope::Upstream);
    assert_eq!(alone(&session, covers), COVERED, "required is what it was");
    assert_eq!((alone(&session, first), alone(&session, included)), (CHANGED, COVERED));
}

#[test]
fn where_tokens_do_not_tell_the_order_of_sending_does() {
    for line in ["", "a=constant;sn=1"] {
        let session = Session::<&str>::default();
        let fields = if line.is_empty() { HeaderMap::new() } else { fields(line) };
        let stored = session.snapshot(&[]).covers;
        let snapshot = session.snapshot(&[]);
        let under_way = session.snapshot(&[]).covers;
        let tokens = session.observe(snapshot.covers, &fields, NOW);
        let revealed = session.reveal(
            &snapshot,
            &Received { tokens, ..Received::default() },
            Revelation::Raises,
            OrderScope::Upstream,
        );
        assert_eq!((alone(&session, stored), alone(&session, under_way)), (CHANGED, CHANGED), "{line}");
        assert_eq!(alone(&session, revealed), COVERED, "{line}");
        assert_eq!(alone(&session, session.snapshot(&[]).covers), COVERED, "{line}");
    }
}

#[test]
fn without_tokens_a_change_of_a_resource_by_itself_outdates_only_what_was_sent_for_it() {
    for line in ["", "a=constant;sn=1"] {
        let session = Session::<&str>::default();
        let fields = if line.is_empty() { HeaderMap::new() } else { fields(line) };
        session.observe(session.snapshot(&[]).covers, &fields, NOW);
        let one = |covers| {
            let look_up = || IndexLookUp::Any(1);
            session.verdict(covers, &PresentedTokens::NOTHING, OrderScope::Resource(1), look_up, |_| false)
        };
        let other = |covers| {
            let look_up = || IndexLookUp::Any(2);
            session.verdict(covers, &PresentedTokens::NOTHING, OrderScope::Resource(2), look_up, |_| false)
        };
        let reveal = |snapshot: &SessionSnapshot| {
            let received = Received { tokens: tokens_of(&fields), ..Received::default() };
            session.reveal(snapshot, &received, Revelation::Raises, OrderScope::Resource(1))
        };
        let stored = session.snapshot(&[]).covers;
        let snapshot = session.snapshot(&[]);
        let under_way = session.snapshot(&[]);
        let revealed = reveal(&snapshot);
        assert_eq!((one(stored), one(under_way.covers)), (CHANGED, CHANGED), "{line}");
        assert_eq!((other(stored), other(under_way.covers)), (COVERED, COVERED), "{line}");
        assert_eq!(one(revealed), COVERED, "{line}: it showed the change itself");
        assert_eq!(one(session.snapshot(&[]).covers), COVERED, "{line}");
        assert_eq!(one(reveal(&under_way)), CHANGED, "{line}: which of the two is newer is not known");
        assert_eq!(one(revealed), CHANGED, "{line}");
    }
}

/// A session that is member 1 or 2 of a fleet and has read its entries up to 10.
fn member(number: u128) -> Session<&'static str> {
    let session = Session::default();
    session.enable_fleet(number, Duration::from_secs(5));
    session.join_fleet(10, &[], NOW);
    session
}

#[test]
fn what_another_member_sent_covers_what_it_had_sent_and_read() {
    let (one, other) = (member(1), member(2));
    assert_eq!(other.fleet_coverage(Coverage::default()), None, "sent before it joined");
    let first = one.fleet_coverage(one.snapshot(&[]).covers).unwrap();
    assert_eq!((first.position, first.tokens.len()), (10, 0));
    let map = |fleet: &FleetCoverage| other.map_fleet(fleet, 0, NOW).unwrap();
    assert_eq!(alone(&other, map(&first)), COVERED);
    // A write of a third member, which both read.
    for session in [&one, &other] {
        session.observe_fleet(&tokens_of(&fields("a=w;sn=7")), NOW);
        session.close_fleet_write(FleetWrite { member: 3, serial: 1 }, "/kv/a", 11);
        session.fleet_heard(11);
    }
    let look_up = || IndexLookUp::Key("/kv/a".len() as u64);
    let of_written =
        |covers| other.verdict(covers, &PresentedTokens::NOTHING, OrderScope::Upstream, look_up, |_| true);
    assert_eq!(of_written(map(&first)), CoverageVerdict::Outdated(UncoveredReason::OwnWrite));
    let second = one.fleet_coverage(one.snapshot(&[]).covers).unwrap();
    assert_eq!(
        (second.position, second.tokens[0].sequence_number()),
        (11, 7),
        "it sent the token of the write"
    );
    assert_eq!(of_written(map(&second)), COVERED);
    // An own write, until another has read it.
    let write = other.open_write("/kv/a");
    other.close_write(write, WriteOutcome::Happened, |footprint| footprint);
    assert_eq!(of_written(map(&second)), CoverageVerdict::Outdated(UncoveredReason::OwnWrite));
    let own = FleetWrite { member: 2, serial: write.number() };
    other.own_write_announced(own, 12);
    one.close_fleet_write(own, "/kv/a", 12);
    one.fleet_heard(12);
    let third = one.fleet_coverage(one.snapshot(&[]).covers).unwrap();
    assert_eq!(of_written(map(&third)), COVERED);
}

#[test]
fn a_record_lacks_what_callers_were_shown_since() {
    let (one, other) = (member(1), member(2));
    for line in ["a=x;sn=1", "a=y;sn=5"] {
        observe(&one, line);
    }
    let record = one.fleet_coverage(one.snapshot(&[]).covers).unwrap();
    let mapped = other.map_fleet(&record, 0, NOW).unwrap();
    assert_eq!(alone(&other, mapped), COVERED);
    reveal(&other, "a=changed;sn=6");
    assert_eq!(alone(&other, mapped), CHANGED);
}

#[test]
fn entries_that_may_be_lost_leave_nothing_covered() {
    let session = member(1);
    let covers = session.snapshot(&[]).covers;
    let of_one = |covers| {
        let look_up = || IndexLookUp::Any(1);
        session.verdict(covers, &PresentedTokens::NOTHING, OrderScope::Resource(1), look_up, |_| false)
    };
    assert_eq!((alone(&session, covers), of_one(covers)), (COVERED, COVERED));
    session.join_fleet(3, &[], NOW);
    assert_eq!((alone(&session, covers), of_one(covers)), (CHANGED, CHANGED));
    let covers = session.snapshot(&[]).covers;
    assert_eq!((alone(&session, covers), of_one(covers)), (COVERED, COVERED));
}

#[test]
fn own_tags_are_remembered_up_to_a_bound() {
    let session = Session::<&str>::default();
    for number in 0..=MAX_OWN_TAGS {
        session.remember_own_tag(format!("\"{number}\"").as_bytes());
    }
    assert!(!session.wrote(b"\"0\"") && session.wrote(b"\"1\""));
}

#[test]
fn the_answer_to_a_write_demands_that_write_of_who_presents_its_token() {
    let (session, _) = moving();
    reveal(&session, "a=two;sn=3");
    let covers = session.snapshot(&[]).covers;
    let write = session.snapshot(&[]);
    let received = receive(&session, &write, "a=own;sn=4");
    let line = session.response_line_after_write(&received.tokens);
    assert_eq!(line, Some(HeaderValue::from_static("a=own;sn=4")));
    assert_eq!(
        session.response_line(),
        Some(HeaderValue::from_static("a=two;sn=3")),
        "no other caller is told"
    );
    assert_eq!(alone(&session, covers), COVERED);
    assert_eq!(verdict(&session, covers, &fields("a=own")), UNVERIFIED);
}

#[test]
fn what_was_sent_counts_and_not_what_was_received() {
    let (session, covers) = moving();
    reveal(&session, "a=new;sn=7");
    assert_eq!(alone(&session, covers), CHANGED);
    let next = session.snapshot(&[]);
    assert_eq!(next.sync_token, Some(HeaderValue::from_static("a=new")));
    assert_eq!(alone(&session, next.covers), COVERED);
    assert_eq!(session.response_line(), Some(HeaderValue::from_static("a=new;sn=7")));
}

#[test]
fn an_unknown_value_of_a_caller_leaves_nothing_covered_until_it_was_learned() {
    let (session, covers) = moving();
    let unknown = CoverageVerdict::Unverified(UncoveredReason::UnknownSyncToken);
    assert_eq!(verdict(&session, covers, &fields("a=one")), COVERED);
    assert_eq!(verdict(&session, covers, &fields("a=from-elsewhere")), unknown);
    observe(&session, "a=from-elsewhere;sn=9");
    assert_eq!(verdict(&session, covers, &fields("a=from-elsewhere")), UNVERIFIED);
    let learned = session.snapshot(&[]).covers;
    assert_eq!(verdict(&session, learned, &fields("a=from-elsewhere")), COVERED);
    assert_eq!(verdict(&session, learned, &fields("a=one")), COVERED, "an older value too");
}

#[test]
fn a_tokenless_unknown_write_stays_open_until_it_settles() {
    let session = Session::<&str>::default();
    let covers = session.snapshot(&[]).covers;
    let write = session.open_write("k");
    assert_eq!(session.close_write(write, WriteOutcome::Unknown, |f| f), WriteClosed::StaysOpen);
    let open = CoverageVerdict::Outdated(UncoveredReason::OpenWrite);
    assert_eq!(verdict(&session, session.snapshot(&[]).covers, &HeaderMap::new()), open);
    session.settle_write(write);
    let own = CoverageVerdict::Outdated(UncoveredReason::OwnWrite);
    assert_eq!(verdict(&session, covers, &HeaderMap::new()), own);
    assert_eq!(verdict(&session, session.snapshot(&[]).covers, &HeaderMap::new()), CoverageVerdict::Covered);
}

#[test]
fn with_tokens_an_unknown_write_closes_as_happened() {
    let session = Session::<&str>::default();
    observe(&session, "a=new;sn=7");
    let write = session.open_write("k");
    let closed = session.close_write(write, WriteOutcome::Unknown, |f| f);
    assert_eq!(closed, WriteClosed::StaysOpen, "the token may be a constant");
    session.settle_write(write);
    observe(&session, "a=newer;sn=8");
    let covers = session.snapshot(&[]).covers;
    let write = session.open_write("k");
    assert_eq!(session.close_write(write, WriteOutcome::Unknown, |f| f), WriteClosed::Closed { position: 2 });
    let own = CoverageVerdict::Outdated(UncoveredReason::OwnWrite);
    assert_eq!(verdict(&session, covers, &HeaderMap::new()), own);
}

#[test]
fn after_a_reset_no_older_coverage_holds() {
    let session = Session::<&str>::default();
    observe(&session, "a=new;sn=7");
    let covers = session.snapshot(&[]).covers;
    session.reset();
    assert_eq!(verdict(&session, covers, &HeaderMap::new()), CHANGED);
    assert_eq!(session.response_line(), None);
    observe(&session, "a=restored;sn=2");
    assert_eq!(session.response_line(), Some(HeaderValue::from_static("a=restored;sn=2")));
}

#[test]
fn an_answer_that_was_under_way_at_a_reset_tells_nothing() {
    let session = Session::<&str>::default();
    let under_way = session.snapshot(&[]).covers;
    let learning = [PresentedToken::new("a", "elsewhere").expect("well-formed")];
    session.reset();
    assert!(session.observe(under_way, &fields("a=before;sn=9"), NOW).is_empty());
    assert!(!session.learn(under_way, &learning, &fields("a=before;sn=9"), NOW));
    assert_eq!((session.response_line(), session.snapshot(&[]).sync_token), (None, None));
    assert!(matches!(session.requirement(&fields("a=before")), PresentedTokens::Unknown(_)));
    assert!(matches!(session.requirement(&fields("a=elsewhere")), PresentedTokens::Unknown(_)));
    let covers = session.snapshot(&[]).covers;
    session.observe(covers, &fields("a=after;sn=2"), NOW);
    assert!(session.learn(covers, &learning, &fields("a=after;sn=2"), NOW));
    assert_eq!(session.response_line(), Some(HeaderValue::from_static("a=after;sn=2")));
}

#[test]
fn what_was_immutable_before_a_reset_is_to_be_asked_for_after_it() {
    let session = Session::<&str>::default();
    let covers = session.snapshot(&[]).covers.immutable();
    reveal(&session, "a=new;sn=7");
    assert_eq!(verdict(&session, covers, &HeaderMap::new()), CoverageVerdict::Covered);
    session.reset();
    assert_eq!(verdict(&session, covers, &HeaderMap::new()), CHANGED);
    let covers = session.snapshot(&[]).covers.immutable();
    assert_eq!(verdict(&session, covers, &HeaderMap::new()), CoverageVerdict::Covered);
}

#[test]
fn with_too_many_ids_nothing_is_covered() {
    let session = Session::<&str>::default();
    for number in 0..=super::super::aggregate::MAX_IDS {
        observe(&session, &format!("id{number}=v;sn=1"));
    }
    assert_eq!(verdict(&session, session.snapshot(&[]).covers, &HeaderMap::new()), CHANGED);
}

#[tokio::test]
async fn waiting_for_others_ends_when_the_last_of_them_closes() {
    let session = std::sync::Arc::new(Session::<&str>::default());
    let mine = session.open_write("k");
    let other = session.open_write("k");
    let elsewhere = session.open_write("other");
    let mut waiting = std::pin::pin!(session.others_closed(Some(mine), |footprint| *footprint == "k"));
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    let _ = session.close_write(elsewhere, WriteOutcome::Happened, |f| f);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    let _ = session.close_write(other, WriteOutcome::DidNotHappen, |f| f);
    assert!(futures_util::poll!(waiting.as_mut()).is_ready());
}
