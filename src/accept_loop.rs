//! The one loop that accepts connections, for every listener of this process: those of callers, of the operator, and of the
//! emulator. What a connection is and how it is served is up to each of them.

mod reserved;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub use reserved::{ReservedDescriptors, ReservingListener};

/// How long to wait after the system could not accept a connection (out of file descriptors): without it the loop would spin.
const EXHAUSTION_PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// What is accepted.
    type Connection;

    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// What the system says: out of file descriptors, a connection that was gone before it was accepted. The loop goes on.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Listener for TcpListener {
    type Connection = (TcpStream, SocketAddr);

    async fn accept(&mut self) -> io::Result<Self::Connection> {
        let (stream, peer) = Self::accept(self).await?;
        // An answer is one write; waiting for more to fill the segment would only delay it. It fails only where the caller has
        // gone already, which the connection will find out.
        let _gone = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}

/// So many connections at once. One more is served at once, and another gives way: the oldest of those that have not sent a whole
/// request, else the oldest of all. Nobody can occupy a port by saying nothing.
#[derive(Debug)]
pub struct ConnectionSlots {
    limit: usize,
    /// The oldest first.
    taken: Mutex<Vec<Arc<SlotState>>>,
}

#[derive(Debug, Default)]
struct SlotState {
    asked: AtomicBool,
    gives_way: CancellationToken,
}

/// One connection's slot, until it is dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    taken: Arc<SlotState>,
}

impl ConnectionSlots {
    /// At most `limit` connections.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// A slot for a new connection.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> ConnectionSlot {
        let taken = Arc::new(SlotState::default());
        let mut all = self.lock();
        if all.len() >= self.limit && !all.is_empty() {
            let silent = all.iter().position(|other| !other.asked.load(Ordering::Relaxed));
            all.remove(silent.unwrap_or(0)).gives_way.cancel();
        }
        all.push(Arc::clone(&taken));
        drop(all);
        ConnectionSlot { slots: Arc::clone(self), taken }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<SlotState>>> {
        // Nothing under this lock can panic half way through a change.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionSlot {
    /// The connection has sent a whole request.
    pub fn has_asked(&self) {
        self.taken.asked.store(true, Ordering::Relaxed);
    }

    /// Serves the connection until it gives way to another; `None` if it did.
    pub async fn serve<T>(&self, serving: impl Future<Output = T>) -> Option<T> {
        self.taken.gives_way.run_until_cancelled(serving).await
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.lock().retain(|other| !Arc::ptr_eq(other, &self.taken));
    }
}

/// Accepts connections until shutdown, hands each to `take`, and then closes the listener. `name` is the listener's in the log.
///
/// Other tasks run after each connection: what was accepted is looked at before the next one is, and however many connect at once,
/// requests on other connections do not wait for all of them.
pub async fn accept_until<L: Listener>(
    shutdown: &CancellationToken,
    mut listener: L,
    name: &str,
    take: impl Fn(L::Connection),
) {
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok(connection) => {
                take(connection);
                tokio::task::yield_now().await;
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!(listener = name, %error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                warn!(
                    listener = name,
                    %error,
                    "a connection could not be accepted; if this goes on, raise the limit of open files"
                );
                shutdown.run_until_cancelled(tokio::time::sleep(EXHAUSTION_PAUSE)).await;
            }
        }
    }
}

/// Accepts connections until shutdown and serves each in a task of its own; then closes the listener and waits for those that
/// are being served, for as long as `grace` says. Returns how many are left, which go on.
pub async fn serve_until<L, F>(
    shutdown: &CancellationToken,
    listener: L,
    name: &str,
    grace: Duration,
    serve: impl Fn(L::Connection) -> F,
) -> usize
where
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
    let connections = TaskTracker::new();
    let spawn = |connection| {
        connections.spawn(serve(connection));
    };
    accept_until(shutdown, listener, name, spawn).await;
    connections.close();
    match tokio::time::timeout(grace, connections.wait()).await {
        Ok(()) => 0,
        Err(_) => connections.len(),
    }
}

