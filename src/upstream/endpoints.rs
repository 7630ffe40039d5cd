//! The endpoints of one upstream: its URL and its replicas. All requests go to one of them, the *active* one, while it lives.
//!
//! ```text
//! request ──▶ active endpoint ── no connection, no answer, 3 × 500/502/504 ──▶ backs off: 1 s, doubled up to 60 s, ± a half
//!                                                                        └──▶ the first other one that does not back off is active
//! ```
//!
//! A failover begins an epoch of the [`session`](crate::sync_token::session): tokens and coverage mean nothing at another replica. What
//! callers were told holds all the same: [`told`](super::told).
//!
//! It stays at the endpoint that it has failed over to, as long as that lives: each failover costs a validation of all that is stored.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::Authority;
use http::{Response, StatusCode};
use prometheus::{IntCounter, IntGauge};
use tokio::time::Instant;

use super::Upstream;
use crate::clock::instant;
use crate::error::ProxyError;
use crate::transport::client::{ExchangeLimits, PooledClient};
use crate::transport::received_body::ReceivedBody;
use crate::transport::replica_discovery::{DiscoveryError, ReplicaDiscovery};

/// How many answers in a row that say that the origin fails count like no answer.
const FAILED_ANSWERS: u32 = 3;

/// A store has at most a handful.
const MOST_ENDPOINTS: usize = 32;

const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// One endpoint.
pub struct Endpoint {
    /// Its client.
    pub client: PooledClient,
    /// Requests that it was sent.
    pub requests: IntCounter,
    /// Whether it is the active one.
    pub is_active: IntGauge,
}

/// Makes the endpoint with an authority.
pub type MakeEndpoint = dyn Fn(Authority) -> Endpoint + Send + Sync;

/// See the module.
pub struct Endpoints {
    /// None is ever taken out, so that positions stay.
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    make: Box<MakeEndpoint>,
    first: Arc<Endpoint>,
    active: AtomicUsize,
    health: Mutex<Vec<Health>>,
    failovers: IntCounter,
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    failed_answers: u32,
    /// How often it has backed off in a row.
    back_offs: u32,
    retry_at: Option<Instant>,
}

/// What an exchange says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    Lives,
    Fails,
    FailsPerhaps,
    /// It was not asked.
    Nothing,
}

fn evidence(exchanged: &Result<Response<ReceivedBody>, ProxyError>) -> Evidence {
    match exchanged {
        Ok(response) => match response.status() {
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                Evidence::FailsPerhaps
            }
            _ => Evidence::Lives,
        },
        Err(
            ProxyError::Connect { .. } | ProxyError::ConnectTimeout { .. } | ProxyError::AnswerTimeout { .. },
        ) => Evidence::Fails,
        Err(ProxyError::BrokenAnswer { .. }) => Evidence::FailsPerhaps,
        Err(_) => Evidence::Nothing,
    }
}

impl Endpoints {
    /// The endpoint of `first`, which is the active one, and its replicas in the order of preference.
    #[must_use]
    pub fn new(
        first: Authority,
        replicas: impl IntoIterator<Item = Authority>,
        failovers: IntCounter,
        make: Box<MakeEndpoint>,
    ) -> Self {
        let first = Arc::new(make(first));
        first.is_active.set(1);
        let endpoints = ArcSwap::from_pointee(vec![Arc::clone(&first)]);
        let health = Mutex::new(vec![Health::default()]);
        let made = Self { endpoints, make, first, active: AtomicUsize::new(0), health, failovers };
        made.add(replicas);
        made
    }

    /// Adds replicas that are not known yet. Returns how many those are.
    pub fn add(&self, replicas: impl IntoIterator<Item = Authority>) -> usize {
        let mut health = self.lock();
        let mut endpoints = (**self.endpoints.load()).clone();
        let before = endpoints.len();
        for authority in replicas {
            let is_known = endpoints.iter().any(|it| *it.client.authority() == authority);
            if !is_known && endpoints.len() < MOST_ENDPOINTS {
                let endpoint = (self.make)(authority);
                endpoint.client.set_limits(self.first.client.limits());
                endpoints.push(Arc::new(endpoint));
                health.push(Health::default());
            }
        }
        let added = endpoints.len() - before;
        self.endpoints.store(Arc::new(endpoints));
        added
    }

