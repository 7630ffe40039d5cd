//! An access key: the id and the shared secret of HMAC-SHA256 authentication, and the only code that uses the secret.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::hkdf::{HKDF_SHA256, Salt};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Why a text is not an access key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessKeyError {
    /// No `:` between id and secret.
    #[error("an access key is written ID:SECRET; put a colon between the id and the base64 secret")]
    NoSeparator,
    /// The id is empty or contains a character that the `Authorization` field cannot carry in it.
    #[error(
        "the id of an access key must be visible ASCII without '&', ',' or spaces; copy it from the connection string"
    )]
    Id,
    /// The secret is not base64, or empty.
    #[error("the secret of an access key must be non-empty base64; copy it from the connection string")]
    Secret,
}

/// Secret bytes: printed as `***`, overwritten with zeros when dropped.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of secret bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Decodes standard base64.
    ///
    /// # Errors
    /// [`AccessKeyError::Secret`] when the text is not base64 or decodes to nothing.
    pub fn from_base64(text: &str) -> Result<Self, AccessKeyError> {
        let bytes = STANDARD.decode(text.trim_ascii()).map_err(|_| AccessKeyError::Secret)?;
        if bytes.is_empty() { Err(AccessKeyError::Secret) } else { Ok(Self::new(bytes)) }
    }

    /// The secret bytes. Never log them, never put them into an error.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The id and secret with which requests are signed.
#[derive(Debug, Clone)]
pub struct AccessKey {
    id: String,
    secret: SecretBytes,
}

impl AccessKey {
    /// A key from its parts.
    ///
    /// # Errors
    /// [`AccessKeyError::Id`] when the `Authorization` field could not carry the id.
    pub fn new(id: impl Into<String>, secret: SecretBytes) -> Result<Self, AccessKeyError> {
        let id = id.into();
        let carried = |byte: u8| byte.is_ascii_graphic() && byte != b'&' && byte != b',';
        if id.is_empty() || !id.bytes().all(carried) {
            Err(AccessKeyError::Id)
        } else {
            Ok(Self { id, secret })
        }
    }

    /// The id, which is public: it travels in the clear as `Credential`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A key for another purpose (HKDF-SHA256, RFC 5869): who has it knows neither this key nor those of other purposes.
    pub fn derived(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        derive_key(self.secret.expose(), b"tagalong access key", purpose)
    }

    /// Begins a signature: base64(HMAC-SHA256(secret, string to sign)).
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104 §3)")]
    pub fn mac(&self) -> SigningMac {
        SigningMac(Hmac::<Sha256>::new_from_slice(self.secret.expose()).expect("any length is a key"))
    }
}

/// A key that follows from a secret, a salt and a purpose (HKDF-SHA256, RFC 5869).
#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes")]
pub fn derive_key(secret: &[u8], salt: &[u8], purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0; 32]);
    let (extracted, purpose) = (Salt::new(HKDF_SHA256, salt).extract(secret), [purpose]);
    let expanded = extracted.expand(&purpose, HKDF_SHA256).expect("32 bytes");
    expanded.fill(&mut *derived).expect("32 bytes");
    derived
}

/// A signature in the making. It takes the string to sign in pieces, so that nobody has to put it together.
#[derive(Debug)]
pub struct SigningMac(Hmac<Sha256>);

impl SigningMac {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Takes the next piece in upper case.
    pub fn update_in_capitals(&mut self, piece: &[u8]) {
        let mut capitals = [0; 64];
        for chunk in piece.chunks(capitals.len()) {
            let (capitals, _) = capitals.split_at_mut(chunk.len());
            capitals.copy_from_slice(chunk);
            capitals.make_ascii_uppercase();
            self.0.update(capitals);
        }
    }

    /// The signature as it is sent.
    pub fn signature(self) -> String {
        STANDARD.encode(self.0.finalize().into_bytes())
    }

