//! Switches that take one clause of the coverage rule away, so that tests can show that each clause is needed.
//!
//! The configuration cannot reach them: a running sidecar always has all of them on. A switch that is off must make the
//! linearizability checker find a violation; one that does not would be a clause that nobody tests.

/// The clauses of design section 3 that are marked as needed, plus two mistakes that are easy to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clauses {
    /// Rule 1: a stored response must cover `observed`.
    pub covers_observed: bool,
    /// Rule 2: what a caller presented must be included in what is covered.
    pub covers_presented: bool,
    /// Rule 3: writes that can have touched it must have been closed in the snapshot.
    pub covers_writes: bool,
    /// A write of unknown outcome counts as happened.
    pub unknown_counts_as_happened: bool,
    /// Without tokens an unknown write stays open for the settle time.
    pub unknown_stays_open: bool,
    /// `observed` and the write log are brought up to date before the answer is passed on.
    pub news_before_answer: bool,
    /// An answer without a token to a write waits for other open writes of the same key.
    pub tokenless_answer_waits: bool,
    /// The snapshot holds which writes are closed, not how many have opened.
    pub snapshot_counts_closed: bool,
    /// What was sent counts as covered, never what was received.
    pub sent_not_received: bool,
    /// A 304 raises the coverage of the response whose tag was sent, and of no other.
    pub freshens_the_one_in_hand: bool,
    /// A request joins a flight only if the flight's snapshot satisfies what the joiner required.
    pub joiner_checks_snapshot: bool,
    /// What comes back late never replaces a stored response with a greater coverage.
    pub late_never_replaces: bool,
    /// A caller's own token never enters `observed`. (Off: it is merged, and one caller can poison all.)
    pub callers_never_merged: bool,
    /// Filters match every key-value that they may contain. (Off: a prefix filter matches only its own text.)
    pub filters_match_fully: bool,
}

impl Clauses {
    /// All clauses on: the only value outside tests.
    pub const ALL: Self = Self {
        covers_observed: true,
        covers_presented: true,
        covers_writes: true,
        unknown_counts_as_happened: true,
        unknown_stays_open: true,
        news_before_answer: true,
        tokenless_answer_waits: true,
        snapshot_counts_closed: true,
        sent_not_received: true,
        freshens_the_one_in_hand: true,
        joiner_checks_snapshot: true,
        late_never_replaces: true,
        callers_never_merged: true,
        filters_match_fully: true,
    };
}

impl Default for Clauses {
    fn default() -> Self {
        Self::ALL
    }
}
