//! The sidecar under test, in this process with the clock of the test, on a loopback socket or in memory.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tagalong::internals::accept::{
    self, AcceptLimits, Acceptor, BoundListener, ListenerOptions, MemoryConnector,
};
use tagalong::internals::accept_loop::Listener;
use tagalong::internals::clock::Clock;
use tagalong::internals::config::{self, Config, Layers};
use tagalong::internals::fleet::engine::FleetEngine;
use tagalong::internals::fleet::member::FleetMember;
use tagalong::internals::metrics::Metrics;
use tagalong::internals::mirror::Mirror;
use tagalong::internals::profile::Footprint;
use tagalong::internals::proxy::assemble::Environment;
use tagalong::internals::proxy::explain::ExplainedRequest;
use tagalong::internals::proxy::{self, Proxy};
use tagalong::internals::sidecar;
use tagalong::internals::snapshot::Snapshots;
use tagalong::internals::store::Store;
use tagalong::internals::sync_token::session::Session;
use tagalong::internals::transport::dial::Dial;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::origin::patience;

/// A running sidecar. Dropping it stops it.
pub(crate) struct Sidecar {
    /// The address of its listener, which callers send in `Host`.
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    serving: Option<JoinHandle<usize>>,
    memory: Option<MemoryConnector>,
    clock: Clock,
    sessions: Vec<Arc<Session<Footprint>>>,
    metrics: Metrics,
    member: Option<Arc<FleetMember>>,
    mirrors: Vec<Arc<Mirror>>,
    background: Vec<JoinHandle<()>>,
    snapshots: Option<Arc<Snapshots>>,
    proxy: Arc<Proxy>,
}

/// What [`serve`] gives.
struct Serving {
    shutdown: CancellationToken,
    task: JoinHandle<usize>,
    proxy: Arc<Proxy>,
    snapshots: Option<Arc<Snapshots>>,
}

/// The configuration with these settings, each `KEY=VALUE`, for an origin at that address.
pub(crate) fn config(origin: SocketAddr, settings: &[&str]) -> Config {
    let mut layers = Layers::new()
        .assignment(&format!("upstream.url=http://{origin}"))
        .assignment("upstream.profile=generic")
        .assignment("listener.listen=127.0.0.1:0")
        .assignment("admin.listen=");
    for setting in settings {
        layers = layers.setting(setting);
    }
    Config::new(layers).expect("a valid configuration")
}

impl Sidecar {
    /// Starts a sidecar on a free loopback port.
    pub(crate) async fn start(origin: SocketAddr, clock: Clock, settings: &[&str]) -> Self {
        let listener = BoundListener::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let accept::Address::Tcp(address) = listener.local_address().expect("its address") else {
            panic!("a TCP listener has a TCP address");
        };
        let environment = Environment { clock: clock.clone(), ..Environment::default() };
        let serving = serve(listener, &config(origin, settings), &environment);
        Self::of(serving, address, None, clock)
    }

    /// Starts a sidecar with callers and origin in memory, for paused time.
    pub(crate) fn in_memory(dial: Arc<dyn Dial>, clock: Clock, settings: &[&str]) -> Self {
        Self::in_fleet(dial, clock, settings, None)
    }

