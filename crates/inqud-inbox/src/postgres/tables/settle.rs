//! Settling claims.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use deadpool_postgres::ClientWrapper as Client;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::{BEGIN, DEAD, DONE, OPEN, REVIEW, SKIPPED, code, join_all, micros, prepare, text};
use crate::postgres::effect::PostgresEffect;
use crate::postgres::statement::{RunIn, Statement};
use crate::store;
use crate::store::{Outcome, Ticket};
use tower_inqud::Processed;

/// Locks the objects of some claims, and returns the claims that are still valid.
pub(super) const LOCK: &str = include_str!("../lock.sql");
const LOCK_FREE: &str = concat!(include_str!("../lock.sql"), "SKIP LOCKED");

/// Changes the states of notifications whose claims are valid.
const CLOSE: &str = include_str!("../close.sql");

/// Ends the leases, and makes each object due for its retry or for its next notification. A statement of its
/// own, so that it sees what [`CLOSE`] has changed.
const FREE: &str = include_str!("../free.sql");

/// Runs deferred triggers and constraints, which a commit would run.
const RUN_DEFERRED: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// A settlement without a transaction of its own.
#[derive(Clone)]
pub(in crate::postgres) struct Member {
    pub(in crate::postgres) ticket: Ticket,
    state: i16,
    wait: Option<i64>,
    error: Option<String>,
    /// Whether it was settled before, and the answer is lost.
    pub(in crate::postgres) is_in_doubt: bool,
    /// What to run in the same transaction.
    pub(in crate::postgres) statements: Vec<Arc<Statement>>,
}

impl Member {
    /// Whether its statements cannot share a transaction with those of others.
    pub(in crate::postgres) fn runs_alone(&self) -> bool {
        self.statements.iter().any(|statement| statement.run_in() != RunIn::Group)
    }

    pub(in crate::postgres) fn new(ticket: &Ticket, outcome: &Outcome<PostgresEffect>) -> Self {
        let mut statements = Vec::new();
        let (state, wait, error) = match outcome {
            Outcome::Done(effects) => {
                statements.extend(effects.iter().filter_map(PostgresEffect::statement));
                (DONE, None, None)
            }
            Outcome::Skipped => (SKIPPED, None, ticket.is_replay.then_some(store::SKIPPED_REPLAY)),
            // Only a duplicate comes here. `replace_decoded` settles the others.
            Outcome::Decoded(_) => (SKIPPED, None, Some(store::SKIPPED_DUPLICATE)),
            Outcome::Review => (REVIEW, None, Some(store::REVIEW_WITHOUT_TIME)),
            Outcome::Dead { error } => (DEAD, None, Some(&**error)),
            Outcome::Retry { after, error } => (OPEN, Some(micros(*after)), Some(&**error)),
        };
        Self {
            ticket: ticket.clone(),
            state,
            wait,
            error: error.map(text),
            is_in_doubt: false,
            statements,
        }
    }
}

/// An object that is free again.
#[derive(Clone, Copy, Debug)]
pub(in crate::postgres) struct Freed {
    /// When its next notification is due.
    pub(in crate::postgres) due_at: Option<SystemTime>,
    pub(in crate::postgres) next_is_due: bool,
}

impl Freed {
    /// Reads two columns.
    fn of(row: &Row, at: usize) -> Result<Self, Error> {
        let next_is_due: Option<bool> = row.try_get(at.saturating_add(1))?;
        Ok(Self { due_at: row.try_get(at)?, next_is_due: next_is_due == Some(true) })
    }
}

/// Why nothing was committed.
#[derive(Debug)]
pub(in crate::postgres) enum Failed {
    /// The connection is lost. Settle again.
    Store(Error),
    /// A statement failed, perhaps that of a handler.
    Statement,
    /// A statement of a handler was run for a claim that is not valid any more.
    Lost,
}

/// Whether to wait for locks.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(in crate::postgres) enum Wait {
    /// Leaves out objects that another transaction has locked.
    No,
    /// Waits as long as the limits of the transaction allow.
    Yes,
}

