//! Headers of every response, a check of where forms come from, and a time limit.

use std::time::Duration;

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::page;

/// Scripts, styles and pictures come from this server's own files, and nothing is inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    // Pages show orders, so no cache may keep them. The assets set their own.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Ends requests whose body does not come. A page that follows has its response long before.
pub async fn in_time(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(Duration::from_secs(10), next.run(request)).await;
    let text = "The request took too long. Please try again.";
    answered.unwrap_or_else(|_| page::message(StatusCode::REQUEST_TIMEOUT, "Too slow", text))
}

/// Refuses forms that a page of another site sends. Browsers add this header by themselves, over HTTPS and on
/// localhost. The operator's forms have a token besides.
pub async fn same_site(request: Request, next: Next) -> Response {
    let from = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_foreign = !matches!(from, None | Some(b"same-origin" | b"none"));
    if is_foreign && request.method() != Method::GET && request.method() != Method::HEAD {
        let text = "This form was sent by another site. Open the shop, and try it there.";
        return page::message(StatusCode::FORBIDDEN, "Not from here", text);
    }
    next.run(request).await
}
