//! The operator's pages: orders and their notifications, dead letters, reviews, and what to do about them.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use inqud_inbox::rusqlite::Connection;
use inqud_inbox::{Filter, Key};
use serde::Deserialize;

use crate::access::Session;
use crate::body;
use crate::hex;
use crate::note::Note;
use crate::order::Order;
use crate::page::{self, Dashboard, Failure, Login, NotificationPage, OrderPage};
use crate::shop::Shop;

pub fn routes() -> Router<Arc<Shop>> {
    Router::new()
        .route("/operator", get(dashboard))
        .route("/operator/login", get(async || page::html(&Login { error: None })).post(log_in))
        .route("/operator/logout", post(log_out))
        .route("/operator/orders/{id}", get(order))
        .route("/operator/notifications/{key}", get(notification).post(act))
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

async fn log_in(State(shop): State<Arc<Shop>>, Form(form): Form<Token>) -> Response {
    match shop.access.log_in(form.token.trim()) {
        Some(cookie) => ([(SET_COOKIE, cookie)], Redirect::to("/operator")).into_response(),
        None => {
            let page = page::html(&Login { error: Some("This is not the operator's token.") });
            (StatusCode::FORBIDDEN, page).into_response()
        }
    }
}

#[derive(Deserialize)]
struct LogOut {
    csrf: String,
}

async fn log_out(
    session: Session,
    State(shop): State<Arc<Shop>>,
    Form(form): Form<LogOut>,
) -> Response {
    if !shop.access.is_form_of(&session, &form.csrf) {
        return stale_form();
    }
    ([(SET_COOKIE, shop.access.log_out())], Redirect::to("/operator/login")).into_response()
}

/// What the page says about an action that was just done.
#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

impl Done {
    fn text(&self) -> Option<&'static str> {
        Some(match self.done.as_deref()? {
            "redrive" => "Requeued. It is handled again now.",
            "discard" => "Discarded. It will not be handled.",
            "reprocess" => "Requeued, with everything about this object that was handled after it.",
            "busy" => "Nothing changed: its object is being handled. Try again.",
            _ => "Nothing changed: this is not possible in its state.",
        })
    }
}

async fn dashboard(
    session: Session,
    State(shop): State<Arc<Shop>>,
    Query(done): Query<Done>,
) -> Result<Response, Failure> {
    let read = |db: &Connection| Ok((Order::latest(db, 50)?, Note::list(db, None)?));
    let (orders, notes) = shop.database.read(read).await?;
    Ok(page::html(&Dashboard {
        csrf: session.csrf,
        pages: shop.live.pages(),
        stats: shop.inbox.stats().await?,
        orders,
        dead: shop.inbox.dead(20).await?,
        review: shop.inbox.review(20).await?,
        notes,
        rejections: shop.inbox.rejections(5).await?,
        done: done.text(),
    }))
}

async fn order(
    session: Session,
    State(shop): State<Arc<Shop>>,
    Path(id): Path<String>,
    Query(done): Query<Done>,
) -> Result<Response, Failure> {
    let find = id.clone();
    let read = move |db: &Connection| Ok((Order::find(db, &find)?, Note::list(db, Some(&find))?));
    let (Some(order), notes) = shop.database.read(read).await? else {
        return Ok(page::not_found());
    };
    let entries = shop.inbox.list(Filter::new().order_id(&id), 100).await?.entries;
    Ok(page::html(&OrderPage { csrf: session.csrf, order, entries, notes, done: done.text() }))
}

async fn notification(
    session: Session,
    State(shop): State<Arc<Shop>>,
    Path(key): Path<String>,
    Query(done): Query<Done>,
) -> Result<Response, Failure> {
    let Some(key) = hex::decode(&key).map(Key::from_bytes) else { return Ok(page::not_found()) };
    let Some(entry) = shop.inbox.show(key).await? else { return Ok(page::not_found()) };
    let body = body::in_lines(&String::from_utf8_lossy(&entry.body));
    Ok(page::html(&NotificationPage { csrf: session.csrf, entry, body, done: done.text() }))
}

#[derive(Deserialize)]
struct Act {
    csrf: String,
    action: String,
}

/// Redrives, discards or reprocesses a notification. To accept one that is kept for review is to redrive it.
async fn act(
    session: Session,
    State(shop): State<Arc<Shop>>,
    Path(key): Path<String>,
    Form(form): Form<Act>,
) -> Result<Response, Failure> {
    if !shop.access.is_form_of(&session, &form.csrf) {
        return Ok(stale_form());
    }
    let Some(key) = hex::decode(&key).map(Key::from_bytes) else { return Ok(page::not_found()) };
    let done = match form.action.as_str() {
        "redrive" if shop.inbox.redrive([key]).await? > 0 => "redrive",
        "discard" if shop.inbox.discard([key]).await? > 0 => "discard",
        "reprocess" => match shop.inbox.reprocess([key]).await? {
            reprocessed if reprocessed.requeued > 0 => "reprocess",
            reprocessed if !reprocessed.busy.is_empty() => "busy",
            _ => "nothing",
        },
        _ => "nothing",
    };
    Ok(Redirect::to(&format!("/operator/notifications/{key}?done={done}")).into_response())
}

fn stale_form() -> Response {
    let text = "This form belongs to another session. Go back, reload the page and try again.";
    page::message(StatusCode::FORBIDDEN, "Please try again", text)
}
