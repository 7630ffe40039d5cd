//! A caller on a raw socket or in memory. It writes exact bytes, reads answers and sees the connection close.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::cache_status::CacheStatus;
use super::message::{Framing, Head, MessageReader};
use super::origin::{Incoming, Outgoing};

/// An answer that the caller got.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// Whether the body is complete according to its framing.
    pub(crate) complete: bool,
}

impl Response {
    /// The value of the only line with that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// The sidecar's member of `Cache-Status`.
    pub(crate) fn cache_status(&self) -> CacheStatus {
        CacheStatus::ours(&self.head)
    }

    /// Whether the store answered it.
    pub(crate) fn is_hit(&self) -> bool {
        self.cache_status().hit
    }

    /// `Age` in seconds.
    pub(crate) fn age(&self) -> Option<u64> {
        self.field("age").map(|age| age.parse().expect("whole seconds"))
    }
}

/// One connection of a caller.
pub(crate) struct Caller {
    reader: MessageReader<Incoming>,
    writer: Outgoing,
    address: SocketAddr,
    patience: Duration,
}

impl Caller {
    /// A caller on this stream. `address` is sent in `Host`.
    pub(crate) fn new(incoming: Incoming, writer: Outgoing, address: SocketAddr, patience: Duration) -> Self {
        Self { reader: MessageReader::new(incoming), writer, address, patience }
    }

    /// Connects over a socket.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the sidecar listens");
        stream.set_nodelay(true).expect("a socket option");
        let (incoming, writer) = stream.into_split();
        Self::new(Box::new(incoming), Box::new(writer), address, Duration::from_secs(30))
    }

    /// Writes exactly these bytes. Ignores an error of a closed connection.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        if self.writer.write_all(bytes.as_ref()).await.is_ok() {
            let _closed = self.writer.flush().await;
        }
    }

    /// Sends a request in the short form (see [`request_bytes`]) and reads its answer.
    pub(crate) async fn send(&mut self, request: &str) -> Response {
        self.write(request_bytes(request, self.address)).await;
        self.read(request.starts_with("HEAD ")).await
    }

    /// Sends a request in the short form without reading an answer.
    pub(crate) async fn post(&mut self, request: &str) {
        self.write(request_bytes(request, self.address)).await;
    }

    /// Reads one final answer.
    pub(crate) async fn read(&mut self, to_head: bool) -> Response {
        self.try_read(to_head).await.expect("an answer before the connection closes")
    }

    /// Reads one final answer, or `None` if the connection closes first.
    pub(crate) async fn try_read(&mut self, to_head: bool) -> Option<Response> {
        tokio::time::timeout(self.patience, async {
            loop {
                let head = self.head().await?;
                let status = status(&head);
                if (100..200).contains(&status) {
                    continue;
                }
                let framing = match head.framing() {
                    _ if to_head || status == 204 || status == 304 => Framing::Length(0),
                    framing => framing,
                };
                let read = self.reader.body(framing).await;
                return Some(Response { status, head, body: read.body, complete: read.complete });
            }
        })
        .await
        .expect("the sidecar answers in time")
    }

    /// Reads the next header section, also of an interim answer.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        let head = tokio::time::timeout(self.patience, self.reader.head()).await.expect("a head in time");
        head.map(|bytes| Head::parse(&bytes))
    }

    /// Reads at least `count` bytes, or fewer if the connection closes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        tokio::time::timeout(self.patience, self.reader.at_least(count)).await.expect("bytes in time")
    }

    /// Waits until the sidecar has closed the connection and returns what it sent before.
    pub(crate) async fn closed(&mut self) -> Vec<u8> {
        tokio::time::timeout(self.patience, self.reader.at_least(usize::MAX)).await.expect("closed in time")
    }
}

/// The status of a status line.
pub(crate) fn status(head: &Head) -> u16 {
    head.first_line.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line")
}

/// The short form of a request: `GET /target`, field lines, a blank line, the body, all separated by `\n`.
///
/// The version is added. `Host` is added unless present, and `Content-Length` unless it or `Transfer-Encoding` is
/// present.
pub(crate) fn request_bytes(request: &str, address: SocketAddr) -> Vec<u8> {
    let (head, body) = match request.split_once("\n\n") {
        Some((head, body)) => (head, Some(body)),
        None => (request.trim_end_matches('\n'), None),
    };
    let mut lines = head.split('\n');
    let mut text = format!("{} HTTP/1.1\r\n", lines.next().unwrap_or_default());
    let lower = head.to_ascii_lowercase();
    if !lower.contains("\nhost:") {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    if let Some(body) = body
        && !lower.contains("\ncontent-length:")
        && !lower.contains("\ntransfer-encoding:")
    {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body.unwrap_or_default());
    text.into_bytes()
}
