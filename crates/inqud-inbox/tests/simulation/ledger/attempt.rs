//! What must be true of the attempts to handle a notification.

use inqud_inbox::{Settled, State, Ticket};
use tokio::time::Instant;
use tower_inqud::{Processed, Verdict};

use super::{Check, Ledger, check};

impl Ledger {
    /// The merchant's change of the object's row, in the commit of "done".
    pub(crate) fn effect(&mut self, seq: usize, verdict: Verdict) -> Check {
        let row = &mut self.rows[seq];
        let at = row.object;
        let object = &mut self.objects[at];
        row.effects += 1;
        check(row.effects == 1, || format!("object {at}: the effect of row {seq} happened twice"))?;
        object.state = Some(seq);
        if row.is_replay {
            return check(row.verdict == Some(verdict), || {
                format!("object {at}: the replay of row {seq} is {verdict}, not {:?}", row.verdict)
            });
        }
        let arrival = i64::try_from(seq).unwrap();
        let expected = row.order_key.verdict(arrival, row.is_reviewed, object.processed.as_ref());
        check(expected.should_handle(), || {
            format!("object {at}: row {seq} was handled and is {expected}")
        })?;
        check(expected == verdict, || {
            format!("object {at}: the handler of row {seq} was told {verdict}, not {expected}")
        })?;
        object.processed =
            Some(Processed::after(object.processed.as_ref(), &row.order_key, arrival));
        object.processed_row = Some(seq);
        Ok(())
    }

    /// What must happen once for each object.
    pub(crate) fn ship(&mut self, seq: usize) -> Check {
        let at = self.rows[seq].object;
        self.objects[at].shipped += 1;
        check(self.objects[at].shipped == 1, || format!("object {at}: it was shipped twice"))
    }

    /// What happens instead, for each later one.
    pub(crate) fn shipped_before(&self, seq: usize) -> Check {
        let at = self.rows[seq].object;
        check(self.objects[at].shipped == 1, || format!("object {at}: it was never shipped"))
    }

    /// A settlement was committed, or was refused.
    pub(crate) fn settled(
        &mut self,
        ticket: &Ticket,
        outcome: Ended,
        settled: &Settled,
        max_attempts: u32,
    ) -> Check {
        let seq = usize::try_from(ticket.seq).unwrap();
        let is_current = self.lease(ticket).is_some();
        let row = &mut self.rows[seq];
        let at = row.object;
        match settled {
            Settled::EffectFailed(_) => return Ok(()),
            Settled::LeaseExpired => {
                return check(!is_current, || format!("object {at}: a valid claim was refused"));
            }
            Settled::Done { .. } => {}
            other => return Err(format!("object {at}: {other:?}")),
        }
        check(is_current, || format!("object {at}: row {seq} was settled after another claim"))?;
        self.objects[at].lease = None;
        let processed = self.objects[at].processed.as_ref();
        row.state = match outcome {
            Ended::Done => {
                check(row.effects == 1, || {
                    format!("object {at}: row {seq} is done, with {} effects", row.effects)
                })?;
                if !row.is_replay {
                    self.processed += 1;
                    (row.rank, row.verdict) = (self.processed, Some(ticket.verdict));
                }
                State::Done
            }
            Ended::Skipped => {
                let arrival = i64::try_from(seq).unwrap();
                let verdict = row.order_key.verdict(arrival, row.is_reviewed, processed);
                check(verdict == Verdict::Stale, || {
                    format!("object {at}: row {seq} was skipped and is {verdict}")
                })?;
                State::Skipped
            }
            Ended::Retry => {
                row.failures += 1;
                State::Open
            }
            Ended::Dead => {
                row.failures += 1;
                check(row.failures >= max_attempts, || {
                    format!("object {at}: row {seq} is dead after {} failures", row.failures)
                })?;
                State::Dead
            }
            Ended::Other => return Err(format!("object {at}: an outcome that cannot be")),
        };
        row.settled_at = Some(Instant::now());
        Ok(())
    }
}

/// An outcome without what belongs to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    Done,
    Skipped,
    Retry,
    Dead,
    Other,
}

/// Whether the merchant ships at this status.
pub(crate) fn is_shipped(status: &str) -> bool {
    matches!(status, "SUCCESS" | "ACTIVE")
}
