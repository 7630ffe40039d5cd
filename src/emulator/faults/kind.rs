//! What can go wrong, as a fault plan writes it: the table after `do`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::config::duration::{deserialize_duration, deserialize_optional_duration, parse_duration};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// The answer waits: `fixed = "50ms"`, `uniform = "10ms..50ms"` (from, to) or `exponential = "20ms..1s"` (mean, cap).
    Delay(Delay),
    /// 429. Without a quota: every time.
    Throttle {
        /// Requests in each `per`.
        #[serde(default)]
        quota: Option<u64>,
        /// The quota's window.
        #[serde(default = "hour", deserialize_with = "deserialize_duration")]
        per: Duration,
        /// Requests in each `burst_per`.
        #[serde(default)]
        burst: Option<u64>,
        /// The burst's window.
        #[serde(default = "second", deserialize_with = "deserialize_duration")]
        burst_per: Duration,
        /// `retry-after-ms`; unless given, until the quota's window ends.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
        /// The exhausted quota as the body names it.
        #[serde(default)]
        policy: Policy,
    },
    /// 503, or another 5xx. The request is not carried out.
    Unavailable {
        /// The status.
        #[serde(default = "service_unavailable")]
        status: u16,
        /// `retry-after-ms`.
        #[serde(default)]
        retry_after: RetryAfter,
    },
    /// The connection ends.
    Drop {
        /// Where in the answer.
        at: DropPoint,
        /// How many bytes of the head or the body are still sent.
        #[serde(default = "few_bytes")]
        after_bytes: usize,
    },
    /// The body comes in pieces.
    SlowBody {
        /// Size of a piece, in bytes.
        chunk_bytes: usize,
        /// The pause between pieces.
        #[serde(deserialize_with = "deserialize_duration")]
        interval: Duration,
    },
    /// The body is too short.
    Truncate {
        /// How many bytes are sent.
        after_bytes: usize,
        /// Whether the framing admits it.
        #[serde(default)]
        framing: Framing,
    },
    /// A write takes effect, and its sender is not told so, or not in time.
    Write {
        /// What the sender gets.
        answer: WriteAnswer,
        /// How late a `late` answer is.
        #[serde(default = "second", deserialize_with = "deserialize_duration")]
        delay: Duration,
        /// `retry-after-ms` of `unavailable`.
        #[serde(default)]
        retry_after: RetryAfter,
        /// When the write takes effect, counted from the answer; before it unless given.
        #[serde(default, deserialize_with = "deserialize_optional_duration")]
        lands_after: Option<Duration>,
    },
    /// 304s carry no `Link`.
    #[serde(rename = "no-link-on-304")]
    NoLinkOn304 {},
    /// ETags are weak.
    WeakEtags {},
    /// Answers carry no `Sync-Token`.
    NoSyncToken {},
    /// Tokens come on two lines.
    SyncTokenLines {},
    /// The `Sync-Token` reads so.
    MalformedSyncToken {
        /// The whole field value.
        value: String,
    },
}

/// The quotas of App Configuration, as the body of a 429 names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// `Total Requests`
    #[default]
    #[serde(alias = "Total Requests")]
    TotalRequests,
    /// `Total Bandwidth`
    #[serde(alias = "Total Bandwidth")]
    TotalBandwidth,
    /// `Storage`
    #[serde(alias = "Storage")]
    Storage,
}

impl Policy {
    /// The words of the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TotalRequests => "Total Requests",
            Self::TotalBandwidth => "Total Bandwidth",
            Self::Storage => "Storage",
        }
    }
}

/// How long an answer waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Delay {
    /// Always the same.
    Fixed(Duration),
    /// Anything between the two, equally likely.
    Uniform {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Often short, now and then long.
    Exponential {
        /// The mean, before the cap.
        mean: Duration,
        /// The cap.
        max: Duration,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDelay {
    fixed: Option<String>,
    uniform: Option<String>,
    exponential: Option<String>,
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = WrittenDelay::deserialize(deserializer)?;
        let delay = match (&written.fixed, &written.uniform, &written.exponential) {
            (Some(text), None, None) => {
                parse_duration(text).map(Self::Fixed).map_err(|error| error.to_string())
            }
            (None, Some(text), None) => range(text).map(|(min, max)| Self::Uniform { min, max }),
            (None, None, Some(text)) => range(text).map(|(mean, max)| Self::Exponential { mean, max }),
            _ => Err("give a delay exactly one of fixed, uniform and exponential".to_owned()),
        };
        delay.map_err(serde::de::Error::custom)
    }
}

fn range(text: &str) -> Result<(Duration, Duration), String> {
    let (low, high) =
        text.split_once("..").ok_or_else(|| format!("'{text}' is no range; write for example 10ms..50ms"))?;
    let [low, high] = [low, high].map(|end| parse_duration(end).map_err(|error| error.to_string()));
    let (low, high) = (low?, high?);
    if low > high {
        return Err(format!("'{text}' goes down; put the shorter duration first"));
    }
    Ok((low, high))
}

/// A `retry-after-ms` field: a duration, or `"none"` for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(Option<Duration>);

impl RetryAfter {
    /// The field, if any is sent.
    #[must_use]
    pub fn field(self) -> Option<Duration> {
        self.0
    }
}

impl Default for RetryAfter {
    /// Half a second, as the vendor's emulator says.
    fn default() -> Self {
        Self(Some(Duration::from_millis(500)))
    }
}

impl<'de> Deserialize<'de> for RetryAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "none" {
            return Ok(Self(None));
        }
        parse_duration(&text).map(|duration| Self(Some(duration))).map_err(serde::de::Error::custom)
    }
}

/// Where a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropPoint {
    /// Before the answer; the request is not carried out.
    BeforeHead,
    /// Within the status line or the fields; the request has been carried out.
    WithinHead,
    /// Within the body; the request has been carried out.
    WithinBody,
}

/// Whether a short body's framing admits that it is short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// `Content-Length` names what there should have been.
    #[default]
    Declared,
    /// `Content-Length` names what is sent: only the JSON is broken.
    Consistent,
}

/// What the sender of a write gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteAnswer {
    /// A closed connection.
    Lost,
    /// The true answer, late.
    Late,
    /// A 503.
    Unavailable,
}

fn hour() -> Duration {
    Duration::from_secs(3_600)
}

fn second() -> Duration {
    Duration::from_secs(1)
}

fn service_unavailable() -> u16 {
    503
}

fn few_bytes() -> usize {
    20
}
