//! Reconciliation in a real store. What is asked and compared is the code of the crate.

use std::sync::Mutex;
use std::time::Duration;

use inqud_inbox::__private::{Look, Next, Reach, Scheduled};
use inqud_inbox::{Fetch, Fetched, Inbox, LookOutcome, Reconciled, Storable, Store, WatchList};
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower_inqud::{Payment, PaymentRequest};

use super::{LEASE, Replay, same};
use crate::look::{Compared, Step, Watch};

/// A look that has begun.
pub(super) struct Looking {
    look: Look,
    asking: JoinHandle<Reconciled>,
    answer: Option<oneshot::Sender<Fetched>>,
    /// The number of what was stored.
    stored: Option<i64>,
}

/// Answers when it is told to.
struct Api(Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<Fetched>)>>);

impl<T> Fetch<T> for Api {
    async fn fetch(&self, _: &str) -> Fetched {
        let (asked, answer) = self.0.lock().unwrap().take().unwrap();
        asked.send(()).unwrap();
        answer.await.unwrap()
    }
}

fn asking<S, T>(inbox: &Inbox<S>, id: String, api: Api) -> JoinHandle<Reconciled>
where
    S: Store + WatchList,
    T: Storable,
{
    let reconciler = inbox.reconcile::<T>(api).fetch_timeout(LEASE);
    tokio::spawn(async move { reconciler.look_at(None, &id).await.unwrap() })
}

