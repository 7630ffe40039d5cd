//! Origins that are slow, throttle or fail, callers that leave, and large bodies.

mod by_hand;
mod collapse;
mod connections;
mod deadlines;
mod streaming;
mod throttling;
