//! The rules of HTTP caching (RFC 9111).

mod differential;
