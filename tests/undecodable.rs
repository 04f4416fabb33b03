//! `forward_undecodable` passes authentic bodies that cannot be decoded on to the inner service.
#![allow(clippy::unwrap_used, reason = "clippy.toml does not reach the helpers of tests")]

mod support;

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use tower::{Layer, service_fn};
use tower_inqud::{
    Ack, Rejection, RejectionKind, Undecodable, Webhook, WebhookBody, WebhookLayer, danger,
};

#[derive(Debug, Deserialize)]
struct First {
    #[serde(rename = "amount")]
    _amount: u32,
}

fn forwarding() -> WebhookLayer<First> {
    support::layer().forward_undecodable()
}

#[tokio::test]
async fn any_service_can_read_a_forwarded_body() {
    let inner = service_fn(async |request: Request<WebhookBody<Full<bytes::Bytes>>>| {
        let undecodable = request.extensions().get::<Undecodable<First>>().cloned().unwrap();
        assert!(request.extensions().get::<Webhook<First>>().is_none());
        let debug = format!("{undecodable:?}");
        assert!(debug.contains("NotJson") && !debug.contains("hello"), "{debug}");
        let text = undecodable.raw_body().clone();
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), text);
        assert_eq!(undecodable.rejection().kind(), RejectionKind::NotJson);
        Ok::<_, Infallible>(Response::<()>::from(Ack::Discard("no text".into())))
    });
    let response = support::call(forwarding().layer(inner), support::signed("hello")).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn handler_response_carries_the_rejection() {
    let inner = service_fn(async |request: Request<WebhookBody<Full<bytes::Bytes>>>| {
        let (mut parts, _) = request.into_parts();
        let rejection = Webhook::<First>::from_request_parts(&mut parts, &()).await.unwrap_err();
        Ok::<_, Infallible>(axum::response::IntoResponse::into_response(rejection))
    });
    let body = r#"{"amount":"7"}"#;
    let response = support::call(forwarding().layer(inner), support::signed(body)).await;
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.field_path(), Some("amount"));
}

/// `danger::decode` decodes as the layer does.
#[test]
fn redecoding_a_stored_body_gives_the_same_rejection() {
    for (body, kind) in [
        (&b"hello"[..], RejectionKind::NotJson),
        (b"{\"id\":\"\xff\"}", RejectionKind::NotJson),
        (b"[]", RejectionKind::UnexpectedShape),
        (br#"{"amount":"7"}"#, RejectionKind::UnexpectedShape),
    ] {
        assert_eq!(danger::decode::<First>(body).unwrap_err().kind(), kind);
    }
    assert_eq!(danger::decode::<First>(br#"{"amount":7}"#).unwrap()._amount, 7);
}
