use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::time::sleep;
use tower_service::Service;

use super::auth::Auth;
use super::body::{ApiBody, Then};
use super::fault::ApiFault;
use super::objects::Objects;
use super::times::shortened;
use crate::message::Message;
use tower_inqud::ConfigError;

/// Plays Inqud's API: a service that answers with the current state of objects.
///
/// A clone is a handle to the same API, so a test can change it while a client uses it. Pass a handle to
/// [`MockInqud::api`](crate::MockInqud::api), and it has the objects that the mock delivers.
///
/// 1. `GET` of any path whose last segment is the id of an object answers with that object, at the top level.
///    Only the last segment counts, because most paths of Inqud's API are not confirmed.
/// 2. `GET` of any path that ends in `/search`, with the query `orderId=…`, answers with an array of the
///    payments of that order. The path is confirmed for an older version of the API, the array is not.
/// 3. A request must prove who sent it, in one of the two ways that Inqud documents (confirmed):
///    `X-Token-API-Id` with `X-Token-API-Secret`, or with `X-HMAC-SHA256-Signature` and `X-Salt`. Otherwise
///    the answer is 401.
/// 4. An unknown id is a 404, and any method except `GET` is a 405.
/// 5. Times have [fewer digits](Self::fraction_digits) than in the webhooks, which a client must expect (inferred).
///
/// To play the API over HTTP, serve it with any server of tower services, such as
/// `axum::serve(listener, Router::new().fallback_service(api))`.
///
/// # Example
///
/// ```
/// use http::Request;
/// use inqud_mock::{Lifecycle, MockApi, Scenario};
/// use tower::ServiceExt;
/// use tower_inqud::Payment;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let api = MockApi::new("TKN-1", "a secret of the test")?;
/// let message = Lifecycle::new(Scenario::Payment).into_iter().last().unwrap();
/// api.publish(&message);
///
/// let payment: Payment = serde_json::from_slice(message.body())?;
/// let path = format!("/v1/user/payments/{}", payment.id);
/// let request = Request::get(&path)
///     .header("X-Token-API-Id", "TKN-1")
///     .header("X-Token-API-Secret", "a secret of the test")
///     .body(())?;
/// assert_eq!(api.clone().oneshot(request).await?.status(), 200);
/// assert_eq!(api.oneshot(Request::get(&path).body(())?).await?.status(), 401);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MockApi {
    shared: Arc<Shared>,
}

struct Shared {
    auth: Auth,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: Objects,
    faults: Vec<(f64, ApiFault)>,
    delay: Duration,
    digits: u8,
    envelope: Option<String>,
    seed: u64,
    requests: u64,
    refused: u64,
}

impl MockApi {
    /// Creates an API without objects that accepts this token.
    ///
    /// # Errors
    ///
    /// Those of [`Secret::new`](tower_inqud::Secret::new), such as [`ConfigError::SecretEmpty`].
    pub fn new(token_id: &str, token_secret: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        let auth = Auth::new(token_id, token_secret.as_ref())?;
        let state = State { digits: 3, seed: fastrand::u64(..), ..State::default() };
        Ok(Self { shared: Arc::new(Shared { auth, state: Mutex::new(state) }) })
    }

    /// Sets an object to the state in a message, as if Inqud had just created that message.
    ///
    /// A body that is not an object of Inqud is ignored.
    pub fn publish(&self, message: &Message) {
        let mut state = self.state();
        let number = state.objects.reserve(1);
        state.objects.publish(number, message);
    }

    /// Deletes an object. Requests for it get a 404 from now on.
    pub fn forget(&self, id: &str) {
        self.state().objects.forget(id);
    }

    /// Answers every request with this fault from now on. Replaces all other faults.
    pub fn fault(&self, fault: ApiFault) {
        self.state().faults = vec![(1.0, fault)];
    }

    /// Answers this share of the requests with a fault from now on, in addition to other faults.
    ///
    /// `share` is between 0 and 1. The [seed](Self::seed) decides which requests they are.
    pub fn fault_share(&self, fault: ApiFault, share: f64) {
        self.state().faults.push((share, fault));
    }

    /// Ends all faults.
    pub fn recover(&self) {
        self.state().faults.clear();
    }

    /// Waits this long before each answer. Defaults to zero.
    pub fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Maximum number of digits of a second's fraction in times. Defaults to 3. Webhooks have up to 9.
    ///
    /// Digits are cut off, not rounded. With fewer than 3, an object no longer equals the webhook about it,
    /// because times are compared by the millisecond.
    pub fn fraction_digits(&self, digits: u8) {
        self.state().digits = digits;
    }

    /// Puts each object into a member of this name. Defaults to the top level.
    ///
    /// Inqud answers a `POST` with the object at the top level (confirmed), and a `GET` probably too
    /// (inferred).
    pub fn envelope(&self, name: impl Into<String>) {
        self.state().envelope = Some(name.into());
    }

