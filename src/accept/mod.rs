//! Listeners, connections, their limits and deadlines, and draining.
//!
//! `listener` makes connections (`memory`: those of tests), `connection` serves one, `stream` one HTTP/2 stream of it, `watched` sees its bytes, `activity` keeps
//! its state and the time of the last change, `linger` closes a connection whose caller is still sending, `registry` sweeps slow and idle ones and drains all, `busy` answers those over the
//! limit, `workers` spreads them over runtimes.

mod activity;
mod busy;
pub mod certificate;
mod connection;
mod counts;
pub mod descriptors;
mod field_block;
mod frames;
mod http2_requests;
mod huffman;
mod linger;
mod listener;
#[cfg(any(test, feature = "internals"))]
mod memory;
mod registry;
mod stream;
mod watched;
mod workers;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

pub use activity::CutReason;
use activity::{Activity, Order, TickLimits};
use busy::Busy;
pub use connection::ConnectionEnd;
pub use counts::ConnectionCounts;
pub use listener::{Accepted, Address, BindError, BoundListener, Stream};
#[cfg(any(test, feature = "internals"))]
pub use memory::{MemoryConnector, in_memory};
use registry::{Entered, Registry};
use workers::Load;
pub use workers::{Workers, WorkersError};

use crate::accept_loop::{Listener, accept_until};
use crate::config::{Deadlines, Limits};

/// What connections may cost, in number, bytes and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptLimits {
    /// Most bytes of a request's header section, request line included (431).
    pub header_section_bytes: usize,
    /// Most field lines of a request (431). Any number but 100 costs an allocation a request.
    pub header_fields: usize,
    /// Most connections at once. For one more, the one that has been idle the longest closes; if none is idle, it gets 503.
    pub connections: usize,
    /// Most connections of one caller at once (503); 0 is no limit.
    pub connections_per_caller: usize,
    /// Most HTTP/2 requests under way on all connections (503).
    pub http2_requests: usize,
    /// From a request's first byte (from the connection's start for its first request) to the end of its header section.
    pub request_header: Duration,
    /// Between two requests of one connection.
    pub idle: Duration,
    /// How long a caller may take nothing of the answer that waits for it, on a connection or on an HTTP/2 stream.
    pub write_stall: Duration,
    /// From the signal to stop until the drain begins.
    pub shutdown_delay: Duration,
    /// From the beginning of the drain until what still runs is cut off.
    pub drain: Duration,
}

impl AcceptLimits {
    /// The limits of the configuration.
    #[must_use]
    pub fn new(limits: &Limits, deadlines: &Deadlines) -> Self {
        Self {
            header_section_bytes: usize::try_from(limits.header_section_bytes).unwrap_or(usize::MAX),
            header_fields: limits.header_fields,
            connections: limits.connections,
            connections_per_caller: limits.connections_per_caller,
            http2_requests: limits.http2_requests,
            request_header: deadlines.request_header,
            idle: deadlines.idle,
            write_stall: deadlines.write_stall,
            shutdown_delay: deadlines.shutdown_delay,
            drain: deadlines.drain,
        }
    }

    /// How often connections are checked: often enough that a deadline is missed by little, and rarely enough to cost
    /// little.
    fn tick(&self) -> Duration {
        let shortest = self.request_header.min(self.idle).min(self.write_stall);
        (shortest / 20).clamp(Duration::from_millis(10), Duration::from_millis(500))
    }

    fn in_ticks(&self, tick: Duration) -> TickLimits {
        let ticks = |duration| TickLimits::ticks(duration, tick);
        TickLimits {
            header: ticks(self.request_header),
            idle: ticks(self.idle),
            write_stall: ticks(self.write_stall),
        }
    }
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            header_section_bytes: 64 * 1024,
            header_fields: 100,
            connections: 800,
            connections_per_caller: 0,
            http2_requests: 800,
            request_header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write_stall: Duration::from_secs(30),
            shutdown_delay: Duration::ZERO,
            drain: Duration::from_secs(10),
        }
    }
}

