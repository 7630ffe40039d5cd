//! Fleets: several sidecars that share what they know through an engine, before a store whose replicas lag.

pub(crate) mod engine;
mod mirrors;
pub(crate) mod origin;
mod scenes;
mod simulation;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tagalong::internals::clock::Clock;

use crate::support::caller::Response;
use crate::support::scene::START;
use crate::support::sidecar::Sidecar;
use engine::EngineModel;
use origin::{LaggingStore, StoreDial, name};

/// How long replicas lag at most.
const LAG: Duration = Duration::from_secs(3);

/// What the scenes draw with; simulations have seeds of their own.
const SEED: u64 = 1;

/// The lease of all tests.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// Some sidecars, their store and their engine, in memory with paused time.
pub(crate) struct Fleet {
    store: Arc<LaggingStore>,
    pub(crate) engine: Arc<EngineModel>,
    pub(crate) sidecars: Vec<Arc<Sidecar>>,
    settings: Vec<String>,
    clock: Clock,
    // Dropped last.
    _directory: tempfile::TempDir,
}

impl Fleet {
    /// So many members, with these settings, that have a live lease.
    pub(crate) async fn of(members: usize, settings: &[&str]) -> Self {
        // What members, engine and store draw on this thread.
        fastrand::seed(SEED);
        let directory = tempfile::tempdir().unwrap();
        let key_file = directory.path().join("key");
        std::fs::write(&key_file, STANDARD.encode([7; 32])).unwrap();
        let key_file = format!("fleet.key_file={}", key_file.display());
        let settings = [
            "upstream.profile=app-configuration",
            "upstream.credential.kind=none",
            "upstream.freshness=30s",
            "upstream.refresh_ahead=false",
            "fleet.url=redis://engine.test",
            &key_file,
        ]
        .into_iter()
        .chain(settings.iter().copied());
        let clock = Clock::tokio(START);
        let mut fleet = Self {
            store: LaggingStore::new(clock.clone(), LAG),
            engine: EngineModel::new(),
            sidecars: Vec::new(),
            settings: settings.map(str::to_owned).collect(),
            clock,
            _directory: directory,
        };
        for _ in 0..members {
            fleet.add(&[]);
        }
        fleet.joined().await;
        fleet
    }

    /// Adds a member.
    fn add(&mut self, more: &[&str]) -> usize {
        let clock = self.clock.clone();
        self.add_with_clock(clock, more)
    }

    fn add_with_clock(&mut self, clock: Clock, more: &[&str]) -> usize {
        let settings: Vec<&str> =
            self.settings.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let engine = self.engine.for_member(self.sidecars.len());
        let dial = Arc::new(StoreDial(Arc::clone(&self.store)));
        self.sidecars.push(Arc::new(Sidecar::in_fleet(dial, clock, &settings, Some(engine))));
        self.sidecars.len() - 1
    }

    /// Waits until every member has a live lease.
    async fn joined(&self) {
        for sidecar in &self.sidecars {
            let mut is_live = sidecar.member().is_live();
            is_live.wait_for(|is_live| *is_live).await.unwrap();
        }
    }

    async fn send(&self, member: usize, request: &str) -> Response {
        self.sidecars[member].caller().await.send(request).await
    }

    /// The version that a member shows of a key, and what it says of how it came to know.
    async fn read(&self, member: usize, key: usize) -> (Option<u64>, Response) {
        let answer = self.send(member, &format!("GET {}", target(key))).await;
        (version(&answer), answer)
    }

    pub(crate) async fn write(&self, member: usize, key: usize) -> u64 {
        let answer = self.send(member, &put(key)).await;
        assert_eq!(answer.status, 200);
        version(&answer).unwrap()
    }

    /// Lets what was announced be heard.
    pub(crate) async fn heard(&self) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    fn metric(&self, member: usize, name: &str, labels: &str) -> f64 {
        // In the order of their names.
        let mut labels: Vec<&str> = labels.split(',').filter(|label| !label.is_empty()).collect();
        labels.push("upstream=\"main\"");
        labels.sort_unstable();
        self.sidecars[member].metric(&format!("{name}{{{}}}", labels.join(","))).unwrap_or_default()
    }
}

pub(crate) fn target(key: usize) -> String {
    format!("/kv/{}?api-version=2026-04-01", name(key))
}

fn put(key: usize) -> String {
    format!("PUT {}\nContent-Type: application/json\n\n{{\"value\":\"\"}}", target(key))
}

fn version(answer: &Response) -> Option<u64> {
    let json: serde_json::Value = serde_json::from_str(answer.text()).ok()?;
    json["value"].as_str()?.parse().ok()
}

/// The items of a list and their versions.
fn versions(answer: &Response) -> Vec<(String, u64)> {
    let json: serde_json::Value = serde_json::from_str(answer.text()).expect("JSON");
    let items = json["items"].as_array().expect("a list");
    let of = |item: &serde_json::Value| {
        (item["key"].as_str().unwrap().to_owned(), item["value"].as_str().unwrap().parse().unwrap())
    };
    items.iter().map(of).collect()
}
