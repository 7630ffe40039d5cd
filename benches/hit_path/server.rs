//! The servers that are measured, each in a process of its own, and the origin behind the sidecar.

use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tagalong::internals::accept::{AcceptLimits, Acceptor, BoundListener, ListenerOptions};
use tagalong::internals::clock::Clock;
use tagalong::internals::emulator::counts::Counts;
use tagalong::internals::emulator::faults::act::Faults;
use tagalong::internals::emulator::faults::document::PlanDocument;
use tagalong::internals::emulator::seed::parse_seed;
use tagalong::internals::emulator::serve::serve;
use tagalong::internals::emulator::service::Service;
use tagalong::internals::emulator::{Emulator, EmulatorSettings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::caller::Caller;
use crate::{others, passing};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// hyper and nothing else.
    Bare,
    /// The same service behind this crate's accept stage.
    Acceptor,
    /// The bare server, asked without the fields of a signature.
    BareUnsigned,
    /// The sidecar with the App Configuration profile, asked as the Python SDK asks: no head is like another.
    Sidecar,
    /// The same, asked without the fields of a signature: what a caller sends that leaves signing to the sidecar.
    Unsigned,
    /// The same, with heads that repeat byte by byte.
    Repeated,
    /// The sidecar with the generic profile.
    Generic,
    /// nginx with its cache, without sendfile.
    Nginx,
    /// haproxy with its cache.
    Haproxy,
    /// hyper's server before hyper-util's client and nothing else: the least that a request passed on can cost here.
    BarePasser,
    /// The sidecar with the generic profile, asked for what it passes on.
    Passer,
    /// nginx, asked for the same.
    NginxPasser,
}

impl Kind {
    /// The bare server first: the others are compared with it.
    pub(crate) const ALL: [Self; 9] = [
        Self::Bare,
        Self::BareUnsigned,
        Self::Acceptor,
        Self::Sidecar,
        Self::Unsigned,
        Self::Repeated,
        Self::Generic,
        Self::Nginx,
        Self::Haproxy,
    ];

    /// Those that are asked for what no cache has; the bare one first.
    pub(crate) const PASSING: [Self; 3] = [Self::BarePasser, Self::Passer, Self::NginxPasser];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::BareUnsigned => "bare-unsigned",
            Self::Acceptor => "acceptor",
            Self::Sidecar => "sidecar",
            Self::Unsigned => "unsigned",
            Self::Repeated => "repeated",
            Self::Generic => "generic",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::BarePasser => "bare-passer",
            Self::Passer => "sidecar",
            Self::NginxPasser => "nginx",
        }
    }

    pub(crate) const fn is_sidecar(self) -> bool {
        matches!(self, Self::Sidecar | Self::Unsigned | Self::Repeated | Self::Generic)
    }

    /// Whether its callers sign.
    pub(crate) const fn is_signed(self) -> bool {
        !matches!(self, Self::BareUnsigned | Self::Unsigned)
    }

    /// The bare server that is given the same bytes.
    pub(crate) const fn bare(self) -> Self {
        if self.is_signed() { Self::Bare } else { Self::BareUnsigned }
    }
}

/// What runs the server and counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrapper {
    None,
    Strace,
    Callgrind,
}

/// Size of an answer's body, roughly.
pub(crate) const BODY_BYTES: usize = 1_024;
/// What a key-value's JSON is beside its value.
const KEY_VALUE_OVERHEAD_BYTES: usize = 180;

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

#[expect(clippy::disallowed_methods, reason = "waits for a process, outside of everything that is measured")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// What the servers that are measured answer from: the emulator with its drift behind the sidecar; behind the others one response,
/// which is the sidecar's own hit, so that all of them send the same bytes.
pub(crate) struct Origin {
    emulator_port: u16,
    hit_port: u16,
    passing_port: u16,
    hit_head: PathBuf,
    connection_string: PathBuf,
    directory: tempfile::TempDir,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let emulator_port = free_port();
        std::thread::spawn(move || serve_emulator(emulator_port));
        let directory = tempfile::tempdir().expect("a directory");
        let hit_head = directory.path().join("hit-head");
        let connection_string = directory.path().join("connection-string");
        // What the sidecar signs with; the emulator accepts everything.
        let text = format!("Endpoint=http://127.0.0.1:{emulator_port};Id=bench;Secret=c2VjcmV0");
        std::fs::write(&connection_string, text).expect("writable");
        let (hit_port, passing_port) = (free_port(), free_port());
        std::thread::spawn(move || passing::serve_origin(passing_port));
        let origin = Self { emulator_port, hit_port, passing_port, hit_head, connection_string, directory };
        let sidecar = Server::start(Kind::Sidecar, &origin, Wrapper::None).expect("the sidecar starts");
        let head = Caller::connect(sidecar.port, Kind::Sidecar).answer();
        let fields = head.split_once('\n').map_or("", |(_status, fields)| fields).to_owned();
        std::fs::write(&origin.hit_head, &fields).expect("writable");
        std::thread::spawn(move || serve_bare(hit_port, parse_head(&fields)));
        origin
    }
}

