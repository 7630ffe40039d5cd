//! `tagalong`: a caching sidecar proxy for HTTP APIs that name versions with ETags.
//!
//! The path of a request. [`proxy`] holds it, with one call a stage; a stage either decides (pure, without I/O and clock) or
//! acts (I/O, without policy):
//!
//! ```text
//! accept → guard → identify → look up → decide::reuse → upstream (collapse, exchange) → decide::absorb → store → respond
//!           │         │                      │                        │                       │
//!        Refused  PresentedRequest        Decision                  Answer                  Change
//! ```
//!
//! A module may import those above it in this list, and no two import each other:
//!
//! | module | what it is for |
//! |---|---|
//! | [`error`], [`clock`], [`body`], [`metrics`], [`readiness`], [`accept_loop`] | every failure with its status; time; bodies that flow; counters; whether callers are served; the one loop that accepts connections |
//! | [`headers`] | field values, parsed once into types |
//! | [`config`], [`logging`] | every key from file, variable and flag to one checked `Config`; log lines |
//! | [`sync_token`] | the consistency rule: tokens, coverage, the write log, the session of all callers |
//! | [`stored_response`], [`presented_request`] | the data that decisions are about |
//! | [`decide`] | RFC 9111 and its kin: one pure function and one file for each rule |
//! | [`profile`] | what one kind of API knows about itself: App Configuration, or generic |
//! | [`store`] | the map in memory, bounded in bytes; knows nothing of HTTP |
//! | [`transport`] | dialling, TLS, the pooled client, bodies on the wire; knows nothing of caching |
//! | [`credentials`] | how the sidecar proves itself upstream |
//! | [`upstream`] | one upstream: its session, its view of the store, collapsing, throttling, the exchange |
//! | [`guard`], [`identify`], [`respond`] | may this caller speak to us; what does it ask for; the answer that it gets |
//! | [`proxy`] | the path |
//! | [`accept`], [`admin`] | listeners, connections, draining; the operator's endpoints |
//! | [`sidecar`] | all of it, started and stopped |
//! | [`emulator`] | an App Configuration origin for demos and tests; uses the first two lines and the types of its profile |

#![allow(rustdoc::private_intra_doc_links, reason = "the documentation is made with private items")]

mod accept;
mod accept_loop;
mod admin;
mod body;
mod clock;
mod config;
mod credentials;
mod decide;
mod emulator;
mod error;
mod guard;
mod headers;
mod identify;
mod logging;
mod metrics;
mod presented_request;
mod profile;
mod proxy;
mod readiness;
mod respond;
mod sidecar;
mod store;
mod stored_response;
mod sync_token;
mod transport;
mod upstream;

// What the binary uses.
pub use accept::Address;
pub use clock::{Clock, Timestamp};
pub use config::duration::{format_duration, parse_duration};
pub use config::masked::masked;
pub use config::{
    Config, DEFAULT_TOML, Layers, LogFormat, Logging, UpstreamSettings, Word, flags as run_flags,
};
pub use credentials::token_file::Absent;
pub use emulator::{
    EmulatorError, Options as EmulatorOptions, Running as RunningEmulator, run as run_emulator,
};
pub use logging::{start as start_logging, tell_left_out};
pub use proxy::assemble::Environment;
pub use sidecar::Sidecar;

/// Every module, for the tests and benches of this package alone. Without the feature the compiler sees what nothing uses.
#[cfg(feature = "internals")]
#[expect(missing_docs, reason = "each module has its documentation where it is defined")]
pub mod internals {
    pub mod accept {
        pub use crate::accept::*;
    }
    pub mod accept_loop {
        pub use crate::accept_loop::*;
    }
    pub mod admin {
        pub use crate::admin::*;
    }
    pub mod body {
        pub use crate::body::*;
    }
    pub mod clock {
        pub use crate::clock::*;
    }
    pub mod config {
        pub use crate::config::*;
    }
    pub mod credentials {
        pub use crate::credentials::*;
    }
    pub mod decide {
        pub use crate::decide::*;
    }
    pub mod emulator {
        pub use crate::emulator::*;
    }
    pub mod error {
        pub use crate::error::*;
    }
    pub mod guard {
        pub use crate::guard::*;
    }
    pub mod headers {
        pub use crate::headers::*;
    }
    pub mod identify {
        pub use crate::identify::*;
    }
    pub mod logging {
        pub use crate::logging::*;
    }
    pub mod metrics {
        pub use crate::metrics::*;
    }
    pub mod presented_request {
        pub use crate::presented_request::*;
    }
    pub mod profile {
        pub use crate::profile::*;
    }
    pub mod proxy {
        pub use crate::proxy::*;
    }
    pub mod readiness {
        pub use crate::readiness::*;
    }
    pub mod respond {
        pub use crate::respond::*;
    }
    pub mod sidecar {
        pub use crate::sidecar::*;
    }
    pub mod store {
        pub use crate::store::*;
    }
    pub mod stored_response {
        pub use crate::stored_response::*;
    }
    pub mod sync_token {
        pub use crate::sync_token::*;
    }
    pub mod transport {
        pub use crate::transport::*;
    }
    pub mod upstream {
        pub use crate::upstream::*;
    }
}