impl<S: Store + WatchList> Replay<'_, S> {
    pub(super) async fn expect(&self) {
        let id = self.id(0);
        let now = Timestamp::now();
        let expected = match self.kind {
            PaymentRequest::KIND => self.inbox.expect::<PaymentRequest>(id, now).await,
            _ => self.inbox.expect::<Payment>(id, now).await,
        };
        expected.unwrap();
    }

    pub(super) async fn enrol(&self) {
        let store = self.inbox.store();
        loop {
            let arrived = store.arrived(self.kind, 100, LEASE).await.unwrap();
            let due = arrived.arrivals.iter().map(|it| {
                let position = (it.order_key.position(), it.seq);
                Scheduled::new(it.object.clone(), position, it.received_at, it.received_at)
            });
            let due = due.collect();
            store.schedule(self.kind, arrived.reach, due).await.unwrap();
            if !arrived.has_more && !arrived.is_behind {
                return;
            }
        }
    }

    pub(super) async fn begin_look(&mut self, lapses: bool) -> Result<(), String> {
        let lease = if lapses { Duration::ZERO } else { LEASE };
        let look = loop {
            let looks = self.inbox.store().claim_looks(self.kind, 1, lease).await.unwrap();
            let [look] =
                <[Look; 1]>::try_from(looks).map_err(|_| "the store says that no look is due")?;
            if look.looks.is_some() {
                break look;
            }
            // What was only expected is scheduled first.
            let now = look.now;
            let next = Next::At { look_at: now, looks: 0, failures: 0, stored: None };
            self.inbox.store().end_looks(vec![(look, next)]).await.unwrap();
        };
        let looks = self.state.watching.unwrap().looks;
        same("looks", look.looks, Some(u32::from(looks)))?;
        let (asked, is_asked) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let api = Api(Mutex::new(Some((asked, answered))));
        let id = self.id(0).to_owned();
        let asking = match self.kind {
            PaymentRequest::KIND => asking::<S, PaymentRequest>(self.inbox, id, api),
            _ => asking::<S, Payment>(self.inbox, id, api),
        };
        // What is known is read by then.
        is_asked.await.unwrap();
        self.looking = Some(Looking { look, asking, answer: Some(answer), stored: None });
        Ok(())
    }

    pub(super) async fn fail_look(&mut self) -> Result<(), String> {
        let looking = self.looking.as_mut().unwrap();
        let later = Fetched::Later { after: None, reason: "planned".to_owned() };
        looking.answer.take().unwrap().send(later).unwrap();
        let reconciled = (&mut looking.asking).await.unwrap();
        same("looked", reconciled.outcome, LookOutcome::Later)
    }

    pub(super) async fn store_look(&mut self) -> Result<(), String> {
        let Some(Step::Fetched(note)) = self.state.watching.unwrap().look.map(|look| look.at)
        else {
            unreachable!()
        };
        let mut after = self.state;
        let expected = match self.model.store_look(&mut after) {
            Ok(Compared::Agreed) => LookOutcome::Agreed,
            // If a property is violated, the look has stored something.
            Ok(Compared::Recovered) | Err(_) => LookOutcome::Recovered,
            Ok(Compared::Ahead) => LookOutcome::Ahead,
            Ok(Compared::Useless) => LookOutcome::Later,
        };
        let record = self.record(note);
        let looking = self.looking.as_mut().unwrap();
        let found = Fetched::Found(record.body.clone());
        looking.answer.take().unwrap().send(found).unwrap();
        let reconciled = (&mut looking.asking).await.unwrap();
        same("looked", reconciled.outcome, expected)?;
        if after.objects[0].rows().len() > self.keys[0].len() {
            let mut key = record.key;
            if let Some(last) = self.keys[0].last().filter(|_| self.keys[0].contains(&key)) {
                key = record.key_after(*last);
            }
            while self.keys[0].contains(&key) {
                key = record.key_after(key);
            }
            self.keys[0].push(key);
            let known = self.inbox.store().known(self.kind, self.id(0)).await.unwrap();
            let last = known.rows.last().map(|row| row.seq);
            self.looking.as_mut().unwrap().stored = last;
        }
        Ok(())
    }

    pub(super) async fn end_look(&mut self) {
        let watching = self.state.watching.unwrap();
        let Looking { look, stored, .. } = self.looking.take().unwrap();
        let looks = watching.looks;
        let again = |look_at, looks, stored| Next::At {
            look_at,
            looks: u32::from(looks),
            failures: 0,
            stored,
        };
        let next = match watching.look.unwrap().at {
            Step::Stored { row: None, is_done: true } => Next::Done,
            Step::Stored { row, is_done } => {
                let place = row.map(|row| {
                    let note = self.state.objects[0].row(row).note;
                    (self.record(note).order_key.position(), stored.unwrap())
                });
                // The time of a look that never comes.
                let look_at = if is_done { i64::MAX } else { look.now };
                again(look_at, looks + 1, place)
            }
            _ => again(look.now, looks, None),
        };
        self.inbox.store().end_looks(vec![(look, next)]).await.unwrap();
    }

    pub(super) fn crash_look(&mut self) {
        self.looking.take().unwrap().asking.abort();
    }

    /// Compares whether a look is due. A claim that finds none changes nothing.
    pub(super) async fn compare_looks(&self) -> Result<(), String> {
        match self.state.watching.map(|it| it.entry) {
            None | Some(Watch::Due | Watch::Lapsed) => Ok(()),
            Some(_) => same("looks", self.claim_look().await.is_some(), false),
        }
    }

    /// Compares what the watch list says of the object. It changes the list, so it comes last.
    pub(super) async fn compare_watch_list(&self) -> Result<(), String> {
        let Some(watching) = self.state.watching else { return Ok(()) };
        let look = self.claim_look().await;
        let is_due = matches!(watching.entry, Watch::Due | Watch::Lapsed);
        same("a look is due", look.is_some(), is_due)?;
        if let Some(look) = look {
            same("looks", look.looks.unwrap_or_default(), u32::from(watching.looks))?;
        }
        let known = self.inbox.store().known(self.kind, self.id(0)).await.unwrap();
        let since = watching.since.filter(|_| watching.entry != Watch::Off);
        let place = since.map_or((i64::MIN, 0), |row| {
            let position = self.record(self.state.objects[0].row(row).note).order_key.position();
            (position, known.rows[usize::from(row)].seq)
        });
        // An arrival before that one, or that one again, adds the object and moves nothing.
        let is_added = self.arrives(place).await;
        same("it is on the list", !is_added, watching.entry != Watch::Off)?;
        same("a later arrival moves it", self.arrives((place.0, place.1 + 1)).await, true)
    }

    /// Claims the look at the object, if it is due.
    async fn claim_look(&self) -> Option<Look> {
        self.inbox.store().claim_looks(self.kind, 1, LEASE).await.unwrap().pop()
    }

    /// Whether a look is due because of an arrival.
    async fn arrives(&self, position: (i64, i64)) -> bool {
        let scheduled = Scheduled::new(self.id(0).to_owned(), position, 0, 0);
        // It is read nothing further.
        let reach = Reach::new(-1, -1);
        self.inbox.store().schedule(self.kind, reach, vec![scheduled]).await.unwrap();
        self.claim_look().await.is_some()
    }
}
