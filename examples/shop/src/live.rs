//! Payment pages that follow their order: one thread watches the file, and every page gets what concerns it.
//!
//! The state is always read from the database. A page that connects, or comes back, gets all of it first, so nothing
//! has to be remembered between connections or across a crash.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::response::sse::Event;
use futures_util::stream::{self, Stream};
use inqud_inbox::rusqlite;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::{Instant, sleep_until};

use crate::database::Database;
use crate::error::BoxError;
use crate::order::Order;
use crate::page;

/// How often the thread asks SQLite whether anything was committed. The answer is a number in shared memory.
const PAUSE: Duration = Duration::from_millis(100);
/// The most pages that follow at once. It is less than the server's connections, so webhooks always get one.
const PAGES: usize = 800;
/// A page connects again after this time, so a client that is gone holds nothing forever.
const LIFETIME: Duration = Duration::from_secs(600);

pub struct Live {
    database: Database,
    changes: broadcast::Sender<Arc<Change>>,
    places: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

/// An order that changed, rendered once for all pages that show it.
struct Change {
    order: String,
    version: i64,
    html: String,
}

impl Change {
    fn new(order: &Order) -> Result<Self, BoxError> {
        // An event cannot contain this character, and HTML does not need it.
        let html = page::live(order)?.replace('\r', " ");
        Ok(Self { order: order.id.clone(), version: order.version, html })
    }

    fn event(&self) -> Event {
        Event::default().id(self.version.to_string()).data(&self.html)
    }
}

impl Live {
    /// Starts the thread. It ends soon after `stopped` is true.
    pub fn start(
        database: Database,
        stopped: watch::Receiver<bool>,
    ) -> Result<(Self, JoinHandle<()>), BoxError> {
        let (changes, _) = broadcast::channel(256);
        let mut watcher = Watcher {
            seen: Order::last_version(&database.connect()?)?,
            database: database.clone(),
            changes: changes.clone(),
            stopped: stopped.clone(),
        };
        let thread = thread::Builder::new().name("live".to_owned()).spawn(move || watcher.run())?;
        let places = Arc::new(Semaphore::new(PAGES));
        Ok((Self { database, changes, places, stopped }, thread))
    }

    /// The number of pages that are open.
    pub fn pages(&self) -> usize {
        PAGES.saturating_sub(self.places.available_permits())
    }

    /// The events of one page. `None` if too many pages are open.
    pub fn follow(
        &self,
        order: String,
    ) -> Option<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let page = Page {
            order,
            // Before the first read, so that no change is missed between the two.
            changes: self.changes.subscribe(),
            database: self.database.clone(),
            stopped: self.stopped.clone(),
            sent: None,
            must_read: true,
            ends: Instant::now() + LIFETIME,
            _place: place,
        };
        let next = |mut page: Page| async {
            let event = page.next().await?;
            Some((Ok(event), page))
        };
        Some(stream::unfold(page, next))
    }
}

/// One open page.
struct Page {
    order: String,
    changes: broadcast::Receiver<Arc<Change>>,
    database: Database,
    stopped: watch::Receiver<bool>,
    sent: Option<i64>,
    must_read: bool,
    ends: Instant,
    _place: OwnedSemaphorePermit,
}

impl Page {
    /// `None` ends the stream, and the page connects again.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let change = if self.must_read {
                self.must_read = false;
                self.read().await?
            } else {
                tokio::select! {
                    change = self.changes.recv() => match change {
                        Ok(change) => change,
                        // This client is slow. It gets the state of now, and not each step to it.
                        Err(RecvError::Lagged(_)) => {
                            self.must_read = true;
                            continue;
                        }
                        Err(RecvError::Closed) => return None,
                    },
                    () = sleep_until(self.ends) => return None,
                    _ = self.stopped.wait_for(|stopped| *stopped) => return None,
                }
            };
            if change.order == self.order && self.sent < Some(change.version) {
                self.sent = Some(change.version);
                return Some(change.event());
            }
        }
    }

    async fn read(&self) -> Option<Arc<Change>> {
        let id = self.order.clone();
        let order = self.database.read(move |db| Order::find(db, &id)).await;
        let order = order.inspect_err(|error| println!("cannot read an order: {error}"));
        Change::new(&order.ok()??).ok().map(Arc::new)
    }
}

struct Watcher {
    database: Database,
    changes: broadcast::Sender<Arc<Change>>,
    stopped: watch::Receiver<bool>,
    /// The version of the last change that was sent.
    seen: i64,
}

impl Watcher {
    fn run(&mut self) {
        while !*self.stopped.borrow() {
            if let Err(error) = self.watch() {
                println!("pages cannot follow the file, trying again: {error}");
                thread::sleep(Duration::from_secs(1));
            }
        }
    }

    /// Reads the orders that changed, whoever changed them, after each commit to the file.
    fn watch(&mut self) -> rusqlite::Result<()> {
        let db = self.database.connect()?;
        let mut last = None;
        while !*self.stopped.borrow() {
            // It changes with each commit of another connection.
            let now: i64 = db.pragma_query_value(None, "data_version", |row| row.get(0))?;
            if last != Some(now) {
                last = Some(now);
                for order in Order::changed_since(&db, self.seen, 100)? {
                    self.seen = order.version;
                    // Ask again: there may be more.
                    last = None;
                    self.send(&order);
                }
            }
            if last.is_some() {
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn send(&self, order: &Order) {
        if self.changes.receiver_count() == 0 {
            return;
        }
        match Change::new(order) {
            // An error means that no page is open any more.
            Ok(change) => _ = self.changes.send(Arc::new(change)),
            Err(error) => println!("cannot render order {}: {error}", order.id),
        }
    }
}
