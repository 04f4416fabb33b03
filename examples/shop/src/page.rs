//! The templates of pages. They escape whatever they insert.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use inqud_inbox::{Entry, LoggedRejection, Stats};

use crate::error::BoxError;
use crate::note::Note;
use crate::order::Order;
use crate::phase::Phase;
use crate::product::{PRODUCTS, Product};
use crate::qr::{Qr, qr};

#[derive(Template)]
#[template(path = "front.html")]
pub struct Front {
    pub products: &'static [Product],
}

#[derive(Template)]
#[template(path = "product.html")]
pub struct ProductPage {
    pub product: &'static Product,
    pub recipient: String,
    pub error: Option<&'static str>,
    pub outcomes: &'static [(&'static str, &'static str)],
}

#[derive(Template)]
#[template(path = "payment.html")]
pub struct Payment<'a> {
    order: &'a Order,
    phase: Phase,
    qr: Option<Qr>,
}

/// The parts of the payment page that change, as an event has them.
#[derive(Template)]
#[template(path = "live.html")]
struct LiveParts<'a> {
    order: &'a Order,
    phase: Phase,
    qr: Option<Qr>,
}

#[derive(Template)]
#[template(path = "message.html")]
pub struct Message {
    pub title: &'static str,
    pub text: &'static str,
}

#[derive(Template)]
#[template(path = "login.html")]
pub struct Login {
    pub error: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "dashboard.html")]
pub struct Dashboard {
    pub csrf: String,
    pub pages: usize,
    pub stats: Stats,
    pub orders: Vec<Order>,
    pub dead: Vec<Entry>,
    pub review: Vec<Entry>,
    pub notes: Vec<Note>,
    pub rejections: Vec<LoggedRejection>,
    pub done: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "order.html")]
pub struct OrderPage {
    pub csrf: String,
    pub order: Order,
    pub entries: Vec<Entry>,
    pub notes: Vec<Note>,
    pub done: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "notification.html")]
pub struct NotificationPage {
    pub csrf: String,
    pub entry: Entry,
    pub body: String,
    pub done: Option<&'static str>,
}

pub fn payment(order: &Order) -> Response {
    html(&Payment { order, phase: order.phase(), qr: address_qr(order) })
}

pub fn live(order: &Order) -> Result<String, BoxError> {
    Ok(LiveParts { order, phase: order.phase(), qr: address_qr(order) }.render()?)
}

fn address_qr(order: &Order) -> Option<Qr> {
    qr(order.request.as_ref()?.address.as_deref()?)
}

pub fn html(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            println!("cannot render a page: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

pub fn message(status: StatusCode, title: &'static str, text: &'static str) -> Response {
    (status, html(&Message { title, text })).into_response()
}

pub fn not_found() -> Response {
    message(
        StatusCode::NOT_FOUND,
        "Nothing here",
        "This page does not exist. Check its address, or start over.",
    )
}

/// An error of the shop itself. Its cause is logged, and not shown.
pub struct Failure(BoxError);

impl<E: Into<BoxError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        println!("a request failed: {}", self.0);
        let text =
            "Something went wrong on our side. Nothing is lost. Please try again in a moment.";
        message(StatusCode::INTERNAL_SERVER_ERROR, "That did not work", text)
    }
}

impl Front {
    pub fn new() -> Self {
        Self { products: PRODUCTS }
    }
}
