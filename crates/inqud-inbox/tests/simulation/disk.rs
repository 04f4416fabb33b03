//! The store of one process: the disk that all share, over a connection that fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use inqud_inbox::__private::Sealed;
use inqud_inbox::{
    Claim, Claimed, InboxError, InboxErrorKind, Inserted, Key, LoggedRejection, Memory, Outcome,
    Record, Settled, Settlement, Store,
};
use tokio::time::sleep;
use tower_inqud::Verdict;

use crate::bug::Bug;
use crate::ledger::Ended;
use crate::process::Life;
use crate::trace::NOBODY;
use crate::world::{Fault, World};

/// Each call goes to the disk after a while and comes back after a while. It can fail on both ways.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

impl Disk {
    /// Before the work.
    pub(crate) async fn go(&self, what: &'static str) -> Result<(), InboxError> {
        self.world.pause(Fault::StoreSlow).await;
        self.life.lives().await;
        if self.world.fault(Fault::StoreFails) {
            self.note(what, NOBODY, 0);
            return Err(InboxError::caused_by(InboxErrorKind::Store, "the disk is away"));
        }
        Ok(())
    }

    /// After the work.
    pub(crate) async fn come_back(&self, what: &'static str) -> Result<(), InboxError> {
        self.world.pause(Fault::StoreSlow).await;
        self.life.lives().await;
        if self.world.fault(Fault::AnswerLost) {
            self.note(what, NOBODY, 0);
            return Err(InboxError::caused_by(InboxErrorKind::Store, "the answer was lost"));
        }
        Ok(())
    }

    pub(crate) fn note(&self, what: &'static str, object: usize, detail: u64) {
        self.world.note(self.life.process, what, object, detail);
    }

    /// Commits records. Nothing else happens meanwhile, because the store in memory never waits.
    async fn commit_records(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        let answers = self.world.disk.insert(records.clone()).await?;
        for (record, answer) in records.iter().zip(&answers) {
            let mut ledger = self.world.ledger();
            let object = ledger.object(record.kind, &record.object);
            self.world.check(ledger.inserted(record, *answer));
            let what = match answer {
                Inserted::New => "stored",
                Inserted::Review => "stored for review",
                _ => "known as a duplicate",
            };
            self.note(what, object, ledger.rows.len() as u64);
        }
        Ok(answers)
    }

    /// Returns which records a store with a bug takes for duplicates.
    fn drops(&self, record: &Record) -> bool {
        let ledger = self.world.ledger();
        let mut rows = ledger.rows.iter().filter(|row| {
            let object = &ledger.objects[row.object];
            object.is(record.kind, &record.object)
        });
        let (mine, time) = (&record.order_key, record.order_key.last_update());
        match self.world.bug {
            Some(Bug::DropsOtherContent) => rows.any(|it| {
                it.order_key.status() == mine.status() && it.order_key.last_update() == time
            }),
            Some(Bug::DropsRepeats) => rows.any(|it| mine.is_duplicate_of(&it.order_key)),
            _ => false,
        }
    }

    /// Inserts as the planted bug does. `None` without one.
    async fn insert_wrongly(
        &self,
        records: &mut Vec<Record>,
    ) -> Option<Result<Vec<Inserted>, InboxError>> {
        match self.world.bug? {
            Bug::AnswersBeforeCommit => {
                let (this, records) = (self.clone(), records.clone());
                let answers = vec![Inserted::New; records.len()];
                tokio::spawn(async move {
                    sleep(Duration::from_millis(20)).await;
                    this.life.lives().await;
                    this.commit_records(records).await.unwrap();
                });
                Some(Ok(answers))
            }
            Bug::DropsLastOfBatch if records.len() > 1 => {
                records.pop();
                let answers = self.commit_records(records.clone()).await;
                Some(answers.map(|answers| answers.into_iter().chain([Inserted::New]).collect()))
            }
            Bug::DropsOtherContent | Bug::DropsRepeats => {
                let mut answers = Vec::new();
                for record in records.drain(..) {
                    if self.drops(&record) {
                        let told = self.world.ledger().inserted(&record, Inserted::Duplicate);
                        self.world.check(told);
                        answers.push(Inserted::Duplicate);
                    } else {
                        answers.extend(self.commit_records(vec![record]).await.unwrap());
                    }
                }
                Some(Ok(answers))
            }
            _ => None,
        }
    }
}

impl Store for Disk {
    type Effect = <Memory as Store>::Effect;

