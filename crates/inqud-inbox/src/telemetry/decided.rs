use std::time::Duration;

/// What is to become of it, if the store agrees.
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
