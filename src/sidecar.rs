//! The whole sidecar as a process runs it: ports bound, callers and operator served, and draining.

pub mod config_watch;
mod followers;
pub mod reload;
mod snapshot_file;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::accept::certificate::{Certificate, CertificateError};
use crate::accept::{
    AcceptLimits, Acceptor, Address, BindError, BoundListener, Connection, ConnectionCounts, ListenerOptions,
    LiveAcceptLimits, Workers, WorkersError, descriptors,
};
use crate::accept_loop::ReservedDescriptors;
use crate::admin::{
    AdminState, AdminTokenError, AdminUpstream, ConfiguredFacts, Explainer, LiveState, StatusSources,
};
use crate::clock::Timestamp;
use crate::config::{Config, ListenerSettings};
use crate::proxy::assemble::{AssembleError, Environment};
use crate::proxy::destination::Destination;
use crate::proxy::live::LiveProxy;
use crate::proxy::{Caller, Proxy};
use crate::readiness::{Readiness, ReadinessNote, UnreadyReason};
use crate::seal::key::SealingKeyError;
use crate::snapshot::{RestoredSnapshot, Snapshots};
use crate::transport::replica_discovery::ReplicaDiscovery;
use reload::Reloader;
pub use snapshot_file::{open as open_snapshots, show_snapshot};

