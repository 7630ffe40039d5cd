//! What the process spends on callers who have proven nothing, and on those who say nothing.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::process::{Process, all, closed_address, connect};

/// What one request may cost beyond its own bytes, its connection included.
const REQUEST_KIB: u64 = 4 * 1024;

/// A head of 60 KB whose signed names repeat, for a key that is known or not.
fn signs_a_field_often(id: &str) -> String {
    let names = "x;".repeat(14_000);
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    format!(
        "GET /kv/a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nx-ms-date: {date}\r\nx-ms-content-sha256: {hash}\r\n\
         x: {}\r\nAuthorization: HMAC-SHA256 Credential={id}&Signature={hash}&\
         SignedHeaders={names}x-ms-date;host;x-ms-content-sha256\r\n\r\n",
        "v".repeat(30_000)
    )
}

#[test]
#[cfg(target_os = "linux")]
fn an_unproven_signature_costs_no_more_memory_than_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "Id=known;Secret=c2VjcmV0\n").unwrap();
    let keys = format!("listener.local_keys_file={}", keys.display());
    let process = Process::start(closed_address(), &["--set", &keys]);
    let before = process.peak_kib();
    for id in ["unknown", "known"] {
        let mut caller = connect(process.callers);
        caller.write_all(signs_a_field_often(id).as_bytes()).unwrap();
        let answer = all(caller);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        let grown = process.peak_kib() - before;
        assert!(grown < REQUEST_KIB, "{id}: {grown} KiB");
    }
    process.signal("-TERM");
    process.ended();
}

#[test]
fn the_operators_port_answers_however_many_connections_say_nothing() {
    let process = Process::start(closed_address(), &[]);
    let mut silent: Vec<TcpStream> = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..20 {
        for number in 0..20 {
            let mut stream = connect(process.operator);
            if number % 2 == 0 {
                // Some begin a request, and say no more.
                let _gave_way = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: ");
            }
            silent.push(stream);
        }
        let start = Instant::now();
        let mut probe = connect(process.operator);
        probe.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let answer = all(probe);
        slowest = slowest.max(start.elapsed());
        assert!(answer.starts_with("HTTP/1.1 200 "), "round {round}: {answer}");
    }
    // 100 ms are the aim, on a machine that does nothing else.
    assert!(slowest < Duration::from_millis(900), "{slowest:?}: it waited for a deadline");
    drop(silent);
    process.signal("-TERM");
    process.ended();
}
