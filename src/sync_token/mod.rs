//! Sync tokens: their grammar, their aggregate over all callers, and which stored responses they outdate.

pub mod aggregate;
pub mod clauses;
pub mod coverage;
pub mod session;
pub mod token;
pub mod write_log;
