//! The decisions of the sidecar compared with those of the crate `http-cache-semantics`, over the product of many
//! responses, requests and times.
//!
//! The question is: may this stored response answer this request now, without asking the origin? Each difference must
//! have a name and an explanation here, and each named difference must occur.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_cache_semantics::{CacheOptions, CachePolicy};
use tagalong::internals::clock::Timestamp;
use tagalong::internals::config::caching::CachingRules;
use tagalong::internals::decide::reuse::reuse;
use tagalong::internals::decide::storable::storable;
use tagalong::internals::decide::{Decision, ResponseHead};
use tagalong::internals::headers::cache_control::RequestDirectives;
use tagalong::internals::headers::conditional::Preconditions;
use tagalong::internals::headers::{http_date, vary};
use tagalong::internals::presented_request::PresentedRequest;
use tagalong::internals::stored_response::CacheKey;
use tagalong::internals::sync_token::coverage::{Coverage, CoverageVerdict};

/// The time at which the response arrives: a whole second in 2026.
const ARRIVAL: Timestamp = Timestamp::from_unix_seconds(1_793_923_200);

const STATUSES: [u16; 6] = [200, 204, 299, 302, 404, 503];

const CACHE_CONTROL: [&str; 33] = [
    "",
    "max-age=60",
    "max-age=0",
    "max-age=-60",
    "max-age=0060",
    "max-age=\"60\"",
    "max-age=60.5",
    "max-age=99999999999999999999999",
    "Max-Age=60",
    "s-maxage=60",
    "s-maxage=60, max-age=5",
    "max-age=60, s-maxage=5",
    "max-age=60, max-age=60",
    "public",
    "public, max-age=60",
    "max-age=60, must-revalidate",
    "max-age=60, proxy-revalidate",
    "max-age=60, no-store",
    "max-age=60, NO-STORE",
    "max-age=60, no-cache",
    "max-age=60, no-cache=\"x\"",
    "max-age=60, private",
    "max-age=60, private=\"x\"",
    "max-age=60, no-store, must-understand",
    "x=\"max-age=60\"",
    "x=\"a, max-age=60, b\"",
    "x=\"a, no-store\", max-age=60",
    "max-age=60, unknown, other=1",
    "max-age=60, stale-while-revalidate=30",
    "no-cache",
    "no-store",
    "private",
    "must-revalidate",
];

/// Fields in addition to `Cache-Control`. `@N` stands for the date N seconds before the arrival.
const OTHER_FIELDS: [&[(&str, &str)]; 13] = [
    &[],
    &[("etag", "\"a\"")],
    &[("last-modified", "@1000")],
    &[("expires", "@-60")],
    &[("expires", "@60")],
    &[("expires", "0")],
    &[("expires", "@-60"), ("last-modified", "@1000")],
    &[("date", "@30"), ("expires", "@-60")],
    &[("date", "@30")],
    &[("age", "30")],
    &[("age", "30, 5")],
    &[("vary", "foo")],
    &[("vary", "*")],
];

const REQUESTS: [&[(&str, &str)]; 14] = [
    &[],
    &[("foo", "1")],
    &[("pragma", "no-cache")],
    &[("pragma", "no-cache"), ("cache-control", "max-age=600")],
    &[("cache-control", "no-cache")],
    &[("cache-control", "no-store")],
    &[("cache-control", "max-age=0")],
    &[("cache-control", "max-age=40")],
    &[("cache-control", "max-stale")],
    &[("cache-control", "max-stale=20")],
    &[("cache-control", "min-fresh=20")],
    &[("cache-control", "only-if-cached")],
    &[("cache-control", "max-age=70, max-stale")],
    &[("cache-control", "unknown")],
];

const SECONDS: [u64; 5] = [0, 29, 59, 65, 85];

/// One case of the product.
struct Case {
    status: u16,
    cache_control: &'static str,
    other_fields: &'static [(&'static str, &'static str)],
    request: &'static [(&'static str, &'static str)],
    seconds: u64,
}

impl Case {
    fn says(&self, directive: &str) -> bool {
        self.cache_control.contains(directive)
    }

    fn demands(&self, directive: &str) -> bool {
        self.request.iter().any(|(_, value)| value.contains(directive))
    }

    fn has(&self, name: &str) -> bool {
        self.other_fields.iter().any(|(other, _)| *other == name)
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, cache_control, other_fields, request, seconds } = self;
        write!(out, "{status} [{cache_control}] {other_fields:?}, asked {request:?} after {seconds} s")
    }
}

