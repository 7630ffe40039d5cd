//! What an operator is given: example configurations, the Kubernetes manifest, the dashboard, and the commands.

mod process;
mod shipped_files;
