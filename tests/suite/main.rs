//! One binary for all tests of the project and the running program from outside.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed; clippy excuses only the functions marked #[test]"
)]

mod app_configuration;
mod attacks;
mod budget;
#[cfg(test)]
mod consistency;
mod credentials;
mod dependencies;
mod emulator_data;
mod explain;
mod faults;
mod fleet;
mod fuzz;
mod layering;
mod operations;
mod refresh_ahead;
mod replicas;
mod rfc9111;
mod support;
mod upstream_tls;
