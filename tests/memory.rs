//! The memory of each call is bounded by the body limit, and is freed.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

mod support;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{client::conn as client, server::conn as server};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use support::{Inner, REQUEST, Script, Step, call, digest, layer, signed_as};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::sleep;
use tower::{Layer, Service};
use tower_inqud::{PaymentRequest, WebhookBody};

const LIMIT: usize = 16 * 1024;
/// The limit for the future and everything that it holds except the body.
const EACH: usize = 4 * 1024;
const CALLS: usize = 1000;

/// Measures the allocations of `run`, without those of the runtime and of `made`. The result of `run` is kept
/// during the measurement.
fn measured<T, K>(made: impl FnOnce() -> T, run: impl FnOnce(T) -> K) -> AllocationInfo {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let made = made();
    let mut kept = None;
    measure(|| kept = Some(run(made)))
}

/// A body that stalls one byte before the limit. It allocates nothing itself, so only the layer's memory is
/// counted.
struct Stalls {
    frame: usize,
    sent: usize,
}

impl http_body::Body for Stalls {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        static BYTES: [u8; LIMIT] = [b' '; LIMIT];
        let len = self.frame.min(LIMIT - 1 - self.sent);
        if len == 0 {
            return Poll::Pending;
        }
        self.sent += len;
        let data = Bytes::from_static(BYTES.split_at(len).0);
        Poll::Ready(Some(Ok(http_body::Frame::data(data))))
    }
}

#[test]
fn thousand_stalled_bodies_hold_the_limit_plus_a_constant() {
    // With two frames or more, the layer has to copy.
    for frame in [LIMIT / 2, 1500, 16] {
        let service = || {
            let inner = Inner::<PaymentRequest>::new();
            layer::<PaymentRequest>().body_limit(LIMIT).layer(inner)
        };
        let info = measured(service, |service| {
            let mut cx = Context::from_waker(Waker::noop());
            let mut stalled = Vec::with_capacity(CALLS);
            for _ in 0..CALLS {
                let request = signed_as("", Stalls { frame, sent: 0 });
                let mut future = Box::pin(call(service.clone(), request));
                // The layer yields now and then, so it takes several polls to read all frames.
                for _ in 0..LIMIT / 64 + 2 {
                    assert!(future.as_mut().poll(&mut cx).is_pending());
                }
                stalled.push(future);
            }
            drop(stalled);
            service
        });
        let bound = u64::try_from(CALLS * (LIMIT + EACH)).unwrap();
        println!(
            "frames of {frame}: {} bytes at most, {} after",
            info.bytes_max, info.bytes_current
        );
        assert!(info.bytes_max < bound, "{} bytes with frames of {frame}", info.bytes_max);
        // Shows that the calls did hold their bodies.
        assert!(info.bytes_max > u64::try_from(CALLS * (LIMIT - 1)).unwrap());
        assert_eq!(info.bytes_current, 0, "everything is freed");
    }
}

/// An endless body is rejected at the limit. It allocates at most the limit, and half of it again while the
/// buffer grows.
#[test]
fn endless_body_allocates_at_most_the_limit() {
    let call = || {
        let inner = Inner::<PaymentRequest>::new();
        let service = layer::<PaymentRequest>().body_limit(LIMIT).layer(inner);
        let steps = (0..4 * LIMIT).map(|_| Step::Data(Bytes::from_static(b"x")));
        (service, signed_as("", Script::new(steps)))
    };
    let info = measured(call, |(service, request)| {
        let mut cx = Context::from_waker(Waker::noop());
        let mut future = Box::pin(support::call(service, request));
        let response = loop {
            if let Poll::Ready(response) = future.as_mut().poll(&mut cx) {
                break response;
            }
        };
        assert_eq!(response.status(), 413);
    });
    let most = LIMIT + LIMIT / 2 + EACH;
    assert!(info.bytes_max < u64::try_from(most).unwrap(), "{} bytes", info.bytes_max);
    assert!(info.bytes_max > u64::try_from(LIMIT).unwrap(), "{} bytes", info.bytes_max);
}

/// The layer does not allocate a large announced length before any bytes arrive.
#[test]
fn content_length_reserves_no_memory_in_advance() {
    let call = || {
        let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
        let steps = [Step::data("{"), Step::data("\""), Step::Stall];
        let mut request = signed_as(REQUEST, Script::new(steps));
        request.headers_mut().insert("content-length", (200 * 1024).into());
        (service, request)
    };
    let info = measured(call, |(service, request)| {
        let mut cx = Context::from_waker(Waker::noop());
        let mut future = Box::pin(support::call(service, request));
        assert!(future.as_mut().poll(&mut cx).is_pending());
    });
    assert!(info.bytes_max < u64::try_from(EACH).unwrap(), "{} bytes", info.bytes_max);
}

// ---------------------------------------------------------------- with real servers

#[derive(Clone, Copy, Debug)]
enum Version {
    Http1,
    Http2,
}

type Answer = Response<WebhookBody<Full<Bytes>>>;

