use axum::Router;
use axum::body::{Body, Bytes};
use axum::error_handling::HandleErrorLayer;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::post;
use tower::ServiceBuilder;
use webhook_verify::tower::VerifyLayer;
use webhook_verify::{CustomScheme, Encoding, HashAlg, Provider, Secret, verify};

use crate::sample::{PATH, SECRET};

const INQUD: Provider = Provider::Custom(CustomScheme {
    hash: HashAlg::Sha1,
    signature_header: "x-payload-digest",
    timestamp_header: None,
    encoding: Encoding::Hex,
    prefix: None,
    signed_string: |_, body| body.to_vec(),
});

pub fn function(limit: usize) -> Router {
    Router::new().route(PATH, post(verified)).layer(DefaultBodyLimit::max(limit))
}

async fn verified(headers: HeaderMap, body: Bytes) -> Result<StatusCode, StatusCode> {
    verify(INQUD, &headers, &body, &Secret::new(SECRET), Default::default())
        .map_err(|_| StatusCode::UNAUTHORIZED)?;
    super::parsed(&body)
}

/// The documented use does not compile. The layer's error is a `BoxError`, which axum takes only once it
/// is handled; and with axum's `Body` it is neither `Clone` nor `Sync`, so that it gives `Bytes`, which
/// have to be made a body again. It has no limit of its own.
pub fn layer(limit: usize) -> Router {
    let verified = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(|_| async { StatusCode::BAD_REQUEST }))
        .layer(VerifyLayer::<Bytes>::new(INQUD, Secret::new(SECRET)))
        .map_request(|request: Request<Bytes>| request.map(Body::from));
    let on_request = async |body: Bytes| super::parsed(&body);
    Router::new().route(PATH, post(on_request).layer(verified)).layer(DefaultBodyLimit::max(limit))
}
