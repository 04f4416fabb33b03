//! Commits whose answers are lost: a proxy forwards a COMMIT to the server, and drops the connection instead of the
//! answer.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use inqud_inbox::tokio_postgres::{Client, Config, NoTls};
use inqud_inbox::{Claimed, Context, Inbox, Outcome, Postgres, Settlement, Store, Stored};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tower_inqud::PaymentRequest;

use crate::{DONE, LONG, claim, drained, paid, pay, record, shop};

const COMMIT: &[u8] = b"COMMIT\0";

/// What the proxies of one connection share.
struct Loss {
    /// The commit that is lost is the first on a connection that has sent this text before.
    after: &'static str,
    was_committed: AtomicBool,
}

/// Starts a proxy, and returns its address.
async fn proxy(server: SocketAddr, loss: Arc<Loss>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let loss = Arc::clone(&loss);
            tokio::spawn(async move { forward(client, server, &loss).await });
        }
    });
    address
}

/// Forwards until one side closes, or the answer is lost.
async fn forward(mut client: TcpStream, server: SocketAddr, loss: &Loss) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut sent, mut answered) = (Vec::new(), Vec::new());
    let mut is_losing = false;
    loop {
        let (from, to) = (sent.len(), answered.len());
        tokio::select! {
            read = client.read_buf(&mut sent) => {
                if read? == 0 {
                    return Ok(());
                }
                let after = find(&sent, loss.after.as_bytes());
                let commits = after.is_some_and(|at| find(&sent[at..], COMMIT).is_some());
                is_losing |= commits && !loss.was_committed.load(Ordering::SeqCst);
                server.write_all(&sent[from..]).await?;
            }
            read = server.read_buf(&mut answered) => {
                if read? == 0 {
                    return Ok(());
                }
                if !is_losing {
                    client.write_all(&answered[to..]).await?;
                } else if find(&answered[to.saturating_sub(COMMIT.len())..], COMMIT).is_some() {
                    loss.was_committed.store(true, Ordering::SeqCst);
                    return Ok(());
                }
            }
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|it| it == what)
}

/// An inbox with one notification, and one that reaches its database through the proxy.
struct Lossy {
    inbox: Inbox<Postgres>,
    through: Inbox<Postgres>,
    client: Client,
    loss: Arc<Loss>,
}

impl Lossy {
    async fn new(name: &str, after: &'static str) -> Option<Self> {
        let (inbox, client, direct) = shop(name).await?;
        // A repeated effect must not fail.
        client.batch_execute("ALTER TABLE paid DROP CONSTRAINT paid_pkey").await.unwrap();
        let server = SocketAddr::from(([127, 0, 0, 1], direct.get_ports()[0]));
        let loss = Arc::new(Loss { after, was_committed: AtomicBool::new(false) });
        let proxy = proxy(server, Arc::clone(&loss)).await;
        let mut config = Config::new();
        config.host("127.0.0.1").port(proxy.port()).dbname(direct.get_dbname().unwrap());
        config.user(direct.get_user().unwrap()).password(direct.get_password().unwrap());
        let through = Inbox::postgres(config, NoTls).await.unwrap();
        inbox.store().insert(vec![record("CAPD-1", 0)]).await.unwrap();
        Some(Self { inbox, through, client, loss })
    }

    /// The handler was called once, its effects are there once, and the notification is done.
    async fn assert_done_once(&self, calls: &AtomicUsize, effects: &[&str]) {
        assert!(self.loss.was_committed.load(Ordering::SeqCst), "no answer was lost");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(paid(&self.client).await, effects);
        let done = "SELECT state = 1 AND failures = 0 FROM inqud_inbox.notification";
        assert!(self.client.query_one(done, &[]).await.unwrap().get::<_, bool>(0));
    }
}

#[tokio::test]
async fn lost_answer_to_a_transaction_is_done_once() {
    let Some(lossy) = Lossy::new("lost transaction", "INSERT INTO paid").await else { return };
    let calls = Arc::new(AtomicUsize::new(0));
    let called = Arc::clone(&calls);
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        called.fetch_add(1, Ordering::SeqCst);
        async move { pay(&cx.transaction().await?, &request.id).await }
    };
    let runner = lossy.through.process(handler);
    let report = timeout(LONG, runner.run_until_idle()).await.unwrap().unwrap();
    assert_eq!((report.done, report.retried, report.lease_expired), (1, 0, 0));
    lossy.assert_done_once(&calls, &["CAPD-1"]).await;
}

/// The runner settles it again, and learns that it is done.
#[tokio::test]
async fn lost_answer_to_a_statement_is_done_once() {
    let Some(lossy) = Lossy::new("lost statement", "INSERT INTO paid").await else { return };
    let (calls, errors) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (called, failed) = (Arc::clone(&calls), Arc::clone(&errors));
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Postgres>| {
        called.fetch_add(1, Ordering::SeqCst);
        cx.execute("INSERT INTO paid VALUES ($1)", [request.id.clone()]);
        ready(Ok::<_, Infallible>(()))
    };
    let runner = lossy.through.process(handler);
    let runner = runner.on_error(move |_| _ = failed.fetch_add(1, Ordering::SeqCst));
    let end = async {
        drained(lossy.inbox.clone()).await;
        sleep(Duration::from_secs(1)).await;
    };
    timeout(LONG, runner.run_until(end)).await.unwrap().unwrap();
    assert_eq!(errors.load(Ordering::SeqCst), 1, "the answer that was lost");
    lossy.assert_done_once(&calls, &["CAPD-1"]).await;
}

#[tokio::test]
async fn settlement_whose_answer_was_lost_is_known_as_done() {
    let Some(lossy) = Lossy::new("lost settlement", "WITH closed AS").await else { return };
    let Claimed { ticket, .. } = claim(&lossy.through, 1).await.remove(0);
    let mut settlement = Settlement { ticket, outcome: Outcome::Done(vec![]) };
    let store = lossy.through.store();
    store.settle(&mut settlement).await.unwrap_err();
    assert_eq!(store.settle(&mut settlement).await.unwrap(), DONE);
    lossy.assert_done_once(&AtomicUsize::new(1), &[]).await;
}
