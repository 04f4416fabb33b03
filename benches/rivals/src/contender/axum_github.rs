use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::post;
use axum_github_webhook_extract::{GithubEvent, GithubToken};
use tower_inqud::PaymentRequest;

use crate::sample::{PATH, SECRET};

pub fn router(limit: usize) -> Router {
    Router::new()
        .route(PATH, post(on_request))
        .layer(DefaultBodyLimit::max(limit))
        .with_state(GithubToken(Arc::new(SECRET.to_owned())))
}

async fn on_request(GithubEvent(request): GithubEvent<PaymentRequest>) -> StatusCode {
    assert!(request.id.starts_with("CAPD-"));
    StatusCode::OK
}
