use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Body;
use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::answer::{BoxError, ReadError, chain, read, retry_after};
use crate::body::RequestBody;
use crate::credentials::{Confidential, Credentials};
use crate::log;
use crate::object::check;
use crate::pace::{Held, Pace};
use crate::path::Addresses;
use crate::random::Random;
use inqud_inbox::{Fetch, Fetched};
use tower_inqud::EventKind;

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("inqud-api/", env!("CARGO_PKG_VERSION")));

/// Takes the object out of a response.
pub(crate) type Extract = dyn Fn(EventKind, Bytes) -> Option<Bytes> + Send + Sync;

/// A client for Inqud's API, over any tower HTTP client.
///
/// It implements [`Fetch`] for every type, so an inbox can ask it for objects. A clone is a handle to the same
/// client, with the same limits. [`builder`](Self::builder) creates one, and the
/// [crate documentation](crate) describes what it does.
pub struct ApiClient<S> {
    shared: Arc<Shared>,
    /// Locked only while it is cloned. It makes the client `Sync` whatever the service is.
    service: Arc<Mutex<S>>,
}

pub(crate) struct Shared {
    pub(crate) credentials: Credentials,
    pub(crate) addresses: Addresses,
    pub(crate) pace: Pace,
    pub(crate) timeout: Duration,
    pub(crate) response_limit: usize,
    pub(crate) extract: Arc<Extract>,
    pub(crate) random: Random,
}

/// A response, as far as it was read.
enum Answer {
    Body(Bytes),
    Status(StatusCode, HeaderMap),
    TooLarge,
}

impl<S> ApiClient<S> {
    pub(crate) fn new(shared: Shared, service: S) -> Self {
        Self { shared: Arc::new(shared), service: Arc::new(Mutex::new(service)) }
    }

    /// Fetches the object with this id, whose prefix decides which path is requested.
    ///
    /// It returns at the latest after [`max_wait`](crate::ApiClientBuilder::max_wait) and
    /// [`timeout`](crate::ApiClientBuilder::timeout) together. The [crate documentation](crate#results) lists
    /// what each response becomes.
    ///
    /// # Panics
    ///
    /// Panics if it is polled outside a Tokio runtime, or in one without timers enabled.
    pub async fn get<B>(&self, id: &str) -> Fetched
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
        S::Error: Into<BoxError>,
        B: Body,
        B::Error: Into<BoxError>,
    {
        let shared = &*self.shared;
        let (kind, address) = match shared.addresses.of(id) {
            Ok(found) => found,
            Err(reason) => return later(None, reason),
        };
        let started = match shared.pace.admit().await {
            Ok(started) => started,
            Err((held, after)) => {
                let reason = match held {
                    Held::Paused => "requests pause, because the API failed",
                    Held::HourlyCap => "the cap of requests per hour is reached",
                    Held::Rate => "too many requests wait for the rate limit",
                };
                log::held(kind, reason, after);
                return later(Some(after), reason.to_owned());
            }
        };
        let (request, confidential) = shared.request(address);
        let exchange = self.exchange(request);
        let answer = match timeout(shared.timeout, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => return shared.failed(kind, started, None, &confidential, reason),
            Err(_) => {
                let reason = format!("no complete response within {:?}", shared.timeout);
                return shared.failed(kind, started, None, &confidential, reason);
            }
        };
        match answer {
            Answer::Body(body) => shared.object(kind, id, started, body),
            Answer::Status(status, headers) => {
                log::answered(kind, status.as_u16(), started.elapsed());
                shared.status(kind, started, status, &headers, &confidential)
            }
            Answer::TooLarge => {
                let reason = format!("the response is larger than {} bytes", shared.response_limit);
                shared.unusable(kind, started, reason)
            }
        }
    }

    async fn exchange<B>(&self, request: Request<RequestBody>) -> Result<Answer, String>
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone,
        S::Error: Into<BoxError>,
        B: Body,
        B::Error: Into<BoxError>,
    {
        let failed = |error: S::Error| format!("the request failed: {}", chain(error.into()));
        // The clone that becomes ready is the one that is called.
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed)?;
        let response = service.call(request).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Ok(Answer::Status(head.status, head.headers));
        }
        match read(body, self.shared.response_limit).await {
            Ok(body) => Ok(Answer::Body(body)),
            Err(ReadError::TooLarge) => Ok(Answer::TooLarge),
            Err(ReadError::Broke(error)) => Err(format!("the response broke off: {error}")),
        }
    }
}

impl Shared {
    fn request(&self, address: Uri) -> (Request<RequestBody>, Confidential) {
        let mut request = Request::new(RequestBody);
        *request.uri_mut() = address;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, AGENT);
        let confidential = self.credentials.add_to(headers, &self.random);
        (request, confidential)
    }

    fn object(&self, kind: EventKind, id: &str, started: Instant, body: Bytes) -> Fetched {
        log::answered(kind, 200, started.elapsed());
        let object = (self.extract)(kind, body).ok_or("the response does not contain the object");
        match object.and_then(|object| check(&object, id).map(|()| object)) {
            Ok(object) => {
                self.pace.succeeded(started);
                Fetched::Found(object)
            }
            Err(reason) => self.unusable(kind, started, reason.to_owned()),
        }
    }

    /// The API works, but this response is of no use.
    fn unusable(&self, kind: EventKind, started: Instant, reason: String) -> Fetched {
        self.pace.succeeded(started);
        log::unusable(kind, &reason);
        later(None, reason)
    }

    fn status(
        &self,
        kind: EventKind,
        started: Instant,
        status: StatusCode,
        headers: &HeaderMap,
        confidential: &Confidential,
    ) -> Fetched {
        let advice = match status {
            StatusCode::NOT_FOUND => {
                self.pace.succeeded(started);
                return Fetched::Missing;
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ": check the API token, and whether Inqud must know your address"
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => "",
            _ if status.is_server_error() => "",
            _ => {
                let advice = if status.is_redirection() {
                    ": redirects are not followed, so check the base URL and the paths"
                } else {
                    ""
                };
                let reason = format!("status {}{advice}", status.as_u16());
                return self.unusable(kind, started, reason);
            }
        };
        let retry_after = retry_after(headers, Timestamp::now());
        let reason = format!("status {}{advice}", status.as_u16());
        self.failed(kind, started, retry_after, confidential, reason)
    }

    /// Pauses all requests.
    fn failed(
        &self,
        kind: EventKind,
        started: Instant,
        retry_after: Option<Duration>,
        confidential: &Confidential,
        mut reason: String,
    ) -> Fetched {
        if confidential.is_in(&reason) {
            reason = "the request failed, with an error that shows one of its headers".to_owned();
        }
        let pause = self.pace.failed(started, retry_after);
        log::failed(kind, &reason, pause);
        later(Some(pause), reason)
    }
}

fn later(after: Option<Duration>, reason: String) -> Fetched {
    Fetched::Later { after, reason }
}

impl<T, S, B> Fetch<T> for ApiClient<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    async fn fetch(&self, id: &str) -> Fetched {
        self.get(id).await
    }
}

impl<S> Clone for ApiClient<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), service: Arc::clone(&self.service) }
    }
}

impl<S> fmt::Debug for ApiClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient")
            .field("credentials", &self.shared.credentials)
            .field("addresses", &self.shared.addresses)
            .finish_non_exhaustive()
    }
}
