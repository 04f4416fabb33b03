//! Serves with limits on connections and request heads, which `axum::serve` does not have.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// Each open page holds one connection.
const CONNECTIONS: usize = 1000;
/// Longer than a page follows before it connects again.
const LIFETIME: Duration = Duration::from_secs(900);

pub async fn serve(listener: TcpListener, app: Router, shutdown: impl Future<Output = ()>) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(5));
    let (service, graceful) = (TowerToHyperService::new(app), GracefulShutdown::new());
    let connections = Arc::new(Semaphore::new(CONNECTIONS));

    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, permit) = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = &mut shutdown => break,
        };
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            _ = timeout(LIFETIME, connection).await;
            drop(permit);
        });
    }
    drop(listener);
    // A webhook that is cut off is retried, so do not wait longer than Inqud does.
    _ = timeout(Duration::from_secs(10), graceful.shutdown()).await;
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    let permit = Arc::clone(connections).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            // For example, too many open files. Try again, because others may close.
            Err(error) => println!("accept failed: {error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}