    /// Whether it is this one. The comparison takes constant time.
    pub fn fits(self, presented: &Signature) -> bool {
        self.0.verify_slice(&presented.0).is_ok()
    }
}

/// A signature as it was presented.
#[derive(Clone, Copy, Debug)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Reads base64; `None` if it is not the base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Option<Self> {
        // 32 bytes are 44 characters; the decoder wants room for 33.
        let mut bytes = [0; 33];
        if text.len() != 44 || STANDARD.decode_slice(text, &mut bytes) != Ok(32) {
            return None;
        }
        bytes.first_chunk().copied().map(Self)
    }
}

impl std::str::FromStr for AccessKey {
    type Err = AccessKeyError;

    /// `ID:BASE64SECRET`. Ids of real stores contain colons (`a1b2-l0-s0:AbC`) and base64 does not: the last colon
    /// separates.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, secret) = text.trim_ascii().rsplit_once(':').ok_or(AccessKeyError::NoSeparator)?;
        Self::new(id, SecretBytes::from_base64(secret)?)
    }
}

/// The value of `x-ms-content-sha256` for a body: base64(SHA-256(body)).
pub fn content_sha256(body: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(body))
}

/// [`content_sha256`] of an empty body.
pub const EMPTY_CONTENT_SHA256: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let key: AccessKey = "test-id:c2VjcmV0".parse().unwrap();
        let printed = format!("{key:?} {:?}", key.clone().secret);
        assert!(printed.contains("***") && printed.contains("test-id"), "{printed}");
        assert!(
            !printed.contains("c2VjcmV0") && !printed.contains("secret\"") && !printed.contains("115"),
            "{printed}"
        );
    }

    #[test]
    fn the_last_colon_splits_id_and_secret() {
        let key: AccessKey = "a1b2-l0-s0:AbC:c2VjcmV0".parse().unwrap();
        assert_eq!((key.id(), key.secret.expose()), ("a1b2-l0-s0:AbC", &b"secret"[..]));
    }

    #[test]
    fn refuses_what_is_no_key() {
        for (text, error) in [
            ("no-colon", AccessKeyError::NoSeparator),
            ("id:", AccessKeyError::Secret),
            ("id:not base64!", AccessKeyError::Secret),
            (":c2VjcmV0", AccessKeyError::Id),
            ("a&b:c2VjcmV0", AccessKeyError::Id),
            ("a b:c2VjcmV0", AccessKeyError::Id),
        ] {
            assert_eq!(text.parse::<AccessKey>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn only_the_right_signature_verifies() {
        let key: AccessKey = "id:c2VjcmV0".parse().unwrap();
        let mac_of = |pieces: &[&[u8]]| {
            let mut mac = key.mac();
            pieces.iter().for_each(|piece| mac.update(piece));
            mac
        };
        let signature = mac_of(&[b"text"]).signature();
        let presented = Signature::from_base64(&signature).unwrap();
        assert!(mac_of(&[b"text"]).fits(&presented));
        assert!(mac_of(&[b"te", b"", b"xt"]).fits(&presented), "in pieces");
        assert!(!mac_of(&[b"other"]).fits(&presented));
        for wrong in ["", "AAAA", "not base64", signature.trim_end_matches('='), &"AAAA".repeat(11)] {
            assert!(Signature::from_base64(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn capitals_are_taken_in_pieces_too() {
        let key: AccessKey = "id:c2VjcmV0".parse().unwrap();
        let long = "text-with-lower-case-".repeat(50);
        let (mut as_sent, mut in_capitals) = (key.mac(), key.mac());
        as_sent.update(long.to_ascii_uppercase().as_bytes());
        in_capitals.update_in_capitals(long.as_bytes());
        assert_eq!(as_sent.signature(), in_capitals.signature());
    }

    #[test]
    fn hashes_the_empty_body_as_documented() {
        assert_eq!(content_sha256(b""), EMPTY_CONTENT_SHA256);
    }
}
