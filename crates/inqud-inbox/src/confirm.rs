//! Confirm mode: fetches an object before its notification is handled.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::admin::Admin;
use crate::ask::says_the_same;
use crate::error::InboxError;
use crate::fetcher::{Fetcher, Found, State};
use crate::record::{Record, Storable};
use crate::store::Claimed;
use crate::watch::{Compared, Known, WatchList};

/// How long to wait if a webhook arrived during the fetch.
const SOON: Duration = Duration::from_secs(1);

/// Whether the API confirms a notification.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Confirmed {
    Yes,
    /// The object is in another state, which is stored.
    Superseded,
    NotYet {
        after: Option<Duration>,
        reason: String,
    },
}

/// Confirms notifications of one type. It has no type parameters, so that a runner without confirm mode has none.
pub(crate) trait Confirm: Send + Sync {
    fn confirm<'a>(&'a self, claimed: &'a Claimed, limit: Duration) -> Confirming<'a>;
}

pub(crate) type Confirming<'a> = Pin<Box<dyn Future<Output = Confirmed> + Send + 'a>>;

pub(crate) struct Confirmer<S, T> {
    store: Arc<S>,
    stored: Arc<Notify>,
    fetcher: Fetcher<T>,
    budget: Budget,
}

impl<S, T> Confirmer<S, T>
where
    S: Admin + WatchList,
    T: Storable,
{
    pub(crate) fn new(
        store: Arc<S>,
        stored: Arc<Notify>,
        fetcher: Fetcher<T>,
        per_minute: u32,
    ) -> Self {
        Self { store, stored, fetcher, budget: Budget::new(per_minute) }
    }

    async fn ask(&self, claimed: &Claimed) -> Result<Confirmed, InboxError> {
        let ticket = &claimed.ticket;
        if Record::is_undecodable(claimed.key, &ticket.object) {
            return Ok(Confirmed::Yes);
        }
        // Read before the object is fetched: see `ask`.
        let known = self.store.known(T::KIND, &ticket.object).await?;
        let Some(mine) = known.rows.iter().find(|row| row.seq == ticket.seq) else {
            return Ok(not_yet(None, "the notification is gone"));
        };
        if mine.is_reviewed {
            // It was fetched itself, or confirmed before.
            return Ok(Confirmed::Yes);
        }
        if let Err(wait) = self.budget.take() {
            return Ok(not_yet(Some(wait), "too many notifications to confirm"));
        }
        let found = match self.fetcher.fetch(&ticket.object).await {
            State::Found(found) => *found,
            State::Missing => return Ok(not_yet(None, "the API does not know the object")),
            State::Later { after, reason } => return Ok(not_yet(after, &reason)),
            State::Useless { reason } => return Ok(not_yet(None, &reason)),
        };
        let fetched = &found.record.order_key;
        if fetched.is_duplicate_of(&mine.order_key)
            || says_the_same::<T>(&claimed.body, &found.event, &found.record)
        {
            return Ok(Confirmed::Yes);
        }
        if known.without(ticket.seq).compare(fetched) == Compared::Agreed {
            return Ok(Confirmed::Superseded);
        }
        match known.compare(fetched) {
            Compared::Recovered | Compared::Amended => self.store_fetched(&known, found).await,
            Compared::Ahead if mine.order_key.supersedes(fetched) => {
                Ok(not_yet(None, "the API does not show the state of the notification yet"))
            }
            Compared::Agreed | Compared::Ahead => Ok(Confirmed::Superseded),
        }
    }

    async fn store_fetched(&self, known: &Known, found: Found<T>) -> Result<Confirmed, InboxError> {
        let mut record = found.record;
        record.key = known.key_of(&record);
        if self.store.insert_after(record, known.extent()).await?.is_none() {
            return Ok(not_yet(Some(SOON), "a webhook arrived meanwhile"));
        }
        self.stored.notify_waiters();
        Ok(Confirmed::Superseded)
    }
}

impl<S, T> Confirm for Confirmer<S, T>
where
    S: Admin + WatchList,
    T: Storable,
{
    fn confirm<'a>(&'a self, claimed: &'a Claimed, limit: Duration) -> Confirming<'a> {
        Box::pin(async move {
            match timeout(limit, self.ask(claimed)).await {
                Ok(Ok(confirmed)) => confirmed,
                Ok(Err(error)) => not_yet(None, &error.to_string()),
                Err(_) => not_yet(None, "the API did not answer in time"),
            }
        })
    }
}

fn not_yet(after: Option<Duration>, reason: &str) -> Confirmed {
    Confirmed::NotYet { after, reason: format!("not confirmed: {reason}") }
}

/// Limits how many objects are fetched: each webhook makes a request with the merchant's credentials.
struct Budget {
    per_minute: f64,
    state: Mutex<(f64, Instant)>,
}

impl Budget {
    fn new(per_minute: u32) -> Self {
        let per_minute = f64::from(per_minute.max(1));
        Self { per_minute, state: Mutex::new((per_minute, Instant::now())) }
    }

    /// Takes one, or returns how long to wait for the next.
    fn take(&self) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, at) = *state;
        let refilled = at.elapsed().as_secs_f64() / 60.0 * self.per_minute;
        let left = (left + refilled).min(self.per_minute);
        if left >= 1.0 {
            *state = (left - 1.0, Instant::now());
            return Ok(());
        }
        *state = (left, Instant::now());
        Err(Duration::from_secs_f64((1.0 - left) * 60.0 / self.per_minute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn budget_is_refilled_by_the_minute() {
        let budget = Budget::new(60);
        assert_eq!((0..100).filter(|_| budget.take().is_ok()).count(), 60);
        let wait = budget.take().unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        tokio::time::advance(Duration::from_millis(2_500)).await;
        assert_eq!((0..100).filter(|_| budget.take().is_ok()).count(), 2);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!((0..100).filter(|_| budget.take().is_ok()).count(), 60);
    }
}
