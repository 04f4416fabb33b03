//! Stand-ins for the features that are off: the same names, which do nothing.

#[cfg(not(any(feature = "metrics", feature = "tracing")))]
pub(crate) use self::neither::{
    Attempt, Receipt, deleted, describe, failed, looked, open_objects, record_stats, rejection,
    unclaimed,
};
#[cfg(all(feature = "tracing", not(feature = "metrics")))]
pub(super) use self::no_metrics::{
    committed, deleted, describe, done, handled, looked, open_objects, processed, received,
    record_stats, rejection,
};
#[cfg(all(feature = "metrics", not(feature = "tracing")))]
pub(super) use self::no_tracing::{Span, failed, looked, refused, review_on_receipt, unclaimed};

#[cfg(all(feature = "tracing", not(feature = "metrics")))]
mod no_metrics {
    use std::time::Duration;

    use crate::stats::{KindStats, Stats};

    pub(crate) fn describe() {}

    pub(crate) fn received(_: &'static str, _: &'static str) {}

    pub(crate) fn committed(_: &'static str, _: Duration) {}

    pub(crate) fn processed(_: &'static str, _: &'static str, _: &'static str) {}

    pub(crate) fn handled(_: &'static str, _: Duration) {}

    pub(crate) fn done(_: &'static str, _: Duration) {}

    pub(crate) fn looked(_: &'static str, _: &'static str) {}

    pub(crate) fn deleted(_: &'static str, _: usize) {}

    pub(crate) fn rejection(_: &'static str, _: usize) {}

    pub(crate) fn record_stats(_: &Stats, _: Vec<KindStats>, _: &[String]) {}

    pub(crate) fn open_objects(_: &'static str, _: u64) {}
}

#[cfg(all(feature = "metrics", not(feature = "tracing")))]
mod no_tracing {
    use std::time::Duration;

    use crate::error::InboxError;
    use crate::key::Key;
    use crate::reconciled::Reconciled;
    use crate::telemetry::decided::Decided;

    pub(crate) struct Span;

    impl Span {
        pub(crate) fn new(_: &'static str, _: Key, _: u32, _: &'static str) -> Self {
            Self
        }

        pub(crate) fn around<F: Future>(
            &self,
            work: F,
        ) -> impl Future<Output = F::Output> + use<F> {
            work
        }

        pub(crate) fn handled(&self, _: Duration) {}

        /// Reads the fields that only the log uses, so that they are not unused.
        pub(crate) fn settled(&self, decided: &Decided, _: &str) {
            match decided {
                Decided::Retry(error, after) => _ = (error, after),
                Decided::Dead(error) => _ = error,
                _ => {}
            }
        }

        pub(crate) fn failed_after_commit(&self, _: &str) {}

        pub(crate) fn lease_expired(&self) {}

        pub(crate) fn ended(&self, _: &'static str) {}
    }

    pub(crate) fn review_on_receipt(_: &'static str) {}

    pub(crate) fn unclaimed(_: &str) {}

    pub(crate) fn looked(_: &'static str, _: &Reconciled) {}

    pub(crate) fn refused(_: &'static str, _: &InboxError) {}

    pub(crate) fn failed(_: &InboxError) {}
}

#[cfg(not(any(feature = "metrics", feature = "tracing")))]
mod neither {
    use crate::error::InboxError;
    use crate::inserted::Inserted;
    use crate::reconciled::Reconciled;
    use crate::stats::{KindStats, Stats};
    use crate::store::{Claimed, Outcome};

    pub(crate) fn describe() {}

    pub(crate) struct Receipt;

    impl Receipt {
        pub(crate) fn begin(_: &'static str) -> Self {
            Self
        }

        pub(crate) fn undecodable(&mut self) {}

        pub(crate) fn stored(self, _: Inserted) {}

        pub(crate) fn refused(self, _: &InboxError) {}

        pub(crate) fn without_notification(self) {}
    }

    pub(crate) struct Attempt;

    impl Attempt {
        pub(crate) fn begin(_: &'static str, _: &Claimed) -> Self {
            Self
        }

        pub(crate) fn handling<F: Future>(
            &mut self,
            work: F,
        ) -> impl Future<Output = F::Output> + use<F> {
            work
        }

        pub(crate) fn handled(&mut self) {}

        pub(crate) fn decide<E>(&mut self, _: &Outcome<E>) {}

        pub(crate) fn settled(self) {}

        pub(crate) fn completed(self) {}

        pub(crate) fn lease_expired(self) {}

        pub(crate) fn unsettled(self) {}
    }

    pub(crate) fn failed(_: &InboxError) {}

    pub(crate) fn looked(_: &'static str, _: &Reconciled) {}

    pub(crate) fn deleted(_: &'static str, _: usize) {}

    pub(crate) fn rejection(_: &'static str, _: usize) {}

    pub(crate) fn unclaimed(_: &str) {}

    pub(crate) fn record_stats(_: &Stats, _: Vec<KindStats>, _: &[String]) {}

    pub(crate) fn open_objects(_: &'static str, _: u64) {}
}
