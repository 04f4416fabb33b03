//! Standard output, as text or as JSON. Colours are for terminals only.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::pretty;

/// `Ok(true)` exits with 0, `Ok(false)` with 1, an error with 2.
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

    /// Prints the text or the JSON in a single write.
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

    /// Prints the last output of a command. A closed pipe is not an error here, so that `head` does not
    /// change the exit code.
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

    /// Prints text. Removes its colours unless this is a terminal and `NO_COLOR` is unset.
    fn print(&self, text: &str) -> io::Result<()> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Prints text for programs, unchanged.
    pub(crate) fn print_as_is(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

/// Prints an error to standard error: one line of text, or one JSON object. The text may come from a server, so it
/// is escaped.
pub(crate) fn fail(error: &str, json: bool) {
    let line = if json {
        pretty::escaped(&serde_json::json!({ "error": error }).to_string())
    } else {
        format!("error: {}", pretty::printable(error))
    };
    _ = writeln!(io::stderr(), "{line}");
}

/// Whether the reader of the output has closed it.
pub(crate) fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Wraps text in a style.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}
