//! An App Configuration origin in this binary: for trying the sidecar, for tests, and for developing without a
//! subscription. It depends on nothing in the proxy's path.

pub mod faults;