    /// The same as a member of a fleet with this engine.
    pub(crate) fn in_fleet(
        dial: Arc<dyn Dial>,
        clock: Clock,
        settings: &[&str],
        engine: Option<Arc<dyn FleetEngine>>,
    ) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let (connector, listener) = accept::in_memory();
        let dial = move |_: &config::UpstreamSettings| Arc::clone(&dial);
        let environment =
            Environment { clock: clock.clone(), dial: Some(&dial), engine, ..Environment::default() };
        let serving = serve(listener, &config(address, settings), &environment);
        Self::of(serving, address, Some(connector), clock)
    }

    fn of(serving: Serving, address: SocketAddr, memory: Option<MemoryConnector>, clock: Clock) -> Self {
        let Serving { shutdown, task, proxy, snapshots } = serving;
        let mirrors: Vec<_> = proxy.destinations().iter().filter_map(|to| to.mirror.clone()).collect();
        Self {
            address,
            shutdown,
            serving: Some(task),
            memory,
            clock,
            sessions: proxy.destinations().iter().map(|to| Arc::clone(to.upstream.session())).collect(),
            metrics: proxy.metrics().clone(),
            member: proxy.destinations().first().and_then(|to| to.upstream.fleet().cloned()),
            background: (0..proxy.destinations().len())
                .flat_map(|destination| {
                    [
                        tokio::spawn(Arc::clone(&proxy).follow_fleet(destination)),
                        tokio::spawn(Arc::clone(&proxy).prefetch(destination)),
                        tokio::spawn(Arc::clone(&proxy).refresh_ahead(destination)),
                    ]
                })
                .chain(snapshots.iter().map(|snapshots| tokio::spawn(Arc::clone(snapshots).run())))
                .chain(mirrors.iter().map(|mirror| tokio::spawn(Arc::clone(mirror).run())))
                .collect(),
            mirrors,
            snapshots,
            proxy,
        }
    }

    /// What `POST /admin/explain` says to a request in the short form.
    pub(crate) async fn explain(&self, request: &str) -> serde_json::Value {
        let (head, body) = match request.split_once("\n\n") {
            Some((head, body)) => (head, body),
            None => (request, ""),
        };
        let mut lines = head.lines();
        let (method, target) = lines.next().and_then(|line| line.split_once(' ')).expect("a request line");
        let mut built = Request::builder().method(method).uri(target);
        if !head.to_ascii_lowercase().contains("\nhost:") {
            built = built.header("host", self.address.to_string());
        }
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a field line");
            built = built.header(name, value);
        }
        let (head, ()) = built.body(()).expect("a request").into_parts();
        let caller = proxy::Caller {
            listener: "main".into(),
            connection: u64::MAX,
            is_encrypted: false,
            peer: "127.0.0.1".into(),
        };
        let asked = ExplainedRequest { caller, upstream: None, head, has_body: !body.is_empty() };
        let explanation = self.proxy.explain(asked).await.expect("an upstream");
        serde_json::to_value(explanation).expect("JSON")
    }

    /// What a request changes: everything that is counted, stored and sent, but for what follows from the time.
    pub(crate) fn effects(&self) -> (Vec<String>, u64, Vec<u64>) {
        let text = String::from_utf8(self.metrics.text().expect("metrics")).expect("text");
        let of_time =
            ["process_", "tagalong_budget_used", "tagalong_budget_forecast", "tagalong_budget_stretch"];
        let counted = text.lines().filter(|line| !of_time.iter().any(|name| line.starts_with(name)));
        let sent = self.sessions.iter().map(|session| session.sent_order());
        (counted.map(str::to_owned).collect(), self.proxy.store().changes(), sent.collect())
    }

    /// What is stored.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        self.proxy.store()
    }

    /// The mirror of the upstream.
    pub(crate) fn mirror(&self) -> &Mirror {
        self.mirrors.first().expect("a mirror is configured")
    }

    /// The membership in the fleet.
    pub(crate) fn member(&self) -> &FleetMember {
        self.member.as_deref().expect("a fleet is configured")
    }

    /// A new connection.
    pub(crate) async fn caller(&self) -> Caller {
        match &self.memory {
            None => Caller::connect(self.address).await,
            Some(connector) => {
                let (incoming, outgoing) = tokio::io::split(connector.connect(64 * 1024));
                Caller::new(Box::new(incoming), Box::new(outgoing), self.address, patience(&self.clock))
            }
        }
    }

    /// Resets the tokens like `DELETE /admin/sync-tokens`.
    pub(crate) fn reset_sync_tokens(&self) {
        for session in &self.sessions {
            session.reset();
        }
    }

    /// Writes the snapshot as at the end of a drain.
    pub(crate) async fn write_snapshot(&self) {
        self.snapshots.as_ref().expect("a snapshot is configured").write_if_changed().await;
    }

    /// The value of a metric, with its labels as they stand there.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = String::from_utf8(self.metrics.text().expect("metrics")).expect("text");
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// How many bytes of bodies have arrived from the origin.
    pub(crate) fn received_body_bytes(&self) -> usize {
        let text = String::from_utf8(self.metrics.text().expect("metrics")).expect("text");
        let counted = text.lines().find(|line| line.starts_with("tagalong_origin_body_bytes_total{"));
        counted.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a count")
    }

    /// Stops the sidecar. The handle gives the number of connections that were cut.
    pub(crate) fn stop(&mut self) -> JoinHandle<usize> {
        self.shutdown.cancel();
        self.serving.take().expect("stopped once")
    }
}

fn serve(
    listener: impl Listener<Connection = accept::Accepted>,
    config: &Config,
    environment: &Environment<'_>,
) -> Serving {
    let limits = AcceptLimits::new(&config.limits, &config.deadlines);
    let proxy = Arc::new(Proxy::new(config, environment).expect("a usable configuration"));
    let served = Arc::clone(&proxy);
    let snapshots = sidecar::open_snapshots(config, &proxy, environment).expect("a usable key file");
    if let Some(snapshots) = &snapshots {
        snapshots.restore();
    }
    let shutdown = CancellationToken::new();
    let make_service = move |connection: &Arc<accept::Connection>| {
        let proxy = Arc::clone(&proxy);
        let caller = Arc::new(proxy::Caller {
            listener: Arc::clone(&connection.listener),
            connection: connection.id,
            is_encrypted: connection.is_encrypted,
            peer: connection.peer.without_port().into(),
        });
        service_fn(move |request: Request<Incoming>| proxy.handle(&caller, request))
    };
    let stop = shutdown.clone();
    let task = tokio::spawn(async move {
        let acceptor = Acceptor::new(limits, Arc::default(), stop);
        acceptor.run(listener, ListenerOptions::named("main"), make_service).await;
        acceptor.drain().await
    });
    Serving { shutdown, task, proxy: served, snapshots }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
        self.background.iter().for_each(JoinHandle::abort);
    }
}
