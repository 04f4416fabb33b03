//! A merchant's server with axum, and a client that plays Inqud against it.
//!
//! ```text
//! cargo run --all-features --example axum             # plays Inqud, then keeps serving
//! cargo run --all-features --example axum -- --once   # plays Inqud; exits with 0 if every response is right
//! cargo run --all-features --example axum -- --serve  # only serves
//! ```
//!
//! `INQUD_WEBHOOK_SECRET` sets the secret, and `LISTEN` the address.
#![allow(clippy::print_stdout, reason = "examples print what they do")]

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_inqud::{
    Ack, Amount, ConfigError, History, PaymentRequest, Secret, Verdict, Webhook, WebhookLayer,
};

const WEBHOOK: &str = "/webhooks/inqud/request";
const DEMONSTRATION_SECRET: &str = "secret_value";

// ---------------------------------------------------------------- the merchant

/// Looks up the price of an order. In production, a database query.
fn price_of(order_id: &str) -> Option<(Amount, &'static str)> {
    let price = "100".parse().ok()?;
    (order_id == "order-17").then_some((price, "USD"))
}

/// The merchant's state of each Request. In production, a database.
#[derive(Clone, Default)]
struct Shop {
    requests: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Default)]
struct Known {
    /// Detects duplicates and late notifications.
    history: History,
    latest: Option<Webhook<PaymentRequest>>,
    /// How many notifications changed the state.
    updates: u32,
    /// Whether it pays the price of the order, in its currency. `SUCCESS` alone does not mean that.
    pays: bool,
}

impl Shop {
    /// Applies a notification. Duplicates and late notifications change nothing.
    fn apply(&self, request: Webhook<PaymentRequest>) -> Ack {
        let Some((price, currency)) = request.client_order_id.as_deref().and_then(price_of) else {
            return Ack::Discard("unknown order".into());
        };
        let pays = request.is_paid_for(&price, currency);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let known = requests.entry(request.id.clone()).or_default();
        let verdict = known.history.receive(&request);
        if verdict.should_handle() {
            known.updates = known.updates.saturating_add(1);
            known.pays = pays;
            known.latest = Some(request);
        } else if verdict == Verdict::Review {
            println!("  {} needs a review: {}", request.id, request.status);
        }
        Ack::Done
    }

    fn state(&self, id: &str) -> Option<Value> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { latest, updates, pays, .. } = requests.get(id)?;
        let latest = latest.as_ref()?;
        Some(json!({
            "id": latest.id,
            "status": latest.status,
            "clientOrderId": latest.client_order_id,
            "reason": latest.reason,
            "payAmount": latest.pay_amount.as_ref().map(ToString::to_string),
            "paysForOrder": pays,
            "updates": updates,
        }))
    }
}

async fn on_request(State(shop): State<Shop>, request: Webhook<PaymentRequest>) -> Ack {
    shop.apply(request)
}

async fn show_request(
    State(shop): State<Shop>,
    Path(id): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    shop.state(&id).map(Json).ok_or(StatusCode::NOT_FOUND)
}

