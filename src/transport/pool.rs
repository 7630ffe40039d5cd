//! The connections to one origin: idle ones of HTTP/1.1, and the one of HTTP/2 that all requests share.
//!
//! A connection of HTTP/1.1 carries one exchange at a time. It comes back only after the last byte of the answer was read
//! ([`ReceivedBody`](super::received_body::ReceivedBody)); otherwise it is closed. The one that was used last is used next, so
//! that those which are not needed reach their idle time. Beyond the limit the oldest idle one is closed.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Uri;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::dial::{ConnectionUse, Dial, UpstreamConnection};
use crate::body::FlowingBody;
use crate::clock::instant;

/// How many connections are kept, for how long, and what one may receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// To establish a connection, TLS included.
    pub connect_deadline: Duration,
    /// How long an unused connection is kept.
    pub idle_time: Duration,
    /// How many unused connections are kept.
    pub idle_limit: usize,
    /// Most bytes of an answer's header section.
    pub header_section_limit_bytes: usize,
}

/// The connections to one origin.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<PoolState>,
}

struct PoolState {
    origin: Uri,
    dial: Arc<dyn Dial>,
    limits: ArcSwap<PoolLimits>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one that was used last stands at the end.
    idle: VecDeque<Idle>,
    http2: Option<SharedHttp2>,
    /// Whether a task closes what has been unused for too long.
    is_swept: bool,
}

struct Idle {
    connection: Http1,
    since: Instant,
}

struct SharedHttp2 {
    connection: Http2,
    last_used: Instant,
}

/// A connection of HTTP/1.1, for one exchange at a time.
#[derive(Debug)]
pub struct Http1 {
    /// Where requests go in.
    pub sender: http1::SendRequest<FlowingBody>,
    /// What happened on it.
    pub usage: ConnectionUse,
}

/// A connection of HTTP/2. Its clones share it.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// Where requests go in.
    pub sender: http2::SendRequest<FlowingBody>,
    /// What happened on it.
    pub usage: ConnectionUse,
}

/// A connection for one exchange.
#[derive(Debug)]
pub enum PooledConnection {
    /// It belongs to the exchange.
    Http1(Http1),
    /// It is shared.
    Http2(Http2),
}

/// A connection, and whether it was in use before.
#[derive(Debug)]
pub struct CheckedOut {
    /// The connection.
    pub connection: PooledConnection,
    /// Whether other requests have used it.
    pub is_reused: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It was refused, unreachable, or its TLS failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It did not get ready for HTTP.
    #[error(transparent)]
    Handshake(#[from] hyper::Error),
    /// The deadline passed.
    #[error("no connection within the connect deadline")]
    TimedOut,
}

impl Pool {
    /// A pool for the origin of this URI. It opens no connection yet.
    #[must_use]
    pub fn new(origin: Uri, dial: Arc<dyn Dial>, limits: PoolLimits) -> Self {
        let limits = ArcSwap::from_pointee(limits);
        Self { shared: Arc::new(PoolState { origin, dial, limits, kept: Mutex::default() }) }
    }

    /// Replaces the limits. Connections that are open keep the limit of header sections that they were opened with.
    pub fn set_limits(&self, limits: PoolLimits) {
        self.shared.limits.store(Arc::new(limits));
        self.shared.close_expired();
    }

    /// A connection that waits for use, else a new one.
    ///
    /// # Errors
    /// [`ConnectError`] if there is none within the deadline.
    pub async fn check_out(&self) -> Result<CheckedOut, ConnectError> {
        if let Some(connection) = self.shared.take() {
            return Ok(CheckedOut { connection, is_reused: true });
        }
        let connection = match self.open().await? {
            PooledConnection::Http2(opened) => self.shared.share(opened),
            connection @ PooledConnection::Http1(_) => connection,
        };
        Ok(CheckedOut { connection, is_reused: false })
    }

    /// A new connection that the pool never hands to another request.
    ///
    /// # Errors
    /// [`ConnectError`] if there is none within the deadline.
    pub async fn open(&self) -> Result<PooledConnection, ConnectError> {
        let deadline = self.shared.limits.load().connect_deadline;
        // Boxed, so that a request which finds a connection does not carry the room to open one.
        let opening = Box::pin(self.shared.open());
        tokio::time::timeout(deadline, opening).await.unwrap_or(Err(ConnectError::TimedOut))
    }

