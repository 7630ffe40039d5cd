//! HTTP/1 messages for tests: bytes split into a first line, fields and a body, without validation.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The header section of a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The request line or status line.
    pub(crate) first_line: String,
    /// Names in lower case, values trimmed, in the order of their lines.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// Parses the bytes before the blank line. Bytes above 0x7F become the Latin-1 characters of the same number.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let first_line = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
            })
            .collect();
        Self { first_line, fields }
    }

    /// The value of the only line with that name; panics when there are several.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let lines = self.lines(name);
        assert!(lines.len() <= 1, "several lines of {name}: {lines:?}");
        lines.first().copied()
    }

    /// The values of all lines with that name.
    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        let name = name.to_ascii_lowercase();
        self.fields.iter().filter(|(field, _)| *field == name).map(|(_, value)| value.as_str()).collect()
    }

    /// How the body is delimited, if the head says so.
    pub(crate) fn framing(&self) -> Framing {
        if self.lines("transfer-encoding").iter().any(|value| value.to_ascii_lowercase().contains("chunked"))
        {
            return Framing::Chunked;
        }
        match self.lines("content-length").first().and_then(|value| value.parse().ok()) {
            Some(length) => Framing::Length(length),
            None => Framing::Unsaid,
        }
    }
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Chunked,
    Length(usize),
    Unsaid,
}

/// Reads messages from a byte stream and keeps what was read too far.
#[derive(Debug)]
pub(crate) struct MessageReader<R> {
    stream: R,
    buffer: Vec<u8>,
}

/// A body as far as it came.
#[derive(Debug, Default)]
pub(crate) struct ReadBody {
    /// With transfer coding taken off.
    pub(crate) body: Vec<u8>,
    /// The bytes as they arrived.
    pub(crate) raw: Vec<u8>,
    /// Whether its end was seen as the framing says.
    pub(crate) complete: bool,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The bytes of the next header section, blank line included; `None` when the stream ends before one.
    pub(crate) async fn head(&mut self) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.buffer[searched..], b"\r\n\r\n") {
                return Some(self.take(searched + at + 4));
            }
            searched = self.buffer.len().saturating_sub(3);
            if !self.more().await {
                return None;
            }
        }
    }

    /// The body that the framing describes; without framing everything until the stream ends.
    pub(crate) async fn body(&mut self, framing: Framing) -> ReadBody {
        match framing {
            Framing::Length(length) => {
                while self.buffer.len() < length {
                    if !self.more().await {
                        let raw = std::mem::take(&mut self.buffer);
                        return ReadBody { body: raw.clone(), raw, complete: false };
                    }
                }
                let raw = self.take(length);
                ReadBody { body: raw.clone(), raw, complete: true }
            }
            Framing::Chunked => self.chunks().await,
            Framing::Unsaid => {
                while self.more().await {}
                let raw = std::mem::take(&mut self.buffer);
                ReadBody { body: raw.clone(), raw, complete: true }
            }
        }
    }

    async fn chunks(&mut self) -> ReadBody {
        let mut read = ReadBody::default();
        loop {
            let Some(line) = self.line().await else { return read };
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            let digits = text.split(';').next().unwrap_or_default().trim().to_owned();
            read.raw.extend_from_slice(&line);
            let Ok(size) = usize::from_str_radix(&digits, 16) else { return read };
            if size == 0 {
                // Trailers, then the blank line.
                loop {
                    let Some(line) = self.line().await else { return read };
                    read.raw.extend_from_slice(&line);
                    if line == b"\r\n" {
                        read.complete = true;
                        return read;
                    }
                }
            }
            while self.buffer.len() < size + 2 {
                if !self.more().await {
                    let rest = std::mem::take(&mut self.buffer);
                    read.body.extend_from_slice(&rest[..rest.len().min(size)]);
                    read.raw.extend_from_slice(&rest);
                    return read;
                }
            }
            let chunk = self.take(size + 2);
            read.body.extend_from_slice(&chunk[..size]);
            read.raw.extend_from_slice(&chunk);
        }
    }

    async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                return Some(self.take(at + 2));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// At least `count` more bytes, or what came before the stream ended.
    pub(crate) async fn at_least(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Resolves when the other side has closed; what it sent before is kept.
    pub(crate) async fn closed(&mut self) {
        while self.more().await {}
    }

    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(count) if count > 0)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
