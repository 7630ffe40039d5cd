//! The consistency rule (`src/sync_token/mod.rs`), shown by simulation: a store with lagging replicas, many callers, faults, and
//! a checker over what each caller was told.

mod callers;
mod checker;
mod checker_tests;
mod clauses;
mod emulated;
mod foreign_timeline;
mod foreign_timeline_tests;
mod fronts;
mod history;
mod interleaving;
mod issued_tokens;
mod long_form;
mod monotonic;
mod one_state;
mod origin;
mod origin_answers;
mod origin_tests;
mod reset;
mod scenarios;
mod shrink;
mod simulation;
mod tests;
mod timeline;
mod transport;
