//! What every end-to-end test stands on: a scripted origin, callers on raw sockets, a sidecar between them, one clock.
//!
//! Tests order what happens by barriers (`Origin::received`, `Gate`), never by sleeping; lifetimes pass by
//! `Scene::pass_seconds`.

pub(crate) mod answer;
pub(crate) mod cache_status;
pub(crate) mod caller;
pub(crate) mod message;
pub(crate) mod origin;
pub(crate) mod scene;
pub(crate) mod serve;
pub(crate) mod sidecar;
