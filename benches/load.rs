//! What an origin is asked while many callers read the same keys and somebody else writes beside the sidecar.
//!
//! ```text
//! cargo bench --bench load                 1,000 callers, 100 keys, 60 s, lifetime 30 s (needs `ulimit -n 2200`)
//! cargo bench --bench load -- --short      100 callers, 100 keys, 10 s, lifetime 3 s
//! ```
//!
//! The emulator and the sidecar are processes of their own, at level `session`; the callers ask without a pause. One writer
//! a second changes a key directly at the emulator, so that the sidecar learns of it only from the origin's answers.
//!
//! **The bound.** A key that is read all the time must be asked for, whoever decides, (a) once in each freshness lifetime, since
//! its response is stale then, and (b) once under each state of `observed`, since rule 1 of coverage lets nothing be reused that
//! was asked for with older tokens. The states of `observed` under which a key was read are those that its answers name in
//! `Sync-Token`, which callers note as (key, `sn`) pairs; the state at the start, under which all keys were stored before
//! counting began, is left out. So the least is
//!
//! ```text
//! pairs (key, sn) seen by callers  +  keys × lifetimes begun
//! ```
//!
//! where (a) cannot stand in for (b): the request of (a) is sent with the old token, and only its answer brings the new one. (Less
//! would do only for who made callers wait: keys that expire together could be held back until one of them has been asked for,
//! which saves most of (a). The bound is for a sidecar that makes nobody wait for another key.)
//!
//! What the emulator was asked, by its own `/__emulator/counts`, must stay within 1.1 × that; answers with a body (200) must not
//! be more than changes; no caller may see a key go back, and nothing older than the lifetime may be shown.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and stops at the first surprise"
)]

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tagalong::clock::{Clock, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

const KEYS: usize = 100;
const ALLOWED_RATIO: f64 = 1.1;
/// How long an answer may be on its way beyond the lifetime before it counts as too old: the machine is busy.
const SLACK: Duration = Duration::from_secs(1);

struct Scale {
    callers: usize,
    duration: Duration,
    lifetime: Duration,
}

const FULL: Scale =
    Scale { callers: 1_000, duration: Duration::from_secs(60), lifetime: Duration::from_secs(30) };
const SHORT: Scale =
    Scale { callers: 100, duration: Duration::from_secs(10), lifetime: Duration::from_secs(3) };

/// What all callers and the writer share; they run on one thread.
struct Shared {
    scale: Scale,
    end: Timestamp,
    /// The state of `observed` under which everything was stored at the start.
    known_sequence_number: u64,
    /// For each key when it got which value.
    written: RefCell<Vec<Vec<(Timestamp, u64)>>>,
    pairs: RefCell<HashSet<(usize, u64)>>,
    totals: RefCell<Totals>,
}

#[derive(Default)]
struct Totals {
    answers: u64,
    changes: u64,
    went_back: u64,
    too_old: u64,
}

fn main() -> ExitCode {
    let scale = if std::env::args().any(|argument| argument == "--short") { SHORT } else { FULL };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(measure(scale)))
}

async fn measure(scale: Scale) -> ExitCode {
    let (_emulator, [origin_port, origin_admin_port]) = Process::start(|[port, admin_port]| {
        format!("emulator --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin_port}")
    })
    .await;
    let (_sidecar, [port, _]) = Process::start(|[port, admin_port]| {
        format!(
            "run --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin_port} --upstream http://127.0.0.1:{origin_port} \
             --profile app-configuration --credential none --consistency session --freshness {}s",
            scale.lifetime.as_secs()
        )
    })
    .await;
    let mut writer = Connection::open(origin_port).await;
    let start = Clock::System.now();
    let written = vec![vec![(start, 0)]; KEYS];
    for key in 0..KEYS {
        writer.put(key, 0).await;
    }
    // Everything is stored, under the newest token, before anything is counted.
    let mut reader = Connection::open(port).await;
    let mut known_sequence_number = 0;
    for key in (0..KEYS).chain(0..KEYS) {
        known_sequence_number =
            number_after(reader.exchange(&format!("GET {}", target(key)), "").await, ";sn=");
    }
    let mut counts = Connection::open(origin_admin_port).await;
    counts.exchange("DELETE /__emulator/counts", "").await;

    let start = Clock::System.now();
    let shared = Rc::new(Shared {
        end: start.plus(scale.duration),
        scale,
        known_sequence_number,
        written: RefCell::new(written),
        pairs: RefCell::default(),
        totals: RefCell::default(),
    });
    let callers: Vec<_> = (0..shared.scale.callers)
        .map(|number| tokio::task::spawn_local(call(number, port, Rc::clone(&shared))))
        .collect();
    write(&mut writer, &shared).await;
    for caller in callers {
        caller.await.expect("a caller that ends");
    }
    let report = counts.exchange("GET /__emulator/counts", "").await;
    conclude(&shared, report)
}

