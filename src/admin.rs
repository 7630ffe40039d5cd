//! The operator's port: `/metrics`, `/livez`, `/readyz` and `/admin/…` with its page, on a listener of its own with a small connection
//! limit of its own, so that it answers when the callers' limit is reached.

mod authorization;
mod explain;
mod page;
mod purge;
mod quit;
mod rules;
mod serve;
mod status;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::credentials::token_file::Absent;
use crate::metrics::Metrics;
use crate::profile::Profile;
use crate::readiness::{Readiness, ReadinessNote, UnreadyReason};
use crate::store::Store;
pub use authorization::AdminTokenError;
pub use explain::Explainer;
pub use rules::AdminRules;
pub use serve::{reserved_descriptors, serve};
pub use status::{ConfiguredFacts, LiveState, Status, StatusSources, UpstreamStatus};

/// What the operator's port knows of one upstream.
#[derive(Clone)]
pub struct AdminUpstream {
    /// Its name in the configuration.
    pub name: String,
    /// How its targets stand in cache keys.
    pub profile: Arc<dyn Profile>,
    /// Forgets what is known of its sync tokens: after its configuration store was restored from a backup, sequence numbers may
    /// count lower than before.
    pub reset_sync_tokens: Arc<dyn Fn() + Send + Sync>,
    /// What the configuration says of it.
    pub facts: ConfiguredFacts,
    /// What is true of it at a moment.
    pub live_state: Arc<dyn Fn(Timestamp) -> LiveState + Send + Sync>,
}

/// What the operator's port shows and changes.
pub struct AdminState {
    metrics: Metrics,
    readiness: Readiness,
    store: Arc<dyn Store>,
    upstreams: Vec<AdminUpstream>,
    /// Replaced by a reload.
    rules: ArcSwap<AdminRules>,
    connections: usize,
    quitting: CancellationToken,
    explainer: Option<Explainer>,
    status: StatusSources,
}

type AdminResponse = Response<Full<Bytes>>;

/// The endpoint at a path: the method that it takes and what it does.
enum AdminPath {
    Live,
    Ready,
    Metrics,
    Root,
    Page,
    Status,
    Purge,
    SyncTokens,
    Explain,
    Quit,
}

impl AdminPath {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            "/" | "/admin" => Some(Self::Root),
            page::PATH => Some(Self::Page),
            "/admin/status" => Some(Self::Status),
            "/admin/purge" => Some(Self::Purge),
            "/admin/sync-tokens" => Some(Self::SyncTokens),
            "/admin/explain" => Some(Self::Explain),
            "/admin/quit" => Some(Self::Quit),
            _ => None,
        }
    }

    const fn methods(&self) -> &'static str {
        match self {
            Self::Live | Self::Ready | Self::Metrics | Self::Root | Self::Page | Self::Status => "GET, HEAD",
            Self::Purge | Self::Explain | Self::Quit => "POST",
            Self::SyncTokens => "DELETE",
        }
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods().split(", ").any(|taken| taken == method.as_str())
    }

    /// What changes something, or shows what is stored.
    const fn needs_token(&self) -> bool {
        matches!(self, Self::Purge | Self::SyncTokens | Self::Explain | Self::Quit)
    }
}

impl AdminState {
    /// Puts the handles together. Reads the token file; `absent_token` says what becomes of one that is configured and not there.
    ///
    /// # Errors
    /// [`AdminTokenError`] when there is a token file that can neither be read nor created.
    pub fn new(
        config: &Config,
        metrics: Metrics,
        readiness: Readiness,
        store: Arc<dyn Store>,
        upstreams: Vec<AdminUpstream>,
        absent_token: Absent,
        status: StatusSources,
    ) -> Result<Self, AdminTokenError> {
        let rules = ArcSwap::from_pointee(AdminRules::new(config, absent_token)?);
        let (connections, quitting) = (config.admin.connections, CancellationToken::new());
        Ok(Self {
            metrics,
            readiness,
            store,
            upstreams,
            rules,
            connections,
            quitting,
            status,
            explainer: None,
        })
    }

    /// The same with what `/admin/explain` asks.
    #[must_use]
    pub fn explaining(self, explainer: Explainer) -> Self {
        Self { explainer: Some(explainer), ..self }
    }

    /// Replaces the rules for the requests that come from now on.
    pub fn set_rules(&self, rules: AdminRules) {
        self.rules.store(Arc::new(rules));
    }

    /// The rules in force.
    #[cfg(test)]
    pub fn rules(&self) -> Arc<AdminRules> {
        self.rules.load_full()
    }

    /// Cancelled when the operator asks the sidecar to stop.
    pub const fn quitting(&self) -> &CancellationToken {
        &self.quitting
    }

