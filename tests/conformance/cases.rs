//! The cases that every server has to pass, and the clients that run them. The servers are elsewhere, so that
//! a crate with other servers can use this file too.

use std::fmt::{self, Write as _};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tower_inqud::{Algorithm, Secret, Webhook, WebhookBody, WebhookLayer, sign};

pub const PATH: &str = "/webhooks/inqud/request";
pub const SECRET: &str = "whsec-kiln-and-clay";
const LIMIT: usize = 2048;
const DEADLINE: Duration = Duration::from_secs(2);
/// Longer than any case takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Neither `Clone` nor `Debug`, because the layer must not require them.
#[derive(serde::Deserialize)]
pub struct Event {
    id: String,
}

/// The layer that every server puts in front of its handler.
pub fn layer() -> WebhookLayer<Event> {
    WebhookLayer::new(secret()).body_limit(LIMIT).body_timeout(DEADLINE)
}

fn secret() -> Secret {
    Secret::new(SECRET).expect("a good secret")
}

/// The bodies that a handler was called with.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<Bytes>>>);

impl Seen {
    /// The handler of every server. It takes the webhook and reads the body, which must have the same bytes.
    /// It answers 204, which should become 200.
    pub async fn handle<B>(&self, webhook: Option<&Webhook<Event>>, body: B) -> StatusCode
    where
        B: Body,
    {
        let Some(webhook) = webhook else { return StatusCode::INTERNAL_SERVER_ERROR };
        let read = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return StatusCode::IM_A_TEAPOT,
        };
        if read != webhook.raw_body() {
            return StatusCode::IM_A_TEAPOT;
        }
        if webhook.id != PROBE {
            self.0.lock().expect("not poisoned").push(read);
        }
        StatusCode::NO_CONTENT
    }

    pub fn take(&self) -> Vec<Bytes> {
        std::mem::take(&mut self.0.lock().expect("not poisoned"))
    }
}

/// A merchant's own error, which the layer has to pass on.
#[derive(Debug)]
pub struct OwnError;

impl fmt::Display for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a custom error")
    }
}

impl std::error::Error for OwnError {}

/// The handler for servers that do not have their own form of handlers.
pub async fn handle<B: Body>(
    seen: Seen,
    request: Request<WebhookBody<B>>,
) -> Result<Response<Full<Bytes>>, OwnError> {
    let webhook = request.extensions().get::<Webhook<Event>>().cloned();
    let status = seen.handle(webhook.as_ref(), request.into_body()).await;
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    Ok(response)
}

/// One call, independent of the transport.
#[derive(Clone)]
pub struct Call {
    pub method: Method,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    pub cut: Cut,
}

/// How to send the body.
#[derive(Clone, Copy, PartialEq)]
pub enum Cut {
    /// With its `Content-Length`.
    Whole,
    /// In frames of this many bytes, without a length.
    Frames(usize),
    /// With this `Content-Length`, and no more bytes after the body.
    Stalls(usize),
}

const PROBE: &str = "PROBE";

