//! A body is received whole, within its limits, and passed on byte for byte.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support;
use crate::support::{Inner, REQUEST, SMALL, Script, Step, call, layer, signed_as, text};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, SizeHint};
use http_body_util::BodyExt;
use tower::Layer;
use tower_inqud::{PaymentRequest, Rejection, RejectionKind, WebhookBody};

async fn deliver(body: Script, limit: usize) -> (u16, usize) {
    let inner = Inner::<PaymentRequest>::new();
    let service = layer::<PaymentRequest>().body_limit(limit).layer(inner.clone());
    let response = call(service, signed_as(REQUEST, body)).await;
    for webhook in inner.seen() {
        assert_eq!(webhook.raw_body(), REQUEST);
    }
    (response.status().as_u16(), inner.calls())
}

#[tokio::test]
async fn body_limit_is_exact_for_any_frame_size() {
    for size in [1, 2, 3, 64, 500, 1038, 1039, 5000] {
        let cut = || Script::new(REQUEST.as_bytes().chunks(size).map(Step::data));
        assert_eq!(deliver(cut(), 1038).await, (413, 0), "frames of {size}");
        assert_eq!(deliver(cut(), 1039).await, (200, 1), "frames of {size}");
        assert_eq!(deliver(cut(), 1040).await, (200, 1), "frames of {size}");
    }
}

#[tokio::test]
async fn body_limit_defaults_to_256_kib() {
    const LIMIT: usize = 256 * 1024;
    for (len, status) in [(LIMIT, 200), (LIMIT + 1, 413)] {
        let body =
            format!(r#"{{"id":"CAPD-1","status":"SUCCESS"{}}}"#, " ".repeat(len - SMALL.len()));
        assert_eq!(body.len(), len);
        let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
        let request = signed_as(&body, Script::new([Step::data(&body)]));
        assert_eq!(call(service, request).await.status(), status, "{len} bytes");
    }
}

/// A frame need not be of type `Bytes`. One that is too large is not converted first.
#[tokio::test]
async fn frame_over_the_limit_is_not_copied() {
    struct Huge;
    impl bytes::Buf for Huge {
        fn remaining(&self) -> usize {
            64 * 1024 * 1024
        }
        fn chunk(&self) -> &[u8] {
            panic!("the frame was read")
        }
        fn advance(&mut self, _: usize) {
            panic!("the frame was read")
        }
    }
    let body = http_body_util::Full::new(Huge);
    let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
    assert_eq!(call(service, signed_as("", body)).await.status(), 413);
}

#[tokio::test]
async fn content_length_has_the_same_limit() {
    for (limit, status) in [(1038, 413), (1039, 200), (1040, 200)] {
        let inner = Inner::<PaymentRequest>::new();
        let service = layer::<PaymentRequest>().body_limit(limit).layer(inner);
        let mut request = signed_as(REQUEST, Script::new([Step::data(REQUEST)]));
        request.headers_mut().insert("content-length", REQUEST.len().into());
        assert_eq!(call(service, request).await.status(), status, "limit {limit}");
    }
}

/// Servers reject such a header. If one does not, the layer still counts the bytes that arrive.
#[tokio::test]
async fn ignores_a_malformed_content_length() {
    for length in ["", "abc", "1e9", "-1", "12 34"] {
        let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
        let mut request = signed_as(REQUEST, Script::new([Step::data(REQUEST)]));
        request.headers_mut().insert("content-length", length.parse().unwrap());
        assert_eq!(call(service, request).await.status(), 200, "{length:?}");
    }
}

#[tokio::test]
async fn ignores_empty_frames_and_trailers() {
    let (first, second) = REQUEST.split_at(1);
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-payload-digest"),
        http::HeaderValue::from_static("ignored"),
    )]);
    let body = Script::new([
        Step::data(""),
        Step::Wake,
        Step::data(first),
        Step::data(""),
        Step::Wake,
        Step::data(second),
        Step::data(""),
        Step::Trailers(trailers),
    ]);
    assert_eq!(deliver(body, 2000).await, (200, 1));
}

