//! What merchant code may do on the writer's connection.
//!
//! An effect runs in the transaction of the writer, which covers other notifications too. It can do anything in it but
//! end it, and it cannot change the connection, because the next transaction uses that too.
//!
//! - While merchant code runs, an authorizer refuses to prepare statements that begin or end a transaction, attach a
//!   file, or change a setting. What it refused is remembered, because the merchant code may ignore the error.
//! - Some methods of the connection take effect without a statement. What they can set is set again after each piece of
//!   merchant code. If a hook is gone, the connection is replaced.
//! - A statement can end the transaction in a way that no authorizer sees, such as `INSERT OR ROLLBACK`. The rollback
//!   hook notices it, and the commit hook vetoes what later statements would commit on their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization, TransactionOperation};
use rusqlite::limits::Limit;
use rusqlite::{Connection, Result, ffi};

use super::file::BUSY;

/// The savepoint around each piece of merchant code.
pub(super) const SAVEPOINT: &str = "inqud_inbox_effect";

/// The pragmas that do something without an argument, and not only to what the transaction covers. Any other one reads
/// then.
const ACT: [&str; 3] = ["incremental_vacuum", "shrink_memory", "wal_checkpoint"];

/// The pragmas that merchant code may give an argument: it says what to read, or the effect ends with the transaction,
/// or is in tables or numbers that are the merchant's own.
const WITH_ARGUMENT: [&str; 14] = [
    "application_id",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "optimize",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// What merchant code can set without a statement. Each is a variable of the connection, so setting them is cheap.
const LIMITS: [Limit; 11] = [
    Limit::SQLITE_LIMIT_LENGTH,
    Limit::SQLITE_LIMIT_SQL_LENGTH,
    Limit::SQLITE_LIMIT_COLUMN,
    Limit::SQLITE_LIMIT_EXPR_DEPTH,
    Limit::SQLITE_LIMIT_COMPOUND_SELECT,
    Limit::SQLITE_LIMIT_VDBE_OP,
    Limit::SQLITE_LIMIT_FUNCTION_ARG,
    Limit::SQLITE_LIMIT_ATTACHED,
    Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH,
    Limit::SQLITE_LIMIT_VARIABLE_NUMBER,
    Limit::SQLITE_LIMIT_TRIGGER_DEPTH,
];
const SETTINGS: [DbConfig; 11] = [
    DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY,
    DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
    DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
    DbConfig::SQLITE_DBCONFIG_RESET_DATABASE,
    DbConfig::SQLITE_DBCONFIG_DEFENSIVE,
    DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA,
    DbConfig::SQLITE_DBCONFIG_LEGACY_ALTER_TABLE,
    DbConfig::SQLITE_DBCONFIG_DQS_DML,
    DbConfig::SQLITE_DBCONFIG_DQS_DDL,
    DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
    DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
];

/// The hooks of one connection, and its settings.
#[derive(Clone)]
pub(super) struct Sandbox {
    state: Arc<State>,
    limits: [i32; LIMITS.len()],
    settings: [bool; SETTINGS.len()],
}

#[derive(Default)]
struct State {
    /// Whether merchant code runs.
    is_inside: AtomicBool,
    /// Whether the writer commits.
    is_committing: AtomicBool,
    /// Whether the transaction was rolled back while merchant code ran.
    is_rolled_back: AtomicBool,
    /// Whether each of these hooks was called since this was last reset.
    was_asked: AtomicBool,
    has_committed: AtomicBool,
    /// Whether a hook is gone.
    is_spoilt: AtomicBool,
    /// The first thing that was refused.
    refused: Mutex<Option<String>>,
}

/// What happened in merchant code that must not happen.
pub(super) enum Breach {
    /// It tried what it must not do.
    Refused {
        what: String,
        /// Whether the transaction is lost, and the connection with it.
        has_ended: bool,
    },
    /// A statement of it ended the transaction, and the connection is lost. That can be the fault of the statement, or
    /// of the disk or the memory.
    Ended,
}

impl Sandbox {
    /// Sets the hooks of the writer's connection. From then on only [`commit`](Self::commit) commits anything.
    pub(super) fn install(connection: &mut Connection) -> Result<Self> {
        let state = Arc::new(State::default());
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        let (mut limits, mut settings) = ([0; LIMITS.len()], [false; SETTINGS.len()]);
        for (value, limit) in limits.iter_mut().zip(LIMITS) {
            *value = connection.limit(limit)?;
        }
        for (value, setting) in settings.iter_mut().zip(SETTINGS) {
            *value = connection.db_config(setting)?;
        }
        let its = Arc::clone(&state);
        connection.authorizer(Some(move |it: AuthContext<'_>| its.authorize(&it.action)))?;
        let its = Arc::clone(&state);
        connection.commit_hook(Some(move || {
            its.has_committed.store(true, Ordering::Relaxed);
            !its.is_committing.load(Ordering::Relaxed)
        }))?;
        let its = Arc::clone(&state);
        connection.rollback_hook(Some(move || {
            if its.is_inside.load(Ordering::Relaxed) {
                its.is_rolled_back.store(true, Ordering::Relaxed);
            }
        }))?;
        Ok(Self { state, limits, settings })
    }

    /// Calls `work`, which must not panic, as merchant code.
    pub(super) fn run<R>(
        &self,
        connection: &Connection,
        work: impl FnOnce() -> R,
    ) -> (R, Option<Breach>) {
        let State { is_inside, is_rolled_back, refused, .. } = &*self.state;
        is_rolled_back.store(false, Ordering::Relaxed);
        is_inside.store(true, Ordering::Relaxed);
        let done = work();
        is_inside.store(false, Ordering::Relaxed);
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        let has_ended = is_rolled_back.load(Ordering::Relaxed) || connection.is_autocommit();
        let is_restored = self.restore(connection);
        let removed = || {
            let what = "removed a hook of the inbox: use a connection of your own";
            Some(Breach::Refused { what: what.to_owned(), has_ended: true })
        };
        if is_restored.is_err() || !self.is_authorizing(connection) {
            return (done, removed());
        }
        let breach = match refused {
            Some(what) => Breach::Refused { what, has_ended },
            None if has_ended => Breach::Ended,
            None => return (done, None),
        };
        (done, Some(breach))
    }

    /// Undoes what merchant code has set.
    fn restore(&self, connection: &Connection) -> Result<()> {
        connection.busy_timeout(BUSY)?;
        for (limit, value) in LIMITS.into_iter().zip(self.limits) {
            connection.set_limit(limit, value)?;
        }
        for (setting, value) in SETTINGS.into_iter().zip(self.settings) {
            connection.set_db_config(setting, value)?;
        }
        Ok(())
    }

    /// Whether the authorizer is still there.
    fn is_authorizing(&self, connection: &Connection) -> bool {
        self.state.was_asked.store(false, Ordering::Relaxed);
        // One that is quick to prepare.
        drop(connection.prepare("SAVEPOINT inqud_inbox"));
        self.state.was_asked.load(Ordering::Relaxed)
    }

    /// Whether the connection must be replaced after the transaction.
    pub(super) fn is_spoilt(&self) -> bool {
        self.state.is_spoilt.load(Ordering::Relaxed)
    }

    /// Commits the transaction.
    pub(super) fn commit(&self, connection: &Connection) -> Result<()> {
        let State { is_committing, has_committed, is_spoilt, .. } = &*self.state;
        has_committed.store(false, Ordering::Relaxed);
        is_committing.store(true, Ordering::Relaxed);
        let committed = connection.execute_batch("COMMIT");
        is_committing.store(false, Ordering::Relaxed);
        if committed.is_ok() && !has_committed.load(Ordering::Relaxed) {
            is_spoilt.store(true, Ordering::Relaxed);
        }
        committed
    }
}

impl State {
    fn authorize(&self, action: &AuthAction<'_>) -> Authorization {
        self.was_asked.store(true, Ordering::Relaxed);
        if !self.is_inside.load(Ordering::Relaxed) {
            return Authorization::Allow;
        }
        let Some(what) = breach(action) else { return Authorization::Allow };
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
        Authorization::Deny
    }
}

fn breach(action: &AuthAction<'_>) -> Option<String> {
    match action {
        AuthAction::Transaction { operation } => Some(match operation {
            TransactionOperation::Begin => {
                "tried to begin a transaction (BEGIN): it runs in that of the inbox".to_owned()
            }
            TransactionOperation::Rollback => {
                "tried to end the transaction (ROLLBACK): return an error instead".to_owned()
            }
            _ => "tried to end the transaction (COMMIT): the inbox commits it".to_owned(),
        }),
        AuthAction::Savepoint { savepoint_name, .. }
            if savepoint_name.eq_ignore_ascii_case(SAVEPOINT) =>
        {
            Some("tried to use a savepoint of the inbox: use another name".to_owned())
        }
        // SQLite does not name the file if that is a parameter, and then rusqlite does not know the action.
        AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::Unknown { code: ffi::SQLITE_ATTACH | ffi::SQLITE_DETACH, .. } => Some(
            "tried to attach or detach a database: a commit over several files is not atomic. \
             Keep your tables in the file of the inbox"
                .to_owned(),
        ),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let is_in =
                |names: &[&str]| names.iter().any(|it| it.eq_ignore_ascii_case(pragma_name));
            let is_allowed = is_in(&WITH_ARGUMENT) || pragma_value.is_none() && !is_in(&ACT);
            (!is_allowed).then(|| {
                format!("tried to change the connection (PRAGMA {pragma_name}): use a connection of your own")
            })
        }
        _ => None,
    }
}
