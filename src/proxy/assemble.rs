//! From the configuration to what serves it: for each `[upstream]` section one [`Destination`] with all that belongs to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Uri, Version};
use prometheus::IntCounter;

use super::destination::{Destination, RouteRules};
use super::fleet::{Fleet, FleetKeyError};
use super::refresh::RefreshQueue;
use crate::body::budget::BufferBudget;
use crate::clock::Clock;
use crate::config::input_file::random_bytes;
use crate::config::{self, CachingRules, Config, CredentialKind, ProfileKind};
use crate::credentials::bearer::BearerFile;
use crate::credentials::entra::{EntraCredential, EntraError};
use crate::credentials::hmac::{HmacCredential, KeyError};
use crate::credentials::partition::Partitions;
use crate::credentials::refusal::Refusals;
use crate::credentials::token_file::Absent;
use crate::credentials::{Credential, ForwardedCredential, NoCredential, travels_in_the_clear};
use crate::fleet::engine::FleetEngine;
use crate::fleet::member::FleetMember;
use crate::fleet::redis::FleetUrlError;
use crate::guard::callers::CallersError;
use crate::guard::permissions::Permissions;
use crate::headers::uri_reference::absolute;
use crate::headers::via::Pseudonym;
use crate::metrics::{Metrics, MirrorMetrics, OriginCounters, UpstreamMetrics};
use crate::mirror::collection::Bounds;
use crate::mirror::selector::{Selector, SelectorError};
use crate::mirror::{Mirror, ResolvedMirror};
use crate::profile::Profile;
use crate::profile::app_configuration::AppConfiguration;
use crate::profile::generic::Generic;
use crate::profile::keyed_fields::FieldRules;
use crate::profile::recognition::Recognition;
use crate::snapshot::keep::sync_tokens_beside;
use crate::store::{MemoryStore, Store};
use crate::sync_token::clauses::Clauses;
use crate::sync_token::persisted::{PersistedTokens, PersistenceError};
use crate::trace::Tracer;
use crate::transport::client::{ExchangeLimits, PooledClient};
use crate::transport::dial::Dial;
use crate::transport::tls::{NetworkDial, TlsError};
use crate::upstream::Upstream;
use crate::upstream::budget::Budget;
use crate::upstream::endpoints::{Endpoint, Endpoints};
use crate::upstream::settings::ResolvedSettings;
use crate::upstream::state::{Surroundings, UpstreamState};

/// Why a configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// An upstream's URL names no host.
    #[error("upstream {name:?} has no host; set its url to something like https://contoso.azconfig.io")]
    NoAuthority {
        /// The upstream's name.
        name: String,
    },
    /// An upstream's TLS cannot be set up.
    #[error("upstream {name:?}: {source}")]
    Tls {
        /// The upstream's name.
        name: String,
        /// What is wrong.
        source: Box<TlsError>,
    },
    /// A listener's callers cannot be told apart.
    #[error("listener {name:?}: {source}")]
    Callers {
        /// The listener's name.
        name: String,
        /// What is wrong.
        source: CallersError,
    },
    /// There is no access key.
    #[error("upstream {name:?}: {source}")]
    Key {
        /// The upstream's name.
        name: String,
        /// What is wrong.
        source: KeyError,
    },
    /// A selector of its mirror selects nothing.
    #[error(
        "upstream.mirror.select of upstream {name:?}: {select:?}: {source}; write a filter such as \"key=app:*&label=prod\""
    )]
    Mirror {
        /// The upstream's name.
        name: String,
        /// As it was written.
        select: String,
        /// What is wrong.
        source: SelectorError,
    },
    /// Sync tokens can be kept nowhere.
    #[error("upstream {name:?}: {source}")]
    SyncTokens {
        /// The upstream's name.
        name: String,
        /// What is wrong.
        source: PersistenceError,
    },
    /// No tokens can be asked for.
    #[error("upstream {name:?}: {source}")]
    Entra {
        /// The upstream's name.
        name: String,
        /// What is missing.
        source: EntraError,
    },
    /// The fleet's engine cannot be named.
    #[error(transparent)]
    Fleet(#[from] FleetUrlError),
    /// Spans cannot be sent.
    #[error("tracing.endpoint: {cause}")]
    Tracing {
        /// What is wrong.
        cause: String,
    },
    /// There is no key of the fleet.
    #[error(transparent)]
    FleetKey(#[from] FleetKeyError),
}

/// How often a mirror validates where nothing gives responses a lifetime.
const DEFAULT_MIRROR_INTERVAL: Duration = Duration::from_secs(30);

/// How connections to an upstream are opened.
pub type DialFactory = dyn Fn(&config::UpstreamSettings) -> Arc<dyn Dial>;

/// What the world around the proxy is: real by default, handed in by tests.
pub struct Environment<'a> {
    /// What time it is.
    pub clock: Clock,
    /// How connections are opened; over the network by default.
    pub dial: Option<&'a DialFactory>,
    /// Which clauses of the coverage rule are on; all of them outside tests.
    pub clauses: Clauses,
    /// What becomes of the sidecar's own token files that are not there.
    pub absent_token: Absent,
    /// The engine of the fleet; that of the configuration by default.
    pub engine: Option<Arc<dyn FleetEngine>>,
}

