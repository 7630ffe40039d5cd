//! What an operator is given: example configurations, the Kubernetes manifest, the dashboard, and the commands. Limits and
//! life cycle of the running sidecar.

mod draining;
mod flood;
mod limits;
mod process;
mod shipped_files;
mod start;