/// Why the sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// A port or socket for callers cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operator's port cannot be had.
    #[error(
        "cannot listen on {address} for the operator: {source}; choose another admin.listen, or stop what uses it"
    )]
    BindAdmin {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// What the configuration asks for cannot be had.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The admin token cannot be had.
    #[error(transparent)]
    Token(#[from] AdminTokenError),
    /// The threads that serve callers cannot be had.
    #[error(transparent)]
    Workers(#[from] WorkersError),
    /// A listener's certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The key file of the snapshot holds no key.
    #[error(transparent)]
    SealingKey(#[from] SealingKeyError),
    /// A user of this machine that does not exist.
    #[error("listener.unix_users: there is no such user: {user:?}; write one of this machine, or its number")]
    User {
        /// As it was written.
        user: String,
    },
    /// A group that does not exist.
    #[error("unix_group = {group:?}: there is no such group; name one of this machine, or its number")]
    Group {
        /// The group as configured.
        group: String,
    },
    /// A socket's address cannot be asked for.
    #[error("cannot tell the address of a listener: {0}; start again")]
    Address(std::io::Error),
    /// The upstream is a listener of this sidecar.
    #[error("upstream {name:?} is {address}, which this sidecar itself listens on; point it at the API")]
    Loop {
        /// The upstream's name.
        name: String,
        /// The address.
        address: SocketAddr,
    },
}

/// A sidecar whose ports are open and which serves no caller yet.
pub struct Sidecar {
    proxy: Arc<LiveProxy>,
    listeners: Vec<(BoundListener, ListenerOptions)>,
    admin_listeners: Vec<(TcpListener, Arc<ReservedDescriptors>)>,
    admin: Arc<AdminState>,
    readiness: Readiness,
    limits: LiveAcceptLimits,
    counts: Arc<ConnectionCounts>,
    workers: usize,
    // Dropped with the rest.
    snapshots: Option<Arc<Snapshots>>,
    _watched_certificates: Vec<AbortOnDropHandle<()>>,
    reloader: Arc<Reloader>,
    _mirrors: Vec<AbortOnDropHandle<()>>,
    _following: Vec<AbortOnDropHandle<()>>,
    _notes: Vec<AbortOnDropHandle<()>>,
}

impl Sidecar {
    /// Opens the ports. No upstream is contacted: a sidecar starts although its origins are away.
    ///
    /// # Errors
    /// [`SidecarError`] names the port, file or setting that prevents the start.
    pub async fn bind(config: &Config, environment: &Environment<'_>) -> Result<Self, SidecarError> {
        let Assembly { proxy: live, admin, readiness, listeners: assembled, snapshots } =
            Assembly::new(config, environment)?;
        let proxy = live.current();
        let (mut listeners, mut watched_certificates) = (Vec::new(), Vec::new());
        for (listener, assembled) in config.listeners.iter().zip(assembled) {
            if let Some(certificate) = &assembled.certificate {
                let watching = tokio::spawn(Arc::clone(certificate).watch());
                watched_certificates.push(AbortOnDropHandle::new(watching));
            }
            bind_listener(listener, &assembled, &mut listeners).await?;
        }
        // The ports are open: who connects meanwhile waits, and is not refused.
        let restored = snapshots.as_ref().map(|snapshots| snapshots.restore()).unwrap_or_default();
        let notes = spawn_notes(&proxy, &readiness, &restored);
        let mirrors = proxy.destinations().iter().filter_map(|destination| destination.mirror.clone());
        let mirrors = mirrors.map(|mirror| AbortOnDropHandle::new(tokio::spawn(mirror.run()))).collect();
        // These use nothing that a reload replaces.
        let following = (0..proxy.destinations().len())
            .map(|destination| tokio::spawn(Arc::clone(&proxy).follow_fleet(destination)))
            .chain(discover_replicas(config, &proxy))
            .map(AbortOnDropHandle::new)
            .collect();
        let connections = descriptors::connections(config);
        let mut admin_listeners = Vec::new();
        for address in &config.admin.listen {
            match bind_admin(*address, config.admin.connections).await {
                Ok(listener) => admin_listeners.push(listener),
                Err(_)
                    if config.admin.listen_is_default && address.is_ipv6() && !admin_listeners.is_empty() => {
                }
                Err(source) => return Err(SidecarError::BindAdmin { address: *address, source }),
            }
        }
        let counts = Arc::new(ConnectionCounts::reporting_to(proxy.metrics().connections().clone()));
        let limits = AcceptLimits { connections, ..AcceptLimits::new(&config.limits, &config.deadlines) };
        let (proxy, admin, limits) = (live, Arc::new(admin), LiveAcceptLimits::from(limits));
        let reloader = Reloader::new(
            config,
            Arc::clone(&proxy),
            Arc::clone(&admin),
            limits.clone(),
            readiness.clone(),
            environment,
        );
        let sidecar = Self {
            proxy,
            listeners,
            admin_listeners,
            admin,
            readiness,
            limits,
            counts,
            workers: config.runtime.workers,
            snapshots,
            _watched_certificates: watched_certificates,
            reloader: Arc::new(reloader),
            _mirrors: mirrors,
            _following: following,
            _notes: notes,
        };
        sidecar.refuse_loops(config)?;
        Ok(sidecar)
    }

    /// Finds out whether a sidecar with this configuration would start, its ports aside: reads every file that a start reads. What
    /// is not there and would be created is only tried with [`Absent::Try`](crate::credentials::token_file::Absent::Try).
    ///
    /// # Errors
    /// The [`SidecarError`] that [`Sidecar::bind`] would give.
    pub fn check(config: &Config, environment: &Environment<'_>) -> Result<(), SidecarError> {
        Assembly::new(config, environment).map(drop)
    }

    /// The path of requests, for tests that use it without a port.
    pub const fn proxy(&self) -> &Arc<LiveProxy> {
        &self.proxy
    }

    /// What reads the configuration anew while it runs.
    pub const fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
    }

    /// The addresses of the listeners for callers.
    pub fn addresses(&self) -> Result<Vec<Address>, SidecarError> {
        self.listeners
            .iter()
            .map(|(listener, _)| listener.local_address().map_err(SidecarError::Address))
            .collect()
    }

    /// The addresses of the operator's port.
    pub fn admin_addresses(&self) -> Result<Vec<SocketAddr>, SidecarError> {
        self.admin_listeners
            .iter()
            .map(|(listener, _)| listener.local_addr().map_err(SidecarError::Address))
            .collect()
    }

    /// Serves until `shutdown`, or until the operator asks for the end, then drains: `/readyz` fails first; after `deadlines.shutdown_delay`
    /// nothing new is accepted; what runs may finish for as long as `deadlines.drain` says; and the operator's port closes last. Returns how many connections had to be cut.
    ///
    /// # Errors
    /// When the threads that serve callers cannot be had.
    pub async fn run(self, shutdown: CancellationToken) -> Result<usize, SidecarError> {
        let admin_stop = CancellationToken::new();
        let admin = self.admin_listeners.into_iter().map(|(listener, reserved)| {
            tokio::spawn(crate::admin::serve(listener, reserved, Arc::clone(&self.admin), admin_stop.clone()))
        });
        let admin: Vec<_> = admin.collect();
        let _history = (!admin.is_empty())
            .then(|| AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self.admin).keep_history())));
        let proxy = Arc::clone(&self.proxy);
        let make_service = move |connection: &Arc<Connection>| {
            let proxy = Arc::clone(&proxy);
            let caller = Arc::new(Caller {
                listener: Arc::clone(&connection.listener),
                connection: connection.id,
                is_encrypted: connection.is_encrypted,
                peer: connection.peer.without_port().into(),
            });
            service_fn(move |request| proxy.handle(&caller, request))
        };
        // Accepting stops a moment after `/readyz` has begun to fail.
        let stop_accepting = CancellationToken::new();
        let (readiness, stop) = (self.readiness.clone(), stop_accepting.clone());
        let (quitting, limits) = (self.admin.quitting().clone(), self.limits.clone());
        let watcher = tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = quitting.cancelled() => {}
            }
            readiness.add(UnreadyReason::Draining);
            tokio::time::sleep(limits.current().shutdown_delay).await;
            stop.cancel();
        });
        let snapshots = self.snapshots;
        let keeping =
            snapshots.clone().map(|snapshots| AbortOnDropHandle::new(tokio::spawn(snapshots.run())));
        self.readiness.clear(UnreadyReason::Starting);
        let cut = if self.workers <= 1 {
            let acceptor = Acceptor::new(self.limits, self.counts, stop_accepting);
            let accepting = self
                .listeners
                .into_iter()
                .map(|(listener, options)| acceptor.run(listener, options, &make_service));
            join_all(accepting).await;
            acceptor.drain().await
        } else {
            let workers =
                Workers::start(self.workers, &self.limits, &self.counts, &stop_accepting, &make_service)?;
            join_all(self.listeners.into_iter().map(|(listener, options)| workers.run(listener, options)))
                .await;
            tokio::task::spawn_blocking(move || workers.join()).await.unwrap_or_default()
        };
        watcher.abort();
        drop(keeping);
        if let Some(snapshots) = snapshots {
            snapshots.write_if_changed().await;
        }
        self.proxy.current().tracer().stop().await;
        admin_stop.cancel();
        join_all(admin).await;
        Ok(cut)
    }

    /// An upstream that is one of our own listeners would make every request circle until the limits cut it.
    fn refuse_loops(&self, config: &Config) -> Result<(), SidecarError> {
        let own: Vec<SocketAddr> = self
            .addresses()?
            .into_iter()
            .filter_map(|address| match address {
                Address::Tcp(address) => Some(address),
                _ => None,
            })
            .chain(self.admin_addresses()?)
            .collect();
        for upstream in &config.upstreams {
            if let Some(address) = own.iter().find(|address| upstream.is_at(**address)) {
                return Err(SidecarError::Loop { name: upstream.name.clone(), address: *address });
            }
        }
        Ok(())
    }
}

