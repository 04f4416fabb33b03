//! The pages of customers: products, an order, its payment.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use serde::Deserialize;

use crate::page::{self, Failure, Front, ProductPage};
use crate::played::{OUTCOMES, Played};
use crate::product::{self, Product};
use crate::shop::Shop;

pub fn routes() -> Router<Arc<Shop>> {
    Router::new()
        .route("/", get(async || page::html(&Front::new())))
        .route("/products/{slug}", get(product))
        .route("/orders", post(order))
        .route("/orders/{id}", get(payment))
        .route("/orders/{id}/events", get(events))
}

async fn product(State(shop): State<Arc<Shop>>, Path(slug): Path<String>) -> Response {
    match product::find(&slug) {
        Some(product) => page::html(&product_page(&shop, product, String::new(), None)),
        None => page::not_found(),
    }
}

fn product_page(
    shop: &Shop,
    product: &'static Product,
    recipient: String,
    error: Option<&'static str>,
) -> ProductPage {
    let outcomes = if shop.mock.is_some() { OUTCOMES } else { &[] };
    ProductPage { product, recipient, error, outcomes }
}

#[derive(Deserialize)]
struct NewOrder {
    product: String,
    recipient: String,
    outcome: Option<String>,
}

/// The most characters of a name.
const NAME: usize = 80;

async fn order(
    State(shop): State<Arc<Shop>>,
    Form(form): Form<NewOrder>,
) -> Result<Response, Failure> {
    let Some(product) = product::find(&form.product) else { return Ok(page::not_found()) };
    let recipient = form.recipient.trim().to_owned();
    let error = match recipient.chars().count() {
        0 => Some("Please enter a name for the parcel."),
        1..=NAME if recipient.chars().any(char::is_control) => {
            Some("Please enter a name in one line.")
        }
        1..=NAME => None,
        _ => Some("Please enter at most 80 characters."),
    };
    if error.is_some() {
        let page = page::html(&product_page(&shop, product, recipient, error));
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    let id = shop.order(product, &recipient).await?;
    if let Some(mock) = &shop.mock {
        // If the mock is busy, this order stays unpaid.
        _ = mock.try_send(Played::chosen(id.clone(), form.outcome.as_deref()));
    }
    Ok(Redirect::to(&format!("/orders/{id}")).into_response())
}

async fn payment(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    Ok(match shop.find(&id).await? {
        Some(order) => page::payment(&order),
        None => page::not_found(),
    })
}

/// The changes of an order, as server-sent events. The first one is its state of now.
async fn events(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    if shop.find(&id).await?.is_none() {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    Ok(match shop.live.follow(id) {
        // The comments detect clients that are gone.
        Some(events) => Sse::new(events)
            .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
            .into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    })
}
