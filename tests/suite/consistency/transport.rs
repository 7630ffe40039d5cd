//! Connections in memory between the sidecar and a simulated origin: real HTTP/1.1 on both ends, no sockets.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tagalong::internals::transport::dial::{Dial, UpstreamIo};

use super::origin::{Answer, SimulatedOrigin};
use super::timeline::Timeline;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Opens connections to one simulated origin.
pub(crate) struct InMemory {
    pub(crate) origin: Arc<SimulatedOrigin>,
    pub(crate) timeline: Arc<Timeline>,
}

impl Dial for InMemory {
    fn dial(&self, _: Uri) -> BoxFuture<'static, io::Result<Box<dyn UpstreamIo>>> {
        let (origin, timeline) = (Arc::clone(&self.origin), Arc::clone(&self.timeline));
        Box::pin(async move {
            if origin.is_down() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            tokio::spawn(async move {
                let restarted = Arc::clone(&origin);
                let serving = serve(theirs, origin, timeline);
                tokio::select! {
                    biased;
                    () = restarted.restarted.notified() => {}
                    () = serving => {}
                }
            });
            Ok(Box::new(ours) as Box<dyn UpstreamIo>)
        })
    }
}

async fn serve(stream: tokio::io::DuplexStream, origin: Arc<SimulatedOrigin>, timeline: Arc<Timeline>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (origin, timeline) = (Arc::clone(&origin), Arc::clone(&timeline));
        async move {
            let (head, body) = request.into_parts();
            let body =
                body.collect().await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?.to_bytes();
            let answer = origin.answer(Request::from_parts(head, body)).await;
            let mut answer = match answer {
                Answer::Complete(answer) => answer.map(|body| Full::new(body).map_err(never).boxed_unsync()),
                Answer::BreaksOff(answer) => answer.map(broken_off),
                Answer::Nothing => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            };
            let date = httpdate::fmt_http_date(timeline.clock().now().to_system_time());
            // Where the front end has not said it: in errors.
            answer
                .headers_mut()
                .entry("date")
                .or_insert(HeaderValue::from_str(&date).expect("a date is a field value"));
            Ok::<Response<Body>, io::Error>(answer)
        }
    });
    crate::support::serve::serve(stream, service).await;
}

fn never(never: Infallible) -> io::Error {
    match never {}
}

/// One byte short of what was promised.
fn broken_off(body: Bytes) -> Body {
    let first = body.slice(..body.len() / 2);
    let frames = [Ok(Frame::data(first)), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
    BodyExt::boxed_unsync(StreamBody::new(futures_util::stream::iter(frames)))
}
