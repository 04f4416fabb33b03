//! Runs `examples/inbox.rs -- --serve` in its own process, over real sockets.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::env;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tower_inqud::{Secret, contract, sign};

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../examples/inbox.rs"]
mod example;

const SECRET: &str = "whsec-kiln-and-clay";
const LONG: Duration = Duration::from_secs(60);

/// Not a test, but the server process of the other tests.
#[tokio::test]
#[ignore = "it is the server that the other tests start"]
async fn serves() {
    example::serve().await.unwrap();
}

struct Server {
    process: Child,
    address: String,
}

impl Server {
    async fn start(file: &Path, processes: bool) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "serves", "--nocapture"])
            .env("INQUD_WEBHOOK_SECRET", SECRET)
            .env("LISTEN", "127.0.0.1:0")
            .env("INBOX_FILE", file)
            .env("PROCESS", if processes { "on" } else { "off" })
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the server prints its address");
                if let Some((_, address)) = line.split_once("listening on ") {
                    return address.to_owned();
                }
            }
        };
        let address = timeout(LONG, address).await.unwrap();
        // Reads on, so that the pipe of the server does not fill up.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { process, address }
    }

    async fn call(&self, request: http::request::Builder, body: &str) -> (StatusCode, Value) {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let response = timeout(LONG, client.request(request)).await.unwrap().unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn deliver(&self, kind: &str, body: &str) -> StatusCode {
        let digest = sign(&Secret::new(SECRET).unwrap(), body.as_bytes());
        let url = format!("{}/webhooks/inqud/{kind}", self.address);
        let request = Request::post(url).header(contract::DIGEST_HEADER, digest.to_string());
        self.call(request, body).await.0
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Request::get(format!("{}{path}", self.address)), "").await
    }

    /// Waits until the backlog is empty.
    async fn is_done(&self) {
        let is_done = async {
            while self.get("/inbox").await.1["backlog"] != 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LONG, is_done).await.unwrap();
    }

    async fn order(&self, id: &str) -> Value {
        self.get(&format!("/orders/{id}")).await.1
    }

    async fn signal(&mut self, signal: &str) -> std::process::ExitStatus {
        let id = self.process.id().unwrap().to_string();
        Command::new("kill").args([signal, &id]).status().await.unwrap();
        timeout(LONG, self.process.wait()).await.unwrap().unwrap()
    }
}

/// What is delivered about an order, and the expected end state.
struct Life {
    order: &'static str,
    deliveries: &'static [(&'static str, &'static str)],
    status: &'static str,
    paid: Option<&'static str>,
    /// The verdicts, if each notification is handled before the next arrives.
    verdicts: &'static [&'static str],
}

