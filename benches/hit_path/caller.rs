//! Callers: plain blocking sockets that ask, read the whole answer, and ask again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::server::Kind;

/// One kept-alive connection.
pub(crate) struct Caller {
    stream: TcpStream,
    request: String,
    /// Whether each request has an id of its own.
    has_ids: bool,
    buffer: Vec<u8>,
}

impl Caller {
    /// Connects and asks once: the sync tokens of that answer go with all further requests, as the vendor's clients do it.
    pub(crate) fn connect(port: u16, kind: Kind) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP connection");
        let request = format!(
            "GET /kv/app%2Fsetting?api-version=2023-11-01&label=prod HTTP/1.1\r\n\
             Host: 127.0.0.1:{port}\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n"
        );
        let has_ids = kind == Kind::Unrepeated;
        let mut caller = Self { stream, request, has_ids, buffer: vec![0; 16 * 1024] };
        let (head, _) = caller.answer();
        caller.return_tokens(&head);
        caller
    }

    /// What an answer names as `id=value;sn=N` comes back as `id=value`.
    fn return_tokens(&mut self, head: &str) {
        let Some(line) = head.lines().find_map(|line| line.strip_prefix("sync-token: ")) else { return };
        let tokens: Vec<_> = line.split(',').filter_map(|token| Some(token.split_once(';')?.0)).collect();
        let end_of_fields = self.request.len() - 2;
        self.request.insert_str(end_of_fields, &format!("Sync-Token: {}\r\n", tokens.join(",")));
    }

    /// Sends one request and reads its answer.
    pub(crate) fn request(&mut self) {
        self.send();
        self.receive();
    }

    fn send(&mut self) {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let sent = if self.has_ids {
            let id = IDS.fetch_add(1, Ordering::Relaxed);
            let fields = self.request.strip_suffix("\r\n").expect("ends with an empty line");
            let request = format!("{fields}X-Request-Id: {id:032x}\r\n\r\n");
            self.stream.write_all(request.as_bytes())
        } else {
            self.stream.write_all(self.request.as_bytes())
        };
        sent.expect("the server reads");
    }

    /// The answer to one request: its header section and the size of its body.
    pub(crate) fn answer(&mut self) -> (String, usize) {
        self.send();
        let (head, length) = self.receive();
        (head.to_owned(), length)
    }

    fn receive(&mut self) -> (&str, usize) {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).expect("the server answers");
            assert!(read > 0, "closed in the middle of an answer");
            filled += read;
            let Some(head_end) = find(&self.buffer[..filled], b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..head_end]).expect("text");
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let length = content_length(head);
            if filled == head_end + 4 + length {
                break;
            }
        }
        let head_end = find(&self.buffer[..filled], b"\r\n\r\n").expect("found before");
        let head = std::str::from_utf8(&self.buffer[..head_end]).expect("text");
        (head, filled - head_end - 4)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn content_length(head: &str) -> usize {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    value.and_then(|value| value.parse().ok()).expect("Content-Length")
}

/// Sends `requests` over `connections` at once.
pub(crate) fn load(port: u16, kind: Kind, connections: usize, requests: usize) {
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut caller = Caller::connect(port, kind);
                (0..requests / connections).for_each(|_| caller.request());
            });
        }
    });
}

/// Sends `requests` over `connections` in step: one on each, then all answers, so that every run is like the other.
pub(crate) fn load_in_step(port: u16, kind: Kind, connections: usize, requests: usize) {
    let mut callers: Vec<Caller> = (0..connections).map(|_| Caller::connect(port, kind)).collect();
    for _ in 0..requests / connections {
        callers.iter_mut().for_each(Caller::send);
        callers.iter_mut().for_each(|caller| {
            caller.receive();
        });
    }
}
