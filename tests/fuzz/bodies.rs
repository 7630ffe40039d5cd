//! The properties of every input: no panic, no hang, and the round trip of each grammar. The fuzz targets in this
//! directory and the suite call these functions.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, ETAG, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, SET_COOKIE, TRANSFER_ENCODING, VARY,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use tagalong::internals::clock::Timestamp;
use tagalong::internals::config::caching::{CachingRules, Sharing};
use tagalong::internals::decide::absorb::{Change, absorb};
use tagalong::internals::decide::disconnected::disconnected;
use tagalong::internals::decide::freshen::freshen;
use tagalong::internals::decide::reuse::reuse;
use tagalong::internals::decide::storable::storable;
use tagalong::internals::decide::{
    Decision, ResponseHead, SentConditions, SentRequest, Staleness, Unreachable,
};
use tagalong::internals::headers::access_key::{AccessKey, EMPTY_CONTENT_SHA256, SecretBytes};
use tagalong::internals::headers::cache_control::{RequestDirectives, ResponseDirectives};
use tagalong::internals::headers::conditional::Preconditions;
use tagalong::internals::headers::entity_tag::{self, EntityTag};
use tagalong::internals::headers::hmac_authorization::{self, HmacAuthorization, SignedRequest};
use tagalong::internals::headers::range::{ContentRange, RangeField};
use tagalong::internals::headers::survey::FieldSet;
use tagalong::internals::headers::{http_date, request_date, vary as vary_field};
use tagalong::internals::presented_request::PresentedRequest;
use tagalong::internals::profile::app_configuration::AppConfiguration;
use tagalong::internals::profile::app_configuration::filter::{TagFilter, TextFilter};
use tagalong::internals::profile::app_configuration::query::Query;
use tagalong::internals::profile::app_configuration::resource::canonicalize;
use tagalong::internals::profile::generic::Generic;
use tagalong::internals::profile::keyed_fields::FieldRules;
use tagalong::internals::profile::{CanonicalTarget, Profile};
use tagalong::internals::stored_response::{CacheKey, StoredFields, StoredResponse};
use tagalong::internals::sync_token::aggregate::Aggregate;
use tagalong::internals::sync_token::coverage::{Coverage, CoverageVerdict};
use tagalong::internals::sync_token::token;

/// A whole second in 2026.
const NOW: Timestamp = Timestamp::from_unix_seconds(1_793_923_200);

/// The field value of every line that is a valid one.
fn values(data: &[u8]) -> impl Iterator<Item = HeaderValue> {
    data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok())
}

/// The fields of lines of the form `Name: value`. Other lines are left out.
fn fields(data: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            let _full = fields.try_append(name, value);
        }
    }
    fields
}

/// The parts before and after the first line `---`.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let mark = b"\n---\n";
    match data.windows(mark.len()).position(|window| window == mark) {
        Some(at) => (&data[..at], &data[at + mark.len()..]),
        None => (data, b""),
    }
}

/// Request target to cache key: the canonical form is a fixed point and names the same resource.
pub(crate) fn cache_key(data: &[u8]) {
    let Ok(target) = PathAndQuery::try_from(data) else { return };
    let origin = Uri::from_static("http://origin.example");
    let none = FieldSet::default();
    let app_configuration = AppConfiguration::new(Vec::new());
    let generic = Generic::new(&origin, Sharing::Guarded, FieldRules::default());
    let profiles: [&dyn Profile; 2] = [&app_configuration, &generic];
    for profile in profiles {
        let canonical_of = |target: &_| {
            profile.canonical_target(&Method::GET, target, none).map(CanonicalTarget::into_string)
        };
        let Ok(canonical) = canonical_of(&target) else { continue };
        let again: PathAndQuery = canonical.parse().expect("a canonical target is a target");
        let twice = canonical_of(&again).expect("and has a canonical form");
        assert_eq!(canonical, twice, "{} of {target}", profile.name());
        let key = CacheKey::new("upstream", "partition", &canonical);
        assert_eq!(key.canonical_target(), canonical);
        // A write to the target outdates its stored response.
        let write = profile.footprint(&Method::PUT, &target);
        let is_list = profile.resource_name(&target).is_none();
        assert!(is_list || profile.touches(&write, &canonical), "{} of {target}", profile.name());
        let _no_panic = (profile.lies_within(&target, "/kv"), profile.immutable_for(&canonical));
    }
    if let Some(canonical) = canonicalize(target.path(), target.query()) {
        let (path, query) = canonical.text.split_once('?').unwrap_or((&canonical.text, ""));
        let again = canonicalize(path, Some(query)).expect("a canonical target has a canonical form");
        assert_eq!(again.resource, canonical.resource, "{target}");
    }
}

