//! The result of one fetch, and the requests that wait for it. They are woken in the order in which they began to wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

/// Holds the result of one fetch, set once.
#[derive(Debug)]
pub struct ResultCell<R> {
    result: OnceLock<Option<R>>,
    waiting: AtomicUsize,
    set: Notify,
    left: Notify,
}

/// Waits for a result; counted for as long as it lives.
#[derive(Debug)]
pub struct Waiter<R> {
    cell: Arc<ResultCell<R>>,
}

impl<R> Default for ResultCell<R> {
    fn default() -> Self {
        Self {
            result: OnceLock::new(),
            waiting: AtomicUsize::new(0),
            set: Notify::new(),
            left: Notify::new(),
        }
    }
}

impl<R> ResultCell<R> {
    /// Hands the result to all that wait, now and later; `None` says that there will be none. Only the first call counts.
    pub fn set(&self, result: Option<R>) {
        if self.result.set(result).is_ok() {
            self.set.notify_waiters();
        }
    }

    /// Whether [`Self::set`] was called.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.result.get().is_some()
    }

    /// Begins to wait.
    #[must_use]
    pub fn wait(self: &Arc<Self>) -> Waiter<R> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiter { cell: Arc::clone(self) }
    }

    /// Resolves when none waits any more.
    pub async fn abandoned(&self) {
        loop {
            // Registered before looking, so that one that leaves in between is not missed.
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            if self.waiting.load(Ordering::SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }
}

impl<R: Clone> Waiter<R> {
    /// The result; `None` if there will be none.
    pub async fn result(&self) -> Option<R> {
        loop {
            let mut set = std::pin::pin!(self.cell.set.notified());
            set.as_mut().enable();
            if let Some(result) = self.cell.result.get() {
                return result.clone();
            }
            set.await;
        }
    }
}

impl<R> Drop for Waiter<R> {
    fn drop(&mut self) {
        if self.cell.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.cell.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_get_the_first_result_in_the_order_of_waiting() {
        let cell = Arc::new(ResultCell::default());
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..20)
            .map(|number| {
                let (waiter, order) = (cell.wait(), Arc::clone(&order));
                tokio::spawn(async move {
                    let result = waiter.result().await;
                    order.lock().unwrap().push(number);
                    result
                })
            })
            .collect();
        tokio::task::yield_now().await;
        cell.set(Some(7));
        cell.set(None);
        for waited in waiting {
            assert_eq!(waited.await.unwrap(), Some(7));
        }
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert_eq!(cell.wait().result().await, Some(7), "and one that comes late");
    }

    #[tokio::test]
    async fn a_fetch_whose_leader_was_dropped_has_no_result() {
        let cell = Arc::new(ResultCell::<u32>::default());
        let waiting = cell.wait();
        cell.set(None);
        assert_eq!(waiting.result().await, None);
    }

    #[tokio::test]
    async fn the_last_that_leaves_is_noticed() {
        let cell = Arc::new(ResultCell::<u32>::default());
        let (first, last) = (cell.wait(), cell.wait());
        let mut abandoned = std::pin::pin!(cell.abandoned());
        drop(first);
        assert!(futures_util::poll!(abandoned.as_mut()).is_pending());
        drop(last);
        assert!(futures_util::poll!(abandoned.as_mut()).is_ready());
    }
}