    /// Answers one request. `body` has been read whole.
    async fn answer(&self, parts: &Parts, body: &[u8]) -> AdminResponse {
        let rules = self.rules.load_full();
        if let Err(refusal) = rules.sources.check(parts) {
            return problem(StatusCode::FORBIDDEN, "not-admitted", &refusal.to_string());
        }
        let Some(page) = AdminPath::at(parts.uri.path()) else {
            let pages = "There are /livez, /readyz, /metrics, /admin/, /admin/status, POST /admin/purge, DELETE /admin/sync-tokens, \
                         POST /admin/explain and POST /admin/quit";
            return problem(StatusCode::NOT_FOUND, "unknown-path", pages);
        };
        if !page.takes(&parts.method) {
            let mut answer =
                problem(StatusCode::METHOD_NOT_ALLOWED, "method", "Use the method that Allow names");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(page.methods()));
            return answer;
        }
        if page.needs_token()
            && let Err(refusal) = authorization::authorize(parts, rules.token_file.as_deref())
        {
            return problem(StatusCode::UNAUTHORIZED, "unauthenticated", &refusal);
        }
        match page {
            AdminPath::Live => answer_json(StatusCode::OK, &json!({ "alive": true })),
            AdminPath::Ready => self.ready(),
            AdminPath::Metrics => self.metrics(),
            AdminPath::Root => page::redirect(),
            AdminPath::Page => page::page(),
            AdminPath::Status => self.status(parts),
            AdminPath::Purge => self.purge(body),
            AdminPath::SyncTokens => self.reset_sync_tokens(parts),
            AdminPath::Explain => explain::answer(self.explainer.as_ref(), body).await,
            AdminPath::Quit => quit::quit(rules.can_quit, &self.quitting),
        }
    }

    fn ready(&self) -> AdminResponse {
        let reasons = self.readiness.reasons();
        let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let words: Vec<&str> = reasons.iter().copied().map(UnreadyReason::as_str).collect();
        let notes: Vec<&str> = self.readiness.notes().into_iter().map(ReadinessNote::as_str).collect();
        answer_json(status, &json!({ "ready": words.is_empty(), "reasons": words, "notes": notes }))
    }

    /// Sets the gauges of what is not counted as it happens.
    fn observe(&self) {
        let store = &self.store;
        self.metrics.observe_store(
            store.len(),
            store.weight_bytes(),
            store.capacity_bytes(),
            store.evictions(),
        );
        self.metrics.observe_ready(self.readiness.reasons().is_empty());
    }

    fn metrics(&self) -> AdminResponse {
        self.observe();
        match self.metrics.text() {
            Ok(text) => answer(StatusCode::OK, Metrics::MEDIA_TYPE, text.into()),
            Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string()),
        }
    }

    fn purge(&self, body: &[u8]) -> AdminResponse {
        match purge::parse(body) {
            Ok(purge) => {
                let purged = purge::run(&purge, &*self.store, &self.upstreams);
                tracing::info!(purged, what = %purge, "purged");
                answer_json(StatusCode::OK, &json!({ "purged": purged }))
            }
            Err(error) => problem(StatusCode::BAD_REQUEST, "purge", &error.to_string()),
        }
    }

    /// `DELETE /admin/sync-tokens[?upstream=NAME]`: all upstreams unless one is named. What is not understood resets nothing: a
    /// reset costs one validation for everything that is stored.
    fn reset_sync_tokens(&self, parts: &Parts) -> AdminResponse {
        let named = match only_parameter(parts.uri.query(), "upstream") {
            Ok(named) => named,
            Err(refusal) => return problem(StatusCode::BAD_REQUEST, "parameter", &refusal),
        };
        let chosen: Vec<&AdminUpstream> =
            self.upstreams.iter().filter(|upstream| named.is_none_or(|name| name == upstream.name)).collect();
        if chosen.is_empty() {
            return problem(
                StatusCode::NOT_FOUND,
                "upstream",
                "No upstream has that name; see tagalong check-config",
            );
        }
        for upstream in &chosen {
            (upstream.reset_sync_tokens)();
            tracing::info!(upstream = upstream.name, "sync tokens reset");
        }
        answer_json(StatusCode::OK, &json!({ "reset": chosen.iter().map(|it| &it.name).collect::<Vec<_>>() }))
    }
}

/// The value of the one parameter that a query may have; `None` without a query.
///
/// # Errors
/// What to send instead, when there is another parameter, or the same one twice.
fn only_parameter<'a>(query: Option<&'a str>, name: &str) -> Result<Option<&'a str>, String> {
    let Some(query) = query else { return Ok(None) };
    let mut value = None;
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some((found, text)) if found == name => {
                if value.replace(text).is_some() {
                    return Err(format!("{name} stands twice. Send ?{name}=NAME once, or no query for all"));
                }
            }
            _ => {
                return Err(format!(
                    "The query has something else than {name}=NAME. Send ?{name}=NAME, or no query for all"
                ));
            }
        }
    }
    Ok(value)
}