impl Default for Environment<'_> {
    fn default() -> Self {
        Self {
            clock: Clock::System,
            dial: None,
            clauses: Clauses::ALL,
            absent_token: Absent::Create,
            engine: None,
        }
    }
}

/// The store that all upstreams share; their names keep their keys apart.
pub fn store(config: &Config) -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(config.store.limit_bytes, config.store.variants))
}

/// One destination for each upstream of the configuration, in its order.
pub fn destinations(
    config: &Config,
    store: &Arc<dyn Store>,
    buffers: &Arc<BufferBudget>,
    pseudonym: &Pseudonym,
    metrics: &Metrics,
    tracer: &Tracer,
    environment: &Environment<'_>,
) -> Result<Vec<Destination>, AssembleError> {
    let fleet = Fleet::new(config, environment)?;
    let upstreams = config.upstreams.iter().enumerate();
    upstreams
        .map(|(index, upstream)| {
            let metrics = metrics.upstream(index);
            let snapshot = config.snapshot.file.as_deref();
            destination(
                upstream,
                (snapshot, fleet.as_ref(), tracer),
                store,
                buffers,
                pseudonym,
                metrics,
                environment,
            )
        })
        .collect()
}

fn destination(
    upstream: &config::UpstreamSettings,
    (snapshot, fleet, tracer): (Option<&Path>, Option<&Fleet<'_>>, &Tracer),
    store: &Arc<dyn Store>,
    buffers: &Arc<BufferBudget>,
    pseudonym: &Pseudonym,
    metrics: &UpstreamMetrics,
    environment: &Environment<'_>,
) -> Result<Destination, AssembleError> {
    let name = || upstream.name.clone();
    let authority = upstream
        .authority()
        .map(|authority| without_default_port(upstream.scheme(), authority))
        .ok_or_else(|| AssembleError::NoAuthority { name: name() })?;
    let dial: Arc<dyn Dial> = match environment.dial {
        Some(dial) => dial(upstream),
        None => Arc::new(
            NetworkDial::new(&upstream.tls, &upstream.proxy, upstream.http2)
                .map_err(|source| AssembleError::Tls { name: name(), source: Box::new(source) })?,
        ),
    };
    let limits = exchange_limits(upstream);
    let credential = credential(upstream, metrics.origin.clone(), environment.clock.clone())?;
    let state = UpstreamState::new(
        Surroundings {
            store: Arc::clone(store),
            buffers: Arc::clone(buffers),
            metrics: metrics.origin.clone(),
            clock: environment.clock.clone(),
            tracer: tracer.clone(),
        },
        environment.clauses,
        Partitions::new(random_key()),
        Recognition::new(upstream.is_generic_by_default()),
    );
    keep_tokens(upstream, snapshot, authority.as_str(), &state, environment)
        .map_err(|source| AssembleError::SyncTokens { name: name(), source })?;
    let fleet = fleet.map(|fleet| Arc::new(fleet.member(upstream, &*credential, metrics.fleet.clone())));
    if let Some(member) = &fleet {
        state.session.enable_fleet(member.id(), upstream.settle_time);
    }
    let lasting = Lasting {
        endpoints: Arc::new(endpoints(upstream, authority, &dial, limits, metrics)),
        state: Arc::new(state),
        profile: profile(upstream, environment.clauses),
        budget: upstream
            .budget
            .is_limited()
            .then(|| Arc::new(Budget::new(upstream.budget.clone(), metrics.budget.clone()))),
        credential,
        fleet,
        partitions: Arc::new(Partitions::new(random_key())),
        refreshes: upstream.refresh_ahead.then(Arc::default),
        refreshed: metrics.requests.refreshed.clone(),
        mirror: None,
    };
    let mut destination = lasting.with_settings(upstream, pseudonym);
    let (served, rules) = (&destination.upstream, &destination.rules);
    destination.mirror = mirror(upstream, served, rules, &environment.clock, &metrics.mirror)?;
    Ok(destination)
}

/// What of a destination may outlive its settings.
pub(super) struct Lasting {
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) state: Arc<UpstreamState>,
    pub(super) profile: Arc<dyn Profile>,
    pub(super) budget: Option<Arc<Budget>>,
    pub(super) credential: Arc<dyn Credential>,
    pub(super) fleet: Option<Arc<FleetMember>>,
    pub(super) partitions: Arc<Partitions>,
    pub(super) refreshes: Option<Arc<RefreshQueue>>,
    pub(super) refreshed: IntCounter,
    pub(super) mirror: Option<Arc<Mirror>>,
}