    /// Replaces the limits of every endpoint, also of those that are added later.
    pub fn set_limits(&self, limits: ExchangeLimits) {
        let _none_is_added_meanwhile = self.lock();
        self.endpoints.load().iter().for_each(|endpoint| endpoint.client.set_limits(limits));
    }

    /// The position of the active endpoint.
    #[must_use]
    pub fn position(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// The active endpoint and its position.
    #[must_use]
    pub fn active(&self) -> (usize, Arc<Endpoint>) {
        let active = self.position();
        (active, self.endpoints.load().get(active).map_or_else(|| Arc::clone(&self.first), Arc::clone))
    }

    /// The endpoint that the configuration names first.
    #[must_use]
    pub const fn first(&self) -> &Arc<Endpoint> {
        &self.first
    }

    /// Whether there are replicas.
    #[must_use]
    pub fn has_replicas(&self) -> bool {
        self.endpoints.load().len() > 1
    }

    /// Takes note of an exchange with the endpoint at this position. Where it fails and is the active one, `fail_over` is called with the
    /// position of the next one before that is asked, and `has_failed_over` after: both under a lock.
    pub fn observe(
        &self,
        endpoint: usize,
        exchanged: &Result<Response<ReceivedBody>, ProxyError>,
        fail_over: impl FnOnce(usize),
        has_failed_over: impl FnOnce(usize),
    ) {
        if !self.has_replicas() {
            return;
        }
        let evidence = evidence(exchanged);
        if evidence == Evidence::Nothing {
            return;
        }
        let mut health = self.lock();
        let Some(own) = health.get_mut(endpoint) else { return };
        match evidence {
            Evidence::Lives => *own = Health::default(),
            Evidence::FailsPerhaps if own.failed_answers + 1 < FAILED_ANSWERS => own.failed_answers += 1,
            _ => {
                let back_off = FIRST_BACK_OFF.saturating_mul(1 << own.back_offs.min(6)).min(LONGEST_BACK_OFF);
                own.retry_at = Some(instant() + back_off.mul_f64(0.5 + fastrand::f64()));
                own.back_offs += 1;
                own.failed_answers = 0;
                if self.position() == endpoint
                    && let Some(next) = next(&health, endpoint)
                {
                    fail_over(next);
                    self.activate(endpoint, next);
                    has_failed_over(next);
                }
            }
        }
    }

    fn activate(&self, endpoint: usize, next: usize) {
        self.active.store(next, Ordering::SeqCst);
        self.failovers.inc();
        for (position, is_active) in [(endpoint, 0), (next, 1)] {
            if let Some(endpoint) = self.endpoints.load().get(position) {
                endpoint.is_active.set(is_active);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Health>> {
        // Nothing under this lock can panic half way through a change.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first other endpoint that does not back off; else none, and the active one is asked again.
fn next(health: &[Health], failed: usize) -> Option<usize> {
    let now = instant();
    let may_live = |it: &Health| it.retry_at.is_none_or(|retry_at| retry_at <= now);
    health
        .iter()
        .enumerate()
        .find(|(position, it)| *position != failed && may_live(it))
        .map(|(position, _)| position)
}

/// How often replicas are looked for, and how soon after a failure.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(3600);
const DISCOVERY_PAUSE: Duration = Duration::from_secs(30);

impl Upstream {
    /// Looks for replicas by SRV records until the task is dropped. Those that are found stay.
    pub async fn discover_replicas(&self, discovery: Result<ReplicaDiscovery, DiscoveryError>) {
        let discovery = match discovery {
            Ok(discovery) => discovery,
            Err(error) => {
                tracing::warn!(upstream = self.settings.name, %error, "no replicas");
                return;
            }
        };
        let host = self.settings.client().authority().host().to_owned();
        loop {
            let pause = match discovery.replicas(&host).await {
                Ok(replicas) => {
                    let added = self.settings.endpoints.add(replicas);
                    if added > 0 {
                        tracing::info!(upstream = self.settings.name, added, "found replicas");
                    }
                    DISCOVERY_INTERVAL
                }
                Err(error) => {
                    tracing::warn!(upstream = self.settings.name, %error, "no replicas found now");
                    DISCOVERY_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}
