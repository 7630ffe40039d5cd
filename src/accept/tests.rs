//! Time is paused and connections are in memory, except where real sockets are what is tested.

mod disconnect;
mod http2;
mod limits;
mod streams;

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::metrics::ConnectionCounters;

type TestBody = UnsyncBoxBody<Bytes, Infallible>;

fn full(body: impl Into<Bytes>) -> Response<TestBody> {
    Response::new(Full::new(body.into()).boxed_unsync())
}

/// An acceptor that listens in memory, and what it counts.
struct Serving {
    connector: MemoryConnector,
    counts: Arc<ConnectionCounts>,
    metrics: ConnectionCounters,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<usize>,
}

fn serve_with<F, A>(limits: impl Into<LiveAcceptLimits>, http2: bool, answer: F) -> Serving
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<TestBody>> + Send + 'static,
{
    let (connector, listener) = in_memory();
    let metrics = crate::metrics::Metrics::new(["main"]).connections().clone();
    let (counts, shutdown) =
        (Arc::new(ConnectionCounts::reporting_to(metrics.clone())), CancellationToken::new());
    let acceptor = Acceptor::new(limits, Arc::clone(&counts), shutdown.clone());
    let options = ListenerOptions { http2, ..ListenerOptions::named("test") };
    let served = tokio::spawn(async move {
        let make_service = |_: &Arc<Connection>| {
            let answer = answer.clone();
            service_fn(move |request| {
                let answered = answer(request);
                async { Ok::<_, Infallible>(answered.await) }
            })
        };
        acceptor.run(listener, options, make_service).await;
        acceptor.drain().await
    });
    Serving { connector, counts, metrics, shutdown, served }
}

fn serve<F, A>(answer: F) -> Serving
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<TestBody>> + Send + 'static,
{
    serve_with(AcceptLimits::default(), false, answer)
}

/// Answers at once, but for `/slow`: there it notifies the first, and waits for the second.
fn serve_slow(limits: AcceptLimits) -> (Serving, Arc<Notify>, Arc<Notify>) {
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let serving = serve_with(limits, false, {
        let (asked, go_on) = (Arc::clone(&asked), Arc::clone(&go_on));
        move |request: Request<Incoming>| {
            let (asked, go_on) = (Arc::clone(&asked), Arc::clone(&go_on));
            async move {
                if request.uri().path() == "/slow" {
                    asked.notify_one();
                    go_on.notified().await;
                }
                full("hello")
            }
        }
    });
    (serving, asked, go_on)
}

fn serve_hello() -> Serving {
    serve(|_| async { full("hello") })
}

/// Measures paused time.
struct Stopwatch(Clock);

impl Stopwatch {
    fn start() -> Self {
        Self(Clock::tokio(Timestamp::default()))
    }

