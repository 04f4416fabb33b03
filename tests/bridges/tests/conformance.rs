//! The conformance suite of tower-inqud for servers that support tower through a bridge.
//!
//! Each bridge takes a whole tower service, which is the layer around the service of the handler.

#[path = "../../conformance/cases.rs"]
mod cases;

use std::net::SocketAddr;
use std::process::ExitCode;

use bytes::Bytes;
use cases::{Difference, Event, OwnError, PATH, Seen, Transport, handle, layer};
use http::Request;
use http_body_util::Full;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_inqud::{Webhook, WebhookBody};

impl poem::error::ResponseError for OwnError {
    fn status(&self) -> http::StatusCode {
        http::StatusCode::INTERNAL_SERVER_ERROR
    }
}

/// `warp::service` turns a filter into a service. The layer goes around it, and hyper serves it.
async fn warp(seen: Seen) -> SocketAddr {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::server::conn::auto;
    use hyper_util::service::TowerToHyperService;
    use warp::Filter;

    let filter = warp::path!("webhooks" / "inqud" / "request")
        .and(warp::ext::get::<Webhook<Event>>())
        .and(warp::body::bytes())
        .then(move |webhook: Webhook<Event>, body: Bytes| {
            let seen = seen.clone();
            async move { seen.handle(Some(&webhook), Full::new(body)).await }
        });
    let service = ServiceBuilder::new().layer(layer()).service(warp::service(filter));
    let service = TowerToHyperService::new(service);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                server.serve_connection(TokioIo::new(stream), service).await
            });
        }
    });
    address
}

/// `TowerCompatExt::compat` turns a service into an endpoint.
async fn poem(seen: Seen) -> SocketAddr {
    use poem::endpoint::TowerCompatExt;
    use poem::listener::{Acceptor, Listener};
    use poem::{Route, Server};

    let service = ServiceBuilder::new()
        .layer(layer())
        .service(service_fn(move |request| handle(seen.clone(), request)));
    let listener = poem::listener::TcpListener::bind("127.0.0.1:0");
    let acceptor = listener.into_acceptor().await.unwrap();
    let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
    let app = Route::new().at(PATH, service.compat());
    tokio::spawn(Server::new_with_acceptor(acceptor).run(app));
    address
}

/// `TowerServiceCompat::compat` turns a service into a handler. `goal` accepts every method, so that the layer
/// can reject the wrong ones.
async fn salvo(seen: Seen) -> SocketAddr {
    use salvo::conn::{Acceptor, Listener};
    use salvo::http::ReqBody;
    use salvo::prelude::TowerServiceCompat;
    use salvo::{Router, Server};

    let service = ServiceBuilder::new().layer(layer()).service(service_fn(
        move |request: Request<WebhookBody<ReqBody>>| handle(seen.clone(), request),
    ));
    let handler = TowerServiceCompat::<ReqBody, _, _, _>::compat(service);
    let router = Router::with_path(PATH.trim_start_matches('/')).goal(handler);
    let acceptor = salvo::conn::TcpListener::new("127.0.0.1:0").bind().await;
    let address = acceptor.holdings()[0].local_addr.clone().into_std().unwrap();
    tokio::spawn(Server::new(acceptor).serve(router));
    address
}

#[tokio::main]
async fn main() -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    let mut add = |(p, f): (usize, usize)| {
        passed += p;
        failed += f;
    };
    macro_rules! both {
        ($name:literal, $server:path, $differences:expr) => {
            let seen = Seen::default();
            let address = $server(seen.clone()).await;
            let differences: &[Difference] = $differences;
            let name = concat!($name, ", HTTP/1.1");
            add(cases::run(name, Transport::Http1(address), &seen, differences).await);
            let name = concat!($name, ", HTTP/2");
            add(cases::run(name, Transport::Http2(address), &seen, differences).await);
        };
    }
    both!("warp", warp, &[]);
    both!("poem", poem, &[]);
    both!("salvo", salvo, &[]);

    println!("\n{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
