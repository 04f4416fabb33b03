//! Inqud: Requests that change, an API that knows their states, and webhooks that are sent once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use inqud_mock::{Message, MockApi};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::ServiceBuilder;
use tower_inqud::{Secret, contract, sign};

use crate::STUCK;

pub const SECRET: &str = "whsec-kiln-and-clay";
pub const TOKEN: (&str, &str) = ("TKN-of-a-test", "dBajIp3wHnw5euxohPiZvsCEorG3Fhl9");

/// The schedule of the reconciler: seconds instead of minutes to days.
pub const OFFSETS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(4),
    Duration::from_secs(5),
];
pub const CONFIRM: Duration = Duration::from_secs(1);

/// How long after its creation a Request expires.
const EXPIRES: Duration = Duration::from_secs(1);

/// The address of the merchant's process, unless it is down.
pub type Address = watch::Receiver<Option<String>>;

/// What became of a Request at Inqud.
#[derive(Clone, Debug)]
pub struct Fate {
    pub statuses: &'static [&'static str],
    pub expires_at: i64,
    /// When the API showed the last status.
    pub final_at: i64,
}

impl Fate {
    pub fn end(&self) -> &'static str {
        self.statuses.last().unwrap()
    }
}

/// What became of the deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deliveries {
    pub dropped: usize,
    /// Sent while the process was down, or not answered.
    pub failed: usize,
    pub acknowledged: usize,
}

#[derive(Clone)]
pub struct World {
    pub api: MockApi,
    shared: Arc<Mutex<Shared>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(Default)]
struct Shared {
    fates: HashMap<String, Fate>,
    /// When each object was asked for.
    gets: HashMap<String, Vec<i64>>,
    deliveries: Deliveries,
}

pub fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

impl World {
    pub fn new() -> Self {
        let api = MockApi::new(TOKEN.0, TOKEN.1).unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { api, shared: Arc::default(), client }
    }

    /// Serves the API, and returns its base URL.
    pub async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let its = Arc::clone(&self.shared);
        let log = move |request: Request<_>| {
            let id = request.uri().path().rsplit('/').next().unwrap().to_owned();
            its.lock().unwrap().gets.entry(id).or_default().push(now());
            request
        };
        let service = ServiceBuilder::new().map_request(log).service(self.api.clone());
        let app = Router::new().fallback_service(service);
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    pub fn fates(&self) -> HashMap<String, Fate> {
        self.shared.lock().unwrap().fates.clone()
    }

    pub fn gets(&self) -> HashMap<String, Vec<i64>> {
        self.shared.lock().unwrap().gets.clone()
    }

    pub fn deliveries(&self) -> Deliveries {
        self.shared.lock().unwrap().deliveries
    }

    /// Plays this many Requests, so many in a second. Drops 3 in 10 deliveries.
    pub async fn play(&self, count: u32, per_second: u32, address: Address) {
        let began = Instant::now();
        let mut all = JoinSet::new();
        for number in 0..count {
            let (its, address) = (self.clone(), address.clone());
            let start = began + Duration::from_secs(1) * number / per_second;
            all.spawn(async move {
                sleep_until(start).await;
                its.play_one(number, address).await;
            });
        }
        while let Some(ended) = all.join_next().await {
            ended.unwrap();
        }
    }

