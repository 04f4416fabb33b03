/// How far along a status is in the lifecycle of its object. Orders notifications that have no time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Stage {
    /// Not settled yet, such as `NEW` and `PENDING`. An early status never follows a settled one.
    Early,
    /// Settled in part, such as `PARTIAL_SUCCESS`. It never follows [`Success`](Self::Success).
    Partial,
    /// Settled in full.
    Success,
    /// Settled otherwise, such as failed, refunded, or a status that this version does not know. It may come
    /// before and after any other settled status.
    Settled,
}
