use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Pool};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Error;

use super::effect::{Effect, Open, PostgresEffect};
use super::ended::Ended;
use super::error::{ANSWER, PooledClient, connection, engine, failed, within};
use super::floor::Floors;
use super::group::Groups;
use super::statement::refused;
use super::tables::{Found, Freed, Member};
use super::transaction::Sent;
use super::wake::{Connect, Wake};
use super::{schema, tables, transaction};
use crate::admin::Admin;
use crate::erase::ErasedObject;
use crate::error::{InboxError, InboxErrorKind, error_chain};
use crate::filter::{Filter, Page};
use crate::inserted::Inserted;
use crate::key::Key;
use crate::record::Record;
use crate::rejection::LoggedRejection;
use crate::replay::Replayed;
use crate::sealed::Sealed;
use crate::stats::Stats;
use crate::store::{Claim, Claimed, Outcome, Settled, Settlement, Store, Ticket};
use crate::sweep::{Sweep, SweptBatch};

/// How often a process records that it has a runner for a kind.
const RECORD_RUNNER: Duration = Duration::from_secs(60);

/// How often [`Store::close`] looks whether all connections are back.
const CLOSE_POLL: Duration = Duration::from_millis(10);

/// A store in a Postgres database, version 13 or later and with the encoding UTF8. Any number of receivers
/// and runners share it, on any number of machines.
///
/// - Its tables are in their own schema, `inqud_inbox`, which [`Inbox::migrate`](crate::Inbox::migrate)
///   makes. Your tables are in the same database, so that
///   [the transaction of a handler](crate::Context::transaction) reaches them.
/// - Storing a notification waits for the disk, even if `synchronous_commit` is off. A server that runs with
///   `fsync` off is refused.
/// - It has up to 4 connections of its own, one to listen if it has a runner, and one for each transaction of a
///   handler, up to 64. See [`PostgresOptions`](crate::PostgresOptions). A call fails if it waits 5 s for a
///   connection, or 10 s for an answer.
/// - Leases and backoff use the database's clock. If it is set back, they last longer by as much.
/// - Processes tell each other with `NOTIFY` that something is due. A runner also polls once in a second.
///
/// A role that only receives and processes needs `USAGE` on the schema, `SELECT` on its table `version`,
/// `SELECT`, `INSERT` and `UPDATE` on `notification`, `object`, `once`, `runner` and `tally`, and `DELETE` on `tally`. A
/// [`Retention`](crate::Retention) that deletes rows needs `DELETE` on `notification` and `object` too, and a
/// [`RejectionLog`](crate::RejectionLog) needs `SELECT`, `INSERT` and `DELETE` on `rejection`. One that
/// [reconciles](crate::Inbox::reconcile) also needs `SELECT`, `INSERT`, `UPDATE` and `DELETE` on `watch` and `watch_read`. One
/// that only calls `inqud_inbox.expect` needs `USAGE` on the schema, and `SELECT` and `INSERT` on `watch`.
pub struct Postgres {
    own: Pool,
    handlers: Pool,
    groups: Groups,
    floors: Arc<Floors>,
    wake: Wake,
    /// The notifications and claims that may have been settled, because the answer to the commit is lost.
    in_doubt: Mutex<HashSet<(i64, i64)>>,
    /// When a runner of each kind was recorded last.
    asked: Mutex<HashMap<&'static str, Instant>>,
}

impl Postgres {
    /// The SQL of [`Inbox::migrate`](crate::Inbox::migrate): one text for each version, in order.
    ///
    /// To migrate with a tool of your own, apply each of them once.
    pub const MIGRATIONS: &[&str] = schema::MIGRATIONS;

