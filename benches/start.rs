//! The cost of a sidecar without load: time from `exec` to its first 200, memory when idle, size of the binary.
//!
//! ```text
//! cargo bench --bench start
//! ```
//!
//! The origin is a thread of this program that speaks plain HTTP, so that no root certificates are read.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures time, prints, and stops at the first surprise"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_tagalong");
const STARTS: usize = 31;

const TARGET_FIRST_ANSWER_MS: f64 = 10.0;
const TARGET_MIB: f64 = 8.0;

fn main() -> ExitCode {
    let origin_port = serve_origin();
    let mut milliseconds = Vec::new();
    let mut idle_mib = Vec::new();
    for _ in 0..STARTS {
        let (mut sidecar, took) = start(origin_port);
        milliseconds.push(took.as_secs_f64() * 1_000.0);
        // The allocator has returned the memory of the start by then.
        std::thread::sleep(Duration::from_millis(50));
        idle_mib.push(pss_mib(sidecar.id()));
        sidecar.kill().expect("a child");
        sidecar.wait().expect("a child");
    }
    let bytes = std::fs::metadata(BINARY).expect("built").len();
    let found = [
        ("exec to the first 200, milliseconds", median(milliseconds), TARGET_FIRST_ANSWER_MS),
        ("idle PSS, MiB", median(idle_mib), TARGET_MIB),
        ("binary, MiB", bytes as f64 / f64::from(1 << 20), TARGET_MIB),
    ];
    for (what, found, target) in found {
        println!("{what:38} {found:6.2} (target: at most {target})");
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
fn start(origin_port: u16) -> (Child, Duration) {
    let port = free_port();
    let flags = format!(
        "run --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{} --upstream http://127.0.0.1:{origin_port} \
         --profile generic",
        free_port()
    );
    let began = Instant::now();
    let mut sidecar = Command::new(BINARY)
        .args(flags.split(' '))
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
