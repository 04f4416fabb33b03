use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde::de::IgnoredAny;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tower_inqud::{Ack, Rejection, RejectionKind, WebhookBody, WebhookService};
use tower_service::Service;

use super::delivery::{Delivery, Verdict};
use super::forward::{AppAnswer, Forward, instead};
use super::log::Log;
use crate::capture::{Capture, CaptureBudget, CapturedBody};

/// Timeout for a request head, and for the graceful shutdown of connections.
const SHORT: Duration = Duration::from_secs(10);

/// Maximum connections at a time, because each may hold a body. Others wait. A delivery keeps the place of its
/// connection until it is forwarded, even if the sender has left.
const CONNECTIONS: u16 = 100;

/// State shared by all connections.
pub(super) struct Server {
    log: Log,
    webhooks: WebhookService<Accepting, Object>,
    is_verifying: bool,
    answer: StatusCode,
    forward: Option<Forward>,
    budget: CaptureBudget,
}

impl Server {
    pub(super) fn new(
        log: Log,
        webhooks: WebhookService<Accepting, Object>,
        is_verifying: bool,
        answer: StatusCode,
        forward: Option<Forward>,
    ) -> Self {
        Self { log, webhooks, is_verifying, answer, forward, budget: CaptureBudget::default() }
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(SHORT);
        if self.forward.is_some() {
            // The app's response is passed on as it is.
            http.preserve_header_case(true).auto_date_header(false);
        }
        let graceful = GracefulShutdown::new();
        let mut ctrl_c = std::pin::pin!(tokio::signal::ctrl_c());
        let places = Arc::new(Semaphore::new(CONNECTIONS.into()));
        let accept = async || {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?.0, Arc::new(place)))
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
                () = self.log.end() => break,
                pressed = &mut ctrl_c => { pressed?; break }
            };
            let server = Arc::clone(&self);
            let service =
                service_fn(move |request| Arc::clone(&server).receive(request, Arc::clone(&place)));
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                _ = connection.await;
            });
        }
        drop(listener);
        // The last response may still be on its way, and a delivery whose sender left is still forwarded.
        let all_done = async {
            graceful.shutdown().await;
            _ = places.acquire_many(CONNECTIONS.into()).await;
        };
        _ = tokio::time::timeout(SHORT, all_done).await;
        Ok(())
    }

    async fn receive(
        self: Arc<Self>,
        request: Request<Incoming>,
        place: Arc<OwnedSemaphorePermit>,
    ) -> Result<Response<Full<Bytes>>, tokio::task::JoinError> {
        let arrived = Instant::now();
        let (parts, body) = request.into_parts();
        let head = parts.clone();
        let copy = Capture::new(&self.budget);
        let request = Request::from_parts(parts, CapturedBody::new(body, copy.clone()));
        let mut webhooks = self.webhooks.clone();
        let ready = poll_fn(|cx| Service::<Request<CapturedBody>>::poll_ready(&mut webhooks, cx));
        let (Ok(()), Ok(response)) = (ready.await, webhooks.call(request).await);
        // A task of its own: what has arrived is forwarded and shown even if the sender disconnects.
        tokio::spawn(async move {
            let rejection = response.extensions().get::<Rejection>().cloned();
            let (parts, Ok(body)) = {
                let (parts, body) = response.into_parts();
                (parts, body.collect().await)
            };
            let mut response = Response::from_parts(parts, Full::new(body.to_bytes()));
            let is_complete = copy.is_complete();
            let body = copy.take().map(Bytes::from);
            // The app decides about a body that is authentic, whatever is in it.
            let rejection = rejection.filter(|it| self.forward.is_none() || !is_authentic(it));
            let verdict = match rejection {
                Some(rejection) => Verdict::Rejected(rejection),
                None if self.is_verifying => Verdict::Verified,
                None => Verdict::Unverified,
            };
            let mut app = None;
            if !matches!(verdict, Verdict::Rejected(_)) {
                match (&self.forward, &body) {
                    (None, _) => *response.status_mut() = self.answer,
                    (Some(forward), Some(body)) => {
                        let (own, answer) = forward.forward(&head, body.clone(), arrived).await;
                        (response, app) = (own, Some(answer));
                    }
                    (Some(_), None) => {
                        let why = "not forwarded, because too many bodies arrived at once";
                        response = instead(StatusCode::SERVICE_UNAVAILABLE, why);
                        app = Some(AppAnswer::None(why.to_owned()));
                    }
                }
            }
            let status = response.status();
            self.log.note(&Delivery { head, body, is_complete, verdict, status, app });
            drop((copy, place));
            response
        })
        .await
    }
}

/// Whether the digest matched, and only the content was rejected.
fn is_authentic(rejection: &Rejection) -> bool {
    matches!(
        rejection.kind(),
        RejectionKind::NotJson | RejectionKind::UnexpectedShape | RejectionKind::WrongKind { .. }
    )
}

/// Any JSON object, because the command shows webhooks of all kinds.
pub(super) type Object = std::collections::BTreeMap<String, IgnoredAny>;

/// Acknowledges every verified webhook.
#[derive(Clone)]
pub(super) struct Accepting;

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
