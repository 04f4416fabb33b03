use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::client::{ApiClient, Extract, Shared};
use crate::credentials::Credentials;
use crate::error::ConfigError;
use crate::pace::{Limits, Pace};
use crate::path::Addresses;
use crate::random::Random;
use tower_inqud::EventKind;

const BASE_URL: &str = "https://api.inqud.com";
const PAYMENTS: &str = "/v1/user/payments/{id}";
const REQUESTS: &str = "/v1/user/crypto-acquiring/requests/{id}";

/// The settings of an [`ApiClient`].
#[derive(Clone)]
#[must_use]
pub struct ApiClientBuilder {
    credentials: Credentials,
    base_url: String,
    allow_unencrypted: bool,
    paths: BTreeMap<EventKind, String>,
    invalid_project: Option<String>,
    rate: (u32, Duration),
    per_hour: usize,
    max_wait: Duration,
    max_pause: Duration,
    timeout: Duration,
    response_limit: usize,
    extract: Arc<Extract>,
}

impl ApiClientBuilder {
    pub(crate) fn new(credentials: Credentials) -> Self {
        let known = [(EventKind::Payment, PAYMENTS), (EventKind::Request, REQUESTS)];
        Self {
            credentials,
            base_url: BASE_URL.to_owned(),
            allow_unencrypted: false,
            paths: known.into_iter().map(|(kind, path)| (kind, path.to_owned())).collect(),
            invalid_project: None,
            rate: (1, Duration::from_secs(1)),
            per_hour: 1_000,
            max_wait: Duration::from_secs(10),
            max_pause: Duration::from_secs(60 * 60),
            timeout: Duration::from_secs(10),
            response_limit: 256 * 1024,
            extract: Arc::new(|_, body| Some(body)),
        }
    }

    /// The address that paths are appended to. Defaults to `https://api.inqud.com` (confirmed).
    ///
    /// It must be `https`, unless its host is this machine: `localhost` or a loopback address.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Allows `http` to any host. Defaults to `https` only.
    ///
    /// Anyone who can read the connection can then send requests in your name.
    pub fn allow_unencrypted(mut self) -> Self {
        self.allow_unencrypted = true;
        self
    }

    /// The path of the objects of a kind, in which `{id}` stands for the id.
    ///
    /// Defaults to `/v1/user/payments/{id}` for payments and `/v1/user/crypto-acquiring/requests/{id}` for
    /// Requests. The [crate documentation](crate#paths) says how well each path is known. Change one if Inqud
    /// tells you another.
    ///
    /// The prefix of an id decides its kind. For ids without a known prefix, such as those of invoices, set the
    /// path of [`EventKind::Other`].
    pub fn path(mut self, kind: EventKind, path: impl Into<String>) -> Self {
        self.paths.insert(kind, path.into());
        self
    }

    /// Sets the path of checkouts in a crypto widget, by the id of the widget's project (`CAP-…`). Defaults to
    /// none, so that no checkout can be fetched.
    ///
    /// The path is `/v1/user/crypto-acquiring/{project}/checkouts/{id}`, as seen in third-party code.
    pub fn crypto_project(self, id: &str) -> Self {
        let path = format!("/v1/user/crypto-acquiring/{id}/checkouts/{{id}}");
        self.project(EventKind::Checkout, id, path)
    }

    /// Sets the path of on-ramp checkouts, by the id of their project (`ORP-…`). Defaults to none, so that no
    /// on-ramp checkout can be fetched.
    ///
    /// The path is `/v1/user/on-ramp/{project}/checkouts/{id}`, as seen in third-party code.
    pub fn on_ramp_project(self, id: &str) -> Self {
        let path = format!("/v1/user/on-ramp/{id}/checkouts/{{id}}");
        self.project(EventKind::OnRampCheckout, id, path)
    }

