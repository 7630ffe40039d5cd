//! A fleet of processes and a real engine: Debian's `redis-server`, before a store whose replicas lag and drift.

mod cost;

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tagalong::internals::clock::{Clock, instant};
use tagalong::internals::fleet::engine::EngineError;
use tokio::time::Instant;

use super::process::{Process, all, connect};
use crate::fleet::origin::{LaggingStore, name};
use crate::support::caller::{Caller, Response};

const MEMBERS: usize = 5;

/// The lease of the members.
const LEASE: Duration = Duration::from_secs(1);

/// Whether the engine is installed. Where everything must be tested, that is a must.
fn has_engine() -> bool {
    let is_there = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    assert!(
        is_there || std::env::var("CI").is_err(),
        "redis-server is missing: apt-get install redis-server"
    );
    if !is_there {
        eprintln!("!! redis-server is missing: THE FLEET IS NOT TESTED WITH A REAL ENGINE");
    }
    is_there
}

/// A Redis in its own process.
struct Engine {
    process: Child,
    port: u16,
    // Dropped last.
    _directory: tempfile::TempDir,
}

impl Engine {
    fn start(more: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_at(port, more)
    }

    fn start_at(port: u16, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--dir", &directory.path().display().to_string(), "--repl-diskless-sync-delay", "0"])
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let engine = Self { process, port, _directory: directory };
        // It answers, be it that it wants a password.
        while !engine.says("PING", "+PONG") && !engine.says("PING", "-NOAUTH") {
            std::thread::yield_now();
        }
        engine
    }

    /// Whether it answers this to a command.
    fn says(&self, command: &str, expected: &str) -> bool {
        use std::io::Write as _;
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let sent = write!(stream, "{command}\r\nQUIT\r\n");
        sent.is_ok() && all(stream).contains(expected)
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ended_before = self.process.kill();
        let _waited = self.process.wait();
    }
}

/// The store on a socket.
async fn serve(store: Arc<LaggingStore>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let store = Arc::clone(&store);
                    async move { store.serve(request).await }
                });
                let _broken = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

/// Processes of one fleet, before one store.
struct Processes {
    store: Arc<LaggingStore>,
    members: Vec<Process>,
    // Dropped last.
    _directory: tempfile::TempDir,
}

impl Processes {
    /// Members that have a live lease.
    async fn start(members: usize, engine_url: Option<&str>, more: &[&str]) -> Self {
        let processes = Self::start_any(members, engine_url, more).await;
        while engine_url.is_some() && !processes.are_live() {
            tokio::task::yield_now().await;
        }
        processes
    }

    /// Members whose engine will not have them.
    async fn start_unjoined(members: usize, engine_url: &str, more: &[&str]) -> Self {
        Self::start_any(members, Some(engine_url), more).await
    }

