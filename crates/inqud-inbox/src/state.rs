use std::fmt;

/// What has become of a notification.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// Not settled yet: it waits for a runner, or for a retry, or is being handled.
    Open = 0,
    /// Processed.
    Done = 1,
    /// Never to be processed, because it is stale or was discarded.
    Skipped = 2,
    /// A dead letter.
    Dead = 3,
    /// Kept for [review](tower_inqud::Verdict::Review).
    Review = 4,
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Open, Self::Done, Self::Skipped, Self::Dead, Self::Review];

    /// The name in lists: `open`, `done`, `skipped`, `dead` or `review`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
            Self::Review => "review",
        }
    }

    /// Returns the state that a store wrote as this number.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn of_code(code: i64) -> Self {
        let known = Self::ALL.into_iter().find(|it| *it as i64 == code);
        known.unwrap_or(Self::Skipped)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_documented_names() {
        let names = State::ALL.map(|state| state.to_string());
        assert_eq!(names, ["open", "done", "skipped", "dead", "review"]);
        assert_eq!(format!("{:>7}", State::Dead), "   dead");
    }
}
