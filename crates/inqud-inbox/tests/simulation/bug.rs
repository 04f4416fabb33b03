//! Mistakes that an inbox, its store or its merchant could make, to plant them into the simulation.

/// A planted bug.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bug {
    /// The store answers before the commit.
    AnswersBeforeCommit,
    /// An insert that failed counts as stored.
    SwallowsErrors,
    /// The last of several records of a batch is not stored.
    DropsLastOfBatch,
    /// A delivery with the status and time of a stored one is a duplicate, whatever its content is.
    DropsOtherContent,
    /// A status that comes back is a duplicate.
    DropsRepeats,
    /// An object is claimed although its lease has not expired.
    IgnoresLease,
    /// The last open notification of an object is claimed first.
    NewestFirst,
    /// With "newest only", the first open notification is claimed all the same.
    IgnoresNewest,
    /// The handler gets the body of another notification.
    SwapsBodies,
    /// A notification counts as done because it was claimed.
    ClaimIsDone,
    /// A claim that ends without a settlement counts as a failed attempt.
    CrashIsFailure,
    /// A settlement is accepted although the object was claimed again.
    IgnoresClaim,
    /// A retry is never due.
    ForgetsRetry,
    /// An object whose lease has expired is never claimed.
    ForgetsSuspects,
    /// A notification of which nothing tells whether it is later is skipped.
    SkipsUnordered,
    /// A notification that is older than what was processed is handled.
    HandlesStale,
    /// The handler commits its effect itself, and not with "done".
    EffectsApart,
    /// The layer accepts a secret that was retired.
    AcceptsRetiredSecret,
    /// The receiver waits longer than Inqud does.
    AnswersTooLate,
    /// A runner that shuts down gives up what it has claimed.
    LeavesClaims,
    /// The counts include what was inserted again after a lost answer.
    CountsTwice,
    /// If several notifications are reprocessed, only the last of them is.
    ReplaysLast,
    /// A retention deletes notifications that are too young.
    SweepsYoung,
    /// A retention forgets objects that are too young.
    SweepForgets,
    /// An arrival schedules no look.
    ForgetsArrivals,
    /// An object leaves the watch list after its first look.
    LooksOnce,
    /// An object never leaves the watch list.
    WatchStays,
    /// A look ignores the stored notifications.
    KnowsNothing,
    /// A look stores what it has fetched although a webhook arrived meanwhile.
    StoresLate,
}

impl Bug {
    pub(crate) const ALL: [Self; 29] = [
        Self::AnswersBeforeCommit,
        Self::SwallowsErrors,
        Self::DropsLastOfBatch,
        Self::DropsOtherContent,
        Self::DropsRepeats,
        Self::IgnoresLease,
        Self::NewestFirst,
        Self::IgnoresNewest,
        Self::SwapsBodies,
        Self::ClaimIsDone,
        Self::CrashIsFailure,
        Self::IgnoresClaim,
        Self::ForgetsRetry,
        Self::ForgetsSuspects,
        Self::SkipsUnordered,
        Self::HandlesStale,
        Self::EffectsApart,
        Self::AcceptsRetiredSecret,
        Self::AnswersTooLate,
        Self::LeavesClaims,
        Self::CountsTwice,
        Self::ReplaysLast,
        Self::SweepsYoung,
        Self::SweepForgets,
        Self::ForgetsArrivals,
        Self::LooksOnce,
        Self::WatchStays,
        Self::KnowsNothing,
        Self::StoresLate,
    ];
}
