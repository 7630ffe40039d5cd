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
use tagalong::internals::emulator::{Emulator, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::caller::Caller;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bare,
    Acceptor,
    Sidecar,
    /// The sidecar, asked with an id that differs each time, so that no head repeats.
    Unrepeated,
    /// The sidecar with the generic profile before the emulator.
    Generic,
    /// The same with the App Configuration profile; its callers return their sync tokens.
    Tokens,
}

impl Kind {
    /// The bare server first: the others are compared with it.
    pub(crate) const ALL: [Self; 6] =
        [Self::Bare, Self::Acceptor, Self::Sidecar, Self::Unrepeated, Self::Generic, Self::Tokens];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Acceptor => "acceptor",
            Self::Sidecar => "sidecar",
            Self::Unrepeated => "unrepeated",
            Self::Generic => "generic",
            Self::Tokens => "tokens",
        }
    }
}

/// What runs the server and counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrapper {
    None,
    Strace,
    Callgrind,
}

/// A small JSON answer; the origin adds `Date` and `Content-Length`, the sidecar `Age`, `Via` and `Cache-Status`.
const ORIGIN_HEAD: &str = "\
    content-type: application/json\n\
    cache-control: max-age=100000\n\
    etag: \"QlHnmjgbjGBmnDFSGBbyNAzsWJ1\"";
const BODY_BYTES: usize = 1_024;
/// What a key-value's JSON is beside its value.
const KEY_VALUE_OVERHEAD_BYTES: usize = 180;

/// What a hit looks like if there is no sidecar to ask.
const HIT_HEAD: &str =
    "date: Sat, 21 Nov 2026 10:00:00 GMT\nage: 0\nvia: 1.1 tagalong\ncache-status: tagalong; hit; ttl=99999";

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

#[expect(clippy::disallowed_methods, reason = "waits for a process, outside of everything that is measured")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Answers everything with one storable response, in this process; beside it the emulator, for the sidecar with tokens.
pub(crate) struct Origin {
    port: u16,
    emulator_port: u16,
    /// What the measured servers answer: the sidecar's own hit, where there is a sidecar.
    hit_head: PathBuf,
    _directory: tempfile::TempDir,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let port = free_port();
        std::thread::spawn(move || serve_bare(port, parse_head(ORIGIN_HEAD)));
        let emulator_port = free_port();
        std::thread::spawn(move || serve_emulator(emulator_port));
        let directory = tempfile::tempdir().expect("a directory");
        let hit_head = directory.path().join("hit-head");
        let origin = Self { port, emulator_port, hit_head, _directory: directory };
        let head = match Server::start(Kind::Sidecar, &origin, Wrapper::None) {
            Some(sidecar) => Caller::connect(sidecar.port, Kind::Sidecar).answer().0,
            None => format!("\n{ORIGIN_HEAD}\n{HIT_HEAD}"),
        };
        let fields = head.split_once('\n').map_or("", |(_status, fields)| fields);
        std::fs::write(&origin.hit_head, fields).expect("writable");
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
            Kind::Bare | Kind::Acceptor => {
                let program = std::env::current_exe().expect("this program");
                let head = origin.hit_head.to_str().expect("text").to_owned();
                (program, vec![format!("serve-{}", kind.name()), port.to_string(), head])
            }
            Kind::Sidecar | Kind::Unrepeated | Kind::Generic | Kind::Tokens => {
                let (origin_port, profile) = match kind {
                    Kind::Tokens => (origin.emulator_port, "app-configuration --credential none"),
                    Kind::Generic => (origin.emulator_port, "generic"),
                    _ => (origin.port, "generic --sharing rfc9111"),
                };
                let flags = format!(
                    "run --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{} \
                     --upstream http://127.0.0.1:{origin_port} --freshness 1h --profile {profile}",
                    free_port()
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
                command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
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
        // Already gone: then there is nothing to stop.
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

fn block_on(serving: impl Future<Output = ()>) {
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

/// One key-value, as large as the scripted response, in an emulator that is asked once.
fn serve_emulator(port: u16) {
    block_on(async move {
        let value = "x".repeat(BODY_BYTES - KEY_VALUE_OVERHEAD_BYTES);
        let seed = format!(r#"{{"items":[{{"key":"app/setting","label":"prod","value":"{value}"}}]}}"#);
        let emulator = Emulator::new(Settings::default(), Clock::System, 1);
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
