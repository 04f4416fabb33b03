use crate::key::Key;

/// What [`Admin::reprocess`](crate::Admin::reprocess) did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Reprocessed {
    /// How many notifications are to be processed again, those included that follow a chosen one.
    pub requeued: usize,
    /// Chosen notifications that were left as they are, because their object is being handled. Reprocess them again
    /// later.
    pub busy: Vec<Key>,
    /// Chosen notifications that cannot be processed again, because their bodies are pruned.
    pub pruned: Vec<Key>,
    /// Chosen notifications that were never processed, and are left as they are.
    pub unprocessed: Vec<Key>,
}

/// What a store did with each number it was given, and which numbers it opened.
#[derive(Clone, Debug, Default)]
#[doc(hidden)]
pub struct Replayed {
    pub opened: Vec<i64>,
    pub busy: Vec<i64>,
    pub pruned: Vec<i64>,
    pub unprocessed: Vec<i64>,
}

/// The position of a replay is this, plus a number that grows with each notification that was processed first. So replays
/// come before all other notifications of their object, in the order in which they were processed.
pub(crate) const FIRST: i64 = i64::MIN;

/// The positions of replays are below this.
pub(crate) const END: i64 = i64::MIN / 2;
