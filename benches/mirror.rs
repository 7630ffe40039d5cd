//! What a mirror costs the origin, the sidecar's processor and its memory.
//!
//! ```text
//! cargo bench --bench mirror               three minutes of providers, then load, memory and processor
//! cargo bench --bench mirror -- --short    the same in a minute, with short intervals
//! ```
//!
//! **Providers.** A store of 1,000 key-values whose `sn` drifts 1.25 a second; 50 configuration providers poll every 2 s: each a
//! sentinel, and all pages of one of ten prefixes with the tag that it has of each page. For the first half nothing changes, in the
//! second half one key-value changes in each interval. The same straight, through a sidecar, and through one with a mirror.
//!
//! **Bounds**, for the mirror: 13 origin requests an interval and no body while nothing changes; one body a change. A first load of
//! 10,000 items within 1.2 × the time in which the origin gives its pages one after the other. 100,000 items: 400 bytes an item
//! beyond its own. A hit of a mirrored key: 1.1 × the processor's time of a plain hit.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and stops at the first surprise"
)]

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tempfile::NamedTempFile;
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until};

const VERSION: &str = "api-version=2026-04-01";
const PROVIDERS: usize = 50;
const PREFIXES: usize = 10;
const POLL: Duration = Duration::from_secs(2);

/// A server of this binary; ended with this program.
struct Server {
    child: Child,
    port: u16,
    admin_port: u16,
}

impl Server {
    async fn start(arguments: impl Fn(u16, u16) -> String, more: &[String]) -> Self {
        for _ in 0..5 {
            let [port, admin_port] = [free_port(), free_port()];
            let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
            command
                .args(arguments(port, admin_port).split(' '))
                .args(more)
                .env("TAGALONG_STORE__LIMIT", "16MiB");
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary");
            let mut server = Self { child, port, admin_port };
            while server.child.try_wait().expect("a child").is_none() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, admin_port)).await.is_ok() {
                    return server;
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
        panic!("does not start: {}", arguments(0, 0))
    }

    /// `delay` is what each answer takes beyond the emulator's own work.
    async fn emulator(seed: &NamedTempFile, delay: &str) -> Self {
        let arguments = |port, admin_port| {
            format!(
                "emulator --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin_port} --drift 1.25 --seed {}",
                seed.path().display()
            )
        };
        Self::start(arguments, &["--fault".to_owned(), format!("delay fixed={delay}")]).await
    }

    async fn sidecar(origin: &Self, interval: Duration, mirrored: bool) -> Self {
        let arguments = |port: u16, admin_port: u16| {
            let mirror = if mirrored { " --mirror --set upstream.mirror.bytes_limit=256MiB" } else { "" };
            format!(
                "run --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin_port} --upstream http://127.0.0.1:{} \
                 --profile app-configuration --credential none --freshness {}s{mirror}",
                origin.port,
                interval.as_secs()
            )
        };
        Self::start(arguments, &[]).await
    }

