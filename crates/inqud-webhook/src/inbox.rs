mod entries;
mod filter;
mod import;
mod list;
mod parse;
mod reprocess;

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
#[cfg(feature = "sqlite")]
use inqud_inbox::Inbox;
#[cfg(feature = "postgres")]
use inqud_inbox::Postgres;
use inqud_inbox::{Admin, Filter, InboxError, Key, Retention, State, Stats, Swept};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tower_inqud::Verdict;

use self::import::ImportArgs;
use self::list::{FindArgs, ListArgs, ShowArgs};
use self::parse::{age, distinct, key};
use self::reprocess::ReprocessArgs;
#[cfg(feature = "sqlite")]
use crate::backup::BackupArgs;
#[cfg(feature = "sqlite")]
use crate::chain::error_chain;
use crate::chain::{BoxError, chained};
#[cfg(feature = "postgres")]
use crate::database::{self, Database};
use crate::erase::EraseArgs;
use crate::out::Outcome;
use crate::out::{BAD, FAINT, Out, styled};
use crate::pretty::printable;
use crate::rejected::RejectedArgs;
use crate::store_args::StoreArgs;

/// How many dead letters are read, and how many bodies are deleted, at a time.
const BATCH: usize = 1000;

/// How long a kind with a backlog may be without a runner before `stats` warns about it.
const UNCLAIMED: Duration = Duration::from_secs(180);

/// Inspects and maintains an inbox, even while a server has it open.
#[derive(Args)]
pub(crate) struct InboxCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    #[command(flatten)]
    Tend(Tend),
    /// Writes a copy of a SQLite inbox, even while a server has it open. Back up Postgres with pg_dump.
    #[cfg(feature = "sqlite")]
    Backup(BackupArgs),
    /// Creates the inbox's tables in Postgres, or migrates them to this version.
    #[cfg(feature = "postgres")]
    Migrate(MigrateArgs),
    /// Prints the SQL that `migrate` runs, for your own migration tool. Apply it once, in one transaction.
    #[cfg(feature = "postgres")]
    Sql,
}

/// Commands that open an inbox.
#[derive(Subcommand)]
enum Tend {
    /// Shows the backlog, dead letters, reviews and skipped notifications, by kind.
    Stats(StatsArgs),
    /// Lists notifications, oldest first: those of an order, for example.
    ///
    /// Exits with 1 if none matches.
    List(Box<FindArgs>),
    /// Shows a notification with its body, which contains personal data.
    ///
    /// Exits with 1 if there is none with this key.
    Show(ShowArgs),
    /// Lists dead letters, oldest first.
    Dead(ListArgs),
    /// Lists notifications kept for review, oldest first. Each may be a late duplicate, or a status that
    /// recurred. Look at the object in Inqud's API, then redrive or discard the notification.
    Review(ListArgs),
    /// Lists skipped notifications: those that were stale, and those that were discarded.
    Skipped(ListArgs),
    /// Lists notifications that were processed as amendments: same status, same time, different content.
    Amended(ListArgs),
    /// Lists notifications that were processed although nothing proves that they are the latest.
    Unordered(ListArgs),
    /// Requeues dead letters, or notifications kept for review.
    ///
    /// Exits with 0 if every key names a dead letter or a notification kept for review.
    Redrive(RedriveArgs),
    /// Marks dead letters, or notifications kept for review, as skipped: they are never processed, and
    /// `prune` deletes their bodies. This cannot be undone.
    ///
    /// Exits with 0 if every key names a dead letter or a notification kept for review.
    Discard(DiscardArgs),
    /// Processes notifications again that were processed before, with those about the same objects that were
    /// processed after them.
    ///
    /// The runner calls the handler again for each, unless it skips replays. Exits with 0 if all that were chosen are
    /// requeued.
    Reprocess(Box<ReprocessArgs>),
    /// Stores notifications that were fetched elsewhere, from Inqud's API for example. One that was delivered is a
    /// duplicate.
    Import(ImportArgs),
    /// Deletes the bodies of notifications that were processed or skipped long ago. Their keys are kept,
    /// because duplicates are detected by them.
    Prune(PruneArgs),
    /// Deletes the bodies and errors of all notifications about an object or an order, also of dead letters. This
    /// cannot be undone.
    ///
    /// Keys, statuses and the ids of objects are kept, because duplicates are detected by them. Exits with 0 if
    /// there are any notifications.
    Erase(EraseArgs),
    /// Lists the calls that were rejected, newest first, if the server logs them.
    #[command(alias = "refused")]
    Rejected(RejectedArgs),
}

