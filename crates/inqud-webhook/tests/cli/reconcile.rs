//! `inqud-webhook reconcile`, run as a separate process, against a mock of Inqud's API over HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::fs;
use std::io::{Read, Write};
use std::process::{Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use inqud_inbox::rusqlite::{Connection, types::Value as Cell};
use inqud_inbox::{Filter, Inbox, Record, Source, Sqlite, Store};
use inqud_mock::{ApiFault, Message, MockApi};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};
use tower_inqud::PaymentRequest;

use crate::postgres;

/// Upper bound for each step, so that a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

const TOKEN_ID: &str = "TKN-of-a-test";
const TOKEN_SECRET: &str = "dBajIp3wHnw5euxohPiZvsCEorG3Fhl9";

/// An inbox that this process has open, as a server would, and a served API.
struct Shop {
    inbox: Inbox<Sqlite>,
    api: MockApi,
    url: String,
    folder: TempDir,
}

async fn serve(api: &MockApi) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = TowerToHyperService::new(api.clone());
    tokio::spawn(async move {
        loop {
            let stream = TokioIo::new(listener.accept().await.unwrap().0);
            let service = service.clone();
            tokio::spawn(async move {
                let http = hyper::server::conn::http1::Builder::new();
                _ = http.serve_connection(stream, service).await;
            });
        }
    });
    url
}

impl Shop {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inbox = Inbox::sqlite(folder.path().join("inbox.db")).unwrap();
        let api = MockApi::new(TOKEN_ID, TOKEN_SECRET).unwrap();
        let url = serve(&api).await;
        Self { inbox, api, url, folder }
    }

    /// The command with this list of ids, at most 6000 requests a minute, and more arguments.
    fn command(&self, ids: &str, args: &[&str]) -> Command {
        let file = self.folder.path().join("ids.txt");
        fs::write(&file, ids).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_inqud-webhook"));
        command.args(["reconcile", "--ids"]).arg(file);
        if !args.iter().any(|arg| arg.starts_with("--per-minute")) {
            command.arg("--per-minute=6000");
        }
        command.arg("--sqlite").arg(self.folder.path().join("inbox.db")).args(args);
        command.env("INQUD_API_ID", TOKEN_ID).env("INQUD_API_SECRET", TOKEN_SECRET);
        command.env("INQUD_API_URL", &self.url).env_remove("CLICOLOR_FORCE");
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn run(&self, ids: &str, args: &[&str]) -> Output {
        output(self.command(ids, args)).await
    }

    async fn json(&self, ids: &str, args: &[&str], code: i32) -> Value {
        let output = self.run(ids, &[&["--json"], args].concat()).await;
        serde_json::from_str(&printed(&output, code)).unwrap()
    }

    async fn stored(&self) -> Vec<(String, String, Source)> {
        let page = self.inbox.list(Filter::new(), 100).await.unwrap();
        let entries = page.entries.into_iter();
        entries.map(|it| (it.object, it.status.to_owned(), it.source)).collect()
    }
}

