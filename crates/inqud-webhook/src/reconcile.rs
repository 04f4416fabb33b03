//! `reconcile`: looks at objects in Inqud's API, and stores what no webhook brought.

mod client;
mod ids;
mod look;
mod tally;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
#[cfg(feature = "sqlite")]
use inqud_inbox::Inbox;
use inqud_inbox::{InboxError, Reconciled};
use tokio::signal::ctrl_c;
use tokio::time::sleep;

use self::client::{Client, ClientArgs};
use self::ids::{Ids, Object};
use self::look::{Look, Looker};
use self::tally::{End, Tally};
#[cfg(feature = "sqlite")]
use crate::chain::error_chain;
use crate::chain::{BoxError, chained};
#[cfg(feature = "postgres")]
use crate::database::Database;
use crate::out::{Out, Outcome};
use crate::pretty::printable;
use crate::store_args::StoreArgs;
use crate::stored_kind::Kind;

/// How often to ask for an object while the API fails. If the next object fails too, the rest is not looked at.
const TRIES: u32 = 3;

/// The longest pause to wait for.
const LONGEST: Duration = Duration::from_secs(60);

/// Looks at objects in Inqud's API, and stores what no webhook brought. The runner of the inbox handles it.
///
/// The outcome of each object is one of these:
///
///   agreed     the inbox has what the API shows
///   recovered  the API shows a state that no webhook brought, and it is stored
///   ahead      the inbox has a later state than the API, and nothing is stored
///   missing    the API does not know the object
///   later      the API could not answer, or the answer was of no use
///
/// If the API fails, the command waits for as long as it asks for, but at most a minute, and tries again. If that
/// does not help, or after Ctrl-C, the rest of the objects is not looked at. Run the command again: what it has
/// stored is then `agreed`.
///
/// The id and the secret of the API token are read from INQUD_API_ID and INQUD_API_SECRET, or from files. They are
/// never arguments, because every user of a machine can read arguments.
///
/// Exits with 0 if all objects are `agreed`, with 1 if any is not or was not looked at, and with 2 if the command
/// could not run.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Reconcile {
    #[command(flatten)]
    store: StoreArgs,
    /// A file with one object on each line, as `ID` or `KIND ID`. `-` is standard input. Empty lines and lines that
    /// start with `#` are skipped.
    #[arg(long, value_name = "FILE")]
    ids: PathBuf,
    /// The kind under which the inbox stores the objects whose line has no kind [default: that of the id's prefix].
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// The tenant that the objects belong to.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Stores nothing, and shows what would be found.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl Reconcile {
    pub(crate) async fn run(&self, out: &Out) -> Outcome {
        let ids = Ids { kind: self.kind, has_path: &|kind| self.client.has_path(kind) };
        let objects = ids.read(&self.ids)?;
        let client = self.client.build()?;
        #[cfg(feature = "postgres")]
        if let Some(url) = &self.store.postgres {
            let inbox = Database::new(url.as_deref())?.open().await?;
            return self.look_at_all(&inbox, client, objects, out).await;
        }
        #[cfg(feature = "sqlite")]
        if let Some(path) = &self.store.sqlite {
            let attached = Inbox::attach(path)
                .map_err(|error| format!("{}: {}", path.display(), error_chain(&error)))?;
            return self.look_at_all(&attached, client, objects, out).await;
        }
        Err("no inbox is named".into())
    }

    async fn look_at_all(
        &self,
        inbox: &impl Looker,
        client: Client,
        objects: Vec<Object>,
        out: &Out,
    ) -> Outcome {
        let bar = progress(u64::try_from(objects.len())?)?;
        let look = Look { tenant: self.tenant.clone(), is_dry: self.dry_run, client };
        let mut tally = Tally::new(self.dry_run);
        let mut objects = objects.into_iter();
        let stop = look.client.stop();
        let end = {
            let run = run(&look, inbox, &mut objects, &mut tally, &bar);
            let mut run = std::pin::pin!(run);
            tokio::select! {
                end = &mut run => end,
                pressed = ctrl_c() => {
                    // What is being stored is stored, and nothing more is fetched.
                    stop.send_replace(true);
                    let end = run.await;
                    pressed?;
                    end
                }
            }
        };
        bar.finish_and_clear();
        let (end, error) = match end {
            Ok(end) => (end, None),
            Err(error) => (End::Failed, Some(error)),
        };
        tally.end(end, objects);
        let is_well = out.conclude(tally.is_well(), || tally.text(), || tally.json())?;
        error.map_or(Ok(is_well), |error| Err(chained(error)))
    }
}

/// Looks at objects, one after the other, until something ends it early. The objects that it takes are in the tally.
async fn run(
    look: &Look,
    inbox: &impl Looker,
    objects: &mut impl Iterator<Item = Object>,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> Result<End, InboxError> {
    let mut failures = 0_u32;
    let mut pause = None;
    for object in objects {
        bar.set_message(printable(&object.id));
        if failures > TRIES || pause.is_some_and(|pause| pause > LONGEST) {
            tally.not_looked_at(object);
            return Ok(End::ApiFailed);
        }
        loop {
            let wait = pause.take().unwrap_or_default();
            let Some(reconciled) = look_after(wait, look, inbox, &object).await else {
                tally.not_looked_at(object);
                return Ok(End::Interrupted);
            };
            let reconciled = match reconciled {
                Ok(reconciled) => reconciled,
                Err(error) => {
                    tally.not_looked_at(object);
                    return Err(error);
                }
            };
            pause = look.client.take_pause();
            failures = if pause.is_some() { failures.saturating_add(1) } else { 0 };
            match pause {
                Some(wait) if failures < TRIES && wait <= LONGEST => {
                    let reason = reconciled.reason.unwrap_or_default();
                    bar.set_message(printable(&format!("{}: {reason}: tries again", object.id)));
                }
                _ => {
                    tally.add(object, reconciled);
                    break;
                }
            }
        }
        bar.inc(1);
    }
    Ok(End::Complete)
}

/// `None` if Ctrl-C came before the API answered.
async fn look_after(
    wait: Duration,
    look: &Look,
    inbox: &impl Looker,
    object: &Object,
) -> Option<Result<Reconciled, InboxError>> {
    tokio::select! {
        () = look.client.stopped() => return None,
        () = sleep(wait) => {}
    }
    let looked = look.at(inbox, object).await;
    (!look.client.was_stopped()).then_some(looked)
}

/// A progress bar on standard error, hidden unless that is a terminal.
fn progress(len: u64) -> Result<ProgressBar, BoxError> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}")?;
    Ok(ProgressBar::new(len).with_style(style))
}
