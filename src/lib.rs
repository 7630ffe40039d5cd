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
//! | [`words`], [`error`], [`clock`], [`memo`], [`body`], [`metrics`], [`readiness`], [`accept_loop`] | enums with a word for each variant; every failure with its status; time; what follows from a text, remembered; bodies that flow; counters; whether callers are served; the one loop that accepts connections |
//! | [`headers`] | field values, parsed once into types |
//! | [`config`], [`logging`] | every key from file, variable and flag to one checked `Config`; log lines |
//! | [`sync_token`] | the consistency rule: tokens, coverage, the write log, the session of all callers |
//! | [`stored_response`], [`presented_request`] | the data that decisions are about |
//! | [`decide`] | RFC 9111 and its kin: one pure function and one file for each rule |
//! | [`profile`] | what one kind of API knows about itself: App Configuration, or generic |
//! | [`store`] | the map in memory, bounded in bytes; knows nothing of HTTP |
//! | [`transport`] | dialling, TLS, the pooled client, bodies on the wire; knows nothing of caching |
//! | [`trace`] | spans of requests, for a collector |
//! | [`credentials`], [`seal`] | how the sidecar proves itself upstream; what leaves the process and comes back is sealed |
//! | [`fleet`] | what many sidecars share through an engine: entries, records, leases |
//! | [`upstream`] | one upstream: its session, its view of the store, collapsing, throttling, the exchange |
//! | [`mirror`] | whole collections of an App Configuration store, validated by few requests |
//! | [`snapshot`] | what is stored, in an encrypted file, for a start without the origin |
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
mod fleet;
mod guard;
mod headers;
mod identify;
mod logging;
mod memo;
mod metrics;
mod mirror;
mod presented_request;
mod profile;
mod proxy;
mod readiness;
mod respond;
mod seal;
mod sidecar;
mod snapshot;
mod store;
mod stored_response;
mod sync_token;
mod trace;
mod transport;
mod upstream;
mod words;

// What the binary uses.
pub use accept::Address;
pub use admin::{Status, UpstreamStatus};
pub use clock::{Clock, Timestamp};
pub use config::duration::{format_duration, parse_duration};
pub use config::masked::masked;
pub use config::{
    Config, DEFAULT_TOML, Layers, LogFormat, Logging, ProfileKind, UpstreamSettings, Word, flags as run_flags,
};
pub use credentials::token_file::Absent;
pub use emulator::{
    EmulatorError, EmulatorSettings, Options as EmulatorOptions, Running as RunningEmulator,
    run as run_emulator,
};
pub use logging::{start as start_logging, tell_left_out};
pub use proxy::assemble::Environment;
pub use sidecar::config_watch::ConfigWatch;
pub use sidecar::reload::Reloader;
pub use sidecar::{Sidecar, show_snapshot};

/// Every module, for the tests and benches of this package alone. Without the feature the compiler sees what nothing uses.
#[cfg(feature = "internals")]
#[expect(missing_docs, reason = "each module has its documentation where it is defined")]
pub mod internals {
    macro_rules! reexport {
        ($($module:ident)*) => { $(pub mod $module { pub use crate::$module::*; })* };
    }

    reexport! {
        accept accept_loop admin body clock config credentials decide emulator error fleet guard headers identify logging metrics
        mirror presented_request profile proxy readiness respond seal sidecar snapshot store stored_response sync_token trace transport upstream
    }
}
