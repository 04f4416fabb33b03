//! End to end: signed webhooks over TCP to a server with the inbox.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::routing::{post, post_service};
use http::StatusCode;
use inqud_inbox::{Context, Inbox, Record, Stored};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::Notify;
use tower_inqud::{PaymentRequest, Webhook, WebhookLayer};

use crate::Size;
use crate::engine::{Engine, Handler, Places, put};
use crate::ids;
use crate::report::{Report, Speed, alternate, median, ratio};

/// What the server does with a webhook that the layer has verified and decoded.
#[derive(Clone, Copy)]
enum Server {
    /// Nothing.
    Answer,
    /// Stores it through the floor of puts.
    Plain,
    Receive,
    ReceiveAndRun(Handler),
}

struct Served {
    speed: Speed,
    /// CPU time of the server in microseconds a request.
    cpu: f64,
    backlog: usize,
}

pub(crate) async fn compare<E: Engine>(places: &Places<E>, size: Size, report: &mut Report) {
    let mut servers = vec![
        (Server::Answer, "stores nothing".to_owned()),
        (Server::Plain, "plain handler".to_owned()),
        (Server::Receive, "inbox without a runner".to_owned()),
    ];
    for (handler, name) in E::HANDLERS {
        servers.push((Server::ReceiveAndRun(*handler), format!("inbox with a runner: {name}")));
    }
    let columns = [
        "server",
        "clients",
        "before",
        "requests/s",
        "p50",
        "p99",
        "CPU a request",
        "backlog",
        "to the plain handler",
    ];
    report.table(&format!("HTTP, {}", E::NAME), &columns, 1);
    for (clients, count) in size.chosen(size.http) {
        for before in size.before.iter().copied() {
            let kinds: Vec<_> = servers.iter().map(|it| it.0).collect();
            let run = async |server| {
                places.on(before, async |place| round(place, server, clients, count).await).await
            };
            let all = alternate(size.rounds, &kinds, run).await;
            for ((_, name), rounds) in servers.iter().zip(&all) {
                let speeds: Vec<_> = rounds.iter().map(|it| it.speed).collect();
                report.say(&format!(
                    "| {name} | {clients} | {} | {} | {:.0} µs | {:.0} | {:.2} |",
                    places.rows(before),
                    Speed::cells(&speeds),
                    median(rounds, |it| it.cpu),
                    median(rounds, |it| it.backlog as f64),
                    ratio(rounds, &all[1], |it| it.speed.rate),
                ));
            }
        }
    }
}

async fn round<E: Engine>(place: &E, server: Server, clients: usize, count: usize) -> Served {
    // A runner would start with the open notifications.
    place.process_all().await;
    let before = place.rows().await;
    let layer = WebhookLayer::<PaymentRequest>::new(ids::secret());
    let answer = async |_: Webhook<PaymentRequest>| StatusCode::OK;
    let (route, inbox) = match server {
        Server::Answer => (post(answer), None),
        Server::Plain => {
            let floor = place.insert_plainly().await;
            let store = async move |webhook: Webhook<PaymentRequest>| {
                put(&floor, Record::new(&*webhook, webhook.raw_body().clone())).await;
                StatusCode::OK
            };
            (post(store), None)
        }
        Server::Receive | Server::ReceiveAndRun(_) => {
            let inbox = place.inbox().await;
            (post_service(inbox.receiver::<PaymentRequest>()), Some(inbox))
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app: Router = Router::new().route("/", route.layer(layer));
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let enough = Arc::new(Notify::new());
    let running = match (server, &inbox) {
        (Server::ReceiveAndRun(handler), Some(inbox)) => {
            Some(tokio::spawn(run::<E>(inbox.clone(), handler, Arc::clone(&enough))))
        }
        _ => None,
    };
    let (speed, cpu) = send([address, clients.to_string(), count.to_string()], count).await;
    enough.notify_one();
    if let Some(running) = running {
        running.await.unwrap();
    }
    serving.abort();
    if let Some(inbox) = inbox {
        inbox.close().await;
    }
    let after = place.rows().await;
    let (backlog, done) = (after.open - before.open, after.done - before.done);
    let stored = if matches!(server, Server::Answer) { 0 } else { count };
    assert_eq!(backlog + done, stored);
    let has_effect =
        matches!(server, Server::ReceiveAndRun(handler) if handler != Handler::Nothing);
    assert_eq!(after.effects - before.effects, if has_effect { done } else { 0 });
    Served { speed, cpu: cpu * 1e6 / (count - clients) as f64, backlog }
}

async fn run<E: Engine>(inbox: Inbox<E::Store>, handler: Handler, enough: Arc<Notify>) {
    let on_request = move |request: Stored<PaymentRequest>, cx: Context<E::Store>| async move {
        E::handle(handler, &cx, request.into_event().id).await;
        Ok::<_, Infallible>(())
    };
    inbox.process(on_request).run_until(enough.notified_owned()).await.unwrap();
}

/// Starts the client, and returns what it measured and the CPU time of this process meanwhile, in seconds.
async fn send(arguments: [String; 3], count: usize) -> (Speed, f64) {
    let mut client = Command::new(env::current_exe().unwrap());
    client.arg("client").args(arguments).arg(ids::reserve(count).to_string());
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut client = client.spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut line = async || lines.next_line().await.unwrap().expect("the client failed");
    assert_eq!(line().await, "ready");
    let before = cpu();
    client.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
    let measured = line().await;
    let cpu = cpu() - before;
    let measured: Vec<f64> = measured.split(' ').map(|it| it.parse().unwrap()).collect();
    assert!(client.wait().await.unwrap().success());
    (Speed { rate: measured[0], p50: measured[1], p99: measured[2] }, cpu)
}

/// Returns the CPU time that this process has used, in seconds. Zero if it is not on Linux.
fn cpu() -> f64 {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return 0.0 };
    let (_, fields) = stat.rsplit_once(')').unwrap();
    // User and system time, in hundredths of a second.
    let ticks: u32 =
        fields.split_whitespace().skip(11).take(2).map(|it| it.parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}
