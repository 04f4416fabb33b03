use std::fmt;
use std::time::Duration;

/// What a look at one object has found.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum LookOutcome {
    /// The inbox has the state that the API shows.
    Agreed,
    /// The API shows a state that no webhook brought. It is stored, and handled like one. **Alert on it**: webhooks are
    /// being lost.
    Recovered,
    /// The inbox has a later state than the API shows. Nothing is stored.
    Ahead,
    /// The API does not know the object.
    Missing,
    /// The API could not answer, or the answer was of no use. The object is looked at again.
    Later,
}

impl LookOutcome {
    /// The name in logs and metrics: `agreed`, `recovered`, `ahead`, `missing` or `later`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Recovered => "recovered",
            Self::Ahead => "ahead",
            Self::Missing => "missing",
            Self::Later => "later",
        }
    }
}

impl fmt::Display for LookOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A look at one object.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Reconciled {
    /// The tenant of the object, if any.
    pub tenant: Option<String>,
    /// The id of the object.
    pub id: String,
    /// What the look has found.
    pub outcome: LookOutcome,
    /// The status that the API shows. It comes from the API, so escape it.
    pub status: Option<String>,
    /// Why the object is to be looked at later.
    pub reason: Option<String>,
    /// How many notifications that were kept for review the look has settled.
    pub reviews: usize,
    /// Set if the API itself could not answer: for how long it asked to be left alone, or zero.
    pub(crate) after: Option<Duration>,
}

/// The number of looks with each outcome.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ReconcileReport {
    /// See [`LookOutcome::Agreed`].
    pub agreed: u64,
    /// See [`LookOutcome::Recovered`].
    pub recovered: u64,
    /// See [`LookOutcome::Ahead`].
    pub ahead: u64,
    /// See [`LookOutcome::Missing`].
    pub missing: u64,
    /// See [`LookOutcome::Later`].
    pub later: u64,
}

impl ReconcileReport {
    /// Counts a look.
    pub fn add(&mut self, outcome: LookOutcome) {
        let count = match outcome {
            LookOutcome::Agreed => &mut self.agreed,
            LookOutcome::Recovered => &mut self.recovered,
            LookOutcome::Ahead => &mut self.ahead,
            LookOutcome::Missing => &mut self.missing,
            LookOutcome::Later => &mut self.later,
        };
        *count = count.saturating_add(1);
    }
}
