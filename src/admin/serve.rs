//! The operator's listener: few connections, each short-lived, so that no client can occupy it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{AdminResponse, AdminState, problem};
use crate::accept_loop::{LimitedListener, serve_until};

/// One request a connection, and no longer than this: a probe or a scrape needs milliseconds.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// The largest body of a purge.
const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// Serves the operator's port until `stop`, which comes last of all when the process drains: `/readyz` must say why.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>, stop: CancellationToken) {
    // At the limit new connections wait in the system's queue; the deadline makes room.
    let listener = LimitedListener::new(listener, state.admin.connections);
    let serve = |((stream, _), permit)| {
        let state = Arc::clone(&state);
        async move {
            serve_connection(stream, state).await;
            drop(permit);
        }
    };
    serve_until(&stop, listener, "admin", CONNECTION_DEADLINE, serve).await;
}

async fn serve_connection(stream: TcpStream, state: Arc<AdminState>) {
    let service = service_fn(move |request| answer(Arc::clone(&state), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin port broke"),
        Err(_) => tracing::debug!("a connection to the admin port took too long"),
    }
}

async fn answer(state: Arc<AdminState>, request: Request<Incoming>) -> Result<AdminResponse, Infallible> {
    let (parts, body) = request.into_parts();
    Ok(match Limited::new(body, BODY_LIMIT_BYTES).collect().await {
        Ok(body) => state.answer(&parts, &body.to_bytes()),
        Err(error) => {
            problem(StatusCode::PAYLOAD_TOO_LARGE, "body", &format!("The body is not taken: {error}"))
        }
    })
}
