//! The handlers of the guide have each effect exactly once, whatever breaks between the effect and the answer to the
//! commit. `NOTIFICATIONS` sets how many there are for each driver and test; 200 by default.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inqud_inbox::tokio_postgres::NoTls;
use inqud_inbox::{Context, Inbox, Postgres, Stored};
use tokio::time::{sleep, timeout};
use tower_inqud::PaymentRequest;

use self::clients::{DeadpoolPostgres, DieselAsync, Driver, SeaOrm, Sqlx, Sqlx08, TokioPostgres};
use self::proxy::{Counts, Faults, Message, POINTS, Point};
use self::shop::Shop;

mod clients;
#[path = "../../../../crates/inqud-inbox/tests/support/postgres.rs"]
mod postgres;
mod proxy;
mod shop;

/// Longer than anything that is expected to end.
const LONG: Duration = Duration::from_secs(300);
const BACKOFF: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

macro_rules! tests {
    ($($name:ident: $driver:ident),*) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn survives_broken_connections() {
                super::break_connections::<super::$driver>().await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn survives_kills() {
                super::kill::<super::$driver>().await;
            }
        })*

        /// The process that is killed.
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "is run by other tests"]
        async fn child() {
            match &*std::env::var("DRIVER").unwrap() {
                $(stringify!($name) => serve::<$driver>().await,)*
                other => panic!("{other}"),
            }
        }
    };
}

tests! {
    deadpool_postgres: DeadpoolPostgres,
    diesel_async: DieselAsync,
    sea_orm: SeaOrm,
    sqlx: Sqlx,
    sqlx_0_8: Sqlx08,
    tokio_postgres: TokioPostgres
}

/// Breaks connections at regular counts of the messages.
#[derive(Default)]
struct Breaks {
    completes: AtomicUsize,
    commits: AtomicUsize,
    counts: Counts,
}

impl Faults for Breaks {
    fn at(&self, message: Message) -> Option<Point> {
        let next = |count: &AtomicUsize| count.fetch_add(1, Ordering::Relaxed);
        let point = match message {
            Message::Complete => (next(&self.completes) % 13 == 5).then_some(Point::BeforeComplete),
            Message::Commit => match next(&self.commits) % 19 {
                3 => Some(Point::BeforeCommit),
                9 => Some(Point::AtCommit),
                15 => Some(Point::LostAnswer),
                _ => None,
            },
        };
        point.inspect(|point| self.counts.add(*point))
    }
}

async fn break_connections<D: Driver>() {
    let Some(shop) = Shop::new(format!("breaks_{}", D::NAME)).await else { return };
    let faults = Arc::new(Breaks::default());
    let port = proxy::start(shop.port(), Arc::clone(&faults)).await;
    let driver = D::connect(shop.url(port)).await.unwrap();
    let (calls, aborted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&aborted);
    let handler = move |request, cx: Context<Postgres>| {
        let (driver, count) = (driver.clone(), Arc::clone(&count));
        let nth = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            let handled = driver.handle(request, cx);
            if nth % 7 != 0 {
                return handled.await;
            }
            // Drops it wherever it is.
            let limit = Duration::from_micros(nth as u64 * 131 % 4000);
            timeout(limit, handled).await.unwrap_or_else(|elapsed| {
                count.fetch_add(1, Ordering::Relaxed);
                Err(elapsed.into())
            })
        }
    };
    let inbox = shop.inbox().await;
    let runner = inbox.process(handler).backoff(BACKOFF[0], BACKOFF[1]);
    let until = async {
        while shop.open().await > 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, runner.run_until(until)).await.unwrap().unwrap();
    shop.check().await;
    let (counts, aborted) = (faults.counts.all(), aborted.load(Ordering::Relaxed));
    println!("{}: {counts:?} of {POINTS:?}, {aborted} handlers aborted", D::NAME);
    let least = shop.notifications / 40;
    assert!(aborted >= least && counts.iter().all(|count| *count >= least));
}

/// Kills the process at regular counts of the messages, each time at another point.
struct Kills {
    every: usize,
    seen: AtomicUsize,
    next: AtomicUsize,
    child: Mutex<Option<Child>>,
    counts: Counts,
}

impl Faults for Kills {
    fn at(&self, message: Message) -> Option<Point> {
        let point = POINTS[self.next.load(Ordering::Relaxed) % POINTS.len()];
        let is_at = (point == Point::BeforeComplete) == (message == Message::Complete);
        if !is_at || self.seen.fetch_add(1, Ordering::Relaxed) < self.every {
            return None;
        }
        self.seen.store(0, Ordering::Relaxed);
        self.next.fetch_add(1, Ordering::Relaxed);
        self.counts.add(point);
        Some(point)
    }

    fn strike(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            // With SIGKILL.
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Kills {
    fn drop(&mut self) {
        self.strike();
    }
}

async fn kill<D: Driver>() {
    let Some(shop) = Shop::new(format!("kills_{}", D::NAME)).await else { return };
    let faults = Arc::new(Kills {
        every: shop.notifications / 5,
        seen: AtomicUsize::new(0),
        next: AtomicUsize::new(0),
        child: Mutex::default(),
        counts: Counts::default(),
    });
    let port = proxy::start(shop.port(), Arc::clone(&faults)).await;
    let url = shop.url(port);
    let served = async {
        while shop.open().await > 0 {
            {
                let mut child = faults.child.lock().unwrap();
                if child.is_none() {
                    *child = Some(spawn::<D>(&shop, &url));
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, served).await.unwrap();
    faults.strike();
    shop.check().await;
    let counts = faults.counts.all();
    println!("{}: killed {counts:?} times at {POINTS:?}", D::NAME);
    assert!(counts.iter().all(|count| *count >= 1));
}

fn spawn<D: Driver>(shop: &Shop, proxy: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", "--exact", "--ignored", "--quiet"]);
    command.env("DRIVER", D::NAME).env("PROXY", proxy);
    command.env("DATABASE", shop.server.url(&shop.name));
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command.spawn().unwrap()
}

async fn serve<D: Driver>() {
    std::thread::spawn(|| {
        // Closed when the parent ends.
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    let variable = |name| std::env::var(name).unwrap();
    let driver = D::connect(variable("PROXY")).await.unwrap();
    let config = variable("DATABASE").parse().unwrap();
    let inbox = Inbox::postgres(config, NoTls).await.unwrap();
    let handler = move |request: Stored<PaymentRequest>, cx| driver.clone().handle(request, cx);
    let runner = inbox.process(handler).backoff(BACKOFF[0], BACKOFF[1]);
    // A short lease, so that interrupted notifications are taken over soon.
    let runner = runner.handler_timeout(Duration::from_millis(500)).concurrency(8);
    runner.run_until(std::future::pending()).await.unwrap();
}
