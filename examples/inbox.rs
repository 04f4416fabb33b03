//! A small merchant with a durable inbox: every webhook is stored before it is acknowledged, and handled
//! afterwards. The merchant's writes and "done" are one commit.
//!
//! ```text
//! cargo run --all-features --example inbox             # plays Inqud, prints the merchant's tables, exits
//! cargo run --all-features --example inbox -- --serve  # serves until it is terminated
//! ```
//!
//! The first command delivers webhooks late, twice and out of order, and restarts the merchant in between. It exits
//! with 0 if the merchant's tables are right at the end.
//!
//! The second command listens on `LISTEN` (127.0.0.1:3000 by default), verifies with `INQUD_WEBHOOK_SECRET`, and
//! stores everything in the SQLite file `INBOX_FILE` (a temporary file by default). With `PROCESS=off` it only
//! receives. On SIGTERM it finishes the running handlers and exits. After a `kill -9` it continues where it stopped.
//!
//! | | |
//! | --- | --- |
//! | `POST /webhooks/inqud/request`, `POST /webhooks/inqud/payment` | Inqud's webhooks |
//! | `POST /orders` | a new order: `{"orderId":"17","amount":"99.50","currency":"USD"}` |
//! | `GET /orders/17` | what the handlers wrote about it |
//! | `GET /inbox` | the backlog, and the counts of dead letters, reviews and skipped notifications |
#![allow(clippy::print_stdout, reason = "examples print what they do")]

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{self, State};
use axum::http::{Request, StatusCode};
use axum::routing::{get, post, post_service};
use axum::{Json, Router};
use inqud_inbox::rusqlite::{self, Connection, OpenFlags, OptionalExtension, params};
use inqud_inbox::{Context, Inbox, InboxError, Key, Sqlite, Stored};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tower::ServiceExt;
use tower_inqud::{
    Amount, Notification, OrderType, Payment, PaymentRequest, PaymentStatus, Secret, WebhookLayer,
    contract, sign,
};

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    match env::args().nth(1).as_deref() {
        None => play().await,
        Some("--serve") => serve().await.map(|()| ExitCode::SUCCESS),
        Some(other) => Err(format!("unknown argument {other}: use --serve, or none").into()),
    }
}

// ------------------------------------------------------------------------- the merchant's tables