/// All that a sidecar consists of, before a port is open or a task runs.
struct Assembly {
    proxy: Arc<LiveProxy>,
    admin: AdminState,
    readiness: Readiness,
    /// In the order of the configuration.
    listeners: Vec<AssembledListener>,
    snapshots: Option<Arc<Snapshots>>,
}

/// What a listener needs beside its address.
struct AssembledListener {
    options: ListenerOptions,
    group: Option<u32>,
    certificate: Option<Arc<Certificate>>,
}

impl Assembly {
    fn new(config: &Config, environment: &Environment<'_>) -> Result<Self, SidecarError> {
        let proxy = Arc::new(Proxy::new(config, environment)?);
        let live = Arc::new(LiveProxy::new(Arc::clone(&proxy)));
        let readiness = Readiness::starting();
        let destinations = config.upstreams.iter().zip(proxy.destinations()).enumerate();
        let upstreams = destinations.map(|(index, (settings, destination))| {
            let (session, live) = (Arc::clone(destination.upstream.session()), Arc::clone(&live));
            AdminUpstream {
                name: destination.upstream.name().to_owned(),
                profile: Arc::clone(destination.upstream.profile()),
                reset_sync_tokens: Arc::new(move || session.reset()),
                facts: ConfiguredFacts::of(settings),
                // Of the settings in force: a reload may have changed them.
                live_state: Arc::new(move |now| {
                    live.current().destinations().get(index).map(|it| live_state(it, now)).unwrap_or_default()
                }),
            }
        });
        let admin = AdminState::new(
            config,
            proxy.metrics().clone(),
            readiness.clone(),
            Arc::clone(proxy.store()),
            upstreams.collect(),
            environment.absent_token,
            StatusSources::new(config, proxy.metrics(), environment.clock.clone(), proxy.hot_keys().cloned()),
        )?
        .explaining(Explainer::new(Arc::clone(&live), config));
        let listeners = config.listeners.iter().map(AssembledListener::new).collect::<Result<_, _>>()?;
        let snapshots = open_snapshots(config, &proxy, environment)?;
        Ok(Self { proxy: live, admin, readiness, listeners, snapshots })
    }
}

