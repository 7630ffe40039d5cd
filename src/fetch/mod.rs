//! Asking the upstream: the pooled client, collapsing, throttling.

pub mod collapse;
pub mod dial;
pub mod throttle;
//TLS pub mod tls;
pub mod upstream;
