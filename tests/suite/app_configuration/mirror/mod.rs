//! A mirror between callers and the emulator: in memory, in paused time.

mod bad_origin;
mod behaviour;
mod differential;
