//! Captures what a subscriber at TRACE writes.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// A subscriber for all levels, with the start and the end of each span.
    pub fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish()
    }

    /// The same for the current thread only.
    pub fn subscriber_of_a_thread(&self) -> impl Subscriber + Send + Sync + use<> {
        // `tracing` caches which callsites no subscriber is interested in. If one thread sets its subscriber
        // while another drops its own, the cache can be wrong. A global subscriber for everything avoids that.
        static STAYS: Once = Once::new();
        STAYS.call_once(|| {
            let all = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
            let _ = tracing::subscriber::set_global_default(all.with_writer(io::sink).finish());
        });
        self.subscriber()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no test panicked here").clone()).expect("a text")
    }

    /// The first line that contains one of these texts.
    pub fn line_with<'a>(&self, hidden: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let text = self.text();
        let lines = |hidden: &str| text.lines().find(|line| line.contains(hidden));
        hidden.into_iter().find_map(lines).map(str::to_owned)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panicked here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
