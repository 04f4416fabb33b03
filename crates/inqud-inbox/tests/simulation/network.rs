//! What is between Inqud and the processes. It loses requests and responses, delays both, and repeats.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use inqud_mock::SentBody;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_inqud::{OrderKey, contract};

use crate::process::Kind;
use crate::trace::NOBODY;
use crate::world::{Fault, World};

/// What a message must be answered with.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// 200, or 503 to be sent again.
    Stored { object: usize, order_key: OrderKey },
    /// A rejection.
    Rejected,
}

/// The way to the process that a load balancer chooses for one message.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) world: Arc<World>,
    pub(crate) kind: Kind,
    pub(crate) expected: Expected,
    /// How long the body takes to arrive.
    pub(crate) body: Duration,
}

impl Service<Request<SentBody>> for Network {
    type Response = Response<String>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<String>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<SentBody>) -> Self::Future {
        Box::pin(self.clone().carry(request))
    }
}

impl Network {
    async fn carry(self, request: Request<SentBody>) -> io::Result<Response<String>> {
        let world = Arc::clone(&self.world);
        world.pause(Fault::NetworkSlow).await;
        let serving = world.serving.lock().unwrap().clone();
        if serving.is_empty() || world.fault(Fault::Unreachable) {
            world.note(NOBODY, "unreachable", NOBODY, serving.len() as u64);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let at = world.draw(|random| random.range(0, serving.len() as u64) as usize);
        let process = &serving[at];
        let (answer, answered) = oneshot::channel();
        let endpoint = process.endpoint(self.kind);
        let this = self.clone();
        let index = process.life.process;
        // A server goes on when its client leaves, or drops the call.
        let is_dropped = world.draw(|random| random.chance(500));
        process.spawn(async move {
            let mut answer = answer;
            let began = Instant::now();
            let call = endpoint.oneshot(request);
            tokio::select! {
                biased;
                status = call => {
                    let Ok(status) = status;
                    this.answered(index, status, began.elapsed());
                    // The client may have left.
                    let _ = answer.send(status);
                }
                () = answer.closed(), if is_dropped => {
                    this.world.note(index, "the call is dropped", NOBODY, 0);
                }
            }
        });
        drop(serving);
        let status = answered.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
        world.pause(Fault::NetworkSlow).await;
        if world.fault(Fault::ResponseLost) {
            world.note(NOBODY, "the response is lost", NOBODY, u64::from(status.as_u16()));
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut response = Response::new(String::new());
        *response.status_mut() = status;
        Ok(response)
    }

    /// A process has answered.
    fn answered(&self, process: usize, status: StatusCode, took: Duration) {
        let world = &self.world;
        let object = match &self.expected {
            Expected::Stored { object, .. } => *object,
            Expected::Rejected => NOBODY,
        };
        world.note(process, "answers", object, u64::from(status.as_u16()));
        if took > contract::RESPONSE_TIMEOUT + self.body {
            world.violate(format!("a response took {took:?}"));
        }
        match (&self.expected, status) {
            (Expected::Stored { object, order_key }, StatusCode::OK) => {
                let stored = world.ledger().acknowledged(*object, order_key);
                world.check(stored);
            }
            (Expected::Stored { .. }, StatusCode::SERVICE_UNAVAILABLE) => {}
            (Expected::Rejected, status) if status.is_client_error() => {}
            (expected, status) => world.violate(format!("{status} for {expected:?}")),
        }
    }
}
