mod delivery;
mod forward;
mod log;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::StatusCode;
use serde_json::{Map, Value};
use tower_inqud::{Secret, WebhookLayer, danger};
use tower_layer::Layer;

use self::forward::Forward;
use self::log::Log;
use self::server::{Accepting, Object, Server};
use crate::bind;
use crate::filter::FilterArgs;
use crate::out::{BAD, Out, Outcome, styled};
use crate::record::Recorder;
use crate::secret::SecretArgs;
use crate::target::Target;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const ADVICE: &str = "set INQUD_WEBHOOK_SECRET, or pass --secret-file";

/// Receives webhooks and shows each one: verified, or why it was rejected.
///
/// It accepts any path. It stops after --count deliveries, on Ctrl-C, or when its output is closed. It exits
/// with 0 if every delivery was verified and, with --forward-to, acknowledged by the app with 200.
///
/// Without a secret it shows each delivery as unverified, and exits with 1.
#[derive(Args)]
pub(crate) struct Listen {
    /// The address to listen on, such as `3000`, `:3000` or `0.0.0.0:3000`. A port alone means 127.0.0.1.
    /// Port 0 picks a free port, which is printed.
    #[arg(default_value = "127.0.0.1:3000", value_parser = bind::address)]
    address: SocketAddr,
    /// The status of the response to a verified webhook.
    #[arg(long, value_name = "STATUS", default_value = "200", value_parser = status)]
    #[arg(conflicts_with = "forward_to")]
    answer: StatusCode,
    /// Forwards each verified webhook to this URL, and answers what the app answers. The path that it came
    /// to is kept, unless the URL has one. Body and headers stay as they are.
    #[arg(long, value_name = "URL")]
    forward_to: Option<Target>,
    /// How long the app may take. Inqud waits 10 s, and the body must arrive in that time too.
    #[arg(long, value_name = "SECONDS", default_value = "9", requires = "forward_to")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=9))]
    timeout: u64,
    /// Verifies nothing, even if a secret is set. With --forward-to, forwards what anyone may have sent.
    #[arg(long, conflicts_with = "secret_file")]
    unverified: bool,
    /// Appends each delivery to this file, for `replay`. Bodies contain personal data, so only you may
    /// be able to read the file.
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    /// Shows the path and the JSON of each delivery too, and what the app answered.
    #[arg(short, long)]
    verbose: bool,
    /// Stops after N deliveries, shown or not.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    secret: SecretArgs,
}

/// Parses a status that a final response can have.
fn status(text: &str) -> Result<StatusCode, String> {
    match text.parse::<StatusCode>() {
        Ok(status) if (200..600).contains(&status.as_u16()) => Ok(status),
        _ => Err("must be a status from 200 to 599".to_owned()),
    }
}

impl Listen {
    pub(crate) async fn run(self, out: Out) -> Outcome {
        let secret = self.secret()?;
        let is_verifying = secret.is_some();
        let layer = secret.map_or_else(danger::unsigned::<Object>, WebhookLayer::new);
        let timeout = Duration::from_secs(self.timeout);
        let forward = self.forward_to.clone().map(|target| Forward::new(target, timeout));
        let forward = forward.transpose()?;
        let recorder = self.capture.as_deref().map(Recorder::open).transpose()?;
        let listener = bind::listener(self.address).await?;
        let url = format!("http://{}", listener.local_addr()?);
        self.greet(out, &url, is_verifying)?;

        let until = self.count.unwrap_or(u64::MAX);
        let log = Log::new(out, self.filter, self.verbose, recorder, until);
        let webhooks = layer.layer(Accepting);
        let server = Arc::new(Server::new(log, webhooks, is_verifying, self.answer, forward));
        server.clone().serve(listener).await?;

        let tally = server.log().tally()?;
        let is_well = tally.is_well(self.unverified);
        Ok(out.conclude(is_well, || tally.text(), || tally.json())?)
    }

    fn secret(&self) -> Result<Option<Secret>, BoxError> {
        if self.unverified {
            return Ok(None);
        }
        let secret = self.secret.read_if_set()?;
        if secret.is_none() && self.forward_to.is_some() {
            let missing = format!(
                "no secret given: {ADVICE}, or pass --unverified to forward what anyone may have sent"
            );
            return Err(missing.into());
        }
        Ok(secret)
    }

    fn greet(&self, out: Out, url: &str, is_verifying: bool) -> std::io::Result<()> {
        let target = self.forward_to.as_ref().map(|target| target.uri().to_string());
        let for_people = || {
            let to = target.as_ref().map(|target| format!("forwarding to {target}\n"));
            let warning = match (is_verifying, self.unverified) {
                (true, _) => String::new(),
                (false, true) => styled(BAD, "nothing is verified: --unverified is set") + "\n",
                (false, false) => {
                    styled(BAD, format!("NOTHING IS VERIFIED: no secret is set; {ADVICE}")) + "\n"
                }
            };
            format!("listening on {url}\n{}{warning}", to.unwrap_or_default())
        };
        let as_json = || {
            let mut json = Map::from_iter([("listening".to_owned(), Value::from(url))]);
            if let Some(target) = &target {
                json.insert("target".to_owned(), target.as_str().into());
            }
            if !is_verifying {
                json.insert("verifying".to_owned(), false.into());
            }
            json.into()
        };
        out.tell(for_people, as_json)
    }
}
