use std::fmt;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Uri};

use super::{Message, MockApi, SentBody};
use tower_inqud::{Secret, contract, sign};

/// Signs messages the way Inqud does, and delivers them to a service.
///
/// By default, each message is delivered once, in order, in one frame, correctly signed, and without retries.
///
/// [`deliver`](Self::deliver) and [`any_order`](Self::any_order) describe each step of a delivery. The
/// [crate documentation](crate) has an example.
#[derive(Clone)]
#[must_use]
pub struct MockInqud {
    secret: Secret,
    /// The key that signs forged requests. It is never derived from the secret, so a forged request does not
    /// reveal a digest made with the secret.
    forged_secret: Secret,
    uri: Uri,
    pub(super) seed: u64,
    pub(super) shuffled: bool,
    pub(super) times: u32,
    pub(super) rounds: u32,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) retries: Vec<Duration>,
    pub(super) fault: Option<Fault>,
    pub(super) api: Option<MockApi>,
    drop_share: f64,
    chunk: Option<usize>,
    pause: Duration,
}

/// A fault in every request that a [`MockInqud`] sends.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The digest is made with a random key instead of the secret.
    Forged,
    /// The digest header is missing.
    Unsigned,
    /// The digest is correct, but the body ends with an error after its first half.
    ///
    /// Over a socket, the connection breaks and there is no response, so every such delivery is
    /// [`Failed`](super::Answer::Failed) even if the server rejected it.
    Truncated,
}

/// Creates a random key.
fn forged_secret() -> Secret {
    let mut key = [0; 32];
    fastrand::fill(&mut key);
    // `Secret` does not accept a key of zeros.
    key[0] |= 1;
    Secret::verbatim(key).expect("neither empty nor all zeros")
}

impl MockInqud {
    /// Creates a mock that signs with `secret` and sends to `uri`.
    ///
    /// A path is enough for a service in this process. An HTTP client needs an absolute URI.
    pub fn new(secret: Secret, uri: Uri) -> Self {
        Self {
            secret,
            forged_secret: forged_secret(),
            uri,
            seed: fastrand::u64(..),
            shuffled: false,
            times: 1,
            rounds: 100,
            interval: Duration::ZERO,
            timeout: contract::RESPONSE_TIMEOUT,
            retries: Vec::new(),
            fault: None,
            api: None,
            drop_share: 0.0,
            chunk: None,
            pause: Duration::ZERO,
        }
    }

    /// Shuffles the messages, using the [seed](Self::seed). Defaults to the given order.
    pub fn shuffled(mut self) -> Self {
        self.shuffled = true;
        self
    }

    /// The seed for every random order. Defaults to a random seed, which reports and errors print.
    ///
    /// Set it to reproduce a run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many times to deliver each message. Defaults to 1.
    ///
    /// Set it to test how your handler treats duplicates. [`any_order`](Self::any_order) ignores it and repeats
    /// messages at random.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// How many shuffled rounds [`any_order`](Self::any_order) delivers after the ordered round. Defaults to 100.
    ///
    /// The minimum is 1.
    pub fn rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds.max(1);
        self
    }

    /// How long to wait before each retry of a message that was not acknowledged. Defaults to no retries.
    ///
    /// The mock delivers other messages meanwhile. Inqud's schedule is [`contract::RETRY_SCHEDULE`], almost two
    /// days in total. A test with Tokio's time paused (`#[tokio::test(start_paused = true)]`) does not wait
    /// for it.
    pub fn retries(mut self, waits: &[Duration]) -> Self {
        self.retries = waits.to_vec();
        self
    }

    /// How long to wait for a response. Defaults to [`contract::RESPONSE_TIMEOUT`].
    ///
    /// The mock adds to it the time that a [delayed](Self::frame_delay) body takes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Minimum time between the starts of two deliveries, including retries. Defaults to zero.
    ///
    /// Set it to limit the rate at which a server is called.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sends every request with this fault. Defaults to none.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Loses this share of the messages for ever, repeats and retries included. Defaults to 0.
    ///
    /// `share` is between 0 and 1. The [seed](Self::seed) and the body of a message decide whether it is lost,
    /// so a run with the same seed loses the same messages, even in another process. The
    /// [report](super::Report) lists a lost message once, as [`Answer::Dropped`](super::Answer::Dropped).
    /// [`any_order`](Self::any_order) loses nothing.
    pub fn drop_share(mut self, share: f64) -> Self {
        self.drop_share = share;
        self
    }

    /// Gives the messages to an API that plays Inqud's. Defaults to none.
    ///
    /// When a message is due for the first time, its object changes in the API, even if the delivery is
    /// [lost](Self::drop_share). An object never goes back to an earlier message, in whatever order the
    /// messages are delivered.
    pub fn api(mut self, api: &MockApi) -> Self {
        self.api = Some(api.clone());
        self
    }

    /// Whether this message is never delivered.
    pub(super) fn drops(&self, message: &Message) -> bool {
        // FNV-1a. The generator mixes its seed.
        let hash = message.body().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        fastrand::Rng::with_seed(self.seed ^ hash).f64() < self.drop_share
    }

    /// Sends bodies in frames of this many bytes, at least 1, without a `Content-Length`. Defaults to one frame
    /// and a `Content-Length`.
    pub fn chunked(mut self, bytes: usize) -> Self {
        self.chunk = Some(bytes);
        self
    }

    /// How long to wait before each frame of a body. Defaults to zero.
    ///
    /// Set it to test the timeouts for slow bodies.
    pub fn frame_delay(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Builds the request for a message.
    ///
    /// This mock and its clones always build the same request for the same message. Use it to send the request
    /// without [`deliver`](Self::deliver).
    #[must_use]
    pub fn request(&self, message: &Message) -> Request<SentBody> {
        let bytes = message.body().clone();
        let mut body = match self.chunk {
            Some(size) => SentBody::in_chunks(bytes, size),
            None => SentBody::whole(bytes),
        };
        if self.fault == Some(Fault::Truncated) {
            body = body.cut();
        }
        let mut request = Request::new(body.frame_delay(self.pause));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let digest = match self.fault {
            Some(Fault::Unsigned) => return request,
            Some(Fault::Forged) => sign(&self.forged_secret, message.body()),
            _ => sign(&self.secret, message.body()),
        };
        headers.insert(contract::DIGEST_HEADER, digest.into());
        request
    }
}

impl fmt::Debug for MockInqud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockInqud")
            .field("secret", &self.secret)
            .field("uri", &self.uri)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
