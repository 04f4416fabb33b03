use super::*;

#[tokio::test]
async fn stores_before_200_and_accepts_duplicates() {
    let inbox = Inbox::memory();
    for _ in 0..3 {
        let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
    }
    let response = support::call(received(&inbox), support::signed(body(1, 1))).await;
    assert_eq!(response.status(), StatusCode::OK);
    let claimed = claim(inbox.store()).await;
    assert_eq!(claimed[0].body, body(1, 0), "byte for byte");
}

#[tokio::test]
async fn failing_store_is_503_until_it_works() {
    let inbox = Moody::inbox(100);
    inbox.store().fails.store(true, Ordering::SeqCst);
    let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[http::header::RETRY_AFTER], "60");
    assert_eq!(why(&response), Some(InboxErrorKind::Store));
    assert!(!support::text(response).await.contains("disk"), "the sender does not see the cause");

    inbox.store().fails.store(false, Ordering::SeqCst);
    let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn full_queue_is_503_after_8_seconds() {
    let inbox = Moody::inbox(0).capacity(1);
    let began = Instant::now();
    let first = tokio::spawn(support::call(received(&inbox), support::signed(body(1, 0))));
    tokio::task::yield_now().await;
    let second = support::call(received(&inbox), support::signed(body(2, 0))).await;
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(why(&second), Some(InboxErrorKind::Full));
    let first = first.await.unwrap();
    assert_eq!(first.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(why(&first), Some(InboxErrorKind::Timeout));
    assert_eq!(began.elapsed().as_secs(), 8, "both together");

    // There is room again when the store is done with the first.
    inbox.store().gate.add_permits(2);
    let third = support::call(received(&inbox), support::signed(body(3, 0))).await;
    assert_eq!(third.status(), StatusCode::OK);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 2, "the first and the third");
}

#[tokio::test(start_paused = true)]
async fn timeout_covers_room_and_commit() {
    let inbox = Moody::inbox(0).capacity(1);
    let first = tokio::spawn(support::call(received(&inbox), support::signed(body(1, 0))));
    tokio::task::yield_now().await;
    let began = Instant::now();
    let second = tokio::spawn(support::call(received(&inbox), support::signed(body(2, 0))));
    sleep(Duration::from_secs(5)).await;
    inbox.store().gate.add_permits(1);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    assert_eq!(why(&second.await.unwrap()), Some(InboxErrorKind::Timeout));
    assert_eq!(began.elapsed().as_secs(), 8);
}

/// A server clones the service for each connection.
#[tokio::test(start_paused = true)]
async fn clone_keeps_the_timeout() {
    let inbox = Moody::inbox(0);
    let receiver = inbox.receiver::<PaymentRequest>().timeout(Duration::from_secs(2));
    let service = support::layer::<PaymentRequest>().layer(receiver).clone();
    let began = Instant::now();
    let response = support::call(service, support::signed(body(1, 0))).await;
    assert_eq!(why(&response), Some(InboxErrorKind::Timeout));
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn buffer_and_limit_cause_no_503() {
    let inbox = Moody::inbox(0).capacity(4);
    let service = ServiceBuilder::new().buffer(64).concurrency_limit(4).service(received(&inbox));
    let calls: Vec<_> = (0..32)
        .map(|id| tokio::spawn(support::call(service.clone(), support::signed(body(id, 0)))))
        .collect();
    let store = inbox.clone();
    let slowly = tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(1)).await;
            store.store().gate.add_permits(1);
        }
    });
    for call in calls {
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
    slowly.abort();
    assert_eq!(inbox.stats().await.unwrap().backlog(), 32);
}

