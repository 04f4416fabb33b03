//! The limits, with Tokio's time paused.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, StatusCode};
use inqud_api::{ApiClient, ApiClientBuilder, RequestBody};
use inqud_mock::{ApiFault, MockApi};
use tokio::time::{Instant, advance, sleep, sleep_until};
use tower::ServiceBuilder;

use crate::support::{api_with_payment, is_found, later, signed};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn builder() -> ApiClientBuilder {
    ApiClient::builder(signed())
}

/// A client of an API with one payment, when its requests are sent, and the id of the payment.
struct World<S> {
    api: MockApi,
    client: ApiClient<S>,
    sent: Arc<Mutex<Vec<Instant>>>,
    id: String,
}

fn world(
    builder: ApiClientBuilder,
) -> World<
    impl tower::Service<
        Request<RequestBody>,
        Response = http::Response<inqud_mock::ApiBody>,
        Error = std::convert::Infallible,
        Future = impl Send,
    > + Clone
    + Send
    + 'static,
> {
    let (api, id) = api_with_payment();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sent);
    let record = move |request: Request<RequestBody>| {
        seen.lock().unwrap().push(Instant::now());
        request
    };
    let service = ServiceBuilder::new().map_request(record).service(api.clone());
    World { api, client: builder.build(service).unwrap(), sent, id }
}

impl<S> World<S> {
    /// The largest number of requests in any such period.
    fn most_in(&self, period: Duration) -> usize {
        let sent = self.sent.lock().unwrap();
        let in_period =
            |from: &Instant| sent.iter().filter(|at| *at >= from && **at < *from + period).count();
        sent.iter().map(in_period).max().unwrap_or(0)
    }
}

#[tokio::test(start_paused = true)]
async fn rate_is_one_in_a_second_by_default() {
    let world = world(builder());
    let began = Instant::now();
    for _ in 0..5 {
        assert!(is_found(&world.client.get(&world.id).await));
    }
    assert_eq!(began.elapsed(), 4 * SECOND);
    assert_eq!(world.most_in(SECOND), 1);
}

#[tokio::test(start_paused = true)]
async fn bucket_fills_up_while_nothing_is_sent() {
    let world = world(builder().rate_limit(3, 3 * SECOND));
    for _ in 0..2 {
        let began = Instant::now();
        for _ in 0..5 {
            assert!(is_found(&world.client.get(&world.id).await));
        }
        assert_eq!(began.elapsed(), 2 * SECOND);
        sleep(60 * SECOND).await;
    }
    assert_eq!(world.most_in(SECOND), 3);
}

