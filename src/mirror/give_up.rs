//! Why a mirror gives up: per-key caching goes on, and nothing is answered from the mirror.

use crate::words::words;

words! {
    /// What the origin did, or the store outgrew. The word stands in `Cache-Status; detail=`, logs and metrics.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum GiveUpReason {
        /// More items or bytes than the bounds allow.
        Bound = "mirror-bound",
        /// A page out of the order of keys and labels, one that repeats an item, or pages that never end.
        Order = "mirror-order",
        /// A page that is none, or does not lead to the next one.
        Page = "mirror-page",
        /// A key or label with control characters, or an entity tag that is none.
        Name = "mirror-name",
        /// An answer to a condition that ignores it.
        Condition = "mirror-condition",
        /// An answer that may not be stored.
        NotStored = "mirror-not-stored",
        /// The origin refuses the sidecar's credential, so what a snapshot restored was forgotten.
        Forbidden = "mirror-forbidden",
        /// No api-version that the mirror knows is accepted.
        Version = "mirror-version",
    }
}
