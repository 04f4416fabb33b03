//! The statements of [`Context::execute`](crate::Context::execute).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

use super::parameters::Value;
use crate::error::BoxError;

/// A statement, and the values of its parameters.
pub(super) struct Statement {
    pub(super) sql: String,
    parameters: Vec<Parameter>,
    /// How long it may take.
    pub(super) limit: Duration,
}

impl Statement {
    pub(super) fn new(sql: String, values: Vec<Value>, limit: Duration) -> Self {
        Self { sql, parameters: values.into_iter().map(Parameter).collect(), limit }
    }

    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.parameters.iter().map(|it| it as &(dyn ToSql + Sync)).collect()
    }

    /// Decides by the first word how the statement can be run. A statement that is prepared is a single one.
    pub(super) fn run_in(&self) -> RunIn {
        let word = first_word(&self.sql).to_ascii_uppercase();
        match &*word {
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "WITH" => RunIn::Group,
            "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" => RunIn::Nothing(format!(
                "`execute` cannot run {word}: the inbox commits the statements together with \"done\", and commits \
                 nothing if the handler returns an error"
            )),
            "SAVEPOINT" | "RELEASE" => RunIn::Nothing(format!(
                "`execute` cannot run {word}: use savepoints in the transaction of `Context::transaction`"
            )),
            "SET" | "RESET" | "DISCARD" | "LISTEN" | "UNLISTEN" | "PREPARE" | "DEALLOCATE"
            | "LOAD" => RunIn::Nothing(format!(
                "`execute` cannot run {word}, which changes the session: use `Context::transaction`"
            )),
            "COPY" => {
                RunIn::Nothing("`execute` cannot run COPY: use `Context::transaction`".to_owned())
            }
            _ => RunIn::Alone,
        }
    }
}

/// Returns why one of the statements can be run in no transaction of the inbox.
pub(super) fn refused(statements: &[Arc<Statement>]) -> Option<String> {
    statements.iter().find_map(|statement| match statement.run_in() {
        RunIn::Nothing(why) => Some(why),
        RunIn::Group | RunIn::Alone => None,
    })
}

/// Where a statement can be run.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum RunIn {
    /// In one transaction with those of other handlers.
    Group,
    /// In a transaction of its handler's own, because it may change settings, or take locks.
    Alone,
    /// In none, for this reason.
    Nothing(String),
}

/// Returns the first word after white space, comments and empty statements.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest =
            rest.trim_start_matches(|c: char| c == ';' || c == '\x0b' || c.is_ascii_whitespace());
        if let Some(comment) = rest.strip_prefix("--") {
            rest =
                comment.find(['\n', '\r']).and_then(|end| comment.get(end..)).unwrap_or_default();
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_comment(comment);
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            return rest.get(..end).unwrap_or_default();
        }
    }
}

/// Returns what follows a comment that was opened. Comments nest.
fn after_comment(mut rest: &str) -> &str {
    let mut depth = 1_u32;
    while depth > 0 {
        let Some(at) = rest.find("*/").into_iter().chain(rest.find("/*")).min() else { return "" };
        let is_end = rest.get(at..).is_some_and(|it| it.starts_with("*/"));
        depth = if is_end { depth.saturating_sub(1) } else { depth.saturating_add(1) };
        rest = rest.get(at.saturating_add(2)..).unwrap_or_default();
    }
    rest
}

/// A parameter. If its value panics, the statement fails.
struct Parameter(Value);

impl ToSql for Parameter {
    fn to_sql(&self, of: &Type, to: &mut BytesMut) -> Result<IsNull, BoxError> {
        self.to_sql_checked(of, to)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, of: &Type, to: &mut BytesMut) -> Result<IsNull, BoxError> {
        catch_unwind(AssertUnwindSafe(|| self.0.to_sql_checked(of, to)))
            .unwrap_or_else(|_| Err("a parameter panicked when it was converted".into()))
    }

    fn encode_format(&self, of: &Type) -> Format {
        self.0.encode_format(of)
    }
}

/// Leaves out the value, because `tokio-postgres` logs parameters.
impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parameter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_that_keep_to_tables_share_a_transaction() {
        let run_in = |sql: &str| Statement::new(sql.to_owned(), vec![], Duration::ZERO).run_in();
        for sql in ["INSERT INTO paid", "update paid", "DELETE", "MERGE INTO paid", "WITH new AS"] {
            assert_eq!(run_in(sql), RunIn::Group, "{sql}");
        }
        for sql in ["SELECT pg_advisory_lock(1)", "CALL pay(1)", "DO $$ $$", "LOCK paid", ""] {
            assert_eq!(run_in(sql), RunIn::Alone, "{sql}");
        }
        for word in [
            "BEGIN",
            "START",
            "COMMIT",
            "END",
            "ROLLBACK",
            "ABORT",
            "SAVEPOINT",
            "RELEASE",
            "SET",
            "RESET",
            "DISCARD",
            "LISTEN",
            "UNLISTEN",
            "PREPARE",
            "DEALLOCATE",
            "LOAD",
            "COPY",
        ] {
            let RunIn::Nothing(why) = run_in(word) else { panic!("{word} is run") };
            assert!(why.starts_with(&format!("`execute` cannot run {word}")), "{why}");
        }
    }

    #[test]
    fn finds_first_word() {
        for (sql, word) in [
            ("INSERT INTO paid", "INSERT"),
            (" \t\r\n\x0b\x0c;update paid", "update"),
            ("-- COMMIT\nDELETE", "DELETE"),
            ("-- COMMIT\rDELETE", "DELETE"),
            ("/* a /* b */ INSERT */COMMIT;", "COMMIT"),
            ("/**/--\n/*/ x */END", "END"),
            ("(SELECT 1)", ""),
            ("/* INSERT", ""),
            ("-- INSERT", ""),
            ("", ""),
            ("\u{a0}INSERT", ""),
        ] {
            assert_eq!(first_word(sql), word, "{sql:?}");
        }
    }

    fn statement(sql: &str, values: Vec<Value>) -> Statement {
        Statement::new(sql.to_owned(), values, Duration::ZERO)
    }

    #[test]
    fn savepoints_and_transactions_are_refused() {
        for (sql, advice) in [
            ("savepoint a", "use savepoints in the transaction of `Context::transaction`"),
            ("RELEASE a", "use savepoints in the transaction of `Context::transaction`"),
            ("START TRANSACTION", "the inbox commits the statements together with \"done\""),
            ("COPY paid FROM STDIN", "use `Context::transaction`"),
        ] {
            let why = refused(&[Arc::new(statement(sql, Vec::new()))]).unwrap();
            assert!(why.contains(advice), "{why}");
        }
    }

    #[test]
    fn parameters_are_not_logged() {
        let statement = statement("INSERT INTO payer VALUES ($1)", vec![Box::new("Ada")]);
        assert_eq!(format!("{:?}", statement.parameters()), "[Parameter]");
    }
}
