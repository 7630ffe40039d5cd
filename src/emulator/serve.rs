//! Listening: connections, keep-alive, and a shutdown that lets answers finish.

use std::convert::Infallible;
use std::future::Future;
use std::io;
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
use tokio_util::task::TaskTracker;

use super::faults::severable::SeverableIo;
use super::origin::{MAXIMUM_HEADER_BYTES, MAXIMUM_TARGET_BYTES};

/// How long a shutdown waits for answers that are under way.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// How long accepting pauses when the system has no file descriptor left: there is nothing to do but wait for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What hyper reads of a head before it gives up: a little more than is answered, so that the refusal is the emulator's.
const HEAD_BUFFER_BYTES: usize = 2 * (MAXIMUM_HEADER_BYTES + MAXIMUM_TARGET_BYTES);

/// Why a connection ends without an answer; what was asked for may have happened.
pub trait EndsConnection: std::error::Error + Send + Sync + 'static {}
impl EndsConnection for super::faults::body::Severed {}
impl EndsConnection for Infallible {}

/// Serves connections until `shutdown`, then lets those under way finish for at most five seconds.
///
/// # Errors
/// Never for a single connection; when the listener itself is broken.
pub async fn serve<A, F, B, E>(
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    answer: A,
) -> io::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data = Bytes, Error = E> + Send + 'static,
    E: EndsConnection,
{
    let (connections, closing) = (TaskTracker::new(), CancellationToken::new());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // Without this, small answers wait for the acknowledgement of the one before. It fails only where the client
                // has gone already, which the connection will find out.
                let _gone = stream.set_nodelay(true);
                connections.spawn(serve_connection(stream, closing.clone(), answer.clone()));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the emulator could not accept a connection; raise the limit of open files");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    closing.cancel();
    connections.close();
    if tokio::time::timeout(SHUTDOWN_GRACE, connections.wait()).await.is_err() {
        tracing::warn!("the emulator leaves connections that did not end within their grace");
    }
    Ok(())
}

/// Serves one connection over any transport until its client or `closing` ends it. HTTP/1.1 and, with prior knowledge, HTTP/2.
pub async fn serve_connection<T, A, F, B, E>(transport: T, closing: CancellationToken, answer: A)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data = Bytes, Error = E> + Send + 'static,
    E: EndsConnection,
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

/// Errors of a connection that its client has given up before it was accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted)
}
