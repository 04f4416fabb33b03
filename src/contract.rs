//! Inqud's delivery contract as constants.
//!
//! Each item says whether it is *confirmed* by Inqud's own documentation, or *inferred* and from
//! what.
//!
//! - Inqud sends `POST` requests with raw JSON (confirmed).
//! - Only status 200 stops the retries (confirmed). Whether 201, 202 or 204 count is not public, so
//!   this crate turns every 2xx into 200.
//! - Delivery is at least once and in any order (confirmed). Expect duplicates and late deliveries.
//! - After the last retry the notification is lost. Inqud's API has the same data (confirmed).
//! - Inqud documents no header that names the event, its kind, its time or a nonce. A receiver can
//!   therefore not tell a replay from a retry by the signature. [`History`](crate::History) detects
//!   duplicates by their status, time and content.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderName, StatusCode};

/// The header that carries the digest, `X-Payload-Digest` (confirmed).
pub const DIGEST_HEADER: HeaderName = HeaderName::from_static("x-payload-digest");

/// The only status that stops the retries (confirmed).
pub const ACKNOWLEDGED: StatusCode = StatusCode::OK;

/// How long Inqud waits for a response (confirmed).
///
/// A later response counts as a failure and leads to a duplicate.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of retries after the first delivery (confirmed).
pub const MAX_RETRIES: u32 = 10;

/// The wait before each retry (inferred).
///
/// The numbers come from an older table of exactly ten steps. That the waits are minutes and grow
/// exponentially is confirmed.
pub const RETRY_SCHEDULE: &[Duration] = &[
    minutes(1),
    minutes(2),
    minutes(5),
    minutes(15),
    minutes(30),
    minutes(60),
    minutes(120),
    minutes(360),
    minutes(720),
    minutes(1440),
];

/// How long to remember handled notifications in order to detect duplicates: 3 days (inferred).
///
/// The [`RETRY_SCHEDULE`] ends after about 46 hours.
pub const DUPLICATE_WINDOW: Duration = minutes(3 * 24 * 60);

/// The only address that Inqud sends webhooks from (confirmed).
///
/// See [`is_source_address`] and [`WebhookLayer::allow_source`](crate::WebhookLayer::allow_source).
pub const SOURCE_ADDRESS: Ipv4Addr = Ipv4Addr::new(3, 64, 51, 60);

/// Whether `address` is [`SOURCE_ADDRESS`].
///
/// The IPv4-mapped form that a listener on `[::]` sees, `::ffff:3.64.51.60`, is accepted too.
///
/// # Example
///
/// ```
/// use tower_inqud::contract::is_source_address;
///
/// assert!(is_source_address("3.64.51.60".parse()?));
/// assert!(is_source_address("::ffff:3.64.51.60".parse()?));
/// assert!(!is_source_address("127.0.0.1".parse()?));
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
#[must_use]
pub fn is_source_address(address: IpAddr) -> bool {
    address.to_canonical() == IpAddr::V4(SOURCE_ADDRESS)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}
