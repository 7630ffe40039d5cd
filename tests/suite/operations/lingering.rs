//! A caller that sends more than it may reads why, over a real socket: its connection is not reset under its answer (RFC 9112 §9.6).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::process::{Process, all, closed_address, connect};

/// More than the buffers of the system on both sides hold.
const BODY_BYTES: usize = 24 << 20;

static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// An origin that reads what it is sent and never answers.
fn silent_origin() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || std::io::copy(&mut { stream }, &mut std::io::sink()));
        }
    });
    address
}

/// Sends a head and a whole body before it reads anything, as simple clients do. Returns the answer.
fn sent_whole(process: &Process, head: &str, send_body: impl FnOnce(&mut TcpStream)) -> String {
    let mut caller = connect(process.callers);
    write!(caller, "{head}\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    send_body(&mut caller);
    all(caller)
}

fn plain(caller: &mut TcpStream) {
    for _ in 0..BODY_BYTES / PIECE.len() {
        caller.write_all(&PIECE).unwrap();
    }
}

fn chunked(caller: &mut TcpStream) {
    for _ in 0..BODY_BYTES / PIECE.len() {
        write!(caller, "{:x}\r\n", PIECE.len()).unwrap();
        caller.write_all(&PIECE).unwrap();
        caller.write_all(b"\r\n").unwrap();
    }
    caller.write_all(b"0\r\n\r\n").unwrap();
}

fn is_too_large(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("limits.request_body") && answer.contains("connection: close"), "{answer}");
}

#[test]
fn a_body_over_the_limit_gets_its_413() {
    let process = Process::start(silent_origin(), &["--profile", "generic"]);
    is_too_large(&sent_whole(&process, &format!("POST /a HTTP/1.1\r\nContent-Length: {BODY_BYTES}"), plain));
    is_too_large(&sent_whole(&process, "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked", chunked));
}

#[test]
fn a_body_that_is_refused_unread_gets_its_refusal() {
    let process = Process::start(closed_address(), &["--set", "upstream.read_only=true"]);
    let head = format!("POST /a HTTP/1.1\r\nContent-Length: {BODY_BYTES}");
    let answer = sent_whole(&process, &head, plain);
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[test]
fn a_caller_that_asks_first_is_not_told_to_continue() {
    let process = Process::start(closed_address(), &[]);
    let head = format!("POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {BODY_BYTES}");
    is_too_large(&sent_whole(&process, &head, |_| {}));
}

#[test]
fn what_a_caller_may_go_on_sending_is_bounded() {
    let process = Process::start(closed_address(), &[]);
    let mut caller = connect(process.callers);
    write!(caller, "POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n").unwrap();
    let mut sent_bytes = 0_usize;
    let ended = loop {
        match caller.write(&PIECE) {
            Ok(written_bytes) => sent_bytes += written_bytes,
            Err(error) => break error.kind(),
        }
        assert!(sent_bytes < 256 << 20, "it would go on for ever");
    };
    assert!(matches!(ended, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{ended}");
}

#[test]
fn a_caller_that_stops_sending_does_not_wait() {
    let process = Process::start(closed_address(), &[]);
    let mut caller = connect(process.callers);
    write!(caller, "POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {BODY_BYTES}\r\n\r\n").unwrap();
    caller.write_all(&PIECE).unwrap();
    let mut answer = String::new();
    // The sidecar has closed its sending side at once.
    caller.read_to_string(&mut answer).unwrap();
    is_too_large(&answer);
    caller.shutdown(Shutdown::Both).unwrap();
    // And a caller that reuses nothing is served as before.
    let mut next = connect(process.callers);
    write!(next, "GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    assert!(all(next).starts_with("HTTP/1.1 504 "));
}
