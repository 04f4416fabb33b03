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
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use sha1::Sha1;
use tower::{Layer, Service};
use tower_inqud::{
    PaymentRequest, Rejection, Secret, Secrets, Verifier, Webhook, WebhookBody, WebhookLayer,
    WebhookService, contract, sign,
};

const SECRET: &str = "whsec-kiln-and-clay";
const REQUEST: &str = include_str!("../tests/fixtures/request-waiting_payment.json");
const SMALL: &str = r#"{"id":"CAPD-a4c123b1-612d-d272-d137-1c17149d4395","status":"SUCCESS","payAmount":848.0495,"lastUpdatedAt":"2026-11-21T18:49:42.207118364Z","clientOrderId":"shop-00471","currency":"USDT","blockchain":"ETHEREUM","overpaid":false,"requestAmount":850.125}"#;

/// As few as a connection has in flight. More would be beyond what the allocator has at hand for each
/// size, which no server does.
const BATCH: usize = 4;

// ---------------------------------------------------------------- what is called

/// A body in frames of one size.
struct Frames {
    rest: Bytes,
    size: usize,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let len = self.size.min(self.rest.len());
        let frame = (len > 0).then(|| Ok(Frame::data(self.rest.split_to(len))));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

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

impl Service<Request<WebhookBody<Frames>>> for Handler {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<WebhookBody<Frames>>) -> Self::Future {
        let webhook = request.extensions().get::<Webhook<PaymentRequest>>().unwrap();
        assert!(webhook.id.starts_with("CAPD-"));
        black_box(&request);
        ready(Ok(Response::new(Full::default())))
    }
}

type Layered = WebhookService<Handler, PaymentRequest>;

fn layered(verifier: impl Into<Verifier>) -> Layered {
    WebhookLayer::new(verifier).body_limit(1024 * 1024).layer(Handler)
}

fn secret(text: &str) -> Secret {
    Secret::new(text).unwrap()
}

/// A call that can be made again and again.
#[derive(Clone)]
struct Call {
    body: Bytes,
    frame: usize,
    digest: Option<String>,
    status: StatusCode,
}

impl Call {
    fn good(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let digest = Some(sign(&secret(SECRET), &body).to_string());
        Self { frame: body.len(), body, digest, status: StatusCode::OK }
    }

    fn with(self, digest: Option<&str>, status: StatusCode) -> Self {
        Self { digest: digest.map(str::to_owned), status, ..self }
    }

    fn request(&self) -> Request<Frames> {
        let mut builder = Request::post("/webhooks/inqud/request")
            .header("host", "shop.example")
            .header("content-type", "application/json")
            .header("content-length", self.body.len());
        if let Some(digest) = &self.digest {
            builder = builder.header(contract::DIGEST_HEADER, digest);
        }
        builder.body(Frames { rest: self.body.clone(), size: self.frame }).unwrap()
    }

    fn run<S, R>(&self, service: &mut S, request: Request<Frames>)
    where
        S: Service<Request<Frames>, Response = Response<R>, Error = Infallible>,
    {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let mut future = pin!(service.call(request));
        let response = loop {
            // A body of many frames yields now and then.
            if let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) {
                break response;
            }
        };
        assert_eq!(response.status(), self.status);
        black_box(response);
    }

    /// The time of a batch, without that of making the requests.
    fn timed<S, R>(&self, service: &mut S) -> Duration
    where
        S: Service<Request<Frames>, Response = Response<R>, Error = Infallible>,
    {
        let requests: [_; BATCH] = std::array::from_fn(|_| self.request());
        let began = Instant::now();
        for request in requests {
            self.run(service, request);
        }
        began.elapsed()
    }
}

/// The work that cannot be left out, and nothing else: not even the check for UTF-8.
fn floor(key: &Hmac<Sha1>, body: &str, digest: &[u8]) -> Duration {
    let began = Instant::now();
    for _ in 0..BATCH {
        let body = black_box(body);
        let mut mac = key.clone();
        mac.update(body.as_bytes());
        assert!(mac.verify_slice(digest).is_ok());
        black_box(serde_json::from_str::<PaymentRequest>(body).unwrap());
    }
    began.elapsed()
}