/// `Cache-Control` of requests and responses: several lines mean the same as one list, and every parsed directive is in
/// the input.
pub(crate) fn cache_control(data: &[u8]) {
    let (mut lines, mut joined) = (HeaderMap::new(), HeaderMap::new());
    for value in values(data) {
        lines.append(CACHE_CONTROL, value);
    }
    let list =
        lines.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
    if let Ok(list) = HeaderValue::from_bytes(&list) {
        joined.append(CACHE_CONTROL, list);
    }
    let (request, response) =
        (RequestDirectives::from_fields(&lines), ResponseDirectives::from_fields(&lines));
    // An open quotation mark takes the rest of its line, and no other line.
    if !data.contains(&b'"') {
        assert_eq!(request, RequestDirectives::from_fields(&joined));
        assert_eq!(response, ResponseDirectives::from_fields(&joined));
    }
    let text = data.to_ascii_lowercase();
    let says = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
    assert!(says(b"no-store") || !(request.no_store || response.no_store));
    assert!(says(b"public") || !response.public);
    assert!(says(b"only-if-cached") || !request.only_if_cached);
}

/// Entity tags and the conditional fields: a parsed tag, printed, parses to the same tag, alone and in a list.
pub(crate) fn entity_tags(data: &[u8]) {
    let mut presented = HeaderMap::new();
    for value in values(data) {
        let tags: Vec<EntityTag<'_>> = entity_tag::entity_tags(value.as_bytes()).collect();
        for tag in &tags {
            assert_eq!(EntityTag::parse(tag.as_bytes()), Some(*tag));
            assert!(tag.matches_weakly(*tag));
            assert_eq!(tag.matches_strongly(*tag), !tag.is_weak());
        }
        let list = tags.iter().map(|tag| tag.as_bytes()).collect::<Vec<_>>().join(&b", "[..]);
        assert!(entity_tag::entity_tags(&list).eq(tags.iter().copied()), "{}", list.escape_ascii());
        for name in [IF_MATCH, IF_NONE_MATCH, IF_RANGE, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
            presented.append(name, value.clone());
        }
    }
    let preconditions = Preconditions::from_fields(&presented);
    assert_eq!(preconditions, Preconditions::from_fields(&presented));
    for condition in [&preconditions.if_match, &preconditions.if_none_match].into_iter().flatten() {
        for tag in condition.tags() {
            assert!(condition.matches_weakly(Some(tag)));
            assert_eq!(condition.matches_strongly(Some(tag)), !tag.is_weak());
        }
    }
}

