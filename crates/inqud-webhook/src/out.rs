//! Standard output: for people or as JSON, in colours only on a terminal.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::pretty;

/// Either it went well or it did not, or it could not be tried.
pub(crate) type Outcome = Result<bool, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const STRONG: Style = Style::new().bold();
pub(crate) const FAINT: Style = Style::new().dimmed();

#[derive(Clone, Copy)]
pub(crate) struct Out {
    json: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the one or the other, in one piece.
    pub(crate) fn tell(
        &self,
        for_people: impl FnOnce() -> String,
        as_json: impl FnOnce() -> Value,
    ) -> io::Result<()> {
        if self.json {
            self.print_as_is(&(pretty::escaped(&as_json().to_string()) + "\n"))
        } else {
            self.print(&for_people())
        }
    }

    /// Prints the last of a command, its verdict. Whoever stopped reading has seen enough: that changes
    /// no verdict.
    pub(crate) fn conclude(
        &self,
        is_well: bool,
        for_people: impl FnOnce() -> String,
        as_json: impl FnOnce() -> Value,
    ) -> io::Result<bool> {
        match self.tell(for_people, as_json) {
            Err(error) if !is_broken_pipe(&error) => Err(error),
            _ => Ok(is_well),
        }
    }

    /// Prints a text. Its colours stay only on a terminal, and not if `NO_COLOR` is set.
    fn print(&self, text: &str) -> io::Result<()> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Prints a text for programs, to which nothing may happen on its way.
    pub(crate) fn print_as_is(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

/// The one way to standard error. What went wrong may be in words of a server, so that it is escaped and
/// stays in its line.
pub(crate) fn fail(error: &dyn std::error::Error) {
    _ = writeln!(io::stderr(), "error: {}", pretty::printable(&error.to_string()));
}

/// Whether whoever read the output has closed it.
pub(crate) fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// A text in a style.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}