#[tokio::test]
async fn false_size_hint_and_end_are_harmless() {
    let mut lies = Script::new([Step::data(REQUEST)]);
    lies.hint = SizeHint::with_exact(u64::MAX);
    assert_eq!(deliver(lies, 2000).await, (200, 1), "too large a hint");

    let mut lies = Script::new([Step::data(REQUEST)]);
    lies.hint = SizeHint::with_exact(0);
    assert_eq!(deliver(lies, 2000).await, (200, 1), "too small a hint");

    let mut lies = Script::new([Step::data(REQUEST)]);
    lies.claims_end = true;
    assert_eq!(deliver(lies, 2000).await, (401, 0), "a false end");
}

#[tokio::test]
async fn rejects_a_body_that_fails_at_any_frame() {
    for at in 0..5 {
        let mut steps: Vec<_> = REQUEST.as_bytes().chunks(300).map(Step::data).collect();
        steps.insert(at.min(steps.len()), Step::Error(io::ErrorKind::UnexpectedEof.into()));
        assert_eq!(deliver(Script::new(steps), 2000).await, (400, 0), "frame {at}");
    }
}

/// Frames that are always ready must starve neither the timeout nor other tasks.
#[tokio::test]
async fn endless_empty_frames_time_out() {
    struct Endless(u32);
    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            self.0 += 1;
            assert!(self.0 < 50_000_000, "the timeout was starved");
            std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::new()))))
        }
    }
    let service = layer::<PaymentRequest>()
        .body_timeout(Duration::from_millis(50))
        .layer(Inner::<PaymentRequest>::new());
    // In real time and on one thread, the timer fires only if the task yields.
    let response = call(service, signed_as("", Endless(0))).await;
    assert_eq!(response.status(), 408);
}

/// A body that is always ready and exhausts Tokio's cooperative budget. A timer that is polled without
/// budget is never ready.
#[tokio::test]
async fn body_that_exhausts_the_coop_budget_times_out() {
    struct Greedy;
    impl Body for Greedy {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            for _ in 0..4 {
                std::task::ready!(pin!(tokio::task::coop::consume_budget()).poll(cx));
            }
            std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::new()))))
        }
    }
    let service = layer::<PaymentRequest>()
        .body_timeout(Duration::from_millis(50))
        .layer(Inner::<PaymentRequest>::new());
    let answered = tokio::spawn(call(service, signed_as("", Greedy)));
    let response = tokio::time::timeout(Duration::from_secs(10), answered).await;
    assert_eq!(response.expect("the timeout of the body").unwrap().status(), 408);
}

/// The error of an outer tower-http timeout is distinguished from a broken connection, even if axum-core
/// has wrapped it.
#[tokio::test(start_paused = true)]
async fn recognizes_the_timeout_of_an_outer_layer() {
    let second = Duration::from_secs(1);
    let stalled = || Script::new([Step::Stall]);
    let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
    let slow = async |body: axum::body::Body| {
        let response = call(service.clone(), signed_as(REQUEST, body)).await;
        assert_eq!(response.status(), 408);
        let rejection = response.extensions().get::<Rejection>().unwrap();
        assert_eq!(rejection.kind(), RejectionKind::BodyTimeout);
    };
    let outside = || Box::pin(tower_http::timeout::TimeoutBody::new(second, stalled()));
    slow(axum::body::Body::new(outside())).await;
    // From another version of tower-http, whose error is another type.
    let other = Box::pin(tower_http_06::timeout::TimeoutBody::new(second, stalled()));
    slow(axum::body::Body::new(other)).await;
    let response = call(service.clone(), signed_as(REQUEST, outside())).await;
    assert_eq!(response.status(), 408);
}

