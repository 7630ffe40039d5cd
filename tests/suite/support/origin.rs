//! A scripted origin. It answers by script and records every request byte for byte, on a raw socket, or in memory for
//! tests with paused time.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tagalong::internals::clock::Clock;
use tagalong::internals::transport::dial::{Dial, UpstreamIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::answer::{Answer, Step, complete};
use super::message::{Framing, Head, MessageReader};

/// The limit for waiting by this clock. A test that reaches it fails.
pub(crate) fn patience(clock: &Clock) -> Duration {
    match clock {
        // Paused time costs nothing, and some tests wait for deadlines of full length.
        Clock::Tokio { .. } => Duration::from_secs(24 * 60 * 60),
        Clock::System | Clock::Manual(_) => Duration::from_secs(30),
    }
}

/// A byte stream in either direction, over a socket or in memory.
pub(crate) type Incoming = Box<dyn AsyncRead + Send + Unpin>;
/// See [`Incoming`].
pub(crate) type Outgoing = Box<dyn AsyncWrite + Send + Unpin>;

/// A request as it reached the origin.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// All its bytes as received.
    pub(crate) bytes: Vec<u8>,
    pub(crate) head: Head,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
    /// Whether its body is complete.
    pub(crate) complete: bool,
    /// The number of its connection, counted from 0.
    pub(crate) connection: usize,
}

impl Recorded {
    /// The value of the only line with that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }
}

/// The events at the origin so far.
#[derive(Debug, Default)]
struct Journal {
    /// Header sections, also of requests with an incomplete body.
    heads: usize,
    requests: Vec<Recorded>,
    connections: usize,
    /// Connections that the other side has closed.
    closed_connections: Vec<usize>,
    /// Bytes of answers written so far.
    sent_bytes: usize,
}

#[derive(Debug)]
struct Shared {
    scripts: Mutex<HashMap<String, VecDeque<Answer>>>,
    fallback: Mutex<Option<Answer>>,
    journal: watch::Sender<Journal>,
    clock: Clock,
}

impl Shared {
    fn new(clock: Clock) -> Self {
        Self {
            scripts: Mutex::default(),
            fallback: Mutex::default(),
            journal: watch::Sender::new(Journal::default()),
            clock,
        }
    }

    fn count_connection(&self) -> usize {
        let mut connection = 0;
        self.journal.send_modify(|journal| {
            connection = journal.connections;
            journal.connections += 1;
        });
        connection
    }
}

#[derive(Debug)]
struct MemoryDial(mpsc::UnboundedSender<DuplexStream>);

impl Dial for MemoryDial {
    fn dial(&self, _: http::Uri) -> BoxFuture<'static, io::Result<Box<dyn UpstreamIo>>> {
        let (theirs, ours) = tokio::io::duplex(64 * 1024);
        let sent = self.0.send(ours);
        Box::pin(async move {
            match sent {
                Ok(()) => Ok(Box::new(theirs) as Box<dyn UpstreamIo>),
                Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

/// The origin. Dropping it closes its listener and its connections.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Origin {
    /// Listens on a free loopback port.
    pub(crate) async fn start(clock: Clock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::new(clock));
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, Arc::clone(&shared)));
        Self { address, shared, tasks }
    }

