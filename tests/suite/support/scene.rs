//! One scripted origin, one sidecar before it, one clock that both go by.

use std::time::Duration;

use tagalong::internals::clock::{Clock, Timestamp};

use super::answer::Answer;
use super::caller::{Caller, Response};
use super::origin::{Origin, Recorded};
use super::sidecar::Sidecar;

/// Sunday, 22 November 2026, midnight UTC: where every test's clock starts.
pub(crate) const START: Timestamp = Timestamp::from_unix_seconds(1_795_305_600);

/// The parts of one end-to-end test.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) origin: Origin,
    pub(crate) sidecar: Sidecar,
    pub(crate) clock: Clock,
}

impl Scene {
    /// The generic profile under `sharing = "rfc9111"`: `caching.md` and nothing else.
    pub(crate) async fn rfc9111() -> Self {
        Self::with(&["upstream.sharing=rfc9111"]).await
    }

    /// The generic profile under `sharing = "guarded"`.
    pub(crate) async fn guarded() -> Self {
        Self::with(&[]).await
    }

    /// The generic profile with these settings, each `KEY=VALUE`.
    pub(crate) async fn with(settings: &[&str]) -> Self {
        let clock = Clock::manual(START);
        let origin = Origin::start(clock.clone()).await;
        let sidecar = Sidecar::start(origin.address, clock.clone(), settings).await;
        Self { origin, sidecar, clock }
    }

    /// Everything in memory, the clock being tokio's: for `#[tokio::test(start_paused = true)]`, where time passes when
    /// nothing else can happen.
    pub(crate) fn paused(settings: &[&str]) -> Self {
        let clock = Clock::tokio(START);
        let (origin, dial) = Origin::in_memory(clock.clone());
        let sidecar = Sidecar::in_memory(dial, clock.clone(), settings);
        Self { origin, sidecar, clock }
    }

    /// The next answer to a request with this target.
    pub(crate) fn on(&self, target: &str, answer: impl Into<Answer>) {
        self.origin.on(target, answer);
    }

    /// Sends a request in the short form on a connection of its own.
    pub(crate) async fn send(&self, request: &str) -> Response {
        self.caller().await.send(request).await
    }

    /// A plain GET on a connection of its own.
    pub(crate) async fn get(&self, target: &str) -> Response {
        self.send(&format!("GET {target}")).await
    }

    /// A new connection.
    pub(crate) async fn caller(&self) -> Caller {
        self.sidecar.caller().await
    }

    /// Time since the test began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.now().since(START)
    }

    /// Comes back when whatever callers have sent before has been read: answers of the sidecar are asked for on a connection
    /// of its own, a few times over.
    pub(crate) async fn settled(&self) {
        let mut caller = self.caller().await;
        for _ in 0..4 {
            let response = caller.send("GET /settled\nCache-Control: only-if-cached").await;
            assert_eq!(response.status, 504);
        }
    }

    /// Time passes, for the sidecar and for the dates that the origin writes.
    pub(crate) fn pass_seconds(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// How many requests for this target reached the origin.
    pub(crate) fn asked(&self, target: &str) -> usize {
        self.origin.requests_for(target).len()
    }

    /// The last request for this target that reached the origin.
    pub(crate) fn last_request(&self, target: &str) -> Recorded {
        self.origin.requests_for(target).pop().expect("the origin was asked")
    }
}
