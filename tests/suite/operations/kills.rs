//! The program killed and started again, before an origin whose replicas lag.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tagalong::internals::clock::Clock;
use tagalong::internals::emulator::counts::Counts;
use tagalong::internals::emulator::faults::act::Faults;
use tagalong::internals::emulator::faults::document::PlanDocument;
use tagalong::internals::emulator::serve::serve;
use tagalong::internals::emulator::service::Service;
use tagalong::internals::emulator::{Emulator, EmulatorSettings};
use tokio_util::sync::CancellationToken;

use super::process::{Process, all, connect};

async fn lagging_emulator() -> SocketAddr {
    let settings =
        EmulatorSettings { replicas: 3, settle: Duration::from_secs(3), ..EmulatorSettings::default() };
    emulator_with(settings).await
}

/// A store without key-values.
pub(super) async fn emulator() -> SocketAddr {
    emulator_with(EmulatorSettings::default()).await
}

async fn emulator_with(settings: EmulatorSettings) -> SocketAddr {
    let emulator = Emulator::new(settings, Clock::System, 1);
    let faults = Arc::new(Faults::new(PlanDocument::default(), 1));
    let service = Service::new(emulator, faults, Arc::new(Counts::default()), Clock::System);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, CancellationToken::new(), move |request| {
        let service = service.clone();
        async move { service.answer(request).await }
    }));
    address
}

/// The answer to one request on a connection of its own.
fn answer(address: SocketAddr, method: &str, fields: &str, body: &str) -> String {
    let mut stream = connect(address);
    write!(
        stream,
        "{method} /kv/k?api-version=2026-04-01 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{fields}\r\n{body}"
    )
    .unwrap();
    all(stream)
}

/// The value that a caller without a token is shown, if the key-value is there.
fn value(address: SocketAddr) -> Option<usize> {
    let answer = answer(address, "GET", "", "");
    let (_, rest) = answer.split_once("\"value\":\"")?;
    rest.split('"').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sidecar_shows_nothing_older_than_before() {
    let origin = lagging_emulator().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens").display().to_string();
    let more = ["--profile", "app-configuration", "--credential", "none", "--sync-token-file", &file];
    let kills = std::env::var("KILLS").map_or(10, |kills| kills.parse().expect("a number"));
    for kill in 1..=kills {
        let process = Process::start(origin, &more);
        let body = format!("{{\"value\":\"{kill}\"}}");
        let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        assert!(answer(process.callers, "PUT", &fields, &body).starts_with("HTTP/1.1 200 "));
        assert_eq!(value(process.callers), Some(kill));
        process.signal("-KILL");
        process.ended();
        let again = Process::start(origin, &more);
        assert_eq!(value(again.callers), Some(kill), "after kill {kill}");
        again.signal("-KILL");
        again.ended();
    }
}
