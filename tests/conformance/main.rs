//! Runs one table of cases against every server over real connections.
//!
//! The cases are in `cases.rs`. The servers are here, each set up as its documentation recommends. All of them
//! decode an event that is neither `Clone` nor `Debug`.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test with its own `main`"
)]

mod cases;
#[path = "../support/log.rs"]
mod log;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;

use base64::prelude::{BASE64_STANDARD, Engine};
use cases::{Cut, Event, Outcome, OwnError, PATH, Report, Seen, Transport, handle, layer};
use http::StatusCode;
use log::Log;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_inqud::Webhook;
use tracing_subscriber::util::SubscriberInitExt;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

mod axum_server {
    use super::{
        Event, OwnError, PATH, Seen, ServiceBuilder, SocketAddr, StatusCode, Webhook, handle,
        layer, listen,
    };
    use axum::Router;
    use axum::body::Body;
    use axum::extract::State;
    use axum::routing::post;

    pub async fn on_webhook(
        State(seen): State<Seen>,
        hook: Webhook<Event>,
        body: Body,
    ) -> StatusCode {
        seen.handle(Some(&hook), body).await
    }

    pub async fn serve(app: Router) -> SocketAddr {
        let (listener, address) = listen().await;
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    /// The layer on a route, as the documentation of this crate recommends.
    pub async fn route(seen: Seen) -> SocketAddr {
        serve(Router::new().route(PATH, post(on_webhook).layer(layer())).with_state(seen)).await
    }

    /// A service with a custom error type, which axum needs converted into a response.
    pub async fn service(seen: Seen) -> SocketAddr {
        let service = ServiceBuilder::new()
            .layer(layer())
            .service(tower::service_fn(move |request| handle(seen.clone(), request)));
        let handled = axum::error_handling::HandleError::new(service, |_: OwnError| async {
            StatusCode::INTERNAL_SERVER_ERROR
        });
        serve(Router::new().route_service(PATH, handled)).await
    }
}

mod tonic_server {
    use super::{
        Infallible, OwnError, PATH, Seen, ServiceBuilder, SocketAddr, axum_server, layer, listen,
    };
    use axum::Router;
    use axum::routing::post;
    use tonic::service::Routes;
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;

    async fn with_grpc() -> Routes {
        let (_reporter, health) = tonic_health::server::health_reporter();
        Routes::new(health)
    }

    /// The layer around the whole server, limited to the path, with a custom error type inside.
    pub async fn around(seen: Seen) -> SocketAddr {
        let mut routes = with_grpc().await;
        let webhooks = Router::new().route(PATH, post(axum_server::on_webhook)).with_state(seen);
        let router = std::mem::take(routes.axum_router_mut());
        *routes.axum_router_mut() = router.merge(webhooks);

        let layers = ServiceBuilder::new()
            .layer(layer().path(PATH).unwrap())
            .map_err(|never: Infallible| -> OwnError { match never {} })
            .into_inner();
        let (listener, address) = listen().await;
        let mut server = Server::builder().accept_http1(true).layer(layers);
        let server = server.add_routes(routes);
        let incoming = TcpIncoming::from(listener);
        tokio::spawn(async move { server.serve_with_incoming(incoming).await });
        address
    }

