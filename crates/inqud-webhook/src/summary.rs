use std::fmt;

use serde_json::{Value, json};
use tower_inqud::{Amount, Event, EventKind, Notification};

use crate::pretty::printable;

/// Maximum characters of a word that somebody else has chosen.
const SHOWN: usize = 80;

/// What a notification is about, in one line.
pub(crate) struct Summary {
    pub(crate) kind: EventKind,
    pub(crate) status: String,
    pub(crate) order: Option<String>,
    id: String,
    amount: Option<String>,
}

impl Summary {
    /// Returns `None` if the body is not a notification.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let event: Event = serde_json::from_slice(body).ok()?;
        let text = |text: &str| text.to_owned();
        Some(Self {
            kind: event.kind(),
            status: text(event.status_text()),
            order: event.order_id().map(text),
            id: text(event.id()),
            amount: amount(&event),
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "kind": self.kind.as_str(), "status": self.status, "order": self.order, "id": self.id })
    }
}

/// Such as `Request SUCCESS order-1 100.00 USDT`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = self.order.as_deref().unwrap_or(&self.id);
        write!(f, "{} {} {}", name(self.kind), word(&self.status), word(order))?;
        self.amount.iter().try_for_each(|amount| write!(f, " {amount}"))
    }
}

/// The name of a kind in a sentence.
pub(crate) fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Request => "Request",
        EventKind::Checkout => "Checkout",
        EventKind::Payment => "Payment",
        EventKind::OnRampCheckout => "On-ramp checkout",
        EventKind::Subscription => "Subscription",
        EventKind::Invoice => "Invoice",
        EventKind::Authorization => "Authorization",
        _ => "Notification",
    }
}

fn amount(event: &Event) -> Option<String> {
    let of = |amount: &Option<Amount>, currency: &Option<String>| {
        let amount = word(&amount.as_ref()?.to_string());
        Some(match currency {
            Some(currency) => format!("{amount} {}", word(currency)),
            None => amount,
        })
    };
    match event {
        Event::Request(it) => of(&it.pay_amount, &it.currency)
            .or_else(|| of(&it.request_amount, &it.request_amount_in)),
        Event::Checkout(it) => {
            it.fixed_amount.as_ref().and_then(|price| of(&price.amount, &price.currency))
        }
        Event::Payment(it) => of(&it.amount, &it.currency),
        Event::OnRampCheckout(it) => of(&it.source_amount, &it.source_currency),
        Event::Invoice(it) => of(&it.amount, &it.currency),
        _ => None,
    }
}

/// One word of a line: quoted if it could pass for several, and shortened.
fn word(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown = chars.by_ref().take(SHOWN).collect::<String>();
    if chars.next().is_some() {
        shown.push('…');
    }
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '+' | '#' | '…');
    if !shown.is_empty() && shown.chars().all(is_plain) {
        return printable(&shown);
    }
    printable(&Value::from(shown).to_string())
}

#[cfg(test)]
mod tests {
    use super::Summary;

    fn summary(body: &str) -> Option<String> {
        Summary::of(body.as_bytes()).map(|it| it.to_string())
    }

    #[test]
    fn keeps_the_digits_of_an_amount() {
        let body = r#"{"id":"CAPD-1","status":"SUCCESS","clientOrderId":"order-1","payAmount":100.00,"currency":"USDT"}"#;
        assert_eq!(summary(body).unwrap(), "Request SUCCESS order-1 100.00 USDT");
        assert_eq!(summary("no"), None);
    }

    #[test]
    fn shows_the_amount_of_each_kind() {
        for (fields, expected) in [
            (
                r#""id":"CAPD-1","payAmount":1.0,"currency":"USDT","requestAmount":2,"requestAmountIn":"EUR""#,
                "Request SUCCESS CAPD-1 1.0 USDT",
            ),
            (
                r#""id":"CAPD-1","requestAmount":2,"requestAmountIn":"EUR""#,
                "Request SUCCESS CAPD-1 2 EUR",
            ),
            (r#""id":"CAPD-1","payAmount":1"#, "Request SUCCESS CAPD-1 1"),
            (
                r#""id":"CCO-1","fixedAmount":{"amount":3.50,"currency":"EUR"}"#,
                "Checkout SUCCESS CCO-1 3.50 EUR",
            ),
            (r#""id":"PMT-1","amount":4,"currency":"BTC""#, "Payment SUCCESS PMT-1 4 BTC"),
            (
                r#""id":"ORCO-1","sourceAmount":5,"sourceCurrency":"EUR""#,
                "On-ramp checkout SUCCESS ORCO-1 5 EUR",
            ),
            (
                r#""id":"1","authorizationId":"AGR-1","amount":6,"currency":"USD""#,
                "Invoice SUCCESS 1 6 USD",
            ),
            (r#""id":"SUB-1""#, "Subscription SUCCESS SUB-1"),
            (r#""id":"AGR-1""#, "Authorization SUCCESS AGR-1"),
            (r#""id":"NEW-1""#, "Notification SUCCESS NEW-1"),
        ] {
            let body = format!(r#"{{{fields},"status":"SUCCESS"}}"#);
            assert_eq!(summary(&body).as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn quotes_and_shortens_the_words_of_others() {
        let body = r#"{"id":"CAPD-1","status":"A\nB","clientOrderId":"1, answered 200 OK"}"#;
        assert_eq!(summary(body).unwrap(), r#"Request "A\nB" "1, answered 200 OK""#);
        let long = format!(r#"{{"id":"PMT-1","status":"{}"}}"#, "x".repeat(5000));
        assert!(summary(&long).unwrap().len() < 200);
    }
}
