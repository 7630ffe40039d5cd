//! tagalong
