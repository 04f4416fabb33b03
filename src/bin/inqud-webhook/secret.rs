use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::Args;
use tower_inqud::Secret;
use zeroize::Zeroizing;

const VARIABLE: &str = "INQUD_WEBHOOK_SECRET";

/// Where the secret is, never the secret itself.
#[derive(Args)]
pub(crate) struct SecretArgs {
    /// The file with the secret. A newline at its end does not count. Without it, the secret is in
    /// INQUD_WEBHOOK_SECRET.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretArgs {
    pub(crate) fn read(&self) -> Result<Secret, Box<dyn Error + Send + Sync>> {
        match &self.secret_file {
            Some(path) => {
                from_file(path).map_err(|error| format!("{}: {error}", path.display()).into())
            }
            None => {
                let secret = env::var(VARIABLE)
                    .map_err(|_| format!("no secret: set {VARIABLE}, or name a --secret-file"))?;
                Secret::new(secret).map_err(|error| format!("{VARIABLE}: {error}").into())
            }
        }
    }
}

fn from_file(path: &Path) -> Result<Secret, Box<dyn Error + Send + Sync>> {
    let text = Zeroizing::new(fs::read(path)?);
    // An editor puts it there; it is what ends the line, no part of the secret.
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Ok(Secret::new(line)?)
}
