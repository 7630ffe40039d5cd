//! What members tell each other, in postcard, sealed with the fleet's key. The types are the format.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::seal::key::SealingKey;
use crate::stored_response::record::ResponseRecord;
use crate::sync_token::token::SyncToken;

/// A token.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenRecord<'a> {
    /// Its id.
    pub id: &'a str,
    value: &'a str,
    /// Its sequence number.
    pub sequence_number: u64,
}

impl TokenRecord<'_> {
    /// The records of these tokens.
    pub fn all(tokens: &[SyncToken]) -> Vec<TokenRecord<'_>> {
        let records = tokens.iter().map(|token| TokenRecord {
            id: token.id(),
            value: token.value(),
            sequence_number: token.sequence_number(),
        });
        records.collect()
    }

    /// The tokens of these records, as far as they are well-formed.
    #[must_use]
    pub fn tokens(records: &[TokenRecord<'_>]) -> Vec<SyncToken> {
        records.iter().filter_map(|it| SyncToken::new(it.id, it.value, it.sequence_number).ok()).collect()
    }
}

/// An entry of the stream.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message<'a> {
    /// Who says it.
    pub member: u128,
    /// Of a write its number, which it keeps when it is announced again; else 0.
    pub serial: u64,
    /// The tokens that came with it.
    #[serde(borrow)]
    pub tokens: Vec<TokenRecord<'a>>,
    /// What happened.
    #[serde(borrow)]
    pub what: Announced<'a>,
}

impl Message<'_> {
    /// Its bytes.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "the lengths of all its sequences are known, and memory takes any number of bytes"
    )]
    pub fn encoded(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a message")
    }

    /// The tokens of an encoded message.
    #[must_use]
    pub fn tokens_of(encoded: &[u8]) -> Vec<TokenRecord<'_>> {
        postcard::from_bytes(encoded).map_or_else(|_| Vec::new(), |message: Message<'_>| message.tokens)
    }
}

/// What happened.
#[derive(Debug, Serialize, Deserialize)]
pub enum Announced<'a> {
    /// A write has closed.
    Write {
        /// Its method.
        method: &'a str,
        /// Its target, as it went upstream.
        target: &'a str,
        /// The status of its answer; 0 if there was none.
        status: u16,
        /// `Location` and `Content-Location` of its answer.
        #[serde(borrow)]
        named: Vec<(&'a str, &'a serde_bytes::Bytes)>,
        /// The entity tag that its answer told.
        #[serde(borrow)]
        entity_tag: Option<&'a serde_bytes::Bytes>,
    },
    /// Writes have closed of which the member no longer knows what they touched.
    Anything,
    /// An answer has shown another state than was known.
    Change {
        /// The partition of its key, with the digest of fields.
        partition: &'a str,
        /// Its canonical target.
        target: &'a str,
        /// The entity tag of the state that it shows.
        entity_tag: &'a serde_bytes::Bytes,
    },
    /// Nothing but the tokens.
    Tokens,
}

/// The head of a record: a stored response without its body, and what its answer is known to include.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordHead<'a> {
    /// The engine's clock when it was asked for, at the earliest.
    pub sent_at_millis: u64,
    /// The same when it was received or validated.
    pub validated_at_millis: u64,
    /// The last entry that was read before it was asked for.
    pub position: u64,
    /// The entry from which on its content is as it is.
    pub content_since: u64,
    /// It cannot change any more.
    pub is_immutable: bool,
    /// The tokens that were sent.
    #[serde(borrow)]
    pub sent: Vec<TokenRecord<'a>>,
    /// The tokens that came back.
    #[serde(borrow)]
    pub received: Vec<TokenRecord<'a>>,
    /// What time it was at the origin.
    pub origin_time: Option<Timestamp>,
    /// SHA-256 of its body.
    pub body_digest: [u8; 32],
    /// The response, without its body.
    #[serde(borrow)]
    pub response: ResponseRecord<'a>,
}

/// What a sealed message is, so that none passes for another.
#[derive(Clone, Copy, Debug)]
pub enum SealedAs<'a> {
    /// An entry of the stream of this run.
    Entry {
        /// The run of the engine.
        run: &'a str,
    },
    /// A token for members that join.
    Token,
    /// The head of a record of this run.
    Head {
        /// The run of the engine.
        run: &'a str,
        /// The name of the record.
        record: &'a str,
    },
    /// A note under this name.
    Note {
        /// The name.
        record: &'a str,
    },
    /// The body of a record with this digest.
    Body {
        /// The name of the record.
        record: &'a str,
        /// SHA-256 of the body.
        digest: &'a [u8],
    },
}