/// The limits in force. All clones are replaced together.
#[derive(Clone, Debug)]
pub struct LiveAcceptLimits(Arc<ArcSwap<AcceptLimits>>);

impl LiveAcceptLimits {
    /// The limits as they are now.
    #[must_use]
    pub fn current(&self) -> Arc<AcceptLimits> {
        self.0.load_full()
    }

    /// Replaces them. Connections that are open keep the limits of header sections that they began with.
    pub fn replace(&self, limits: AcceptLimits) {
        self.0.store(Arc::new(limits));
    }
}

impl From<AcceptLimits> for LiveAcceptLimits {
    fn from(limits: AcceptLimits) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(limits)))
    }
}

/// What answers the requests of one connection.
pub trait CallerService:
    Service<
        Request<Incoming>,
        Response = Response<<Self as CallerService>::Answer>,
        Error: Error + Send + Sync + 'static,
        Future: Send + 'static,
    > + Send
    + 'static
{
    /// The body of an answer.
    type Answer: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send + 'static;
}

impl<S, B> CallerService for S
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Error: Error + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send + 'static,
{
    type Answer = B;
}

/// What is the same for all connections of one listener.
#[derive(Clone)]
pub struct ListenerOptions {
    /// The listener's name in the configuration.
    pub name: Arc<str>,
    /// Whether HTTP/2 is spoken beside HTTP/1, by prior knowledge or as TLS negotiated it.
    pub http2: bool,
    /// Set if callers speak TLS.
    pub tls: Option<TlsAcceptor>,
    /// The users whose processes may connect to a Unix socket; `None`: those that its mode admits.
    pub users: Option<Arc<[u32]>>,
}

impl ListenerOptions {
    /// A listener of that name that speaks HTTP/1 in clear text.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), http2: false, tls: None, users: None }
    }
}

/// The facts of one connection, the same for all its requests.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Unique in this process.
    pub id: u64,
    /// The name of the listener that accepted it.
    pub listener: Arc<str>,
    /// The caller's end.
    pub peer: Address,
    /// Whether the caller speaks TLS.
    pub is_encrypted: bool,
}

/// Accepts and serves connections on one runtime: any number of listeners, one sweeper.
///
/// Cheap to clone. What is cloned shares connections, sweeper, counts and shutdown.
#[derive(Clone, Debug)]
pub struct Acceptor {
    limits: LiveAcceptLimits,
    registry: Arc<Registry>,
    counts: Arc<ConnectionCounts>,
    shutdown: CancellationToken,
    busy: Busy,
    _sweeper: Arc<AbortOnDropHandle<()>>,
}

/// Connections are numbered through the whole process, so that log lines tell them apart.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

impl Acceptor {
    /// An acceptor for the current runtime; call it inside one. `counts` may be shared with other runtimes, and the limit of
    /// connections then holds for all of them together.
    #[must_use]
    pub fn new(
        limits: impl Into<LiveAcceptLimits>,
        counts: Arc<ConnectionCounts>,
        shutdown: CancellationToken,
    ) -> Self {
        let limits = limits.into();
        let registry = Arc::new(Registry::default());
        let swept = Arc::clone(&registry);
        let swept_by = limits.clone();
        let sweeper = tokio::spawn(async move { swept.sweep(&swept_by).await });
        let sweeper = Arc::new(AbortOnDropHandle::new(sweeper));
        Self { limits, registry, counts, shutdown, busy: Busy::default(), _sweeper: sweeper }
    }

    /// Accepts connections until shutdown and then closes the listener. `make_service` is called once a connection, with
    /// what is known of it.
    pub async fn run<S: CallerService>(
        &self,
        listener: impl Listener<Connection = Accepted>,
        options: ListenerOptions,
        make_service: impl Fn(&Arc<Connection>) -> S,
    ) {
        let serve = |accepted| self.spawn(accepted, &options, &make_service, None);
        accept_until(&self.shutdown, listener, &options.name, serve).await;
    }

