//! A stored response in the form in which it leaves the process: on the disk, and to the other members of a fleet.
//!
//! Field names are written out, because the codes of [`StoredFields`] mean something in one process alone. So do coverages: what comes
//! back covers nothing until its place here is known.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::{SelectingKey, StoredFields, StoredPolicy, StoredRange, StoredResponse, UseMark};
use crate::clock::Timestamp;
use crate::sync_token::coverage::Coverage;

/// A record that is not what its bytes say it is.
#[derive(Debug)]
pub struct MalformedRecord;

/// A stored response as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub struct ResponseRecord<'a> {
    status: u16,
    #[serde(borrow)]
    fields: Vec<(&'a str, &'a serde_bytes::Bytes)>,
    body: &'a serde_bytes::Bytes,
    selecting: &'a serde_bytes::Bytes,
    request_time: Timestamp,
    response_time: Timestamp,
    policy: StoredPolicy,
    range: Option<(u64, u64)>,
    is_mirrored: bool,
}

/// The names of the fields of a response, written out.
pub struct FieldNames(Vec<HeaderName>);

impl FieldNames {
    /// Those of this response.
    #[must_use]
    pub fn of(response: &StoredResponse) -> Self {
        Self(response.fields.iter().map(|(name, _)| name).collect())
    }

    /// The record of that response, with this body.
    #[must_use]
    pub fn record<'a>(&'a self, response: &'a StoredResponse, body: &'a [u8]) -> ResponseRecord<'a> {
        let values = response.fields.iter().map(|(_, value)| serde_bytes::Bytes::new(value));
        ResponseRecord {
            status: response.status.as_u16(),
            fields: self.0.iter().map(HeaderName::as_str).zip(values).collect(),
            body: serde_bytes::Bytes::new(body),
            selecting: serde_bytes::Bytes::new(&response.selecting.0),
            request_time: response.request_time,
            response_time: response.response_time,
            policy: response.policy,
            range: response.range.map(|range| (range.first_byte, range.complete_length_bytes)),
            is_mirrored: response.is_mirrored,
        }
    }
}

impl ResponseRecord<'_> {
    /// When it was received or validated last.
    #[must_use]
    pub const fn response_time(&self) -> Timestamp {
        self.response_time
    }

    /// Its status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Bytes of its body.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// The response. It covers nothing.
    ///
    /// # Errors
    /// [`MalformedRecord`]
    pub fn to_response(&self) -> Result<StoredResponse, MalformedRecord> {
        let mut fields = HeaderMap::with_capacity(self.fields.len());
        for (name, value) in &self.fields {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| MalformedRecord)?;
            fields.append(name, HeaderValue::from_bytes(value).map_err(|_| MalformedRecord)?);
        }
        Ok(StoredResponse {
            status: StatusCode::from_u16(self.status).map_err(|_| MalformedRecord)?,
            fields: StoredFields::pack(&fields),
            body: Bytes::copy_from_slice(self.body),
            share: Default::default(),
            selecting: SelectingKey(Bytes::copy_from_slice(self.selecting)),
            request_time: self.request_time,
            response_time: self.response_time,
            covers: Coverage::NOTHING,
            policy: self.policy,
            range: self
                .range
                .map(|(first_byte, complete_length_bytes)| StoredRange { first_byte, complete_length_bytes }),
            is_mirrored: self.is_mirrored,
            in_use: UseMark::default(),
        })
    }
}
