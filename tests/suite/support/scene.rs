//! One scripted origin, one sidecar in front of it, and one clock for both.

use std::time::Duration;

use tagalong::internals::clock::{Clock, Timestamp};

use super::answer::Answer;
use super::caller::{Caller, Response};
use super::origin::{Origin, Recorded};
use super::sidecar::Sidecar;

/// The start of every test's clock: Sunday, 22 November 2026, midnight UTC.
pub(crate) const START: Timestamp = Timestamp::from_unix_seconds(1_795_305_600);

/// The parts of one end-to-end test.
pub(crate) struct Scene {
    pub(crate) origin: Origin,
    pub(crate) sidecar: Sidecar,
    pub(crate) clock: Clock,
}

impl Scene {
    /// The generic profile under `sharing = "rfc9111"`: the rules of RFC 9111 without the additions of `guarded`.
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

    /// A scene in memory with tokio's clock, for `#[tokio::test(start_paused = true)]`: time advances when every task
    /// waits.
    pub(crate) fn paused(settings: &[&str]) -> Self {
        let clock = Clock::tokio(START);
        let (origin, dial) = Origin::in_memory(clock.clone());
        let sidecar = Sidecar::in_memory(dial, clock.clone(), settings);
        Self { origin, sidecar, clock }
    }

    /// A scene on sockets by the machine's own clock, for measurements by hand.
    pub(crate) async fn in_real_time(settings: &[&str]) -> Self {
        let clock = Clock::System;
        let origin = Origin::start(clock.clone()).await;
        let sidecar = Sidecar::start(origin.address, clock.clone(), settings).await;
        Self { origin, sidecar, clock }
    }

    /// Adds an answer to the script of this target.
    pub(crate) fn on(&self, target: &str, answer: impl Into<Answer>) {
        self.origin.on(target, answer);
    }

    /// Sends a request in the short form on its own connection.
    pub(crate) async fn send(&self, request: &str) -> Response {
        self.caller().await.send(request).await
    }

    /// Sends a plain GET on its own connection.
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

    /// Waits until the sidecar has read everything that callers sent before: it makes a few requests on another
    /// connection that the sidecar answers itself.
    pub(crate) async fn settled(&self) {
        let mut caller = self.caller().await;
        for _ in 0..4 {
            let response = caller.send("GET /settled\nCache-Control: only-if-cached").await;
            assert_eq!(response.status, 504);
        }
    }

    /// Stores an answer for this target, and lets time pass.
    pub(crate) async fn store_aged(&self, target: &str, answer: impl Into<Answer>, seconds: u64) {
        self.on(target, answer);
        self.get(target).await;
        self.pass_seconds(seconds);
    }

    /// Advances the clock of the sidecar and of the origin's dates.
    pub(crate) fn pass_seconds(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The number of requests for this target that reached the origin.
    pub(crate) fn asked(&self, target: &str) -> usize {
        self.origin.requests_for(target).len()
    }

    /// The last request for this target that reached the origin.
    pub(crate) fn last_request(&self, target: &str) -> Recorded {
        self.origin.requests_for(target).pop().expect("the origin was asked")
    }
}
