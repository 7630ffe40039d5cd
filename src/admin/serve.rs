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
use crate::accept_loop::{
    ConnectionSlot, ConnectionSlots, ReservedDescriptors, ReservingListener, serve_until,
};

/// One request a connection, and no longer than this: a probe or a scrape needs milliseconds.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// The header section of a request comes within this time.
const HEADER_DEADLINE: Duration = Duration::from_secs(1);

/// The largest body of a purge.
const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// The descriptors that a listener with so many connections keeps: one for each, and one for the new one that another gives way to.
pub const fn reserved_descriptors(connections: usize) -> usize {
    connections + 1
}

/// Serves the operator's port until `stop`, which comes last of all when the process drains: `/readyz` must say why.
pub async fn serve(
    listener: TcpListener,
    reserved: Arc<ReservedDescriptors>,
    state: Arc<AdminState>,
    stop: CancellationToken,
) {
    let slots = ConnectionSlots::new(state.connections);
    let serve = |(stream, _)| {
        let (state, slot) = (Arc::clone(&state), Arc::new(slots.take()));
        let refill_at_end = reserved.refill_at_end();
        async move {
            let _refill_at_end = refill_at_end;
            if slot.serve(serve_connection(stream, state, Arc::clone(&slot))).await.is_none() {
                tracing::debug!("a connection to the admin port gave way to another");
            }
        }
    };
    let listener = ReservingListener { listener, reserved: Arc::clone(&reserved) };
    serve_until(&stop, listener, "admin", CONNECTION_DEADLINE, serve).await;
}

async fn serve_connection(stream: TcpStream, state: Arc<AdminState>, slot: Arc<ConnectionSlot>) {
    let service = service_fn(move |request| answer(Arc::clone(&state), Arc::clone(&slot), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin port broke"),
        Err(_) => tracing::debug!("a connection to the admin port took too long"),
    }
}

async fn answer(
    state: Arc<AdminState>,
    slot: Arc<ConnectionSlot>,
    request: Request<Incoming>,
) -> Result<AdminResponse, Infallible> {
    let (parts, body) = request.into_parts();
    Ok(match Limited::new(body, BODY_LIMIT_BYTES).collect().await {
        Ok(body) => {
            slot.has_asked();
            state.answer(&parts, &body.to_bytes()).await
        }
        Err(error) => {
            problem(StatusCode::PAYLOAD_TOO_LARGE, "body", &format!("The body is not taken: {error}"))
        }
    })
}