/// Settles notifications that have no statements, in one transaction.
///
/// Returns `None` for those that are not settled: their claims are not valid any more, or their objects are locked and
/// it does not wait. One that is in doubt may have been settled before, by the same claim. After an error the connection
/// may be in a transaction.
pub(in crate::postgres) async fn settle(
    client: &Client,
    members: &[&Member],
    (limits, wait): (&str, Wait),
) -> Result<Vec<Option<Freed>>, Error> {
    let lock = if wait == Wait::Yes { LOCK } else { LOCK_FREE };
    let lock = client.prepare_cached(lock).await?;
    let begin = format!("{BEGIN}; {limits}");
    let claims = Columns::of(members);
    let claims = claims.claims();
    let (begun, locked) = tokio::join!(client.batch_execute(&begin), client.query(&lock, &claims));
    begun?;
    let locked = Locked::of(&locked?, members)?;
    let closing = Closing::prepare(client, &locked.members).await?;
    let (rows, committed) = tokio::join!(closing.run(client), client.batch_execute("COMMIT"));
    let settled = locked.settled(&rows?, members)?;
    committed?;
    Ok(settled.all)
}

/// Settles notifications together with the statements of their handlers, in a transaction that is ready to be committed
/// afterwards. The statements come before the locks of objects, so that who waits for a row of the merchant holds up
/// nothing of the inbox.
///
/// Returns `None` for those that are not settled, which have no statements.
pub(in crate::postgres) async fn settle_effects(
    client: &Client,
    members: &[&Member],
    limits: &str,
) -> Result<Vec<Option<Freed>>, Failed> {
    let lock = client.prepare_cached(LOCK).await.map_err(Failed::of_statement)?;
    let mut statements = Vec::new();
    for statement in members.iter().flat_map(|it| &it.statements) {
        let prepared = prepare(client, &statement.sql).await.map_err(Failed::of_statement)?;
        statements.push((prepared, statement.parameters()));
    }
    let begin = format!("{BEGIN}; {limits}");
    let claims = Columns::of(members);
    let claims = claims.claims();
    let run = join_all(
        statements.iter().map(|(prepared, parameters)| client.execute(prepared, parameters)),
    );
    let (begun, ran, deferred, locked) = tokio::join!(
        client.batch_execute(&begin),
        run,
        client.batch_execute(RUN_DEFERRED),
        client.query(&lock, &claims),
    );
    begun.map_err(Failed::of_statement)?;
    ran.into_iter().try_for_each(|ran| ran.map(drop)).map_err(Failed::of_statement)?;
    deferred.map_err(Failed::of_statement)?;
    let locked = locked.and_then(|rows| Locked::of(&rows, members));
    let locked = locked.map_err(Failed::of_statement)?;
    let settle = async {
        let rows = Closing::prepare(client, &locked.members).await?.run(client).await?;
        locked.settled(&rows, members)
    };
    let settled = settle.await.map_err(Failed::of_statement)?;
    let is_lost = |(at, member): (usize, &&Member)| {
        !member.statements.is_empty() && !settled.now.contains(&at)
    };
    if members.iter().enumerate().any(is_lost) {
        return Err(Failed::Lost);
    }
    Ok(settled.all)
}

/// The members whose objects are locked.
struct Locked<'m> {
    places: Vec<usize>,
    members: Vec<&'m Member>,
}

struct AllSettled {
    all: Vec<Option<Freed>>,
    /// The places of those that were not settled before.
    now: HashSet<usize>,
}

impl<'m> Locked<'m> {
    fn of(rows: &[Row], members: &[&'m Member]) -> Result<Self, Error> {
        let mut places = places(rows)?;
        // If a notification is settled twice in one batch, the first settlement counts.
        let mut seqs = HashSet::new();
        places.retain(|at| members.get(*at).is_some_and(|it| seqs.insert(it.ticket.seq)));
        let members = places.iter().filter_map(|at| members.get(*at).copied()).collect();
        Ok(Self { places, members })
    }

    /// Reads what [`FREE`] returned.
    fn settled(&self, rows: &[Row], members: &[&Member]) -> Result<AllSettled, Error> {
        let mut settled = AllSettled { all: vec![None; members.len()], now: HashSet::new() };
        for row in rows {
            let Some(at) = self.places.get(place(row)?).copied() else { continue };
            if row.try_get(3)? {
                settled.now.insert(at);
            } else if !members.get(at).is_some_and(|it| it.is_in_doubt) {
                continue;
            }
            let freed = Freed::of(row, 1)?;
            settled.all.get_mut(at).into_iter().for_each(|it| *it = Some(freed));
        }
        Ok(settled)
    }
}

/// What settles notifications whose objects are locked.
pub(super) struct Closing<'m> {
    close: tokio_postgres::Statement,
    free: tokio_postgres::Statement,
    columns: Columns<'m>,
}

