//! A future that runs to its end, whatever becomes of its owner.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

/// Runs where it is awaited. If it is dropped before its end, it goes on in a task of its own. A caller that stays costs no task.
pub struct RunToEnd<T: Send + 'static> {
    future: Option<BoxFuture<'static, T>>,
}

impl<T: Send + 'static> RunToEnd<T> {
    /// Wraps a future.
    #[must_use]
    pub fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { future: Some(Box::pin(future)) }
    }
}

impl<T: Send + 'static> Future for RunToEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out while it runs: one that panics does not go on.
        let Some(mut future) = self.future.take() else { return Poll::Pending };
        let polled = future.as_mut().poll(context);
        if polled.is_pending() {
            self.future = Some(future);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for RunToEnd<T> {
    fn drop(&mut self) {
        // Without a runtime the process is ending.
        if let (Some(future), Ok(runtime)) = (self.future.take(), Handle::try_current()) {
            runtime.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_goes_on_without_its_owner_from_where_it_was() {
        for polls in [0, 1] {
            let (go_on, may_go_on) = oneshot::channel::<()>();
            let (done, is_done) = oneshot::channel();
            let mut future = RunToEnd::new(async move {
                may_go_on.await.expect("told to go on");
                done.send(()).expect("heard");
            });
            for _ in 0..polls {
                tokio::select! {
                    biased;
                    () = &mut future => panic!("it waits"),
                    () = std::future::ready(()) => {}
                }
            }
            drop(future);
            go_on.send(()).expect("it still runs");
            is_done.await.expect("it comes to its end");
        }
    }

    #[tokio::test]
    async fn its_owner_gets_what_comes_of_it() {
        assert_eq!(RunToEnd::new(async { 1 }).await, 1);
    }
}
