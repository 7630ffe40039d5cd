//! Sync tokens: their grammar, their aggregate over all callers, and which stored responses they outdate.

pub mod coverage;
pub mod token;
