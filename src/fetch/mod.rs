//! Asking the upstream: the pooled client, collapsing, throttling.

pub mod answer_body;
pub mod collapse;
pub mod dial;
pub mod outgoing;
pub mod throttle;
pub mod tls;
pub mod upstream;
