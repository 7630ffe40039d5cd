//! HTTP/2 streams whose callers do not read.

use super::*;

/// An HTTP/2 caller whose windows stay at this size unless it reads.
async fn http2_caller_with_window(
    stream: DuplexStream,
    window_bytes: u32,
) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(executor)
        .initial_stream_window_size(window_bytes)
        .handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_caller_takes_nothing_is_reset_and_its_connection_goes_on() {
    for window_bytes in [0, 1, 100_000] {
        let serving = serve_with(AcceptLimits::default(), true, |request: Request<Incoming>| async move {
            full(if request.uri().path() == "/large" { vec![b'x'; 1 << 20] } else { Vec::new() })
        });
        let mut sender = http2_caller_with_window(serving.connector.connect(1 << 16), window_bytes).await;
        let get = |path: &str| {
            Request::get(format!("http://test{path}")).body(Full::<Bytes>::default()).expect("a request")
        };
        let start = Stopwatch::start();
        let stuck = sender.send_request(get("/large")).await.expect("an answer").into_body();
        // Another stream of the connection is served meanwhile.
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(sender.send_request(get("/small")).await.expect("an answer").status(), 200);
        assert!(!stuck.is_end_stream());
        tokio::time::sleep(Duration::from_secs(11)).await;
        let failure = stuck.collect().await.expect_err("a reset");
        assert_deadline(start.elapsed(), 31);
        assert!(format!("{failure:?}").contains("Reset"), "{failure:?}");
        assert_eq!(sender.send_request(get("/small")).await.expect("an answer").status(), 200);
        assert_eq!(serving.counts.open(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_caller_takes_a_piece_now_and_then_is_served() {
    let serving = serve_with(AcceptLimits::default(), true, |_| async { full(vec![b'x'; 200_000]) });
    let mut sender = http2_caller_with_window(serving.connector.connect(1 << 16), 1 << 15).await;
    let request = Request::get("http://test/").body(Full::<Bytes>::default()).expect("a request");
    let mut body = sender.send_request(request).await.expect("an answer").into_body();
    let mut read_bytes = 0;
    while let Some(frame) = body.frame().await {
        read_bytes += frame.expect("not reset").into_data().expect("data").len();
        tokio::time::sleep(Duration::from_secs(14)).await;
    }
    assert_eq!(read_bytes, 200_000);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_source_is_slow_is_not_taken_for_one_that_nobody_reads() {
    let serving = serve_with(AcceptLimits::default(), true, |_| async {
        let pieces = futures_util::stream::unfold(0, |piece| async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            (piece < 3)
                .then(|| (Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(b"x"))), piece + 1))
        });
        Response::new(StreamBody::new(pieces).boxed_unsync())
    });
    let mut sender = http2_caller(serving.connector.connect(1 << 16)).await;
    let request = Request::get("http://test/").body(Full::<Bytes>::default()).expect("a request");
    let body = sender.send_request(request).await.expect("an answer").into_body();
    assert_eq!(body.collect().await.expect("not reset").to_bytes(), "xxx");
}
