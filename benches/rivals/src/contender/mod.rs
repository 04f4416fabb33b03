//! Who does the job in Rust: each an axum router with one route.

mod axum_github;
mod floor;
mod hand;
mod layer;
mod tower_github;
mod webhook_verify;

use axum::Router;
use axum::http::StatusCode;
use tower_inqud::PaymentRequest;

use crate::sample::Scheme;

pub struct Contender {
    pub name: &'static str,
    pub how: &'static str,
    pub scheme: Scheme,
    /// With a body limit in bytes, where the contender has one that can be set.
    pub router: fn(limit: usize) -> Router,
}

pub const FLOOR: &str = "floor";
pub const LAYER: &str = "tower-inqud";
pub const HAND: &str = "hand-written";

pub const ALL: [Contender; 7] = [
    Contender {
        name: FLOOR,
        how: "an axum route that reads the body and answers 200: no check, no parse",
        scheme: Scheme::Nobody,
        router: floor::router,
    },
    Contender {
        name: LAYER,
        how: "this crate's layer on an axum route",
        scheme: Scheme::Inqud,
        router: layer::router,
    },
    Contender {
        name: HAND,
        how: "an axum handler with `Bytes`, `hmac`, `hex::decode`, `verify_slice`, `from_slice`",
        scheme: Scheme::Inqud,
        router: hand::router,
    },
    Contender {
        name: "webhook-verify fn",
        how: "`verify` with a custom scheme in an axum handler, then `from_slice`",
        scheme: Scheme::Inqud,
        router: webhook_verify::function,
    },
    Contender {
        name: "webhook-verify layer",
        how: "`VerifyLayer` with a custom scheme, behind `HandleErrorLayer` so that it compiles, then `from_slice`",
        scheme: Scheme::Inqud,
        router: webhook_verify::layer,
    },
    Contender {
        name: "tower-github-webhook",
        how: "its layer and its own scheme, then `from_slice`",
        scheme: Scheme::GitHub,
        router: tower_github::router,
    },
    Contender {
        name: "axum-github-webhook-extract",
        how: "its extractor and its own scheme",
        scheme: Scheme::GitHub,
        router: axum_github::router,
    },
];

pub fn find(name: &str) -> &'static Contender {
    ALL.iter().find(|contender| contender.name == name).expect("the name of a contender")
}

/// What a merchant's own handler does once the signature is right.
fn parsed(body: &[u8]) -> Result<StatusCode, StatusCode> {
    let request: PaymentRequest =
        serde_json::from_slice(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    assert!(request.id.starts_with("CAPD-"));
    Ok(StatusCode::OK)
}
