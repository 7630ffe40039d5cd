//! The endpoints of the API, one file for each family. They refuse as the service does: 400 for a malformed parameter, body or
//! position, 404 for what is missing, 409 for a conflict with the state, 412 for the condition, 415 for the type of the body.

pub mod key_value;
pub mod list;
pub mod names;
pub mod operations;
pub mod revisions;
pub mod snapshots;
