//! `tagalong emulator`: assembles the parts and serves until it is told to stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::admin::AdminPort;
use super::change::{ChangeRecorder, RecordError, StateChange};
use super::counts::Counts;
use super::events::EventSource;
use super::events::delivery::Delivery;
use super::events::handshake::Confirmation;
use super::faults::act::Faults;
use super::faults::body::{FaultyBody, Severed};
use super::faults::document::{FaultPlanError, PlanDocument};
use super::journal::{Journal, JournalError, JournalOptions};
use super::options::Options;
use super::origin::Emulator;
use super::problem::Problem;
use super::seed::{SeedError, read_seed};
use super::seeded::{Seeded, uuid};
use super::serve::serve;
use super::service::Service;
use crate::clock::Clock;
use crate::headers::request_source::AllowedSources;

/// The emulator does not start, or has to stop.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// `--seed`
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// `--data`
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The seed could not be written to `--data`.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// `--faults` or `--fault`
    #[error(transparent)]
    FaultPlan(#[from] FaultPlanError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; stop the process that uses it, or choose another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Serving panicked.
    #[error("a listener of the emulator failed: {0}; start it again")]
    Serve(#[from] tokio::task::JoinError),
}

/// Runs the emulator until `shutdown`.
///
/// # Errors
/// [`EmulatorError`]. Mistakes in the options are found before the first connection.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), EmulatorError> {
    let running = Running::start(&options, Clock::System).await?;
    tracing::info!(
        listen = ?running.addresses(),
        admin = ?running.admin_address(),
        sequence_number = running.service.emulator().sequence_number(),
        "the App Configuration emulator is ready"
    );
    running.until(shutdown).await
}

/// An emulator with bound sockets.
pub struct Running {
    service: Service,
    listeners: Vec<TcpListener>,
    admin: AdminPort,
    admin_listener: TcpListener,
    // Dropped with the emulator: events that are not delivered by then are lost.
    _delivery: Option<AbortOnDropHandle<()>>,
}

impl Running {
    /// Loads the data, the seed and the faults, and binds the sockets. No request is answered before
    /// [`Running::until`].
    pub async fn start(options: &Options, clock: Clock) -> Result<Self, EmulatorError> {
        let seed_key_values = options.seed.as_deref().map(read_seed).transpose()?;
        let from_file =
            options.faults.as_deref().map(PlanDocument::from_file).transpose()?.unwrap_or_default();
        let plan = from_file.followed_by(PlanDocument::from_words(options.fault.iter().map(String::as_str))?);
        let random_seed = options.random_seed.unwrap_or_else(|| fastrand::u64(..));
        let emulator = Emulator::new(options.settings.clone(), clock.clone(), random_seed);

        let journal = match &options.data {
            None => None,
            Some(path) => {
                let opened = Journal::open(path, JournalOptions::new(options.settings.retention))?;
                if opened.torn_bytes > 0 {
                    tracing::warn!(
                        bytes = opened.torn_bytes,
                        "dropped the torn last record of the data; its changes were never acknowledged, so no action is needed"
                    );
                }
                emulator.restore(&opened.changes);
                let journal = Arc::new(opened.journal);
                emulator.set_recorder(Arc::clone(&journal) as Arc<dyn ChangeRecorder>);
                Some(journal)
            }
        };
        if let Some(key_values) = seed_key_values.filter(|_| emulator.sequence_number() == 0) {
            emulator.seed(key_values).map_err(unrecorded)?;
            if let Some(journal) = &journal {
                journal.durable(emulator.sequence_number()).await?;
            }
        }

        let mut listeners = Vec::new();
        for (address, optional) in options.listeners() {
            match TcpListener::bind(address).await {
                Ok(listener) => listeners.push(listener),
                Err(_) if optional => {}
                Err(source) => return Err(EmulatorError::Bind { address, source }),
            }
        }
        let address = options.admin_listener();
        let admin_listener =
            TcpListener::bind(address).await.map_err(|source| EmulatorError::Bind { address, source })?;

        let (faults, counts) = (Arc::new(Faults::new(plan, random_seed)), Arc::new(Counts::default()));
        let confirmation = Confirmation::new(uuid((
            Seeded::new(random_seed).bits(0, 1),
            Seeded::new(random_seed).bits(0, 2),
        )));
        let callback =
            admin_listener.local_addr().map(|address| format!("http://{address}")).unwrap_or_default();
        let endpoint = listeners.first().and_then(|listener| listener.local_addr().ok());
        let delivery = options.events.as_ref().map(|webhook| Delivery {
            webhook: webhook.clone(),
            schema: options.events_schema.unwrap_or_default(),
            source: EventSource {
                endpoint: endpoint.map(|address| format!("http://{address}")).unwrap_or_default(),
                seed: random_seed,
            },
            confirmation: confirmation.clone(),
            callback,
            clock: clock.clone(),
        });
        let delivery = delivery.map(|delivery| deliver(delivery, &emulator, journal.clone()));
        Ok(Self {
            service: Service::new(emulator, Arc::clone(&faults), Arc::clone(&counts), clock),
            listeners,
            admin: AdminPort {
                counts,
                faults,
                confirmation: options.events.is_some().then_some(confirmation),
            },
            admin_listener,
            _delivery: delivery,
        })
    }

