//! `Endpoint=…;Id=…;Secret=…`: the connection string of Azure App Configuration, as the portal shows it.

use crate::headers::access_key::{AccessKey, AccessKeyError, SecretBytes};

/// Why a text is not a connection string. It never contains a part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// A part is missing.
    #[error("the connection string has no {0}; copy it whole: Endpoint=…;Id=…;Secret=…")]
    Missing(&'static str),
    /// A part occurs twice.
    #[error("the connection string has {0} twice; keep one line with one Endpoint, Id and Secret")]
    Twice(&'static str),
    /// It belongs to another store.
    #[error(
        "the Endpoint of the connection string is not the upstream {upstream}; take the connection string of that store, or name \
         the upstream to which this one belongs"
    )]
    Elsewhere {
        /// The upstream.
        upstream: String,
    },
    /// The id or the secret is not usable.
    #[error(transparent)]
    Key(#[from] AccessKeyError),
}

/// A parsed connection string.
#[derive(Clone, Debug)]
pub struct ConnectionString<'a> {
    /// The endpoint; key files for callers leave it out.
    pub endpoint: Option<&'a str>,
    /// Id and secret.
    pub key: AccessKey,
}

impl<'a> ConnectionString<'a> {
    /// Reads a connection string. Order and case of the names do not matter, nor does a `;` at the end.
    pub fn parse(text: &'a str) -> Result<Self, ConnectionStringError> {
        let (mut endpoint, mut id, mut secret) = (None, None, None);
        for part in text.split(';') {
            // A secret may end in `=`: only the first one separates.
            let Some((name, value)) = part.split_once('=') else { continue };
            let (slot, name) = match name.trim() {
                name if name.eq_ignore_ascii_case("Endpoint") => (&mut endpoint, "Endpoint"),
                name if name.eq_ignore_ascii_case("Id") => (&mut id, "Id"),
                name if name.eq_ignore_ascii_case("Secret") => (&mut secret, "Secret"),
                _ => continue,
            };
            if slot.replace(value.trim()).is_some() {
                return Err(ConnectionStringError::Twice(name));
            }
        }
        let id = id.ok_or(ConnectionStringError::Missing("Id"))?;
        let secret = secret.ok_or(ConnectionStringError::Missing("Secret"))?;
        Ok(Self { endpoint, key: AccessKey::new(id, SecretBytes::from_base64(secret)?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_portal_shows() {
        let text = "Endpoint=https://contoso.azconfig.io;Id=a1b2-l0-s0:AbC;Secret=c2VjcmV0LQ==\n";
        let parsed = ConnectionString::parse(text).unwrap();
        assert_eq!(parsed.endpoint, Some("https://contoso.azconfig.io"));
        assert_eq!(parsed.key.id(), "a1b2-l0-s0:AbC");
        let same = AccessKey::new("i", SecretBytes::new(b"secret-".to_vec())).unwrap();
        assert_eq!(parsed.key.mac().signature(), same.mac().signature());
        assert!(ConnectionString::parse("secret=c2VjcmV0; id=i;").unwrap().endpoint.is_none());
    }

    #[test]
    fn says_what_is_wrong_without_the_secret() {
        for (text, because) in [
            ("", "no Id"),
            ("Id=hunter2", "no Secret"),
            ("Id=a;Secret=hunter2!", "base64"),
            ("Id=a b;Secret=c2VjcmV0", "visible ASCII"),
            ("Id=a;Id=b;Secret=c2VjcmV0", "Id twice"),
        ] {
            let message = ConnectionString::parse(text).unwrap_err().to_string();
            assert!(message.contains(because), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