impl Lasting {
    /// The destination with these settings.
    pub(super) fn with_settings(
        self,
        upstream: &config::UpstreamSettings,
        pseudonym: &Pseudonym,
    ) -> Destination {
        let settings = ResolvedSettings {
            name: upstream.name.clone(),
            endpoints: self.endpoints,
            replica_lag: upstream.replica_lag,
            profile: self.profile,
            credential: self.credential,
            settle_time: upstream.settle_time,
            conflict_wait: upstream.conflict_wait,
            retry_after_limit: upstream.retry_after_limit,
            budget: self.budget,
            fleet: self.fleet,
            via: pseudonym.value(Version::HTTP_11),
        };
        Destination {
            mirror: self.mirror,
            prefetched: upstream.prefetch.targets.clone(),
            refreshes: self.refreshes,
            refreshed: self.refreshed,
            origin: origin(upstream),
            permissions: Permissions::new(upstream),
            partitions: self.partitions,
            hosts: upstream.hosts.clone(),
            path_prefix: upstream.path_prefix.clone(),
            rules: Arc::new(upstream.caching_rules()),
            routes: upstream
                .routes
                .iter()
                .map(|route| RouteRules {
                    path_prefix: route.path_prefix.clone(),
                    rules: Arc::new(upstream.caching_rules_of(route)),
                    write_strategy: route.write_strategy.unwrap_or(upstream.write_strategy),
                })
                .collect(),
            write_strategy: upstream.write_strategy,
            caller_field: upstream.caller_field.clone(),
            key_use: None,
            upstream: Arc::new(Upstream::new(settings, self.state)),
        }
    }
}

/// Makes spans if the configuration names a collector. Only a program that serves sends them; a check of the configuration has no runtime.
///
/// # Errors
/// [`AssembleError::Tracing`] where the collector cannot be reached at all.
#[cfg(feature = "otlp")]
pub fn tracer(config: &Config) -> Result<Tracer, AssembleError> {
    use crate::trace::Exporting;

    let tracing = &config.tracing;
    let failed = |cause: String| AssembleError::Tracing { cause };
    let Some((endpoint, authority)) = tracing.endpoint.as_ref().and_then(|it| Some((it, it.authority()?)))
    else {
        return Ok(Tracer::default());
    };
    let tls = config::UpstreamTls { ca_file: tracing.ca_file.clone(), ..Default::default() };
    let dial = NetworkDial::new(&tls, &config::UpstreamProxy::None, false);
    let dial = dial.map_err(|error| failed(format!("tracing.ca_file: {error}")))?;
    if tokio::runtime::Handle::try_current().is_err() {
        return Ok(Tracer::default());
    }
    let scheme = endpoint.scheme().cloned().unwrap_or(Scheme::HTTP);
    let ratio = tracing.sample_percent as f64 / 100.0;
    let exporting = Exporting::new(scheme, authority.clone(), Arc::new(dial), ratio);
    exporting.map(Tracer::new).map_err(|error| failed(error.to_string()))
}

/// No spans.
///
/// # Errors
/// [`AssembleError::Tracing`] where the configuration names a collector.
#[cfg(not(feature = "otlp"))]
pub fn tracer(config: &Config) -> Result<Tracer, AssembleError> {
    if config.tracing.endpoint.is_none() {
        return Ok(Tracer::default());
    }
    let cause = "this program was built without spans; build it with --features otlp, or leave the key out";
    Err(AssembleError::Tracing { cause: cause.to_owned() })
}

