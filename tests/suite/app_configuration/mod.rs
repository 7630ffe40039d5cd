//! App Configuration, from outside: the emulator against the fact sheet, and the sidecar before it.

mod changes;
mod emulator;
mod through_sidecar;
