//! Asks merchant code for an object, and distrusts what it answers.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tower_inqud::danger;

use crate::catch_unwind::catch_unwind;
use crate::fetch::{Fetch, Fetched};
use crate::record::{Record, Storable, dead_reason};
use crate::tenant;

/// The maximum size of a fetched body, that of a webhook's.
const BODY: usize = 256 * 1024;

/// The maximum length of a reason, in characters.
const REASON: usize = 300;

type Erased<T> = Arc<dyn FetchAny<T>>;
type OfTenant<T> = Box<dyn Fn(Option<&str>) -> Option<Erased<T>> + Send + Sync>;

/// Fetches objects, those of tenants with the tenant's own client.
pub(crate) struct Fetcher<T> {
    client: OfTenant<T>,
    pub(crate) timeout: Duration,
}

/// An object as it is now.
pub(crate) enum State<T> {
    Found(Box<Found<T>>),
    Missing,
    /// The API could not answer.
    Later {
        after: Option<Duration>,
        reason: String,
    },
    /// The answer is of no use, which says nothing about other objects.
    Useless {
        reason: String,
    },
}

pub(crate) struct Found<T> {
    pub(crate) event: T,
    pub(crate) record: Record,
}

impl<T: Storable> Fetcher<T> {
    /// Fetches objects without a tenant.
    pub(crate) fn new(own: impl Fetch<T>) -> Self {
        let own: Erased<T> = Arc::new(own);
        Self::of(Box::new(move |tenant| tenant.is_none().then(|| Arc::clone(&own))))
    }

    /// Fetches objects with the client that `client` returns for their tenant.
    pub(crate) fn of_any<F: Fetch<T>>(
        client: impl Fn(Option<&str>) -> Option<Arc<F>> + Send + Sync + 'static,
    ) -> Self {
        Self::of(Box::new(move |tenant| client(tenant).map(|it| it as Erased<T>)))
    }

    fn of(client: OfTenant<T>) -> Self {
        Self { client, timeout: Duration::from_secs(30) }
    }

    /// Fetches the object with this id, which includes its tenant.
    pub(crate) async fn fetch(&self, object: &str) -> State<T> {
        let (tenant, id) = tenant::split(object);
        // All of it is merchant code.
        let fetched = catch_unwind(async {
            let client = (self.client)(tenant.as_deref());
            match client {
                Some(client) => timeout(self.timeout, client.fetch_any(id)).await.ok().map(Ok),
                None => Some(Err("no client for the tenant of the object")),
            }
        });
        let useless = |reason: &str| State::Useless { reason: reason.to_owned() };
        match fetched.await {
            None => useless("the fetcher panicked"),
            Some(None) => useless("the fetcher timed out"),
            Some(Some(Err(reason))) => useless(reason),
            Some(Some(Ok(Fetched::Missing))) => State::Missing,
            Some(Some(Ok(Fetched::Later { after, reason }))) => {
                State::Later { after, reason: reason.chars().take(REASON).collect() }
            }
            Some(Some(Ok(Fetched::Found(body)))) => found(tenant.as_deref(), id, body),
        }
    }
}

fn found<T: Storable>(tenant: Option<&str>, id: &str, body: Bytes) -> State<T> {
    let useless = |reason: String| State::Useless { reason };
    if body.len() > BODY {
        return useless(format!("the answer has {} bytes", body.len()));
    }
    let event = match danger::decode::<T>(&body) {
        Ok(event) => event,
        Err(rejection) => {
            return useless(format!("cannot decode the answer: {}", dead_reason(&rejection)));
        }
    };
    if event.id() != id {
        return useless("the answer is another object".to_owned());
    }
    let record = Record::new(&event, body).fetched();
    let record = match tenant {
        Some(tenant) => record.of_tenant(tenant),
        None => record,
    };
    State::Found(Box::new(Found { event, record }))
}

/// The same as [`Fetch`], but its future has no type of its own.
trait FetchAny<T>: Send + Sync {
    fn fetch_any<'a>(&'a self, id: &'a str) -> Fetching<'a>;
}

type Fetching<'a> = Pin<Box<dyn Future<Output = Fetched> + Send + 'a>>;

impl<T: 'static, F: Fetch<T>> FetchAny<T> for F {
    fn fetch_any<'a>(&'a self, id: &'a str) -> Fetching<'a> {
        Box::pin(self.fetch(id))
    }
}

impl<T> fmt::Debug for Fetcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