/// What the configuration says of an exchange.
pub(super) fn exchange_limits(upstream: &config::UpstreamSettings) -> ExchangeLimits {
    ExchangeLimits {
        connect_deadline: upstream.connect_deadline,
        header_deadline: upstream.header_deadline,
        body_stall_deadline: upstream.body_stall_deadline,
        pool_idle_time: upstream.pool_idle_time,
        pool_idle_limit: upstream.pool_idle_limit,
        exchange_limit: upstream.exchange_limit,
        exchange_wait: upstream.exchange_wait,
        header_section_limit_bytes: usize::try_from(upstream.header_section_limit_bytes)
            .unwrap_or(usize::MAX),
    }
}

/// Keeps the tokens of the session in a file: in the one that is configured, else beside the snapshot, which is written too seldom to have
/// the latest ones. Only the former stops the start where it cannot be had.
fn keep_tokens(
    upstream: &config::UpstreamSettings,
    snapshot: Option<&Path>,
    endpoint: &str,
    state: &UpstreamState,
    environment: &Environment<'_>,
) -> Result<(), PersistenceError> {
    let has_tokens = upstream.profile() == ProfileKind::AppConfiguration;
    let beside = snapshot.filter(|_| has_tokens).map(|snapshot| sync_tokens_beside(snapshot, &upstream.name));
    let Some(path) = upstream.sync_token_file.as_ref().or(beside.as_ref()) else { return Ok(()) };
    let is_configured = upstream.sync_token_file.is_some();
    let opened = match environment.absent_token {
        Absent::Try => PersistedTokens::check(path, endpoint).map(|()| None),
        Absent::Create => PersistedTokens::open(path, endpoint).map(Some),
    };
    match opened {
        Ok(Some((persisted, tokens))) => {
            state.session.persist(persisted, &tokens, environment.clock.now());
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) if is_configured => Err(error),
        Err(error) => {
            tracing::warn!(%error, "sync tokens are not kept; after a restart a caller may be shown less than before");
            Ok(())
        }
    }
}

/// The URL of an upstream, and its replicas.
fn endpoints(
    upstream: &config::UpstreamSettings,
    authority: Authority,
    dial: &Arc<dyn Dial>,
    limits: ExchangeLimits,
    metrics: &UpstreamMetrics,
) -> Endpoints {
    let replicas = upstream.replicas.iter().filter_map(Uri::authority);
    let replicas = replicas.map(|replica| without_default_port(upstream.scheme(), replica));
    let (scheme, dial, of_endpoints) =
        (upstream.scheme().clone(), Arc::clone(dial), metrics.endpoints.clone());
    let make = move |authority: Authority| {
        let (requests, is_active) = of_endpoints.of(authority.as_str());
        let client = PooledClient::new(scheme.clone(), authority, Arc::clone(&dial), limits);
        Endpoint { client, requests, is_active }
    };
    Endpoints::new(authority, replicas, metrics.endpoints.failovers.clone(), Box::new(make))
}

/// The mirror of an upstream, if it has one. It holds nothing until it runs.
fn mirror(
    settings: &config::UpstreamSettings,
    upstream: &Arc<Upstream>,
    rules: &Arc<CachingRules>,
    clock: &Clock,
    metrics: &MirrorMetrics,
) -> Result<Option<Arc<Mirror>>, AssembleError> {
    if !settings.mirror.enabled {
        return Ok(None);
    }
    let selector = |select: &String| {
        Selector::parse(select).map_err(|source| AssembleError::Mirror {
            name: settings.name.clone(),
            select: select.clone(),
            source,
        })
    };
    let mut selectors = settings.mirror.select.iter().map(selector).collect::<Result<Vec<_>, _>>()?;
    if selectors.is_empty() {
        selectors.push(Selector::everything());
    }
    let (interval, bounds) = mirror_limits(settings, rules);
    let resolved = ResolvedMirror { selectors, interval, bounds };
    let (upstream, rules) = (Arc::clone(upstream), Arc::clone(rules));
    Ok(Some(Arc::new(Mirror::new(resolved, upstream, rules, clock.clone(), metrics.clone()))))
}

/// How often a mirror validates, and how much it may hold.
pub(super) fn mirror_limits(settings: &config::UpstreamSettings, rules: &CachingRules) -> (Duration, Bounds) {
    let interval = settings.mirror.interval.or(rules.freshness).unwrap_or(DEFAULT_MIRROR_INTERVAL);
    let bounds = Bounds {
        items: settings.mirror.items_limit,
        bytes: usize::try_from(settings.mirror.bytes_limit).unwrap_or(usize::MAX),
    };
    (interval, bounds)
}

