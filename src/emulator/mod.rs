//! An App Configuration origin in this binary, for demos, for tests, and for development without a subscription. It is
//! independent of the proxy's path.
//!
//! A request goes `serve` → `service` (`faults`, `counts`) → `origin` (sizes, `authentication`, method) → `routing`
//! (path, query, api-version) → one of `endpoints`, which reads or changes the `configuration_store` under one lock →
//! `answer`. A change is recorded before it takes effect (`change`), and each of the `replicas` shows it some time
//! later. `tokens` name the state that an answer shows and the state that a request asks for.

pub mod admin;
pub mod answer;
pub mod authentication;
pub mod change;
pub mod configuration_store;
pub mod counts;
pub mod drift;
pub mod endpoints;
pub mod events;
pub mod faults;
pub mod history;
pub mod journal;
pub mod key_values;
pub mod options;
mod origin;
pub mod page;
pub mod precondition;
pub mod presented;
pub mod problem;
pub mod replicas;
mod routing;
mod run;
pub mod seed;
pub mod seeded;
pub mod serve;
pub mod service;
pub mod snapshot;
pub mod tokens;

pub use options::{EmulatorSettings, Options};
pub use origin::Emulator;
pub use run::{EmulatorError, Running, run};
