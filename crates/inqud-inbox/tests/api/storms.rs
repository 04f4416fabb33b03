//! An API that fails or is slow holds up nothing else, is asked no more than allowed, and is used again when it works.
//!
//! `STORM_ROUNDS=5 cargo test --all-features --test api storms -- --nocapture --test-threads=1` measures more rounds.

use std::collections::HashMap;
use std::convert::Infallible;
use std::env;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inqud_api::ApiClient;
use inqud_inbox::{Context, Inbox, LookOutcome, Store, Stored, WatchList};
use inqud_mock::{ApiFault, Message, MockApi, SentBody};
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tower_inqud::{Payment, PaymentRequest};

use crate::support::{Http, api, fast, http, inqud, listen, receiver, serve};

of_each_database! {
    refused_requests_slow_nothing
    failed_requests_slow_nothing
    slow_requests_slow_nothing
    hourly_cap_holds
}

const LONG: Duration = Duration::from_secs(180);
/// Webhooks in a round.
const PUSHED: usize = 50;
/// Objects that are looked at in a round, and payments that are confirmed.
const LOOKED_AT: usize = 20;
const CONFIRMED: usize = 5;
/// The client sends so many requests in a second, after as many at once.
const PER_SECOND: usize = 10;

async fn refused_requests_slow_nothing<S: Store + WatchList>(inbox: &Inbox<S>) {
    let refuse = |api: &MockApi| api.fault(ApiFault::too_many_requests(Duration::from_secs(1)));
    storm("429", inbox, refuse).await;
}

async fn failed_requests_slow_nothing<S: Store + WatchList>(inbox: &Inbox<S>) {
    storm("500", inbox, |api: &MockApi| api.fault(ApiFault::server_error())).await;
}

async fn slow_requests_slow_nothing<S: Store + WatchList>(inbox: &Inbox<S>) {
    storm("10 s", inbox, |api: &MockApi| api.delay(Duration::from_secs(10))).await;
}

/// What the merchant's process does.
struct World<'i, S> {
    inbox: &'i Inbox<S>,
    api: MockApi,
    url: String,
    handled: Arc<Mutex<HashMap<String, Instant>>>,
}

/// Medians in milliseconds.
#[derive(Debug)]
struct Medians {
    put: f64,
    handled: f64,
}

async fn storm<S: Store + WatchList>(name: &str, inbox: &Inbox<S>, begin: impl Fn(&MockApi)) {
    let rounds: usize = env::var("STORM_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let api = api();
    let (api_url, asked) = serve(&api).await;
    let client: ApiClient<Http> = fast(&api_url)
        .rate_limit(u32::try_from(PER_SECOND).unwrap(), Duration::from_secs(1))
        .timeout(Duration::from_secs(20))
        .build(http())
        .unwrap();
    let requests = receiver::<_, PaymentRequest>(inbox, "/requests");
    let url = listen(requests.merge(receiver::<_, Payment>(inbox, "/payments"))).await;
    let handled = Arc::new(Mutex::new(HashMap::new()));
    let world = World { inbox, api, url, handled: Arc::clone(&handled) };

    let (its, their) = (Arc::clone(&handled), handled);
    let handler = move |request: Stored<PaymentRequest>, _: Context<S>| {
        its.lock().unwrap().entry(request.id.clone()).or_insert_with(Instant::now);
        async { Ok::<_, Infallible>(()) }
    };
    let (stops, stopped): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel::<()>()).unzip();
    let mut stopped = stopped.into_iter().map(|it| async { drop(it.await) });
    let runner = inbox.process(handler).run_until(stopped.next().unwrap());
    let handler = move |payment: Stored<Payment>, _: Context<S>| {
        their.lock().unwrap().entry(payment.id.clone()).or_insert_with(Instant::now);
        async { Ok::<_, Infallible>(()) }
    };
    let confirmer = inbox.process(handler).confirm_with(client.clone(), 600);
    let confirmer = confirmer.backoff(Duration::from_millis(200), Duration::from_secs(1));
    let confirmer = confirmer.run_until(stopped.next().unwrap());
    let reconciler = inbox.reconcile::<PaymentRequest>(client).schedule([Duration::ZERO]);
    let reconciler = reconciler.poll_interval(Duration::from_millis(50));
    let reconciler = reconciler.run_until(stopped.next().unwrap());

    let play = async {
        let (mut calm, mut stormy) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            calm.push(world.round(&format!("{round}-calm")).await);
            world.until_looked_at().await;
            begin(&world.api);
            stormy.push(world.round(&format!("{round}-storm")).await);
            world.api.recover();
            world.api.delay(Duration::ZERO);
            world.until_looked_at().await;
        }
        drop(stops);
        (calm, stormy)
    };
    let ((calm, stormy), ran, confirmed, reconciled) =
        tokio::join!(play, runner, confirmer, reconciler);
    ran.and(confirmed).unwrap();
    reconciled.unwrap();

    let median = |all: &[Medians], of: fn(&Medians) -> f64| {
        let mut all: Vec<_> = all.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    for (what, of) in [("put", (|it| it.put) as fn(&Medians) -> f64), ("handled", |it| it.handled)]
    {
        let (calm, stormy) = (median(&calm, of), median(&stormy, of));
        println!("{name}: median until {what}: {calm:.1} ms calm, {stormy:.1} ms in the storm");
        assert!(stormy < 5.0 * calm + 1_000.0, "{what}: {calm} ms, then {stormy} ms");
    }
    let asked = asked.lock().unwrap();
    let in_a_second = |from: &Instant| {
        asked.iter().filter(|at| (*from..*from + Duration::from_secs(1)).contains(at)).count()
    };
    let most = asked.iter().map(in_a_second).max().unwrap();
    println!("{name}: {} requests, at most {most} in a second", asked.len());
    // A full bucket, and the tokens that were added since. The server sees them a little later than they were sent.
    assert!(most <= 2 * PER_SECOND + 2, "{most} in a second");
}

