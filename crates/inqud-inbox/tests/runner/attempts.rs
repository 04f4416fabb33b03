use super::*;

#[tokio::test(start_paused = true)]
async fn handles_objects_concurrently_and_each_in_order() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 2), (2, 0), (1, 0), (3, 0), (1, 1), (2, 1), (3, 1)]).await;
    let (log, together) = (Log::default(), Arc::new(Barrier::new(3)));
    let inside = Arc::new(Mutex::new(BTreeSet::new()));
    let log_of = Arc::clone(&log);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Memory>| {
        let (log, together, inside) = (log_of.clone(), together.clone(), inside.clone());
        async move {
            assert!(inside.lock().unwrap().insert(request.id.clone()), "one at a time");
            if minute(request.raw_body()) == 0 {
                // Passed only once all three are running.
                together.wait().await;
            }
            note(&log, &request, &cx);
            inside.lock().unwrap().remove(&request.id);
            Ok::<_, Infallible>(())
        }
    };
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(noted(&log, 1), [0, 1, 2]);
    assert_eq!(noted(&log, 2), [0, 1]);
    assert_eq!(noted(&log, 3), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_limited() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most_of = Arc::clone(&most);
    let handler = move |_: Stored<PaymentRequest>, _| {
        let (now, most) = (now.clone(), most_of.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_secs(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Infallible>(())
        }
    };
    inbox.process(handler).concurrency(2).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn retries_failures_then_dead_letters() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 1), (4, 0)]).await;
    let log = Log::default();
    let log_of = Arc::clone(&log);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Memory>| {
        let log = log_of.clone();
        async move {
            note(&log, &request, &cx);
            match (&*request.id, minute(request.raw_body())) {
                ("CAPD-1", 0) => Err("the shop is closed"),
                ("CAPD-2", 0) => panic!("a bug"),
                ("CAPD-3", 0) => pending().await,
                ("CAPD-4", _) if cx.attempt() < 3 => Err("not yet"),
                _ => Ok(()),
            }
        }
    };
    let began = Instant::now();
    let runner = inbox.process(handler).max_attempts(3).handler_timeout(Duration::from_secs(5));
    runner.run_until(drained(inbox.clone())).await.unwrap();

    assert_eq!(noted(&log, 1), [0, 0, 0, 1], "then the object goes on");
    assert_eq!(noted(&log, 2), [0, 0, 0, 1]);
    assert_eq!(noted(&log, 3), [0, 0, 0, 1]);
    assert_eq!(noted(&log, 4), [0, 0, 0]);
    assert!(began.elapsed() >= Duration::from_secs(15 + 1), "three timeouts, two waits");
    let errors: BTreeSet<_> =
        inbox.dead(9).await.unwrap().into_iter().map(|it| (it.object, it.error)).collect();
    let expected = [
        ("CAPD-1", "the shop is closed"),
        ("CAPD-2", "the handler panicked"),
        ("CAPD-3", "the handler timed out"),
    ];
    assert_eq!(errors, expected.map(|(id, error)| (id.to_owned(), error.to_owned())).into());

    // The others of CAPD-1 were processed in the meantime, so it is stale now.
    let keys: Vec<_> = inbox.dead(9).await.unwrap().iter().map(|letter| letter.key).collect();
    assert_eq!(inbox.redrive(keys).await.unwrap(), 3);
    let handler = async |_: Stored<PaymentRequest>, _| Err::<(), _>("it is called");
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

#[tokio::test(start_paused = true)]
async fn skips_stale_by_default() {
    for (asked_for, expected) in [(false, vec![2]), (true, vec![2, 1])] {
        let inbox = Inbox::memory();
        insert(&inbox, &[(1, 2)]).await;
        let log = Log::default();
        let log_of = Arc::clone(&log);
        let late = inbox.clone();
        let handler = move |request: Stored<PaymentRequest>, cx: Context<Memory>| {
            let (log, late) = (log_of.clone(), late.clone());
            async move {
                // The older one arrives while the newer is handled.
                insert(&late, &[(1, 1)]).await;
                note(&log, &request, &cx);
                Ok::<_, Infallible>(())
            }
        };
        let runner = inbox.process(handler);
        let runner = if asked_for { runner.handle_stale() } else { runner };
        runner.run_until(drained(inbox.clone())).await.unwrap();
        assert_eq!(noted(&log, 1), expected);
        let claimed = inbox.store().insert(vec![record(1, 1)]).await.unwrap();
        assert_eq!(claimed, [Inserted::Duplicate], "its row is kept");
    }
}