/// What `/admin/status` tells of an upstream beside the metrics.
fn live_state(destination: &Destination, now: Timestamp) -> LiveState {
    let Destination { upstream, mirror, .. } = destination;
    LiveState {
        session: upstream.session().report(),
        pauses: upstream.pauses(now),
        mirror: mirror.as_ref().map(|mirror| (*mirror.is_loaded().borrow(), mirror.gave_up())),
        has_budget: upstream.settings().budget.is_some(),
        has_fleet: upstream.fleet().is_some(),
    }
}

/// Tasks that look for the replicas of those upstreams that publish them.
fn discover_replicas<'a>(
    config: &'a Config,
    proxy: &'a Proxy,
) -> impl Iterator<Item = tokio::task::JoinHandle<()>> + 'a {
    let upstreams = config.upstreams.iter().zip(proxy.destinations()).filter(|(settings, _)| settings.srv);
    upstreams.map(|(_, destination)| {
        let upstream = Arc::clone(&destination.upstream);
        tokio::spawn(async move { upstream.discover_replicas(ReplicaDiscovery::of_system()).await })
    })
}

/// What `/readyz` tells beside the reasons.
fn spawn_notes(
    proxy: &Proxy,
    readiness: &Readiness,
    restored: &RestoredSnapshot,
) -> Vec<AbortOnDropHandle<()>> {
    let note_until =
        |note, are_so| AbortOnDropHandle::new(tokio::spawn(readiness.clone().note_until(note, are_so)));
    let answered = |is_meant: &dyn Fn(usize) -> bool| {
        let destinations = proxy.destinations().iter().enumerate().filter(|(index, _)| is_meant(*index));
        destinations.map(|(_, it)| it.upstream.answered()).collect()
    };
    let has = |index: usize| restored.has.get(index).copied().unwrap_or_default();
    let mut notes = Vec::new();
    if restored.has.contains(&true) {
        notes.push(note_until(ReadinessNote::Snapshot, answered(&has)));
    }
    if restored.is_too_old {
        notes.push(note_until(ReadinessNote::SnapshotTooOld, answered(&|_| true)));
    }
    let mirrors = proxy.destinations().iter().filter_map(|it| it.mirror.as_ref());
    let loaded: Vec<_> = mirrors.map(|mirror| mirror.is_loaded()).collect();
    if !loaded.is_empty() {
        notes.push(note_until(ReadinessNote::Loading, loaded));
    }
    let fleets = proxy.destinations().iter().filter_map(|it| it.upstream.fleet());
    let are_live: Vec<_> = fleets.map(|member| member.is_live()).collect();
    let lost = readiness.clone().follow_note(ReadinessNote::FleetLost, are_live);
    notes.push(AbortOnDropHandle::new(tokio::spawn(lost)));
    notes
}

