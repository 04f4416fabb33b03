//! Tells other processes that something may be due, with `LISTEN` and `NOTIFY`.
//!
//! It is only a hint, because a notification can be lost with its connection, and a pooler between the program and
//! the server may not pass it on. Runners poll in any case.
//!
//! A transaction with a `NOTIFY` takes a lock that all such transactions of the server wait for, until it is flushed.
//! So it is never part of storing or settling. It is sent afterwards, on its own, without waiting for a flush, and at
//! most once in 5 ms.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Socket};

use super::error::{ANSWER, CONNECT, connection, engine, failed};
use super::floor::Floors;
use crate::error::InboxError;
use crate::key::Key;

/// The least time between two announcements.
const EVERY: Duration = Duration::from_millis(5);

/// How long to wait before a listener connects again.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// Opens a connection that receives notifications.
pub(super) type Connect = Arc<dyn Fn() -> Connecting + Send + Sync>;

type Connecting = Pin<
    Box<dyn Future<Output = Result<(Client, mpsc::UnboundedReceiver<String>), InboxError>> + Send>,
>;

/// Returns what connects with the settings of a pool.
pub(super) fn connect<T>(config: Config, tls: T) -> Connect
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + Sync,
    T::TlsConnect: Send + Sync,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    Arc::new(move || {
        let (config, tls) = (config.clone(), tls.clone());
        Box::pin(async move {
            let connecting = timeout(CONNECT, config.connect(tls)).await;
            let (client, mut connection) = connecting.map_err(failed)?.map_err(engine)?;
            let (payloads, received) = mpsc::unbounded_channel();
            // Ends with the client.
            tokio::spawn(async move {
                let message = |task: &mut std::task::Context<'_>| connection.poll_message(task);
                let mut message = message;
                while let Some(Ok(message)) = std::future::poll_fn(&mut message).await {
                    if let AsyncMessage::Notification(it) = message {
                        let _ = payloads.send(it.payload().to_owned());
                    }
                }
            });
            Ok((client, received))
        })
    })
}

/// What other processes are told, and what they tell.
pub(super) struct Wake {
    connect: Connect,
    /// Changes when another process has announced something.
    arrivals: watch::Sender<()>,
    /// Tells the announcements of this store from those of others.
    name: String,
    announcing: Arc<AtomicU8>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

/// Whether an announcement is being sent, and whether another is to follow.
const QUIET: u8 = 0;
const SENDING: u8 = 1;
const AGAIN: u8 = 2;

impl Wake {
    pub(super) fn new(connect: Connect) -> Self {
        Self {
            connect,
            arrivals: watch::Sender::new(()),
            name: name(),
            announcing: Arc::default(),
            listener: Mutex::default(),
        }
    }

    pub(super) fn arrivals(&self) -> watch::Receiver<()> {
        self.arrivals.subscribe()
    }

    /// Says that something may be due. Returns at once.
    pub(super) fn announce(&self, pool: &Pool) {
        if self.announcing.swap(AGAIN, Ordering::AcqRel) != QUIET {
            return;
        }
        let (state, pool, name) = (Arc::clone(&self.announcing), pool.clone(), self.name.clone());
        tokio::spawn(async move {
            let sending = Sending(state);
            loop {
                sending.0.store(SENDING, Ordering::Release);
                let _ = timeout(ANSWER, announce(&pool, &name)).await;
                sleep(EVERY).await;
                let quiet =
                    sending.0.compare_exchange(SENDING, QUIET, Ordering::AcqRel, Ordering::Acquire);
                if quiet.is_ok() {
                    return;
                }
            }
        });
    }

    /// Starts to listen, on the first call.
    pub(super) fn listen(&self, floors: &Arc<Floors>) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.as_ref().is_some_and(|listener| !listener.is_finished()) {
            return;
        }
        let (connect, arrivals) = (Arc::clone(&self.connect), self.arrivals.clone());
        let (name, floors) = (self.name.clone(), Arc::clone(floors));
        *listener = Some(tokio::spawn(async move {
            let mut wait = FIRST_WAIT;
            loop {
                if let Ok((client, mut payloads)) = connect().await
                    && client.batch_execute("LISTEN inqud_inbox").await.is_ok()
                {
                    wait = FIRST_WAIT;
                    // Something may have been announced before.
                    floors.forget_all();
                    arrivals.send_replace(());
                    while let Some(payload) = payloads.recv().await {
                        if payload != name {
                            floors.lower_all();
                            arrivals.send_replace(());
                        }
                    }
                }
                sleep(wait).await;
                wait = wait.saturating_mul(2).min(LAST_WAIT);
            }
        }));
    }

    pub(super) fn close(&self) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        listener.into_iter().for_each(|listener| listener.abort());
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.close();
    }
}

/// Ends the announcement however its task ends.
struct Sending(Arc<AtomicU8>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.store(QUIET, Ordering::Release);
    }
}

async fn announce(pool: &Pool, name: &str) -> Result<(), InboxError> {
    let client = connection(pool).await?;
    // One message with several statements is one transaction.
    let notify = format!("SET LOCAL synchronous_commit = off; NOTIFY inqud_inbox, '{name}'");
    client.batch_execute(&notify).await.map_err(engine)
}

/// A name that no other store has.
fn name() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id()).to_be_bytes();
    Key::hash([&random[..], &std::process::id().to_be_bytes()]).to_string()
}
