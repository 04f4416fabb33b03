use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tower_inqud::{contract, sign};

use crate::out::Out;
use crate::out::Outcome;
use crate::secret::SecretArgs;

/// Prints the digest of a body.
#[derive(Args)]
pub(crate) struct Sign {
    /// The file with the exact bytes of the body [default: standard input, as with `-`]
    file: Option<PathBuf>,
    #[command(flatten)]
    secret: SecretArgs,
}

impl Sign {
    pub(crate) fn run(&self, out: &Out) -> Outcome {
        let digest = sign(&self.secret.read()?, &body(self.file.as_deref())?);
        Ok(out.conclude(
            true,
            || format!("{digest}\n"),
            || json!({ "header": contract::DIGEST_HEADER.as_str(), "digest": digest.to_string() }),
        )?)
    }
}

/// Reads a file, or standard input.
pub(crate) fn body(file: Option<&Path>) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    match file.filter(|file| *file != Path::new("-")) {
        Some(file) => fs::read(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()).into()),
        None => {
            let mut body = Vec::new();
            io::stdin().lock().read_to_end(&mut body)?;
            Ok(body)
        }
    }
}