fn body(id: &str) -> String {
    format!(r#"{{"id":"{id}","status":"SUCCESS"}}"#)
}

fn padded(len: usize) -> String {
    let empty = r#"{"id":"CAPD-1","pad":""}"#.len();
    format!(r#"{{"id":"CAPD-1","pad":"{}"}}"#, "x".repeat(len - empty))
}

/// A valid call with this body.
fn good(body: impl Into<Bytes>) -> Call {
    let body = body.into();
    let digest = sign(&secret(), &body).to_string();
    let headers = vec![("x-payload-digest", digest)];
    Call { method: Method::POST, headers, body, cut: Cut::Whole }
}

impl Call {
    fn with_digest(mut self, digest: impl Into<String>) -> Self {
        self.headers = vec![("x-payload-digest", digest.into())];
        self
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn cut(mut self, cut: Cut) -> Self {
        self.cut = cut;
        self
    }

    fn digest(&self) -> String {
        self.headers[0].1.clone()
    }
}

/// A call and its expected outcome.
pub struct Case {
    pub name: &'static str,
    pub call: Call,
    pub status: u16,
    /// Whether the connection can be reused.
    pub lives: bool,
}

impl Case {
    fn is_accepted(&self) -> bool {
        self.status == 200
    }
}

pub fn cases() -> Vec<Case> {
    let small = || good(body("CAPD-1"));
    let accepted = |name, call| Case { name, call, status: 200, lives: true };
    let refused = |name, status, call| Case { name, call, status, lives: true };
    let right = small().digest();
    let mut get = small();
    get.method = Method::GET;
    let mut missing = small();
    missing.headers.clear();
    let sha256 = Algorithm::HmacSha256.sign(&secret(), &small().body).to_string();
    vec![
        accepted("a small body", small()),
        accepted("a body in a few frames", good(padded(1000)).cut(Cut::Frames(300))),
        accepted("a body in frames of one byte", small().cut(Cut::Frames(1))),
        accepted("a body of exactly the limit", good(padded(LIMIT))),
        accepted("the same in frames", good(padded(LIMIT)).cut(Cut::Frames(500))),
        accepted("an upper-case digest", small().with_digest(right.to_uppercase())),
        accepted("fields that nobody knows", good(r#"{"x":[1],"id":"CAPD-1","y":{"id":7}}"#)),
        accepted("an identity encoding", small().with("content-encoding", "identity")),
        accepted("another content type", small().with("content-type", "text/html; charset=x")),
        accepted("a header that names an algorithm", small().with("x-payload-digest-alg", "NONE")),
        refused("another method", 405, get),
        refused("no digest", 401, missing),
        refused("two equal digests", 401, small().with("x-payload-digest", right.clone())),
        refused("two digests in one", 401, small().with_digest(format!("{right}, {right}"))),
        refused("a digest of another algorithm", 401, small().with_digest(sha256)),
        refused("a forged digest", 401, small().with_digest("0".repeat(40))),
        refused("a digest of another body", 401, small().with_digest(good("{}").digest())),
        refused("an encoded body", 415, small().with("content-encoding", "gzip")),
        Case {
            name: "a length over the limit",
            call: good(padded(LIMIT)).cut(Cut::Stalls(LIMIT + 1)),
            status: 413,
            lives: false,
        },
        Case {
            name: "more than the limit in frames",
            call: good(padded(LIMIT + 1)).cut(Cut::Frames(500)),
            status: 413,
            lives: true,
        },
        Case {
            name: "a body that stops",
            call: small().cut(Cut::Stalls(200)),
            status: 408,
            lives: false,
        },
        refused("no body", 400, good("")),
        refused("broken JSON", 400, good(r#"{"id":"CAPD-1""#)),
        refused("a body that is not UTF-8", 400, good(&b"{\"id\":\"CAPD-1\",\"x\":\"\xff\"}"[..])),
        refused("an array", 422, good("[]")),
        refused("a field of another type", 422, good(r#"{"id":7}"#)),
    ]
}

/// How calls reach a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transport {
    Http1(SocketAddr),
    Http2(SocketAddr),
}

/// A case that a server itself answers differently, and why.
pub struct Difference {
    pub case: &'static str,
    pub what: &'static str,
    /// `None` if the case is not possible there.
    pub status: Option<u16>,
    pub lives: bool,
}

/// Runs all cases against one server, prints the result, and returns how many passed and failed.
pub async fn run(
    server: &str,
    transport: Transport,
    seen: &Seen,
    differences: &[Difference],
) -> (usize, usize) {
    let mut report = Report::new(server);
    for mut case in cases() {
        let difference = differences.iter().find(|it| it.case == case.name);
        if let Some(difference) = difference {
            report.note(case.name, difference.what);
            let Some(status) = difference.status else { continue };
            (case.status, case.lives) = (status, difference.lives);
        }
        let mut expected = Outcome { status: case.status, lives: case.lives };
        let outcome = match transport {
            Transport::Http1(address) => http1(address, &case.call).await,
            Transport::Http2(address) => {
                expected.lives = true; // only the stream ends, not the connection
                http2(address, &case.call).await
            }
        };
        let body = case.is_accepted().then_some(&case.call.body);
        report.check(case.name, &outcome, &expected, &seen.take(), body);
    }
    match transport {
        Transport::Http1(address) => report.http1(address, seen, differences).await,
        Transport::Http2(address) => report.http2(address, seen).await,
    }
    report.finish()
}

#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub status: u16,
    pub lives: bool,
}

/// The results of one server.
pub struct Report {
    text: String,
    server: String,
    passed: usize,
    failed: usize,
}

impl Report {
    pub fn new(server: &str) -> Self {
        Self { text: String::new(), server: server.to_owned(), passed: 0, failed: 0 }
    }

    pub fn note(&mut self, case: &str, what: &str) {
        writeln!(self.text, "    differs in {case:?}: {what}").expect("memory");
    }

    pub fn check(
        &mut self,
        case: &str,
        outcome: &io::Result<Outcome>,
        expected: &Outcome,
        seen: &[Bytes],
        body: Option<&Bytes>,
    ) {
        let answered = outcome.as_ref().is_ok_and(|outcome| outcome == expected);
        if answered && seen.iter().eq(body) {
            self.passed += 1;
        } else {
            self.failed += 1;
            let what = format!("{outcome:?} instead of {expected:?}; the handler saw {seen:?}");
            writeln!(self.text, "    FAILED {case:?}: {what}").expect("memory");
        }
    }

    fn holds(&mut self, case: &str, result: io::Result<bool>) {
        if matches!(result, Ok(true)) {
            self.passed += 1;
        } else {
            self.failed += 1;
            writeln!(self.text, "    FAILED {case:?}: {result:?}").expect("memory");
        }
    }

    pub fn finish(self) -> (usize, usize) {
        let Self { text, server, passed, failed } = self;
        print!("{server:<44} {passed} of {} cases as promised\n{text}", passed + failed);
        (passed, failed)
    }

    /// Cases that only HTTP/1.1 has.
    async fn http1(&mut self, address: SocketAddr, seen: &Seen, differences: &[Difference]) {
        let one = good(body("CAPD-1"));
        let two = good(body("CAPD-2"));

        let result = async {
            let mut connection = Http1::connect(address).await?;
            let text = [one.to_http1(), two.to_http1()].concat();
            connection.stream.write_all(&text).await?;
            let statuses = [connection.response().await?, connection.response().await?];
            Ok(statuses == [200, 200] && seen.take() == [one.body.clone(), two.body.clone()])
        };
        self.holds("two calls in one packet", result.await);

        let result = async {
            let mut connection = Http1::connect(address).await?;
            connection.stream.write_all(&one.head_of_http1("expect: 100-continue\r\n")).await?;
            let interim = connection.response().await?;
            connection.stream.write_all(&one.body).await?;
            let status = connection.response().await?;
            Ok([interim, status] == [100, 200] && seen.take() == [one.body.clone()])
        };
        self.holds("Expect: 100-continue, a good call", result.await);

        for (name, call, expected) in [
            ("Expect: 100-continue, an empty digest", one.clone().with_digest(""), 401),
            (
                "Expect: 100-continue, a length over the limit",
                one.clone().cut(Cut::Stalls(LIMIT + 1)),
                413,
            ),
        ] {
            let difference = differences.iter().find(|it| it.case == name);
            if let Some(difference) = difference {
                self.note(name, difference.what);
            }
            let expected = difference.map_or(Some(expected), |it| it.status);
            let Some(expected) = expected else { continue };
            let result = async {
                let mut connection = Http1::connect(address).await?;
                let head = call.head_of_http1("expect: 100-continue\r\n");
                connection.stream.write_all(&head).await?;
                Ok(connection.response().await? == expected && seen.take().is_empty())
            };
            self.holds(name, result.await);
        }

        let result = async {
            for sent in [1, 20] {
                let mut connection = Http1::connect(address).await?;
                let text = one.clone().cut(Cut::Frames(10)).to_http1();
                connection.stream.write_all(&text[..text.len() - sent]).await?;
                drop(connection);
            }
            let status = http1(address, &two).await?.status;
            Ok(status == 200 && seen.take() == [two.body.clone()])
        };
        self.holds("a client that leaves mid-body", result.await);

        let result = async {
            let mut connection = Http1::connect(address).await?;
            let text = one.clone().cut(Cut::Frames(10)).to_http1();
            let text = String::from_utf8_lossy(&text).replacen("\r\na\r\n", "\r\nzz\r\n", 1);
            connection.stream.write_all(text.as_bytes()).await?;
            // Answered with 400 or closed at once, but never accepted.
            let refused = connection.response().await.map_or(true, |status| status == 400);
            Ok(refused && seen.take().is_empty())
        };
        self.holds("broken framing", result.await);
    }

    /// Cases that only HTTP/2 has.
    async fn http2(&mut self, address: SocketAddr, seen: &Seen) {
        let result = async {
            let connection = connect_http2(address).await?;
            let calls: Vec<_> = (0..64)
                .map(|n| {
                    let call = good(body(&format!("CAPD-{n}"))).cut(Cut::Frames(1 + n));
                    if n % 2 == 0 { call } else { call.with_digest("0".repeat(40)) }
                })
                .collect();
            let mut tasks = tokio::task::JoinSet::new();
            for call in calls.clone() {
                let mut connection = connection.clone();
                tasks.spawn(async move { connection.send_request(call.to_http2()).await });
            }
            let mut statuses = [0, 0];
            while let Some(response) = tasks.join_next().await {
                let response = response.expect("no panic").map_err(io::Error::other)?;
                match response.status().as_u16() {
                    200 => statuses[0] += 1,
                    401 => statuses[1] += 1,
                    _ => {}
                }
            }
            let mut seen = seen.take();
            let mut sent: Vec<_> = calls.iter().step_by(2).map(|call| call.body.clone()).collect();
            seen.sort();
            sent.sort();
            Ok(statuses == [32, 32] && seen == sent)
        };
        self.holds("64 streams at once on one connection", result.await);

        let result = async {
            let mut connection = connect_http2(address).await?;
            let stalled = good(body("CAPD-1")).cut(Cut::Stalls(200)).to_http2();
            let response = connection.send_request(stalled);
            // Dropping a stream before its end resets it. The other streams continue.
            assert!(tokio::time::timeout(Duration::from_millis(50), response).await.is_err());
            let status =
                status_of(connection.send_request(good(body("CAPD-2")).to_http2())).await?;
            Ok(status == 200 && seen.take() == [Bytes::from(body("CAPD-2"))])
        };
        self.holds("a stream that is reset mid-body", result.await);
    }
}

// ------------------------------------------------------------------ HTTP/1.1

impl Call {
    fn head_of_http1(&self, more: &str) -> Vec<u8> {
        let mut head = format!("{} {PATH} HTTP/1.1\r\nhost: test\r\n{more}", self.method);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").expect("memory");
        }
        let length = match self.cut {
            Cut::Whole => format!("content-length: {}", self.body.len()),
            Cut::Stalls(length) => format!("content-length: {length}"),
            Cut::Frames(_) => "transfer-encoding: chunked".to_owned(),
        };
        write!(head, "{length}\r\n\r\n").expect("memory");
        head.into_bytes()
    }

    fn to_http1(&self) -> Vec<u8> {
        let mut text = self.head_of_http1("");
        match self.cut {
            Cut::Frames(size) => {
                for chunk in self.body.chunks(size) {
                    text.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    text.extend(chunk.iter().chain(b"\r\n"));
                }
                text.extend(b"0\r\n\r\n");
            }
            Cut::Whole | Cut::Stalls(_) => text.extend(&self.body),
        }
        text
    }
}

struct Http1 {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Http1 {
    async fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(address).await?, unread: Vec::new() })
    }

    /// Reads the next response to its end, and returns its status. Includes interim responses.
    async fn response(&mut self) -> io::Result<u16> {
        loop {
            if let Some((status, end)) = parse_response(&self.unread) {
                self.unread.drain(..end);
                return Ok(status);
            }
            let read = self.stream.read_buf(&mut self.unread);
            match tokio::time::timeout(PATIENCE, read).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }
}

/// The status and the length of the first response, if it is complete.
fn parse_response(bytes: &[u8]) -> Option<(u16, usize)> {
    let text = std::str::from_utf8(bytes).expect("only texts are answered");
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let head = head.to_lowercase();
    let body = if head.contains("\r\ntransfer-encoding: chunked") {
        rest.find("0\r\n\r\n")? + 5
    } else {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        length.map_or(0, |length| length.parse().expect("a length"))
    };
    (rest.len() >= body).then_some((status, head.len() + 4 + body))
}

async fn http1(address: SocketAddr, call: &Call) -> io::Result<Outcome> {
    let mut connection = Http1::connect(address).await?;
    connection.stream.write_all(&call.to_http1()).await?;
    let status = connection.response().await?;
    let lives = async {
        connection.stream.write_all(&good(body(PROBE)).to_http1()).await?;
        connection.response().await
    };
    let lives = matches!(lives.await, Ok(200));
    Ok(Outcome { status, lives })
}

// -------------------------------------------------------------------- HTTP/2

type BoxBody = http_body_util::combinators::BoxBody<Bytes, io::Error>;
type Http2 = hyper::client::conn::http2::SendRequest<BoxBody>;

impl Call {
    fn to_http2(&self) -> Request<BoxBody> {
        let mut request = Request::builder().method(&self.method).uri(format!("http://test{PATH}"));
        for (name, value) in &self.headers {
            request = request.header(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let size = match self.cut {
            Cut::Frames(size) => size,
            Cut::Whole | Cut::Stalls(_) => self.body.len().max(1),
        };
        let frames: Vec<_> =
            self.body.chunks(size).map(|it| Ok(Frame::data(Bytes::copy_from_slice(it)))).collect();
        let frames = tokio_stream::iter(frames);
        let body = match self.cut {
            Cut::Whole => {
                request = request.header("content-length", self.body.len());
                StreamBody::new(frames).boxed()
            }
            Cut::Frames(_) => StreamBody::new(frames).boxed(),
            Cut::Stalls(length) => {
                request = request.header("content-length", length);
                StreamBody::new(frames.chain(tokio_stream::pending())).boxed()
            }
        };
        request.body(body).expect("a request")
    }
}

async fn connect_http2(address: SocketAddr) -> io::Result<Http2> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (sender, connection) = handshake.await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn status_of<F, B>(response: F) -> io::Result<u16>
where
    F: Future<Output = hyper::Result<http::Response<B>>>,
{
    let response = tokio::time::timeout(PATIENCE, response).await?.map_err(io::Error::other)?;
    Ok(response.status().as_u16())
}

async fn http2(address: SocketAddr, call: &Call) -> io::Result<Outcome> {
    let mut connection = connect_http2(address).await?;
    let status = status_of(connection.send_request(call.to_http2())).await?;
    let probe = status_of(connection.send_request(good(body(PROBE)).to_http2())).await;
    Ok(Outcome { status, lives: matches!(probe, Ok(200)) })
}
