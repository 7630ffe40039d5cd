//! Origins that do not keep to the contract: the mirror gives up with a named reason, and nothing wrong is answered.