async fn output(mut command: Command) -> Output {
    timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

/// Asserts the exit code, and that no output shows a secret. Returns standard output.
#[track_caller]
fn printed(output: &Output, code: i32) -> String {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    for secret in [TOKEN_ID, TOKEN_SECRET] {
        assert!(!stdout.contains(secret) && !stderr.contains(secret), "{stdout}{stderr}");
    }
    // Standard error is no terminal here.
    assert!(code == 2 || stderr.is_empty(), "{stderr}");
    stdout
}

/// Asserts that the command ended with an error, and returns it.
#[track_caller]
fn error(output: &Output) -> String {
    assert_eq!(printed(output, 2), "");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn body(id: &str, status: &str) -> Bytes {
    Bytes::from(format!(r#"{{"id":"{id}","status":"{status}"}}"#))
}

fn publish(api: &MockApi, id: &str, status: &str) {
    api.publish(&Message::new(status, body(id, status)));
}

/// Stores a Request, as a webhook.
async fn push(inbox: &Inbox<impl Store>, id: &str, status: &str) {
    let record = Record::decode::<PaymentRequest>(body(id, status)).unwrap();
    inbox.store().insert(vec![record]).await.unwrap();
}

/// One object of each outcome, apart from `later`.
async fn of_each_outcome(shop: &Shop) -> &'static str {
    push(&shop.inbox, "CAPD-agreed", "SUCCESS").await;
    push(&shop.inbox, "CAPD-ahead", "SUCCESS").await;
    push(&shop.inbox, "CAPD-lost", "WAITING_PAYMENT").await;
    publish(&shop.api, "CAPD-agreed", "SUCCESS");
    publish(&shop.api, "CAPD-ahead", "WAITING_PAYMENT");
    publish(&shop.api, "CAPD-lost", "EXPIRED");
    publish(&shop.api, "PMT-unseen", "SUCCESS");
    "# of May\nCAPD-agreed\n\nCAPD-ahead\nrequest CAPD-lost\nPMT-unseen\nCAPD-none\nCAPD-agreed\n"
}

#[tokio::test]
async fn stores_what_no_webhook_brought() {
    let shop = Shop::open().await;
    let ids = of_each_outcome(&shop).await;
    let text = printed(&shop.run(ids, &[]).await, 1);
    let lines: Vec<_> = text.lines().collect();
    let expected = [
        "outcome     objects",
        "agreed            1",
        "recovered         2",
        "ahead             1",
        "missing           1",
        "later             0",
        "ahead request CAPD-ahead WAITING_PAYMENT",
        "recovered request CAPD-lost EXPIRED",
        "recovered payment PMT-unseen SUCCESS",
        "missing request CAPD-none",
        "not all agree",
    ];
    assert_eq!(lines, expected);
    let stored = shop.stored().await;
    let fetched = |id: &str, status: &str| (id.to_owned(), status.to_owned(), Source::Fetched);
    assert!(stored.contains(&fetched("CAPD-lost", "EXPIRED")), "{stored:?}");
    assert!(stored.contains(&fetched("PMT-unseen", "SUCCESS")), "{stored:?}");
    assert_eq!(stored.len(), 5);

    let again = shop.run("CAPD-agreed\nCAPD-lost\nPMT-unseen\n", &[]).await;
    assert!(printed(&again, 0).ends_with("later             0\nall agree\n"), "{again:?}");
    assert_eq!(shop.stored().await.len(), 5);
    assert_eq!(shop.api.requests_for("CAPD-agreed"), 2, "each object is fetched once a run");
}

#[tokio::test]
async fn prints_json() {
    let shop = Shop::open().await;
    let ids = of_each_outcome(&shop).await;
    let object = |kind: &str, id: &str, outcome: &str, status: Option<&str>| json!({ "kind": kind, "id": id, "outcome": outcome, "status": status, "reason": null });
    let expected = json!({
        "ok": false, "dry_run": false, "end": "complete",
        "agreed": 1, "recovered": 2, "ahead": 1, "missing": 1, "later": 0,
        "objects": [
            object("request", "CAPD-ahead", "ahead", Some("WAITING_PAYMENT")),
            object("request", "CAPD-lost", "recovered", Some("EXPIRED")),
            object("payment", "PMT-unseen", "recovered", Some("SUCCESS")),
            object("request", "CAPD-none", "missing", None),
        ],
        "not_looked_at": [],
    });
    assert_eq!(shop.json(ids, &[], 1).await, expected);
    let agreed = shop.json("CAPD-agreed", &[], 0).await;
    assert_eq!(agreed["ok"], true);
    assert_eq!(agreed["agreed"], 1);
}

/// All rows of all tables.
fn rows(shop: &Shop) -> Vec<(String, Vec<Vec<Cell>>)> {
    let db = Connection::open(shop.folder.path().join("inbox.db")).unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    let mut tables = db.prepare(tables).unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let rows_of = |table: String| {
        let mut all = db.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let columns = all.column_count();
        let cells =
            |row: &inqud_inbox::rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect();
        let rows = all.query_map([], cells).unwrap().map(Result::unwrap).collect();
        (table, rows)
    };
    tables.map(Result::unwrap).map(rows_of).collect()
}

#[tokio::test]
async fn dry_run_stores_nothing() {
    let shop = Shop::open().await;
    let ids = of_each_outcome(&shop).await;
    let before = rows(&shop);
    assert!(before.iter().any(|(_, rows)| rows.len() == 3), "{before:?}");
    let found = shop.json(ids, &["--dry-run"], 1).await;
    assert_eq!((&found["recovered"], &found["dry_run"]), (&json!(2), &json!(true)));
    let text = printed(&shop.run(ids, &["--dry-run"]).await, 1);
    assert!(text.ends_with("not all agree, dry run: nothing is stored\n"), "{text}");
    assert_eq!(rows(&shop), before);
    printed(&shop.run(ids, &[]).await, 1);
    assert_ne!(rows(&shop), before);
}

#[tokio::test]
async fn looks_at_an_inbox_in_postgres() {
    let Some(server) = postgres::shared() else { return };
    let inbox = server.inbox("reconcile").await;
    let shop = Shop::open().await;
    push(&inbox, "CAPD-1", "WAITING_PAYMENT").await;
    publish(&shop.api, "CAPD-1", "SUCCESS");
    let dump = async || {
        let client = postgres::connect(&server.config("reconcile")).await;
        let dump = "SELECT table_name::text, query_to_xml(format('SELECT * FROM inqud_inbox.%I', table_name), \
                    true, true, '')::text FROM information_schema.tables \
                    WHERE table_schema = 'inqud_inbox' ORDER BY 1";
        let rows = client.query(dump, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(String, String)>>()
    };
    let run = async |args: &[&str]| {
        let file = shop.folder.path().join("ids.txt");
        fs::write(&file, "CAPD-1").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_inqud-webhook"));
        command.args(["reconcile", "--json", "--postgres", "--ids"]).arg(file).args(args);
        command.env("INQUD_API_ID", TOKEN_ID).env("INQUD_API_SECRET", TOKEN_SECRET);
        command.env("INQUD_API_URL", &shop.url).env("DATABASE_URL", server.url("reconcile"));
        command.kill_on_drop(true);
        output(command).await
    };
    let before = dump().await;
    assert!(before.iter().any(|(_, rows)| rows.contains("CAPD-1")), "{before:?}");
    printed(&run(&["--dry-run"]).await, 1);
    assert_eq!(dump().await, before);
    printed(&run(&[]).await, 1);
    assert_ne!(dump().await, before);
    printed(&run(&[]).await, 0);
}

#[tokio::test]
async fn stores_an_object_under_the_given_kind_and_tenant() {
    let shop = Shop::open().await;
    publish(&shop.api, "CAPD-1", "SUCCESS");
    let args = ["--kind=event", "--tenant=acme"];
    assert_eq!(shop.json("CAPD-1", &args, 1).await["recovered"], 1);
    let page = shop.inbox.list(Filter::new().kind("event"), 2).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].tenant.as_deref(), Some("acme"));
    assert_eq!(shop.json("event CAPD-1", &["--tenant=acme"], 0).await["agreed"], 1);
    assert_eq!(shop.json("CAPD-1", &["--tenant=acme"], 1).await["recovered"], 1, "as a Request");
    assert_eq!(shop.json("event CAPD-1", &[], 1).await["recovered"], 1, "of no tenant");
}

#[tokio::test]
async fn reads_ids_from_standard_input_and_the_token_from_files() {
    let shop = Shop::open().await;
    publish(&shop.api, "CCO-1", "NEW");
    let write = |name: &str, text: &str| {
        let path = shop.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (id, secret) =
        (write("id", &format!("{TOKEN_ID}\r\n")), write("secret", &format!("{TOKEN_SECRET}\n")));
    for proof in ["signature", "secret"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inqud-webhook"));
        command.args(["reconcile", "--ids=-", "--json", "--dry-run", "--prove-by", proof]);
        command.arg("--sqlite").arg(shop.folder.path().join("inbox.db"));
        command.arg("--api-id-file").arg(&id).arg("--api-secret-file").arg(&secret);
        command.args(["--api-url", &shop.url, "--path", "checkout=/v1/checkouts/{id}"]);
        command.env_remove("INQUD_API_ID").env_remove("INQUD_API_SECRET").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"CCO-1\n").await.unwrap();
        let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let found: Value = serde_json::from_str(&printed(&output, 1)).unwrap();
        assert_eq!(found["recovered"], 1, "{found}");
    }
    assert_eq!(shop.api.refused(), 0);
}

#[tokio::test]
async fn waits_as_long_as_the_api_asks_for() {
    let shop = Shop::open().await;
    publish(&shop.api, "CAPD-1", "SUCCESS");
    shop.api.fault(ApiFault::too_many_requests(Duration::from_secs(2)));
    let api = shop.api.clone();
    let recovery = tokio::spawn(async move {
        while api.requests() == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        api.recover();
    });
    let began = Instant::now();
    assert_eq!(shop.json("CAPD-1", &[], 1).await["recovered"], 1);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    recovery.await.unwrap();
    assert_eq!(shop.api.requests_for("CAPD-1"), 2);
}

#[tokio::test]
async fn does_not_wait_for_longer_than_a_minute() {
    let shop = Shop::open().await;
    shop.api.fault(ApiFault::too_many_requests(Duration::from_secs(600)));
    let found = shop.json("CAPD-1\nCAPD-2\nCAPD-3", &[], 1).await;
    assert_eq!(found["end"], "api_failed");
    assert_eq!(found["objects"][0]["reason"], "status 429");
    let rest =
        json!([{ "kind": "request", "id": "CAPD-2" }, { "kind": "request", "id": "CAPD-3" }]);
    assert_eq!(found["not_looked_at"], rest);
    assert_eq!(shop.api.requests(), 1);
}

#[tokio::test]
async fn gives_up_if_the_api_fails_again_and_again() {
    let shop = Shop::open().await;
    shop.api.fault(ApiFault::server_error());
    let text = printed(&shop.run("CAPD-1\nCAPD-2\nCAPD-3\nCAPD-4", &[]).await, 1);
    let end = "later             2\n\
               later request CAPD-1: status 500\n\
               later request CAPD-2: status 500\n\
               2 not looked at, because the API fails: run the command again later\n\
               not all agree\n";
    assert!(text.ends_with(end), "{text}");
    assert_eq!(shop.api.requests(), 4);
}

#[tokio::test]
async fn says_what_is_wrong_with_the_api() {
    let shop = Shop::open().await;
    let mut wrong = shop.command("CAPD-1", &["--json"]);
    wrong.env("INQUD_API_SECRET", "another secret");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = shop.command("CAPD-1", &["--json", "--api-url", &format!("http://{free}")]);
    let (wrong, refused) = tokio::join!(output(wrong), output(refused));
    let reason = |output: &Output| {
        let found: Value = serde_json::from_str(&printed(output, 1)).unwrap();
        found["objects"][0]["reason"].as_str().unwrap().to_owned()
    };
    assert!(!String::from_utf8_lossy(&wrong.stdout).contains("another secret"));
    let advice = "status 401: check the API token, and whether Inqud must know your address";
    assert_eq!(reason(&wrong), advice);
    let told = reason(&refused);
    assert!(told.contains("the request failed") && told.contains("refused"), "{told}");
}

#[tokio::test]
async fn one_bad_object_does_not_end_the_run() {
    let shop = Shop::open().await;
    for id in ["CAPD-1", "CAPD-2", "CAPD-3"] {
        publish(&shop.api, id, "SUCCESS");
    }
    shop.api.fault(ApiFault::NotJson);
    let api = shop.api.clone();
    let recovery = tokio::spawn(async move {
        while api.requests() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        api.recover();
    });
    let found = shop.json("CAPD-1\nCAPD-2\nCAPD-3", &[], 1).await;
    recovery.await.unwrap();
    assert_eq!(found["end"], "complete");
    assert_eq!(found["objects"][0]["outcome"], "later");
    assert_eq!(found["objects"][2]["outcome"], "recovered", "{found}");
}

#[tokio::test]
async fn keeps_to_the_rate() {
    let shop = Shop::open().await;
    let began = Instant::now();
    let found = shop.json("CAPD-1\nCAPD-2\nCAPD-3", &["--per-minute=60"], 1).await;
    assert_eq!(found["missing"], 3);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    let told = error(&shop.run("CAPD-1", &["--per-minute=0"]).await);
    assert!(told.contains("0 is not in 1..=6000"), "{told}");
}

/// Answers the first call with 404, over TLS. Returns the URL and the certificate.
fn tls_server() -> (String, rcgen::Certificate) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let config = std::sync::Arc::new(config);
        for stream in listener.incoming() {
            let tls = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, stream.unwrap());
            let mut call = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                call.extend_from_slice(&buffer[..len]);
                if call.ends_with(b"\r\n\r\n") {
                    _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
                }
            }
        }
    });
    (url, made.cert)
}

