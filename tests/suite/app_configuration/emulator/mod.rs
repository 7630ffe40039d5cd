//! The emulator, in memory and on sockets, against tables of the service's contract: endpoint × condition ×
//! api-version.

mod authentication;
mod bad_input;
mod concurrency;
mod consistency;
mod key_values;
mod lists;
mod revisions;
mod snapshots;
mod sockets;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use serde_json::Value;
use tagalong::internals::clock::{Clock, Timestamp};
use tagalong::internals::emulator::{Emulator, EmulatorSettings};

/// Fri, 21 Nov 2025 10:00:00 GMT.
pub(crate) const START: Timestamp = Timestamp::from_unix_seconds(1_763_719_200);

/// Every stable api-version of the service, oldest first.
pub(crate) const VERSIONS: [&str; 9] = [
    "1.0",
    "2022-11-01-preview",
    "2023-10-01",
    "2023-11-01",
    "2024-09-01",
    "2025-07-01-preview",
    "2026-04-01",
    "2026-05-01-preview",
    "2026-08-01-preview",
];

/// An emulator with a manual clock.
pub(crate) struct Origin {
    pub(crate) emulator: Emulator,
    pub(crate) clock: Clock,
}

/// A response of the emulator.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Origin {
    pub(crate) fn new(settings: EmulatorSettings) -> Self {
        let clock = Clock::manual(START);
        Self { emulator: Emulator::new(settings, clock.clone(), 1), clock }
    }

    /// Sends a request. Fields have the form `name: value`. A target without an api-version gets the newest stable one.
    pub(crate) async fn send(&self, method: &str, target: &str, fields: &[&str], body: &str) -> Reply {
        let target = if target.contains("api-version") {
            target.to_owned()
        } else {
            format!("{target}{}api-version=2026-04-01", if target.contains('?') { "&" } else { "?" })
        };
        self.send_exactly(method, &target, fields, body.as_bytes()).await
    }

    pub(crate) async fn send_exactly(
        &self,
        method: &str,
        target: &str,
        fields: &[&str],
        body: &[u8],
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(target).header("host", "127.0.0.1:8483");
        for field in fields {
            let (name, value) = field.split_once(':').unwrap();
            request = request.header(name, value.trim_start());
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let (head, body) = self.emulator.respond(request).await.into_parts();
        Reply { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.send("GET", target, &[], "").await
    }

    pub(crate) async fn put(&self, target: &str, value: &str) -> Reply {
        let body = serde_json::json!({ "value": value }).to_string();
        self.send("PUT", target, &["content-type: application/json"], &body).await
    }

    /// Puts `count` keys `prefix000…`.
    pub(crate) async fn fill(&self, prefix: &str, count: usize) {
        for number in 0..count {
            assert_eq!(self.put(&format!("/kv/{prefix}{number:03}"), "v").await.status, 200);
        }
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// A field of each item.
    pub(crate) fn items(&self, field: &str) -> Vec<Value> {
        self.json()["items"].as_array().unwrap().iter().map(|item| item[field].clone()).collect()
    }

    /// `sn` of the only token.
    pub(crate) fn sequence_number(&self) -> u64 {
        self.header("sync-token").split_once(";sn=").unwrap().1.parse().unwrap()
    }

    /// The target of the next page, from `Link`. It must equal `@nextLink` of the body, if there is a body.
    pub(crate) fn next(&self) -> Option<String> {
        let link = self.header("link");
        let next = link
            .strip_prefix('<')
            .and_then(|rest| rest.split_once(">; rel=\"next\""))
            .map(|(next, _)| next.to_owned());
        if !self.body.is_empty() && self.status == 200 {
            assert_eq!(self.json()["@nextLink"].as_str(), next.as_deref());
        }
        next
    }
}
