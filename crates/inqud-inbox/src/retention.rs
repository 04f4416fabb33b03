//! How long an inbox keeps what is settled.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::admin::Admin;
use crate::error::{InboxError, InboxErrorKind};
use crate::sweep::{Sweep, Swept};
use crate::telemetry;
use tower_inqud::contract::DUPLICATE_WINDOW;

/// How long an inbox keeps what is settled. Set it with [`Inbox::retention`](crate::Inbox::retention).
///
/// By default everything is kept. Deleting starts when you say for how long to keep something:
///
/// | setting | deletes | what a repeat of it is then |
/// | --- | --- | --- |
/// | [`bodies`](Self::bodies) | the bodies of notifications that are done or skipped | a duplicate, as before |
/// | [`notifications`](Self::notifications) | their rows | a duplicate of what its object handled last, or stale, or new |
/// | [`objects`](Self::objects) | what was handled last of each object | the first notification of its object |
///
/// Nothing is deleted within [`contract::DUPLICATE_WINDOW`](DUPLICATE_WINDOW), because Inqud may still repeat it.
///
/// Never deleted: notifications that wait, are in flight or are retried, dead letters, everything about an object that has
/// one of these, and idempotency keys. Notifications kept for review are kept unless you
/// [include them](Self::include_reviews). Redrive or discard dead letters, and then they are deleted too.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use inqud_inbox::{Inbox, Retention};
///
/// const DAY: Duration = Duration::from_secs(24 * 3600);
///
/// # fn main() -> Result<(), inqud_inbox::InboxError> {
/// let retention = Retention::new().bodies(DAY * 30)?.notifications(DAY * 400)?;
/// let inbox = Inbox::memory().retention(retention);
/// assert!(Retention::new().bodies(DAY).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use = "it does nothing until an inbox is given it"]
pub struct Retention {
    bodies: Option<Duration>,
    notifications: Option<Duration>,
    objects: Option<Duration>,
    includes_reviews: bool,
}

impl Retention {
    /// Keeps everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Deletes bodies of notifications that were done or skipped so long ago. Defaults to never.
    ///
    /// Bodies hold personal data, and take most of the space.
    ///
    /// # Errors
    ///
    /// [`RetentionTooShort`](InboxErrorKind::RetentionTooShort) for less than [3 days](DUPLICATE_WINDOW).
    pub fn bodies(mut self, age: Duration) -> Result<Self, InboxError> {
        self.bodies = Some(checked(age)?);
        Ok(self)
    }

    /// Deletes notifications that were done or skipped so long ago. Defaults to never.
    ///
    /// What was handled last of each object is kept, so that a late notification cannot set it back. A repeat of a deleted
    /// notification is then a duplicate if it is the one that was handled last, and [stale](tower_inqud::Verdict::Stale) if
    /// it is older. Only if its object has no times, as payments, a repeat of an older final status cannot be told from a
    /// change: it is handled as [unordered](tower_inqud::Verdict::Unordered).
    ///
    /// # Errors
    ///
    /// [`RetentionTooShort`](InboxErrorKind::RetentionTooShort) for less than [3 days](DUPLICATE_WINDOW).
    pub fn notifications(mut self, age: Duration) -> Result<Self, InboxError> {
        self.notifications = Some(checked(age)?);
        Ok(self)
    }

    /// Deletes what is known of an object whose notifications are all deleted, if its last one was settled so long ago.
    /// Defaults to never.
    ///
    /// After that, any notification about the object is handled as its first one, even an early status of an order that
    /// was completed. An object takes about 150 bytes, so you rarely need this.
    ///
    /// # Errors
    ///
    /// [`RetentionTooShort`](InboxErrorKind::RetentionTooShort) for less than [3 days](DUPLICATE_WINDOW).
    pub fn objects(mut self, age: Duration) -> Result<Self, InboxError> {
        self.objects = Some(checked(age)?);
        Ok(self)
    }

    /// Deletes notifications kept for review too, when [`notifications`](Self::notifications) deletes others of that age.
    ///
    /// Nobody has decided about them. By default they are kept.
    pub fn include_reviews(mut self) -> Self {
        self.includes_reviews = true;
        self
    }

    /// Deletes what is too old, in small commits with pauses. Returns how much it was.
    ///
    /// Runners do that by themselves if you set [`Inbox::retention`](crate::Inbox::retention). This is for tools.
    ///
    /// # Errors
    ///
    /// If the store fails. What was committed before that stays deleted.
    pub async fn sweep(&self, inbox: &(impl Admin + ?Sized)) -> Result<Swept, InboxError> {
        let Self { bodies, notifications, objects, includes_reviews } = *self;
        let notifications = notifications.map(|age| Sweep::Notifications {
            age,
            includes_reviews,
            after: i64::MIN,
        });
        let mut swept = Swept::default();
        for sweep in [bodies.map(Sweep::Bodies), notifications, objects.map(Sweep::Objects)] {
            let mut next = sweep;
            while let Some(sweep) = next {
                let began = Instant::now();
                let batch = inbox.sweep_batch(sweep, BATCH).await?;
                next = batch.next;
                swept.add(sweep, batch.count);
                telemetry::deleted(sweep.as_str(), batch.count);
                if next.is_some() {
                    sleep(began.elapsed().saturating_mul(REST).clamp(SHORTEST, LONGEST)).await;
                }
            }
        }
        Ok(swept)
    }
}

/// The most rows that one commit deletes or looks at.
const BATCH: usize = 256;

/// The pause after a batch, as a multiple of the time that it took, and its limits.
const REST: u32 = 19;
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

fn checked(age: Duration) -> Result<Duration, InboxError> {
    if age < DUPLICATE_WINDOW {
        return Err(InboxError::new(InboxErrorKind::RetentionTooShort));
    }
    Ok(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_less_than_the_duplicate_window() {
        type Setting = fn(Retention, Duration) -> Result<Retention, InboxError>;
        let settings: [Setting; 3] =
            [Retention::bodies, Retention::notifications, Retention::objects];
        for setting in settings {
            let short = DUPLICATE_WINDOW.saturating_sub(Duration::from_nanos(1));
            let error = setting(Retention::new(), short).unwrap_err();
            assert_eq!(error.kind(), InboxErrorKind::RetentionTooShort);
            assert!(error.to_string().contains("3 days"), "{error}");
            assert!(setting(Retention::new(), DUPLICATE_WINDOW).is_ok());
        }
    }
}