impl<S: Store + WatchList> World<'_, S> {
    /// Pushes webhooks while objects are looked at and confirmed.
    async fn round(&self, name: &str) -> Medians {
        let time = Timestamp::now();
        let message = |id: &str| {
            Message::new(
                "SUCCESS",
                format!(r#"{{"id":"{id}","status":"SUCCESS","lastUpdatedAt":"{time}"}}"#),
            )
        };
        for nth in 0..LOOKED_AT {
            let id = format!("CAPD-look-{name}-{nth}");
            self.api.publish(&message(&id));
            self.inbox.expect::<PaymentRequest>(&id, Timestamp::UNIX_EPOCH).await.unwrap();
        }
        let service = http::<SentBody>();
        for nth in 0..CONFIRMED {
            let payment = message(&format!("PMT-{name}-{nth}"));
            let inqud = inqud(&format!("{}/payments", self.url)).api(&self.api);
            assert!(inqud.deliver([payment], service.clone()).await.all_acknowledged());
        }
        let inqud = inqud(&format!("{}/requests", self.url));
        let (mut puts, mut sent) = (Vec::new(), HashMap::new());
        for nth in 0..PUSHED {
            let id = format!("CAPD-push-{name}-{nth}");
            let message = message(&id);
            self.api.publish(&message);
            let began = Instant::now();
            assert!(inqud.deliver([message], service.clone()).await.all_acknowledged());
            puts.push(began.elapsed());
            sent.insert(id, began);
            sleep(Duration::from_millis(20)).await;
        }
        let took = |handled: &HashMap<String, Instant>| {
            let took = sent.iter().map(|(id, began)| Some(handled.get(id)?.duration_since(*began)));
            took.collect::<Option<Vec<_>>>()
        };
        let handled = timeout(LONG, async {
            loop {
                if let Some(took) = took(&self.handled.lock().unwrap()) {
                    return took;
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        Medians { put: median(puts), handled: median(handled.await.unwrap()) }
    }

    /// Waits until all that was looked at and confirmed so far is handled, apart from looks that failed in a storm, which are
    /// repeated after a minute.
    async fn until_looked_at(&self) {
        let began = Instant::now();
        let looked_at = || {
            let handled = self.handled.lock().unwrap();
            let count = |prefix| handled.keys().filter(|id| id.starts_with(prefix)).count();
            (count("CAPD-look-"), count("PMT-"))
        };
        let rounds = |handled: &HashMap<String, Instant>| {
            let calm = |id: &&String| id.starts_with("CAPD-push-") && id.ends_with("-0");
            handled.keys().filter(calm).count()
        };
        let rounds = rounds(&self.handled.lock().unwrap());
        loop {
            let (looks, payments) = looked_at();
            // At most one look in four failed.
            if looks * 4 >= rounds * LOOKED_AT * 3 && payments == rounds * CONFIRMED {
                return;
            }
            assert!(
                began.elapsed() < LONG,
                "{looks} looks and {payments} payments of {rounds} rounds"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The median in milliseconds.
fn median(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    all[all.len() / 2].as_secs_f64() * 1_000.0
}

/// The reconciler and confirm mode share what the client may send in an hour.
async fn hourly_cap_holds<S: Store + WatchList>(inbox: &Inbox<S>) {
    const CAP: usize = 15;
    let api = api();
    let (url, asked) = serve(&api).await;
    let client = fast(&url).max_per_hour(CAP).build(http()).unwrap();
    let url = listen(receiver::<_, Payment>(inbox, "/")).await;
    for nth in 0..40 {
        let (id, payment) = (format!("CAPD-{nth}"), format!("PMT-{nth}"));
        let message =
            |id: &str| Message::new("SUCCESS", format!(r#"{{"id":"{id}","status":"SUCCESS"}}"#));
        api.publish(&message(&id));
        inbox.expect::<PaymentRequest>(&id, Timestamp::UNIX_EPOCH).await.unwrap();
        let inqud = inqud(&url).api(&api);
        assert!(inqud.deliver([message(&payment)], http::<SentBody>()).await.all_acknowledged());
    }
    let handler = |_: Stored<Payment>, _: Context<S>| async { Ok::<_, Infallible>(()) };
    let confirmer = inbox.process(handler).confirm_with(client.clone(), 5).backoff(LONG, LONG);
    let report = confirmer.run_until_idle().await.unwrap();
    assert_eq!((report.done, report.retried), (5, 35));
    let reconciler = inbox.reconcile::<PaymentRequest>(client.clone());
    let looks = reconciler.schedule([Duration::ZERO]).run_until_idle().await.unwrap();
    assert_eq!(looks.recovered, 10, "{looks:?}");
    assert!(looks.later > 0, "{looks:?}");
    let look = inbox.reconcile::<PaymentRequest>(client).look_at(None, "CAPD-39").await.unwrap();
    assert_eq!(look.outcome, LookOutcome::Later);
    assert_eq!(look.reason.as_deref(), Some("the cap of requests per hour is reached"));
    assert_eq!(asked.lock().unwrap().len(), CAP);
}
