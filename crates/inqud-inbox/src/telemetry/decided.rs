use std::time::Duration;

/// The outcome that was decided for a claim, before the store has committed it.
#[derive(Default)]
pub(crate) enum Decided {
    #[default]
    Nothing,
    Done,
    Skipped,
    Review,
    Decoded,
    Retry(String, Duration),
    Dead(String),
}