    /// Takes two pools that nobody uses yet.
    pub(super) fn new(own: Pool, handlers: Pool, connect: Connect) -> Self {
        let groups = Groups::new(own.clone(), handlers.clone());
        let (floors, wake) = (Arc::default(), Wake::new(connect));
        Self {
            own,
            handlers,
            groups,
            floors,
            wake,
            in_doubt: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// Checks that the database can hold an inbox of this version.
    pub(super) async fn check(&self) -> Result<(), InboxError> {
        let client = connection(&self.own).await?;
        within(ANSWER, schema::check(&client)).await?;
        let settings = within(ANSWER, async { tables::settings(&client).await.map_err(engine) });
        let (fsync, encoding) = settings.await?;
        if !fsync {
            return Err(InboxError::caused_by(InboxErrorKind::NotDurable, "fsync is off"));
        }
        if encoding != "UTF8" {
            return Err(failed(format!("the encoding of the database is {encoding}, not UTF8")));
        }
        Ok(())
    }

    /// Records that a kind has a runner, once a minute.
    async fn record_runner(&self, kind: &'static str) -> Result<(), InboxError> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(kind).copied();
        if asked.is_some_and(|asked| asked.elapsed() < RECORD_RUNNER) {
            return Ok(());
        }
        self.wake.listen(&self.floors);
        self.run(move |client| Box::pin(tables::record_runner(client, kind))).await?;
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, Instant::now());
        Ok(())
    }

    pub(super) async fn begin(&self, deadline: Duration) -> Result<Open, InboxError> {
        let connection = connection(&self.handlers).await?;
        within(ANSWER, async { transaction::begin(connection, deadline).await.map_err(engine) })
            .await
    }

    /// Makes the next counting faster, in a task of its own. A failure changes nothing.
    fn compact(&self) {
        drop(self.spawn(|client| Box::pin(tables::compact(client))));
    }

    pub(super) async fn run<R: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c ClientWrapper) -> Work<'c, R> + Send + 'static,
    ) -> Result<R, InboxError> {
        self.spawn(work).await.map_err(failed)?
    }

    /// In a task of its own, which continues if the caller is dropped.
    fn spawn<R: Send + 'static>(
        &self,
        work: impl for<'c> FnOnce(&'c ClientWrapper) -> Work<'c, R> + Send + 'static,
    ) -> JoinHandle<Result<R, InboxError>> {
        let pool = self.own.clone();
        tokio::spawn(async move {
            let pooled = PooledClient::of(connection(&pool).await?);
            let work = async { work(pooled.client()?).await.map_err(engine) };
            let Ok(done) = timeout(ANSWER, work).await else {
                // Others may hang too.
                pool.retain(|_, _| false);
                return Err(failed("the database did not answer in time"));
            };
            done.map(|done| pooled.give_back(done))
        })
    }
}

impl Postgres {
    /// Commits the transaction of a handler together with "done".
    async fn complete(
        &self,
        ticket: &Ticket,
        effects: &mut Vec<PostgresEffect>,
    ) -> Result<Settled, InboxError> {
        let sent = match transaction::complete(ticket, std::mem::take(effects)).await {
            Sent::Ended(ended) => return Ok(self.settled(ticket, ended)),
            Sent::Locked(error) => {
                let ended = Ended::EffectFailed(error_chain(&error));
                return Ok(self.settled(ticket, ended));
            }
            Sent::Unknown(sent) => sent,
        };
        // The next call looks again, if this one fails.
        effects.push(PostgresEffect(Effect::Sent));
        if let Some(open) = sent {
            drop(open);
            // Others may be lost too.
            self.handlers.retain(|_, _| false);
        }
        let ended = match self.look(ticket).await? {
            Found::Done(freed) => Ended::Freed(freed),
            Found::Unsettled => {
                Ended::EffectFailed("the connection was lost before the commit".to_owned())
            }
            Found::Expired => Ended::Expired,
        };
        Ok(self.settled(ticket, ended))
    }

    async fn look(&self, ticket: &Ticket) -> Result<Found, InboxError> {
        let of = ticket.clone();
        self.run(move |client| Box::pin(async move { tables::look(client, &of).await })).await
    }

    /// Finds out whether the handler has settled a notification as done. If it has not, waits for a transaction that may
    /// be doing it.
    pub(super) async fn look_at_completion(&self, ticket: &Ticket) -> Result<Found, InboxError> {
        let of = ticket.clone();
        let peek = self.run(move |client| Box::pin(async move { tables::peek(client, &of).await }));
        match peek.await? {
            Found::Unsettled => self.look(ticket).await,
            found => Ok(found),
        }
    }