/// A merchant's type without a last update.
#[derive(serde::Deserialize)]
struct Undated {
    id: String,
    status: String,
}

impl Notification for Undated {
    fn id(&self) -> &str {
        &self.id
    }
    fn status_text(&self) -> &str {
        &self.status
    }
    fn last_update(&self) -> Option<jiff::Timestamp> {
        None
    }
}

impl Storable for Undated {
    const KIND: &'static str = "undated";
}

/// Returns which are handled, if each arrives after the one before was settled.
async fn handled_in_turn<T: Storable>(bodies: &[&'static str]) -> Vec<String> {
    let inbox = Inbox::memory();
    let log = Arc::new(Mutex::new(Vec::new()));
    for body in bodies {
        let event: T = serde_json::from_str(body).unwrap();
        let record = Record::new(&event, Bytes::from_static(body.as_bytes()));
        assert_eq!(inbox.store().insert(vec![record]).await.unwrap(), [Inserted::New]);
        let log = Arc::clone(&log);
        let handler = move |event: Stored<T>, _: Context<Memory>| {
            log.lock().unwrap().push(event.status_text().to_owned());
            ready(Ok::<_, Infallible>(()))
        };
        inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    }
    log.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn handles_unordered_without_last_update() {
    let bodies = [r#"{"id":"1","status":"WAITING"}"#, r#"{"id":"1","status":"PAID"}"#];
    assert_eq!(handled_in_turn::<Undated>(&bodies).await, ["WAITING", "PAID"]);
}

/// A merchant's type with a bug.
struct Fragile(Undated);

impl<'de> serde::Deserialize<'de> for Fragile {
    fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let event = <Undated as serde::Deserialize>::deserialize(json)?;
        assert_ne!(event.status, "BUG");
        Ok(Self(event))
    }
}

impl Notification for Fragile {
    fn id(&self) -> &str {
        self.0.id()
    }
    fn status_text(&self) -> &str {
        self.0.status_text()
    }
    fn last_update(&self) -> Option<jiff::Timestamp> {
        None
    }
}

impl Storable for Fragile {
    const KIND: &'static str = "fragile";
}

#[tokio::test(start_paused = true)]
async fn panicking_deserializer_stops_nothing_else() {
    let inbox = Inbox::memory();
    let records = [("1", "BUG"), ("2", "PAID")].map(|(id, status)| {
        let body = format!(r#"{{"id":"{id}","status":"{status}"}}"#);
        let event = Fragile(Undated { id: id.to_owned(), status: status.to_owned() });
        Record::new(&event, body.into())
    });
    inbox.store().insert(records.into()).await.unwrap();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let handled_of = Arc::clone(&handled);
    let handler = move |event: Stored<Fragile>, _: Context<Memory>| {
        handled_of.lock().unwrap().push(event.id().to_owned());
        ready(Ok::<_, Infallible>(()))
    };
    inbox.process(handler).max_attempts(2).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(*handled.lock().unwrap(), ["2"]);
    let dead = inbox.dead(9).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((&*dead[0].object, dead[0].attempts), ("1", 2));
}

#[tokio::test(start_paused = true)]
async fn handles_unordered_of_a_subscription() {
    let bodies = [r#"{"id":"S-1","status":"SUSPENDED"}"#, r#"{"id":"S-1","status":"ACTIVE"}"#];
    let handled = handled_in_turn::<Subscription>(&bodies).await;
    assert_eq!(handled, ["SUSPENDED", "ACTIVE"]);
}

#[tokio::test(start_paused = true)]
async fn takes_over_after_the_lease_expires() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    let begun = Arc::new(Notify::new());
    let lost = {
        let begun = begun.clone();
        let handler = move |_: Stored<PaymentRequest>, _| {
            begun.notify_one();
            pending::<Result<(), Infallible>>()
        };
        let runner = inbox.process(handler).handler_timeout(Duration::from_secs(30));
        tokio::spawn(runner.run_until(pending()))
    };
    begun.notified().await;
    let began = Instant::now();
    lost.abort();

    let attempts = Arc::new(Mutex::new(Vec::new()));
    let attempts_of = Arc::clone(&attempts);
    let handler = move |_: Stored<PaymentRequest>, cx: Context<Memory>| {
        attempts_of.lock().unwrap().push((cx.attempt(), began.elapsed().as_secs()));
        ready(Ok::<_, Infallible>(()))
    };
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    let attempts = attempts.lock().unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].0, 2);
    assert!((60..=61).contains(&attempts[0].1), "twice the timeout, plus a poll: {attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_crashing_notification_without_a_call() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    for _ in 0..151 {
        assert_eq!(lapse(inbox.store(), PaymentRequest::KIND).await.len(), 1);
    }
    let handler = async |_: Stored<PaymentRequest>, _: Context<Memory>| {
        panic!("it is called");
        #[allow(unreachable_code, reason = "a type for the error")]
        Ok::<_, Infallible>(())
    };
    inbox.process(handler).max_attempts(3).run_until(drained(inbox.clone())).await.unwrap();
    let dead = inbox.dead(1).await.unwrap();
    assert!(dead[0].error.contains("the process ended 151 times in a row"), "{}", dead[0].error);
}

/// As often as a process has ended: less than what makes a dead letter.
#[tokio::test(start_paused = true)]
async fn suspects_are_handled_alone_and_crashes_are_no_failures() {
    let inbox = Inbox::memory();
    insert(&inbox, &(1..=8).map(|id| (id, 0)).collect::<Vec<_>>()).await;
    let all = Claim::new(PaymentRequest::KIND, 8, NO_WAIT);
    assert_eq!(inbox.store().claim(all).await.unwrap().len(), 8);
    for _ in 0..8 * 9 {
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(lapse(inbox.store(), PaymentRequest::KIND).await.len(), 1);
    }
    insert(&inbox, &(11..=40).map(|id| (id, 0)).collect::<Vec<_>>()).await;
    let running = Arc::new(AtomicUsize::new(0));
    let log = Log::default();
    let log_of = Arc::clone(&log);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Memory>| {
        let (running, log) = (running.clone(), log_of.clone());
        async move {
            let others = running.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(100)).await;
            if cx.attempt() > 1 {
                assert_eq!(others, 0, "{}", request.id);
                assert_eq!(running.load(Ordering::SeqCst), 1, "{}", request.id);
            }
            running.fetch_sub(1, Ordering::SeqCst);
            note(&log, &request, &cx);
            Ok::<_, Infallible>(())
        }
    };
    inbox.process(handler).max_attempts(1).run_until(drained(inbox.clone())).await.unwrap();
    let dead = inbox.dead(9).await.unwrap();
    assert!(dead.is_empty(), "{dead:?}");
    assert_eq!(log.lock().unwrap().len(), 38);
}

