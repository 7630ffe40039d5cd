//! Counts of requests by kind and status. With them a test can assert "1,000 client calls, 1 origin call".

use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};
use serde_json::{Map, Value};

const METHODS: [&str; 8] = ["GET", "HEAD", "PUT", "DELETE", "PATCH", "POST", "OPTIONS", "other"];
const RESOURCES: [&str; 10] = [
    "/kv",
    "/kv/{key}",
    "/locks/{key}",
    "/keys",
    "/labels",
    "/revisions",
    "/snapshots",
    "/snapshots/{name}",
    "/operations",
    "other",
];
const STATUSES: [&str; 22] = [
    "200", "201", "204", "206", "304", "400", "401", "403", "404", "405", "409", "411", "412", "413", "414",
    "415", "416", "429", "500", "503", "none", "other",
];

/// Counters that threads increase without a lock.
#[derive(Debug)]
pub struct Counts(Box<[AtomicU64]>);

impl Default for Counts {
    fn default() -> Self {
        Self((0..METHODS.len() * RESOURCES.len() * STATUSES.len()).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Counts {
    /// Counts one request. `status` is `None` if the connection ended without an answer.
    pub fn add(&self, method: &Method, path: &str, status: Option<StatusCode>) {
        let method = position(&METHODS, method.as_str());
        let resource = resource_of(path);
        let status =
            status.map_or_else(|| position(&STATUSES, "none"), |status| position(&STATUSES, status.as_str()));
        if let Some(counter) = self.0.get((method * RESOURCES.len() + resource) * STATUSES.len() + status) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets every counter to zero. A concurrent request is counted before or after that.
    pub fn reset(&self) {
        self.0.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
    }

    /// `{"total": 3, "requests": {"GET /kv/{key}": {"200": 2, "304": 1}}}`; counters of zero are left out. `none`
    /// counts the connections that ended without an answer.
    pub fn report(&self) -> Value {
        let mut total = 0;
        let mut requests = Map::new();
        let kinds =
            METHODS.iter().flat_map(|method| RESOURCES.iter().map(move |resource| (method, resource)));
        for ((method, resource), counters) in kinds.zip(self.0.chunks(STATUSES.len())) {
            let mut statuses = Map::new();
            for (status, counter) in STATUSES.iter().zip(counters) {
                let count = counter.load(Ordering::Relaxed);
                if count > 0 {
                    total += count;
                    statuses.insert((*status).to_owned(), count.into());
                }
            }
            if !statuses.is_empty() {
                requests.insert(format!("{method} {resource}"), Value::Object(statuses));
            }
        }
        serde_json::json!({ "total": total, "requests": requests })
    }
}

/// The index of a name in a table, or the last index, which stands for all other names.
fn position(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).unwrap_or(names.len() - 1)
}

/// The resource that a path, as sent, names.
fn resource_of(path: &str) -> usize {
    let (collection, name) = match path.get(1..).and_then(|rest| rest.split_once('/')) {
        Some((collection, name)) => (collection, (!name.is_empty()).then_some(name)),
        None => (path.get(1..).unwrap_or_default(), None),
    };
    let resource = match (collection, name) {
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
    };
    position(&RESOURCES, resource)
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
            assert_eq!(RESOURCES[resource_of(path)], resource, "{path}");
        }
    }
}
