//! A subscriber at TRACE sees neither a secret nor a digest, with real servers and clients.
#![allow(clippy::unwrap_used, reason = "clippy.toml does not reach the helpers of tests")]

#[path = "support/log.rs"]
mod log;
mod support;

use std::net::SocketAddr;

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Version};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use log::Log;
use support::{REQUEST, SECRET, digest, layer};
use tower::ServiceBuilder;
use tower_http::trace::{DefaultMakeSpan, TraceLayer};
use tower_inqud::{Ack, PaymentRequest, Webhook, contract};
use tracing_subscriber::util::SubscriberInitExt;

async fn serve() -> SocketAddr {
    let webhooks = layer::<PaymentRequest>().on_rejection(|rejection, request| {
        tracing::warn!(?rejection, ?request.headers, "refused");
    });
    let handler = async |request: Webhook<PaymentRequest>| {
        tracing::info!(?request, digest = ?request.digest(), "handled");
        Ack::Done
    };
    let headers = DefaultMakeSpan::new().include_headers(true);
    let trace = TraceLayer::new_for_http().make_span_with(headers);
    // Inside the webhook layer, which marks the digest as sensitive.
    let layers = ServiceBuilder::new().layer(webhooks).layer(trace);
    let app = Router::new().route("/", post(handler).layer(layers));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn trace_shows_neither_secret_nor_digest() {
    let log = Log::default();
    log.subscriber().init();
    let address = serve().await;
    let right = digest(REQUEST);
    let another = digest("another body");
    let twice = [right.as_str(), right.as_str()];
    let cases: [(&[&str], StatusCode); 5] = [
        (&[&right], StatusCode::OK),
        (&[&another], StatusCode::UNAUTHORIZED),
        (&[right.split_at(39).0], StatusCode::UNAUTHORIZED),
        (&twice, StatusCode::UNAUTHORIZED),
        (&[], StatusCode::UNAUTHORIZED),
    ];
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
            .http2_only(version == Version::HTTP_2)
            .build_http();
        for (digests, status) in cases {
            let mut request = Request::post(format!("http://{address}/"))
                .version(version)
                .body(Full::from(REQUEST))
                .unwrap();
            for digest in digests {
                // The client logs in this process too, so it has to hide the digest.
                let mut value = HeaderValue::try_from(*digest).unwrap();
                value.set_sensitive(true);
                request.headers_mut().append(contract::DIGEST_HEADER, value);
            }
            let response = client.request(request).await.unwrap();
            assert_eq!((response.version(), response.status()), (version, status));
        }
    }

    let text = log.text();
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes = format!("{:?}", SECRET.as_bytes());
    let bytes = bytes.trim_matches(['[', ']']);
    assert_eq!(log.line_with([SECRET, &hex, bytes, right.split_at(39).0, &another]), None);
    // Shows that the log has the traces of the servers, with the heads.
    for shown in ["TRACE", "DEBUG", "h2::", "hyper_util::", "Sensitive", "handled", "refused"] {
        assert!(text.contains(shown), "{shown} in {} bytes", text.len());
    }
}
