//! Connections in memory: what tests with paused time use instead of sockets.

use std::io;

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::listener::{Accepted, Address, Stream};
use crate::accept_loop::Listener;

/// Connections from within the process.
#[derive(Debug)]
pub struct MemoryListener(mpsc::UnboundedReceiver<DuplexStream>);

/// Connects to a [`MemoryListener`].
#[derive(Clone, Debug)]
pub struct MemoryConnector(mpsc::UnboundedSender<DuplexStream>);

/// A listener in memory and what connects to it.
#[must_use]
pub fn in_memory() -> (MemoryConnector, MemoryListener) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (MemoryConnector(sender), MemoryListener(receiver))
}

impl MemoryConnector {
    /// The caller's end of a new connection that holds `buffer_bytes` in each direction; its other end is closed at once if
    /// the listener has been dropped.
    #[must_use]
    pub fn connect(&self, buffer_bytes: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(buffer_bytes);
        // Refused: the other end is dropped with the error, which the caller sees as a closed connection.
        let _ = self.0.send(theirs);
        ours
    }
}

impl Listener for MemoryListener {
    type Connection = Accepted;

    async fn accept(&mut self) -> io::Result<Accepted> {
        match self.0.recv().await {
            Some(stream) => Ok(Accepted { stream: Stream::Memory(stream), peer: Address::Memory }),
            // All connectors are dropped; only the end of the acceptor ends the wait.
            None => std::future::pending().await,
        }
    }
}
