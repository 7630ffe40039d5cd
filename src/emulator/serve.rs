//! Listening: connections, keep-alive, and a shutdown that lets answers finish.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::faults::severable::SeverableIo;
use super::origin::{MAXIMUM_HEADER_BYTES, MAXIMUM_TARGET_BYTES};
use crate::accept_loop::{ConnectionSlots, serve_until};

/// How long a shutdown waits for answers that are under way.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// So many connections are served at once by each listener; the oldest silent one gives way to another.
const CONNECTIONS: usize = 512;
/// What hyper reads of a head before it gives up: a little more than is answered, so that the refusal is the emulator's.
const HEAD_BUFFER_BYTES: usize = 2 * (MAXIMUM_HEADER_BYTES + MAXIMUM_TARGET_BYTES);

/// An error of any kind. hyper ends the connection when a service or a body returns one; what was asked for may have happened.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves connections until `shutdown`, then lets answers that are under way finish for at most five seconds.
pub async fn serve<A, F, B, E>(listener: TcpListener, shutdown: CancellationToken, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data = Bytes, Error = E> + Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    let slots = ConnectionSlots::new(CONNECTIONS);
    let serve = |(stream, _)| {
        let (slot, shutdown, answer) = (Arc::new(slots.take()), shutdown.clone(), answer.clone());
        let asking = Arc::clone(&slot);
        let answer = move |request| {
            asking.has_asked();
            answer(request)
        };
        async move {
            slot.serve(serve_connection(stream, shutdown, answer)).await;
        }
    };
    if serve_until(&shutdown, listener, "emulator", SHUTDOWN_GRACE, serve).await > 0 {
        tracing::warn!("the emulator leaves connections that did not end within their grace");
    }
}

/// Serves one connection over any transport until its client or `closing` ends it. HTTP/1.1 and, with prior knowledge, HTTP/2.
pub async fn serve_connection<T, A, F, B, E>(transport: T, closing: CancellationToken, answer: A)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data = Bytes, Error = E> + Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    let transport = SeverableIo::new(transport);
    let severance = transport.severance();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(severance.clone());
        answer(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(HEAD_BUFFER_BYTES).header_read_timeout(None);
    let connection = builder.serve_connection(TokioIo::new(transport), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