#[derive(Args)]
struct StatsArgs {
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Args)]
struct RedriveArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The keys, as listed by `dead` and `review`.
    #[arg(value_name = "KEY", value_parser = key, required_unless_present = "all")]
    keys: Vec<Key>,
    /// Requeues every dead letter once. A notification that becomes a dead letter again meanwhile stays one.
    #[arg(long, conflicts_with = "keys")]
    all: bool,
}

#[derive(Args)]
struct DiscardArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The keys, as listed by `dead` and `review`.
    #[arg(value_name = "KEY", value_parser = key, required = true)]
    keys: Vec<Key>,
}

#[derive(Args)]
struct PruneArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Minimum age since processing, such as 30d, 2w or 36h. A day has 24 hours here.
    #[arg(long, value_name = "TIME", value_parser = age)]
    #[arg(required_unless_present_any = ["rows_older_than", "objects_older_than"])]
    older_than: Option<Duration>,
    /// Deletes whole notifications of this age too, at least 3d. What was processed last of each object is kept.
    #[arg(long, value_name = "TIME", value_parser = age)]
    rows_older_than: Option<Duration>,
    /// Deletes objects of this age too if their notifications are deleted, at least 3d. A late notification
    /// about one is then processed as its first.
    #[arg(long, value_name = "TIME", value_parser = age)]
    objects_older_than: Option<Duration>,
    /// With --rows-older-than, deletes notifications kept for review too.
    #[arg(long, requires = "rows_older_than")]
    include_reviews: bool,
}

#[cfg(feature = "postgres")]
#[derive(Args)]
#[group(required = true)]
struct MigrateArgs {
    // Requires `=`, because a key that follows would otherwise be taken for the URL.
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true)]
    #[arg(help = database::HELP, long_help = database::LONG_HELP)]
    postgres: Option<Option<String>>,
}

impl InboxCommand {
    pub(crate) async fn run(&self, out: &Out) -> Outcome {
        match &self.action {
            Action::Tend(tend) => tend.open_and_run(out).await,
            #[cfg(feature = "sqlite")]
            Action::Backup(args) => args.run(out).await,
            #[cfg(feature = "postgres")]
            Action::Migrate(args) => args.run(out).await,
            #[cfg(feature = "postgres")]
            Action::Sql => {
                let for_people = || Postgres::MIGRATIONS.join("\n");
                let as_json = || json!({ "migrations": Postgres::MIGRATIONS });
                Ok(out.conclude(true, for_people, as_json)?)
            }
        }
    }
}

impl Tend {
    async fn open_and_run(&self, out: &Out) -> Outcome {
        let store = self.store();
        #[cfg(feature = "postgres")]
        if let Some(url) = &store.postgres {
            let opened = Database::new(url.as_deref())?.open().await?;
            return self.run(opened.store(), out).await;
        }
        #[cfg(feature = "sqlite")]
        if let Some(path) = &store.sqlite {
            let attached = Inbox::attach(path)
                .map_err(|error| format!("{}: {}", path.display(), error_chain(&error)))?;
            return self.run(&attached, out).await;
        }
        Err("no inbox is named".into())
    }

    fn store(&self) -> &StoreArgs {
        match self {
            Self::Stats(args) => &args.store,
            Self::List(args) => args.store(),
            Self::Show(args) => &args.store,
            Self::Reprocess(args) => &args.store,
            Self::Import(args) => &args.store,
            Self::Dead(args)
            | Self::Review(args)
            | Self::Skipped(args)
            | Self::Amended(args)
            | Self::Unordered(args) => &args.store,
            Self::Redrive(args) => &args.store,
            Self::Discard(args) => &args.store,
            Self::Prune(args) => &args.store,
            Self::Erase(args) => &args.store,
            Self::Rejected(args) => &args.store,
        }
    }

