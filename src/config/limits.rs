//! What bounds memory and time, and how the process itself runs.

use std::time::Duration;

use clap::ValueEnum;

use super::key::{DAY, HOUR, KIB, MIB, TIB};
use super::section::section;
use super::values::Word;

section! {
    /// What is stored. Section `[store]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct StoreLimits in "store" {
        /// Most bytes of all stored responses together, with all that storing them costs.
        pub limit_bytes as "limit": u64 = "64MiB", restart(), within(MIB, TIB);
        /// Most variants (`Vary`) of one target.
        pub variants: usize = "32", restart(), within(1, 10_000);
        /// Most bytes of one stored body; larger ones stream through.
        pub body_limit_bytes as "body_limit": u64 = "4MiB", within(0, TIB);
    }
}

section! {
    /// What one caller may cost. Section `[limits]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Limits in "limits" {
        /// Most bytes of a request's header section (431).
        pub header_section_bytes as "header_section": u64 = "64KiB", within(KIB, MIB);
        /// Most field lines of a request (431).
        pub header_fields: usize = "100", within(8, 1_000);
        /// Most bytes of a request target (414).
        pub target_bytes as "target": u64 = "16KiB", within(64, 64 * KIB - 2);
        /// Most bytes of a request body (413).
        pub request_body_bytes as "request_body": u64 = "1MiB", within(0, TIB);
        /// Request bodies up to this many bytes are read whole before the upstream request starts; larger ones stream.
        pub buffered_request_body_bytes as "buffered_request_body": u64 = "64KiB", within(0, 64 * MIB);
        /// Most bytes of all bodies in memory outside the store together; a body beyond it streams, or is refused if it must be
        /// whole because it is signed (503).
        pub buffered_bodies_bytes as "buffered_bodies": u64 = "16MiB", within(0, TIB);
        /// Most connections of callers at once. For one more, the one that has been idle the longest closes; if none is idle, it gets 503.
        pub connections: usize = "800", within(1, 1_000_000);
        /// Most connections of one address or, on a Unix socket, of one user (503); 0 is no limit.
        pub connections_per_caller: usize = "0", within(0, 1_000_000);
        /// Most HTTP/2 requests under way at once on all connections (503), hits included, up to the last byte of the answer.
        pub http2_requests: usize = "800", within(1, 1_000_000);
        /// Most requests in flight at once (503), hits left out; 0 leaves it to `connections` and `http2_requests`.
        pub requests: usize = "0", within(0, 1_000_000);
        /// Most requests of one caller in flight at once (503), hits left out; 0 is no limit.
        pub requests_per_caller: usize = "0", within(0, 1_000_000);
    }
}

section! {
    /// How long callers may take. Section `[deadlines]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Deadlines in "deadlines" {
        /// From a request's first byte (from the connection's start for its first request) to the end of its header section.
        pub request_header: Duration = "10s", within(10, HOUR);
        /// From the end of the header section to the end of the body.
        pub request_body: Duration = "60s", within(10, DAY);
        /// Between two requests of one connection.
        pub idle: Duration = "60s", within(10, DAY);
        /// How long a caller may take nothing of a response that waits for it: then its connection is cut, or its HTTP/2 stream.
        pub write_stall: Duration = "30s", within(10, DAY);
        /// From the signal to stop until the drain begins: callers are served as before, and `/readyz` fails already.
        pub shutdown_delay: Duration = "0s", within(0, HOUR);
        /// From the end of that delay until what still runs is cut off.
        pub drain: Duration = "10s", within(0, HOUR);
    }
}

section! {
    /// Which requests the sidecar accepts. Section `[guard]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct GuardSettings in "guard" {
        /// Names accepted in `Host` beside the loopback ones.
        pub allowed_hosts: Vec<String> = "";
        /// Origins from which browsers may send requests.
        pub allowed_origins: Vec<String> = "";
        /// Whether requests that another proxy forwarded are accepted.
        pub allow_forwarded: bool = "false";
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line an event.
    #[default]
    Human,
    /// One JSON object an event.
    Json,
}

impl Word for LogFormat {}

section! {
    /// Section `[logging]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Logging in "logging" {
        /// A level, or a filter such as `info,tagalong::access=debug`.
        pub level: String = "info",
            flag("log-level", "LEVEL", "error, warn, info, debug, trace, or a filter such as info,tagalong::access=debug [default: info]");
        /// The form of the lines.
        pub format: LogFormat = "human", restart(),
            flag("log-format", "FORMAT", "human or json [default: human]");
    }
}

section! {
    /// Section `[runtime]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Runtime in "runtime" {
        /// Threads that serve callers, each with a runtime of its own.
        pub workers: usize = "1", restart(), within(1, 1_024),
            flag("workers", "N", "Threads that serve callers [default: 1]");
    }
}
