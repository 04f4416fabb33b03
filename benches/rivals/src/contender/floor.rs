use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::post;

use crate::sample::PATH;

pub fn router(limit: usize) -> Router {
    Router::new().route(PATH, post(on_request)).layer(DefaultBodyLimit::max(limit))
}

async fn on_request(_: Bytes) -> StatusCode {
    StatusCode::OK
}
