//! Azure App Configuration: the types of its API, shared by the proxy's profile and by the emulator.
//!
//! | file | rule |
//! |---|---|
//! | [`resource`] | Each target names one resource, and all spellings of it have one canonical form. |
//! | [`filter`], [`query`], [`select`] | The grammar of filters, of the query and of `$select`. |
//! | [`touches`] | A write touches its key-value and each list, key list, label list and revision list that may contain it. |
//! | `snapshots` | The content of a ready snapshot never changes. |
//! | [`page`], [`ordinal`] | The entity tag of a page, the link to the next, and the order of lists. |
//! | `items` | A list shows the entity tag of each of its key-values. |
//! | [`api_version`], [`key_value`], [`media_type`] | What each api-version adds; the key-value and its JSON; media types. |
//!
//! The profile itself differs from a generic HTTP API in this:
//!
//! - A `Range` (`items=`) selects a part of a list, so the target no longer names the answer: the request bypasses the
//!   cache.
//! - The service sends no `Vary`, and clients send different `Accept-Encoding`s. Upstream it is always `identity`: one
//!   stored form.
//! - Providers poll pages with `HEAD`. A `HEAD` that the store cannot answer is sent as `GET`.
//! - Every answer carries its own `x-ms-request-id`. A stored one is never sent again.
//! - Only request fields that the API defines are forwarded. No other field is part of the key, so none may steer the
//!   origin.

pub mod api_version;
pub mod filter;
mod items;
pub mod json_object;
pub mod key_value;
pub mod media_type;
pub mod ordinal;
pub mod page;
mod profile;
pub mod query;
pub mod resource;
pub mod select;
mod snapshots;
pub mod touches;

pub use profile::AppConfiguration;