    async fn start_any(members: usize, engine_url: Option<&str>, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key_file = directory.path().join("key").display().to_string();
        std::fs::write(&key_file, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let store = LaggingStore::new(Clock::System, Duration::from_secs(3));
        let origin = serve(Arc::clone(&store)).await;
        let mut arguments = vec!["--profile", "app-configuration", "--credential", "none"];
        if let Some(url) = engine_url {
            arguments.extend(["--fleet-url", url, "--fleet-key-file", &key_file]);
        }
        arguments.extend(more);
        let members: Vec<_> = (0..members).map(|_| Process::start(origin, &arguments)).collect();
        Self { store, members, _directory: directory }
    }

    /// Whether every member has a live lease.
    fn are_live(&self) -> bool {
        self.members
            .iter()
            .all(|member| metric(member, "tagalong_fleet_live{upstream=\"main\"}") == Some(1.0))
    }

    async fn callers(&self) -> Vec<Caller> {
        let mut callers = Vec::new();
        for member in &self.members {
            callers.push(Caller::connect(member.callers).await);
        }
        callers
    }
}

fn metric(process: &Process, name: &str) -> Option<f64> {
    use std::io::Write as _;
    let mut stream = connect(process.operator);
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    all(stream).lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn target(key: usize) -> String {
    format!("/kv/{}?api-version=2026-04-01", name(key))
}

async fn put(caller: &mut Caller, key: usize) -> u64 {
    let request = format!("PUT {}\nContent-Type: application/json\n\n{{\"value\":\"\"}}", target(key));
    let answer = caller.send(&request).await;
    version(&answer).unwrap_or_else(|| panic!("{answer:?}"))
}

async fn get(caller: &mut Caller, key: usize) -> Response {
    caller.send(&format!("GET {}", target(key))).await
}

fn version(answer: &Response) -> Option<u64> {
    let json: serde_json::Value = serde_json::from_str(answer.text()).ok()?;
    json["value"].as_str()?.parse().ok()
}

/// Writes through one member and reads each at once through the others (through the same one, if it is alone). Returns how many reads
/// were older, after how long each write was shown by all at the latest, and the latencies of the writes.
async fn write_and_read(processes: &Processes, writes: usize) -> (usize, Duration, Vec<Duration>) {
    let mut callers = processes.callers().await;
    let (mut older, mut latest, mut latencies) = (0, Duration::ZERO, Vec::new());
    for write in 0..writes {
        let began = instant();
        let written = put(&mut callers[0], write % 10).await;
        latencies.push(began.elapsed());
        let answered = instant();
        for reader in 1..MEMBERS {
            let caller = if callers.len() == 1 { 0 } else { reader };
            let mut is_first = true;
            while version(&get(&mut callers[caller], write % 10).await) < Some(written) {
                older += usize::from(std::mem::take(&mut is_first));
                latest = latest.max(answered.elapsed());
            }
        }
    }
    latencies.sort();
    (older, latest, latencies)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_through_one_process_is_read_at_once_through_the_others() {
    if !has_engine() {
        return;
    }
    let writes = std::env::var("WRITES").map_or(200, |writes| writes.parse().expect("a number"));
    let alone = Processes::start(1, None, &[]).await;
    let (older, _, without) = write_and_read(&alone, writes).await;
    assert_eq!(older, 0);
    let of_one = alone.store.requests().0;
    let median = |latencies: &[Duration]| latencies[latencies.len() / 2];
    let engine = Engine::start(&[]);
    let of_its_own = Processes::start(1, Some(&engine.url()), &[]).await;
    let (_, _, with) = write_and_read(&of_its_own, writes).await;
    eprintln!("median of a write {:?} in a fleet of one, {:?} without", median(&with), median(&without));
    for announce in ["all", "engine"] {
        let engine = Engine::start(&[]);
        let setting = format!("fleet.announce={announce}");
        let fleet = Processes::start(MEMBERS, Some(&engine.url()), &["--set", &setting]).await;
        let (older, latest, with) = write_and_read(&fleet, writes).await;
        let of_five = fleet.store.requests().0;
        eprintln!(
            "announce = {announce:?}: {writes} writes, {older} of {} reads older, for {latest:?} at the most; {of_five} origin requests of five, {of_one} of one, ratio \
             {:.3}; median of a write {:?}, alone {:?}",
            writes * 4,
            of_five as f64 / of_one as f64,
            median(&with),
            median(&without)
        );
        assert!(older == 0 || announce == "engine" && latest <= LEASE, "{older}, {latest:?}");
        assert!(of_five as f64 <= 1.1 * of_one as f64, "{of_five} and {of_one}");
    }
}

/// What a load found.
#[derive(Debug, Default)]
struct Found {
    writes: usize,
    reads: usize,
    errors: usize,
    /// How long ago a write had been answered of which a read showed nothing, at the most: while members were without their engine, and
    /// while all had a live lease.
    most_stale_alone: Duration,
    most_stale: Duration,
}

/// Writes through the first member and reads through the others until told to stop.
async fn load(processes: &Processes, stop: &Arc<AtomicBool>, is_alone: &Arc<AtomicBool>) -> Found {
    let writes: Arc<Mutex<Vec<(u64, Instant)>>> = Arc::default();
    let mut callers = processes.callers().await;
    let mut writer = callers.remove(0);
    put(&mut writer, 1).await;
    tokio::time::sleep(LEASE).await;
    let written = {
        let (writes, stop) = (Arc::clone(&writes), Arc::clone(stop));
        tokio::spawn(async move {
            let mut errors = 0;
            while !stop.load(Ordering::SeqCst) {
                let request =
                    format!("PUT {}\nContent-Type: application/json\n\n{{\"value\":\"\"}}", target(1));
                match version(&writer.send(&request).await) {
                    Some(version) => writes.lock().unwrap().push((version, instant())),
                    None => errors += 1,
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            errors
        })
    };
    let readers = callers.into_iter().map(|mut caller| {
        let (writes, stop, is_alone) = (Arc::clone(&writes), Arc::clone(stop), Arc::clone(is_alone));
        tokio::spawn(async move {
            let mut found = Found::default();
            while !stop.load(Ordering::SeqCst) {
                let (began, was_alone) = (instant(), is_alone.load(Ordering::SeqCst));
                let answer = get(&mut caller, 1).await;
                let is_alone = was_alone || is_alone.load(Ordering::SeqCst);
                found.reads += 1;
                match version(&answer) {
                    Some(shown) => {
                        let writes = writes.lock().unwrap();
                        // The first write that should have been shown and was not.
                        let missed = writes.iter().find(|(version, at)| *version > shown && *at < began);
                        let stale = missed.map_or(Duration::ZERO, |(_, at)| began - *at);
                        let most = if is_alone { &mut found.most_stale_alone } else { &mut found.most_stale };
                        *most = (*most).max(stale);
                    }
                    None => found.errors += 1,
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            found
        })
    });
    let mut all = Found::default();
    for reader in readers.collect::<Vec<_>>() {
        let found = reader.await.unwrap();
        all.reads += found.reads;
        all.errors += found.errors;
        all.most_stale = all.most_stale.max(found.most_stale);
        all.most_stale_alone = all.most_stale_alone.max(found.most_stale_alone);
    }
    all.errors += written.await.unwrap();
    all.writes = writes.lock().unwrap().len();
    all
}

/// Runs the load while `trouble` happens.
async fn under_load(processes: &Arc<Processes>, trouble: impl Future<Output = ()>) -> Found {
    let epochs = |it| metric(it, "tagalong_fleet_epochs_total{upstream=\"main\"}");
    let have_joined_again =
        || processes.members.iter().all(|it| epochs(it).is_some_and(|epochs| epochs >= 2.0));
    let (stop, is_alone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let running = {
        let (processes, stop, is_alone) = (Arc::clone(processes), Arc::clone(&stop), Arc::clone(&is_alone));
        tokio::spawn(async move { load(&processes, &stop, &is_alone).await })
    };
    tokio::time::sleep(LEASE * 2).await;
    is_alone.store(true, Ordering::SeqCst);
    trouble.await;
    while !(have_joined_again() && processes.are_live()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_alone.store(false, Ordering::SeqCst);
    tokio::time::sleep(LEASE * 2).await;
    stop.store(true, Ordering::SeqCst);
    running.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_killed_costs_no_error() {
    if !has_engine() {
        return;
    }
    let engine = Mutex::new(Some(Engine::start(&[])));
    let port = engine.lock().unwrap().as_ref().unwrap().port;
    let url = format!("redis://127.0.0.1:{port}");
    let processes = Arc::new(Processes::start(3, Some(&url), &["--freshness", "30s"]).await);
    let found = under_load(&processes, async {
        engine.lock().unwrap().take().unwrap().kill();
        tokio::time::sleep(LEASE * 3).await;
        *engine.lock().unwrap() = Some(Engine::start_at(port, &[]));
    })
    .await;
    eprintln!("killed and started again: {found:?}");
    assert_eq!(found.errors, 0);
    assert!(found.writes > 50 && found.reads > 200, "{found:?}");
    assert!(found.most_stale <= LEASE + LEASE / 5, "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_between_two_engines_costs_no_error() {
    if !has_engine() {
        return;
    }
    let mut primary = Engine::start(&[]);
    let of_primary = primary.port.to_string();
    let replica = Engine::start(&["--replicaof", "127.0.0.1", &of_primary]);
    while !replica.says("INFO replication", "master_link_status:up") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let urls = format!("{},{}", replica.url(), primary.url());
    let processes = Arc::new(Processes::start(3, Some(&urls), &["--freshness", "30s"]).await);
    let found = under_load(&processes, async {
        primary.kill();
        tokio::time::sleep(LEASE / 2).await;
        assert!(replica.says("REPLICAOF NO ONE", "+OK"));
    })
    .await;
    eprintln!("failed over: {found:?}");
    assert_eq!(found.errors, 0);
    assert!(found.most_stale <= LEASE + LEASE / 5, "{found:?}");
}

/// How often the engine failed a member for this reason.
fn failures(member: &Process, reason: &str) -> f64 {
    let name = format!("tagalong_fleet_failures_total{{reason=\"{reason}\",upstream=\"main\"}}");
    metric(member, &name).unwrap_or_default()
}

/// Waits until the engine has failed a member for this reason more often than before, and asks it meanwhile.
async fn fails_with(processes: &Processes, reason: &str, failed_before: f64) {
    let mut callers = processes.callers().await;
    let began = instant();
    while failures(&processes.members[0], reason) <= failed_before {
        let found = || EngineError::ALL.map(|it| (it.as_str(), failures(&processes.members[0], it.as_str())));
        assert!(began.elapsed() < Duration::from_secs(30), "{reason}: {:?}", found());
        let written = put(&mut callers[0], 1).await;
        assert_eq!(version(&get(&mut callers[0], 1).await), Some(written), "{reason}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn is_live_again(processes: &Processes) {
    while !processes.are_live() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_of_an_engine_has_its_reason_and_costs_no_error() {
    if !has_engine() {
        return;
    }
    let engine = Engine::start(&["--requirepass", "made-up"]);
    let directory = tempfile::tempdir().unwrap();
    let password_file = directory.path().join("password").display().to_string();
    std::fs::write(&password_file, "made-up\n").unwrap();
    let setting = format!("fleet.password_file={password_file}");
    let without = Processes::start_unjoined(1, &engine.url(), &[]).await;
    fails_with(&without, "refused", 0.0).await;
    drop(without);
    let processes = Processes::start(1, Some(&engine.url()), &["--set", &setting]).await;
    for (command, undo, reason) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "full"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "read-only"),
        ("CLIENT PAUSE 3000", "CLIENT UNPAUSE", "slow"),
        ("FLUSHALL", "PING", "forgot"),
    ] {
        let failed_before = failures(&processes.members[0], reason);
        assert!(engine.says(&format!("AUTH made-up\r\n{command}"), "+OK"), "{command}");
        fails_with(&processes, reason, failed_before).await;
        assert!(engine.says(&format!("AUTH made-up\r\n{undo}"), "+"), "{undo}");
        is_live_again(&processes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_is_reached_over_a_unix_socket_and_over_tls() {
    if !has_engine() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(path("cert"), key.cert.pem()).unwrap();
    std::fs::write(path("private"), key.signing_key.serialize_pem()).unwrap();
    let tls_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _engine = Engine::start(&[
        "--unixsocket",
        &path("socket"),
        "--tls-port",
        &tls_port.to_string(),
        "--tls-cert-file",
        &path("cert"),
        "--tls-key-file",
        &path("private"),
        "--tls-auth-clients",
        "no",
    ]);
    let ca = format!("fleet.ca_file={}", path("cert"));
    for (url, more) in [
        (format!("unix://{}", path("socket")), vec![]),
        (format!("rediss://127.0.0.1:{tls_port}"), vec!["--set", &ca]),
    ] {
        let processes = Processes::start(2, Some(&url), &more).await;
        let mut callers = processes.callers().await;
        let written = put(&mut callers[0], 1).await;
        while version(&get(&mut callers[1], 1).await) != Some(written) {}
    }
    // A certificate that nobody vouches for is not believed.
    let processes = Processes::start_unjoined(1, &format!("rediss://127.0.0.1:{tls_port}"), &[]).await;
    fails_with(&processes, "away", 0.0).await;
}
