use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::{Fault, Message};
use tower_inqud::{Rejection, contract};

/// One call, and what came of it.
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

/// What a delivery was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// A response with this status.
    Status(StatusCode),
    /// No response in [the time that Inqud waits](tower_inqud::contract::RESPONSE_TIMEOUT).
    TimedOut,
    /// No response at all, and why: the error of the service, as a text.
    Failed(String),
}

impl Answer {
    /// Whether this ends the retries: only a response with status 200 does (confirmed).
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        *self == Self::Status(contract::ACKNOWLEDGED)
    }
}

impl Delivery {
    /// What was delivered.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Which try it was: 0 for the first, then the number of the retry.
    #[must_use]
    pub fn retry(&self) -> u32 {
        self.retry
    }

    /// When it began, since the sender did.
    #[must_use]
    pub fn at(&self) -> Duration {
        self.at
    }

    /// How long it took.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// What it was answered.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// Why the layer refused it. Only known of a service in the same process, where the response
    /// still has its extensions.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref()
    }

    /// The beginning of the response's body, 1 KiB at most; bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn response_text(&self) -> &str {
        &self.text
    }

    /// Whether this ended the retries.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.answer.is_acknowledged()
    }

    /// Whether it was refused as it should be: with 401 if it was [forged or unsigned](Fault), else
    /// with any 4xx. No response, or one that tells of something else, refuses nothing.
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

    /// Whether it was not acknowledged, and no retry is left.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        !self.is_acknowledged() && !self.retry_follows
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::TimedOut => f.write_str("no response in time"),
            Self::Failed(why) => write!(f, "no response: {why}"),
        }
    }
}

/// One line.
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
