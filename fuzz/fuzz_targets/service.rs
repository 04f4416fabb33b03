//! Runs any script of frames, errors, waits and drops: the inner service is called at most once, only with the
//! right digest, within the limit, and with the same bytes.
#![no_main]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use tower::{Layer, Service};
use tower_inqud::{Secret, Webhook, WebhookBody, WebhookLayer, sign};

#[derive(Arbitrary, Debug)]
struct Input {
    steps: Vec<Step>,
    limit: u16,
    length: Option<u32>,
    hint: Option<u64>,
    ends_early: bool,
    signed: Signed,
    drop_after: Option<u8>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Data(Vec<u8>),
    Json(u8),
    Trailers,
    Error,
    Wait,
}

#[derive(Arbitrary, Debug)]
enum Signed {
    Right,
    Wrong(Vec<u8>),
    Twice,
    Not,
}

struct Script {
    steps: VecDeque<Step>,
    hint: SizeHint,
    ends_early: bool,
}

/// Pieces that may form JSON together.
fn json(piece: u8) -> &'static [u8] {
    const PIECES: [&[u8]; 8] =
        [b"{", b"}", b"\"id\":\"1\"", b",", b"\"status\":\"SUCCESS\"", b"{\"a\":1}", b" ", b"[]"];
    PIECES[usize::from(piece) % PIECES.len()]
}

impl Body for Script {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(Some(match self.steps.pop_front() {
            None => return Poll::Ready(None),
            Some(Step::Data(data)) => Ok(Frame::data(data.into())),
            Some(Step::Json(piece)) => Ok(Frame::data(Bytes::from_static(json(piece)))),
            Some(Step::Trailers) => Ok(Frame::trailers(HeaderMap::new())),
            Some(Step::Error) => Err(std::io::ErrorKind::ConnectionReset.into()),
            Some(Step::Wait) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ends_early
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

type Any = serde_json::Map<String, serde_json::Value>;

/// Records the body of each call and responds after one wait.
#[derive(Clone)]
struct Inner(Rc<RefCell<Vec<Bytes>>>);

impl Service<Request<WebhookBody<Script>>> for Inner {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<WebhookBody<Script>>) -> Self::Future {
        let webhook = request.extensions().get::<Webhook<Any>>().unwrap().clone();
        self.0.borrow_mut().push(webhook.raw_body().clone());
        let mut body = pin!(request.into_body());
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
            read.extend(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(Bytes::from(read), *webhook.raw_body());
        Box::pin(async {
            tokio::task::yield_now().await;
            Ok(Response::new(Full::default()))
        })
    }
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
}

fuzz_target!(|input: Input| {
    RUNTIME.with(|runtime| {
        let _context = runtime.enter();
        run(input);
    });
});

fn run(input: Input) {
    let secret = Secret::new("secret_value").unwrap();
    let whole: Vec<u8> = input
        .steps
        .iter()
        .flat_map(|step| match step {
            Step::Data(data) => data.clone(),
            Step::Json(piece) => json(*piece).to_vec(),
            _ => Vec::new(),
        })
        .collect();
    let right = sign(&secret, &whole).to_string();
    let mut request = Request::post("/");
    match &input.signed {
        Signed::Right => request = request.header("x-payload-digest", &right),
        Signed::Wrong(text) => {
            if let Ok(value) = http::HeaderValue::from_bytes(text) {
                request = request.header("x-payload-digest", value);
            }
        }
        Signed::Twice => {
            request = request.header("x-payload-digest", &right).header("x-payload-digest", &right);
        }
        Signed::Not => {}
    }
    if let Some(length) = input.length {
        request = request.header("content-length", length);
    }
    let fails = input.steps.iter().any(|step| matches!(step, Step::Error));
    let polls = input.steps.len() * 2 + whole.len() + 16;
    let body = Script {
        steps: input.steps.into(),
        hint: input.hint.map_or_else(SizeHint::new, SizeHint::with_exact),
        ends_early: input.ends_early,
    };
    let limit = usize::from(input.limit);
    let calls = Rc::new(RefCell::new(Vec::new()));
    let mut service =
        WebhookLayer::<Any>::new(secret).body_limit(limit).layer(Inner(Rc::clone(&calls)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut status = None;
    {
        let mut future = pin!(service.call(request.body(body).unwrap()));
        for poll in 0..polls {
            if input.drop_after.is_some_and(|after| poll == usize::from(after)) {
                break;
            }
            if let Poll::Ready(response) = future.as_mut().poll(&mut cx) {
                status = Some(response.unwrap().status().as_u16());
                break;
            }
        }
    }
    let calls = calls.borrow();
    assert!(calls.len() <= 1);
    if let Some(body) = calls.first() {
        assert_eq!(**body, *whole, "the body is not the same");
        assert!(body.len() <= limit);
        assert!(!fails);
        assert!(matches!(input.signed, Signed::Right | Signed::Wrong(_)));
        if let Signed::Wrong(text) = &input.signed {
            assert!(text.eq_ignore_ascii_case(right.as_bytes()));
        }
    }
    if let Some(status) = status {
        assert_eq!(status == 200, calls.len() == 1, "{status}");
    }
    if input.drop_after.is_none() {
        assert!(status.is_some(), "the call got no response");
    }
}