#[tokio::test(start_paused = true)]
async fn notification_in_a_queue_of_its_own_is_handled_at_once() {
    let inbox = Inbox::memory();
    let service = received(&inbox.clone().capacity(1));
    let handled = Arc::new(Notify::new());
    let its = Arc::clone(&handled);
    let handler = move |_: Stored<PaymentRequest>, _: Context<Memory>| {
        its.notify_one();
        ready(Ok::<_, Infallible>(()))
    };
    // Between two polls.
    let moment = Duration::from_millis(300);
    let began = Instant::now();
    let shutdown = async {
        sleep(moment).await;
        let response = support::call(service, support::signed(body(1, 0))).await;
        assert_eq!(response.status(), StatusCode::OK);
        handled.notified().await;
        assert_eq!(began.elapsed(), moment);
    };
    inbox.process(handler).run_until(shutdown).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn freed_place_goes_to_the_next_that_waits() {
    let inbox = Moody::inbox(0).capacity(1);
    let call = |id| tokio::spawn(support::call(received(&inbox), support::signed(body(id, 0))));
    let first = call(1);
    tokio::task::yield_now().await;
    // Calls that are dropped while they wait do not hold up others, and are not stored.
    let left: Vec<_> = (2..50).map(call).collect();
    tokio::task::yield_now().await;
    let last = call(50);
    tokio::task::yield_now().await;
    left.iter().for_each(tokio::task::JoinHandle::abort);
    let began = Instant::now();
    inbox.store().gate.add_permits(2);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    assert_eq!(last.await.unwrap().status(), StatusCode::OK);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 2);
}

