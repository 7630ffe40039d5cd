//! Encrypted and authenticated: what leaves the process and comes back, through a disk or through the engine of a fleet.
//!
//! [`key`] says where keys come from, [`stream`] what they do.

pub mod key;
pub mod stream;