/// Measures what a server has allocated and not freed at the moment when `client` returns. Each runs in its
/// own thread, and only the server's is measured.
fn held_by_a_server<S, C>(version: Version, service: S, client: C) -> usize
where
    S: Service<Request<Incoming>, Response = Answer, Error = Infallible> + Clone + 'static,
    S::Future: 'static,
    C: AsyncFnOnce(SocketAddr) + Send + 'static,
{
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, local) = (runtime(), LocalSet::new());
    let listener = server.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    local.spawn_local(async move {
        loop {
            let stream = TokioIo::new(listener.accept().await.unwrap().0);
            let service = TowerToHyperService::new(service.clone());
            tokio::task::spawn_local(async move {
                _ = match version {
                    Version::Http1 => {
                        server::http1::Builder::new().serve_connection(stream, service).await
                    }
                    Version::Http2 => {
                        let server = server::http2::Builder::new(LocalExecutor);
                        server.serve_connection(stream, service).await
                    }
                };
            });
        }
    });
    let (ready, mut is_ready) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = tokio::sync::oneshot::channel::<()>();
    let client = std::thread::spawn(move || {
        runtime().block_on(async {
            client(address).await;
            ready.send(()).unwrap();
            _ = may_go_on.await;
        });
    });
    let info = measure(|| local.block_on(&server, &mut is_ready).unwrap());
    drop(go_on);
    client.join().unwrap();
    usize::try_from(info.bytes_current).unwrap()
}

#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

type AnyBody = BoxBody<Bytes, Infallible>;

/// Sends a call for each body, all on one connection over HTTP/2. If `waits` is false, it does not wait for
/// responses, because the bodies stall.
async fn send(
    version: Version,
    address: SocketAddr,
    text: &'static str,
    bodies: Vec<AnyBody>,
    waits: bool,
) {
    let connect = async || TokioIo::new(TcpStream::connect(address).await.unwrap());
    let request = move |body: AnyBody| {
        let request = Request::post("http://test/");
        request.header("x-payload-digest", digest(text)).body(body).unwrap()
    };
    match version {
        Version::Http1 if waits => {
            let (mut sender, connection) = client::http1::handshake(connect().await).await.unwrap();
            tokio::spawn(connection);
            for body in bodies {
                sender.ready().await.unwrap();
                let answer = sender.send_request(request(body)).await.unwrap();
                assert_eq!(answer.status(), 200);
                drop(answer.into_body().collect().await);
            }
        }
        Version::Http1 => {
            for body in bodies {
                let (mut sender, connection) =
                    client::http1::handshake(connect().await).await.unwrap();
                tokio::spawn(connection);
                tokio::spawn(async move {
                    let answer = sender.send_request(request(body)).await;
                    drop((answer, sender));
                });
            }
        }
        Version::Http2 => {
            let executor = hyper_util::rt::TokioExecutor::new();
            let (sender, connection) =
                client::http2::handshake(executor, connect().await).await.unwrap();
            tokio::spawn(connection);
            for body in bodies {
                let mut sender = sender.clone();
                let (mut one, request) = (sender.clone(), request(body));
                let task = tokio::spawn(async move { one.send_request(request).await });
                if waits {
                    assert_eq!(task.await.unwrap().unwrap().status(), 200);
                } else {
                    // Keeps the bodies in separate read buffers of the server.
                    sleep(Duration::from_millis(5)).await;
                    let filler = Request::post("http://test/");
                    let filler = filler.body(Full::from(vec![0; 32 * 1024]).boxed()).unwrap();
                    drop(sender.send_request(filler).await.unwrap().into_body().collect().await);
                }
            }
        }
    }
    // Gives the server time to read everything, or to see that the connection is closed.
    sleep(Duration::from_millis(300)).await;
}

/// A frame is a slice of the server's read buffer. A webhook must not keep the whole buffer alive.
#[test]
fn kept_webhook_holds_only_its_body_and_event() {
    const KEPT: usize = 100;
    let event = measured(|| (), |()| serde_json::from_str::<PaymentRequest>(REQUEST).unwrap());
    let event = usize::try_from(event.bytes_current).unwrap() + size_of::<PaymentRequest>();
    for version in [Version::Http1, Version::Http2] {
        let inner = Inner::<PaymentRequest>::new();
        let service = layer::<PaymentRequest>().layer(inner.clone());
        let held = held_by_a_server(version, service, async move |address| {
            let bodies = (0..KEPT).map(|_| Full::from(REQUEST).boxed()).collect();
            send(version, address, REQUEST, bodies, true).await;
        });
        assert_eq!(inner.calls(), KEPT);
        let each = held / KEPT;
        println!("{version:?}: {each} bytes each, {event} of them the event");
        assert!(each < REQUEST.len() + event + 512, "{version:?}: {each} bytes each");
        assert!(each > REQUEST.len() + event, "{version:?}: {each} bytes each");
    }
}

/// Measures what the layer holds beyond the server itself. A service that keeps nothing is the baseline.
#[test]
fn stalled_body_on_a_server_holds_the_limit_plus_a_constant() {
    const CALLS: usize = 50;
    const SMALL: usize = 1024;
    static BODY: [u8; SMALL - 1] = [b' '; SMALL - 1];
    for version in [Version::Http2, Version::Http1] {
        let stall = async move |address| {
            let bodies = (0..CALLS)
                .map(|_| {
                    Script::new([Step::Data(Bytes::from_static(&BODY)), Step::Stall])
                        .map_err(|error| -> Infallible { unreachable!("{error}") })
                        .boxed()
                })
                .collect();
            send(version, address, "", bodies, false).await;
        };
        let reads = tower::service_fn(async |request: Request<Incoming>| {
            // The baseline keeps the head, because every service does.
            let (_head, mut body) = request.into_parts();
            while body.frame().await.is_some() {}
            Ok(Answer::default())
        });
        let server = held_by_a_server(version, reads, stall);
        let inner = Inner::<PaymentRequest>::new();
        let service = layer::<PaymentRequest>().body_limit(SMALL).layer(inner);
        let both = held_by_a_server(version, service, stall);
        let each = both.saturating_sub(server) / CALLS;
        println!("{version:?}: {each} bytes each, besides {} of the server", server / CALLS);
        assert!(each < SMALL + EACH, "{version:?}: {each} bytes each");
        // Shows that the calls did hold something.
        assert!(each > 256, "{version:?}: {each} bytes each");
    }
}