/// All inboxes of a process that share a store share its handlers.
#[tokio::test(start_paused = true)]
async fn suspect_is_alone_beside_a_queue_of_another_capacity() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    assert_eq!(lapse(inbox.store(), PaymentRequest::KIND).await.len(), 1);
    let other = r#"{"id":"CCO-1","status":"NEW"}"#;
    let other = Record::decode::<Checkout>(other).unwrap();
    inbox.store().insert(vec![other]).await.unwrap();
    let running = Arc::new(AtomicUsize::new(0));
    let alone = move || {
        let running = Arc::clone(&running);
        async move {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "another handler runs");
            sleep(Duration::from_secs(3)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Infallible>(())
        }
    };
    let its = alone.clone();
    let suspect = inbox.clone().capacity(1);
    let suspect = suspect.process(move |_: Stored<PaymentRequest>, _: Context<Memory>| alone());
    let other = inbox.process(move |_: Stored<Checkout>, _: Context<Memory>| its());
    let (suspect, other) = tokio::join!(
        suspect.max_attempts(1).run_until(drained(inbox.clone())),
        other.max_attempts(1).run_until(drained(inbox.clone())),
    );
    suspect.and(other).unwrap();
    assert!(inbox.dead(9).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_of_several_runners_deletes() {
    let retention = Retention::new().bodies(contract::DUPLICATE_WINDOW).unwrap();
    let inbox = Moody::inbox(100).retention(retention);
    let handler = async |_: Stored<PaymentRequest>, _: Context<Moody>| Ok::<_, Infallible>(());
    let run = |inbox: &Inbox<Moody>| inbox.process(handler).run_until(sleep(LONG));
    let (one, other) = tokio::join!(run(&inbox), run(&inbox.clone().capacity(1)));
    one.and(other).unwrap();
    assert_eq!(inbox.store().sweeps.load(Ordering::SeqCst), 1);
}

/// The store fails as soon as the handler has run, for `outage`. Returns how often the handler was called, and how long
/// it took until everything was settled.
async fn outage_while_settling(outage: Duration) -> (usize, Duration) {
    let inbox = Moody::inbox(100);
    insert(&inbox, &[(1, 0)]).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let (store, calls_of) = (inbox.clone(), Arc::clone(&calls));
    let handler = move |_: Stored<PaymentRequest>, _: Context<Moody>| {
        calls_of.fetch_add(1, Ordering::SeqCst);
        store.store().fails.store(true, Ordering::SeqCst);
        ready(Ok::<_, Infallible>(()))
    };
    let began = Instant::now();
    let repaired = async {
        sleep(outage).await;
        inbox.store().fails.store(false, Ordering::SeqCst);
        drained(inbox.clone()).await;
    };
    inbox.process(handler).run_until(repaired).await.unwrap();
    (calls.load(Ordering::SeqCst), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn settlement_that_failed_is_retried_without_the_handler() {
    let (calls, took) = outage_while_settling(Duration::from_secs(7)).await;
    assert_eq!(calls, 1);
    assert!(took < Duration::from_secs(9), "{took:?}");
}

/// Its lease is over, and this runner still tries to settle it.
#[tokio::test(start_paused = true)]
async fn settlement_is_retried_beyond_the_lease() {
    let (calls, _) = outage_while_settling(Duration::from_secs(600)).await;
    assert_eq!(calls, 1);
}

/// And not each time that it is tried.
#[tokio::test(start_paused = true)]
async fn settlement_that_fails_is_reported_once() {
    let inbox = Moody::inbox(100);
    insert(&inbox, &[(1, 0)]).await;
    inbox.store().fails_to_settle.store(true, Ordering::SeqCst);
    let errors = Arc::new(AtomicUsize::new(0));
    let errors_of = Arc::clone(&errors);
    let handler = |_: Stored<PaymentRequest>, _: Context<Moody>| ready(Ok::<_, Infallible>(()));
    let runner = inbox.process(handler).on_error(move |error| {
        assert_eq!(error.kind(), InboxErrorKind::Store);
        errors_of.fetch_add(1, Ordering::SeqCst);
    });
    let repaired = async {
        sleep(Duration::from_secs(60)).await;
        assert_eq!(errors.load(Ordering::SeqCst), 1);
        inbox.store().fails_to_settle.store(false, Ordering::SeqCst);
        drained(inbox.clone()).await;
    };
    runner.run_until(repaired).await.unwrap();
    assert_eq!(errors.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn slow_settlement_holds_up_no_other_object() {
    let inbox = Moody::inbox(100);
    insert(&inbox, &[(99, 0)]).await;
    insert(&inbox, &(1..=40).map(|id| (id, 0)).collect::<Vec<_>>()).await;
    let began = Instant::now();
    let handler = async |_: Stored<PaymentRequest>, _: Context<Moody>| Ok::<_, Infallible>(());
    let runner = tokio::spawn(inbox.process(handler).concurrency(2).run_until(pending()));
    while inbox.stats().await.unwrap().backlog() > 1 {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    runner.abort();
}

#[tokio::test(start_paused = true)]
async fn next_of_an_object_is_handled_at_once() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    let times = Arc::new(Mutex::new(Vec::new()));
    let (times_of, late) = (Arc::clone(&times), inbox.clone());
    let handler = move |request: Stored<PaymentRequest>, _: Context<Memory>| {
        let (times, late) = (times_of.clone(), late.clone());
        async move {
            times.lock().unwrap().push(Instant::now());
            // The next arrives while this one is handled.
            let next = minute(request.raw_body()) + 1;
            if next < 5 {
                insert(&late, &[(1, next)]).await;
            }
            sleep(Duration::from_millis(200)).await;
            Ok::<_, Infallible>(())
        }
    };
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 5);
    for pair in times.windows(2) {
        let wait = pair[1].duration_since(pair[0]);
        assert!(wait < Duration::from_millis(250), "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn newest_only_is_not_held_back_by_a_failure() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (1, 1)]).await;
    let log = Log::default();
    let (log_of, late) = (Arc::clone(&log), inbox.clone());
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Memory>| {
        let (log, late) = (log_of.clone(), late.clone());
        async move {
            note(&log, &request, &cx);
            if minute(request.raw_body()) == 1 {
                tokio::spawn(async move {
                    sleep(Duration::from_millis(100)).await;
                    insert(&late, &[(1, 2)]).await;
                });
                return Err("the shop is closed");
            }
            Ok(())
        }
    };
    let began = Instant::now();
    let hour = Duration::from_secs(3600);
    let runner = inbox.process(handler).newest_only().backoff(hour, hour);
    let handled = async {
        while noted(&log, 1) != [1, 2] {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        drained(inbox.clone()).await;
    };
    runner.run_until(handled).await.unwrap();
    assert_eq!(noted(&log, 1), [1, 2], "those before the newest are skipped");
    assert_eq!(inbox.stats().await.unwrap().skipped(), 2);
}

#[tokio::test(start_paused = true)]
async fn attempts_span_more_than_a_day() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    let began = Instant::now();
    let handler = async |_: Stored<PaymentRequest>, _| Err::<(), _>("the shop is closed");
    let runner = inbox.process(handler);
    let given_up = async {
        while inbox.stats().await.unwrap().dead() == 0 {
            sleep(Duration::from_secs(60)).await;
        }
    };
    runner.run_until(given_up).await.unwrap();
    let hours = began.elapsed().as_secs() / 3600;
    assert!((24..=48).contains(&hours), "{hours} hours");
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_handlers_and_starts_none() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (1, 1), (2, 0)]).await;
    let (shut_down, shutdown) = oneshot::channel::<()>();
    let shut_down = Arc::new(Mutex::new(Some(shut_down)));
    let handler = move |_: Stored<PaymentRequest>, _| {
        drop(shut_down.lock().unwrap().take());
        async move {
            sleep(Duration::from_secs(5)).await;
            Ok::<_, Infallible>(())
        }
    };
    let runner = inbox.process(handler).concurrency(1);
    runner.run_until(async { drop(shutdown.await) }).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().backlog(), 2, "one of three is done");
    assert_eq!(claim(inbox.store()).await.len(), 2, "and no lease is left");
}

/// There is always more to settle without a handler: dead letters that still cannot be decoded.
#[tokio::test]
async fn settling_without_handlers_does_not_starve_others() {
    let inbox = Inbox::memory();
    let count = 4000;
    insert(&inbox, &[(1, 0)]).await;
    let records: Vec<_> = (0..count)
        .map(|id| Record { body: r#"{"id":17}"#.into(), ..record(100 + id, 0) })
        .collect();
    inbox.store().insert(records).await.unwrap();
    let handled = Arc::new(Notify::new());
    let says = Arc::clone(&handled);
    let handler = move |_: Stored<PaymentRequest>, _: Context<Memory>| {
        says.notify_one();
        ready(Ok::<_, Infallible>(()))
    };
    inbox.process(handler).run_until(handled.notified()).await.unwrap();
    let open = inbox.stats().await.unwrap().backlog();
    assert!(open > u64::from(count) / 2, "it stops at shutdown with work left: {open}");
}

#[tokio::test(start_paused = true)]
async fn runner_survives_a_failing_store() {
    let inbox = Moody::inbox(100);
    insert(&inbox, &[(1, 0)]).await;
    let errors = Arc::new(AtomicUsize::new(0));
    let errors_of = Arc::clone(&errors);
    let store = inbox.clone();
    let handler = move |_: Stored<PaymentRequest>, cx: Context<Moody>| {
        // The store fails to settle the first attempt.
        store.store().fails.store(cx.attempt() == 1, Ordering::SeqCst);
        ready(Ok::<_, Infallible>(()))
    };
    let runner = inbox.process(handler).on_error(move |error| {
        assert_eq!(error.kind(), InboxErrorKind::Store);
        errors_of.fetch_add(1, Ordering::SeqCst);
    });
    let repaired = async {
        sleep(Duration::from_secs(10)).await;
        assert!(errors.load(Ordering::SeqCst) > 5, "it polls repeatedly");
        inbox.store().fails.store(false, Ordering::SeqCst);
        drained(inbox.clone()).await;
    };
    runner.run_until(repaired).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn body_that_no_longer_decodes_is_a_dead_letter() {
    let inbox = Inbox::memory();
    let unreadable = Record { body: r#"{"id":17}"#.into(), ..record(1, 0) };
    inbox.store().insert(vec![unreadable]).await.unwrap();
    let handler = async |_: Stored<PaymentRequest>, _| Ok::<_, Infallible>(());
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    let letters = inbox.dead(1).await.unwrap();
    let error = &letters[0].error;
    assert!(error.contains("at id") && !error.contains("17"), "where, and no value: {error}");
}

#[tokio::test(start_paused = true)]
async fn handler_can_be_a_service_with_layers() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (2, 0)]).await;
    let (sender, mut calls) = mpsc::unbounded_channel();
    let service = service_fn(move |(request, cx): (Stored<PaymentRequest>, Context<Memory>)| {
        let sender = sender.clone();
        async move {
            sender.send((request.id.clone(), cx.attempt())).unwrap();
            if cx.attempt() == 1 {
                sleep(Duration::from_secs(5)).await;
            }
            Ok::<_, Infallible>(())
        }
    });
    let service =
        ServiceBuilder::new().concurrency_limit(1).timeout(Duration::from_secs(1)).service(service);
    inbox.process_with(service).run_until(drained(inbox.clone())).await.unwrap();
    let mut all = Vec::new();
    while let Some(call) = calls.recv().await {
        all.push(call);
    }
    all.sort();
    let expected = [("CAPD-1", 1), ("CAPD-1", 2), ("CAPD-2", 1), ("CAPD-2", 2)];
    assert_eq!(all, expected.map(|(id, attempt)| (id.to_owned(), attempt)));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_readiness_is_no_attempt() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (2, 0), (3, 0)]).await;
    let service = service_fn(async |_: (Stored<PaymentRequest>, Context<Memory>)| {
        sleep(Duration::from_secs(5)).await;
        Ok::<_, Infallible>(())
    });
    let service = ServiceBuilder::new().concurrency_limit(1).service(service);
    let runner =
        inbox.process_with(service).max_attempts(1).handler_timeout(Duration::from_secs(6));
    let began = Instant::now();
    runner.run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
    assert_eq!(began.elapsed().as_secs(), 15, "one after the other");
}

#[tokio::test(start_paused = true)]
async fn retries_failed_effect_in_memory() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    let handler = async |_: Stored<PaymentRequest>, cx: Context<Memory>| {
        let attempt = cx.attempt();
        cx.effect(move || if attempt < 3 { Err("not yet") } else { Ok(()) });
        Ok::<_, Infallible>(())
    };
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 0);
}

