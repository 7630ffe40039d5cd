//! Nanoseconds per decision: `cargo bench --bench decide`.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tagalong::internals::clock::Timestamp;
use tagalong::internals::config::caching::CachingRules;
use tagalong::internals::decide::absorb::absorb;
use tagalong::internals::decide::reuse::reuse;
use tagalong::internals::decide::storable::storable;
use tagalong::internals::decide::{Decision, ResponseHead, SentConditions, SentRequest};
use tagalong::internals::headers::cache_control::{RequestDirectives, ResponseDirectives};
use tagalong::internals::headers::conditional::Preconditions;
use tagalong::internals::headers::vary;
use tagalong::internals::presented_request::PresentedRequest;
use tagalong::internals::stored_response::{CacheKey, StoredResponse};
use tagalong::internals::sync_token::coverage::{Coverage, CoverageVerdict};

const ARRIVAL: Timestamp = Timestamp::from_unix_seconds(1_793_923_200);

const RESPONSE: [(&str, &str); 8] = [
    ("content-type", "application/vnd.microsoft.appconfig.kv+json; charset=utf-8"),
    ("cache-control", "public, max-age=60, stale-while-revalidate=30"),
    ("date", "Fri, 06 Nov 2026 00:00:00 GMT"),
    ("last-modified", "Thu, 05 Nov 2026 16:00:00 GMT"),
    ("etag", "\"4f6dd610dd5e4deebc7fbaef685fb903\""),
    ("content-length", "1024"),
    ("x-ms-request-id", "87e9b0d5-8a1c-4c4e-a4b7-9a3a4f8f8d5c"),
    ("server", "openresty"),
];

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    lines.iter().map(line).collect()
}

fn request(lines: &[(&'static str, &'static str)]) -> PresentedRequest {
    let fields = fields(lines);
    PresentedRequest {
        key: CacheKey::new("origin", "", "/kv/key"),
        post_target: None,
        method: Method::GET,
        directives: RequestDirectives::from_fields(&fields),
        preconditions: Preconditions::from_fields(&fields),
        range: None,
        names_caller: false,
        names_ids: false,
        authorized: false,
        private_partition: false,
        fields,
    }
}

fn head(status: StatusCode, lines: &[(&'static str, &'static str)]) -> ResponseHead {
    ResponseHead { status, fields: fields(lines), request_time: ARRIVAL, response_time: ARRIVAL }
}

fn stored(request: &PresentedRequest, head: &ResponseHead, rules: &CachingRules) -> Option<StoredResponse> {
    let body = Bytes::from(vec![b'x'; 1024]);
    storable(request, head, rules).ok()?.with_body(head, body, Coverage::default(), rules).ok()
}

fn decisions(criterion: &mut Criterion) {
    let rules = CachingRules::rfc9111();
    let plain = request(&[("user-agent", "azsdk-net-Data.AppConfiguration/1.6.0"), ("accept", "*/*")]);
    let ok = head(StatusCode::OK, &RESPONSE);
    let Some(response) = stored(&plain, &ok, &rules) else { return };
    let now = ARRIVAL.plus(Duration::from_secs(30));
    let decide = |request: &PresentedRequest, now| {
        reuse(request, Some(&response), false, CoverageVerdict::Covered, &rules, now)
    };
    assert!(matches!(decide(&plain, now), Decision::Reuse(_)));

    criterion.bench_function("reuse/fresh", |bencher| {
        bencher.iter(|| decide(black_box(&plain), black_box(now)));
    });
    let demanding = request(&[("cache-control", "max-age=40, min-fresh=5")]);
    criterion.bench_function("reuse/fresh with demands", |bencher| {
        bencher.iter(|| decide(black_box(&demanding), black_box(now)));
    });
    let late = ARRIVAL.plus(Duration::from_secs(3_600));
    criterion.bench_function("reuse/stale", |bencher| {
        bencher.iter(|| decide(black_box(&plain), black_box(late)));
    });
    criterion.bench_function("storable", |bencher| {
        bencher.iter(|| storable(black_box(&plain), black_box(&ok), &rules));
    });
    let not_modified = head(StatusCode::NOT_MODIFIED, &[RESPONSE[4], RESPONSE[1], RESPONSE[2]]);
    let asked = SentRequest {
        request: &plain,
        method: &plain.method,
        in_hand: Some(&response),
        conditions: SentConditions { own: true, callers: false },
        completing: false,
        covers: Coverage::default(),
    };
    criterion.bench_function("absorb/304", |bencher| {
        bencher.iter(|| {
            absorb(black_box(&asked), black_box(&not_modified), CoverageVerdict::Covered, &rules, late)
        });
    });
}

fn parsing(criterion: &mut Criterion) {
    let response = fields(&[RESPONSE[1]]);
    criterion.bench_function("parse/response directives", |bencher| {
        bencher.iter(|| ResponseDirectives::from_fields(black_box(&response)));
    });
    let demands = fields(&[("cache-control", "max-age=40, min-fresh=5")]);
    criterion.bench_function("parse/request directives", |bencher| {
        bencher.iter(|| RequestDirectives::from_fields(black_box(&demands)));
    });
    let request = fields(&[("accept-language", "en-GB,en;q=0.8"), ("accept-encoding", "identity")]);
    for (name, vary) in [("selects/no vary", "x"), ("selects/vary", "accept-encoding, accept-language")] {
        let response = if vary == "x" { HeaderMap::new() } else { fields(&[("vary", vary)]) };
        let Some(key) = vary::selecting_key(&response, &request) else { continue };
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| vary::selects(black_box(&key), black_box(&request)));
        });
    }
}

criterion_group!(benches, decisions, parsing);
criterion_main!(benches);
