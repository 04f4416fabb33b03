//! Commits many settlements together, if none of them has a transaction of its own.
//!
//! Handlers settle at the same time, each from its own task. What waits while a group is committed becomes the next
//! group, so groups grow with the load, and a lone settlement does not wait for others.
//!
//! A group does not wait for its slowest member. It leaves out objects that are locked, it runs with short limits,
//! and it runs deferred triggers before the commit, so that those are under the limits too. If a statement fails or
//! takes too long, the group is rolled back, and each of its members is settled alone, with all the time it needs.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::ended::Ended;
use super::error::{ANSWER, PooledClient, connection, engine, failed, within};
use super::line::Line;
use super::tables::{Failed, Freed, Member, Wait};
use super::transaction::Sent;
use super::{tables, transaction};
use crate::error::InboxError;

/// How many groups are committed at the same time.
const GROUPS: usize = 2;

/// The most members of a group.
const MEMBERS: usize = 128;

/// How long a group with statements of handlers may take before its commit, and the limits of each statement.
const GROUP_TIME: Duration = Duration::from_millis(500);
const GROUP_LIMITS: &str = "SET LOCAL lock_timeout = 100; SET LOCAL statement_timeout = 250";

/// The limits of a group without statements.
const OWN_LIMITS: &str = "SET LOCAL lock_timeout = '1s'";

type Answer = Result<Ended, InboxError>;

/// Commits settlements together.
pub(super) struct Groups(Arc<Shared>);

struct Shared {
    own: Pool,
    handlers: Pool,
    waiting: Line<Place>,
}

struct Place {
    member: Member,
    answer: oneshot::Sender<Answer>,
}

impl Groups {
    pub(super) fn new(own: Pool, handlers: Pool) -> Self {
        Self(Arc::new(Shared { own, handlers, waiting: Line::new(GROUPS) }))
    }

    pub(super) async fn settle(&self, member: Member) -> Answer {
        let (answer, answered) = oneshot::channel();
        let is_alone = member.runs_alone();
        let place = Place { member, answer };
        if is_alone {
            self.0.spawn_alone(place);
        } else {
            self.push(place);
        }
        // The task ended with its runtime, or panicked.
        answered.await.unwrap_or_else(|_| Err(failed("the settlement was dropped")))
    }

    fn push(&self, place: Place) {
        if self.0.waiting.push(place) {
            let running = Running { shared: Arc::clone(&self.0), has_ended: false };
            tokio::spawn(running.run());
        }
    }
}

impl Shared {
    async fn settle(self: &Arc<Self>, mut places: Vec<Place>) {
        // In the order of all locks.
        let of =
            |place: &Place| (place.member.ticket.kind, Arc::clone(&place.member.ticket.object));
        places.sort_by_key(of);
        let members: Vec<&Member> = places.iter().map(|place| &place.member).collect();
        match self.settle_together(&members).await {
            Ok(ended) => {
                for (place, ended) in places.into_iter().zip(ended) {
                    match ended {
                        Some(freed) => _ = place.answer.send(Ok(Ended::Freed(freed))),
                        None => self.spawn_alone(place),
                    }
                }
            }
            Err(Some(error)) => {
                for place in places {
                    let _ = place.answer.send(Err(error.clone()));
                }
            }
            Err(None) => places.into_iter().for_each(|place| self.spawn_alone(place)),
        }
    }

    /// An error without a cause means to settle each alone.
    async fn settle_together(
        &self,
        members: &[&Member],
    ) -> Result<Vec<Option<Freed>>, Option<InboxError>> {
        let pooled = PooledClient::of(connection(&self.own).await?);
        if members.iter().any(|member| !member.statements.is_empty()) {
            return self.settle_effects(pooled, members).await;
        }
        let settle = tables::settle(pooled.client()?, members, (OWN_LIMITS, Wait::No));
        let settled = timeout(ANSWER, settle).await.map_err(|_| self.no_answer())?;
        Ok(pooled.give_back(settled.map_err(engine)?))
    }

