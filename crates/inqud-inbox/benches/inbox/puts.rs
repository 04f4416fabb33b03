//! The throughput and latency of durable puts.

use std::future::poll_fn;
use std::time::Instant;

use http::{Request, StatusCode};
use inqud_inbox::{Receiver, Record, Store};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower::Service;
use tower_inqud::{PaymentRequest, Webhook};

use crate::Size;
use crate::engine::{Engine, Places, Rows, Waiting, put};
use crate::ids;
use crate::report::{Report, Speed, alternate, ratio};

#[derive(Clone, Copy)]
enum Side {
    Inbox,
    Floor,
}

pub(crate) async fn compare<E: Engine>(places: &Places<E>, size: Size, report: &mut Report) {
    let columns =
        ["clients", "before", "inbox/s", "p50", "p99", "floor/s", "p50", "p99", "inbox/floor"];
    report.table(&format!("Durable puts, {}", E::NAME), &columns, 0);
    for (clients, count) in size.chosen(size.puts) {
        for before in size.before.iter().copied() {
            let run = async |side| {
                places.on(before, async |place| round(place, side, clients, count).await).await
            };
            let all = alternate(size.rounds, &[Side::Inbox, Side::Floor], run).await;
            report.say(&format!(
                "| {clients} | {} | {} | {} | {:.2} |",
                places.rows(before),
                Speed::cells(&all[0]),
                Speed::cells(&all[1]),
                ratio(&all[0], &all[1], |it| it.rate)
            ));
        }
    }
}

async fn round<E: Engine>(place: &E, side: Side, clients: usize, count: usize) -> Speed {
    let before = place.rows().await;
    let speed = match side {
        Side::Inbox => {
            let (inbox, webhooks) = (place.inbox().await, ids::webhooks(count).await);
            let speed = clients_insert(clients, webhooks, inbox.receiver()).await;
            inbox.close().await;
            speed
        }
        Side::Floor => {
            let (floor, records) = (place.insert_plainly().await, ids::records(count));
            clients_insert(clients, records, floor).await
        }
    };
    assert_eq!(place.rows().await, Rows { open: before.open + count, ..before });
    speed
}

trait Client<T>: Clone + Send + 'static {
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
        put(self, record).await;
    }
}

/// Each client puts one notification after the other.
async fn clients_insert<T: Send + 'static>(
    clients: usize,
    all: Vec<T>,
    client: impl Client<T>,
) -> Speed {
    let mut shares: Vec<_> = (0..clients).map(|_| Vec::new()).collect();
    for (at, one) in all.into_iter().enumerate() {
        shares[at % clients].push(one);
    }
    // Warm up untimed: connections are opened, and statements are prepared.
    for share in &mut shares {
        client.clone().insert(share.pop().unwrap()).await;
    }
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
    let times = running.join_all().await;
    Speed::new(began.elapsed(), times.concat())
}
