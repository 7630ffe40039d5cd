//! State lives on under other settings.

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use super::endpoints::{Endpoint, Endpoints};
use super::throttle::{Held, Pause};
use super::*;
use crate::body::budget::BufferBudget;
use crate::clock::{Clock, Timestamp};
use crate::config::caching::Sharing;
use crate::credentials::partition::Partitions;
use crate::credentials::{ForwardedCredential, NoCredential};
use crate::decide::shows_change::ShownState;
use crate::decide::tests::{request, stored};
use crate::metrics::Metrics;
use crate::profile::app_configuration::AppConfiguration;
use crate::profile::generic::Generic;
use crate::profile::keyed_fields::FieldRules;
use crate::profile::recognition::Recognition;
use crate::store::MemoryStore;
use crate::stored_response::StoredResponse;
use crate::sync_token::clauses::Clauses;
use crate::sync_token::session::{Received, SYNC_TOKEN};
use crate::transport::client::{ExchangeLimits, PooledClient};
use shown::Shown;
use state::Surroundings;

const NOW: Timestamp = Timestamp::from_unix_seconds(784_111_777);

fn settings(
    host: &'static str,
    credential: Arc<dyn Credential>,
    retry_after_limit: Duration,
) -> ResolvedSettings {
    let seconds = Duration::from_secs(1);
    let limits = ExchangeLimits {
        connect_deadline: seconds,
        header_deadline: seconds,
        body_stall_deadline: seconds,
        pool_idle_time: seconds,
        pool_idle_limit: 1,
        exchange_limit: 1,
        exchange_wait: seconds,
        header_section_limit_bytes: 8192,
    };
    let unreachable = |_: Uri| -> futures_util::future::BoxFuture<'static, _> {
        Box::pin(std::future::ready(Err(std::io::ErrorKind::ConnectionRefused.into())))
    };
    let authority = Authority::from_static(host);
    let metrics = Metrics::new(["main"]).upstream(0).endpoints.clone();
    ResolvedSettings {
        name: "main".to_owned(),
        endpoints: Arc::new(Endpoints::new(
            authority,
            [],
            metrics.failovers.clone(),
            Box::new(move |authority| Endpoint {
                requests: metrics.of(authority.as_str()).0,
                is_active: metrics.of(authority.as_str()).1,
                client: PooledClient::new(Scheme::HTTP, authority, Arc::new(unreachable), limits),
            }),
        )),
        replica_lag: seconds,
        profile: Arc::new(Generic::new(
            &Uri::from_static("http://o"),
            Sharing::Rfc9111,
            FieldRules::default(),
        )),
        credential,
        settle_time: seconds,
        conflict_wait: seconds,
        retry_after_limit,
        budget: None,
        fleet: None,
        via: HeaderValue::from_static("1.1 tagalong"),
    }
}

fn state() -> Arc<UpstreamState> {
    let surroundings = Surroundings {
        tracer: crate::trace::Tracer::default(),
        store: Arc::new(MemoryStore::new(1 << 20, 8)),
        buffers: BufferBudget::new(1 << 20),
        metrics: Metrics::new(["main"]).upstream(0).origin.clone(),
        clock: Clock::System,
    };
    Arc::new(UpstreamState::new(
        surroundings,
        Clauses::ALL,
        Partitions::new([7; 32]),
        Recognition::new(false),
    ))
}

fn fields(name: http::HeaderName, value: &'static str) -> HeaderMap {
    [(name, HeaderValue::from_static(value))].into_iter().collect()
}

fn pause(upstream: &Upstream, callers: &HeaderMap, seconds: u64) {
    let hint = Pause { status: StatusCode::TOO_MANY_REQUESTS, remaining: Duration::from_secs(seconds) };
    let identity = upstream.throttled_identity(callers);
    let limit = upstream.settings.retry_after_limit;
    upstream.state.throttle.obey(&identity, Held::Reads, hint, limit, NOW);
}

fn remaining_seconds(upstream: &Upstream, callers: &HeaderMap) -> Option<u64> {
    upstream.pause(callers, Held::Reads, NOW).map(|left| left.remaining.as_secs())
}

