//! The operator's files and commands: example configurations, the Kubernetes manifest, the dashboard, probes. Limits
//! and life cycle of the running sidecar.

mod bounds;
mod buffers;
mod draining;
mod explain;
mod fleet;
mod flood;
mod kills;
mod limits;
mod lingering;
mod metrics;
mod process;
mod quit;
mod reload;
mod shipped_files;
mod snapshot;
mod spans;
mod start;
mod status;
