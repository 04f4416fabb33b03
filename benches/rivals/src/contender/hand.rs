use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::sample::{PATH, SECRET};

pub fn router(limit: usize) -> Router {
    Router::new()
        .route(PATH, post(on_request))
        .layer(DefaultBodyLimit::max(limit))
        .with_state(SECRET)
}

async fn on_request(
    State(secret): State<&'static str>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, StatusCode> {
    let digest = headers.get("x-payload-digest").ok_or(StatusCode::UNAUTHORIZED)?;
    let digest = hex::decode(digest).map_err(|_| StatusCode::UNAUTHORIZED)?;
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(&body);
    mac.verify_slice(&digest).map_err(|_| StatusCode::UNAUTHORIZED)?;
    super::parsed(&body)
}
