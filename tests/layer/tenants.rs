//! Several tenants, each with secrets of its own.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::Layer;
use tower_inqud::RejectionKind::{DigestMismatch, MethodNotAllowed, UnknownTenant};
use tower_inqud::{
    PaymentRequest, Rejection, RejectionKind, Secret, Undecodable, Verifier, WebhookBody,
    WebhookLayer, contract, sign,
};

use crate::support::{Inner, REQUEST, Script, Step, call, text};

/// A secret with the bytes of the tenant's name.
fn secret(tenant: &str) -> Secret {
    Secret::new(format!("secret of {tenant}")).unwrap()
}

/// Tenants by host, and by the first segment of the path on the host `shared`.
fn layer() -> WebhookLayer<PaymentRequest> {
    WebhookLayer::per_tenant(|request| {
        let host = request.headers.get("host")?.to_str().ok()?;
        let tenant = if host == "shared" { request.uri.path().split('/').nth(1)? } else { host };
        let known = ["acme", "globex"].contains(&tenant);
        known.then(|| Verifier::new(secret(tenant)).tenant(tenant))
    })
}

fn request<B>(host: &str, path: &str, signed_by: &str, body: &str, sent: B) -> Request<B> {
    Request::post(path)
        .header("host", host)
        // As text, because a header made of a `Digest` is sensitive already.
        .header(contract::DIGEST_HEADER, sign(&secret(signed_by), body.as_bytes()).to_string())
        .body(sent)
        .unwrap()
}

fn rejected<B>(response: &http::Response<B>) -> Option<RejectionKind> {
    response.extensions().get::<Rejection>().map(Rejection::kind)
}

#[tokio::test]
async fn nothing_crosses_between_tenants() {
    for (host, path, signed_by, accepted_as) in [
        ("acme", "/", "acme", Some("acme")),
        ("globex", "/", "globex", Some("globex")),
        ("acme", "/", "globex", None),
        ("globex", "/", "acme", None),
        ("shared", "/acme/request", "acme", Some("acme")),
        ("shared", "/globex/request", "globex", Some("globex")),
        ("shared", "/acme/request", "globex", None),
        ("shared", "/globex/request", "acme", None),
    ] {
        let inner = Inner::<PaymentRequest>::new();
        let body = Full::new(Bytes::from(REQUEST));
        let request = request(host, path, signed_by, REQUEST, body);
        let response = call(layer().layer(inner.clone()), request).await;
        let seen = inner.seen();
        assert_eq!(seen.first().and_then(|it| it.tenant()), accepted_as, "{host}{path}");
        let expected = if accepted_as.is_some() { None } else { Some(DigestMismatch) };
        assert_eq!(rejected(&response), expected, "{host}{path} signed by {signed_by}");
    }
}

#[tokio::test]
async fn unknown_tenant_is_refused_before_the_body() {
    let inner = Inner::<PaymentRequest>::new();
    let body = Script::new([Step::data(REQUEST)]);
    let polls = body.polls();
    let request = request("initech", "/", "acme", REQUEST, body);
    let response = call(layer().layer(inner.clone()), request).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(rejected(&response), Some(UnknownTenant));
    assert_eq!(text(response).await, "no webhooks are expected here");
    assert_eq!((polls.load(Ordering::SeqCst), inner.calls()), (0, 0));

    let mut get = Request::new(Script::new([]));
    get.headers_mut().insert("host", "initech".parse().unwrap());
    let response = call(layer().layer(inner), get).await;
    assert_eq!(rejected(&response), Some(MethodNotAllowed));
}

/// A panic of the merchant's function costs one call, in the future.
#[tokio::test]
async fn function_that_panics_spoils_one_call() {
    let calls = Arc::new(AtomicUsize::new(0));
    let layer = WebhookLayer::<PaymentRequest>::per_tenant(move |request| {
        assert!(request.headers[contract::DIGEST_HEADER].is_sensitive());
        assert!(calls.fetch_add(1, Ordering::SeqCst) > 0, "a bug");
        Some(Verifier::new(secret("acme")).tenant("acme"))
    });
    let inner = Inner::<PaymentRequest>::new();
    let service = tower::ServiceBuilder::new().buffer(4).layer(layer).service(inner.clone());
    let send = || request("acme", "/", "acme", REQUEST, Full::new(Bytes::from(REQUEST)));
    let first = tokio::spawn(call(service.clone(), send()));
    assert!(first.await.unwrap_err().is_panic());
    assert_eq!(call(service, send()).await.status(), StatusCode::OK);
    assert_eq!(inner.calls(), 1);
}

#[tokio::test]
async fn undecodable_body_keeps_its_tenant() {
    let inner = tower::service_fn(async |request: Request<WebhookBody<Full<Bytes>>>| {
        let undecodable = request.extensions().get::<Undecodable<PaymentRequest>>().unwrap();
        assert_eq!(undecodable.tenant(), Some("globex"));
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let service = layer().forward_undecodable().layer(inner);
    let body = r#"{"id":17}"#;
    let request = request("globex", "/", "globex", body, Full::new(Bytes::from(body)));
    assert_eq!(call(service, request).await.status(), StatusCode::OK);
}