/// The pump lives in the runtime of the first call. When that ends, calls that wait for it get a 503, which makes
/// Inqud retry, and the next call starts another.
#[test]
fn runtime_that_ends_loses_nothing_acknowledged() {
    let first = tokio::runtime::Runtime::new().unwrap();
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let inbox = Moody::inbox(0).capacity(2);
    let call = |id| support::call(received(&inbox), support::signed(body(id, 0)));
    let slow = first.spawn(call(1));
    second.block_on(inbox.store().begun.acquire()).unwrap().forget();
    let waiting = second.spawn(call(2));
    second.block_on(tokio::task::yield_now());
    drop(first);
    assert!(second.block_on(slow).unwrap_err().is_cancelled());
    inbox.store().gate.add_permits(100);
    let waiting = second.block_on(async { timeout(LONG, waiting).await }).unwrap().unwrap();
    assert_eq!(why(&waiting), Some(InboxErrorKind::Closed));
    for id in [2, 3] {
        let response = second.block_on(async { timeout(LONG, call(id)).await }).unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!(second.block_on(inbox.stats()).unwrap().backlog(), 2);
}

#[tokio::test]
async fn panicking_store_is_503_until_it_works() {
    let inbox = Moody::inbox(100);
    inbox.store().panics.store(true, Ordering::SeqCst);
    let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
    assert_eq!(why(&response), Some(InboxErrorKind::Store));
    inbox.store().panics.store(false, Ordering::SeqCst);
    let response = support::call(received(&inbox), support::signed(body(1, 0))).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn stores_after_the_sender_disconnects() {
    let inbox = Moody::inbox(0);
    for id in 1..=3 {
        let mut service = received(&inbox);
        let call = service.call(support::signed(body(id, 0)));
        // Polled once, which enqueues the notification, and then dropped.
        let mut call = Box::pin(call);
        assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await);
        drop(call);
    }
    inbox.store().gate.add_permits(100);
    let response = support::call(received(&inbox), support::signed(body(4, 0))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(inbox.stats().await.unwrap().backlog(), 4);
    assert!(inbox.store().gate.available_permits() >= 98, "what waited was stored together");
}

#[tokio::test]
async fn commits_are_batched_within_limits() {
    const MOST: usize = 8 * 1024 * 1024 + 256 * 1024;
    let inbox = Moody::inbox(0);
    let mut calls = JoinSet::new();
    for id in 0..1000 {
        let more = "x".repeat(if id < 900 { 1 } else { 200_000 });
        let body = format!(r#"{{"id":"CAPD-{id}","status":"SUCCESS","more":"{more}"}}"#);
        calls.spawn(support::call(received(&inbox), support::signed(body)));
    }
    // All but the first wait and share a commit.
    tokio::task::yield_now().await;
    inbox.store().gate.add_permits(1000);
    while let Some(response) = calls.join_next().await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    let commits = inbox.store().commits.lock().unwrap().clone();
    assert!(commits.iter().all(|bytes| *bytes < MOST), "{commits:?}");
    assert!(commits.len() < 12, "{commits:?}");
}

#[tokio::test]
async fn alternating_clients_share_commits() {
    let inbox = Moody::inbox(0);
    let mut clients = JoinSet::new();
    for client in 0..2 {
        let service = received(&inbox);
        clients.spawn(async move {
            for nth in 0..10 {
                let body = format!(r#"{{"id":"CAPD-{client}-{nth}","status":"SUCCESS"}}"#);
                let response = support::call(service.clone(), support::signed(body)).await;
                assert_eq!(response.status(), StatusCode::OK);
            }
        });
        if client == 0 {
            // The second arrives during the commit of the first.
            inbox.store().begun.acquire().await.unwrap().forget();
        }
    }
    tokio::task::yield_now().await;
    let ended = async { while clients.join_next().await.transpose().unwrap().is_some() {} };
    let each_commit_is_let_through = async {
        loop {
            inbox.store().gate.add_permits(1);
            inbox.store().begun.acquire().await.unwrap().forget();
        }
    };
    tokio::select! {
        () = ended => {}
        () = each_commit_is_let_through => {}
    }
    let commits = inbox.store().commits.lock().unwrap().len();
    assert!(commits < 13, "{commits} commits for twice ten");
}

#[tokio::test]
async fn missing_answers_of_a_store_are_503() {
    #[derive(Debug)]
    struct Terse;

    impl Sealed for Terse {}

    impl Admin for Terse {
        async fn stats(&self) -> Result<Stats, InboxError> {
            Ok(Stats::default())
        }
        async fn unclaimed(&self, _: Duration) -> Result<Vec<String>, InboxError> {
            Ok(Vec::new())
        }
        async fn list(&self, _: impl Into<Filter> + Send, _: usize) -> Result<Page, InboxError> {
            Ok(Page::default())
        }
        async fn replay(&self, _: Vec<i64>, _: bool) -> Result<Replayed, InboxError> {
            Ok(Replayed::default())
        }
        async fn import(&self, _: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
            Ok(Vec::new())
        }
        async fn redrive(
            &self,
            _: impl IntoIterator<Item = Key> + Send,
        ) -> Result<usize, InboxError> {
            Ok(0)
        }
        async fn discard(
            &self,
            _: impl IntoIterator<Item = Key> + Send,
        ) -> Result<usize, InboxError> {
            Ok(0)
        }
        async fn prune(&self, _: Duration, _: usize) -> Result<usize, InboxError> {
            Ok(0)
        }
        async fn objects_of_order(&self, _: String) -> Result<Vec<ErasedObject>, InboxError> {
            Ok(Vec::new())
        }
        async fn erase_object(&self, _: ErasedObject, _: bool) -> Result<usize, InboxError> {
            Ok(0)
        }
        async fn rejections(&self, _: usize) -> Result<Vec<LoggedRejection>, InboxError> {
            Ok(Vec::new())
        }
        async fn sweep_batch(&self, _: Sweep, _: usize) -> Result<SweptBatch, InboxError> {
            Ok(SweptBatch { count: 0, next: None })
        }
    }

    impl Store for Terse {
        type Effect = ();
        async fn insert(&self, _: Vec<Record>) -> Result<Vec<Inserted>, InboxError> {
            Ok(Vec::new())
        }
        async fn claim(&self, _: Claim) -> Result<Vec<Claimed>, InboxError> {
            Ok(Vec::new())
        }
        async fn has_suspect(&self, _: &'static str) -> Result<bool, InboxError> {
            Ok(false)
        }
        async fn settle(&self, _: &mut Settlement<()>) -> Result<Settled, InboxError> {
            Ok(Settled::LeaseExpired)
        }
        async fn log_rejections(
            &self,
            _: Vec<LoggedRejection>,
            _: usize,
        ) -> Result<(), InboxError> {
            Ok(())
        }
        async fn commit(&self, _: Key, _: Vec<()>) -> Result<(), InboxError> {
            Ok(())
        }
        async fn close(&self) {}
    }

    let response = support::call(received(&Inbox::new(Terse)), support::signed(body(1, 0))).await;
    assert_eq!(why(&response), Some(InboxErrorKind::Store));
}

#[tokio::test]
async fn receiver_without_layer_says_what_to_add() {
    let inbox = Inbox::memory();
    let receiver = inbox.receiver::<Checkout>();
    let response = support::call(receiver, Request::new(())).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(response.body().contains("Checkout"), "{}", response.body());

    // The same behind a layer that decodes another type.
    let service = support::layer::<PaymentRequest>().layer(inbox.receiver::<Checkout>());
    let response = support::call(service, support::signed(body(1, 0))).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn several_kinds_share_one_service_and_one_future() {
    let inbox = Inbox::memory();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let (of_requests, of_checkouts) = (Arc::clone(&handled), Arc::clone(&handled));
    let on_request = move |request: Stored<PaymentRequest>, _: Context<Memory>| {
        of_requests.lock().unwrap().push(request.id.clone());
        ready(Ok::<_, Infallible>(()))
    };
    let on_checkout = move |checkout: Stored<Checkout>, _: Context<Memory>| {
        of_checkouts.lock().unwrap().push(checkout.id.clone());
        ready(Ok::<_, Infallible>(()))
    };
    let other = Secret::new("another_value").unwrap();
    let webhooks = inbox
        .webhooks::<Full<Bytes>>()
        .kind("/request", support::layer(), inbox.process(on_request))
        .kind("/checkout", WebhookLayer::new(other.clone()), inbox.process(on_checkout));
    let service = webhooks.service();
    let send = async |path: &str, secret: &Secret, body: &str| {
        let request = Request::post(path)
            .header(contract::DIGEST_HEADER, sign(secret, body.as_bytes()))
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        support::call(service.clone(), request).await.status().as_u16()
    };
    let (ours, request, checkout) =
        (support::secret(), body(1, 0), r#"{"id":"CCO-1","status":"NEW"}"#);
    assert_eq!(send("/request", &ours, &request).await, 200);
    assert_eq!(send("/checkout", &other, checkout).await, 200);
    assert_eq!(send("/checkout", &ours, checkout).await, 401, "each has its own secret");
    assert_eq!(send("/checkout", &other, &request).await, 200, "of another kind: a dead letter");
    assert_eq!(send("/", &ours, &request).await, 404);

    webhooks.run_until(drained(inbox.clone())).await.unwrap();
    let mut handled = handled.lock().unwrap().clone();
    handled.sort();
    assert_eq!(handled, ["CAPD-1", "CCO-1"]);
    assert_eq!(inbox.stats().await.unwrap().dead(), 1);
}

#[tokio::test(start_paused = true)]
async fn webhooks_are_processed_until_the_shutdown() {
    let inbox = Inbox::memory();
    let handler = async |_: Stored<PaymentRequest>, _: Context<Memory>| Ok::<_, Infallible>(());
    let webhooks =
        inbox.webhooks::<Full<Bytes>>().kind("/request", support::layer(), inbox.process(handler));
    let began = Instant::now();
    webhooks.run_until(sleep(LONG)).await.unwrap();
    assert_eq!(began.elapsed(), LONG);
}

#[tokio::test]
async fn error_of_one_runner_ends_all_webhooks() {
    let inbox = Inbox::memory();
    inbox.close().await;
    let handler = async |_: Stored<PaymentRequest>, _: Context<Memory>| Ok::<_, Infallible>(());
    let webhooks =
        inbox.webhooks::<Full<Bytes>>().kind("/request", support::layer(), inbox.process(handler));
    let ended = timeout(LONG, webhooks.run_until(pending())).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), InboxErrorKind::Closed);
}

#[test]
#[should_panic(expected = "the kind `request` was added before")]
fn one_kind_has_one_runner() {
    let inbox = Inbox::memory();
    let handler = async |_: Stored<PaymentRequest>, _: Context<Memory>| Ok::<_, Infallible>(());
    let _ = inbox
        .webhooks::<Full<Bytes>>()
        .kind("/shop-a", support::layer(), inbox.process(handler))
        .kind("/shop-b", support::layer(), inbox.process(handler));
}

/// They are evidence. What could not be written is counted with the next call that is.
#[tokio::test(start_paused = true)]
async fn rejected_calls_that_cannot_be_written_are_counted() {
    let inbox = Moody::inbox(100);
    let log = inbox.rejection_log();
    let layer = support::layer::<PaymentRequest>();
    let layer = layer.on_rejection(log.observer::<PaymentRequest>());
    let service = layer.layer(inbox.receiver::<PaymentRequest>());
    for fails in [true, true, false] {
        inbox.store().fails.store(fails, Ordering::SeqCst);
        let mut forged = support::signed(body(1, 0));
        *forged.body_mut() = Full::from("{}");
        let response = support::call(service.clone(), forged).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        sleep(Duration::from_secs(2)).await;
    }
    let all = inbox.rejections(9).await.unwrap();
    assert_eq!(all.iter().map(|it| it.dropped).collect::<Vec<_>>(), [2]);
}
