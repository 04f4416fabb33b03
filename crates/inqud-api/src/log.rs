//! Events for feature `tracing`. They show neither headers nor bodies.

#[cfg(feature = "tracing")]
mod on {
    use std::time::Duration;

    use tower_inqud::EventKind;

    pub(crate) fn answered(kind: EventKind, status: u16, elapsed: Duration) {
        tracing::debug!(%kind, status, ?elapsed, "response of Inqud's API");
    }

    pub(crate) fn failed(kind: EventKind, reason: &str, pause: Duration) {
        tracing::warn!(%kind, reason, ?pause, "Inqud's API failed, and requests pause");
    }

    pub(crate) fn unusable(kind: EventKind, reason: &str) {
        tracing::warn!(%kind, reason, "unusable response of Inqud's API");
    }

    pub(crate) fn held(kind: EventKind, reason: &str, after: Duration) {
        tracing::debug!(%kind, reason, ?after, "no request is sent to Inqud's API for now");
    }
}

#[cfg(not(feature = "tracing"))]
mod on {
    use std::time::Duration;

    use tower_inqud::EventKind;

    pub(crate) fn answered(_: EventKind, _: u16, _: Duration) {}
    pub(crate) fn failed(_: EventKind, _: &str, _: Duration) {}
    pub(crate) fn unusable(_: EventKind, _: &str) {}
    pub(crate) fn held(_: EventKind, _: &str, _: Duration) {}
}

pub(crate) use self::on::{answered, failed, held, unusable};