/// Dates in every form: a parsed date, printed as IMF-fixdate, parses to the same date.
pub(crate) fn http_dates(data: &[u8]) {
    if let Some(time) = http_date::parse(data) {
        assert_eq!(http_date::parse(http_date::format(time).as_bytes()), Some(time));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let by_clients = [
        request_date::parse_signing_date(text),
        request_date::parse_accept_datetime(text),
        request_date::parse_rfc3339(text),
    ];
    for time in by_clients.into_iter().flatten() {
        let _no_panic = (http_date::format(time), time.since(NOW), NOW.since(time));
    }
}

/// `Sync-Token`: a parsed token, printed in the strict form, parses to the same token. The aggregate is always a valid
/// field value.
pub(crate) fn sync_tokens(data: &[u8]) {
    let lines = || data.split(|byte| *byte == b'\n');
    let received = token::parse_response(lines());
    let line = token::print_response(&received);
    assert_eq!(token::parse_response([line.as_bytes()]), received);
    assert!(HeaderValue::from_bytes(line.as_bytes()).is_ok());
    let presented = token::parse_request(lines());
    let line = token::print_request(&presented);
    assert_eq!(token::parse_request([line.as_bytes()]), presented);

    let mut aggregate = Aggregate::default();
    let _asked = aggregate.requirement(presented.clone());
    assert_eq!(aggregate.newest().count(), 0, "tokens that callers present do not enter the aggregate");
    aggregate.observe(&received, Timestamp::default());
    let line = aggregate.response_line(&[]);
    assert!(token::parse_response([line.as_bytes()]).iter().eq(aggregate.newest()));
    for held in aggregate.newest() {
        let highest = received
            .iter()
            .filter(|token| token.id() == held.id())
            .map(|token| token.sequence_number())
            .max();
        assert_eq!(highest, Some(held.sequence_number()));
    }
    let version = aggregate.version();
    assert!(
        aggregate.overflowed() || !aggregate.observe(&received, Timestamp::default()),
        "known news is no news"
    );
    assert!(aggregate.overflowed() || aggregate.version() == version);
    let line = aggregate.request_line(&presented);
    assert!(line.is_empty() || HeaderValue::from_bytes(line.as_bytes()).is_ok());
}

/// `Authorization` of the HMAC scheme: printed parameters parse to the same parameters. No made-up signature is valid.
/// A signature of the key is valid for any target and body.
pub(crate) fn authorization(data: &[u8]) {
    let key = AccessKey::new("id", SecretBytes::new(b"fuzzed secret".to_vec())).expect("an access key");
    let (authority, date) = ("127.0.0.1:8484", http_date::format(NOW));
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static(authority));
    headers.insert("x-ms-date", date.clone());
    headers.insert("x-ms-content-sha256", HeaderValue::from_static(EMPTY_CONTENT_SHA256));
    if let Ok(value) = HeaderValue::from_bytes(data) {
        if let Some(parsed) = value.to_str().ok().and_then(HmacAuthorization::parse) {
            let parameter = |name: &str, value: Option<&str>| value.map(|value| format!("{name}={value}"));
            let parameters = [
                parameter("Credential", parsed.credential),
                parameter("SignedHeaders", parsed.signed_headers),
                parameter("Signature", parsed.signature),
            ];
            let printed = parameters.into_iter().flatten().collect::<Vec<_>>().join("&");
            assert_eq!(HmacAuthorization::parse(&format!("HMAC-SHA256 {printed}")), Some(parsed));
        }
        headers.insert(AUTHORIZATION, value);
        let request = SignedRequest { method: "GET", target: "/kv", headers: &headers, authority: None };
        let verified = hmac_authorization::verify(&request, NOW, |id| (id == "id").then_some(&key));
        assert!(verified.is_err(), "forged");
    }
    let Ok(target) = std::str::from_utf8(data) else { return };
    let date = date.to_str().expect("a date is text");
    let signed =
        hmac_authorization::authorization(&key, "PUT", target, date, authority, EMPTY_CONTENT_SHA256);
    headers.insert(AUTHORIZATION, signed.parse().expect("a signature is a field value"));
    let request = SignedRequest { method: "PUT", target, headers: &headers, authority: None };
    let verified = hmac_authorization::verify(&request, NOW, |_| Some(&key)).expect("signed by the key");
    assert!(verified.check_content(b"").is_ok());
    assert_eq!(verified.check_content(data).is_ok(), data.is_empty());
    let late = NOW.plus(Duration::from_secs(16 * 60));
    assert!(hmac_authorization::verify(&request, late, |_| Some(&key)).is_err());
}

