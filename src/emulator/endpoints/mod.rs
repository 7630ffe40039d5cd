//! The endpoints of the API, one family a file.

pub mod key_value;
pub mod list;
pub mod names;
pub mod operations;
pub mod revisions;
pub mod snapshots;
