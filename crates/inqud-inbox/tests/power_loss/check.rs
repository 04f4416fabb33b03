//! What must be true of an image.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use http::StatusCode;
use inqud_inbox::{Inbox, Sqlite, rusqlite};

use crate::disk::Disk;
use crate::history::{History, Log, Name, Span, key};
use crate::workload::{create_table, finish, integrity, open, put};

/// What is in the file.
struct Found {
    /// The state of each notification, and whether it has a body.
    rows: BTreeMap<Name, (i64, bool)>,
    /// How often each was paid.
    paid: BTreeMap<Name, u32>,
}

/// Opens an image as it was left after `cut` operations, and processes it to the end. Returns what is wrong.
pub(crate) async fn check(
    image: &BTreeMap<String, Vec<u8>>,
    history: &History,
    cut: usize,
) -> Result<(), String> {
    let disk = Disk::scratch(image);
    let inbox = open(&disk).map_err(|error| format!("not opened: {}", text(&error)))?;
    let checked = check_inbox(&inbox, &Log::new(disk.clone()), history, cut).await;
    inbox.close().await;
    drop(inbox);
    disk.remove();
    checked
}

pub(crate) fn text(error: &dyn Error) -> String {
    let source = error.source().map(|it| format!(": {}", text(it))).unwrap_or_default();
    format!("{error}{source}")
}

async fn check_inbox(
    inbox: &Inbox<Sqlite>,
    log: &Log,
    history: &History,
    cut: usize,
) -> Result<(), String> {
    let fails = |error| text(&error);
    create_table(inbox).await.map_err(fails)?;
    let before = look(inbox, history).await?;
    check_acknowledged(&before, history, cut)?;
    let called = finish(inbox).await.map_err(fails)?;
    for name in &called {
        if history.settled.get(name).is_some_and(|at| *at <= cut) {
            return Err(format!("{name:?} was settled and comes back"));
        }
    }
    let after = look(inbox, history).await?;
    for (name, span) in &history.puts {
        let count = after.paid.get(name).copied().unwrap_or(0);
        if count > 1 || count == 0 && span.is_acknowledged(cut) {
            return Err(format!("{name:?} was paid {count} times"));
        }
        let is_left = after.rows.contains_key(name) && count == 0;
        if is_left || count > 0 && !span.is_asked(cut) {
            return Err(format!("{name:?} is stored, and was paid {count} times"));
        }
    }
    let stats = inbox.stats().await.map_err(fails)?;
    if (stats.backlog(), stats.dead(), stats.review()) != (0, 0, 0) {
        return Err(format!("{stats:?}"));
    }
    match put(inbox, log, (999, 0)).await {
        StatusCode::OK => Ok(()),
        status => Err(format!("the next call is answered with {status}")),
    }
}

fn check_acknowledged(found: &Found, history: &History, cut: usize) -> Result<(), String> {
    let paid = |name: &Name| found.paid.get(name).copied().unwrap_or(0);
    for (name, span) in &history.puts {
        if span.is_acknowledged(cut) && !found.rows.contains_key(name) && paid(name) == 0 {
            return Err(format!("{name:?} was answered with 200 and is lost"));
        }
    }
    for (name, at) in &history.settled {
        if *at <= cut && paid(name) != 1 {
            return Err(format!("{name:?} was settled, and was paid {} times", paid(name)));
        }
    }
    let is_redriven = |name: &Name, is: fn(Span, usize) -> bool| {
        history.redriven.get(name).is_some_and(|span| is(*span, cut))
    };
    for (name, at) in &history.dead {
        let is_dead = found.rows.get(name).is_some_and(|it| it.0 == 3);
        if *at <= cut && !is_dead && !is_redriven(name, Span::is_asked) {
            return Err(format!("{name:?} was a dead letter and is none"));
        }
        if is_dead && is_redriven(name, Span::is_acknowledged) {
            return Err(format!("{name:?} was redriven and is a dead letter"));
        }
    }
    for (id, span) in &history.erased {
        let has_body = found.rows.range((*id, 0)..=(*id, u32::MAX)).any(|it| it.1.1);
        if span.is_acknowledged(cut) && has_body {
            return Err(format!("{id} was erased and has a body"));
        }
    }
    Ok(())
}

/// Reads the file, and checks that it agrees with itself.
async fn look(inbox: &Inbox<Sqlite>, history: &History) -> Result<Found, String> {
    const COUNTS: &str = "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 2),
        count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4) FROM inqud_inbox_notification";
    const KEPT: &str =
        "SELECT coalesce(sum(open), 0), coalesce(sum(skipped), 0), coalesce(sum(dead), 0),
        coalesce(sum(review), 0) FROM inqud_inbox_count";
    let names: BTreeMap<_, _> =
        history.puts.keys().map(|name| (*key(*name).as_bytes(), *name)).collect();
    let look = move |db: &rusqlite::Connection| {
        let integrity = integrity(db)?;
        let counts = |sql| {
            db.query_row(sql, [], |row| {
                (0..4).map(|at| row.get::<_, i64>(at)).collect::<Result<Vec<_>, _>>()
            })
        };
        let is_counted = counts(COUNTS)? == counts(KEPT)?;
        let mut rows =
            db.prepare("SELECT key, state, body IS NOT NULL FROM inqud_inbox_notification")?;
        let rows =
            rows.query_map([], |row| Ok((row.get::<_, [u8; 16]>(0)?, (row.get(1)?, row.get(2)?))))?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        let keys: BTreeSet<_> = rows.iter().map(|it| it.0).collect();
        let is_single = keys.len() == rows.len();
        let rows = rows.into_iter().filter_map(|(key, it)| Some((*names.get(&key)?, it))).collect();
        let mut paid = db.prepare("SELECT id, minute, count(*) FROM paid GROUP BY 1, 2")?;
        let paid = paid.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
        let paid = paid.collect::<rusqlite::Result<_>>()?;
        Ok::<_, rusqlite::Error>((integrity, is_counted, is_single, Found { rows, paid }))
    };
    let looked = inbox.write(look).await.map_err(|error| text(&error))?;
    let (integrity, is_counted, is_single, found) = looked;
    if integrity != "ok" {
        return Err(integrity);
    }
    if !is_counted || !is_single {
        return Err("the counts are wrong, or a key is there twice".to_owned());
    }
    Ok(found)
}
