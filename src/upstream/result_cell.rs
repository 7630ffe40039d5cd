//! What one flight brings, and those who wait for it: woken in the order in which they began to wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

/// The place where a flight lands, once.
#[derive(Debug)]
pub struct ResultCell<L> {
    brought: OnceLock<Option<L>>,
    waiting: AtomicUsize,
    landed: Notify,
    left: Notify,
}

/// Somebody who waits; counted for as long as it lives.
#[derive(Debug)]
pub struct Waiting<L> {
    landing: Arc<ResultCell<L>>,
}

impl<L> Default for ResultCell<L> {
    fn default() -> Self {
        Self {
            brought: OnceLock::new(),
            waiting: AtomicUsize::new(0),
            landed: Notify::new(),
            left: Notify::new(),
        }
    }
}

impl<L> ResultCell<L> {
    /// Hands the landing to everyone who waits, and to everyone who will; `None` gives the flight up. Only the first time counts.
    pub fn bring(&self, landing: Option<L>) {
        if self.brought.set(landing).is_ok() {
            self.landed.notify_waiters();
        }
    }

    /// Whether it has been brought, or given up.
    #[must_use]
    pub fn has_landed(&self) -> bool {
        self.brought.get().is_some()
    }

    /// Begins to wait.
    #[must_use]
    pub fn wait(self: &Arc<Self>) -> Waiting<L> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting { landing: Arc::clone(self) }
    }

    /// Resolves when nobody waits any more.
    pub async fn abandoned(&self) {
        loop {
            // Registered before looking, so that a leaving in between is not missed.
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            if self.waiting.load(Ordering::SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }
}

impl<L: Clone> Waiting<L> {
    /// What the flight brought; `None` if it was given up.
    pub async fn landed(&self) -> Option<L> {
        loop {
            let mut landed = std::pin::pin!(self.landing.landed.notified());
            landed.as_mut().enable();
            if let Some(brought) = self.landing.brought.get() {
                return brought.clone();
            }
            landed.await;
        }
    }
}

impl<L> Drop for Waiting<L> {
    fn drop(&mut self) {
        if self.landing.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.landing.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_gets_what_came_first_in_the_order_of_waiting() {
        let landing = Arc::new(ResultCell::default());
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..20)
            .map(|number| {
                let (seat, order) = (landing.wait(), Arc::clone(&order));
                tokio::spawn(async move {
                    let brought = seat.landed().await;
                    order.lock().unwrap().push(number);
                    brought
                })
            })
            .collect();
        tokio::task::yield_now().await;
        landing.bring(Some(7));
        landing.bring(None);
        for waited in waiting {
            assert_eq!(waited.await.unwrap(), Some(7));
        }
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert_eq!(landing.wait().landed().await, Some(7), "and who comes late");
    }

    #[tokio::test]
    async fn a_flight_that_was_given_up_brings_nothing() {
        let landing = Arc::new(ResultCell::<u32>::default());
        let waiting = landing.wait();
        landing.bring(None);
        assert_eq!(waiting.landed().await, None);
    }

    #[tokio::test]
    async fn the_last_who_leaves_is_noticed() {
        let landing = Arc::new(ResultCell::<u32>::default());
        let (first, last) = (landing.wait(), landing.wait());
        let mut abandoned = std::pin::pin!(landing.abandoned());
        drop(first);
        assert!(futures_util::poll!(abandoned.as_mut()).is_pending());
        drop(last);
        assert!(futures_util::poll!(abandoned.as_mut()).is_ready());
    }
}
