//! A fleet: many sidecars that are one polite and consistent client of an origin. They share what they know through an engine, Valkey or
//! Redis.
//!
//! ```text
//!   A ── write ──▶ origin ──▶ answer ──▶ entry: footprint and token ──▶ stream ──▶ caller of A is answered
//!                                                                         │
//!   B ◀── turn: entries in their order, or nothing for a while ◀──────────┘
//!   │       tokens into newest, the write into the log; then the entry counts as read
//!   │
//!   └─ read that the store does not answer ─▶ record, fresh and covered? ── yes ──▶ answer
//!                                                  │ no
//!                                                  └─▶ lease ── given ──▶ origin ──▶ record for all
//!                                                         └─ another has it ──▶ waits for its record, at most L
//! ```
//!
//! # The lease on coverage
//!
//! What the fleet told counts for L after the beginning of the last turn that showed that all entries were read. A member without a live
//! lease uses no records, and keeps the promises that it makes alone. A member with one lacks no write that was announced longer than L
//! ago: its next turn would have shown it.
//!
//! A member whose own write is not announced has no lease. It announces as soon as the engine answers, also before it has a lease: otherwise
//! one that writes all the time would never get one.
//!
//! # An engine that forgets
//!
//! Replication between engines is asynchronous, so a failover can lose entries that were acknowledged. A gap in the numbers, or another run, is
//! an epoch: each member announces again its newest tokens and its own writes of the last settle time, and nothing that it has stored is
//! covered until it was validated once.
//!
//! # Trust
//!
//! Entries and records are sealed with the fleet's key ([`message`]): who can write to the engine can withhold them, and give old ones again.
//! An old entry costs a validation. An old record is refused by its position, by the run, and by the wall clocks of the two members,
//! as far as these can tell.
//!
//! | file | what it is for |
//! |---|---|
//! | [`engine`] | What is asked of an engine. |
//! | [`redis`] | Redis or Valkey as an engine. |
//! | [`message`] | Entries and records, and how they are sealed. |
//! | [`clock`] | The engine's clock. |
//! | [`member`] | One member: its lease, what it announces and asks. |
//!
//! [`upstream::fleet`](crate::upstream::fleet) acts on what is heard, and [`upstream::second_level`](crate::upstream::second_level) uses records.
//!
//! The price: one round trip to the engine for each write, and for each read that goes beyond the store.

pub mod clock;
pub mod engine;
pub mod member;
pub mod message;
pub mod redis;