fn app(secret: Secret, shop: Shop) -> Router {
    let webhooks =
        WebhookLayer::<PaymentRequest>::new(secret).on_rejection(|rejection, request| {
            let path = request.uri.path();
            match rejection.diagnosis() {
                Some(diagnosis) => println!("  rejected {path}: {rejection}; {diagnosis}"),
                None => println!("  rejected {path}: {rejection}"),
            }
        });
    Router::new()
        .route(WEBHOOK, post(on_request).layer(webhooks))
        .route("/requests/{id}", get(show_request))
        .with_state(shop)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mode = env::args().nth(1);
    if mode.as_deref().is_some_and(|mode| mode != "--once" && mode != "--serve") {
        println!("usage: axum [--once | --serve]");
        return Ok(ExitCode::from(2));
    }
    let secret = secret()?;
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");

    let shop = Shop::default();
    let server = axum::serve(listener, app(secret.clone(), shop.clone()));
    let server = tokio::spawn(server.into_future());

    if mode.as_deref() != Some("--serve") {
        let is_as_expected = inqud::play(address, &secret, &shop).await?;
        if mode.as_deref() == Some("--once") {
            return Ok(if is_as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    server.await??;
    Ok(ExitCode::SUCCESS)
}

fn secret() -> Result<Secret, ConfigError> {
    match env::var("INQUD_WEBHOOK_SECRET") {
        Ok(secret) => Secret::new(secret),
        Err(_) => {
            println!(
                "INQUD_WEBHOOK_SECRET is not set: using {DEMONSTRATION_SECRET:?}, which is public. \
                 Set it for anything but a demonstration"
            );
            Secret::new(DEMONSTRATION_SECRET)
        }
    }
}

// -------------------------------------------------------------------- Inqud

/// Plays Inqud over real HTTP.
mod inqud {
    use super::{Error, Secret, Shop, SocketAddr, Value, WEBHOOK, json};

    use axum::body::{Body, Bytes};
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;
    use tower_inqud::{contract, sign};

    const ID: &str = "CAPD-3f0c2f5e-52c1-4a39-9d0e-6c3b7b1a9e42";
    /// Another Request, with less paid than requested.
    const SETTLED: &str = "CAPD-0b7ad1c4-9f35-4e58-8a61-d2c3e4f5a6b7";

    struct Delivery {
        what: &'static str,
        body: Bytes,
        digest: Option<String>,
        status: StatusCode,
        /// The status and the number of updates that the merchant should have afterwards.
        then: Option<(&'static str, u32)>,
    }

    pub(super) async fn play(
        address: SocketAddr,
        secret: &Secret,
        shop: &Shop,
    ) -> Result<bool, Box<dyn Error>> {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        println!("\nSending webhooks to http://{address}{WEBHOOK}:\n");
        let mut table = Vec::new();
        for delivery in script(secret) {
            let (status, text) = deliver(&client, address, &delivery).await?;
            let state = shop.state(ID);
            let seen = state.as_ref().map(|state| (state["status"].as_str(), &state["updates"]));
            let expected = delivery.then.map(|(status, updates)| (Some(status), json!(updates)));
            let as_expected = status == delivery.status
                && seen == expected.as_ref().map(|(status, updates)| (*status, updates));
            table.push((delivery.what, status, text, describe(state.as_ref()), as_expected));
        }
        println!("\n{:<36} {:<6} {:<40} state at the merchant", "sent", "status", "response");
        for (what, status, text, state, as_expected) in &table {
            let verdict = if *as_expected { "" } else { "  <-- UNEXPECTED" };
            println!("{what:<36} {:<6} {text:<40} {state}{verdict}", status.as_u16());
        }

        let shown = get(&client, address).await?;
        println!("\nGET /requests/{ID}\n{shown}");
        let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
        let exact = shown.get("payAmount") == Some(&json!("99.462910000000000001"));
        let settled = shop.state(SETTLED);
        let paid = shown.get("paysForOrder") == Some(&json!(true))
            && settled.is_some_and(|it| it.get("paysForOrder") == Some(&json!(false)));
        println!("\nSend one yourself:\n\n{}\n", curl(address, secret));

        let well = exact && paid && table.iter().all(|(.., as_expected)| *as_expected);
        println!("{}", if well { "everything as expected" } else { "NOT as expected, see above" });
        Ok(well)
    }

    /// The lifecycle of one Request, with duplicates, late deliveries and attacks.
    fn script(secret: &Secret) -> Vec<Delivery> {
        let signed = |what, body: String, status, then| {
            let digest = Some(sign(secret, body.as_bytes()).to_string());
            Delivery { what, body: body.into(), digest, status, then }
        };
        let unauthorized = StatusCode::UNAUTHORIZED;
        let waiting = Some(("WAITING_PAYMENT", 1));
        let success = Some(("SUCCESS", 3));
        vec![
            Delivery {
                digest: Some(sign(secret, b"another body").to_string()),
                ..signed("a forged SUCCESS", request("SUCCESS", 9), unauthorized, None)
            },
            signed("WAITING_PAYMENT", request("WAITING_PAYMENT", 0), StatusCode::OK, waiting),
            signed(
                "PENDING_PAYMENT",
                request("PENDING_PAYMENT", 1),
                StatusCode::OK,
                Some(("PENDING_PAYMENT", 2)),
            ),
            signed("SUCCESS", request("SUCCESS", 2), StatusCode::OK, success),
            signed("SUCCESS again, a duplicate", request("SUCCESS", 2), StatusCode::OK, success),
            signed(
                "PENDING_PAYMENT, out of order",
                request("PENDING_PAYMENT", 1),
                StatusCode::OK,
                success,
            ),
            Delivery {
                digest: None,
                ..signed("no digest", request("CONFLICT", 9), unauthorized, success)
            },
            signed(
                "SUCCESS of a resolved conflict",
                request("SUCCESS", 9)
                    .replace(ID, SETTLED)
                    .replace(r#""paidAmount":99"#, r#""paidAmount":9"#),
                StatusCode::OK,
                success,
            ),
            signed(
                "SUCCESS of an unknown order",
                request("SUCCESS", 9).replace("order-17", "order-18"),
                StatusCode::OK,
                success,
            ),
            signed("a payment", other("PMT-1"), StatusCode::UNPROCESSABLE_ENTITY, success),
            signed("a checkout", other("CCO-1"), StatusCode::UNPROCESSABLE_ENTITY, success),
            signed("a subscription", other("SUB-1"), StatusCode::UNPROCESSABLE_ENTITY, success),
            signed("an unknown prefix", other("NEW-1"), StatusCode::OK, success),
            signed("broken JSON", "{\"id\":".to_owned(), StatusCode::BAD_REQUEST, success),
            signed("an array", "[]".to_owned(), StatusCode::UNPROCESSABLE_ENTITY, success),
            signed(
                "a body over the limit",
                " ".repeat(300 * 1024),
                StatusCode::PAYLOAD_TOO_LARGE,
                success,
            ),
        ]
    }

    /// An object of another kind, with the fields of a Request.
    fn other(id: &str) -> String {
        request("SUCCESS", 9).replace(ID, id)
    }

    fn request(status: &str, minute: u8) -> String {
        let paid = if status == "SUCCESS" { "99.462910000000000001" } else { "null" };
        let updated = (minute > 0).then(|| format!("2026-11-22T10:{minute:02}:00.5Z"));
        let updated = json!(updated);
        format!(
            r#"{{"id":"{ID}","clientOrderId":"order-17","status":"{status}","currency":"USDT","blockchain":"ETHEREUM","reason":null,"createdAt":"2026-11-22T10:00:00Z","lastUpdatedAt":{updated},"requestAmount":100,"requestAmountIn":"USD","payAmount":99.462910000000000001,"paidAmount":{paid}}}"#
        )
    }

    async fn deliver(
        client: &Client<HttpConnector, Body>,
        address: SocketAddr,
        delivery: &Delivery,
    ) -> Result<(StatusCode, String), Box<dyn Error>> {
        let mut request = Request::post(format!("http://{address}{WEBHOOK}"));
        if let Some(digest) = &delivery.digest {
            request = request.header(contract::DIGEST_HEADER, digest);
        }
        let response = client.request(request.body(delivery.body.clone().into())?).await?;
        let status = response.status();
        let text = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }

    async fn get(
        client: &Client<HttpConnector, Body>,
        address: SocketAddr,
    ) -> Result<String, Box<dyn Error>> {
        let uri = format!("http://{address}/requests/{ID}").parse()?;
        let body = client.get(uri).await?.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn describe(state: Option<&Value>) -> String {
        match state {
            Some(state) => format!("{}, updates: {}", state["status"], state["updates"]),
            None => "nothing".to_owned(),
        }
    }

    fn curl(address: SocketAddr, secret: &Secret) -> String {
        let body = r#"{"id":"CAPD-yours","status":"SUCCESS","clientOrderId":"order-17","requestAmount":100,"requestAmountIn":"USD","payAmount":100,"paidAmount":100}"#;
        let digest = sign(secret, body.as_bytes());
        format!(
            "curl -i http://{address}{WEBHOOK} \\\n  -H 'X-Payload-Digest: {digest}' \\\n  -d '{body}'"
        )
    }
}
