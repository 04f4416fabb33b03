//! A small shop whose payment pages follow Inqud's webhooks live.
//!
//! ```text
//! cargo run --manifest-path examples/shop/Cargo.toml             # the shop, and a mock that orders and pays
//! cargo run --manifest-path examples/shop/Cargo.toml -- --serve  # only the shop: webhooks come from elsewhere
//! ```
//!
//! | variable | |
//! | --- | --- |
//! | `LISTEN` | the address. Defaults to `127.0.0.1:3000` |
//! | `DATABASE` | the SQLite file. Defaults to a temporary one |
//! | `INQUD_WEBHOOK_SECRET` | the secret of the webhooks. `--serve` needs it |
//! | `OPERATOR_TOKEN` | opens `/operator`. Defaults to a random one, which is printed |
//! | `PUBLIC_URL` | how browsers reach the shop. With `https` the operator's cookie needs it |
//! | `MAX_ATTEMPTS` | how often to try a notification. Defaults to 300, and to 3 with the mock |

mod access;
mod body;
mod customer;
mod database;
mod demo;
mod error;
mod gateway;
mod handler;
mod hex;
mod live;
mod note;
mod operator;
mod order;
mod page;
mod phase;
mod played;
mod product;
mod qr;
mod security;
mod server;
mod session;
mod shop;
mod tables;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::{env, future};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::from_fn;
use axum::routing::{get, post_service};
use inqud_inbox::SqliteOptions;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tower_inqud::{PaymentRequest, Secret, WebhookLayer};

use crate::access::Access;
use crate::database::Database;
use crate::demo::{Demo, WEBHOOK};
use crate::error::BoxError;
use crate::gateway::MockGateway;
use crate::live::Live;
use crate::shop::Shop;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let is_demo = match env::args().nth(1).as_deref() {
        None => true,
        Some("--serve") => false,
        Some(other) => return Err(format!("unknown argument {other}: use --serve, or none").into()),
    };
    let secret = secret(is_demo)?;
    let (token, is_random) = match env::var("OPERATOR_TOKEN") {
        Ok(token) => (token, false),
        Err(_) => (Access::random_token()?, true),
    };
    let is_secure = env::var("PUBLIC_URL").is_ok_and(|url| url.starts_with("https://"));
    let access = Access::new(&token, is_secure)?;
    let attempts = match env::var("MAX_ATTEMPTS") {
        Ok(attempts) => {
            attempts.parse().map_err(|error| format!("MAX_ATTEMPTS={attempts}: {error}"))?
        }
        Err(_) if is_demo => 3,
        Err(_) => 300,
    };

    // Removed at the end.
    let folder = tempfile::tempdir()?;
    let file = env::var_os("DATABASE").map(PathBuf::from);
    let inbox = match &file {
        Some(file) => SqliteOptions::new(file),
        None => SqliteOptions::new(folder.path().join("shop.db")).allow_tmpfs(),
    };
    let inbox = inbox.open()?;
    inbox.write(tables::create).await?;
    let database = Database::new(&file.unwrap_or_else(|| folder.path().join("shop.db")));

    let (stop, stopped) = watch::channel(false);
    let (live, watcher) = Live::start(database.clone(), stopped.clone())?;
    let (orders, played) = mpsc::channel(64);
    let mock = is_demo.then_some(orders);
    let gateway = Box::new(MockGateway);
    let shop =
        Arc::new(Shop { inbox, database, gateway, live, access, mock, asking: Mutex::default() });

    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&listen).await;
    let listener = listener.map_err(|error| format!("LISTEN={listen}: {error}"))?;
    let address = listener.local_addr()?;
    println!("shop      http://{address}");
    println!("operator  http://{address}/operator");
    if is_random {
        println!("token     {token}");
    }
    println!("webhooks  http://{address}{WEBHOOK}\n");
    if !is_demo {
        println!(
            "The gateway is still a mock, and its addresses are invented: implement `Gateway` first.\n"
        );
    }

    let (reader, runner) = (shop.database.clone(), shop.inbox.clone());
    let runner = runner.process(move |it, cx| handler::on_request(reader.clone(), it, cx));
    let runner = runner.max_attempts(attempts).run_until(is_true(stopped.clone()));
    let app = app(&shop, &secret);
    let mut parts = JoinSet::new();
    let until = is_true(stopped.clone());
    parts.spawn(async move {
        server::serve(listener, app, until).await;
        Ok(())
    });
    parts.spawn(async { runner.await.map_err(BoxError::from) });
    let (preparing, until) = (Arc::clone(&shop), stopped.clone());
    parts.spawn(async move { preparing.prepare(until).await.map_err(BoxError::from) });
    if is_demo {
        let demo = Demo::new(Arc::clone(&shop), secret, address)?;
        let until = is_true(stopped);
        parts.spawn(async move {
            tokio::select! {
                result = demo.run(played) => result,
                () = until => Ok(()),
            }
        });
    }

    let mut result = tokio::select! {
        signal = terminated() => signal,
        Some(ended) = parts.join_next() => ended.map_err(BoxError::from).and_then(|result| result),
    };
    stop.send_replace(true);
    while let Some(ended) = parts.join_next().await {
        result = result.and(ended.map_err(BoxError::from).and_then(|result| result));
    }
    shop.inbox.close().await;
    _ = watcher.join();
    result
}

fn app(shop: &Arc<Shop>, secret: &Secret) -> Router {
    let rejected = shop.inbox.rejection_log().observer::<PaymentRequest>();
    let webhooks = WebhookLayer::<PaymentRequest>::new(secret.clone())
        .forward_undecodable()
        .on_rejection(rejected);
    let pages = Router::new()
        .merge(customer::routes())
        .merge(operator::routes())
        .fallback(async || page::not_found())
        .layer(from_fn(security::same_site))
        .layer(from_fn(security::in_time))
        .layer(DefaultBodyLimit::max(16 * 1024));
    Router::new()
        .route(WEBHOOK, post_service(shop.inbox.receiver::<PaymentRequest>()).layer(webhooks))
        .route(
            "/assets/style.css",
            asset("text/css; charset=utf-8", include_str!("../assets/style.css")),
        )
        .route(
            "/assets/page.js",
            asset("text/javascript; charset=utf-8", include_str!("../assets/page.js")),
        )
        .route("/assets/icon.svg", asset("image/svg+xml", include_str!("../assets/icon.svg")))
        .merge(pages)
        .layer(from_fn(security::headers))
        .with_state(Arc::clone(shop))
}

fn asset(kind: &'static str, text: &'static str) -> axum::routing::MethodRouter<Arc<Shop>> {
    get(move || {
        future::ready(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=300")], text))
    })
}

fn secret(is_demo: bool) -> Result<Secret, BoxError> {
    match env::var("INQUD_WEBHOOK_SECRET") {
        Ok(secret) => Ok(Secret::new(secret)?),
        // Only the mock knows it. It is different each time, so nobody mistakes it for one to keep.
        Err(_) if is_demo => Ok(Secret::new(Access::random_token()?)?),
        Err(error) => {
            Err(format!("INQUD_WEBHOOK_SECRET: {error}. Set it to the secret at Inqud").into())
        }
    }
}

async fn is_true(mut flag: watch::Receiver<bool>) {
    _ = flag.wait_for(|flag| *flag).await;
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
