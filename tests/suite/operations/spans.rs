//! Spans: what a collector is sent by the program, and what the origin is told of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::process::{Process, connect};

/// Requests as a server received them: head and body.
type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A server that answers every request with 200.
fn serve() -> (SocketAddr, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = Received::default();
    let noted = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let noted = Arc::clone(&noted);
            std::thread::spawn(move || answer(stream, &noted));
        }
    });
    (address, received)
}

fn answer(stream: TcpStream, received: &Received) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or_default() == 0 {
                return;
            }
        }
        let length = field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        received.lock().unwrap().push((head, body));
        let answer =
            b"HTTP/1.1 200 OK\r\nETag: \"a\"\r\nCache-Control: max-age=60\r\nContent-Length: 1\r\n\r\nx";
        if reader.get_mut().write_all(answer).is_err() {
            return;
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
}

/// The head of the answer to a request.
fn get(stream: &mut TcpStream, target: &str, traceparent: Option<&str>) -> String {
    let traceparent = traceparent.map(|value| format!("traceparent: {value}\r\n")).unwrap_or_default();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{traceparent}\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let mut body = [0];
    reader.read_exact(&mut body).unwrap();
    head
}

#[cfg(feature = "otlp")]
fn occurrences(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).filter(|window| *window == wanted).count()
}

/// The bytes of a number in hexadecimal.
#[cfg(feature = "otlp")]
fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[cfg(feature = "otlp")]
#[test]
fn a_collector_gets_the_spans_of_origin_requests_and_of_sampled_callers_alone() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const CALLER: &str = "b7ad6b7169203331";
    const UNSAMPLED: &str = "00-11111111111111111111111111111111-2222222222222222-00";
    let (origin, asked) = serve();
    let (collector, sent) = serve();
    let endpoint = format!("tracing.endpoint=http://{collector}");
    let process = Process::start(origin, &["--profile", "generic", "--set", &endpoint]);
    let mut caller = connect(process.callers);
    let sampled = format!("00-{TRACE}-{CALLER}-01");
    assert!(get(&mut caller, "/missed", Some(&sampled)).contains("fwd=uri-miss"));
    assert!(get(&mut caller, "/missed", Some(&sampled)).contains("; hit;"));
    assert!(get(&mut caller, "/missed", None).contains("; hit;"));
    assert!(get(&mut caller, "/unsampled", Some(UNSAMPLED)).contains("fwd=uri-miss"));
    assert!(get(&mut caller, "/untraced", None).contains("fwd=uri-miss"));
    process.signal("-TERM");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");

    let traceparents: Vec<_> =
        asked.lock().unwrap().iter().map(|(head, _)| field(head, "traceparent").map(str::to_owned)).collect();
    let [Some(of_missed), Some(of_unsampled), Some(of_untraced)] = &traceparents[..] else {
        panic!("{traceparents:?}");
    };
    // Of the same trace, by a span of the sidecar.
    assert!(of_missed.starts_with(&format!("00-{TRACE}-")) && of_missed.ends_with("-01"), "{of_missed}");
    assert!(!of_missed.contains(CALLER), "{of_missed}");
    assert_eq!(of_unsampled, UNSAMPLED);
    assert!(of_untraced.ends_with("-01"), "{of_untraced}");

    let sent = sent.lock().unwrap();
    let (head, _) = sent.first().expect("spans at the end of the process, at the latest");
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let spans: Vec<u8> = sent.iter().flat_map(|(_, body)| body.iter().copied()).collect();
    // The caller's miss, the origin's part in it, the caller's hit, and the origin's part in what no trace asked for.
    assert_eq!(occurrences(&spans, b"http.request.method"), 4);
    assert_eq!(occurrences(&spans, &bytes(TRACE)), 3);
    assert_eq!(occurrences(&spans, &bytes(CALLER)), 2, "the parent of the caller's requests");
    assert_eq!(occurrences(&spans, b"/missed"), 3);
    assert_eq!(occurrences(&spans, b"/untraced"), 1);
    assert_eq!(occurrences(&spans, b"/unsampled"), 0);
    assert_eq!(occurrences(&spans, b"uri-miss") + occurrences(&spans, b"\x03hit"), 2);
    let span = of_missed.split('-').nth(2).unwrap();
    assert_eq!(occurrences(&spans, &bytes(span)), 1, "the origin's parent is the client span");
    let root = of_untraced.split('-').nth(1).unwrap();
    assert_eq!(occurrences(&spans, &bytes(root)), 1);
}

#[cfg(feature = "otlp")]
#[test]
fn a_collector_that_is_away_costs_no_answer() {
    let (origin, _) = serve();
    let endpoint = format!("tracing.endpoint=http://{}", super::process::closed_address());
    let process = Process::start(origin, &["--profile", "generic", "--set", &endpoint]);
    let mut caller = connect(process.callers);
    assert!(get(&mut caller, "/a", None).contains("fwd=uri-miss"));
    process.signal("-TERM");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("spans were not sent; see whether the collector runs at tracing.endpoint"), "{log}");
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_program_without_spans_refuses_a_collector_and_passes_the_trace_on() {
    super::process::not_tried(
        &["run", "--upstream", "http://127.0.0.1:9", "--set", "tracing.endpoint=http://127.0.0.1:4318"],
        "--features otlp",
    );
    let (origin, asked) = serve();
    let process = Process::start(origin, &["--profile", "generic"]);
    let sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    get(&mut connect(process.callers), "/a", Some(sampled));
    assert_eq!(field(&asked.lock().unwrap()[0].0, "traceparent"), Some(sampled));
}