/// An outer body limit is not distinguished, because the type of its error is in a crate that this one does
/// not depend on.
#[tokio::test]
async fn outer_body_limit_is_an_unreadable_body() {
    let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
    let limited = http_body_util::Limited::new(Script::new([Step::data(REQUEST)]), 100);
    let response = call(service, signed_as(REQUEST, limited)).await;
    assert_eq!(response.status(), 400);
    let rejection = response.extensions().get::<Rejection>().unwrap();
    let source = std::error::Error::source(rejection).unwrap();
    assert!(source.is::<http_body_util::LengthLimitError>());
}

#[tokio::test]
async fn inner_service_reads_the_same_bytes() {
    for size in [100, 5000] {
        let service = layer::<PaymentRequest>().layer(tower::service_fn(
            async |request: Request<WebhookBody<Script>>| {
                let body = request.into_body();
                assert_eq!(body.size_hint().exact(), Some(1039));
                assert!(!body.is_end_stream());
                let collected = body.collect().await.unwrap();
                assert!(collected.trailers().is_none());
                Ok::<_, Infallible>(Response::new(http_body_util::Full::new(collected.to_bytes())))
            },
        ));
        let body = Script::new(REQUEST.as_bytes().chunks(size).map(Step::data));
        let response = call(service, signed_as(REQUEST, body)).await;
        assert_eq!(text(response).await, REQUEST);
    }
}

/// A small body is copied, because its frame would keep the server's read buffer alive: see `memory.rs`.
#[tokio::test]
async fn large_single_frame_is_not_copied() {
    let padded = |len: usize| REQUEST.to_owned() + &" ".repeat(len - REQUEST.len());
    let sizes = [(REQUEST.len(), true), (16 * 1024, true), (16 * 1024 + 1, false)];
    for (text, is_copied) in sizes.map(|(len, is_copied)| (&*padded(len).leak(), is_copied)) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let inner = Inner::<PaymentRequest>::new();
        let body = Script::new([Step::Data(bytes.clone())]);
        call(layer::<PaymentRequest>().layer(inner.clone()), signed_as(text, body)).await;
        let seen = inner.seen();
        assert_eq!(seen[0].raw_body(), text);
        assert_eq!(seen[0].raw_body().as_ptr() != bytes.as_ptr(), is_copied);
    }
}

/// A large frame is copied as soon as the layer has to wait for another. The result is the same.
#[tokio::test]
async fn large_frame_and_another_become_one_body() {
    let large = REQUEST.to_owned() + &" ".repeat(40 * 1024);
    for at in [1, 20 * 1024, large.len() - 1] {
        for waits in [false, true] {
            let (first, second) = large.split_at(at);
            let mut steps = vec![Step::data(first), Step::data(second)];
            if waits {
                steps.insert(1, Step::Wake);
            }
            let inner = Inner::<PaymentRequest>::new();
            let service = layer::<PaymentRequest>().layer(inner.clone());
            let response = call(service, signed_as(&large, Script::new(steps))).await;
            assert_eq!(response.status(), 200, "cut at {at}, waits {waits}");
            assert_eq!(inner.seen()[0].raw_body(), &*large);
        }
    }
}

#[tokio::test]
async fn dropped_call_never_reaches_the_inner_service() {
    let inner = Inner::<PaymentRequest>::new();
    let body = Script::new([Step::data(&SMALL[..5]), Step::Stall]);
    let polls = body.polls();
    {
        let service = layer::<PaymentRequest>().layer(inner.clone());
        let mut future = pin!(call(service, signed_as(SMALL, body)));
        let polled = futures_poll(future.as_mut()).await;
        assert!(polled.is_pending());
    }
    assert_eq!(polls.load(Ordering::SeqCst), 2);
    assert_eq!(inner.calls(), 0);
}

async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await
}

/// A missing runtime shows at the first call, not at the first slow body.
#[test]
#[should_panic(expected = "no reactor running")]
fn call_outside_a_tokio_runtime_panics_at_once() {
    let service = layer::<PaymentRequest>().layer(Inner::<PaymentRequest>::new());
    let mut future = pin!(call(service, support::signed(SMALL)));
    _ = future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
}
