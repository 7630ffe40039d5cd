//! Callers: plain blocking sockets that ask, read the whole answer, and ask again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::server::Kind;

/// What an id is before its number is written into it.
const BLANK_ID: &str = "00000000-0000-4000-8000-000000000000";
const DIGITS: usize = 8;

/// What signs a request; the servers that are measured look at none of it.
const SIGNATURE_FIELDS: &str = "x-ms-date: Sat, 21 Nov 2026 10:00:00.000000 GMT\r\n\
    x-ms-content-sha256: 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\r\n\
    Authorization: HMAC-SHA256 Credential=local&SignedHeaders=x-ms-date;host;x-ms-content-sha256\
    &Signature=00000000CU1mV5SFVyFvQ7Ixb3Nb4Wi5yMTDPbuVfZ4=\r\n";

/// One kept-alive connection.
pub(crate) struct Caller {
    stream: TcpStream,
    port: u16,
    is_signed: bool,
    request: Vec<u8>,
    /// Where in `request` the number of each request is written; nowhere for heads that repeat.
    numbered_at: Vec<usize>,
    /// The sync tokens last received, as the answer wrote them.
    token_line: String,
    buffer: Vec<u8>,
}

impl Caller {
    /// Connects and asks once.
    pub(crate) fn connect(port: u16, kind: Kind) -> Self {
        let mut caller = Self::connected(port);
        caller.is_signed = kind.is_signed();
        caller.write_request("");
        caller.request();
        caller.has_own_ids(kind != Kind::Repeated);
        caller
    }

    /// Connects, to send a request in which each one's number is written after `mark`, if it has that.
    pub(crate) fn sending(port: u16, request: String, mark: &str) -> Self {
        let mut caller = Self::connected(port);
        caller.request = request.into_bytes();
        caller.numbered_at =
            find(&caller.request, mark.as_bytes()).map(|at| at + mark.len()).into_iter().collect();
        caller
    }

    fn connected(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP connection");
        let buffer = vec![0; 16 * 1024];
        Self {
            stream,
            port,
            is_signed: true,
            request: Vec::new(),
            numbered_at: Vec::new(),
            token_line: String::new(),
            buffer,
        }
    }

    /// Makes the server ask its origin, if it has one that drifts: from then on answers carry newer sync tokens.
    pub(crate) fn revalidate(&mut self) {
        self.write_request("Cache-Control: no-cache\r\n");
        self.request();
        self.write_request("");
    }

    /// The request of the Python SDK: an id of its own, the sync tokens that it was given last, and the fields that sign it if it
    /// is signed.
    fn write_request(&mut self, more: &str) {
        let port = self.port;
        // What an answer names as `id=value;sn=N` comes back as `id=value`.
        let tokens: Vec<_> =
            self.token_line.split(',').filter_map(|token| Some(token.split_once(';')?.0)).collect();
        let tokens =
            if tokens.is_empty() { String::new() } else { format!("Sync-Token: {}\r\n", tokens.join(",")) };
        let signature = if self.is_signed { SIGNATURE_FIELDS } else { "" };
        let request = format!(
            "GET /kv/app%2Fsetting?label=prod&api-version=2023-11-01 HTTP/1.1\r\n\
             Host: 127.0.0.1:{port}\r\n\
             User-Agent: azsdk-python-appconfiguration/1.7.1 Python/3.12.3 (Linux-6.8.0-x86_64-with-glibc2.39)\r\n\
             Accept-Encoding: gzip, deflate\r\n\
             Accept: application/vnd.microsoft.appconfig.kv+json, application/problem+json\r\n\
             Connection: keep-alive\r\n\
             Correlation-Context: RequestType=Watch,Host=Kubernetes\r\n\
             x-ms-client-request-id: {BLANK_ID}\r\n\
             {tokens}{more}{signature}\r\n"
        );
        let had_ids = !self.numbered_at.is_empty();
        self.request = request.into_bytes();
        self.has_own_ids(had_ids);
    }

    fn has_own_ids(&mut self, has_own_ids: bool) {
        let places = [BLANK_ID, "Signature="].map(|mark| find(&self.request, mark.as_bytes()));
        let [id, signature] = places;
        let signature = signature.map(|at| at + "Signature=".len());
        self.numbered_at = if has_own_ids { id.into_iter().chain(signature).collect() } else { Vec::new() };
    }

    /// Sends one request and reads its answer.
    pub(crate) fn request(&mut self) {
        self.send();
        self.receive();
    }

    fn send(&mut self) {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        if !self.numbered_at.is_empty() {
            let number = format!("{:0DIGITS$x}", NUMBERS.fetch_add(1, Ordering::Relaxed));
            for at in &self.numbered_at {
                self.request[*at..at + DIGITS].copy_from_slice(number.as_bytes());
            }
        }
        self.stream.write_all(&self.request).expect("the server reads");
    }

    /// The answer to one request: its header section.
    pub(crate) fn answer(&mut self) -> String {
        self.send();
        let head_end = self.receive();
        String::from_utf8_lossy(&self.buffer[..head_end]).into_owned()
    }

    /// Reads an answer and returns where its header section ends.
    fn receive(&mut self) -> usize {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).expect("the server answers");
            assert!(read > 0, "closed in the middle of an answer");
            filled += read;
            let Some(head_end) = find(&self.buffer[..filled], b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..head_end]).expect("text");
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            if filled < head_end + 4 + content_length(head) {
                continue;
            }
            if let Some(line) = head.lines().find_map(|line| line.strip_prefix("sync-token: "))
                && line != self.token_line
            {
                self.token_line = line.to_owned();
                self.write_request("");
            }
            return head_end;
        }
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
        for number in 0..connections {
            scope.spawn(move || {
                let mut caller = Caller::connect(port, kind);
                if number == 0 {
                    caller.revalidate();
                }
                (0..requests / connections).for_each(|_| caller.request());
            });
        }
    });
}

/// Sends `requests` over `connections` in step: one on each, then all answers, so that every run is like the other.
pub(crate) fn load_in_step(port: u16, kind: Kind, connections: usize, requests: usize) {
    let mut callers: Vec<Caller> = (0..connections).map(|_| Caller::connect(port, kind)).collect();
    callers[0].revalidate();
    for _ in 0..requests / connections {
        callers.iter_mut().for_each(Caller::send);
        callers.iter_mut().for_each(|caller| {
            caller.receive();
        });
    }
}
