//! What only the answer of the origin shows: `explain` cannot say it before. It says it afterwards, to the operator who has seen the
//! answer.

use tagalong::internals::decide::Unreachable;
use tagalong::internals::decide::storable::NotStored;

use super::retrievals::RFC9111;
use super::{ExplainedCases, pass};
use crate::support::answer::Answer;
use crate::support::scene::Scene;

const STALE_AFTER_10_S: &str = "200\nCache-Control: max-age=10\nETag: \"1\"\n\nx";

pub(super) async fn all(cases: &mut ExplainedCases) {
    for reason in NotStored::all().into_iter().filter(|reason| reason.is_lasting()) {
        cases.play(async |cases| not_stored(cases, reason).await).await;
    }
    for why in Unreachable::all() {
        if let Some(answer) = failing(why) {
            cases.play(async |cases| failed(cases, why, answer).await).await;
        }
    }
}

/// The answer is not stored for this reason, which the next one will share.
async fn not_stored(cases: &mut ExplainedCases, reason: NotStored) {
    let (fields, request) = match reason {
        NotStored::NoStore => ("Cache-Control: no-store", ""),
        NotStored::Private => ("Cache-Control: private", ""),
        // A scheme of which it is not known that it names one caller: such a response has no partition of its own.
        NotStored::Authorization => ("Cache-Control: max-age=60", "\nAuthorization: Other one"),
        NotStored::Vary => ("Cache-Control: max-age=60\nVary: *", ""),
        NotStored::NoLifetimeNoValidator => ("Cache-Control: no-cache", ""),
        NotStored::BodyTooLarge => ("Cache-Control: max-age=60\nX-Long: 1", ""),
        other => panic!("no case shows {other:?}"),
    };
    let scene =
        Scene::paused(&["upstream.sharing=rfc9111", "store.body_limit=1KiB", "upstream.refresh_ahead=false"]);
    let body = if reason == NotStored::BodyTooLarge { "x".repeat(5_000) } else { "x".to_owned() };
    scene.origin.otherwise(format!("200\n{fields}\n\n{body}"));
    let request = format!("GET /a{request}");
    let answer = cases.hold(&scene.sidecar, &request).await;
    assert_eq!(answer.cache_status().detail.as_deref(), Some(reason.as_str()));
    let told = cases.told(&scene.sidecar, &request).await;
    assert_eq!(told["forward"]["hit_for_miss"], reason.as_str(), "{told:#}");
}

/// What the origin does to give no usable answer of this kind; `None` where another case shows it.
fn failing(why: Unreachable) -> Option<Answer> {
    match why {
        Unreachable::TimedOut => {
            Some(Answer::delayed(std::time::Duration::from_secs(3_600), STALE_AFTER_10_S))
        }
        Unreachable::Broken => {
            Some(Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"))
        }
        Unreachable::Throttled => Some("429\nRetry-After: 30\n\nslow down".into()),
        Unreachable::ServerError => Some("500\n\nbroken".into()),
        // See `retrievals`; the last two are no failures of the origin.
        Unreachable::Connect | Unreachable::Overloaded | Unreachable::Behind => None,
    }
}

/// A stale response was given, because the origin failed.
async fn failed(cases: &mut ExplainedCases, why: Unreachable, failing: Answer) {
    let scene = Scene::paused(&RFC9111);
    scene.origin.otherwise(STALE_AFTER_10_S);
    scene.get("/a").await;
    let told = cases.told(&scene.sidecar, "GET /a").await;
    assert!(told["upstream"]["last_failure"].is_null(), "{told:#}");
    pass(11).await;
    scene.origin.otherwise(failing);
    let answer = scene.get("/a").await;
    assert_eq!((answer.status, answer.cache_status().detail.as_deref()), (200, Some(why.as_str())));
    pass(2).await;
    let told = cases.told(&scene.sidecar, "GET /a").await;
    let failure = &told["upstream"]["last_failure"];
    assert_eq!((failure["word"].as_str(), failure["ago_seconds"].as_u64()), (Some(why.as_str()), Some(2)));
}