    pub(super) fn completed(&self, ticket: &Ticket, freed: Freed) -> Settled {
        let next_is_due = freed.next_is_due;
        self.settled(ticket, Ended::Freed(freed));
        Settled::Completed { next_is_due }
    }

    pub(super) async fn settle_claim(
        &self,
        settlement: &mut Settlement<PostgresEffect>,
    ) -> Result<Settled, InboxError> {
        let Settlement { ticket, outcome } = settlement;
        match outcome {
            Outcome::Done(effects) if effects.iter().any(|it| it.statement().is_none()) => {
                return self.complete(ticket, effects).await;
            }
            Outcome::Decoded(record) => {
                let (ticket, record) = (ticket.clone(), record.clone());
                let decode = self.run(move |client| {
                    Box::pin(async move { tables::replace_decoded(client, &ticket, &record).await })
                });
                let settled = decode.await?;
                if settled == (Settled::Done { next_is_due: true }) {
                    self.arrived_here();
                }
                return Ok(settled);
            }
            _ => {}
        }
        let mut member = Member::new(ticket, outcome);
        let claim = (ticket.seq, ticket.claim);
        member.is_in_doubt = self.in_doubt().remove(&claim);
        match self.settle_member(ticket, member).await {
            Ok(ended) => Ok(self.settled(ticket, ended)),
            Err(error) => {
                self.in_doubt().insert(claim);
                Err(error)
            }
        }
    }

    /// Settles without a transaction of the handler.
    async fn settle_member(&self, ticket: &Ticket, member: Member) -> Result<Ended, InboxError> {
        if let Some(why) = refused(&member.statements) {
            return Ok(Ended::Refused(why));
        }
        if member.is_in_doubt && !member.statements.is_empty() {
            // Otherwise they are run again for nothing, and may fail because they were run before.
            match self.look(ticket).await? {
                Found::Done(freed) => return Ok(Ended::Freed(freed)),
                Found::Expired => return Ok(Ended::Expired),
                Found::Unsettled => {}
            }
        }
        self.groups.settle(member).await
    }

    fn settled(&self, ticket: &Ticket, ended: Ended) -> Settled {
        match ended {
            Ended::Freed(Freed { due_at, next_is_due }) => {
                if let Some(due_at) = due_at {
                    self.floors.lower(ticket.kind, due_at);
                }
                if next_is_due {
                    self.wake.announce(&self.own);
                }
                Settled::Done { next_is_due }
            }
            Ended::EffectFailed(error) => Settled::EffectFailed(error),
            Ended::Refused(error) => Settled::EffectRefused(error),
            Ended::Expired => Settled::LeaseExpired,
        }
    }

    fn in_doubt(&self) -> MutexGuard<'_, HashSet<(i64, i64)>> {
        self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a claim look at all.
    pub(super) fn arrived_here(&self) {
        self.floors.lower_all();
        self.wake.announce(&self.own);
    }
}

pub(super) type Work<'c, R> = Pin<Box<dyn Future<Output = Result<R, Error>> + Send + 'c>>;

impl Sealed for Postgres {}

impl Admin for Postgres {
    async fn stats(&self) -> Result<Stats, InboxError> {
        let stats = self.run(|client| Box::pin(tables::stats(client))).await;
        self.compact();
        stats
    }

    async fn unclaimed(&self, since: Duration) -> Result<Vec<String>, InboxError> {
        let unclaimed = self.run(move |client| Box::pin(tables::unclaimed(client, since))).await;
        self.compact();
        unclaimed
    }

    async fn list(
        &self,
        filter: impl Into<Filter> + Send,
        limit: usize,
    ) -> Result<Page, InboxError> {
        let filter = filter.into();
        self.run(move |client| Box::pin(async move { tables::list(client, &filter, limit).await }))
            .await
    }

    async fn replay(&self, numbers: Vec<i64>, dry_run: bool) -> Result<Replayed, InboxError> {
        let replay = self.run(move |client| {
            Box::pin(async move { tables::replay(client, &numbers, dry_run).await })
        });
        let replayed = replay.await?;
        if !dry_run && !replayed.opened.is_empty() {
            self.arrived_here();
        }
        Ok(replayed)
    }

