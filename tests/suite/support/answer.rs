//! The answers of the scripted origin: bytes in steps, with dates relative to the clock of the test.

use std::time::Duration;

use tagalong::internals::clock::Timestamp;
use tokio::sync::watch;

/// A barrier that a test opens. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    pub(crate) fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Opens the gate. It stays open.
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn passed(&self) {
        let mut opened = self.0.subscribe();
        let _always = opened.wait_for(|open| *open).await;
    }
}

/// One answer, step by step. A connection is kept afterwards unless a step ends it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A whole message in the short form of [`Answer::from`], completed when it is sent.
    Message(String),
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// These bytes, repeated.
    Repeat(Vec<u8>, usize),
    /// Waits until the gate is open.
    Hold(Gate),
    /// Waits for a time. Only for measurements and paused time: gates order the events of a test.
    Delay(Duration),
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
}

/// The short form: `200`, field lines, a blank line, the body, all separated by `\n`.
///
/// The status line is completed. `Date` (now) is added unless present, and `Content-Length` unless it or
/// `Transfer-Encoding` is present. `{now}`, `{now+60}` and `{now-60}` become dates.
impl From<&str> for Answer {
    fn from(message: &str) -> Self {
        Self { steps: vec![Step::Message(message.to_owned())] }
    }
}

impl From<String> for Answer {
    fn from(message: String) -> Self {
        Self { steps: vec![Step::Message(message)] }
    }
}

impl Answer {
    /// Exactly these bytes.
    pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { steps: vec![Step::Bytes(bytes.as_ref().to_vec())] }
    }

    /// No byte; the connection is closed.
    pub(crate) fn silence() -> Self {
        Self { steps: vec![Step::Close] }
    }

    /// The answer `then`, sent after the gate opens.
    pub(crate) fn held(gate: &Gate, then: impl Into<Self>) -> Self {
        let mut steps = vec![Step::Hold(gate.clone())];
        steps.extend(then.into().steps);
        Self { steps }
    }

    /// The answer `then`, sent after a delay.
    pub(crate) fn delayed(delay: Duration, then: impl Into<Self>) -> Self {
        let mut steps = vec![Step::Delay(delay)];
        steps.extend(then.into().steps);
        Self { steps }
    }

    pub(crate) fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(crate) fn then_bytes(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Bytes(bytes.as_ref().to_vec()))
    }

    pub(crate) fn then_hold(self, gate: &Gate) -> Self {
        self.then(Step::Hold(gate.clone()))
    }

    pub(crate) fn then_close(self) -> Self {
        self.then(Step::Close)
    }
}

/// The bytes of a message in the short form.
pub(crate) fn complete(message: &str, is_head: bool, now: Timestamp) -> Vec<u8> {
    let message = with_dates(message, now);
    let (head, body) = message.split_once("\n\n").unwrap_or((message.trim_end_matches('\n'), ""));
    let mut lines = head.split('\n');
    let status = lines.next().unwrap_or_default();
    let fields: Vec<&str> = lines.collect();
    let names = |name: &str| {
        fields.iter().any(|line| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                && line[name.len()..].starts_with(':')
        })
    };
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    if !names("Date") {
        text.push_str(&format!("Date: {}\r\n", date(now)));
    }
    for line in &fields {
        text.push_str(line);
        text.push_str("\r\n");
    }
    let without_body = status.starts_with('1') || status == "204" || status == "304";
    if !without_body && !names("Content-Length") && !names("Transfer-Encoding") {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    if !is_head {
        text.push_str(body);
    }
    text.into_bytes()
}

/// An IMF-fixdate.
pub(crate) fn date(time: Timestamp) -> String {
    httpdate::fmt_http_date(time.to_system_time())
}

/// Replaces `{now}`, `{now+SECONDS}` and `{now-SECONDS}`.
pub(crate) fn with_dates(text: &str, now: Timestamp) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{now") {
        let (offset, after) = after.split_once('}').expect("a date ends with }");
        let seconds: i64 = if offset.is_empty() { 0 } else { offset.parse().expect("seconds") };
        replaced.push_str(before);
        replaced.push_str(&date(Timestamp::from_unix_seconds(now.as_unix_seconds() + seconds)));
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}
