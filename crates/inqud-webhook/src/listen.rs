use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use clap::Args;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tower_inqud::{Ack, Rejection, WebhookBody, WebhookLayer, WebhookService};
use tower_layer::Layer;
use tower_service::Service;

use crate::capture::{Capture, CaptureBudget, CapturedBody};
use crate::out::Outcome;
use crate::out::{BAD, FAINT, GOOD, Out, STRONG, is_broken_pipe, styled};
use crate::secret::SecretArgs;
use crate::{pretty, reason};

/// Timeout for a request head, and for the graceful shutdown of connections.
const SHORT: Duration = Duration::from_secs(10);

/// Maximum connections at a time, because each may hold a body. Others wait.
const CONNECTIONS: usize = 100;

/// Receives webhooks and shows each one: verified, or why it was rejected.
///
/// It accepts any path. It stops after --count deliveries, on Ctrl-C, or when its output is closed, and
/// exits with 0 if no delivery was rejected.
#[derive(Args)]
pub(crate) struct Listen {
    /// The address to listen on. Port 0 picks a free port, which is printed.
    #[arg(default_value = "127.0.0.1:3000")]
    address: SocketAddr,
    /// The status of the response to a verified webhook.
    #[arg(long, value_name = "STATUS", default_value = "200", value_parser = status)]
    answer: StatusCode,
    /// Stops after N deliveries.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    secret: SecretArgs,
}

/// Parses a status that a final response can have.
fn status(text: &str) -> Result<StatusCode, String> {
    match text.parse::<StatusCode>() {
        Ok(status) if (200..600).contains(&status.as_u16()) => Ok(status),
        _ => Err("must be a status from 200 to 599".to_owned()),
    }
}

impl Listen {
    pub(crate) async fn run(&self, out: Out) -> Outcome {
        let webhooks = WebhookLayer::<Object>::new(self.secret.read()?).layer(Accepting);
        let listener = TcpListener::bind(self.address)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}", self.address))?;
        let url = format!("http://{}", listener.local_addr()?);
        out.tell(|| format!("listening on {url}\n"), || json!({ "listening": url }))?;

        let server = Arc::new(Listener {
            out,
            webhooks,
            answer: self.answer,
            until: self.count.unwrap_or(u64::MAX),
            tally: Mutex::default(),
            budget: CaptureBudget::default(),
            end: Notify::new(),
        });
        server.clone().serve(listener).await?;

        let mut tally = server.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = tally.unprinted.take().filter(|error| !is_broken_pipe(error)) {
            return Err(error.into());
        }
        let Tally { verified, rejected, .. } = *tally;
        Ok(out.conclude(
            rejected == 0,
            || format!("{verified} verified, {rejected} rejected\n"),
            || json!({ "verified": verified, "rejected": rejected }),
        )?)
    }
}

/// State shared by all connections.
struct Listener {
    out: Out,
    webhooks: WebhookService<Accepting, Object>,
    answer: StatusCode,
    until: u64,
    tally: Mutex<Tally>,
    budget: CaptureBudget,
    end: Notify,
}

#[derive(Default)]
struct Tally {
    verified: u64,
    rejected: u64,
    unprinted: Option<io::Error>,
}

impl Listener {
    async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(SHORT);
        let graceful = GracefulShutdown::new();
        let mut ctrl_c = std::pin::pin!(tokio::signal::ctrl_c());
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let accept = async || {
            let place = Arc::clone(&places).acquire_owned().await;
            Ok::<_, io::Error>((listener.accept().await?.0, place))
        };
        loop {
            let (stream, place) = tokio::select! {
                accepted = accept() => match accepted {
                    Ok(accepted) => accepted,
                    // The peer has disconnected already, or the process is out of descriptors.
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = self.end.notified() => break,
                pressed = &mut ctrl_c => { pressed?; break }
            };
            let server = Arc::clone(&self);
            let service = service_fn(move |request| Arc::clone(&server).receive(request));
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                _ = connection.await;
                drop(place);
            });
        }
        drop(listener);
        // The last response may still be on its way.
        _ = tokio::time::timeout(SHORT, graceful.shutdown()).await;
        Ok(())
    }

    async fn receive(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<WebhookBody<String>>, Infallible> {
        let line = format!("{} {}", request.method(), request.uri());
        let copy = Capture::new(&self.budget);
        let request = request.map(|body| CapturedBody { body, copy: copy.clone() });
        let mut webhooks = self.webhooks.clone();
        poll_fn(|cx| Service::<Request<CapturedBody>>::poll_ready(&mut webhooks, cx)).await?;
        let mut response = webhooks.call(request).await?;

        let rejection = response.extensions().get::<Rejection>().cloned();
        if rejection.is_none() {
            *response.status_mut() = self.answer;
        }
        let body = copy.take();
        let body = body.as_deref().map(String::from_utf8_lossy);
        self.note(&line, body.as_deref(), rejection.as_ref(), response.status());
        Ok(response)
    }

    /// Counts and prints a delivery. `body` is `None` if it was too large to keep.
    fn note(
        &self,
        line: &str,
        body: Option<&str>,
        rejection: Option<&Rejection>,
        answer: StatusCode,
    ) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match rejection {
            None => &mut tally.verified,
            Some(_) => &mut tally.rejected,
        };
        *count = count.saturating_add(1);
        let number = tally.verified.saturating_add(tally.rejected);
        let now = Timestamp::now();
        let printed = self.out.tell(
            || {
                let verdict = match rejection {
                    None => styled(GOOD, "verified"),
                    Some(rejection) => {
                        styled(BAD, "rejected: ") + &reason::lines(rejection).join("; ")
                    }
                };
                let head = format!("#{number} {}", pretty::printable(line));
                let time = now.strftime("%T");
                let answered = format!("answered {answer}");
                let (time, answered) = (styled(FAINT, time), styled(FAINT, answered));
                let head = styled(STRONG, head);
                let body = match body {
                    Some(body) => pretty::json(body),
                    None => "  body not shown: too many bodies at once\n".to_owned(),
                };
                format!("{time} {head} {verdict}, {answered}\n{body}")
            },
            || {
                json!({
                    "number": number,
                    "at": now.to_string(),
                    "request": line,
                    "verified": rejection.is_none(),
                    "rejected": rejection.map(reason::json),
                    "status": answer.as_u16(),
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

/// Any JSON object, because the command shows webhooks of all kinds.
type Object = std::collections::BTreeMap<String, IgnoredAny>;

/// Acknowledges every verified webhook.
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