    /// Processor time so far.
    fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        let nanos = threads.flatten().filter_map(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Memory of its own, in bytes.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()));
        let status = status.expect("Linux counts the memory of processes");
        let line = status.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
    }

    async fn metric(&self, name: &str) -> f64 {
        let (_, text) = Client::open(self.admin_port).await.get("/metrics", None).await;
        let text = String::from_utf8(text.to_vec()).expect("text");
        let line = text.lines().find(|line| line.starts_with(name)).expect("a metric");
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }

    /// Waits until the mirror holds everything, and returns how long after `begun` that was.
    async fn loaded(&self, items: usize, begun: Instant) -> Duration {
        while self.metric("tagalong_mirror_items{").await < items as f64
            || self.metric("tagalong_mirror_validations_total{outcome=\"unchanged\"").await == 0.0
        {
            assert!(begun.elapsed() < Duration::from_secs(120), "the mirror does not load");
            sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already, if this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// One kept-alive connection.
struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn open(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("a server");
        stream.set_nodelay(true).expect("a TCP connection");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        Self(sender)
    }

    async fn send(
        &mut self,
        method: &str,
        target: &str,
        tag: Option<&str>,
        body: String,
    ) -> (Response<()>, Bytes) {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .header(
                "x-ms-client-request-id",
                uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid().to_string(),
            );
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        self.0.ready().await.expect("an open connection");
        let (head, body) = self.0.send_request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (Response::from_parts(head, ()), body)
    }

    async fn get(&mut self, target: &str, tag: Option<&str>) -> (Response<()>, Bytes) {
        self.send("GET", target, tag, String::new()).await
    }

    async fn put(&mut self, key: usize, value: &str) {
        let body = format!("{{\"value\":\"{value}\"}}");
        let (answer, _) = self.send("PUT", &format!("/kv/{}?{VERSION}", key_name(key)), None, body).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

fn key_name(number: usize) -> String {
    format!("svc{}%2Fkey{number:06}", number % PREFIXES)
}

/// Key-values that are older than the sidecar.
fn seed(items: usize) -> NamedTempFile {
    let items: Vec<_> = (0..items)
        .map(|number| {
            serde_json::json!({
                "key": key_name(number).replace("%2F", "/"), "label": null, "value": format!("value {number}"),
                "content_type": null, "tags": {}, "locked": false, "last_modified": "2026-01-01T00:00:00+00:00"
            })
        })
        .collect();
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(serde_json::json!({ "items": items }).to_string().as_bytes()).expect("room for it");
    file
}

/// A provider: polls its sentinel and the pages of its prefix, each with the tag that it has.
async fn provide(port: u16, number: usize, until: tokio::time::Instant) {
    let mut client = Client::open(port).await;
    let mut tags: HashMap<String, String> = HashMap::new();
    sleep(POLL.mul_f64(fastrand::f64())).await;
    let first = format!("/kv?{VERSION}&key=svc{}%2F%2A", number % PREFIXES);
    let sentinel = format!("/kv/{}?{VERSION}", key_name(number % PREFIXES));
    while tokio::time::Instant::now() < until {
        let next_poll = tokio::time::Instant::now() + POLL;
        let mut next = Some(first.clone());
        while let Some(target) = next.take() {
            let (answer, _) = client.get(&target, tags.get(&target).map(String::as_str)).await;
            assert!(
                matches!(answer.status(), StatusCode::OK | StatusCode::NOT_MODIFIED),
                "{}",
                answer.status()
            );
            let field = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            if let (StatusCode::OK, Some(tag)) = (answer.status(), field("etag")) {
                tags.insert(target, tag.to_owned());
            }
            next = field("link").and_then(|link| Some(link.strip_prefix('<')?.split_once('>')?.0.to_owned()));
        }
        client.get(&sentinel, tags.get(&sentinel).map(String::as_str)).await;
        sleep_until(next_poll).await;
    }
}

/// Requests that the origin was asked, and how many were answered with a body, since the last call.
async fn counts(origin: &Server) -> (u64, u64) {
    let mut client = Client::open(origin.admin_port).await;
    let (_, body) = client.get("/__emulator/counts", None).await;
    client.send("DELETE", "/__emulator/counts", None, String::new()).await;
    let report: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let requests = report["requests"].as_object().expect("an object");
    let reads = requests.iter().filter(|(kind, _)| kind.starts_with("GET"));
    let (mut all, mut bodies) = (0, 0);
    for (status, count) in reads.filter_map(|(_, statuses)| statuses.as_object()).flatten() {
        all += count.as_u64().unwrap_or(0);
        bodies += if status == "200" { count.as_u64().unwrap_or(0) } else { 0 };
    }
    (all, bodies)
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Straight,
    Sidecar,
    Mirror,
}

async fn providers(way: Way, interval: Duration, intervals: u32) -> bool {
    let seed = seed(1_000);
    let origin = Server::emulator(&seed, "0ms").await;
    let sidecar = match way {
        Way::Straight => None,
        _ => Some(Server::sidecar(&origin, interval, way == Way::Mirror).await),
    };
    if let (Way::Mirror, Some(sidecar)) = (way, &sidecar) {
        sidecar.loaded(1_000, Instant::now()).await;
    }
    let port = sidecar.as_ref().map_or(origin.port, |sidecar| sidecar.port);
    let until = tokio::time::Instant::now() + interval * (2 * intervals + 1);
    let running: Vec<_> = (0..PROVIDERS).map(|number| tokio::spawn(provide(port, number, until))).collect();
    // The first interval is that of first answers.
    sleep(interval).await;
    counts(&origin).await;
    sleep(interval * intervals).await;
    let quiet = counts(&origin).await;
    for number in 0..intervals {
        Client::open(origin.port).await.put(100 + 7 * number as usize, "changed").await;
        sleep(interval).await;
    }
    let changing = counts(&origin).await;
    for provider in running {
        provider.abort();
    }
    let each = |count: u64| count as f64 / f64::from(intervals);
    let name = match way {
        Way::Straight => "straight",
        Way::Sidecar => "sidecar",
        Way::Mirror => "mirror",
    };
    println!(
        "{name:9} an interval of {interval:?}: unchanged {:7.1} origin requests, {:6.1} with a body; one change {:7.1}, {:6.1}",
        each(quiet.0),
        each(quiet.1),
        each(changing.0),
        each(changing.1)
    );
    let held =
        way != Way::Mirror || (each(quiet.0) <= 13.0 && quiet.1 == 0 && changing.1 <= u64::from(intervals));
    if !held {
        println!("  NOT HELD");
    }
    held
}

/// The first load beside the origin's own pages.
async fn load(items: usize, delay: &str) -> bool {
    let seed = seed(items);
    let origin = Server::emulator(&seed, delay).await;
    let begun = Instant::now();
    let (mut client, mut next, mut bytes) =
        (Client::open(origin.port).await, Some(format!("/kv?{VERSION}")), 0);
    while let Some(target) = next.take() {
        let (answer, body) = client.get(&target, None).await;
        bytes += body.len();
        let link = answer.headers().get("link").and_then(|value| value.to_str().ok());
        next = link.and_then(|link| Some(link.strip_prefix('<')?.split_once('>')?.0.to_owned()));
    }
    let straight = begun.elapsed();
    let idle = Server::sidecar(&origin, Duration::from_secs(3_600), false).await;
    let sidecar = Server::sidecar(&origin, Duration::from_secs(3_600), true).await;
    sidecar.loaded(items, begun).await;
    let took = sidecar.metric("tagalong_mirror_load_seconds{").await;
    let beyond = (sidecar.memory() - idle.memory() - bytes as f64) / items as f64;
    println!(
        "load of {items} items from an origin at {delay}: {took:.3} s, pages straight {:.3} s ({:.2} ×); {} MiB of items, {beyond:.0} bytes an item beyond",
        straight.as_secs_f64(),
        took / straight.as_secs_f64(),
        bytes >> 20
    );
    beyond <= 400.0 && took <= 1.2 * straight.as_secs_f64()
}

/// Processor time of a hit, of a mirrored key beside a plain one, and of a page of 100 beside a plain hit of the same size.
async fn hits() -> bool {
    const ROUNDS: usize = 21;
    const REQUESTS: usize = 1_000;
    let seed = seed(1_000);
    let origin = Server::emulator(&seed, "0ms").await;
    let interval = Duration::from_secs(3);
    let (plain, mirrored) = (
        Server::sidecar(&origin, Duration::from_secs(600), false).await,
        Server::sidecar(&origin, interval, true).await,
    );
    mirrored.loaded(1_000, Instant::now()).await;
    let mut held = true;
    for (what, target, bound) in [
        ("a key", format!("/kv/{}?{VERSION}", key_name(1)), 1.1),
        ("a page of 100", format!("/kv?{VERSION}&key=svc1%2F%2A"), 3.0),
    ] {
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let mut times = Vec::new();
            for server in [&plain, &mirrored] {
                let mut client = Client::open(server.port).await;
                client.get(&target, None).await;
                let before = server.cpu();
                for _ in 0..REQUESTS {
                    client.get(&target, None).await;
                }
                times.push((server.cpu() - before).as_secs_f64());
            }
            ratios.push(times[1] / times[0]);
        }
        ratios.sort_by(f64::total_cmp);
        let ratio = ratios[ROUNDS / 2];
        println!("{what} from the mirror: {ratio:.3} × the processor time of a plain hit (bound {bound})");
        held &= ratio <= bound;
    }
    held
}

fn main() -> ExitCode {
    let short = std::env::args().any(|argument| argument == "--short");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let held = runtime.block_on(async {
        let (interval, intervals) =
            if short { (Duration::from_secs(6), 2) } else { (Duration::from_secs(30), 3) };
        let ways = [Way::Straight, Way::Sidecar, Way::Mirror].map(|way| providers(way, interval, intervals));
        let mut held = futures_util::future::join_all(ways).await.into_iter().all(|held| held);
        held &= hits().await;
        held &= load(10_000, "5ms").await;
        if !short {
            held &= load(100_000, "5ms").await;
        }
        held
    });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
