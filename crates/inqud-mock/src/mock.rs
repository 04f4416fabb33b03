use std::fmt;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Uri};

use super::{Message, SentBody};
use tower_inqud::{Secret, contract, sign};

/// Plays Inqud: signs messages, and delivers them to a service.
///
/// Unless set otherwise, each message is delivered once, in order, whole, rightly signed, and not
/// again if it is not acknowledged.
///
/// See [`deliver`](Self::deliver) and [`any_order`](Self::any_order) for what it then does, and
/// [the module](super) for an example.
#[derive(Clone)]
#[must_use]
pub struct MockInqud {
    secret: Secret,
    /// What forged calls are signed with. Never the secret: whoever sees such a call would have a digest
    /// that the secret made.
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
    chunk: Option<usize>,
    pause: Duration,
}

/// What can be wrong with all that a [`MockInqud`] sends.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The digest is made with a random key that the sender throws away, and proves nothing under your
    /// secret.
    Forged,
    /// There is no digest.
    Unsigned,
    /// The digest is right, but only the first half of the body comes, and then the connection ends.
    /// Over a socket there can be no answer: each such delivery has failed, however well the server
    /// refused it.
    Truncated,
}

/// A random secret that nobody else has.
fn forged_secret() -> Secret {
    let mut key = [0; 32];
    fastrand::fill(&mut key);
    // A key of zeros is refused.
    key[0] |= 1;
    Secret::verbatim(key).expect("neither empty nor all zeros")
}

impl MockInqud {
    /// Signs with `secret`, and sends to `uri`: a path for a service in this process, a whole URI for
    /// a client.
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
            chunk: None,
            pause: Duration::ZERO,
        }
    }

    /// Delivers in an order that the [seed](Self::seed) makes. In that of the messages unless set.
    pub fn shuffled(mut self) -> Self {
        self.shuffled = true;
        self
    }

    /// The seed of all that is random, to have it a second time. Another for each sender unless set;
    /// reports and errors tell it.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Delivers each message so many times: once unless set. Not used by
    /// [`any_order`](Self::any_order), which repeats at random.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// In how many orders [`any_order`](Self::any_order) delivers, after the one in order: 100 unless
    /// set, and at least one.
    pub fn rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds.max(1);
        self
    }

    /// Delivers what was not acknowledged again, after each of these waits in turn. Not unless set.
    ///
    /// Inqud's own are [`contract::RETRY_SCHEDULE`], almost two days in all. They are Tokio's to wait
    /// for, so that a test with its time paused (`#[tokio::test(start_paused = true)]`) takes none.
    /// What else is to be delivered goes on meanwhile.
    pub fn retries(mut self, waits: &[Duration]) -> Self {
        self.retries = waits.to_vec();
        self
    }

    /// How long to wait for a response: [`contract::RESPONSE_TIMEOUT`] unless set, and then as much longer as
    /// the body takes that is sent [slowly](Self::frame_delay).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The least time from the start of one delivery to that of the next, retries among them: none
    /// unless set.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sends everything with this fault. With none unless set.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Sends bodies in frames of so many bytes, at least one, without a `Content-Length`. In one
    /// frame, with one, unless set.
    pub fn chunked(mut self, bytes: usize) -> Self {
        self.chunk = Some(bytes);
        self
    }

    /// Waits this long before each frame of a body. Not unless set.
    pub fn frame_delay(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// What is sent for a message. Built for each delivery, always the same for this sender and its clones.
    ///
    /// To send it by other means than [`deliver`](Self::deliver).
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
