//! A layer that is limited to a path does not touch other paths.

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use crate::support;
use crate::support::{SMALL, Script, Step, call, layer, signed_as};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use tower::Layer;
use tower_inqud::{ConfigError, PaymentRequest, Webhook, WebhookBody, WebhookLayer};

fn limited() -> WebhookLayer<PaymentRequest> {
    layer().path("/hook").unwrap().path("/old/hook").unwrap()
}

fn to(uri: &str) -> Request<Script> {
    let mut request = signed_as(SMALL, Script::new([Step::data(SMALL)]));
    *request.uri_mut() = uri.parse().unwrap();
    request
}

/// Answers 204, with a header that says whether there was a webhook.
async fn handler(request: Request<WebhookBody<Script>>) -> Result<Response<String>, Infallible> {
    let verified = request.extensions().get::<Webhook<PaymentRequest>>().is_some();
    let mut response = Response::new(verified.to_string());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

#[tokio::test]
async fn handles_only_the_exact_path() {
    let table = [
        ("/hook", true),
        ("/hook?query=1", true),
        ("http://shop.example/hook", true),
        ("/old/hook", true),
        ("/", false),
        ("/hook/", false),
        ("//hook", false),
        ("/Hook", false),
        ("/h%6fok", false),
        ("/hook/more", false),
        ("/new/hook", false),
        ("*", false),
    ];
    let service = limited().layer(tower::service_fn(handler));
    for (uri, admitted) in table {
        let response = call(service.clone(), to(uri)).await;
        let status = if admitted { 200 } else { 204 };
        assert_eq!(response.status(), status, "{uri}");
        assert_eq!(support::text(response).await, admitted.to_string(), "{uri}");
    }
}

#[tokio::test]
async fn does_not_touch_other_paths() {
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body =
        Script::new([Step::data("one"), Step::data("two"), Step::Trailers(trailers.clone())]);
    let polls = body.polls();
    let echo = tower::service_fn(async |request: Request<WebhookBody<Script>>| {
        assert_eq!(request.extensions().get(), Some(&7));
        assert_eq!(request.headers().len(), 1);
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let request = Request::put("/upload").extension(7).header("x-payload-digest", "not one");
    let request = request.body(body).unwrap();
    let response = call(limited().layer(echo), request).await;
    assert_eq!(polls.load(Ordering::SeqCst), 0, "not buffered");

    let mut body = response.into_body();
    for data in ["one", "two"] {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), data);
    }
    assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn keeps_size_hints_and_errors_of_other_paths() {
    let mut body = Script::new([Step::Error(std::io::ErrorKind::BrokenPipe.into())]);
    body.hint = http_body::SizeHint::with_exact(17);
    body.claims_end = true;
    let echo = tower::service_fn(async |request: Request<WebhookBody<Script>>| {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let request = Request::get("/").body(body).unwrap();
    let mut body = call(limited().layer(echo), request).await.into_body();
    assert_eq!(body.size_hint().exact(), Some(17));
    assert!(body.is_end_stream());
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn rejects_a_path_that_no_request_can_have() {
    for path in [
        "",
        "hook",
        "*",
        "/hook?query",
        "/hook#part",
        "/two words",
        "http://a/hook",
        "/{shop}",
        "/hooks/*",
        // Characters that clients percent-encode.
        "/zahlung/ü",
        "/\"quoted\"",
        "/a\\b",
        "/a^b",
        "/a|b",
        "/a[0]",
        // Malformed percent-encoding.
        "/100%",
        "/%c",
        "/%zz",
        // Segments that clients remove.
        "/.",
        "/a/../hook",
        "/./hook",
        "/a/%2E%2e/hook",
        "/.%2e",
    ] {
        let error = layer::<PaymentRequest>().path(path).unwrap_err();
        assert_eq!(error, ConfigError::InvalidPath(path.to_owned()), "{path:?}");
    }
    for path in ["/", "/zahlung/%C3%BC", "//", "/a/...", "/.well-known/a~b;c=1,2:@!$&'()+"] {
        assert!(layer::<PaymentRequest>().path(path).is_ok(), "{path:?}");
    }
}
