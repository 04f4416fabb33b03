//! Inqud's delivery contract, as constants.
//!
//! Each says whether it is *confirmed* by Inqud's own documentation, or *inferred* and from what.
//!
//! - Inqud sends `POST` with raw JSON (confirmed).
//! - Only status 200 stops the retries (confirmed). Whether 201, 202 or 204 count is not public, so
//!   this crate turns every 2xx into 200.
//! - Deliveries come at least once, in any order (confirmed): expect duplicates and stragglers.
//! - After the last retry the notification is lost; the same data can be read from Inqud's API
//!   (confirmed).
//! - No header names the event, its kind, its time or a nonce (confirmed), so no receiver can tell
//!   a replay from a retry by its signature. [`History`](crate::History) tells duplicates by what they say.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderName, StatusCode};

/// The header with the digest, `X-Payload-Digest` (confirmed).
pub const DIGEST_HEADER: HeaderName = HeaderName::from_static("x-payload-digest");

/// The one status that ends the retries (confirmed).
pub const ACKNOWLEDGED: StatusCode = StatusCode::OK;

/// How long Inqud waits for the response (confirmed). Later is a failure, and leads to a duplicate.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often Inqud tries again (confirmed).
pub const MAX_RETRIES: u32 = 10;

/// The waits before each retry.
///
/// Inferred: that they are minutes, and grow exponentially, is confirmed; the numbers are an older
/// table of exactly ten steps.
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

/// How long to remember what was handled, in order to know a duplicate: 3 days.
///
/// Inferred: the [`RETRY_SCHEDULE`] ends after about 46 hours.
pub const DUPLICATE_WINDOW: Duration = minutes(3 * 24 * 60);

/// The one address that Inqud sends from (confirmed).
///
/// See [`is_source_address`] and [`WebhookLayer::allow_source`](crate::WebhookLayer::allow_source).
pub const SOURCE_ADDRESS: Ipv4Addr = Ipv4Addr::new(3, 64, 51, 60);

/// Whether `address` is [`SOURCE_ADDRESS`], also as a listener on `[::]` sees it,
/// `::ffff:3.64.51.60`.
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
