//! What an operator is given: example configurations, the Kubernetes manifest, the dashboard, and the commands.

mod shipped_files;