    async fn run(&self, inbox: &impl Admin, out: &Out) -> Outcome {
        match self {
            Self::Stats(_) => stats(inbox, out).await,
            Self::List(args) => args.run(inbox, out).await,
            Self::Show(args) => args.run(inbox, out).await,
            Self::Dead(args) => args.run("dead", State::Dead, inbox, out).await,
            Self::Review(args) => args.run("review", State::Review, inbox, out).await,
            Self::Skipped(args) => args.run("skipped", State::Skipped, inbox, out).await,
            Self::Amended(args) => args.run("amended", Verdict::Amended, inbox, out).await,
            Self::Unordered(args) => args.run("unordered", Verdict::Unordered, inbox, out).await,
            Self::Reprocess(args) => args.run(inbox, out).await,
            Self::Import(args) => args.run(inbox, out).await,
            Self::Redrive(args) => args.run(inbox, out).await,
            Self::Discard(args) => args.run(inbox, out).await,
            Self::Prune(args) => args.run(inbox, out).await,
            Self::Erase(args) => args.run(inbox, out).await,
            Self::Rejected(args) => args.run(inbox, out).await,
        }
    }
}

async fn stats(inbox: &impl Admin, out: &Out) -> Outcome {
    let stats = inbox.stats().await.map_err(chained)?;
    let unclaimed = inbox.unclaimed(UNCLAIMED).await.map_err(chained)?;
    let for_people = || stats_for_people(&stats, &unclaimed);
    Ok(out.conclude(true, for_people, || stats_as_json(&stats, &unclaimed))?)
}

impl RedriveArgs {
    async fn run(&self, inbox: &impl Admin, out: &Out) -> Outcome {
        let (redriven, rest) = if self.all {
            (redrive_all(inbox).await?, 0)
        } else {
            let keys = distinct(&self.keys);
            let count = keys.len();
            let redriven = inbox.redrive(keys).await.map_err(chained)?;
            (redriven, count.saturating_sub(redriven))
        };
        let for_people = || format!("{redriven} requeued\n{}", unmatched(rest));
        let as_json = || json!({ "redriven": redriven, "unmatched": rest });
        Ok(out.conclude(rest == 0, for_people, as_json)?)
    }
}

/// Redrives each dead letter once. One that fails again at once comes before the cursor, so it is not redriven forever.
async fn redrive_all(inbox: &impl Admin) -> Result<usize, BoxError> {
    let newest = inbox.list(Filter::from(State::Dead).newest_first(), 1).await.map_err(chained)?;
    let newest = newest.entries.first().map(|letter| letter.key);
    let (mut filter, mut redriven) = (Filter::from(State::Dead), 0_usize);
    loop {
        let page = inbox.list(&filter, BATCH).await.map_err(chained)?;
        let keys: Vec<_> = page.entries.iter().map(|letter| letter.key).collect();
        let is_last = keys.iter().any(|key| Some(*key) == newest);
        redriven = redriven.saturating_add(inbox.redrive(keys).await.map_err(chained)?);
        if page.next.is_none() || is_last {
            return Ok(redriven);
        }
        filter = filter.after(page.next);
    }
}

impl DiscardArgs {
    async fn run(&self, inbox: &impl Admin, out: &Out) -> Outcome {
        let keys = distinct(&self.keys);
        let count = keys.len();
        let discarded = inbox.discard(keys).await.map_err(chained)?;
        let rest = count.saturating_sub(discarded);
        let for_people = || format!("{discarded} discarded\n{}", unmatched(rest));
        let as_json = || json!({ "discarded": discarded, "unmatched": rest });
        Ok(out.conclude(rest == 0, for_people, as_json)?)
    }
}

fn unmatched(count: usize) -> String {
    match count {
        0 => String::new(),
        _ => styled(
            BAD,
            format!(
                "{count} not found: neither a dead letter nor kept for review; list the keys with \
                     `inbox dead` and `inbox review`"
            ),
        )
        .to_string()
            + "\n",
    }
}