/// The authority as it will stand in `Host`, which HTTP clients send without the scheme's own port: what is signed must be what
/// is sent.
fn without_default_port(scheme: &Scheme, authority: &Authority) -> Authority {
    let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    match authority.port_u16() {
        Some(port) if port == default_port => authority.host().parse().unwrap_or_else(|_| authority.clone()),
        _ => authority.clone(),
    }
}

fn origin(upstream: &config::UpstreamSettings) -> Uri {
    absolute(upstream.url.scheme(), upstream.url.authority(), PathAndQuery::from_static("/"))
}

fn profile(upstream: &config::UpstreamSettings, clauses: Clauses) -> Arc<dyn Profile> {
    match upstream.profile() {
        ProfileKind::AppConfiguration => {
            let profile = AppConfiguration::new(upstream.forwarded_request_fields.clone());
            Arc::new(profile.with_clauses(clauses))
        }
        ProfileKind::Generic => {
            let fields = FieldRules {
                forwarded: upstream.forwarded_request_fields.clone(),
                ignored: upstream.ignored_fields.clone(),
                partition: upstream.partition_fields.clone(),
            };
            let profile = Generic::new(&upstream.url, upstream.sharing, fields);
            Arc::new(
                operators_outdates(upstream)
                    .into_iter()
                    .fold(profile, |profile, (written, outdated)| profile.with_outdates(written, outdated)),
            )
        }
    }
}

/// What writes outdate by the configuration, for profiles that do not know it themselves.
pub(super) fn operators_outdates(upstream: &config::UpstreamSettings) -> Vec<(String, Vec<String>)> {
    upstream.routes.iter().map(|route| (route.path_prefix.clone(), route.outdates.clone())).collect()
}

pub(super) fn credential(
    upstream: &config::UpstreamSettings,
    metrics: OriginCounters,
    clock: Clock,
) -> Result<Arc<dyn Credential>, AssembleError> {
    let variable = |name: &str| std::env::var(name).ok();
    let refusals = Refusals::new(upstream.name.clone(), metrics);
    let is_bearer = matches!(upstream.credential.kind, CredentialKind::BearerFile | CredentialKind::Entra);
    if is_bearer && travels_in_the_clear(&upstream.url) {
        tracing::warn!(upstream = %upstream.name, "the token goes upstream over plain http, where it can be read; use https");
    }
    match upstream.credential.kind {
        CredentialKind::None => Ok(Arc::new(NoCredential)),
        CredentialKind::Forward => Ok(Arc::new(ForwardedCredential)),
        CredentialKind::Hmac => {
            let key = HmacCredential::new(upstream, variable, refusals)
                .map_err(|source| AssembleError::Key { name: upstream.name.clone(), source })?;
            Ok(Arc::new(key))
        }
        CredentialKind::BearerFile => {
            let path = upstream.credential.bearer_file.clone().unwrap_or_default();
            Ok(Arc::new(BearerFile::new(&path, clock, refusals)))
        }
        CredentialKind::Entra => {
            // The client certificate is for the upstream alone.
            let tls = config::UpstreamTls { ca_file: upstream.tls.ca_file.clone(), ..Default::default() };
            let dial = NetworkDial::new(&tls, &upstream.proxy, upstream.http2).map_err(|source| {
                AssembleError::Tls { name: upstream.name.clone(), source: Box::new(source) }
            })?;
            let credential = EntraCredential::new(upstream, variable, Arc::new(dial), clock, refusals)
                .map_err(|source| AssembleError::Entra { name: upstream.name.clone(), source })?;
            Ok(Arc::new(credential))
        }
    }
}

/// How this process names itself in `Via`: unlike any other, because sidecars may be chained and a request that carries our
/// own name is a loop.
#[expect(clippy::expect_used, reason = "letters, a dash and hexadecimal digits are a token")]
pub fn pseudonym() -> Pseudonym {
    let [a, b, c, d, ..] = random_key();
    Pseudonym::new(&format!("tagalong-{a:02x}{b:02x}{c:02x}{d:02x}")).expect("a token")
}

/// 32 unpredictable bytes.
fn random_key() -> [u8; 32] {
    // Without the system's source of randomness TLS fails as well. A key of zeros still keeps callers apart; it permits a
    // reader of this process's memory to test guessed credentials.
    random_bytes().unwrap_or_default()
}
