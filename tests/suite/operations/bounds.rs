//! What the process spends on callers who have proven nothing, and on those who say nothing.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use tagalong::internals::clock::Clock;

use super::process::{Process, all, closed_address, connect, not_tried, output};

/// What one request may cost beyond its own bytes, its connection included.
const REQUEST_KIB: u64 = 4 * 1024;

/// A head of 60 KB whose signed names repeat, for a key that is known or not.
fn signs_a_field_often(id: &str) -> String {
    let names = "x;".repeat(14_000);
    let date = httpdate::fmt_http_date(Clock::System.now().to_system_time());
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
        let start = Clock::System.now();
        let mut probe = connect(process.operator);
        probe.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let answer = all(probe);
        slowest = slowest.max(Clock::System.now().since(start));
        assert!(answer.starts_with("HTTP/1.1 200 "), "round {round}: {answer}");
    }
    // 100 ms are the aim, on a machine that does nothing else.
    assert!(slowest < Duration::from_millis(900), "{slowest:?}: it waited for a deadline");
    drop(silent);
    process.signal("-TERM");
    process.ended();
}

/// Callers and the exchanges for them take every descriptor that there is, and more wait.
#[test]
#[cfg(target_os = "linux")]
fn the_operators_port_answers_when_callers_have_taken_all_descriptors() {
    const OPEN_FILES: usize = 256;
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = origin.local_addr().unwrap();
    let process = Process::start_with_open_files(OPEN_FILES, upstream, &["--set", "limits.connections=200"]);
    assert!(process.said_at_start.contains("raise that limit"), "{}", process.said_at_start);
    let mut held = Vec::new();
    for number in 0..2 * OPEN_FILES {
        let mut caller = connect(process.callers);
        // One over the limit may be closed already.
        let _over = write!(caller, "GET /{number} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        held.push(caller);
        if number % 16 > 0 {
            continue;
        }
        let mut probe = connect(process.operator);
        probe.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let answer = all(probe);
        assert!(answer.starts_with("HTTP/1.1 200 "), "after {number} callers: {answer}");
    }
    process.signal("-TERM");
    drop(held);
    let (_, log) = process.ended();
    assert!(!log.contains("\"listener\":\"admin\""), "the operator's port waited: {log}");
}

#[test]
fn a_secret_that_others_may_read_causes_a_warning_with_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    let with_mode = |name: &str, mode: u32| {
        let path = directory.path().join(name);
        std::fs::write(&path, "Id=known;Secret=c2VjcmV0\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    for (mode, is_told) in [(0o600, false), (0o640, true), (0o604, true)] {
        let keys = with_mode("keys", mode);
        let process = Process::start(closed_address(), &["--local-keys", &keys]);
        let told = process.said_at_start.matches(&format!("\"mode\":\"{mode:04o}\"")).count();
        assert_eq!(told, usize::from(is_told), "{}", process.said_at_start);
        process.signal("-TERM");
        process.ended();
    }
    let config = with_mode("config", 0o644);
    std::fs::write(&config, "[upstream]\ncredential = { kind = 'hmac', id = 'a', secret = 'c2VjcmV0' }\n")
        .unwrap();
    let process = Process::start(closed_address(), &["--config", &config]);
    assert!(process.said_at_start.contains("\"mode\":\"0644\""), "{}", process.said_at_start);
    process.signal("-TERM");
    process.ended();
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let fifo = fifo.display().to_string();
    for (path, because) in [(fifo.as_str(), "a FIFO"), ("/dev/zero", "a device")] {
        not_tried(&["check-config", "--config", path], because);
        for key in [
            "listener.local_keys_file",
            "listener.bearer_file",
            "admin.token_file",
            "upstream.credential.connection_string_file",
            "upstream.tls.ca_file",
        ] {
            let setting = format!("{key}={path}");
            let upstream = ["check-config", "--upstream", "https://127.0.0.1:9", "--profile", "generic"];
            not_tried(&[&upstream[..], &["--set", &setting]].concat(), because);
        }
        let pair = |file: &str| format!("listener.tls.{file}={path}");
        let (certificate, key) = (pair("certificate_file"), pair("key_file"));
        let upstream =
            ["check-config", "--upstream", "http://127.0.0.1:9", "--set", &certificate, "--set", &key];
        not_tried(&upstream, because);
    }
}

#[test]
fn secrets_in_the_wrong_place_are_masked_and_flags_take_none() {
    let upstream = ["check-config", "--upstream", "http://127.0.0.1:1"];
    for (more, is_valid) in [
        ("upstream.proxy=http://user:hunter2@127.0.0.1:3128", true),
        ("upstream.proxy=http://user:hun/ter?hunter2@127.0.0.1:3128", false),
        ("upstream.credential.secret=hunter2", false),
        ("upstream.credential.connection_string=Endpoint=http://a;Id=a;Secret=hunter2", false),
        ("upstream.credential.id=Endpoint=http://a;Id=a;Secret=hunter2", true),
        ("upstream.url=http://user:hunter2@127.0.0.1:1", false),
        ("upstream.url=Endpoint=http://a;Id=a;Secret=hunter2", false),
        ("http://user:hunter2@a", false),
    ] {
        let done = output(&[&upstream[..], &["--set", more]].concat());
        let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(!said.contains("hunter2"), "{said}");
        assert!(!is_valid || said.contains("***"), "{said}");
    }
}
