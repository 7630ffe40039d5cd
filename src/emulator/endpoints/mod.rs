//! The endpoints of the API, one file for each family.

pub mod key_value;
pub mod list;
pub mod names;
pub mod operations;
pub mod revisions;
pub mod snapshots;
