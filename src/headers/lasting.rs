//! Field values that a process makes once and sends again and again.

use http::HeaderValue;

/// The same value for as long as the process lives. Its copies count no references, which saves each answer two atomic operations. Its
/// text is never freed: only for values that are made a bounded number of times.
pub fn lasting(value: &HeaderValue) -> HeaderValue {
    // What is text here may stand in a static value, which asks for the same characters.
    value.to_str().map_or_else(|_| value.clone(), |text| HeaderValue::from_static(text.to_owned().leak()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_value_whatever_bytes_it_has() {
        for bytes in [&b"tagalong; hit; ttl=1"[..], b"", b"a\tb", b"\xe4", b"caf\xc3\xa9"] {
            let value = HeaderValue::from_bytes(bytes).expect("a field value");
            assert_eq!(lasting(&value), value);
        }
    }
}