    async fn import(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        self.insert(records.into_iter().map(Record::fetched).collect()).await
    }

    async fn redrive(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        let redrive =
            self.run(move |client| Box::pin(async move { tables::redrive(client, &keys).await }));
        let redriven = redrive.await?;
        if redriven > 0 {
            self.arrived_here();
        }
        Ok(redriven)
    }

    async fn discard(
        &self,
        keys: impl IntoIterator<Item = Key> + Send,
    ) -> Result<usize, InboxError> {
        let keys: Vec<_> = keys.into_iter().collect();
        self.run(move |client| Box::pin(async move { tables::discard(client, &keys).await })).await
    }

    async fn prune(&self, age: Duration, limit: usize) -> Result<usize, InboxError> {
        self.run(move |client| Box::pin(tables::prune(client, age, limit))).await
    }

    async fn objects_of_order(&self, order_id: String) -> Result<Vec<ErasedObject>, InboxError> {
        self.run(move |client| {
            Box::pin(async move { tables::objects_of_order(client, &order_id).await })
        })
        .await
    }

    async fn erase_object(
        &self,
        object: ErasedObject,
        is_forced: bool,
    ) -> Result<usize, InboxError> {
        let erase = self.run(move |client| {
            Box::pin(async move { tables::erase(client, &object, is_forced).await })
        });
        erase.await?.ok_or_else(|| InboxError::new(InboxErrorKind::NotSettled))
    }

    async fn rejections(&self, limit: usize) -> Result<Vec<LoggedRejection>, InboxError> {
        self.run(move |client| Box::pin(tables::rejections(client, limit))).await
    }

    async fn sweep_batch(&self, sweep: Sweep, limit: usize) -> Result<SweptBatch, InboxError> {
        self.run(move |client| Box::pin(tables::sweep(client, sweep, limit))).await
    }
}

impl Store for Postgres {
    type Effect = PostgresEffect;

    async fn insert(&self, records: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
        let insert =
            self.run(move |client| Box::pin(async move { tables::insert(client, &records).await }));
        let inserted = insert.await?;
        if inserted.contains(&Inserted::New) {
            self.arrived_here();
        }
        Ok(inserted)
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, InboxError> {
        let Claim { kind, .. } = claim;
        self.record_runner(kind).await?;
        let due_from = self.floors.due_from(kind);
        let suspects = if claim.with_suspect { self.floors.suspects(kind) } else { 0 };
        let look = self
            .run(move |client| {
                Box::pin(async move { tables::claim(client, &claim, due_from, suspects).await })
            })
            .await?;
        self.floors.looked(kind, due_from, &look);
        Ok(look.claimed)
    }

    async fn has_suspect(&self, kind: &'static str) -> Result<bool, InboxError> {
        let among = self.floors.suspects(kind);
        self.run(move |client| Box::pin(tables::has_suspect(client, kind, among))).await
    }

    async fn settle(
        &self,
        settlement: &mut Settlement<PostgresEffect>,
    ) -> Result<Settled, InboxError> {
        if settlement.ticket.completion_is_taken {
            return self.settle_taken(settlement).await;
        }
        self.settle_claim(settlement).await
    }

    async fn log_rejections(
        &self,
        calls: Vec<LoggedRejection>,
        keep: usize,
    ) -> Result<(), InboxError> {
        self.run(move |client| {
            Box::pin(async move { tables::log_rejections(client, &calls, keep).await })
        })
        .await
    }

    fn arrivals(&self) -> Option<watch::Receiver<()>> {
        Some(self.wake.arrivals())
    }

    async fn commit(&self, _: Key, effects: Vec<PostgresEffect>) -> Result<(), InboxError> {
        within(ANSWER, transaction::commit(&self.handlers, effects)).await
    }

    async fn close(&self) {
        self.wake.close();
        self.own.close();
        self.handlers.close();
        // Each is closed when it comes back. Handlers may keep theirs for as long as they run.
        let are_back = async {
            while self.own.status().size > 0 {
                sleep(CLOSE_POLL).await;
            }
        };
        let _ = timeout(ANSWER, are_back).await;
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}
