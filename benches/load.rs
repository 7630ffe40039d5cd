//! What an origin is asked while many callers read through one sidecar and its sequence numbers rise by themselves.
//!
//! ```text
//! cargo bench --bench load                 every scenario as it is named, three minutes
//! cargo bench --bench load -- --short      the same with shorter intervals, half a minute
//! cargo bench --bench load -- --report     prints, and fails for nothing that is over its bound
//! ```
//!
//! The emulator and the sidecar of each scenario are processes of their own, at level `session`; all scenarios run at the
//! same time. The key-values are older than the sidecar. Requests look like those of an SDK: each has a request id of its own. The emulator's `sn` drifts 1.25 a second.
//!
//! **The least.** A key that is read all the time must be asked for, whoever decides, once when it is first read, once in
//! each further freshness lifetime, and once after each change to it. What the emulator was asked, by its own
//! `/__emulator/counts`, writes left out, must stay within the bound.
//!
//! | scenario | keys | bound |
//! |---|---|---|
//! | `forty`, `forty-tokens` | 40, one read a second each, freshness 10 s, callers without tokens and with | 1.15 × the least and the first round |
//! | `hundred` | 100, one read a second each, freshness 30 s, three minutes | 1.1 × |
//! | `lists-through`, `lists-beside` | 100, 20 callers who poll a list each freshness, one write every 2 s through the sidecar or beside it, two minutes | 1.1 × the least singly |
//! | `outside-change` | 100, one change beside the sidecar that one caller looks at with `no-cache`, within one freshness | one validation a key, and the look |

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and stops at the first surprise"
)]

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

#[derive(Clone, Copy, PartialEq)]
enum Writes {
    None,
    Through,
    Beside,
    /// One change beside the sidecar, in the middle.
    Once,
}

#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    keys: usize,
    callers: usize,
    freshness: Duration,
    duration: Duration,
    /// How often each key is read, by one caller or another.
    read_every: Duration,
    /// Whether callers return the last `Sync-Token` that they were given.
    returns_tokens: bool,
    polls_lists: bool,
    writes: Writes,
    write_every: Duration,
    allowed_ratio: f64,
    /// Requests that are allowed beyond: the first round, or the look at a change.
    allowed_more: usize,
}

const SECOND: Duration = Duration::from_secs(1);

const PLAIN: Scenario = Scenario {
    name: "forty",
    keys: 40,
    callers: 4,
    freshness: Duration::from_secs(10),
    duration: Duration::from_secs(60),
    read_every: SECOND,
    returns_tokens: false,
    polls_lists: false,
    writes: Writes::None,
    write_every: Duration::from_secs(2),
    allowed_ratio: 1.15,
    allowed_more: 40,
};
const HUNDRED: Scenario = Scenario {
    name: "hundred",
    keys: 100,
    freshness: Duration::from_secs(30),
    duration: Duration::from_secs(180),
    allowed_ratio: 1.1,
    allowed_more: 0,
    ..PLAIN
};
const LISTS: Scenario = Scenario {
    name: "lists-beside",
    callers: 20,
    duration: Duration::from_secs(120),
    polls_lists: true,
    writes: Writes::Beside,
    ..HUNDRED
};
const SCENARIOS: [Scenario; 6] = [
    PLAIN,
    Scenario { name: "forty-tokens", returns_tokens: true, ..PLAIN },
    HUNDRED,
    LISTS,
    Scenario { name: "lists-through", writes: Writes::Through, ..LISTS },
    Scenario {
        name: "outside-change",
        duration: Duration::from_secs(25),
        writes: Writes::Once,
        allowed_ratio: 1.0,
        allowed_more: 1,
        ..HUNDRED
    },
];

impl Scenario {
    /// The same with every interval a fifth as long, save the second of a write; keys are still read several times a lifetime.
    fn shortened(self) -> Self {
        Self {
            freshness: (self.freshness / 5).max(Duration::from_secs(2)),
            duration: (self.duration / 5).min(Duration::from_secs(24)),
            read_every: self.read_every / 2,
            write_every: self.write_every / 2,
            ..self
        }
    }
}

/// What the callers and the writer of a scenario share; they run on one thread.
struct Shared {
    scenario: Scenario,
    port: u16,
    over: Cell<bool>,
    requests: Cell<u64>,
    changes: Cell<u64>,
    went_back: Cell<u64>,
    newest: RefCell<Vec<u64>>,
}

