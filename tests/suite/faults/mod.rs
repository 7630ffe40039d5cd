//! Origins that are slow, throttle or fail, callers that leave, and large bodies.

mod by_hand;
mod collapse;
mod deadlines;
mod streaming;
mod throttling;
