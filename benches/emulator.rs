//! Whether the emulator can be the bottleneck: requests per second of CPU of the serving thread, beside those of a bare hyper server
//! that answers the same number of bytes: `cargo bench --bench emulator`. The emulator must reach at least half on `GET
//! /kv/{key}` with 10,000 key-values.
//!
//! CPU time is read from `/proc`, so this runs on Linux only.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark prints its result and ends at the first failure"
)]

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tagalong::internals::clock::Clock;
use tagalong::internals::emulator::counts::Counts;
use tagalong::internals::emulator::faults::act::Faults;
use tagalong::internals::emulator::faults::document::PlanDocument;
use tagalong::internals::emulator::seed::parse_seed;
use tagalong::internals::emulator::serve::serve;
use tagalong::internals::emulator::service::Service;
use tagalong::internals::emulator::{Emulator, EmulatorSettings};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const KEY_VALUES: usize = 10_000;
const CONNECTIONS: usize = 8;
const REQUESTS_PER_CONNECTION: usize = 40_000;
/// `/proc/…/stat` counts CPU time in hundredths of a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() {
    let content = Bytes::from(vec![b'x'; 230]);
    let bare = measure(
        |number| format!("/kv/app:key{number:05}?api-version=2026-04-01"),
        async move |listener| {
            serve_bare(listener, content).await;
        },
    );
    let emulator = emulator();
    println!("bare hyper                    {bare:>9.0} requests per CPU second");
    for (name, target) in [
        (
            "GET /kv/{key}",
            (|number| format!("/kv/app:key{number:05}?api-version=2026-04-01")) as fn(usize) -> String,
        ),
        ("GET /kv?key=prefix*, 1 item", |number| {
            format!("/kv?api-version=2026-04-01&key=app:key{number:05}*")
        }),
        ("GET /kv?key=prefix*, 100 items", |number| {
            format!("/kv?api-version=2026-04-01&key=app:key{:03}*", number / 100)
        }),
    ] {
        let emulator = emulator.clone();
        let rate = measure(target, async move |listener| serve_emulator(listener, emulator).await);
        println!("{name:<29} {rate:>9.0} requests per CPU second, {:>5.2} of bare hyper", rate / bare);
    }
}

fn emulator() -> Emulator {
    let items: Vec<String> = (0..KEY_VALUES)
        .map(|number| format!("{{\"key\":\"app:key{number:05}\",\"value\":\"value {number}\",\"tags\":{{\"env\":\"prod\"}}}}"))
        .collect();
    let emulator = Emulator::new(EmulatorSettings::default(), Clock::System, 1);
    emulator.seed(parse_seed(format!("{{\"items\":[{}]}}", items.join(",")).as_bytes()).unwrap()).unwrap();
    emulator
}

async fn serve_bare(listener: TcpListener, content: Bytes) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let content = content.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |_: Request<Incoming>| {
                let content = content.clone();
                async move { Ok::<_, Infallible>(Response::new(Full::new(content))) }
            });
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await
        });
    }
}

async fn serve_emulator(listener: TcpListener, emulator: Emulator) {
    let faults = Arc::new(Faults::new(PlanDocument::default(), 1));
    let service = Service::new(emulator, faults, Arc::new(Counts::default()), Clock::System);
    let answer = move |request| {
        let service = service.clone();
        async move { service.answer(request).await }
    };
    serve(listener, CancellationToken::new(), answer).await;
}

/// Requests per CPU second of a server that runs on a thread of its own.
fn measure<S>(target: impl Fn(usize) -> String + Copy + Send, server: S) -> f64
where
    S: AsyncFnOnce(TcpListener) + Send + 'static,
{
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let thread = std::fs::read_link("/proc/thread-self").unwrap();
            sender.send((listener.local_addr().unwrap(), thread)).unwrap();
            server(listener).await;
        });
    });
    let (address, thread) = receiver.recv().unwrap();
    let stat = std::path::Path::new("/proc").join(thread).join("stat");
    run_clients(address, target, REQUESTS_PER_CONNECTION / 10);
    let before = cpu_ticks(&stat);
    run_clients(address, target, REQUESTS_PER_CONNECTION);
    let seconds = (cpu_ticks(&stat) - before) / TICKS_PER_SECOND;
    (CONNECTIONS * REQUESTS_PER_CONNECTION) as f64 / seconds
}

fn run_clients(address: SocketAddr, target: impl Fn(usize) -> String + Copy + Send, requests: usize) {
    std::thread::scope(|scope| {
        for client in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut buffer = vec![0; 256 * 1024];
                for number in 0..requests {
                    let target = target((number * CONNECTIONS + client) % KEY_VALUES);
                    write!(stream, "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n")
                        .unwrap();
                    read_answer(&mut stream, &mut buffer);
                }
            });
        }
    });
}

/// Reads one answer with a `Content-Length`.
fn read_answer(stream: &mut std::net::TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        filled += stream.read(&mut buffer[filled..]).unwrap();
        let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = std::str::from_utf8(&buffer[..end]).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if filled >= end + 4 + length.parse::<usize>().unwrap() {
            return;
        }
    }
}

/// User and system time of a thread.
fn cpu_ticks(stat: &std::path::Path) -> f64 {
    let text = std::fs::read_to_string(stat).unwrap();
    // The name of the thread, in parentheses, may contain anything.
    let Some((_, fields)) = text.rsplit_once(") ") else { panic!("{text}") };
    let fields: Vec<&str> = fields.split(' ').collect();
    fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
}