/// A known and intended difference.
struct Disagreement {
    name: &'static str,
    because: &'static str,
    /// Whether the sidecar reuses and the crate does not, in the explained cases.
    we_reuse: bool,
    explains: fn(&Case) -> bool,
}

const DISAGREEMENTS: [Disagreement; 15] = [
    Disagreement {
        name: "unknown status",
        because: "RFC 9111 §3 lets any final status be stored with explicit freshness; the crate knows fourteen",
        we_reuse: true,
        explains: |case| matches!(case.status, 299 | 503),
    },
    Disagreement {
        name: "letter case of directives",
        because: "RFC 9111 §5.2: directives are case-insensitive; the crate does not know `Max-Age`",
        we_reuse: true,
        explains: |case| case.says("Max-Age"),
    },
    Disagreement {
        name: "letter case of what forbids",
        because: "RFC 9111 §5.2: directives are case-insensitive; the crate does not know `NO-STORE`, and guesses a lifetime \
                  in the place of `Max-Age`",
        we_reuse: false,
        explains: |case| case.says("NO-STORE") || case.says("Max-Age") && case.has("last-modified"),
    },
    Disagreement {
        name: "commas in quotes permit",
        because: "RFC 9110 §5.6.4: a quoted string is opaque; the crate takes directives out of it",
        we_reuse: false,
        explains: |case| case.says("x=\"a, max-age"),
    },
    Disagreement {
        name: "commas in quotes forbid",
        because: "RFC 9110 §5.6.4: a quoted string is opaque; the crate takes directives out of it",
        we_reuse: true,
        explains: |case| case.says("x=\"a, no-store") || case.says("x=\"a, max-age"),
    },
    Disagreement {
        name: "field names",
        because: "RFC 9111 §5.2.2.4, §5.2.2.7: with field names the directive applies to these fields only",
        we_reuse: true,
        explains: |case| case.says("no-cache=\"x\"") || case.says("private=\"x\""),
    },
    Disagreement {
        name: "must-understand",
        because: "RFC 9111 §5.2.2.3: it overrides no-store for a status that the cache understands",
        we_reuse: true,
        explains: |case| case.says("must-understand"),
    },
    Disagreement {
        name: "proxy-revalidate",
        because: "RFC 9111 §5.2.2.8: it forbids staleness, not freshness; the crate takes it as a lifetime of zero",
        we_reuse: true,
        explains: |case| case.says("proxy-revalidate"),
    },
    Disagreement {
        name: "overflow",
        because: "RFC 9111 §1.2.2: a number that overflows counts as the greatest; the crate takes it as zero",
        we_reuse: true,
        explains: |case| case.says("9999999"),
    },
    Disagreement {
        name: "apparent age",
        because: "RFC 9111 §4.2.3: the age is at least the time since `Date`; the crate reads `Age` alone",
        we_reuse: false,
        explains: |case| case.has("date"),
    },
    Disagreement {
        name: "lists of ages",
        because: "RFC 9111 §5.1: the first member of a list counts; the crate ignores the list",
        we_reuse: false,
        explains: |case| case.other_fields.contains(&("age", "30, 5")),
    },
    Disagreement {
        name: "max-age=0",
        because: "a reload asks for validation also at the instant at which the response arrived",
        we_reuse: false,
        explains: |case| case.demands("max-age=0"),
    },
    Disagreement {
        name: "no-store of the caller",
        because: "the sidecar answers a no-store request upstream; RFC 9111 §5.2.1.5 allows both",
        we_reuse: false,
        explains: |case| case.demands("no-store"),
    },
    Disagreement {
        name: "max-stale against the origin",
        because: "RFC 9111 §4.2.4: no-cache, s-maxage and proxy-revalidate forbid staleness as must-revalidate does, and a \
                  response with neither lifetime nor validator is not stored",
        we_reuse: false,
        explains: |case| {
            let kin = ["no-cache", "s-maxage", "proxy-revalidate"];
            let nothing_to_go_by = !case.has("etag") && !case.has("last-modified") && !case.has("expires");
            case.demands("max-stale") && (kin.iter().any(|kin| case.says(kin)) || nothing_to_go_by)
        },
    },
    Disagreement {
        name: "stale-while-revalidate and pragma",
        because: "RFC 5861 §3 allows staleness, and the crate does not implement it; RFC 9111 §5.4 lets `Pragma` count only \
                  without `Cache-Control`",
        we_reuse: true,
        explains: |case| {
            case.says("stale-while-revalidate") || case.request.len() == 2 && case.request[0].0 == "pragma"
        },
    },
];

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let value = match value.strip_prefix('@') {
            Some(seconds) => {
                let seconds: i64 = seconds.parse().expect("a number");
                http_date::format(Timestamp::from_unix_seconds(ARRIVAL.as_unix_seconds() - seconds))
            }
            None => HeaderValue::from_str(value).expect("a field value"),
        };
        map.append(HeaderName::from_bytes(name.as_bytes()).expect("a field name"), value);
    }
    map
}

