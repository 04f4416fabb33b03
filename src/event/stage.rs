/// How far along a status is in the life of its object. It orders notifications that carry no time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// More is to come, such as `NEW` and `PENDING`. An early status never follows one that is not.
    Early,
    /// Settled in part. It never follows [`Success`](Self::Success).
    Partial,
    /// Settled in whole.
    Success,
    /// Settled otherwise, such as failed, refunded, or a word that this version does not know. May
    /// come before and after anything that is settled.
    Settled,
}