    /// An origin in memory. The sidecar reaches it through the dialler.
    pub(crate) fn in_memory(clock: Clock) -> (Self, Arc<dyn Dial>) {
        let (connector, mut dialled) = mpsc::unbounded_channel::<DuplexStream>();
        let shared = Arc::new(Shared::new(clock));
        let serving = Arc::clone(&shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(stream) = dialled.recv().await {
                let connection = serving.count_connection();
                let (incoming, outgoing) = tokio::io::split(stream);
                let stream = (Box::new(incoming) as Incoming, Box::new(outgoing) as Outgoing, None);
                connections.spawn(serve(stream, connection, Arc::clone(&serving)));
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        (Self { address, shared, tasks }, Arc::new(MemoryDial(connector)))
    }

    /// Adds an answer to the script of this target.
    pub(crate) fn on(&self, target: &str, answer: impl Into<Answer>) {
        let mut scripts = self.shared.scripts.lock().expect("no panic under the lock");
        scripts.entry(decoded(target)).or_default().push_back(answer.into());
    }

    /// Sets the answer of requests without a script.
    pub(crate) fn otherwise(&self, answer: impl Into<Answer>) {
        *self.shared.fallback.lock().expect("no panic under the lock") = Some(answer.into());
    }

    /// Closes the listener and every connection, so that the origin cannot be reached any more.
    pub(crate) async fn vanish(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.journal.borrow().requests.clone()
    }

    /// The requests for one target so far.
    pub(crate) fn requests_for(&self, target: &str) -> Vec<Recorded> {
        self.requests().into_iter().filter(|request| decoded(&request.target) == decoded(target)).collect()
    }

    /// Bytes of answers written so far.
    pub(crate) fn sent_bytes(&self) -> usize {
        self.shared.journal.borrow().sent_bytes
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.journal.borrow().connections
    }

    /// Waits until `count` requests in total have arrived.
    pub(crate) async fn received(&self, count: usize) {
        self.until("requests", |journal| journal.requests.len() >= count).await;
    }

    /// Waits until `count` header sections in total have arrived.
    pub(crate) async fn begun(&self, count: usize) {
        self.until("header sections", |journal| journal.heads >= count).await;
    }

    /// Waits until the other side has closed the connection of request `index`, counted from 0.
    pub(crate) async fn left_alone(&self, index: usize) {
        let connection = self.requests()[index].connection;
        self.until("a closed connection", |journal| journal.closed_connections.contains(&connection)).await;
    }

    /// Waits until the other side has closed `count` connections.
    pub(crate) async fn closed(&self, count: usize) {
        self.until("closed connections", |journal| journal.closed_connections.len() >= count).await;
    }

    async fn until(&self, what: &str, reached: impl FnMut(&Journal) -> bool) {
        let mut journal = self.shared.journal.subscribe();
        let outcome = tokio::time::timeout(patience(&self.shared.clock), journal.wait_for(reached)).await;
        assert!(outcome.is_ok(), "waited in vain for {what} at the origin: {:?}", self.shared.journal);
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, so that the connections close with the origin.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let connection = shared.count_connection();
        let _unimportant = stream.set_nodelay(true);
        let socket = socket2::SockRef::from(&stream).try_clone().expect("a file descriptor");
        let (incoming, outgoing) = stream.into_split();
        let stream = (Box::new(incoming) as Incoming, Box::new(outgoing) as Outgoing, Some(socket));
        connections.spawn(serve(stream, connection, Arc::clone(&shared)));
    }
}

async fn serve(
    (incoming, mut outgoing, socket): (Incoming, Outgoing, Option<socket2::Socket>),
    connection: usize,
    shared: Arc<Shared>,
) {
    let mut reader = MessageReader::new(incoming);
    while let Some(head_bytes) = reader.head().await {
        let head = Head::parse(&head_bytes);
        shared.journal.send_modify(|journal| journal.heads += 1);
        if head.field("expect").is_some()
            && outgoing.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err()
        {
            break;
        }
        let framing = match head.framing() {
            Framing::Unsaid => Framing::Length(0),
            framing => framing,
        };
        let read = reader.body(framing).await;
        let mut words = head.first_line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        let answer = next_answer(&shared, &target);
        let is_head = method == "HEAD";
        let mut bytes = head_bytes;
        bytes.extend_from_slice(&read.raw);
        let recorded =
            Recorded { bytes, head, method, target, body: read.body, complete: read.complete, connection };
        shared.journal.send_modify(|journal| journal.requests.push(recorded));
        match play(&answer, is_head, &mut reader, &mut outgoing, &shared).await {
            Played::GoesOn => {}
            Played::Left => break,
            Played::Ended => return,
            Played::Reset => {
                if let Some(socket) = &socket {
                    let _unimportant = socket.set_linger(Some(Duration::ZERO));
                }
                return;
            }
        }
    }
    shared.journal.send_modify(|journal| journal.closed_connections.push(connection));
}

/// A target in a form that all its spellings share: the sidecar asks for what may be shared in the canonical one.
fn decoded(target: &str) -> String {
    let text = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    if !["/kv", "/keys", "/labels", "/revisions"].iter().any(|path| target.starts_with(path)) {
        return target.to_owned();
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let Some(query) = query else { return text(path) };
    let mut parameters: Vec<_> = query.split('&').map(text).collect();
    parameters.sort_unstable();
    format!("{}?{}", text(path), parameters.join("&"))
}

fn next_answer(shared: &Shared, target: &str) -> Answer {
    let scripted = shared
        .scripts
        .lock()
        .expect("no panic under the lock")
        .get_mut(&decoded(target))
        .and_then(VecDeque::pop_front);
    scripted.or_else(|| shared.fallback.lock().expect("no panic under the lock").clone()).unwrap_or_else(
        || Answer::from(format!("500\nCache-Control: no-store\n\nnothing is scripted for {target}")),
    )
}

/// The state of the connection after an answer.
enum Played {
    GoesOn,
    /// The other side closed it.
    Left,
    Ended,
    Reset,
}

async fn play(
    answer: &Answer,
    is_head: bool,
    reader: &mut MessageReader<Incoming>,
    outgoing: &mut Outgoing,
    shared: &Shared,
) -> Played {
    for step in &answer.steps {
        let sent = match step {
            Step::Message(message) => {
                let bytes = complete(message, is_head, shared.clock.now());
                send(outgoing, &bytes, shared).await
            }
            Step::Bytes(bytes) => send(outgoing, bytes, shared).await,
            Step::Repeat(bytes, times) => {
                let mut all = true;
                for _ in 0..*times {
                    all = all && send(outgoing, bytes, shared).await;
                }
                all
            }
            Step::Hold(gate) => tokio::select! {
                () = gate.passed() => true,
                () = reader.closed() => false,
            },
            Step::Delay(delay) => {
                tokio::time::sleep(*delay).await;
                true
            }
            Step::Close => {
                let _unimportant = outgoing.shutdown().await;
                return Played::Ended;
            }
            Step::Reset => return Played::Reset,
        };
        if !sent {
            return Played::Left;
        }
    }
    Played::GoesOn
}

async fn send(outgoing: &mut Outgoing, bytes: &[u8], shared: &Shared) -> bool {
    let sent = outgoing.write_all(bytes).await.is_ok() && outgoing.flush().await.is_ok();
    if sent {
        shared.journal.send_modify(|journal| journal.sent_bytes += bytes.len());
    }
    sent
}
