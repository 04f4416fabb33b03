use std::error::Error;
use std::future::poll_fn;
use std::iter;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, RETRY_AFTER};
use http_body::Body;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Longest text of an error in a reason, in characters.
const MAX_TEXT: usize = 200;

/// Why a body could not be read.
pub(crate) enum ReadError {
    TooLarge,
    /// It ended early, with this error.
    Broke(String),
}

/// The form of dates in HTTP. The day of the week does not matter.
const DATE: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read<B>(body: B, limit: usize) -> Result<Bytes, ReadError>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(ReadError::TooLarge);
    }
    let mut read = BytesMut::new();
    let mut counted = 0_usize;
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|error| ReadError::Broke(chain(error.into())))?;
        let Ok(mut data) = frame.into_data() else { continue };
        // An empty frame counts as a byte. Otherwise an endless stream of them would never end.
        counted = counted.saturating_add(data.remaining().max(1));
        if counted > limit {
            return Err(ReadError::TooLarge);
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            read.extend_from_slice(chunk);
            let len = chunk.len();
            data.advance(len);
        }
    }
    Ok(read.freeze())
}

/// Formats an error and its causes on one short line, without control characters.
pub(crate) fn chain(error: BoxError) -> String {
    let first: &(dyn Error + 'static) = &*error;
    let causes = iter::successors(Some(first), |error| (*error).source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// The time in `Retry-After`: seconds, or a date. `None` for anything else.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a long time.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = DATE.parse_timestamp(text).ok()?;
    // A date in the past means now.
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use http::header::RETRY_AFTER;

    use super::retry_after;

    #[test]
    fn reads_retry_after() {
        let now = "2026-11-27T23:00:00Z".parse().unwrap();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (text, expected) in [
            ("0", seconds(0)),
            ("120", seconds(120)),
            (" 7 ", seconds(7)),
            ("99999999999999999999999", seconds(u64::MAX)),
            ("Fri, 27 Nov 2026 23:01:30 GMT", seconds(90)),
            ("Fri, 27 Nov 2026 22:00:00 GMT", seconds(0)),
            // The wrong day of the week.
            ("Mon, 27 Nov 2026 23:01:30 GMT", seconds(90)),
            ("Fri, 01 Jan 9999 00:00:00 GMT", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            let found = retry_after(&headers, now);
            match text {
                // Years away: what matters is that it is long.
                "Fri, 01 Jan 9999 00:00:00 GMT" => assert!(found > seconds(1_000_000_000)),
                _ => assert_eq!(found, expected, "{text:?}"),
            }
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
