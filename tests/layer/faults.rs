//! Faults around a call: clients that disconnect, futures that are dropped, code that panics, and replays.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use crate::support::{Inner, REQUEST, SMALL, Script, Step, call, digest, layer, signed, signed_as};
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_inqud::{History, Notification, PaymentRequest, Verdict, WebhookBody};

const PATIENCE: Duration = Duration::from_secs(20);

/// Notifies when it is dropped.
struct Guard(Arc<Notify>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A handler that signals its start, and then waits.
#[derive(Clone)]
struct Waiting {
    begun: Arc<Notify>,
    go_on: Arc<Semaphore>,
    done: Arc<AtomicUsize>,
    dropped: Arc<Notify>,
}

impl Waiting {
    fn new() -> Self {
        Self {
            begun: Arc::default(),
            go_on: Arc::new(Semaphore::new(0)),
            done: Arc::default(),
            dropped: Arc::default(),
        }
    }

    async fn work(self) {
        let _guard = Guard(self.dropped);
        self.begun.notify_one();
        _ = self.go_on.acquire().await;
        self.done.fetch_add(1, Ordering::SeqCst);
    }
}

async fn serve(waiting: Waiting, spawns: bool) -> SocketAddr {
    let service = layer::<PaymentRequest>().layer(service_fn(move |_: Request<_>| {
        let waiting = waiting.clone();
        async move {
            if spawns {
                _ = tokio::spawn(waiting.work()).await;
            } else {
                waiting.work().await;
            }
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    }));
    let service = TowerToHyperService::new(service);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = auto::Builder::new(TokioExecutor::new());
            let service = service.clone();
            tokio::spawn(async move {
                server.serve_connection(TokioIo::new(stream), service).await.map_err(drop)
            });
        }
    });
    address
}

async fn send(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: test\r\nx-payload-digest: {}\r\ncontent-length: {}\r\n\r\n",
        digest(SMALL),
        SMALL.len()
    );
    stream.write_all(format!("{head}{SMALL}").as_bytes()).await.unwrap();
    stream
}

/// The crate's documentation and the page about servers say so. Inqud gets no response, so it retries.
#[tokio::test]
async fn client_disconnect_after_the_body_drops_the_handler() {
    for half in [false, true] {
        let waiting = Waiting::new();
        let address = serve(waiting.clone(), false).await;
        let mut stream = send(address).await;
        waiting.begun.notified().await;
        if half {
            stream.shutdown().await.unwrap();
        } else {
            drop(stream);
        }
        let dropped = tokio::time::timeout(PATIENCE, waiting.dropped.notified()).await;
        dropped.expect("hyper drops the handler");
        assert_eq!(waiting.done.load(Ordering::SeqCst), 0);
    }
}

/// The recipe of the documentation.
#[tokio::test]
async fn spawned_task_outlives_a_client_disconnect() {
    let waiting = Waiting::new();
    let address = serve(waiting.clone(), true).await;
    let stream = send(address).await;
    waiting.begun.notified().await;
    drop(stream);
    // The connection is closed, but the task still runs.
    tokio::task::yield_now().await;
    waiting.go_on.add_permits(1);
    let dropped = tokio::time::timeout(PATIENCE, waiting.dropped.notified()).await;
    dropped.expect("the task ends");
    assert_eq!(waiting.done.load(Ordering::SeqCst), 1);
}

