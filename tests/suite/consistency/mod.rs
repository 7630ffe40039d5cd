//! Design section 3, shown by simulation: a store with lagging replicas, many callers, faults, and a checker over what each
//! caller was told.

mod callers;
mod checker;
mod checker_tests;
mod clauses;
mod emulated;
mod fronts;
mod history;
mod interleaving;
mod monotonic;
mod origin;
mod reset;
mod scenarios;
mod shrink;
mod simulation;
mod tests;
mod timeline;
mod transport;
