use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::entry::Entry;
use crate::key::Key;
use crate::order_id;
use crate::state::State;
use tower_inqud::Verdict;

/// Which notifications to [list](crate::Admin::list). Those that match all of its conditions are listed.
///
/// A [`State`] and a [`Verdict`] become a filter by themselves: `inbox.list(State::Dead, 20)`.
///
/// # Example
///
/// ```
/// use inqud_inbox::{Filter, Inbox};
///
/// # async fn run(inbox: inqud_inbox::Inbox<inqud_inbox::Memory>) -> Result<(), inqud_inbox::InboxError> {
/// // Did we get the webhook for this order?
/// let page = inbox.list(Filter::new().order_id("order-17"), 20).await?;
/// for entry in &page.entries {
///     println!("{} {} {}", entry.received_at, entry.status, entry.state);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Filter {
    pub(crate) key: Option<Key>,
    pub(crate) order_id: Option<String>,
    pub(crate) object: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) state: Option<State>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) before: Option<Timestamp>,
    pub(crate) newest_first: bool,
    pub(crate) with_bodies: bool,
    pub(crate) after: Option<Cursor>,
    /// The last number to list.
    pub(crate) up_to: Option<i64>,
}

impl Filter {
    /// Lists all notifications, the oldest first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists the notification with this key.
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Lists the notifications of an order, by its [id](tower_inqud::Notification::order_id). Orders of different
    /// tenants can have the same id.
    pub fn order_id(mut self, id: &str) -> Self {
        self.order_id = Some(order_id::stored(id).unwrap_or_default());
        self
    }

    /// Lists the notifications about the object with this id. If it belongs to a tenant, set the
    /// [`tenant`](Self::tenant) too.
    pub fn object(mut self, id: impl Into<String>) -> Self {
        self.object = Some(id.into());
        self
    }

    /// Lists the notifications of a [kind](crate::Storable::KIND).
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Lists the notifications that were received for a [tenant](tower_inqud::Verifier::tenant).
    pub fn tenant(mut self, name: impl Into<String>) -> Self {
        self.tenant = Some(name.into());
        self
    }

    /// Lists the notifications with a status, such as `SUCCESS`.
    pub fn status(mut self, status: impl Into<String>) -> Self {
        self.status = Some(status.into());
        self
    }

    /// Lists the notifications in a state.
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// Lists the notifications that were processed with a verdict, such as [`Amended`](Verdict::Amended).
    pub fn verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = Some(verdict);
        self
    }

    /// Lists the notifications that were stored at this time or later.
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Lists the notifications that were stored before this time.
    pub fn before(mut self, time: Timestamp) -> Self {
        self.before = Some(time);
        self
    }

    /// Lists the newest first.
    pub fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }

    /// Reads the bodies too. They hold personal data.
    pub fn with_bodies(mut self) -> Self {
        self.with_bodies = true;
        self
    }

    /// Continues a list after the page that returned this cursor. The other conditions must be the same.
    pub fn after(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.after = cursor.into();
        self
    }
}

impl From<State> for Filter {
    fn from(state: State) -> Self {
        Self::new().state(state)
    }
}

impl From<Verdict> for Filter {
    fn from(verdict: Verdict) -> Self {
        Self::new().verdict(verdict)
    }
}

impl From<&Self> for Filter {
    fn from(filter: &Self) -> Self {
        filter.clone()
    }
}

/// A place in a list: see [`Page::next`].
///
/// It has a text form, which [`FromStr`] reads back. It stays valid while notifications are added and settled.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Cursor(pub(crate) i64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:x}", self.0)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let digits = text.strip_prefix('c').filter(|it| !it.starts_with(['+', '-']));
        let number = digits.and_then(|it| i64::from_str_radix(it, 16).ok());
        number.map(Self).ok_or(InvalidCursor(()))
    }
}

/// A text is not a [`Cursor`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidCursor(());

impl fmt::Display for InvalidCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid cursor: use one that a list returned")
    }
}

impl std::error::Error for InvalidCursor {}

/// A part of a list.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Page {
    /// The notifications.
    pub entries: Vec<Entry>,
    /// Where the list goes on: see [`Filter::after`]. `None` at its end.
    ///
    /// A page with fewer entries than asked for, even one without any, can have a next one: a call that has searched
    /// for a second returns what it has found.
    ///
    /// If you follow it to the end, you get each notification that was there at the beginning and still matches
    /// exactly once.
    pub next: Option<Cursor>,
}