#[test]
fn other_settings_go_on_with_what_was_learned() {
    let before = Upstream::new(settings("old", Arc::new(NoCredential), Duration::from_secs(60)), state());
    let request = request("GET", &[]);
    let snapshot = before.session().snapshot(&[]);
    let tokens = fields(SYNC_TOKEN, "a=one;sn=1");
    before.session().observe(snapshot.covers, &tokens, NOW);
    assert!(before.put(&request.key, stored(200, &[("etag", "\"a\"")])));
    before.state.hit_for_miss.insert(&request.sharing_key(), NotStored::NoStore);
    pause(&before, &HeaderMap::new(), 300);

    let settings = settings("new", Arc::new(NoCredential), Duration::from_secs(5));
    let after = Upstream::new(settings, Arc::clone(&before.state));
    assert_eq!(after.authority(), "new");
    assert_eq!(after.session().snapshot(&[]).sync_token, Some(HeaderValue::from_static("a=one")));
    assert!(after.stored(&request).is_some() && after.hit_for_miss(&request).is_some());
    assert_eq!(remaining_seconds(&after, &HeaderMap::new()), Some(60), "what was promised is kept");
    // Each of the two takes note for the other.
    let write = after.session().open_write(Footprint::Everything);
    let verdict = |covers| {
        before.session().verdict(
            covers,
            &PresentedTokens::NOTHING,
            OrderScope::Upstream,
            || IndexLookUp::Any(1),
            |_| true,
        )
    };
    assert!(matches!(verdict(snapshot.covers), CoverageVerdict::Outdated(_)));
    let _closed = after.session().close_write(
        write,
        crate::sync_token::session::WriteOutcome::DidNotHappen,
        |footprint| footprint,
    );
    assert_eq!(verdict(snapshot.covers), CoverageVerdict::Covered);
}

#[test]
fn the_longest_pause_and_whose_it_is_are_settings() {
    let state = state();
    let of = |credential: Arc<dyn Credential>| {
        Upstream::new(settings("o", credential, Duration::from_secs(5)), Arc::clone(&state))
    };
    let (one, other) = (fields(AUTHORIZATION, "Bearer 1"), fields(AUTHORIZATION, "Bearer 2"));
    let forwarding = of(Arc::new(ForwardedCredential));
    pause(&forwarding, &one, 300);
    assert_eq!(remaining_seconds(&forwarding, &one), Some(5), "no longer than the limit");
    assert_eq!(remaining_seconds(&forwarding, &other), None, "each caller has a quota of its own");
    let own = of(Arc::new(NoCredential));
    pause(&own, &one, 3);
    assert_eq!(remaining_seconds(&own, &other), Some(3), "all callers share the quota of the sidecar");
    assert_eq!(remaining_seconds(&forwarding, &other), None);
}

fn app_configuration() -> Upstream {
    let settings = settings("o", Arc::new(NoCredential), Duration::from_secs(60));
    Upstream::new(
        ResolvedSettings { profile: Arc::new(AppConfiguration::new(Vec::new())), ..settings },
        state(),
    )
}

/// Shows and stores what an answer to a request that leaves now brings; returns the number of its revelation.
fn show(upstream: &Upstream, key: &CacheKey, answer: StoredResponse) -> u64 {
    let snapshot = upstream.session().snapshot(&[]);
    let answer = StoredResponse { covers: snapshot.covers, ..answer };
    let items = upstream.settings.profile.list_items(key.canonical_target(), &answer.body);
    let no_fields = HeaderMap::new();
    let shown = Shown::whole(key, &no_fields, &answer);
    let continues = upstream.settings.profile.continues(key.canonical_target(), &answer.body);
    let state = ShownState { items: items.as_deref(), continues, ..shown.state };
    let shown = Shown { state, is_stored: true, ..shown };
    let rules = CachingRules::app_configuration();
    let revelation = upstream.record_shown(shown, &snapshot, &Received::default(), &rules);
    assert!(upstream.put(key, answer));
    revelation
}

#[test]
fn an_absence_that_was_stored_before_the_key_was_shown_to_exist_is_a_change() {
    let upstream = app_configuration();
    let key = CacheKey::new("main", "", "/kv/a?api-version=2023-11-01");
    assert_ne!(show(&upstream, &key, stored(404, &[])), 0, "a first answer");
    assert_eq!(show(&upstream, &key, stored(404, &[])), 0, "the same again");
    // As the answer to an own write does.
    upstream.state.appearances.note(upstream.session().sent_order(), key.canonical_target());
    assert_ne!(show(&upstream, &key, stored(404, &[])), 0, "it has been deleted since");
    assert_eq!(show(&upstream, &key, stored(404, &[])), 0, "the same again");
}

#[test]
fn a_list_that_lacks_what_was_shown_since_shows_a_change_although_the_rest_is_of_own_writes() {
    let upstream = app_configuration();
    let of = |target| CacheKey::new("main", "", target);
    let list = |tag: &str, items: &'static [u8]| StoredResponse {
        body: items.into(),
        ..stored(200, &[("etag", tag)])
    };
    let key = of("/kv?api-version=2023-11-01&key=%2A");
    let before = list("\"page1\"", br#"{"items":[{"etag":"b1","key":"b","label":null}]}"#);
    let after = list("\"page2\"", br#"{"items":[{"etag":"b2","key":"b","label":null}]}"#);
    upstream.session().remember_own_tag(b"\"b2\"");
    assert_ne!(show(&upstream, &key, before.clone()), 0, "a first answer");
    assert_eq!(show(&upstream, &key, after.clone()), 0, "it differs by an own write alone");
    show(&upstream, &key, before);
    show(&upstream, &of("/kv/a?api-version=2023-11-01"), stored(200, &[("etag", "\"a1\"")]));
    assert_ne!(show(&upstream, &key, after), 0, "the other key has been deleted since");
}
