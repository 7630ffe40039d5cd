//! Where spans of requests go.

use std::path::PathBuf;

use http::Uri;

use super::section::section;

section! {
    /// Section `[tracing]`. It needs a build with the cargo feature `otlp`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TracingSettings in "tracing" {
        /// The collector; `None`: no spans are sent.
        pub endpoint: Option<Uri> = "", restart();
        /// Certificate authorities (PEM) trusted for it beside those of the system and the bundled ones.
        pub ca_file: Option<PathBuf> = "", restart();
        /// How many of a hundred requests to the origin have a span, where no caller's trace decides.
        pub sample_percent: usize = "100", restart(), within(0, 100);
    }
}
