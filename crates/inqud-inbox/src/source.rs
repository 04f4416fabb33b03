use std::fmt;

/// How a notification got into the inbox.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// Inqud delivered it by a webhook, which was verified.
    #[default]
    Pushed,
    /// It was fetched from Inqud's API, or imported. No digest proves it.
    Fetched,
}

impl Source {
    /// The name in lists: `pushed` or `fetched`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pushed => "pushed",
            Self::Fetched => "fetched",
        }
    }

    /// Returns the number that a store keeps.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite")),
        expect(dead_code, reason = "only databases write numbers")
    )]
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Pushed => 0,
            Self::Fetched => 1,
        }
    }

    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite")),
        expect(dead_code, reason = "only databases read numbers")
    )]
    pub(crate) const fn of_code(code: i16) -> Self {
        if code == 0 { Self::Pushed } else { Self::Fetched }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
