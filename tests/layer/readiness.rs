//! The layer keeps the contract of tower's `Service` on both sides.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::support::{Inner, SMALL, Script, Step, call, layer, signed, signed_as};
use http::{Request, Response};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_inqud::{PaymentRequest, WebhookBody, WebhookService};

/// Rivals' bug 2: they called a fresh clone, which panics with "poll_ready must be called first".
#[tokio::test]
async fn calls_the_service_that_was_polled_ready() {
    /// Panics if it was not polled ready itself, like a `ConcurrencyLimit` or a `Buffer`.
    struct Strict(bool);
    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self(false)
        }
    }
    impl<B> Service<Request<B>> for Strict {
        type Response = Response<String>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            self.0 = true;
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<B>) -> Self::Future {
            assert!(std::mem::take(&mut self.0), "poll_ready must be called first");
            std::future::ready(Ok(Response::new(String::new())))
        }
    }
    let mut service = layer::<PaymentRequest>().layer(Strict(false));
    for _ in 0..3 {
        let response = call(&mut service, signed(SMALL)).await;
        assert_eq!(response.status(), 200);
    }
}

#[tokio::test]
async fn concurrency_limit_buffer_and_load_shed_work_inside() {
    let inner = Inner::<PaymentRequest>::new();
    let limited = ServiceBuilder::new()
        .layer(layer::<PaymentRequest>())
        .concurrency_limit(1)
        .service(inner.clone());
    let buffered =
        ServiceBuilder::new().layer(layer::<PaymentRequest>()).buffer(4).service(inner.clone());
    let shedding = ServiceBuilder::new()
        .layer(layer::<PaymentRequest>())
        .load_shed()
        .concurrency_limit(1)
        .service(inner.clone());
    for _ in 0..5 {
        assert_eq!(call(limited.clone(), signed(SMALL)).await.status(), 200);
        assert_eq!(call(buffered.clone(), signed(SMALL)).await.status(), 200);
        assert_eq!(call(shedding.clone(), signed(SMALL)).await.status(), 200);
    }
    assert_eq!(inner.calls(), 15);
}

/// A decision that `WebhookLayer` documents: the ready service keeps its permit while the layer waits for
/// the body.
#[tokio::test(start_paused = true)]
async fn stalled_body_holds_its_permit_until_the_timeout() {
    let service = ServiceBuilder::new()
        .layer(layer::<PaymentRequest>().body_timeout(Duration::from_secs(3)))
        .concurrency_limit(1)
        .service(Inner::<PaymentRequest>::new());

    let stalled = signed_as(SMALL, Script::new([Step::Stall]));
    let stalled = tokio::spawn(call(service.clone(), stalled));
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    let good = call(service, signed_as(SMALL, Script::new([Step::data(SMALL)])));
    let good = tokio::time::timeout(Duration::from_secs(60), good).await;
    assert_eq!(good.expect("the permit is released").status(), 200);
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(stalled.await.unwrap().status(), 408);
}

/// After a rejection that needs no body, the service keeps the permit for its next call.
#[tokio::test(start_paused = true)]
async fn rejected_head_keeps_the_service_ready() {
    let mut service = ServiceBuilder::new()
        .layer(layer::<PaymentRequest>())
        .concurrency_limit(1)
        .service(Inner::<PaymentRequest>::new());
    let mut unsigned = signed(SMALL);
    unsigned.headers_mut().clear();
    let refused = call(&mut service, unsigned).await;
    assert_eq!(refused.status(), 401);
    let accepted = call(&mut service, signed(SMALL)).await;
    assert_eq!(accepted.status(), 200);
}

#[derive(Debug, PartialEq)]
struct OwnError(&'static str);

#[tokio::test]
async fn passes_on_errors_of_the_inner_service() {
    let failing =
        tower::service_fn(async |_: Request<_>| Err::<Response<String>, _>(OwnError("from call")));
    let service = layer::<PaymentRequest>().layer(failing);
    let error = service.oneshot(signed(SMALL)).await.unwrap_err();
    assert_eq!(error, OwnError("from call"));

    #[derive(Clone)]
    struct NeverReady;
    impl<B> Service<Request<B>> for NeverReady {
        type Response = Response<String>;
        type Error = OwnError;
        type Future = std::future::Ready<Result<Self::Response, OwnError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OwnError>> {
            Poll::Ready(Err(OwnError("from poll_ready")))
        }
        fn call(&mut self, _: Request<B>) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let mut service: WebhookService<_, PaymentRequest> = layer().layer(NeverReady);
    let ready: Result<&mut _, _> = ServiceExt::<Request<Script>>::ready(&mut service).await;
    assert_eq!(ready.map(|_| ()).unwrap_err(), OwnError("from poll_ready"));
}

/// The event is neither `Clone` nor `Debug`, and the error type is a custom one. The future is still `Send`.
#[tokio::test]
async fn works_with_the_weakest_bounds() {
    #[derive(serde::Deserialize)]
    struct Bare {
        id: String,
    }
    fn send<T: Send>(it: T) -> T {
        it
    }
    let handler = tower::service_fn(async |request: Request<WebhookBody<Script>>| {
        let webhook = request.extensions().get::<tower_inqud::Webhook<Bare>>().unwrap();
        Ok::<_, OwnError>(Response::new(webhook.id.clone()))
    });
    let mut service = layer::<Bare>().layer(handler);
    let request = signed_as(SMALL, Script::new([Step::data(SMALL)]));
    let response = send(call(&mut service, request)).await;
    assert_eq!(response.status(), 200);
}

/// Works with a service and a body that are not `Send`.
#[tokio::test]
async fn does_not_require_send() {
    let shared = Rc::new(std::cell::Cell::new(0));
    let counter = Rc::clone(&shared);
    let handler = tower::service_fn(move |_: Request<_>| {
        let counter = Rc::clone(&counter);
        async move {
            counter.set(counter.get() + 1);
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        }
    });
    let body = http_body_util::BodyExt::map_frame(Script::new([Step::data(SMALL)]), {
        let shared = Rc::clone(&shared);
        move |frame| {
            shared.set(shared.get() + 10);
            frame
        }
    });
    let request = signed_as(SMALL, body);
    assert_eq!(call(layer::<PaymentRequest>().layer(handler), request).await.status(), 200);
    assert_eq!(shared.get(), 11);
}

/// After a panic in the inner service or in `Deserialize`, the next call works.
#[tokio::test]
async fn panic_fails_only_its_call() {
    #[derive(Debug)]
    struct Touchy;
    impl<'de> serde::Deserialize<'de> for Touchy {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let map = std::collections::HashMap::<String, bool>::deserialize(deserializer)?;
            assert!(!map["panic"]);
            Ok(Self)
        }
    }
    let handler = tower::service_fn(async |request: Request<_>| {
        assert!(!request.headers().contains_key("panic"));
        Ok::<_, std::convert::Infallible>(Response::new(String::new()))
    });
    let service = layer::<Touchy>().layer(handler);

    let decoding = call(service.clone(), signed(r#"{"panic":true}"#));
    assert!(tokio::spawn(decoding).await.unwrap_err().is_panic());
    let mut request = signed(r#"{"panic":false}"#);
    request.headers_mut().insert("panic", "now".parse().unwrap());
    assert!(tokio::spawn(call(service.clone(), request)).await.unwrap_err().is_panic());
    assert_eq!(call(service, signed(r#"{"panic":false}"#)).await.status(), 200);
}