    fn project(mut self, kind: EventKind, id: &str, path: String) -> Self {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            self.invalid_project = Some(id.to_owned());
        }
        self.path(kind, path)
    }

    /// Limits requests to `requests` in each `period`, with a token bucket of that size. Defaults to 1 in a second.
    ///
    /// Inqud's own limits are not public.
    pub fn rate_limit(mut self, requests: u32, period: Duration) -> Self {
        self.rate = (requests, period);
        self
    }

    /// Maximum requests in any hour. Defaults to 1,000.
    ///
    /// It limits what a fault can cost, such as a flood of webhooks that each cause a request. Raise it if
    /// you have many open objects: each needs up to five requests in three days.
    pub fn max_per_hour(mut self, requests: usize) -> Self {
        self.per_hour = requests;
        self
    }

    /// How long a call waits for the rate limit. Defaults to 10 s.
    ///
    /// A call that would wait longer returns [`Later`](inqud_inbox::Fetched::Later) at once. A call never waits
    /// for the end of a pause or for the cap per hour.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// The longest pause after a failure, and the longest time in `Retry-After` that is honoured. Defaults to
    /// 1 h. More than a day counts as a day.
    ///
    /// Pauses that the API does not ask for are never longer than 5 min.
    pub fn max_pause(mut self, pause: Duration) -> Self {
        self.max_pause = pause;
        self
    }

    /// How long to wait for a complete response, including its body. Defaults to 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The largest response that is read, in bytes. Defaults to 256 KiB, as for webhooks.
    pub fn response_limit(mut self, bytes: usize) -> Self {
        self.response_limit = bytes;
        self
    }

    /// Takes the object out of a response with status 200. Defaults to the whole response.
    ///
    /// Inqud answers a `POST` with the object at the top level (confirmed), and a `GET` probably too
    /// (inferred). If an object is inside another one, use [`member`](crate::member):
    ///
    /// ```
    /// use inqud_api::{ApiClient, Credentials, member};
    ///
    /// # fn main() -> Result<(), inqud_api::ConfigError> {
    /// let credentials = Credentials::signed("TKN-1", "the secret of the token")?;
    /// let builder = ApiClient::builder(credentials).extract(|_, body| member(&body, "data"));
    /// # drop(builder);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Whatever it returns must be the object with the id that was asked for.
    pub fn extract<F>(mut self, extract: F) -> Self
    where
        F: Fn(EventKind, Bytes) -> Option<Bytes> + Send + Sync + 'static,
    {
        self.extract = Arc::new(extract);
        self
    }

    /// Builds the client. `service` sends its requests, such as the client of hyper-util.
    ///
    /// The service must not follow redirects, because it would send the signature along.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if a setting is invalid.
    pub fn build<S>(self, service: S) -> Result<ApiClient<S>, ConfigError> {
        if let Some(id) = self.invalid_project {
            return Err(ConfigError::InvalidProject(id));
        }
        let (burst, period) = self.rate;
        let interval = period.checked_div(burst).unwrap_or_default();
        let zero = [
            (interval.is_zero(), "rate_limit"),
            (self.per_hour == 0, "max_per_hour"),
            (self.timeout.is_zero(), "timeout"),
            (self.response_limit == 0, "response_limit"),
        ];
        if let Some((_, name)) = zero.into_iter().find(|(is_zero, _)| *is_zero) {
            return Err(ConfigError::ZeroLimit(name));
        }
        let addresses = Addresses::new(&self.base_url, self.allow_unencrypted, self.paths)?;
        let limits = Limits {
            burst,
            interval,
            per_hour: self.per_hour,
            max_wait: self.max_wait,
            max_pause: self.max_pause,
        };
        let shared = Shared {
            credentials: self.credentials,
            addresses,
            pace: Pace::new(limits),
            timeout: self.timeout,
            response_limit: self.response_limit,
            extract: self.extract,
            random: Random::default(),
        };
        Ok(ApiClient::new(shared, service))
    }
}

impl ApiClient<()> {
    /// Starts to configure a client with these credentials.
    pub fn builder(credentials: Credentials) -> ApiClientBuilder {
        ApiClientBuilder::new(credentials)
    }
}

impl fmt::Debug for ApiClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClientBuilder")
            .field("credentials", &self.credentials)
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}