#[tokio::test]
async fn run_until_idle_ends_with_the_error_of_the_store() {
    let inbox = Moody::inbox(100);
    inbox.store().fails.store(true, Ordering::SeqCst);
    let handler = async |_: Stored<PaymentRequest>, _: Context<Moody>| Ok::<_, Infallible>(());
    let error = timeout(LONG, inbox.process(handler).run_until_idle()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), InboxErrorKind::Store);
}

/// The same bodies for two tenants, and for none: each is handled once, by itself.
#[tokio::test(start_paused = true)]
async fn objects_of_tenants_are_kept_apart() {
    let inbox = Inbox::memory();
    let layer = WebhookLayer::<PaymentRequest>::per_tenant(|request| {
        let tenant = request.uri.path().strip_prefix('/')?;
        let verifier = Verifier::new(support::secret());
        Some(if tenant.is_empty() { verifier } else { verifier.tenant(tenant) })
    });
    let service = layer.forward_undecodable().layer(inbox.receiver::<PaymentRequest>());
    let undecodable = r#"{"id":"CAPD-9","status":7}"#;
    for body in [&*body(1, 1), &*body(1, 0), undecodable] {
        for tenant in ["acme", "globex", ""] {
            for times in ["new", "duplicate"] {
                let mut request = support::signed(body.to_owned());
                *request.uri_mut() = format!("/{tenant}").parse().unwrap();
                let response = support::call(service.clone(), request).await;
                assert_eq!(response.status(), StatusCode::OK, "{times}");
            }
        }
    }
    let stats = inbox.stats().await.unwrap();
    assert_eq!((stats.backlog(), stats.dead()), (6, 3), "no duplicate is stored");
    let log = Arc::new(Mutex::new(Vec::new()));
    let log_of = Arc::clone(&log);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Memory>| {
        let tenant = cx.tenant().unwrap_or_default().to_owned();
        log_of.lock().unwrap().push((tenant, request.id.clone(), minute(request.raw_body())));
        ready(Ok::<_, Infallible>(()))
    };
    inbox.process(handler).run_until(drained(inbox.clone())).await.unwrap();
    let mut log = log.lock().unwrap().clone();
    log.sort();
    let expected = ["", "acme", "globex"]
        .map(|it| [0, 1].map(|minute| (it.to_owned(), "CAPD-1".to_owned(), minute)));
    assert_eq!(log, expected.concat());
    let mut dead: Vec<_> = inbox.dead(9).await.unwrap().into_iter().map(|it| it.tenant).collect();
    dead.sort();
    assert_eq!(dead, [None, Some("acme".to_owned()), Some("globex".to_owned())]);
}

