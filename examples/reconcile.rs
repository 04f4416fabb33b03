//! Loses a third of the webhooks for ever, and heals: a reconciler asks Inqud's API for what no webhook brought.
//!
//! ```text
//! cargo run --all-features --example reconcile
//! ```
//!
//! A scripted Inqud delivers webhooks about 60 orders to a merchant's server, and also plays the API. It loses some
//! webhooks and never retries. The times of the reconciler are scaled from days to seconds. The example exits with 0
//! if every order is right at the end, and no state was handled twice.
#![allow(clippy::print_stdout, reason = "examples print what they do")]

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post_service;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use inqud_api::{ApiClient, Credentials};
use inqud_inbox::rusqlite::params;
use inqud_inbox::{Context, Fetch, Inbox, ReconcileReport, Sqlite, Stored};
use inqud_mock::{Lifecycle, Message, MockApi, MockInqud, Scenario};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tower_inqud::jiff::Timestamp;
use tower_inqud::{Notification, PaymentRequest, Secret, WebhookLayer};

type BoxError = Box<dyn Error + Send + Sync>;

const ORDERS: usize = 60;

/// The share of webhooks that Inqud loses.
const LOST: f64 = 0.35;

/// When to look at a quiet object. In production: 15 minutes, 1, 6 and 24 hours, 3 days.
const SCHEDULE: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
    Duration::from_millis(3200),
];

const TABLES: &str = "
    CREATE TABLE orders (id TEXT PRIMARY KEY, request TEXT, status TEXT, shipped INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE handled (request TEXT, status TEXT, source TEXT);";

/// What an order must be at the end.
#[derive(Debug, Eq, PartialEq)]
struct Order {
    status: Option<String>,
    shipped: i64,
}

type Orders = BTreeMap<String, Order>;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let folder = tempfile::tempdir()?;
    let inbox = Inbox::sqlite(folder.path().join("inbox.db"))?;
    inbox.write(|db| db.execute_batch(TABLES)).await?;

    let secret = Secret::new("secret_value")?;
    let layer = WebhookLayer::<PaymentRequest>::new(secret.clone());
    let receiver = post_service(inbox.receiver::<PaymentRequest>()).layer(layer);
    let shop = serve(Router::new().route("/webhooks/inqud/request", receiver)).await?;
    let api = MockApi::new("TKN-1", "the secret of the token")?;
    let api_url = serve(Router::new().fallback_service(api.clone())).await?;

    let stories: Vec<Vec<Message>> = (0..ORDERS).map(story).collect();
    let mut truth = Orders::new();
    for (number, story) in stories.iter().enumerate() {
        let order = format!("order-{number:02}");
        let request = story.last().ok_or("an empty story")?;
        let request: PaymentRequest = serde_json::from_slice(request.body())?;
        let shipped = i64::from(request.status.is_successful());
        let status = Some(request.status_text().to_owned());
        truth.insert(order.clone(), Order { status, shipped });
        place_order(&inbox, order, request.id).await?;
    }
    println!("{ORDERS} orders are placed, and each expects webhooks about its Request.");

    // First all first webhooks, then all second ones.
    let steps = stories.iter().map(Vec::len).max().unwrap_or_default();
    let webhooks: Vec<_> = (0..steps)
        .flat_map(|step| stories.iter().filter_map(move |story| story.get(step).cloned()))
        .collect();
    let uri = format!("{shop}/webhooks/inqud/request").parse()?;
    let inqud = MockInqud::new(secret, uri).seed(20).api(&api);
    let http = Client::builder(TokioExecutor::new()).build_http();
    let report = inqud.clone().drop_share(LOST).deliver(webhooks.clone(), http).await;
    process(&inbox).await?;
    let lost = report.lost().count();
    println!("Inqud sends {} webhooks, and {lost} of them are lost for ever.", webhooks.len());
    let wrong = wrong(&inbox, &truth).await?;
    println!(
        "{} orders are wrong, such as {}.",
        wrong.len(),
        wrong.first().map_or("none", |it| it)
    );

    println!("\nThe reconciler looks at objects that are due:\n");
    println!("after     agreed recovered ahead missing later   wrong orders");
    let credentials = Credentials::signed("TKN-1", "the secret of the token")?;
    let client = ApiClient::builder(credentials)
        .base_url(api_url)
        .rate_limit(1_000, Duration::from_secs(1))
        .build(Client::builder(TokioExecutor::new()).build_http())?;
    let total = heal(&inbox, client, &truth).await?;
    let mut not_healed = self::wrong(&inbox, &truth).await?;
    show("total", &total, not_healed.len());
    println!("\n{} requests to the API, {} states recovered.", api.requests(), total.recovered);

    println!("\nThe lost webhooks come after all, and the others once more.");
    let http = Client::builder(TokioExecutor::new()).build_http();
    let all_acknowledged = inqud.deliver(webhooks, http).await.all_acknowledged();
    process(&inbox).await?;

    let mut faults = self::wrong(&inbox, &truth).await?;
    faults.append(&mut not_healed);
    faults.append(&mut handled_again(&inbox).await?);
    for fault in &faults {
        println!("WRONG: {fault}");
    }
    inbox.close().await;
    let is_well = faults.is_empty() && all_acknowledged && lost > 0;
    println!("{}", if is_well { "Every order is right." } else { "NOT as expected, see above." });
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves on a free port of this machine, and returns the base URL.
async fn serve(app: Router) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(format!("http://{address}"))
}

