use jiff::Timestamp;

/// The number of notifications in each state, by kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// One entry for each kind that has any notification to count, sorted by name.
    pub kinds: Vec<KindStats>,
}

/// The number of notifications of one kind in each state.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct KindStats {
    /// The [name of the type](crate::Storable::KIND).
    pub kind: String,
    /// Notifications that are not settled yet.
    pub backlog: u64,
    /// When the oldest notification of the backlog was stored.
    pub oldest: Option<Timestamp>,
    /// Dead letters.
    pub dead: u64,
    /// Notifications that are kept for [review](tower_inqud::Verdict::Review).
    pub review: u64,
    /// Notifications that were skipped because they were stale, or discarded.
    pub skipped: u64,
}

impl KindStats {
    pub(crate) fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }
}

impl Stats {
    /// Notifications of all kinds that are not settled yet.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.sum(|kind| kind.backlog)
    }

    /// Dead letters of all kinds.
    #[must_use]
    pub fn dead(&self) -> u64 {
        self.sum(|kind| kind.dead)
    }

    /// Notifications of all kinds that are kept for review.
    #[must_use]
    pub fn review(&self) -> u64 {
        self.sum(|kind| kind.review)
    }

    /// Notifications of all kinds that were skipped or discarded.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.sum(|kind| kind.skipped)
    }

    /// When the oldest notification of the backlog was stored.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.kinds.iter().filter_map(|kind| kind.oldest).min()
    }

    /// The counts of a kind, which are added if they are missing.
    pub(crate) fn kind(&mut self, kind: &str) -> &mut KindStats {
        let at = self.kinds.iter().position(|it| it.kind == kind).unwrap_or_else(|| {
            self.kinds.push(KindStats::new(kind));
            self.kinds.len().saturating_sub(1)
        });
        #[allow(clippy::indexing_slicing, reason = "it was found or added")]
        &mut self.kinds[at]
    }

    fn sum(&self, count: impl Fn(&KindStats) -> u64) -> u64 {
        self.kinds.iter().map(count).fold(0, u64::saturating_add)
    }
}
