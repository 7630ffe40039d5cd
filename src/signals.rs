//! The signals to stop: the first one starts the drain, a second one stops at once. And SIGHUP.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Listens for SIGTERM (service managers, Kubernetes) and SIGINT (Ctrl-C).
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Where SIGHUP stops as well: what has no configuration to read anew.
    hangup: Option<Signal>,
}

impl Signals {
    /// Registers the handlers. From then on a signal does not end the process by itself. Call it inside a runtime.
    ///
    /// # Errors
    /// The error of the system if it refuses the handlers.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: None })
    }

    /// The same, and SIGHUP stops as well: the terminal was closed.
    ///
    /// # Errors
    /// As for [`Signals::listen`].
    pub(crate) fn listen_with_hangup() -> std::io::Result<Self> {
        Ok(Self { hangup: Some(signal(SignalKind::hangup())?), ..Self::listen()? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = received(&mut self.hangup) => {}
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// SIGHUP where it means that the configuration is read anew.
pub(crate) struct Hangups(Signal);

impl Hangups {
    /// Registers the handler. From then on SIGHUP does not end the process. Call it inside a runtime.
    ///
    /// # Errors
    /// The error of the system if it refuses the handler.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for the next one. Several that come meanwhile count as one.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
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