/// A notification that waits for its retry does not hide others that are due.
#[tokio::test(start_paused = true)]
async fn what_waits_hides_nothing_that_is_due() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    let first = claim(inbox.store()).await;
    let hour = Duration::from_secs(3600);
    let outcome = Outcome::Retry { after: hour, error: "not now".to_owned() };
    let mut retry = Settlement { ticket: first[0].ticket.clone(), outcome };
    inbox.store().settle(&mut retry).await.unwrap();
    // The arrival makes the first object due, although its notification still waits.
    insert(&inbox, &[(1, 1), (2, 0)]).await;
    let handler = async |_: Stored<PaymentRequest>, _: Context<Memory>| Ok::<_, Infallible>(());
    let report = inbox.process(handler).concurrency(1).run_until_idle().await.unwrap();
    assert_eq!(report.done, 1);
}

/// A suspect waits for the handlers of another kind to end, and is claimed only then: its lease does not expire meanwhile.
#[tokio::test(start_paused = true)]
async fn suspect_is_claimed_when_it_can_be_alone() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0)]).await;
    lapse(inbox.store(), PaymentRequest::KIND).await;
    let checkout = r#"{"id":"CCO-1","status":"NEW"}"#;
    let other = Record::new(&serde_json::from_str::<Checkout>(checkout).unwrap(), checkout.into());
    inbox.store().insert(vec![other]).await.unwrap();
    let slow = async |_: Stored<Checkout>, _: Context<Memory>| {
        sleep(Duration::from_secs(50)).await;
        Ok::<_, Infallible>(())
    };
    let slow = tokio::spawn(inbox.process(slow).run_until(pending()));
    sleep(Duration::from_secs(1)).await;

    let attempts = Arc::new(Mutex::new(Vec::new()));
    let attempts_of = Arc::clone(&attempts);
    let handler = move |_: Stored<PaymentRequest>, cx: Context<Memory>| {
        attempts_of.lock().unwrap().push(cx.attempt());
        ready(Ok::<_, Infallible>(()))
    };
    let runner = inbox.process(handler).handler_timeout(Duration::from_millis(300));
    runner.run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(*attempts.lock().unwrap(), [2], "the attempt that lapsed, and this one");
    slow.abort();
}

