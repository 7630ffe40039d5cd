//! The cost of a sidecar without load: time from `exec` to its first 200, memory when idle, size of the binary.
//!
//! ```text
//! cargo bench --bench start
//! ```
//!
//! The origin is a thread of this program that speaks plain HTTP, so that no root certificates are read. The starts without an origin
//! answer from a snapshot: where nothing listens at its address, where its name cannot be resolved, and where nothing listens at the
//! address of the issuer of tokens.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures time, prints, and stops at the first surprise"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use tagalong::Absent;
use tagalong::internals::clock::Clock;
use tagalong::internals::seal::key::{SealingKey, SealingPurpose};
use tagalong::internals::snapshot::contents;
use tagalong::internals::snapshot::header::SnapshotSource;
use tagalong::internals::snapshot::record::write_stored;
use tagalong::internals::stored_response::{CacheKey, StoredResponse};

const BINARY: &str = env!("CARGO_BIN_EXE_tagalong");
const STARTS: usize = 31;

const TARGET_FIRST_ANSWER_MS: f64 = 10.0;
const TARGET_MIB: f64 = 8.0;
const TARGET_OFFLINE_MS: f64 = 20.0;

fn main() -> ExitCode {
    let origin_port = serve_origin();
    let mut milliseconds = Vec::new();
    let mut idle_mib = Vec::new();
    for _ in 0..STARTS {
        let (mut sidecar, took) = start(&format!("http://127.0.0.1:{origin_port}"), "");
        milliseconds.push(took.as_secs_f64() * 1_000.0);
        // The allocator has returned the memory of the start by then.
        std::thread::sleep(Duration::from_millis(50));
        idle_mib.push(pss_mib(sidecar.id()));
        sidecar.kill().expect("a child");
        sidecar.wait().expect("a child");
    }
    let nowhere = format!("http://127.0.0.1:{}/", free_port());
    let issuer = format!(
        "--set upstream.credential.kind=entra --set upstream.credential.authority=http://127.0.0.1:{} \
         --set upstream.credential.tenant_id=tenant --set upstream.credential.client_id=client \
         --set upstream.credential.audience=https://origin.invalid",
        free_port()
    );
    let offline = [
        offline(&nowhere, "forward", ""),
        offline("http://origin.invalid/", "forward", ""),
        offline(&nowhere, "entra tenant client", &issuer),
    ];
    let bytes = std::fs::metadata(BINARY).expect("built").len();
    let found = [
        ("exec to the first 200, milliseconds", median(milliseconds), TARGET_FIRST_ANSWER_MS),
        ("the same without the origin, milliseconds", offline[0], TARGET_OFFLINE_MS),
        ("the same without name resolution", offline[1], TARGET_OFFLINE_MS),
        ("the same without the issuer", offline[2], TARGET_OFFLINE_MS),
        ("idle PSS, MiB", median(idle_mib), TARGET_MIB),
        ("binary, MiB", bytes as f64 / f64::from(1 << 20), TARGET_MIB),
    ];
    for (what, found, target) in found {
        println!("{what:42} {found:6.2} (target: at most {target})");
    }
    let within_targets = found.iter().all(|(_, found, target)| found <= target);
    if within_targets { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Answers every connection's first read with a 200, and closes.
fn serve_origin() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _request = stream.read(&mut [0; 8 * 1024]);
            let _written = stream.write_all(
                b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
            );
        }
    });
    port
}

/// Starts a sidecar and asks until it answers.
fn start(upstream: &str, more: &str) -> (Child, Duration) {
    let port = free_port();
    let flags = format!(
        "run --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{} --upstream {upstream} \
         --profile generic {more}",
        free_port()
    );
    let began = Instant::now();
    let mut sidecar = Command::new(BINARY)
        .args(flags.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    while !answers(port) {
        if began.elapsed() > Duration::from_secs(10) {
            sidecar.kill().expect("a child");
            sidecar.wait().expect("a child");
            panic!("no answer within 10 s: run {BINARY} {flags}");
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    (sidecar, began.elapsed())
}

/// How long starts take that answer from a snapshot: of an upstream with this URL, asked under this identity.
fn offline(url: &str, identity: &str, more: &str) -> f64 {
    let directory = tempfile::tempdir().expect("a directory");
    let (snapshot, key_file) = (directory.path().join("snapshot"), directory.path().join("keys/key"));
    let secret = directory.path().join("keys/secret");
    std::fs::create_dir(directory.path().join("keys")).expect("a directory");
    std::fs::write(&secret, "made-up").expect("a file");
    write_snapshot(&snapshot, &key_file, url, identity);
    let mut flags =
        format!("--snapshot-file {} --snapshot-key-file {}", snapshot.display(), key_file.display());
    if !more.is_empty() {
        flags += &format!(" {more} --set upstream.credential.client_secret_file={}", secret.display());
    }
    let mut milliseconds = Vec::new();
    for _ in 0..STARTS {
        let (mut sidecar, took) = start(url, &flags);
        milliseconds.push(took.as_secs_f64() * 1_000.0);
        sidecar.kill().expect("a child");
        sidecar.wait().expect("a child");
    }
    median(milliseconds)
}

fn write_snapshot(path: &Path, key_file: &Path, url: &str, identity: &str) {
    let key = SealingKey::from_file(key_file, SealingPurpose::Snapshot, Absent::Create)
        .expect("a key")
        .expect("created");
    let now = Clock::System.now();
    let source = SnapshotSource {
        name: "main".to_owned(),
        url: url.to_owned(),
        profile: "generic guarded".to_owned(),
        identity: identity.to_owned(),
    };
    let partition = if identity == "forward" { "anonymous" } else { "" };
    let key_of = CacheKey::new("main", partition, "/a");
    let response = StoredResponse {
        response_time: now,
        request_time: now,
        body: "ok".into(),
        ..StoredResponse::default()
    };
    let file = std::fs::File::create(path).expect("a file");
    contents::write(file, &key, (1, now), vec![source], |out| write_stored(0, &key_of, &response, out))
        .expect("a snapshot");
}

/// Whether a process listens on the port. It must then answer 200.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").expect("it reads");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("it answers");
    assert_eq!(&head, b"HTTP/1.1 200");
    true
}

/// The proportional set size of a process: shared pages count in proportion.
fn pss_mib(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a sum");
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib / 1024.0
}
