//! An origin that is slow, throttles or breaks, callers that leave, bodies that are large.

mod by_hand;
mod collapse;
mod deadlines;
mod streaming;
mod throttling;
