//! A response body that can be slow, truncated or cut off.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::BodyFault;

/// A fault ends the connection. hyper closes the connection when a service or a body returns this error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fault plan ends this connection; to stop that, change the plan over the admin port")]
pub struct Severed;

/// A whole body in memory, sent with a [`BodyFault`].
#[derive(Debug)]
pub struct FaultyBody {
    rest: Bytes,
    declared_bytes: u64,
    pace: Option<Pace>,
    ending: Ending,
}

#[derive(Debug)]
struct Pace {
    chunk_bytes: usize,
    interval: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Clean,
    /// Ends early. hyper flushes only between polls, so the body first returns pending once, to let hyper send the
    /// earlier bytes.
    Short {
        flushed: bool,
        torn: bool,
    },
}

impl FaultyBody {
    /// A body without a fault.
    pub fn sound(content: Bytes) -> Self {
        Self { declared_bytes: content.len() as u64, rest: content, pace: None, ending: Ending::Clean }
    }

    /// A body with a fault.
    pub fn new(content: Bytes, fault: Option<BodyFault>) -> Self {
        let mut body = Self::sound(content);
        let length = body.rest.len();
        match fault {
            None => {}
            Some(BodyFault::Slow { chunk_bytes, interval }) => {
                body.pace =
                    Some(Pace { chunk_bytes: chunk_bytes.max(1), interval, pause: None, begun: false });
            }
            Some(BodyFault::Drop { after_bytes }) if length > 0 => {
                // Withholds at least the last byte, because a body that arrives whole was not dropped.
                body.rest.truncate(after_bytes.min(length - 1));
                body.ending = Ending::Short { flushed: false, torn: true };
            }
            Some(BodyFault::Truncate { after_bytes, framed }) if after_bytes < length => {
                body.rest.truncate(after_bytes);
                if !framed {
                    body.ending = Ending::Short { flushed: false, torn: false };
                }
            }
            Some(BodyFault::Drop { .. } | BodyFault::Truncate { .. }) => {}
        }
        body
    }

    fn poll_pace(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        let Some(pace) = &mut self.pace else { return Poll::Ready(self.rest.len()) };
        if pace.begun {
            let interval = pace.interval;
            let pause = pace.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(interval)));
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            pace.pause = None;
        }
        pace.begun = true;
        Poll::Ready(pace.chunk_bytes.min(self.rest.len()))
    }
}

impl Body for FaultyBody {
    type Data = Bytes;
    type Error = Severed;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Severed>>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            let Poll::Ready(length) = this.poll_pace(context) else { return Poll::Pending };
            return Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(length)))));
        }
        match &mut this.ending {
            Ending::Clean => Poll::Ready(None),
            Ending::Short { flushed: flushed @ false, .. } => {
                *flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Ending::Short { torn: true, .. } => Poll::Ready(Some(Err(Severed))),
            Ending::Short { torn: false, .. } => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.ending == Ending::Clean
    }

    fn size_hint(&self) -> SizeHint {
        // The remaining length for the framing: the declared length until the first byte is taken.
        match self.ending {
            Ending::Clean => SizeHint::with_exact(self.rest.len() as u64),
            Ending::Short { .. } => SizeHint::with_exact(self.declared_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const TEXT: Bytes = Bytes::from_static(b"0123456789");

    async fn frames(mut body: FaultyBody) -> (Vec<Bytes>, Result<(), Severed>) {
        let mut data = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => data.push(frame.into_data().unwrap()),
                Err(error) => return (data, Err(error)),
            }
        }
        (data, Ok(()))
    }

    #[tokio::test]
    async fn a_body_without_a_fault_is_sent_whole() {
        let body = FaultyBody::sound(TEXT);
        assert_eq!(body.size_hint().exact(), Some(10));
        assert_eq!(frames(body).await, (vec![TEXT], Ok(())));
        assert!(FaultyBody::sound(Bytes::new()).is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "measures tokio's paused time")]
    async fn a_slow_body_pauses_between_pieces() {
        let started = tokio::time::Instant::now();
        let fault = BodyFault::Slow { chunk_bytes: 4, interval: Duration::from_secs(1) };
        let (pieces, end) = frames(FaultyBody::new(TEXT, Some(fault))).await;
        assert_eq!(pieces, ["0123", "4567", "89"]);
        assert_eq!(end, Ok(()));
        assert_eq!(started.elapsed().as_secs(), 2);
    }

    #[tokio::test]
    async fn a_dropped_body_declares_its_length_and_fails() {
        let body = FaultyBody::new(TEXT, Some(BodyFault::Drop { after_bytes: 3 }));
        assert_eq!(body.size_hint().exact(), Some(10));
        assert!(!body.is_end_stream());
        assert_eq!(frames(body).await, (vec![Bytes::from_static(b"012")], Err(Severed)));
        let never_whole = FaultyBody::new(TEXT, Some(BodyFault::Drop { after_bytes: 99 }));
        assert_eq!(frames(never_whole).await.0.concat().len(), 9);
    }

    #[tokio::test]
    async fn a_truncated_body_ends_without_an_error_in_either_framing() {
        let declared = FaultyBody::new(TEXT, Some(BodyFault::Truncate { after_bytes: 3, framed: false }));
        assert_eq!(declared.size_hint().exact(), Some(10));
        assert_eq!(frames(declared).await, (vec![Bytes::from_static(b"012")], Ok(())));
        let framed = FaultyBody::new(TEXT, Some(BodyFault::Truncate { after_bytes: 3, framed: true }));
        assert_eq!(framed.size_hint().exact(), Some(3));
    }
}