    fn elapsed(&self) -> Duration {
        self.0.now().since(Timestamp::default())
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Reads one answer whose body is `hello`.
async fn read_hello<T: tokio::io::AsyncRead + Unpin>(stream: &mut T) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\nhello") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).await.expect("readable"), 1, "closed after {text:?}");
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

/// What still comes until the other end closes.
async fn read_to_end<T: tokio::io::AsyncRead + Unpin>(stream: &mut T) -> String {
    let mut text = Vec::new();
    // A cut connection in memory ends like one that was closed.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8(text).expect("text")
}

/// Whether `passed` is the deadline, missed by no more than the sweeper's two ticks.
fn assert_deadline(passed: Duration, seconds: u64) {
    let deadline = Duration::from_secs(seconds);
    assert!(
        passed >= deadline && passed <= deadline + Duration::from_millis(1_500),
        "{passed:?}, not {seconds} s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_serves_request_after_request() {
    let serving = serve_hello();
    let mut caller = serving.connector.connect(4096);
    for _ in 0..3 {
        caller.write_all(GET).await.expect("writable");
        let answer = read_hello(&mut caller).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!((serving.counts.open(), serving.metrics.total.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn http_1_0_is_answered_and_closed() {
    let serving = serve_hello();
    let mut caller = serving.connector.connect(4096);
    caller.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("writable");
    let answer = read_to_end(&mut caller).await;
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_cut() {
    let serving = serve_hello();
    let mut caller = serving.connector.connect(4096);
    let start = Stopwatch::start();
    assert_eq!(read_to_end(&mut caller).await, "");
    assert_deadline(start.elapsed(), 10);
    assert_eq!(serving.counts.ended(ConnectionEnd::Cut(CutReason::SlowHeader)), 1);
    assert_eq!(serving.counts.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_trickles_in_is_cut() {
    let serving = serve_hello();
    let mut caller = serving.connector.connect(4096);
    caller.write_all(GET).await.expect("writable");
    read_hello(&mut caller).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let start = Stopwatch::start();
    for byte in b"GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ".iter().cycle() {
        if caller.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    assert_deadline(start.elapsed(), 10);
    assert_eq!(serving.counts.ended(ConnectionEnd::Cut(CutReason::SlowHeader)), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_cut() {
    let serving = serve_hello();
    let mut caller = serving.connector.connect(4096);
    for _ in 0..3 {
        caller.write_all(GET).await.expect("writable");
        read_hello(&mut caller).await;
        tokio::time::sleep(Duration::from_secs(55)).await;
    }
    caller.write_all(GET).await.expect("writable");
    read_hello(&mut caller).await;
    let start = Stopwatch::start();
    assert_eq!(read_to_end(&mut caller).await, "");
    assert_deadline(start.elapsed(), 60);
    assert_eq!(serving.counts.ended(ConnectionEnd::Cut(CutReason::Idle)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_service_is_not_taken_for_an_idle_connection() {
    let serving = serve(|_| async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        full("hello")
    });
    let mut caller = serving.connector.connect(4096);
    caller.write_all(GET).await.expect("writable");
    let start = Stopwatch::start();
    read_hello(&mut caller).await;
    assert!(start.elapsed() >= Duration::from_secs(600));
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_not_taken_for_an_idle_connection() {
    let serving = serve(|_| async {
        let pieces = futures_util::stream::unfold(0, |piece| async move {
            tokio::time::sleep(Duration::from_secs(50)).await;
            let data = Bytes::from_static(if piece < 5 { b"." } else { b"\r\n\r\nhello" });
            (piece <= 5).then(|| (Ok::<_, Infallible>(http_body::Frame::data(data)), piece + 1))
        });
        Response::new(StreamBody::new(pieces).boxed_unsync())
    });
    let mut caller = serving.connector.connect(4096);
    caller.write_all(GET).await.expect("writable");
    read_hello(&mut caller).await;
    // The end of the body counts, not its beginning.
    let start = Stopwatch::start();
    read_to_end(&mut caller).await;
    assert_deadline(start.elapsed(), 50 + 60);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_cut() {
    let serving = serve(|_| async { full(vec![b'x'; 1 << 20]) });
    let mut caller = serving.connector.connect(4096);
    caller.write_all(GET).await.expect("writable");
    let start = Stopwatch::start();
    while serving.counts.open() > 0 || start.elapsed().is_zero() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_deadline(start.elapsed(), 30);
    assert_eq!(serving.counts.ended(ConnectionEnd::Cut(CutReason::SlowReader)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_a_little_now_and_then_is_served() {
    let serving = serve(|_| async { full(vec![b'x'; 100_000]) });
    let mut caller = serving.connector.connect(4096);
    caller.write_all(GET).await.expect("writable");
    let mut read_bytes = 0;
    while read_bytes < 100_000 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut buffer = [0; 4096];
        let taken = caller.read(&mut buffer).await.expect("readable");
        assert!(taken > 0, "cut after {read_bytes} bytes");
        read_bytes += taken;
    }
}

#[tokio::test(start_paused = true)]
async fn header_sections_beyond_the_limits_get_431() {
    let serving = serve_hello();
    let many = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "A: b\r\n".repeat(100));
    let large = format!("GET / HTTP/1.1\r\nHost: test\r\nA: {}\r\n\r\n", "b".repeat(64 * 1024));
    let unfinished = format!("GET / HTTP/1.1\r\nHost: test\r\nA: {}", "b".repeat(200 * 1024));
    for (number, request) in [many, large, unfinished].into_iter().enumerate() {
        let mut caller = serving.connector.connect(1 << 20);
        caller.write_all(request.as_bytes()).await.expect("writable");
        let answer = read_to_end(&mut caller).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{number}: {answer}");
        assert_eq!(serving.counts.ended(ConnectionEnd::HeaderTooLarge), number + 1);
    }
    let within = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "A: b\r\n".repeat(99));
    let mut caller = serving.connector.connect(1 << 20);
    caller.write_all(within.as_bytes()).await.expect("writable");
    read_hello(&mut caller).await;
    let nearly = format!("GET / HTTP/1.1\r\nHost: test\r\nA: {}\r\n\r\n", "b".repeat(63 * 1024));
    caller.write_all(nearly.as_bytes()).await.expect("writable");
    read_hello(&mut caller).await;
}

#[tokio::test(start_paused = true)]
async fn the_number_of_fields_can_be_set() {
    let limits = AcceptLimits { header_fields: 10, ..AcceptLimits::default() };
    let serving = serve_with(limits, false, |_| async { full("hello") });
    let mut caller = serving.connector.connect(4096);
    let many = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "A: b\r\n".repeat(10));
    caller.write_all(many.as_bytes()).await.expect("writable");
    assert!(read_to_end(&mut caller).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test(start_paused = true)]
async fn what_hyper_refuses_by_itself_is_counted() {
    let serving = serve_hello();
    for request in
        ["GET / HTTP/1.1\r\nA B: c\r\n\r\n", "nonsense\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut caller = serving.connector.connect(4096);
        caller.write_all(request.as_bytes()).await.expect("writable");
        let answer = read_to_end(&mut caller).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(serving.counts.ended(ConnectionEnd::Malformed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fragment_in_the_target_is_refused_and_not_cut() {
    let serving = serve_hello();
    for (first, pieces) in [
        (true, vec!["GET /a#b HTTP/1.1\r\nHost: test\r\n\r\n"]),
        (true, vec!["GET /a?b", "#c HTTP/1.1\r\nHost: test\r\n\r\n"]),
        (false, vec!["GET /a#b HTTP/1.1\r\nHost: test\r\n\r\n"]),
    ] {
        let mut stream = serving.connector.connect(1024);
        if !first {
            stream.write_all(GET).await.expect("writable");
            read_hello(&mut stream).await;
        }
        for piece in &pieces {
            stream.write_all(piece.as_bytes()).await.expect("writable");
            tokio::task::yield_now().await;
        }
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{pieces:?}: {answer}");
    }
    // Elsewhere the byte means nothing.
    let mut stream = serving.connector.connect(1024);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nX: #\r\n\r\n").await.expect("writable");
    read_hello(&mut stream).await;
}

#[tokio::test(start_paused = true)]
async fn a_fragment_in_a_pipelined_target_is_refused_too() {
    const FIELDS: &str = " HTTP/1.1\r\nHost: test\r\nX: #\r\n";
    const LAST: &str = "GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let serving = serve(|request| async {
        // Taken as it comes, or the rest of it would stand before the next request.
        let _body = request.into_body().collect().await;
        full("hello")
    });
    let get = |target: &str| format!("GET {target}{FIELDS}\r\n");
    let post = |target: &str, body: &str| {
        format!("POST {target}{FIELDS}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let with_line_feeds_alone = |request: String| request.replace('\r', "");
    for (pipelined, answers) in [
        ([get("/a"), get("/b#c")], &["200", "400"][..]),
        ([post("/a", "#ffffff\r\n\r\n#"), get("/b#c")], &["200", "400"]),
        ([with_line_feeds_alone(get("/a")), get("/b#c")], &["200", "400"]),
        ([get("/a"), get("/b")], &["200", "200", "200"]),
        ([post("/a", "GET /b#c HTTP/1.1"), post("/b", "#")], &["200", "200", "200"]),
    ] {
        let mut stream = serving.connector.connect(4096);
        stream.write_all((pipelined.concat() + LAST).as_bytes()).await.expect("writable");
        let text = read_to_end(&mut stream).await;
        let statuses: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, answers, "{pipelined:?}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn draining_closes_idle_connections_and_lets_busy_ones_finish() {
    let (serving, asked, go_on) = serve_slow(AcceptLimits::default());
    let mut idle = serving.connector.connect(4096);
    idle.write_all(GET).await.expect("writable");
    read_hello(&mut idle).await;
    let mut silent = serving.connector.connect(4096);
    let mut busy = serving.connector.connect(4096);
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("writable");
    asked.notified().await;
    let start = Stopwatch::start();
    serving.shutdown.cancel();
    assert_eq!(read_to_end(&mut idle).await, "");
    assert_eq!(read_to_end(&mut silent).await, "");
    assert!(start.elapsed() < Duration::from_secs(1), "closed at once");
    let mut late = serving.connector.connect(4096);
    assert_eq!(read_to_end(&mut late).await, "", "the listener is closed");

    go_on.notify_one();
    let answer = read_to_end(&mut busy).await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(serving.served.await.expect("no panic"), 0, "none had to be cut");
}

#[tokio::test(start_paused = true)]
async fn draining_cuts_what_takes_too_long() {
    let asked = Arc::new(Notify::new());
    let serving = serve({
        let asked = Arc::clone(&asked);
        move |_| {
            asked.notify_one();
            std::future::pending()
        }
    });
    let mut stuck = serving.connector.connect(4096);
    stuck.write_all(GET).await.expect("writable");
    asked.notified().await;
    let start = Stopwatch::start();
    serving.shutdown.cancel();
    assert_eq!(serving.served.await.expect("no panic"), 1);
    assert_deadline(start.elapsed(), 10);
    assert_eq!(read_to_end(&mut stuck).await, "");
    assert_eq!(serving.counts.ended(ConnectionEnd::Cut(CutReason::Drained)), 1);
}

async fn http2_caller(
    stream: impl tokio::io::AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

#[tokio::test(start_paused = true)]
async fn http2_is_spoken_where_asked_and_http1_beside_it() {
    let serving = serve_with(AcceptLimits::default(), true, |request: Request<Incoming>| async move {
        assert_eq!(request.version() == http::Version::HTTP_2, request.uri().path() == "/2");
        full("hello")
    });
    let mut sender = http2_caller(serving.connector.connect(1 << 16)).await;
    for _ in 0..2 {
        let request = Request::get("http://test/2").body(Full::default()).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "hello");
        // Longer than a header section may take: an HTTP/2 connection between requests is idle.
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let mut caller = serving.connector.connect(4096);
    caller.write_all(GET).await.expect("writable");
    read_hello(&mut caller).await;
    serving.shutdown.cancel();
    assert_eq!(serving.served.await.expect("no panic"), 0, "both drain");
}

#[tokio::test]
async fn both_loopbacks_and_a_unix_socket_are_served_with_the_facts_of_the_connection() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("tagalong.sock");
    let shutdown = CancellationToken::new();
    let acceptor = Acceptor::new(AcceptLimits::default(), Arc::default(), shutdown.clone());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut addresses = Vec::new();
    let mut listeners = vec![BoundListener::unix(&path, 0o660, None).await.expect("bound")];
    for ip in [std::net::IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let listener = match BoundListener::tcp(SocketAddr::new(ip, 0)).await {
            Ok(listener) => listener,
            Err(error) if ip.is_ipv6() && error.is_unavailable() => continue,
            Err(error) => panic!("{error}"),
        };
        let Address::Tcp(address) = listener.local_address().expect("an address") else { panic!("not TCP") };
        addresses.push(address);
        listeners.push(listener);
    }
    let tasks: Vec<_> = (listeners.into_iter())
        .map(|listener| {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let make_service = |connection: &Arc<Connection>| {
                    seen.lock().expect("no panic").push(Connection::clone(connection));
                    service_fn(|_| async { Ok::<_, Infallible>(full("hello")) })
                };
                acceptor.run(listener, ListenerOptions::named("main"), make_service).await;
            })
        })
        .collect();
    let mut caller = UnixStream::connect(&path).await.expect("connected");
    caller.write_all(GET).await.expect("writable");
    read_hello(&mut caller).await;
    for address in &addresses {
        let mut caller = TcpStream::connect(address).await.expect("connected");
        caller.write_all(GET).await.expect("writable");
        read_hello(&mut caller).await;
        let facts = seen.lock().expect("no panic").last().cloned().expect("a connection");
        assert_eq!(facts.peer, Address::Tcp(caller.local_addr().expect("an address")));
        assert_eq!((&*facts.listener, facts.is_encrypted), ("main", false));
    }
    assert!(matches!(seen.lock().expect("no panic")[0].peer, Address::Unix { user: Some(_) }));
    shutdown.cancel();
    for task in tasks {
        task.await.expect("no panic");
    }
    acceptor.drain().await;
    assert!(!path.exists(), "the socket goes with its listener");
}

#[tokio::test]
async fn a_taken_address_is_said_to_be_taken() {
    let first = BoundListener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await.expect("bound");
    let Address::Tcp(address) = first.local_address().expect("an address") else { panic!("not TCP") };
    let error = BoundListener::tcp(address).await.expect_err("taken");
    assert!(matches!(error, BindError::Taken { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("tagalong.sock");
    let listening = BoundListener::unix(&path, 0o600, None).await.expect("bound");
    assert!(matches!(BoundListener::unix(&path, 0o600, None).await, Err(BindError::SocketTaken { .. })));
    let file = directory.path().join("file");
    std::fs::write(&file, "mine").expect("written");
    let error = BoundListener::unix(&file, 0o600, None).await.expect_err("a file").to_string();
    assert!(
        error.contains("is not a socket; remove it, or choose another path with --listen-unix"),
        "{error}"
    );
    assert_eq!(std::fs::read(&file).expect("still there"), b"mine");
    // A process that was killed leaves its socket behind.
    let left_behind = directory.path().join("left-behind.sock");
    drop(std::os::unix::net::UnixListener::bind(&left_behind).expect("bound"));
    assert!(left_behind.exists());
    drop(BoundListener::unix(&left_behind, 0o600, None).await.expect("replaced"));
    drop(listening);

    std::fs::write(&path, "a file of another program").expect("writable");
    assert!(BoundListener::unix(&path, 0o600, None).await.is_err());
    assert!(path.exists(), "a file is never replaced");
}

#[tokio::test]
async fn workers_share_connections_evenly_and_drain() {
    let (counts, shutdown) = (Arc::<ConnectionCounts>::default(), CancellationToken::new());
    let make_service = |_: &Arc<Connection>| {
        service_fn(|_| async {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            let mut answer = full("hello");
            answer.headers_mut().insert("x-worker", name.parse().expect("a value"));
            Ok::<_, Infallible>(answer)
        })
    };
    let workers = Workers::start(3, &AcceptLimits::default().into(), &counts, &shutdown, &make_service)
        .expect("three threads");
    let workers = Arc::new(workers);
    let listener = BoundListener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await.expect("bound");
    let Address::Tcp(address) = listener.local_address().expect("an address") else { panic!("not TCP") };
    let accepting = tokio::spawn({
        let workers = Arc::clone(&workers);
        async move { workers.run(listener, ListenerOptions::named("main")).await }
    });
    let mut callers = Vec::new();
    for _ in 0..9 {
        let mut caller = TcpStream::connect(address).await.expect("connected");
        caller.write_all(GET).await.expect("writable");
        let first = read_hello(&mut caller).await;
        caller.write_all(GET).await.expect("writable");
        let worker =
            |answer: &str| answer.lines().find(|line| line.starts_with("x-worker")).map(str::to_owned);
        assert_eq!(worker(&first), worker(&read_hello(&mut caller).await), "a connection stays where it is");
        callers.push(caller);
    }
    assert_eq!(workers.loads(), [3, 3, 3]);
    assert_eq!(counts.open(), 9);
    shutdown.cancel();
    accepting.await.expect("no panic");
    for caller in &mut callers {
        assert_eq!(read_to_end(caller).await, "");
    }
    let workers = Arc::into_inner(workers).expect("the only owner");
    assert_eq!(tokio::task::spawn_blocking(|| workers.join()).await.expect("no panic"), 0);
    assert_eq!(counts.open(), 0);
}
