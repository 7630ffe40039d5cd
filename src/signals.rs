//! The signals to stop: the first one starts the drain, a second one stops at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Listens for SIGTERM (service managers, Kubernetes) and SIGINT (Ctrl-C).
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Registers the handlers. From then on a signal does not end the process by itself. Call it inside a runtime.
    ///
    /// # Errors
    /// The error of the system if it refuses the handlers.
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

/// Runs `serve` until it ends. The first signal cancels its token. A second signal drops it, and the result is `None`.
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