    /// The seed for the [shares](Self::fault_share). Defaults to a random seed.
    pub fn seed(&self, seed: u64) {
        self.state().seed = seed;
    }

    /// The number of requests so far, including refused ones.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// The number of requests so far that proved who sent them and asked for this id.
    #[must_use]
    pub fn requests_for(&self, id: &str) -> u64 {
        self.state().objects.asked(id)
    }

    /// The number of requests so far that got a 401 because they did not prove who sent them.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.state().refused
    }

    /// Reserves the numbers of this many messages.
    pub(crate) fn reserve(&self, messages: usize) -> u64 {
        self.state().objects.reserve(messages)
    }

    /// Publishes a message unless a later one about its object was.
    pub(crate) fn publish_numbered(&self, number: u64, message: &Message) {
        self.state().objects.publish(number, message);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, head: Parts) -> Response<ApiBody> {
        let delay = self.state().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let is_authentic = self.shared.auth.accepts(&head.headers);
        let (fault, object) = {
            let mut state = self.state();
            let number = state.requests;
            state.requests = number.saturating_add(1);
            if !is_authentic {
                state.refused = state.refused.saturating_add(1);
                return status(StatusCode::UNAUTHORIZED);
            }
            if head.method != Method::GET {
                return status(StatusCode::METHOD_NOT_ALLOWED);
            }
            (state.fault(number), state.find(&head.uri))
        };
        match fault {
            None => object.map_or_else(|| status(StatusCode::NOT_FOUND), json),
            Some(fault) => faulty(fault, object.unwrap_or_default()).await,
        }
    }
}

impl State {
    /// The fault of the request with this number.
    fn fault(&self, number: u64) -> Option<ApiFault> {
        let seed = self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut random = fastrand::Rng::with_seed(seed);
        self.faults.iter().find(|(share, _)| random.f64() < *share).map(|(_, fault)| fault.clone())
    }

    fn find(&mut self, uri: &http::Uri) -> Option<Bytes> {
        let last = uri.path().rsplit('/').next().unwrap_or_default();
        if last == "search" {
            let mut pairs = uri.query().unwrap_or_default().split('&');
            let order_id = pairs.find_map(|pair| pair.strip_prefix("orderId="))?;
            let found = self.objects.search(&percent_decoded(order_id));
            return Some(shortened(&found, self.digits.into()).into());
        }
        let id = percent_decoded(last);
        self.objects.count(&id);
        let body = String::from_utf8_lossy(self.objects.get(&id)?);
        let body = shortened(&body, self.digits.into());
        Some(match &self.envelope {
            Some(name) => format!("{{{}:{body}}}", serde_json::Value::from(name.as_str())).into(),
            None => body.into(),
        })
    }
}

async fn faulty(fault: ApiFault, object: Bytes) -> Response<ApiBody> {
    let half = |then| {
        let half = object.len().div_euclid(2);
        json_then(object.slice(..half), then)
    };
    match fault {
        ApiFault::Status(code) => status(code),
        ApiFault::RetryAfter(code, text) => with_header(status(code), RETRY_AFTER, &text),
        ApiFault::Redirect(uri) => {
            with_header(status(StatusCode::TEMPORARY_REDIRECT), LOCATION, &uri.to_string())
        }
        ApiFault::Hang => pending().await,
        ApiFault::Stalled => half(Then::Stall),
        ApiFault::Truncated => half(Then::Break),
        ApiFault::Endless => json_then(format!("{:64}", ' '), Then::Repeat),
        ApiFault::NotJson => {
            let page = Response::new(ApiBody::new("<html><body>Welcome</body></html>"));
            with_header(page, CONTENT_TYPE, "text/html")
        }
        ApiFault::WrongId => json(r#"{"id":"CAPD-another","status":"SUCCESS"}"#.into()),
    }
}

fn json(body: Bytes) -> Response<ApiBody> {
    json_then(body, Then::End)
}

fn json_then(body: impl Into<Bytes>, then: Then) -> Response<ApiBody> {
    with_header(Response::new(ApiBody::then(body, then)), CONTENT_TYPE, "application/json")
}

fn status(code: StatusCode) -> Response<ApiBody> {
    let mut response = Response::new(ApiBody::new(Bytes::new()));
    *response.status_mut() = code;
    response
}

/// Adds a header, unless the text cannot be the value of one.
fn with_header(
    mut response: Response<ApiBody>,
    name: http::HeaderName,
    text: &str,
) -> Response<ApiBody> {
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Decodes `%41` to `A`. An incomplete escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = after.get(..2).filter(|_| *first == b'%');
        let hex = escape.and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl<B> Service<Request<B>> for MockApi {
    type Response = Response<ApiBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // A GET has no body, so it is not read.
        let (head, _) = request.into_parts();
        let api = self.clone();
        Box::pin(async move { Ok(api.answer(head).await) })
    }
}

impl fmt::Debug for MockApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockApi").field("requests", &self.requests()).finish_non_exhaustive()
    }
}
