use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tower_inqud::Verifier;

use crate::out::Outcome;
use crate::out::{BAD, GOOD, Out, styled};
use crate::secret::SecretArgs;
use crate::{reason, sign};

/// Checks a captured body against the digest that came with it.
#[derive(Args)]
pub(crate) struct Verify {
    /// The file with the exact bytes of the body [default: standard input, as with `-`]
    file: Option<PathBuf>,
    /// The value of the X-Payload-Digest header.
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
                let verified = || styled(GOOD, "verified") + "\n";
                Ok(out.conclude(
                    true,
                    verified,
                    || json!({ "verified": true, "rejected": null }),
                )?)
            }
            Err(rejection) => {
                let reason = || reason::lines(&rejection).join("\n  ");
                let rejected = || styled(BAD, "rejected: ") + &reason() + "\n";
                let as_json = || json!({ "verified": false, "rejected": reason::json(&rejection) });
                Ok(out.conclude(false, rejected, as_json)?)
            }
        }
    }
}