fn presented(fields: &HeaderMap) -> PresentedRequest {
    PresentedRequest {
        key: CacheKey::new("origin", "", "/"),
        post_target: Some(Box::new("http://origin.example/".parse().expect("a target"))),
        method: http::Method::GET,
        directives: RequestDirectives::from_fields(fields),
        preconditions: Preconditions::default(),
        range: None,
        names_caller: false,
        authorized: false,
        names_ids: false,
        private_partition: false,
        fields: fields.clone(),
    }
}

fn response_fields(case: &Case) -> HeaderMap {
    let mut response = fields(case.other_fields);
    if !case.cache_control.is_empty() {
        response.insert(http::header::CACHE_CONTROL, HeaderValue::from_static(case.cache_control));
    }
    response
}

/// The decision of the sidecar: the response to a plain request is stored, then `request` is presented.
fn we_reuse(case: &Case, rules: &CachingRules) -> bool {
    let head = ResponseHead {
        status: StatusCode::from_u16(case.status).expect("a status"),
        fields: response_fields(case),
        request_time: ARRIVAL,
        response_time: ARRIVAL,
    };
    let Ok(storable) = storable(&presented(&HeaderMap::new()), &head, rules) else { return false };
    let stored =
        storable.with_body(&head, Bytes::new(), Coverage::default(), rules).expect("an empty body is whole");
    let request = presented(&fields(case.request));
    let now = ARRIVAL.plus(Duration::from_secs(case.seconds));
    let selected = Some(&stored).filter(|stored| vary::selects(&stored.selecting, &request.fields));
    let decision = reuse(&request, selected, selected.is_none(), CoverageVerdict::Covered, rules, now);
    matches!(decision, Decision::Reuse(_))
}

/// The decision of the crate.
fn crate_reuses(case: &Case) -> bool {
    let with = |fields: HeaderMap| {
        let mut request = Request::get("http://origin.example/").body(()).expect("a request");
        *request.headers_mut() = fields;
        request
    };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(case.status).expect("a status");
    *response.headers_mut() = response_fields(case);
    let arrival = ARRIVAL.to_system_time();
    let policy =
        CachePolicy::new_options(&with(HeaderMap::new()), &response, arrival, CacheOptions::default());
    let now = arrival + Duration::from_secs(case.seconds);
    policy.is_storable()
        && policy.before_request(&with(fields(case.request)), now).satisfies_without_revalidation()
}

fn cases() -> impl Iterator<Item = Case> {
    STATUSES.into_iter().flat_map(|status| {
        CACHE_CONTROL.into_iter().flat_map(move |cache_control| {
            OTHER_FIELDS.into_iter().flat_map(move |other_fields| {
                REQUESTS.into_iter().flat_map(move |request| {
                    let case = move |seconds| Case { status, cache_control, other_fields, request, seconds };
                    SECONDS.into_iter().map(case)
                })
            })
        })
    })
}

#[test]
fn the_sidecar_differs_from_the_crate_only_for_named_reasons() {
    let rules = CachingRules::rfc9111();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut agreed, mut unexplained) = (0_usize, Vec::new());
    for case in cases() {
        let (ours, theirs) = (we_reuse(&case, &rules), crate_reuses(&case));
        if ours == theirs {
            agreed += 1;
            continue;
        }
        let explanations: Vec<_> =
            DISAGREEMENTS.iter().filter(|known| known.we_reuse == ours && (known.explains)(&case)).collect();
        if explanations.is_empty() {
            unexplained.push(format!("we say {ours}: {case}"));
        }
        for known in explanations {
            *seen.entry(known.name).or_default() += 1;
        }
    }
    let sample =
        unexplained.iter().step_by(unexplained.len() / 20 + 1).cloned().collect::<Vec<_>>().join("\n");
    assert!(unexplained.is_empty(), "{} differences have no explanation:\n{sample}", unexplained.len());
    for known in DISAGREEMENTS {
        assert!(seen.contains_key(known.name), "{}: no longer a difference ({})", known.name, known.because);
    }
    assert!(agreed > 100_000, "only {agreed} cases agree");
}
