//! File descriptors kept back for one listener, so that it accepts connections when the process has no others left.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;

use super::Listener;

/// The process, or the whole system, has no file descriptor left (`EMFILE`, `ENFILE`).
fn is_exhaustion(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// Descriptors that are open for nothing but to be closed when one is needed.
#[derive(Debug)]
pub struct ReservedDescriptors {
    /// What is duplicated to have them.
    source: OwnedFd,
    count: usize,
    kept: Mutex<Vec<OwnedFd>>,
}

impl ReservedDescriptors {
    /// Keeps `count` descriptors, as far as there are so many.
    ///
    /// # Errors
    /// When there is not a single one left.
    pub fn new(source: impl AsFd, count: usize) -> io::Result<Arc<Self>> {
        let reserved = Self { source: source.as_fd().try_clone_to_owned()?, count, kept: Mutex::default() };
        reserved.refill();
        Ok(Arc::new(reserved))
    }

    /// Takes back what was released, as far as descriptors are there.
    fn refill(&self) {
        let mut kept = self.lock();
        while kept.len() < self.count {
            let Ok(descriptor) = self.source.try_clone() else { return };
            kept.push(descriptor);
        }
    }

    /// Closes one, for another to be opened; false if none is kept.
    fn release(&self) -> bool {
        self.lock().pop().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        // A panic under the lock leaves the list whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by a connection, and dropped after its descriptor is closed: that one is taken back at once, before another listener
    /// can use it.
    #[must_use]
    pub fn refill_at_end(self: &Arc<Self>) -> RefillAtEnd {
        RefillAtEnd(Arc::clone(self))
    }
}

/// Refills the reserve when it is dropped.
#[derive(Debug)]
pub struct RefillAtEnd(Arc<ReservedDescriptors>);

impl Drop for RefillAtEnd {
    fn drop(&mut self) {
        self.0.refill();
    }
}

/// A listener that accepts with its reserved descriptors when there are no others.
#[derive(Debug)]
pub struct ReservingListener<L> {
    /// The listener itself.
    pub listener: L,
    /// Its descriptors.
    pub reserved: Arc<ReservedDescriptors>,
}

impl<L: Listener> Listener for ReservingListener<L> {
    type Connection = L::Connection;

    async fn accept(&mut self) -> io::Result<L::Connection> {
        loop {
            let error = match self.listener.accept().await {
                Err(error) if is_exhaustion(&error) => error,
                accepted => return accepted,
            };
            if !self.reserved.release() {
                return Err(error);
            }
            // The system looks for a descriptor first and then whether anyone waits. If nobody does, the descriptor goes back.
            match self.listener.accept().now_or_never() {
                Some(Err(error)) if is_exhaustion(&error) => {}
                Some(accepted) => return accepted,
                None => self.reserved.refill(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has no descriptor but those of the reserve.
    struct Exhausted {
        waiting: Option<u32>,
        /// How many of those that were released others have taken.
        taken_by_others: usize,
        reserved: Arc<ReservedDescriptors>,
        /// How many were kept each time.
        kept: Vec<usize>,
    }

    impl Listener for Exhausted {
        type Connection = u32;

        async fn accept(&mut self) -> io::Result<u32> {
            let kept = self.reserved.lock().len();
            self.kept.push(kept);
            let released = self.reserved.count - kept;
            if released > self.taken_by_others
                && let Some(connection) = self.waiting.take()
            {
                return Ok(connection);
            }
            // Without one that waits, a listener that has looked for it says nothing until one comes.
            if self.waiting.is_none() && self.kept.len() > 1 {
                return std::future::pending().await;
            }
            Err(io::Error::from_raw_os_error(24))
        }
    }

    fn exhausted(waiting: Option<u32>, taken_by_others: usize) -> ReservingListener<Exhausted> {
        let reserved = ReservedDescriptors::new(std::fs::File::open("/dev/null").unwrap(), 3).unwrap();
        let listener =
            Exhausted { waiting, taken_by_others, reserved: Arc::clone(&reserved), kept: Vec::new() };
        ReservingListener { listener, reserved }
    }

    #[test]
    fn a_connection_is_accepted_with_a_descriptor_of_the_reserve() {
        for taken_by_others in 0..3 {
            let mut listener = exhausted(Some(7), taken_by_others);
            let connection = listener.accept().now_or_never().expect("at once").expect("accepted");
            assert_eq!(connection, 7);
            let end = listener.reserved.refill_at_end();
            assert_eq!(listener.reserved.lock().len(), 2 - taken_by_others);
            drop(end);
            assert_eq!(listener.reserved.lock().len(), 3);
        }
    }

    #[test]
    fn without_a_reserve_the_error_is_returned() {
        let mut listener = exhausted(Some(7), 4);
        let error = listener.accept().now_or_never().expect("at once").unwrap_err();
        assert!(is_exhaustion(&error));
    }

    #[test]
    fn when_nobody_waits_the_descriptor_goes_back() {
        let mut listener = exhausted(None, 0);
        assert!(listener.accept().now_or_never().is_none());
        assert_eq!(listener.listener.kept, [3, 2, 3]);
        assert_eq!(listener.reserved.lock().len(), 3);
    }
}