impl<'m> Closing<'m> {
    pub(super) async fn prepare(client: &Client, members: &[&'m Member]) -> Result<Self, Error> {
        let (close, free) =
            tokio::try_join!(client.prepare_cached(CLOSE), client.prepare_cached(FREE))?;
        Ok(Self { close, free, columns: Columns::of(members) })
    }

    /// Returns a row for each that was valid, or that was settled before.
    pub(super) async fn run(&self, client: &Client) -> Result<Vec<Row>, Error> {
        let (close_by, free_by) = (self.columns.close(), self.columns.free());
        let (closed, freed) = tokio::join!(
            client.execute(&self.close, &close_by),
            client.query(&self.free, &free_by)
        );
        closed.and(freed)
    }
}

impl Failed {
    /// A lost connection says nothing about the statement.
    fn of_statement(error: Error) -> Self {
        if is_io(&error) {
            return Self::Store(error);
        }
        Self::Statement
    }
}

/// Whether the connection broke.
pub(in crate::postgres) fn is_io(error: &Error) -> bool {
    error.is_closed()
        || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// Settles a notification as done in the transaction of its handler, and commits.
const COMPLETE: &str = "
SELECT due_at, due_at <= statement_timestamp()
FROM inqud_inbox.complete($1, $2, $3, $4, $5, $6, $7, $8) AS due_at";

/// The codes that `inqud_inbox.complete` fails with.
pub(in crate::postgres) const LEASE_LOST: &str = "IQ001";
pub(in crate::postgres) const ENDED: &str = "IQ002";
pub(in crate::postgres) const DONE_ALREADY: &str = "IQ003";

/// Settles a notification as done in the transaction of its handler, and commits.
///
/// `id` is the transaction that was begun for the handler. If the current one has another id, the handler
/// has sent `COMMIT` or `ROLLBACK` itself. Then settling here would not be atomic with the handler's
/// writes, so it fails.
pub(in crate::postgres) async fn complete(
    client: &Client,
    ticket: &Ticket,
    id: i64,
) -> Result<Freed, Error> {
    let complete = client.prepare_cached(COMPLETE).await?;
    let processed = ticket.processed.as_ref().map(Processed::to_bytes);
    let verdict = code(ticket.verdict);
    let object = &*ticket.object;
    let (kind, claim, newest_first) = (&ticket.kind, &ticket.claim, &ticket.newest_first);
    let parameters: [&(dyn ToSql + Sync); 8] =
        [&ticket.seq, kind, &object, claim, &processed, &verdict, newest_first, &id];
    // If it fails, `COMMIT` rolls back.
    let (row, committed) =
        tokio::join!(client.query_one(&complete, &parameters), client.batch_execute("COMMIT"),);
    let freed = Freed::of(&row?, 0)?;
    committed?;
    Ok(freed)
}

/// What became of a claim whose settlement was sent, and whose answer is lost.
pub(in crate::postgres) enum Found {
    Done(Freed),
    /// The claim stands.
    Unsettled,
    /// The object was claimed again.
    Expired,
}

const LOOK: &str = "
SELECT its.claim = $4 AND its.leased_until IS NOT NULL, mine.state = $5, its.due_at,
    its.due_at <= statement_timestamp()
FROM inqud_inbox.notification AS mine JOIN inqud_inbox.object AS its ON its.kind = $1 AND its.object = $2
WHERE mine.seq = $3";

/// Finds out whether a notification was settled as done, without waiting for a transaction that may be doing it.
pub(in crate::postgres) async fn peek(client: &Client, ticket: &Ticket) -> Result<Found, Error> {
    let peek = client.prepare_cached(LOOK).await?;
    let object = &*ticket.object;
    found(
        client
            .query_opt(&peek, &[&ticket.kind, &object, &ticket.seq, &ticket.claim, &DONE])
            .await?,
    )
}

/// Finds out whether a notification was settled as done.
pub(in crate::postgres) async fn look(client: &Client, ticket: &Ticket) -> Result<Found, Error> {
    // The transaction in question may still be open on the server. If so, it has locked the object, and this
    // waits for it.
    const WAIT: &str = "
        SELECT FROM inqud_inbox.object WHERE kind = $1 AND object = $2 FOR UPDATE";
    let (wait, look) = tokio::try_join!(client.prepare_cached(WAIT), client.prepare_cached(LOOK))?;
    let object = &*ticket.object;
    let begin = format!("{BEGIN}; SET LOCAL lock_timeout = '1s'");
    let of: [&(dyn ToSql + Sync); 2] = [&ticket.kind, &object];
    let parameters: [&(dyn ToSql + Sync); 5] =
        [&ticket.kind, &object, &ticket.seq, &ticket.claim, &DONE];
    let (begun, waited, row, committed) = tokio::join!(
        client.batch_execute(&begin),
        client.query(&wait, &of),
        client.query_opt(&look, &parameters),
        client.batch_execute("COMMIT"),
    );
    begun?;
    waited?;
    let row = row?;
    committed?;
    found(row)
}

fn found(row: Option<Row>) -> Result<Found, Error> {
    let Some(row) = row else { return Ok(Found::Expired) };
    let (stands, is_done): (Option<bool>, Option<bool>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match (stands, is_done) {
        (_, Some(true)) => Found::Done(Freed::of(&row, 2)?),
        (Some(true), _) => Found::Unsettled,
        _ => Found::Expired,
    })
}

/// Converts an ordinal, which Postgres counts from 1, to a place.
fn place(row: &Row) -> Result<usize, Error> {
    let nth: i64 = row.try_get(0)?;
    Ok(usize::try_from(nth).unwrap_or_default().wrapping_sub(1))
}

fn places(rows: &[Row]) -> Result<Vec<usize>, Error> {
    let mut places = rows.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    places.sort_unstable();
    Ok(places)
}

/// Settlements, as the columns of a table.
struct Columns<'m> {
    seqs: Vec<i64>,
    kinds: Vec<&'m str>,
    objects: Vec<&'m str>,
    claims: Vec<i64>,
    states: Vec<i16>,
    waits: Vec<Option<i64>>,
    errors: Vec<Option<&'m str>>,
    verdicts: Vec<i16>,
    processed: Vec<Option<Vec<u8>>>,
    newest_first: Vec<bool>,
}

impl<'m> Columns<'m> {
    fn of(members: &[&'m Member]) -> Self {
        let tickets = || members.iter().map(|it| &it.ticket);
        let processed = |it: &&Member| {
            it.ticket.processed.as_ref().filter(|_| it.state == DONE).map(Processed::to_bytes)
        };
        Self {
            seqs: tickets().map(|it| it.seq).collect(),
            kinds: tickets().map(|it| it.kind).collect(),
            objects: tickets().map(|it| &*it.object).collect(),
            claims: tickets().map(|it| it.claim).collect(),
            states: members.iter().map(|it| it.state).collect(),
            waits: members.iter().map(|it| it.wait).collect(),
            errors: members.iter().map(|it| it.error.as_deref()).collect(),
            verdicts: tickets().map(|it| code(it.verdict)).collect(),
            processed: members.iter().map(processed).collect(),
            newest_first: tickets().map(|it| it.newest_first).collect(),
        }
    }

    fn claims(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.kinds, &self.objects, &self.claims]
    }

