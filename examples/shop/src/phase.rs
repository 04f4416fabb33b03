//! How far the payment of an order is.

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    Preparing,
    Waiting,
    Seen,
    Paid,
    Overpaid,
    Underpaid,
    Expired,
    Reversed,
    Cancelled,
    Problem,
}

/// A step of the progress that a payment page shows.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub name: &'static str,
    /// `done`, `current`, `failed` or `todo`, as the style sheet calls it.
    pub state: &'static str,
    pub icon: &'static str,
    /// What a screen reader says after the name.
    pub said: &'static str,
}

impl Phase {
    /// The name in the style sheet and in tests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Waiting => "waiting",
            Self::Seen => "seen",
            Self::Paid => "paid",
            Self::Overpaid => "overpaid",
            Self::Underpaid => "underpaid",
            Self::Expired => "expired",
            Self::Reversed => "reversed",
            Self::Cancelled => "cancelled",
            Self::Problem => "problem",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Preparing => "Preparing",
            Self::Waiting => "Waiting",
            Self::Seen => "Seen",
            Self::Paid => "Paid",
            Self::Overpaid => "Overpaid",
            Self::Underpaid => "Underpaid",
            Self::Expired => "Expired",
            Self::Reversed => "Reversed",
            Self::Cancelled => "Cancelled",
            Self::Problem => "Problem",
        }
    }

    pub fn headline(self) -> &'static str {
        match self {
            Self::Preparing => "Preparing your payment",
            Self::Waiting => "Waiting for your payment",
            Self::Seen => "We have seen your payment",
            Self::Paid | Self::Overpaid => "Paid, thank you",
            Self::Underpaid => "Not fully paid",
            Self::Expired => "The payment window has closed",
            Self::Reversed => "Your payment was reversed",
            Self::Cancelled => "This payment was cancelled",
            Self::Problem => "We are looking into your payment",
        }
    }

    pub fn icon(self) -> &'static str {
        match self {
            Self::Preparing | Self::Waiting => "clock",
            Self::Seen => "eye",
            Self::Paid | Self::Overpaid => "check",
            Self::Underpaid | Self::Problem => "alert",
            Self::Expired | Self::Cancelled => "stop",
            Self::Reversed => "undo",
        }
    }

    /// `calm`, `good` or `bad`, as the style sheet calls it. The icon and the text say the same.
    pub fn tone(self) -> &'static str {
        match self {
            Self::Preparing | Self::Waiting | Self::Seen => "calm",
            Self::Paid | Self::Overpaid => "good",
            Self::Expired | Self::Cancelled => "quiet",
            Self::Underpaid | Self::Reversed | Self::Problem => "bad",
        }
    }

    /// Whether the page still shows how to pay.
    pub fn is_payable(self) -> bool {
        self == Self::Waiting
    }

    pub fn steps(self) -> [Step; 3] {
        let done = |name| Step { name, state: "done", icon: "check", said: "done" };
        let current = |name, icon| Step { name, state: "current", icon, said: "in progress" };
        let todo = |name| Step { name, state: "todo", icon: "dot", said: "not yet" };
        let failed = |name, icon| Step { name, state: "failed", icon, said: "stopped here" };
        match self {
            Self::Preparing | Self::Waiting => {
                [current("Waiting", "clock"), todo("Seen"), todo("Paid")]
            }
            Self::Seen => [done("Waiting"), current("Seen", "eye"), todo("Paid")],
            Self::Paid | Self::Overpaid => [done("Waiting"), done("Seen"), done("Paid")],
            Self::Underpaid => [done("Waiting"), done("Seen"), failed("Underpaid", "alert")],
            Self::Problem => [done("Waiting"), done("Seen"), failed("On hold", "alert")],
            Self::Reversed => [done("Waiting"), done("Seen"), failed("Reversed", "undo")],
            Self::Expired => [failed("Expired", "stop"), todo("Seen"), todo("Paid")],
            Self::Cancelled => [failed("Cancelled", "stop"), todo("Seen"), todo("Paid")],
        }
    }
}
