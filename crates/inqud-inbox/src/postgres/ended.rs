use super::tables::Freed;

/// What became of a settlement.
pub(super) enum Ended {
    Freed(Freed),
    EffectFailed(String),
    /// A statement did what none may do.
    Refused(String),
    Expired,
}
