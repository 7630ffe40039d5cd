//! What no cache has: writes, answers that may not be stored, and answers that are stored for later, at one connection.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::caller::Caller;
use crate::server::{BODY_BYTES, block_on};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// A write.
    Put,
    /// A retrieval whose answer says `no-store`.
    NotStored,
    /// A retrieval of a target that was not requested before, whose answer is stored.
    StoredMiss,
}

impl Load {
    pub(crate) const ALL: [Self; 3] = [Self::Put, Self::NotStored, Self::StoredMiss];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::NotStored => "GET, no-store",
            Self::StoredMiss => "GET, stored",
        }
    }

    /// The CPU time that it may cost beside nginx.
    pub(crate) const fn target(self) -> f64 {
        match self {
            Self::Put | Self::NotStored => 1.25,
            Self::StoredMiss => 1.0,
        }
    }

    /// Sends `requests` over one connection.
    pub(crate) fn send(self, port: u16, requests: usize) {
        let (method, path, body) = match self {
            Self::Put => ("PUT", "/written", "x".repeat(BODY_BYTES)),
            Self::NotStored => ("GET", "/not-stored", String::new()),
            Self::StoredMiss => ("GET", "/stored/00000000", String::new()),
        };
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!(
            "{method} {path} HTTP/1.1\r\n\
             Host: 127.0.0.1:{port}\r\n\
             User-Agent: azsdk-python-appconfiguration/1.7.1 Python/3.12.3 (Linux-6.8.0-x86_64-with-glibc2.39)\r\n\
             Accept-Encoding: gzip, deflate\r\n\
             Accept: application/json\r\n\
             Connection: keep-alive\r\n\
             Correlation-Context: RequestType=Watch,Host=Kubernetes\r\n\
             {length}\r\n{body}"
        );
        let mut caller = Caller::sending(port, request, "/stored/");
        (0..requests).for_each(|_| caller.request());
    }
}

/// The origin: says of each path whether its answer may be stored.
pub(crate) fn serve_origin(port: u16) {
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    serve(port, move |request: Request<Incoming>| {
        let storing = if request.uri().path().starts_with("/stored/") { "max-age=3600" } else { "no-store" };
        let body = body.clone();
        async move {
            let _written = request.into_body().collect().await;
            let mut response = Response::new(Full::new(body));
            let fields = response.headers_mut();
            fields.insert(CACHE_CONTROL, HeaderValue::from_static(storing));
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            fields.insert(ETAG, HeaderValue::from_static("\"one\""));
            Ok::<_, Infallible>(response)
        }
    });
}

/// Passes everything on, with no more done to it than to send it elsewhere.
pub(crate) fn serve_bare_passer(port: u16, origin_port: u16) {
    block_on(async move {
        let client: Client<HttpConnector, Incoming> = Client::builder(TokioExecutor::new()).build_http();
        accept(port, move |mut request: Request<Incoming>| {
            let path = request.uri().path();
            let uri = format!("http://127.0.0.1:{origin_port}{path}").parse::<Uri>().expect("a URI");
            *request.uri_mut() = uri;
            request.headers_mut().remove(HOST);
            client.request(request)
        })
        .await;
    });
}

fn serve<F, W>(port: u16, answer: F)
where
    F: Fn(Request<Incoming>) -> W + Clone + Send + 'static,
    W: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    block_on(accept(port, answer));
}

async fn accept<F, W, B, E>(port: u16, answer: F)
where
    F: Fn(Request<Incoming>) -> W + Clone + Send + 'static,
    W: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: std::error::Error + Send + Sync + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a port");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a TCP connection");
        tokio::spawn(
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer.clone())),
        );
    }
}
