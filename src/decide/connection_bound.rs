//! Requests that authenticate their connection (RFC 4559): the origin may take all that follows on it for the same user's.

use http::HeaderMap;
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};

/// The schemes that prove an identity to the connection, not to the request.
const SCHEMES: [&[u8]; 4] = [b"negotiate", b"ntlm", b"kerberos", b"nego2"];

/// Whether a request needs a connection of its own, which no other request may use before or after it.
pub fn is_connection_bound(fields: &HeaderMap) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION].iter().any(|name| {
        fields.get_all(name).iter().any(|value| {
            let value = value.as_bytes().trim_ascii_start();
            let scheme = value.split(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
            SCHEMES.iter().any(|bound| scheme.eq_ignore_ascii_case(bound))
        })
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_schemes_of_windows_authentication_are_bound_to_their_connection() {
        for (value, expected) in [
            ("Negotiate YII=", true),
            ("negotiate\tYII=", true),
            ("NTLM TlRM", true),
            ("nTLM", true),
            ("Kerberos YII=", true),
            ("Bearer negotiate", false),
            ("Basic bnRsbTo=", false),
            ("NTLMssp x", false),
            ("HMAC-SHA256 Credential=ntlm", false),
            ("", false),
        ] {
            for name in [AUTHORIZATION, PROXY_AUTHORIZATION] {
                let fields = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
                assert_eq!(is_connection_bound(&fields), expected, "{value}");
            }
        }
    }

    #[test]
    fn one_of_several_lines_is_enough() {
        let mut fields = HeaderMap::new();
        fields.append(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        fields.append(AUTHORIZATION, HeaderValue::from_static("NTLM x"));
        assert!(is_connection_bound(&fields));
    }
}
