//! The configuration: types, defaults, ranges, and where each value came from.

pub mod caching;
pub mod duration;