    /// The addresses of the API, with the ports that the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The address of the admin port.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_listener.local_addr().ok()
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// [`EmulatorError::Serve`] when serving panics.
    pub async fn until(self, shutdown: impl Future<Output = ()>) -> Result<(), EmulatorError> {
        let closing = CancellationToken::new();
        let addresses = self.addresses();
        let admin = EmulatorPort::new(self.admin_address().as_slice(), PortService::Admin(self.admin));
        let data = EmulatorPort::new(&addresses, PortService::Data(self.service));
        let listeners = self.listeners.into_iter().map(|listener| (listener, Arc::clone(&data)));
        let mut serving = tokio::task::JoinSet::new();
        for (listener, port) in listeners.chain([(self.admin_listener, admin)]) {
            serving.spawn(serve(listener, closing.clone(), move |request| Arc::clone(&port).answer(request)));
        }
        let first = tokio::select! {
            () = shutdown => None,
            ended = serving.join_next() => ended,
        };
        closing.cancel();
        let mut result = first.unwrap_or(Ok(()));
        while let Some(ended) = serving.join_next().await {
            result = result.and(ended);
        }
        Ok(result?)
    }
}

/// A port: what answers there, and from where requests may come. Both ports have one type, so that hyper's server is compiled
/// once for them.
struct EmulatorPort {
    service: PortService,
    sources: AllowedSources,
}

enum PortService {
    Data(Service),
    Admin(AdminPort),
}

impl EmulatorPort {
    /// The same sources as at the sidecar's own ports. Where other machines may connect, they do so by names that only their
    /// users know: then `Host` may be any, and pages of other origins are refused all the same.
    fn new(addresses: &[SocketAddr], service: PortService) -> Arc<Self> {
        let loopback_only = addresses.iter().all(|address| address.ip().is_loopback());
        let hosts: &[String] = if loopback_only { &[] } else { &["*".to_owned()] };
        Arc::new(Self { service, sources: AllowedSources::new(hosts, &[]) })
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<FaultyBody>, Severed> {
        let (head, body) = request.into_parts();
        if let Err(error) = self.sources.check(&head) {
            return Ok(super::admin::refused(error));
        }
        let request = Request::from_parts(head, body);
        match &self.service {
            PortService::Data(service) => service.answer(request).await,
            PortService::Admin(admin) => Ok(admin.answer(request).await),
        }
    }
}

fn deliver(delivery: Delivery, emulator: &Emulator, journal: Option<Arc<Journal>>) -> AbortOnDropHandle<()> {
    let (changes, emulator) = (emulator.subscribe(), emulator.clone());
    let token_of = move |change: Arc<StateChange>| {
        let (emulator, journal) = (emulator.clone(), journal.clone());
        async move {
            // A change that a crash can still undo must not be announced.
            if let Some(journal) = journal
                && journal.durable(change.sequence_number).await.is_err()
            {
                return None;
            }
            Some(emulator.sync_token_of(change.sequence_number))
        }
    };
    AbortOnDropHandle::new(tokio::spawn(delivery.run(changes, token_of)))
}

fn unrecorded(problem: Problem) -> EmulatorError {
    let reason = match problem {
        Problem::Unrecorded(reason) => reason,
        other => format!("{other:?}"),
    };
    EmulatorError::Record(RecordError(io::Error::other(reason)))
}

#[cfg(test)]
mod tests;
