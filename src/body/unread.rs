//! Whether a request's body was left unread when its answer was made. Its sender may still be sending it, and the connection must
//! not be closed in its face: see `accept::linger`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The mark of one connection. It goes with a request, among its extensions, to whoever reads the body. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct UnreadBody(Arc<AtomicBool>);

impl UnreadBody {
    /// Whether a body was left unread.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The body, which makes the mark when it is dropped before its end.
    pub fn watch<B: Body<Data = Bytes> + Unpin>(self, body: B) -> WatchedForEnd<B> {
        WatchedForEnd { body, has_ended: false, mark: self }
    }
}

/// A body that tells whether it was read to its end.
#[derive(Debug)]
pub struct WatchedForEnd<B: Body> {
    body: B,
    has_ended: bool,
    mark: UnreadBody,
}

impl<B: Body<Data = Bytes> + Unpin> Body for WatchedForEnd<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.has_ended |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for WatchedForEnd<B> {
    fn drop(&mut self) {
        if !self.has_ended && !self.body.is_end_stream() {
            self.mark.0.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::channel::Channel;
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn what_is_dropped_before_its_end_is_marked() {
        let mark = UnreadBody::default();
        let whole = mark.clone().watch(Full::new(Bytes::from_static(b"all")));
        whole.collect().await.expect("a body in memory");
        assert!(!mark.is_left(), "read to its end");

        let (mut sender, body) = Channel::<Bytes>::new(2);
        sender.send_data(Bytes::from_static(b"first")).await.expect("room");
        let mut body = mark.clone().watch(body);
        body.frame().await.expect("a frame").expect("no failure");
        drop(body);
        assert!(mark.is_left(), "the rest was left");
    }
}
