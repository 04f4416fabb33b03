//! A state that a webhook and the API show is one notification, whichever comes first.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use inqud_inbox::{Context, Inbox, LookOutcome, Source, Store, Stored, WatchList};
use inqud_mock::{Lifecycle, Message, Scenario, SentBody};
use tower_inqud::PaymentRequest;

use crate::support::{api, fast, http, inqud, listen, receiver, serve};

of_each_store! {
    late_webhook_is_a_duplicate_of_what_was_fetched
    fetch_agrees_with_the_webhook_that_came_first
}

/// The ends of Requests, in which the times have nine digits.
const SCENARIOS: [Scenario; 4] =
    [Scenario::Success, Scenario::Overpaid, Scenario::Conflict, Scenario::Expired];
/// How many of them the API shows.
const DIGITS: [u8; 3] = [3, 6, 9];

/// The messages of a Request, and its last state. Each call returns another Request.
fn request(scenario: Scenario) -> (Vec<Message>, PaymentRequest) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let id = format!("CAPD-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let message = |message: Message| {
        let request: PaymentRequest = serde_json::from_slice(message.body()).unwrap();
        let body = String::from_utf8(message.body().to_vec()).unwrap();
        Message::new(message.label(), body.replace(&request.id, &id))
    };
    let messages: Vec<_> = Lifecycle::new(scenario).into_iter().map(message).collect();
    let last = serde_json::from_slice(messages.last().unwrap().body()).unwrap();
    (messages, last)
}

/// Handles everything, and returns the status and the source of each.
async fn handled<S: Store>(inbox: &Inbox<S>) -> Vec<(String, Source)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&seen);
    let handler = move |request: Stored<PaymentRequest>, _: Context<S>| {
        its.lock().unwrap().push((request.status.as_str().to_owned(), request.source()));
        async { Ok::<_, Infallible>(()) }
    };
    inbox.process(handler).run_until_idle().await.unwrap();
    std::mem::take(&mut *seen.lock().unwrap())
}

async fn late_webhook_is_a_duplicate_of_what_was_fetched(inbox: &Inbox<impl Store + WatchList>) {
    let url = listen(receiver::<_, PaymentRequest>(inbox, "/")).await;
    for (scenario, digits) in SCENARIOS.into_iter().flat_map(|it| DIGITS.map(|digits| (it, digits)))
    {
        let api = api();
        api.fraction_digits(digits);
        let client = fast(&serve(&api).await.0).build(http()).unwrap();
        let (messages, request) = request(scenario);
        let end = request.status.as_str().to_owned();
        // Lost at first.
        let lost = inqud(&url).api(&api).drop_share(1.0);
        assert!(!lost.deliver(messages.clone(), http::<SentBody>()).await.all_acknowledged());
        let look = inbox.reconcile::<PaymentRequest>(client).look_at(None, &request.id).await;
        assert_eq!(look.unwrap().outcome, LookOutcome::Recovered, "{scenario}, {digits} digits");
        assert_eq!(handled(inbox).await, [(end, Source::Fetched)]);

        let late = inqud(&url).deliver(messages, http::<SentBody>()).await;
        assert!(late.all_acknowledged(), "{late}");
        assert_eq!(handled(inbox).await, [], "{scenario}, {digits} digits");
    }
}

async fn fetch_agrees_with_the_webhook_that_came_first(inbox: &Inbox<impl Store + WatchList>) {
    let url = listen(receiver::<_, PaymentRequest>(inbox, "/")).await;
    for scenario in SCENARIOS {
        let api = api();
        let client = fast(&serve(&api).await.0).build(http()).unwrap();
        let (messages, request) = request(scenario);
        let delivered = inqud(&url).api(&api).deliver(messages, http::<SentBody>()).await;
        assert!(delivered.all_acknowledged(), "{delivered}");
        assert!(!handled(inbox).await.is_empty());
        for digits in DIGITS {
            api.fraction_digits(digits);
            let reconciler = inbox.reconcile::<PaymentRequest>(client.clone());
            let look = reconciler.look_at(None, &request.id).await.unwrap();
            assert_eq!(look.outcome, LookOutcome::Agreed, "{scenario}, {digits} digits");
        }
        assert_eq!(handled(inbox).await, []);
    }
}