fn main() -> ExitCode {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let (short, report) = (has("--short"), has("--report"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let held = runtime.block_on(LocalSet::new().run_until(async {
        let running = SCENARIOS.map(|scenario| {
            let scenario = if short { scenario.shortened() } else { scenario };
            tokio::task::spawn_local(measure(scenario))
        });
        let mut held = true;
        for scenario in running {
            held &= scenario.await.expect("a scenario that ends");
        }
        held
    }));
    if held || report { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a scenario, prints what was found, and says whether it is within its bound.
async fn measure(scenario: Scenario) -> bool {
    let seed = seed(scenario.keys);
    let (_emulator, [origin_port, origin_admin_port]) = Process::start(|[port, admin_port]| {
        format!(
            "emulator --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin_port} --drift 1.25 --seed {}",
            seed.path().display()
        )
    })
    .await;
    let (_sidecar, [port, _]) = Process::start(|[port, admin_port]| {
        format!(
            "run --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin_port} --upstream http://127.0.0.1:{origin_port} \
             --profile app-configuration --credential none --consistency session --freshness {}s",
            scenario.freshness.as_secs()
        )
    })
    .await;
    let beside = Connection::open(origin_port, false).await;
    let shared = Rc::new(Shared {
        scenario,
        port,
        over: Cell::new(false),
        requests: Cell::new(0),
        changes: Cell::new(0),
        went_back: Cell::new(0),
        newest: RefCell::new(vec![0; scenario.keys]),
    });
    if scenario.writes == Writes::Once {
        // All keys are in use, and validated not long ago, before the change: what follows it is its doing.
        let mut reader = Connection::open(port, false).await;
        for key in 0..scenario.keys {
            reader.get(&target(key)).await;
        }
    }
    let mut counts = Connection::open(origin_admin_port, false).await;
    counts.exchange("DELETE /__emulator/counts", "").await;
    let callers: Vec<_> = (0..scenario.callers)
        .map(|number| tokio::task::spawn_local(call(number, Rc::clone(&shared))))
        .collect();
    let through = Connection::open(port, false).await;
    let writer = if scenario.writes == Writes::Through { through } else { beside };
    let writer = tokio::task::spawn_local(write(writer, Rc::clone(&shared)));
    sleep(scenario.duration).await;
    shared.over.set(true);
    for caller in callers {
        caller.await.expect("a caller that ends");
    }
    writer.await.expect("a writer that ends");
    let report = counts.exchange("GET /__emulator/counts", "").await;
    conclude(&shared, &report)
}

fn conclude(shared: &Shared, report: &str) -> bool {
    let scenario = shared.scenario;
    let (_, report) = report.split_once("\r\n\r\n").expect("a body");
    let report: serde_json::Value = serde_json::from_str(report).expect("JSON");
    let of = |kind: &str| {
        let statuses = report["requests"][kind].as_object();
        statuses
            .into_iter()
            .flat_map(|statuses| statuses.values())
            .filter_map(serde_json::Value::as_u64)
            .sum::<u64>()
    };
    let (singles, lists) = (of("GET /kv/{key}"), of("GET /kv"));
    let asked = singles + lists;
    let lifetimes = scenario.duration.as_millis().div_ceil(scenario.freshness.as_millis());
    let rounds = u64::try_from(lifetimes).expect("a few");
    let keys = scenario.keys as u64;
    let least = if scenario.writes == Writes::Once { keys } else { keys * rounds + shared.changes.get() };
    let ratio = asked as f64 / least as f64;
    let bound = scenario.allowed_ratio * least as f64 + scenario.allowed_more as f64;
    // A change that nobody was shown would cost nothing, and prove nothing.
    let is_shown = scenario.writes != Writes::Once || shared.newest.borrow().contains(&1);
    let held =
        asked as f64 <= bound && is_shown && shared.went_back.get() == 0 && shared.requests.get() > asked;
    println!(
        "{:<15} {asked} origin requests ({lists} of lists) for {} of {} callers; least {least}; ratio {ratio:.3}; bound {bound:.0}; \
         {} changes; {} went back; {}",
        scenario.name,
        shared.requests.get(),
        scenario.callers,
        shared.changes.get(),
        shared.went_back.get(),
        if held { "held" } else { "NOT HELD" },
    );
    held
}

async fn write(mut writer: Connection, shared: Rc<Shared>) {
    let scenario = shared.scenario;
    let every = match scenario.writes {
        Writes::None => return,
        Writes::Once => scenario.duration / 2,
        Writes::Through | Writes::Beside => scenario.write_every,
    };
    for number in 1_u64.. {
        sleep(every).await;
        if shared.over.get() || (scenario.writes == Writes::Once && number > 1) {
            return;
        }
        let key = usize::try_from(number * 37).unwrap_or_default() % scenario.keys;
        writer.put(key, number).await;
        shared.changes.set(shared.changes.get() + 1);
        if scenario.writes == Writes::Once {
            let mut looker = Connection::open(shared.port, false).await;
            let look = format!("GET {} HTTP/1.1\r\nCache-Control: no-cache", target(key));
            looker.exchange_lines(&look, "").await;
        }
    }
}

/// Reads this caller's share of the keys, one after the other, so that each key is read in its interval; and polls the list.
async fn call(number: usize, shared: Rc<Shared>) {
    let scenario = shared.scenario;
    let own: Vec<usize> = (0..scenario.keys).filter(|key| key % scenario.callers == number).collect();
    let mut connection = Connection::open(shared.port, scenario.returns_tokens).await;
    let pause = scenario.read_every / u32::try_from(own.len()).expect("a few keys");
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reads_a_poll = scenario.freshness.as_nanos() / pause.as_nanos();
    // Each caller's polls begin at another time.
    let offset = reads_a_poll * number as u128 / scenario.callers as u128;
    for step in 0_usize.. {
        ticks.tick().await;
        if shared.over.get() {
            return;
        }
        if scenario.polls_lists && (step as u128 + offset).is_multiple_of(reads_a_poll) {
            connection.get("/kv?key=load%2F*&api-version=2026-04-01").await;
            shared.requests.set(shared.requests.get() + 1);
        }
        let key = own[step % own.len()];
        let value = number_after(&connection.get(&target(key)).await, "\"value\":\"v");
        shared.requests.set(shared.requests.get() + 1);
        let mut newest = shared.newest.borrow_mut();
        shared.went_back.set(shared.went_back.get() + u64::from(value < newest[key]));
        newest[key] = value;
    }
}

/// Key-values that are older than the sidecar, as most of a store are.
fn seed(keys: usize) -> NamedTempFile {
    let items: Vec<_> = (0..keys)
        .map(|key| {
            serde_json::json!({
                "key": format!("load/{key}"), "label": null, "value": "v0", "content_type": null, "tags": {},
                "locked": false, "last_modified": "2026-01-01T00:00:00+00:00"
            })
        })
        .collect();
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(serde_json::json!({ "items": items }).to_string().as_bytes()).expect("room for it");
    file
}

fn target(key: usize) -> String {
    format!("/kv/load%2F{key}?api-version=2026-04-01")
}

fn number_after(text: &str, mark: &str) -> u64 {
    let digits = text.split_once(mark).map_or("", |(_, rest)| rest);
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_else(|_| panic!("no number after {mark}: {text}"))
}

/// One kept-alive connection of an SDK.
struct Connection {
    stream: TcpStream,
    port: u16,
    buffer: Vec<u8>,
    returns_tokens: bool,
    /// The last token given, as `id=value`.
    token: String,
    sent: u64,
}

impl Connection {
    async fn open(port: u16, returns_tokens: bool) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("a listener");
        stream.set_nodelay(true).expect("a TCP connection");
        Self { stream, port, buffer: vec![0; 256 * 1024], returns_tokens, token: String::new(), sent: 0 }
    }

    async fn put(&mut self, key: usize, number: u64) {
        self.exchange(&format!("PUT {}", target(key)), &format!("{{\"value\":\"v{number}\"}}")).await;
    }

    async fn get(&mut self, target: &str) -> String {
        self.exchange(&format!("GET {target}"), "").await
    }

    /// Sends a request as an SDK does, and reads its answer, which must be a success.
    async fn exchange(&mut self, request: &str, body: &str) -> String {
        self.exchange_lines(&format!("{request} HTTP/1.1"), body).await
    }

    /// The same, with the request line whole and fields after it.
    async fn exchange_lines(&mut self, request: &str, body: &str) -> String {
        self.sent += 1;
        let local = self.stream.local_addr().expect("a TCP connection").port();
        let token = if self.returns_tokens && !self.token.is_empty() {
            format!("Sync-Token: {}\r\n", self.token)
        } else {
            String::new()
        };
        let content = if body.is_empty() {
            String::new()
        } else {
            format!(
                "Content-Type: application/vnd.microsoft.appconfig.kv+json\r\nContent-Length: {}\r\n",
                body.len()
            )
        };
        let message = format!(
            "{request}\r\nHost: 127.0.0.1:{}\r\n\
             Accept: application/vnd.microsoft.appconfig.kv+json, application/problem+json\r\n\
             User-Agent: azsdk-python-appconfiguration/1.10.0 Python/3.13 (Linux)\r\n\
             x-ms-client-request-id: {:08x}-{local:04x}-4000-8000-{:012x}\r\nx-ms-return-client-request-id: true\r\n\
             {token}{content}\r\n{body}",
            self.port,
            std::process::id(),
            self.sent
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
            let lower = head.to_ascii_lowercase();
            let length =
                if lower.contains("content-length: ") { number_after(&lower, "content-length: ") } else { 0 };
            if rest.len() as u64 >= length {
                if let Some(line) = lower.find("sync-token: ") {
                    let value = &head[line + "sync-token: ".len()..];
                    self.token = value.split(';').next().unwrap_or_default().to_owned();
                }
                return text.to_owned();
            }
        }
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
            command.args(arguments(ports).split(' '));
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
