//! Both features off: the same names, and no work.

use crate::inbox::{Claimed, InboxError, KindStats, Outcome, Put, Stats};

pub(crate) fn describe() {}

pub(crate) struct Receipt;

impl Receipt {
    pub(crate) fn begin(_: &'static str) -> Self {
        Self
    }

    pub(crate) fn undecodable(&mut self) {}

    pub(crate) fn stored(self, _: Put) {}

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

    pub(crate) fn lapsed(self) {}

    pub(crate) fn unsettled(self) {}
}

pub(crate) fn failed(_: &InboxError) {}

pub(crate) fn unclaimed(_: &str) {}

pub(crate) fn looked(_: &Stats, _: Vec<KindStats>) {}
