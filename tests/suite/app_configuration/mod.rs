//! App Configuration, from outside: the emulator against the fact sheet.

mod emulator;
