use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tower_inqud::Verifier;

use crate::out::Outcome;
use crate::out::{BAD, GOOD, Out, styled};
use crate::secret::SecretArgs;
use crate::{reason, sign};

/// Tells whether a captured body has the digest that came with it, or why not.
#[derive(Args)]
pub(crate) struct Verify {
    /// The body, byte for byte as it came; standard input if it is missing or `-`.
    file: Option<PathBuf>,
    /// The value of X-Payload-Digest that came with it.
    #[arg(long, value_name = "HEX")]
    digest: String,
    #[command(flatten)]
    secret: SecretArgs,
}

impl Verify {
    pub(crate) fn run(&self, out: &Out) -> Outcome {
        let body = sign::body(self.file.as_deref())?;
        match Verifier::new(self.secret.read()?).verify(&self.digest, body) {
            Ok(_) => {
                let yes = || styled(GOOD, "yes") + "\n";
                Ok(out.conclude(true, yes, || json!({ "verified": true, "rejected": null }))?)
            }
            Err(rejection) => {
                let no = || styled(BAD, "no: ") + &reason::lines(&rejection).join("\n    ") + "\n";
                let as_json = || json!({ "verified": false, "rejected": reason::json(&rejection) });
                Ok(out.conclude(false, no, as_json)?)
            }
        }
    }
}
