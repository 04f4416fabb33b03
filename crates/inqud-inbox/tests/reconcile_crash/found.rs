//! What the merchant's database holds, read next to the merchant's process.

use std::path::Path;
use std::time::Duration;

use inqud_inbox::rusqlite::{self, Connection};

use crate::postgres::{Server, connect};

/// The location of the inbox.
pub enum Place {
    Folder(tempfile::TempDir),
    /// A database of a server.
    Database(&'static Server, String),
}

/// A notification.
#[derive(Debug)]
pub struct Row {
    pub object: String,
    pub status: String,
    pub is_fetched: bool,
    pub received_at: i64,
}

/// How much is left to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Left {
    pub watched: i64,
    pub open: i64,
}

const WATCHED: &str = "SELECT count(*) FROM inqud_inbox_watch";
const OPEN: &str = "SELECT count(*) FROM inqud_inbox_notification WHERE state = 0";
const LEASED: &str = "SELECT object FROM inqud_inbox_watch WHERE leased";
const EFFECTS: &str = "SELECT object, status FROM effect";
const ROWS: &str = "SELECT object.id, status, source, received_at
    FROM inqud_inbox_notification AS its JOIN inqud_inbox_object AS object ON number = object ORDER BY seq";
const ROWS_IN_POSTGRES: &str =
    "SELECT object, status, source::bigint, inqud_inbox.micros(received_at)
    FROM inqud_inbox.notification ORDER BY seq";

impl Place {
    /// What tells the process where it is.
    pub fn argument(&self) -> String {
        match self {
            Self::Folder(folder) => folder.path().to_str().unwrap().to_owned(),
            Self::Database(server, name) => server.url(name),
        }
    }

    pub async fn left(&self) -> Left {
        let count = async |sql: &str| match self {
            Self::Folder(folder) => {
                file(folder.path()).query_row(sql, [], |row| row.get(0)).unwrap()
            }
            Self::Database(..) => self.query(sql).await[0].get(0),
        };
        Left { watched: count(WATCHED).await, open: count(OPEN).await }
    }

    /// The objects at which the process was looking when it was killed.
    pub async fn interrupted(&self) -> Vec<String> {
        match self {
            Self::Folder(folder) => all(&file(folder.path()), LEASED, |row| row.get(0)),
            Self::Database(..) => self.query(LEASED).await.iter().map(|row| row.get(0)).collect(),
        }
    }

    /// The object and the status of each effect.
    pub async fn effects(&self) -> Vec<(String, String)> {
        match self {
            Self::Folder(folder) => {
                all(&file(folder.path()), EFFECTS, |row| Ok((row.get(0)?, row.get(1)?)))
            }
            Self::Database(..) => {
                self.query(EFFECTS).await.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
        }
    }

    pub async fn rows(&self) -> Vec<Row> {
        match self {
            Self::Folder(folder) => all(&file(folder.path()), ROWS, |row| {
                Ok(Row {
                    object: row.get(0)?,
                    status: row.get(1)?,
                    is_fetched: row.get::<_, i64>(2)? == 1,
                    received_at: row.get(3)?,
                })
            }),
            Self::Database(..) => {
                let row = |row: &inqud_inbox::tokio_postgres::Row| Row {
                    object: row.get(0),
                    status: row.get(1),
                    is_fetched: row.get::<_, i64>(2) == 1,
                    received_at: row.get(3),
                };
                self.query(ROWS_IN_POSTGRES).await.iter().map(row).collect()
            }
        }
    }

    async fn query(&self, sql: &str) -> Vec<inqud_inbox::tokio_postgres::Row> {
        let Self::Database(server, name) = self else { unreachable!("it is a file") };
        let sql = sql.replace("inqud_inbox_", "inqud_inbox.");
        connect(&server.config(name)).await.query(&sql, &[]).await.unwrap()
    }
}

fn all<R>(
    database: &Connection,
    sql: &str,
    read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<R>,
) -> Vec<R> {
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| read(row)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Opens the file for writing too, because the log of a killed process has to be recovered.
fn file(folder: &Path) -> Connection {
    let database = Connection::open(folder.join("inbox.db")).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    database
}
