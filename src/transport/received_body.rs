//! The body of an answer as it arrives, with what its exchange holds until its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::pool::{Pool, PooledConnection};

/// A body that gives its connection back to the pool after its last byte. Dropped before that, it closes the connection.
#[derive(Debug)]
pub struct ReceivedBody {
    incoming: Incoming,
    held: Option<HeldConnection>,
}

/// What an exchange holds until it is over.
pub(super) struct HeldConnection {
    pub(super) connection: PooledConnection,
    /// `None`: no other request may use the connection.
    pub(super) pool: Option<Pool>,
    /// The exchange's place among those under way.
    pub(super) permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for HeldConnection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HeldConnection").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl ReceivedBody {
    pub(super) fn new(incoming: Incoming, held: HeldConnection) -> Self {
        let mut body = Self { incoming, held: Some(held) };
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    fn end(&mut self) {
        let Some(HeldConnection { connection, pool, permit }) = self.held.take() else { return };
        if let (PooledConnection::Http1(connection), Some(pool)) = (connection, pool) {
            pool.put_back(connection);
        }
        // Last: who waits for a place finds the connection.
        drop(permit);
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Err(_))) => self.held = None,
            Poll::Ready(Some(Ok(_))) if !self.incoming.is_end_stream() => {}
            Poll::Ready(_) => self.end(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
