use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::{Fault, Message};
use tower_inqud::{Rejection, contract};

/// One delivery of a [`Message`], and the response to it.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub(super) message: Message,
    pub(super) fault: Option<Fault>,
    pub(super) retry: u32,
    pub(super) retry_follows: bool,
    pub(super) at: Duration,
    pub(super) elapsed: Duration,
    pub(super) answer: Answer,
    pub(super) rejection: Option<Rejection>,
    pub(super) text: String,
}

/// The response to a delivery, or its absence.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// A response with this status.
    Status(StatusCode),
    /// No response before the [timeout](super::MockInqud::timeout).
    TimedOut,
    /// No response, because the service or the client failed. Holds the text of the error.
    Failed(String),
    /// No delivery, because the mock [drops](super::MockInqud::drop_share) this message.
    Dropped,
}

impl Answer {
    /// Whether this acknowledges the message. Only status 200 does (confirmed).
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        *self == Self::Status(contract::ACKNOWLEDGED)
    }
}

impl Delivery {
    /// The message that was delivered.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The number of the retry, or 0 for the first attempt.
    #[must_use]
    pub fn retry(&self) -> u32 {
        self.retry
    }

    /// When this delivery started, measured from the start of the first.
    #[must_use]
    pub fn at(&self) -> Duration {
        self.at
    }

    /// How long this delivery took.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The response.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// Why the layer rejected it.
    ///
    /// `None` over a socket, because the rejection is in the extensions of the response.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref()
    }

    /// The first 1 KiB of the response's body. Invalid UTF-8 is replaced.
    #[must_use]
    pub fn response_text(&self) -> &str {
        &self.text
    }

    /// Whether the message was acknowledged, with status 200.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.answer.is_acknowledged()
    }

    /// Whether it was rejected with the right status: 401 if it was [forged or unsigned](Fault), any 4xx
    /// otherwise.
    ///
    /// A missing response or a server error is not a rejection.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        match (&self.answer, self.fault) {
            (Answer::Status(status), Some(Fault::Forged | Fault::Unsigned)) => {
                *status == StatusCode::UNAUTHORIZED
            }
            (Answer::Status(status), _) => status.is_client_error(),
            _ => false,
        }
    }

    /// Whether it was [dropped](Answer::Dropped), or not acknowledged and has no retry left.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        !self.is_acknowledged() && !self.retry_follows
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::TimedOut => f.write_str("no response before the timeout"),
            Self::Failed(why) => write!(f, "no response: {why}"),
            Self::Dropped => f.write_str("dropped"),
        }
    }
}

/// Formats the delivery on one line.
impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {}", self.message.label(), self.answer)?;
        if let Some(rejection) = &self.rejection {
            write!(f, ", {rejection}")?;
        }
        match self.retry {
            0 => Ok(()),
            retry => write!(f, " (retry {retry})"),
        }
    }
}
