//! The kinds of fault in a fault plan: the table after `do`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::config::duration::{deserialize_duration, deserialize_optional_duration, parse_duration};
use crate::words::words;

/// A kind of fault.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// A delay of the answer: `fixed = "50ms"`, `uniform = "10ms..50ms"` (from, to) or `exponential = "20ms..1s"`
    /// (mean, cap).
    Delay(Delay),
    /// A 429 for each request beyond a quota; without a quota for every request.
    Throttle {
        /// Requests in each `per`.
        #[serde(default)]
        quota: Option<u64>,
        /// The window of `quota`.
        #[serde(default = "hour", deserialize_with = "deserialize_duration")]
        per: Duration,
        /// Requests in each `burst_per`.
        #[serde(default)]
        burst: Option<u64>,
        /// The window of `burst`.
        #[serde(default = "second", deserialize_with = "deserialize_duration")]
        burst_per: Duration,
        /// `retry-after-ms`; by default the time until the quota's window ends.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
        /// The exhausted quota that the body names.
        #[serde(default)]
        policy: Policy,
    },
    /// A 503 or another 5xx. The request is not carried out.
    Unavailable {
        /// The status.
        #[serde(default = "service_unavailable")]
        status: u16,
        /// `retry-after-ms`.
        #[serde(default)]
        retry_after: RetryAfter,
    },
    /// A cut of the connection.
    Drop {
        /// The place in the answer.
        at: DropPoint,
        /// The bytes of the head or the body that are still sent.
        #[serde(default = "few_bytes")]
        after_bytes: usize,
    },
    /// A body that is sent in pieces.
    SlowBody {
        /// Size of a piece, in bytes.
        chunk_bytes: usize,
        /// The pause between pieces.
        #[serde(deserialize_with = "deserialize_duration")]
        interval: Duration,
    },
    /// A body that is too short.
    Truncate {
        /// The bytes that are sent.
        after_bytes: usize,
        /// Whether the framing shows it.
        #[serde(default)]
        framing: Framing,
    },
    /// A write that is applied although its caller gets no true answer, or a late one.
    Write {
        /// The answer that the caller gets.
        answer: WriteAnswer,
        /// How late a `late` answer is.
        #[serde(default = "second", deserialize_with = "deserialize_duration")]
        delay: Duration,
        /// `retry-after-ms` of `unavailable`.
        #[serde(default)]
        retry_after: RetryAfter,
        /// How long after the answer the write is applied; by default before the answer.
        #[serde(default, alias = "lands_after", deserialize_with = "deserialize_optional_duration")]
        applied_after: Option<Duration>,
    },
    /// 304s without `Link`.
    #[serde(rename = "no-link-on-304")]
    NoLinkOn304 {},
    /// Weak ETags.
    WeakEtags {},
    /// Answers without `Sync-Token`.
    NoSyncToken {},
    /// Tokens on two lines.
    SyncTokenLines {},
    /// This `Sync-Token`.
    MalformedSyncToken {
        /// The whole field value.
        value: String,
    },
}

words! {
    /// The quotas of App Configuration, as the body of a 429 names them.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Policy {
        /// `Total Requests`
        #[default]
        #[serde(alias = "Total Requests")]
        TotalRequests = "Total Requests",
        /// `Total Bandwidth`
        #[serde(alias = "Total Bandwidth")]
        TotalBandwidth = "Total Bandwidth",
        /// `Storage`
        #[serde(alias = "Storage")]
        Storage = "Storage",
    }
}

/// The distribution of a delay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Delay {
    /// A constant.
    Fixed(Duration),
    /// Uniform between two bounds.
    Uniform {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Exponential, with a cap.
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
    let (low, high) = text
        .split_once("..")
        .ok_or_else(|| format!("'{text}' is not a range; write for example 10ms..50ms"))?;
    let [low, high] = [low, high].map(|end| parse_duration(end).map_err(|error| error.to_string()));
    let (low, high) = (low?, high?);
    if low > high {
        return Err(format!("'{text}' starts with the longer duration; put the shorter one first"));
    }
    Ok((low, high))
}

/// A `retry-after-ms` field: a duration, or `"none"` for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(Option<Duration>);

impl RetryAfter {
    /// The value of the field, if it is sent.
    pub fn field(self) -> Option<Duration> {
        self.0
    }
}

impl Default for RetryAfter {
    /// The default: half a second, like the vendor's emulator.
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

/// The place where a connection ends.
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

/// Whether the framing of a short body shows that it is short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// `Content-Length` is that of the whole body.
    #[default]
    Declared,
    /// `Content-Length` is that of the bytes sent: only the JSON is broken.
    Consistent,
}

/// The answer that the caller of a write gets.
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