const LIVES: &[Life] = &[
    Life {
        order: "s1",
        deliveries: &[
            (
                "request",
                r#""id":"CAPD-s1","status":"SUCCESS","paidAmount":100,"lastUpdatedAt":"2026-11-22T09:45:00Z""#,
            ),
            ("request", r#""id":"CAPD-s1","status":"WAITING_PAYMENT","lastUpdatedAt":null"#),
        ],
        status: "SUCCESS",
        paid: Some("100"),
        verdicts: &["newer"],
    },
    Life {
        order: "s2",
        deliveries: &[
            ("payment", r#""id":"PMT-s2","status":"PARTIAL_SUCCESS","amount":10.00"#),
            ("payment", r#""id":"PMT-s2","status":"PARTIAL_SUCCESS","amount":60.00"#),
        ],
        status: "PARTIAL_SUCCESS",
        paid: Some("60.00"),
        verdicts: &["newer", "amended"],
    },
    Life {
        order: "s3",
        deliveries: &[
            ("payment", r#""id":"PMT-s3","status":"SUCCESS""#),
            ("payment", r#""id":"PMT-s3","status":"FAILED""#),
            ("payment", r#""id":"PMT-s3","status":"SUCCESS""#),
        ],
        status: "FAILED",
        paid: None,
        verdicts: &["newer", "unordered"],
    },
    Life {
        order: "s5",
        deliveries: &[
            (
                "request",
                r#""id":"CAPD-s5","status":"CONFLICT","paidAmount":50,"lastUpdatedAt":"2026-11-22T09:45:00Z""#,
            ),
            (
                "request",
                r#""id":"CAPD-s5","status":"CONFLICT","paidAmount":99.46291,"lastUpdatedAt":"2026-11-22T09:45:00Z""#,
            ),
        ],
        status: "CONFLICT",
        paid: Some("99.46291"),
        verdicts: &["newer", "amended"],
    },
    Life {
        order: "two",
        deliveries: &[
            (
                "request",
                r#""id":"CAPD-two-b","status":"SUCCESS","paidAmount":7,"lastUpdatedAt":"2026-11-22T09:00:00Z""#,
            ),
            (
                "request",
                r#""id":"CAPD-two-a","status":"EXPIRED","lastUpdatedAt":"2026-11-22T09:45:00Z""#,
            ),
        ],
        status: "SUCCESS",
        paid: Some("7"),
        verdicts: &["newer", "newer"],
    },
    Life {
        order: "digits",
        deliveries: &[(
            "request",
            r#""id":"CAPD-digits","status":"SUCCESS","paidAmount":123456789012345678901234567890123456789012345678901234567890,"lastUpdatedAt":"2026-11-22T09:45:00Z""#,
        )],
        status: "SUCCESS",
        paid: Some("123456789012345678901234567890123456789012345678901234567890"),
        verdicts: &["newer"],
    },
];

fn body(order: &str, fields: &str) -> String {
    format!(r#"{{{fields},"clientOrderId":"{order}"}}"#)
}

#[tokio::test]
async fn each_sequence_ends_right_live_and_from_a_backlog() {
    let folder = tempfile::tempdir().unwrap();
    for is_live in [true, false] {
        let file = folder.path().join(format!("{is_live}.db"));
        let mut server = Server::start(&file, is_live).await;
        for life in LIVES {
            for (kind, fields) in life.deliveries {
                let body = body(life.order, fields);
                assert_eq!(server.deliver(kind, &body).await, 200, "{body}");
                if is_live {
                    server.is_done().await;
                }
                assert_eq!(server.deliver(kind, &body).await, 200, "a duplicate of {body}");
            }
        }
        if !is_live {
            assert_eq!(server.get("/orders/s1").await.0, 404, "nothing was handled");
            assert!(server.signal("-TERM").await.success());
            server = Server::start(&file, true).await;
        }
        server.is_done().await;
        for life in LIVES {
            let order = server.order(life.order).await;
            assert_eq!(order["status"], life.status, "{order}");
            let url = format!("{}/orders/{}", server.address, life.order);
            let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
            let text = client.get(url.parse().unwrap()).await.unwrap().into_body();
            let text =
                String::from_utf8(text.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            let paid = format!("\"paidAmount\":{},", life.paid.unwrap_or("null"));
            assert!(text.contains(&paid), "{paid} {text}");
            assert_eq!(order["orderId"], life.order);
            if is_live {
                assert_eq!(order["verdicts"], json!(life.verdicts), "{order}");
                assert_eq!(order["handled"], life.verdicts.len(), "{order}");
            }
        }
        let (status, inbox) = server.get("/inbox").await;
        assert_eq!(status, 200);
        let skipped = if is_live { 1 } else { 0 };
        assert_eq!(inbox, json!({ "backlog": 0, "dead": 0, "review": 1, "skipped": skipped }));
        assert!(server.signal("-TERM").await.success());
    }
}

#[tokio::test]
async fn rejects_forged_webhooks_and_other_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("inbox.db"), true).await;
    let payment = body("order-1", r#""id":"PMT-1","status":"SUCCESS""#);
    assert_eq!(server.deliver("request", &payment).await, 422);
    let request = body("order-1", r#""id":"CAPD-1","status":"SUCCESS""#);
    assert_eq!(server.deliver("payment", &request).await, 422);
    let url = format!("{}/webhooks/inqud/request", server.address);
    let forged = Request::post(url).header(contract::DIGEST_HEADER, "0".repeat(40));
    assert_eq!(server.call(forged, &request).await.0, 401);
    assert_eq!(server.get("/orders/order-1").await.0, 404);
    assert_eq!(server.get("/inbox").await.1["backlog"], 0);
}

#[tokio::test]
async fn ships_a_known_order_once_if_the_amount_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("inbox.db"), true).await;
    let new =
        |id: &str| json!({ "orderId": id, "amount": "100.00", "currency": "USD" }).to_string();
    for id in ["enough", "less"] {
        let request = Request::post(format!("{}/orders", server.address));
        let request = request.header("content-type", "application/json");
        assert_eq!(server.call(request, &new(id)).await.0, 201);
    }
    let paid = |object: &str, order: &str, asked: u32| {
        let fields = format!(
            r#""id":"CAPD-{object}","status":"SUCCESS","requestAmount":{asked},"requestAmountIn":"USD","payAmount":{asked},"paidAmount":{asked},"lastUpdatedAt":"2026-11-22T09:45:00Z""#
        );
        body(order, &fields)
    };
    for body in [
        paid("1", "enough", 100),
        paid("2", "enough", 100),
        paid("3", "less", 50),
        paid("4", "unknown", 1),
    ] {
        assert_eq!(server.deliver("request", &body).await, 200);
    }
    server.is_done().await;
    let enough = server.order("enough").await;
    assert_eq!((&enough["shipped"], &enough["attention"]), (&json!(1), &json!(["paid again"])));
    let less = server.order("less").await;
    assert_eq!(less["shipped"], 0, "{less}");
    assert_eq!(less["attention"], json!(["paid with another amount or currency"]));
    let unknown = server.order("unknown").await;
    assert_eq!(unknown["attention"], json!(["paid, and nobody knows the order"]));
}

#[tokio::test]
async fn kill_loses_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inbox.db");
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let mut server = Server::start(&file, true).await;
        for at in 0..40 {
            let order = format!("order-{round}-{at}");
            let fields = format!(
                r#""id":"CAPD-{order}","status":"SUCCESS","paidAmount":1,"lastUpdatedAt":"2026-11-22T09:45:00Z""#
            );
            assert_eq!(server.deliver("request", &body(&order, &fields)).await, 200);
            acknowledged.push(order);
        }
        server.signal("-KILL").await;
    }
    let server = Server::start(&file, true).await;
    server.is_done().await;
    for order in acknowledged {
        let order = server.order(&order).await;
        assert_eq!(
            (&order["status"], &order["handled"]),
            (&json!("SUCCESS"), &json!(1)),
            "{order}"
        );
    }
}
