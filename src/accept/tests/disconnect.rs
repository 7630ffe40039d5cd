//! A request whose caller disconnects.

use http_body::Frame;

use super::*;

/// Notes when it is dropped.
struct Left(Arc<Notify>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_when_its_caller_disconnects() {
    let (began, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let serving = serve({
        let (began, left) = (Arc::clone(&began), Arc::clone(&left));
        move |_| {
            let left = Left(Arc::clone(&left));
            began.notify_one();
            async move {
                let _left = left;
                std::future::pending().await
            }
        }
    });
    let mut caller = serving.connector.connect(4096);
    caller.write_all(GET).await.expect("writable");
    began.notified().await;
    drop(caller);
    left.notified().await;
    while serving.counts.open() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(serving.counts.ended(ConnectionEnd::CallerLeft), 1);
}

/// Over a socket it is the transport that sees it, not hyper: before the answer, and in the middle of one.
#[tokio::test]
async fn a_request_ends_when_its_caller_disconnects_over_tcp() {
    let (began, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (counts, shutdown) = (Arc::<ConnectionCounts>::default(), CancellationToken::new());
    let acceptor = Acceptor::new(AcceptLimits::default(), Arc::clone(&counts), shutdown.clone());
    let listener = BoundListener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await.expect("bound");
    let Address::Tcp(address) = listener.local_address().expect("an address") else { panic!("not TCP") };
    let answer = {
        let (began, left) = (Arc::clone(&began), Arc::clone(&left));
        move |request: Request<Incoming>| {
            let (began, left) = (Arc::clone(&began), Left(Arc::clone(&left)));
            async move {
                if request.uri() == "/no-answer" {
                    began.notify_one();
                    let _left = left;
                    std::future::pending::<()>().await;
                    unreachable!("no caller waits that long");
                }
                let first =
                    futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"part"))) });
                let rest = futures_util::stream::once(async move {
                    let _left = left;
                    std::future::pending().await
                });
                let body = StreamBody::new(futures_util::StreamExt::chain(first, rest)).boxed_unsync();
                Ok::<_, Infallible>(Response::<TestBody>::new(body))
            }
        }
    };
    let served = tokio::spawn({
        let acceptor = acceptor.clone();
        async move {
            let make_service = move |_: &Arc<Connection>| service_fn(answer.clone());
            acceptor.run(listener, ListenerOptions::named("main"), make_service).await;
        }
    });
    for (target, part, closes) in
        [("/no-answer", "", true), ("/no-answer", "", false), ("/half-an-answer", "part", true)]
    {
        let mut caller = TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        caller.write_all(request.as_bytes()).await.expect("writable");
        if part.is_empty() {
            began.notified().await;
        } else {
            let mut answer = String::new();
            while !answer.contains(part) {
                let mut bytes = [0; 1024];
                let read = caller.read(&mut bytes).await.expect("readable");
                assert!(read > 0, "closed after {answer:?}");
                answer.push_str(std::str::from_utf8(&bytes[..read]).expect("text"));
            }
        }
        if closes {
            drop(caller);
            left.notified().await;
        } else {
            // To close one's sending side counts as leaving.
            caller.shutdown().await.expect("open");
            left.notified().await;
            assert_eq!(caller.read(&mut [0; 16]).await.expect("closed in order"), 0);
        }
    }
    while counts.open() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counts.ended(ConnectionEnd::CallerLeft), 3);
    shutdown.cancel();
    served.await.expect("no panic");
}