/// `objects` has a row for each object at Inqud, not for each order. An order can have several Requests and payments,
/// and the state of one must not overwrite the state of another.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY,
    amount TEXT NOT NULL,
    currency TEXT NOT NULL,
    shipped INTEGER NOT NULL DEFAULT 0,
    payment TEXT -- the id of the payment that it was shipped for
);
CREATE TABLE IF NOT EXISTS objects (
    id TEXT PRIMARY KEY,
    order_id TEXT NOT NULL,
    status TEXT NOT NULL,
    paid_amount TEXT,
    is_paid INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS handled (
    number INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL,
    object TEXT NOT NULL,
    status TEXT NOT NULL,
    verdict TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS attention (
    number INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL,
    why TEXT NOT NULL
);";

/// What a notification says about money, for any kind of object.
struct Update {
    object: String,
    order: String,
    status: String,
    paid_amount: Option<String>,
    is_paid: bool,
}

impl Update {
    /// Writes the update, in one commit with "done". Stale notifications do not get here, so the row of an object
    /// never returns to an earlier state.
    fn write(&self, db: &Connection, verdict: &str) -> rusqlite::Result<()> {
        let Self { object, order, status, paid_amount, is_paid } = self;
        db.execute(
            "INSERT INTO objects VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE
             SET status = excluded.status, paid_amount = excluded.paid_amount,
                 is_paid = excluded.is_paid",
            params![object, order, status, paid_amount, is_paid],
        )?;
        db.execute(
            "INSERT INTO handled (order_id, object, status, verdict) VALUES (?1, ?2, ?3, ?4)",
            params![order, object, status, verdict],
        )?;
        Ok(())
    }
}

fn note(db: &Connection, order: &str, why: &str) -> rusqlite::Result<usize> {
    db.execute("INSERT INTO attention (order_id, why) VALUES (?1, ?2)", [order, why])
}

fn ship(db: &Connection, order: &str, payment: &str) -> Result<(), BoxError> {
    let ship = "UPDATE orders SET shipped = shipped + 1, payment = ?2 WHERE id = ?1";
    let updated = db.execute(ship, [order, payment])?;
    // If the update changed no row, a payment would be lost silently.
    if updated == 1 { Ok(()) } else { Err(format!("unknown order {order}").into()) }
}

/// Reads the merchant's tables. The inbox's own connection does all writes.
#[derive(Clone)]
struct Shop {
    file: PathBuf,
}

impl Shop {
    async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, BoxError> {
        let file = self.file.clone();
        let read = move || {
            let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            db.busy_timeout(Duration::from_secs(5))?;
            look(&db)
        };
        Ok(tokio::task::spawn_blocking(read).await??)
    }

    /// The amount and the currency of an order. Neither ever changes.
    async fn price(&self, order: &str) -> Result<Option<(Amount, String)>, BoxError> {
        let order = order.to_owned();
        let price = self.read(move |db| {
            let price = "SELECT amount, currency FROM orders WHERE id = ?1";
            let price =
                db.query_row(price, [order], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
            price.optional()
        });
        let price = price.await?;
        price.map(|(amount, currency)| Ok((amount.parse()?, currency))).transpose()
    }

    /// Reads an order. Returns `None` if there is neither an order nor an object for it.
    async fn order(&self, id: String) -> Result<Option<Order>, BoxError> {
        let read = self.read(move |db| {
            let texts = |sql: &str| -> rusqlite::Result<Vec<String>> {
                db.prepare(sql)?.query_map([&id], |row| row.get(0))?.collect()
            };
            let verdicts =
                texts("SELECT verdict FROM handled WHERE order_id = ?1 ORDER BY number")?;
            let attention = texts("SELECT why FROM attention WHERE order_id = ?1 ORDER BY number")?;
            // The object that paid for the order, or else the one that was handled last.
            let latest = db.query_row(
                "SELECT status, paid_amount, is_paid FROM objects WHERE order_id = ?1
                 ORDER BY is_paid DESC,
                     (SELECT max(number) FROM handled WHERE object = objects.id) DESC LIMIT 1",
                [&id],
                |row| Ok((Some(row.get(0)?), row.get(1)?, row.get(2)?)),
            );
            let latest: Option<(Option<String>, Option<String>, bool)> = latest.optional()?;
            let shipped = "SELECT shipped FROM orders WHERE id = ?1";
            let shipped = db.query_row(shipped, [&id], |row| row.get(0)).optional()?;
            if latest.is_none() && shipped.is_none() {
                return Ok(None);
            }
            let (status, paid_amount, is_paid) = latest.unwrap_or_default();
            let handled = verdicts.len();
            let paid_amount = paid_amount.and_then(|digits| digits.parse().ok());
            let order_id = id;
            Ok(Some(Order {
                order_id,
                status,
                paid_amount,
                is_paid,
                handled,
                verdicts,
                shipped,
                attention,
            }))
        });
        read.await
    }
}

/// What the handlers wrote about an order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order_id: String,
    status: Option<String>,
    /// A JSON number with the digits that Inqud sent.
    paid_amount: Option<Amount>,
    is_paid: bool,
    handled: usize,
    verdicts: Vec<String>,
    /// `None` if the shop has no such order.
    shipped: Option<i64>,
    attention: Vec<String>,
}

// ----------------------------------------------------------------------------------- the handlers

async fn on_request(
    shop: Shop,
    request: Stored<PaymentRequest>,
    cx: Context<Sqlite>,
) -> Result<(), BoxError> {
    let order = request.client_order_id.clone().ok_or("a Request without clientOrderId")?;
    let price = shop.price(&order).await?;
    let is_enough = price.map(|(amount, currency)| request.is_paid_for(&amount, &currency));
    let update = Update {
        object: request.id.clone(),
        order: order.clone(),
        status: request.status_text().to_owned(),
        paid_amount: request.paid_amount.as_ref().map(ToString::to_string),
        is_paid: is_enough.unwrap_or_else(|| request.is_paid()),
    };
    let verdict = cx.verdict().as_str();
    cx.effect(move |db| update.write(db, verdict));
    if request.status.is_successful() {
        let payment = request.payment_id.clone().unwrap_or_else(|| request.id.clone());
        ship_once(&cx, order, payment, is_enough);
    }
    Ok(())
}

async fn on_payment(
    shop: Shop,
    payment: Stored<Payment>,
    cx: Context<Sqlite>,
) -> Result<(), BoxError> {
    let order = payment.client_order_id.clone().ok_or("a payment without clientOrderId")?;
    if payment.order_type == Some(OrderType::PayOut) {
        // A pay-out says nothing about how the order was paid.
        let why = format!("a pay-out: {}", payment.status);
        cx.effect(move |db| note(db, &order, &why));
        return Ok(());
    }
    let price = shop.price(&order).await?;
    let is_enough = price.map(|(amount, currency)| payment.is_paid_for(&amount, &currency));
    let has_come = matches!(payment.status, PaymentStatus::Success | PaymentStatus::PartialSuccess);
    let update = Update {
        object: payment.id.clone(),
        order: order.clone(),
        status: payment.status_text().to_owned(),
        paid_amount: payment.amount.as_ref().filter(|_| has_come).map(ToString::to_string),
        is_paid: is_enough.unwrap_or_else(|| payment.is_incoming_paid()),
    };
    let verdict = cx.verdict().as_str();
    cx.effect(move |db| update.write(db, verdict));
    if payment.status.is_successful() {
        ship_once(&cx, order, payment.id.clone(), is_enough);
    }
    Ok(())
}

/// Ships an order on the first payment of the right amount. A second payment is noted, because someone has to refund
/// it. The same payment can be reported again, by an amendment or by another webhook.
/// `is_enough` is `None` if the order is unknown.
fn ship_once(cx: &Context<Sqlite>, order: String, payment: String, is_enough: Option<bool>) {
    match is_enough {
        Some(true) => {
            let (idempotency_key, again) =
                (format!("ship:{order}"), (order.clone(), payment.clone()));
            let ship = move |db: &Connection| ship(db, &order, &payment);
            cx.once(idempotency_key, ship, move |db, _: Key| {
                let (order, payment) = &again;
                let first = "SELECT payment FROM orders WHERE id = ?1";
                let first: String = db.query_row(first, [order], |row| row.get(0))?;
                if first != *payment {
                    note(db, order, "paid again")?;
                }
                Ok(())
            });
        }
        Some(false) => {
            cx.effect(move |db| note(db, &order, "paid with another amount or currency"));
        }
        None => cx.effect(move |db| note(db, &order, "paid, and nobody knows the order")),
    }
}

// ------------------------------------------------------------------------------------- the server

#[derive(Clone)]
struct Merchant {
    inbox: Inbox<Sqlite>,
    shop: Shop,
}

impl Merchant {
    async fn open(file: &Path) -> Result<Self, BoxError> {
        let inbox = Inbox::sqlite(file)?;
        inbox.write(|db| db.execute_batch(TABLES)).await?;
        Ok(Self { inbox, shop: Shop { file: file.to_owned() } })
    }

    fn app(&self, secret: &Secret) -> Router {
        let requests = WebhookLayer::<PaymentRequest>::new(secret.clone());
        let payments = WebhookLayer::<Payment>::new(secret.clone());
        let on_request = post_service(self.inbox.receiver::<PaymentRequest>()).layer(requests);
        let on_payment = post_service(self.inbox.receiver::<Payment>()).layer(payments);
        Router::new()
            .route("/webhooks/inqud/request", on_request)
            .route("/webhooks/inqud/payment", on_payment)
            .route("/orders", post(new_order))
            .route("/orders/{id}", get(order))
            .route("/inbox", get(inbox))
            .with_state(self.clone())
    }

    /// Runs the handlers of both kinds until `ended`.
    async fn process(&self, ended: watch::Receiver<bool>) -> Result<(), InboxError> {
        let ended = || {
            let mut ended = ended.clone();
            async move { _ = ended.wait_for(|ended| *ended).await }
        };
        let shop = self.shop.clone();
        let requests = self.inbox.process(move |it, cx| on_request(shop.clone(), it, cx));
        let shop = self.shop.clone();
        let payments = self.inbox.process(move |it, cx| on_payment(shop.clone(), it, cx));
        tokio::try_join!(requests.run_until(ended()), payments.run_until(ended()))?;
        Ok(())
    }

    async fn add(&self, order: &str, amount: &Amount, currency: &str) -> Result<(), InboxError> {
        let row = [order.to_owned(), amount.to_string(), currency.to_owned()];
        let add = "INSERT INTO orders VALUES (?1, ?2, ?3, 0, NULL) ON CONFLICT DO NOTHING";
        self.inbox.write(move |db| db.execute(add, row)).await.map(drop)
    }
}

async fn new_order(State(merchant): State<Merchant>, Json(order): Json<Value>) -> StatusCode {
    let text = |key: &str| order.get(key).and_then(Value::as_str);
    let (Some(id), Some(Ok(amount)), Some(currency)) =
        (text("orderId"), text("amount").map(str::parse), text("currency"))
    else {
        return StatusCode::UNPROCESSABLE_ENTITY;
    };
    match merchant.add(id, &amount, currency).await {
        Ok(()) => StatusCode::CREATED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn order(
    State(merchant): State<Merchant>,
    extract::Path(id): extract::Path<String>,
) -> Result<Json<Order>, StatusCode> {
    match merchant.shop.order(id).await {
        Ok(order) => order.map(Json).ok_or(StatusCode::NOT_FOUND),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn inbox(State(merchant): State<Merchant>) -> Result<Json<Value>, StatusCode> {
    let stats = merchant.inbox.stats().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(json!({
        "backlog": stats.backlog(),
        "dead": stats.dead(),
        "review": stats.review(),
        "skipped": stats.skipped(),
    })))
}

pub(crate) async fn serve() -> Result<(), BoxError> {
    let secret =
        env::var("INQUD_WEBHOOK_SECRET").map_err(|_| "no secret: set INQUD_WEBHOOK_SECRET")?;
    let secret = Secret::new(secret)?;
    let folder = tempfile::tempdir()?;
    let file = env::var_os("INBOX_FILE").map_or(folder.path().join("inbox.db"), PathBuf::from);
    let merchant = Merchant::open(&file).await?;
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&listen)
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    println!("listening on http://{}", listener.local_addr()?);

    let (end, ended) = watch::channel(false);
    let is_processing = env::var("PROCESS").as_deref() != Ok("off");
    let runners = async {
        if is_processing {
            merchant.process(ended.clone()).await.map_err(BoxError::from)
        } else {
            Ok(())
        }
    };
    let mut told = ended.clone();
    let server = axum::serve(listener, merchant.app(&secret))
        .with_graceful_shutdown(async move { _ = told.wait_for(|ended| *ended).await });
    let server = async { server.await.map_err(BoxError::from) };
    let signal = async {
        terminated().await?;
        end.send_replace(true);
        Ok(())
    };
    // If one of them fails, the others are dropped and the error is returned.
    tokio::try_join!(server, runners, signal)?;
    merchant.inbox.close().await;
    Ok(())
}

/// Waits for SIGTERM or Ctrl-C.
async fn terminated() -> Result<(), BoxError> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    }
    #[cfg(not(unix))]
    Ok(tokio::signal::ctrl_c().await?)
}

// --------------------------------------------------------------------------------------- the play

/// Object id, order id, status, minute of the last update, paid amount, remark.
type Delivery = (&'static str, &'static str, &'static str, u8, &'static str, &'static str);

const EARLY: &[Delivery] = &[
    ("CAPD-1", "order-17", "SUCCESS", 3, "100", "the last status arrives first"),
    ("CAPD-2", "order-18", "WAITING_PAYMENT", 0, "0", ""),
    ("CAPD-1", "order-17", "WAITING_PAYMENT", 0, "0", "the first status, without a time"),
    ("CAPD-1", "order-17", "SUCCESS", 3, "100", "a duplicate"),
    ("CAPD-1", "order-17", "PENDING_PAYMENT", 1, "0", ""),
    ("CAPD-2", "order-18", "EXPIRED", 5, "0", ""),
    ("CAPD-2", "order-18", "WAITING_PAYMENT", 0, "0", "a duplicate"),
];

const LATE: &[Delivery] = &[
    ("CAPD-1", "order-17", "CONFLICT", 2, "0", "older than SUCCESS: skipped as stale"),
    ("CAPD-1", "order-17", "SUCCESS", 3, "150", "an amendment: more was paid"),
    ("CAPD-3", "order-18", "SUCCESS", 4, "100", "a second Request, because the first expired"),
    ("CAPD-4", "order-17", "SUCCESS", 9, "100", "a second Request for a paid order"),
    ("CAPD-5", "order-19", "SUCCESS", 9, "50", "a resolved conflict, half paid"),
];

async fn play() -> Result<ExitCode, BoxError> {
    let secret = Secret::new("secret_value")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("inbox.db");
    let mut well = true;

    println!("Receiving, without a runner:\n");
    let merchant = Merchant::open(&file).await?;
    for order in ["order-17", "order-18", "order-19"] {
        merchant.add(order, &"100.00".parse()?, "USD").await?;
    }
    well &= deliver(&merchant, &secret, EARLY).await?;
    well &= merchant.inbox.stats().await?.backlog() == 5;

    println!("\nRestarted. Processing, oldest first for each object:\n");
    merchant.inbox.close().await;
    drop(merchant);
    let merchant = Merchant::open(&file).await?;
    process(&merchant).await?;
    show(&merchant).await?;

    println!("\nReceiving late notifications, then processing them:\n");
    well &= deliver(&merchant, &secret, LATE).await?;
    process(&merchant).await?;
    let expected: [(usize, i64, &[&str]); 3] =
        [(5, 1, &["paid again"]), (3, 1, &[]), (1, 0, &["paid with another amount or currency"])];
    for (order, (handled, shipped, attention)) in show(&merchant).await?.iter().zip(expected) {
        well &= order.status.as_deref() == Some("SUCCESS") && order.handled == handled;
        well &= order.shipped == Some(shipped) && order.attention == attention;
    }
    let stats = merchant.inbox.stats().await?;
    well &= (stats.backlog(), stats.dead(), stats.review(), stats.skipped()) == (0, 0, 0, 1);
    println!("\n{}", if well { "everything as expected" } else { "NOT as expected, see above" });
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Processes until the backlog is empty.
async fn process(merchant: &Merchant) -> Result<(), BoxError> {
    let (end, ended) = watch::channel(false);
    let is_empty = async {
        while merchant.inbox.stats().await?.backlog() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        end.send_replace(true);
        Ok(())
    };
    tokio::try_join!(merchant.process(ended), is_empty)?;
    Ok(())
}

async fn show(merchant: &Merchant) -> Result<Vec<Order>, BoxError> {
    let mut all = Vec::new();
    for id in ["order-17", "order-18", "order-19"] {
        let order = merchant.shop.order(id.to_owned()).await?.ok_or("an order is missing")?;
        println!("  {}", serde_json::to_string(&order)?);
        all.push(order);
    }
    Ok(all)
}

/// Delivers webhooks. Returns whether every response was 200.
async fn deliver(
    merchant: &Merchant,
    secret: &Secret,
    deliveries: &[Delivery],
) -> Result<bool, BoxError> {
    let mut well = true;
    for (id, order, status, minute, paid, remark) in deliveries {
        let updated = match minute {
            0 => "null".to_owned(),
            minute => format!("\"2026-11-22T10:{minute:02}:00Z\""),
        };
        let body = format!(
            r#"{{"id":"{id}","clientOrderId":"{order}","status":"{status}","lastUpdatedAt":{updated},"requestAmount":100,"requestAmountIn":"USD","currency":"USDT","payAmount":100,"paidAmount":{paid}}}"#
        );
        let request = Request::post("/webhooks/inqud/request")
            .header(contract::DIGEST_HEADER, sign(secret, body.as_bytes()))
            .body(Body::from(body))?;
        let answer = merchant.app(secret).oneshot(request).await?.status();
        println!("  {order:<10} {id:<8} {status:<18} {} {remark}", answer.as_u16());
        well &= answer == StatusCode::OK;
    }
    Ok(well)
}
