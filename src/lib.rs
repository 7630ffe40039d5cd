//! `tagalong`: a caching sidecar proxy for HTTP APIs that name versions with ETags.
//!
//! The path of a request, one module a stage:
//!
//! ```text
//! accept → guard → identify → look up → decide::reuse → fetch (collapse, upstream) → decide::absorb → store → respond
//!           │         │                      │                      │                        │
//!        Refused  PresentedRequest        Decision               Answer                   Change          Reply
//! ```

pub mod accept;
pub mod admin;
pub mod body;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod decide;
pub mod emulator;
pub mod error;
pub mod guard;
pub mod headers;
pub mod identify;
pub mod logging;
pub mod metrics;
pub mod presented_request;
pub mod profile;
pub mod proxy;
pub mod readiness;
pub mod respond;
pub mod sidecar;
pub mod store;
pub mod stored_response;
pub mod sync_token;
pub mod transport;
pub mod upstream;
