//! The signals to stop: the first one asks politely, a second one means at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Listens for SIGTERM (service managers, Kubernetes) and SIGINT (Ctrl-C).
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on a signal is heard here and no longer ends the process by itself. Call it inside a runtime.
    ///
    /// # Errors
    /// The system's, when it refuses handlers.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs `serve` until it ends. It is given a token that the first signal cancels; with the second one it is left where it
/// stands, and there is no result.
pub(crate) async fn until_stopped<F: Future>(
    mut signals: Signals,
    serve: impl FnOnce(CancellationToken) -> F,
) -> Option<F::Output> {
    let stop = CancellationToken::new();
    let serving = serve(stop.clone());
    let impatient = async {
        signals.next().await;
        stop.cancel();
        signals.next().await;
    };
    tokio::select! {
        output = serving => Some(output),
        () = impatient => None,
    }
}