fn conclude(shared: &Shared, report: &str) -> ExitCode {
    let (_, report) = report.split_once("\r\n\r\n").expect("a body");
    let report: serde_json::Value = serde_json::from_str(report).expect("JSON");
    let gets = &report["requests"]["GET /kv/{key}"];
    let of = |status: &str| gets[status].as_u64().unwrap_or(0);
    let (bodies, validated) = (of("200"), of("304"));
    let asked: u64 = gets.as_object().expect("requests").values().filter_map(serde_json::Value::as_u64).sum();
    let (totals, pairs) = (shared.totals.borrow(), shared.pairs.borrow());
    let lifetimes = shared.scale.duration.as_secs().div_ceil(shared.scale.lifetime.as_secs());
    let states = pairs.iter().map(|(_, sequence_number)| sequence_number).collect::<HashSet<_>>().len();
    let least = pairs.len() as u64 + KEYS as u64 * lifetimes;
    let ratio = asked as f64 / least as f64;
    let changes = totals.changes;
    println!(
        "{} callers, {KEYS} keys, {} s, lifetime {} s, level session; {} answers, {changes} changes beside the sidecar",
        shared.scale.callers,
        shared.scale.duration.as_secs(),
        shared.scale.lifetime.as_secs(),
        totals.answers,
    );
    println!("  origin requests   {asked} ({bodies} with a body, {validated} answered 304)");
    println!(
        "  least             {least} = {} (key, sn) pairs of {states} states + {KEYS} keys × {lifetimes} lifetimes",
        pairs.len()
    );
    println!("  ratio             {ratio:.3}, at most {ALLOWED_RATIO}");
    println!("  bodies            {bodies}, at most {changes}, the changes");
    println!("  went back         {}, too old {}", totals.went_back, totals.too_old);
    let holds = ratio <= ALLOWED_RATIO
        && bodies <= changes
        && asked == bodies + validated
        && totals.went_back == 0
        && totals.too_old == 0;
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One change a second, beside the sidecar.
async fn write(writer: &mut Connection, shared: &Shared) {
    for number in 1_u64.. {
        sleep(Duration::from_secs(1)).await;
        if Clock::System.now() >= shared.end {
            return;
        }
        let key = usize::try_from(number * 37).unwrap_or_default() % KEYS;
        writer.put(key, number).await;
        shared.written.borrow_mut()[key].push((Clock::System.now(), number));
        shared.totals.borrow_mut().changes += 1;
    }
}

/// Reads one key after the other until the end.
async fn call(number: usize, port: u16, shared: Rc<Shared>) {
    let mut connection = Connection::open(port).await;
    let mut seen = [0_u64; KEYS];
    let mut key = number % KEYS;
    loop {
        let asked = Clock::System.now();
        if asked >= shared.end {
            return;
        }
        let (value, sequence_number) = {
            let answer = connection.exchange(&format!("GET {}", target(key)), "").await;
            (number_after(answer, "\"value\":\"v"), number_after(answer, ";sn="))
        };
        let mut totals = shared.totals.borrow_mut();
        totals.answers += 1;
        totals.went_back += u64::from(value < seen[key]);
        seen[key] = value;
        // The oldest that may still be shown is what was there a lifetime before the caller asked.
        let deadline = asked.minus(shared.scale.lifetime.saturating_add(SLACK));
        let due =
            shared.written.borrow()[key].iter().rev().find(|(when, _)| *when <= deadline).map(|(_, n)| *n);
        totals.too_old += u64::from(due.is_some_and(|due| value < due));
        if sequence_number != shared.known_sequence_number {
            shared.pairs.borrow_mut().insert((key, sequence_number));
        }
        key = (key + 1 + number % 7) % KEYS;
    }
}

fn target(key: usize) -> String {
    format!("/kv/load%2F{key}?api-version=2026-04-01")
}

fn number_after(text: &str, mark: &str) -> u64 {
    let digits = text.split_once(mark).map_or("", |(_, rest)| rest);
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_else(|_| panic!("no number after {mark}: {text}"))
}

/// One kept-alive connection.
struct Connection {
    stream: TcpStream,
    port: u16,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let stream = stream.unwrap_or_else(|error| panic!("{error}; is `ulimit -n` large enough?"));
        stream.set_nodelay(true).expect("a TCP connection");
        Self { stream, port, buffer: vec![0; 8 * 1024] }
    }

    async fn put(&mut self, key: usize, number: u64) {
        self.exchange(&format!("PUT {}", target(key)), &format!("{{\"value\":\"v{number}\"}}")).await;
    }

    /// Sends a request and reads its answer, which must be a success.
    async fn exchange(&mut self, request: &str, body: &str) -> &str {
        let message = format!(
            "{request} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        self.stream.write_all(message.as_bytes()).await.expect("a server that reads");
        let mut filled = 0;
        loop {
            let reading = self.stream.read(&mut self.buffer[filled..]);
            let read = timeout(Duration::from_secs(30), reading)
                .await
                .expect("an answer in time")
                .expect("an answer");
            assert!(read > 0, "closed before an answer to {request}");
            filled += read;
            let text = std::str::from_utf8(&self.buffer[..filled]).expect("text");
            let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
            assert!(head.starts_with("HTTP/1.1 2"), "{request}: {head}");
            let length = head.to_ascii_lowercase();
            let length = if length.contains("content-length: ") {
                number_after(&length, "content-length: ")
            } else {
                0
            };
            if rest.len() as u64 >= length {
                break;
            }
        }
        std::str::from_utf8(&self.buffer[..filled]).expect("text")
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A server of this binary; ended with this program.
struct Process(Child);

impl Process {
    /// Starts a server on two free ports; on others if somebody took one of them meanwhile.
    async fn start(arguments: impl Fn([u16; 2]) -> String) -> (Self, [u16; 2]) {
        for _ in 0..5 {
            let ports = [free_port(), free_port()];
            let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
            command.args(arguments(ports).split(' ')).env("TAGALONG_LIMITS__CONNECTIONS", "1100");
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary");
            let mut process = Self(child);
            while process.0.try_wait().expect("a child").is_none() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, ports[0])).await.is_ok()
                    && TcpStream::connect((Ipv4Addr::LOCALHOST, ports[1])).await.is_ok()
                {
                    return (process, ports);
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("does not start: {}", arguments([0, 0]))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already, if this fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
