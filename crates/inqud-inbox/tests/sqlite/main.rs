//! Tests of guarantees that only the SQLite store gives: the sandbox of effects, the fences around its files, and its
//! log.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "clippy.toml does not reach the helpers of tests"
)]

use std::path::PathBuf;
use std::time::Duration;

use inqud_inbox::rusqlite::Connection;
use inqud_inbox::{Inbox, InboxError, Record, Sqlite, SqliteOptions};
use tempfile::TempDir;
use tower_inqud::PaymentRequest;

mod backup;
mod counts;
mod fences;
mod handled;
mod log;
mod sandbox;
mod suspects;

/// Longer than anything that is expected to end.
const LONG: Duration = Duration::from_secs(30);

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("inbox.db{suffix}"))
    }

    /// The temporary directory can be on tmpfs.
    fn open(&self) -> Result<Inbox<Sqlite>, InboxError> {
        SqliteOptions::new(self.file("")).allow_tmpfs().open()
    }
}

fn record(id: usize, minute: usize) -> Record {
    let body = format!(
        r#"{{"id":"CAPD-{id:06}","status":"SUCCESS","lastUpdatedAt":"2026-11-22T10:{minute:02}:00Z"}}"#
    );
    let request: PaymentRequest = serde_json::from_str(&body).unwrap();
    Record::new(&request, body.into())
}

fn records(ids: std::ops::Range<usize>) -> Vec<Record> {
    ids.map(|id| record(id, 0)).collect()
}

async fn number(inbox: &Inbox<Sqlite>, sql: &'static str) -> i64 {
    inbox.write(move |db| db.query_row(sql, [], |row| row.get(0))).await.unwrap()
}

/// Formats an error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn batch(db: &Connection, sql: &str) -> Result<(), inqud_inbox::rusqlite::Error> {
    db.execute_batch(sql)
}