fn answer(status: StatusCode, media_type: &'static str, body: Bytes) -> AdminResponse {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn answer_json(status: StatusCode, value: &serde_json::Value) -> AdminResponse {
    answer(status, "application/json", format!("{value}\n").into())
}

fn problem(status: StatusCode, word: &str, detail: &str) -> AdminResponse {
    let value = json!({
        "type": format!("urn:tagalong:problem:admin:{word}"),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    answer(status, "application/problem+json", format!("{value}\n").into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use http::Request;
    use http_body_util::BodyExt;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Layers;
    use crate::config::caching::Sharing;
    use crate::profile::generic::Generic;
    use crate::profile::keyed_fields::FieldRules;
    use crate::proxy::hot_keys::HotKeys;
    use crate::store::MemoryStore;
    use crate::stored_response::CacheKey;

    pub(super) struct Port {
        pub(super) state: AdminState,
        resets: Arc<AtomicUsize>,
        readiness: Readiness,
        pub(super) hot_keys: Option<Arc<HotKeys>>,
    }

    #[test]
    fn a_probe_by_the_address_of_the_machine_is_answered_where_other_machines_are_allowed() {
        let port = port(&["admin.allow_remote=true"]);
        assert_eq!(ask(&port, "GET", "/livez", &[("host", "10.1.2.3:8485")], "").0, 200);
    }

    pub(super) fn port(assignments: &[&str]) -> Port {
        let layers = assignments.iter().fold(Layers::new(), |layers, it| layers.assignment(it));
        let config = Config::unvalidated(layers).unwrap();
        let resets = Arc::new(AtomicUsize::new(0));
        let counter = resets.clone();
        let upstream = AdminUpstream {
            name: "main".to_owned(),
            profile: Arc::new(Generic::new(
                &"http://origin.test".parse().unwrap(),
                Sharing::Guarded,
                FieldRules::default(),
            )),
            reset_sync_tokens: Arc::new(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            }),
            facts: ConfiguredFacts::default(),
            live_state: Arc::new(|_| LiveState::default()),
        };
        let readiness = Readiness::starting();
        let store = Arc::new(MemoryStore::new(1 << 20, 32));
        let metrics = Metrics::new(["main"]);
        let hot_keys = config.admin.show_keys.then(Arc::default);
        let status = StatusSources::new(&config, &metrics, Clock::System, hot_keys.clone());
        let upstreams = vec![upstream];
        let state =
            AdminState::new(&config, metrics, readiness.clone(), store, upstreams, Absent::Create, status)
                .unwrap();
        Port { state, resets, readiness, hot_keys }
    }

    pub(super) fn ask(
        port: &Port,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> (u16, AdminResponse) {
        let mut request = Request::builder().method(method).uri(target);
        if !fields.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1:8485");
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let answer = port.state.answer(&parts, body.as_bytes()).now_or_never().expect("it waits for nothing");
        (answer.status().as_u16(), answer)
    }

    pub(super) async fn text(answer: AdminResponse) -> String {
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn readiness_gives_its_reasons() {
        let port = port(&[]);
        let (status, answer) = ask(&port, "GET", "/readyz", &[], "");
        assert_eq!(
            (status, text(answer).await.as_str()),
            (503, "{\"notes\":[],\"ready\":false,\"reasons\":[\"starting\"]}\n")
        );
        port.readiness.clear(UnreadyReason::Starting);
        assert_eq!(ask(&port, "GET", "/readyz", &[], "").0, 200);
        port.readiness.add(UnreadyReason::Draining);
        assert_eq!(ask(&port, "GET", "/readyz", &[], "").0, 503);
        assert_eq!(ask(&port, "HEAD", "/livez", &[], "").0, 200, "draining is alive");
    }

    #[tokio::test]
    async fn metrics_show_the_store_as_it_is_now() {
        let port = port(&[]);
        let (status, answer) = ask(&port, "GET", "/metrics", &[], "");
        let text = text(answer).await;
        assert_eq!(status, 200);
        assert!(text.contains("tagalong_store_capacity_bytes 1048576\n"), "{text}");
        assert!(text.contains("tagalong_ready 0\n"), "{text}");
    }

    #[test]
    fn a_wrong_method_is_told_the_right_one() {
        let port = port(&[]);
        for (method, path, allow) in [
            ("GET", "/admin/purge", "POST"),
            ("POST", "/metrics", "GET, HEAD"),
            ("POST", "/admin/sync-tokens", "DELETE"),
            ("GET", "/admin/explain", "POST"),
        ] {
            let (status, answer) = ask(&port, method, path, &[], "");
            assert_eq!((status, answer.headers()[ALLOW].to_str().unwrap()), (405, allow), "{path}");
        }
        assert_eq!(ask(&port, "GET", "/nowhere", &[], "").0, 404);
    }

    #[test]
    fn sync_tokens_are_reset_for_the_upstream_that_is_named() {
        let port = port(&[]);
        assert_eq!(ask(&port, "DELETE", "/admin/sync-tokens", &[], "").0, 200);
        assert_eq!(ask(&port, "DELETE", "/admin/sync-tokens?upstream=main", &[], "").0, 200);
        assert_eq!(ask(&port, "DELETE", "/admin/sync-tokens?upstream=x", &[], "").0, 404);
        assert_eq!(port.resets.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_reset_that_is_not_understood_resets_nothing() {
        let port = port(&[]);
        for query in [
            "",
            "main",
            "upstream",
            "name=main",
            "Upstream=main",
            "upstream=main&upstream=main",
            "upstream=main&x=1",
            "x=1&upstream=main",
            "upstream=main&",
        ] {
            let (status, answer) = ask(&port, "DELETE", &format!("/admin/sync-tokens?{query}"), &[], "");
            let text = text(answer).await;
            assert_eq!(status, 400, "{query}");
            assert!(text.contains("?upstream=NAME"), "{query}: {text}");
        }
        assert_eq!(port.resets.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn browsers_and_rebound_names_are_refused() {
        let port = port(&["guard.allowed_hosts=metrics.test"]);
        for fields in [
            [("host", "attacker.test"), ("accept", "*/*")],
            [("host", "127.0.0.1:8485"), ("sec-fetch-site", "cross-site")],
            [("host", "localhost:8485"), ("origin", "http://attacker.test")],
        ] {
            assert_eq!(ask(&port, "GET", "/metrics", &fields, "").0, 403, "{fields:?}");
        }
        for host in ["localhost:8485", "[::1]:8485", "metrics.test", "METRICS.test:80"] {
            assert_eq!(ask(&port, "GET", "/metrics", &[("host", host)], "").0, 200, "{host}");
        }
        for fields in [
            [("host", "localhost"), ("sec-fetch-site", "same-site")],
            [("host", "10.1.2.3:8485"), ("accept", "*/*")],
        ] {
            assert_eq!(ask(&port, "GET", "/metrics", &fields, "").0, 403, "as the guard: {fields:?}");
        }
    }

    #[test]
    fn what_changes_state_wants_the_token_if_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let port = port(&[&format!("admin.token_file={}", path.display())]);
        let token = std::fs::read_to_string(&path).unwrap();
        let all = r#"{"all":true}"#;
        assert_eq!(ask(&port, "POST", "/admin/purge", &[], all).0, 401);
        assert_eq!(ask(&port, "POST", "/admin/purge", &[("authorization", "Bearer x")], all).0, 401);
        let bearer = format!("bearer {}", token.trim());
        assert_eq!(ask(&port, "POST", "/admin/purge", &[("authorization", &bearer)], all).0, 200);
        assert_eq!(ask(&port, "GET", "/metrics", &[], "").0, 200);
        std::fs::write(&path, "rotated\n").unwrap();
        assert_eq!(ask(&port, "POST", "/admin/purge", &[("authorization", &bearer)], all).0, 401);
        assert_eq!(ask(&port, "POST", "/admin/purge", &[("authorization", "Bearer rotated")], all).0, 200);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ask(&port, "POST", "/admin/purge", &[("authorization", "Bearer rotated")], all).0, 401);
    }

    #[test]
    fn a_purge_takes_what_it_names_in_all_partitions_and_nothing_else() {
        let port = port(&[]);
        let fill = || {
            for (partition, target) in
                [("own", "/kv/a"), ("b", "/kv/a"), ("own", "/kv/ab?x=1"), ("own", "/keys")]
            {
                let response = crate::store::conformance::response("", b"");
                port.state.store.put(&CacheKey::new("main", partition, target), response);
            }
        };
        for (body, left) in [
            (r#"{"key":"/kv/a"}"#, 2),
            (r#"{"prefix":"/kv/a"}"#, 1),
            (r#"{"all":true}"#, 0),
            (r#"{"key":"/k"}"#, 4),
        ] {
            port.state.store.clear();
            fill();
            assert_eq!(ask(&port, "POST", "/admin/purge", &[], body).0, 200, "{body}");
            assert_eq!(port.state.store.len(), left, "{body}");
        }
    }

    #[test]
    fn a_purge_that_is_not_understood_purges_nothing() {
        let port = port(&[]);
        for body in ["", "{}", "{\"all\":false}", "{\"all\":true,\"key\":\"/x\"}", "[]", "{\"prefix\":\"\"}"]
        {
            assert_eq!(ask(&port, "POST", "/admin/purge", &[], body).0, 400, "{body}");
        }
    }
}
