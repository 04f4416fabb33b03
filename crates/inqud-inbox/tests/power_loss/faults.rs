//! Calls of the disk that fail.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use inqud_inbox::{Context, Inbox, InboxError, InboxErrorKind, Sqlite, Stored};
use tokio::time::{sleep, timeout};
use tower_inqud::PaymentRequest;

use crate::check::{check, text};
use crate::disk::{Call, Disk, Errno, Fault, Lie};
use crate::history::{History, Log, Name, name};
use crate::image::{Kept, image};
use crate::random::Random;
use crate::workload::{create_table, open, pay, put, put_all};

/// Longer than anything that is expected to end.
const LONG: Duration = Duration::from_secs(60);

/// After so many errors the disk works again.
const ENOUGH: usize = 3;

const ROUNDS: u32 = 3;
const OBJECTS: u32 = 4;

/// What an inbox met on a disk that failed.
pub(crate) struct Met {
    /// How many calls could have failed.
    pub(crate) calls: usize,
    pub(crate) failed: Vec<Call>,
    pub(crate) wrong: Vec<String>,
}

/// Lets an inbox work on a disk that fails, until it works again and everything is done. Then checks what is on the
/// disk, and what is after a power loss.
pub(crate) async fn meet(fault: Fault, random: &mut Random) -> Met {
    let disk = Disk::new(Lie::None);
    disk.set_fault(Some(fault));
    let log = Log::new(Arc::clone(&disk));
    let mut wrong = Vec::new();
    match timeout(LONG, work(&disk, &log)).await {
        Ok(Ok(())) => {}
        Ok(Err(what)) => wrong.push(what),
        Err(_) => wrong.push("it does not recover".to_owned()),
    }
    let (calls, failed) = disk.calls();
    disk.set_fault(None);
    let history = log.history();
    let end = disk.now();
    let cuts = [(end, Kept::All), (end, Kept::None), (end, Kept::Torn)];
    let cuts =
        cuts.into_iter().chain([Kept::None, Kept::Torn].map(|it| (random.below(end + 1), it)));
    for (cut, kept) in cuts {
        let image = disk.with_ops(|ops| image(&ops[..cut], kept, random));
        if let Err(what) = check(&image, &history, cut).await {
            wrong.push(format!("after {cut} of {end} operations, {kept:?} kept: {what}"));
        }
    }
    if let Some(cut) = disk.last_failed_sync()
        && let Err(what) = restart(&disk, cut, &history, random).await
    {
        wrong.push(format!("killed after {cut} of {end} operations: {what}"));
    }
    disk.remove();
    Met { calls, failed, wrong }
}

/// Kills the process after a sync that failed, starts another one, and cuts the power when that has acknowledged
/// something.
async fn restart(
    disk: &Disk,
    cut: usize,
    history: &History,
    random: &mut Random,
) -> Result<(), String> {
    let files = disk.with_ops(|ops| image(&ops[..cut], Kept::All, random));
    let disk = disk.killed(cut, &files);
    let log = Log::resumed(Arc::clone(&disk), history.until(cut));
    let inbox = open(&disk).map_err(|error| format!("not opened: {}", text(&error)))?;
    let status = put(&inbox, &log, (50, 0)).await;
    if status != StatusCode::OK {
        return Err(format!("the next call is answered with {status}"));
    }
    let cut = disk.now();
    let image = disk.with_ops(|ops| image(ops, Kept::None, random));
    inbox.close().await;
    disk.remove();
    check(&image, &log.history(), cut).await
}

/// Tries until it works. After some errors the disk does.
macro_rules! again {
    ($disk:expr, $work:expr) => {{
        let mut errors = 0;
        loop {
            match $work {
                Ok(done) => break done,
                Err(error) => {
                    is_clear(&error)?;
                    errors += 1;
                    if errors == ENOUGH {
                        $disk.set_fault_over();
                    }
                    if errors > ENOUGH {
                        return Err(format!("the disk works, but: {}", text(&error)));
                    }
                }
            }
        }
    }};
}

