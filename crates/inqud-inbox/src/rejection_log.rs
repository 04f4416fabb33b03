//! A log of the calls that the layer has rejected.
//!
//! The layer calls an observer for each, which must not wait. It puts the call into a bounded queue, or counts it if there
//! is no room. One task writes what is in the queue into the store, with a pause after each commit, so that a flood of
//! forged calls takes next to nothing from the store.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::sleep;

use crate::catch_unwind::catch_unwind;
use crate::record::Storable;
use crate::rejection::LoggedRejection;
use crate::store::Store;
use crate::telemetry;
use tower_inqud::{Rejection, RejectionKind};

/// The most calls that wait, and so the most in one commit.
const PLACES: usize = 64;

/// The pause after each commit.
const PAUSE: Duration = Duration::from_secs(1);

/// The characters of a field's path that are kept, because the keys of a map come from the sender.
const PATH_LEN: usize = 100;

/// A log of the calls that a [`WebhookLayer`](tower_inqud::WebhookLayer) rejects, in the store of an inbox.
///
/// Created by [`Inbox::rejection_log`](crate::Inbox::rejection_log). When webhooks stop, it tells why: a wrong secret, a
/// proxy that changes bodies, or that nobody called at all.
///
/// - It keeps the newest calls of each [reason](LoggedRejection::reason), so that strangers who send no digest do not push
///   out the webhooks whose digest was wrong.
/// - It never delays a response. At most 64 calls a second are written. Others are counted in
///   [`dropped`](LoggedRejection::dropped), and so a flood shows as a number.
/// - It has nothing of the body, and no header except the length. Calls of the last second are lost when the process ends.
///
/// # Example
///
/// ```
/// use std::net::SocketAddr;
///
/// use axum::extract::ConnectInfo;
/// use inqud_inbox::Inbox;
/// use tower_inqud::{PaymentRequest, Secret, WebhookLayer};
///
/// # fn main() -> Result<(), tower_inqud::ConfigError> {
/// let inbox = Inbox::memory();
/// let log = inbox.rejection_log().source(|request| {
///     let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
///     peer.map(|peer| peer.0.ip())
/// });
/// let webhooks = WebhookLayer::<PaymentRequest>::new(Secret::new("secret_value")?)
///     .on_rejection(log.observer::<PaymentRequest>());
/// # Ok(())
/// # }
/// ```
///
/// The layer has one observer. To do something else too, call [`record`](Self::record) from yours.
#[must_use = "it does nothing until a layer has its observer"]
pub struct RejectionLog<S> {
    shared: Arc<Shared<S>>,
    keep: usize,
    source: Option<Arc<SourceFn>>,
}

type SourceFn = dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync;

struct Shared<S> {
    store: Arc<S>,
    queue: Mutex<Option<Sender<LoggedRejection>>>,
    dropped: Arc<AtomicU64>,
}

impl<S: Store> RejectionLog<S> {
    pub(crate) fn new(store: Arc<S>) -> Self {
        let shared = Shared { store, queue: Mutex::default(), dropped: Arc::default() };
        Self { shared: Arc::new(shared), keep: 200, source: None }
    }

    /// Sets how many calls to keep of each reason. Defaults to 200.
    pub fn keep(mut self, count: usize) -> Self {
        self.keep = count;
        self
    }

    /// Sets how to find out the address that a call came from. Defaults to not knowing it.
    ///
    /// The layer reads no address. Anyone can send headers such as `X-Forwarded-For`: read them only behind a proxy of your
    /// own that replaces them.
    pub fn source<F>(mut self, source: F) -> Self
    where
        F: Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static,
    {
        self.source = Some(Arc::new(source));
        self
    }

    /// Returns the observer for [`WebhookLayer::on_rejection`](tower_inqud::WebhookLayer::on_rejection), which records each
    /// call under the kind of `T`.
    pub fn observer<T: Storable>(&self) -> impl Fn(&Rejection, &Parts) + Send + Sync + 'static {
        let log = self.clone();
        move |rejection, request| log.record(T::KIND, rejection, request)
    }

    /// Records a call, or counts it if more are rejected than can be written. Returns at once.
    pub fn record(&self, kind: &str, rejection: &Rejection, request: &Parts) {
        let length = request.headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
        let logged = LoggedRejection {
            at: Timestamp::now(),
            kind: kind.to_owned(),
            reason: rejection.kind().as_str().to_owned(),
            diagnosis: diagnosis(rejection),
            source: self.source.as_ref().and_then(|source| source(request)),
            content_length: length.and_then(|it| it.parse().ok()),
            dropped: 0,
        };
        if !self.push(logged) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            telemetry::rejection("dropped", 1);
        }
    }

    fn push(&self, logged: LoggedRejection) -> bool {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let logged = match &*queue {
            Some(sender) => match sender.try_send(logged) {
                Ok(()) => return true,
                Err(TrySendError::Full(_)) => return false,
                // The runtime of the task has ended.
                Err(TrySendError::Closed(logged)) => logged,
            },
            None => logged,
        };
        let Ok(runtime) = Handle::try_current() else { return false };
        let (sender, receiver) = channel(PLACES);
        let Shared { store, dropped, .. } = &*self.shared;
        runtime.spawn(write(Arc::clone(store), Arc::clone(dropped), receiver, self.keep));
        let is_sent = sender.try_send(logged).is_ok();
        *queue = Some(sender);
        is_sent
    }
}

/// Writes what waits, until the log is gone.
async fn write<S: Store>(
    store: Arc<S>,
    all_dropped: Arc<AtomicU64>,
    mut queue: Receiver<LoggedRejection>,
    keep: usize,
) {
    while let Some(first) = queue.recv().await {
        let mut batch = vec![first];
        while batch.len() < PLACES
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        let dropped = all_dropped.swap(0, Ordering::Relaxed);
        if let Some(last) = batch.last_mut() {
            last.dropped = dropped;
        }
        let count = batch.len();
        let written = catch_unwind(async { store.log_rejections(batch, keep).await }).await;
        if written.is_some_and(|written| written.is_ok()) {
            telemetry::rejection("logged", count);
        } else {
            telemetry::rejection("failed", count);
            // They show with the next that is written.
            let lost = dropped.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            all_dropped.fetch_add(lost, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
}

/// Describes the likely cause, without a value of the body.
fn diagnosis(rejection: &Rejection) -> Option<String> {
    if let RejectionKind::WrongKind { expected, found } = rejection.kind() {
        return Some(format!("expected a `{expected}`, found a `{found}`"));
    }
    let path = || Some(format!("at {}", rejection.field_path()?));
    let name = rejection.diagnosis().map(|it| it.as_str().to_owned());
    name.or_else(|| path().map(|path| path.chars().take(PATH_LEN).collect()))
}

impl<S> Clone for RejectionLog<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), keep: self.keep, source: self.source.clone() }
    }
}

impl<S> fmt::Debug for RejectionLog<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectionLog").field("keep", &self.keep).finish_non_exhaustive()
    }
}