    /// Takes a connection back, after the last byte of the answer on it.
    pub fn put_back(&self, connection: Http1) {
        PoolState::put_back(&self.shared, connection);
    }
}

impl PoolState {
    fn take(&self) -> Option<PooledConnection> {
        let mut kept = self.lock();
        if kept.idle.is_empty() && kept.http2.is_none() {
            return None;
        }
        let now = instant();
        if let Some(shared) = &mut kept.http2 {
            if !shared.connection.sender.is_closed() && !self.is_expired(shared.last_used, now) {
                shared.last_used = now;
                return Some(PooledConnection::Http2(shared.connection.clone()));
            }
            kept.http2 = None;
        }
        let mut position = kept.idle.len();
        while position > 0 {
            position -= 1;
            let Some(idle) = kept.idle.get(position) else { break };
            if self.is_expired(idle.since, now) {
                // So are all before it.
                kept.idle.drain(..=position);
                break;
            }
            if idle.connection.sender.is_ready() {
                return kept.idle.remove(position).map(|idle| PooledConnection::Http1(idle.connection));
            }
            // One that is still sending the rest of a request stays until it is done.
            if idle.connection.sender.is_closed() {
                kept.idle.remove(position);
            }
        }
        None
    }

    fn put_back(self: &Arc<Self>, connection: Http1) {
        let limits = **self.limits.load();
        if connection.sender.is_closed() || limits.idle_time.is_zero() || limits.idle_limit == 0 {
            return;
        }
        let oldest;
        {
            let mut kept = self.lock();
            oldest = if kept.idle.len() >= limits.idle_limit { kept.idle.pop_front() } else { None };
            kept.idle.push_back(Idle { connection, since: instant() });
            self.sweep(&mut kept);
        }
        drop(oldest);
    }

    /// Shares a connection of HTTP/2, or gives the one that was shared meanwhile.
    fn share(self: &Arc<Self>, opened: Http2) -> PooledConnection {
        let mut kept = self.lock();
        let last_used = instant();
        if let Some(shared) = kept.http2.as_mut().filter(|shared| !shared.connection.sender.is_closed()) {
            shared.last_used = last_used;
            return PooledConnection::Http2(shared.connection.clone());
        }
        if !self.limits.load().idle_time.is_zero() {
            kept.http2 = Some(SharedHttp2 { connection: opened.clone(), last_used });
            self.sweep(&mut kept);
        }
        PooledConnection::Http2(opened)
    }

    fn is_expired(&self, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) >= self.limits.load().idle_time
    }

    /// Closes what has been unused for too long, in a task that ends with the last connection.
    fn sweep(self: &Arc<Self>, kept: &mut Kept) {
        if kept.is_swept {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        kept.is_swept = true;
        let (pool, idle_time) = (Arc::downgrade(self), self.limits.load().idle_time);
        runtime.spawn(async move {
            let mut next = instant() + idle_time;
            loop {
                tokio::time::sleep_until(next).await;
                match Weak::upgrade(&pool).and_then(|pool| pool.close_expired()) {
                    Some(due) => next = due,
                    None => return,
                }
            }
        });
    }

    /// When the next connection is due; `None` if none is left.
    fn close_expired(&self) -> Option<Instant> {
        let mut kept = self.lock();
        let now = instant();
        let is_expired = |since| self.is_expired(since, now);
        kept.http2.take_if(|shared| shared.connection.sender.is_closed() || is_expired(shared.last_used));
        kept.idle.retain(|idle| !idle.connection.sender.is_closed() && !is_expired(idle.since));
        let first = kept.idle.front().map(|idle| idle.since);
        let first = first.into_iter().chain(kept.http2.as_ref().map(|shared| shared.last_used)).min();
        kept.is_swept = first.is_some();
        first.map(|since| since + self.limits.load().idle_time)
    }

    async fn open(&self) -> Result<PooledConnection, ConnectError> {
        let io = self.dial.dial(self.origin.clone()).await?;
        let is_http2 = io.is_http2();
        let usage = ConnectionUse::default();
        let io = TokioIo::new(UpstreamConnection::new(io, usage.clone()));
        let limit_bytes = self.limits.load().header_section_limit_bytes;
        if is_http2 {
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(u32::try_from(limit_bytes).unwrap_or(u32::MAX))
                .handshake(io)
                .await?;
            tokio::spawn(connection);
            sender.ready().await?;
            return Ok(PooledConnection::Http2(Http2 { sender, usage }));
        }
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(limit_bytes.max(8192)).handshake(io).await?;
        tokio::spawn(connection);
        sender.ready().await?;
        Ok(PooledConnection::Http1(Http1 { sender, usage }))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing under this lock can panic half way through a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
