//! Mistakes that an inbox could make, to plant them into the model.

/// A planted bug.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bug {
    /// The receiver answers 200 before the commit.
    AnswersBeforeCommit,
    /// A delivery with the id, status and time of a stored one is a duplicate, whatever its content is.
    DropsOtherContent,
    /// A status that comes back is a duplicate.
    DropsRepeats,
    /// Notifications without times are ordered by rank, and not by arrival.
    SortsByRank,
    /// A notification that is older than what was processed is handled.
    HandlesStale,
    /// A notification of which nothing tells whether it is later is skipped.
    SkipsUnordered,
    /// The handler gets the first notification of the object.
    HandlesFirst,
    /// What was processed without a time forgets the time of what was processed before.
    ForgetsTime,
    /// A redriven notification takes a new place in the order of arrival.
    RedriveMoves,
    /// A claim that ends without a settlement counts as a failed attempt.
    CrashIsFailure,
    /// A notification counts as done because it was claimed.
    ClaimIsDone,
    /// An effect is committed before "done", and not with it.
    EffectsApart,
    /// A settlement is accepted although the object was claimed again.
    IgnoresClaim,
    /// A settlement that is repeated, because its answer was lost, is committed again.
    SettlesTwice,
    /// An object is claimed although its lease has not expired.
    IgnoresLease,
    /// An object whose lease has expired is never claimed.
    ForgetsSuspects,
    /// A retry is never due.
    ForgetsRetry,
    /// An object with a dead letter is never claimed.
    DeadBlocks,
    /// Two notifications of an object wait for each other, so a retry is claimed and put back forever.
    ClaimsInACircle,
    /// Only the chosen notifications are reprocessed, without the later ones.
    ReplaysOne,
    /// A replay counts as processed again.
    ReplayIsProcessed,
    /// A replay gets a new verdict.
    ReplayIsJudged,
    /// Replays come after later arrivals.
    ReplaysLast,
    /// An object is reprocessed while one of its notifications is handled.
    ReplaysLeased,
    /// A notification without a body is reprocessed.
    ReplaysEmpty,
    /// With "newest only", what is older is skipped without a look at its verdict.
    SkipsAllOlder,
    /// With "newest only", a replay waits for the retry of the newest notification.
    ReplayWaits,
    /// A retention deletes within the duplicate window.
    SweepsYoung,
    /// A retention deletes what is not settled.
    SweepsOpen,
    /// A retention deletes what is known of an object together with its notifications.
    SweepForgets,
    /// A look stores what it has fetched although a webhook arrived meanwhile.
    StoresLate,
    /// A look reads what is stored after it has fetched.
    KnowsLate,
    /// A look stores what it has fetched although the object is known to end like this.
    StoresAgain,
    /// A look that was replaced by another one ends that one.
    EndsOthers,
    /// An object stays on the watch list after what was fetched is read.
    WatchStays,
    /// A later arrival moves no look.
    ArrivalKeepsLook,
    /// An arrival moves a look although a later one has.
    AnyArrivalMovesLook,
    /// The looks before an arrival count on.
    ArrivalKeepsCount,
    /// A look is due although it is leased.
    LookIgnoresLease,
    /// A look that the API has not answered counts.
    FailedLookCounts,
    /// An object leaves the watch list before the fetched notification is read.
    WatchForgets,
    /// Dead letters and discarded notifications count as known.
    LookTrustsDead,
}

impl Bug {
    pub(crate) const ALL: [Self; 35] = [
        Self::AnswersBeforeCommit,
        Self::DropsOtherContent,
        Self::DropsRepeats,
        Self::SortsByRank,
        Self::HandlesStale,
        Self::SkipsUnordered,
        Self::HandlesFirst,
        Self::ForgetsTime,
        Self::RedriveMoves,
        Self::CrashIsFailure,
        Self::ClaimIsDone,
        Self::EffectsApart,
        Self::IgnoresClaim,
        Self::SettlesTwice,
        Self::IgnoresLease,
        Self::ForgetsSuspects,
        Self::ForgetsRetry,
        Self::DeadBlocks,
        Self::ClaimsInACircle,
        Self::ReplaysOne,
        Self::ReplayIsProcessed,
        Self::ReplayIsJudged,
        Self::ReplaysLast,
        Self::ReplaysLeased,
        Self::ReplaysEmpty,
        Self::SkipsAllOlder,
        Self::ReplayWaits,
        Self::SweepsYoung,
        Self::SweepsOpen,
        Self::SweepForgets,
        Self::StoresLate,
        Self::KnowsLate,
        Self::StoresAgain,
        Self::EndsOthers,
        Self::WatchStays,
    ];

    /// Mistakes in looks. The comparison with the real stores notices each. The last seven are planted for it only.
    pub(crate) const OF_LOOKS: [Self; 12] = [
        Self::StoresLate,
        Self::KnowsLate,
        Self::StoresAgain,
        Self::EndsOthers,
        Self::WatchStays,
        Self::ArrivalKeepsLook,
        Self::AnyArrivalMovesLook,
        Self::ArrivalKeepsCount,
        Self::LookIgnoresLease,
        Self::FailedLookCounts,
        Self::WatchForgets,
        Self::LookTrustsDead,
    ];
}
