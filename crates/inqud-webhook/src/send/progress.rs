use indicatif::style::TemplateError;
use indicatif::{ProgressBar, ProgressStyle};
use inqud_mock::Delivery;

use crate::pretty::printable;

/// A progress bar on standard error, hidden unless that is a terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(len: u64) -> Result<Self, TemplateError> {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}")?;
        Ok(Self(ProgressBar::new(len).with_style(style)))
    }

    pub(super) fn show(&self, delivery: &Delivery) {
        self.0.set_message(printable(&delivery.to_string()));
        if delivery.is_acknowledged() || delivery.is_lost() {
            self.0.inc(1);
        }
    }

    /// Hides the bar while other output is printed.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;
    use indicatif::ProgressBar;
    use inqud_mock::{Lifecycle, MockInqud, Scenario, SentBody};

    use super::Progress;

    #[tokio::test]
    async fn the_progress_bar_escapes_responses() {
        let secret = tower_inqud::Secret::new("a secret of the test").unwrap();
        let service = tower::service_fn(async |_: http::Request<SentBody>| {
            Err::<http::Response<String>, _>("\u{9b}2J\u{202e}")
        });
        let bar = Progress(ProgressBar::hidden());
        let inqud = MockInqud::new(secret, Uri::from_static("/"));
        inqud.deliver_each(Lifecycle::new(Scenario::Expired), service, |it| bar.show(&it)).await;
        assert!(bar.0.message().ends_with(r"\u{9b}2J\u{202e}"), "{}", bar.0.message());
        assert_eq!(bar.0.position(), 2);
        bar.finish();
        assert!(bar.0.is_finished());
    }
}
