use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use tower_github_webhook::ValidateGitHubWebhookLayer;

use crate::sample::{PATH, SECRET};

/// There is no limit.
pub fn router(_: usize) -> Router {
    Router::new().route(PATH, post(on_request).layer(ValidateGitHubWebhookLayer::new(SECRET)))
}

async fn on_request(body: Bytes) -> Result<StatusCode, StatusCode> {
    super::parsed(&body)
}
