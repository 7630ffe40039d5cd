//! Header fields, parsed once into types. One file per field or family of fields.

pub mod access_key;
pub mod age;
pub mod cache_control;
pub mod cache_status;
pub mod conditional;
pub mod entity_tag;
pub mod hmac_authorization;
pub mod hop_by_hop;
pub mod http_date;
pub mod lasting;
pub(crate) mod list;
pub mod range;
pub mod request_date;
pub mod request_fields;
pub mod request_source;
pub mod retry_after;
pub mod survey;
pub mod targeted_cache_control;
pub mod uri_reference;
pub mod vary;
pub mod via;