#[tokio::test]
async fn https_requires_a_trusted_certificate() {
    let shop = Shop::open().await;
    let (url, certificate) = tls_server();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert;
    for (trusted, outcome) in [(&certificate, "missing"), (&other, "later")] {
        let file = shop.folder.path().join("trusted.pem");
        fs::write(&file, trusted.pem()).unwrap();
        let mut command = shop.command("CAPD-1", &["--json", "--api-url", &url]);
        command.env("SSL_CERT_FILE", file);
        let found: Value = serde_json::from_str(&printed(&output(command).await, 1)).unwrap();
        assert_eq!(found["objects"][0]["outcome"], outcome, "{found}");
        let reason = found["objects"][0]["reason"].as_str().unwrap_or_default();
        assert_eq!(reason.contains("certificate"), outcome == "later", "{found}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_ends_with_what_was_done() {
    let shop = Shop::open().await;
    publish(&shop.api, "CAPD-1", "SUCCESS");
    shop.api.delay(Duration::from_millis(300));
    let mut command = shop.command("CAPD-1\nCAPD-2\nCAPD-3", &["--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while shop.api.requests_for("CAPD-1") == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    shop.api.fault(ApiFault::Hang);
    while shop.api.requests_for("CAPD-2") == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let pressed = Instant::now();
    let kill = Command::new("kill").arg("-INT").arg(child.id().unwrap().to_string()).status();
    assert!(kill.await.unwrap().success());
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert!(pressed.elapsed() < Duration::from_secs(5), "{:?}", pressed.elapsed());
    let found: Value = serde_json::from_str(&printed(&output, 1)).unwrap();
    assert_eq!(found["end"], "interrupted");
    assert_eq!((&found["recovered"], &found["later"]), (&json!(1), &json!(0)), "{found}");
    assert_eq!(found["not_looked_at"].as_array().unwrap().len(), 2);
    assert_eq!(shop.stored().await.len(), 1);
}

#[tokio::test]
async fn errors_exit_with_2() {
    let shop = Shop::open().await;
    let file = shop.folder.path().join("ids.txt");
    for (ids, args, message) in [
        ("CAPD-1\nPMT-1 x y\n", &[][..], "line 2: must be `ID` or `KIND ID`"),
        (
            "ORD-1\n",
            &[],
            "line 1: the id \"ORD-1\" has no known prefix: write `KIND ID`, or pass --kind",
        ),
        ("CCO-1\n", &[], "line 1: the path of \"CCO-1\" in the API is not known: pass --path"),
        ("# none\n", &[], "contains no ids"),
    ] {
        let told = error(&shop.run(ids, args).await);
        assert!(told.starts_with(&format!("error: {}: {message}", file.display())), "{told}");
    }
    for (args, message) in [
        (&["--api-url", "http://203.0.113.1"][..], "unencrypted"),
        (&["--api-url", "api.inqud.com"], "invalid base URL"),
        (&["--path", "checkout=nowhere"], "invalid path \"nowhere\""),
        (&["--path", "order=/{id}"], "unknown kind: must be one of"),
        (&["--api-secret-file", "no-such-file"], "--api-secret-file no-such-file"),
    ] {
        let told = error(&shop.run("CAPD-1", args).await);
        assert!(told.contains(message), "{told}");
    }
    for variable in ["INQUD_API_ID", "INQUD_API_SECRET"] {
        let mut command = shop.command("CAPD-1", &[]);
        command.env_remove(variable);
        let told = error(&output(command).await);
        assert!(told.contains(&format!("no API token given: set {variable}, or pass")), "{told}");
        let mut command = shop.command("CAPD-1", &[]);
        command.env(variable, "");
        assert!(error(&output(command).await).contains("API token"));
    }
    assert_eq!(shop.api.requests(), 0);
}

#[tokio::test]
async fn help_has_outcomes_and_exit_codes_and_no_secret() {
    let shop = Shop::open().await;
    let help = printed(&shop.run("CAPD-1", &["--help"]).await, 0);
    for word in
        ["agreed", "recovered", "ahead", "missing", "later", "Exits with 0", "INQUD_API_SECRET"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[tokio::test]
async fn status_of_the_api_cannot_control_the_terminal() {
    let shop = Shop::open().await;
    publish(&shop.api, "PMT-1", "PAID\\u001b[2J");
    let text = printed(&shop.run("PMT-1", &[]).await, 1);
    assert!(text.contains("recovered payment PMT-1 PAID\\u{1b}[2J\n"), "{text}");
}