async fn bind_listener(
    listener: &ListenerSettings,
    assembled: &AssembledListener,
    bound: &mut Vec<(BoundListener, ListenerOptions)>,
) -> Result<(), SidecarError> {
    let options = &assembled.options;
    let mut has_one = false;
    for address in &listener.listen {
        match BoundListener::tcp(*address).await {
            Ok(socket) => {
                bound.push((socket, options.clone()));
                has_one = true;
            }
            // A machine without IPv6 leaves the second loopback address out.
            Err(error) if listener.listen_is_default && has_one && error.is_unavailable() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(path) = &listener.unix {
        let socket = BoundListener::unix(path, listener.unix_mode, assembled.group).await?;
        bound.push((socket, options.clone()));
    }
    Ok(())
}

/// Opens the operator's port, with descriptors that nobody else can take.
async fn bind_admin(
    address: SocketAddr,
    connections: usize,
) -> std::io::Result<(TcpListener, Arc<ReservedDescriptors>)> {
    let listener = TcpListener::bind(address).await?;
    let reserved = ReservedDescriptors::new(&listener, crate::admin::reserved_descriptors(connections))?;
    Ok((listener, reserved))
}

impl AssembledListener {
    fn new(listener: &ListenerSettings) -> Result<Self, SidecarError> {
        let mut options = ListenerOptions {
            http2: listener.http2,
            users: user_numbers(&listener.unix_users, Path::new("/etc/passwd"))?,
            ..ListenerOptions::named(&listener.name)
        };
        let group = match &listener.unix {
            Some(_) => group_number(&listener.unix_group, Path::new("/etc/group"))?,
            None => None,
        };
        let tls = &listener.tls;
        let mut certificate = None;
        if let (Some(certificate_file), Some(key_file)) = (&tls.certificate_file, &tls.key_file) {
            let read = Certificate::read(certificate_file, key_file)?;
            options.tls = Some(read.acceptor(listener.http2)?);
            certificate = Some(read);
        }
        Ok(Self { options, group, certificate })
    }
}

/// The number of a group, given as that or by its name in a file like `/etc/group`; none for an empty text.
fn group_number(group: &str, file: &Path) -> Result<Option<u32>, SidecarError> {
    if group.is_empty() {
        return Ok(None);
    }
    number(group, file).map(Some).ok_or_else(|| SidecarError::Group { group: group.to_owned() })
}

/// The numbers of users, given as those or by their names in a file like `/etc/passwd`; none for an empty list.
fn user_numbers(users: &[String], file: &Path) -> Result<Option<Arc<[u32]>>, SidecarError> {
    if users.is_empty() {
        return Ok(None);
    }
    let found = users
        .iter()
        .map(|user| number(user, file).ok_or_else(|| SidecarError::User { user: user.clone() }))
        .collect::<Result<_, _>>()?;
    Ok(Some(found))
}

/// A number, or that of a name in the third column of a file like `/etc/group`.
fn number(name: &str, file: &Path) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let lines = std::fs::read_to_string(file).unwrap_or_default();
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_number_or_a_name_of_this_machine() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("group");
        std::fs::write(&file, "root:x:0:\nwww-data:x:33:a,b\nbroken\n").unwrap();
        assert_eq!(group_number("", &file).unwrap(), None);
        assert_eq!(group_number("1000", &file).unwrap(), Some(1_000));
        assert_eq!(group_number("www-data", &file).unwrap(), Some(33));
        let message = group_number("www", &file).unwrap_err().to_string();
        assert!(message.contains("no such group"), "{message}");
        assert!(group_number("broken", &file).is_err());
        assert_eq!(user_numbers(&[], &file).unwrap(), None);
        let users = user_numbers(&["www-data".to_owned(), "7".to_owned()], &file).unwrap();
        assert_eq!(users.as_deref(), Some(&[33, 7][..]));
        assert!(user_numbers(&["www".to_owned()], &file).is_err());
    }
}
