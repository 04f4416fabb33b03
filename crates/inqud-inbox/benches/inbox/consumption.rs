//! The throughput of a runner.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use inqud_inbox::{Context, Stored};
use tokio::sync::Notify;
use tower_inqud::PaymentRequest;

use crate::Size;
use crate::engine::{Engine, Handler, Places, Rows, fill};
use crate::report::{Report, alternate, median, ratio};

#[derive(Clone, Copy)]
enum Side {
    Inbox,
    Floor,
}

pub(crate) async fn compare<E: Engine>(places: &Places<E>, size: Size, report: &mut Report) {
    let columns = ["handler", "concurrency", "before", "inbox/s", "floor/s", "inbox/floor"];
    report.table(&format!("Consumption, {}", E::NAME), &columns, 1);
    for (handler, name) in E::HANDLERS {
        for (concurrency, count) in size.chosen(size.consumed) {
            for before in size.before.iter().copied() {
                let run = async |side| {
                    let run =
                        async |place: &E| round(place, side, *handler, concurrency, count).await;
                    places.on(before, run).await
                };
                let all = alternate(size.rounds, &[Side::Inbox, Side::Floor], run).await;
                let [inbox, floor] = [0, 1].map(|side| median(&all[side], |it| *it));
                report.say(&format!(
                    "| {name} | {concurrency} | {} | {inbox:.0} | {floor:.0} | {:.2} |",
                    places.rows(before),
                    ratio(&all[0], &all[1], |it| *it)
                ));
            }
        }
    }
}

/// Returns the number of notifications a second.
async fn round<E: Engine>(
    place: &E,
    side: Side,
    handler: Handler,
    concurrency: usize,
    count: usize,
) -> f64 {
    let mut before = place.rows().await;
    // Those in flight at the end are handled too.
    let missing = (count + concurrency).saturating_sub(before.open);
    fill(place, missing).await;
    before.open += missing;
    let (took, timed, handled) = match side {
        Side::Inbox => consume(place, handler, concurrency, count).await,
        Side::Floor => (place.consume_plainly(count, handler, concurrency).await, count, count),
    };
    let after = Rows {
        open: before.open - handled,
        done: before.done + handled,
        effects: before.effects + if handler == Handler::Nothing { 0 } else { handled },
    };
    assert_eq!(place.rows().await, after);
    timed as f64 / took.as_secs_f64()
}

/// Handles at least `count` notifications. Returns how long it took without warming up, the number handled in
/// that time, and the number handled in all.
async fn consume<E: Engine>(
    place: &E,
    handler: Handler,
    concurrency: usize,
    count: usize,
) -> (Duration, usize, usize) {
    let inbox = place.inbox().await;
    let warm = count / 10;
    let (handled, began) = (Arc::new(AtomicUsize::new(0)), Arc::new(OnceLock::new()));
    let enough = Arc::new(Notify::new());
    let shared = (Arc::clone(&handled), Arc::clone(&began), Arc::clone(&enough));
    let on_request = move |request: Stored<PaymentRequest>, cx: Context<E::Store>| {
        let (handled, began, enough) = shared.clone();
        async move {
            E::handle(handler, &cx, request.into_event().id).await;
            let handled = handled.fetch_add(1, Ordering::Relaxed) + 1;
            if handled == warm {
                began.set(Instant::now()).unwrap();
            }
            if handled == count {
                enough.notify_one();
            }
            Ok::<_, Infallible>(())
        }
    };
    let runner = inbox.process(on_request).concurrency(concurrency);
    // In a task, as beside a server.
    tokio::spawn(runner.run_until(enough.notified_owned())).await.unwrap().unwrap();
    let took = began.get().unwrap().elapsed();
    inbox.close().await;
    let handled = handled.load(Ordering::Relaxed);
    (took, handled - warm, handled)
}