impl PruneArgs {
    async fn run(&self, inbox: &impl Admin, out: &Out) -> Outcome {
        // Before anything is deleted.
        let retention = self.retention().map_err(chained)?;
        let mut pruned = 0_usize;
        while let Some(older_than) = self.older_than {
            let some = inbox.prune(older_than, BATCH).await.map_err(chained)?;
            pruned = pruned.saturating_add(some);
            if some < BATCH {
                break;
            }
        }
        let Swept { notifications, objects, .. } = retention.sweep(inbox).await.map_err(chained)?;
        let for_people = || {
            let mut text = format!("{pruned} bodies deleted\n");
            if self.rows_older_than.is_some() {
                _ = writeln!(text, "{notifications} notifications deleted");
            }
            if self.objects_older_than.is_some() {
                _ = writeln!(text, "{objects} objects deleted");
            }
            text
        };
        let as_json = || {
            let mut json = Map::from_iter([("pruned".to_owned(), pruned.into())]);
            if self.rows_older_than.is_some() {
                json.insert("notifications".to_owned(), notifications.into());
            }
            if self.objects_older_than.is_some() {
                json.insert("objects".to_owned(), objects.into());
            }
            json.into()
        };
        Ok(out.conclude(true, for_people, as_json)?)
    }

    fn retention(&self) -> Result<Retention, InboxError> {
        let mut retention = Retention::new();
        if let Some(age) = self.rows_older_than {
            retention = retention.notifications(age)?;
        }
        if let Some(age) = self.objects_older_than {
            retention = retention.objects(age)?;
        }
        Ok(if self.include_reviews { retention.include_reviews() } else { retention })
    }
}

#[cfg(feature = "postgres")]
impl MigrateArgs {
    async fn run(&self, out: &Out) -> Outcome {
        Database::new(self.postgres.as_ref().and_then(Option::as_deref))?.migrate().await?;
        let version = Postgres::MIGRATIONS.len();
        let for_people = || format!("the tables are at version {version}\n");
        Ok(out.conclude(true, for_people, || json!({ "version": version }))?)
    }
}

fn stats_for_people(stats: &Stats, unclaimed: &[String]) -> String {
    let oldest = match stats.oldest() {
        Some(oldest) => {
            let age = Timestamp::now().duration_since(oldest).as_secs();
            let age = SignedDuration::from_secs(age.max(0));
            format!(", the oldest since {oldest:.0} ({age:#})")
        }
        None => String::new(),
    };
    let mut text = format!("backlog {}{}\n", stats.backlog(), styled(FAINT, oldest));
    let (dead, review, skipped) = (stats.dead(), stats.review(), stats.skipped());
    _ = writeln!(text, "dead {dead}\nreview {review}\nskipped {skipped}");
    for kind in &stats.kinds {
        let name = printable(&kind.kind);
        let counts = [kind.backlog, kind.dead, kind.review, kind.skipped];
        let [backlog, dead, review, skipped] = counts;
        let counts = format!("backlog {backlog}, dead {dead}, review {review}, skipped {skipped}");
        _ = writeln!(text, "  {name:<16} {}", styled(FAINT, counts));
    }
    for kind in unclaimed {
        let warning = format!("no runner processes {}, which has a backlog", printable(kind));
        _ = writeln!(text, "{}", styled(BAD, warning));
    }
    text
}

fn stats_as_json(stats: &Stats, unclaimed: &[String]) -> Value {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let kinds = stats.kinds.iter().map(|kind| {
        let counts = json!({
            "backlog": kind.backlog, "oldest": time(kind.oldest), "dead": kind.dead,
            "review": kind.review, "skipped": kind.skipped,
        });
        (kind.kind.clone(), counts)
    });
    json!({
        "backlog": stats.backlog(), "oldest": time(stats.oldest()), "dead": stats.dead(),
        "review": stats.review(), "skipped": stats.skipped(),
        "kinds": kinds.collect::<Map<_, _>>(), "unclaimed": unclaimed,
    })
}
