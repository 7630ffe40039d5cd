//! Azure App Configuration: the types of its API, shared by the proxy's profile and by the emulator.

pub mod api_version;
mod canonical_memo;
pub mod filter;
mod items;
pub mod json_object;
pub mod key_value;
pub mod media_type;
mod profile;
pub mod query;
pub mod resource;
pub mod select;
mod snapshots;
pub mod touches;

pub use profile::AppConfiguration;