pub(crate) struct Server {
    kind: Kind,
    port: u16,
    process: Child,
    wrapper: Wrapper,
    counted: tempfile::NamedTempFile,
}

impl Server {
    /// Starts a server and waits until it answers from memory; `None` if it does not start.
    pub(crate) fn start(kind: Kind, origin: &Origin, wrapper: Wrapper) -> Option<Self> {
        let counted = tempfile::NamedTempFile::new().expect("a file");
        let counted_path = counted.path().to_str().expect("text");
        let port = free_port();
        let (program, arguments) = match kind {
            Kind::Bare | Kind::BareUnsigned | Kind::Acceptor => {
                let program = std::env::current_exe().expect("this program");
                let head = origin.hit_head.to_str().expect("text").to_owned();
                let serve = if kind == Kind::Acceptor { "serve-acceptor" } else { "serve-bare" };
                (program, vec![serve.to_owned(), port.to_string(), head])
            }
            Kind::Sidecar | Kind::Unsigned | Kind::Repeated | Kind::Generic => {
                let profile = if kind == Kind::Generic { "generic" } else { "app-configuration" };
                let flags = format!(
                    "run --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{} --upstream http://127.0.0.1:{} \
                     --credential hmac --connection-string-file {} --freshness 1h --profile {profile}",
                    free_port(),
                    origin.emulator_port,
                    origin.connection_string.display()
                );
                (env!("CARGO_BIN_EXE_tagalong").into(), flags.split(' ').map(str::to_owned).collect())
            }
            Kind::Nginx | Kind::Haproxy | Kind::NginxPasser => {
                let directory = origin.directory.path().join(format!("{}-{port}", kind.name()));
                std::fs::create_dir(&directory).expect("writable");
                let passes = kind == Kind::NginxPasser;
                let origin_port = if passes { origin.passing_port } else { origin.hit_port };
                others::command(kind, port, origin_port, &directory)?
            }
            Kind::BarePasser => {
                let program = std::env::current_exe().expect("this program");
                let arguments =
                    ["serve-bare-passer".to_owned(), port.to_string(), origin.passing_port.to_string()];
                (program, arguments.into())
            }
            Kind::Passer => {
                let flags = format!(
                    "run --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{} --upstream http://127.0.0.1:{} \
                     --profile generic",
                    free_port(),
                    origin.passing_port
                );
                (env!("CARGO_BIN_EXE_tagalong").into(), flags.split(' ').map(str::to_owned).collect())
            }
        };
        let mut command = match wrapper {
            Wrapper::None => Command::new(&program),
            Wrapper::Strace => {
                // -D: the server stays this program's child, so that it can be told to stop.
                let mut command = Command::new("strace");
                command.args(["-D", "-f", "-c", "-U", "calls,name", "-o", counted_path]).arg(&program);
                command
            }
            Wrapper::Callgrind => {
                let mut command = Command::new("valgrind");
                let profile = std::env::var("CALLGRIND_OUT_FILE").unwrap_or_else(|_| "/dev/null".to_owned());
                command.args(["--tool=callgrind", &format!("--callgrind-out-file={profile}")]);
                command.arg(format!("--log-file={counted_path}")).arg(&program);
                command
            }
        };
        let process = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut server = Self { kind, port, process, wrapper, counted };
        for _ in 0..1_000 {
            if server.process.try_wait().expect("a child").is_some() {
                eprintln!("{} did not start: {command:?}", kind.name());
                return None;
            }
            if std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                let mut caller = Caller::connect(port, kind);
                (0..50).for_each(|_| caller.request());
                return Some(server);
            }
            pause();
        }
        eprintln!("{} does not listen: {command:?}", kind.name());
        None
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Time that all threads of the server have spent on a processor.
    pub(crate) fn cpu_nanos(&self) -> u64 {
        let tasks = format!("/proc/{}/task", self.process.id());
        let threads = std::fs::read_dir(tasks).expect("Linux").flatten();
        threads
            .filter_map(|thread| {
                let schedstat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
                schedstat.split(' ').next()?.parse::<u64>().ok()
            })
            .sum()
    }

