use std::net::IpAddr;

use jiff::Timestamp;

#[cfg(doc)]
use crate::record::Storable;

/// A call that a layer has rejected: an entry of a [`RejectionLog`](crate::RejectionLog).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LoggedRejection {
    /// When it was rejected, by the system's clock.
    pub at: Timestamp,
    /// The [kind](Storable::KIND) of the layer's type.
    pub kind: String,
    /// Why: the name of the [`RejectionKind`](tower_inqud::RejectionKind), such as `digest_mismatch`.
    pub reason: String,
    /// The likely cause: the name of the [`Diagnosis`](tower_inqud::Diagnosis) of a wrong digest, the path of the field that
    /// could not be decoded, or the kind that was found instead.
    pub diagnosis: Option<String>,
    /// The address that it came from, if the log [knows it](crate::RejectionLog::source).
    pub source: Option<IpAddr>,
    /// The length of its body, as its head says.
    pub content_length: Option<u64>,
    /// How many rejected calls before this one are not in the log, because they were too many or the store failed.
    pub dropped: u64,
}

impl LoggedRejection {
    /// The numbers as a database has them.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn numbers(&self) -> (i64, Option<i64>, i64) {
        let clamp = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        (self.at.as_microsecond(), self.content_length.map(clamp), clamp(self.dropped))
    }

    /// From what a database has.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn of(
        (at, content_length, dropped): (i64, Option<i64>, i64),
        [kind, reason]: [String; 2],
        diagnosis: Option<String>,
        source: Option<String>,
    ) -> Self {
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        Self {
            at: Timestamp::from_microsecond(at).unwrap_or_default(),
            kind,
            reason,
            diagnosis,
            source: source.and_then(|it| it.parse().ok()),
            content_length: content_length.map(count),
            dropped: count(dropped),
        }
    }
}