/// Shows that the two tests above pass because of the disconnect.
#[tokio::test]
async fn client_that_stays_is_answered() {
    let waiting = Waiting::new();
    let mut stream = send(serve(waiting.clone(), false).await).await;
    waiting.begun.notified().await;
    waiting.go_on.add_permits(1);
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

/// Drops a call after every possible number of polls.
#[tokio::test]
async fn call_can_be_dropped_at_any_await() {
    let frames = 8;
    let whole = 2 * frames + 3;
    for polls in 0..=whole {
        let steps = REQUEST.as_bytes().chunks(REQUEST.len().div_ceil(frames));
        let steps = steps.flat_map(|chunk| [Step::Wake, Step::data(chunk)]);
        let (begun, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (Arc::clone(&begun), Arc::clone(&dropped));
        let handler = service_fn(move |_: Request<WebhookBody<Script>>| {
            struct Count(Arc<AtomicUsize>);
            impl Drop for Count {
                fn drop(&mut self) {
                    self.0.fetch_add(1, Ordering::SeqCst);
                }
            }
            counters.0.fetch_add(1, Ordering::SeqCst);
            let count = Count(Arc::clone(&counters.1));
            async move {
                tokio::task::yield_now().await;
                drop(count);
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        });
        let mut answered = false;
        {
            let service = layer::<PaymentRequest>().layer(handler);
            let mut future = pin!(call(service, signed_as(REQUEST, Script::new(steps))));
            for _ in 0..polls {
                let poll = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
                if poll.is_ready() {
                    answered = true;
                    break;
                }
            }
        }
        let begun = begun.load(Ordering::SeqCst);
        // Each wait takes one poll. The last poll but one calls the handler.
        assert_eq!(begun, usize::from(polls > frames), "{polls} polls");
        assert_eq!(answered, polls > frames + 1, "{polls} polls");
        assert_eq!(dropped.load(Ordering::SeqCst), begun, "{polls} polls");
    }
}

#[tokio::test]
async fn panic_in_a_body_fails_only_its_call() {
    struct Panics;
    impl http_body::Body for Panics {
        type Data = bytes::Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
            unreachable!("a body that panics")
        }
    }
    let inner = Inner::<PaymentRequest>::new();
    let service = layer::<PaymentRequest>().layer(inner.clone());
    let panicking = tokio::spawn(call(service.clone(), signed_as(SMALL, Panics)));
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(call(service, signed(SMALL)).await.status(), 200);
    assert_eq!(inner.calls(), 1);
}

/// Behind a `Buffer`, a panic in `Service::call` would end the service, not only the call.
#[tokio::test]
async fn panic_in_a_callback_behind_a_buffer_fails_only_its_call() {
    fn panic_once<T>(panicked: &AtomicUsize, otherwise: T) -> T {
        assert_ne!(panicked.fetch_add(1, Ordering::SeqCst), 0, "a callback that panics once");
        otherwise
    }
    let source = AtomicUsize::new(0);
    let observer = AtomicUsize::new(0);
    let builder = AtomicUsize::new(0);
    let layers = [
        layer::<PaymentRequest>().allow_source(move |_| panic_once(&source, true)),
        layer::<PaymentRequest>().on_rejection(move |_, _| panic_once(&observer, ())),
        layer::<PaymentRequest>().rejection_response(move |_| {
            panic_once(&builder, Response::builder().status(418).body(bytes::Bytes::new()).unwrap())
        }),
    ];
    for (at, layer) in layers.into_iter().enumerate() {
        let inner = Inner::<PaymentRequest>::new();
        let service = ServiceBuilder::new().buffer(4).layer(layer).service(inner.clone());
        let forged = || {
            let mut forged = signed(SMALL);
            forged.headers_mut().remove("x-payload-digest");
            forged
        };
        let panicking = tokio::spawn(call(service.clone(), forged()));
        assert!(panicking.await.unwrap_err().is_panic(), "callback {at}");
        let refused = call(service.clone(), forged()).await;
        assert_eq!(refused.status(), if at == 2 { 418 } else { 401 }, "callback {at}");
        assert_eq!(call(service, signed(SMALL)).await.status(), 200, "callback {at}");
        assert_eq!(inner.calls(), 1);
    }
}

/// The layer polls the end once, so it does not matter what a body returns afterwards.
#[tokio::test]
async fn does_not_poll_a_body_after_its_end() {
    let body = Script::new([Step::data(SMALL)]);
    let polls = body.polls();
    let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
    assert_eq!(call(service, signed_as(SMALL, body)).await.status(), 200);
    assert_eq!(polls.load(Ordering::SeqCst), 2);
}

/// Nothing that Inqud signs distinguishes a retry from a replay. The layer passes both on, and the order key
/// shows that they are duplicates.
#[tokio::test]
async fn replay_has_the_delivery_key_of_the_first() {
    let inner = Inner::<PaymentRequest>::new();
    let service = layer::<PaymentRequest>().layer(inner.clone());
    for _ in 0..3 {
        assert_eq!(call(service.clone(), signed(SMALL)).await.status(), 200);
    }
    let seen = inner.seen();
    assert_eq!(seen.len(), 3);
    let mut history = History::default();
    for (nth, webhook) in seen.iter().enumerate() {
        assert_eq!(webhook.delivery_key(), seen.first().unwrap().delivery_key());
        assert_eq!(webhook.digest(), seen.first().unwrap().digest());
        let verdict = if nth == 0 { Verdict::Newer } else { Verdict::Duplicate };
        assert_eq!(history.receive(webhook), verdict);
    }
}
