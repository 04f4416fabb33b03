//! No header, secret, salt or signature is in a log at TRACE.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Request};
use inqud_api::{ApiClient, Credentials, RequestBody};
use inqud_inbox::{Context, Inbox, LookOutcome, Store, Stored, WatchList};
use inqud_mock::{ApiFault, Lifecycle, Scenario, SentBody};
use tower::ServiceBuilder;
use tower_inqud::{PaymentRequest, contract};

use crate::log::Log;
use crate::support::{SECRET, TOKEN_ID, TOKEN_SECRET, api, http, inqud, listen, receiver, serve};

const NAMES: [&str; 4] =
    ["x-token-api-id", "x-token-api-secret", "x-hmac-sha256-signature", "x-salt"];

of_each_store! {
    looks_show_no_credentials
}

/// The values that prove who sent a request.
fn values(headers: &HeaderMap) -> Vec<String> {
    let values = NAMES.iter().filter_map(|name| headers.get(*name));
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

/// Receivers, clients, servers and the tasks of all of them run on the thread of the test.
async fn looks_show_no_credentials<S: Store + WatchList>(inbox: &Inbox<S>) {
    let log = Log::default();
    let _subscriber = tracing::subscriber::set_default(log.subscriber_of_a_thread());
    let hidden = Arc::new(Mutex::new(Vec::new()));
    let webhooks = listen(receiver::<_, PaymentRequest>(inbox, "/")).await;
    let api = api();
    let (url, _) = serve(&api).await;
    let client = |credentials: Credentials| {
        let kept = Arc::clone(&hidden);
        let record = move |request: Request<RequestBody>| {
            kept.lock().unwrap().extend(values(request.headers()));
            request
        };
        let service = ServiceBuilder::new().map_request(record).service(http::<RequestBody>());
        let builder = ApiClient::builder(credentials).base_url(&url);
        let builder = builder.rate_limit(1_000, Duration::from_secs(1)).max_pause(Duration::ZERO);
        builder.timeout(Duration::from_millis(300)).build(service).unwrap()
    };
    let signed = || Credentials::signed(TOKEN_ID, TOKEN_SECRET).unwrap();
    let plain = || Credentials::plain(TOKEN_ID, TOKEN_SECRET).unwrap();

    let messages: Vec<_> = Lifecycle::new(Scenario::Success).into_iter().collect();
    let request: PaymentRequest = serde_json::from_slice(messages[0].body()).unwrap();
    let inqud = inqud(&webhooks).api(&api);
    let digest = inqud.request(&messages[0]).headers()[contract::DIGEST_HEADER].clone();
    hidden.lock().unwrap().push(digest.to_str().unwrap().to_owned());
    let delivered = inqud.deliver(messages[..1].to_vec(), http::<SentBody>()).await;
    assert!(delivered.all_acknowledged(), "{delivered}");

    let mut outcomes = Vec::new();
    let wrong = Credentials::signed(TOKEN_ID, "of-another-merchant").unwrap();
    let all = [
        (signed(), None),
        (plain(), None),
        (wrong, None),
        (signed(), Some(ApiFault::server_error())),
        (plain(), Some(ApiFault::too_many_requests(Duration::from_secs(1)))),
        (signed(), Some(ApiFault::not_found())),
        (plain(), Some(ApiFault::Truncated)),
        (signed(), Some(ApiFault::Hang)),
        (plain(), Some(ApiFault::NotJson)),
        (signed(), Some(ApiFault::WrongId)),
    ];
    for (nth, (credentials, fault)) in all.into_iter().enumerate() {
        if nth == 1 {
            // So that the second look recovers something.
            api.publish(messages.last().unwrap());
        }
        fault.map_or_else(|| api.recover(), |fault| api.fault(fault));
        let reconciler = inbox.reconcile::<PaymentRequest>(client(credentials));
        outcomes.push(reconciler.look_at(None, &request.id).await.unwrap());
    }
    let shown = format!("{outcomes:?}");
    let found: Vec<_> = outcomes.iter().map(|it| it.outcome).collect();
    let (agreed, recovered) = (LookOutcome::Agreed, LookOutcome::Recovered);
    assert_eq!(found[..2], [agreed, recovered]);
    assert!(
        found[2..].iter().all(|it| [LookOutcome::Later, LookOutcome::Missing].contains(it)),
        "{shown}"
    );

    // Confirm mode and a reconciler that runs.
    api.recover();
    let handler = |_: Stored<PaymentRequest>, _: Context<S>| async { Ok::<_, Infallible>(()) };
    let runner = inbox.process(handler).confirm_with(client(signed()), 60);
    runner.run_until_idle().await.unwrap();
    let reconciler = inbox.reconcile::<PaymentRequest>(client(plain()));
    reconciler
        .schedule([Duration::ZERO])
        .confirm_after(Duration::ZERO)
        .run_until_idle()
        .await
        .unwrap();

    // The log is complete.
    let text = log.text();
    for part in [
        "looked at the object",
        "recovered: no webhook brought this state",
        "will look at the object later",
        "response of Inqud's API",
        "TRACE",
        "hyper_util",
    ] {
        assert!(text.contains(part), "{part} is missing");
    }
    let mut hidden = hidden.lock().unwrap().clone();
    assert!(hidden.len() > 20, "{}", hidden.len());
    hidden.extend([TOKEN_SECRET, SECRET, "of-another-merchant"].map(str::to_owned));
    for value in hidden {
        assert!(!text.contains(&value), "the log shows {value}");
        assert!(!shown.contains(&value), "{shown} shows {value}");
    }
    for name in NAMES {
        assert!(!text.to_lowercase().contains(name), "the log shows the header {name}");
    }
}
