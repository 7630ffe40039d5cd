//! What bounds memory and time, and how the process itself runs.

use std::time::Duration;

use serde::Deserialize;

use super::{duration, size};

/// What is stored. Section `[store]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreLimits {
    /// Most bytes of all stored responses together, with all that storing them costs.
    #[serde(rename = "limit", deserialize_with = "size::deserialize_size")]
    pub limit_bytes: u64,
    /// Most variants (`Vary`) of one target.
    pub variants: usize,
    /// Most bytes of one stored body; larger ones stream through.
    #[serde(rename = "body_limit", deserialize_with = "size::deserialize_size")]
    pub body_limit_bytes: u64,
}

/// What one caller may cost. Section `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most bytes of a request's header section (431).
    #[serde(rename = "header_section", deserialize_with = "size::deserialize_size")]
    pub header_section_bytes: u64,
    /// Most field lines of a request (431).
    pub header_fields: usize,
    /// Most bytes of a request target (414).
    #[serde(rename = "target", deserialize_with = "size::deserialize_size")]
    pub target_bytes: u64,
    /// Most bytes of a request body (413).
    #[serde(rename = "request_body", deserialize_with = "size::deserialize_size")]
    pub request_body_bytes: u64,
    /// Request bodies up to this many bytes are read whole before the upstream request starts; larger ones stream.
    #[serde(rename = "buffered_request_body", deserialize_with = "size::deserialize_size")]
    pub buffered_request_body_bytes: u64,
    /// Most connections of callers at once (503).
    pub connections: usize,
    /// Most connections of one address or, on a Unix socket, of one user (503); 0 tells nobody apart.
    pub connections_per_caller: usize,
    /// Most requests being answered at once (503); 0 leaves it to `connections`.
    pub requests: usize,
    /// Most requests of one caller being answered at once (503); 0 tells nobody apart.
    pub requests_per_caller: usize,
}

/// How long callers may take. Section `[deadlines]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    /// From a request's first byte (from the connection's start for its first request) to the end of its header section.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub request_header: Duration,
    /// From the end of the header section to the end of the body.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub request_body: Duration,
    /// Between two requests of one connection.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub idle: Duration,
    /// From the signal to stop until what still runs is cut off.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub drain: Duration,
}

/// Who may speak to the sidecar at all. Section `[guard]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Names accepted in `Host` beside the loopback ones.
    pub allowed_hosts: Vec<String>,
    /// Origins from which browsers may send requests.
    pub allowed_origins: Vec<String>,
    /// Whether requests that another proxy forwarded are accepted.
    pub allow_forwarded: bool,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One readable line an event.
    #[default]
    Human,
    /// One JSON object an event.
    Json,
}

/// Section `[logging]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    /// A level, or a filter such as `info,tagalong::access=debug`.
    pub level: String,
    /// The form of the lines.
    pub format: LogFormat,
}

/// Section `[runtime]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Threads that serve callers, each with a runtime of its own.
    pub workers: usize,
}