    fn close(&self) -> [&(dyn ToSql + Sync); 8] {
        let [kinds, objects, claims] = self.claims();
        let (states, waits) = (&self.states, &self.waits);
        [&self.seqs, kinds, objects, claims, states, waits, &self.errors, &self.verdicts]
    }

    fn free(&self) -> [&(dyn ToSql + Sync); 7] {
        let [kinds, objects, claims] = self.claims();
        let (processed, newest_first) = (&self.processed, &self.newest_first);
        [&self.seqs, kinds, objects, claims, &self.states, processed, newest_first]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_inqud::Verdict;

    use super::*;

    /// A function can do anything in a transaction, so it shares none with the effects of others.
    #[test]
    fn settlement_with_a_function_call_runs_alone() {
        let runs_alone = |sql: &[&str]| {
            let new =
                |sql: &&str| Arc::new(Statement::new((*sql).to_owned(), vec![], Duration::ZERO));
            Member {
                ticket: Ticket {
                    seq: 1,
                    kind: "payment",
                    object: "PMT-1".into(),
                    claim: 1,
                    verdict: Verdict::Newer,
                    processed: None,
                    newest_first: false,
                    completion_is_taken: false,
                    is_replay: false,
                },
                state: DONE,
                wait: None,
                error: None,
                is_in_doubt: false,
                statements: sql.iter().map(new).collect(),
            }
            .runs_alone()
        };
        assert!(!runs_alone(&[]));
        assert!(!runs_alone(&["INSERT INTO paid VALUES (1)", "UPDATE paid SET id = 2"]));
        assert!(runs_alone(&["SELECT pay(1)"]));
        assert!(runs_alone(&["INSERT INTO paid VALUES (1)", "SELECT pay(1)"]));
    }
}
