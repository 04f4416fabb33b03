//! The shop as a process, which a test can kill and start again.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use inqud_inbox::rusqlite::Connection;
use inqud_mock::{Fault, Lifecycle, Message, MockInqud, Report, Scenario, SentBody};
use tempfile::TempDir;
use tokio::time::sleep;
use tower_inqud::Secret;

pub const TOKEN: &str = "a token of the test";
const SECRET: &str = "a secret of the test";
/// The price of a brass pen.
const PRICE: &str = "49.00";

pub struct Shop {
    process: Child,
    pub address: SocketAddr,
    folder: TempDir,
}

impl Shop {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, address) = start(&folder.path().join("shop.db"), "127.0.0.1:0", "--serve");
        Self { process, address, folder }
    }

    /// With the mock, which orders and pays by itself.
    pub fn demonstration() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, address) = start(&folder.path().join("shop.db"), "127.0.0.1:0", "");
        Self { process, address, folder }
    }

    /// `SIGKILL`: nothing of the process can react to it.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// On the same port and the same file.
    pub fn restart(&mut self) {
        let address = self.address.to_string();
        let started = (0..100).find_map(|_| {
            // Another process can have the port for a moment.
            try_start(&self.file(), &address, "--serve")
                .or_else(|| (std::thread::sleep(Duration::from_millis(100)), None).1)
        });
        (self.process, _) = started.expect("the shop does not start");
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the process has ended by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        for _ in 0..1200 {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("the shop did not end within a minute");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Orders a brass pen, as a form does. Returns the order's id.
    pub async fn order(&self, recipient: &str) -> String {
        let form = format!("product=pen&recipient={}", recipient.replace(' ', "+"));
        let response = self.post("/orders", form, &[]).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        let location = response.headers()["location"].to_str().unwrap();
        location.strip_prefix("/orders/").unwrap().to_owned()
    }

    pub async fn get(&self, path: &str) -> Response<Bytes> {
        self.get_with(path, &[]).await
    }

    pub async fn post(
        &self,
        path: &str,
        form: String,
        headers: &[(&str, &str)],
    ) -> Response<Bytes> {
        let mut request = Request::post(self.url(path))
            .header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::from(form)).unwrap()).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
        let mut request = Request::get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::default()).unwrap()).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (head, body) = client.request(request).await.unwrap().into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    /// A number that the shop has written about an order.
    pub fn number(&self, select: &str, order: &str) -> i64 {
        let db = Connection::open(self.file()).unwrap();
        db.query_row(select, [order], |row| row.get(0)).unwrap()
    }

    /// Writes into the shop's file while the shop does not run.
    pub fn write(&self, sql: &str, order: &str) {
        Connection::open(self.file()).unwrap().execute(sql, [order]).unwrap();
    }

    /// A mock that delivers to this shop.
    pub fn inqud(&self) -> MockInqud {
        let url = self.url("/webhooks/inqud/request").parse().unwrap();
        MockInqud::new(Secret::new(SECRET).unwrap(), url)
    }

    pub async fn deliver(&self, inqud: &MockInqud, messages: &[Message]) -> Report {
        inqud.deliver(messages.to_vec(), client()).await
    }

    /// Delivers the messages once, and all of them are acknowledged.
    pub async fn accept(&self, messages: &[Message]) {
        let report = self.deliver(&self.inqud(), messages).await;
        assert!(report.all_acknowledged(), "{report}");
    }

    /// Delivers a message with a wrong digest, which is refused.
    pub async fn refuse(&self, message: &Message) {
        let forged = self.inqud().fault(Fault::Forged);
        let report = self.deliver(&forged, std::slice::from_ref(message)).await;
        assert!(report.all_rejected(), "{report}");
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

pub fn client() -> Client<HttpConnector, SentBody> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// What Inqud tells about the Request of an order for a brass pen.
pub fn story(scenario: Scenario, order: &str) -> Vec<Message> {
    let lifecycle = Lifecycle::new(scenario).client_order_id(order);
    lifecycle.amount(PRICE.parse().unwrap()).into_iter().collect()
}

/// Starts the shop, and waits until it listens.
fn start(file: &std::path::Path, listen: &str, argument: &str) -> (Child, SocketAddr) {
    try_start(file, listen, argument).expect("the shop ended")
}

fn try_start(file: &std::path::Path, listen: &str, argument: &str) -> Option<(Child, SocketAddr)> {
    let mut process = Command::new(env!("CARGO_BIN_EXE_shop"))
        .args(Some(argument).filter(|it| !it.is_empty()))
        .env("LISTEN", listen)
        .env("DATABASE", file)
        .env("INQUD_WEBHOOK_SECRET", SECRET)
        .env("OPERATOR_TOKEN", TOKEN)
        .env("MAX_ATTEMPTS", "1")
        .env_remove("PUBLIC_URL")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let Some(first) = lines.next() else {
        process.wait().unwrap();
        return None;
    };
    let first = first.unwrap();
    std::thread::spawn(move || {
        lines.map_while(Result::ok).for_each(|line| println!("shop: {line}"))
    });
    let address = first.rsplit('/').next().unwrap().parse().unwrap();
    Some((process, address))
}