// ---------------------------------------------------------------- how it is measured

/// Times of programs that ran in turn, round by round, in nanoseconds a call.
struct Rounds<const N: usize>([Vec<f64>; N]);

impl<const N: usize> Rounds<N> {
    /// At least 30 of them.
    fn run(smoke: bool, mut round: impl FnMut() -> [Duration; N]) -> Self {
        let mut times = std::array::from_fn(|_| Vec::new());
        round(); // warming up
        let (began, at_least) = (Instant::now(), if smoke { 3 } else { 30 });
        let budget = Duration::from_millis(if smoke { 0 } else { 1500 });
        while began.elapsed() < budget || times[0].len() < at_least {
            for (times, time) in times.iter_mut().zip(round()) {
                times.push(time.as_secs_f64() / BATCH as f64 * 1e9);
            }
        }
        Self(times)
    }

    fn median(&self, program: usize) -> f64 {
        median(self.0[program].clone())
    }

    /// The median of the ratios, of which each round gives one.
    fn ratio(&self, program: usize, to: &[usize]) -> f64 {
        let ratio = |round: usize| {
            self.0[program][round] / to.iter().map(|to| self.0[*to][round]).sum::<f64>()
        };
        median((0..self.0[program].len()).map(ratio).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

// ---------------------------------------------------------------- what is measured

/// A Request with more of what this version does not know, as objects of a few fields each.
fn padded(len: usize) -> String {
    let mut body = REQUEST.trim_end().strip_suffix('}').unwrap().to_owned() + r#","assets":["#;
    while body.len() < len {
        body += r#"{"asset":"ETHEREUM_USDT","min":1.25,"max":10000,"rate":null,"active":true},"#;
    }
    body + "{}]}"
}

fn accepted(smoke: bool) {
    let key = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
    println!("{:<24}{:>9}{:>9}{:>9}", "accepted, ns", "bare", "floor", "layer");
    let mut ratios = Vec::new();
    let (medium, large) = (padded(16 * 1024), padded(256 * 1024));
    for (name, body, frame) in [
        ("256b", SMALL, usize::MAX),
        ("1kb", REQUEST, usize::MAX),
        ("1kb_4_frames", REQUEST, REQUEST.len().div_ceil(4)),
        ("16kb", &medium, usize::MAX),
        ("16kb_12_frames", &medium, 1400),
        ("256kb", &large, usize::MAX),
        ("256kb_32_frames", &large, 8192),
    ] {
        let call = Call { frame, ..Call::good(body.to_owned()) };
        let digest = sign(&secret(SECRET), body.as_bytes());
        let mut layered = layered(secret(SECRET));
        let rounds = Rounds::run(smoke, || {
            [call.timed(&mut Inner), floor(&key, body, digest.as_bytes()), call.timed(&mut layered)]
        });
        let [bare, floor, layer] = std::array::from_fn(|program| rounds.median(program));
        println!("{name:<24}{bare:>9.0}{floor:>9.0}{layer:>9.0}");
        ratios.push((name, rounds.ratio(2, &[1, 0])));
    }
    for (name, ratio) in ratios {
        println!("ratio layer_over_floor_{name} {ratio:.3}");
    }
}

fn refused_and_rotated(smoke: bool) {
    let good = Call::good(REQUEST);
    let forged = sign(&secret(SECRET), b"another body").to_string();
    let unauthorized = StatusCode::UNAUTHORIZED;
    let missing = good.clone().with(None, unauthorized);
    // As long as base64 of the longest digest: what takes longest to explain.
    let malformed = good.clone().with(Some(&"/".repeat(86)), unauthorized);
    let forged = good.clone().with(Some(&forged), unauthorized);
    let not_json = Call { status: StatusCode::BAD_REQUEST, ..Call::good(&REQUEST.as_bytes()[1..]) };
    let mut one = layered(secret(SECRET));
    let three = |at: usize| {
        let mut texts = ["an old one", "an older one"].to_vec();
        texts.insert(at, SECRET);
        layered(Secrets::new(texts.into_iter().map(secret)).unwrap())
    };
    let (mut first_of_three, mut last_of_three) = (three(0), three(2));
    let mut undiagnosed = layered(Verifier::new(secret(SECRET)).diagnose(false));
    let rounds = Rounds::run(smoke, || {
        [
            good.timed(&mut one),
            missing.timed(&mut one),
            malformed.timed(&mut one),
            forged.timed(&mut one),
            not_json.timed(&mut one),
            good.timed(&mut first_of_three),
            good.timed(&mut last_of_three),
            forged.timed(&mut undiagnosed),
        ]
    });
    for (program, name) in [
        (1, "missing_header"),
        (2, "malformed_header"),
        (3, "forged"),
        (4, "not_json"),
        (5, "first_of_three_secrets"),
        (6, "last_of_three_secrets"),
    ] {
        println!("{:>7.0} ns {name}", rounds.median(program));
        println!("ratio {name}_over_accepted {:.3}", rounds.ratio(program, &[0]));
    }
    println!("ratio forged_over_forged_without_diagnosis {:.3}", rounds.ratio(3, &[7]));

    // Without a layer, so that there is less to hide it behind.
    let digest = sign(&secret(SECRET), b"another body").to_string();
    let refuse = |verifier: &Verifier| {
        let began = Instant::now();
        for _ in 0..BATCH {
            let body = Bytes::from_static(REQUEST.as_bytes());
            assert!(black_box(verifier.verify(&digest, body)).is_err());
        }
        began.elapsed()
    };
    let diagnoses = Verifier::new(secret(SECRET));
    let does_not = diagnoses.clone().diagnose(false);
    let rounds = Rounds::run(smoke, || [refuse(&diagnoses), refuse(&does_not)]);
    println!("{:>7.0} ns forged at a verifier", rounds.median(0));
    println!("ratio forged_over_forged_without_diagnosis_verifier {:.3}", rounds.ratio(0, &[1]));
}

/// Counted, and so the same in each run.
fn allocations() {
    let count = |run: &mut dyn FnMut()| {
        run();
        let info = measure(run);
        (info.count_total, info.bytes_total)
    };
    let call = |call: &Call, prepare: fn(&mut Request<Frames>)| {
        let mut layered = layered(secret(SECRET));
        let mut requests = vec![call.request(), call.request()];
        requests.iter_mut().for_each(prepare);
        count(&mut || call.run(&mut layered, requests.pop().unwrap()))
    };
    let event = count(&mut || {
        black_box(serde_json::from_str::<PaymentRequest>(REQUEST).unwrap());
    });
    let accepted = call(&Call::good(REQUEST), |_| ());
    // As axum's router does before any layer of a route is called.
    let routed = call(&Call::good(REQUEST), |request| _ = request.extensions_mut().insert(0_u8));
    let refused = call(&Call::good(REQUEST).with(None, StatusCode::UNAUTHORIZED), |_| ());
    let response = refused_response();
    let own = count(&mut || {
        let mut copy = Response::new(Bytes::new());
        for (name, value) in &response.0 {
            copy.headers_mut().insert(name, value.clone());
        }
        copy.extensions_mut().insert(response.1.clone());
        black_box(copy);
    });
    for (name, (count, bytes)) in [
        ("the event alone", event),
        ("accepted, first to put an extension", accepted),
        ("accepted, behind a router that has put one", routed),
        ("the response to a refused call alone", own),
        ("refused for its headers", refused),
    ] {
        println!("allocations {count:>3}, {bytes:>5} bytes: {name}");
    }
    println!("ratio allocations_beyond_the_event {}", accepted.0 - event.0);
    println!("ratio allocations_beyond_the_event_routed {}", routed.0 - event.0);
    println!("ratio allocations_beyond_the_refusal {}", refused.0 - own.0);
}

fn refused_response() -> (HeaderMap, Rejection) {
    let call = Call::good(REQUEST).with(None, StatusCode::UNAUTHORIZED);
    let mut future = pin!(layered(secret(SECRET)).call(call.request()));
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) else {
        unreachable!("refused at once")
    };
    let rejection = response.extensions().get::<Rejection>().unwrap().clone();
    (response.headers().clone(), rejection)
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    assert_eq!((SMALL.len(), REQUEST.len()), (251, 1039));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    allocations();
    accepted(smoke);
    refused_and_rotated(smoke);
}
