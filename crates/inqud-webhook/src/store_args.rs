//! Which inbox a command opens.

#[cfg(feature = "sqlite")]
use std::path::PathBuf;

use clap::Args;

#[cfg(feature = "postgres")]
use crate::database;

/// Selects the inbox.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct StoreArgs {
    /// The SQLite file of the inbox.
    #[cfg(feature = "sqlite")]
    #[arg(long, value_name = "FILE")]
    pub(crate) sqlite: Option<PathBuf>,
    #[cfg(feature = "postgres")]
    // Requires `=`, because a key that follows would otherwise be taken for the URL.
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true)]
    #[arg(help = database::HELP, long_help = database::LONG_HELP)]
    pub(crate) postgres: Option<Option<String>>,
}
