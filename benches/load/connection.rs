//! A connection of an SDK: what it sends, and how it reads what comes back.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) fn target(key: usize) -> String {
    format!("/kv/load%2F{key}?api-version=2026-04-01")
}

/// The number of the write whose value an answer shows; 0 for the value that was there before.
pub(crate) fn value_in(answer: &str) -> u64 {
    number_after(answer, "\"value\":\"v")
}

fn number_after(text: &str, mark: &str) -> u64 {
    let digits = text.split_once(mark).map_or("", |(_, rest)| rest);
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_else(|_| panic!("no number after {mark}: {text}"))
}

/// One kept-alive connection of an SDK.
pub(crate) struct Connection {
    stream: TcpStream,
    port: u16,
    buffer: Vec<u8>,
    returns_tokens: bool,
    /// The last token given, as `id=value`.
    token: String,
    sent: u64,
}

impl Connection {
    pub(crate) async fn open(port: u16, returns_tokens: bool) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let stream =
            stream.unwrap_or_else(|error| panic!("{error}; raise the limit of open files, `ulimit -H -n`"));
        stream.set_nodelay(true).expect("a TCP connection");
        Self { stream, port, buffer: vec![0; 8 * 1024], returns_tokens, token: String::new(), sent: 0 }
    }

    pub(crate) async fn put(&mut self, key: usize, number: u64) {
        self.exchange(&format!("PUT {}", target(key)), &format!("{{\"value\":\"v{number}\"}}")).await;
    }

    pub(crate) async fn get(&mut self, target: &str) -> String {
        self.exchange(&format!("GET {target}"), "").await
    }

    /// Sends a request as an SDK does, and reads its answer, which must be a success.
    pub(crate) async fn exchange(&mut self, request: &str, body: &str) -> String {
        self.exchange_lines(&format!("{request} HTTP/1.1"), body).await
    }

    /// The same, with the request line whole and fields after it.
    pub(crate) async fn exchange_lines(&mut self, request: &str, body: &str) -> String {
        self.sent += 1;
        let local = self.stream.local_addr().expect("a TCP connection").port();
        let token = if self.returns_tokens && !self.token.is_empty() {
            format!("Sync-Token: {}\r\n", self.token)
        } else {
            String::new()
        };
        let content = if body.is_empty() {
            String::new()
        } else {
            format!(
                "Content-Type: application/vnd.microsoft.appconfig.kv+json\r\nContent-Length: {}\r\n",
                body.len()
            )
        };
        let message = format!(
            "{request}\r\nHost: 127.0.0.1:{}\r\n\
             Accept: application/vnd.microsoft.appconfig.kv+json, application/problem+json\r\n\
             User-Agent: azsdk-python-appconfiguration/1.10.0 Python/3.13 (Linux)\r\n\
             x-ms-client-request-id: {:08x}-{local:04x}-4000-8000-{:012x}\r\nx-ms-return-client-request-id: true\r\n\
             {token}{content}\r\n{body}",
            self.port,
            std::process::id(),
            self.sent
        );
        self.stream.write_all(message.as_bytes()).await.expect("a server that reads");
        let mut filled = 0;
        loop {
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
            let reading = self.stream.read(&mut self.buffer[filled..]);
            let read = timeout(Duration::from_secs(30), reading)
                .await
                .expect("an answer in time")
                .expect("an answer");
            assert!(read > 0, "closed before an answer to {request}");
            filled += read;
            let text = std::str::from_utf8(&self.buffer[..filled]).expect("text");
            let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
            assert!(head.starts_with("HTTP/1.1 2"), "{request}: {head}");
            let lower = head.to_ascii_lowercase();
            let length =
                if lower.contains("content-length: ") { number_after(&lower, "content-length: ") } else { 0 };
            if rest.len() as u64 >= length {
                if let Some(line) = lower.find("sync-token: ") {
                    let value = &head[line + "sync-token: ".len()..];
                    self.token = value.split(';').next().unwrap_or_default().to_owned();
                }
                return text.to_owned();
            }
        }
    }
}
