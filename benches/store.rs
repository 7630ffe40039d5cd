//! What a stored response costs: memory beyond its own bytes, over 100,000 of them, and the time of a look-up.
//!
//! `cargo bench --bench store`; fails when the memory exceeds its target.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops at the first surprise"
)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use criterion::Criterion;
use http::{HeaderMap, HeaderName, HeaderValue};
use tagalong::internals::store::{MemoryStore, Store};
use tagalong::internals::stored_response::{CacheKey, StoredFields, StoredPolicy, StoredResponse};

const RESPONSES: usize = 100_000;
const BODY_BYTES: usize = 1_024;

/// Bytes a response beyond its key, body and header fields.
const TARGET_BYTES: f64 = 700.0;

/// The head of a key-value as Azure App Configuration sends it.
const HEAD: [(&str, &str); 9] = [
    ("content-type", "application/vnd.microsoft.appconfig.kv+json; charset=utf-8"),
    ("content-length", "1024"),
    ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
    ("server", "openresty/1.17.8.2"),
    ("etag", "\"QlHnmjgbjGBmnDFSGBbyNAzsWJ1\""),
    ("last-modified", "Fri, 20 Nov 2026 09:00:00 GMT"),
    ("x-ms-request-id", "d53850c6-cf46-4324-8646-82f218463eae"),
    ("x-ms-correlation-request-id", "d53850c6-cf46-4324-8646-82f218463eae"),
    ("strict-transport-security", "max-age=15724800; includeSubDomains"),
];

fn head() -> HeaderMap {
    let line = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    HEAD.into_iter().map(line).collect()
}

fn key(number: usize) -> CacheKey {
    CacheKey::new(
        "main",
        "shared",
        &format!("/kv/app%2Fsetting%2F{number:08}?api-version=2023-11-01&label=prod"),
    )
}

fn response(fields: StoredFields) -> StoredResponse {
    StoredResponse {
        fields,
        body: Bytes::from(vec![b'x'; BODY_BYTES]),
        policy: StoredPolicy { freshness_lifetime: Duration::from_secs(30), ..StoredPolicy::default() },
        ..StoredResponse::default()
    }
}

/// Resident memory of this process: the second field of statm, in pages of 4 KiB.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages") * 4_096
}

fn measure_memory() -> bool {
    let head = head();
    let head_bytes: usize = HEAD.iter().map(|(name, value)| name.len() + value.len()).sum();
    let key_bytes = key(0).as_bytes().len();
    let store = MemoryStore::new(1 << 40, 32);
    let before = resident_bytes();
    for number in 0..RESPONSES {
        // Packed anew each time, as it is when answers arrive.
        store.put(&key(number), response(StoredFields::pack(&head)));
    }
    // The first use of a response may allocate as well: count what a store in use occupies.
    for number in 0..RESPONSES {
        let variants = store.variants(&key(number)).expect("stored");
        black_box((variants.as_slice()[0].fields.to_header_map(), variants.as_slice()[0].body.clone()));
    }
    let occupied = resident_bytes() - before;
    assert_eq!(store.len(), RESPONSES);
    let each = |bytes: u64| bytes as f64 / RESPONSES as f64;
    let own_bytes = BODY_BYTES + head_bytes;
    let overhead = each(occupied) - own_bytes as f64;
    let weight_bytes = each(store.weight_bytes());
    println!(
        "{RESPONSES} responses, body {BODY_BYTES} bytes, header fields {head_bytes} bytes, key {key_bytes} bytes"
    );
    println!("resident memory a response: {:.0} bytes; weight: {weight_bytes:.0} bytes", each(occupied));
    println!(
        "overhead beyond body and header fields: {overhead:.0} bytes (target: at most {TARGET_BYTES:.0})"
    );
    overhead <= TARGET_BYTES
}

fn measure_time() {
    let mut criterion = Criterion::default().configure_from_args();
    let fields = StoredFields::pack(&head());
    let store = MemoryStore::new(1 << 30, 32);
    let keys: Vec<_> = (0..1_000).map(key).collect();
    for key in &keys {
        store.put(key, response(fields.clone()));
    }
    let mut group = criterion.benchmark_group("store");
    let mut next = keys.iter().cycle();
    group.bench_function("look-up", |bencher| {
        bencher.iter(|| store.variants(next.next().expect("endless")));
    });
    group.bench_function("put", |bencher| {
        bencher.iter(|| store.put(next.next().expect("endless"), response(fields.clone())));
    });
    group.finish();
    let mut group = criterion.benchmark_group("head");
    let etag = http::header::ETAG;
    group.bench_function("one field", |bencher| {
        bencher.iter(|| black_box(&fields).get(&etag).map(<[u8]>::len))
    });
    group.bench_function("unpack", |bencher| bencher.iter(|| black_box(&fields).to_header_map()));
    let unpacked = head();
    group
        .bench_function("clone a HeaderMap instead", |bencher| bencher.iter(|| black_box(&unpacked).clone()));
    group.bench_function("pack", |bencher| bencher.iter(|| StoredFields::pack(black_box(&unpacked))));
    group.finish();
    criterion.final_summary();
}

fn main() -> ExitCode {
    let within_target = measure_memory();
    measure_time();
    if within_target { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