/// The shutdown comes while the suspect waits to be alone.
#[tokio::test(start_paused = true)]
async fn shutdown_starts_no_suspect() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (2, 0)]).await;
    lapse(inbox.store(), PaymentRequest::KIND).await;
    let log = Log::default();
    let log_of = Arc::clone(&log);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Memory>| {
        let log = log_of.clone();
        async move {
            note(&log, &request, &cx);
            sleep(Duration::from_secs(40)).await;
            Ok::<_, Infallible>(())
        }
    };
    let began = Instant::now();
    inbox.process(handler).run_until(sleep(Duration::from_secs(5))).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 40);
    assert_eq!((noted(&log, 1).len(), noted(&log, 2).len()), (0, 1));
}

/// Panics when it is dropped, as a blocking client does in an async handler, and when it is shown.
struct Nasty;

impl Drop for Nasty {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a drop that panics");
    }
}

#[derive(Debug)]
struct Unshowable;

impl std::fmt::Display for Unshowable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("an error that panics")
    }
}

impl std::error::Error for Unshowable {}

#[tokio::test(start_paused = true)]
async fn panics_of_handlers_end_no_runner() {
    let inbox = Inbox::memory();
    insert(&inbox, &[(1, 0), (2, 0), (3, 0)]).await;
    let handler = async |request: Stored<PaymentRequest>, _: Context<Memory>| match &*request.id {
        "CAPD-1" => {
            let _nasty = Nasty;
            pending().await
        }
        "CAPD-2" => Err(Unshowable),
        _ => Ok(()),
    };
    inbox.process(handler).max_attempts(2).run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(inbox.stats().await.unwrap().dead(), 2);
}

