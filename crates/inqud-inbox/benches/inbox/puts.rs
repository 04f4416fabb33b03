//! The throughput and latency of durable puts.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use inqud_inbox::{Inserted, Receiver, Record, Store};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tower::Service;
use tower_inqud::{PaymentRequest, Webhook};

use crate::engine::{Engine, Rows, Waiting};
use crate::ids::Ids;
use crate::sides::{Sides, in_turn};

pub(crate) struct Speed {
    pub(crate) rate: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

pub(crate) async fn insert_round<E: Engine>(
    sides: &mut Sides<E>,
    round: usize,
    clients: usize,
    count: usize,
    ids: &mut Ids,
) -> [Speed; 2] {
    let sides = sides.next().await;
    let [(inbox_place, _), (floor_place, _)] = sides;
    let webhooks = ids.webhooks(count).await;
    let records = ids.records(count);
    let of_inbox = async {
        let inbox = inbox_place.inbox().await;
        let speed = clients_insert(clients, webhooks, inbox.receiver()).await;
        E::close(inbox).await;
        speed
    };
    let of_floor =
        async { clients_insert(clients, records, floor_place.insert_plainly().await).await };
    let speeds = in_turn(round, of_inbox, of_floor).await;
    for (place, before) in sides {
        let after = Rows { open: before.open + count, ..before };
        assert_eq!(place.rows().await, after);
    }
    speeds
}

pub(crate) trait Client<T>: Clone + Send + 'static {
    fn insert(&mut self, one: T) -> impl Future<Output = ()> + Send;
}

impl<S: Store> Client<Webhook<PaymentRequest>> for Receiver<S, PaymentRequest> {
    async fn insert(&mut self, webhook: Webhook<PaymentRequest>) {
        let mut request = Request::new(());
        request.extensions_mut().insert(webhook);
        let Ok(()) = poll_fn(|cx| Service::<Request<()>>::poll_ready(self, cx)).await;
        let Ok(response) = self.call(request).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}

impl Client<Record> for mpsc::Sender<Waiting> {
    async fn insert(&mut self, record: Record) {
        let (answer, answered) = oneshot::channel();
        self.send((record, answer)).await.unwrap();
        assert_eq!(answered.await.unwrap(), Inserted::New);
    }
}

/// Each client puts one notification after the other.
pub(crate) async fn clients_insert<T: Send + 'static>(
    clients: usize,
    all: Vec<T>,
    client: impl Client<T>,
) -> Speed {
    let count = all.len();
    let mut shares: Vec<_> = (0..clients).map(|_| Vec::new()).collect();
    for (at, one) in all.into_iter().enumerate() {
        shares[at % clients].push(one);
    }
    // Warm up untimed: connections are opened, and statements are prepared.
    for share in &mut shares {
        if let Some(first) = share.pop() {
            client.clone().insert(first).await;
        }
    }
    let count = count - clients;
    let began = Instant::now();
    let mut running = JoinSet::new();
    for share in shares {
        let mut client = client.clone();
        running.spawn(async move {
            let mut times = Vec::with_capacity(share.len());
            for one in share {
                let began = Instant::now();
                client.insert(one).await;
                times.push(began.elapsed());
            }
            times
        });
    }
    drop(client);
    let mut times: Vec<_> = running.join_all().await.into_iter().flatten().collect();
    let rate = count as f64 / began.elapsed().as_secs_f64();
    times.sort();
    let [p50, p99] = [times[count / 2], times[count * 99 / 100]];
    Speed { rate, p50, p99 }
}
