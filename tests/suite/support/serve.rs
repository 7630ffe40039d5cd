//! An origin's end of a connection in memory.

use std::error::Error;
use std::io;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;

/// Serves one connection to its end with what `service` answers, `Date` included. A service that fails breaks the connection.
pub(crate) async fn serve<S, B>(stream: DuplexStream, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = io::Error>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let connection = hyper::server::conn::http1::Builder::new()
        // It would be the machine's.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let _broken = connection.await;
}
