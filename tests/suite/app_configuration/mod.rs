//! App Configuration, tested from outside: the emulator against the contract of the service, and the sidecar in front
//! of it.

mod changes;
mod emulator;
mod item_limits;
mod mirror;
mod prefetch;
mod restart;
pub(crate) mod scene;
mod snapshot;
mod through_sidecar;