/// The error says that the disk failed.
fn is_clear(error: &InboxError) -> Result<(), String> {
    let text = text(error);
    let says = [
        "disk I/O error",
        "Input/output error",
        "database or disk is full",
        "unable to open database file",
    ];
    if error.kind() == InboxErrorKind::Store && says.iter().any(|it| text.contains(it)) {
        return Ok(());
    }
    Err(format!("an unclear error: {:?}: {text}", error.kind()))
}

async fn work(disk: &Arc<Disk>, log: &Log) -> Result<(), String> {
    let mut inbox = again!(disk, open(disk));
    again!(disk, create_table(&inbox).await);
    for round in 0..ROUNDS {
        if round == 2 {
            inbox.close().await;
            drop(inbox);
            inbox = again!(disk, open(disk));
        }
        put_until_accepted(disk, &inbox, log, (0..OBJECTS).map(|id| (id, round)).collect()).await?;
        run(disk, &inbox, log).await?;
    }
    put_until_accepted(disk, &inbox, log, vec![(0, ROUNDS)]).await?;
    inbox.close().await;
    Ok(())
}

/// As Inqud does it.
async fn put_until_accepted(
    disk: &Disk,
    inbox: &Inbox<Sqlite>,
    log: &Log,
    names: Vec<Name>,
) -> Result<(), String> {
    for tries in 0..=ENOUGH + 1 {
        if tries == ENOUGH {
            disk.set_fault_over();
        }
        let statuses = put_all(inbox, log, names.clone()).await;
        if statuses.iter().all(|it| *it == StatusCode::OK) {
            return Ok(());
        }
        let is_known =
            |it: &StatusCode| matches!(*it, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE);
        if !statuses.iter().all(is_known) {
            return Err(format!("{statuses:?}"));
        }
    }
    Err("the disk works, but calls are refused".to_owned())
}

/// Handles everything.
async fn run(disk: &Arc<Disk>, inbox: &Inbox<Sqlite>, log: &Log) -> Result<(), String> {
    let its = log.clone();
    let handler = move |request: Stored<PaymentRequest>, cx: Context<Sqlite>| {
        let name = name(&request);
        its.handles(name);
        pay(&cx, name);
        its.accepts(name);
        async { Ok::<_, Infallible>(()) }
    };
    let errors = Arc::new(AtomicUsize::new(0));
    let (counted, unclear) = (Arc::clone(&errors), Arc::new(std::sync::Mutex::new(None)));
    let noted = Arc::clone(&unclear);
    let runner = inbox.process(handler).concurrency(2).max_attempts(2).on_error(move |error| {
        counted.fetch_add(1, Ordering::SeqCst);
        if let Err(what) = is_clear(error) {
            noted.lock().unwrap().get_or_insert(what);
        }
    });
    let is_done = async {
        for tries in 0.. {
            match inbox.stats().await {
                Ok(stats) if stats.backlog() == 0 => break,
                Ok(_) => {}
                Err(_) => drop(errors.fetch_add(1, Ordering::SeqCst)),
            }
            // An error is not reported each time that the same settlement fails.
            if errors.load(Ordering::SeqCst) >= ENOUGH || tries > 200 {
                disk.set_fault_over();
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    runner.run_until(is_done).await.map_err(|error| text(&error))?;
    log.is_idle(&[]);
    let stats = again!(disk, inbox.stats().await);
    match (stats.dead(), unclear.lock().unwrap().take()) {
        (0, None) => Ok(()),
        (dead, unclear) => Err(format!("{dead} dead letters, {unclear:?}")),
    }
}

/// The faults of which some are tried: each errno, at each call, once and until the disk is repaired.
pub(crate) fn all(calls: usize, only: Option<Call>) -> Vec<Fault> {
    let errnos = match only {
        Some(Call::Sync) => vec![Errno::Io],
        _ => vec![Errno::Io, Errno::NoSpace],
    };
    let faults = (0..calls).flat_map(|after| {
        let of = move |errno| [1, usize::MAX].map(|count| Fault { errno, after, count, only });
        errnos.clone().into_iter().flat_map(of)
    });
    faults.collect()
}
