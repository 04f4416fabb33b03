//! What the layer costs, against the floor: one prepared HMAC-SHA1 and one typed parse.
//!
//! All programs run in turn, in small batches, in one process; each round gives one ratio, and the
//! medians of the ratios are printed. Absolute times on a shared machine are noise.
//!
//! `cargo bench --bench hot_path`, or with `-- --smoke` for a run that only checks the answers.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark"
)]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use sha1::Sha1;
use tower::{Layer, Service};
use tower_inqud::{PaymentRequest, Secret, Webhook, WebhookBody, WebhookLayer, contract, sign};

const SECRET: &str = "whsec-kiln-and-clay";
const REQUEST: &str = include_str!("../tests/fixtures/request-waiting_payment.json");

/// Answers 200, after a look at what came.
#[derive(Clone)]
struct Inner;

impl<B> Service<Request<B>> for Inner {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        black_box(&request);
        ready(Ok(Response::new(Full::default())))
    }
}

/// The same, and the event must be there.
#[derive(Clone)]
struct Handler;

impl Service<Request<WebhookBody<Full<Bytes>>>> for Handler {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<WebhookBody<Full<Bytes>>>) -> Self::Future {
        let webhook = request.extensions().get::<Webhook<PaymentRequest>>().unwrap();
        assert_eq!(webhook.raw_body().len(), REQUEST.len());
        black_box(&request);
        ready(Ok(Response::new(Full::default())))
    }
}

fn request(digest: Option<&str>) -> Request<Full<Bytes>> {
    let mut builder = Request::post("/webhooks/inqud/request")
        .header("host", "shop.example")
        .header("content-type", "application/json")
        .header("content-length", REQUEST.len());
    if let Some(digest) = digest {
        builder = builder.header(contract::DIGEST_HEADER, digest);
    }
    builder.body(Full::new(Bytes::from_static(REQUEST.as_bytes()))).unwrap()
}

/// Calls once, and gives the time of the call without that of making the request.
fn timed<S, R>(service: &mut S, digest: Option<&str>, expected: StatusCode) -> Duration
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error = Infallible>,
{
    let requests: Vec<_> = (0..BATCH).map(|_| request(digest)).collect();
    let mut cx = Context::from_waker(Waker::noop());
    let began = Instant::now();
    for request in requests {
        assert!(service.poll_ready(&mut cx).is_ready());
        let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut cx) else {
            unreachable!("everything is there at once")
        };
        assert_eq!(response.status(), expected);
        black_box(response);
    }
    began.elapsed()
}

/// The work that cannot be left out, and nothing else.
fn floor(key: &Hmac<Sha1>, digest: &[u8]) -> Duration {
    let began = Instant::now();
    for _ in 0..BATCH {
        let body = black_box(REQUEST);
        let mut mac = key.clone();
        mac.update(body.as_bytes());
        assert!(mac.verify_slice(digest).is_ok());
        let event: PaymentRequest = serde_json::from_str(body).unwrap();
        black_box(event);
    }
    began.elapsed()
}

const BATCH: usize = 4;

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let rounds = if smoke { 3 } else { 10_000 };
    assert_eq!(REQUEST.len(), 1039);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();

    let secret = Secret::new(SECRET).unwrap();
    let right = sign(&secret, REQUEST.as_bytes());
    let forged = sign(&secret, b"another body").to_string();
    let right_hex = right.to_string();
    let key = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
    let mut layered = WebhookLayer::<PaymentRequest>::new(secret).layer(Handler);
    let mut bare = Inner;

    let mut samples: [Vec<f64>; 5] = Default::default();
    for round in 0..=rounds {
        let times = [
            timed(&mut bare, Some(&right_hex), StatusCode::OK),
            floor(&key, right.as_bytes()),
            timed(&mut layered, Some(&right_hex), StatusCode::OK),
            timed(&mut layered, None, StatusCode::UNAUTHORIZED),
            timed(&mut layered, Some(&forged), StatusCode::UNAUTHORIZED),
        ];
        if round == 0 {
            continue; // warming up
        }
        for (samples, time) in samples.iter_mut().zip(times) {
            samples.push(time.as_secs_f64() / BATCH as f64 * 1e9);
        }
    }

    let [bare, floor, layered, missing, forged] = samples;
    println!("{rounds} rounds of {BATCH} calls with {} bytes; medians", REQUEST.len());
    for (name, samples) in [
        ("bare inner service", &bare),
        ("floor: HMAC and parse", &floor),
        ("layer, accepted", &layered),
        ("layer, no digest header", &missing),
        ("layer, forged digest", &forged),
    ] {
        println!("{name:<24}{:>8.0} ns", median(samples.clone()));
    }
    let ratio = |of: &[f64], to: &dyn Fn(usize) -> f64| {
        median((0..).zip(of).map(|(round, time)| time / to(round)).collect())
    };
    let accepted = |round: usize| layered[round];
    println!("ratio layer_over_floor {:.3}", ratio(&layered, &|i| floor[i] + bare[i]));
    println!("ratio missing_header_over_accepted {:.3}", ratio(&missing, &accepted));
    println!("ratio forged_over_accepted {:.3}", ratio(&forged, &accepted));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
