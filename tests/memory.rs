//! Memory is bounded by the body limit, call by call, and given back.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "clippy.toml does not reach the helpers of tests"
)]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use support::{Inner, REQUEST, Script, Step, call, layer, signed_as};
use tower::Layer;
use tower_inqud::PaymentRequest;

const LIMIT: usize = 16 * 1024;
/// For the future and all that it holds besides the body.
const EACH: usize = 4 * 1024;
const CALLS: usize = 1000;

/// Measures within a runtime, but neither that nor what was made before, nor what is kept.
fn measured<T, K>(made: impl FnOnce() -> T, run: impl FnOnce(T) -> K) -> AllocationInfo {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let made = made();
    let mut kept = None;
    measure(|| kept = Some(run(made)))
}

/// A body that stalls one byte before the limit. Its own bytes are static, and its steps are made
/// when they are asked for, so that only the layer's memory is counted.
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
fn a_thousand_stalled_bodies_hold_the_limit_and_a_constant_each() {
    // Two frames are the fewest that have to be copied.
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
                // As often as it yields, and once more.
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
        // So that the test cannot pass because nothing was held.
        assert!(info.bytes_max > u64::try_from(CALLS * (LIMIT - 1)).unwrap());
        assert_eq!(info.bytes_current, 0, "all of it is given back");
    }
}

/// Refused at the limit, an endless body has cost no more than the limit, and half of it again for
/// the moment in which the buffer grows.
#[test]
fn an_endless_body_costs_the_limit_at_most() {
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

/// An announced length is no reason to make room.
#[test]
fn a_length_makes_no_room_before_bytes_come() {
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
