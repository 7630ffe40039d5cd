//! One real-time-consistent store for all local callers of one upstream endpoint: coverage, its rules, and their clauses.
//!
//! # The contract of the origin
//!
//! A request that carries a `Sync-Token` is answered with state at least as new as that token. An answer's token is at least
//! as new as the state that the answer shows; it may be newer, because a front end may know more than the replica that
//! answered. Nothing more is promised. The sequence number (`sn`) rises without any write: it is the change counter of a
//! partition that many stores share. An origin without tokens, or with a constant one, is taken to be consistent by itself.
//!
//! # What is kept, per upstream endpoint
//!
//! - **newest** ([`aggregate`]): for each token id the value with the highest `sn` in any answer of the origin. It is what
//!   goes upstream. A token that a caller presents never enters it by itself (clause `callers_never_merged`).
//! - **required** ([`aggregate`]): the same shape, never ahead of newest. It is what stored responses must cover, and the
//!   one line that callers are given. It rises to the token of an answer that shows a change, and with no other answer:
//!   [`decide::shows_change`](crate::decide::shows_change) says which those are. A 304 shows nothing that was not shown
//!   before, so nothing else needs to be as new; that is why an `sn` that rises by itself costs no validation.
//! - **revelations** ([`session`]): the number of answers that have shown a change so far, those included that
//!   `Last-Modified` keeps from raising required (clause `exempted_are_revelations`).
//! - **the write log** ([`write_log`]): the unsafe requests that went upstream. A write is *open* from before its first byte
//!   until its answer has arrived. One of unknown outcome counts as happened (`unknown_counts_as_happened`); where tokens do
//!   not tell states apart it stays open for the settle time, because it may take effect late (`unknown_stays_open`).
//!
//! All are brought up to date before the answer that carries the news is passed on (`news_before_answer`). Where the operator names
//! a file, newest is written there as well ([`persisted`]); after a restart it is newest and required.
//!
//! # Coverage
//!
//! Every request upstream takes a *snapshot* before its first byte: the tokens that it sends, and which writes are closed
//! (not how many have opened: `snapshot_counts_closed`). The snapshot is the [`coverage`] of what it brings back: what was
//! sent counts, never what was received (`sent_not_received`). A retry keeps the older snapshot.
//!
//! # The rules
//!
//! A stored response may be reused without asking the origin only if it is fresh and
//!
//! 1. it covers `required`, or is the latest revelation (`covers_required`);
//! 2. every token value that this caller presented is included in what it covers (`covers_presented`);
//! 3. every write that can have touched it was closed in its snapshot (`covers_writes`).
//!
//! *The latest revelation.* A response that itself showed a change need not cover the token of its answer while no later
//! answer has shown a change, provided that what was sent covered `required` as it was on arrival. The counter is compared, never
//! the token: two answers can carry the same one (`latest_revelation_by_counter`). Other revelations between its sending and its
//! arrival do no harm: all that they showed is included in `required` on arrival (those that raise put their token there, which is
//! as new as what they show, and those that do not are exempted because it is there), hence in what was sent, and the answer is
//! at least as new as that.
//!
//! *The order of sending* stands in where tokens do not tell states apart: an answer that shows a change then outdates
//! everything that was sent before it arrived (`order_stands_in_for_tokens`). For an API whose resources are not known to
//! belong together it does so only for the resource that it is about ([`resource_order`]), unless the operator says that they do
//! belong together (`related = true`).
//!
//! *Lists validate keys.* A list answered 200 or 304 does for each stored single key-value that it contains with the same tag
//! what a 304 for that key would do (`list_validation_needs_equal_tag`); one with another tag is outdated.
//!
//! *Own writes* do not raise `required`, nor does a read that shows only states of which the answer to an own write told:
//! rule 3 takes care of what they touch. The answer to a write carries its own token to its caller, who may hand it on.
//!
//! *What comes back late* does not replace a stored response with a greater coverage. That is no clause: the rules judge
//! whatever is stored by its own coverage, and one that was sent earlier covers less. It saves validations, and keeps the newer
//! response for when the origin cannot be reached.
//!
//! *A snapshot* restores responses of an earlier process, whose numbers mean nothing here. They cover nothing
//! ([`Coverage::NOTHING`](coverage::Coverage::NOTHING)): rule 1 fails until an answer of the origin has confirmed them.
//!
//! *A fleet* shares writes and tokens through an engine ([`fleet_order`]). A write of another member is a closed write here, from the moment in
//! which its entry counts as read; its tokens were merged into newest before. What another member sent covers what it had sent, and what it
//! had read. Required stays each sidecar's own: it is what its own callers were shown.
//!
//! *Presented tokens* come without `sn`. A value that passed through here is known with the `sn` that it came with. For an
//! unknown one nothing stored counts: the origin is asked with it, and the `sn` that comes back is what the value demands from
//! then on. A value whose id the origin does not answer with stays unknown (`unanswered_id_stays_unknown`).

pub mod aggregate;
pub mod clauses;
pub mod coverage;
pub mod fleet_order;
mod known_values;
pub mod persisted;
pub mod resource_order;
mod rises;
pub mod session;
pub mod token;
pub mod write_log;