    /// Creates a Request that has this status and of which no webhook arrives.
    pub async fn place_and_lose(&self, id: &str, status: &'static str, address: &Address) {
        let time = Timestamp::now();
        let body = format!(r#"{{"id":"{id}","status":"{status}","lastUpdatedAt":"{time}"}}"#);
        self.api.publish(&Message::new(status, body));
        self.place(id, Duration::ZERO, address).await;
    }

    async fn play_one(&self, number: u32, address: Address) {
        // What happens, and how long after the creation.
        let (statuses, times): (&'static [&'static str], &[u64]) = match number % 10 {
            // Nobody pays.
            0 | 1 => (&["WAITING_PAYMENT"], &[0]),
            2 => (&["WAITING_PAYMENT", "EXPIRED"], &[0, 1_000]),
            // Paid after it expired.
            3 => (&["WAITING_PAYMENT", "EXPIRED", "SUCCESS"], &[0, 1_000, 3_000]),
            4 => (&["WAITING_PAYMENT", "PENDING_PAYMENT", "CONFLICT"], &[0, 300, 600]),
            _ => (&["WAITING_PAYMENT", "PENDING_PAYMENT", "SUCCESS"], &[0, 300, 600]),
        };
        let id = format!("CAPD-{number}");
        let expires_at = self.place(&id, EXPIRES, &address).await;
        let start = Instant::now();
        let mut webhooks = JoinSet::new();
        for (nth, (status, after)) in statuses.iter().zip(times).enumerate() {
            sleep_until(start + Duration::from_millis(*after)).await;
            // Webhooks have nine digits, and the API three.
            let time = Timestamp::now();
            let body = format!(
                r#"{{"id":"{id}","status":"{status}","lastUpdatedAt":"{time:.9}","expiresAt":"{expires_at}"}}"#
            );
            self.api.publish(&Message::new(*status, body.clone()));
            let fate = Fate { statuses, expires_at: expires_at.as_microsecond(), final_at: now() };
            self.shared.lock().unwrap().fates.insert(id.clone(), fate);
            let (its, address, random) = (self.clone(), address.clone(), random(number, nth));
            webhooks.spawn(async move { its.deliver(body, random, address).await });
        }
        while let Some(ended) = webhooks.join_next().await {
            ended.unwrap();
        }
    }

    /// Places the order at the merchant's shop, as soon as it is open. Returns when the Request expires.
    async fn place(&self, id: &str, expires: Duration, address: &Address) -> Timestamp {
        // A repetition has the same one, because an attempt that was not answered can have been stored.
        let mut expires_at = None;
        let placed = async {
            loop {
                let url = address.borrow().clone().map(|url| format!("{url}orders"));
                if let Some(url) = url {
                    let at = *expires_at.get_or_insert_with(|| Timestamp::now() + expires);
                    if self.is_ok(Request::post(url), format!("{id} {at}")).await {
                        return at;
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(STUCK, placed).await.expect("the order cannot be placed")
    }

    /// Delivers once, or never.
    async fn deliver(&self, body: String, random: u64, address: Address) {
        if random % 10 < 3 {
            self.shared.lock().unwrap().deliveries.dropped += 1;
            return;
        }
        if (random / 10).is_multiple_of(20) {
            // After what a look may have found.
            sleep(Duration::from_secs(2)).await;
        }
        let url = address.borrow().clone();
        let is_acknowledged = match url {
            Some(url) => {
                let digest = sign(&Secret::new(SECRET).unwrap(), body.as_bytes());
                let request = Request::post(url).header(contract::DIGEST_HEADER, digest);
                self.is_ok(request, body).await
            }
            None => false,
        };
        let deliveries = &mut self.shared.lock().unwrap().deliveries;
        if is_acknowledged {
            deliveries.acknowledged += 1;
        } else {
            deliveries.failed += 1;
        }
    }

    async fn is_ok(&self, request: http::request::Builder, body: String) -> bool {
        let request = request.body(Full::from(body)).unwrap();
        let answered = async {
            let Ok(response) = self.client.request(request).await else { return false };
            let status = response.status();
            response.into_body().collect().await.is_ok() && status == StatusCode::OK
        };
        timeout(contract::RESPONSE_TIMEOUT, answered).await.unwrap_or(false)
    }
}

/// The same for each run.
fn random(number: u32, nth: usize) -> u64 {
    let mut random = u64::from(number) * 7 + u64::try_from(nth).unwrap() + 1;
    for _ in 0..3 {
        random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        random ^= random >> 29;
    }
    random >> 8
}