    async fn insert(&self, mut records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        let gone = self.go("insert fails").await;
        if gone.is_err() && self.world.has(Bug::SwallowsErrors) {
            return Ok(vec![Inserted::New; records.len()]);
        }
        gone?;
        let answers = match self.insert_wrongly(&mut records).await {
            Some(answers) => answers?,
            None => self.commit_records(records).await?,
        };
        let back = self.come_back("the answer to an insert is lost").await;
        if back.is_err() {
            self.world.ledger().lost_inserts += 1;
        }
        back.map(|()| answers)
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, InboxError> {
        self.go("claim fails").await?;
        let mut asked = claim;
        match self.world.bug {
            Some(Bug::IgnoresLease) => asked.lease = Duration::ZERO,
            Some(Bug::NewestFirst) => asked.newest_first = true,
            Some(Bug::IgnoresNewest) => asked.newest_first = false,
            _ => {}
        }
        let mut claimed = self.world.disk.claim(asked).await?;
        if claim.with_suspect && !claimed.is_empty() {
            self.note("claims a suspect", NOBODY, claimed.len() as u64);
        }
        let checked = self.world.ledger().claimed(&claim, &claimed, self.life.owner());
        self.world.check(checked);
        for one in &claimed {
            let seq = u64::try_from(one.ticket.seq).unwrap();
            let object = self.world.ledger().object(one.ticket.kind, &one.ticket.object);
            self.note("claimed", object, seq);
        }
        match self.world.bug {
            Some(Bug::SwapsBodies) if claimed.len() > 1 => {
                let body = claimed[0].body.clone();
                claimed[0].body = std::mem::replace(&mut claimed[1].body, body);
            }
            Some(Bug::ClaimIsDone) => {
                for one in &claimed {
                    let (ticket, outcome) = (one.ticket.clone(), Outcome::Done(Vec::new()));
                    self.commit_settlement(&mut Settlement { ticket, outcome }).await?;
                }
            }
            Some(Bug::CrashIsFailure) => {
                claimed.iter_mut().for_each(|it| it.failures += it.crashes);
            }
            _ => {}
        }
        self.come_back("the answer to a claim is lost").await?;
        for one in &claimed {
            if let Some(lease) = self.world.ledger().lease(&one.ticket) {
                lease.is_known = true;
            }
        }
        Ok(claimed)
    }

    async fn has_suspect(&self, kind: &'static str) -> Result<bool, InboxError> {
        self.go("look for suspects fails").await?;
        let has = self.world.disk.has_suspect(kind).await?;
        Ok(has && !self.world.has(Bug::ForgetsSuspects))
    }

    async fn settle(
        &self,
        settlement: &mut Settlement<Self::Effect>,
    ) -> Result<Settled, InboxError> {
        let settled = self.try_settle(settlement).await;
        if settled.is_err()
            && let Some(lease) = self.world.ledger().lease(&settlement.ticket)
        {
            lease.is_spoilt = true;
        }
        settled
    }

    async fn log_rejections(
        &self,
        calls: Vec<LoggedRejection>,
        keep: usize,
    ) -> Result<(), InboxError> {
        self.world.disk.log_rejections(calls, keep).await
    }

    async fn commit(&self, key: Key, effects: Vec<Self::Effect>) -> Result<(), InboxError> {
        self.world.disk.commit(key, effects).await
    }

    async fn close(&self) {}
}

impl Disk {
    async fn try_settle(
        &self,
        settlement: &mut Settlement<<Self as Store>::Effect>,
    ) -> Result<Settled, InboxError> {
        self.go("settlement fails").await?;
        match (self.world.bug, &mut settlement.outcome) {
            (Some(Bug::IgnoresClaim), _) => {
                let seq = usize::try_from(settlement.ticket.seq).unwrap();
                let ledger = self.world.ledger();
                let lease = ledger.objects[ledger.rows[seq].object].lease.as_ref();
                settlement.ticket.claim = lease.map_or(settlement.ticket.claim, |it| it.claim);
            }
            (Some(Bug::ForgetsRetry), Outcome::Retry { after, .. }) => {
                *after = Duration::from_secs(365 * 24 * 3600);
            }
            (Some(Bug::SkipsUnordered), Outcome::Done(_))
                if settlement.ticket.verdict == Verdict::Unordered =>
            {
                settlement.outcome = Outcome::Skipped;
            }
            _ => {}
        }
        let settled = self.commit_settlement(settlement).await?;
        // If an effect failed and the answer were lost, the effects would have to be as they were. A database does that, and
        // the store in memory cannot.
        if !matches!(settled, Settled::EffectFailed(_)) {
            self.come_back("the answer to a settlement is lost").await?;
        }
        Ok(settled)
    }

    async fn commit_settlement(
        &self,
        settlement: &mut Settlement<<Self as Store>::Effect>,
    ) -> Result<Settled, InboxError> {
        let (ended, what) = match &settlement.outcome {
            Outcome::Done(_) => (Ended::Done, "done"),
            Outcome::Skipped => (Ended::Skipped, "skipped"),
            Outcome::Retry { .. } => (Ended::Retry, "to be retried"),
            Outcome::Dead { .. } => (Ended::Dead, "a dead letter"),
            Outcome::Review | Outcome::Decoded(_) => (Ended::Other, "settled otherwise"),
        };
        let settled = self.world.disk.settle(settlement).await?;
        let (ticket, most) = (&settlement.ticket, self.world.max_attempts);
        let mut ledger = self.world.ledger();
        let object = ledger.object(ticket.kind, &ticket.object);
        let what = match settled {
            Settled::EffectFailed(_) => "the effect failed",
            Settled::LeaseExpired => "the lease has expired",
            _ => what,
        };
        self.note(what, object, u64::try_from(ticket.seq).unwrap());
        self.world.check(ledger.settled(ticket, ended, &settled, most));
        drop(ledger);
        Ok(settled)
    }
}

impl Sealed for Disk {}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("life", &self.life).finish_non_exhaustive()
    }
}
