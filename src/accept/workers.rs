//! Several runtimes: connections are accepted in one place, handed to the worker with the fewest, and stay there.
//!
//! Not `SO_REUSEPORT`: it would let a second process take the same port unnoticed, and it spreads connections by a hash that
//! leaves some workers idle when there are few.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::listener::{Accepted, Address, Stream};
use super::{Acceptor, CallerService, Connection, ConnectionCounts, ListenerOptions, LiveAcceptLimits};
use crate::accept_loop::{Listener, accept_until};

/// Why workers could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start worker {number}: {source}; lower runtime.workers or free memory and threads")]
pub struct WorkersError {
    /// Which of the workers, counted from one.
    pub number: usize,
    /// What the system says.
    pub source: io::Error,
}

/// Threads that serve connections, each with a current-thread runtime and an [`Acceptor`] of its own.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct Worker {
    sender: mpsc::UnboundedSender<HandedOver>,
    load: Arc<AtomicUsize>,
    thread: JoinHandle<usize>,
}

/// A connection on its way to a worker, taken off the runtime that accepted it.
struct HandedOver {
    stream: DetachedStream,
    peer: Address,
    options: ListenerOptions,
    load: Load,
}

enum DetachedStream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    /// Bound to no runtime.
    Other(Stream),
}

impl DetachedStream {
    fn detach(stream: Stream) -> io::Result<Self> {
        Ok(match stream {
            Stream::Tcp(stream) => Self::Tcp(stream.into_std()?),
            Stream::Unix(stream) => Self::Unix(stream.into_std()?),
            other => Self::Other(other),
        })
    }

    fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
            Self::Other(stream) => stream,
        })
    }
}

/// One connection's share of a worker's load, from handing over to its end.
#[derive(Debug)]
pub(super) struct Load(Arc<AtomicUsize>);

impl Load {
    fn of(worker: &Worker) -> Self {
        worker.load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&worker.load))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts `count` threads. `counts`, and with them the limit of connections, are shared by all.
    ///
    /// # Errors
    /// [`WorkersError`] when the system has no thread or no descriptors for a runtime.
    pub fn start<S: CallerService>(
        count: usize,
        limits: &LiveAcceptLimits,
        counts: &Arc<ConnectionCounts>,
        shutdown: &CancellationToken,
        make_service: &(impl Fn(&Arc<Connection>) -> S + Clone + Send + 'static),
    ) -> Result<Self, WorkersError> {
        let mut workers = Vec::with_capacity(count);
        for number in 1..=count {
            let failed = |source| WorkersError { number, source };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
            let (sender, receiver) = mpsc::unbounded_channel();
            let (limits, counts, shutdown) = (limits.clone(), Arc::clone(counts), shutdown.clone());
            let make_service = make_service.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    runtime.block_on(async move {
                        let acceptor = Acceptor::new(limits, counts, shutdown);
                        serve_handed_over(&acceptor, receiver, &make_service).await;
                        acceptor.drain().await
                    })
                })
                .map_err(failed)?;
            workers.push(Worker { sender, load: Arc::default(), thread });
        }
        Ok(Self { workers, shutdown: shutdown.clone() })
    }

    /// Accepts connections until shutdown, hands each to the worker that has the fewest, and then closes the listener.
    pub async fn run(&self, listener: impl Listener<Connection = Accepted>, options: ListenerOptions) {
        let hand_over = |accepted: Accepted| {
            let Accepted { stream, peer } = accepted;
            let least = self.workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
            let Some(worker) = least else { return };
            match DetachedStream::detach(stream) {
                Ok(stream) => {
                    let load = Load::of(worker);
                    let handed_over = HandedOver { stream, peer, options: options.clone(), load };
                    // A worker that is gone is shutting down: the connection is closed with the error.
                    let _ = worker.sender.send(handed_over);
                }
                Err(error) => warn!(%error, "a connection could not be handed to a worker"),
            }
        };
        accept_until(&self.shutdown, listener, &options.name, hand_over).await;
    }

    /// Connections of each worker.
    #[cfg(test)]
    pub(super) fn loads(&self) -> Vec<usize> {
        self.workers.iter().map(|worker| worker.load.load(Ordering::Relaxed)).collect()
    }

    /// Waits for all workers to drain, which they do by themselves at shutdown, and returns how many connections had to be
    /// cut. Blocks the thread.
    #[must_use]
    pub fn join(self) -> usize {
        self.workers.into_iter().map(|worker| worker.thread.join().unwrap_or_default()).sum()
    }
}

async fn serve_handed_over<S: CallerService>(
    acceptor: &Acceptor,
    mut receiver: mpsc::UnboundedReceiver<HandedOver>,
    make_service: &impl Fn(&Arc<Connection>) -> S,
) {
    while let Some(Some(handed_over)) = acceptor.shutdown.run_until_cancelled(receiver.recv()).await {
        let HandedOver { stream, peer, options, load } = handed_over;
        match stream.attach() {
            Ok(stream) => {
                acceptor.spawn(Accepted { stream, peer }, &options, make_service, Some(load));
                // As after accepting: its other connections do not wait for all that are handed over at once.
                tokio::task::yield_now().await;
            }
            Err(error) => warn!(%error, "a worker could not take a connection over"),
        }
    }
}
