//! Counts of requests by kind and status. With them a test can assert "1,000 client calls, 1 origin call".

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use serde_json::Value;

const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "DELETE", "PATCH", "POST", "OPTIONS"];

const STATUSES: [u16; 20] =
    [200, 201, 204, 206, 304, 400, 401, 403, 404, 405, 409, 411, 412, 413, 414, 415, 416, 429, 500, 503];

/// Counters by kind and status. There are few kinds, because all other methods, paths and statuses count as `other`.
#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<String, BTreeMap<String, u64>>>);

impl Counts {
    /// Counts one request. `status` is `None` if the connection ended without an answer.
    pub fn add(&self, method: &Method, path: &str, status: Option<StatusCode>) {
        let method = METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
        let status = match status {
            Some(status) if STATUSES.contains(&status.as_u16()) => status.as_str().to_owned(),
            Some(_) => "other".to_owned(),
            None => "none".to_owned(),
        };
        let mut counts = self.lock();
        let statuses = counts.entry(format!("{method} {}", resource_of(path))).or_default();
        *statuses.entry(status).or_default() += 1;
    }

    /// Sets every counter to zero. A concurrent request is counted before or after that.
    pub fn reset(&self) {
        self.lock().clear();
    }

    /// `{"total": 3, "requests": {"GET /kv/{key}": {"200": 2, "304": 1}}}`; counters of zero are left out. `none`
    /// counts the connections that ended without an answer.
    pub fn report(&self) -> Value {
        let counts = self.lock();
        let total: u64 = counts.values().flat_map(BTreeMap::values).sum();
        serde_json::json!({ "total": total, "requests": *counts })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, u64>>> {
        // No panic can leave the counts half changed, so the content of a poisoned lock is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The resource that a path, as sent, names.
fn resource_of(path: &str) -> &'static str {
    let (collection, name) = match path.get(1..).and_then(|rest| rest.split_once('/')) {
        Some((collection, name)) => (collection, (!name.is_empty()).then_some(name)),
        None => (path.get(1..).unwrap_or_default(), None),
    };
    match (collection, name) {
        ("kv", Some(_)) => "/kv/{key}",
        ("locks", Some(_)) => "/locks/{key}",
        ("snapshots", Some(_)) => "/snapshots/{name}",
        ("kv", None) => "/kv",
        ("keys", None) => "/keys",
        ("labels", None) => "/labels",
        ("revisions", None) => "/revisions",
        ("snapshots", None) => "/snapshots",
        ("operations", None) => "/operations",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_kind_and_status() {
        let counts = Counts::default();
        for status in [StatusCode::OK, StatusCode::OK, StatusCode::NOT_MODIFIED] {
            counts.add(&Method::GET, "/kv/app%2Fkey/1", Some(status));
        }
        counts.add(&Method::GET, "/kv", Some(StatusCode::OK));
        counts.add(&Method::PUT, "/locks/a", None);
        counts.add(&Method::TRACE, "/x", Some(StatusCode::IM_A_TEAPOT));
        let expected = serde_json::json!({
            "total": 6,
            "requests": {
                "GET /kv/{key}": {"200": 2, "304": 1},
                "GET /kv": {"200": 1},
                "PUT /locks/{key}": {"none": 1},
                "other other": {"other": 1},
            },
        });
        assert_eq!(counts.report(), expected);
        counts.reset();
        assert_eq!(counts.report(), serde_json::json!({"total": 0, "requests": {}}));
    }

    #[test]
    fn every_path_is_some_resource() {
        for (path, resource) in [
            ("/kv/", "/kv"),
            ("/kv", "/kv"),
            ("/kv//", "/kv/{key}"),
            ("/snapshots/s", "/snapshots/{name}"),
            ("/operations", "/operations"),
            ("/keys/x", "other"),
            ("", "other"),
            ("*", "other"),
            ("é/kv", "other"),
        ] {
            assert_eq!(resource_of(path), resource, "{path}");
        }
    }
}