fn presented_request(data: &[u8]) -> PresentedRequest {
    let fields = fields(data);
    let range = match RangeField::from_fields(&fields) {
        RangeField::Single(range) => Some(range),
        _ => None,
    };
    PresentedRequest {
        key: CacheKey::new("upstream", "", "/a"),
        post_target: Some(Box::new(Uri::from_static("http://origin.example/a"))),
        method: Method::GET,
        directives: RequestDirectives::from_fields(&fields),
        preconditions: Preconditions::from_fields(&fields),
        range,
        names_caller: fields.contains_key("cookie"),
        authorized: fields.contains_key(AUTHORIZATION),
        names_ids: false,
        private_partition: false,
        fields,
    }
}

/// A response head: a first line with a status, and fields.
fn response_head(data: &[u8], time: Timestamp) -> ResponseHead {
    let status =
        data.get(..3).and_then(|digits| StatusCode::from_bytes(digits).ok()).unwrap_or(StatusCode::OK);
    ResponseHead { status, fields: fields(data), request_time: time, response_time: time }
}

fn check_stored(stored: &StoredResponse, rules: &CachingRules) {
    let fields = stored.fields.to_header_map();
    assert_eq!(StoredFields::pack(&fields), stored.fields, "packing an unpacked head gives the same head");
    assert!(!fields.contains_key(CONNECTION) && !fields.contains_key(TRANSFER_ENCODING));
    assert!(rules.sharing == Sharing::Rfc9111 || !fields.contains_key(SET_COOKIE));
    assert!(!stored.status.is_informational() && stored.status != StatusCode::NOT_MODIFIED);
}

/// Whole heads, separated by lines `---`: request fields, the head that is stored, and the head that answers its
/// validation. Storing, reusing, freshening and absorbing keep their invariants for any content.
pub(crate) fn response_heads(data: &[u8]) {
    let (request, heads) = halves(data);
    let (first, second) = halves(heads);
    let request = presented_request(request);
    let later = NOW.plus(Duration::from_secs(60));
    let (first, second) = (response_head(first, NOW), response_head(second, later));
    let guarded = CachingRules { sharing: Sharing::Guarded, ..CachingRules::rfc9111() };
    for rules in [CachingRules::rfc9111(), guarded, CachingRules::app_configuration()] {
        let body = Bytes::from_static(b"0123456789");
        let stored = storable(&request, &first, &rules)
            .and_then(|storable| storable.with_body(&first, body, Coverage::default(), &rules));
        let in_hand = stored.as_ref().ok();
        for conditions in
            [SentConditions { own: true, callers: false }, SentConditions { own: false, callers: true }]
        {
            let asked = SentRequest {
                request: &request,
                method: &request.method,
                in_hand,
                conditions,
                completing: false,
                covers: Coverage::default(),
            };
            let change = absorb(&asked, &second, CoverageVerdict::Covered, &rules, later);
            if let Change::Freshened(response) = &change {
                check_stored(response, &rules);
            }
        }
        let Some(stored) = in_hand else { continue };
        check_stored(stored, &rules);
        for seconds in [0, 1, 60, 86_400, u64::from(u32::MAX)] {
            let now = NOW.plus(Duration::from_secs(seconds));
            let decision = reuse(&request, Some(stored), true, CoverageVerdict::Covered, &rules, now);
            if let Decision::Reuse(reuse) = decision {
                assert!(reuse.staleness != Staleness::Fresh || reuse.ttl_seconds >= 0, "{reuse:?}");
                assert!(
                    !stored.policy.no_cache && !request.directives.no_cache && !request.directives.no_store
                );
            }
            let away = disconnected(
                &request,
                Some(stored),
                CoverageVerdict::Covered,
                Unreachable::Connect,
                &rules,
                now,
            );
            assert!(away.is_err() || !stored.policy.no_cache);
        }
        let asked = SentRequest {
            request: &request,
            method: &request.method,
            in_hand,
            conditions: SentConditions { own: true, callers: false },
            completing: false,
            covers: Coverage::default(),
        };
        if let Ok(freshened) = freshen(&asked, stored, &second, &rules) {
            let tag = EntityTag::of_message(second.fields.get_all(ETAG).iter().map(HeaderValue::as_bytes));
            let stored_tag = EntityTag::of_message(stored.fields.get_all(&ETAG));
            if let Some(tag) = tag {
                assert!(
                    stored_tag.is_some_and(|stored_tag| tag.matches_weakly(stored_tag)),
                    "another version"
                );
            }
            assert_eq!(freshened.response.body, stored.body);
            assert_eq!(freshened.response.status, stored.status);
        }
    }
}