/// Whether one connection failed, and not the listener: its other end has given it up (accept(2)), and the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::*;
    use crate::clock::{Clock, Timestamp};

    /// Measures paused time.
    struct Stopwatch(Clock);

    impl Stopwatch {
        fn start() -> Self {
            Self(Clock::tokio(Timestamp::default()))
        }

        fn elapsed(&self) -> Duration {
            self.0.now().since(Timestamp::default())
        }
    }

    /// Accepts what it is told to.
    struct Scripted(UnboundedReceiver<io::Result<u32>>);

    impl Listener for Scripted {
        type Connection = u32;

        async fn accept(&mut self) -> io::Result<u32> {
            match self.0.recv().await {
                Some(accepted) => accepted,
                None => std::future::pending().await,
            }
        }
    }

    fn scripted(
        accepted: impl IntoIterator<Item = io::Result<u32>>,
    ) -> (UnboundedSender<io::Result<u32>>, Scripted) {
        let (sender, receiver) = unbounded_channel();
        accepted.into_iter().for_each(|accepted| sender.send(accepted).expect("a listener"));
        (sender, Scripted(receiver))
    }

    /// Accepts until `last` is there, and returns how long that took.
    async fn time_to_accept(last: u32, accepted: impl IntoIterator<Item = io::Result<u32>>) -> Duration {
        let (_open, listener) = scripted(accepted);
        let (shutdown, start) = (CancellationToken::new(), Stopwatch::start());
        let take = |connection| {
            if connection == last {
                shutdown.cancel();
            }
        };
        accept_until(&shutdown, listener, "test", take).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_gone_delays_no_other() {
        for kind in
            [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::Interrupted]
        {
            let took = time_to_accept(2, [Ok(1), Err(kind.into()), Err(kind.into()), Ok(2)]).await;
            assert_eq!(took, Duration::ZERO, "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_served_before_the_next_is_accepted() {
        let (_open, listener) = scripted((0..50).map(Ok));
        let (shutdown, served) = (CancellationToken::new(), Arc::new(Mutex::new(0)));
        let take = |connection| {
            assert_eq!(*served.lock().expect("no panic"), connection);
            let served = Arc::clone(&served);
            tokio::spawn(async move { *served.lock().expect("no panic") += 1 });
            if connection == 49 {
                shutdown.cancel();
            }
        };
        accept_until(&shutdown, listener, "test", take).await;
        assert_eq!(*served.lock().expect("no panic"), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn accepting_pauses_when_the_system_has_nothing_left() {
        const EMFILE: i32 = 24;
        for error in [|| io::Error::from_raw_os_error(EMFILE), || io::ErrorKind::InvalidInput.into()] {
            let took = time_to_accept(1, [Err(error()), Err(error()), Ok(1)]).await;
            assert!(took >= 2 * EXHAUSTION_PAUSE && took < 3 * EXHAUSTION_PAUSE, "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_does_not_delay_shutdown() {
        let (_open, listener) = scripted([Err(io::ErrorKind::OutOfMemory.into())]);
        let (shutdown, start) = (CancellationToken::new(), Stopwatch::start());
        let accepting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { accept_until(&shutdown, listener, "test", |_| panic!("none")).await }
        });
        tokio::time::advance(EXHAUSTION_PAUSE / 10).await;
        shutdown.cancel();
        accepting.await.expect("no panic");
        assert!(start.elapsed() < EXHAUSTION_PAUSE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_the_oldest_silent_connection_gives_way() {
        let slots = ConnectionSlots::new(3);
        let gave_way = async |slot: &ConnectionSlot| slot.serve(std::future::ready(())).await.is_none();
        let (first, second, third) = (slots.take(), slots.take(), slots.take());
        first.has_asked();
        let fourth = slots.take();
        assert!(gave_way(&second).await, "the oldest that has said nothing");
        for slot in [&first, &third, &fourth] {
            assert!(!gave_way(slot).await);
        }
        drop(second);
        third.has_asked();
        fourth.has_asked();
        let _fifth = slots.take();
        assert!(gave_way(&first).await, "all have asked: the oldest");
        drop(third);
        let _sixth = slots.take();
        assert!(!gave_way(&fourth).await, "there is room");
    }

    /// How many of two connections, one of a second and one of a minute, are left when that grace is over, and how long
    /// that was waited for.
    async fn drained(grace: Duration) -> (usize, Duration) {
        let (_open, listener) = scripted([Ok(1), Ok(60)]);
        let (shutdown, served) = (CancellationToken::new(), Arc::new(Mutex::new(0)));
        let serve = |seconds: u32| {
            let served = Arc::clone(&served);
            if seconds == 60 {
                shutdown.cancel();
            }
            async move {
                tokio::time::sleep(Duration::from_secs(seconds.into())).await;
                *served.lock().expect("no panic") += 1;
            }
        };
        let start = Stopwatch::start();
        let left = serve_until(&shutdown, listener, "test", grace, serve).await;
        assert_eq!(*served.lock().expect("no panic"), 2 - left);
        (left, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_connections_within_the_grace() {
        let seconds = Duration::from_secs;
        let (left, took) = drained(seconds(5)).await;
        assert_eq!(left, 1);
        assert!(took >= seconds(5) && took < seconds(6), "{took:?}");
        let (left, took) = drained(seconds(120)).await;
        assert_eq!(left, 0);
        assert!(took >= seconds(60) && took < seconds(61), "{took:?}");
    }
}