impl SealedAs<'_> {
    fn associated(self, stream: &str) -> Vec<u8> {
        let parts: [&[u8]; 4] = match self {
            Self::Entry { run } => [b"entry", run.as_bytes(), b"", b""],
            Self::Token => [b"token", b"", b"", b""],
            Self::Head { run, record } => [b"head", run.as_bytes(), record.as_bytes(), b""],
            Self::Note { record } => [b"note", b"", record.as_bytes(), b""],
            Self::Body { record, digest } => [b"body", b"", record.as_bytes(), digest],
        };
        let mut associated = stream.as_bytes().to_vec();
        for part in parts {
            associated.extend_from_slice(&(part.len() as u64).to_be_bytes());
            associated.extend_from_slice(part);
        }
        associated
    }
}

/// Seals what members of one stream tell each other.
#[derive(Clone, Debug)]
pub struct FleetSeal {
    key: SealingKey,
    stream: String,
}

impl FleetSeal {
    /// The seal of a stream.
    #[must_use]
    pub const fn new(key: SealingKey, stream: String) -> Self {
        Self { key, stream }
    }

    /// Seals bytes; `None` where the system gives no random bytes.
    #[must_use]
    pub fn seal(&self, bytes: &[u8], sealed_as: SealedAs<'_>) -> Option<Vec<u8>> {
        self.key.seal(bytes, &sealed_as.associated(&self.stream)).ok()
    }

    /// Seals a value.
    #[must_use]
    pub fn seal_value(&self, value: &impl Serialize, sealed_as: SealedAs<'_>) -> Option<Vec<u8>> {
        self.seal(&postcard::to_stdvec(value).ok()?, sealed_as)
    }

    /// Opens what was sealed as this; `None` where it is not authentic.
    #[must_use]
    pub fn open(&self, sealed: &[u8], sealed_as: SealedAs<'_>) -> Option<Vec<u8>> {
        self.key.open(sealed, &sealed_as.associated(&self.stream))
    }

    /// The name of what has this key: who has not the fleet's key learns nothing from it.
    #[must_use]
    pub fn name_of(&self, key: &[u8]) -> String {
        let mut name = String::with_capacity(32);
        crate::stored_response::push_hexadecimal(&mut name, &self.key.hash(key)[..16]);
        name
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::seal::key::{SealingKeySource, SealingPurpose};

    fn seal(byte: u8, stream: &str) -> FleetSeal {
        let key = SealingKey::new(Zeroizing::new([byte; 32]), SealingPurpose::Fleet, SealingKeySource::File);
        FleetSeal::new(key, stream.to_owned())
    }

    #[test]
    fn a_message_is_read_as_what_it_is_and_by_its_fleet_alone() {
        let tokens = [SyncToken::new("zAJw6V16", "MDoxMA==", 10).unwrap()];
        let message = Message {
            member: 7,
            serial: 3,
            tokens: TokenRecord::all(&tokens),
            what: Announced::Change {
                partition: "",
                target: "/kv/a",
                entity_tag: serde_bytes::Bytes::new(b"\"x\""),
            },
        };
        let (run, record) = ("run", "record");
        let own = seal(1, "stream");
        let sealed = own.seal_value(&message, SealedAs::Entry { run }).unwrap();
        let opened = own.open(&sealed, SealedAs::Entry { run }).unwrap();
        let read: Message<'_> = postcard::from_bytes(&opened).unwrap();
        assert_eq!((read.member, read.serial, TokenRecord::tokens(&read.tokens)), (7, 3, tokens.to_vec()));
        for sealed_as in [SealedAs::Entry { run: "other" }, SealedAs::Token, SealedAs::Head { run, record }] {
            assert_eq!(own.open(&sealed, sealed_as), None, "{sealed_as:?}");
        }
        assert_eq!(seal(2, "stream").open(&sealed, SealedAs::Entry { run }), None, "another key");
        assert_eq!(seal(1, "other").open(&sealed, SealedAs::Entry { run }), None, "another stream");
        assert_ne!(seal(1, "stream").name_of(b"/kv/a"), seal(2, "stream").name_of(b"/kv/a"));
    }
}
