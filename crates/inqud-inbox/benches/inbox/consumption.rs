//! The throughput of a runner.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use inqud_inbox::{Context, Stored};
use tokio::sync::Notify;
use tower_inqud::PaymentRequest;

use crate::engine::{CONCURRENCY, Engine, Rows};
use crate::ids::Ids;
use crate::sides::{Sides, fill, in_turn};

pub(crate) async fn consume_round<E: Engine>(
    sides: &mut Sides<E>,
    round: usize,
    count: usize,
    has_effect: bool,
    ids: &mut Ids,
) -> [f64; 2] {
    for (place, _) in sides.next().await {
        fill(place, count, ids).await;
    }
    let [inbox_place, floor_place] = &sides.places;
    let before = [inbox_place.rows().await, floor_place.rows().await];
    let handled = AtomicUsize::new(0);
    let of_inbox = async {
        let (seconds, all) = consume::<E>(inbox_place, count, has_effect).await;
        handled.store(all, Ordering::Relaxed);
        all as f64 / seconds
    };
    let of_floor = async {
        let began = Instant::now();
        floor_place.consume_plainly(count, has_effect).await;
        count as f64 / began.elapsed().as_secs_f64()
    };
    let rates = in_turn(round, of_inbox, of_floor).await;
    let handled = [handled.into_inner(), count];
    for ((place, before), handled) in sides.places.iter().zip(before).zip(handled) {
        let after = Rows {
            open: before.open - handled,
            done: before.done + handled,
            effects: before.effects + if has_effect { handled } else { 0 },
        };
        assert_eq!(place.rows().await, after);
    }
    rates
}

/// Handles at least `count` notifications. Returns the seconds it took and the number handled, which includes
/// those that were in flight at the end.
pub(crate) async fn consume<E: Engine>(place: &E, count: usize, has_effect: bool) -> (f64, usize) {
    let inbox = place.inbox().await;
    let (handled, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counted, rings) = (Arc::clone(&handled), Arc::clone(&enough));
    let handler = move |request: Stored<PaymentRequest>, cx: Context<E::Store>| {
        let (counted, rings) = (Arc::clone(&counted), Arc::clone(&rings));
        async move {
            if has_effect {
                E::effect(&cx, request.into_event().id).await;
            }
            if counted.fetch_add(1, Ordering::Relaxed) + 1 == count {
                rings.notify_one();
            }
            Ok::<_, Infallible>(())
        }
    };
    let began = Instant::now();
    let runner = inbox.process(handler).concurrency(CONCURRENCY);
    // In a task, as beside a server.
    tokio::spawn(runner.run_until(enough.notified_owned())).await.unwrap().unwrap();
    let seconds = began.elapsed().as_secs_f64();
    E::close(inbox).await;
    (seconds, handled.load(Ordering::Relaxed))
}