    async fn settle_effects(
        &self,
        pooled: PooledClient,
        members: &[&Member],
    ) -> Result<Vec<Option<Freed>>, Option<InboxError>> {
        let client = pooled.client()?;
        let settle = tables::settle_effects(client, members, GROUP_LIMITS);
        let settled = match timeout(GROUP_TIME, settle).await {
            Ok(Ok(settled)) => settled,
            Ok(Err(Failed::Store(error))) => return Err(Some(engine(error))),
            Ok(Err(Failed::Statement | Failed::Lost)) => {
                // Otherwise the connection is closed, which rolls back too.
                if let Ok(Ok(true)) = timeout(GROUP_TIME, tables::roll_back(client)).await {
                    pooled.give_back(());
                }
                return Err(None);
            }
            Err(_) => return Err(None),
        };
        // From here on it may be committed, so it is not settled alone if there is no answer.
        match timeout(ANSWER, tables::commit(client)).await {
            Ok(Ok(true)) => Ok(pooled.give_back(settled)),
            Ok(Ok(false)) => Ok(settled),
            Ok(Err(error)) if error.as_db_error().is_some() && !tables::is_io(&error) => Err(None),
            Ok(Err(error)) => Err(Some(engine(error))),
            Err(_) => Err(Some(self.no_answer())),
        }
    }

    fn no_answer(&self) -> InboxError {
        // Others may hang too.
        self.own.retain(|_, _| false);
        failed("the database did not answer in time")
    }

    fn spawn_alone(&self, place: Place) {
        let handlers = self.handlers.clone();
        tokio::spawn(async move {
            let _ = place.answer.send(settle_alone(&handlers, &place.member).await);
        });
    }
}

/// On a connection for handlers, because it may take as long as a handler.
async fn settle_alone(handlers: &Pool, member: &Member) -> Answer {
    let connection = connection(handlers).await?;
    let Member { ticket, statements, .. } = member;
    if statements.is_empty() {
        let pooled = PooledClient::of(connection);
        let client = pooled.client()?;
        let settle = async {
            tables::clean(client).await?;
            tables::settle(client, &[member], (OWN_LIMITS, Wait::Yes)).await
        };
        let settled = within(ANSWER, async { settle.await.map_err(engine) }).await?;
        let settled = settled.into_iter().next().flatten();
        return Ok(pooled.give_back(settled.map_or(Ended::Expired, Ended::Freed)));
    }
    let begin = transaction::begin(connection, transaction::limit(statements));
    let mut open = within(ANSWER, async { begin.await.map_err(engine) }).await?;
    open.cleans = true;
    match transaction::settle(open, ticket, statements).await {
        Sent::Ended(ended) => Ok(ended),
        Sent::Locked(error) => Err(engine(error)),
        Sent::Unknown(open) => {
            drop(open);
            // Others may be lost too.
            handlers.retain(|_, _| false);
            Err(failed("the answer to the commit is lost"))
        }
    }
}

/// A task that settles groups. It counts as running until nothing waits, or until it is dropped.
struct Running {
    shared: Arc<Shared>,
    has_ended: bool,
}

impl Running {
    async fn run(mut self) {
        let mut is_busy = false;
        loop {
            if is_busy {
                // Lets the handlers that were just answered, and those that end at about the same time, join.
                yield_now().await;
            }
            let Some(places) = self.shared.waiting.take(MEMBERS) else {
                self.has_ended = true;
                return;
            };
            is_busy = places.len() > 1;
            self.shared.settle(places).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.waiting.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_two_groups_at_a_time() {
        let line = Line::new(GROUPS);
        assert_eq!([1, 2, 3].map(|item| line.push(item)), [true, true, false]);
        assert_eq!(line.take(MEMBERS), Some(vec![1, 2, 3]));
        assert_eq!(line.take(MEMBERS), None);
        assert!(line.push(4), "one of the two has ended");
        assert!(!line.push(5));
    }
}