/// A settlement that takes longer than the lease is not taken for that of a process that has ended.
#[tokio::test(start_paused = true)]
async fn slow_settlement_calls_the_handler_once() {
    let inbox = Moody::inbox(100);
    insert(&inbox, &[(99, 0)]).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let calls_of = Arc::clone(&calls);
    let handler = move |_: Stored<PaymentRequest>, _: Context<Moody>| {
        calls_of.fetch_add(1, Ordering::SeqCst);
        ready(Ok::<_, Infallible>(()))
    };
    let runner = inbox.process(handler).handler_timeout(Duration::from_secs(1));
    runner.run_until(drained(inbox.clone())).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// A handler that becomes ready a second after it was asked.
#[derive(Clone)]
struct ReadyLater {
    polls: Arc<AtomicUsize>,
    first: Arc<Mutex<Option<Instant>>>,
}

impl Service<(Stored<PaymentRequest>, Context<Moody>)> for ReadyLater {
    type Response = ();
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

    fn poll_ready(&mut self, task: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        let polls = self.polls.fetch_add(1, Ordering::SeqCst);
        assert!(polls < 1000, "the runner is in a circle");
        // The first one is ready at once, and the second later.
        if polls == 0 {
            return Poll::Ready(Ok(()));
        }
        let first = *self.first.lock().unwrap().get_or_insert_with(Instant::now);
        if first.elapsed() >= Duration::from_secs(1) {
            return Poll::Ready(Ok(()));
        }
        let waker = task.waker().clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            waker.wake();
        });
        Poll::Pending
    }

    fn call(&mut self, _: (Stored<PaymentRequest>, Context<Moody>)) -> Self::Future {
        Box::pin(async {
            sleep(Duration::from_secs(5)).await;
            Ok(())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_no_handler_that_becomes_ready() {
    let inbox = Moody::inbox(1);
    insert(&inbox, &[(1, 0), (2, 0)]).await;
    let handler = ReadyLater { polls: Arc::default(), first: Arc::default() };
    let began = Instant::now();
    let runner = inbox.process_with(handler);
    runner.run_until(sleep(Duration::from_millis(500))).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(5), "when the running handler has ended");
    assert_eq!(inbox.stats().await.unwrap().backlog(), 1);
}
