//! What a retention deletes, part by part.

use std::fmt;
use std::time::Duration;

/// A part of what a [`Retention`](crate::Retention) deletes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[doc(hidden)]
pub enum Sweep {
    Bodies(Duration),
    /// Looks at those whose number is above `after`.
    Notifications {
        age: Duration,
        includes_reviews: bool,
        after: i64,
    },
    Objects(Duration),
}

impl Sweep {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bodies(_) => "bodies",
            Self::Notifications { .. } => "notifications",
            Self::Objects(_) => "objects",
        }
    }
}

/// One commit of a sweep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[doc(hidden)]
pub struct SweptBatch {
    /// How many it has deleted.
    pub count: usize,
    /// What remains to be looked at.
    pub next: Option<Sweep>,
}

impl SweptBatch {
    /// Of a sweep that starts over each time, and has deleted `count` of at most `limit`.
    pub(crate) fn of(sweep: Sweep, count: usize, limit: usize) -> Self {
        Self { count, next: (count >= limit && limit > 0).then_some(sweep) }
    }
}

/// How much a [`Retention`](crate::Retention) has deleted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Swept {
    /// Bodies.
    pub bodies: usize,
    /// Notifications.
    pub notifications: usize,
    /// Objects.
    pub objects: usize,
}

impl Swept {
    pub(crate) fn add(&mut self, sweep: Sweep, count: usize) {
        let of = match sweep {
            Sweep::Bodies(_) => &mut self.bodies,
            Sweep::Notifications { .. } => &mut self.notifications,
            Sweep::Objects(_) => &mut self.objects,
        };
        *of = of.saturating_add(count);
    }
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bodies, notifications, objects } = self;
        write!(f, "{bodies} bodies, {notifications} notifications and {objects} objects deleted")
    }
}
