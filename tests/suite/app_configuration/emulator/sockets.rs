//! The emulator over HTTP: framing, keep-alive, both protocol versions, shutdown.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tagalong::internals::emulator::counts::Counts;
use tagalong::internals::emulator::faults::act::Faults;
use tagalong::internals::emulator::faults::document::PlanDocument;
use tagalong::internals::emulator::serve::{serve, serve_connection};
use tagalong::internals::emulator::service::Service;
use tagalong::internals::emulator::{EmulatorSettings, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::Origin;

fn service(origin: &Origin) -> Service {
    let faults = Arc::new(Faults::new(PlanDocument::default(), 1));
    Service::new(origin.emulator.clone(), faults, Arc::new(Counts::default()), origin.clock.clone())
}

/// A client's end of a connection in memory.
fn connect(origin: &Origin, closing: CancellationToken) -> tokio::io::DuplexStream {
    let (client, server) = tokio::io::duplex(256 * 1024);
    let service = service(origin);
    tokio::spawn(serve_connection(server, closing, move |request| {
        let service = service.clone();
        async move { service.answer(request).await }
    }));
    client
}

async fn exchange(origin: &Origin, text: &str) -> String {
    let mut client = connect(origin, CancellationToken::new());
    client.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn bodies_are_framed_by_their_length() {
    let origin = Origin::new(EmulatorSettings::default());
    let body = "{\"value\":\"v\"}";
    let put = format!(
        "PUT /kv/k?api-version=1.0 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(&origin, &put).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let chunked = "PUT /kv/c?api-version=1.0 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    assert!(exchange(&origin, chunked).await.starts_with("HTTP/1.1 200 OK\r\n"));

    let get =
        exchange(&origin, "GET /kv/k?api-version=1.0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let (head, content) = get.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", content.len())), "{get}");
    assert!(!head.contains("transfer-encoding"), "{get}");
    let length = head.lines().find(|line| line.starts_with("content-length")).unwrap();
    let head =
        exchange(&origin, "HEAD /kv/k?api-version=1.0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await;
    assert!(head.contains(length) && head.ends_with("\r\n\r\n"), "{head}");

    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let not_modified = exchange(
        &origin,
        &format!("GET /kv/k?api-version=1.0 HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\nConnection: close\r\n\r\n"),
    )
    .await;
    assert!(
        not_modified.starts_with("HTTP/1.1 304 ") && not_modified.ends_with("\r\n\r\n"),
        "{not_modified}"
    );
    let nothing =
        exchange(&origin, "DELETE /kv/none?api-version=1.0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await;
    assert!(nothing.starts_with("HTTP/1.1 204 ") && !nothing.contains("content-length"), "{nothing}");
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_ends_when_told() {
    let (origin, closing) = (Origin::new(EmulatorSettings::default()), CancellationToken::new());
    let client = connect(&origin, closing.clone());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..3 {
        let request =
            Request::get("/kv/k?api-version=1.0").header("host", "x").body(Full::<Bytes>::default()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 404);
        answer.into_body().collect().await.unwrap();
    }
    closing.cancel();
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_with_prior_knowledge_gets_http_2() {
    let origin = Origin::new(EmulatorSettings::default());
    let client = connect(&origin, CancellationToken::new());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://x/kv?api-version=1.0").body(Full::<Bytes>::default()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
}

#[tokio::test]
async fn a_shutdown_ends_the_listener_and_idle_connections() {
    let origin = Origin::new(EmulatorSettings::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (closing, service) = (CancellationToken::new(), service(&origin));
    let server = tokio::spawn(serve(listener, closing.clone(), move |request| {
        let service = service.clone();
        async move { service.answer(request).await }
    }));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"HEAD /kv?api-version=1.0 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    closing.cancel();
    server.await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn invalid_options_are_refused_before_any_socket_is_bound() {
    let directory = tempfile::tempdir().unwrap();
    let seed = directory.path().join("seed.json");
    std::fs::write(&seed, "{\"items\":[\n{\"value\":\"v\"}]}").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let base = Options { listen: vec![any], admin_listen: Some(any), ..Options::default() };
    for (options, reason) in [
        (Options { seed: Some(seed), ..base.clone() }, "line 2"),
        (Options { seed: Some("/nowhere".into()), ..base.clone() }, "/nowhere"),
        (Options { faults: Some("/nowhere".into()), ..base.clone() }, "/nowhere"),
        (Options { fault: vec!["nonsense".into()], ..base.clone() }, "nonsense"),
        (Options { listen: vec![taken.local_addr().unwrap()], ..base.clone() }, "cannot listen on"),
        (Options { data: Some("/nowhere/data".into()), ..base.clone() }, "/nowhere/data"),
    ] {
        let error = tagalong::internals::emulator::run(options, std::future::ready(()))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
    tagalong::internals::emulator::run(base, std::future::ready(())).await.unwrap();
}

#[tokio::test]
async fn a_seed_fills_only_an_empty_store_and_data_survives() {
    let directory = tempfile::tempdir().unwrap();
    let (seed, data) = (directory.path().join("seed.json"), directory.path().join("data"));
    std::fs::write(&seed, "{\"items\":[{\"key\":\"k\",\"value\":\"seed\"}]}").unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let options = Options {
        listen: vec![any],
        admin_listen: Some(any),
        seed: Some(seed.clone()),
        data: Some(data.clone()),
        ..Options::default()
    };
    tagalong::internals::emulator::run(options.clone(), std::future::ready(())).await.unwrap();
    let first = std::fs::read(&data).unwrap();
    assert!(String::from_utf8_lossy(&first).contains("seed"));
    tagalong::internals::emulator::run(options, std::future::ready(())).await.unwrap();
    assert_eq!(std::fs::read(&data).unwrap(), first, "the seed is not loaded again");
}