/// `Range` and `Content-Range`: a parsed value prints the same, and its positions are inside the representation.
pub(crate) fn ranges(data: &[u8]) {
    if let RangeField::Single(range) = RangeField::parse(data) {
        let printed = range.to_string();
        let printed = if printed.starts_with("bytes=") { printed } else { format!("bytes={printed}") };
        assert_eq!(RangeField::parse(printed.as_bytes()), RangeField::Single(range));
        for length_bytes in [0, 1, 10, u64::MAX] {
            if let Some((first, last)) = range.positions(length_bytes) {
                assert!(first <= last && last < length_bytes, "{range} of {length_bytes}");
            }
        }
    }
    if let Some(range) = ContentRange::parse(data) {
        assert_eq!(ContentRange::parse(range.to_header_value().as_bytes()), Some(range));
    }
}

/// `Vary`: response fields and, after a line `---`, the fields of the request. A variant answers the request that
/// fetched it. Its key names the fields that it depends on, and making the key again gives the same key.
pub(crate) fn vary(data: &[u8]) {
    let (response, request) = halves(data);
    let (response, request) = (fields(response), fields(request));
    let Some(key) = vary_field::selecting_key(&response, &request) else { return };
    assert!(vary_field::selects(&key, &request));
    assert_eq!(vary_field::selecting_key(&response, &request), Some(key.clone()));
    if let Some(same) = vary_field::same_fields(&key, &request) {
        assert_eq!(same, key);
    }
    for name in vary_field::selecting_names(&key) {
        let name = HeaderName::from_bytes(name).expect("a field name");
        assert!(response.contains_key(VARY));
        // A request with another value does not get the variant.
        let mut other = request.clone();
        other.insert(&name, HeaderValue::from_static("another-value"));
        let sends_that = request.get_all(&name).iter().any(|value| value == "another-value");
        assert!(sends_that || !vary_field::selects(&key, &other), "{name}");
    }
}

fn escaped(text: &str, reserved: &[char]) -> String {
    text.chars().flat_map(|next| reserved.contains(&next).then_some('\\').into_iter().chain([next])).collect()
}

/// App Configuration filters and queries: a parsed filter, printed, parses to the same filter, and it matches the names
/// in it.
pub(crate) fn filters(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(filter) = TextFilter::parse("key", Some(text), true) {
        let printed = match &filter {
            TextFilter::Any => "*".to_owned(),
            TextFilter::Prefix(prefix) => {
                assert!(filter.matches(Some(&format!("{prefix}more"))) && filter.lies_within(prefix));
                format!("{}*", escaped(prefix, &['*', ',', '\\']))
            }
            TextFilter::OneOf(texts) => {
                assert!(texts.iter().all(|text| filter.matches(text.as_deref())));
                let texts = texts.iter().map(|text| {
                    text.as_deref().map_or("\0".to_owned(), |text| escaped(text, &['*', ',', '\\']))
                });
                texts.collect::<Vec<_>>().join(",")
            }
        };
        assert_eq!(TextFilter::parse("key", Some(&printed), true).as_ref(), Ok(&filter), "{printed:?}");
    }
    if let Ok(filter) = TagFilter::parse("tags", text) {
        let reserved = ['*', ',', '\\', '='];
        let value = filter.value.as_deref().map_or("\0".to_owned(), |value| escaped(value, &reserved));
        let printed = format!("{}={value}", escaped(&filter.name, &reserved));
        assert_eq!(TagFilter::parse("tags", &printed).as_ref(), Ok(&filter), "{printed:?}");
    }
    if let Ok(query) = Query::parse(text) {
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let parameters = query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let printed = parameters.collect::<Vec<_>>().join("&");
        let again = Query::parse(&printed).expect("a printed query is a query");
        assert!(again.iter().eq(query.iter()), "{printed}");
    }
}
