//! The operator's listener: few connections, each short-lived, so that nobody can occupy it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{AdminState, Answer, problem};

/// One request a connection, and no longer than this: a probe or a scrape needs milliseconds.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// The largest purge that somebody could mean.
const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// How long to wait when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the operator's port until `stop`, which comes last of all when the process drains: `/readyz` must say why.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(state.admin.connections));
    let connections = TaskTracker::new();
    loop {
        // At the limit new connections wait in the system's queue; the deadline makes room.
        let next = async { (permits.clone().acquire_owned().await, listener.accept().await) };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(state.clone(), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(CONNECTION_DEADLINE, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin port broke"),
                Err(_) => tracing::debug!("a connection to the admin port took too long"),
            }
            drop(permit);
        });
    }
    connections.close();
    connections.wait().await;
}

async fn answer(state: Arc<AdminState>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    Ok(match Limited::new(body, BODY_LIMIT_BYTES).collect().await {
        Ok(body) => state.answer(&parts, &body.to_bytes()),
        Err(error) => {
            problem(StatusCode::PAYLOAD_TOO_LARGE, "body", &format!("The body is not taken: {error}"))
        }
    })
}