    /// Ends the server and returns what was counted, by name.
    pub(crate) fn stop_and_count(mut self) -> Vec<(String, u64)> {
        self.stop();
        for _ in 0..500 {
            let counted = std::fs::read_to_string(self.counted.path()).expect("readable");
            let counts = match self.wrapper {
                Wrapper::None => return Vec::new(),
                Wrapper::Strace => strace_counts(&counted),
                Wrapper::Callgrind => callgrind_counts(&counted),
            };
            if let Some(counts) = counts {
                return counts;
            }
            pause();
        }
        panic!("nothing was counted")
    }

    fn stop(&mut self) {
        let pid = self.process.id().to_string();
        // The process may have ended already.
        let _ = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lines `calls name` between two rules; complete once the total is there.
fn strace_counts(text: &str) -> Option<Vec<(String, u64)>> {
    text.lines().find(|line| line.trim_end().ends_with("total"))?;
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let calls = words.next()?.parse().ok()?;
        Some((words.next()?.to_owned(), calls))
    });
    Some(lines.filter(|(name, _)| name != "total").collect())
}

/// The line `==PID== Collected : N`.
fn callgrind_counts(text: &str) -> Option<Vec<(String, u64)>> {
    let (_, collected) = text.lines().find_map(|line| line.split_once("Collected :"))?;
    Some(vec![("instructions".to_owned(), collected.trim().parse().ok()?)])
}

/// Serves if this process was started to do that.
pub(crate) fn serve_if_asked(arguments: &[String]) -> Option<ExitCode> {
    let [kind, port, head, ..] = arguments else { return None };
    let port = port.parse().ok()?;
    if kind == "serve-bare-passer" {
        passing::serve_bare_passer(port, head.parse().ok()?);
        return Some(ExitCode::SUCCESS);
    }
    let head = || parse_head(&std::fs::read_to_string(head).expect("readable"));
    match kind.as_str() {
        "serve-bare" => serve_bare(port, head()),
        "serve-acceptor" => serve_behind_acceptor(port, head()),
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

fn parse_head(text: &str) -> HeaderMap {
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value.trim()).ok()?))
    };
    text.lines().filter_map(line).filter(|(name, _)| name != http::header::CONTENT_LENGTH).collect()
}

fn answer(head: &HeaderMap, body: &Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.clone()));
    *response.headers_mut() = head.clone();
    response
}

pub(crate) fn block_on(serving: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut told_to_stop = signal(SignalKind::terminate()).expect("a signal");
        tokio::select! {
            _ = told_to_stop.recv() => {}
            () = serving => {}
        }
    });
}

fn serve_bare(port: u16, head: HeaderMap) {
    block_on(async move {
        let body = Bytes::from(vec![b'x'; BODY_BYTES]);
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a port");
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a TCP connection");
            let (head, body) = (head.clone(), body.clone());
            let service = service_fn(move |_: Request<Incoming>| {
                std::future::ready(Ok::<_, Infallible>(answer(&head, &body)))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

/// One key-value in an emulator whose sequence numbers drift.
fn serve_emulator(port: u16) {
    block_on(async move {
        let value = "x".repeat(BODY_BYTES - KEY_VALUE_OVERHEAD_BYTES);
        let seed = format!(r#"{{"items":[{{"key":"app/setting","label":"prod","value":"{value}"}}]}}"#);
        let emulator = Emulator::new(EmulatorSettings::default(), Clock::System, 1);
        emulator.seed(parse_seed(seed.as_bytes()).expect("a seed")).expect("room");
        let faults = Arc::new(Faults::new(PlanDocument::default(), 1));
        let service = Service::new(emulator, faults, Arc::new(Counts::default()), Clock::System);
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a port");
        let answer = move |request| {
            let service = service.clone();
            async move { service.answer(request).await }
        };
        serve(listener, CancellationToken::new(), answer).await;
    });
}

fn serve_behind_acceptor(port: u16, head: HeaderMap) {
    block_on(async move {
        let body = Bytes::from(vec![b'x'; BODY_BYTES]);
        let listener = BoundListener::tcp((Ipv4Addr::LOCALHOST, port).into()).await.expect("a port");
        let make_service = |_: &_| {
            let (head, body) = (head.clone(), body.clone());
            service_fn(move |_: Request<Incoming>| {
                std::future::ready(Ok::<_, Infallible>(answer(&head, &body)))
            })
        };
        let acceptor = Acceptor::new(AcceptLimits::default(), Arc::default(), CancellationToken::new());
        acceptor.run(listener, ListenerOptions::named("main"), make_service).await;
    });
}
