//! Exchanges on the wire: dialling, TLS, the pooled client, and bodies under way. This module knows nothing of caching.

pub mod answer_body;
pub mod caller_body;
pub mod client;
mod connect_advice;
pub mod dial;
pub mod informational;
pub mod joined_write;
pub mod pool;
pub mod received_body;
pub mod replica_discovery;
pub mod shared_body;
pub mod tls;