/// The webhooks about the Request of an order, in the order in which Inqud creates them.
fn story(number: usize) -> Vec<Message> {
    let scenarios =
        [Scenario::Success, Scenario::Expired, Scenario::Success, Scenario::ResolvedConflict];
    let scenario = scenarios.iter().cycle().nth(number).copied().unwrap_or(Scenario::Success);
    let order = format!("order-{number:02}");
    // The Requests have expired long ago, so the reconciler does not wait for that.
    Lifecycle::new(scenario).client_order_id(order).into_iter().collect()
}

// ------------------------------------------------------------------------------------ the merchant

/// Stores an order. If it is stored, its Request is looked at, even if no webhook ever arrives.
async fn place_order(
    inbox: &Inbox<Sqlite>,
    order: String,
    request: String,
) -> Result<(), BoxError> {
    let expires_at = Timestamp::now();
    let place = inbox.write(move |db| {
        db.execute("INSERT INTO orders (id, request) VALUES (?1, ?2)", [&order, &request])?;
        Sqlite::expect::<PaymentRequest>(db, &request, expires_at)
    });
    Ok(place.await?)
}

/// The handler does not care whether a webhook or a look brought the notification.
async fn on_request(request: Stored<PaymentRequest>, cx: Context<Sqlite>) -> Result<(), BoxError> {
    let (id, status) = (request.id.clone(), request.status_text().to_owned());
    let source = request.source().as_str();
    cx.effect(move |db| {
        db.execute("UPDATE orders SET status = ?2 WHERE request = ?1", [&id, &status])?;
        db.execute("INSERT INTO handled VALUES (?1, ?2, ?3)", params![id, status, source])
    });
    if request.status.is_successful() {
        let order = request.client_order_id.clone().ok_or("a Request without clientOrderId")?;
        let key = format!("ship:{order}");
        let ship = "UPDATE orders SET shipped = shipped + 1 WHERE id = ?1";
        cx.once(key, move |db| db.execute(ship, [&order]), |_, _| Ok(()));
    }
    Ok(())
}

/// Handles everything that is stored.
async fn process(inbox: &Inbox<Sqlite>) -> Result<(), BoxError> {
    inbox.process(on_request).run_until_idle().await?;
    Ok(())
}

/// Looks at what is due, now and then. A server runs `run_until(shutdown)` beside its runner instead.
async fn heal(
    inbox: &Inbox<Sqlite>,
    client: impl Fetch<PaymentRequest> + Clone,
    truth: &Orders,
) -> Result<ReconcileReport, BoxError> {
    let began = Instant::now();
    let mut total = ReconcileReport::default();
    while began.elapsed() < Duration::from_secs(5) {
        let reconciler = inbox.reconcile::<PaymentRequest>(client.clone());
        let reconciler = reconciler.schedule(SCHEDULE).confirm_after(Duration::from_millis(500));
        let report = reconciler.run_until_idle().await?;
        process(inbox).await?;
        if report != ReconcileReport::default() {
            let after = format!("{:.1} s", began.elapsed().as_secs_f64());
            show(&after, &report, wrong(inbox, truth).await?.len());
        }
        add(&mut total, &report);
        sleep(Duration::from_millis(300)).await;
    }
    Ok(total)
}

// -------------------------------------------------------------------------------------- the checks

/// A line for each order that is not as it must be.
async fn wrong(inbox: &Inbox<Sqlite>, truth: &Orders) -> Result<Vec<String>, BoxError> {
    let orders: Orders = inbox
        .write(|db| {
            let mut orders = db.prepare("SELECT id, status, shipped FROM orders")?;
            let orders = orders.query_map([], |row| {
                Ok((row.get(0)?, Order { status: row.get(1)?, shipped: row.get(2)? }))
            })?;
            orders.collect()
        })
        .await?;
    let text = |order: Option<&Order>| {
        let status = order.and_then(|it| it.status.as_deref()).unwrap_or("unknown");
        format!("{status}, shipped {} times", order.map_or(0, |it| it.shipped))
    };
    let wrong = truth.iter().filter(|(id, order)| orders.get(*id) != Some(*order));
    let line = |(id, order): (&String, &Order)| {
        format!("{id}: {} instead of {}", text(orders.get(id)), text(Some(order)))
    };
    Ok(wrong.map(line).collect())
}

/// A line for each state that was handled more than once.
async fn handled_again(inbox: &Inbox<Sqlite>) -> Result<Vec<String>, BoxError> {
    let again = inbox.write(|db| {
        let again = "SELECT request || ' ' || status || ' was handled ' || count(*) || ' times'
                     FROM handled GROUP BY request, status HAVING count(*) > 1";
        db.prepare(again)?.query_map([], |row| row.get(0))?.collect()
    });
    Ok(again.await?)
}

fn add(total: &mut ReconcileReport, report: &ReconcileReport) {
    let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
    add(&mut total.agreed, report.agreed);
    add(&mut total.recovered, report.recovered);
    add(&mut total.ahead, report.ahead);
    add(&mut total.missing, report.missing);
    add(&mut total.later, report.later);
}

fn show(when: &str, report: &ReconcileReport, wrong: usize) {
    let ReconcileReport { agreed, recovered, ahead, missing, later, .. } = report;
    println!(
        "{when:<9} {agreed:>6} {recovered:>9} {ahead:>5} {missing:>7} {later:>5}   {wrong:>12}"
    );
}
