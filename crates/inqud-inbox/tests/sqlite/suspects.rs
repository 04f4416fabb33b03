//! What a claim finds besides suspects.

use std::convert::Infallible;
use std::time::Duration;

use inqud_inbox::{Claim, Context, Sqlite, Storable, Store, Stored};
use tower_inqud::PaymentRequest;

use crate::{LONG, Place, record};

#[tokio::test]
async fn suspects_that_wait_for_a_retry_hide_nothing() {
    let place = Place::new();
    let inbox = place.open().unwrap();
    let store = inbox.store();
    let claim = |count| Claim::new(PaymentRequest::KIND, count, Duration::ZERO);
    store.insert(vec![record(0, 0), record(1, 0)]).await.unwrap();
    let fail = async |_: Stored<PaymentRequest>, _: Context<Sqlite>| Err::<(), _>("down");
    inbox.process(fail).backoff(LONG, LONG).run_until_idle().await.unwrap();

    // Claims of the newest end without a settlement. The oldest of the same objects wait.
    store.insert(vec![record(0, 1), record(1, 1)]).await.unwrap();
    assert_eq!(store.claim(claim(2).newest_first(true)).await.unwrap().len(), 2);
    store.insert(vec![record(2, 0)]).await.unwrap();
    let succeed = async |_: Stored<PaymentRequest>, _: Context<Sqlite>| Ok::<_, Infallible>(());
    let report = inbox.process(succeed).run_until_idle().await.unwrap();
    assert_eq!(report.done, 1);
}