    /// An axum route beside those of tonic, with the layer on this route.
    pub async fn beside(seen: Seen) -> SocketAddr {
        let route = post(axum_server::on_webhook).layer(layer());
        let webhooks = Router::new().route(PATH, route).with_state(seen);
        let router = with_grpc().await.into_axum_router().merge(webhooks);
        axum_server::serve(router).await
    }
}

async fn hyper_server(seen: Seen) -> SocketAddr {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::server::conn::auto;
    use hyper_util::service::TowerToHyperService;

    let service = ServiceBuilder::new()
        .layer(layer())
        .service(tower::service_fn(move |request| handle(seen.clone(), request)));
    let service = TowerToHyperService::new(service);
    let (listener, address) = listen().await;
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

/// AWS Lambda, in process: turns an event into a response.
async fn lambda(seen: &Seen) -> (usize, usize) {
    use lambda_http::{IntoResponse, request};
    use tower::ServiceExt;

    let handler_sees = seen.clone();
    let service = ServiceBuilder::new()
        .layer(layer())
        .service(tower::service_fn(move |request| handle(handler_sees.clone(), request)));

    let mut total = (0, 0);
    for base64 in [false, true] {
        let encoding = if base64 { "base64" } else { "text" };
        let mut report =
            Report::new(&format!("lambda, API Gateway events with a body in {encoding}"));
        for case in cases::cases() {
            if case.call.cut != Cut::Whole {
                report.note(case.name, "an event contains the whole body");
                continue;
            }
            let text = std::str::from_utf8(&case.call.body);
            if text.is_err() && !base64 {
                report.note(case.name, "such a body is always in base64");
                continue;
            }
            let event = lambda_event(&case.call, base64);
            let request = request::from_str(&event.to_string()).unwrap();
            let response = service.clone().oneshot(request).await.unwrap().into_response().await;
            let outcome = Outcome { status: response.status().as_u16(), lives: true };
            let expected = Outcome { status: case.status, lives: true };
            let body = (case.status == 200).then_some(&case.call.body);
            report.check(case.name, &Ok(outcome), &expected, &seen.take(), body);
        }
        let (passed, failed) = report.finish();
        total = (total.0 + passed, total.1 + failed);
    }
    total
}

/// The event that API Gateway makes from a call: payload format 2.0, with repeated headers joined by a comma.
fn lambda_event(call: &cases::Call, base64: bool) -> serde_json::Value {
    let mut headers = serde_json::Map::new();
    headers.insert("content-length".to_owned(), call.body.len().to_string().into());
    for (name, value) in &call.headers {
        let joined = match headers.get(*name).and_then(|first| first.as_str()) {
            Some(first) => format!("{first},{value}"),
            None => value.clone(),
        };
        headers.insert((*name).to_owned(), joined.into());
    }
    let body = match base64 {
        true => BASE64_STANDARD.encode(&call.body),
        false => String::from_utf8(call.body.to_vec()).unwrap(),
    };
    serde_json::json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": PATH,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "api",
            "domainName": "api.example",
            "http": {
                "method": call.method.as_str(),
                "path": PATH,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": ""
            },
            "requestId": "1",
            "routeKey": "$default",
            "stage": "$default",
            "time": "22/Nov/2026:10:00:00 +0000",
            "timeEpoch": 0
        },
        "body": body,
        "isBase64Encoded": base64
    })
}

/// The line of the log at TRACE, if any, that shows a secret or a digest of any call.
fn leaked(log: &Log) -> Option<String> {
    let digests = cases::cases().into_iter().flat_map(|case| case.call.headers);
    let digests = digests.filter(|(name, _)| name.eq_ignore_ascii_case("x-payload-digest"));
    let hidden: Vec<String> =
        digests.map(|(_, digest)| digest).filter(|it| it.len() >= 40).collect();
    assert!(hidden.len() > 20, "the cases have digests");
    log.line_with(hidden.iter().map(String::as_str).chain([cases::SECRET]))
}

#[tokio::main]
async fn main() -> ExitCode {
    let log = Log::default();
    log.subscriber().init();
    let (mut passed, mut failed) = (0, 0);
    let mut add = |(p, f): (usize, usize)| {
        passed += p;
        failed += f;
    };
    macro_rules! both {
        ($name:literal, $server:path) => {
            let seen = Seen::default();
            let address = $server(seen.clone()).await;
            let name = concat!($name, ", HTTP/1.1");
            add(cases::run(name, Transport::Http1(address), &seen, &[]).await);
            let name = concat!($name, ", HTTP/2");
            add(cases::run(name, Transport::Http2(address), &seen, &[]).await);
        };
    }
    both!("axum", axum_server::route);
    both!("axum, a service with its own error", axum_server::service);
    both!("tonic, around the server", tonic_server::around);
    both!("tonic, a route beside", tonic_server::beside);
    both!("hyper", hyper_server);
    add(lambda(&Seen::default()).await);

    println!("\n{passed} passed, {failed} failed");
    if let Some(line) = leaked(&log) {
        println!("a secret or a digest in the log: {line}");
        failed += 1;
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
