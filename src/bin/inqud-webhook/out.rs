//! Standard output: for people or as JSON, in colours only on a terminal.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

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

    /// Prints the one or the other, in one piece.
    pub(crate) fn tell(
        &self,
        for_people: impl FnOnce() -> String,
        as_json: impl FnOnce() -> Value,
    ) -> io::Result<()> {
        if self.json { self.print(&format!("{}\n", as_json())) } else { self.print(&for_people()) }
    }

    /// Prints a text. Its colours stay only on a terminal, and not if `NO_COLOR` is set.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

/// A text in a style.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}