    fn spawn<S: CallerService>(
        &self,
        accepted: Accepted,
        options: &ListenerOptions,
        make_service: &impl Fn(&Arc<Connection>) -> S,
        load: Option<Load>,
    ) {
        let Accepted { stream, peer } = accepted;
        if !may_connect(&peer, options.users.as_deref()) {
            warn!(listener = &*options.name, %peer, "a process of a user that is not in unix_users was turned away");
            self.busy.refuse(stream);
            return;
        }
        let limits = self.limits.current();
        let most = (limits.connections, limits.connections_per_caller);
        let Some(permit) = self.counts.permit(&peer, most, || self.registry.cut_longest_idle()) else {
            warn!(listener = &*options.name, %peer, limit = limits.connections, "too many connections");
            if options.tls.is_none() {
                self.busy.answer(stream);
            }
            return;
        };
        let id = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        let is_encrypted = options.tls.is_some();
        let connection = Arc::new(Connection { id, listener: Arc::clone(&options.name), peer, is_encrypted });
        let service = make_service(&connection);
        let entered = self.registry.enter(id);
        let (limits, counts) = (self.limits.clone(), Arc::clone(&self.counts));
        let (http2, tls) = (options.http2, options.tls.clone());
        tokio::spawn(async move {
            let _held = (permit, load);
            let Entered { activity, .. } = &entered;
            let end = match handshake(stream, tls, activity).await {
                Ok(stream) => {
                    connection::serve(stream, http2, service, &limits, &counts, Arc::clone(activity)).await
                }
                Err(end) => end,
            };
            counts.count_end(end);
            log_end(&connection, end);
        });
    }

    /// Asks every connection to finish what it is doing and to close, waits for that as long as the limits say, and cuts
    /// what is left. Returns how many those were. Call it after shutdown.
    pub async fn drain(&self) -> usize {
        self.registry.drain();
        if tokio::time::timeout(self.limits.current().drain, self.registry.emptied()).await.is_ok() {
            return 0;
        }
        let cut = self.registry.len();
        self.registry.cut_all();
        self.registry.emptied().await;
        cut
    }
}

/// Whether the user of a process at the other end may connect. A user that the system does not tell may not.
fn may_connect(peer: &Address, users: Option<&[u32]>) -> bool {
    match (peer, users) {
        (Address::Unix { user }, Some(users)) => user.is_some_and(|user| users.contains(&user)),
        _ => true,
    }
}

/// The TLS handshake, where there is one. It counts as part of the first header section, and is cut with it.
async fn handshake(
    stream: Stream,
    tls: Option<TlsAcceptor>,
    activity: &Activity,
) -> Result<Stream, ConnectionEnd> {
    let (tls, stream) = match (tls, stream) {
        (Some(tls), Stream::Tcp(stream)) => (tls, stream),
        (_, stream) => return Ok(stream),
    };
    let mut handshake = std::pin::pin!(tls.accept(stream));
    std::future::poll_fn(|context| {
        activity.served_by(context);
        if let Order::Cut(reason) = activity.order() {
            return std::task::Poll::Ready(Err(ConnectionEnd::Cut(reason)));
        }
        handshake.as_mut().poll(context).map(|done| match done {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(_) => Err(ConnectionEnd::TlsHandshake),
        })
    })
    .await
}

fn log_end(connection: &Connection, end: ConnectionEnd) {
    let Connection { id, listener, peer, .. } = connection;
    let end_word = end.as_str();
    match end {
        ConnectionEnd::Closed | ConnectionEnd::CallerLeft | ConnectionEnd::Cut(CutReason::Idle) => {
            debug!(connection = id, listener = &**listener, %peer, end = end_word, "connection ended");
        }
        _ => info!(connection = id, listener = &**listener, %peer, end = end_word, "connection ended"),
    }
}

#[cfg(test)]
mod tests;
