//! Switches that take one clause of the coverage rule away, so that tests can show that each clause is needed.
//!
//! They exist in test builds alone. Without the feature `internals`, [`Clauses`] has no fields: each clause is the constant
//! `true`, and the mistakes that a switch would permit are not compiled. With it, a switch that is off must make a checker
//! of the simulation find a violation; a clause for which it finds none would not be tested. One of them,
//! `required_apart_from_newest`, costs hits instead.

macro_rules! clauses {
    ($($(#[$doc:meta])* $clause:ident,)*) => {
        /// The clauses of the coverage rule, each a switch.
        #[cfg(any(test, feature = "internals"))]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Clauses {
            $($(#[$doc])* pub $clause: bool,)*
        }

        #[cfg(any(test, feature = "internals"))]
        impl Clauses {
            /// All clauses on.
            pub const ALL: Self = Self { $($clause: true,)* };

            $($(#[$doc])* #[must_use] pub const fn $clause(self) -> bool { self.$clause })*
        }

        /// The clauses of the coverage rule. All of them hold.
        #[cfg(not(any(test, feature = "internals")))]
        #[derive(Clone, Copy, Debug)]
        pub struct Clauses {}

        #[cfg(not(any(test, feature = "internals")))]
        impl Clauses {
            /// All clauses.
            pub const ALL: Self = Self {};

            $($(#[$doc])* #[must_use] pub const fn $clause(self) -> bool { true })*
        }
    };
}

clauses! {
    /// `required` rises only with answers that show a change. (Off: it is `newest`, which is safe and leaves next to
    /// nothing to reuse where sequence numbers rise by themselves.)
    required_apart_from_newest,
    /// Rule 1: a stored response covers `required`, or is the latest revelation.
    covers_required,
    /// Rule 2: what a caller presented must be included in what is covered.
    covers_presented,
    /// Rule 3: writes that can have touched it must have been closed in the snapshot.
    covers_writes,
    /// A first answer shows a change.
    first_answers_show_change,
    /// An answer that is not stored, or that passes by the store, shows a change like any other.
    unstored_answers_show_change,
    /// `Last-Modified` exempts single key-values only. (Off: lists and 404s, which nothing dates, are exempted as well.)
    exempts_only_dated_singles,
    /// Exempted answers count as revelations.
    exempted_are_revelations,
    /// The latest revelation is told by its number. (Off: by the token that its answer carried.)
    latest_revelation_by_counter,
    /// The order of sending stands in where tokens do not tell states apart.
    order_stands_in_for_tokens,
    /// A list validates the stored key-values that it contains with the same tag, and no others.
    list_validation_needs_equal_tag,
    /// A value whose id the origin does not answer with stays unknown. (Off: it is taken as demanding nothing.)
    unanswered_id_stays_unknown,
    /// A write of unknown outcome counts as happened.
    unknown_counts_as_happened,
    /// Where tokens do not tell, an unknown write stays open for the settle time.
    unknown_stays_open,
    /// `newest`, `required` and the write log are brought up to date before the answer is passed on.
    news_before_answer,
    /// An answer without a token to a write waits for other open writes of the same key.
    tokenless_answer_waits,
    /// The snapshot holds which writes are closed, not how many have opened.
    snapshot_counts_closed,
    /// What was sent counts as covered, never what was received.
    sent_not_received,
    /// A 304 raises the coverage of the response whose tag was sent, and of no other.
    freshens_the_one_in_hand,
    /// A request joins a fetch only if the fetch's snapshot satisfies what the joiner required.
    joiner_checks_snapshot,
    /// What a mirror makes of several ranges has the least of their coverages. (Off: the greatest.)
    mirrored_lists_cover_least,
    /// A state that the answer to an own write told raises the coverage of no range.
    prediction_keeps_coverage,
    /// A caller's own token never enters `newest`. (Off: it is merged, and one caller can poison all.)
    callers_never_merged,
    /// Filters match every key-value that they may contain. (Off: a prefix filter matches only its own text.)
    filters_match_fully,
}

impl Default for Clauses {
    fn default() -> Self {
        Self::ALL
    }
}

// The release build has no switches: the struct has no fields.
#[cfg(not(any(test, feature = "internals")))]
const _: () = assert!(size_of::<Clauses>() == 0);
