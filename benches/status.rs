//! What looking at a sidecar costs it: processor time without anybody asking, and with `/admin/status` asked once a second, as the page
//! on the operator's port and `tagalong top` do.
//!
//! ```text
//! cargo bench --bench status -- [SECONDS]
//! ```
//!
//! Two looks of 60 s each unless given. The time is that of all threads by the scheduler's count (`/proc/PID/task/*/schedstat`), so
//! that a clock tick of 10 ms does not hide it.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures time, prints, and stops at the first surprise"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_tagalong");

/// The most that one who looks may cost, as a part of one processor.
const TARGET_PERCENT: f64 = 0.1;

/// What is asked once a second; nothing at first.
const LOOKS: [Option<&str>; 2] = [None, Some("/admin/status")];

fn main() -> ExitCode {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(60);
    let (callers, operator) = (free_port(), free_port());
    let flags = format!(
        "run --listen 127.0.0.1:{callers} --admin-listen 127.0.0.1:{operator} --upstream http://127.0.0.1:{} \
         --profile app-configuration --credential none",
        free_port()
    );
    let mut sidecar = Command::new(BINARY)
        .args(flags.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary");
    while TcpStream::connect((Ipv4Addr::LOCALHOST, operator)).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Its first answers fill what is made once.
    (0..20).for_each(|_| drop(get(operator, "/admin/status")));
    let mut percents = Vec::new();
    for asked in LOOKS {
        let (before, began) = (processor_nanoseconds(sidecar.id()), Instant::now());
        for second in 1..=seconds {
            let answer = asked.map(|path| get(operator, path)).unwrap_or_default();
            assert!(asked.is_none() || answer.starts_with("HTTP/1.1 200 "), "{answer}");
            let next = Duration::from_secs(second);
            std::thread::sleep(next.saturating_sub(began.elapsed()));
        }
        let used = Duration::from_nanos(processor_nanoseconds(sidecar.id()) - before);
        let percent = 100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64();
        let what = asked.unwrap_or("nothing");
        println!(
            "{what:16} asked once a second for {seconds} s: {used:9.3?} of processor time, {percent:.4} %"
        );
        percents.push(percent);
    }
    sidecar.kill().expect("a child");
    sidecar.wait().expect("a child");
    let costs = percents[1] - percents[0];
    println!("who looks costs {costs:.4} % of a processor (target: at most {TARGET_PERCENT} %)");
    if costs <= TARGET_PERCENT { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the operator's port");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")
        .expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The time that all threads of a process have run.
fn processor_nanoseconds(process: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("Linux");
    let times = threads.map(|thread| {
        let text =
            std::fs::read_to_string(thread.expect("a thread").path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0)
    });
    times.sum()
}