#[tokio::test(start_paused = true)]
async fn call_that_would_wait_too_long_returns_at_once() {
    let world = world(builder().max_wait(3 * SECOND));
    let began = Instant::now();
    let calls = (0..10).map(|_| world.client.get(&world.id)).collect::<Vec<_>>();
    let mut found = 0;
    let mut held = 0;
    let mut calls = calls.into_iter().map(Box::pin).collect::<Vec<_>>();
    // Polls all of them before time goes on.
    std::future::poll_fn(|cx| {
        calls.retain_mut(|call| match call.as_mut().poll(cx) {
            std::task::Poll::Ready(fetched) if is_found(&fetched) => {
                found += 1;
                false
            }
            std::task::Poll::Ready(fetched) => {
                let (after, reason) = later(fetched);
                assert_eq!(reason, "too many requests wait for the rate limit");
                assert_eq!(after, Some(4 * SECOND));
                assert_eq!(began.elapsed(), Duration::ZERO);
                held += 1;
                false
            }
            std::task::Poll::Pending => true,
        });
        if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!((found, held), (4, 6));
    assert_eq!(began.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn cap_holds_in_any_hour() {
    let world = world(builder().rate_limit(100, SECOND).max_per_hour(50));
    let end = Instant::now() + 5 * HOUR;
    while Instant::now() < end {
        let fetched = world.client.get(&world.id).await;
        if !is_found(&fetched) {
            let (after, reason) = later(fetched);
            assert_eq!(reason, "the cap of requests per hour is reached");
            assert!(after.unwrap() <= HOUR);
        }
        sleep(7 * SECOND).await;
    }
    assert_eq!(world.most_in(HOUR), 50);
    // It is used up in every hour, so it is not stricter than it says.
    assert!(world.sent.lock().unwrap().len() >= 5 * 50);
}

#[tokio::test(start_paused = true)]
async fn cap_is_1000_by_default() {
    let world = world(builder());
    for _ in 0..1_000 {
        assert!(is_found(&world.client.get(&world.id).await));
    }
    let (after, reason) = later(world.client.get(&world.id).await);
    assert_eq!(reason, "the cap of requests per hour is reached");
    assert_eq!(after, Some(HOUR - 999 * SECOND));
    sleep(after.unwrap()).await;
    assert!(is_found(&world.client.get(&world.id).await));
}

/// Many callers that never rest, while every response is this fault.
async fn storm(fault: ApiFault, period: Duration) -> usize {
    let world = world(builder());
    world.api.fault(fault);
    let end = Instant::now() + period;
    let callers = (0..20).map(|_| {
        let (client, id) = (world.client.clone(), world.id.clone());
        tokio::spawn(async move {
            while Instant::now() < end {
                let (after, _) = later(client.get(&id).await);
                // Twice as often as they were told.
                sleep(after.unwrap() / 2 + Duration::from_millis(1)).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert!(world.most_in(SECOND) <= 1);
    assert!(world.most_in(HOUR) <= 1_000);
    let sent = world.sent.lock().unwrap().len();

    // It recovers by itself, at the latest after the longest pause.
    world.api.recover();
    let recovered = Instant::now();
    while !is_found(&world.client.get(&world.id).await) {
        sleep(SECOND).await;
    }
    assert!(recovered.elapsed() <= Duration::from_secs(5 * 60) + 2 * SECOND);
    let began = Instant::now();
    for _ in 0..10 {
        assert!(is_found(&world.client.get(&world.id).await));
    }
    assert!(began.elapsed() <= 10 * SECOND, "at full rate again");
    sent
}

#[tokio::test(start_paused = true)]
async fn storm_of_500_is_met_with_few_requests() {
    let sent = storm(ApiFault::server_error(), 24 * HOUR).await;
    // Pauses are between 2.5 and 5 min, after the first ones.
    assert!((24 * 12..24 * 24 + 20).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn storm_of_429_obeys_retry_after() {
    let sent = storm(ApiFault::too_many_requests(Duration::from_secs(300)), 24 * HOUR).await;
    assert!((250..=24 * 12 + 1).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn huge_retry_after_is_bounded() {
    let too_many = StatusCode::TOO_MANY_REQUESTS;
    for huge in ["86400", "99999999999999999999999999", "Fri, 01 Jan 9999 00:00:00 GMT"] {
        let world = world(builder());
        world.api.fault(ApiFault::RetryAfter(too_many, huge.to_owned()));
        assert_eq!(later(world.client.get(&world.id).await).0, Some(HOUR), "{huge}");
        world.api.recover();
        advance(HOUR - SECOND).await;
        assert_eq!(later(world.client.get(&world.id).await).0, Some(SECOND), "{huge}");
        advance(SECOND).await;
        assert!(is_found(&world.client.get(&world.id).await), "{huge}");
    }
    for odd in ["-1", "soon", "1.5", ""] {
        let world = world(builder());
        world.api.fault(ApiFault::RetryAfter(too_many, odd.to_owned()));
        let (after, _) = later(world.client.get(&world.id).await);
        assert!(after.unwrap() <= SECOND, "{odd:?}: {after:?}");
    }
    for (longest, pause) in [(10 * SECOND, 10 * SECOND), (100 * DAY, DAY)] {
        let world = world(builder().max_pause(longest));
        world.api.fault(ApiFault::too_many_requests(2 * DAY));
        assert_eq!(later(world.client.get(&world.id).await).0, Some(pause));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_fail_together_are_one_failure() {
    let world = world(builder().rate_limit(10, SECOND));
    world.api.fault(ApiFault::server_error());
    world.api.delay(SECOND);
    let calls = (0..10).map(|_| {
        let (client, id) = (world.client.clone(), world.id.clone());
        tokio::spawn(async move { later(client.get(&id).await).0 })
    });
    let mut longest = None;
    for call in calls.collect::<Vec<_>>() {
        longest = longest.max(call.await.unwrap());
    }
    assert!(longest.unwrap() <= SECOND, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn request_that_waited_is_not_sent_in_a_pause() {
    let world = world(builder());
    world.api.fault(ApiFault::server_error());
    world.api.delay(Duration::from_millis(800));
    // The second waits for its token while the first fails.
    let (first, second) = tokio::join!(world.client.get(&world.id), world.client.get(&world.id));
    assert_eq!(later(first).1, "status 500");
    assert_eq!(later(second).1, "requests pause, because the API failed");
    let due = world.sent.lock().unwrap().clone();
    assert_eq!(due.len(), 1, "{due:?}");
    sleep_until(Instant::now() + HOUR).await;
    world.api.recover();
    assert!(is_found(&world.client.get(&world.id).await));
}

#[tokio::test(start_paused = true)]
async fn share_of_failures_slows_but_does_not_stop() {
    let world = world(builder());
    world.api.seed(7);
    world.api.fault_share(ApiFault::server_error(), 0.3);
    let (mut found, began) = (0, Instant::now());
    while found < 100 {
        match world.client.get(&world.id).await {
            fetched if is_found(&fetched) => found += 1,
            fetched => sleep(later(fetched).0.unwrap()).await,
        }
    }
    assert!(began.elapsed() < Duration::from_secs(1_000), "{:?}", began.elapsed());
    assert!(world.api.requests() > 110);
}
