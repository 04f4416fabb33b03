use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready as ready_or_return};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tower_inqud::{Ack, Rejection, WebhookBody, WebhookLayer, WebhookService};
use tower_layer::Layer;
use tower_service::Service;

use crate::out::{BAD, FAINT, GOOD, Out, STRONG, styled};
use crate::secret::SecretArgs;
use crate::{Outcome, pretty, reason};

/// For the head of a request, and for connections to end at the end.
const SHORT: Duration = Duration::from_secs(10);

/// Receives web hooks and shows each as it comes: verified, or why not.
///
/// It ends after --count deliveries, or with Ctrl-C; well if none was refused. Every path will do.
#[derive(Args)]
pub(crate) struct Listen {
    /// The address to listen at. Port 0 takes a free one, which is then told.
    #[arg(default_value = "127.0.0.1:3000")]
    address: SocketAddr,
    /// The status to answer what is verified with.
    #[arg(long, value_name = "STATUS", default_value = "200", value_parser = status)]
    answer: StatusCode,
    /// Ends after so many deliveries.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    secret: SecretArgs,
}

/// One that can end a response.
fn status(text: &str) -> Result<StatusCode, String> {
    match text.parse::<StatusCode>() {
        Ok(status) if (200..600).contains(&status.as_u16()) => Ok(status),
        _ => Err("not a status from 200 to 599".to_owned()),
    }
}

impl Listen {
    pub(crate) async fn run(&self, out: Out) -> Outcome {
        let webhooks = WebhookLayer::<Object>::new(self.secret.read()?).layer(Accepting);
        let listener = TcpListener::bind(self.address)
            .await
            .map_err(|error| format!("{}: {error}", self.address))?;
        let url = format!("http://{}", listener.local_addr()?);
        out.tell(|| format!("listening on {url}\n"), || json!({ "listening": url }))?;

        let desk = Arc::new(Desk {
            out,
            webhooks,
            answer: self.answer,
            until: self.count.unwrap_or(u64::MAX),
            tally: Mutex::default(),
            end: Notify::new(),
        });
        desk.clone().serve(listener).await?;

        let mut tally = desk.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = tally.unprinted.take() {
            return Err(error.into());
        }
        let Tally { verified, refused, .. } = *tally;
        out.tell(
            || format!("{verified} verified, {refused} refused\n"),
            || json!({ "verified": verified, "refused": refused }),
        )?;
        Ok(refused == 0)
    }
}

/// What all connections share.
struct Desk {
    out: Out,
    webhooks: WebhookService<Accepting, Object>,
    answer: StatusCode,
    until: u64,
    tally: Mutex<Tally>,
    end: Notify,
}

#[derive(Default)]
struct Tally {
    verified: u64,
    refused: u64,
    unprinted: Option<io::Error>,
}

impl Desk {
    async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(SHORT);
        let graceful = GracefulShutdown::new();
        let mut ctrl_c = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    // One that left before it was accepted, or too many at once.
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = self.end.notified() => break,
                pressed = &mut ctrl_c => { pressed?; break }
            };
            let desk = Arc::clone(&self);
            let service = service_fn(move |request| Arc::clone(&desk).receive(request));
            let connection = server.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(graceful.watch(connection));
        }
        drop(listener);
        // The last answer is still to be sent.
        _ = tokio::time::timeout(SHORT, graceful.shutdown()).await;
        Ok(())
    }

    async fn receive(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<WebhookBody<String>>, Infallible> {
        let line = format!("{} {}", request.method(), request.uri());
        let copy = Copy::default();
        let request = request.map(|body| Copied { body, copy: Arc::clone(&copy) });
        let mut webhooks = self.webhooks.clone();
        poll_fn(|cx| Service::<Request<Copied>>::poll_ready(&mut webhooks, cx)).await?;
        let mut response = webhooks.call(request).await?;

        let rejection = response.extensions().get::<Rejection>().cloned();
        if rejection.is_none() {
            *response.status_mut() = self.answer;
        }
        let body = copy.lock().unwrap_or_else(PoisonError::into_inner).concat();
        self.note(&line, &String::from_utf8_lossy(&body), rejection.as_ref(), response.status());
        Ok(response)
    }

    fn note(&self, line: &str, body: &str, rejection: Option<&Rejection>, answer: StatusCode) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match rejection {
            None => &mut tally.verified,
            Some(_) => &mut tally.refused,
        };
        *count = count.saturating_add(1);
        let number = tally.verified.saturating_add(tally.refused);
        let now = Timestamp::now();
        let printed = self.out.tell(
            || {
                let verdict = match rejection {
                    None => styled(GOOD, "verified"),
                    Some(rejection) => {
                        styled(BAD, "refused: ") + &reason::lines(rejection).join("; ")
                    }
                };
                let head = format!("#{number} {}", pretty::printable(line));
                let time = now.strftime("%T");
                let answered = format!("answered {answer}");
                let (time, answered) = (styled(FAINT, time), styled(FAINT, answered));
                let head = styled(STRONG, head);
                let body = pretty::json(body);
                format!("{time} {head} {verdict}, {answered}\n{body}\n")
            },
            || {
                json!({
                    "number": number,
                    "at": now.to_string(),
                    "request": line,
                    "verified": rejection.is_none(),
                    "refused": rejection.map(reason::json),
                    "answered": answer.as_u16(),
                    "body": body,
                })
            },
        );
        if let Err(error) = printed {
            tally.unprinted.get_or_insert(error);
            self.end.notify_one();
        }
        if number >= self.until {
            self.end.notify_one();
        }
    }
}

/// Any object at all: what is in it is for the reader of the output to judge.
type Object = std::collections::BTreeMap<String, IgnoredAny>;

/// Takes whatever is verified.
#[derive(Clone)]
struct Accepting;

impl<B> Service<Request<WebhookBody<B>>> for Accepting {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<WebhookBody<B>>) -> Self::Future {
        ready(Ok(Ack::Done.into()))
    }
}

/// The frames of a body that have come so far.
type Copy = Arc<Mutex<Vec<Bytes>>>;

/// A body that leaves a copy of what is read from it: of a refused one, as far as the layer read it.
struct Copied {
    body: Incoming,
    copy: Copy,
}

impl Body for Copied {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready_or_return!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.copy.lock().unwrap_or_else(PoisonError::into_inner).push(data.clone());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
